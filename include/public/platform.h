/* SPDX-License-Identifier: MIT */
/*
 * platform_op: what dom0 tells and asks about the machine. Facts from Xen 4.17's public/platform.h.
 *
 * struct xen_platform_op holds the arguments that have one layout. The others are described apart, and are
 * decoded from u.pad: XENPF_firmware_info's are pieces (xenpf_fw_*) that stand in place of
 * xenpf_firmware_info.u, at XENPF_FIRMWARE_INFO_U.
 */
#ifndef PUBLIC_PLATFORM_H
#define PUBLIC_PLATFORM_H

#include <public/xen.h>

#define XENPF_INTERFACE_VERSION 0x03000001

#define XENPF_settime32            17
#define XENPF_add_memtype          31
#define XENPF_del_memtype          32
#define XENPF_read_memtype         33
#define XENPF_microcode_update     35
#define XENPF_platform_quirk       39
#define XENPF_get_cpu_version      48
#define XENPF_efi_runtime_call     49
#define XENPF_firmware_info        50
#define XENPF_enter_acpi_sleep     51
#define XENPF_change_freq          52
#define XENPF_getidletime          53
#define XENPF_set_processor_pminfo 54
#define XENPF_get_cpuinfo          55
#define XENPF_cpu_online           56
#define XENPF_cpu_offline          57
#define XENPF_cpu_hotadd           58
#define XENPF_mem_hotadd           59
#define XENPF_core_parking         60
#define XENPF_resource_op          61
#define XENPF_settime64            62
#define XENPF_get_symbol           63
#define XENPF_get_dom0_console     64
#define XENPF_get_ucode_revision   65
#define XENPF_microcode_update2    66

/* Wall clock at system time system_time (ns): secs and nsecs since 1970. */
struct xenpf_settime32 {
    u32 secs;
    u32 nsecs;
    u64 system_time;
};

struct xenpf_settime64 {
    u64 secs;
    u32 nsecs;
    u32 mbz;
    u64 system_time;
};

#define XENPF_ADD_MEMTYPE_FIELDS(X)                                             \
    X(LONG, mfn) X(U64, nr_mfns) X(U32, type) X(U32, handle) X(U32, reg)
ABI_STRUCT(xenpf_add_memtype, XENPF_ADD_MEMTYPE_FIELDS)

struct xenpf_del_memtype {
    u32 handle;
    u32 reg;
};

#define XENPF_READ_MEMTYPE_FIELDS(X) X(U32, reg) X(LONG, mfn) X(U64, nr_mfns) X(U32, type)
ABI_STRUCT(xenpf_read_memtype, XENPF_READ_MEMTYPE_FIELDS)

#define XENPF_MICROCODE_UPDATE_FIELDS(X) X(PTR, data) X(U32, length)
ABI_STRUCT(xenpf_microcode_update, XENPF_MICROCODE_UPDATE_FIELDS)

#define QUIRK_NOIRQBALANCING     1
#define QUIRK_IOAPIC_BAD_REGSEL  2
#define QUIRK_IOAPIC_GOOD_REGSEL 3
struct xenpf_platform_quirk {
    u32 quirk_id;
};

#define XEN_EFI_get_time                       1
#define XEN_EFI_set_time                       2
#define XEN_EFI_get_wakeup_time                3
#define XEN_EFI_set_wakeup_time                4
#define XEN_EFI_get_next_high_monotonic_count  5
#define XEN_EFI_get_variable                   6
#define XEN_EFI_set_variable                   7
#define XEN_EFI_get_next_variable_name         8
#define XEN_EFI_query_variable_info            9
#define XEN_EFI_query_capsule_capabilities    10
#define XEN_EFI_update_capsule                11

struct xenpf_efi_time {
    u16 year;
    u8 month;
    u8 day;
    u8 hour;
    u8 min;
    u8 sec;
    u32 ns;
    s16 tz;
    u8 daylight;
};

struct xenpf_efi_guid {
    u32 data1;
    u16 data2;
    u16 data3;
    u8 data4[8];
};

