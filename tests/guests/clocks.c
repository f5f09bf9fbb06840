/* Time as a guest sees it: it never runs back, timers never fire early, and a vCPU's states add up to all the time. */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"

static u64 fired_at;

static void note_time(unsigned vcpu)
{
    fired_at = system_time();
    scan_two_level(vcpu);
}

static long timer_port;

static bool open_timer(void)
{
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    timer_port = bind_virq(VIRQ_TIMER, 0);
    upcall = note_time;
    return CHECK(timer_port > 0);
}

static void close_timer(void)
{
    vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL);
    vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL);
    upcall = scan_two_level;
    CHECK_OK(close_port((unsigned)timer_port));
}

/* before: the count of events when the timer was set. A busy host may have it fire before we look. */
static bool timer_came_since(u32 before, u64 ns)
{
    return wait_change(&event_count[timer_port], before, ns);
}

static bool timer_comes(u64 ns) { return timer_came_since(event_count[timer_port], ns); }

/* A kernel of the Xen 3 era sets no timer up: a vCPU starts with one that ticks 100 times a second. */
TEST(ticks_by_default)
{
    long port = bind_virq(VIRQ_TIMER, 0);

    REQUIRE(port > 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(wait_change(&event_count[port], event_count[port], 2000 * MS));
    CHECK_OK(close_port((unsigned)port));
}

TEST(monotonic)
{
    u64 last = system_time();

    for (unsigned i = 0; i < 20000; i++) {
        u64 now = system_time();

        if (now < last) {
            CHECK(now >= last);
            break;
        }
        last = now;
        if (i % 1000 == 0)
            sched_op(SCHEDOP_yield, NULL);
    }
}

TEST(time_area)
{
    struct vcpu_time_info t = time_info(0);

    CHECK(t.tsc_to_system_mul != 0);
    CHECK_EQ(t.version & 1, 0);
    CHECK(t.system_time != 0);
    CHECK(t.tsc_timestamp <= rdtsc());
}

TEST(wall_clock)
{
    u32 version = shared_info->wc_version, seconds = shared_info->wc_sec;

    CHECK_EQ(version & 1, 0);
    CHECK(seconds > 946684800); /* 2000-01-01 */
    CHECK(shared_info->wc_nsec < 1000000000);
}

TEST(single_shot_not_early)
{
    REQUIRE(open_timer());
    for (unsigned i = 0; i < 10; i++) {
        u64 deadline = system_time() + MS / 2 + i * MS;
        u32 before = event_count[timer_port];

        CHECK_OK(set_singleshot(deadline, 0));
        CHECK(timer_came_since(before, 2000 * MS));
        CHECK(fired_at >= deadline);
    }
    close_timer();
}

TEST(single_shot_in_the_past)
{
    u32 before;

    REQUIRE(open_timer());
    before = event_count[timer_port];
    CHECK_OK(set_singleshot(1, 0));
    CHECK(wait_change(&event_count[timer_port], before, 2000 * MS));
    before = event_count[timer_port];
    if (set_singleshot(1, VCPU_SSHOTTMR_future) == 0) /* refused, or fires at once */
        CHECK(wait_change(&event_count[timer_port], before, 2000 * MS));
    close_timer();
}

/* The first moment of all is in the past like others, and the CPU's other timers go on behind it. */
TEST(single_shot_at_zero)
{
    u32 before;

    REQUIRE(open_timer());
    before = event_count[timer_port];
    CHECK_OK(set_singleshot(0, 0));
    CHECK(wait_change(&event_count[timer_port], before, 2000 * MS));
    before = event_count[timer_port];
    CHECK_OK(set_singleshot(system_time() + 10 * MS, 0));
    CHECK(wait_change(&event_count[timer_port], before, 2000 * MS));
    close_timer();
}

TEST(single_shot_stopped)
{
    u64 when;
    u32 before;

    REQUIRE(open_timer());
    do {                            /* until a busy host lets us stop it in time */
        when = system_time() + 5 * MS;
        CHECK_OK(set_singleshot(when, 0));
        before = event_count[timer_port];
        CHECK_OK(vcpu_op(VCPUOP_stop_singleshot_timer, 0, NULL));
    } while (system_time() >= when);
    while (system_time() < when + 10 * MS)
        sched_op(SCHEDOP_yield, NULL);
    CHECK_EQ(event_count[timer_port], before);
    close_timer();
}

TEST(timer_op)
{
    u64 deadline;
    u32 before;

    REQUIRE(open_timer());
    deadline = system_time() + 2 * MS;
    before = event_count[timer_port];
    CHECK_OK(set_timer_op(deadline));
    CHECK(timer_came_since(before, 2000 * MS));
    CHECK(fired_at >= deadline);
    CHECK_OK(set_timer_op(0));
    close_timer();
}

TEST(periodic)
{
    struct vcpu_set_periodic_timer op = { .period_ns = 2 * MS };
    u64 start = system_time();
    u32 before;

    REQUIRE(open_timer());
    before = event_count[timer_port];
    CHECK_OK(vcpu_op(VCPUOP_set_periodic_timer, 0, &op));
    for (unsigned i = 0; i < 5; i++)
        CHECK(timer_comes(2000 * MS));
    CHECK(event_count[timer_port] - before <= (system_time() - start) / (2 * MS) + 1);
    CHECK_OK(vcpu_op(VCPUOP_stop_periodic_timer, 0, NULL));
    op.period_ns = 1;
    CHECK_REFUSED(vcpu_op(VCPUOP_set_periodic_timer, 0, &op));
    op.period_ns = ~0ULL;
    CHECK_REFUSED(vcpu_op(VCPUOP_set_periodic_timer, 0, &op));
    close_timer();
}

/* A kernel may sleep between its ticks and set no other timer. */
TEST(periodic_wakes_who_blocks)
{
    struct vcpu_set_periodic_timer op = { .period_ns = 2 * MS };
    u32 before;

    REQUIRE(open_timer());
    before = event_count[timer_port];
    CHECK_OK(vcpu_op(VCPUOP_set_periodic_timer, 0, &op));
    while (event_count[timer_port] < before + 10)
        sched_op(SCHEDOP_block, NULL);
    close_timer();
}

static u64 sum(const GUEST(vcpu_runstate_info) *r)
{
    return r->time[0] + r->time[1] + r->time[2] + r->time[3];
}

/* Between two looks the four times grow by as much as the clock. */
TEST(runstate_adds_up)
{
    GUEST(vcpu_runstate_info) first, second;
    u64 t0, t1, t2, t3;

    t0 = system_time();
    REQUIRE_OK(vcpu_op(VCPUOP_get_runstate_info, 0, &first));
    t1 = system_time();
    REQUIRE(open_timer());
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(sleep_until_event(system_time() + 3 * MS));
    }
    close_timer();
    t2 = system_time();
    REQUIRE_OK(vcpu_op(VCPUOP_get_runstate_info, 0, &second));
    t3 = system_time();
    CHECK_EQ(first.state, RUNSTATE_running);
    CHECK_EQ(second.state, RUNSTATE_running);
    CHECK(sum(&second) - sum(&first) >= t2 - t1);
    CHECK(sum(&second) - sum(&first) <= t3 - t0);
    CHECK(second.time[RUNSTATE_blocked] > first.time[RUNSTATE_blocked]);
    CHECK(second.time[RUNSTATE_running] > first.time[RUNSTATE_running]);
}

