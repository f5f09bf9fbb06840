#include "blkfront.h"
#include "device.h"
#include "events.h"
#include "grant.h"
#include "mm.h"
#include "ring.h"
#include "string.h"
#include "traps.h"

#ifdef FORMAT_PT64
#define PROTOCOL "x86_64-abi"
_Static_assert(sizeof(struct blk_request) == 112 && offsetof(struct blk_request, sector) == 16, "public/io/blkif.h");
#else
#define PROTOCOL "x86_32-abi"
_Static_assert(sizeof(struct blk_request) == 108 && offsetof(struct blk_request, sector) == 12, "public/io/blkif.h");
#endif

struct blk_response {
    u64 id;
    u8 operation;
    s16 status;
};

static struct slot {
    u8 *page[BLK_SEGMENTS];
    grant_ref_t ref[BLK_SEGMENTS];
    bool busy;
    s16 status;
} slots[BLK_SLOTS];

u64 blk_sectors;
unsigned blk_stuck;

static struct device device;
static struct front_ring ring;
static unsigned port;
static u16 handle;
static bool has_flush;

static void make_buffers(void)
{
    for (unsigned s = 0; s < BLK_SLOTS; s++) {
        for (unsigned i = 0; i < BLK_SEGMENTS; i++) {
            slots[s].page[i] = page_alloc();
            slots[s].ref[i] = grant_new();
        }
    }
}

bool blk_init(void)
{
    if (!device_find(&device, "vbd", 0))
        return false;
    handle = (u16)parse_number(device_read(&device, "virtual-device"));
    if (!device_wait(&device, DEVICE_INIT_WAIT))
        panic("the disk's backend closes");
    ring_init(&ring, device_ring(&device, "ring-ref"), sizeof(struct blk_request));
    port = device_port(&device);
    device_write(&device, "protocol", PROTOCOL);
    device_set_state(&device, DEVICE_INITIALISED);
    if (!device_wait(&device, DEVICE_CONNECTED))
        panic("the disk's backend does not connect");
    blk_sectors = device_back_number(&device, "sectors", 0);
    has_flush = device_back_number(&device, "feature-flush-cache", 0);
    make_buffers();
    device_set_state(&device, DEVICE_CONNECTED);
    return true;
}

bool blk_flushes(void) { return has_flush; }
bool blk_busy(unsigned slot) { return slots[slot].busy; }
int blk_status(unsigned slot) { return slots[slot].status; }
u8 *blk_sector(unsigned slot, unsigned sector) { return slots[slot].page[sector / 8] + sector % 8 * SECTOR; }

struct blk_request blk_request(unsigned slot, u8 operation, u64 sector, unsigned first, unsigned count)
{
    struct blk_request r = { .operation = operation, .handle = handle, .id = slot, .sector = sector };

    for (unsigned at = first, end = first + count; at < end; at = (at / 8 + 1) * 8) {
        unsigned i = at / 8, last = min(end - i * 8, 8u) - 1;
        grant_ref_t ref = slots[slot].ref[i];

        grant_access(ref, device.back_domain, slots[slot].page[i], operation == BLK_READ ? 0 : GTF_readonly);
        r.segment[r.nr_segments++] = (struct blk_segment){ ref, (u8)(at % 8), (u8)last };
    }
    return r;
}

void blk_submit(const struct blk_request *request)
{
    if (ring_full(&ring))
        panic("more disk requests than the ring holds");
    slots[request->id].busy = true;
    *(struct blk_request *)ring_request(&ring) = *request;
    if (ring_push(&ring))
        send_port(port);
}

static void finish(const struct blk_response *r)
{
    struct slot *s = &slots[r->id % BLK_SLOTS];

    if (r->id >= BLK_SLOTS || !s->busy)
        panic("the disk answers a request that was not made: %llu", (unsigned long long)r->id);
    for (unsigned i = 0; i < BLK_SEGMENTS; i++)
        blk_stuck += !grant_end(s->ref[i]);
    s->status = r->status;
    s->busy = false;
}

void blk_poll(void)
{
    const struct blk_response *r;

    while (ring.head && (r = ring_response(&ring))) {
        finish(r);
        ring_taken(&ring);
    }
}
