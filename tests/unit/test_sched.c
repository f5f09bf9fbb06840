/*
 * The scheduler on simulated CPUs and a simulated clock: shares by weight, caps, affinities, work
 * conservation, wake-up latency, and a long random run. sim_check() holds after every single event: no CPU
 * idles while a vCPU that may run there waits, none is lost, and runstate times add up to the nanosecond.
 */
// SOURCES: tests/unit/fake/cpus.c tests/unit/fake/cmdline.c common/sched/core.c common/sched/runq.c common/sched/place.c
// SOURCES: common/sched/cap.c common/sched/params.c common/sched/pool.c common/sched/vcpu_timer.c common/sched/ticks.c common/timer.c
// SOURCES: common/softirq.c common/preempt.c common/spinlock.c common/domain/system.c common/trace/record.c
// LIBS: -lpthread
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include <asm/atomic.h>
#include <public/errno.h>
#include <pvisor/sched.h>
#include <pvisor/time.h>
#include <common/sched/internal.h>
#include "fake/cpus.h"

#define FOREVER 0, 0

/* got within percent of want */
#define assert_near(got, want, percent) do {                                                    \
    u64 g_ = (got), w_ = (want);                                                                \
    if (g_ * 100 < w_ * (100 - (percent)) || g_ * 100 > w_ * (100 + (percent)))                 \
        fail_msg("%s is %lu, expected %lu within %d%%", #got, g_, w_, percent);                 \
} while (0)

static u64 ran(struct sim_vcpu *s)
{
    return vcpu_runtime(&s->v);
}

static void weights_share_one_cpu(void **state)
{
    struct sim_vcpu *v[3];

    (void)state;
    sim_start(1);
    for (unsigned i = 0; i < 3; i++)
        v[i] = sim_vcpu(sim_domain(256u << i, 0), FOREVER);
    sim_run(SECONDS(7));
    for (unsigned i = 0; i < 3; i++)
        assert_near(ran(v[i]), SECONDS(1) << i, 2);
}

static void extreme_weights_do_not_starve(void **state)
{
    struct sim_vcpu *light, *heavy;

    (void)state;
    sim_start(1);
    light = sim_vcpu(sim_domain(1, 0), FOREVER);
    heavy = sim_vcpu(sim_domain(1000, 0), FOREVER);
    sim_run(SECONDS(100));
    assert_near(ran(light), MILLISECS(100), 15);
    assert_near(ran(heavy), SECONDS(100) - MILLISECS(100), 1);
}

/* Three equals on two CPUs: no CPU of its own for any, two thirds of one each. */
static void shares_span_cpus(void **state)
{
    struct sim_vcpu *v[3];

    (void)state;
    sim_start(2);
    for (unsigned i = 0; i < 3; i++)
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(6));
    for (unsigned i = 0; i < 3; i++)
        assert_near(ran(v[i]), SECONDS(4), 5);
}

static void weights_share_many_cpus(void **state)
{
    struct sim_vcpu *v[3][4];
    u64 sum[3] = { 0 };

    (void)state;
    sim_start(4);
    for (unsigned d = 0; d < 3; d++) {
        struct domain *dom = sim_domain(256u << d, 0);
        for (unsigned i = 0; i < 4; i++)
            v[d][i] = sim_vcpu(dom, FOREVER);
    }
    sim_run(SECONDS(7));
    for (unsigned d = 0; d < 3; d++) {
        for (unsigned i = 0; i < 4; i++)
            sum[d] += ran(v[d][i]);
        assert_near(sum[d], SECONDS(4) << d, 5);
    }
}

/* A weight that would be worth more than one CPU gets one CPU; the rest share the rest. */
static void infeasible_weight_takes_one_cpu(void **state)
{
    struct sim_vcpu *big, *a, *b;

    (void)state;
    sim_start(2);
    big = sim_vcpu(sim_domain(4096, 0), FOREVER);
    a = sim_vcpu(sim_domain(256, 0), FOREVER);
    b = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(6));
    assert_near(ran(big), SECONDS(6), 2);
    assert_near(ran(a), SECONDS(3), 5);
    assert_near(ran(b), SECONDS(3), 5);
}

