/*
 * The short ways of changing entries, for what kernels do all the time. Each makes every check that the long way (entry.c) makes, and
 * leaves what is anything else to it, as its last call and before any effect.
 */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <public/errno.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include "internal.h"

/* get_leaf() is to take it all anew, and to say why it cannot. */
static __attribute__((noinline)) int drop_and_update_any_leaf(struct domain *d, void *p, u64 e, u64 old,
                                                              const struct domain *owner, unsigned flags)
{
    frame_drop(pte_held_mfn(e));
    return update_any_leaf(d, p, e, old, owner, flags);
}

/*
 * The next two do the same for what is frequent: an entry in a table that the hardware walks, without cache flags or forbidden ones,
 * of a frame of d's that can be had as it is. Whatever turns out otherwise is left to update_any_leaf(), as the last call, so that these
 * need no frame and save no registers. This one: the entry keeps its frame (keeps_frame() without its checks).
 */
static __attribute__((noinline)) int update_kept_leaf(struct domain *d, u64 *p, u64 e, u64 old, unsigned flags)
{
    const struct pt_level *l = &d->arch.fmt->level[1];
    mfn_t frame = pte_held_mfn(e);      /* if PTE_RW differs */
    u64 diff = e ^ old;

    if (diff & PTE_RW && unlikely(!is_own(d, pte_mfn(e)) || (e & PTE_RW && !frame_take_writable(frame))))
        return update_any_leaf(d, p, e, old, d, flags);
    if (unlikely(!store_8(p, (e | l->forced) & l->kept, old, flags))) {
        if (e & diff & PTE_RW)
            frame_drop_type(frame);
        return -EAGAIN;
    }
    if (old & diff & PTE_RW) {
        note_stale(&d->arch);
        frame_drop_type(frame);
    }
    return 0;
}

static always_inline int update_own_leaf(struct domain *d, u64 *p, u64 e, u64 old, unsigned flags)
{
    const struct pt_format *f = d->arch.fmt;
    const struct pt_level *l = &f->level[1];
    mfn_t m;

    if (!short_way(true))
        return update_any_leaf(d, p, e, old, d, flags);
    if (e & PTE_P) {
        if (unlikely(e & (l->denied | CACHE_FLAGS)))
            return update_any_leaf(d, p, e, old, d, flags);
        if (old & PTE_P && !((e ^ old) & PTE_MFN_MASK))
            return update_kept_leaf(d, p, e, old, flags);
        e = (e | l->forced) & l->kept;
        m = pte_mfn(e);
        if (unlikely(!frame_take(m, d)))
            return update_any_leaf(d, p, e, old, d, flags);
        if (e & PTE_RW && unlikely(!frame_take_writable(m)))
            return drop_and_update_any_leaf(d, p, e, old, d, flags);
    } else if (l1tf_exposes(d, e)) {
        return absent_exposes(d, e);
    }
    return leaf_replaced(d, store_8(p, e, old, flags), e, old);
}

int pt_update_known_mirrored(struct domain *d, u32 *p, u32 e) { return update_mirrored_leaf(d, p, e, read_once(*p)); }

int pt_update_known_ad(struct domain *d, u64 *p, u64 e)
{
    return update_own_leaf(d, p, e, read_once(*p), PT_PRESERVE_AD);
}

int pt_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e, const struct domain *owner, unsigned flags)
{
    char *table = mfn_to_virt(m);
    u64 *p = (u64 *)table + idx;

    if (unlikely(d->arch.mirrored || owner != d))
        return update_any_leaf(d, table + idx * d->arch.fmt->pte_bytes, e, pt_load(d->arch.fmt, table, idx), owner, flags & PT_PRESERVE_AD);
    return flags & PT_PRESERVE_AD ? pt_update_known_ad(d, p, e) : update_own_leaf(d, p, e, read_once(*p), 0);
}

int pt_compare_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 old, u64 e)
{
    char *table = mfn_to_virt(m);

    if (unlikely(d->arch.mirrored))
        return update_any_leaf(d, table + idx * d->arch.fmt->pte_bytes, e, old, d, COMPARE);
    return update_own_leaf(d, (u64 *)table + idx, e, old, COMPARE);
}

int pt_update_known(struct domain *d, u64 *p, u64 e) { return update_own_leaf(d, p, e, read_once(*p), 0); }

/* *p: the entry that maps va below m, in tables with entries of 8 bytes. */
static always_inline bool find_entry_8(enum abi_word w, mfn_t m, u64 va, u64 **p)
{
    if (unlikely(!(likely(w == ABI_64) ? find_l1_64(&m, va) : find_l1_pae(&m, va)) || !is_l1(m)))
        return false;
    *p = (u64 *)mfn_to_virt(m) + (va >> PAGE_SHIFT & 511);
    return true;
}

