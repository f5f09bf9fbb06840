/*
 * Entries of guests' page tables: what one needs, and takes or gives back; and all changes of one, by the long way, which makes each check
 * and says what it refuses. quick.c has the short ways.
 */
#include <asm/isolation.h>
#include <asm/pt.h>
#include <asm/spec.h>
#include <public/errno.h>
#include <pvisor/hwdom.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/short_way.h>
#include "internal.h"

/* --- Leaf entries --- */

/* Device memory: no counts, but the domain must be allowed to use it. */
static int get_mmio(const struct domain *d, const struct domain *owner, u64 *e)
{
    u64 m = pte_number(*e);

    if (!rangeset_contains(owner->iomem, m, m) && !rangeset_contains(d->iomem, m, m))
        return refuse(-EINVAL, "d%u may not map device frame %#lx", d->id, m);
    if (*e & PTE_RW && rangeset_contains(mmio_ro_ranges, m, m))
        *e &= ~PTE_RW;
    return 0;
}

/* denied_flags() of an upper entry: the table that it names is RAM. */
static u64 denied_node_flags(const struct domain *d, const struct pt_level *l, u64 e)
{
    return e & (l->denied | (d->is_hardware ? 0 : PTE_PWT | PTE_PCD));
}

__attribute__((noinline)) int refuse_leaf(const struct domain *d, const struct pt_format *f, u64 e)
{
    return refuse(-EINVAL, "L1 entry %#lx has flags %#lx that a %s guest%s may not set", e, denied_flags(d, &f->level[1], e),
                  f->name, d->is_hardware ? "" : " without devices");
}

__attribute__((noinline)) int refuse_writable(mfn_t m, const struct domain *owner)
{
    return refuse(-EINVAL, "cannot map frame %#lx writable: owner d%u (wanted d%u), type word %#x", m.v, frame_owner_id(m),
                  owner->id, frame_types[m.v]);
}

__attribute__((noinline)) int get_other_leaf(const struct domain *d, const struct domain *owner, u64 *e)
{
    mfn_t m = pte_mfn(*e);

    if (!mfn_valid(m))
        return get_mmio(d, owner, e);
    return refuse(-EINVAL, "cannot map frame %#lx: owner d%u, wanted d%u", m.v, frame_owner_id(m), owner->id);
}

/* e, which maps another's frame m, leaves its place: who looks for such entries under the lock finds it there, or finds m in the log. */
static void log_others_leaf(u64 e, mfn_t m)
{
    if (e & PTE_RW && unlikely(read_once(nr_dirty_logs)))
        frame_log_dirty(m);
}

/* The log hears of it once more when no CPU knows the entry: frame_put_writable(). */
__attribute__((noinline)) void put_others_leaf(struct domain *d, u64 e)
{
    mfn_t m = pte_mfn(e);

    if (!mfn_valid(m))
        return;
    log_others_leaf(e, m);
    frame_put_foreign(d, m, e & PTE_RW);
}

/* e, which is about to be stored in table m, maps what is not d's. */
static __attribute__((noinline)) void note_outward(struct domain *d, mfn_t m, u64 e)
{
    if (!(e & PTE_RW) || !mfn_valid(pte_mfn(e)) || read_once(frame_refs[m.v]) & FR_OUTWARD)
        return;
    atomic_or(&frame_refs[m.v], FR_OUTWARD);
    d->arch.nr_outward++;
}

void leaf_moves(struct domain *d, mfn_t to, u64 e)
{
    mfn_t m = pte_mfn(e);

    if (!(e & PTE_P) || !mfn_valid(m) || is_own(d, m))
        return;
    note_outward(d, to, e);
    log_others_leaf(e, m);
}

__attribute__((cold, noinline)) int absent_exposes(struct domain *d, u64 e)
{
    if (mirror_wanted_for_good(d))
        return -RESTART;
    return refuse(-EINVAL, "entry %#lx is not present and names memory, which a CPU with L1TF shows to a guest, and d%u cannot be mirrored "
                  "(a guest that is trusted may be an old kernel: pv-l1tf=domu=no)", e, d->id);
}

/* --- Upper entries --- */

static bool names_linear(const struct pt_format *f, unsigned level, mfn_t m)
{
    u32 w = !mfn_eq(m, INVALID_MFN) ? read_once(frame_types[m.v]) : 0;

    return level >= 2 && level >= f->hv_level && pt_live_level(w) == level;
}

/* Does a table have linear entries for others, besides m and what its entry skip names? */
static bool has_linear(const struct pt_format *f, unsigned level, mfn_t table, mfn_t m, unsigned skip)
{
    const void *p = mfn_to_virt(table);

    for (unsigned i = 0; i < f->level[level].nr_entries; i++) {
        u64 e = pt_load(f, p, i);
        mfn_t named = pte_mfn(e);

        if (e & PTE_P && i != skip && !mfn_eq(named, table) && !mfn_eq(named, m) && names_linear(f, level, named))
            return true;
    }
    return false;
}

