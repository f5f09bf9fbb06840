/* The domain's configuration, asked for by the ring that the toolstack gave it (Xen's public/io/xs_wire.h, docs/misc/xenstore.txt). */
#include "pv.h"
#include "xenstore.h"

#define XS_DIRECTORY 1u
#define XS_READ      2u
#define XS_WRITE     11u
#define XS_ERROR     16u
#define RING         1024u
#define PATIENCE     30000000000ULL     /* ns */

struct message { u32 type, id, transaction, length; };
struct ring { char req[RING], rsp[RING]; u32 req_cons, req_prod, rsp_cons, rsp_prod; };

static struct ring *ring(void) { return (struct ring *)map_frame(W_RING, (word_t)start_info->store_mfn, PTE_DATA); }

static void notify(void)
{
    struct evtchn_send send = { .port = start_info->store_evtchn };

    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (word_t)&send, 0, 0);
}

static void put_bytes(const void *data, u32 len, u64 until)
{
    struct ring *r = ring();

    for (const char *p = data; len; len--) {
        while (read_once(r->req_prod) - read_once(r->req_cons) >= RING) {
            if (now_ns() > until)
                fail("xenstore does not answer");
            notify();
            wait_for(start_info->store_evtchn, now_ns() + 10000000);
        }
        r->req[r->req_prod % RING] = *p++;
        barrier();
        r->req_prod++;
    }
}

/* Into data as much as it has room for. */
static void get_bytes(void *data, u32 room, u32 len, u64 until)
{
    struct ring *r = ring();

    for (u32 i = 0; i < len; i++) {
        while (read_once(r->rsp_prod) == read_once(r->rsp_cons)) {
            if (now_ns() > until)
                fail("xenstore does not answer");
            notify();
            wait_for(start_info->store_evtchn, now_ns() + 10000000);
        }
        barrier();
        if (i < room)
            ((char *)data)[i] = r->rsp[r->rsp_cons % RING];
        barrier();
        r->rsp_cons++;
    }
}

/* The answer's length, or -1 if it was an error; what there is room for ends with a zero. */
static int ask(u32 type, const char *path, const char *value, char *answer, u32 room)
{
    u64 until = now_ns() + PATIENCE;
    u32 path_len = strlen(path) + 1, value_len = value ? strlen(value) : 0;
    struct message m = { .type = type, .length = path_len + value_len };

    put_bytes(&m, sizeof(m), until);
    put_bytes(path, path_len, until);
    put_bytes(value, value_len, until);
    notify();
    get_bytes(&m, sizeof(m), sizeof(m), until);
    get_bytes(answer, room - 1, m.length, until);
    notify();
    m.length = min(m.length, room - 1);
    answer[m.length] = 0;
    return m.type == XS_ERROR ? -1 : (int)m.length;
}

bool xenstore_read(const char *path, char *value, unsigned room) { return ask(XS_READ, path, NULL, value, room) >= 0; }

int xenstore_list(const char *path, char *names, unsigned room) { return ask(XS_DIRECTORY, path, NULL, names, room); }

void xenstore_write(const char *path, const char *value)
{
    char answer[64];

    if (ask(XS_WRITE, path, value, answer, sizeof(answer)) < 0)
        fail("xenstore refuses to write %s (%s)", path, answer);
}

u64 xenstore_number(const char *path)
{
    char text[32];

    return xenstore_read(path, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}
