/*
 * Choosing what runs next, waking and sleeping.
 *
 * sched_choose() runs as the last softirq on the way out to a guest or in the idle loop. There is one stack per CPU: a switch to
 * what it chose starts again from the base of the stack.
 */
#include <asm/atomic.h>
#include <asm/idle.h>
#include <asm/x86.h>
#include <public/vcpu.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "internal.h"

bool vcpu_runnable(const struct vcpu *v)
{
    return !read_once(v->pause_flags);
}

/* --- Schedule -------------------------------------------------------------------------------------- */

static bool is_idle(const struct runq *rq, const struct vcpu *v)
{
    return v == rq->idle;
}

static struct vcpu *first_queued(const struct runq *rq)
{
    return list_empty(&rq->queue) ? NULL : list_first(&rq->queue, struct vcpu, sched.node);
}

/*
 * Parks v if its domain's cap is used up. The refill adds to the budget first and then looks for the
 * parked; here it is the other way round, so that one of the two sees the other.
 */
static bool park(struct vcpu *v)
{
    if (!cap_exhausted(v->domain))
        return false;
    __atomic_store_n(&v->sched.state, SV_PARKED, __ATOMIC_SEQ_CST);
    if (cap_exhausted(v->domain))
        return true;
    write_once(v->sched.state, SV_OFF);
    return false;
}

/* Decides what becomes of prev. True if it may go on here. */
static bool settle_prev(struct runq *rq, struct vcpu *prev)
{
    if (is_idle(rq, prev))
        return false;
    write_once(prev->sched.state, SV_OFF);
    prev->sched.migrating = false;
    if (!vcpu_runnable(prev) || park(prev))
        return false;
    prev->sched.migrating = better_elsewhere(prev, rq->cpu);
    return !prev->sched.migrating;
}

static struct vcpu *head_to_run(struct runq *rq)
{
    struct vcpu *v;

    while ((v = first_queued(rq)) != NULL && cap_exhausted(v->domain)) {
        rq_remove(rq, v);
        if (!park(v))
            rq_insert(rq, v);
    }
    return v;
}

/* a has had so much less service than b that it need not wait for the end of b's slice. */
static bool preempts(const struct vcpu *a, const struct vcpu *b)
{
    return vt_before(a->sched.vruntime + to_virtual(a, WAKE_MARGIN), b->sched.vruntime);
}

/*
 * The one with the least service; but who runs keeps the CPU for its slice, and for the shortest time that
 * a switch is worth.
 */
static struct vcpu *pick(struct runq *rq, struct vcpu *prev, bool stays, u64 now)
{
    struct vcpu *head = head_to_run(rq);

    if (!stays)
        return head ? head : rq->idle;
    if (!head)
        return prev;
    if (prev->sched.yielding) {
        /* It gives up what it was behind, or it would be back at once. */
        prev->sched.vruntime = vt_max(prev->sched.vruntime, head->sched.vruntime);
        return head;
    }
    if (now - prev->sched.start < MICROSECS(read_once(rq->ratelimit_us)))
        return prev;
    if (now < rq->slice_end)
        return preempts(head, prev) ? head : prev;
    return vt_before(head->sched.vruntime, prev->sched.vruntime) ? head : prev;
}

/* When this CPU decides anew though nothing happens. */
static void set_slice(struct runq *rq, const struct vcpu *prev, struct vcpu *next, u64 now)
{
    struct vcpu *head = first_queued(rq);
    u64 slice = TICK, limit = next->sched.start + MICROSECS(read_once(rq->ratelimit_us));

    if (is_idle(rq, next)) {
        timer_stop(&rq->slice);
        return;
    }
    if (head)
        slice = max(min(ROUND / (rq->nr_queued + 1), SLICE_MAX), SLICE_MIN);
    if (next != prev || now >= rq->slice_end)
        rq->slice_end = now + slice;
    else
        rq->slice_end = min(rq->slice_end, now + slice);
    if (head && now < limit && preempts(head, next))
        rq->slice_end = limit;
    rq->slice_end = min(rq->slice_end, now + cap_slice(next->domain, slice));
    timer_set(&rq->slice, rq->slice_end);
}

static u32 stopped_runstate(const struct vcpu *v)
{
    u32 flags = read_once(v->pause_flags);

    return !flags ? RUNSTATE_runnable : flags & VPF_BLOCKED ? RUNSTATE_blocked : RUNSTATE_offline;
}

/* ns, of which there are more than records have room for when a CPU was idle for long. */
static u32 traced_time(u64 since, u64 now) { return now - since > UINT32_MAX ? UINT32_MAX : (u32)(now - since); }

