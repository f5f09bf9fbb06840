/* SPDX-License-Identifier: MIT */
/*
 * domctl: the toolstack's calls on one domain. Facts from public/domctl.h of Xen 4.17 to 4.22. One layout for both word sizes:
 * every u64 is aligned to 8, and every handle is a u64. What a handle points at may still be in words (vCPU contexts, frame lists).
 * Where releases differ, this is what the newest one's tools say and mean; what differs is in common/control/versions.c.
 */
#ifndef PUBLIC_DOMCTL_H
#define PUBLIC_DOMCTL_H

#include <public/xen.h>
#include <public/event_channel.h>
#include <public/grant_table.h>
#include <public/memory.h>

/* By the release that brought it. The last is the newest one that is served. */
#define XEN_DOMCTL_INTERFACE_VERSION_4_17 0x00000015
#define XEN_DOMCTL_INTERFACE_VERSION_4_18 0x00000016
#define XEN_DOMCTL_INTERFACE_VERSION_4_19 0x00000017
#define XEN_DOMCTL_INTERFACE_VERSION_4_22 0x00000018
#define XEN_DOMCTL_INTERFACE_VERSION      XEN_DOMCTL_INTERFACE_VERSION_4_22
/* Of commands whose form does not change any more. */
#define XEN_DOMCTL_INTERFACE_STABLE       0x00000000

#define XEN_DOMCTL_createdomain            1
#define XEN_DOMCTL_destroydomain           2
#define XEN_DOMCTL_pausedomain             3
#define XEN_DOMCTL_unpausedomain           4
#define XEN_DOMCTL_getdomaininfo           5
#define XEN_DOMCTL_setvcpuaffinity         9
#define XEN_DOMCTL_shadow_op              10
#define XEN_DOMCTL_max_mem                11
#define XEN_DOMCTL_setvcpucontext         12
#define XEN_DOMCTL_getvcpucontext         13
#define XEN_DOMCTL_getvcpuinfo            14
#define XEN_DOMCTL_max_vcpus              15
#define XEN_DOMCTL_scheduler_op           16
#define XEN_DOMCTL_setdomainhandle        17
#define XEN_DOMCTL_setdebugging           18
#define XEN_DOMCTL_irq_permission         19
#define XEN_DOMCTL_iomem_permission       20
#define XEN_DOMCTL_ioport_permission      21
#define XEN_DOMCTL_hypercall_init         22
#define XEN_DOMCTL_settimeoffset          24
#define XEN_DOMCTL_getvcpuaffinity        25
#define XEN_DOMCTL_real_mode_area         26
#define XEN_DOMCTL_resumedomain           27
#define XEN_DOMCTL_sendtrigger            28
#define XEN_DOMCTL_subscribe              29
#define XEN_DOMCTL_gethvmcontext          33
#define XEN_DOMCTL_sethvmcontext          34
#define XEN_DOMCTL_set_address_size       35
#define XEN_DOMCTL_get_address_size       36
#define XEN_DOMCTL_assign_device          37
#define XEN_DOMCTL_bind_pt_irq            38
#define XEN_DOMCTL_memory_mapping         39
#define XEN_DOMCTL_ioport_mapping         40
#define XEN_DOMCTL_set_ext_vcpucontext    42
#define XEN_DOMCTL_get_ext_vcpucontext    43
#define XEN_DOMCTL_set_opt_feature        44
#define XEN_DOMCTL_test_assign_device     45
#define XEN_DOMCTL_set_target             46
#define XEN_DOMCTL_deassign_device        47
#define XEN_DOMCTL_unbind_pt_irq          48
#define XEN_DOMCTL_get_device_group       50
#define XEN_DOMCTL_debug_op               54
#define XEN_DOMCTL_gethvmcontext_partial  55
#define XEN_DOMCTL_vm_event_op            56
#define XEN_DOMCTL_mem_sharing_op         57
#define XEN_DOMCTL_gettscinfo             59
#define XEN_DOMCTL_settscinfo             60
#define XEN_DOMCTL_getpageframeinfo3      61
#define XEN_DOMCTL_setvcpuextstate        62
#define XEN_DOMCTL_getvcpuextstate        63
#define XEN_DOMCTL_set_access_required    64
#define XEN_DOMCTL_audit_p2m              65
#define XEN_DOMCTL_set_virq_handler       66
#define XEN_DOMCTL_set_broken_page_p2m    67
#define XEN_DOMCTL_setnodeaffinity        68
#define XEN_DOMCTL_getnodeaffinity        69
#define XEN_DOMCTL_cacheflush             71
#define XEN_DOMCTL_get_vcpu_msrs          72
#define XEN_DOMCTL_set_vcpu_msrs          73
#define XEN_DOMCTL_setvnumainfo           74
#define XEN_DOMCTL_psr_cmt_op             75
#define XEN_DOMCTL_monitor_op             77
#define XEN_DOMCTL_psr_alloc              78
#define XEN_DOMCTL_soft_reset             79
#define XEN_DOMCTL_vuart_op               81
#define XEN_DOMCTL_get_cpu_policy         82
#define XEN_DOMCTL_set_cpu_policy         83
#define XEN_DOMCTL_vmtrace_op             84
#define XEN_DOMCTL_get_paging_mempool_size 85
#define XEN_DOMCTL_set_paging_mempool_size 86
#define XEN_DOMCTL_gsi_permission         88
#define XEN_DOMCTL_set_llc_colors         89
#define XEN_DOMCTL_get_domain_state       90 /* stable */
#define XEN_DOMCTL_gdbsx_guestmemio     1000
#define XEN_DOMCTL_gdbsx_pausevcpu      1001
#define XEN_DOMCTL_gdbsx_unpausevcpu    1002
#define XEN_DOMCTL_gdbsx_domstatus      1003

