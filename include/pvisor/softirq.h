/* Work put off to the way back to a guest or to the idle loop, run with interrupts on and no locks held. */
#ifndef PVISOR_SOFTIRQ_H
#define PVISOR_SOFTIRQ_H

#include <pvisor/types.h>

enum softirq {
    SOFTIRQ_FREE_FRAMES, /* freed frames wait for a TLB flush; first, and no reason to preempt */
    SOFTIRQ_TIMER,
    SOFTIRQ_TASKLET,     /* deferred work, e.g. finishing a domain's destruction */
    SOFTIRQ_NMI,         /* a hardware NMI to be told of */
    SOFTIRQ_GUEST_NMI,   /* an NMI for a vCPU: no work, but whoever goes to a guest after softirqs looks for one */
    SOFTIRQ_TRACE,       /* this CPU's trace buffer is half full: dom0 is to be told */
    SOFTIRQ_INVARIANT,   /* debug builds: all CPUs stand still for a look */
    SOFTIRQ_SCHEDULE,    /* last: it does not return when another vCPU is to run */
    NR_SOFTIRQS
};

/* On each CPU, on its final stack, before anything is raised for it (sched_init_cpu() calls it). */
void softirq_init_cpu(void);
void softirq_register(enum softirq n, void (*fn)(void));
void raise_softirq(enum softirq n);                       /* on this CPU; any context */
void raise_softirq_on(unsigned cpu, enum softirq n);      /* by IPI if it is another; any context */
/*
 * Runs each waiting softirq once, with interrupts on; returns with interrupts on, or not at all if a switch
 * to another vCPU was due. The way out to a guest calls it until, with interrupts off, softirq_pending() is
 * false.
 */
void do_softirq(void);
bool softirq_pending(void);

/*
 * One-off deferred functions; .fn and .data are set by the owner. Scheduled anew while fn runs it runs again, on another CPU even
 * at the same time: one whose runs must come one after the other is always scheduled on the same CPU.
 */
struct tasklet { struct tasklet *next; void (*fn)(void *); void *data; bool queued; };
void tasklet_schedule(struct tasklet *t);                 /* on this CPU; any context; no effect while it waits to run */
void tasklet_schedule_on(unsigned cpu, struct tasklet *t);

/* True when a long operation should give way: a softirq waits or an event for the current vCPU is due. */
bool preempt_needed(void);

#endif