#define XEN_EFI_GET_TIME_SET_CLEARS_NS      0x00000001
#define XEN_EFI_GET_WAKEUP_TIME_ENABLED     0x00000001
#define XEN_EFI_GET_WAKEUP_TIME_PENDING     0x00000002
#define XEN_EFI_SET_WAKEUP_TIME_ENABLE      0x00000001
#define XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY 0x00000002
#define XEN_EFI_VARIABLE_NON_VOLATILE       0x00000001
#define XEN_EFI_VARIABLE_BOOTSERVICE_ACCESS 0x00000002
#define XEN_EFI_VARIABLE_RUNTIME_ACCESS     0x00000004
#define XEN_EFI_VARINFO_BOOT_SNAPSHOT       0x00000001

/*
 * XENPF_efi_runtime_call: which service, what goes with it and comes from it (flags; a variable's attributes; a count), what the firmware
 * answered. What follows is each service's own: the whole is described for each.
 */
#define XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(U32, function) X(U32, misc) X(LONG, status)
#define XENPF_EFI_GET_TIME_FIELDS(X)                                            \
    XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(PLAIN(xenpf_efi_time), time) X(U32, resolution) X(U32, accuracy)
#define XENPF_EFI_SET_TIME_FIELDS(X) XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(PLAIN(xenpf_efi_time), time)
#define XENPF_EFI_VARIABLE_FIELDS(X)                                            \
    XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(PTR, name) X(LONG, size) X(PTR, data) X(PLAIN(xenpf_efi_guid), vendor_guid)
#define XENPF_EFI_NEXT_VARIABLE_FIELDS(X)                                       \
    XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(LONG, size) X(PTR, name) X(PLAIN(xenpf_efi_guid), vendor_guid)
#define XENPF_EFI_VARIABLE_INFO_FIELDS(X)                                       \
    XENPF_EFI_RUNTIME_CALL_FIELDS(X) X(U32, attr) X(U64, max_store_size) X(U64, remain_store_size) X(U64, max_size)
ABI_STRUCT(xenpf_efi_runtime_call, XENPF_EFI_RUNTIME_CALL_FIELDS)
ABI_STRUCT(xenpf_efi_get_time, XENPF_EFI_GET_TIME_FIELDS)
ABI_STRUCT(xenpf_efi_set_time, XENPF_EFI_SET_TIME_FIELDS)
ABI_STRUCT(xenpf_efi_variable, XENPF_EFI_VARIABLE_FIELDS)
ABI_STRUCT(xenpf_efi_next_variable, XENPF_EFI_NEXT_VARIABLE_FIELDS)
ABI_STRUCT(xenpf_efi_variable_info, XENPF_EFI_VARIABLE_INFO_FIELDS)

/* XENPF_firmware_info */
#define XEN_FW_DISK_INFO            1 /* EDD, BIOS int 13h */
#define XEN_FW_DISK_MBR_SIGNATURE   2
#define XEN_FW_VBEDDC_INFO          3 /* EDID of the monitor */
#define XEN_FW_EFI_INFO             4
#define XEN_FW_KBD_SHIFT_FLAGS      5 /* BIOS int 16h */
#define XEN_FW_EFI_VERSION          0
#define XEN_FW_EFI_CONFIG_TABLE     1
#define XEN_FW_EFI_VENDOR           2
#define XEN_FW_EFI_MEM_INFO         3
#define XEN_FW_EFI_RT_VERSION       4
#define XEN_FW_EFI_PCI_ROM          5
#define XEN_FW_EFI_APPLE_PROPERTIES 6
#define XENPF_FIRMWARE_INFO_U       8 /* offset of the union below type and index */

struct xenpf_firmware_info {
    u32 type;
    u32 index;
    union {
        struct {
            u8 device;
            u32 mbr_signature;
        } disk_mbr_signature;
        union {
            u32 version;
        } efi_info;
        u8 kbd_shift_flags;
    } u;
};