#define XEN_DOMCTL_CDF_hvm          (1U << 0)
#define XEN_DOMCTL_CDF_hap          (1U << 1)
#define XEN_DOMCTL_CDF_s3_integrity (1U << 2)
#define XEN_DOMCTL_CDF_oos_off      (1U << 3)
#define XEN_DOMCTL_CDF_xs_domain    (1U << 4)
#define XEN_DOMCTL_CDF_iommu        (1U << 5)
#define XEN_DOMCTL_CDF_nested_virt  (1U << 6)
#define XEN_DOMCTL_CDF_vpmu         (1U << 7)
#define XEN_DOMCTL_CDF_MAX          XEN_DOMCTL_CDF_vpmu
#define XEN_DOMCTL_IOMMU_no_sharept (1U << 0)
#define XEN_DOMCTL_IOMMU_MAX        XEN_DOMCTL_IOMMU_no_sharept
#define XEN_DOMCTL_GRANT_version_mask 0xf

/*
 * The new domain's number is xen_domctl.domain, in (DOMID_ANY: any free) and out. Up to 4.21 0 and the reserved numbers mean any, too.
 * flags: XEN_DOMCTL_CDF_*. max_grant_frames, max_maptrack_frames: -1 is the default. grant_opts: highest grant-table version in
 * XEN_DOMCTL_GRANT_version_mask.
 */
#define XEN_DOMCTL_CREATEDOMAIN_FIELDS(X)                                                           \
    X(SINCE_4_17(u32), ssidref)                                                                     \
    X(SINCE_4_17(xen_domain_handle_t), handle)                                                      \
    X(SINCE_4_17(u32), flags)                                                                       \
    X(SINCE_4_17(u32), iommu_opts)                                                                  \
    X(SINCE_4_17(u32), max_vcpus)                                                                   \
    X(SINCE_4_17(u32), max_evtchn_port)                                                             \
    X(SINCE_4_17(s32), max_grant_frames)                                                            \
    X(SINCE_4_17(s32), max_maptrack_frames)                                                         \
    X(SINCE_4_17(u32), grant_opts)                                                                  \
    X(SINCE_4_19(u32), altp2m_opts)                                                                 \
    X(SINCE_4_17(u32), vmtrace_size)                                                                \
    X(SINCE_4_17(u32), cpupool_id)                                                                  \
    X(SINCE_4_17(struct xen_arch_domainconfig), arch)
