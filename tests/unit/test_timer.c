/*
 * Timers on simulated CPUs: order, stopping, re-arming, remote arming, migration, a random run against a
 * model.
 */
// SOURCES: tests/unit/fake/cpus.c tests/unit/fake/cmdline.c common/sched/core.c common/sched/runq.c common/sched/place.c
// SOURCES: common/sched/cap.c common/sched/params.c common/sched/pool.c common/sched/vcpu_timer.c common/sched/ticks.c common/timer.c
// SOURCES: common/softirq.c common/preempt.c common/spinlock.c common/domain/system.c common/trace/record.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/time.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>
#include "fake/cpus.h"

#define NR 200

struct probe {
    struct timer t;
    u64 due;            /* model: 0 when not armed */
    u64 fired_at, again;
    unsigned fired;
};
static struct probe probes[NR];

static void fire(void *data)
{
    struct probe *p = data;

    p->fired++;
    p->fired_at = sim_now;
    assert_int_equal(this_cpu_id(), p->t.cpu);
    assert_true(p->due && sim_now >= p->due);
    p->due = 0;
    if (p->again) {
        p->due = sim_now + p->again;
        p->again = 0;
        timer_set(&p->t, p->due);
    }
}

static struct probe *probe(unsigned n, unsigned cpu)
{
    probes[n] = (struct probe){ .due = 0 };
    timer_init(&probes[n].t, fire, &probes[n], cpu);
    return &probes[n];
}

static void arm(struct probe *p, u64 at)
{
    p->due = at;
    timer_set(&p->t, at);
}

static void fires_in_time(void **state)
{
    struct probe *p[50];
    u64 start;

    (void)state;
    sim_start(1);
    start = sim_now;
    for (unsigned i = 0; i < 50; i++) {
        p[i] = probe(i, 0);
        arm(p[i], start + 1000 * ((i * 37) % 50 + 1));
    }
    sim_run(MILLISECS(1));
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(p[i]->fired, 1);
        assert_int_equal(p[i]->fired_at, start + 1000 * ((i * 37) % 50 + 1));
        assert_false(timer_armed(&p[i]->t));
    }
}

static void past_times_fire_at_once(void **state)
{
    struct probe *p;

    (void)state;
    sim_start(1);
    p = probe(0, 0);
    arm(p, sim_now - 5);
    sim_run(1);
    assert_int_equal(p->fired, 1);
}

/* The time that stands for "off" in the hardware is one that a guest may ask for. */
static void time_zero_fires_too(void **state)
{
    struct probe *p, *q;

    (void)state;
    sim_start(1);
    p = probe(0, 0);
    q = probe(1, 0);
    p->due = 1;
    timer_set(&p->t, 0);
    sim_run(1);
    assert_int_equal(p->fired, 1);
    arm(q, sim_now + 10);
    sim_run(20);
    assert_int_equal(q->fired, 1);
}

static void stops_and_moves(void **state)
{
    struct probe *a, *b, *c;
    u64 start;

    (void)state;
    sim_start(1);
    start = sim_now;
    a = probe(0, 0);
    b = probe(1, 0);
    c = probe(2, 0);
    arm(a, start + 100);
    arm(b, start + 200);
    arm(c, start + 300);
    timer_stop(&a->t);
    arm(b, start + 400);
    arm(c, start + 50);
    sim_run(1000);
    assert_int_equal(a->fired, 0);
    assert_int_equal(b->fired_at, start + 400);
    assert_int_equal(c->fired_at, start + 50);
}

static void arms_itself_again(void **state)
{
    struct probe *p;

    (void)state;
    sim_start(1);
    p = probe(0, 0);
    p->again = 700;
    arm(p, sim_now + 100);
    sim_run(1000);
    assert_int_equal(p->fired, 2);
}

static void a_killed_timer_stays_dead(void **state)
{
    struct probe *p;

    (void)state;
    sim_start(2);
    p = probe(0, 1);
    arm(p, sim_now + 100);
    sim_on(0);
    timer_kill(&p->t);
    timer_set(&p->t, sim_now + 200);
    sim_run(1000);
    assert_int_equal(p->fired, 0);
}

