/* Simulated CPUs on a simulated clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <asm/idle.h>
#include <asm/x86.h>
#include <common/sched/internal.h>
#include <public/vcpu.h>
#include <pvisor/console.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "cpus.h"

/* <stdlib.h> has another strtoull() than the hypervisor. */
void *calloc(size_t n, size_t size);
void free(void *p);
void abort(void) __attribute__((noreturn));

struct sim_cpu {
    struct cpu_info info;
    u64 event_at;            /* clock_event_set(); 0: none */
    struct vcpu *unsaved;    /* context_saved() still to come */
    bool begins_idle;        /* its idle loop has yet to make its first round */
    bool gone;               /* offline: does nothing */
};

u64 sim_now;
bool sim_slow_saves;
u64 sim_ipis;
cpumask_t cpu_online_map;
unsigned nr_cpus;

static struct sim_cpu cpus[NR_CPUS];
static unsigned here;
static jmp_buf back;
static struct sim_vcpu *vcpus[SIM_MAX_VCPUS];
static unsigned nr_vcpus;
static u32 next_domid;
static u64 random_state = 88172645463325252UL;

/* --- What the scheduler and timers want of the machine ----------------------------------------------- */

struct cpu_info *cpu_info(void) { return &cpus[here].info; }
u64 now_ns(void) { return sim_now; }
void clock_event_set(u64 expires) { cpus[here].event_at = expires ?: 1; }
void lapic_send_ipi(unsigned cpu, u8 vector) { (void)cpu; (void)vector; sim_ipis++; }
void *xzalloc_bytes(size_t size) { return calloc(1, size); }
void xfree(void *p) { free(p); }
bool frames_drain_due(void) { return false; }
void domain_shutdown(struct domain *d, u8 reason) { d->shutdown_code = reason; }
void debug_key_register(char key, void (*fn)(char, struct cpu_regs *), const char *help)
{
    (void)key, (void)fn, (void)help;
}

void printk(const char *fmt, ...) { (void)fmt; }
void guest_log(const char *fmt, ...) { (void)fmt; }
void panic(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "panic at %lu ns on CPU%u: ", sim_now, here);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\n");
    abort();
}

static struct sim_vcpu *sim_of(const struct vcpu *v)
{
    return container_of(v, struct sim_vcpu, v);
}

bool vcpu_event_pending(const struct vcpu *v)
{
    return sim_of(v)->event;
}

void send_guest_vcpu_virq(struct vcpu *v, u32 virq)
{
    struct sim_vcpu *s = sim_of(v);

    (void)virq;
    s->ticks++;
    if (!s->tick_wakes)
        return;
    s->wake_at = 0;
    vcpu_unblock(v);
}

static void note_start(struct vcpu *v)
{
    struct sim_vcpu *s = sim_of(v);

    s->starts++;
    s->ran_on[here] = true;
    if (s->woken_at) {
        u64 latency = sim_now - s->woken_at;

        s->wakes++;
        s->total_latency += latency;
        s->worst_latency = max(s->worst_latency, latency);
        s->woken_at = 0;
    }
}

static void context_switch(struct vcpu *prev, struct vcpu *next)
{
    struct sim_cpu *c = &cpus[here];

    BUG_ON(c->info.current_vcpu != prev || prev == next);
    for (unsigned i = 0; i < nr_cpus; i++)
        BUG_ON(i != here && cpus[i].info.current_vcpu == next);
    BUG_ON(next->cpu != here);
    c->info.current_vcpu = next;
    c->unsaved = prev;
    c->begins_idle = is_idle_vcpu(next);
    irq_enable();
    if (!is_idle_vcpu(next))
        note_start(next);
    longjmp(back, 1);
}

static void reschedule(void)
{
    struct vcpu *next = sched_choose();

    if (next)
        context_switch(current, next);
}

void cpu_wait_for_work(void)
{
    if (!softirq_pending())
        longjmp(back, 1);
}

/* --- Running ----------------------------------------------------------------------------------------- */

void sim_on(unsigned cpu)
{
    here = cpu;
}