static int get_linear(struct domain *d, const struct pt_format *f, unsigned level, mfn_t table, unsigned idx, u64 e)
{
    mfn_t m = pte_mfn(e);
    bool any;

    /* One level down all of the page counts, so all of it must have been checked. */
    if (e & PTE_RW || f->level[level].nr_entries * f->pte_bytes != PAGE_SIZE)
        return -EINVAL;
    any = level < 4 || isolation_any_linear(d);
    if (mfn_eq(m, table))
        return 0;
    if (!any && has_linear(f, level, table, m, idx))
        return refuse(-EINVAL, "L4[%u]: with page-table isolation a table can name one other, and itself", idx);
    if (!frame_get(m, d))
        return -EINVAL;
    if (names_linear(f, level, m) && !(frame_types[table.v] & FW_LINEAR) && !has_linear(f, level, m, m, ~0u) &&
        (frame_types[m.v] & FW_COUNT_MASK) != FW_COUNT_MASK) {
        atomic_inc(&frame_types[m.v]);
        atomic_or(&frame_types[m.v], FW_LINEAR);
        return 0;
    }
    frame_put(m);
    return -EINVAL;
}

int get_node(struct domain *d, const struct pt_format *f, unsigned level, mfn_t table, unsigned idx, u64 *e)
{
    const struct pt_level *l = &f->level[level];
    mfn_t m = pte_mfn(*e);
    u32 want_hv;
    int rc;

    if (denied_node_flags(d, l, *e))
        return refuse(-EINVAL, "L%u entry %#lx has flags %#lx that a %s guest%s may not set%s", level, *e, denied_node_flags(d, l, *e),
                      f->name, d->is_hardware ? "" : " without devices", *e & PTE_PS ? " (large pages are not supported)" : "");
    *e = (*e | l->forced) & l->kept;
    if (mfn_eq(m, table) || names_linear(f, level, m)) {
        rc = get_linear(d, f, level, table, idx, *e);
        return rc ? refuse(rc, "L%u entry %#lx: linear mapping refused", level, *e) : 0;
    }
    /* PAE: the fourth L2 carries the hypervisor's entries, the others must not. */
    want_hv = f->id == PT32P && level == 3 && idx == 3 ? FW_HV : 0;
    rc = get_table(d, m, level - 1, want_hv);
    if (rc && rc != -RESTART)
        return refuse(rc, "L%u[%u] entry %#lx: frame is no usable L%u table", level, idx, *e, level - 1);
    return rc;
}

/* --- Changes --- */

/* Those who have copies of it hear of it. */
static always_inline void top_changed(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    if (level == 3 && f->id == PT32P)
        mirror_root_changed(d, m, idx, e);
    if (level == 4)
        isolation_forget(d, m);
}

/* Entries of 4 bytes no hardware walks. Of others it may be about to, or have just stopped; then it still sets bits in them. */
static __attribute__((noinline)) bool store_mirrored(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, unsigned idx,
                                                     u64 e, u64 old, unsigned flags)
{
    u64 *p = (u64 *)mfn_to_virt(m) + idx;

    if (f->pte_bytes == 4) {
        mirror_store(d, m, level, idx, flags & PT_PRESERVE_AD ? e | (old & (PTE_A | PTE_D)) : e);
        return true;
    }
    if (!store_8(p, e, old, flags))
        return false;
    mirror_twins(d, m, level, idx, read_once(*p));
    log_dirty(d, m);
    top_changed(d, f, m, level, idx, e);
    return true;
}

/* False: not stored. Only hardware changes entries without the lock. */
static always_inline bool store_entry(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, unsigned idx, u64 e,
                        u64 old, unsigned flags)
{
    if (unlikely(d->arch.mirrored))
        return store_mirrored(d, f, m, level, idx, e, old, flags);
    if (!store_8((u64 *)mfn_to_virt(m) + idx, e, old, flags))
        return false;
    top_changed(d, f, m, level, idx, e);
    return true;
}

void pt_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    (void)store_entry(d, d->arch.fmt, m, level, idx, e, 0, 0);
}

/* An upper entry that needs the same reference as the old one: only software, cache or accessed bits differ. */
static inline bool same_reference(u64 e, u64 old) { return e & PTE_P && !((e ^ old) & (PTE_MFN_MASK | PTE_P)); }

/*
 * Names the new leaf the old one's frame, so that its general reference stays with the entry? If the entry becomes writable, or
 * no longer is, the type's comes or goes: that is for frames of d's own, which the caller may map anew.
 */
static always_inline bool keeps_frame(const struct domain *d, const struct domain *owner, u64 e, u64 old)
{
    u64 diff = e ^ old;

    return old & PTE_P && !(diff & PTE_MFN_MASK) && (!(diff & PTE_RW) || (likely(owner == d) && is_own(d, pte_mfn(e))));
}

