/*
 * What two domains cost each other: events, switches, grants. Started twice as a domU, with peer= on the command line of the
 * second, which measures. The first finds the second's number in its directory of the store (data/peer) and answers with a
 * port for it and the first of the grants to it (data/offer), which dom0 passes on to the second's directory.
 *     BENCH pair_round     an event to a blocked domain, which sends one back to us, who blocked: two switches
 *     BENCH pair_switch    from one domain to another, by yielding
 *     BENCH pair_map, pair_map_batch, pair_copy    the other's pages, as primitives.c measures one's own
 */
#include "bench.h"
#include "events.h"
#include "string.h"
#include "xenstore.h"

#define PEER_WATCH 0

/* The first page that the first domain grants. */
struct shared {
    volatile u32 yielding;      /* the first domain is to yield for as long as this is set */
    volatile u32 turns;         /* how often it has */
};

/* Waits for a value to be written. */
static const char *store_await(const char *path)
{
    const char *value;

    store_watch(path, PEER_WATCH);
    while (!(value = store_read(path)))
        while (!store_fired(PEER_WATCH))
            wait_event(upcall_count, system_time() + 20 * MS);
    return value;
}

static void sleep_until(const volatile u32 *word, u32 old)
{
    for (;;) {
        events_off();
        if (*word != old)
            break;
        sched_op(SCHEDOP_block, NULL);
    }
    events_on();
}

/* --- The first --- */

static void make_offer(domid_t peer, unsigned port)
{
    char text[32];
    struct shared *shared = page_alloc();
    grant_ref_t first = grant_page(peer, shared);

    for (unsigned k = 1; k < BATCH; k++)
        grant_page(peer, page_alloc());
    snprintf(text, sizeof(text), "%u %u", port, first);
    store_write("data/offer", text);
    for (u32 seen = 0;;) {
        sleep_until(&event_count[port], seen);
        seen = event_count[port];
        if (!shared->yielding) {
            send_port(port);
            continue;
        }
        while (shared->yielding) {
            shared->turns++;
            sched_op(SCHEDOP_yield, NULL);
        }
    }
}

TEST(answer)
{
    long port;
    domid_t peer;

    if (cmdline_value("peer"))
        SKIP("not the first");
    store_init();
    peer = (domid_t)parse_number(store_await("data/peer"));
    port = alloc_unbound(DOMID_SELF, peer);
    REQUIRE(port > 0);
    make_offer(peer, (unsigned)port);
}

/* --- The second --- */

static void one_round(unsigned port)
{
    u32 seen = event_count[port];

    send_port(port);
    sleep_until(&event_count[port], seen);
}

/* Its turns are counted, so that a yield that does not switch is not taken for a switch. */
static void bench_switch(struct shared *shared, unsigned port)
{
    u64 best = ~0ULL;

    shared->yielding = 1;
    send_port(port);
    while (!shared->turns)
        sched_op(SCHEDOP_yield, NULL);
    for (unsigned round = 0; round < 8; round++) {
        u32 turns = shared->turns;
        u64 t = rdtsc();

        for (unsigned i = 0; i < LOOPS; i++)
            CALL(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0, 0);
        t = rdtsc() - t;
        turns = shared->turns - turns;
        if (turns >= LOOPS - 1 && turns <= LOOPS + 1 && t < best)
            best = t;
    }
    shared->yielding = 0;
    if (CHECK(best != ~0ULL))
        report("pair_switch", best, 2 * LOOPS);
}

TEST(measure)
{
    domid_t peer = (domid_t)parse_number(cmdline_value("peer"));
    grant_ref_t ref[BATCH];
    const char *offer;
    long port;

    if (!cmdline_value("peer"))
        SKIP("not the second");
    store_init();
    offer = store_await("data/offer");
    port = bind_interdomain(peer, (unsigned)parse_number(offer));
    REQUIRE(port > 0);
    while (*offer != ' ')
        offer++;
    for (unsigned k = 0; k < BATCH; k++)
        ref[k] = (grant_ref_t)parse_number(offer + 1) + k;
    BENCH("pair_round", 1, one_round((unsigned)port));
    REQUIRE(prepare_grants(peer, ref));
    BENCH("pair_map", 1, map_and_unmap(1));
    BENCH("pair_map_batch", BATCH, map_and_unmap(BATCH));
    BENCH("pair_copy", BATCH, copy_grants());
    grant_call(GNTTABOP_map_grant_ref, map_ops, 1);
    REQUIRE(map_ops[0].status == GNTST_okay);
    bench_switch(window(0), (unsigned)port);
}