/* A vCPU that had a CPU to itself for long does not pay for it when company comes. */
static void surplus_is_not_a_debt(void **state)
{
    struct sim_vcpu *pinned, *crowd[3], *late;
    cpumask_t first = cpumask_of(0), second = cpumask_of(1);
    u64 before;

    (void)state;
    sim_start(2);
    pinned = sim_vcpu(sim_domain(256, 0), FOREVER);
    assert_int_equal(vcpu_set_hard_affinity(&pinned->v, &first), 0);
    for (unsigned i = 0; i < 3; i++) {
        crowd[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
        assert_int_equal(vcpu_set_hard_affinity(&crowd[i]->v, &second), 0);
    }
    sim_run(SECONDS(6));
    assert_near(ran(pinned), SECONDS(6), 1);
    assert_near(ran(crowd[0]), SECONDS(2), 3);
    late = sim_vcpu(sim_domain(256, 0), FOREVER);
    assert_int_equal(vcpu_set_hard_affinity(&late->v, &first), 0);
    before = ran(pinned);
    sim_run(SECONDS(2));
    assert_near(ran(pinned) - before, SECONDS(1), 5);
    assert_near(ran(late), SECONDS(1), 5);
}

static void caps_hold(void **state)
{
    struct sim_vcpu *capped, *free_one;

    (void)state;
    sim_start(1);
    capped = sim_vcpu(sim_domain(1024, 30), FOREVER);
    sim_run(SECONDS(5));
    assert_near(ran(capped), MILLISECS(1500), 3);
    free_one = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(5));
    assert_near(ran(capped), SECONDS(3), 3);
    assert_near(ran(free_one), MILLISECS(3500), 3);
}

/* The machine stands still now and then, for longer than a period: it is a guest on a busy host. */
static void caps_make_up_for_missed_periods(void **state)
{
    static const u32 caps[] = { 20, 60 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
        struct sim_vcpu *s;
        u64 start, ran, time;

        sim_start(1);
        s = sim_vcpu(sim_domain(256, caps[i]), 0, 0);
        start = sim_now;
        for (unsigned round = 0; round < 500; round++) {
            sim_run(MICROSECS(sim_random(60000) + 10000));
            sim_now += MICROSECS(sim_random(25000));
        }
        sim_run(MILLISECS(100));
        ran = vcpu_runtime(&s->v);
        time = sim_now - start;
        assert_in_range(ran * 1000 / time, caps[i] * 10 * 92 / 100, caps[i] * 10 * 101 / 100);
    }
}

static void caps_count_all_vcpus(void **state)
{
    struct sim_vcpu *v[4];
    struct domain *d;
    u64 sum = 0;

    (void)state;
    sim_start(4);
    d = sim_domain(256, 150);
    for (unsigned i = 0; i < 4; i++)
        v[i] = sim_vcpu(d, FOREVER);
    sim_run(SECONDS(4));
    for (unsigned i = 0; i < 4; i++)
        sum += ran(v[i]);
    assert_near(sum, SECONDS(6), 3);
    assert_int_equal(sched_set_params(d, 256, 0), 0);
    sim_run(SECONDS(1));
    for (unsigned i = 0; i < 4; i++)
        sum -= ran(v[i]);
    assert_near(-sum, SECONDS(4), 2);
}

static void hard_affinity_binds(void **state)
{
    struct sim_vcpu *v[6];
    cpumask_t second = cpumask_of(1);

    (void)state;
    sim_start(4);
    for (unsigned i = 0; i < 6; i++) {
        v[i] = sim_vcpu(sim_domain(256, 0), i & 1 ? MILLISECS(3) : 0, MILLISECS(2));
        if (i < 2)
            assert_int_equal(vcpu_set_hard_affinity(&v[i]->v, &second), 0);
    }
    sim_settle();
    memset(v[0]->ran_on, 0, sizeof(v[0]->ran_on));
    memset(v[1]->ran_on, 0, sizeof(v[1]->ran_on));
    sim_run(SECONDS(2));
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        assert_true(cpu == 1 || !v[0]->ran_on[cpu]);
        assert_true(cpu == 1 || !v[1]->ran_on[cpu]);
    }
    assert_int_equal(vcpu_set_hard_affinity(&v[0]->v, &(cpumask_t){ .w = { 1UL << 40 } }), -22);
}

/* Its lock is held: whoever took it would wait here for ever. */
static bool finds_work(unsigned cpu, struct runq *locked)
{
    bool found;
    u64 flags;

    sim_on(locked->cpu);
    flags = spin_lock_irqsave(&locked->lock);
    sim_on(cpu);
    found = steal_work(rq_of(cpu), false, 0);
    sim_on(locked->cpu);
    spin_unlock_irqrestore(&locked->lock, flags);
    return found;
}

