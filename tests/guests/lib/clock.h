/* System time and waiting, in ns. */
#ifndef GUEST_CLOCK_H
#define GUEST_CLOCK_H

#include "abi.h"

#define MS 1000000ULL

u64 rdtsc(void);
/* System time now, by the vCPU's time area and the TSC. */
u64 system_time(void);
u64 scale_tsc(const struct vcpu_time_info *t, u64 tsc);
/* A consistent copy of the vCPU's time area. */
struct vcpu_time_info time_info(unsigned vcpu);
/* One-shot timer of this vCPU; flags: VCPU_SSHOTTMR_*. */
long set_singleshot(u64 deadline, u32 flags);
/*
 * Sets it and blocks until an event comes. Events are masked from before: one that comes on a busy host before the vCPU blocks would be
 * gone by then, and it would sleep for ever.
 */
long sleep_until_event(u64 deadline);
/* Waits until *counter differs from old or ns passed; yields meanwhile. True if it changed. */
bool wait_change(const volatile u32 *counter, u32 old, u64 ns);
/*
 * Blocks until an event comes or system time reaches the deadline. seen: upcall_count as it was before the caller looked
 * whether there is anything to do; if it has changed since, the call returns at once. Takes the timer for itself.
 */
#define FOREVER (~0ULL)
void wait_event(u32 seen, u64 deadline);
void clock_after_suspend(void);     /* as a new domain: it has no port for wait_event() */

#endif