#define XENPF_FW_DISK_INFO_FIELDS(X)                                            \
    X(U8, device) X(U8, version) X(U16, interface_support) X(U16, legacy_max_cylinder) \
    X(U8, legacy_max_head) X(U8, legacy_sectors_per_track) X(PTR, edd_params)
ABI_STRUCT(xenpf_fw_disk_info, XENPF_FW_DISK_INFO_FIELDS)

#define XENPF_FW_VBEDDC_INFO_FIELDS(X) X(U8, capabilities) X(U8, edid_transfer_time) X(PTR, edid)
ABI_STRUCT(xenpf_fw_vbeddc_info, XENPF_FW_VBEDDC_INFO_FIELDS)

#define XENPF_FW_EFI_CFG_FIELDS(X) X(U64, addr) X(U32, nent)
ABI_STRUCT(xenpf_fw_efi_cfg, XENPF_FW_EFI_CFG_FIELDS)

#define XENPF_FW_EFI_VENDOR_FIELDS(X) X(U32, revision) X(U32, bufsz) X(PTR, name)
ABI_STRUCT(xenpf_fw_efi_vendor, XENPF_FW_EFI_VENDOR_FIELDS)

#define XENPF_FW_EFI_MEM_FIELDS(X) X(U64, addr) X(U64, size) X(U64, attr) X(U32, type)
ABI_STRUCT(xenpf_fw_efi_mem, XENPF_FW_EFI_MEM_FIELDS)

#define XENPF_ACPI_SLEEP_EXTENDED 0x00000001
struct xenpf_enter_acpi_sleep {
    u16 val_a; /* for PM1a_CNT, or (EXTENDED) the sleep control register */
    u16 val_b;
    u32 sleep_state; /* S-state: 5 is power-off */
    u32 flags;
};

struct xenpf_change_freq {
    u32 flags;
    u32 cpu;
    u64 freq;
};

#define XENPF_GETIDLETIME_FIELDS(X) X(PTR, cpumap_bitmap) X(U32, cpumap_nr_cpus) X(PTR, idletime) X(U64, now)
ABI_STRUCT(xenpf_getidletime, XENPF_GETIDLETIME_FIELDS)

/* XENPF_set_processor_pminfo: a CPU's idle or performance states, or what _PDC is told. Here are its first words; one of these follows. */
#define XEN_PM_CX  0
#define XEN_PM_PX  1
#define XEN_PM_TX  2
#define XEN_PM_PDC 3 /* a pointer to u32[]: revision, how many follow, capabilities (in and out) */
struct xenpf_pminfo_head {
    u32 id; /* as ACPI's tables number CPUs */
    u32 type;
};

#define XEN_POWER_REGISTER_FIELDS(X) X(U32, space_id) X(U32, bit_width) X(U32, bit_offset) X(U32, access_size) X(U64, address)
ABI_STRUCT(xen_power_register, XEN_POWER_REGISTER_FIELDS)

#define XEN_PROCESSOR_CX_FIELDS(X) \
    X(STRUCT(xen_power_register), reg) X(U8, type) X(U32, latency) X(U32, power) X(U32, dpcnt) X(PTR, dp)
ABI_STRUCT(xen_processor_cx, XEN_PROCESSOR_CX_FIELDS)

#define XEN_PROCESSOR_POWER_FIELDS(X) X(U32, count) X(U32, flags) X(PTR, states)
ABI_STRUCT(xen_processor_power, XEN_PROCESSOR_POWER_FIELDS)

struct xen_processor_px {
    u64 core_frequency; /* MHz */
    u64 power;          /* mW */
    u64 transition_latency, bus_master_latency; /* us */
    u64 control;
    u64 status;
};

#define XEN_PCT_REGISTER_FIELDS(X) \
    X(U8, descriptor) X(U16, length) X(U8, space_id) X(U8, bit_width) X(U8, bit_offset) X(U8, reserved) X(U64, address)
ABI_STRUCT(xen_pct_register, XEN_PCT_REGISTER_FIELDS)

