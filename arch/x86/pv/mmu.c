/* The page-table hypercalls: mmu_update, mmuext_op, update_va_mapping. */
#include <asm/dirty.h>
#include <asm/frame_ref.h>
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/grant_table.h>
#include <public/xen.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/preempt.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>

#define RESTART ERESTART_HYPERCALL
/* Set by us in a count that a restart passes on: *pdone holds what was done before. */
#define COUNT_RESUMED 0x80000000u

/* --- Whose frames, whose tables --- */

struct owners {
    struct domain *pt;      /* of the table */
    struct domain *pg;      /* of the frames that entries name */
};

/* The caller's own domain needs no reference: it runs. Device frames are checked against the caller's own rights. */
static always_inline struct domain *foreign_get(u32 domid, s64 *err)
{
    struct domain *cur = current->domain;

    if (likely(domid == DOMID_SELF || domid == cur->id) || domid == DOMID_IO)
        return cur;
    return domain_target(domid, err);
}

static always_inline void foreign_put(struct domain *d)
{
    if (unlikely(d != current->domain))
        domain_put(d);
}

/* A dying domain's tables only go away: what was pinned behind the teardown's back would stay for ever. */
static always_inline struct domain *table_owner_get(u32 domid, s64 *err)
{
    struct domain *d = foreign_get(domid, err);

    if (d && unlikely(d->dying)) {
        *err = refuse(-ESRCH, "d%u is being destroyed", d->id);
        foreign_put(d);
        return NULL;
    }
    return d;
}

/* Whose frames entries may name: foreign_get(), and for the control domain ours that we show it. */
static always_inline struct domain *frames_owner_get(u32 domid, s64 *err)
{
    if (likely(domid != DOMID_XEN) || !is_control_domain(current->domain))
        return foreign_get(domid, err);
    domain_ref(&xen_domain);
    return &xen_domain;
}

static __attribute__((noinline)) int other_owners_get(struct owners *o, u32 foreigndom)
{
    s64 err = 0;
    u32 pt = foreigndom >> 16;

    o->pg = frames_owner_get(foreigndom & 0xffff, &err);
    if (!o->pg)
        return (int)err;
    o->pt = table_owner_get(pt ? pt - 1 : DOMID_SELF, &err);
    if (!o->pt) {
        foreign_put(o->pg);
        return (int)err;
    }
    return 0;
}

static always_inline int owners_get(struct owners *o, u32 foreigndom)
{
    o->pt = o->pg = current->domain;
    return likely(short_way(foreigndom == DOMID_SELF) && !o->pt->dying) ? 0 : other_owners_get(o, foreigndom);
}

static always_inline void owners_put(struct owners *o)
{
    foreign_put(o->pg);
    foreign_put(o->pt);
}

/* What a call has come to that changed nothing of its arguments' meaning: -RESTART is to be made again as it is. */
static __attribute__((cold, noinline)) s64 failed_or_again(int rc)
{
    if (rc != -RESTART)
        return rc;
    pt_mirror_step(current->domain);
    return hypercall_restart(0);
}

/* --- Progress of a list of operations --- */

struct progress { u32 count, done; gva_t pdone; };

static always_inline int progress_begin(struct progress *p, u64 count, u64 pdone)
{
    *p = (struct progress){ (u32)count & ~COUNT_RESUMED, 0, gva(pdone) };
    if ((u32)count & COUNT_RESUMED && pdone && copy_from_guest(&p->done, p->pdone, 4))
        return -EFAULT;
    return 0;
}

static always_inline int progress_store(const struct progress *p, u32 now)
{
    u32 done = p->done + now;
    return p->pdone.v && copy_to_guest(p->pdone, &done, 4) ? -EFAULT : 0;
}

/* --- mmu_update --- */

