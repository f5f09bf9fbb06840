/* asm/x86.h, but that CR4 may have any value: Eva knows no assembly. */
#include_next <asm/x86.h>
#ifndef EVA_X86_H
#define EVA_X86_H
u64 any_cr4(void);
#define read_cr4 any_cr4
#endif
