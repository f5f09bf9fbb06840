/*
 * A domain changes its page-table format: how a non-PAE kernel starts under a toolstack that builds none. The loader in
 * the domain (tools/loader) has built tables of the new format as plain data, and asks for them to become the real ones.
 *
 * No table of the old format may be left then, for a frame's type says "level 2", not of which format. So: look whether all tables hang
 * at the old root and nowhere else, drop it, change the format, take the new root. A refusal goes the same way back.
 *
 * The guest has no tables between the two, so that part cannot give way. Hence neither tree may have more than MAX_ENTRIES entries.
 */
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <public/errno.h>
#include <public/pvisor.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

#define MAX_ENTRIES 32768u      /* of level-1 tables: 128 MiB of address space */
#define RESTART ERESTART_HYPERCALL

static int check_vcpus(const struct domain *d)
{
    for (u32 i = 0; i < d->max_vcpus; i++)
        if (d->vcpu[i] && d->vcpu[i] != current && (d->vcpu[i]->is_initialised || !(d->vcpu[i]->pause_flags & VPF_DOWN)))
            return refuse(-EBUSY, "vCPU %u is up: the format of a domain with several cannot change", i);
    return 0;
}

/*
 * From *region on, 2 MiB each, which becomes where to go on. The guest's own word says where that is: it fools itself alone, about frames
 * that it then cannot map.
 */
static int check_reach(const struct domain *d, const struct pt_format *f, u64 *region)
{
    for (u64 r = max(*region, 1UL << 11); r < DIV_ROUND_UP(nr_frames, 512); r++) {
        if (!domain_has_region(d, r * 512))
            continue;
        if (r > *region && preempt_needed()) {
            *region = r;
            return -RESTART;
        }
        steps_add(256);
        for (u64 m = r * 512; m < (r + 1) * 512; m++)
            if (frame_owner_id(mfn(m)) == d->id)
                return refuse(-EINVAL, "frame %#lx of the domain lies above the 4 GiB that a %s guest can map", m, f->name);
    }
    return 0;
}

static int check(const struct domain *d, const struct pvisor_switch_format *s, u64 *region)
{
    const struct pt_format *f = &pt_formats[PT32];
    int rc;

    if (s->format != PVISOR_FORMAT_NONPAE || d->arch.fmt->id != PT32P)
        return refuse(-EINVAL, "format %u asked for by a %s guest: only PAE to non-PAE is possible", s->format,
                      d->arch.fmt->name);
    if (s->eip >= f->hv_start || s->esp > f->hv_start)
        return refuse(-EINVAL, "entry %#x or stack %#x is not below %#lx", s->eip, s->esp, f->hv_start);
    rc = check_vcpus(d);
    if (!rc && domain_has_registered_info(d))
        rc = refuse(-EBUSY, "a vcpu_info is registered, and would have to go while others write to it");
    return rc ? rc : check_reach(d, f, region);
}

/* A table that one entry, or a root register, holds and nobody else. */
static bool held_once(mfn_t m)
{
    return (read_once(frame_types[m.v]) & (FW_COUNT_MASK | FW_PINNED | FW_PARTIAL)) == 1;
}

/* The tables below an L2 that are in use there alone; more than there can be if one is not. */
static u64 count_l1(const struct pt_format *f, mfn_t l2)
{
    u64 n = 0;

    for (unsigned i = 0; i < f->level[2].nr_entries; i++) {
        u64 e = pt_load(f, mfn_to_virt(l2), i);
        bool ours = frame_types[l2.v] & FW_HV && i >= f->hv_first && i <= f->hv_last;

        if (!(e & PTE_P) || ours || mfn_eq(pte_mfn(e), l2))
            continue;
        if (!held_once(pte_mfn(e)))
            return nr_frames;
        n++;
    }
    return n;
}

/* Are there any tables but those that hang at the root, and only there? */
static bool tables_elsewhere(const struct domain *d, mfn_t root)
{
    const struct pt_format *f = d->arch.fmt;
    u64 n = 1;

    if (!held_once(root))
        return true;
    for (unsigned i = 0; i < f->level[3].nr_entries; i++) {
        u64 e = pt_load(f, mfn_to_virt(root), i);

        if (!(e & PTE_P))
            continue;
        if (!held_once(pte_mfn(e)))
            return true;
        n += 1 + count_l1(f, pte_mfn(e));
    }
    return n != d->arch.nr_tables;
}