/* o->pt's pt_lock is held. */
static always_inline int update_pt_entry(const struct owners *o, u64 ptr, u64 val, unsigned flags)
{
    const struct pt_format *f = o->pt->arch.fmt;
    mfn_t m = mfn(ptr >> PAGE_SHIFT);
    unsigned idx = (unsigned)(ptr & ~PAGE_MASK) >> (f->pte_bytes == 8 ? 3 : 2);
    u32 w, *p;
    unsigned level;
    int rc;

    if (unlikely(ptr & (f->pte_bytes - 1) & ~3UL))
        return refuse(-EINVAL, "entry address %#lx is not aligned to %u bytes", ptr, f->pte_bytes);
    if (unlikely(f->pte_bytes == 4 && val >> 32))
        return refuse(-EINVAL, "entry %#lx has more than 32 bits", val);
    if (pt_in_known_mirrored_l1(o->pt, ptr, &p))
        return pt_update_leaf(o->pt, m, idx, val, o->pg, flags);
    if (unlikely(!frame_take(m, o->pt)))
        return refuse(-EINVAL, "table frame %#lx is not d%u's (owner d%u)", ptr >> PAGE_SHIFT, o->pt->id, frame_owner_id(m));
    w = frame_types[m.v];
    level = pt_live_level(w);
    if (likely(level == 1)) {
        pt_know_l1(o->pt, m);
        rc = pt_update_leaf(o->pt, m, idx, val, o->pg, flags);
    } else if (level) {
        rc = pt_update_node(o->pt, m, level, idx, val, flags);
    } else if ((rc = frame_get_writable(m, o->pt)) == 0) {
        /* Not a page table (yet): any content goes. */
        if (f->pte_bytes == 8)
            write_once(((u64 *)mfn_to_virt(m))[idx], val);
        else
            write_once(((u32 *)mfn_to_virt(m))[idx], (u32)val);
        frame_put_writable(m);
    } else {
        rc = refuse(-EINVAL, "frame %#lx is no complete page table (type word %#x)", m.v, w);
    }
    frame_drop(m);
    return rc;
}

static __attribute__((noinline)) int update_m2p(const struct owners *o, u64 ptr, u64 val)
{
    mfn_t m = mfn(ptr >> PAGE_SHIFT);

    if (!frame_get(m, o->pg))
        return refuse(-EINVAL, "frame %#lx is not d%u's", ptr >> PAGE_SHIFT, o->pg->id);
    m2p_set(m, val);
    log_dirty(o->pg, m);
    frame_put(m);
    return 0;
}

static __attribute__((noinline)) int update_other(const struct owners *o, const struct mmu_update *u)
{
    unsigned command = u->ptr & 3;
    u32 *p;

    if (pt_in_known_mirrored_l1(o->pt, u->ptr, &p) && command == MMU_NORMAL_PT_UPDATE && !(u->val >> 32) && o->pg == o->pt)
        return pt_update_known_mirrored(o->pt, p, (u32)u->val);
    if (unlikely(command == MMU_MACHPHYS_UPDATE))
        return update_m2p(o, u->ptr & ~3UL, u->val);
    return update_pt_entry(o, u->ptr & ~3UL, u->val, command == MMU_PT_UPDATE_PRESERVE_AD ? PT_PRESERVE_AD : 0);
}

/* Most name their own frames, in the table that the last one named. */
static always_inline int update_one(const struct owners *o, const struct known_table *known, const struct mmu_update *u)
{
    struct domain *d = o->pt;
    u64 *p;

    if (unlikely(u->ptr & 4 || !pt_in_known(known, u->ptr & ~3UL, &p)))
        return update_other(o, u);
    switch (u->ptr & 3) {
    case MMU_NORMAL_PT_UPDATE:      return pt_update_known(d, p, u->val);
    case MMU_PT_UPDATE_PRESERVE_AD: return pt_update_known_ad(d, p, u->val);
    default:                        return update_other(o, u);
    }
}

/*
 * How many requests are read before the lock is taken for all of them: a fault of the reading may want the lock too. Also how
 * many are done before somebody else is let in.
 */
#define REQUESTS 16

/* Does requests from r[*i] on, before r[n]. -RESTART: what *i counts is done, but work is left over. */
static always_inline int update_locked(const struct owners *o, const struct mmu_update *r, u32 n, u32 *i)
{
    const struct known_table *known = likely(o->pg == o->pt) ? &o->pt->arch.known_l1 : &no_known_table;
    int rc = 0;

    for (u32 k = 0; k < n && !(rc = update_one(o, known, &r[k])); k++) {
        ++*i;
        if (unlikely(o->pt->arch.nr_orphans)) {
            rc = -RESTART;
            break;
        }
    }
    return rc;
}

