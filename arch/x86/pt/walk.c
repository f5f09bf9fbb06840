/* The way down from a root to the entry that maps an address. */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <pvisor/printk.h>
#include "internal.h"

static mfn_t current_root(const struct vcpu *v)
{
    return v->domain->arch.fmt->levels == 4 && !v->arch.kernel_mode ? v->arch.root_user : v->arch.root_kernel;
}

bool pt_find_l1(const struct vcpu *v, u64 va, mfn_t *table, unsigned *idx)
{
    return pt_find_l1_below(v->domain, current_root(v), va, table, idx);
}

bool pt_find_l1_below(const struct domain *d, mfn_t m, u64 va, mfn_t *table, unsigned *idx)
{
    const struct pt_format *f = d->arch.fmt;
    bool found;

    if (likely(f->levels == 4))
        found = find_l1_64(&m, va);
    else if (f->levels == 3)
        found = find_l1_pae(&m, va);
    else
        found = find_l1_mirrored(&m, va);
    if (!found)
        return false;
    *table = m;
    *idx = pt_index(f, 1, va);
    return is_l1(m);
}

void pt_walk_dump(const struct vcpu *v, u64 va)
{
    const struct pt_format *f = v->domain->arch.fmt;
    struct pt_walk w = pt_walk_from(f, current_root(v));

    ASSERT(spin_is_held(&v->domain->arch.pt_lock));
    printk(LOG_ERR "Page walk of %#lx (%s tables):\n", va, f->name);
    while (pt_walk_down(&w, va))
        printk(LOG_ERR " L%u[%03x] = %016lx  pfn %016lx\n", w.level, w.idx, w.entry, m2p_get(pte_mfn(w.entry)));
}