static __attribute__((cold, noinline)) int no_table(u64 va) { return refuse(-EINVAL, "no page table for address %#lx", va); }

static __attribute__((noinline)) int update_any_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner)
{
    mfn_t m;
    unsigned idx;

    if (unlikely(v->domain->arch.fmt->pte_bytes == 4 && e >> 32))
        return refuse(-EINVAL, "entry %#lx has more than 32 bits", e);
    if (likely(short_way(owner == v->domain)) && likely(v->domain->arch.fmt->pte_bytes == 4)) {
        m = v->arch.root_kernel;
        return likely(find_l1_mirrored(&m, va) && is_l1(m))
             ? pt_update_known_mirrored(v->domain, (u32 *)mfn_to_virt(m) + (va >> PAGE_SHIFT & 1023), (u32)e) : no_table(va);
    }
    return likely(pt_find_l1(v, va, &m, &idx)) ? pt_update_leaf(v->domain, m, idx, e, owner, 0) : no_table(va);
}

int pt_update_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner)
{
    struct domain *d = v->domain;
    mfn_t m = likely(v->arch.kernel_mode || d->arch.word == ABI_32) ? v->arch.root_kernel : v->arch.root_user;
    u64 *p;

    if (unlikely(!short_way(!d->arch.mirrored) || owner != d))
        return update_any_va(v, va, e, owner);
    if (unlikely(!find_entry_8(d->arch.word, m, va, &p)))
        return no_table(va);
    return update_own_leaf(d, p, e, read_once(*p), 0);
}

/* *p: what v's kernel sees at va, if that is mapped read-only and in a level-1 table of its domain's, which is not mirrored. */
static always_inline bool entry_seen_at(enum abi_word w, const struct vcpu *v, u64 va, u64 **p)
{
    const struct domain *d = v->domain;
    u64 *mapping, entry;
    const char *page;
    mfn_t m;

    if (unlikely(d->arch.mirrored || !find_entry_8(w, v->arch.root_kernel, va, &mapping)))
        return false;
    entry = read_once(*mapping);
    if (unlikely((entry & (PTE_P | PTE_RW)) != PTE_P))
        return false;
    /* No reference is needed: the entry that maps the table holds one while we have the lock. */
    if (likely((entry & PTE_MFN_MASK) >> PAGE_SHIFT == d->arch.known_l1.mfn.v)) {
        page = d->arch.known_l1.page;
    } else {
        m = pte_mfn(entry);
        if (own_level(d, m) != 1)
            return false;
        page = mfn_to_virt(m);
    }
    *p = (u64 *)(page + (va & ~PAGE_MASK));
    return true;
}

int pt_write_va(const struct vcpu *v, u64 va, u64 e, bool exchanges, u64 *was)
{
    struct domain *d = v->domain;
    u64 *p;

    if (unlikely(!entry_seen_at(ABI_64, v, va, &p)))
        return -ENOENT;
    *was = read_once(*p);
    return exchanges ? update_own_leaf(d, p, e, *was, COMPARE) : update_own_leaf(d, p, e, *was, 0);
}

int pt_compare_write_va_pae(const struct vcpu *v, u64 va, u64 expected, u64 e, u64 *was)
{
    u64 *p;

    if (unlikely(!entry_seen_at(ABI_32, v, va, &p)))
        return -ENOENT;
    *was = read_once(*p);
    return likely(*was == expected) ? update_own_leaf(v->domain, p, e, expected, COMPARE) : 0;
}

int pt_write_va_mirrored(const struct vcpu *v, u64 va, u32 e, u32 *was)
{
    struct domain *d = v->domain;
    mfn_t m = v->arch.root_kernel;
    u32 entry, *p;

    if (unlikely(!find_l1_mirrored(&m, va) || !is_l1(m)))
        return -ENOENT;
    entry = read_once(((u32 *)mfn_to_virt(m))[va >> PAGE_SHIFT & 1023]);
    if (unlikely((entry & (PTE_P | PTE_RW)) != PTE_P))
        return -ENOENT;
    m = pte_mfn(entry);
    if (unlikely(own_level(d, m) != 1))
        return -ENOENT;
    p = (u32 *)((char *)mfn_to_virt(m) + (va & ~PAGE_MASK));
    *was = read_once(*p);
    return update_mirrored_leaf(d, p, e, *was);
}