ABI_VERSIONED(xen_domctl_createdomain, XEN_DOMCTL_CREATEDOMAIN_FIELDS)

#define XEN_DOMINF_dying         (1U << 0)
#define XEN_DOMINF_hvm_guest     (1U << 1)
#define XEN_DOMINF_shutdown      (1U << 2)
#define XEN_DOMINF_paused        (1U << 3) /* by the toolstack */
#define XEN_DOMINF_blocked       (1U << 4) /* every vCPU waits */
#define XEN_DOMINF_running       (1U << 5) /* some vCPU runs */
#define XEN_DOMINF_debugged      (1U << 6)
#define XEN_DOMINF_xs_domain     (1U << 7)
#define XEN_DOMINF_hap           (1U << 8)
#define XEN_DOMINF_shutdownmask  255 /* SHUTDOWN_* */
#define XEN_DOMINF_shutdownshift 16
#define XEN_INVALID_MAX_VCPU_ID  (~0U)

/* Of domain xen_domctl.domain, or -ESRCH; up to 4.17 of the next one if there is none with this number. */
struct xen_domctl_getdomaininfo {
    domid_t domain;
    u16 pad1;
    u32 flags; /* XEN_DOMINF_* */
    u64 tot_pages;
    u64 max_pages;
    u64 outstanding_pages;
    u64 shr_pages;
    u64 paged_pages;
    u64 shared_info_frame;
    u64 cpu_time; /* ns */
    u32 nr_online_vcpus;
    u32 max_vcpu_id;
    u32 ssidref;
    xen_domain_handle_t handle;
    u32 cpupool;
    u8 gpaddr_bits;
    u8 pad2[7];
    struct xen_arch_domainconfig arch_config;
};

#define XEN_DOMCTL_PFINFO_LTAB_SHIFT    28
#define XEN_DOMCTL_PFINFO_NOTAB         (0x0U << 28)
#define XEN_DOMCTL_PFINFO_L1TAB         (0x1U << 28)
#define XEN_DOMCTL_PFINFO_L2TAB         (0x2U << 28)
#define XEN_DOMCTL_PFINFO_L3TAB         (0x3U << 28)
#define XEN_DOMCTL_PFINFO_L4TAB         (0x4U << 28)
#define XEN_DOMCTL_PFINFO_LTABTYPE_MASK (0x7U << 28)
#define XEN_DOMCTL_PFINFO_LPINTAB       (0x1U << 31)
#define XEN_DOMCTL_PFINFO_XTAB          (0xfU << 28) /* no such frame */
#define XEN_DOMCTL_PFINFO_XALLOC        (0xeU << 28)
#define XEN_DOMCTL_PFINFO_BROKEN        (0xdU << 28)
#define XEN_DOMCTL_PFINFO_LTAB_MASK     (0xfU << 28)

/* array: num frame words in, the same words with XEN_DOMCTL_PFINFO_* out. */
struct xen_domctl_getpageframeinfo3 {
    u64 num;
    u64 array;
};

#define XEN_DOMCTL_SHADOW_OP_OFF             0
#define XEN_DOMCTL_SHADOW_OP_ENABLE_TEST     1
#define XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY 2
#define XEN_DOMCTL_SHADOW_OP_CLEAN          11
#define XEN_DOMCTL_SHADOW_OP_PEEK           12
#define XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION 30
#define XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION 31
#define XEN_DOMCTL_SHADOW_OP_ENABLE         32
#define XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT   (1 << 1)
#define XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY  (1 << 2)
#define XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE  (1 << 3)
#define XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL   (1 << 4)
#define XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL    (1 << 0)

struct xen_domctl_shadow_op_stats {
    u32 fault_count;
    u32 dirty_count;
};

struct xen_domctl_shadow_op {
    u32 op;
    u32 mode;
    u32 mb;
    u64 dirty_bitmap __attribute__((aligned(8)));   /* in 32-bit tools too */
    u64 pages; /* in: bits in the bitmap; out: bits written */
    struct xen_domctl_shadow_op_stats stats;
};

