/* Which CPU: affinities, idle CPUs, and taking work over from other queues. */
#include <asm/atomic.h>
#include <pvisor/softirq.h>
#include "internal.h"

cpumask_t idle_cpus;

/* CPUs of its pool, which are online. v's queue is locked: pool.c relies on it. */
static const cpumask_t *pool_cpus(const struct vcpu *v)
{
    return &read_once(v->domain->sched.pool)->cpus;
}

/* An affinity none of whose CPUs is in the pool any more counts as none. */
cpumask_t allowed_cpus(const struct vcpu *v)
{
    const cpumask_t *pool = pool_cpus(v);
    cpumask_t m = cpumask_and(&v->sched.hard_affinity, pool);

    return cpumask_empty(&m) ? cpumask_read(pool) : m;
}

bool allowed_on(const struct vcpu *v, unsigned cpu)
{
    cpumask_t m;

    if (cpumask_test(&v->sched.hard_affinity, cpu) && cpumask_test(pool_cpus(v), cpu))
        return true;
    m = allowed_cpus(v);
    return cpumask_test(&m, cpu);
}

static bool likes(const struct vcpu *v, unsigned cpu)
{
    return cpumask_test(&v->sched.soft_affinity, cpu);
}

/* An idle CPU of the set, home if it is one; NR_CPUS: none. */
static unsigned idle_in(const cpumask_t *set, unsigned home)
{
    cpumask_t m = cpumask_and(set, &idle_cpus);

    return cpumask_test(&m, home) ? home : cpumask_next(&m, 0);
}

static unsigned shortest_queue(const cpumask_t *set)
{
    unsigned cpu, best = NR_CPUS;

    for_each_cpu(cpu, set)
        if (best == NR_CPUS || read_once(rq_of(cpu)->nr_queued) < read_once(rq_of(best)->nr_queued))
            best = cpu;
    return best;
}

/* Idle and liked, else idle, else where it was (its cache may be warm), else the shortest queue. */
unsigned choose_cpu(const struct vcpu *v)
{
    cpumask_t allowed = allowed_cpus(v), liked = cpumask_and(&allowed, &v->sched.soft_affinity);
    unsigned cpu = idle_in(&liked, v->cpu);

    if (cpu == NR_CPUS)
        cpu = idle_in(&allowed, v->cpu);
    if (cpu != NR_CPUS)
        return cpu;
    if (cpumask_empty(&liked))
        liked = allowed;
    return cpumask_test(&liked, v->cpu) ? v->cpu : shortest_queue(&liked);
}

bool better_elsewhere(const struct vcpu *v, unsigned cpu)
{
    cpumask_t liked;

    if (!allowed_on(v, cpu))
        return true;
    if (likely(likes(v, cpu)))
        return false;
    liked = cpumask_and(&v->sched.hard_affinity, &v->sched.soft_affinity);
    liked = cpumask_and(&liked, pool_cpus(v));
    return idle_in(&liked, cpu) != NR_CPUS;
}

/*
 * Runs after v was queued; an idle CPU enters idle_cpus before it looks at the queues. One of the two sees
 * the other, so no vCPU waits while a CPU that may run it sleeps. One CPU is told, and counts as taken until it has looked.
 * If it finds something else to do it passes the word on (pass_on_work()): were all told, they would all come for one lock.
 */
void kick_idle_for(const struct vcpu *v)
{
    cpumask_t allowed, liked;
    unsigned cpu;

    smp_mb();
    if (v->is_running || cpumask_empty(&idle_cpus))
        return;
    allowed = allowed_cpus(v);
    liked = cpumask_and(&allowed, &v->sched.soft_affinity);
    cpu = idle_in(&liked, v->cpu);
    if (cpu == NR_CPUS)
        cpu = idle_in(&allowed, v->cpu);
    if (cpu == NR_CPUS)
        return;
    cpumask_clear(&idle_cpus, cpu);
    raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
}

static void kick_idle_for_queue(struct runq *rq)
{
    u64 flags = spin_lock_irqsave(&rq->lock);
    struct vcpu *v;

    list_for_each(v, &rq->queue, sched.node)
        kick_idle_for(v);
    spin_unlock_irqrestore(&rq->lock, flags);
}

