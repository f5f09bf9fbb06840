/* Parameters, vCPU set-up and tear-down, figures for readers. */
#include <asm/atomic.h>
#include <public/errno.h>
#include <public/sysctl.h>
#include <public/vcpu.h>
#include <pvisor/console.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "internal.h"

/* --- Set-up ---------------------------------------------------------------------------------------- */

int sched_init_domain(struct domain *d, u32 pool)
{
    d->sched.weight = SCHED_WEIGHT_DEFAULT;
    cap_init(d);
    return cpupool_enter(d, pool);
}

int sched_init_vcpu(struct vcpu *v)
{
    const cpumask_t *pool = &v->domain->sched.pool->cpus;
    unsigned cpu = this_cpu_id(), first = cpumask_next(pool, 0);

    list_init(&v->sched.node);
    cpumask_fill(&v->sched.hard_affinity);
    v->sched.only_cpu = NR_CPUS;
    cpumask_fill(&v->sched.soft_affinity);
    /* Spread until it runs for the first time and is placed properly. */
    for (u32 i = 0; first < NR_CPUS && i <= v->id; i++) {
        cpu = cpumask_next(pool, i ? cpu + 1 : first);
        if (cpu == NR_CPUS)
            cpu = first;
    }
    v->cpu = cpu;
    v->sched.state = SV_OFF;
    v->sched.vruntime = lag_floor();
    v->runstate.state = RUNSTATE_offline;
    v->runstate.entry_time = now_ns();
    return 0;
}

void sched_destroy_vcpu(struct vcpu *v)
{
    BUG_ON(v->is_running || v->sched.state == SV_QUEUED);
    /* The refill walks the domain's vCPUs. */
    if (v->domain->dying != DOMAIN_ALIVE)
        cap_destroy(v->domain);
}

void sched_destroy_domain(struct domain *d)
{
    cap_destroy(d);
    cpupool_leave(d);
}

/* --- Parameters ------------------------------------------------------------------------------------ */

/* A vCPU that sits where it must not, or not best, any more is placed anew. */
void sched_place_anew(struct vcpu *v)
{
    u64 flags;
    struct runq *rq = lock_rq_of(v, &flags);
    bool moves = false;

    if (v->sched.state == SV_RUNNING) {
        raise_softirq_on(rq->cpu, SOFTIRQ_SCHEDULE);
    } else if (v->sched.state == SV_QUEUED && !v->is_running) {
        moves = better_elsewhere(v, rq->cpu);
        if (moves)
            rq_remove(rq, v);
        else
            kick_idle_for(v);
    }
    unlock_rq(rq, flags);
    if (moves)
        vcpu_wake(v);
}

/* v's queue is locked. */
static void write_hard_affinity(struct runq *rq, struct vcpu *v, const cpumask_t *m)
{
    unsigned first = cpumask_next(m, 0);
    bool queued = v->sched.state == SV_QUEUED;

    if (queued)
        rq_remove(rq, v);
    v->sched.hard_affinity = *m;
    v->sched.only_cpu = cpumask_next(m, first + 1) == NR_CPUS ? first : NR_CPUS;
    if (queued)
        rq_insert(rq, v);
}

int vcpu_set_hard_affinity(struct vcpu *v, const cpumask_t *m)
{
    cpumask_t possible = cpumask_and(m, &v->domain->sched.pool->cpus);
    u64 flags;
    struct runq *rq;

    if (cpumask_empty(&possible))
        return refuse(-EINVAL, "d%uv%u: no CPU of its CPU pool, %u, in its hard affinity", v->domain->id, v->id, v->domain->cpupool);
    rq = lock_rq_of(v, &flags);
    write_hard_affinity(rq, v, m);
    unlock_rq(rq, flags);
    sched_place_anew(v);
    return 0;
}

void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *m)
{
    u64 flags;
    struct runq *rq = lock_rq_of(v, &flags);

    v->sched.soft_affinity = *m;
    unlock_rq(rq, flags);
    sched_place_anew(v);
}

int sched_set_params(struct domain *d, u32 weight, u32 cap)
{
    if (!weight || weight > 65535)
        return refuse(-EINVAL, "d%u: weight %u, expected 1 to 65535", d->id, weight);
    if (cap > 65535)
        return refuse(-EINVAL, "d%u: cap %u%%, expected at most 65535", d->id, cap);
    write_once(d->sched.weight, weight);
    if (cap != d->sched.cap) {
        write_once(d->sched.cap, cap);
        cap_changed(d);
    }
    return 0;
}

void sched_get_params(const struct domain *d, u32 *weight, u32 *cap)
{
    *weight = d->sched.weight;
    *cap = d->sched.cap;
}

int sched_set_ratelimit(struct cpupool *p, u32 us)
{
    unsigned cpu;

    if (!is_ratelimit(us))
        return refuse(-EINVAL, "rate limit %u us, expected 0 or %u to %u", us, XEN_SYSCTL_SCHED_RATELIMIT_MIN,
                      XEN_SYSCTL_SCHED_RATELIMIT_MAX);
    p->ratelimit_us = us;
    for_each_cpu(cpu, &p->cpus)
        write_once(rq_of(cpu)->ratelimit_us, us);
    return 0;
}

/* --- Figures --------------------------------------------------------------------------------------- */

void vcpu_runstate_get(struct vcpu *v, u64 time[4], u32 *state, u64 *entry)
{
    u64 flags, now;
    struct runq *rq = lock_rq_of(v, &flags);

    now = now_ns();
    memcpy(time, v->runstate.time, sizeof(v->runstate.time));
    *state = v->runstate.state;
    *entry = v->runstate.entry_time;
    if (now > *entry)
        time[*state] += now - *entry;
    unlock_rq(rq, flags);
}

u64 vcpu_runtime(struct vcpu *v)
{
    u64 time[4], entry;
    u32 state;

    vcpu_runstate_get(v, time, &state, &entry);
    return time[RUNSTATE_running];
}

static void dump_vcpu(const char *what, const struct runq *rq, const struct vcpu *v)
{
    printk(LOG_INFO "    %s d%uv%u vruntime %+ld us weight %u\n", what, v->domain->id, v->id,
           (long)(v->sched.vruntime - rq->vtime) / 1000, vcpu_weight(v));
}

void sched_dump(void)
{
    unsigned cpu;

    printk(LOG_INFO "Scheduler: time %lu us\n", now_ns() / 1000);
    for_each_online_cpu(cpu) {
        struct runq *rq = rq_of(cpu);
        u64 flags = spin_lock_irqsave(&rq->lock);
        struct vcpu *v;

        printk(LOG_INFO "  CPU%u: %u waiting, vtime %lu us, rate limit %u us\n", cpu, rq->nr_queued, rq->vtime / 1000,
               rq->ratelimit_us);
        if (rq->curr != rq->idle)
            dump_vcpu("runs ", rq, rq->curr);
        list_for_each(v, &rq->queue, sched.node)
            dump_vcpu("waits", rq, v);
        unlock_rq(rq, flags);
    }
}

static void dump_key(char, struct cpu_regs *)
{
    sched_dump();
}

void sched_init_dump(void)
{
    debug_key_register('r', dump_key, "run queues");
}