u64 sim_random(u64 below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

static void finish_save(unsigned cpu)
{
    struct vcpu *v = cpus[cpu].unsaved;

    cpus[cpu].unsaved = NULL;
    sim_on(cpu);
    if (v)
        context_saved(v);
}

/* One pass over a CPU's softirqs. False: it had nothing to do. */
static bool work_on(unsigned cpu)
{
    if (cpus[cpu].gone)
        return false;
    if (cpus[cpu].unsaved) {
        finish_save(cpu);
        return true;
    }
    if (!cpus[cpu].info.softirq_pending && !cpus[cpu].begins_idle)
        return false;
    sim_on(cpu);
    cpus[cpu].begins_idle = false;
    if (!setjmp(back)) {
        if (is_idle_vcpu(current))
            sched_idle_loop();
        do_softirq();
    }
    if (cpus[cpu].unsaved && !(sim_slow_saves && sim_random(2)))
        finish_save(cpu);
    return true;
}

void sim_settle(void)
{
    bool worked = true;

    while (worked) {
        worked = false;
        for (unsigned i = 0, first = sim_slow_saves ? sim_random(nr_cpus) : 0; i < nr_cpus; i++)
            worked |= work_on((first + i) % nr_cpus);
    }
}

static u64 next_event(u64 end)
{
    u64 at = end;

    for (unsigned i = 0; i < nr_cpus; i++) {
        struct vcpu *v = cpus[i].info.current_vcpu;

        if (!cpus[i].gone && cpus[i].event_at)
            at = min(at, max(cpus[i].event_at, sim_now));
        if (!is_idle_vcpu(v) && sim_of(v)->burst)
            at = min(at, sim_now + sim_of(v)->left);
    }
    for (unsigned i = 0; i < nr_vcpus; i++)
        if (vcpus[i]->wake_at)
            at = min(at, vcpus[i]->wake_at);
    return at;
}

static void burst_over(unsigned cpu, struct sim_vcpu *s)
{
    sim_on(cpu);
    s->left = s->burst;
    if (!s->pause)
        return;
    s->wake_at = sim_now + s->pause;
    vcpu_block();
}

static void advance(u64 to)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        struct vcpu *v = cpus[i].info.current_vcpu;

        if (!is_idle_vcpu(v) && sim_of(v)->burst)
            sim_of(v)->left -= to - sim_now;
    }
    sim_now = to;
}

static void happen(void)
{
    for (unsigned i = 0; i < nr_cpus; i++) {
        struct vcpu *v = cpus[i].info.current_vcpu;

        if (!is_idle_vcpu(v) && sim_of(v)->burst && !sim_of(v)->left)
            burst_over(i, sim_of(v));
        if (!cpus[i].gone && cpus[i].event_at && cpus[i].event_at <= sim_now) {
            sim_on(i);
            cpus[i].event_at = 0;
            timer_interrupt();
        }
    }
    for (unsigned i = 0; i < nr_vcpus; i++) {
        struct sim_vcpu *s = vcpus[i];

        if (!s->wake_at || s->wake_at > sim_now)
            continue;
        do
            sim_on((unsigned)sim_random(nr_cpus));
        while (cpus[here].gone);
        s->wake_at = 0;
        s->woken_at = sim_now;
        vcpu_unblock(&s->v);
    }
}

void sim_run(u64 ns)
{
    u64 end = sim_now + ns;

    sim_settle();
    while (sim_now < end) {
        advance(next_event(end));
        happen();
        sim_settle();
        sim_check();
    }
}

/* --- Setting up -------------------------------------------------------------------------------------- */

/* Whatever the last machine had. Its domains are still counted where they were. */
static void forget_pools(void)
{
    for (u32 id = 0; (id = cpupool_next(id)) != CPUPOOL_ANY; id++) {
        cpumask_zero(&cpupool_get(id)->cpus);
        cpupool_get(id)->nr_domains = 0;
        BUG_ON(id && cpupool_destroy(id));
    }
}

void sim_start(unsigned n)
{
    static bool once;

    for (unsigned i = 0; i < nr_cpus; i++)
        BUG_ON(cpus[i].unsaved);
    memset(cpus, 0, sizeof(cpus));
    memset(runqs_percpu, 0, sizeof(struct percpu_runqs) * NR_CPUS);
    cpumask_zero(&cpu_online_map);
    cpumask_zero(&idle_cpus);
    forget_pools();
    nr_vcpus = 0;
    sim_slow_saves = false;
    sim_now = once ? sim_now + SECONDS(1) : SECONDS(1);
    once = true;
    nr_cpus = n;
    for (unsigned i = 0; i < n; i++)
        cpus[i].info.cpu = i;
    sim_on(0);
    sched_init();
    softirq_register(SOFTIRQ_SCHEDULE, reschedule);
    for (unsigned i = 0; i < n; i++) {
        sim_on(i);
        sched_init_cpu(i);
        cpumask_set(&cpu_online_map, i);
        cpupool_cpu_online(i);
    }
}