/* How long next may run is not known yet: 0, which tools pass over. */
static __attribute__((noinline)) void trace_switch(const struct vcpu *prev, const struct vcpu *next, u64 now)
{
    u32 ran = traced_time(prev->runstate.entry_time, now), waited = traced_time(next->runstate.entry_time, now);

    trace(TRC_SCHED_SWITCH_INFPREV, prev->domain->id, prev->id, ran);
    trace(TRC_SCHED_SWITCH_INFNEXT, next->domain->id, next->id, next->runstate.state == RUNSTATE_runnable ? waited : 0, 0);
    trace(TRC_SCHED_SWITCH, prev->domain->id, prev->id, next->domain->id, next->id);
}

static void switch_states(struct runq *rq, struct vcpu *prev, struct vcpu *next, u64 now)
{
    write_once(next->cpu, rq->cpu);
    write_once(next->sched.state, SV_RUNNING);
    next->sched.yielding = false;
    if (prev == next)
        return;
    if (tracing())
        trace_switch(prev, next, now);
    runstate_change(prev, is_idle(rq, prev) ? RUNSTATE_runnable : stopped_runstate(prev), now);
    runstate_change(next, RUNSTATE_running, now);
    next->sched.start = next->sched.charged = now;
    write_once(next->is_running, true);
    atomic_add_return(&prev->domain->sched.nr_running, -1);
    atomic_add_return(&next->domain->sched.nr_running, 1);
    vcpu_ticks_again(next);
}

/*
 * Brings a vCPU here if one waits on another CPU that is worse off than ours, or if we have none. No lock
 * held. A CPU without work enters idle_cpus first and looks at the queues then: see kick_idle_for().
 */
static void look_around(struct runq *rq, u64 now)
{
    u64 flags = spin_lock_irqsave(&rq->lock), best = 0;
    struct vcpu *head = first_queued(rq), *curr = rq->curr;
    bool stays, have;

    rq_charge(rq, now);
    stays = !is_idle(rq, curr) && vcpu_runnable(curr) && !cap_exhausted(curr->domain);
    have = stays || head;
    if (stays)
        best = curr->sched.vruntime;
    if (head)
        best = stays ? vt_min(best, head->sched.vruntime) : head->sched.vruntime;
    if (!have)
        cpumask_set(&idle_cpus, rq->cpu);
    unlock_rq(rq, flags);

    if (have && (!stays || (s64)(now - rq->next_balance) < 0))
        return;
    rq->next_balance = now + BALANCE_PERIOD;
    steal_work(rq, have, best);
    update_lag_floor();
}

static void mark_idle(struct runq *rq, bool idle)
{
    write_once(rq->busy, !idle);
    if (idle)
        cpumask_set(&idle_cpus, rq->cpu);
    else if (cpumask_test(&idle_cpus, rq->cpu))
        cpumask_clear(&idle_cpus, rq->cpu);
}

struct vcpu *sched_choose(void)
{
    struct runq *rq = &this_cpu(runqs);
    struct vcpu *prev = rq->curr, *next;
    u64 now = now_ns(), flags;
    bool stays;

    look_around(rq, now);
    flags = spin_lock_irqsave(&rq->lock);
    rq_limit_lead(rq);
    stays = settle_prev(rq, prev);
    next = pick(rq, prev, stays, now);
    if (next->sched.state == SV_QUEUED)
        rq_remove(rq, next);
    if (stays && next != prev)
        rq_insert(rq, prev);
    rq->curr = next;
    mark_idle(rq, is_idle(rq, next));
    rq_advance(rq);
    switch_states(rq, prev, next, now);
    set_slice(rq, prev, next, now);
    if (next == prev) {
        unlock_rq(rq, flags);
        return NULL;
    }
    spin_unlock(&rq->lock);
    if (is_idle(rq, prev))
        pass_on_work();
    return next;
}

/*
 * What prev could not do while its registers were here: go where it must or likes to, or be taken by an idle
 * CPU from our queue.
 */
void context_saved(struct vcpu *prev)
{
    u64 flags;
    struct runq *rq = lock_rq_of(prev, &flags);
    bool moves;

    write_once(prev->is_running, false);
    if (prev->sched.state == SV_QUEUED && prev != rq->idle) {
        if (better_elsewhere(prev, rq->cpu)) {
            rq_remove(rq, prev);
            prev->sched.migrating = true;
        } else {
            kick_idle_for(prev);
        }
    }
    moves = prev->sched.migrating && prev->sched.state == SV_OFF && vcpu_runnable(prev);
    prev->sched.migrating = false;
    unlock_rq(rq, flags);
    if (moves)
        vcpu_wake(prev);
}

/* --- Waking and sleeping --------------------------------------------------------------------------- */

