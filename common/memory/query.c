/* Questions about memory: sizes, maps, the machine-to-physical table. */
#include <asm/mm.h>
#include <pvisor/lib.h>
#include "internal.h"

s64 mem_maximum_ram_page(gva_t, u32)
{
    return (s64)max_ram_mfn().v + 1;
}

/* How many pages are saved by sharing, or shared: no domain shares any. xl info asks each time. */
s64 mem_no_sharing(gva_t, u32) { return 0; }

/* Each of these three is a number taken from the domain that the argument names. */
static s64 ask_domain(gva_t arg, s64 (*fn)(const struct domain *d))
{
    struct xen_memory_domain m;
    struct domain *d;
    s64 rc;

    if (copy_from_guest(&m, arg, sizeof(m)))
        return -EFAULT;
    d = domain_target(m.domid, &rc);
    if (!d)
        return rc;
    rc = fn(d);
    domain_put(d);
    return rc;
}

static s64 tot_pages(const struct domain *d) { return (s64)d->tot_pages; }
static s64 max_pages(const struct domain *d) { return (s64)d->max_pages; }

/* What the guest says of itself, in shared_info: it lays out its own pseudo-physical memory. */
u64 domain_nr_gpfns(const struct domain *d)
{
    enum abi_word w = domain_word(d);
    const char guest_shared *p = (const char guest_shared *)d->shared_info + abi_offset(w, shared_info, arch) +
                                 abi_offset(w, arch_shared_info, max_pfn);

    return w == ABI_64 ? read_shared(*(const u64 guest_shared *)p) : read_shared(*(const u32 guest_shared *)p);
}

static s64 max_gpfn(const struct domain *d)
{
    u64 nr = domain_nr_gpfns(d);

    return nr ? (s64)(nr - 1) : 0;
}

s64 mem_current_reservation(gva_t arg, u32 start) { (void)start; return ask_domain(arg, tot_pages); }
s64 mem_maximum_reservation(gva_t arg, u32 start) { (void)start; return ask_domain(arg, max_pages); }
s64 mem_maximum_gpfn(gva_t arg, u32 start) { (void)start; return ask_domain(arg, max_gpfn); }

/* By page-table format: where the guest sees the M2P, and the size of its entries. */
static const struct { u64 start, end; u8 entry; } m2p_place[NR_PT_FORMATS] = {
    [PT64]  = { MACH2PHYS_VIRT_START_64, MACH2PHYS_VIRT_END_64, 8 },
    [PT32P] = { MACH2PHYS_VIRT_START_PAE, MACH2PHYS_VIRT_END_PAE, 4 },
    [PT32]  = { MACH2PHYS_VIRT_START_NONPAE, MACH2PHYS_VIRT_END_NONPAE, 4 },
};

s64 mem_machphys_mapping(gva_t arg, u32)
{
    enum pt_format_id id = current->domain->arch.fmt->id;
    struct xen_machphys_mapping m = {
        .v_start = m2p_place[id].start,
        .v_end = m2p_place[id].end,
        .max_mfn = (m2p_place[id].end - m2p_place[id].start) / m2p_place[id].entry - 1,
    };

    return guest_write_abi(xen_machphys_mapping, arg, &m);
}

/* The pieces of 2 MiB of one M2P, as many as there is room for. In a hole stands the piece before it. */
static s64 give_pieces(gva_t arg, u64 pieces, mfn_t (*piece)(u64 i))
{
    struct xen_machphys_mfn_list l;
    u64 last = 0;
    u32 i;

    if (guest_read_abi(xen_machphys_mfn_list, &l, arg))
        return -EFAULT;
    for (i = 0; i < l.max_extents && i < pieces; i++) {
        mfn_t m = piece(i);

        if (!mfn_eq(m, INVALID_MFN))
            last = m.v;
        if (guest_write_word(gva(l.extent_start), i, last))
            return -EFAULT;
    }
    l.nr_extents = i;
    return guest_write_abi(xen_machphys_mfn_list, arg, &l);
}

/* For saving domains: where the pieces begin that a tool maps. */
s64 mem_machphys_mfn_list(gva_t arg, u32)
{
    return give_pieces(arg, DIV_ROUND_UP((max_ram_mfn().v + 1) * 8, 2UL << 20), m2p_chunk);
}

/*
 * For saving 32-bit domains: a tool maps nothing of it, and looks for the first in a level-2 table, where it stands if the table has our
 * entries, which it must not send (libxenguest's save of PV guests). So it is what stands there, a table of ours and not 2 MiB.
 */
s64 mem_machphys_compat_mfn_list(gva_t arg, u32) { return give_pieces(arg, COMPAT_M2P_TABLES, compat_m2p_table); }

/* --- Memory maps --- */

