/*
 * Text out. dom0 writes to the machine's console by console_io, a domU to its console ring, waiting for the
 * reader when the ring is full, and to console_io too, which a hypervisor may refuse.
 */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include "abi.h"

/* After mm_init(): finds the ring of a domU. What was printed before is lost in a domU. */
void console_init(void);
/* %s %c %d %u %x %p, the numbers with l and ll, a width and 0. */
void printf(const char *format, ...) printf_like(1, 2);
/* printf() into memory, cut to size - 1 characters and a NUL. */
void snprintf(char *out, size_t size, const char *format, ...) printf_like(3, 4);
void vprintf(const char *format, __builtin_va_list args);

#endif
