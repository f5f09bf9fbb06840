/*
 * Split block devices, the frontend's side (Xen's public/io/blkif.h): one request at a time, of up to 11 pages. What is read comes by
 * pages of ours that the backend may write to while the disk is connected.
 */
#include <public/grant_table.h>
#include "blkfront.h"
#include "pv.h"
#include "xenstore.h"

enum state { INITIALISING = 1, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };

#define PATIENCE    30000000000ULL      /* ns; a backend's scripts take their time */
#define SEGMENTS    11u
#define SECTOR      512u
#define BLKIF_READ  0
#define FIRST_REF   8u                  /* the first that are not the toolstack's */

struct request {
    u8 op, nr_segments;
    u16 handle;
    u64 id, sector;
    struct { u32 ref; u8 first, last; } segment[SEGMENTS];
};
struct response { u64 id; u8 op; s16 status; };

#define RING_ENTRIES 32u
struct ring {
    u32 req_prod, req_event, rsp_prod, rsp_event;
    u8 pad[48];
    union { struct request request; struct response response; } entry[RING_ENTRIES];
};

/* What is connected. Pages lie one to a frame. */
static struct {
    char path[40], backend[96];
    u32 backend_id, port, consumed;
    u64 id;
} front;
static struct ring ring __attribute__((aligned(4096)));
static u8 pages[SEGMENTS][PAGE_SIZE] __attribute__((aligned(4096)));
static struct grant_entry_v1 grants[PAGE_SIZE / sizeof(struct grant_entry_v1)] __attribute__((aligned(4096)));

_Static_assert(sizeof(struct ring) <= PAGE_SIZE, "the ring is one page");

/* ---- Grants ---- */

static void map_grant_table(void)
{
    static bool mapped;
    word_t frame = 0;
    NATIVE(gnttab_setup_table) setup = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = (word_t)&frame };

    if (mapped)
        return;
    if (hypercall(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, (word_t)&setup, 1, 0) || setup.status)
        fail("the domain has no grant table (error %d)", setup.status);
    map_at((word_t)grants, frame);
    mapped = true;
}

static void grant(u32 ref, const void *page)
{
    grants[ref].domid = (domid_t)front.backend_id;
    grants[ref].frame = (u32)mfn_of(page);
    barrier();
    grants[ref].flags = GTF_permit_access;
}

static void end_grants(void)
{
    for (u32 ref = FIRST_REF; ref < FIRST_REF + 1 + SEGMENTS; ref++)
        write_once(grants[ref].flags, 0);
}

/* ---- xenstore ---- */

static char *path_of(const char *base, const char *name)
{
    static char path[160];

    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

static void set(const char *name, u32 value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    xenstore_write(path_of(front.path, name), text);
}

static u64 backend_state(void) { return xenstore_number(path_of(front.backend, "state")); }

/* The backend's state, when it is one of two, or when it is too late. */
static u64 await_state(u64 a, u64 b)
{
    u64 until = now_ns() + PATIENCE, state;

    while ((state = backend_state()) != a && state != b && now_ns() < until)
        wait_for(start_info->store_evtchn, now_ns() + 10000000);
    return state;
}

unsigned blkfront_list(char ids[DISKS_MOST][16])
{
    static char names[1024];
    int len = xenstore_list("device/vbd", names, sizeof(names));
    unsigned nr = 0;

    for (int at = 0; at < len && nr < DISKS_MOST; at += (int)strlen(names + at) + 1)
        strlcpy(ids[nr++], names + at, sizeof(ids[0]));
    return nr;
}

/* ---- Connecting ---- */

static void open_port(void)
{
    struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = (domid_t)front.backend_id };

    if (hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, (word_t)&alloc, 0, 0))
        fail("the domain has no event channel for its disk");
    front.port = alloc.port;
}

static void offer_ring(void)
{
    memset(&ring, 0, sizeof(ring));
    ring.req_event = ring.rsp_event = 1;
    front.consumed = 0;
    grant(FIRST_REF, &ring);
    for (u32 i = 0; i < SEGMENTS; i++)
        grant(FIRST_REF + 1 + i, pages[i]);
    open_port();
    set("ring-ref", FIRST_REF);
    set("event-channel", front.port);
    xenstore_write(path_of(front.path, "protocol"), OWN_FORMAT == PT64 ? "x86_64-abi" : "x86_32-abi");
    set("state", INITIALISED);
}

