/* What panic.c and nmi.c share. */
#ifndef ARCH_X86_CPU_INTERNAL_H
#define ARCH_X86_CPU_INTERNAL_H

#include <pvisor/types.h>

/* A line with the function that a lies in; nothing if it lies outside our code. */
void print_symbol(u64 a);
/* Return addresses on this CPU's stack, from the frame pointer bp on; their number, at most max. */
unsigned stack_trace(u64 bp, u64 *trace, unsigned max);

#endif