static void nobody_stands_in_line_for_a_queue(void **state)
{
    cpumask_t first = cpumask_of(0), two = { .w = { 3 } };
    struct sim_vcpu *v[3];

    (void)state;
    sim_start(3);
    for (unsigned i = 0; i < 3; i++) {
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
        assert_int_equal(vcpu_set_hard_affinity(&v[i]->v, &first), 0);
    }
    sim_settle();
    assert_int_equal(rq_of(0)->nr_queued, 2);
    assert_false(finds_work(1, rq_of(0)));      /* nobody there may move: it is not even looked at */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vcpu_set_hard_affinity(&v[i]->v, &two), 0);
    sim_settle();
    assert_int_equal(rq_of(0)->nr_queued + rq_of(1)->nr_queued, 1);
    assert_true(finds_work(2, rq_of(rq_of(1)->nr_queued)));     /* it cannot be told now: to be looked at again */
    assert_int_equal(rq_of(2)->nr_queued, 0);
}

static void *let_go(void *lock)
{
    usleep(2000);
    __atomic_add_fetch(&((spinlock_t *)lock)->t.serving, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Two vCPUs that cannot move, in a queue that says they can. */
static struct runq *queue_to_look_at(unsigned cpu)
{
    cpumask_t only = cpumask_of(cpu);

    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(vcpu_set_hard_affinity(&sim_vcpu(sim_domain(256, 0), FOREVER)->v, &only), 0);
    sim_settle();
    rq_of(cpu)->nr_movable = rq_of(cpu)->nr_queued;
    return rq_of(cpu);
}

static void misses_all_the_time(struct runq *from)
{
    from->lock.t.next++;
    sim_on(1);
    for (u64 end = sim_now + SECONDS(1); sim_now < end; sim_now += MILLISECS(1))
        assert_true(steal_work(rq_of(1), false, 0));
    sim_now += MILLISECS(1);
    assert_int_equal(from->lock.t.next - from->lock.t.serving, 1);
}

/* A line in front of a queue keeps nobody away for ever, whatever other queues can be had. */
static void who_missed_often_stands_in_line(void **state)
{
    struct runq *from, *free;
    pthread_t other;

    (void)state;
    sim_start(3);
    from = queue_to_look_at(0);
    free = queue_to_look_at(2);
    for (unsigned round = 0; round < 2; round++) {
        misses_all_the_time(from);
        assert_int_equal(pthread_create(&other, NULL, let_go, &from->lock), 0);
        assert_false(steal_work(rq_of(1), false, 0));       /* has looked: nobody there may really move */
        assert_int_equal(pthread_join(other, NULL), 0);
        assert_int_equal(from->lock.t.next, from->lock.t.serving);
    }
    from->nr_movable = free->nr_movable = 0;
}

static void soft_affinity_is_preferred(void **state)
{
    struct sim_vcpu *v;
    cpumask_t third = cpumask_of(2);
    u64 before;

    (void)state;
    sim_start(4);
    v = sim_vcpu(sim_domain(256, 0), MILLISECS(2), MILLISECS(2));
    vcpu_set_soft_affinity(&v->v, &third);
    sim_run(MILLISECS(20));
    memset(v->ran_on, 0, sizeof(v->ran_on));
    sim_run(SECONDS(1));
    assert_true(v->ran_on[2] && !v->ran_on[0] && !v->ran_on[1] && !v->ran_on[3]);

    /* ... but not at the price of waiting. */
    for (unsigned i = 0; i < 2; i++) {
        struct sim_vcpu *hog = sim_vcpu(sim_domain(256, 0), FOREVER);
        assert_int_equal(vcpu_set_hard_affinity(&hog->v, &third), 0);
    }
    before = ran(v);
    sim_run(SECONDS(1));
    assert_near(ran(v) - before, MILLISECS(500), 3);
}

/* Hogs keep the CPU busy; one vCPU wakes, works briefly and sleeps again, like a driver. */
static void wakers_are_served_quickly(void **state)
{
    struct sim_vcpu *io;

    (void)state;
    sim_start(1);
    for (unsigned i = 0; i < 6; i++)
        sim_vcpu(sim_domain(256, 0), FOREVER);
    io = sim_vcpu(sim_domain(256, 0), MICROSECS(100), MILLISECS(5));
    sim_run(SECONDS(5));
    assert_true(io->wakes > 900);
    assert_true(io->total_latency / io->wakes < MICROSECS(300));
    assert_true(io->worst_latency < MILLISECS(3));
}

/* The default rate limit does not hold up one who waits for a disk of 300 us beside a hog; Xen's default of 1 ms would. */
static void rate_limit_is_shorter_than_a_disk(void **state)
{
    static const struct { u32 us; u64 least, most; } rates[] = { { 200, 2900, 3100 }, { 1000, 900, 1000 } };

    (void)state;
    assert_int_equal(cpupool_get(0)->ratelimit_us, rates[0].us);
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        struct sim_vcpu *io;

        sim_start(1);
        assert_int_equal(sched_set_ratelimit(cpupool_get(0), rates[i].us), 0);
        sim_vcpu(sim_domain(256, 0), FOREVER);
        io = sim_vcpu(sim_domain(256, 0), MICROSECS(30), MICROSECS(300));
        sim_run(SECONDS(1));
        assert_in_range(io->wakes, rates[i].least, rates[i].most);
    }
    assert_int_equal(sched_set_ratelimit(cpupool_get(0), 99), -EINVAL);
    assert_int_equal(sched_set_ratelimit(cpupool_get(0), 500001), -EINVAL);
    assert_int_equal(sched_set_ratelimit(cpupool_get(0), rates[0].us), 0);
}

/* Sleeping now and then earns no more than the share. */
static void sleepers_get_no_more_than_their_share(void **state)
{
    struct sim_vcpu *hog, *sly;

    (void)state;
    sim_start(1);
    hog = sim_vcpu(sim_domain(256, 0), FOREVER);
    sly = sim_vcpu(sim_domain(256, 0), MILLISECS(6), MICROSECS(50));
    sim_run(SECONDS(10));
    assert_true(ran(sly) < SECONDS(5) + MILLISECS(100));
    assert_near(ran(hog), SECONDS(5), 5);
}

/* However many CPUs are idle, a wake-up interrupts the one that is to do the work, and now and then one more. */
static void a_wake_up_disturbs_few(void **state)
{
    struct sim_vcpu *v[4];
    u64 wakes = 0;

    (void)state;
    sim_start(64);
    sim_slow_saves = true;
    for (unsigned i = 0; i < 4; i++)
        v[i] = sim_vcpu(sim_domain(256, 0), MICROSECS(50 + 7 * i), MICROSECS(100 + i));
    sim_ipis = 0;
    sim_run(SECONDS(1));
    for (unsigned i = 0; i < 4; i++)
        wakes += v[i]->wakes;
    assert_true(wakes > 10000);
    assert_true(sim_ipis < 2 * wakes);
}

/* Work that waits and may go elsewhere is fetched by as many idle CPUs as it needs; the rest sleep on. */
static void waiting_work_disturbs_few(void **state)
{
    struct sim_vcpu *v[3];
    cpumask_t first = cpumask_of(0), all;
    u64 before[3];

    (void)state;
    cpumask_fill(&all);
    sim_start(64);
    for (unsigned i = 0; i < 3; i++) {
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
        assert_int_equal(vcpu_set_hard_affinity(&v[i]->v, &first), 0);
    }
    sim_run(MILLISECS(50));
    sim_ipis = 0;
    for (unsigned i = 0; i < 3; i++) {
        before[i] = ran(v[i]);
        assert_int_equal(vcpu_set_hard_affinity(&v[i]->v, &all), 0);
    }
    sim_run(MILLISECS(50));
    for (unsigned i = 0; i < 3; i++)
        assert_near(ran(v[i]) - before[i], MILLISECS(50), 1);
    assert_true(sim_ipis < 8);
}

/* Two take turns: each begins when the other ends. Neither CPU, falling idle, takes the other's for that. */
static void who_wakes_stays_at_home(void **state)
{
    struct sim_vcpu *a, *b;

    (void)state;
    sim_start(2);
    a = sim_vcpu(sim_domain(256, 0), MICROSECS(100), MICROSECS(100));
    sim_run(MICROSECS(100));
    b = sim_vcpu(sim_domain(256, 0), MICROSECS(100), MICROSECS(100));
    sim_run(MILLISECS(1));
    memset(a->ran_on, 0, sizeof(a->ran_on));
    memset(b->ran_on, 0, sizeof(b->ran_on));
    sim_run(MILLISECS(100));
    assert_int_equal(a->ran_on[0] + a->ran_on[1], 1);
    assert_int_equal(b->ran_on[0] + b->ran_on[1], 1);
    assert_true(a->ran_on[0] != b->ran_on[0]);
}

static void idle_cpus_take_work(void **state)
{
    struct sim_vcpu *v[8];

    (void)state;
    sim_start(8);
    for (unsigned i = 0; i < 8; i++)
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(1));
    for (unsigned i = 0; i < 8; i++)
        assert_near(ran(v[i]), SECONDS(1), 1);
}

