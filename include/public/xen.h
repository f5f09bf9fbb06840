/* SPDX-License-Identifier: MIT */
/*
 * The core of the guest ABI: hypercall numbers, virtual interrupts, page-table updates, the start-of-day
 * structure. Facts from Xen 4.17's public/xen.h (interface version 0x00041100).
 */
#ifndef PUBLIC_XEN_H
#define PUBLIC_XEN_H

#include <pvisor/abi.h>
#include <public/arch-x86.h>

#define __HYPERVISOR_set_trap_table               0
#define __HYPERVISOR_mmu_update                   1
#define __HYPERVISOR_set_gdt                      2
#define __HYPERVISOR_stack_switch                 3
#define __HYPERVISOR_set_callbacks                4
#define __HYPERVISOR_fpu_taskswitch               5
#define __HYPERVISOR_sched_op_compat              6
#define __HYPERVISOR_platform_op                  7
#define __HYPERVISOR_set_debugreg                 8
#define __HYPERVISOR_get_debugreg                 9
#define __HYPERVISOR_update_descriptor           10
#define __HYPERVISOR_memory_op                   12
#define __HYPERVISOR_multicall                   13
#define __HYPERVISOR_update_va_mapping           14
#define __HYPERVISOR_set_timer_op                15
#define __HYPERVISOR_event_channel_op_compat     16
#define __HYPERVISOR_xen_version                 17
#define __HYPERVISOR_console_io                  18
#define __HYPERVISOR_physdev_op_compat           19
#define __HYPERVISOR_grant_table_op              20
#define __HYPERVISOR_vm_assist                   21
#define __HYPERVISOR_update_va_mapping_otherdomain 22
#define __HYPERVISOR_iret                        23
#define __HYPERVISOR_vcpu_op                     24
#define __HYPERVISOR_set_segment_base            25
#define __HYPERVISOR_mmuext_op                   26
#define __HYPERVISOR_xsm_op                      27
#define __HYPERVISOR_nmi_op                      28
#define __HYPERVISOR_sched_op                    29
#define __HYPERVISOR_callback_op                 30
#define __HYPERVISOR_xenoprof_op                 31
#define __HYPERVISOR_event_channel_op            32
#define __HYPERVISOR_physdev_op                  33
#define __HYPERVISOR_hvm_op                      34
#define __HYPERVISOR_sysctl                      35
#define __HYPERVISOR_domctl                      36
#define __HYPERVISOR_kexec_op                    37
#define __HYPERVISOR_tmem_op                     38
#define __HYPERVISOR_argo_op                     39
#define __HYPERVISOR_xenpmu_op                   40
#define __HYPERVISOR_dm_op                       41
#define __HYPERVISOR_hypfs_op                    42
#define __HYPERVISOR_arch_0                      48
#define __HYPERVISOR_arch_1                      49
#define __HYPERVISOR_arch_7                      55
#define NR_HYPERCALLS                            64

/* G: one receiver for the whole machine, settable by XEN_DOMCTL_set_virq_handler. V: each vCPU its own. */
#define VIRQ_TIMER      0  /* V */
#define VIRQ_DEBUG      1  /* V */
#define VIRQ_CONSOLE    2  /* G dom0 */
#define VIRQ_DOM_EXC    3  /* G dom0 */
#define VIRQ_TBUF       4  /* G dom0 */
#define VIRQ_DEBUGGER   6  /* G dom0 */
#define VIRQ_XENOPROF   7  /* V */
#define VIRQ_CON_RING   8  /* G dom0 */
#define VIRQ_PCPU_STATE 9  /* G dom0 */
#define VIRQ_MEM_EVENT  10 /* G dom0 */
#define VIRQ_ARGO       11 /* G per domain */
#define VIRQ_ENOMEM     12 /* G dom0 */
#define VIRQ_XENPMU     13 /* V */
#define VIRQ_ARCH_0     16
#define VIRQ_ARCH_7     23
#define NR_VIRQS        24

