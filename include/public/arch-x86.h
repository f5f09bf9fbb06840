/* SPDX-License-Identifier: MIT */
/*
 * The x86 part of the guest ABI: registers, segment selectors, the addresses that belong to the
 * hypervisor. Facts from Xen 4.17's public/arch-x86/xen.h, xen-x86_64.h and xen-x86_32.h. A constant that
 * Xen's headers define per word size carries _64 or _32 here.
 */
#ifndef PUBLIC_ARCH_X86_H
#define PUBLIC_ARCH_X86_H

#include <pvisor/abi.h>

/* Selectors of the flat segments that every guest finds in its GDT. */
#define FLAT_RING1_CS   0xe019 /* 32-bit guests: kernel */
#define FLAT_RING1_DS   0xe021
#define FLAT_RING1_SS   0xe021
#define FLAT_RING3_CS   0xe02b /* 32-bit guests: user */
#define FLAT_RING3_DS   0xe033
#define FLAT_RING3_SS   0xe033
#define FLAT_RING3_CS32 0xe023 /* 64-bit guests */
#define FLAT_RING3_CS64 0xe033
#define FLAT_RING3_DS32 0xe02b
#define FLAT_RING3_DS64 0x0000
#define FLAT_RING3_SS32 0xe02b
#define FLAT_RING3_SS64 0xe02b

/* Linear addresses that belong to the hypervisor, and where a guest finds the machine-to-physical table. */
#define HYPERVISOR_VIRT_START_64     0xFFFF800000000000UL
#define HYPERVISOR_VIRT_END_64       0xFFFF880000000000UL
#define MACH2PHYS_VIRT_START_64      0xFFFF800000000000UL
#define MACH2PHYS_VIRT_END_64        0xFFFF804000000000UL
#define HYPERVISOR_VIRT_START_PAE    0xF5800000UL
#define MACH2PHYS_VIRT_START_PAE     0xF5800000UL
#define MACH2PHYS_VIRT_END_PAE       0xF6800000UL
#define HYPERVISOR_VIRT_START_NONPAE 0xFC000000UL
#define MACH2PHYS_VIRT_START_NONPAE  0xFC000000UL
#define MACH2PHYS_VIRT_END_NONPAE    0xFC400000UL

/* The GDT's last pages are the hypervisor's; a guest's own may take entries below this one. */
#define FIRST_RESERVED_GDT_PAGE  14
#define FIRST_RESERVED_GDT_BYTE  (FIRST_RESERVED_GDT_PAGE * 4096)
#define FIRST_RESERVED_GDT_ENTRY (FIRST_RESERVED_GDT_BYTE / 8)

/* vCPUs whose vcpu_info can live in shared_info. */
#define XEN_LEGACY_MAX_VCPUS 32

/* set_segment_base */
#define SEGBASE_FS          0
#define SEGBASE_GS_USER     1
#define SEGBASE_GS_KERNEL   2
#define SEGBASE_GS_USER_SEL 3

/* flags: bits 0-1 the least privileged ring that may INT here, bit 2 set: events masked on entry. */
#define TRAP_INFO_FIELDS(X) X(U8, vector) X(U8, flags) X(U16, cs) X(LONG, address)
ABI_STRUCT(trap_info, TRAP_INFO_FIELDS)
#define TI_DPL_MASK 3
#define TI_IF       4

struct cpu_user_regs_64 {
    u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    u32 error_code;
    u32 entry_vector;
    u64 rip;
    u16 cs, _pad0[1];
    u8 saved_upcall_mask;
    u8 _pad1[3];
    u64 rflags;
    u64 rsp;
    u16 ss, _pad2[3];
    u16 es, _pad3[3];
    u16 ds, _pad4[3];
    u16 fs, _pad5[3];
    u16 gs, _pad6[3];
};

struct cpu_user_regs_32 {
    u32 ebx, ecx, edx, esi, edi, ebp, eax;
    u16 error_code;
    u16 entry_vector;
    u32 eip;
    u16 cs;
    u8 saved_upcall_mask;
    u8 _pad0;
    u32 eflags;
    u32 esp;
    u16 ss, _pad1;
    u16 es, _pad2;
    u16 ds, _pad3;
    u16 fs, _pad4;
    u16 gs, _pad5;
};

/* What a 64-bit guest's kernel stack holds when it makes the iret hypercall; rax is the lowest. */
struct iret_context {
    u64 rax, r11, rcx, flags, rip, cs, rflags, rsp, ss;
};