static void yield_gives_way(void **state)
{
    struct sim_vcpu *spinner, *worker;
    u64 before;

    (void)state;
    sim_start(1);
    spinner = sim_vcpu(sim_domain(1024, 0), FOREVER);
    worker = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(1));
    before = ran(worker);
    for (unsigned i = 0; i < 2000; i++) {
        sim_on(0);
        if (cpu_info()->current_vcpu == &spinner->v)
            vcpu_yield();
        sim_run(MICROSECS(500));
    }
    assert_true(ran(worker) - before > MILLISECS(800));
}

/* An event that comes between the decision to block and the switch. */
static void no_wake_up_is_lost(void **state)
{
    struct sim_vcpu *v;

    (void)state;
    sim_start(2);
    v = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_settle();
    sim_on(v->v.cpu);
    v->event = true;
    vcpu_block();
    assert_true(vcpu_runnable(&v->v));
    v->event = false;
    vcpu_block();
    assert_false(vcpu_runnable(&v->v));
    sim_on(!v->v.cpu);
    vcpu_unblock(&v->v);                    /* before it was descheduled */
    sim_settle();
    sim_check();
    assert_ptr_equal(cpu_info()->current_vcpu == &v->v || v->v.is_running, true);
    sim_on(v->v.cpu);
    vcpu_block();
    sim_settle();
    sim_check();
    assert_false(v->v.is_running);
    vcpu_unblock(&v->v);
    sim_settle();
    sim_check();
    assert_true(v->v.is_running);
}

