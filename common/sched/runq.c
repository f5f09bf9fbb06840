/* One CPU's run queue: order, accounting, virtual time. Everything here holds its lock. */
#include <asm/atomic.h>
#include "internal.h"

DEFINE_PERCPU(struct runq, runqs);

/* The lowest virtual clock of any busy CPU, as last seen. */
static u64 floor_seen;

u64 lag_floor(void)
{
    return read_once(floor_seen);
}

/* Read without locks: a clock that moves on meanwhile makes the result a little old, and that is all. */
void update_lag_floor(void)
{
    unsigned cpu;
    bool any = false;
    u64 low = 0;

    for_each_online_cpu(cpu) {
        const struct runq *rq = rq_of(cpu);
        u64 vtime = read_once(rq->vtime);

        if (!read_once(rq->busy))
            continue;
        low = any ? vt_min(low, vtime) : vtime;
        any = true;
    }
    if (any)
        write_once(floor_seen, vt_max(low, lag_floor()));
}

struct runq *lock_rq_of(const struct vcpu *v, u64 *flags)
{
    for (;;) {
        unsigned cpu = read_once(v->cpu);
        struct runq *rq = rq_of(cpu);

        *flags = spin_lock_irqsave(&rq->lock);
        if (likely(cpu == read_once(v->cpu)))
            return rq;
        spin_unlock_irqrestore(&rq->lock, *flags);
    }
}

void unlock_rq(struct runq *rq, u64 flags)
{
    spin_unlock_irqrestore(&rq->lock, flags);
}

static struct vcpu *entry(struct list *l)
{
    return list_entry(l, struct vcpu, sched.node);
}

static void publish(struct runq *rq)
{
    if (!list_empty(&rq->queue))
        write_once(rq->head, entry(rq->queue.next)->sched.vruntime);
}

/*
 * A vCPU that ran until now belongs near the end, one that wakes near the front: the search starts at the
 * end that is closer. Behind its equals.
 */
static struct list *insertion_point(struct runq *rq, u64 vruntime)
{
    struct list *l = rq->queue.prev;

    if (list_empty(&rq->queue))
        return &rq->queue;
    if (vruntime - entry(rq->queue.next)->sched.vruntime < entry(l)->sched.vruntime - vruntime) {
        for (l = rq->queue.next; l != &rq->queue; l = l->next)
            if (vt_before(vruntime, entry(l)->sched.vruntime))
                break;
        return l->prev;
    }
    while (l != &rq->queue && vt_before(vruntime, entry(l)->sched.vruntime))
        l = l->prev;
    return l;
}

static u32 movable(const struct runq *rq, const struct vcpu *v)
{
    return v->sched.only_cpu != rq->cpu;
}

void rq_insert(struct runq *rq, struct vcpu *v)
{
    list_add(&v->sched.node, insertion_point(rq, v->sched.vruntime));
    write_once(v->sched.state, SV_QUEUED);
    write_once(rq->nr_queued, rq->nr_queued + 1);
    write_once(rq->nr_movable, rq->nr_movable + movable(rq, v));
    publish(rq);
}

void rq_remove(struct runq *rq, struct vcpu *v)
{
    list_del(&v->sched.node);
    write_once(v->sched.state, SV_OFF);
    write_once(rq->nr_queued, rq->nr_queued - 1);
    write_once(rq->nr_movable, rq->nr_movable - movable(rq, v));
    publish(rq);
}

void rq_charge(struct runq *rq, u64 now)
{
    struct vcpu *v = rq->curr;
    u64 ran = now - v->sched.charged;

    if (v == rq->idle || (s64)ran <= 0)
        return;
    v->sched.charged = now;
    v->sched.vruntime += to_virtual(v, ran);
    if (read_once(v->domain->sched.cap))
        cap_charge(v->domain, ran);
    rq_advance(rq);
}

void rq_advance(struct runq *rq)
{
    bool busy = rq->curr != rq->idle;
    u64 least;

    if (!busy && list_empty(&rq->queue))
        return;
    least = busy ? rq->curr->sched.vruntime : rq->head;
    if (!list_empty(&rq->queue))
        least = vt_min(least, rq->head);
    if (vt_before(rq->vtime, least))
        write_once(rq->vtime, least);
}

void rq_admit(struct runq *rq, struct vcpu *v, u64 credit)
{
    /* An idle CPU's clock stood still; it goes on from where the others are. */
    if (rq->curr == rq->idle && list_empty(&rq->queue))
        write_once(rq->vtime, vt_max(v->sched.vruntime, lag_floor()));
    v->sched.vruntime = vt_max(v->sched.vruntime, rq->vtime - credit);
    v->sched.vruntime = vt_min(v->sched.vruntime, rq->vtime + LEAD_MAX + to_virtual(v, SLICE_MAX));
}

void rq_limit_lead(struct runq *rq)
{
    u64 limit = lag_floor() + LEAD_MAX, excess = rq->vtime - limit;
    struct vcpu *v;

    if (!vt_before(limit, rq->vtime))
        return;
    write_once(rq->vtime, limit);
    if (rq->curr != rq->idle)
        rq->curr->sched.vruntime -= excess;
    list_for_each(v, &rq->queue, sched.node)
        v->sched.vruntime -= excess;
    publish(rq);
}

void runstate_change(struct vcpu *v, u32 state, u64 now)
{
    struct vcpu_runstate *r = &v->runstate;

    if (r->state == state)
        return;
    trace(TRC_SCHED_RUNSTATE_CHANGE | r->state << 8 | state << 4, v->id | (u32)v->domain->id << 16);
    if ((s64)(now - r->entry_time) > 0) {
        r->time[r->state] += now - r->entry_time;
        r->entry_time = now;
    }
    r->state = state;
}