/*
 * This CPU is idle no longer, and has left idle_cpus: whoever relied on it for another vCPU than the one that it took is
 * seen in a queue now.
 */
void pass_on_work(void)
{
    unsigned cpu;

    smp_mb();
    if (cpumask_empty(&idle_cpus))
        return;
    for_each_online_cpu(cpu)
        if (read_once(rq_of(cpu)->nr_movable))
            kick_idle_for_queue(rq_of(cpu));
}

/* --- Stealing -------------------------------------------------------------------------------------- */

/* The first in from's queue that may move to cpu, and likes it where there is such a one. Locked. */
static struct vcpu *candidate(struct runq *from, unsigned cpu, bool have, u64 best)
{
    struct vcpu *v, *second = NULL;

    list_for_each(v, &from->queue, sched.node) {
        if (have && !vt_before(v->sched.vruntime + STEAL_MARGIN, best))
            break;
        if (v->is_running || !allowed_on(v, cpu) || cap_exhausted(v->domain))
            continue;
        if (likes(v, cpu))
            return v;
        if (!second)
            second = v;
    }
    return second;
}

#define MISSING_MAX SECONDS(1)

/*
 * Another CPU's queue, which we look at again soon if somebody has it: so nobody stands in line for it, but for who has missed one in all
 * rounds of so long, for a line that others make could keep it from work for ever. Rounds are no measure: where the host has stopped the
 * CPU that has the lock, hundreds are over before it goes on.
 */
static bool lock_other(struct runq *rq, struct runq *from)
{
    if (spin_trylock(&from->lock))
        return true;
    if (!rq->missed_since || now_ns() - rq->missed_since < MISSING_MAX)
        return false;
    spin_lock(&from->lock);
    rq->missed_since = 0;
    return true;
}

/* *missed: someone else has from locked. */
static bool take_over(struct runq *rq, struct runq *from, bool have, u64 best, bool *missed)
{
    u64 flags = irq_save();
    struct vcpu *v = NULL;

    if (lock_other(rq, from)) {
        v = candidate(from, rq->cpu, have, best);
        if (v) {
            rq_remove(from, v);
            write_once(v->cpu, rq->cpu);
        }
        spin_unlock(&from->lock);
    } else {
        *missed = true;
    }
    irq_restore(flags);
    if (!v)
        return false;
    /* In between v is nowhere, but whoever wants it locks our queue now, and may have queued it already. */
    flags = spin_lock_irqsave(&rq->lock);
    if (v->cpu == rq->cpu && v->sched.state == SV_OFF && vcpu_runnable(v)) {
        rq_admit(rq, v, LEAD_MAX);
        rq_insert(rq, v);
    }
    spin_unlock_irqrestore(&rq->lock, flags);
    return true;
}

/*
 * Does from have something that is worth locking it for? A CPU that is idle has been told of the one that waits there,
 * most often because that just woke: it stays at home.
 */
static bool worth_a_look(const struct runq *from, bool have, u64 best)
{
    if (!read_once(from->nr_movable))
        return false;
    if (!have)
        return read_once(from->nr_queued) > 1 || read_once(from->busy);
    return vt_before(read_once(from->head) + STEAL_MARGIN, best);
}

/* The queue whose head is furthest behind, of those not looked at yet; NULL: none. */
static struct runq *most_behind(const struct runq *rq, const cpumask_t *seen, bool have, u64 best)
{
    struct runq *found = NULL;
    unsigned cpu;

    for_each_online_cpu(cpu) {
        struct runq *from = rq_of(cpu);

        if (from == rq || cpumask_test(seen, cpu) || !worth_a_look(from, have, best))
            continue;
        if (!found || vt_before(read_once(from->head), read_once(found->head)))
            found = from;
    }
    return found;
}

bool steal_work(struct runq *rq, bool have, u64 best)
{
    cpumask_t seen = { { 0 } };
    struct runq *from;
    bool missed = false;

    while ((from = most_behind(rq, &seen, have, best)) != NULL) {
        if (take_over(rq, from, have, best, &missed)) {
            rq->missed_since = 0;
            return true;
        }
        cpumask_set(&seen, from->cpu);
    }
    if (!missed)
        rq->missed_since = 0;
    else if (!rq->missed_since)
        rq->missed_since = now_ns();
    return missed;
}