static void toggle_pause(struct sim_vcpu *s)
{
    if (s->v.pause_flags & VPF_PAUSED) {
        atomic_and(&s->v.pause_flags, ~VPF_PAUSED);
        vcpu_wake(&s->v);
    } else {
        atomic_or(&s->v.pause_flags, VPF_PAUSED);
        vcpu_sleep_nowait(&s->v);
    }
}

static void random_action(void)
{
    struct sim_vcpu *s = sim_vcpu_nr((unsigned)sim_random(sim_nr_vcpus()));
    cpumask_t m = { { sim_random(15) + 1 } }, here = cpumask_and(&m, &s->v.domain->sched.pool->cpus);
    unsigned cpu = (unsigned)sim_random(nr_cpus);

    sim_on(cpumask_test(&cpu_online_map, cpu) ? cpu : 0);
    switch (sim_random(6)) {
    case 0: toggle_pause(s); break;
    case 1: assert_int_equal(vcpu_set_hard_affinity(&s->v, &m), cpumask_empty(&here) ? -EINVAL : 0); break;
    case 2: vcpu_set_soft_affinity(&s->v, &m); break;
    case 3: assert_int_equal(sched_set_params(s->v.domain, (u32)sim_random(2000) + 1, 0), 0); break;
    case 4: assert_int_equal(sched_set_params(s->v.domain, 256, (u32)sim_random(200)), 0); break;
    case 5: cpumask_fill(&m); assert_int_equal(vcpu_set_hard_affinity(&s->v, &m), 0); break;
    }
}

/* --- Ticks ---------------------------------------------------------------------------------------------- */

static struct sim_vcpu *ticking(struct domain *d, u64 burst, u64 pause)
{
    struct sim_vcpu *s = sim_vcpu(d, burst, pause);

    sim_settle();
    sim_on(s->v.cpu);
    s->v.periodic_period = MILLISECS(1);
    timer_set(&s->v.periodic, sim_now + MILLISECS(1));
    return s;
}

static u64 ticks_in(struct sim_vcpu *s, u64 ns)
{
    u64 before = s->ticks;

    sim_run(ns);
    return s->ticks - before;
}

static void ticks_stop_with_their_vcpu(void **state)
{
    struct sim_vcpu *v;

    (void)state;
    sim_start(2);
    v = ticking(sim_domain(256, 0), FOREVER);
    assert_in_range(ticks_in(v, SECONDS(1)), 999, 1001);
    for (unsigned i = 0; i < 3; i++) {
        sim_on(0);
        toggle_pause(v);
        assert_in_range(ticks_in(v, SECONDS(1)), i == 0, 1);    /* the one that was set */
        sim_on(0);
        toggle_pause(v);
        assert_in_range(ticks_in(v, SECONDS(1)), 999, 1001);
    }
}

/* Once, if the tick does not wake it; each time, if it does. */
static void ticks_wake_who_blocks(void **state)
{
    struct sim_vcpu *v;

    (void)state;
    sim_start(2);
    v = ticking(sim_domain(256, 0), MICROSECS(50), SECONDS(3));
    assert_int_equal(ticks_in(v, SECONDS(2)), 1);
    v->tick_wakes = true;
    sim_run(SECONDS(2));
    assert_in_range(ticks_in(v, SECONDS(1)), 999, 1001);
}

/* Who waits for a CPU has its tick pending: further ones would be at the cost of who has the CPU. */
static void ticks_of_who_waits(void **state)
{
    struct sim_vcpu *v;
    u64 ticks;

    (void)state;
    sim_start(1);
    v = ticking(sim_domain(1, 0), FOREVER);
    (void)sim_vcpu(sim_domain(1000, 0), FOREVER);
    ticks = ticks_in(v, SECONDS(20));
    assert_true(ticks > 0 && ticks <= v->starts + ran(v) / MILLISECS(1) + 1);
    assert_true(ticks < 200);
}