static always_inline int update_some(const struct owners *o, const struct mmu_update *r, u32 n, u32 *i)
{
    int rc;

    pt_lock(o->pt);
    rc = update_locked(o, r, n, i);
    pt_unlock(o->pt);
    return rc;
}

static __attribute__((noinline)) int drain_orphans(struct domain *d)
{
    int rc;

    pt_lock(d);
    rc = pt_drain_orphans(d);
    pt_unlock(d);
    return rc;
}

static always_inline int drain(struct domain *d)
{
    return likely(!read_once(d->arch.nr_orphans)) ? 0 : drain_orphans(d);
}

static __attribute__((noinline)) s64 update_list(u64 ureqs, u64 ucount, u64 pdone, u64 foreigndom)
{
    struct progress p;
    struct owners o;
    u32 i = 0;
    int rc = progress_begin(&p, ucount, pdone);

    if (rc || (rc = owners_get(&o, (u32)foreigndom)))
        return rc;
    rc = drain(o.pt);
    while (!rc && i < p.count) {
        struct mmu_update r[REQUESTS];
        u32 n = 0;

        if (unlikely(i && call_gives_way())) {
            rc = -RESTART;
            break;
        }
        while (n < REQUESTS && i + n < p.count && !copy_from_guest(&r[n], gva(ureqs + (i + n) * sizeof(*r)), sizeof(*r)))
            n++;
        rc = n ? update_some(&o, r, n, &i) : -EFAULT;
    }
    pt_mirror_step(o.pt);
    owners_put(&o);
    if (progress_store(&p, i))
        rc = -EFAULT;
    if (rc == -RESTART)
        return hypercall_restart(4, ureqs + i * sizeof(struct mmu_update), (u64)((p.count - i) | COUNT_RESUMED), pdone,
                                 foreigndom);
    return rc;
}

/* One request of a list, for what is the caller's, without a place for how many were done. */
static always_inline bool is_own_single(u64 count, u64 pdone, u64 foreigndom)
{
    return short_way(!((count ^ 1) | pdone | (foreigndom ^ DOMID_SELF)));
}

/* With the lock held, which it drops. */
static __attribute__((noinline)) s64 update_other_single(struct domain *d, u64 ureq, u64 ptr, u64 val)
{
    const struct owners o = { d, d };
    const struct mmu_update r = { ptr, val };
    u32 done = 0;
    int rc = likely(!d->arch.nr_orphans) ? 0 : pt_drain_orphans(d);

    if (!rc)
        rc = update_locked(&o, &r, 1, &done);
    pt_unlock(d);
    if (unlikely(rc != -RESTART))
        return rc;
    pt_mirror_step(d);
    return hypercall_restart(4, ureq + done * sizeof(r), (u64)(1 - done) | COUNT_RESUMED, 0UL, (u64)DOMID_SELF);
}

/*
 * What a kernel does on most page faults: one request for its own table and frame. The same, without a list; if it is for the table
 * that the last one named, and so leaves no work over, without update_one() too.
 */
static always_inline s64 update_single(struct domain *d, u64 ureq)
{
    struct mmu_update r;
    u64 *p;
    int rc;

    if (unlikely(copy_from_guest(&r, gva(ureq), sizeof(r))))
        return -EFAULT;
    pt_lock(d);
    if (unlikely(r.ptr & 7 || !pt_in_known_l1(d, r.ptr, &p)))
        return update_other_single(d, ureq, r.ptr, r.val);
    rc = pt_update_known(d, p, r.val);
    pt_unlock(d);
    return likely(!rc) ? 0 : failed_or_again(rc);
}

s64 do_mmu_update(u64 ureqs, u64 ucount, u64 pdone, u64 foreigndom, u64, u64)
{
    struct domain *d = current->domain;

    if (likely(is_own_single(ucount, pdone, foreigndom) && !d->dying))
        return update_single(d, ureqs);
    return update_list(ureqs, ucount, pdone, foreigndom);
}

/* --- update_va_mapping --- */

