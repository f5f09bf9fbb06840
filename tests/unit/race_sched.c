/*
 * The scheduler, its timers and softirqs on CPUs that really run at once. What a vCPU does when it is let run is random:
 * it sleeps, yields, wakes and pauses others, changes affinities, weights and caps, sets timers. No data race, no lock out of order;
 * no vCPU on two CPUs; and when all is quiet every vCPU that was woken has run.
 */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/cmdline.c tests/unit/fake/threads.c common/abi.c
// SOURCES: common/sched/core.c common/sched/runq.c common/sched/place.c common/sched/cap.c common/sched/params.c common/sched/pool.c
// SOURCES: common/sched/vcpu_timer.c common/sched/ticks.c common/timer.c common/softirq.c common/preempt.c common/domain/pause.c
// SOURCES: common/spinlock.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <time.h>

#include <asm/idle.h>
#include <asm/x86.h>
#include <common/sched/internal.h>
#include <public/vcpu.h>
#include <pvisor/console.h>
#include <pvisor/evtchn.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "fake/fake.h"
#include "fake/threads.h"

#define DOMAINS 3
#define VCPUS 4             /* of each */
#define STEPS 20000          /* of all together */

unsigned nr_cpus = RACE_CPUS;
cpumask_t cpu_online_map;

static struct domain *doms[DOMAINS];
static u32 on_cpu[DOMAINS][VCPUS], steps, runs[DOMAINS][VCPUS], pending[DOMAINS][VCPUS];
static struct timer loose;
static u32 loose_fired;
static __thread u64 event_at;
static __thread jmp_buf base;
static u32 running;          /* CPUs that are still at it */

/* --- What the scheduler wants of the machine ------------------------------------------------------- */

u64 now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * SECONDS(1) + (u64)t.tv_nsec;
}

bool frames_drain_due(void) { return false; }
void clock_event_set(u64 expires) { event_at = expires ?: 1; }
void lapic_send_ipi(unsigned cpu, u8 vector) { (void)cpu, (void)vector; }
void send_guest_vcpu_virq(struct vcpu *v, u32 virq) { (void)virq; vcpu_unblock(v); }
void domain_shutdown(struct domain *d, u8 reason) { (void)d, (void)reason; }
void debug_key_register(char key, void (*fn)(char, struct cpu_regs *), const char *help)
{
    (void)key, (void)fn, (void)help;
}

static u32 *of(u32 (*array)[VCPUS], const struct vcpu *v) { return &array[v->domain->id - 1][v->id]; }

bool vcpu_event_pending(const struct vcpu *v) { return !is_idle_vcpu(v) && read_once(*of(pending, v)); }

static void context_switch(struct vcpu *prev, struct vcpu *next)
{
    if (!is_idle_vcpu(prev))
        BUG_ON(!xchg(of(on_cpu, prev), 0));
    cpu_info()->current_vcpu = next;
    context_saved(prev);
    if (!is_idle_vcpu(next))
        BUG_ON(xchg(of(on_cpu, next), 1));
    irq_enable();
    longjmp(base, 1);
}

static void reschedule(void)
{
    struct vcpu *next = sched_choose();

    if (next)
        context_switch(current, next);
}

static void look_at_clock(void)
{
    if (!event_at || now_ns() < event_at)
        return;
    event_at = 0;
    timer_interrupt();
}

void cpu_wait_for_work(void)
{
    sched_yield();
    look_at_clock();
    longjmp(base, 1);
}

/* --- What vCPUs do ---------------------------------------------------------------------------------- */

static struct vcpu *any_vcpu(void) { return doms[race_random(DOMAINS)]->vcpu[race_random(VCPUS)]; }

static void send_event(struct vcpu *v)
{
    (void)xchg(of(pending, v), 1);
    if (read_once(v->pause_flags) & VPF_BLOCKED)
        vcpu_unblock(v);
}

static cpumask_t some_cpus(void)
{
    cpumask_t m = { { 1 + race_random((1u << RACE_CPUS) - 1) } };

    return m;
}

/* One control call at a time, as the control lock sees to. */
static spinlock_t control = SPINLOCK_INIT(RANK_CONTROL);

#define POOLS 2

/* Any may be refused. */
static void change_pools(struct domain *d)
{
    u32 id = (u32)race_random(POOLS), cpu = (u32)race_random(RACE_CPUS);

    switch (race_random(4)) {
    case 0:
        (void)cpupool_add_cpu(id, CPUPOOL_ANY);
        break;
    case 1:
        (void)cpupool_remove_cpu(id, cpu);
        break;
    default:
        (void)cpupool_move_domain(d, id);
    }
}

static void change_something(struct vcpu *v)
{
    cpumask_t m = some_cpus();
    u64 time[4], entry;
    u32 state;

    spin_lock(&control);
    switch (race_random(9)) {
    case 0:
        (void)vcpu_set_hard_affinity(v, &m);
        break;
    case 1:
        vcpu_set_soft_affinity(v, &m);
        break;
    case 2:
        assert_int_equal(sched_set_params(doms[0], 64 + (u32)race_random(1000), 0), 0);
        break;
    case 3:
        assert_int_equal(sched_set_params(doms[1], 256, race_random(2) ? 150 : 0), 0);
        break;
    case 4:
        vcpu_runstate_get(v, time, &state, &entry);
        break;
    case 5:
        timer_set(&loose, now_ns() + race_random(MILLISECS(2)));
        timer_migrate(&loose, (unsigned)race_random(RACE_CPUS));
        break;
    case 6:
        timer_stop(&loose);
        break;
    default:
        change_pools(v->domain);
    }
    spin_unlock(&control);
}

