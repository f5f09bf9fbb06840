/* Event channels, delivered the two-level way: life of a port, masks, waiting, and wrong numbers. */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "test.h"

#define NO_DOMAIN 0x1234

/* Two ports of ours that are bound to each other. */
static bool make_pair(unsigned *a, unsigned *b)
{
    long first = alloc_unbound(DOMID_SELF, DOMID_SELF), second;

    if (!CHECK(first > 0))
        return false;
    second = bind_interdomain(DOMID_SELF, (unsigned)first);
    if (!CHECK(second > 0))
        return false;
    *a = (unsigned)first;
    *b = (unsigned)second;
    (void)port_unmask(*a); /* as the last user may have left it */
    (void)port_unmask(*b);
    return true;
}

TEST(port_life)
{
    struct evtchn_status status;
    unsigned a, b;
    long port = alloc_unbound(DOMID_SELF, DOMID_SELF);

    REQUIRE(port > 0);
    CHECK_OK(port_status((unsigned)port, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_unbound);
    CHECK_OK(close_port((unsigned)port));
    CHECK_OK(port_status((unsigned)port, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_closed);
    CHECK_REFUSED(close_port((unsigned)port));
    REQUIRE(make_pair(&a, &b));
    CHECK_OK(port_status(a, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_interdomain);
    CHECK_EQ(status.u.interdomain.port, b);
    CHECK_OK(close_port(b));
    CHECK_OK(port_status(a, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_unbound); /* the other end waits again */
    CHECK_OK(close_port(a));
}

TEST(send_reaches_other_end)
{
    unsigned a, b;
    u32 at_a, at_b;

    REQUIRE(make_pair(&a, &b));
    at_a = event_count[a];
    at_b = event_count[b];
    CHECK_OK(send_port(a));
    CHECK_EQ(event_count[b], at_b + 1);
    CHECK_EQ(event_count[a], at_a);
    CHECK_OK(send_port(b));
    CHECK_EQ(event_count[a], at_a + 1);
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

TEST(masked_upcall)
{
    unsigned a, b;
    u32 before;

    REQUIRE(make_pair(&a, &b));
    before = event_count[b];
    events_off();
    CHECK_OK(send_port(a));
    CHECK_OK(send_port(a));
    CHECK_EQ(event_count[b], before);
    CHECK(port_pending(b));
    CHECK_EQ(vcpu_info(0)->evtchn_upcall_pending, 1);
    events_on();
    CHECK_EQ(event_count[b], before + 1);
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

TEST(masked_port)
{
    unsigned a, b;
    u32 before;

    REQUIRE(make_pair(&a, &b));
    before = event_count[b];
    port_mask(b);
    CHECK_OK(send_port(a));
    CHECK_EQ(event_count[b], before);
    CHECK(port_pending(b));
    CHECK_OK(port_unmask(b));
    CHECK_EQ(event_count[b], before + 1);
    CHECK_OK(port_unmask(b)); /* nothing pending: nothing happens */
    CHECK_EQ(event_count[b], before + 1);
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

/* What was pending on a port that is closed does not show on its next user. */
TEST(close_clears_pending)
{
    unsigned a, b;
    u32 before;

    REQUIRE(make_pair(&a, &b));
    port_mask(b);
    CHECK_OK(send_port(a));
    CHECK(port_pending(b));
    CHECK_OK(close_port(b));
    CHECK(!port_pending(b));
    before = event_count[b];
    (void)port_unmask(b);
    CHECK_EQ(event_count[b], before);
    CHECK_OK(close_port(a));
}

TEST(ipi)
{
    struct evtchn_status status;
    long port = bind_ipi(0);
    u32 before;

    REQUIRE(port > 0);
    before = event_count[port];
    CHECK_OK(send_port((unsigned)port));
    CHECK_EQ(event_count[port], before + 1);
    CHECK_OK(port_status((unsigned)port, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_ipi);
    CHECK_OK(close_port((unsigned)port));
    CHECK_REFUSED(bind_ipi(4000));
    CHECK_REFUSED(bind_ipi(~0u));
}

TEST(virq)
{
    struct evtchn_status status;
    struct evtchn_bind_vcpu to;
    long port = bind_virq(VIRQ_TIMER, 0);

    REQUIRE(port > 0);
    CHECK_REFUSED(bind_virq(VIRQ_TIMER, 0)); /* one port for each */
    CHECK_OK(port_status((unsigned)port, &status));
    CHECK_EQ(status.status, EVTCHNSTAT_virq);
    CHECK_EQ(status.u.virq, VIRQ_TIMER);
    to = (struct evtchn_bind_vcpu){ .port = (u32)port, .vcpu = 0 };
    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_vcpu, &to)); /* a vCPU's own stays with it */
    CHECK_REFUSED(send_port((unsigned)port));
    CHECK_OK(close_port((unsigned)port));
    CHECK_REFUSED(bind_virq(NR_VIRQS, 0));
    CHECK_REFUSED(bind_virq(~0u, 0));
    CHECK_REFUSED(bind_virq(VIRQ_TIMER, 4000));
    port = bind_virq(VIRQ_TIMER, 0);
    CHECK(port > 0);
    CHECK_OK(close_port((unsigned)port));
}

TEST(pirq_bad)
{
    struct evtchn_bind_pirq op = { .pirq = 4000 };

    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_pirq, &op));
    op.pirq = ~0u;
    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_pirq, &op));
    op.pirq = 0; /* the hypervisor's timer */
    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_pirq, &op));
}

