/* What files of cpu/ share. */
#ifndef ARCH_X86_CPU_INTERNAL_H
#define ARCH_X86_CPU_INTERNAL_H

#include <pvisor/types.h>

/* A line with the function that a lies in; nothing if it lies outside our code. */
void print_symbol(u64 a);

enum cpu_state { CPU_ABSENT, CPU_STARTING, CPU_RUNNING, CPU_STOPPED };
extern u8 cpu_states[];     /* enum cpu_state of each CPU: smp.c, and leave.c when one stops */

#endif
