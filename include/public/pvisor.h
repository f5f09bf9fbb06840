/*
 * The one call that Xen does not have, and numbers that two control calls take beside Xen's. Guests find out by calling: elsewhere it is
 * -ENOSYS. docs/abi.md tells the whole.
 */
#ifndef PUBLIC_PVISOR_H
#define PUBLIC_PVISOR_H

#include <pvisor/types.h>

#define __HYPERVISOR_pvisor_op 55   /* cmd, pointer to its structure */

/*
 * The calling domain, a 32-bit PAE one with no page table left but those of its root, becomes a 32-bit non-PAE one, and its
 * only running vCPU begins anew like a freshly built kernel: flat ring-1 segments, events masked, no handlers, the root
 * pinned. Returns only if it is refused: -EINVAL (format, addresses, root, a frame above 4 GiB), -EBUSY (tables pinned or
 * in use, another vCPU is up, a vcpu_info is registered), -ENOMEM. After a refusal everything is as it was.
 */
#define PVISOROP_switch_format 1
#define PVISOR_FORMAT_NONPAE   2

struct pvisor_switch_format {
    u32 format;         /* PVISOR_FORMAT_NONPAE */
    u32 root_mfn;       /* the new top-level table */
    u32 eip, esp, esi;  /* where the kernel begins; esi: its start_info */
};

/*
 * For who saves and restores non-PAE domains (tools/save-helper), which Xen's own tools cannot: they would take such tables for PAE's.
 *
 * XEN_DOMCTL_getpageframeinfo3 refuses a non-PAE domain with -EOPNOTSUPP, unless its num has this bit beside the number of frames, which
 * says that the caller knows entries of 4 bytes; it then refuses all other domains so. With no frames it only asks.
 */
#define PVISOR_PFINFO_NONPAE (1ULL << 63)
/* XEN_DOMCTL_set_address_size: a domain without memory becomes a 32-bit non-PAE one. XEN_DOMCTL_get_address_size says 32 of it. */
#define PVISOR_ADDRESS_SIZE_NONPAE (32u | PVISOR_FORMAT_NONPAE << 8)

#endif
