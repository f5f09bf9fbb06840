/* SPDX-License-Identifier: MIT */
/* xen_version: who the hypervisor is. Facts from public/version.h of Xen 4.17 and 4.20. */
#ifndef PUBLIC_VERSION_H
#define PUBLIC_VERSION_H

#include <public/xen.h>
#include <public/features.h>

#define XENVER_version              0 /* returns major << 16 | minor */
#define XENVER_extraversion         1 /* char[16] */
#define XENVER_compile_info         2
#define XENVER_capabilities         3 /* char[1024] */
#define XENVER_changeset            4 /* char[64] */
#define XENVER_platform_parameters  5
#define XENVER_get_features         6
#define XENVER_pagesize             7 /* returns it */
#define XENVER_guest_handle         8 /* xen_domain_handle_t */
#define XENVER_commandline          9 /* char[1024] */
#define XENVER_build_id            10 /* this and what follows: struct xen_varbuf */
#define XENVER_extraversion2       11
#define XENVER_capabilities2       12
#define XENVER_changeset2          13
#define XENVER_commandline2        14

#define XEN_EXTRAVERSION_LEN      16
#define XEN_CAPABILITIES_INFO_LEN 1024
#define XEN_CHANGESET_INFO_LEN    64
#define XEN_COMMANDLINE_LEN       1024

struct xen_compile_info {
    char compiler[64];
    char compile_by[16];
    char compile_domain[32];
    char compile_date[32];
};

#define XEN_PLATFORM_PARAMETERS_FIELDS(X) X(LONG, virt_start)
ABI_STRUCT(xen_platform_parameters, XEN_PLATFORM_PARAMETERS_FIELDS)

struct xen_feature_info {
    u32 submap_idx; /* in */
    u32 submap;     /* out: a bit per XENFEAT_ */
};

/* Bytes, without one that ends a text; the return value is their number. A null argument asks for that alone. */
struct xen_varbuf {
    u32 len; /* in */
    u8 buf[];
};

#endif
