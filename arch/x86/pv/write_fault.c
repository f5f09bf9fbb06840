/* Write faults of guests on their own page tables, which are emulated. */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/short_way.h>

/* The entry that maps m may go on the way, and with it the reference that it holds. */
static __attribute__((noinline)) int write_node(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    int rc;

    if (!frame_get(m, d))
        return -EINVAL;
    rc = pt_update_node(d, m, level, idx, e, 0);
    frame_put(m);
    return rc;
}

static int write_entry(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 old, u64 e)
{
    if (e == old)
        return 0;
    return likely(level == 1) ? pt_compare_update_leaf(d, m, idx, old, e) : write_node(d, m, level, idx, e);
}

/* 0, with *was the entry before; -ERESTART_HYPERCALL: the instruction is to run again; else the fault is the guest's own. */
static int emulate_write(struct domain *d, const struct pt_write *w, mfn_t m, u64 *was)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned level = pt_own_level(d, m), idx = (unsigned)(w->linear & ~PAGE_MASK) >> (f->pte_bytes == 8 ? 3 : 2);
    u64 new_entry;
    int rc;

    /* Level 1; of 32-bit guests also level 2, whose entries GNU Mach sets so on its way up. */
    if (!level || level > (d->arch.word == ABI_32 ? 2 : 1))
        return -EINVAL;
    do {
        *was = pt_load(f, mfn_to_virt(m), idx);
        if (!pt_write_new_entry(w, f->pte_bytes, *was, &new_entry))
            return -EINVAL;
        rc = write_entry(d, m, level, idx, *was, new_entry);
    } while (unlikely(rc == -EAGAIN));
    return rc;
}

static __attribute__((noinline)) bool write_by_decoder(struct cpu_regs *regs, u64 address)
{
    struct vcpu *v = current;
    struct domain *d = v->domain;
    struct pt_write w;
    mfn_t l1;
    unsigned idx;
    u64 e, was = 0;
    int rc = -EFAULT;

    fetch_begin();      /* nothing that the short way has read of the instruction is used any more */
    /* Decoded before anything is locked. A write of the kernel's to what it may not write is seldom anything else. */
    if (!pv_decode_pt_write(regs, &w) || (w.linear ^ address) & PAGE_MASK)
        return false;
    pt_lock(d);
    if (pt_find_l1(v, address, &l1, &idx)) {
        e = pt_load(d->arch.fmt, mfn_to_virt(l1), idx);
        /* Only a present read-only mapping of one of the guest's own tables. */
        if ((e & (PTE_P | PTE_RW)) == PTE_P)
            rc = emulate_write(d, &w, pte_mfn(e), &was);
    }
    pt_unlock(d);
    /* Not under the lock: single-stepping, this writes to the guest's stack, and a fault there may take the lock too. */
    if (!rc)
        pv_finish_pt_write(regs, &w, d->arch.fmt->pte_bytes, was, true);
    else
        pt_mirror_step(d);
    return !rc || rc == -ERESTART_HYPERCALL;
}

enum written { WRITTEN, REFUSED, NOT_PLAIN };

static enum written not_written(int rc)
{
    return rc == -ENOENT || rc == -EAGAIN || rc == -ERESTART_HYPERCALL ? NOT_PLAIN : REFUSED;
}

static always_inline enum written written(struct cpu_regs *regs, unsigned len)
{
    regs->rip += len;
    regs->rflags &= ~RFLAGS_RF;
    return WRITTEN;
}

/* rc, was: of the write. */
static always_inline enum written finish_plain_write(struct cpu_regs *regs, const struct plain_write *w, int rc, u64 was)
{
    if (unlikely(rc))
        return not_written(rc);
    if (w->exchanges)
        *w->reg = was;
    return written(regs, w->len);
}

/* What 64-bit kernels do all the time; what is anything but plain is left to the general way. */
static always_inline enum written write_plainly(struct vcpu *v, struct cpu_regs *regs, u64 address)
{
    struct domain *d = v->domain;
    struct plain_write w;
    u64 text, was;
    int rc;

    if (!short_way(guest_text_64(d, regs, &text)) || !insn_plain_write(regs, text, &w) || w.linear != address || address & 7 ||
        regs->rflags & RFLAGS_TF)
        return NOT_PLAIN;
    pt_lock(d);
    rc = pt_write_va(v, address, *w.reg, w.exchanges, &was);
    pt_unlock(d);
    return finish_plain_write(regs, &w, rc, was);
}

static always_inline enum written compare_plainly_pae(struct vcpu *v, struct cpu_regs *regs, u64 text, u64 address)
{
    struct plain_cmpxchg8b c;
    u64 was;
    int rc;

    if (!insn_plain_cmpxchg8b(regs, text, &c) || c.linear != address || address & 7)
        return NOT_PLAIN;
    pt_lock(v->domain);
    rc = pt_compare_write_va_pae(v, address, c.expected, c.value, &was);
    pt_unlock(v->domain);
    if (unlikely(rc))
        return not_written(rc);
    if (likely(was == c.expected)) {
        regs->rflags |= RFLAGS_ZF;
    } else {
        regs->rflags &= ~RFLAGS_ZF;
        regs->rax = (u32)was;
        regs->rdx = was >> 32;
    }
    return written(regs, c.len);
}

static always_inline enum written write_plainly_mirrored(struct vcpu *v, struct cpu_regs *regs, u64 text, u64 address)
{
    struct plain_write w;
    u32 was;
    int rc;

    if (!insn_plain_write_32(regs, text, &w) || w.linear != address || address & 3)
        return NOT_PLAIN;
    pt_lock(v->domain);
    rc = pt_write_va_mirrored(v, address, (u32)*w.reg, &was);
    pt_unlock(v->domain);
    return finish_plain_write(regs, &w, rc, was);
}

/* In segments that begin at 0 and have no end, offsets are linear addresses. */
static always_inline enum written write_plainly_32(struct vcpu *v, struct cpu_regs *regs, u64 address)
{
    u64 text;
    u16 ds;

    __asm__ volatile("mov %%ds, %0" : "=r"(ds));
    if (!short_way(guest_text_32(v->domain, regs, &text)) || !is_flat_data_32(ds) || regs->rflags & RFLAGS_TF)
        return NOT_PLAIN;
    return v->domain->arch.fmt->pte_bytes == 4 ? write_plainly_mirrored(v, regs, text, address)
                                               : compare_plainly_pae(v, regs, text, address);
}

static __attribute__((noinline)) bool write_fault_32(struct vcpu *v, struct cpu_regs *regs, u64 address)
{
    enum written how = write_plainly_32(v, regs, address);

    return likely(how != NOT_PLAIN) ? how == WRITTEN : write_by_decoder(regs, address);
}

bool pv_pt_write_fault(struct cpu_regs *regs, u64 address)
{
    struct vcpu *v = current;
    enum written how;

    if (unlikely(v->domain->arch.word != ABI_64))
        return write_fault_32(v, regs, address);
    how = write_plainly(v, regs, address);
    return likely(how != NOT_PLAIN) ? how == WRITTEN : write_by_decoder(regs, address);
}