/* Its interrupts go to the CPU that it runs on. */
static void ticks_go_with_their_vcpu(void **state)
{
    cpumask_t to;
    struct sim_vcpu *v;

    (void)state;
    sim_start(3);
    v = ticking(sim_domain(256, 0), FOREVER);
    for (unsigned i = 0; i < 9; i++) {
        to = cpumask_of(i % 3);
        sim_on(0);
        assert_int_equal(vcpu_set_hard_affinity(&v->v, &to), 0);
        assert_in_range(ticks_in(v, SECONDS(1)), 998, 1001);
        assert_int_equal(v->v.periodic.cpu, i % 3);
    }
}

static void random_life(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        sim_start(4);
        sim_slow_saves = round & 1;
        for (unsigned i = 0; i < 6; i++) {
            struct domain *d = sim_domain(256, 0);
            for (unsigned n = 0; n < 3; n++)
                sim_vcpu(d, sim_random(2) ? MICROSECS(sim_random(4000) + 10) : 0,
                         MICROSECS(sim_random(3000) + 10));
        }
        for (unsigned i = 0; i < 3000; i++) {
            random_action();
            sim_run(MICROSECS(sim_random(1500)));
        }
    }
}

/* sim_check() sees what is lost in the queue of a CPU that is offline. */
static void cpus_go_and_come(void **state)
{
    bool off[4] = { false };

    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        sim_start(4);
        memset(off, 0, sizeof(off));
        sim_slow_saves = round & 1;
        for (unsigned i = 0; i < 8; i++)
            sim_vcpu(sim_domain(256, 0), i % 3 ? MICROSECS(sim_random(4000) + 10) : 0, MICROSECS(sim_random(3000) + 10));
        for (unsigned i = 0; i < 1000; i++) {
            unsigned cpu = (unsigned)sim_random(3) + 1;

            (off[cpu] ? sim_online : sim_offline)(cpu);
            off[cpu] = !off[cpu];
            sim_run(MICROSECS(sim_random(1500)));
        }
    }
}

/* --- CPU pools --------------------------------------------------------------------------------------- */

/* A pool of these CPUs, which leave pool 0. */
static u32 pool_of(unsigned first, unsigned n)
{
    u32 id = CPUPOOL_ANY;

    sim_on(0);
    assert_int_equal(cpupool_create(&id), 0);
    for (unsigned cpu = first; cpu < first + n; cpu++) {
        assert_int_equal(cpupool_remove_cpu(0, cpu), 0);
        assert_int_equal(cpupool_add_cpu(id, cpu), 0);
    }
    return id;
}

static struct domain *domain_in(u32 pool)
{
    struct domain *d = sim_domain(256, 0);

    assert_int_equal(cpupool_move_domain(d, pool), 0);
    return d;
}