/* mmu_update: the low two bits of ptr say what is updated. */
#define MMU_NORMAL_PT_UPDATE       0
#define MMU_MACHPHYS_UPDATE        1
#define MMU_PT_UPDATE_PRESERVE_AD  2
#define MMU_PT_UPDATE_NO_TRANSLATE 3

struct mmu_update {
    u64 ptr; /* machine address of the entry, or (MACHPHYS) of the frame */
    u64 val; /* entry's new content, or the pfn. 64 bits even for entries of 4 bytes */
};

#define MMUEXT_PIN_L1_TABLE        0
#define MMUEXT_PIN_L2_TABLE        1
#define MMUEXT_PIN_L3_TABLE        2
#define MMUEXT_PIN_L4_TABLE        3
#define MMUEXT_UNPIN_TABLE         4
#define MMUEXT_NEW_BASEPTR         5
#define MMUEXT_TLB_FLUSH_LOCAL     6
#define MMUEXT_INVLPG_LOCAL        7
#define MMUEXT_TLB_FLUSH_MULTI     8
#define MMUEXT_INVLPG_MULTI        9
#define MMUEXT_TLB_FLUSH_ALL      10
#define MMUEXT_INVLPG_ALL         11
#define MMUEXT_FLUSH_CACHE        12
#define MMUEXT_SET_LDT            13
#define MMUEXT_NEW_USER_BASEPTR   15
#define MMUEXT_CLEAR_PAGE         16
#define MMUEXT_COPY_PAGE          17
#define MMUEXT_FLUSH_CACHE_GLOBAL 18
#define MMUEXT_MARK_SUPER         19
#define MMUEXT_UNMARK_SUPER       20

/*
 * arg1: mfn, or linear_addr (INVLPG_*, SET_LDT). arg2: vcpumask pointer (*_MULTI), src_mfn (COPY_PAGE), or
 * nr_ents (SET_LDT), of which only the low 32 bits count.
 */
#define MMUEXT_OP_FIELDS(X) X(U32, cmd) X(LONG, arg1) X(LONG, arg2)
ABI_STRUCT(mmuext_op, MMUEXT_OP_FIELDS)

/* Flags of update_va_mapping. Without UVMF_ALL, a pointer to a vCPU bitmap may stand in the other bits. */
#define UVMF_NONE           0UL
#define UVMF_TLB_FLUSH      (1UL << 0)
#define UVMF_INVLPG         (2UL << 0)
#define UVMF_FLUSHTYPE_MASK (3UL << 0)
#define UVMF_MULTI          (0UL << 2)
#define UVMF_LOCAL          (0UL << 2)
#define UVMF_ALL            (1UL << 2)

#define CONSOLEIO_write 0
#define CONSOLEIO_read  1

#define VMASST_CMD_enable                 0
#define VMASST_CMD_disable                1
#define VMASST_TYPE_4gb_segments          0
#define VMASST_TYPE_4gb_segments_notify   1
#define VMASST_TYPE_writable_pagetables   2
#define VMASST_TYPE_pae_extended_cr3      3
#define VMASST_TYPE_architectural_iopl    4
#define VMASST_TYPE_runstate_update_flag  5
#define VMASST_TYPE_m2p_strict           32

typedef u16 domid_t;
#define DOMID_FIRST_RESERVED 0x7FF0U
#define DOMID_SELF           0x7FF0U
#define DOMID_IO             0x7FF1U /* owner of I/O memory */
#define DOMID_XEN            0x7FF2U /* owner of pages that the hypervisor shares out */
#define DOMID_COW            0x7FF3U
#define DOMID_INVALID        0x7FF4U
#define DOMID_ANY            0x7FF5U /* 4.22: any free number */
#define DOMID_IDLE           0x7FFFU
#define DOMID_MASK           0x7FFFU

#define MULTICALL_ENTRY_FIELDS(X) X(LONG, op) X(LONG, result) X(LONG, args, [6])
ABI_STRUCT(multicall_entry, MULTICALL_ENTRY_FIELDS)