TEST(runstate_area)
{
    static GUEST(vcpu_runstate_info) area;
    GUEST(vcpu_register_runstate_memory_area) op = { .addr = P(&area) };
    u64 entered;

    area.state = 77;
    REQUIRE_OK(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op));
    CHECK_EQ(area.state, RUNSTATE_running);
    entered = area.state_entry_time;
    REQUIRE(open_timer());
    CHECK_OK(sleep_until_event(system_time() + 3 * MS));
    close_timer();
    CHECK(area.state_entry_time > entered);
    CHECK_EQ(area.state, RUNSTATE_running);
    /* An address that goes away later must hurt nobody. */
    op.addr = P(window(0));
    (void)vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op);
    sched_op(SCHEDOP_yield, NULL);
    op.addr = format.hv_start + 0x2000000;
    CHECK_REFUSED(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op));
    op.addr = 0;
    CHECK_OK(vcpu_op(VCPUOP_register_runstate_memory_area, 0, &op));
}

TEST(second_time_area)
{
    static struct vcpu_time_info area;
    GUEST(vcpu_register_time_memory_area) op = { .addr = P(&area) };
    struct vcpu_time_info t = time_info(0);

    REQUIRE_OK(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &op));
    CHECK_EQ(area.tsc_to_system_mul, t.tsc_to_system_mul);
    CHECK_EQ(area.version & 1, 0);
    op.addr = format.hv_start + 0x2000000;
    CHECK_REFUSED(vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &op));
}