/* The interrupt of the hypervisor's own serial line: dom0 may set it up and map it as any, and not have it. */
TEST(interrupt_of_the_hypervisor)
{
    struct physdev_setup_gsi setup = { .gsi = 4 };
    GUEST(physdev_map_pirq) map = { .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = 4, .pirq = 4 };
    struct evtchn_bind_pirq bind = { .pirq = 4 };
    struct physdev_unmap_pirq unmap = { .domid = DOMID_SELF, .pirq = 4 };

    if (!is_dom0()) {
        CHECK_EQ(physdev_op(PHYSDEVOP_setup_gsi, &setup), -EPERM);
        return;
    }
    CHECK_EQ(physdev_op(PHYSDEVOP_setup_gsi, &setup), -EEXIST);
    CHECK_OK(physdev_op(PHYSDEVOP_map_pirq, &map));
    CHECK_EQ(event_channel_op(EVTCHNOP_bind_pirq, &bind), -EBUSY);
    CHECK_OK(physdev_op(PHYSDEVOP_unmap_pirq, &unmap));
}

/* An interrupt that is unmapped leaves its port behind; mapped anew it is bound to another, and the first one's end does not touch it. */
TEST(unmapped_interrupt)
{
    enum { GSI = 20 };
    struct physdev_setup_gsi setup = { .gsi = GSI, .triggering = 1, .polarity = 1 };
    GUEST(physdev_map_pirq) map = { .domid = DOMID_SELF, .type = MAP_PIRQ_TYPE_GSI, .index = GSI, .pirq = GSI };
    struct evtchn_bind_pirq first = { .pirq = GSI }, second = first;
    struct physdev_unmap_pirq unmap = { .domid = DOMID_SELF, .pirq = GSI };

    if (!is_dom0())
        SKIP("interrupts of devices are dom0's");
    (void)physdev_op(PHYSDEVOP_setup_gsi, &setup);
    REQUIRE_OK(physdev_op(PHYSDEVOP_map_pirq, &map));
    REQUIRE_OK(event_channel_op(EVTCHNOP_bind_pirq, &first));
    CHECK_OK(physdev_op(PHYSDEVOP_unmap_pirq, &unmap));
    look_at_invariant();
    CHECK_OK(physdev_op(PHYSDEVOP_map_pirq, &map));
    REQUIRE_OK(event_channel_op(EVTCHNOP_bind_pirq, &second));
    CHECK(second.port != first.port);
    CHECK_OK(close_port(first.port));
    CHECK_EQ(event_channel_op(EVTCHNOP_bind_pirq, &first), -EBUSY);
    look_at_invariant();
    CHECK_OK(close_port(second.port));
    CHECK_OK(physdev_op(PHYSDEVOP_unmap_pirq, &unmap));
}

