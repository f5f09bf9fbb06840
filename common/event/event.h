/*
 * Inside common/event/: the port table and the two formats of delivery.
 *
 * Locking. Three things guard a channel:
 *   the domain's lock     every change of state of one of its ports; both domains' for an interdomain pair
 *   the channel's lock    also held while its state is written, and by whoever sends on it or unmasks it:
 *                         a sender needs no domain's lock. While it is held and the channel is interdomain,
 *                         the far end cannot be freed, because closing either end writes the state of both.
 *   v->virq_lock          the binding of v's virtual interrupts, for delivery from interrupt handlers
 * A port's bits in guest memory are touched only by one who has seen that the port is open (evtchn_is_open())
 * and keeps it so in one of these ways, or by a pirq's binding. So when all ports are closed under the domain's
 * lock, nobody is using FIFO pages: fifo_destroy() waits for its users by closing their ports.
 */
#ifndef COMMON_EVENT_EVENT_H
#define COMMON_EVENT_EVENT_H

#include <asm/nospec.h>
#include <public/errno.h>
#include <public/event_channel.h>
#include <pvisor/domain.h>
#include <pvisor/evtchn.h>
#include <pvisor/short_way.h>

enum port_state {
    PORT_FREE = 0,
    PORT_RESERVED,     /* port 0: never given out, so never open */
    PORT_CHANGING,     /* open: a pirq is being bound or unbound, with no lock held */
    PORT_UNBOUND,
    PORT_INTERDOMAIN,
    PORT_PIRQ,
    PORT_VIRQ,
    PORT_IPI,
};

struct evtchn {
    spinlock_t lock;
    struct domain *remote; /* interdomain */
    u32 port;
    union {
        u16 unbound_domid;
        u32 remote_port;
        u32 pirq;
        u32 virq;
    } u;
    u16 notify_vcpu;
    u8 state;              /* enum port_state */
    u8 priority;           /* FIFO: queue for the next time it is linked */
    u16 last_queue;        /* FIFO: where it was linked last, FIFO_QUEUE(vcpu, priority) */
    bool pending;          /* FIFO: became pending while it had no event word */
};

/*
 * Given out and not closed yet, so counted in nr_active. Stays so while one of the locks above is held. Whoever
 * is about to touch what d->evtchn->format keeps for a port asks this first.
 */
static inline bool evtchn_is_open(const struct evtchn *chn) { return read_once(chn->state) > PORT_RESERVED; }

#define PORTS_PER_CHUNK (PAGE_SIZE / sizeof(struct evtchn))

/* How pending and mask bits are kept in guest memory. All but switching formats is called as stated above. */
struct evtchn_format {
    const char *name;
    void (*clear_pending)(struct domain *d, struct evtchn *chn);
    void (*unmask)(struct vcpu *v, struct evtchn *chn);
    bool (*is_pending)(const struct domain *d, const struct evtchn *chn);
    bool (*is_masked)(const struct domain *d, const struct evtchn *chn);
    /* A free port that still hangs in a queue and cannot be given out. */
    bool (*is_busy)(const struct domain *d, const struct evtchn *chn);
    u32 (*nr_ports)(const struct domain *d);
};

extern const struct evtchn_format evtchn_two_level, evtchn_fifo;
/* Called for every event, so by name and not through the format. */
void two_level_set_pending(struct vcpu *v, struct evtchn *chn);
void fifo_set_pending(struct vcpu *v, struct evtchn *chn);
/* The port's bit goes: was it set? */
bool two_level_take_pending(struct domain *d, const struct evtchn *chn);

/* --- FIFO channels: fifo.c --- */

#define WORDS_PER_PAGE (PAGE_SIZE / sizeof(event_word_t))
#define MAX_PAGES      (EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE)
#define NR_QUEUES      EVTCHN_FIFO_MAX_QUEUES

struct guest_page {
    void guest_shared *p;
    mfn_t mfn;
};

struct fifo_domain {
    u32 nr_words;                     /* only grows */
    struct guest_page page[MAX_PAGES];
};

struct fifo_vcpu {
    spinlock_t lock;                  /* RANK_FIFO: the queues' tails, and linking */
    struct evtchn_fifo_control_block guest_shared *cb;    /* NULL until init_control named it */
    struct guest_page page;
    u32 tail[NR_QUEUES];              /* the last port that was added; 0: none that counts */
};

/* --- A domain's channels --- */

