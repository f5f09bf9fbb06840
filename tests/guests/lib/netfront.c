#include "netfront.h"
#include "device.h"
#include "events.h"
#include "grant.h"
#include "mm.h"
#include "ring.h"
#include "traps.h"

#define BUFFERS 256   /* each way; as many as a ring has entries */

struct tx_request {
    grant_ref_t ref;
    u16 offset, flags, id, size;
};

struct tx_response {
    u16 id;
    s16 status;
};

struct rx_request {
    u16 id, unused;
    grant_ref_t ref;
};

struct rx_response {
    u16 id, offset, flags;
    s16 status;   /* the frame's length, or a negative number */
};

struct buffer {
    u8 *page;
    grant_ref_t ref;
};

u8 netfront_mac[6];
unsigned netfront_errors;

static struct device device;
static unsigned port;
static struct front_ring tx, rx;
static struct buffer tx_buffer[BUFFERS], rx_buffer[BUFFERS];
static u16 tx_free[BUFFERS];   /* a stack */
static unsigned nr_tx_free;

static void read_mac(const char *text)
{
    for (unsigned i = 0; text && i < 12; text++) {
        unsigned digit = *text >= 'a' ? (unsigned)(*text - 'a' + 10) : (unsigned)(*text - '0');

        if (*text == ':')
            continue;
        netfront_mac[i / 2] = (u8)(netfront_mac[i / 2] << 4 | digit);
        i++;
    }
}

static void post(u16 id)
{
    struct rx_request *r = ring_request(&rx);

    grant_access(rx_buffer[id].ref, device.back_domain, rx_buffer[id].page, 0);
    *r = (struct rx_request){ .id = id, .ref = rx_buffer[id].ref };
}

static void make_buffers(void)
{
    for (u16 i = 0; i < BUFFERS; i++) {
        tx_buffer[i] = (struct buffer){ page_alloc(), grant_new() };
        rx_buffer[i] = (struct buffer){ page_alloc(), grant_new() };
        tx_free[nr_tx_free++] = i;
        post(i);
    }
    ring_push(&rx);
}

bool netfront_init(void)
{
    if (!device_find(&device, "vif", 1))
        return false;
    read_mac(device_read(&device, "mac"));
    if (!device_wait(&device, DEVICE_INIT_WAIT))
        panic("the card's backend closes");
    ring_init(&tx, device_ring(&device, "tx-ring-ref"), sizeof(struct tx_request));
    ring_init(&rx, device_ring(&device, "rx-ring-ref"), sizeof(struct rx_request));
    make_buffers();
    port = device_port(&device);
    device_write_number(&device, "request-rx-copy", 1);
    device_write_number(&device, "feature-rx-notify", 1);
    device_write_number(&device, "feature-no-csum-offload", 1);
    device_set_state(&device, DEVICE_CONNECTED);
    if (!device_wait(&device, DEVICE_CONNECTED))
        panic("the card's backend does not connect");
    send_port(port);
    return true;
}

u8 *netfront_buffer(void)
{
    return nr_tx_free ? tx_buffer[tx_free[nr_tx_free - 1]].page : NULL;
}

void netfront_send(unsigned length)
{
    u16 id = tx_free[--nr_tx_free];

    grant_access(tx_buffer[id].ref, device.back_domain, tx_buffer[id].page, GTF_readonly);
    *(struct tx_request *)ring_request(&tx) =
        (struct tx_request){ .ref = tx_buffer[id].ref, .id = id, .size = (u16)length };
    if (ring_push(&tx))
        send_port(port);
}

static void take_sent(void)
{
    const struct tx_response *r;

    while ((r = ring_response(&tx))) {
        if (r->id >= BUFFERS || nr_tx_free == BUFFERS)
            panic("the card answers a frame that was not sent: %u", r->id);
        netfront_errors += r->status != 0 || !grant_end(tx_buffer[r->id].ref);
        tx_free[nr_tx_free++] = r->id;
        ring_taken(&tx);
    }
}

static void take_received(void (*take)(const u8 *frame, unsigned length))
{
    const struct rx_response *r;
    bool any = false;

    while ((r = ring_response(&rx))) {
        struct rx_response copy = *r;

        ring_taken(&rx);
        if (copy.id >= BUFFERS || (copy.status > 0 && copy.offset + copy.status > 4096))
            panic("the card answers buffer %u with %u+%d", copy.id, copy.offset, copy.status);
        netfront_errors += copy.status < 0 || !grant_end(rx_buffer[copy.id].ref);
        if (copy.status > 0)
            take(rx_buffer[copy.id].page + copy.offset, (unsigned)copy.status);
        post(copy.id);
        any = true;
    }
    if (any && ring_push(&rx))
        send_port(port);
}

void netfront_poll(void (*take)(const u8 *frame, unsigned length))
{
    if (!tx.head)
        return;
    take_sent();
    take_received(take);
}