TEST(timer_event)
{
    long port = bind_virq(VIRQ_TIMER, 0);
    u32 before;

    REQUIRE(port > 0);
    before = event_count[port];
    CHECK_OK(set_singleshot(system_time() + 2 * MS, 0));
    CHECK(wait_change(&event_count[port], before, 2000 * MS));
    CHECK_OK(close_port((unsigned)port));
}

TEST(bad_ports)
{
    static const u32 ports[] = { 0, 4095, 4096, 131071, 131072, 0x7fffffff, 0xffffffff };
    struct evtchn_bind_vcpu to = { .vcpu = 0 };
    struct evtchn_status status;

    for (unsigned i = 0; i < ARRAY_SIZE(ports); i++) {
        CHECK_REFUSED(close_port(ports[i]));
        CHECK_REFUSED(send_port(ports[i]));
        CHECK_REFUSED(bind_interdomain(DOMID_SELF, ports[i]));
        to.port = ports[i];
        CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_vcpu, &to));
        if (ports[i] >= 131072) {
            CHECK_REFUSED(port_unmask(ports[i]));
            CHECK_REFUSED(port_status(ports[i], &status));
        }
    }
}

TEST(bad_domains)
{
    struct evtchn_status status = { .dom = NO_DOMAIN, .port = 1 };
    struct evtchn_reset reset = { .dom = NO_DOMAIN };
    long port;

    CHECK_REFUSED(alloc_unbound(NO_DOMAIN, DOMID_SELF));
    CHECK_REFUSED(alloc_unbound(DOMID_INVALID, DOMID_SELF));
    CHECK_REFUSED(bind_interdomain(NO_DOMAIN, 1));
    CHECK_REFUSED(event_channel_op(EVTCHNOP_status, &status));
    CHECK_REFUSED(event_channel_op(EVTCHNOP_reset, &reset));
    port = alloc_unbound(DOMID_SELF, NO_DOMAIN); /* it may come to life later */
    if (port > 0) {
        CHECK_REFUSED(bind_interdomain(DOMID_SELF, (unsigned)port)); /* not meant for us */
        CHECK_OK(close_port((unsigned)port));
    }
}

TEST(bind_to_vcpu)
{
    unsigned a, b;
    struct evtchn_bind_vcpu to;

    REQUIRE(make_pair(&a, &b));
    to = (struct evtchn_bind_vcpu){ .port = b, .vcpu = 0 };
    CHECK_OK(event_channel_op(EVTCHNOP_bind_vcpu, &to));
    to.vcpu = 4000;
    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_vcpu, &to));
    to.vcpu = ~0u;
    CHECK_REFUSED(event_channel_op(EVTCHNOP_bind_vcpu, &to));
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

/* All ports that there are, then one more; the numbers stay within what the bitmaps of this word size can hold. */
TEST(exhaustion)
{
    static bool mine[MAX_PORTS];
    unsigned n = 0, highest = 0;
    long port;

    while ((port = alloc_unbound(DOMID_SELF, DOMID_SELF)) > 0 && (unsigned)port < MAX_PORTS) {
        CHECK(!mine[port]);
        mine[port] = true;
        highest = max(highest, (unsigned)port);
        n++;
    }
    CHECK_EQ(port, -ENOSPC);
    CHECK(n >= 500);
    CHECK(highest < MAX_PORTS);
    for (unsigned i = 0; i < MAX_PORTS; i++)
        if (mine[i])
            CHECK_OK(close_port(i));
    for (unsigned i = 0; i < MAX_PORTS; i++)
        mine[i] = false;
    port = alloc_unbound(DOMID_SELF, DOMID_SELF);
    CHECK(port > 0);
    CHECK_OK(close_port((unsigned)port));
}

