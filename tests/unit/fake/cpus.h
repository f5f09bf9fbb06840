/*
 * Simulated CPUs on a simulated clock, for tests of what schedules and waits. One thread plays all CPUs:
 * sim_on(cpu) says which one runs the code that follows. Time stands still except in sim_run().
 */
#ifndef FAKE_CPUS_H
#define FAKE_CPUS_H

#include <pvisor/domain.h>

#define SIM_MAX_VCPUS 64

/* What a vCPU does: runs for burst, sleeps for pause, and again. burst 0: runs for ever. */
struct sim_vcpu {
    struct vcpu v;
    u64 burst, pause;
    u64 left;              /* of this burst */
    u64 wake_at;           /* 0: not asleep */
    bool event;            /* what vcpu_event_pending() says */
    u64 born;
    u64 woken_at;          /* for latency: 0 when it runs */
    u64 wakes, worst_latency, total_latency;
    u64 starts;            /* how often it was switched to */
    u64 ticks;             /* VIRQ_TIMERs sent to it */
    bool tick_wakes;       /* and they end its pauses */
    bool ran_on[NR_CPUS];
};

extern u64 sim_now;
extern u64 sim_ipis;          /* interrupts that CPUs sent each other so far */
extern bool sim_slow_saves;   /* context_saved() comes late: other CPUs act first */

void sim_start(unsigned cpus);
void sim_on(unsigned cpu);
/* A CPU other than 0 goes offline, and comes back. CPU 0 runs what follows. */
void sim_offline(unsigned cpu);
void sim_online(unsigned cpu);
struct domain *sim_domain(u32 weight, u32 cap);
/* A vCPU of d that behaves as told; started unless burst is ~0. */
struct sim_vcpu *sim_vcpu(struct domain *d, u64 burst, u64 pause);
void sim_run(u64 ns);
/* Lets every CPU do its softirqs until none is left. */
void sim_settle(void);
u64 sim_random(u64 below);
unsigned sim_nr_vcpus(void);
struct sim_vcpu *sim_vcpu_nr(unsigned n);
/* Panics if a CPU idles while a vCPU that may run there waits, a vCPU is lost, or runstate times do not add up. */
void sim_check(void);

#endif