static int vcpu_mask_cpus(struct domain *d, gva_t bitmap, cpumask_t *cpus)
{
    u64 bits = 0;
    struct vcpu *v;

    cpumask_zero(cpus);
    for (u32 i = 0; i < d->max_vcpus; i++) {
        if (i % 8 == 0 && copy_from_guest(&bits, gva_add(bitmap, i / 8), 1))
            return -EFAULT;
        v = d->vcpu[i];
        if (bits >> (i % 8) & 1 && v && cpumask_test(&d->arch.dirty_cpus, v->cpu))
            cpumask_set(cpus, v->cpu);
    }
    return 0;
}

static __attribute__((noinline)) int flush_cpus_after_update(struct domain *d, u64 va, u64 flags)
{
    u64 bitmap = flags & ~UVMF_FLUSHTYPE_MASK;
    cpumask_t cpus;

    smp_mb();       /* the entry is changed before we look at who may have read it: see mm/flush.c */
    if (bitmap == UVMF_ALL)
        cpus = d->arch.dirty_cpus;
    else if (bitmap == UVMF_LOCAL)
        cpus = cpumask_of(this_cpu_id());
    else if (vcpu_mask_cpus(d, gva(bitmap), &cpus))
        return -EFAULT;
    switch (flags & UVMF_FLUSHTYPE_MASK) {
    case UVMF_TLB_FLUSH:
        flush_tlb_mask(&cpus);
        return 0;
    case UVMF_INVLPG:
        flush_va_mask(&cpus, va);
        return 0;
    default:
        return refuse(-EINVAL, "flush type %lu", flags & UVMF_FLUSHTYPE_MASK);
    }
}

static always_inline int flush_after_update(struct domain *d, u64 va, u64 flags)
{
    if ((flags & UVMF_FLUSHTYPE_MASK) == UVMF_NONE)
        return 0;
    if (likely(short_way(flags == (UVMF_INVLPG | UVMF_LOCAL)))) {
        invlpg(va);
        return 0;
    }
    return flush_cpus_after_update(d, va, flags);
}

static always_inline s64 update_va(u64 va, u64 val, u64 flags, u32 foreigndom)
{
    struct vcpu *v = current;
    struct domain *d = v->domain, *pg = d;
    s64 err = 0;
    int rc;

    /* A frame may wait for the rest of its demotion to be of any use. */
    if (unlikely(drain(d)))
        return failed_or_again(-RESTART);
    if (unlikely(foreigndom != DOMID_SELF) && !(pg = frames_owner_get(foreigndom, &err)))
        return err;
    pt_lock(d);
    rc = pt_update_va(v, va, val, pg);
    pt_unlock(d);
    if (unlikely(foreigndom != DOMID_SELF))
        foreign_put(pg);
    if (unlikely(rc))
        return failed_or_again(rc);
    return flush_after_update(d, va, flags);
}

s64 do_update_va_mapping(u64 va, u64 a1, u64 a2, u64, u64, u64)
{
    return update_va(va, a1, a2, DOMID_SELF);
}

s64 do_update_va_mapping_otherdomain(u64 va, u64 a1, u64 a2, u64 a3, u64, u64)
{
    return update_va(va, a1, a2, (u16)a3);
}

/* --- Roots --- */

int pv_new_root(struct vcpu *v, mfn_t m, bool user)
{
    struct domain *d = v->domain;
    mfn_t *root = user ? &v->arch.root_user : &v->arch.root_kernel, old = *root;
    int rc = 0;

    if (mfn_eq(old, m) && !user) {
        flush_tlb_local();
        return 0;
    }
    pt_lock(d);
    if (unlikely(d->arch.nr_orphans))
        rc = pt_drain_orphans(d);
    if (!rc && (!user || m.v))
        rc = pt_get_table(d, m, d->arch.fmt->levels);
    if (rc) {
        pt_unlock(d);
        return rc == -RESTART ? rc : refuse(rc, "frame %#lx cannot be a root", m.v);
    }
    *root = user && !m.v ? INVALID_MFN : m;
    pt_show_m2p(d, *root, user);
    if (!user)
        pv_destroy_ldt(v);
    if (v->arch.monitor_l4)
        mirror_set_root(v);     /* in the table that CR3 names all the time */
    else
        pv_make_cr3(v);
    if (v == current && (!user || !v->arch.kernel_mode))
        pv_load_cr3(v);
    if (!mfn_eq(old, INVALID_MFN))
        pt_put_table(d, old);
    pt_unlock(d);
    return 0;
}

