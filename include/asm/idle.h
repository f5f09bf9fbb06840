/* Waiting for work on a CPU that has none. */
#ifndef ASM_IDLE_H
#define ASM_IDLE_H

#include <pvisor/types.h>

/* Boot: chooses between HLT and MWAIT (idle=). */
void idle_init(void);
/* Sleeps until an interrupt unless a softirq waits; returns with interrupts on. */
void cpu_wait_for_work(void);

/* How often a CPU has waited and for how many ticks of its TSC, with the interrupt that ended each wait. Also of a wait that goes on. */
struct idle_stat { u64 waits, ticks; };
struct idle_stat idle_stat(unsigned cpu);

#endif