#define _VGCF_i387_valid               0
#define VGCF_i387_valid                (1 << _VGCF_i387_valid)
#define _VGCF_in_kernel                2
#define VGCF_in_kernel                 (1 << _VGCF_in_kernel)
#define _VGCF_failsafe_disables_events 3
#define VGCF_failsafe_disables_events  (1 << _VGCF_failsafe_disables_events)
#define _VGCF_syscall_disables_events  4
#define VGCF_syscall_disables_events   (1 << _VGCF_syscall_disables_events)
#define _VGCF_online                   5
#define VGCF_online                    (1 << _VGCF_online)
#define _VGCF_in_syscall               8 /* of iret_context.flags: return by SYSRET */
#define VGCF_in_syscall                (1 << _VGCF_in_syscall)

/* A vCPU's whole state, in VCPUOP_initialise and XEN_DOMCTL_{get,set}vcpucontext. */
struct vcpu_guest_context_64 {
    u8 fpu_ctxt[512];
    u64 flags;
    struct cpu_user_regs_64 user_regs;
    struct trap_info_l64 trap_ctxt[256];
    u64 ldt_base, ldt_ents;
    u64 gdt_frames[16], gdt_ents;
    u64 kernel_ss, kernel_sp;
    u64 ctrlreg[8];
    u64 debugreg[8];
    u64 event_callback_eip;
    u64 failsafe_callback_eip;
    u64 syscall_callback_eip;
    u64 vm_assist;
    u64 fs_base;
    u64 gs_base_kernel;
    u64 gs_base_user;
};

struct vcpu_guest_context_32 {
    u8 fpu_ctxt[512];
    u32 flags;
    struct cpu_user_regs_32 user_regs;
    struct trap_info_l32 trap_ctxt[256];
    u32 ldt_base, ldt_ents;
    u32 gdt_frames[16], gdt_ents;
    u32 kernel_ss, kernel_sp;
    u32 ctrlreg[8];
    u32 debugreg[8];
    u32 event_callback_cs;
    u32 event_callback_eip;
    u32 failsafe_callback_cs;
    u32 failsafe_callback_eip;
    u32 vm_assist;
};

/* 32-bit PAE: the L3's frame number rotated into a 32-bit CR3 (above 4 GiB too). 64-bit: a plain shift. */
#define XEN_PFN_TO_CR3_32(pfn) ((u32)((u32)(pfn) << 12 | (u32)(pfn) >> 20))
#define XEN_CR3_TO_PFN_32(cr3) ((u32)((u32)(cr3) >> 12 | (u32)(cr3) << 20))

#define ARCH_VCPU_INFO_FIELDS(X) X(LONG, cr2) X(LONG, pad) X(U32_IN32, pad32, [4])
ABI_STRUCT(arch_vcpu_info, ARCH_VCPU_INFO_FIELDS)

#define ARCH_SHARED_INFO_FIELDS(X)                                              \
    X(LONG, max_pfn) X(LONG, pfn_to_mfn_frame_list_list) X(LONG, nmi_reason)    \
    X(LONG, p2m_cr3) X(LONG, p2m_vaddr) X(LONG, p2m_generation) X(U32_IN32, wc_sec_hi)
ABI_STRUCT(arch_shared_info, ARCH_SHARED_INFO_FIELDS)

/* Emulated devices, asked for by XEN_DOMCTL_createdomain; a PV domain has at most the PIT. */
#define XEN_X86_EMU_LAPIC    (1U << 0)
#define XEN_X86_EMU_HPET     (1U << 1)
#define XEN_X86_EMU_PM       (1U << 2)
#define XEN_X86_EMU_RTC      (1U << 3)
#define XEN_X86_EMU_IOAPIC   (1U << 4)
#define XEN_X86_EMU_PIC      (1U << 5)
#define XEN_X86_EMU_VGA      (1U << 6)
#define XEN_X86_EMU_IOMMU    (1U << 7)
#define XEN_X86_EMU_PIT      (1U << 8)
#define XEN_X86_EMU_USE_PIRQ (1U << 9)
#define XEN_X86_EMU_VPCI     (1U << 10)
#define XEN_X86_EMU_ALL      0x7ffU
#define XEN_X86_MSR_RELAXED  (1U << 0)
#define XEN_X86_MISC_FLAGS_MAX XEN_X86_MSR_RELAXED

struct xen_arch_domainconfig {
    u32 emulation_flags;
    u32 misc_flags;
};

#define XEN_CPUID_NO_SUBLEAF 0xffffffffU
struct xen_cpuid_leaf {
    u32 leaf, subleaf;
    u32 a, b, c, d;
};

struct xen_msr_entry {
    u32 idx;
    u32 flags; /* must be zero */
    u64 val;
};

/* ud2a; "xen": before CPUID it asks the hypervisor to answer, even in user mode. */
#define XEN_EMULATE_PREFIX_BYTES { 0x0f, 0x0b, 0x78, 0x65, 0x6e }

#endif