/* --- mmuext_op --- */

static int ext_pin(struct domain *d, const struct mmuext_op *op)
{
    unsigned level = op->cmd - MMUEXT_PIN_L1_TABLE + 1;
    int rc;

    if (level > d->arch.fmt->levels)
        return refuse(-EINVAL, "a %s guest has no L%u tables", d->arch.fmt->name, level);
    pt_lock(d);
    /* Asked again, under the lock that the teardown unpins under: what is pinned after that would stay. */
    rc = d->dying ? refuse(-ESRCH, "d%u is being destroyed", d->id) : pt_pin(d, mfn(op->arg1), level);
    pt_unlock(d);
    return rc;
}

static int ext_unpin(struct domain *d, const struct mmuext_op *op)
{
    int rc;

    pt_lock(d);
    rc = pt_unpin(d, mfn(op->arg1));
    pt_unlock(d);
    return rc;
}

static int ext_baseptr(struct domain *d, const struct mmuext_op *op, bool user)
{
    if (d != current->domain || (user && d->arch.word == ABI_32))
        return refuse(-EPERM, "not for another domain, nor for a 32-bit one's user mode");
    return pv_new_root(current, mfn(op->arg1), user);
}

static int ext_set_ldt(struct domain *d, const struct mmuext_op *op)
{
    struct vcpu *v = current;
    u64 base = op->arg1;
    u32 n = (u32)op->arg2;

    if (d != v->domain)
        return refuse(-EPERM, "not for another domain");
    if (base & ~PAGE_MASK || n > 8192 || (n && !guest_range_ok(d, base, n * 8UL)))
        return refuse(-EINVAL, "LDT at %#lx with %u entries: wants a page boundary and at most 8192", base, n);
    if (!n && !v->arch.ldt_entries)
        return 0;
    pt_lock(d);
    pv_destroy_ldt(v);
    v->arch.ldt_base = n ? base : 0;
    v->arch.ldt_entries = n;
    pt_unlock(d);
    u64 flags = irq_save();
    pv_load_ldt(v);
    irq_restore(flags);
    return 0;
}

static int ext_clear_copy(struct domain *d, const struct mmuext_op *op, bool copy)
{
    mfn_t to = mfn(op->arg1), from = mfn(op->arg2);
    int rc = frame_get_writable(to, d);

    if (rc)
        return refuse(-EINVAL, "frame %#lx is not d%u's to write", op->arg1, d->id);
    if (!copy) {
        memset(mfn_to_virt(to), 0, PAGE_SIZE);
    } else if (frame_get(from, d)) {
        memcpy(mfn_to_virt(to), mfn_to_virt(from), PAGE_SIZE);
        frame_put(from);
    } else {
        rc = refuse(-EINVAL, "frame %#lx is not d%u's to read", op->arg2, d->id);
    }
    frame_put_writable(to);
    return rc;
}

static int ext_flush_local(const struct domain *d, const struct mmuext_op *op)
{
    if (d != current->domain)
        return refuse(-EPERM, "not for another domain");
    if (op->cmd == MMUEXT_TLB_FLUSH_LOCAL)
        flush_tlb_local();
    else if (guest_access_ok(d, op->arg1, 1))
        invlpg(op->arg1);
    return 0;
}

static int ext_flush(struct domain *d, const struct mmuext_op *op)
{
    bool page = op->cmd == MMUEXT_INVLPG_MULTI || op->cmd == MMUEXT_INVLPG_ALL;
    cpumask_t cpus;

    if (d != current->domain)
        return refuse(-EPERM, "not for another domain");
    if (page && !guest_range_ok(d, op->arg1, 1))
        return 0;
    smp_mb();       /* entries are changed before we look at who may have read them: see mm/flush.c */
    cpus = d->arch.dirty_cpus;
    if ((op->cmd == MMUEXT_TLB_FLUSH_MULTI || op->cmd == MMUEXT_INVLPG_MULTI) && vcpu_mask_cpus(d, gva(op->arg2), &cpus))
        return -EFAULT;
    if (page)
        flush_va_mask(&cpus, op->arg1);
    else
        flush_tlb_mask(&cpus);
    return 0;
}