static int blk_read(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err);

int blkfront_open(const char *id, struct disk *d, struct image_error *err)
{
    u64 state;

    snprintf(front.path, sizeof(front.path), "device/vbd/%s", id);
    *d = (struct disk){ .read = blk_read };
    if (!xenstore_read(path_of(front.path, "backend"), front.backend, sizeof(front.backend)))
        return image_fail(err, -ENODEV, "disk %s has no backend", id);
    front.backend_id = (u32)xenstore_number(path_of(front.path, "backend-id"));
    if (!xenstore_read(path_of(front.backend, "dev"), d->name, sizeof(d->name)))
        strlcpy(d->name, id, sizeof(d->name));
    state = await_state(INIT_WAIT, INITIALISED);
    if (state != INIT_WAIT && state != INITIALISED)
        return image_fail(err, -ENODEV, "%s: its backend (%s) is in state %llu, expected 2: it did not start", d->name, front.backend,
                          (ull)state);
    map_grant_table();
    offer_ring();
    state = await_state(CONNECTED, CLOSED);
    if (state != CONNECTED)
        return image_fail(err, -ENODEV, "%s: its backend (%s) is in state %llu, expected 4: it did not connect", d->name, front.backend,
                          (ull)state);
    d->size = xenstore_number(path_of(front.backend, "sectors")) * SECTOR;
    set("state", CONNECTED);
    return 0;
}

/* As a frontend that goes and comes again: the backend then waits for the kernel's. */
void blkfront_close(struct disk *d)
{
    struct evtchn_close close = { .port = front.port };

    set("state", CLOSING);
    await_state(CLOSING, CLOSED);
    set("state", CLOSED);
    if (await_state(CLOSED, INIT_WAIT) != CLOSED)
        say("pvisor loader: %s does not close\n", d->name);
    end_grants();
    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_close, (word_t)&close, 0, 0);
    set("state", INITIALISING);
    await_state(INIT_WAIT, INIT_WAIT);
}

/* ---- Reading ---- */

static void submit(u64 sector, u32 sectors)
{
    struct request *r = &ring.entry[ring.req_prod % RING_ENTRIES].request;
    struct evtchn_send send = { .port = front.port };

    *r = (struct request){ .op = BLKIF_READ, .nr_segments = (u8)DIV_ROUND_UP(sectors, 8), .id = ++front.id, .sector = sector };
    r->handle = (u16)strtoull(front.path + strlen("device/vbd/"), NULL, 10);
    for (u32 i = 0; i < r->nr_segments; i++) {
        r->segment[i].ref = FIRST_REF + 1 + i;
        r->segment[i].last = (u8)(min(sectors - i * 8, 8u) - 1);
    }
    ring.rsp_event = front.consumed + 1;
    barrier();
    write_once(ring.req_prod, ring.req_prod + 1);
    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (word_t)&send, 0, 0);
}

static int await_response(struct disk *d, u64 sector, struct image_error *err)
{
    u64 until = now_ns() + PATIENCE;
    struct response r;

    while (read_once(ring.rsp_prod) == front.consumed) {
        if (now_ns() > until)
            return image_fail(err, -EIO, "%s does not answer: sector %llu was to be read", d->name, (ull)sector);
        wait_for(front.port, now_ns() + 100000000);
    }
    barrier();
    r = ring.entry[front.consumed++ % RING_ENTRIES].response;
    if (r.status)
        return image_fail(err, -EIO, "%s: sector %llu cannot be read (status %d)", d->name, (ull)sector, r.status);
    return 0;
}

static int blk_read(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err)
{
    u8 *to = buf;

    if (!range_within(at, len, d->size))
        return image_fail(err, -EINVAL, "%s has %llu bytes, read was to %llu", d->name, (ull)d->size, (ull)(at + len));
    while (len) {
        u64 sector = at / SECTOR, skip = at % SECTOR, n = min(len, sizeof(pages) - skip);
        int rc;

        submit(sector, (u32)DIV_ROUND_UP(skip + n, (u64)SECTOR));
        rc = await_response(d, sector, err);
        if (rc)
            return rc;
        memcpy(to, (const u8 *)pages + skip, (size_t)n);
        at += n;
        to += n;
        len -= n;
    }
    return 0;
}
