/*
 * Guests' GDTs and LDTs. Their pages are typed FT_SEGDESC: every descriptor in them was checked, and they are not writable
 * by the guest while the type lasts. They are mapped in the per-domain slot; page 14 is ours (asm/desc.h).
 */
#include <asm/atomic.h>
#include <asm/desc.h>
#include <asm/frame_ref.h>
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define DESC_P    (1UL << 47)
#define DESC_S    (1UL << 44)
#define DESC_CODE (1UL << 43)
#define DESC_CONFORMING (1UL << 42)
#define DESC_L    (1UL << 53)
#define DESC_D    (1UL << 54)
#define DESC_G    (1UL << 55)
#define DESC_DPL_SHIFT 45

static unsigned desc_dpl(u64 e) { return e >> DESC_DPL_SHIFT & 3; }

/* A call gate may lead to the guest's own segments and to the flat ones of its rings. */
static bool check_gate(const struct domain *d, u64 *e)
{
    u16 target = (u16)(*e >> 16) & ~3;

    if (d->arch.word != ABI_32 || !desc_is_gate(*e) || !target)
        return false;
    if (!(target & 4) && target >> 3 >= FIRST_RESERVED_GDT_ENTRY && target != (FLAT_RING1_CS & ~3) &&
        target != (FLAT_RING3_CS & ~3))
        return false;
    if (!(*e & DESC_GATE_KEPT))
        *e = (*e & ~(3UL << DESC_DPL_SHIFT | 3UL << 37)) | (u64)desc_dpl(*e) << 37 | DESC_GATE_KEPT;
    else
        *e &= ~(3UL << DESC_DPL_SHIFT);
    return true;
}

/*
 * What a guest may have in a table, possibly after repair: absent, or a code or data segment of no more privilege than
 * its kernel, or a 32-bit guest's call gate, kept out of the CPU's use. Other gates and system segments are refused.
 */
static bool check_descriptor(const struct domain *d, u64 *e)
{
    u64 v = *e;

    if (!(v & DESC_P))
        return true;
    if (!(v & DESC_S))
        return check_gate(d, e);
    if (d->arch.word == ABI_64) {
        /* Ring 3 only. A conforming or 16-bit segment does no harm there; bases and limits are ignored for data. */
        if (desc_dpl(v) != 3)
            *e = v | 3UL << DESC_DPL_SHIFT;
        if (v & DESC_CODE && v & DESC_L && v & DESC_D)
            return false;
        return true;
    }
    if (desc_dpl(v) == 0)
        *e = v = v | 1UL << DESC_DPL_SHIFT;
    if (v & DESC_CODE && (v & DESC_L || (v & DESC_CONFORMING && desc_dpl(v) == 0)))
        return false;
    return true;
}

bool desc_check_page(const struct domain *d, void *page)
{
    u64 *e = page;

    for (unsigned i = 0; i < 512; i++)
        if (!check_descriptor(d, &e[i]))
            return refuse(false, "descriptor %u is %#018lx: neither segment nor call gate that a guest may have", i, e[i]);
    return true;
}

/* --- GDT --- */

static void set_slot(struct vcpu *v, unsigned slot, u64 e)
{
    write_once(v->arch.perdomain_l1[slot], e);
    if (v == current)
        invlpg(VCPU_GDT_START(v->id) + ((u64)slot << PAGE_SHIFT));
}

/* These nr pages, which are held, in place of those that it has: each of them is let go when nothing maps it any more. */
static void replace_pages(struct vcpu *v, const u64 *frames, unsigned nr)
{
    unsigned old_nr = DIV_ROUND_UP(v->arch.gdt_entries, 512);

    for (unsigned i = 0; i < nr || i < old_nr; i++) {
        mfn_t old = v->arch.gdt_frames[i], m = i < nr ? mfn_kept(frames[i]) : INVALID_MFN;

        set_slot(v, i, i < nr ? pte_make(m, HYP_RW) : 0);
        v->arch.gdt_frames[i] = m;
        if (i < old_nr)
            frame_put_segdesc(v->domain, old);
    }
}

void pv_destroy_gdt(struct vcpu *v)
{
    replace_pages(v, (u64[1]){ 0 }, 0);
    v->arch.gdt_entries = 0;
}

/* After that they are held, so that what frames has are numbers of ours. */
static int get_pages(struct domain *d, const u64 *frames, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        if (!frame_get_segdesc(d, mfn(frames[i]), desc_check_page))
            continue;
        while (i--)
            frame_put_segdesc(d, mfn_kept(frames[i]));
        return -EINVAL;
    }
    return 0;
}

