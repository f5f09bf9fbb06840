/* The memory_op hypercall: which command is whose, and the rules that all of them share. */
#include <asm/nospec.h>
#include "internal.h"

static const struct memory_op {
    memory_fn *fn;
    bool extents;       /* may be entered again part-way */
} ops[] = {
    [XENMEM_increase_reservation]       = { mem_increase_reservation, true },
    [XENMEM_decrease_reservation]       = { mem_decrease_reservation, true },
    [XENMEM_populate_physmap]           = { mem_populate_physmap, true },
    [XENMEM_exchange]                   = { mem_exchange, false },
    [XENMEM_maximum_ram_page]           = { mem_maximum_ram_page, false },
    [XENMEM_current_reservation]        = { mem_current_reservation, false },
    [XENMEM_maximum_reservation]        = { mem_maximum_reservation, false },
    [XENMEM_maximum_gpfn]               = { mem_maximum_gpfn, false },
    [XENMEM_machphys_mfn_list]          = { mem_machphys_mfn_list, false },
    [XENMEM_machphys_compat_mfn_list]   = { mem_machphys_compat_mfn_list, false },
    [XENMEM_machphys_mapping]           = { mem_machphys_mapping, false },
    [XENMEM_memory_map]                 = { mem_memory_map, false },
    [XENMEM_machine_memory_map]         = { mem_machine_memory_map, false },
    [XENMEM_set_memory_map]             = { mem_set_memory_map, false },
    [XENMEM_set_pod_target]             = { mem_pod_target, false },
    [XENMEM_get_pod_target]             = { mem_pod_target, false },
    [XENMEM_get_sharing_freed_pages]    = { mem_no_sharing, false },
    [XENMEM_get_sharing_shared_pages]   = { mem_no_sharing, false },
    [XENMEM_claim_pages]                = { mem_claim_pages, false },
    [XENMEM_add_to_physmap]             = { mem_no_physmap, false },
    [XENMEM_add_to_physmap_batch]       = { mem_no_physmap, false },
    [XENMEM_remove_from_physmap]        = { mem_no_physmap, false },
    [XENMEM_get_vnumainfo]              = { mem_vnumainfo, false },
    [XENMEM_reserved_device_memory_map] = { mem_reserved_regions, false },
    [XENMEM_acquire_resource]           = { mem_acquire_resource, true },
};

s64 do_memory_op(u64 cmd, u64 arg, u64, u64, u64, u64)
{
    u32 op = (u32)cmd & MEMOP_CMD_MASK, start = (u32)cmd >> MEMOP_EXTENT_SHIFT;

    /* Sharing, paging and access control have no PV guests. */
    if (op >= ARRAY_SIZE(ops) || !ops[op].fn)
        return refuse(-ENOSYS, "unknown command %u", op);
    op = (u32)index_nospec(op, ARRAY_SIZE(ops));
    if (start && !ops[op].extents)
        return refuse(-EINVAL, "command %u cannot start at extent %u", op, start);
    return ops[op].fn(gva(arg), start);
}
