/* SPDX-License-Identifier: MIT */
/*
 * memory_op: who has which frames, and where. Facts from Xen 4.17's public/memory.h, the e820 entry from
 * xenctrl.h. Words and handles are common here, so nearly all is described as field lists.
 */
#ifndef PUBLIC_MEMORY_H
#define PUBLIC_MEMORY_H

#include <public/xen.h>

#define XENMEM_increase_reservation       0
#define XENMEM_decrease_reservation       1
#define XENMEM_maximum_ram_page           2
#define XENMEM_current_reservation        3
#define XENMEM_maximum_reservation        4
#define XENMEM_machphys_mfn_list          5
#define XENMEM_populate_physmap           6
#define XENMEM_add_to_physmap             7
#define XENMEM_memory_map                 9
#define XENMEM_machine_memory_map        10
#define XENMEM_exchange                  11
#define XENMEM_machphys_mapping          12
#define XENMEM_set_memory_map            13
#define XENMEM_maximum_gpfn              14
#define XENMEM_remove_from_physmap       15
#define XENMEM_set_pod_target            16
#define XENMEM_get_pod_target            17
#define XENMEM_get_sharing_freed_pages   18
#define XENMEM_get_sharing_shared_pages  19
#define XENMEM_paging_op                 20
#define XENMEM_access_op                 21
#define XENMEM_sharing_op                22
#define XENMEM_add_to_physmap_batch      23
#define XENMEM_claim_pages               24
#define XENMEM_machphys_compat_mfn_list  25
#define XENMEM_get_vnumainfo             26
#define XENMEM_reserved_device_memory_map 27
#define XENMEM_acquire_resource          28

/* mem_flags: bits 0-7 a limit on the address width (0: none), bits 8-15 a node plus one, then flags. */
#define XENMEMF_address_bits(x)     (x)
#define XENMEMF_get_address_bits(x) ((x) & 0xffU)
#define XENMEMF_node(x)             (((x) + 1) << 8)
#define XENMEMF_get_node(x)         ((((x) >> 8) - 1) & 0xffU)
#define XENMEMF_populate_on_demand  (1 << 16)
#define XENMEMF_exact_node_request  (1 << 17)
#define XENMEMF_vnode               (1 << 18)

/* {increase,decrease}_reservation, populate_physmap, claim_pages. extent_start: a list of frame words. */
#define XEN_MEMORY_RESERVATION_FIELDS(X)                                        \
    X(PTR, extent_start) X(LONG, nr_extents) X(U32, extent_order)               \
    X(U32, mem_flags) X(U16, domid)
ABI_STRUCT(xen_memory_reservation, XEN_MEMORY_RESERVATION_FIELDS)

#define XEN_MEMORY_EXCHANGE_FIELDS(X)                                           \
    X(STRUCT(xen_memory_reservation), in) X(STRUCT(xen_memory_reservation), out) \
    X(LONG, nr_exchanged)
ABI_STRUCT(xen_memory_exchange, XEN_MEMORY_EXCHANGE_FIELDS)

/* current_reservation, maximum_reservation, maximum_gpfn */
struct xen_memory_domain {
    domid_t domid;
};

#define XEN_MACHPHYS_MFN_LIST_FIELDS(X) X(U32, max_extents) X(PTR, extent_start) X(U32, nr_extents)
ABI_STRUCT(xen_machphys_mfn_list, XEN_MACHPHYS_MFN_LIST_FIELDS)

#define XEN_MACHPHYS_MAPPING_FIELDS(X) X(LONG, v_start) X(LONG, v_end) X(LONG, max_mfn)
ABI_STRUCT(xen_machphys_mapping, XEN_MACHPHYS_MAPPING_FIELDS)

#define XENMAPSPACE_shared_info  0
#define XENMAPSPACE_grant_table  1
#define XENMAPSPACE_gmfn         2
#define XENMAPSPACE_gmfn_range   3
#define XENMAPSPACE_gmfn_foreign 4
#define XENMAPSPACE_dev_mmio     5
#define XENMAPIDX_grant_table_status 0x80000000U

#define XEN_ADD_TO_PHYSMAP_FIELDS(X)                                            \
    X(U16, domid) X(U16, size) X(U32, space) X(LONG, idx) X(LONG, gpfn)
ABI_STRUCT(xen_add_to_physmap, XEN_ADD_TO_PHYSMAP_FIELDS)

