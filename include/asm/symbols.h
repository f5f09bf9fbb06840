/* Names of our code's addresses, and the way through a stack: arch/x86/lib/symbols.c. */
#ifndef ASM_SYMBOLS_H
#define ASM_SYMBOLS_H

#include <pvisor/types.h>

/* Name of the function that a lies in, its start and size; NULL outside our code. */
const char *symbol_lookup(u64 a, u64 *start, u64 *size);
/* Return addresses on this CPU's stack, from the frame pointer bp on; their number, at most max. */
unsigned stack_trace(u64 bp, u64 *trace, unsigned max);

#endif