struct xen_domctl_max_mem {
    u64 max_memkb;
};

/* ctxt: a vcpu_guest_context in the domain's layout. A null one in setvcpucontext resets the vCPU. */
struct xen_domctl_vcpucontext {
    u32 vcpu;
    u64 ctxt __attribute__((aligned(8)));   /* in 32-bit tools too */
};

struct xen_domctl_getvcpuinfo {
    u32 vcpu; /* in */
    u8 online;
    u8 blocked;
    u8 running;
    u64 cpu_time; /* ns */
    u32 cpu;
};

struct xen_domctl_nodeaffinity {
    struct xenctl_bitmap nodemap;
};

#define XEN_VCPUAFFINITY_HARD  (1U << 0)
#define XEN_VCPUAFFINITY_SOFT  (1U << 1)
#define XEN_VCPUAFFINITY_FORCE (1U << 2)
/* set: in, and out the affinity in effect. */
struct xen_domctl_vcpuaffinity {
    u32 vcpu;
    u32 flags; /* XEN_VCPUAFFINITY_*: which maps are meant */
    struct xenctl_bitmap cpumap_hard;
    struct xenctl_bitmap cpumap_soft;
};

struct xen_domctl_max_vcpus {
    u32 max;
};

#define XEN_SCHEDULER_CREDIT   5
#define XEN_SCHEDULER_CREDIT2  6
#define XEN_SCHEDULER_ARINC653 7
#define XEN_SCHEDULER_RTDS     8
#define XEN_SCHEDULER_NULL     9

#define XEN_DOMCTL_SCHEDOP_putinfo     0
#define XEN_DOMCTL_SCHEDOP_getinfo     1
#define XEN_DOMCTL_SCHEDOP_putvcpuinfo 2
#define XEN_DOMCTL_SCHEDOP_getvcpuinfo 3

struct xen_domctl_sched_credit {
    u16 weight;
    u16 cap; /* percent of one CPU; 0: none */
};

struct xen_domctl_sched_credit2 {
    u16 weight;
    u16 cap;
};

#define XEN_DOMCTL_SCHEDRT_extra (1U << 0)
struct xen_domctl_sched_rtds {
    u32 period;
    u32 budget;
    u32 flags;
};

struct xen_domctl_schedparam_vcpu {
    union {
        struct xen_domctl_sched_credit credit;
        struct xen_domctl_sched_credit2 credit2;
        struct xen_domctl_sched_rtds rtds;
    } u;
    u32 vcpuid;
};

struct xen_domctl_scheduler_op {
    u32 sched_id;
    u32 cmd;
    union {
        struct xen_domctl_sched_credit credit;
        struct xen_domctl_sched_credit2 credit2;
        struct xen_domctl_sched_rtds rtds;
        struct {
            u64 vcpus;
            u32 nr_vcpus;
            u32 padding;
        } v;
    } u;
};

struct xen_domctl_setdomainhandle {
    xen_domain_handle_t handle;
};

struct xen_domctl_setdebugging {
    u8 enable;
};

struct xen_domctl_irq_permission {
    u32 pirq;
    u8 allow_access;
    u8 pad[3];
};

struct xen_domctl_iomem_permission {
    u64 first_mfn;
    u64 nr_mfns;
    u8 allow_access;
};

struct xen_domctl_ioport_permission {
    u32 first_port;
    u32 nr_ports;
    u8 allow_access;
};

struct xen_domctl_hypercall_init {
    u64 gmfn;
};

struct xen_domctl_settimeoffset {
    s64 time_offset_seconds;
};

/* Bits: 64 or 32. */
struct xen_domctl_address_size {
    u32 size;
};

#define XEN_DOMCTL_SENDTRIGGER_NMI   0
#define XEN_DOMCTL_SENDTRIGGER_RESET 1
#define XEN_DOMCTL_SENDTRIGGER_INIT  2
#define XEN_DOMCTL_SENDTRIGGER_POWER 3
#define XEN_DOMCTL_SENDTRIGGER_SLEEP 4
struct xen_domctl_sendtrigger {
    u32 trigger;
    u32 vcpu;
};