/* foreign_domid: where space is XENMAPSPACE_gmfn_foreign. */
#define XEN_ADD_TO_PHYSMAP_BATCH_FIELDS(X)                                      \
    X(U16, domid) X(U16, space) X(U16, size) X(U16, foreign_domid)              \
    X(PTR, idxs) X(PTR, gpfns) X(PTR, errs)
ABI_STRUCT(xen_add_to_physmap_batch, XEN_ADD_TO_PHYSMAP_BATCH_FIELDS)

#define XEN_REMOVE_FROM_PHYSMAP_FIELDS(X) X(U16, domid) X(LONG, gpfn)
ABI_STRUCT(xen_remove_from_physmap, XEN_REMOVE_FROM_PHYSMAP_FIELDS)

/* [machine_]memory_map. nr_entries: in, how many fit; out, how many there are. buffer: e820entry[]. */
#define XEN_MEMORY_MAP_FIELDS(X) X(U32, nr_entries) X(PTR, buffer)
ABI_STRUCT(xen_memory_map, XEN_MEMORY_MAP_FIELDS)

#define XEN_FOREIGN_MEMORY_MAP_FIELDS(X) X(U16, domid) X(STRUCT(xen_memory_map), map)
ABI_STRUCT(xen_foreign_memory_map, XEN_FOREIGN_MEMORY_MAP_FIELDS)

struct e820entry {
    u64 addr;
    u64 size;
    u32 type;
} __attribute__((packed));
#define E820MAX      128 /* entries that the tools make room for */
#define E820_RAM       1
#define E820_RESERVED  2
#define E820_ACPI      3
#define E820_NVS       4
#define E820_UNUSABLE  5

#define XEN_POD_TARGET_FIELDS(X)                                                \
    X(U64, target_pages) X(U64, tot_pages) X(U64, pod_cache_pages) X(U64, pod_entries) X(U16, domid)
ABI_STRUCT(xen_pod_target, XEN_POD_TARGET_FIELDS)

#define XEN_RESERVED_DEVICE_MEMORY_FIELDS(X) X(LONG, start_pfn) X(LONG, nr_pages)
ABI_STRUCT(xen_reserved_device_memory, XEN_RESERVED_DEVICE_MEMORY_FIELDS)

struct physdev_pci_device {
    u16 seg;
    u8 bus;
    u8 devfn;
};

/* dev: whose regions, unless flags has XENMEM_RDM_ALL. */
#define XENMEM_RDM_ALL 1
#define XEN_RESERVED_DEVICE_MEMORY_MAP_FIELDS(X)                                \
    X(U32, flags) X(U32, nr_entries) X(PTR, buffer) X(PLAIN(physdev_pci_device), dev)
ABI_STRUCT(xen_reserved_device_memory_map, XEN_RESERVED_DEVICE_MEMORY_MAP_FIELDS)

#define XENMEM_resource_ioreq_server            0
#define XENMEM_resource_grant_table             1
#define XENMEM_resource_vmtrace_buf             2
#define XENMEM_resource_grant_table_id_shared   0
#define XENMEM_resource_grant_table_id_status   1
/* A null frame_list with nr_frames 0 asks for the resource's size. */
#define XEN_MEM_ACQUIRE_RESOURCE_FIELDS(X)                                      \
    X(U16, domid) X(U16, type) X(U32, id) X(U32, nr_frames) X(U32, pad)         \
    X(U64, frame) X(PTR, frame_list)
ABI_STRUCT(xen_mem_acquire_resource, XEN_MEM_ACQUIRE_RESOURCE_FIELDS)

struct xen_vmemrange {
    u64 start, end; /* bytes */
    u32 flags;
    u32 nid;
};

/* Each handle sits in a slot of 8 bytes in both layouts. */
#define XEN_VNUMA_TOPOLOGY_INFO_FIELDS(X)                                       \
    X(U16, domid) X(U16, pad) X(U32, nr_vnodes) X(U32, nr_vcpus) X(U32, nr_vmemranges) \
    X(PTR, vdistance) X(U32_IN32, vdistance_pad)                                \
    X(PTR, vcpu_to_vnode) X(U32_IN32, vcpu_to_vnode_pad)                        \
    X(PTR, vmemrange) X(U32_IN32, vmemrange_pad)
ABI_STRUCT(xen_vnuma_topology_info, XEN_VNUMA_TOPOLOGY_INFO_FIELDS)

#endif
