/* SPDX-License-Identifier: MIT */
/*
 * Grant tables: entries that a guest writes to share its frames, and the calls on them. Facts from
 * Xen 4.17's public/grant_table.h.
 */
#ifndef PUBLIC_GRANT_TABLE_H
#define PUBLIC_GRANT_TABLE_H

#include <public/xen.h>

typedef u32 grant_ref_t;
typedef u32 grant_handle_t;
typedef u16 grant_status_t;

struct grant_entry_v1 {
    u16 flags;
    domid_t domid;
    u32 frame;
};

#define GNTTAB_NR_RESERVED_ENTRIES 8
#define GNTTAB_RESERVED_CONSOLE    0
#define GNTTAB_RESERVED_XENSTORE   1

#define GTF_invalid         0U
#define GTF_permit_access   1U
#define GTF_accept_transfer 2U
#define GTF_transitive      3U
#define GTF_type_mask       3U
#define _GTF_readonly       2
#define GTF_readonly        (1U << _GTF_readonly)
#define _GTF_reading        3
#define GTF_reading         (1U << _GTF_reading) /* set by the hypervisor while mapped */
#define _GTF_writing        4
#define GTF_writing         (1U << _GTF_writing)
#define _GTF_PWT            5
#define GTF_PWT             (1U << _GTF_PWT)
#define _GTF_PCD            6
#define GTF_PCD             (1U << _GTF_PCD)
#define _GTF_PAT            7
#define GTF_PAT             (1U << _GTF_PAT)
#define _GTF_sub_page       8
#define GTF_sub_page        (1U << _GTF_sub_page)
#define _GTF_transfer_committed 2
#define GTF_transfer_committed (1U << _GTF_transfer_committed)
#define _GTF_transfer_completed 3
#define GTF_transfer_completed (1U << _GTF_transfer_completed)

struct grant_entry_header {
    u16 flags;
    domid_t domid;
};

union grant_entry_v2 {
    struct grant_entry_header hdr;
    struct {
        struct grant_entry_header hdr;
        u32 pad0;
        u64 frame;
    } full_page;
    struct {
        struct grant_entry_header hdr;
        u16 page_off;
        u16 length;
        u64 frame;
    } sub_page;
    struct {
        struct grant_entry_header hdr;
        domid_t trans_domid;
        u16 pad0;
        grant_ref_t gref;
    } transitive;
    u32 __spacer[4];
};

#define GNTTABOP_map_grant_ref      0
#define GNTTABOP_unmap_grant_ref    1
#define GNTTABOP_setup_table        2
#define GNTTABOP_dump_table         3
#define GNTTABOP_transfer           4
#define GNTTABOP_copy               5
#define GNTTABOP_query_size         6
#define GNTTABOP_unmap_and_replace  7
#define GNTTABOP_set_version        8
#define GNTTABOP_get_status_frames  9
#define GNTTABOP_get_version       10
#define GNTTABOP_swap_grant_ref    11
#define GNTTABOP_cache_flush       12

struct gnttab_map_grant_ref {
    u64 host_addr; /* in: linear address, or (GNTMAP_contains_pte) machine address of an entry */
    u32 flags;     /* in: GNTMAP_* */
    grant_ref_t ref;
    domid_t dom;
    s16 status; /* out: GNTST_* */
    grant_handle_t handle;
    u64 dev_bus_addr;
};

struct gnttab_unmap_grant_ref {
    u64 host_addr;
    u64 dev_bus_addr;
    grant_handle_t handle;
    s16 status;
};

#define GNTTAB_SETUP_TABLE_FIELDS(X) X(U16, dom) X(U32, nr_frames) X(S16, status) X(PTR, frame_list)
ABI_STRUCT(gnttab_setup_table, GNTTAB_SETUP_TABLE_FIELDS)

struct gnttab_dump_table {
    domid_t dom;
    s16 status;
};

#define GNTTAB_TRANSFER_FIELDS(X) X(LONG, mfn) X(U16, domid) X(U32, ref) X(S16, status)
ABI_STRUCT(gnttab_transfer, GNTTAB_TRANSFER_FIELDS)

#define _GNTCOPY_source_gref 0
#define GNTCOPY_source_gref  (1 << _GNTCOPY_source_gref)
#define _GNTCOPY_dest_gref   1
#define GNTCOPY_dest_gref    (1 << _GNTCOPY_dest_gref)

/* u: a gmfn; or, under GNTCOPY_*_gref, a reference in the low 32 bits (the rest is undefined). */
#define GNTTAB_COPY_PTR_FIELDS(X) X(LONG, u) X(U16, domid) X(U16, offset)
ABI_STRUCT(gnttab_copy_ptr, GNTTAB_COPY_PTR_FIELDS)

#define GNTTAB_COPY_FIELDS(X)                                                   \
    X(STRUCT(gnttab_copy_ptr), source) X(STRUCT(gnttab_copy_ptr), dest)         \
    X(U16, len) X(U16, flags) X(S16, status)
ABI_STRUCT(gnttab_copy, GNTTAB_COPY_FIELDS)

struct gnttab_query_size {
    domid_t dom;
    u32 nr_frames;
    u32 max_nr_frames;
    s16 status;
};

struct gnttab_unmap_and_replace {
    u64 host_addr;
    u64 new_addr;
    grant_handle_t handle;
    s16 status;
};

struct gnttab_set_version {
    u32 version;
};

#define GNTTAB_GET_STATUS_FRAMES_FIELDS(X) X(U32, nr_frames) X(U16, dom) X(S16, status) X(PTR, frame_list)
ABI_STRUCT(gnttab_get_status_frames, GNTTAB_GET_STATUS_FRAMES_FIELDS)

struct gnttab_get_version {
    domid_t dom;
    u16 pad;
    u32 version;
};

struct gnttab_swap_grant_ref {
    grant_ref_t ref_a;
    grant_ref_t ref_b;
    s16 status;
};

#define GNTTAB_CACHE_CLEAN       (1U << 0)
#define GNTTAB_CACHE_INVAL       (1U << 1)
#define GNTTAB_CACHE_SOURCE_GREF (1U << 31)
struct gnttab_cache_flush {
    union {
        u64 dev_bus_addr;
        grant_ref_t ref;
    } a;
    u16 offset;
    u16 length;
    u32 op;
};

#define _GNTMAP_device_map      0
#define GNTMAP_device_map       (1 << _GNTMAP_device_map)
#define _GNTMAP_host_map        1
#define GNTMAP_host_map         (1 << _GNTMAP_host_map)
#define _GNTMAP_readonly        2
#define GNTMAP_readonly         (1 << _GNTMAP_readonly)
#define _GNTMAP_application_map 3
#define GNTMAP_application_map  (1 << _GNTMAP_application_map)
#define _GNTMAP_contains_pte    4
#define GNTMAP_contains_pte     (1 << _GNTMAP_contains_pte)
#define _GNTMAP_guest_avail0    16
#define GNTMAP_guest_avail_mask 0xffff0000U /* copied to the entry's software bits */

#define GNTST_okay               0
#define GNTST_general_error      (-1)
#define GNTST_bad_domain         (-2)
#define GNTST_bad_gntref         (-3)
#define GNTST_bad_handle         (-4)
#define GNTST_bad_virt_addr      (-5)
#define GNTST_bad_dev_addr       (-6)
#define GNTST_no_device_space    (-7)
#define GNTST_permission_denied  (-8)
#define GNTST_bad_page           (-9)
#define GNTST_bad_copy_arg      (-10)
#define GNTST_address_too_big   (-11)
#define GNTST_eagain            (-12)
#define GNTST_no_space          (-13)

#endif
