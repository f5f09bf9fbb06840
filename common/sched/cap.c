/*
 * Caps. A capped domain has a budget of cap percent of every period, which its vCPUs use up together. When
 * it is gone they are parked until the next period. What a slice ran over is a debt, so that the average is
 * exact; what was not used in a period is lost. Not so what could not be: a machine that is a guest itself has moments in which
 * its CPUs do not run. The periods that went by meanwhile are made up for, as far as MAX_CARRY.
 */
#include <asm/atomic.h>
#include "internal.h"

static s64 period_budget(const struct domain *d)
{
    return (s64)(CAP_PERIOD / 100 * read_once(d->sched.cap));
}

static void unpark_all(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        if (read_once(v->sched.state) == SV_PARKED || read_once(v->sched.state) == SV_QUEUED)
            vcpu_unpark(v);
}

/* Only one is started, and while it goes on only refill() itself sets the timer, to keep the beat. */
static void start_refills(struct domain *d)
{
    if (!read_once(d->sched.refilling) && !xchg(&d->sched.refilling, true))
        timer_set(&d->sched.refill, now_ns() + CAP_PERIOD);
}

#define MAX_CARRY 4     /* periods' budgets */

/*
 * The budget after a refill. before: what was left, or the debt. A period's own budget is used first, so of what is left only
 * the carry stays; but what a vCPU is using right now is not charged yet. Periods that were missed pay debts, and are carried.
 */
static s64 refilled(struct domain *d, s64 before, s64 full, u64 missed)
{
    bool in_use = (missed || d->sched.carry) && read_once(d->sched.nr_running);
    s64 kept = before < 0 || in_use ? before : min(before, d->sched.carry);
    s64 sum = min(kept + (s64)missed * full, MAX_CARRY * full);

    d->sched.carry = max(sum, (s64)0);
    return sum + full;
}

/* All that there can be at a period's start is there: nobody has used anything. */
static bool is_full(const struct domain *d, s64 budget)
{
    return budget >= period_budget(d) + d->sched.carry;
}

/* Stops by itself when a whole period's budget is there; the next charge starts it again. */
static void refill(void *data)
{
    struct domain *d = data;
    u64 missed = (now_ns() - d->sched.refill.expires) / CAP_PERIOD;
    s64 before = read_once(d->sched.budget), after;
    bool used = !is_full(d, before) || read_once(d->sched.nr_running);

    after = refilled(d, before, period_budget(d), missed);
    atomic_add_return(&d->sched.budget, after - before);
    if (used && read_once(d->sched.cap)) {
        timer_set(&d->sched.refill, d->sched.refill.expires + (missed + 1) * CAP_PERIOD);
    } else {
        (void)xchg(&d->sched.refilling, false);
        /* A charge that came meanwhile relied on us. */
        if (read_once(d->sched.cap) && !is_full(d, read_once(d->sched.budget)))
            start_refills(d);
    }
    if (after > 0)
        unpark_all(d);
}

void cap_charge(struct domain *d, u64 ns)
{
    atomic_add_return(&d->sched.budget, -(s64)ns);
    start_refills(d);
}

bool cap_exhausted(struct domain *d)
{
    return read_once(d->sched.cap) && __atomic_load_n(&d->sched.budget, __ATOMIC_SEQ_CST) <= 0;
}

/* Several running vCPUs draw on one budget: each plans with its part of it. */
u64 cap_slice(struct domain *d, u64 slice)
{
    s64 left;

    if (likely(!read_once(d->sched.cap)))
        return slice;
    left = read_once(d->sched.budget) / max(read_once(d->sched.nr_running), 1);
    return min(slice, (u64)max(left, (s64)CAP_SLICE_MIN));
}

void cap_init(struct domain *d)
{
    timer_init(&d->sched.refill, refill, d, this_cpu_id());
}

void cap_destroy(struct domain *d)
{
    timer_kill(&d->sched.refill);
}

/* A new cap counts from a full budget. */
void cap_changed(struct domain *d)
{
    __atomic_store_n(&d->sched.budget, period_budget(d), __ATOMIC_SEQ_CST);
    unpark_all(d);
}
