/* Waiting for work on a CPU that has none. */
#ifndef ASM_IDLE_H
#define ASM_IDLE_H

/* Boot: chooses between HLT and MWAIT (idle=). */
void idle_init(void);
/* Sleeps until an interrupt unless a softirq waits; returns with interrupts on. */
void cpu_wait_for_work(void);

#endif