static int check_tables(const struct domain *d, mfn_t root)
{
    u64 limit = MAX_ENTRIES / d->arch.fmt->level[1].nr_entries;

    if (d->arch.store != STORE_IN_PLACE)
        return refuse(-EBUSY, "d%u's page tables are mirrored", d->id);
    if (tables_elsewhere(d, root))
        return refuse(-EBUSY, "some of %lu page tables are pinned, half made or in use besides the root", d->arch.nr_tables);
    if (d->arch.nr_tables > limit)
        return refuse(-E2BIG, "%lu page tables, more than %lu cannot be taken apart at once: some must be unlinked before",
                      d->arch.nr_tables, limit);
    return 0;
}

static void drop_root(struct vcpu *v)
{
    struct domain *d = v->domain;
    mfn_t m = v->arch.root_kernel;

    v->arch.root_kernel = INVALID_MFN;
    mirror_clear_root(v);
    pv_load_cr3(v);
    BUG_ON(pt_put_table(d, m) || d->arch.nr_tables);
}

static int take_root(struct vcpu *v, mfn_t m)
{
    struct domain *d = v->domain;
    int rc = pt_get_table(d, m, d->arch.fmt->levels);

    if (rc)
        return refuse(rc, "frame %#lx cannot be the root of a %s guest", m.v, d->arch.fmt->name);
    v->arch.root_kernel = m;
    mirror_set_root(v);
    pv_load_cr3(v);
    return 0;
}

static void go_back(struct vcpu *v, mfn_t root)
{
    if (take_root(v, root))
        domain_crash(v->domain, "its page tables cannot be taken back after a refused change of format");
}

static int switch_tables(struct vcpu *v, mfn_t root)
{
    struct domain *d = v->domain;
    mfn_t old = v->arch.root_kernel;
    int rc = pt_drain_orphans(d);

    if (!rc)
        rc = check_tables(d, old);
    if (rc)
        return rc;
    steps_allow(8UL * MAX_ENTRIES);
    d->arch.table_limit = MAX_ENTRIES / pt_formats[PT32].level[1].nr_entries + 1;
    drop_root(v);
    rc = pv_set_format(d, PT32);
    if (!rc && (rc = take_root(v, root)) != 0)
        (void)pv_set_format(d, PT32P);
    if (rc)
        go_back(v, old);
    else if (pt_pin(d, root, d->arch.fmt->levels))
        domain_crash(d, "its new root cannot be pinned");
    d->arch.table_limit = 0;
    return rc;
}

static void drop_segments(struct vcpu *v)
{
    u64 flags;

    pv_destroy_gdt(v);
    pv_destroy_ldt(v);
    v->arch.ldt_entries = 0;
    flags = irq_save();
    pv_load_ldt(v);
    irq_restore(flags);
}

static void begin_anew(struct vcpu *v, const struct pvisor_switch_format *s)
{
    struct cpu_regs *r = guest_regs();

    memset(v->arch.traps, 0, 256 * sizeof(*v->arch.traps));
    memset(v->arch.callback, 0, sizeof(v->arch.callback));
    pv_forget_addresses(v);
    memset(r, 0, offsetof(struct cpu_regs, es));
    r->rip = s->eip;
    r->rsp = v->arch.kernel_sp = s->esp;
    r->rsi = s->esi;
    r->cs = FLAT_RING1_CS;
    r->ss = v->arch.kernel_ss = FLAT_RING1_SS;
    r->rflags = RFLAGS_IF | RFLAGS_FIXED;
    r->entry_vector = ENTRY_INT82;
    cpu_info()->call_exit |= CALL_ELSEWHERE;
    vcpu_set_upcall_mask(v, true);
}

static s64 switch_format(gva_t arg, u64 region)
{
    struct vcpu *v = current;
    struct domain *d = v->domain;
    struct pvisor_switch_format s;
    int rc;

    if (copy_from_guest(&s, arg, sizeof(s)))
        return -EFAULT;
    rc = check(d, &s, &region);
    if (!rc) {
        pt_lock(d);
        rc = switch_tables(v, mfn(s.root_mfn));
        if (!rc)
            drop_segments(v);
        pt_unlock(d);
    }
    if (rc == -RESTART)
        return hypercall_restart(3, (u64)PVISOROP_switch_format, arg.v, region);
    if (rc)
        return rc;
    begin_anew(v, &s);
    printk(LOG_INFO "d%u is a %s domain now\n", d->id, d->arch.fmt->name);
    return 0;
}

s64 do_pvisor_op(u64 cmd, u64 arg, u64 progress, u64, u64, u64)
{
    return cmd == PVISOROP_switch_format ? switch_format(gva(arg), progress) : -ENOSYS;
}