#define XEN_PSD_PACKAGE_FIELDS(X) X(U64, num_entries) X(U64, revision) X(U64, domain) X(U64, coord_type) X(U64, num_processors)
ABI_STRUCT(xen_psd_package, XEN_PSD_PACKAGE_FIELDS)

#define XEN_PX_PSS 2 /* states are there */
#define XEN_PROCESSOR_PERFORMANCE_FIELDS(X) \
    X(U32, flags) X(U32, platform_limit) X(STRUCT(xen_pct_register), control_register) X(STRUCT(xen_pct_register), status_register) \
    X(U32, state_count) X(PTR, states) X(STRUCT(xen_psd_package), domain_info) X(U32, shared_type)
ABI_STRUCT(xen_processor_performance, XEN_PROCESSOR_PERFORMANCE_FIELDS)

#define XEN_PCPU_FLAGS_ONLINE  1
#define XEN_PCPU_FLAGS_INVALID 2
struct xenpf_pcpuinfo {
    u32 xen_cpuid; /* in */
    u32 max_present;
    u32 flags;
    u32 apic_id;
    u32 acpi_id;
};

struct xenpf_pcpu_version {
    u32 xen_cpuid; /* in */
    u32 max_present;
    char vendor_id[12];
    u32 family;
    u32 model;
    u32 stepping;
};

struct xenpf_cpu_ol {
    u32 cpuid;
};

struct xenpf_cpu_hotadd {
    u32 apic_id;
    u32 acpi_id;
    u32 pxm;
};

struct xenpf_mem_hotadd {
    u64 spfn;
    u64 epfn;
    u32 pxm;
    u32 flags;
};

#define XEN_CORE_PARKING_SET 1
#define XEN_CORE_PARKING_GET 2
struct xenpf_core_parking {
    u32 type;
    u32 idle_nums;
};

#define XEN_RESOURCE_OP_MSR_READ  0
#define XEN_RESOURCE_OP_MSR_WRITE 1
struct xenpf_resource_entry {
    union {
        u32 cmd;
        s32 ret;
    } u;
    u32 rsvd;
    u64 idx;
    u64 val;
};

#define XENPF_RESOURCE_OP_FIELDS(X) X(U32, nr_entries) X(U32, cpu) X(PTR, entries)
ABI_STRUCT(xenpf_resource_op, XENPF_RESOURCE_OP_FIELDS)

#define XENPF_SYMDATA_FIELDS(X) X(U32, namelen) X(U32, symnum) X(PTR, name) X(U64, address) X(CHAR, type)
ABI_STRUCT(xenpf_symdata, XENPF_SYMDATA_FIELDS)

struct xenpf_ucode_revision {
    u32 cpu; /* in */
    u32 signature; /* CPUID leaf 1, eax */
    u32 pf; /* Intel: a bit for the platform */
    u32 revision;
};

#define XENPF_UCODE_FORCE 1
#define XENPF_MICROCODE_UPDATE2_FIELDS(X) X(U32, flags) X(U32, length) X(PTR, data)
ABI_STRUCT(xenpf_microcode_update2, XENPF_MICROCODE_UPDATE2_FIELDS)

struct xen_platform_op {
    u32 cmd;
    u32 interface_version;
    union {
        struct xenpf_settime32 settime32;
        struct xenpf_settime64 settime64;
        struct xenpf_del_memtype del_memtype;
        struct xenpf_platform_quirk platform_quirk;
        struct xenpf_firmware_info firmware_info;
        struct xenpf_enter_acpi_sleep enter_acpi_sleep;
        struct xenpf_change_freq change_freq;
        struct xenpf_pminfo_head set_pminfo;
        struct xenpf_pcpuinfo pcpu_info;
        struct xenpf_pcpu_version pcpu_version;
        struct xenpf_cpu_ol cpu_ol;
        struct xenpf_cpu_hotadd cpu_add;
        struct xenpf_mem_hotadd mem_add;
        struct xenpf_core_parking core_parking;
        struct xenpf_ucode_revision ucode_revision;
        struct dom0_vga_console_info dom0_console;
        u8 pad[128];
    } u;
};

#endif
