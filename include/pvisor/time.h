/*
 * System time: nanoseconds since boot, monotonic on all CPUs. Extrapolated from the TSC with a per-CPU
 * scale; guests get the same parameters in vcpu_time_info and so read the same clock.
 */
#ifndef PVISOR_TIME_H
#define PVISOR_TIME_H

#include <pvisor/types.h>

#define SECONDS(n) ((n) * 1000000000UL)
#define MILLISECS(n) ((n) * 1000000UL)
#define MICROSECS(n) ((n) * 1000UL)

struct domain;
struct vcpu;

u64 now_ns(void);
u64 tsc_khz(void);

void time_init(void);                        /* boot CPU: finds and calibrates clocks */
void time_init_cpu(void);                    /* every CPU */
void time_fini_cpu(void);                    /* one that goes offline */
/* Writes the current CPU's time parameters into v's vcpu_time_info, if they changed. */
void vcpu_time_update(struct vcpu *v);
/* Writes the wall clock of d's shared info (adding d's offset). */
void domain_wallclock_update(struct domain *d);
/* Sets the machine's wall clock: secs.nsecs since 1970 at the moment when system time was system_ns. */
void wallclock_set(u64 secs, u32 nsecs, u64 system_ns);
void delay_us(unsigned us);                  /* busy wait; works before time_init by the PIT */

/* This CPU's timer interrupt (irq/lapic.c): at the given system time, or none. For the timer code, which is told by timer_interrupt(). */
void clock_event_set(u64 expires_ns);
void clock_event_off(void);

#endif