/* Queues v, which is nowhere, on its CPU, and sees to it that a CPU takes notice. */
static void enqueue(struct runq *rq, struct vcpu *v, u64 now)
{
    rq_charge(rq, now);
    rq_admit(rq, v, to_virtual(v, WAKE_CREDIT));
    rq_insert(rq, v);
    rq_advance(rq);
    if (is_idle(rq, rq->curr) || preempts(v, rq->curr))
        raise_softirq_on(rq->cpu, SOFTIRQ_SCHEDULE);
    if (is_idle(rq, rq->curr) && rq->nr_queued == 1)
        cpumask_clear(&idle_cpus, rq->cpu);   /* taken: the next to wake looks elsewhere */
    else
        kick_idle_for(v);
}

/* v is neither queued, running nor parked, nor on its way to another CPU by context_saved(). */
static bool needs_place(const struct vcpu *v)
{
    return v->sched.state == SV_OFF && vcpu_runnable(v) && !(v->is_running && v->sched.migrating);
}

void vcpu_wake(struct vcpu *v)
{
    u64 flags, now = now_ns();
    struct runq *rq = lock_rq_of(v, &flags);

    trace(TRC_SCHED_WAKE, v->domain->id, v->id);
    if (!vcpu_runnable(v)) {
        if (v->runstate.state == RUNSTATE_blocked && !(read_once(v->pause_flags) & VPF_BLOCKED))
            runstate_change(v, RUNSTATE_offline, now);
    } else if (v->runstate.state >= RUNSTATE_blocked) {
        runstate_change(v, RUNSTATE_runnable, now);
    }
    while (needs_place(v) && !v->is_running) {
        unsigned cpu = choose_cpu(v);

        write_once(v->cpu, cpu);
        if (cpu == rq->cpu)
            break;
        /* Whoever comes first to the new queue's lock puts it there. */
        unlock_rq(rq, flags);
        rq = lock_rq_of(v, &flags);
        /* Has that CPU left the pool? Asked with the lock held: sched_clear_cpu() takes it to look for what is left there. */
        if (likely(allowed_on(v, rq->cpu)))
            break;
    }
    if (needs_place(v))
        enqueue(rq, v, now);
    unlock_rq(rq, flags);
}

void vcpu_unpark(struct vcpu *v)
{
    u64 flags;
    struct runq *rq = lock_rq_of(v, &flags);

    if (v->sched.state == SV_PARKED)
        write_once(v->sched.state, SV_OFF);
    else if (v->sched.state == SV_QUEUED)
        kick_idle_for(v);
    unlock_rq(rq, flags);
    vcpu_wake(v);
}

void vcpu_sleep_nowait(struct vcpu *v)
{
    u64 flags;
    struct runq *rq = lock_rq_of(v, &flags);

    trace(TRC_SCHED_SLEEP, v->domain->id, v->id);
    if (!vcpu_runnable(v)) {
        if (v->sched.state == SV_RUNNING)
            raise_softirq_on(rq->cpu, SOFTIRQ_SCHEDULE);
        else if (v->sched.state == SV_QUEUED)
            rq_remove(rq, v);
        else
            write_once(v->sched.state, SV_OFF);
        if (v->runstate.state == RUNSTATE_runnable)
            runstate_change(v, stopped_runstate(v), now_ns());
    }
    unlock_rq(rq, flags);
}

void vcpu_sleep_sync(struct vcpu *v)
{
    ASSERT(v != current);
    vcpu_sleep_nowait(v);
    while (!vcpu_runnable(v) && __atomic_load_n(&v->is_running, __ATOMIC_ACQUIRE))
        cpu_relax();
}

/* Who makes an event pending looks at VPF_BLOCKED afterwards: one of the two sees the other. */
void vcpu_block(void)
{
    struct vcpu *v = current;

    atomic_or(&v->pause_flags, VPF_BLOCKED);
    if (vcpu_event_pending(v)) {
        atomic_and(&v->pause_flags, ~VPF_BLOCKED);
        return;
    }
    trace(TRC_SCHED_BLOCK, v->domain->id, v->id);
    raise_softirq(SOFTIRQ_SCHEDULE);
}

/* Read without locks: a vCPU that comes to a queue meanwhile gets its turn as on any other day. */
static bool anybody_waits(void)
{
    unsigned cpu;

    for_each_online_cpu(cpu)
        if (read_once(rq_of(cpu)->nr_queued))
            return true;
    return false;
}

void vcpu_yield(void)
{
    if (!anybody_waits())
        return;
    trace(TRC_SCHED_YIELD, current->domain->id, current->id);
    current->sched.yielding = true;
    raise_softirq(SOFTIRQ_SCHEDULE);
}