struct evtchn_domain {
    spinlock_t lock;
    u32 max_port;             /* inclusive */
    u32 nr_ports;             /* in chunks that exist; only grows */
    u32 first_free;           /* no port below it is free */
    u32 nr_active;            /* open ports */
    u32 reset_next;           /* a reset, or the domain's end, goes on here; 0: none is under way */
    bool dying;               /* no port is given out any more */
    const struct evtchn_format *format;
    struct fifo_domain *fifo;
    u32 nr_chunks;
    struct evtchn **chunk;
};

/* The channel of a port, or NULL. Channels stay in memory until evtchn_domain_free(). */
static inline struct evtchn *evtchn_at(const struct domain *d, u32 port)
{
    const struct evtchn_domain *ed = d->evtchn;
    u32 nr = read_once(ed->nr_ports);

    if (port >= nr)
        return NULL;
    port = (u32)index_nospec(port, nr);
    return &ed->chunk[port / PORTS_PER_CHUNK][port % PORTS_PER_CHUNK];
}

/* For those who hold a channel's lock only: the domain may change to FIFO meanwhile, but not back while the channel is open. */
static inline const struct evtchn_format *evtchn_format(const struct domain *d) { return read_once(d->evtchn->format); }

/* A domain that has no vCPU yet loses the event. */
static inline void evtchn_deliver(struct domain *d, struct evtchn *chn)
{
    struct vcpu *v = domain_vcpu(d, read_once(chn->notify_vcpu));

    if (unlikely(!v))
        return;
    if (evtchn_format(d) == &evtchn_two_level)
        two_level_set_pending(v, chn);
    else
        fifo_set_pending(v, chn);
}

/*
 * Wakes vCPUs of d that wait for this port in SCHEDOP_poll. Call after the pending bit was set (a full
 * barrier).
 */
void evtchn_wake_waiting(struct domain *d, u32 port);
static inline void evtchn_wake_pollers(struct domain *d, u32 port)
{
    if (unlikely(read_once(d->event_watch) & WATCH_POLLERS))
        evtchn_wake_waiting(d, port);
}

/* The beginning of vcpu_info. Either side changes them at any time: each look stands for itself. */
struct upcall_flags {
    u8 pending, mask;
};

/* vcpu_mark_events_pending(), whose answer is mostly that there is nothing to do. */
void evtchn_notify(struct vcpu *v);
static inline void evtchn_mark(struct vcpu *v)
{
    struct upcall_flags guest_shared *f = read_once(v->info);

    if (!xchg(&f->pending, 1) && (!short_way(v == current) || !read_shared_again(f->mask)))
        evtchn_notify(v);
}

/*
 * port.c, with the domain's lock held. A channel still in state free, but counted as taken; or a negative
 * errno.
 */
int evtchn_port_take(struct domain *d, struct evtchn **chn);
void evtchn_port_free(struct domain *d, struct evtchn *chn);
void evtchn_set_state(struct evtchn *chn, enum port_state state, struct domain *remote, u32 what);
/* Takes d's lock and, if it is another, e's in order of domain ids. */
void evtchn_lock_two(struct domain *d, struct domain *e);
void evtchn_unlock_two(struct domain *d, struct domain *e);

/* channel.c */
int evtchn_bind_interdomain(struct domain *d, struct domain *rd, u32 remote_port);
int evtchn_bind_ipi(struct domain *d, u32 vcpu);
int evtchn_bind_pirq(struct domain *d, u32 pirq, bool shareable);
int evtchn_bind_vcpu(struct domain *d, u32 port, u32 vcpu);
int evtchn_get_status(struct domain *d, struct evtchn_status *st);
/* Closes ports from first on. 0, or the port to go on with when the CPU is wanted. */
u32 evtchn_close_from(struct domain *d, u32 first);
/* One round of evtchn_reset(); -EBUSY: resume says to go on, but nothing is under way, or the reverse. */
int evtchn_reset_round(struct domain *d, bool resume);

/* virq.c */
int evtchn_bind_virq(struct domain *d, u32 virq, u32 vcpu);
void evtchn_unbind_virq(struct domain *d, const struct evtchn *chn);
bool virq_is_global(u32 virq);
void virq_forget_handler(struct domain *d);

/* fifo.c: the calls that exist only for this format. */
int fifo_init_control(struct domain *d, const struct evtchn_init_control *c);
int fifo_expand_array(struct domain *d, u64 gfn);
int fifo_set_priority(struct domain *d, u32 port, u32 priority);
/* Back to the state before the first init_control. With the domain's lock held and no port open, so without users. */
void fifo_destroy(struct domain *d);

#endif