static always_inline int update_leaf_flags(struct domain *d, const struct pt_format *f, mfn_t m, unsigned idx, u64 e, u64 old,
                                           unsigned flags)
{
    const struct pt_level *l = &f->level[1];
    bool now = e & PTE_RW, before = old & PTE_RW;
    mfn_t frame = pte_held_mfn(e);      /* if these differ: keeps_frame() */

    if (unlikely(denied_flags(d, l, e)))
        return refuse_leaf(d, f, e);
    e = (e | l->forced) & l->kept;
    if (now && !before && unlikely(!frame_take_writable(frame))) {
        if (frame_get_writable(frame, d))
            return refuse_writable(frame, d);
        frame_drop(frame);
    }
    if (unlikely(!store_entry(d, f, m, 1, idx, e, old, flags))) {
        if (now && !before)
            frame_drop_type(frame);
        return -EAGAIN;
    }
    if (before && !now) {
        note_stale(&d->arch);
        frame_drop_type(frame);
    }
    return 0;
}

/* The general way of replacing a leaf at p by e, if it still is old (COMPARE). bytes: of an entry. */
static always_inline int replace_leaf(struct domain *d, void *p, u64 e, u64 old, const struct domain *owner, unsigned flags,
                                      unsigned bytes)
{
    const struct pt_format *f = d->arch.fmt;
    mfn_t m = mfn_kept(((u64)p - DIRECTMAP_START) >> PAGE_SHIFT);
    unsigned idx = (unsigned)((u64)p & ~PAGE_MASK) >> (bytes == 8 ? 3 : 2);

    if (e & PTE_P) {
        if (keeps_frame(d, owner, e, old))
            return update_leaf_flags(d, f, m, idx, e, old, flags);
        int rc = get_leaf(d, f, &e, owner, least_ref(owner));
        if (unlikely(rc))
            return rc;
        if (unlikely(owner != d))
            note_outward(d, m, e);
    } else if (l1tf_exposes(d, e)) {
        return absent_exposes(d, e);
    }
    return leaf_replaced(d, store_entry(d, f, m, 1, idx, e, old, flags), e, old);
}

__attribute__((noinline)) int update_any_leaf(struct domain *d, void *p, u64 e, u64 old, const struct domain *owner, unsigned flags)
{
    return replace_leaf(d, p, e, old, owner, flags, d->arch.fmt->pte_bytes);
}

/*
 * What is taken apart on the way may have held the last typed reference to m, whose entry is to change: what was left over, or what e
 * names, if that was half way to a table of another level. Then m is no table any more, its entries are released, and the guest's request
 * is made again, for whatever m is now.
 */
static always_inline bool is_still(mfn_t m, unsigned level) { return likely(pt_live_level(frame_types[m.v]) == level); }

static __attribute__((cold, noinline)) int give_back_node(struct domain *d, mfn_t m, u64 e)
{
    (void)put_node(d, m, e);
    return -RESTART;
}

int pt_update_node(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, unsigned flags)
{
    const struct pt_format *f = d->arch.fmt;
    const struct pt_level *l = &f->level[level];
    int rc = pt_drain_orphans(d);
    u64 old;

    if (rc)
        return rc;
    if (!is_still(m, level))
        return -RESTART;
    if (idx >= l->nr_entries)
        return refuse(-EINVAL, "a %s guest's L%u tables have %u entries, this is number %u", f->name, level,
                      l->nr_entries, idx);
    if (is_hv_slot(f, level, frame_types[m.v], idx))
        return refuse(-EINVAL, "L%u[%u] belongs to the hypervisor", level, idx);
    if (f->id == PT32P && level == 3 && idx == 3 && !(e & PTE_P))
        return refuse(-EINVAL, "the fourth L3 entry must stay present");
    old = pt_load(f, mfn_to_virt(m), idx);
    if (e & PTE_P) {
        if (short_way(same_reference(e, old)) && !denied_node_flags(d, l, e) && !mfn_eq(pte_mfn(e), m) &&
            !names_linear(f, level, pte_mfn(e))) {
            (void)store_entry(d, f, m, level, idx, (e | l->forced) & l->kept, old, flags);
            return 0;
        }
        rc = get_node(d, f, level, m, idx, &e);
        if (!is_still(m, level))
            return rc ? -RESTART : give_back_node(d, m, e);
        if (rc)
            return rc;
    } else if (l1tf_exposes(d, e)) {
        return absent_exposes(d, e);
    }
    (void)store_entry(d, f, m, level, idx, e, old, flags);
    /* A table that leaves the tree may be walked by CPUs until they flush; its frame's next use waits for that. */
    if (old & PTE_P)
        put_node(d, m, old);
    return 0;
}

/* For frames of d's own. */
int update_mirrored_leaf(struct domain *d, u32 *p, u32 e, u32 old) { return replace_leaf(d, p, e, old, d, 0, 4); }

int pt_replace_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e)
{
    u64 old = pt_load(d->arch.fmt, mfn_to_virt(m), idx);

    (void)store_entry(d, d->arch.fmt, m, 1, idx, e, old, 0);
    if (old & PTE_P)
        put_leaf(d, old);
    return 0;
}

unsigned pt_own_level(const struct domain *d, mfn_t m) { return own_level(d, m); }
