/* SPDX-License-Identifier: MIT */
/*
 * sysctl: the toolstack's calls on the whole machine. Facts from public/sysctl.h of Xen 4.17 to 4.22. One layout for both word
 * sizes, as in domctl.h; the versions differ in live patching alone, which is not offered.
 */
#ifndef PUBLIC_SYSCTL_H
#define PUBLIC_SYSCTL_H

#include <public/domctl.h>
#include <public/physdev.h>

/* By the release that brought it. The last is the newest one that is served. */
#define XEN_SYSCTL_INTERFACE_VERSION_4_17 0x00000015
#define XEN_SYSCTL_INTERFACE_VERSION_4_21 0x00000016
#define XEN_SYSCTL_INTERFACE_VERSION      XEN_SYSCTL_INTERFACE_VERSION_4_21

#define XEN_SYSCTL_readconsole            1
#define XEN_SYSCTL_tbuf_op                2
#define XEN_SYSCTL_physinfo               3
#define XEN_SYSCTL_sched_id               4
#define XEN_SYSCTL_perfc_op               5
#define XEN_SYSCTL_getdomaininfolist      6
#define XEN_SYSCTL_debug_keys             7
#define XEN_SYSCTL_getcpuinfo             8
#define XEN_SYSCTL_availheap              9
#define XEN_SYSCTL_get_pmstat            10
#define XEN_SYSCTL_cpu_hotplug           11
#define XEN_SYSCTL_pm_op                 12
#define XEN_SYSCTL_page_offline_op       14
#define XEN_SYSCTL_lockprof_op           15
#define XEN_SYSCTL_cputopoinfo           16
#define XEN_SYSCTL_numainfo              17
#define XEN_SYSCTL_cpupool_op            18
#define XEN_SYSCTL_scheduler_op          19
#define XEN_SYSCTL_coverage_op           20
#define XEN_SYSCTL_psr_cmt_op            21
#define XEN_SYSCTL_pcitopoinfo           22
#define XEN_SYSCTL_psr_alloc             23
#define XEN_SYSCTL_get_cpu_levelling_caps 25
#define XEN_SYSCTL_get_cpu_featureset    26
#define XEN_SYSCTL_livepatch_op          27
#define XEN_SYSCTL_get_cpu_policy        29

struct xen_sysctl_readconsole {
    u8 clear;       /* in: empty the ring */
    u8 incremental; /* in: begin at index, not at the oldest byte */
    u8 pad0, pad1;
    u32 index;      /* in, and out the next one */
    u64 buffer;
    u32 count;      /* in: room; out: bytes */
};

/* Trace buffers: trace.h. */
#define XEN_SYSCTL_TBUFOP_get_info     0
#define XEN_SYSCTL_TBUFOP_set_cpu_mask 1
#define XEN_SYSCTL_TBUFOP_set_evt_mask 2
#define XEN_SYSCTL_TBUFOP_set_size     3
#define XEN_SYSCTL_TBUFOP_enable       4
#define XEN_SYSCTL_TBUFOP_disable      5
struct xen_sysctl_tbuf_op {
    u32 cmd;
    struct xenctl_bitmap cpu_mask;
    u32 evt_mask;   /* in set_evt_mask, out get_info */
    u64 buffer_mfn; /* out: of struct t_info; 0: there is none */
    u32 size;       /* in set_size: pages for each CPU; out get_info: bytes of struct t_info */
};

#define XEN_SYSCTL_PHYSCAP_hvm                (1U << 0)
#define XEN_SYSCTL_PHYSCAP_pv                 (1U << 1)
#define XEN_SYSCTL_PHYSCAP_directio           (1U << 2)
#define XEN_SYSCTL_PHYSCAP_hap                (1U << 3)
#define XEN_SYSCTL_PHYSCAP_shadow             (1U << 4)
#define XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share (1U << 5)
#define XEN_SYSCTL_PHYSCAP_vmtrace            (1U << 6)
#define XEN_SYSCTL_PHYSCAP_vpmu               (1U << 7)
#define XEN_SYSCTL_PHYSCAP_gnttab_v1          (1U << 8)
#define XEN_SYSCTL_PHYSCAP_gnttab_v2          (1U << 9)
#define XEN_SYSCTL_PHYSCAP_MAX                XEN_SYSCTL_PHYSCAP_gnttab_v2

struct xen_sysctl_physinfo {
    u32 threads_per_core;
    u32 cores_per_socket;
    u32 nr_cpus;
    u32 max_cpu_id;
    u32 nr_nodes;
    u32 max_node_id;
    u32 cpu_khz;
    u32 capabilities; /* XEN_SYSCTL_PHYSCAP_* */
    u32 arch_capabilities;
    u32 pad;
    u64 total_pages;
    u64 free_pages;
    u64 scrub_pages;
    u64 outstanding_pages; /* claimed, not yet allocated */
    u64 max_mfn;
    u32 hw_cap[8]; /* the first words of the host's feature set */
};