static void fires_on_its_cpu(void **state)
{
    struct probe *p;

    (void)state;
    sim_start(3);
    sim_on(0);
    p = probe(0, 2);
    arm(p, sim_now + 500);
    sim_run(200);
    sim_on(1);
    timer_migrate(&p->t, 0);
    assert_true(timer_armed(&p->t));
    sim_run(1000);
    assert_int_equal(p->fired, 1);
}

static void migrates_all(void **state)
{
    (void)state;
    sim_start(2);
    for (unsigned i = 0; i < 20; i++)
        arm(probe(i, 1), sim_now + 100 * (i + 1));
    sim_on(0);
    timer_migrate_all(1, 0);
    sim_run(5000);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(probes[i].fired, 1);
}

/* It comes back before the time that its hardware was told when it left. */
static void a_cpu_comes_back_soon(void **state)
{
    struct probe *before, *after;

    (void)state;
    sim_start(2);
    before = probe(0, 1);
    after = probe(1, 1);
    sim_on(1);
    arm(before, sim_now + 1000);
    sim_offline(1);
    timer_stop(&before->t);
    sim_run(500);
    sim_online(1);
    sim_on(1);
    arm(after, sim_now + 1000);
    sim_run(2000);
    assert_int_equal(after->fired, 1);
    assert_int_equal(before->fired, 0);
}

static void a_timer_of_an_offline_cpu_is_armed_here(void **state)
{
    struct probe *p;

    (void)state;
    sim_start(2);
    p = probe(0, 1);
    sim_offline(1);
    arm(p, sim_now + 1000);
    assert_int_equal(p->t.cpu, 0);
    sim_run(2000);
    assert_int_equal(p->fired, 1);
}

static void random_step(struct probe *p)
{
    sim_on((unsigned)sim_random(4));
    switch (sim_random(4)) {
    case 0:
    case 1:
        arm(p, sim_now + sim_random(5000) + 1);
        break;
    case 2:
        p->due = 0;
        timer_stop(&p->t);
        break;
    case 3:
        timer_migrate(&p->t, (unsigned)sim_random(4));
        break;
    }
}

static void matches_a_model(void **state)
{
    (void)state;
    sim_start(4);
    for (unsigned i = 0; i < NR; i++)
        probe(i, i % 4);
    for (unsigned step = 0; step < 20000; step++) {
        random_step(&probes[sim_random(NR)]);
        if (sim_random(4))
            continue;
        sim_run(sim_random(300));
        for (unsigned i = 0; i < NR; i++) {
            assert_int_equal(timer_armed(&probes[i].t), probes[i].due != 0);
            assert_true(!probes[i].due || probes[i].due > sim_now);
        }
    }
}

/*
 * The arithmetic that guests are told to use stays within 2 ns of the exact value for a second, and never
 * ahead.
 */
static void clock_scale_is_exact(void **state)
{
    static const u64 rates[] = { 10000000, 123456789, 999999999, 1000000000, 1000000001, 2599998000 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rates); i++) {
        struct clock_scale s = { .tsc = 1000, .ns = 5 };

        scale_set_hz(&s, rates[i]);
        for (u64 part = 0; part <= 10; part++) {
            u64 ticks = rates[i] * part / 10, exact = mul_div(ticks, SECONDS(1), rates[i]);
            u64 got = scale_to_ns(&s, 1000 + ticks) - 5;

            assert_true(got <= exact && exact - got <= 2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_in_time),
        cmocka_unit_test(past_times_fire_at_once),
        cmocka_unit_test(time_zero_fires_too),
        cmocka_unit_test(stops_and_moves),
        cmocka_unit_test(arms_itself_again),
        cmocka_unit_test(a_killed_timer_stays_dead),
        cmocka_unit_test(fires_on_its_cpu),
        cmocka_unit_test(migrates_all),
        cmocka_unit_test(a_cpu_comes_back_soon),
        cmocka_unit_test(a_timer_of_an_offline_cpu_is_armed_here),
        cmocka_unit_test(matches_a_model),
        cmocka_unit_test(clock_scale_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
