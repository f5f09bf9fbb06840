/* The register frame that arch/x86/entry builds; members in the public 64-bit user_regs order. */
#ifndef ASM_REGS_H
#define ASM_REGS_H

#include <pvisor/types.h>

struct cpu_regs {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    u32 error_code;
    u32 entry_vector;   /* vector, or one of ENTRY_*; bits 31:16 are ours */
    u64 rip;
    u16 cs, cs_pad[3];
    u64 rflags;
    u64 rsp;
    u16 ss, ss_pad[3];
    /* Data segment selectors: valid only in a descheduled vCPU's saved copy. */
    u16 es, es_pad[3], ds, ds_pad[3], fs, fs_pad[3], gs, gs_pad[3];
};

#define ENTRY_SYSCALL  0x100   /* frame built by SYSCALL: may leave by SYSRET */
#define ENTRY_SYSENTER 0x101
#define ENTRY_INT82    0x82
#define ENTRY_SHORT    (1u << 16)   /* beside SYSCALL, in a hypercall: rbx, rbp and r12 to r15 are not in the frame yet */

#endif