struct xen_sysctl_sched_id {
    u32 sched_id; /* XEN_SCHEDULER_* */
};

/* buffer: struct xen_domctl_getdomaininfo[], of domains numbered first_domain and up. */
struct xen_sysctl_getdomaininfolist {
    domid_t first_domain;
    u32 max_domains;
    u64 buffer;
    u32 num_domains; /* out */
};

struct xen_sysctl_debug_keys {
    u64 keys;
    u32 nr_keys;
};

struct xen_sysctl_cpuinfo {
    u64 idletime; /* ns */
};

struct xen_sysctl_getcpuinfo {
    u32 max_cpus;
    u64 info; /* struct xen_sysctl_cpuinfo[] */
    u32 nr_cpus; /* out */
};

struct xen_sysctl_availheap {
    u32 min_bitwidth;
    u32 max_bitwidth;
    s32 node; /* -1: all */
    u64 avail_bytes;
};

#define PMSTAT_CATEGORY_MASK 0xf0
#define PMSTAT_PX            0x10
#define PMSTAT_CX            0x20
#define PMSTAT_get_max_px    (PMSTAT_PX | 0x1)
#define PMSTAT_get_pxstat    (PMSTAT_PX | 0x2)
#define PMSTAT_reset_pxstat  (PMSTAT_PX | 0x3)
#define PMSTAT_get_max_cx    (PMSTAT_CX | 0x1)
#define PMSTAT_get_cxstat    (PMSTAT_CX | 0x2)
#define PMSTAT_reset_cxstat  (PMSTAT_CX | 0x3)

struct pm_px_stat {
    u8 total;
    u8 usable;
    u8 last;
    u8 cur;
    u64 trans_pt;
    u64 pt;
};

struct pm_cx_stat {
    u32 nr;
    u32 last;
    u64 idle_time;
    u64 triggers;
    u64 residencies;
    u32 nr_pc;
    u32 nr_cc;
    u64 pc;
    u64 cc;
};

struct xen_sysctl_get_pmstat {
    u32 type;
    u32 cpuid;
    union {
        struct pm_px_stat getpx;
        struct pm_cx_stat getcx;
    } u;
};

/* cmd: those that we know; CPUFREQ_PARA are all about frequencies. */
#define PM_PARA_CATEGORY_MASK              0xf0
#define CPUFREQ_PARA                       0x10
#define XEN_SYSCTL_pm_op_set_sched_opt_smt 0x21
#define XEN_SYSCTL_pm_op_get_max_cstate    0x22
#define XEN_SYSCTL_pm_op_set_max_cstate    0x23
struct xen_sysctl_pm_op {
    u32 cmd;
    u32 cpuid;
    union {
        u32 get_max_cstate;
        u64 get_avgfreq;
        u8 pad[120];
    } u;
};

#define XEN_SYSCTL_CPU_HOTPLUG_ONLINE      0
#define XEN_SYSCTL_CPU_HOTPLUG_OFFLINE     1
#define XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE  2
#define XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE 3
struct xen_sysctl_cpu_hotplug {
    u32 cpu;
    u32 op;
};

#define XEN_INVALID_CORE_ID   (~0U)
#define XEN_INVALID_SOCKET_ID (~0U)
#define XEN_INVALID_NODE_ID   (~0U)
struct xen_sysctl_cputopo {
    u32 core;
    u32 socket;
    u32 node;
};

/* Null array: num_cpus is asked for. */
struct xen_sysctl_cputopoinfo {
    u32 num_cpus;
    u64 cputopo;
};

#define XEN_INVALID_DEV (XEN_INVALID_NODE_ID - 1)
struct xen_sysctl_pcitopoinfo {
    u32 num_devs;
    u64 devs;  /* struct physdev_pci_device[] */
    u64 nodes; /* u32[] */
};

#define XEN_INVALID_MEM_SZ    (~0U)
#define XEN_INVALID_NODE_DIST (~0U)
struct xen_sysctl_meminfo {
    u64 memsize; /* bytes */
    u64 memfree;
};

/* Null arrays: num_nodes is asked for. distance: u32, num_nodes x num_nodes. */
struct xen_sysctl_numainfo {
    u32 num_nodes;
    u64 meminfo;
    u64 distance;
};

#define XEN_SYSCTL_CPUPOOL_OP_CREATE     1
#define XEN_SYSCTL_CPUPOOL_OP_DESTROY    2
#define XEN_SYSCTL_CPUPOOL_OP_INFO       3
#define XEN_SYSCTL_CPUPOOL_OP_ADDCPU     4
#define XEN_SYSCTL_CPUPOOL_OP_RMCPU      5
#define XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN 6
#define XEN_SYSCTL_CPUPOOL_OP_FREEINFO   7
#define XEN_SYSCTL_CPUPOOL_PAR_ANY       0xFFFFFFFFU
struct xen_sysctl_cpupool_op {
    u32 op;
    u32 cpupool_id; /* INFO: in the first to look at, out the one found */
    u32 sched_id;
    u32 domid;
    u32 cpu;
    u32 n_dom;
    struct xenctl_bitmap cpumap;
};