void vcpu_unblock(struct vcpu *v)
{
    write_once(v->poll_active, false);
    if (__atomic_fetch_and(&v->pause_flags, ~VPF_BLOCKED, __ATOMIC_SEQ_CST) & VPF_BLOCKED)
        vcpu_wake(v);
}

void vcpu_kick(struct vcpu *v)
{
    unsigned cpu = read_once(v->cpu);

    smp_mb();
    if (read_once(v->is_running) && cpu != this_cpu_id())
        lapic_send_ipi(cpu, VEC_EVENT_CHECK);
}

/* --- CPUs ------------------------------------------------------------------------------------------ */

static void slice_over(void *)
{
    raise_softirq(SOFTIRQ_SCHEDULE);
}

static struct vcpu *make_idle_vcpu(unsigned cpu)
{
    struct vcpu *v = idle_domain->vcpu[cpu];

    if (!v)
        v = xzalloc(struct vcpu);
    if (!v)
        panic("No memory for CPU%u's idle vCPU", cpu);
    idle_domain->vcpu[cpu] = v;
    v->domain = idle_domain;
    v->id = v->cpu = cpu;
    v->is_initialised = v->is_running = true;
    v->info_mfn = INVALID_MFN;
    v->sched.state = SV_RUNNING;
    list_init(&v->sched.node);
    v->sched.hard_affinity = v->sched.soft_affinity = cpumask_of(cpu);
    v->sched.only_cpu = cpu;
    v->runstate.state = RUNSTATE_running;
    v->runstate.entry_time = now_ns();
    return v;
}

void sched_init(void)
{
    idle_domain = xzalloc(struct domain);
    if (idle_domain)
        idle_domain->vcpu = xzalloc_array(struct vcpu *, NR_CPUS);
    if (!idle_domain || !idle_domain->vcpu)
        panic("No memory for the idle domain");
    idle_domain->id = DOMID_IDLE;
    idle_domain->max_vcpus = NR_CPUS;
    idle_domain->refs = 1;
    idle_domain->sched.weight = SCHED_WEIGHT_DEFAULT;
    spin_lock_init(&idle_domain->lock, RANK_DOMAIN);
    sched_init_dump();
}

void sched_init_cpu(unsigned cpu)
{
    struct runq *rq = rq_of(cpu);

    softirq_init_cpu();
    timer_init_cpu();
    spin_lock_init(&rq->lock, RANK_SCHED);
    rq->cpu = cpu;
    rq->idle = rq->curr = make_idle_vcpu(cpu);
    list_init(&rq->queue);
    rq->nr_queued = rq->nr_movable = 0;
    rq->busy = false;
    timer_init(&rq->slice, slice_over, NULL, cpu);
    cpu_info()->current_vcpu = rq->idle;
    cpumask_set(&idle_cpus, cpu);
}

/* Its queue's lock and its timers' are in use: whose vCPUs and timers were last here still look for them here. */
void sched_return_cpu(unsigned cpu)
{
    struct runq *rq = rq_of(cpu);

    timer_init(&rq->slice, slice_over, NULL, cpu);
    cpu_info()->current_vcpu = rq->idle;
    cpumask_set(&idle_cpus, cpu);
    timer_return_cpu();
}

/* The first in the queue that must go, with the queue locked. */
static struct vcpu *to_leave(struct runq *rq)
{
    struct vcpu *v;

    list_for_each(v, &rq->queue, sched.node)
        if (!v->is_running && !allowed_on(v, rq->cpu))
            return v;
    return NULL;
}

void sched_clear_cpu(unsigned cpu)
{
    struct runq *rq = rq_of(cpu);
    struct vcpu *v;
    u64 flags;

    for (;;) {
        flags = spin_lock_irqsave(&rq->lock);
        v = to_leave(rq);
        if (!v)
            break;
        rq_remove(rq, v);
        unlock_rq(rq, flags);
        vcpu_wake(v);
    }
    if (!is_idle(rq, rq->curr) && !allowed_on(rq->curr, cpu))
        raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
    unlock_rq(rq, flags);
}

void sched_fini_cpu(unsigned cpu)
{
    cpumask_clear(&idle_cpus, cpu);
    sched_clear_cpu(cpu);
    timer_kill(&rq_of(cpu)->slice);
    timer_migrate_all(cpu, this_cpu_id());
    raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
}

/* The last look at the queues comes after this CPU is in idle_cpus, and before it sleeps. */
void sched_idle_loop(void)
{
    struct runq *rq = &this_cpu(runqs);

    for (;;) {
        do_softirq();
        if (!softirq_pending() && cpumask_test(&cpu_online_map, rq->cpu) && steal_work(rq, false, 0))
            raise_softirq(SOFTIRQ_SCHEDULE);
        cpu_wait_for_work();
    }
}
