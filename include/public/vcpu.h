/* SPDX-License-Identifier: MIT */
/* vcpu_op: start, stop, timers, and where a vCPU's shared areas lie. Facts from public/vcpu.h of Xen 4.17 and 4.20. */
#ifndef PUBLIC_VCPU_H
#define PUBLIC_VCPU_H

#include <public/xen.h>

#define VCPUOP_initialise                     0
#define VCPUOP_up                             1
#define VCPUOP_down                           2
#define VCPUOP_is_up                          3
#define VCPUOP_get_runstate_info              4
#define VCPUOP_register_runstate_memory_area  5
#define VCPUOP_set_periodic_timer             6
#define VCPUOP_stop_periodic_timer            7
#define VCPUOP_set_singleshot_timer           8
#define VCPUOP_stop_singleshot_timer          9
#define VCPUOP_register_vcpu_info            10
#define VCPUOP_send_nmi                      11
#define VCPUOP_get_physid                    12
#define VCPUOP_register_vcpu_time_memory_area 13
#define VCPUOP_register_runstate_phys_area   14 /* u64: machine address, within a page; ~0: none */
#define VCPUOP_register_vcpu_time_phys_area  15

#define RUNSTATE_running  0
#define RUNSTATE_runnable 1
#define RUNSTATE_blocked  2
#define RUNSTATE_offline  3
#define XEN_RUNSTATE_UPDATE (1ULL << 63) /* in state_entry_time while the rest changes */

/* Times in ns; time[] by RUNSTATE_*. */
#define VCPU_RUNSTATE_INFO_FIELDS(X) X(S32, state) X(U64, state_entry_time) X(U64, time, [4])
ABI_STRUCT(vcpu_runstate_info, VCPU_RUNSTATE_INFO_FIELDS)

/* A linear address in a slot of 8 bytes; a 32-bit guest leaves the upper half undefined. */
#define VCPU_REGISTER_RUNSTATE_MEMORY_AREA_FIELDS(X) X(PTR, addr) X(U32_IN32, pad)
ABI_STRUCT(vcpu_register_runstate_memory_area, VCPU_REGISTER_RUNSTATE_MEMORY_AREA_FIELDS)

#define VCPU_REGISTER_TIME_MEMORY_AREA_FIELDS(X) X(PTR, addr) X(U32_IN32, pad)
ABI_STRUCT(vcpu_register_time_memory_area, VCPU_REGISTER_TIME_MEMORY_AREA_FIELDS)

struct vcpu_set_periodic_timer {
    u64 period_ns;
};

#define _VCPU_SSHOTTMR_future 0
#define VCPU_SSHOTTMR_future  (1U << _VCPU_SSHOTTMR_future) /* -ETIME if already past */
#define VCPU_SET_SINGLESHOT_TIMER_FIELDS(X) X(U64, timeout_abs_ns) X(U32, flags)
ABI_STRUCT(vcpu_set_singleshot_timer, VCPU_SET_SINGLESHOT_TIMER_FIELDS)

struct vcpu_register_vcpu_info {
    u64 mfn;
    u32 offset;
    u32 rsvd;
};

/* phys_id: APIC id in the low half, ACPI id in the high half. */
struct vcpu_get_physid {
    u64 phys_id;
};

#endif