int pv_set_gdt(struct vcpu *v, const u64 *frames, u32 entries)
{
    unsigned nr = DIV_ROUND_UP(entries, 512);
    int rc;

    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "%u entries, at most %u are the guest's", entries, FIRST_RESERVED_GDT_ENTRY);
    pt_lock(v->domain);
    rc = get_pages(v->domain, frames, nr);
    if (rc) {
        pt_unlock(v->domain);
        return refuse(rc, "a frame of the new GDT is not the domain's, is in other use, or holds a bad descriptor");
    }
    replace_pages(v, frames, nr);
    v->arch.gdt_entries = entries;
    pt_unlock(v->domain);
    return 0;
}

s64 do_set_gdt(u64 list, u64 entries, u64, u64, u64, u64)
{
    u64 frames[FIRST_RESERVED_GDT_PAGE];

    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return refuse(-EINVAL, "%lu entries, at most %u are the guest's", entries, FIRST_RESERVED_GDT_ENTRY);
    for (unsigned i = 0; i < DIV_ROUND_UP(entries, 512); i++)
        if (guest_read_word(&frames[i], gva(list), i))
            return -EFAULT;
    return pv_set_gdt(current, frames, (u32)entries);
}

/* --- LDT: mapped page by page, when first used (by user space too, whose own tables need not map it) --- */

void pv_destroy_ldt(struct vcpu *v)
{
    if (!v->arch.ldt_entries)       /* then none of its pages is mapped */
        return;
    for (unsigned i = 0; i < 16; i++) {
        u64 e = v->arch.perdomain_l1[16 + i];
        if (!(e & PTE_P))
            continue;
        set_slot(v, 16 + i, 0);
        frame_put_segdesc(v->domain, pte_held_mfn(e));
    }
}

void pv_load_ldt(const struct vcpu *v) { set_cpu_ldt(VCPU_LDT_START(v->id), v->arch.ldt_entries); }

bool pv_ldt_fault(struct vcpu *v, u64 offset)
{
    u64 e, va = v->arch.ldt_base + (offset & PAGE_MASK);
    unsigned idx;
    mfn_t table, m;
    bool ok = false;

    if (offset >= v->arch.ldt_entries * 8UL)
        return false;
    pt_lock(v->domain);
    if (v->arch.perdomain_l1[16 + (offset >> PAGE_SHIFT)] & PTE_P) {
        ok = true;
    } else if (pt_find_l1_below(v->domain, v->arch.root_kernel, va, &table, &idx)) {
        e = pt_load(v->domain->arch.fmt, mfn_to_virt(table), idx);
        m = pte_mfn(e);
        if (e & PTE_P && mfn_valid(m) && !frame_get_segdesc(v->domain, m, desc_check_page)) {
            set_slot(v, 16 + (unsigned)(offset >> PAGE_SHIFT), pte_make(m, HYP_RW));
            ok = true;
        }
    }
    pt_unlock(v->domain);
    return ok;
}

/* --- Single descriptors --- */

static bool table_entry(const struct vcpu *v, u16 sel, u64 *e)
{
    u64 base = sel & 4 ? VCPU_LDT_START(v->id) : VCPU_GDT_START(v->id);
    u64 limit = sel & 4 ? v->arch.ldt_entries * 8UL : 15UL * PAGE_SIZE;
    u64 a = base + (sel & ~7u);

    if (!(sel & ~3) || (sel & ~7u) + 8UL > limit)
        return false;
    GET_GUEST_U64(*e, a, fault);
    return true;
fault:
    return false;
}

bool pv_read_descriptor(struct vcpu *v, u16 sel, u64 *desc)
{
    if (!(sel & 4) && sel >> 3 >= v->arch.gdt_entries && sel >> 3 < FIRST_RESERVED_GDT_ENTRY)
        return false;
    return table_entry(v, sel, desc);
}

s64 do_update_descriptor(u64 a0, u64 a1, u64, u64, u64, u64)
{
    struct domain *d = current->domain;
    u64 ma = a0, desc = a1;
    mfn_t m;
    u64 *slot;
    int rc = -EINVAL;

    if (ma & 7)
        return refuse(-EINVAL, "address %#lx is not aligned to 8 bytes", ma);
    if (!check_descriptor(d, &desc))
        return refuse(-EINVAL, "descriptor %#018lx: neither segment nor call gate that a guest may have", desc);
    m = mfn(ma >> PAGE_SHIFT);
    if (!frame_take(m, d))
        return refuse(-EINVAL, "frame %#lx is not d%u's", ma >> PAGE_SHIFT, d->id);
    pt_lock(d);
    slot = (u64 *)((char *)mfn_to_virt(m) + (ma & ~PAGE_MASK));
    if (fw_type(frame_types[m.v]) == FT_SEGDESC && frame_types[m.v] & FW_COUNT_MASK) {
        write_once(*slot, desc);
        rc = 0;
    } else if (!frame_get_writable(m, d)) {
        write_once(*slot, desc);
        frame_put_writable(m);
        rc = 0;
    }
    pt_unlock(d);
    frame_drop(m);
    return rc ? refuse(rc, "frame %#lx is in use as a page table", m.v) : 0;
}
