/* What the files of common/memory share: one handler per XENMEM_ command. */
#ifndef MEMORY_INTERNAL_H
#define MEMORY_INTERNAL_H

#include <public/errno.h>
#include <public/memory.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

/* A command word carries the number of extents done so far, by the ABI's rule for preemption. */
#define MEMOP_EXTENT_SHIFT 6
#define MEMOP_CMD_MASK     ((1u << MEMOP_EXTENT_SHIFT) - 1)
#define MEMOP_MAX_EXTENTS  (~0u >> MEMOP_EXTENT_SHIFT)

/* arg: address of the command's structure. start: extents done by earlier runs, 0 for most commands. */
typedef s64 memory_fn(gva_t arg, u32 start);

memory_fn mem_increase_reservation, mem_decrease_reservation, mem_populate_physmap;
memory_fn mem_exchange, mem_claim_pages;
memory_fn mem_maximum_ram_page, mem_current_reservation, mem_maximum_reservation, mem_maximum_gpfn;
memory_fn mem_machphys_mapping, mem_machphys_mfn_list, mem_machphys_compat_mfn_list;
memory_fn mem_memory_map, mem_machine_memory_map, mem_set_memory_map;
memory_fn mem_pod_target, mem_no_physmap, mem_no_sharing, mem_vnumainfo, mem_reserved_regions, mem_acquire_resource;

/* Largest extent that the current domain may ask for, as an order: this, or more for who has devices. */
#define MAX_ORDER_GUEST 9
unsigned memory_max_order(void);

/*
 * domain_alloc_frames() for d under the rules of claims and address widths: mem_flags as in
 * xen_memory_reservation, flags MEMF_REPLACES, MEMF_WITHDRAWN. INVALID_MFN: there are none.
 */
mfn_t memory_alloc(struct domain *d, unsigned order, u32 mem_flags, unsigned flags);
/* d's withdrawn extent gets its numbers, and only then is in d's hands: what d gives up at once may be another's before the next line. */
void memory_publish(struct domain *d, mfn_t m, unsigned order, u64 gpfn);
/* Frames of d's must lie below 2^n bytes, for it or for the caller; 0 where all RAM does. */
unsigned memory_width_limit(const struct domain *d, u32 mem_flags);
/* True if mem_flags' address width leaves room for any frame. */
bool memory_flags_ok(u32 mem_flags);

#endif