/* version is odd while the rest changes. ns = system_time + ((tsc - tsc_timestamp) << shift) * mul >> 32. */
struct vcpu_time_info {
    u32 version;
    u32 pad0;
    u64 tsc_timestamp;
    u64 system_time;
    u32 tsc_to_system_mul;
    s8 tsc_shift;
    u8 flags;
    u8 pad1[2];
};
#define XEN_PVCLOCK_TSC_STABLE_BIT (1 << 0)
#define XEN_PVCLOCK_GUEST_STOPPED  (1 << 1)

#define VCPU_INFO_FIELDS(X)                                                     \
    X(U8, evtchn_upcall_pending) X(U8, evtchn_upcall_mask)                      \
    X(LONG, evtchn_pending_sel) X(STRUCT(arch_vcpu_info), arch)                 \
    X(PLAIN(vcpu_time_info), time)
ABI_STRUCT(vcpu_info, VCPU_INFO_FIELDS)

#define SHARED_INFO_FIELDS(X)                                                   \
    X(STRUCT(vcpu_info), vcpu_info, [XEN_LEGACY_MAX_VCPUS])                     \
    X(PORTS, evtchn_pending) X(PORTS, evtchn_mask)                              \
    X(U32, wc_version) X(U32, wc_sec) X(U32, wc_nsec) X(U32_IN64, wc_sec_hi)    \
    X(STRUCT(arch_shared_info), arch)
ABI_STRUCT(shared_info, SHARED_INFO_FIELDS)

/*
 * console_mfn and console_evtchn are a domU's. A dom0 finds two u32 at the offset of console_mfn instead:
 * struct start_info_dom0_console.
 */
#define MAX_GUEST_CMDLINE 1024
#define START_INFO_FIELDS(X)                                                    \
    X(CHAR, magic, [32]) X(LONG, nr_pages) X(LONG, shared_info) X(U32, flags)   \
    X(LONG, store_mfn) X(U32, store_evtchn)                                     \
    X(LONG, console_mfn) X(U32, console_evtchn)                                 \
    X(LONG, pt_base) X(LONG, nr_pt_frames) X(LONG, mfn_list)                    \
    X(LONG, mod_start) X(LONG, mod_len) X(CHAR, cmd_line, [MAX_GUEST_CMDLINE])  \
    X(LONG, first_p2m_pfn) X(LONG, nr_p2m_frames)
ABI_STRUCT(start_info, START_INFO_FIELDS)

struct start_info_dom0_console {
    u32 info_off;  /* of a dom0_vga_console_info, from the start of start_info */
    u32 info_size;
};

#define SIF_PRIVILEGED      (1 << 0)
#define SIF_INITDOMAIN      (1 << 1)
#define SIF_MULTIBOOT_MOD   (1 << 2)
#define SIF_MOD_START_PFN   (1 << 3)
#define SIF_VIRT_P2M_4TOOLS (1 << 4)
#define SIF_PM_MASK         (0xFF << 8)

struct xen_multiboot_mod_list {
    u32 mod_start;
    u32 mod_end;
    u32 cmdline;
    u32 pad;
};

#define XEN_VGATYPE_TEXT_MODE_3 0x03
#define XEN_VGATYPE_VESA_LFB    0x23
#define XEN_VGATYPE_EFI_LFB     0x70

struct dom0_vga_console_info {
    u8 video_type;
    union {
        struct {
            u16 font_height;
            u16 cursor_x, cursor_y;
            u16 rows, columns;
        } text_mode_3;
        struct {
            u16 width, height;
            u16 bytes_per_line;
            u16 bits_per_pixel;
            u32 lfb_base;
            u32 lfb_size; /* in 64 KiB units */
            u8 red_pos, red_size;
            u8 green_pos, green_size;
            u8 blue_pos, blue_size;
            u8 rsvd_pos, rsvd_size;
            u32 gbl_caps;
            u16 mode_attrs;
            u16 pad;
            u32 ext_lfb_base; /* high half of the base; present if info_size covers it */
        } vesa_lfb;
    } u;
};

typedef u8 xen_domain_handle_t[16];

/* A bitmap in guest memory, for the control calls: nr_bits bits at bitmap, whatever the word size. */
struct xenctl_bitmap {
    u64 bitmap;
    u32 nr_bits;
};

#endif
