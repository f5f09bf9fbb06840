/*
 * The scheduler: fair shares by weight among runnable vCPUs, per-CPU run queues with stealing
 * (docs/scheduler.md). What it chooses is switched to by pv/switch.c; all here is plain logic, tested on
 * the host.
 *
 * A vCPU's state here is written under the lock of the run queue of v->cpu, and v->cpu changes only under
 * that lock. v->is_running stays set from when a CPU picks v until context_saved(v): meanwhile v does not
 * leave that CPU's queue.
 */
#ifndef PVISOR_SCHED_H
#define PVISOR_SCHED_H

#include <pvisor/cpumask.h>
#include <pvisor/list.h>
#include <pvisor/timer.h>
#include <pvisor/types.h>

struct cpupool;
struct vcpu;
struct domain;

#define SCHED_WEIGHT_DEFAULT 256

struct sched_vcpu {
    struct list node;            /* in a run queue, by rising vruntime; or empty */
    u64 vruntime;                /* ns of service, times SCHED_WEIGHT_DEFAULT / weight */
    u64 start;                   /* its last switch-in, ns */
    u64 charged;                 /* service is accounted up to here */
    cpumask_t hard_affinity, soft_affinity;
    u32 only_cpu;                /* that hard_affinity has; NR_CPUS: it has several */
    u8 state;                    /* SV_*, private to the scheduler */
    bool yielding;
    bool migrating;              /* to be placed anew once its registers are saved */
};

/* A domain's parameters. All of its vCPUs have its weight each; the cap is for their sum. */
struct sched_domain {
    struct cpupool *pool;        /* the idle domain has none */
    u32 weight;                  /* never 0 */
    u32 cap;                     /* percent of one CPU; 0: none */
    s64 budget;                  /* ns left to run in this period; below 0: overrun, carried on */
    s64 carry;                   /* what of it is made up for missed periods; refill()'s */
    s32 nr_running;              /* vCPUs on a CPU now */
    struct timer refill;
    bool refilling;              /* the timer is set, or its function will set it */
    struct timer watchdog[2];    /* SCHEDOP_watchdog */
    u8 watchdogs_in_use;         /* bit n: slot n; under the domain's lock */
};

void sched_init(void);                   /* once, before any domain; makes idle_domain */
/* A new domain, before its first vCPU: weight 256, no cap, in this CPU pool. 0 or as cpupool_enter(). */
int sched_init_domain(struct domain *d, u32 pool);
/* On CPU cpu itself, on its final stack: softirqs, timers, run queue, and its idle vCPU as current. */
void sched_init_cpu(unsigned cpu);
/* What sched_init_cpu() does, for a CPU that was offline. */
void sched_return_cpu(unsigned cpu);
/* For a CPU that has left cpu_online_map and its pool, called on another: moves its queue and timers away. */
void sched_fini_cpu(unsigned cpu);
int sched_init_vcpu(struct vcpu *v);     /* v is VPF_DOWN and has domain and id; 0 */
void vcpu_start_ticking(struct vcpu *v); /* v has its first context */
void sched_destroy_vcpu(struct vcpu *v); /* no longer runnable, not running */
void sched_destroy_domain(struct domain *d);
/* vcpu_timer.c: a vCPU's timers, after sched_init_vcpu(); a domain's watchdogs. */
void vcpu_timers_init(struct vcpu *v);
void vcpu_timers_kill(struct vcpu *v);
void domain_watchdogs_init(struct domain *d);
void domain_watchdogs_kill(struct domain *d);

/* What an idle vCPU runs, for ever, from the base of its CPU's stack. */
void sched_idle_loop(void) __attribute__((noreturn));

/* The current vCPU waits for an event; returns at once, the switch happens on the way out. */
void vcpu_block(void);
void vcpu_yield(void);
/* Something that v waits for happened: clears VPF_BLOCKED and makes it runnable if nothing else holds it. */
void vcpu_unblock(struct vcpu *v);
/* pause_flags changed: put v on or take it off its run queue. Any context; rank SCHED is taken. */
void vcpu_wake(struct vcpu *v);
void vcpu_sleep_nowait(struct vcpu *v);
/* Also waits until v's registers are saved. v is not current, and nothing is held that v may wait for. */
void vcpu_sleep_sync(struct vcpu *v);
bool vcpu_runnable(const struct vcpu *v);
/* This CPU is not v's: makes it look at v's events soon if v runs there. */
void vcpu_kick(struct vcpu *v);
/* An NMI for a vCPU (common/vcpu_op.c): wakes it, and is delivered when its kernel can take it. */
void vcpu_send_nmi(struct vcpu *v);

int vcpu_set_hard_affinity(struct vcpu *v, const cpumask_t *m);   /* -EINVAL: no CPU of its pool in m */
void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *m);
/* Weight 1..65535 (default 256), cap in percent up to 65535 (0: none). -EINVAL outside. */
int sched_set_params(struct domain *d, u32 weight, u32 cap);
void sched_get_params(const struct domain *d, u32 *weight, u32 *cap);
/* A vCPU in this pool runs at least this long before one that wakes up preempts it; us: 0, or 100 to 500000. -EINVAL outside. */
int sched_set_ratelimit(struct cpupool *p, u32 us);
void sched_dump(void);                                            /* debug key 'r' */
u64 vcpu_runtime(struct vcpu *v);                                 /* ns in RUNSTATE_running, up to now */
/* v's runstate with the time up to now added, for readers. */
void vcpu_runstate_get(struct vcpu *v, u64 time[4], u32 *state, u64 *entry);

/* XEN_DOMCTL_scheduler_op and XEN_SYSCTL_scheduler_op: it appears as credit2, per domain or pool. 0, -EINVAL or -ESRCH. */
struct xen_domctl_scheduler_op;
struct xen_sysctl_scheduler_op;
s64 sched_domctl(struct domain *d, struct xen_domctl_scheduler_op *op);
s64 sched_sysctl(struct xen_sysctl_scheduler_op *op);

/*
 * What this CPU runs next; NULL: what it runs already. SOFTIRQ_SCHEDULE calls it, and makes the vCPU current: interrupts are off from
 * here on, and context_saved() is called once the registers of the one before are saved.
 */
struct vcpu *sched_choose(void);
/* After a switch away from prev is complete and its registers are saved: it may run elsewhere. */
void context_saved(struct vcpu *prev);

#endif
