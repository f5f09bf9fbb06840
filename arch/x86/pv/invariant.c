/*
 * What holds of a vCPU's address space between two operations: its roots are tables of the top level; what the CPU loads is one of them, or
 * for 32-bit guests a level-4 table of ours that leads to it; its descriptor tables hold only what a guest may have; and the copies of
 * roots that CPUs run on (asm/isolation.h) say what the roots say.
 */
#include <asm/desc.h>
#include <asm/isolation.h>
#include <asm/percpu.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>

#define BESIDE_AD(e) ((e) & ~(PTE_A | PTE_D))

static void look_at_root(const struct vcpu *v, mfn_t m, const char *who)
{
    if (!mfn_eq(m, INVALID_MFN))
        holds(who, m, (enum frame_type)(FT_L1 + v->domain->arch.fmt->levels - 1));
}

/* --- The levels above a 32-bit guest's --- */

static void look_at_monitor_l3(const struct vcpu *v)
{
    const u64 *guests = mfn_to_virt(v->arch.root_kernel), *l3 = v->arch.monitor_l3;

    for (unsigned i = 0; i < 4; i++)
        (void)CLAUSE("top", l3[i] == mirror_pae_top(v->domain, guests[i]), "d%uv%u: entry %u is %#lx, and in our copy %#lx", v->domain->id,
                     v->id, i, guests[i], l3[i]);
}

static void look_at_monitor(const struct vcpu *v)
{
    const u64 *l4 = v->arch.monitor_l4;

    for (unsigned i = 1; i < 512; i++) {
        bool ours = i >= HYP_L4_FIRST && i <= HYP_L4_LAST && i != (PERDOMAIN_START >> 39 & 511);

        if (i != (PERDOMAIN_START >> 39 & 511))
            (void)CLAUSE("top", l4[i] == (ours ? hyp_l4[i] : 0), "d%uv%u: L4[%u] is %#lx", v->domain->id, v->id, i, l4[i]);
    }
    if (mfn_eq(v->arch.root_kernel, INVALID_MFN))
        (void)CLAUSE("top", !l4[0], "d%uv%u has no root, and our L4 leads to %#lx", v->domain->id, v->id, l4[0]);
    else if (v->domain->arch.fmt->id == PT32P && CLAUSE("top", pte_mfn(l4[0]).v == virt_to_mfn(v->arch.monitor_l3).v,
                                                 "d%uv%u: our L4 leads to %#lx", v->domain->id, v->id, l4[0]))
        look_at_monitor_l3(v);
}

static void look_at_cr3(struct vcpu *v)
{
    struct vcpu as = *v;

    pv_make_cr3(&as);
    (void)CLAUSE("CR3", v->arch.cr3 == as.arch.cr3, "d%uv%u has %#lx, expected %#lx", v->domain->id, v->id, v->arch.cr3, as.arch.cr3);
    (void)CLAUSE("CR3", !memcmp(v->arch.walked, as.arch.walked, sizeof(as.arch.walked)),
                 "d%uv%u has %#lx and %#lx for its roots, expected %#lx and %#lx", v->domain->id, v->id, v->arch.walked[0],
                 v->arch.walked[1], as.arch.walked[0], as.arch.walked[1]);
}

/* --- Descriptor tables --- */

static void look_at_descriptors(const struct domain *d, mfn_t m)
{
    static u64 page[512];

    holds("a descriptor table", m, FT_SEGDESC);
    memcpy(page, mfn_to_virt(m), sizeof(page));
    (void)CLAUSE("descriptors", desc_check_page(d, page) && !memcmp(page, mfn_to_virt(m), sizeof(page)),
                 "frame %#lx of d%u has one that it may not have", m.v, d->id);
}

static void look_at_gdt_and_ldt(const struct vcpu *v)
{
    unsigned nr = DIV_ROUND_UP(v->arch.gdt_entries, 512);

    for (unsigned i = 0; v->arch.perdomain_l1 && i < 32; i++) {
        u64 e = v->arch.perdomain_l1[i];
        bool guests = i < nr || (i >= 16 && e & PTE_P);

        if (guests && CLAUSE("descriptor slots", e & PTE_P && (i >= 16 || mfn_eq(pte_mfn(e), v->arch.gdt_frames[i])),
                             "d%uv%u: slot %u is %#lx", v->domain->id, v->id, i, e))
            look_at_descriptors(v->domain, pte_mfn(e));
        else if (i != FIRST_RESERVED_GDT_PAGE)
            (void)CLAUSE("descriptor slots", !(e & PTE_P), "d%uv%u: slot %u is %#lx, and nothing is there", v->domain->id, v->id, i, e);
    }
}

/* --- Copies of roots --- */

/* A guest's slot of a copy says what the root's says; what leads to a table of the root's own level leads to a view of ours. */
static bool is_copied(u64 copy, u64 root)
{
    mfn_t m = pte_mfn(root);

    if (!(root & PTE_P))
        return !(copy & PTE_P);
    if (pt_live_level(frame_types[m.v]) == 4)
        return !copy || frame_owner_id(pte_mfn(copy)) == DOMID_XEN;
    return BESIDE_AD(copy) == BESIDE_AD(root);
}

/* A mirror's view, which is all ours. An entry that it has got since comes to the copy by the fault that its lack makes. */
static bool is_copied_from_mirror(u64 copy, u64 twin) { return !copy || BESIDE_AD(copy) == BESIDE_AD(twin); }

static void look_at_copy(const struct guest_root *g)
{
    mfn_t m = mfn(g->of >> PAGE_SHIFT);
    bool mirror = !mfn_eq(m, INVALID_MFN) && frame_owner_id(m) == DOMID_XEN;
    const u64 *copy, *root;

    if (!g->cr3 || !g->of ||
        !CLAUSE("copies", mirror || (!mfn_eq(m, INVALID_MFN) && pt_live_level(frame_types[m.v]) == 4),
                "a CPU has one of frame %#lx, which is no root", m.v))
        return;
    copy = maddr_to_virt(maddr(g->cr3));
    root = mfn_to_virt(m);
    for (unsigned i = 0; i < 512; i++)
        if (i < HYP_L4_FIRST || i > HYP_L4_LAST)
            (void)CLAUSE("copies", mirror ? is_copied_from_mirror(copy[i], root[i]) : is_copied(copy[i], root[i]),
                         "L4 %#lx[%u] is %#lx, and in a CPU's copy %#lx", m.v, i, root[i], copy[i]);
}

void copies_look(void)
{
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        for (unsigned mode = 0; mode < 2; mode++)
            look_at_copy(&cpu_info_of(cpu)->guest_root[mode]);
}

void vcpus_look(struct domain *d)
{
    struct vcpu *v;

    if (!d->vcpu)
        return;
    for_each_vcpu(d, v) {
        look_at_root(v, v->arch.root_kernel, "a vCPU's kernel root");
        look_at_root(v, v->arch.root_user, "a vCPU's user root");
        if (v->is_initialised)
            look_at_cr3(v);
        if (v->arch.monitor_l4)
            look_at_monitor(v);
        look_at_gdt_and_ldt(v);
        if (!mfn_eq(v->info_mfn, INVALID_MFN))
            holds("a vcpu_info", v->info_mfn, FT_WRITABLE);
        if (v->runstate_phys.at)
            holds("a runstate area", v->runstate_phys.mfn, FT_WRITABLE);
        if (v->time_phys.at)
            holds("a time area", v->time_phys.mfn, FT_WRITABLE);
    }
    if (d->arch.pirq_eoi_map)
        holds("the EOI map", d->arch.pirq_eoi_mfn, FT_WRITABLE);
}
