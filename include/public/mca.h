/* SPDX-License-Identifier: MIT */
/* Machine checks: hypercall arch_0. Facts from Xen 4.17's public/arch-x86/xen-mca.h. */
#ifndef PUBLIC_MCA_H
#define PUBLIC_MCA_H

#include <public/xen.h>

#define __HYPERVISOR_mca          __HYPERVISOR_arch_0
#define VIRQ_MCA                  VIRQ_ARCH_0
#define XEN_MCA_INTERFACE_VERSION 0x01ecc003

#define XEN_MC_fetch        1
#define XEN_MC_notifydomain 2
#define XEN_MC_physcpuinfo  3
#define XEN_MC_msrinject    4
#define XEN_MC_mceinject    5
#define XEN_MC_inject_v2    6

/* flags of XEN_MC_fetch: in the first three, out the rest. */
#define XEN_MC_NONURGENT    0x0001
#define XEN_MC_URGENT       0x0002
#define XEN_MC_ACK          0x0004
#define XEN_MC_OK           0x0
#define XEN_MC_FETCHFAILED  0x1
#define XEN_MC_NODATA       0x2

/* Arguments: u32 cmd, u32 interface_version, then the command's structure. */
#define XEN_MC_FETCH_FIELDS(X) X(U32, flags) X(U32, _pad0) X(U64, fetch_id) X(PTR, data)
ABI_STRUCT(xen_mc_fetch, XEN_MC_FETCH_FIELDS)

/* What a fetch writes to data: entries of mi_data, one behind the other, each beginning with its type and size. */
#define MC_TYPE_GLOBAL 0
#define MC_TYPE_BANK   1
#define MC_FLAG_CORRECTABLE   0x01
#define MC_FLAG_UNCORRECTABLE 0x02
#define MC_FLAG_POLLED        0x08
#define MC_FLAG_RESET         0x10
#define XEN_MC_VCPUID_INVALID 0xffff
#define MCINFO_MAXSIZE        768

struct mcinfo_common {
    u16 type, size;
};

struct mcinfo_global {
    struct mcinfo_common common;
    u16 mc_domid, mc_vcpuid;
    u32 mc_socketid;
    u16 mc_coreid, mc_core_threadid;
    u32 mc_apicid, mc_flags;
    u64 mc_gstatus;
};

struct mcinfo_bank {
    struct mcinfo_common common;
    u16 mc_bank, mc_domid;
    u64 mc_status, mc_addr, mc_misc, mc_ctrl2, mc_tsc;
};

struct mc_info {
    u32 mi_nentries, flags;
    u64 mi_data[(MCINFO_MAXSIZE - 1) / 8];
};

/* info: room for ncpus of struct mcinfo_logical_cpu, or NULL, to learn how many there are. ncpus: out, how many were written. */
#define XEN_MC_PHYSCPUINFO_FIELDS(X) X(U32, ncpus) X(U32, _pad0) X(PTR, info)
ABI_STRUCT(xen_mc_physcpuinfo, XEN_MC_PHYSCPUINFO_FIELDS)

#define MC_CAPS_STD_EDX 0
#define MC_CAPS_AMD_EDX 1
#define MC_CAPS_STD_ECX 4
#define MC_CAPS_AMD_ECX 6
#define MC_NCAPS        7

#define MCINFO_MSR_FIELDS(X) X(U64, reg) X(U64, value)
ABI_STRUCT(mcinfo_msr, MCINFO_MSR_FIELDS)

#define MCINFO_LOGICAL_CPU_FIELDS(X) \
    X(U32, mc_cpunr) X(U32, mc_chipid) X(U16, mc_coreid) X(U16, mc_threadid) X(U32, mc_apicid) X(U32, mc_clusterid) \
    X(U32, mc_ncores) X(U32, mc_ncores_active) X(U32, mc_nthreads) X(S32, mc_cpuid_level) X(U32, mc_family) X(U32, mc_vendor) \
    X(U32, mc_model) X(U32, mc_step) X(CHAR, mc_vendorid, [16]) X(CHAR, mc_brandid, [64]) X(U32, mc_cpu_caps, [MC_NCAPS]) \
    X(U32, mc_cache_size) X(U32, mc_cache_alignment) X(S32, mc_nmsrvals) X(STRUCT(mcinfo_msr), mc_msrvalues, [8])
ABI_STRUCT(mcinfo_logical_cpu, MCINFO_LOGICAL_CPU_FIELDS)

#endif