#define XEN_DOMCTL_DEV_PCI 0
#define XEN_DOMCTL_DEV_DT  1
#define XEN_DOMCTL_DEV_RDM_RELAXED 1
struct xen_domctl_assign_device {
    u32 dev;   /* XEN_DOMCTL_DEV_* */
    u32 flags;
    union {
        struct {
            u32 machine_sbdf;
        } pci;
        struct {
            u32 size;
            u64 path;
        } dt;
    } u;
};

struct xen_domctl_get_device_group {
    u32 machine_sbdf;
    u32 max_sdevs;
    u32 num_sdevs;
    u64 sdev_array;
};

#define DPCI_ADD_MAPPING    1
#define DPCI_REMOVE_MAPPING 0
struct xen_domctl_memory_mapping {
    u64 first_gfn;
    u64 first_mfn;
    u64 nr_mfns;
    u32 add_mapping;
    u32 padding;
};

struct xen_domctl_ioport_mapping {
    u32 first_gport;
    u32 first_mport;
    u32 nr_ports;
    u32 add_mapping;
};

/* size tells an old caller's shorter structure from this one. mcg_cap begins the machine-check state. */
struct xen_domctl_ext_vcpucontext {
    u32 vcpu;
    u32 size;
    u64 syscall32_callback_eip;
    u64 sysenter_callback_eip;
    u16 syscall32_callback_cs;
    u16 sysenter_callback_cs;
    u8 syscall32_disables_events;
    u8 sysenter_disables_events;
    union {
        u64 mcg_cap;
        struct {
            u64 caps;
            u64 mci_ctl2_bank0;
            u64 mci_ctl2_bank1;
            u64 mcg_ext_ctl;
        } vmce;
    };
};

struct xen_domctl_set_target {
    domid_t target;
};

#define XEN_CPUID_INPUT_UNUSED 0xFFFFFFFFU
/* Counts: in what the arrays hold, out what was written or is needed. err_*: the first entry refused. */
struct xen_domctl_cpu_policy {
    u32 nr_leaves;
    u32 nr_msrs;
    u64 leaves; /* struct xen_cpuid_leaf[] */
    u64 msrs;   /* struct xen_msr_entry[] */
    u32 err_leaf, err_subleaf, err_msr;
};

struct xen_domctl_subscribe {
    u32 port;
};

#define XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF 0
#define XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON  1
struct xen_domctl_debug_op {
    u32 op;
    u32 vcpu;
};

struct xen_domctl_tsc_info {
    u32 tsc_mode; /* 0 default, 1 always emulate, 2 native */
    u32 gtsc_khz;
    u32 incarnation;
    u32 pad;
    u64 elapsed_nsec;
};

struct xen_domctl_set_virq_handler {
    u32 virq;
};

/* buffer null: size is asked for. Content: xcr0, xcr0_accum, then the XSAVE area. */
struct xen_domctl_vcpuextstate {
    u32 vcpu;
    u64 xfeature_mask __attribute__((aligned(8)));  /* in 32-bit tools too */
    u64 size;
    u64 buffer;
};

struct xen_domctl_set_broken_page_p2m {
    u64 pfn;
};

struct xen_domctl_paging_mempool {
    u64 size; /* bytes */
};

struct xen_domctl_vcpu_msr {
    u32 index;
    u32 reserved;
    u64 value;
};

struct xen_domctl_vcpu_msrs {
    u32 vcpu;
    u32 msr_count;
    u64 msrs; /* struct xen_domctl_vcpu_msr[] */
};

struct xen_domctl_vnuma {
    u32 nr_vnodes;
    u32 nr_vmemranges;
    u32 nr_vcpus;
    u32 pad;
    u64 vdistance;
    u64 vcpu_to_vnode;
    u64 vnode_to_pnode;
    u64 vmemrange;
};

