/*
 * What several CPUs cost each other. Started as dom0 with a vCPU for each CPU (or with two on one: test=switch). Under -icount
 * QEMU runs the CPUs in turns and virtual time counts the instructions of all, so a figure is the work of every CPU that
 * had a part in it:
 *     BENCH hypercall_N     an empty hypercall, N vCPUs making them at once
 *     BENCH event_N         an event to oneself, masked, likewise
 *     BENCH wake            a blocked vCPU on another CPU is woken, runs, and wakes the first, which blocked: half a round
 *     BENCH ipi             an event to a vCPU that runs on another CPU, until its handler runs
 *     BENCH switch          from one vCPU to another on the same CPU, by blocking and waking
 * PAUSE ends a CPU's turn.
 */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "test.h"

#define MAX_CPUS 4
#define LOOPS 200
#define ROUNDS 5

static volatile u32 started, ready, go, done;
static void (*volatile job)(unsigned vcpu);
static long port[MAX_CPUS];     /* to each vCPU */

static void end_turn(void) { __asm__ volatile("pause" : : : "memory"); }
static void count_up(volatile u32 *n) { __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST); }

/* Sleeps until *word is no longer old; whoever changes it sends an event. */
static void sleep_while(const volatile u32 *word, u32 old)
{
    for (;;) {
        events_off();
        if (read_once(*word) != old)
            break;
        sched_op(SCHEDOP_block, NULL);
    }
    events_on();
}

static void other_main(void)
{
    u32 seen = 0;

    events_on();
    count_up(&started);
    for (;;) {
        sleep_while(&go, seen);
        seen = read_once(go);
        if (job)
            job(this_vcpu());
        count_up(&done);
    }
}

static bool start_others(unsigned n)
{
    while (started + 1 < n) {
        unsigned vcpu = started + 1;

        if ((port[vcpu] = bind_ipi(vcpu)) <= 0 || vcpu_start(vcpu, other_main))
            return false;
        while (read_once(started) < vcpu)
            end_turn();
    }
    return true;
}

/* Virtual time from when all are at the start until all are through. */
static u64 time_of(unsigned n, void (*work)(unsigned vcpu))
{
    u64 best = ~0ULL;

    for (unsigned round = 0; round < ROUNDS; round++) {
        u64 t;

        ready = done = 0;
        job = work;
        count_up(&go);
        for (unsigned i = 1; i < n; i++)
            send_port((unsigned)port[i]);
        while (read_once(ready) < n - 1)
            end_turn();
        t = rdtsc();
        count_up(&ready);
        work(0);
        while (read_once(done) < n - 1)
            end_turn();
        t = rdtsc() - t;
        best = t < best ? t : best;
    }
    return best;
}

static void wait_for_all(unsigned vcpu, unsigned n)
{
    if (!vcpu)
        return;
    count_up(&ready);
    while (read_once(ready) < n)
        end_turn();
}

static unsigned taking_part;

static void make_hypercalls(unsigned vcpu)
{
    wait_for_all(vcpu, taking_part);
    for (unsigned i = 0; i < LOOPS; i++) {
        xen_version(XENVER_version, NULL);
        end_turn();
    }
}

static long own_port[MAX_CPUS];

static void send_events(unsigned vcpu)
{
    wait_for_all(vcpu, taking_part);
    for (unsigned i = 0; i < LOOPS; i++) {
        send_port((unsigned)own_port[vcpu]);
        port_clear((unsigned)own_port[vcpu]);
        end_turn();
    }
}

static void report(const char *name, unsigned n, u64 total, u64 operations)
{
    if (n)
        printf("BENCH %s_%u %llu\n", name, n, (unsigned long long)((total + operations / 2) / operations));
    else
        printf("BENCH %s %llu\n", name, (unsigned long long)((total + operations / 2) / operations));
}

TEST(scale)
{
    for (unsigned n = 1; n <= MAX_CPUS; n *= 2) {
        REQUIRE(start_others(n));
        for (unsigned i = 0; i < n; i++)
            if (!own_port[i]) {
                REQUIRE((own_port[i] = bind_ipi(i)) > 0);
                port_mask((unsigned)own_port[i]);
            }
        taking_part = n;
        report("hypercall", n, time_of(n, make_hypercalls), (u64)LOOPS * n);
        report("event", n, time_of(n, send_events), (u64)LOOPS * n);
    }
}

/* ---- One wakes another ---- */

static volatile u32 ball;

static void wake(unsigned vcpu)
{
    if (vcpu)
        count_up(&ready);
    for (u32 i = 0; i < LOOPS; i++) {
        if (vcpu)
            sleep_while(&ball, 2 * i);
        ball++;
        send_port((unsigned)port[!vcpu]);
        if (!vcpu)
            sleep_while(&ball, 2 * i + 1);
    }
}

static void measure_wake(const char *name)
{
    u64 best = ~0ULL;

    REQUIRE(start_others(2));
    if (!port[0])
        REQUIRE((port[0] = bind_ipi(0)) > 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        u64 t;

        ready = done = ball = 0;
        job = wake;
        count_up(&go);
        send_port((unsigned)port[1]);
        while (!read_once(ready))
            sched_op(SCHEDOP_yield, NULL);
        t = rdtsc();
        wake(0);
        t = rdtsc() - t;
        while (!read_once(done))
            sched_op(SCHEDOP_yield, NULL);
        best = t < best ? t : best;
    }
    report(name, 0, best, 2 * LOOPS);
}

TEST(wake) { measure_wake("wake"); }
TEST(switch_vcpus) { measure_wake("switch"); }

/* ---- One interrupts another that runs ---- */

static void be_interrupted(unsigned vcpu)
{
    if (!vcpu)
        return;
    count_up(&ready);
    while (read_once(ball) < LOOPS)
        end_turn();
}

TEST(ipi)
{
    u64 best = ~0ULL;

    REQUIRE(start_others(2));
    for (unsigned round = 0; round < ROUNDS; round++) {
        u64 t;

        ready = done = ball = 0;
        job = be_interrupted;
        count_up(&go);
        send_port((unsigned)port[1]);
        while (!read_once(ready))
            end_turn();
        t = rdtsc();
        for (unsigned i = 0; i < LOOPS; i++) {
            u32 before = event_count[port[1]];

            send_port((unsigned)port[1]);
            while (read_once(event_count[port[1]]) == before)
                end_turn();
        }
        t = rdtsc() - t;
        ball = LOOPS;
        while (!read_once(done))
            end_turn();
        best = t < best ? t : best;
    }
    report("ipi", 0, best, LOOPS);
}