/* By machine address an area is written whatever is mapped, and holds its frame back from being a table. */
static u64 area_address(void *page, unsigned offset) { return (u64)virt_to_mfn(page) << 12 | offset; }

TEST(areas_by_machine_address)
{
    char *page = page_alloc();
    GUEST(vcpu_runstate_info) *area = (void *)(page + 64);
    struct vcpu_time_info *time = (void *)(page + 256), t = time_info(0);
    struct xen_feature_info features = { 0 };
    u64 none = ~0ULL, at = area_address(page, 64), entered;

    CHECK_OK(xen_version(XENVER_get_features, &features));
    CHECK(features.submap >> XENFEAT_runstate_phys_area & 1);
    CHECK(features.submap >> XENFEAT_vcpu_time_phys_area & 1);
    area->state = 77;
    REQUIRE_OK(vcpu_op(VCPUOP_register_runstate_phys_area, 0, &at));
    CHECK_EQ(area->state, RUNSTATE_running);
    at = area_address(page, 256);
    REQUIRE_OK(vcpu_op(VCPUOP_register_vcpu_time_phys_area, 0, &at));
    CHECK_EQ(time->tsc_to_system_mul, t.tsc_to_system_mul);
    CHECK_EQ(time->version & 1, 0);
    entered = area->state_entry_time;
    REQUIRE(open_timer());
    /* On a busy host the time may be over before we sleep. */
    for (u64 ms = 3; area->state_entry_time == entered && ms < 1000; ms *= 2)
        CHECK_OK(sleep_until_event(system_time() + ms * MS));
    close_timer();
    CHECK(area->state_entry_time > entered);
    CHECK(!(area->state_entry_time & XEN_RUNSTATE_UPDATE));
    CHECK_EQ(area->state, RUNSTATE_running);

    memset(page, 0, 64);
    CHECK_OK(map_at(page, virt_to_mfn(page), PTE_READ));
    CHECK_REFUSED(pin(page, 1));
    CHECK_OK(vcpu_op(VCPUOP_register_runstate_phys_area, 0, &none));
    CHECK_REFUSED(pin(page, 1));
    CHECK_OK(vcpu_op(VCPUOP_register_vcpu_time_phys_area, 0, &none));
    CHECK_OK(map_at(page, virt_to_mfn(page), PTE_DATA));
    memset(page, 0, 4096);
    sched_op(SCHEDOP_yield, NULL);
    for (unsigned i = 0; i < 4096; i++)
        CHECK_EQ(page[i], 0);
    CHECK_OK(map_at(page, virt_to_mfn(page), PTE_READ));
    CHECK_OK(pin(page, 1));
    CHECK_EQ((at = area_address(page, 64), vcpu_op(VCPUOP_register_runstate_phys_area, 0, &at)), -EINVAL);
    CHECK_OK(unpin(page));
    CHECK_OK(map_at(page, virt_to_mfn(page), PTE_DATA));
    CHECK_EQ((at = area_address(page, 4096 - 24), vcpu_op(VCPUOP_register_runstate_phys_area, 0, &at)), -ENXIO);
    CHECK_EQ((at = area_address(page, 66), vcpu_op(VCPUOP_register_vcpu_time_phys_area, 0, &at)), -ENXIO);
    CHECK_EQ((at = 1ULL << 62, vcpu_op(VCPUOP_register_vcpu_time_phys_area, 0, &at)), -EINVAL);
    page_free(page);
}