/* Three of pool 0 share two CPUs though one of pool 1's has nothing to do; nor does a heavy weight elsewhere count. */
static void pools_have_nothing_in_common(void **state)
{
    struct sim_vcpu *v[3], *heavy;
    u32 pool;

    (void)state;
    sim_start(4);
    pool = pool_of(2, 2);
    assert_int_equal(pool, 1);
    heavy = sim_vcpu(domain_in(pool), FOREVER);
    assert_int_equal(sched_set_params(heavy->v.domain, 4096, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(6));
    assert_near(ran(heavy), SECONDS(6), 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_near(ran(v[i]), SECONDS(4), 5);
        assert_false(v[i]->ran_on[2] || v[i]->ran_on[3]);
    }
    assert_false(heavy->ran_on[0] || heavy->ran_on[1]);
}

/* At once, whether it runs, waits or sleeps; an affinity without a CPU of the pool counts as none until one is there again. */
static void domains_move_between_pools(void **state)
{
    cpumask_t first = cpumask_of(0);
    struct sim_vcpu *hog, *pinned, *sleeper;
    struct domain *d;
    u64 before;
    u32 pool;

    (void)state;
    sim_start(2);
    pool = pool_of(1, 1);
    d = sim_domain(256, 0);
    hog = sim_vcpu(d, FOREVER);
    pinned = sim_vcpu(d, FOREVER);
    sleeper = sim_vcpu(d, MICROSECS(10), MILLISECS(3));
    assert_int_equal(vcpu_set_hard_affinity(&pinned->v, &first), 0);
    for (unsigned i = 0; i < 9; i++) {
        u32 to = i & 1 ? 0 : pool;

        sim_on(0);
        assert_int_equal(cpupool_move_domain(d, to), 0);
        assert_int_equal(d->cpupool, to);
        sim_settle();
        before = ran(hog) + ran(pinned) + ran(sleeper);
        memset(hog->ran_on, 0, sizeof(hog->ran_on));
        memset(pinned->ran_on, 0, sizeof(pinned->ran_on));
        memset(sleeper->ran_on, 0, sizeof(sleeper->ran_on));
        sim_run(SECONDS(1));
        assert_near(ran(hog) + ran(pinned) + ran(sleeper) - before, SECONDS(1), 1);
        assert_false(hog->ran_on[to == 0] || pinned->ran_on[to == 0] || sleeper->ran_on[to == 0]);
    }
    assert_int_equal(cpupool_get(0)->nr_domains, 0);
    assert_int_equal(cpupool_get(pool)->nr_domains, 1);
}

static void a_cpu_without_a_pool_runs_nothing(void **state)
{
    struct sim_vcpu *v[2];
    cpumask_t unused;

    (void)state;
    sim_start(2);
    for (unsigned i = 0; i < 2; i++)
        v[i] = sim_vcpu(sim_domain(256, 0), FOREVER);
    sim_run(SECONDS(1));
    sim_on(0);
    assert_int_equal(cpupool_remove_cpu(0, CPUPOOL_ANY), 0);
    unused = cpupool_free_cpus();
    assert_int_equal(cpumask_next(&unused, 0), 1);
    sim_run(SECONDS(2));
    assert_near(ran(v[0]), SECONDS(2), 2);
    assert_near(ran(v[1]), SECONDS(2), 2);
    sim_on(0);
    assert_int_equal(cpupool_add_cpu(0, CPUPOOL_ANY), 0);
    sim_run(SECONDS(1));
    assert_near(ran(v[0]), SECONDS(3), 2);
    assert_near(ran(v[1]), SECONDS(3), 2);
}

static void calls_on_pools_are_refused_where_they_make_no_sense(void **state)
{
    u32 id = 7, other = CPUPOOL_ANY, taken = 7, none = NR_CPUS;
    struct domain *d;

    (void)state;
    sim_start(3);
    d = sim_domain(256, 0);
    assert_int_equal(cpupool_create(&id), 0);
    assert_int_equal(cpupool_create(&taken), -EEXIST);
    assert_int_equal(cpupool_create(&none), -ENOSPC);
    assert_int_equal(cpupool_create(&other), 0);
    assert_int_equal(other, 1);
    assert_int_equal(cpupool_next(0), 0);
    assert_int_equal(cpupool_next(1), 1);
    assert_int_equal(cpupool_next(2), 7);
    assert_int_equal(cpupool_next(8), CPUPOOL_ANY);
    assert_int_equal(cpupool_next(CPUPOOL_ANY), CPUPOOL_ANY);

    assert_int_equal(cpupool_add_cpu(7, 2), -EBUSY);             /* pool 0's */
    assert_int_equal(cpupool_add_cpu(7, CPUPOOL_ANY), -EINVAL);
    assert_int_equal(cpupool_add_cpu(7, 3), -EINVAL);
    assert_int_equal(cpupool_add_cpu(7, NR_CPUS), -EINVAL);
    assert_int_equal(cpupool_add_cpu(6, 2), -ENOENT);
    assert_int_equal(cpupool_remove_cpu(7, 2), -EADDRNOTAVAIL);
    assert_int_equal(cpupool_remove_cpu(7, NR_CPUS), -EADDRNOTAVAIL);
    assert_int_equal(cpupool_remove_cpu(7, CPUPOOL_ANY), -EADDRNOTAVAIL);
    assert_int_equal(cpupool_remove_cpu(8, 2), -ENOENT);

    assert_int_equal(cpupool_move_domain(d, 7), -ENODEV);
    assert_int_equal(cpupool_move_domain(d, 8), -ENOENT);
    assert_int_equal(cpupool_remove_cpu(0, 2), 0);
    assert_int_equal(cpupool_add_cpu(7, 2), 0);
    assert_int_equal(cpupool_destroy(7), -EBUSY);
    assert_int_equal(cpupool_move_domain(d, 7), 0);
    assert_int_equal(cpupool_remove_cpu(7, 2), -EBUSY);
    assert_int_equal(cpupool_cpu_leaves(2), -EINVAL);
    assert_int_equal(cpupool_move_domain(d, 0), 0);
    assert_int_equal(cpupool_cpu_leaves(2), 0);                  /* and comes to pool 0 when it comes back */
    cpupool_cpu_online(2);
    assert_true(cpumask_test(&cpupool_get(0)->cpus, 2));
    assert_int_equal(cpupool_destroy(7), 0);
    assert_int_equal(cpupool_destroy(7), -ENOENT);
    assert_int_equal(cpupool_destroy(0), -EBUSY);
}

/* Each pool has its own rate limit, and a CPU the one of the pool that it is in. */
static void rate_limits_are_of_pools(void **state)
{
    u32 pool;

    (void)state;
    sim_start(2);
    pool = pool_of(1, 1);
    assert_int_equal(sched_set_ratelimit(cpupool_get(pool), 1000), 0);
    assert_int_equal(rq_of(0)->ratelimit_us, 200);
    assert_int_equal(rq_of(1)->ratelimit_us, 1000);
    assert_int_equal(cpupool_remove_cpu(pool, 1), 0);
    assert_int_equal(cpupool_add_cpu(0, 1), 0);
    assert_int_equal(rq_of(1)->ratelimit_us, 200);
}

/* Whatever it does, it does or is refused: sim_check() sees who waits or runs where it may not, or waits though a CPU is idle. */
static void random_pool_action(u32 *off, struct domain **d, unsigned nr)
{
    u32 id = (u32)sim_random(3), cpu = (u32)sim_random(5) + 1;

    sim_on(0);
    switch (sim_random(8)) {
    case 0:
        (void)cpupool_create(&id);
        break;
    case 1:
        (void)cpupool_destroy(id);
        break;
    case 2:
    case 3:
        (void)cpupool_add_cpu(id, CPUPOOL_ANY);
        break;
    case 4:
        (void)cpupool_remove_cpu(id, sim_random(2) ? CPUPOOL_ANY : cpu);
        break;
    case 5:
        if (*off) {
            sim_online(*off);
            *off = 0;
        } else if (!cpupool_cpu_leaves(cpu)) {
            sim_offline(cpu);
            *off = cpu;
        }
        break;
    default:
        (void)cpupool_move_domain(d[sim_random(nr)], id);
    }
    sim_settle();
    sim_check();
}

static void random_life_in_pools(void **state)
{
    struct domain *d[6];

    (void)state;
    for (unsigned round = 0; round < 10; round++) {
        u32 off = 0;

        sim_start(6);
        sim_slow_saves = round & 1;
        for (unsigned i = 0; i < ARRAY_SIZE(d); i++) {
            d[i] = sim_domain(256, 0);
            for (unsigned n = 0; n < 2; n++)
                sim_vcpu(d[i], sim_random(2) ? MICROSECS(sim_random(4000) + 10) : 0, MICROSECS(sim_random(3000) + 10));
        }
        for (unsigned i = 0; i < 3000; i++) {
            random_action();
            random_pool_action(&off, d, ARRAY_SIZE(d));
            sim_run(MICROSECS(sim_random(1500)));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_share_one_cpu),
        cmocka_unit_test(extreme_weights_do_not_starve),
        cmocka_unit_test(shares_span_cpus),
        cmocka_unit_test(weights_share_many_cpus),
        cmocka_unit_test(infeasible_weight_takes_one_cpu),
        cmocka_unit_test(surplus_is_not_a_debt),
        cmocka_unit_test(caps_hold),
        cmocka_unit_test(caps_make_up_for_missed_periods),
        cmocka_unit_test(caps_count_all_vcpus),
        cmocka_unit_test(hard_affinity_binds),
        cmocka_unit_test(nobody_stands_in_line_for_a_queue),
        cmocka_unit_test(who_missed_often_stands_in_line),
        cmocka_unit_test(soft_affinity_is_preferred),
        cmocka_unit_test(wakers_are_served_quickly),
        cmocka_unit_test(rate_limit_is_shorter_than_a_disk),
        cmocka_unit_test(sleepers_get_no_more_than_their_share),
        cmocka_unit_test(a_wake_up_disturbs_few),
        cmocka_unit_test(waiting_work_disturbs_few),
        cmocka_unit_test(who_wakes_stays_at_home),
        cmocka_unit_test(idle_cpus_take_work),
        cmocka_unit_test(yield_gives_way),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(ticks_stop_with_their_vcpu),
        cmocka_unit_test(ticks_wake_who_blocks),
        cmocka_unit_test(ticks_of_who_waits),
        cmocka_unit_test(ticks_go_with_their_vcpu),
        cmocka_unit_test(random_life),
        cmocka_unit_test(cpus_go_and_come),
        cmocka_unit_test(pools_have_nothing_in_common),
        cmocka_unit_test(domains_move_between_pools),
        cmocka_unit_test(a_cpu_without_a_pool_runs_nothing),
        cmocka_unit_test(calls_on_pools_are_refused_where_they_make_no_sense),
        cmocka_unit_test(rate_limits_are_of_pools),
        cmocka_unit_test(random_life_in_pools),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