/* ---- Waiting ---- */

static long poll(word ports, unsigned n, u64 timeout)
{
    GUEST(sched_poll) op = { .ports = ports, .nr_ports = n, .timeout = timeout };

    return sched_op(SCHEDOP_poll, &op);
}

TEST(poll_timeout)
{
    unsigned a, b;
    u32 port;
    u64 deadline;

    REQUIRE(make_pair(&a, &b));
    port = b;
    port_mask(b);
    deadline = system_time() + 3 * MS;
    events_off();
    CHECK_OK(poll(P(&port), 1, deadline));
    CHECK(system_time() >= deadline);
    CHECK(!port_pending(b));
    events_on();
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

TEST(poll_pending)
{
    unsigned a, b;
    u32 port;

    REQUIRE(make_pair(&a, &b));
    port = b;
    port_mask(b);
    CHECK_OK(send_port(a));
    events_off();
    CHECK_OK(poll(P(&port), 1, 0)); /* without a timeout: must come back because it is pending */
    CHECK(port_pending(b));
    port_clear(b);
    events_on();
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}

TEST(poll_bad)
{
    u32 port = 0xffffffff;
    u64 soon = system_time() + 1 * MS;

    CHECK_REFUSED(poll(P(&port), 1, soon));
    CHECK_REFUSED(poll(format.hv_start, 1, soon));
    CHECK_REFUSED(poll(P(window(0)), 1, soon));
    CHECK_REFUSED(poll(P(&port), 100000, soon));
    CHECK_REFUSED(poll(P(&port), ~0u, soon));
}

/* Port 0 is never open: nothing is done for it, whatever its bits say. */
TEST(port_zero)
{
    volatile word *pending = (void *)&shared_info->evtchn_pending.word[0];
    long neighbour = alloc_unbound(DOMID_SELF, DOMID_SELF);     /* with the first port comes the table */
    u64 deadline = system_time() + 3 * MS;
    u32 port = 0;

    REQUIRE(neighbour > 0);
    events_off();
    port_mask(port);
    __atomic_fetch_or(pending, 1, __ATOMIC_SEQ_CST);
    CHECK_OK(port_unmask(port));
    CHECK(read_once(shared_info->evtchn_mask.word[0]) & 1);
    /* Who waits for a port that is none is woken by each event, such as the console's. Its bit would end the wait at once, each time. */
    for (unsigned n = 0; system_time() < deadline; n++) {
        REQUIRE(n < 20);
        CHECK_OK(poll(P(&port), 1, deadline));
    }
    port_clear(port);
    events_on();
    CHECK_OK(close_port((unsigned)neighbour));
}

TEST(block_until_timer)
{
    long port = bind_virq(VIRQ_TIMER, 0);
    u32 before;

    REQUIRE(port > 0);
    events_off();
    before = event_count[port];
    CHECK_OK(set_singleshot(system_time() + 5 * MS, 0));
    do {
        CHECK_OK(sched_op(SCHEDOP_block, NULL)); /* unmasks events */
        CHECK_EQ(vcpu_info(0)->evtchn_upcall_mask, 0);
        events_off();
    } while (event_count[port] == before);
    events_on();
    CHECK_OK(close_port((unsigned)port));
}

TEST(block_with_event_pending)
{
    unsigned a, b;
    u32 before;

    REQUIRE(make_pair(&a, &b));
    before = event_count[b];
    events_off();
    CHECK_OK(send_port(a));
    CHECK_OK(sched_op(SCHEDOP_block, NULL)); /* does not sleep */
    CHECK_EQ(event_count[b], before + 1);
    CHECK_OK(close_port(a));
    CHECK_OK(close_port(b));
}