#define XEN_DOMCTL_GSI_REVOKE      0
#define XEN_DOMCTL_GSI_GRANT       1
#define XEN_DOMCTL_GSI_ACTION_MASK 1
struct xen_domctl_gsi_permission {
    u32 gsi;
    u32 flags; /* XEN_DOMCTL_GSI_* */
};

struct xen_domctl_set_llc_colors {
    u32 num_llc_colors;
    u32 pad;
    u64 llc_colors; /* u32[] */
};

#define XEN_DOMCTL_GETDOMSTATE_STATE_EXIST    0x0001
#define XEN_DOMCTL_GETDOMSTATE_STATE_SHUTDOWN 0x0002
#define XEN_DOMCTL_GETDOMSTATE_STATE_DYING    0x0004
#define XEN_DOMCTL_GETDOMSTATE_STATE_DEAD     0x0008
#define XEN_DOMCTL_GETDOMSTATE_CAP_CONTROL    0x0001
#define XEN_DOMCTL_GETDOMSTATE_CAP_HARDWARE   0x0002
#define XEN_DOMCTL_GETDOMSTATE_CAP_XENSTORE   0x0004
/*
 * xen_domctl.domain DOMID_INVALID: of a domain whose state has changed since it was asked for last, and which, -ENOENT: there is none.
 * Such a one may have gone: then all is 0. unique_id: no domain before or after has the same.
 */
struct xen_domctl_get_domain_state {
    u16 state; /* XEN_DOMCTL_GETDOMSTATE_STATE_* */
    u16 caps;  /* XEN_DOMCTL_GETDOMSTATE_CAP_* */
    u32 pad0;  /* 0 */
    u64 unique_id;
};

struct xen_domctl {
    u32 cmd;
    u32 interface_version;
    domid_t domain;
    u16 _pad[3];
    union {
        struct xen_domctl_createdomain createdomain;
        struct xen_domctl_getdomaininfo getdomaininfo;
        struct xen_domctl_getpageframeinfo3 getpageframeinfo3;
        struct xen_domctl_nodeaffinity nodeaffinity;
        struct xen_domctl_vcpuaffinity vcpuaffinity;
        struct xen_domctl_shadow_op shadow_op;
        struct xen_domctl_max_mem max_mem;
        struct xen_domctl_vcpucontext vcpucontext;
        struct xen_domctl_getvcpuinfo getvcpuinfo;
        struct xen_domctl_max_vcpus max_vcpus;
        struct xen_domctl_scheduler_op scheduler_op;
        struct xen_domctl_setdomainhandle setdomainhandle;
        struct xen_domctl_setdebugging setdebugging;
        struct xen_domctl_irq_permission irq_permission;
        struct xen_domctl_iomem_permission iomem_permission;
        struct xen_domctl_ioport_permission ioport_permission;
        struct xen_domctl_hypercall_init hypercall_init;
        struct xen_domctl_settimeoffset settimeoffset;
        struct xen_domctl_tsc_info tsc_info;
        struct xen_domctl_address_size address_size;
        struct xen_domctl_sendtrigger sendtrigger;
        struct xen_domctl_get_device_group get_device_group;
        struct xen_domctl_assign_device assign_device;
        struct xen_domctl_memory_mapping memory_mapping;
        struct xen_domctl_ioport_mapping ioport_mapping;
        struct xen_domctl_ext_vcpucontext ext_vcpucontext;
        struct xen_domctl_set_target set_target;
        struct xen_domctl_subscribe subscribe;
        struct xen_domctl_debug_op debug_op;
        struct xen_domctl_cpu_policy cpu_policy;
        struct xen_domctl_vcpuextstate vcpuextstate;
        struct xen_domctl_vcpu_msrs vcpu_msrs;
        struct xen_domctl_set_virq_handler set_virq_handler;
        struct xen_domctl_set_broken_page_p2m set_broken_page_p2m;
        struct xen_domctl_vnuma vnuma;
        struct xen_domctl_paging_mempool paging_mempool;
        struct xen_domctl_gsi_permission gsi_permission;
        struct xen_domctl_set_llc_colors set_llc_colors;
        struct xen_domctl_get_domain_state get_domain_state;
        u8 pad[128];
    } u;
};

#endif