static void loose_over(void *data) { (void)data; atomic_inc(&loose_fired); }

static void pause_another(struct vcpu *v)
{
    if (v == current || v->domain == current->domain)
        return;
    vcpu_pause_nowait(v);
    vcpu_unpause(v);
}

/* As VCPUOP_set_periodic_timer and its opposite. */
static void set_ticks(struct vcpu *v, u64 period)
{
    write_once(v->periodic_period, period);
    if (!period) {
        timer_stop(&v->periodic);
        return;
    }
    timer_migrate(&v->periodic, v->cpu);
    timer_set(&v->periodic, now_ns() + period);
}

/* One stay in the guest. */
static void guest(struct vcpu *v)
{
    atomic_inc(of(runs, v));
    (void)xchg(of(pending, v), 0);
    for (unsigned n = (unsigned)race_random(20); n--;) {
        switch (race_random(9)) {
        case 0:
            change_something(any_vcpu());
            break;
        case 1:
            pause_another(any_vcpu());
            break;
        case 2:
            set_ticks(v, race_random(3) * MICROSECS(30));
            break;
        default:
            send_event(any_vcpu());
        }
    }
    if (race_random(2))
        vcpu_yield();
    else
        vcpu_block();
    __atomic_add_fetch(&steps, 1, __ATOMIC_SEQ_CST);
}

/* --- The CPUs ---------------------------------------------------------------------------------------- */

/* At the end everything is woken once more, and all have to block without anybody's help. */
static void wind_down(struct vcpu *v)
{
    atomic_inc(of(runs, v));
    (void)xchg(of(pending, v), 0);
    set_ticks(v, 0);
    vcpu_block();
}

static bool all_asleep(void)
{
    for (unsigned d = 0; d < DOMAINS; d++)
        for (unsigned i = 0; i < VCPUS; i++)
            if (!(read_once(doms[d]->vcpu[i]->pause_flags) & VPF_BLOCKED) || read_once(doms[d]->vcpu[i]->is_running))
                return false;
    return true;
}

static void cpu_lives(unsigned cpu)
{
    /* One after the other, as CPUs start. From now on what others raise for this CPU comes to this thread. */
    while (read_once(running) < cpu)
        sched_yield();
    softirq_init_cpu();
    cpu_info()->current_vcpu = rq_of(cpu)->idle;
    atomic_inc(&running);
    while (read_once(running) < RACE_CPUS)
        sched_yield();
    if (cpu == 0)
        for (unsigned i = 0; i < DOMAINS * VCPUS; i++)
            vcpu_wake(doms[i / VCPUS]->vcpu[i % VCPUS]);
    (void)setjmp(base);
    for (;;) {
        struct vcpu *v = current;

        look_at_clock();
        if (is_idle_vcpu(v)) {
            if (read_once(steps) >= STEPS && all_asleep())
                return;
            sched_idle_loop();
        }
        if (softirq_pending())
            do_softirq();
        else if (read_once(steps) < STEPS)
            guest(v);
        else
            wind_down(v);
    }
}

static struct domain *domain_of(u16 id)
{
    struct domain *d = fake_domain(id, ABI_64, VCPUS, false);

    spin_lock_init(&d->lock, RANK_DOMAIN);
    assert_int_equal(sched_init_domain(d, 0), 0);
    for (u32 i = 0; i < VCPUS; i++) {
        assert_int_equal(sched_init_vcpu(d->vcpu[i]), 0);
        vcpu_timers_init(d->vcpu[i]);
    }
    assert_int_equal(sched_set_params(d, 256, 0), 0);
    return d;
}

static void vcpus_run_on_one_cpu_and_all_run(void **state)
{
    u32 pool = 1;

    (void)state;
    fake_reset();
    fake_set_cpu(0);
    sched_init();
    softirq_register(SOFTIRQ_SCHEDULE, reschedule);
    for (unsigned i = 0; i < RACE_CPUS; i++) {
        cpumask_set(&cpu_online_map, i);
        rq_of(i)->idle = NULL;
    }
    /* On one thread, as the boot CPU would see the others come. */
    for (unsigned i = 0; i < RACE_CPUS; i++) {
        fake_set_cpu(i);
        sched_init_cpu(i);
        cpupool_cpu_online(i);
    }
    fake_set_cpu(0);
    assert_int_equal(cpupool_create(&pool), 0);
    timer_init(&loose, loose_over, NULL, 0);
    for (u16 i = 0; i < DOMAINS; i++)
        doms[i] = domain_of((u16)(i + 1));
    race(cpu_lives);
    for (unsigned i = 0; i < DOMAINS * VCPUS; i++) {
        assert_true(runs[i / VCPUS][i % VCPUS] > 0);
        assert_int_equal(on_cpu[i / VCPUS][i % VCPUS], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vcpus_run_on_one_cpu_and_all_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