static int ext_cache(struct domain *d)
{
    if (!d->is_hardware)
        return refuse(-EACCES, "only a domain with devices may flush caches");
    __asm__ volatile("wbinvd" ::: "memory");
    return 0;
}

static int ext_one(struct domain *d, const struct mmuext_op *op)
{
    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE ... MMUEXT_PIN_L4_TABLE: return ext_pin(d, op);
    case MMUEXT_UNPIN_TABLE:                          return ext_unpin(d, op);
    case MMUEXT_NEW_BASEPTR:                          return ext_baseptr(d, op, false);
    case MMUEXT_NEW_USER_BASEPTR:                     return ext_baseptr(d, op, true);
    case MMUEXT_TLB_FLUSH_LOCAL:
    case MMUEXT_INVLPG_LOCAL:                         return ext_flush_local(d, op);
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
    case MMUEXT_TLB_FLUSH_ALL:
    case MMUEXT_INVLPG_ALL:                           return ext_flush(d, op);
    case MMUEXT_FLUSH_CACHE:
    case MMUEXT_FLUSH_CACHE_GLOBAL:                   return ext_cache(d);
    case MMUEXT_SET_LDT:                              return ext_set_ldt(d, op);
    case MMUEXT_CLEAR_PAGE:                           return ext_clear_copy(d, op, false);
    case MMUEXT_COPY_PAGE:                            return ext_clear_copy(d, op, true);
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER:                         return refuse(-EOPNOTSUPP, "large pages are not supported");
    default:                                          return refuse(-ENOSYS, "command %u", op->cmd);
    }
}

static __attribute__((noinline)) s64 ext_list(u64 uops, u64 ucount, u64 pdone, u64 foreigndom)
{
    struct progress p;
    struct domain *d;
    u32 i = 0, mark;
    s64 err = progress_begin(&p, ucount, pdone);
    int rc;

    if (err || !(d = table_owner_get((u32)foreigndom, &err)))
        return err;
    rc = drain(d);
    mark = fetch_mark();
    while (!rc && i < p.count) {
        struct mmuext_op op;

        fetch_forget(mark);
        if (i && call_gives_way()) {
            rc = -RESTART;
            break;
        }
        if (guest_read_abi_inline(mmuext_op, &op, guest_abi_elem(mmuext_op, gva(uops), i))) {
            rc = -EFAULT;
            break;
        }
        rc = ext_one(d, &op);
        i += !rc;
        if (!rc && d->arch.nr_orphans)
            rc = -RESTART;
    }
    pt_mirror_step(d);
    foreign_put(d);
    if (progress_store(&p, i))
        rc = -EFAULT;
    if (rc == -RESTART)
        return hypercall_restart(4, guest_abi_elem(mmuext_op, gva(uops), i).v, (u64)((p.count - i) | COUNT_RESUMED),
                                 pdone, foreigndom);
    return rc;
}

/* The operation is to be made again, or is done and something is left over: as ext_list() goes on. */
static __attribute__((noinline)) s64 ext_left_over(int rc, u64 uop)
{
    u32 left = rc == -RESTART;

    if (rc && rc != -RESTART)
        return rc;
    pt_mirror_step(current->domain);
    return hypercall_restart(4, left ? uop : guest_abi_elem(mmuext_op, gva(uop), 1).v, (u64)left | COUNT_RESUMED, 0UL,
                             (u64)DOMID_SELF);
}

/* What kernels do all the time: one operation on what is their own. The same, without a list. */
static always_inline s64 ext_single(struct domain *d, u64 uop)
{
    struct mmuext_op op;
    int rc;

    if (unlikely(guest_read_abi_inline(mmuext_op, &op, gva(uop))))
        return -EFAULT;
    rc = ext_one(d, &op);
    if (unlikely(rc == -RESTART || d->arch.nr_orphans))
        return ext_left_over(rc, uop);
    return rc;
}

s64 do_mmuext_op(u64 uops, u64 ucount, u64 pdone, u64 foreigndom, u64, u64)
{
    struct domain *d = current->domain;

    if (likely(is_own_single(ucount, pdone, foreigndom) && !d->dying && !read_once(d->arch.nr_orphans)))
        return ext_single(d, uops);
    return ext_list(uops, ucount, pdone, foreigndom);
}