/* Copies as many of nr entries as fit, and reports how many. map_at: address of the xen_memory_map. */
static s64 give_map(gva_t map_at, struct xen_memory_map *map, const struct e820entry *e, u32 nr)
{
    map->nr_entries = min(map->nr_entries, nr);
    if (copy_to_guest(gva(map->buffer), e, map->nr_entries * sizeof(*e)))
        return -EFAULT;
    return guest_write_abi(xen_memory_map, map_at, map);
}

s64 mem_memory_map(gva_t arg, u32)
{
    struct domain *d = current->domain;
    struct xen_memory_map map;
    s64 rc = -ENOSYS;

    if (guest_read_abi(xen_memory_map, &map, arg))
        return -EFAULT;
    spin_lock(&d->lock);
    if (d->arch.e820)
        rc = give_map(arg, &map, d->arch.e820, (u32)d->arch.e820_nr);
    spin_unlock(&d->lock);
    return rc;
}

s64 mem_machine_memory_map(gva_t arg, u32)
{
    struct xen_memory_map map;
    struct e820entry *e;
    s64 rc;

    if (!is_control_domain(current->domain) && !current->domain->is_hardware)
        return refuse(-EPERM, "for the control domain");
    if (guest_read_abi(xen_memory_map, &map, arg))
        return -EFAULT;
    e = xzalloc_array(struct e820entry, max(host_e820_nr, 1u));
    if (!e)
        return -ENOMEM;
    for (unsigned i = 0; i < host_e820_nr; i++)
        e[i] = (struct e820entry){ host_e820[i].start, host_e820[i].size, host_e820[i].type };
    rc = give_map(arg, &map, e, host_e820_nr);
    xfree(e);
    return rc;
}

static void set_map(struct domain *d, struct e820entry *e, u32 nr)
{
    struct e820entry *old;

    spin_lock(&d->lock);
    old = d->arch.e820;
    d->arch.e820 = e;
    d->arch.e820_nr = nr;
    spin_unlock(&d->lock);
    xfree(old);
}

s64 mem_set_memory_map(gva_t arg, u32)
{
    struct xen_foreign_memory_map fm;
    struct e820entry *e;
    struct domain *d;
    s64 rc;

    if (guest_read_abi(xen_foreign_memory_map, &fm, arg))
        return -EFAULT;
    if (fm.map.nr_entries > E820MAX)
        return refuse(-E2BIG, "a map of %u entries, at most %u are possible", fm.map.nr_entries, E820MAX);
    d = domain_target(fm.domid, &rc);
    if (!d)
        return rc;
    e = xzalloc_array(struct e820entry, max(fm.map.nr_entries, 1u));
    if (!e)
        rc = -ENOMEM;
    else if (copy_from_guest(e, gva(fm.map.buffer), fm.map.nr_entries * sizeof(*e)))
        rc = -EFAULT;
    else
        rc = 0;
    if (rc)
        xfree(e);
    else
        set_map(d, e, fm.map.nr_entries);
    domain_put(d);
    return rc;
}

/* --- What PV guests have none of --- */

/*
 * Populate-on-demand: a PV domain never has any, but `xl mem-set` sets the target of every domain and takes a
 * refusal for a failure.
 */
s64 mem_pod_target(gva_t arg, u32)
{
    struct xen_pod_target t;
    struct domain *d;
    s64 rc;

    if (control_only())
        return -EPERM;
    if (guest_read_abi(xen_pod_target, &t, arg))
        return -EFAULT;
    d = domain_target(t.domid, &rc);
    if (!d)
        return rc;
    t.tot_pages = d->tot_pages;
    t.pod_cache_pages = t.pod_entries = 0;
    domain_put(d);
    return guest_write_abi(xen_pod_target, arg, &t);
}

/* The guest keeps its own physical map. */
s64 mem_no_physmap(gva_t, u32)
{
    return refuse(-EINVAL, "a PV guest translates its frame numbers itself");
}

s64 mem_vnumainfo(gva_t arg, u32)
{
    struct xen_vnuma_topology_info t;
    struct domain *d;
    s64 rc;

    if (guest_read_abi(xen_vnuma_topology_info, &t, arg))
        return -EFAULT;
    if (t.pad)
        return refuse(-EINVAL, "padding %#x is not 0", t.pad);
    d = domain_target(t.domid, &rc);
    if (!d)
        return rc;
    domain_put(d);
    return -EOPNOTSUPP;
}

s64 mem_reserved_regions(gva_t arg, u32)
{
    struct xen_reserved_device_memory_map m;

    if (control_only())
        return -EPERM;
    if (guest_read_abi(xen_reserved_device_memory_map, &m, arg))
        return -EFAULT;
    m.nr_entries = 0;
    return guest_write_abi(xen_reserved_device_memory_map, arg, &m);
}
