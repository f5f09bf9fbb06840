/*
 * The front half of a shared ring (public/io/ring.h): one page, a head with four indices that only grow, then entries.
 * A request and the response to one share an entry's size.
 */
#ifndef GUEST_RING_H
#define GUEST_RING_H

#include "abi.h"

struct ring_head {
    u32 req_prod, req_event;
    u32 rsp_prod, rsp_event;
    u8 unused[48];
};

struct front_ring {
    volatile struct ring_head *head;
    unsigned entry_bytes, entries;
    u32 prod, cons;   /* requests that we made, responses that we took */
};

static inline void ring_init(struct front_ring *r, void *page, unsigned entry_bytes)
{
    unsigned room = (4096 - sizeof(struct ring_head)) / entry_bytes;

    *r = (struct front_ring){ .head = page, .entry_bytes = entry_bytes, .entries = 1 };
    while (r->entries * 2 <= room)
        r->entries *= 2;
    r->head->req_event = r->head->rsp_event = 1;
}

static inline void *ring_entry(struct front_ring *r, u32 i)
{
    return (u8 *)(word)r->head + sizeof(struct ring_head) + (i & (r->entries - 1)) * r->entry_bytes;
}

static inline bool ring_full(const struct front_ring *r) { return r->prod - r->cons == r->entries; }

/* Where to write the next request; it counts from the next ring_push() on. */
static inline void *ring_request(struct front_ring *r) { return ring_entry(r, r->prod++); }

/* Shows the backend the requests made. True if it wants to be told by an event. */
static inline bool ring_push(struct front_ring *r)
{
    u32 old = r->head->req_prod;

    barrier();
    r->head->req_prod = r->prod;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return r->prod - r->head->req_event < r->prod - old;
}

/* The next response, or NULL, and then an event will tell of the next one. It is read once ring_taken() is called. */
static inline const void *ring_response(struct front_ring *r)
{
    if (r->head->rsp_prod == r->cons) {
        r->head->rsp_event = r->cons + 1;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (r->head->rsp_prod == r->cons)
            return NULL;
    }
    barrier();
    return ring_entry(r, r->cons);
}

static inline void ring_taken(struct front_ring *r) { r->cons++; }

#endif