#define XEN_SYSCTL_SCHED_RATELIMIT_MAX   500000
#define XEN_SYSCTL_SCHED_RATELIMIT_MIN   100
#define XEN_SYSCTL_CSCHED_TSLICE_MAX     1000
#define XEN_SYSCTL_CSCHED_TSLICE_MIN     1
#define XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US (100 * 1000)
struct xen_sysctl_credit_schedule {
    u32 tslice_ms;
    u32 ratelimit_us;
    u32 vcpu_migr_delay_us;
};

struct xen_sysctl_credit2_schedule {
    u32 ratelimit_us;
};

#define XEN_SYSCTL_SCHEDOP_putinfo 0
#define XEN_SYSCTL_SCHEDOP_getinfo 1
struct xen_sysctl_scheduler_op {
    u32 cpupool_id;
    u32 sched_id;
    u32 cmd;
    union {
        struct {
            u64 schedule;
        } sched_arinc653;
        struct xen_sysctl_credit_schedule sched_credit;
        struct xen_sysctl_credit2_schedule sched_credit2;
    } u;
};

#define XEN_SYSCTL_CPU_LEVELCAP_faulting    (1UL << 0)
#define XEN_SYSCTL_CPU_LEVELCAP_ecx         (1UL << 1)
#define XEN_SYSCTL_CPU_LEVELCAP_edx         (1UL << 2)
#define XEN_SYSCTL_CPU_LEVELCAP_extd_ecx    (1UL << 3)
#define XEN_SYSCTL_CPU_LEVELCAP_extd_edx    (1UL << 4)
#define XEN_SYSCTL_CPU_LEVELCAP_xsave_eax   (1UL << 5)
#define XEN_SYSCTL_CPU_LEVELCAP_thermal_ecx (1UL << 6)
#define XEN_SYSCTL_CPU_LEVELCAP_l7s0_eax    (1UL << 7)
#define XEN_SYSCTL_CPU_LEVELCAP_l7s0_ebx    (1UL << 8)
struct xen_sysctl_cpu_levelling_caps {
    u32 caps;
};

#define XEN_SYSCTL_cpu_featureset_raw     0
#define XEN_SYSCTL_cpu_featureset_host    1
#define XEN_SYSCTL_cpu_featureset_pv      2
#define XEN_SYSCTL_cpu_featureset_hvm     3
#define XEN_SYSCTL_cpu_featureset_pv_max  4
#define XEN_SYSCTL_cpu_featureset_hvm_max 5
/* Null features: the number of words is asked for. */
struct xen_sysctl_cpu_featureset {
    u32 index;
    u32 nr_features;
    u64 features; /* u32[], words as in cpufeatureset.h */
};

#define XEN_SYSCTL_cpu_policy_raw         0
#define XEN_SYSCTL_cpu_policy_host        1
#define XEN_SYSCTL_cpu_policy_pv_max      2
#define XEN_SYSCTL_cpu_policy_hvm_max     3
#define XEN_SYSCTL_cpu_policy_pv_default  4
#define XEN_SYSCTL_cpu_policy_hvm_default 5
/* Null arrays: the largest counts are asked for. */
struct xen_sysctl_cpu_policy {
    u32 index;
    u32 nr_leaves;
    u32 nr_msrs;
    u32 _rsvd;
    u64 leaves;
    u64 msrs;
};

struct xen_sysctl {
    u32 cmd;
    u32 interface_version;
    union {
        struct xen_sysctl_readconsole readconsole;
        struct xen_sysctl_tbuf_op tbuf_op;
        struct xen_sysctl_physinfo physinfo;
        struct xen_sysctl_cputopoinfo cputopoinfo;
        struct xen_sysctl_pcitopoinfo pcitopoinfo;
        struct xen_sysctl_numainfo numainfo;
        struct xen_sysctl_sched_id sched_id;
        struct xen_sysctl_getdomaininfolist getdomaininfolist;
        struct xen_sysctl_debug_keys debug_keys;
        struct xen_sysctl_getcpuinfo getcpuinfo;
        struct xen_sysctl_availheap availheap;
        struct xen_sysctl_get_pmstat get_pmstat;
        struct xen_sysctl_pm_op pm_op;
        struct xen_sysctl_cpu_hotplug cpu_hotplug;
        struct xen_sysctl_cpupool_op cpupool_op;
        struct xen_sysctl_scheduler_op scheduler_op;
        struct xen_sysctl_cpu_levelling_caps cpu_levelling_caps;
        struct xen_sysctl_cpu_featureset cpu_featureset;
        struct xen_sysctl_cpu_policy cpu_policy;
        u8 pad[128];
    } u;
};

#endif
