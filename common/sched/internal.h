/* Run queues and what the scheduler's files share. docs/scheduler.md explains the quantities. */
#ifndef SCHED_INTERNAL_H
#define SCHED_INTERNAL_H

#include <asm/percpu.h>
#include <public/sysctl.h>
#include <pvisor/cpupool.h>
#include <pvisor/domain.h>
#include <pvisor/sched.h>
#include <pvisor/spinlock.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>
#include <pvisor/trace.h>

enum sched_state { SV_OFF, SV_QUEUED, SV_RUNNING, SV_PARKED /* runnable, but its domain's cap is used up */ };

/* All in ns; those called virtual are in units of vruntime. */
#define SLICE_MIN        MILLISECS(1)
#define SLICE_MAX        MILLISECS(8)
#define ROUND            MILLISECS(16)    /* shared by the vCPUs of one CPU; slices are at least SLICE_MIN */
#define TICK             MILLISECS(10)    /* a CPU looks around this often even if nobody waits on it */
#define WAKE_CREDIT      MILLISECS(4)     /* service, at its weight, that a waking vCPU may be behind */
#define WAKE_MARGIN      MICROSECS(500)   /* and how much of that preempts */
#define STEAL_MARGIN     MILLISECS(8)     /* virtual: a queue's head this far behind our best is taken over */
#define LEAD_MAX         MILLISECS(40)    /* virtual: no CPU counts as further ahead of the last one */
#define BALANCE_PERIOD   MILLISECS(4)
#define CAP_PERIOD       MILLISECS(10)
#define CAP_SLICE_MIN    MICROSECS(50)

struct runq {
    spinlock_t lock;             /* RANK_SCHED */
    unsigned cpu;
    u32 ratelimit_us;            /* its pool's */
    struct vcpu *curr, *idle;
    struct list queue;           /* SV_QUEUED, by rising vruntime */
    u64 vtime;                   /* the least vruntime that it had to offer so far */
    u64 next_balance;
    struct timer slice;
    u64 slice_end;
    u64 missed_since;            /* in each round another's lock could not be had; 0: not so. Its CPU's own */

    /* Read by other CPUs without the lock. */
    u32 nr_queued;
    u32 nr_movable;              /* of these, such as may run elsewhere: the others are nothing to look at this queue for */
    bool busy;                   /* curr is not the idle vCPU */
    u64 head;                    /* vruntime of the first in the queue */
};
DECLARE_PERCPU(struct runq, runqs);

extern cpumask_t idle_cpus;      /* CPUs whose current vCPU is, or is about to be, the idle one */

#define rq_of(cpu) (&cpu_var(runqs, cpu))

/* Times on this clock wrap; only differences mean something. */
static inline bool vt_before(u64 a, u64 b) { return (s64)(a - b) < 0; }
static inline u64 vt_max(u64 a, u64 b) { return vt_before(a, b) ? b : a; }
static inline u64 vt_min(u64 a, u64 b) { return vt_before(a, b) ? a : b; }

static inline u32 vcpu_weight(const struct vcpu *v)
{
    return read_once(v->domain->sched.weight);
}

/* ns of service to virtual time. */
static inline u64 to_virtual(const struct vcpu *v, u64 ns)
{
    return ns * SCHED_WEIGHT_DEFAULT / vcpu_weight(v);
}

/* --- runq.c: all with the queue's lock held ---------------------------------------------------------- */

struct runq *lock_rq_of(const struct vcpu *v, u64 *flags);   /* the queue of v->cpu, locked */
void unlock_rq(struct runq *rq, u64 flags);
void rq_insert(struct runq *rq, struct vcpu *v);             /* v->cpu is rq->cpu; keeps its vruntime */
void rq_remove(struct runq *rq, struct vcpu *v);
/* Accounts what curr has run until now. */
void rq_charge(struct runq *rq, u64 now);
void rq_advance(struct runq *rq);                            /* vtime, after curr or the queue changed */
/* Brings the vruntime of a vCPU that comes to rq into the range that fairness there allows. */
void rq_admit(struct runq *rq, struct vcpu *v, u64 credit);
/* Shifts the virtual clock of a CPU that ran ahead because nobody could share it. */
void rq_limit_lead(struct runq *rq);
void runstate_change(struct vcpu *v, u32 state, u64 now);

/* --- place.c ------------------------------------------------------------------------------------------ */

cpumask_t allowed_cpus(const struct vcpu *v);              /* hard affinity, as far as in its pool; never empty */
bool allowed_on(const struct vcpu *v, unsigned cpu);
unsigned choose_cpu(const struct vcpu *v);                 /* where to put v, which is saved and not queued */
bool better_elsewhere(const struct vcpu *v, unsigned cpu); /* must leave cpu, or likes another that is idle */
void kick_idle_for(const struct vcpu *v);                  /* v waits in a queue: has an idle CPU fetch it */
void pass_on_work(void);                                   /* no lock held: the same for all that wait */
/*
 * Brings the vCPU that is most behind to this CPU's queue; no lock held. best: what we have, if have. True: one came, or a queue could
 * not be looked at just now. Nobody stands in line for another's queue before it has missed one for a second: where CPUs are threads of
 * a busy host, a line of ten who all wait their turn to see that there is nothing for them keeps the queue's own CPU from its work for
 * good.
 */
bool steal_work(struct runq *rq, bool have, u64 best);
void update_lag_floor(void);                                 /* looks at all CPUs' virtual clocks */
u64 lag_floor(void);

/* --- cap.c -------------------------------------------------------------------------------------------- */

void cap_charge(struct domain *d, u64 ns);
bool cap_exhausted(struct domain *d);
u64 cap_slice(struct domain *d, u64 slice);
void cap_init(struct domain *d);
void cap_destroy(struct domain *d);
void cap_changed(struct domain *d);

/* core.c: makes a parked vCPU runnable again; one that waits may be taken by an idle CPU again. */
void vcpu_unpark(struct vcpu *v);
/* Whoever waits on this CPU and may not run there any more goes elsewhere at once, and whoever runs there when it decides: now. */
void sched_clear_cpu(unsigned cpu);
/* Where v may or likes to run has changed. */
void sched_place_anew(struct vcpu *v);

/* params.c */
void sched_init_dump(void);

/* ticks.c */
void vcpu_set_next_tick(struct vcpu *v);
/* v begins to run here: is_running is set, by a full barrier, and its queue locked. */
void vcpu_ticks_again(struct vcpu *v);

/* What a rate limit may be, in us: none, or as public/sysctl.h has it. */
static inline bool is_ratelimit(u32 us)
{
    return !us || (us >= XEN_SYSCTL_SCHED_RATELIMIT_MIN && us <= XEN_SYSCTL_SCHED_RATELIMIT_MAX);
}

#endif
