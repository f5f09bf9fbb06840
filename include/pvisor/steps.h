/*
 * How much a call does between two looks whether it should give way (preempt_needed()), counted in debug builds. A step is some 20 ns of
 * work: a reference taken or dropped. A longer stretch than STEPS_MAX is a fault of ours, which the log names; it also tells
 * of the longest so far, and tests/guests/run looks for both.
 */
#ifndef PVISOR_STEPS_H
#define PVISOR_STEPS_H

#include <asm/percpu.h>

#define STEPS_MAX 20000u        /* 0.4 ms */

#if defined(DEBUG) && !defined(HOST_TEST)
static inline void steps_begin(void) { cpu_info()->steps = cpu_info()->steps_allowed = 0; }   /* each call does so by itself */
static always_inline void steps_add(u64 n) { cpu_info()->steps += (u32)n; }
/* For the rest of this call: work that cannot give way and that docs/architecture.md names as an exception. */
static inline void steps_allow(u64 n) { cpu_info()->steps_allowed += (u32)n; }
void steps_look(void);
#else
static inline void steps_begin(void) { }
static inline void steps_add(u64 n) { (void)n; }
static inline void steps_allow(u64 n) { (void)n; }
static inline void steps_look(void) { }
#endif

#endif