void sim_offline(unsigned cpu)
{
    BUG_ON(cpupool_cpu_leaves(cpu));
    cpumask_clear(&cpu_online_map, cpu);
    sim_on(0);
    raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
    sched_fini_cpu(cpu);
    sim_settle();
    BUG_ON(!is_idle_vcpu(cpus[cpu].info.current_vcpu));
    cpus[cpu].gone = true;
    sim_on(0);
    sched_fini_cpu(cpu);
    sim_settle();
    sim_on(0);
}

/* INIT has switched its timer off. */
void sim_online(unsigned cpu)
{
    cpus[cpu].event_at = 0;
    cpus[cpu].gone = false;
    sim_on(cpu);
    sched_return_cpu(cpu);
    cpumask_set(&cpu_online_map, cpu);
    cpupool_cpu_online(cpu);
    sim_on(0);
}

struct domain *sim_domain(u32 weight, u32 cap)
{
    struct domain *d = calloc(1, sizeof(*d));

    d->id = (u16)++next_domid;
    d->vcpu = calloc(SIM_MAX_VCPUS, sizeof(struct vcpu *));
    d->max_vcpus = SIM_MAX_VCPUS;
    spin_lock_init(&d->lock, RANK_DOMAIN);
    BUG_ON(sched_init_domain(d, 0));
    BUG_ON(sched_set_params(d, weight, cap));
    return d;
}

struct sim_vcpu *sim_vcpu(struct domain *d, u64 burst, u64 pause)
{
    struct sim_vcpu *s = calloc(1, sizeof(*s));
    u32 id = 0;

    while (d->vcpu[id])
        id++;
    s->v.domain = d;
    s->v.id = id;
    s->v.pause_flags = VPF_DOWN;
    d->vcpu[id] = &s->v;
    s->burst = s->left = burst == ~0UL ? 0 : burst;
    s->pause = pause;
    s->born = sim_now;
    BUG_ON(sched_init_vcpu(&s->v));
    vcpu_timers_init(&s->v);
    vcpus[nr_vcpus++] = s;
    if (burst != ~0UL) {
        s->v.pause_flags = 0;
        vcpu_wake(&s->v);
    }
    return s;
}

unsigned sim_nr_vcpus(void) { return nr_vcpus; }
struct sim_vcpu *sim_vcpu_nr(unsigned n) { return vcpus[n]; }

/* --- Checking ---------------------------------------------------------------------------------------- */

static void check_waiting(const struct vcpu *v)
{
    cpumask_t allowed = allowed_cpus(v);

    BUG_ON(!cpumask_test(&allowed, v->cpu));
    if (cap_exhausted(v->domain))
        return;
    for (unsigned i = 0; i < nr_cpus; i++)
        if (!cpus[i].gone && is_idle_vcpu(cpus[i].info.current_vcpu) && cpumask_test(&allowed, i))
            panic("CPU%u idles while d%uv%u waits on CPU%u", i, v->domain->id, v->id, v->cpu);
}

static void check_counts(const struct runq *rq)
{
    u32 queued = 0, movable = 0;
    struct vcpu *v;

    list_for_each(v, &rq->queue, sched.node) {
        cpumask_t others = v->sched.hard_affinity;

        cpumask_clear(&others, rq->cpu);
        queued++;
        movable += !cpumask_empty(&others);
    }
    BUG_ON(rq->nr_queued != queued || rq->nr_movable != movable);
}

void sim_check(void)
{
    for (unsigned i = 0; i < nr_cpus; i++)
        check_counts(rq_of(i));
    for (unsigned i = 0; i < nr_vcpus; i++) {
        struct vcpu *v = &vcpus[i]->v;
        u64 time[4], entry;
        u32 state, sched = v->sched.state;

        vcpu_runstate_get(v, time, &state, &entry);
        BUG_ON(time[0] + time[1] + time[2] + time[3] != sim_now - vcpus[i]->born);
        BUG_ON((state == RUNSTATE_running) != (sched == SV_RUNNING));
        BUG_ON((sched == SV_RUNNING) != (cpus[v->cpu].info.current_vcpu == v));
        BUG_ON(vcpu_runnable(v) == (sched == SV_OFF));
        BUG_ON((state == RUNSTATE_runnable) != (sched == SV_QUEUED || sched == SV_PARKED));
        if (sched == SV_QUEUED)
            check_waiting(v);
        BUG_ON(sched == SV_RUNNING && !allowed_on(v, v->cpu));
    }
}
