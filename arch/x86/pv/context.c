/* vcpu_guest_context, in both layouts: all that makes a vCPU run, taken from the toolstack or its kernel, and given back. */
#include <asm/desc.h>
#include <asm/features.h>
#include <asm/fpu.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>

size_t arch_context_size(const struct domain *d)
{
    return d->arch.word == ABI_64 ? sizeof(struct vcpu_guest_context_64) : sizeof(struct vcpu_guest_context_32);
}

static void sanitize_regs(const struct domain *d, struct cpu_regs *r)
{
    r->cs = fixup_selector(d, r->cs);
    r->ss = fixup_selector(d, r->ss);
    r->rflags = (r->rflags & ~(RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_NT)) | RFLAGS_IF | RFLAGS_FIXED;
    r->entry_vector = 0;
    r->error_code = 0;
}

/* Selectors as the guest gave them, but never one of our own (ring 0). */
static struct trap_entry context_trap(const struct domain *d, const struct trap_info *t)
{
    return (struct trap_entry){ t->address, fixup_selector(d, t->cs), t->flags & TI_DPL_MASK, t->flags & TI_IF };
}

/* Gives up v's roots. -ERESTART_HYPERCALL: what is left is on the domain's orphan list. */
static int drop_roots(struct vcpu *v)
{
    mfn_t *const roots[] = { &v->arch.root_kernel, &v->arch.root_user };
    int rc = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(roots); i++) {
        mfn_t m = *roots[i];

        *roots[i] = INVALID_MFN;
        if (!mfn_eq(m, INVALID_MFN) && pt_put_table(v->domain, m))
            rc = -ERESTART_HYPERCALL;
    }
    return rc;
}

static int set_roots(struct vcpu *v, mfn_t kernel, mfn_t user)
{
    struct domain *d = v->domain;
    unsigned level = d->arch.fmt->levels;
    mfn_t last = kernel;
    int rc;

    pt_lock(d);
    rc = pt_drain_orphans(d);
    if (!rc)
        rc = pt_get_table(d, kernel, level);
    if (!rc && user.v) {
        rc = pt_get_table(d, last = user, level);
        if (rc)
            pt_put_table(d, kernel);
    }
    if (!rc) {
        (void)drop_roots(v);    /* those of an earlier call that failed later on */
        v->arch.root_kernel = kernel;
        v->arch.root_user = user.v ? user : INVALID_MFN;
        if (v->arch.monitor_l4)
            mirror_set_root(v);
    }
    pt_unlock(d);
    pt_mirror_step(d);
    if (!rc || rc == -ERESTART_HYPERCALL)
        return rc;
    return refuse(-EINVAL, "frame %#lx cannot be the %s root", last.v, mfn_eq(last, kernel) ? "kernel's" : "user's");
}

/*
 * As pv_new_root() leaves them, now that it is known what the guest wants: a table has what its promotion put there. With what the CPU
 * loads for them: the store may change (pt/store.c) when the lock is not held.
 */
static void finish_roots(struct vcpu *v)
{
    struct domain *d = v->domain;

    pt_lock(d);
    pt_show_m2p(d, v->arch.root_kernel, false);
    pt_show_m2p(d, v->arch.root_user, true);
    pv_make_cr3(v);
    pt_unlock(d);
}

/* What both layouts say, widened. */
struct context {
    u64 flags, ldt_base, ldt_ents, gdt_frames[16], gdt_ents, kernel_ss, kernel_sp, cr[8], dr[8], vm_assist;
    u64 fs_base, gs_base_kernel, gs_base_user;
    struct { u64 cs, eip; } event, failsafe, syscall;
    const void *traps;      /* 256 of trap_info */
    bool kernel_mode;
};

#define WIDEN(c, raw)                                                                                   \
    do {                                                                                                \
        (c)->flags = (raw)->flags; (c)->ldt_base = (raw)->ldt_base; (c)->ldt_ents = (raw)->ldt_ents;    \
        (c)->gdt_ents = (raw)->gdt_ents; (c)->kernel_ss = (raw)->kernel_ss;                             \
        (c)->kernel_sp = (raw)->kernel_sp; (c)->vm_assist = (raw)->vm_assist;                           \
        (c)->traps = (raw)->trap_ctxt;                                                                  \
        (c)->event.eip = (raw)->event_callback_eip; (c)->failsafe.eip = (raw)->failsafe_callback_eip;   \
        for (unsigned i_ = 0; i_ < 16; i_++) (c)->gdt_frames[i_] = (raw)->gdt_frames[i_];               \
        for (unsigned i_ = 0; i_ < 8; i_++) { (c)->cr[i_] = (raw)->ctrlreg[i_]; (c)->dr[i_] = (raw)->debugreg[i_]; } \
    } while (0)

static void take_regs_32(struct cpu_regs *r, const struct cpu_user_regs_32 *u)
{
    *r = (struct cpu_regs){
        .rax = u->eax, .rbx = u->ebx, .rcx = u->ecx, .rdx = u->edx, .rsi = u->esi, .rdi = u->edi, .rbp = u->ebp,
        .rip = u->eip, .cs = u->cs, .rflags = u->eflags, .rsp = u->esp, .ss = u->ss, .ds = u->ds, .es = u->es,
        .fs = u->fs, .gs = u->gs,
    };
}

static void give_regs_32(struct cpu_user_regs_32 *u, const struct cpu_regs *r)
{
    *u = (struct cpu_user_regs_32){
        .eax = (u32)r->rax, .ebx = (u32)r->rbx, .ecx = (u32)r->rcx, .edx = (u32)r->rdx, .esi = (u32)r->rsi,
        .edi = (u32)r->rdi, .ebp = (u32)r->rbp, .eip = (u32)r->rip, .cs = r->cs, .eflags = (u32)r->rflags,
        .esp = (u32)r->rsp, .ss = r->ss, .ds = r->ds, .es = r->es, .fs = r->fs, .gs = r->gs,
    };
}

static void widen_64(struct context *c, struct cpu_regs *regs, const struct vcpu_guest_context_64 *raw)
{
    _Static_assert(sizeof(struct cpu_regs) == sizeof(struct cpu_user_regs_64), "same layout");
    WIDEN(c, raw);
    c->syscall.eip = raw->syscall_callback_eip;
    memcpy(regs, &raw->user_regs, sizeof(*regs));
    c->fs_base = raw->fs_base;
    c->gs_base_kernel = raw->gs_base_kernel;
    c->gs_base_user = raw->gs_base_user;
    c->kernel_mode = raw->flags & VGCF_in_kernel;
}

static void widen_32(struct context *c, struct cpu_regs *regs, const struct vcpu_guest_context_32 *raw)
{
    WIDEN(c, raw);
    c->event.cs = raw->event_callback_cs;
    c->failsafe.cs = raw->failsafe_callback_cs;
    take_regs_32(regs, &raw->user_regs);
    c->kernel_mode = true;
}

static mfn_t root_of_cr3(const struct domain *d, u64 cr3)
{
    return mfn(d->arch.word == ABI_64 ? cr3 >> PAGE_SHIFT : XEN_CR3_TO_PFN_32((u32)cr3));
}

/* 0: none. */
static mfn_t user_root(const struct domain *d, const struct context *c)
{
    return mfn(d->arch.word == ABI_64 ? c->cr[1] >> PAGE_SHIFT : 0);
}

/* SYSRET to one that is not would fault in ring 0. */
static bool traps_canonical(const struct domain *d, const char *raw)
{
    enum abi_word w = d->arch.word;

    for (unsigned i = 0; i < 256; i++) {
        struct trap_info t;

        abi_read(trap_info, w, &t, raw + i * abi_sizeof(w, trap_info));
        if (!is_canonical(t.address))
            return false;
    }
    return true;
}

static int check_context(const struct domain *d, const struct context *c, const struct vcpu *v)
{
    bool has_user = v->is_initialised ? !mfn_eq(v->arch.root_user, INVALID_MFN) : user_root(d, c).v != 0;

    if (d->arch.word == ABI_64 && !d->is_hardware && cpu_hangs_by_64_bit_code())
        return refuse(-EPERM, "64-bit code can hang this CPU (AMD's erratum 121): domUs run none, but with allow_unsafe");
    if (!c->kernel_mode && !has_user)
        return refuse(-EINVAL, "the context is in user mode and has no page tables for it");
    if (d->arch.word == ABI_64 && !(is_canonical(c->event.eip) && is_canonical(c->failsafe.eip) && is_canonical(c->syscall.eip) &&
                                    is_canonical(c->fs_base) && is_canonical(c->gs_base_kernel) &&
                                    is_canonical(c->gs_base_user) && traps_canonical(d, c->traps)))
        return refuse(-EINVAL, "an address of the context is not canonical");
    if (c->gdt_ents > FIRST_RESERVED_GDT_ENTRY || c->ldt_ents > 8192 || (c->ldt_ents && c->ldt_base & ~PAGE_MASK))
        return refuse(-EINVAL, "GDT with %lu or LDT with %lu entries at %#lx", c->gdt_ents, c->ldt_ents, c->ldt_base);
    return 0;
}

static void take_callbacks(struct vcpu *v, const struct context *c)
{
    const struct domain *d = v->domain;

    v->arch.callback[CB_EVENT] = (struct guest_callback){ c->event.eip, fixup_selector(d, (u16)c->event.cs), true, true };
    v->arch.callback[CB_FAILSAFE] = (struct guest_callback){ c->failsafe.eip, fixup_selector(d, (u16)c->failsafe.cs), true,
                                                            c->flags & VGCF_failsafe_disables_events };
    v->arch.callback[CB_SYSCALL] = (struct guest_callback){ c->syscall.eip, 0, true, c->flags & VGCF_syscall_disables_events };
}

static void take_traps(struct vcpu *v, const char *raw)
{
    enum abi_word w = v->domain->arch.word;

    for (unsigned i = 0; i < 256; i++) {
        struct trap_info t;

        abi_read(trap_info, w, &t, raw + i * abi_sizeof(w, trap_info));
        v->arch.traps[i] = context_trap(v->domain, &t);
    }
}

int arch_vcpu_set_context(struct vcpu *v, const void *raw)
{
    struct domain *d = v->domain;
    struct context c = { 0 };
    struct cpu_regs regs = { 0 };
    u8 iopl;
    int rc;

    if (d->arch.word == ABI_64)
        widen_64(&c, &regs, raw);
    else
        widen_32(&c, &regs, raw);
    if ((rc = check_context(d, &c, v)))
        return rc;
    iopl = regs.rflags >> 12 & 3;   /* virtual: how Linux gives its secondary CPUs I/O privilege */
    sanitize_regs(d, &regs);
    if (v->is_initialised) {
        /* Address space and tables of a vCPU that has them stay; the rest may be changed. */
        mfn_t root = root_of_cr3(d, c.cr[3]);

        if (mfn_eq(root, INVALID_MFN) || !mfn_eq(root, v->arch.root_kernel) || c.ldt_ents != v->arch.ldt_entries)
            return refuse(-EOPNOTSUPP, "the vCPU is initialised: its root and LDT cannot be replaced");
    } else {
        rc = set_roots(v, root_of_cr3(d, c.cr[3]), user_root(d, &c));
        if (rc)
            return rc;
        rc = pv_set_gdt(v, c.gdt_frames, (u32)c.gdt_ents);
        if (rc)
            return rc;
        v->arch.ldt_base = c.ldt_base;
        v->arch.ldt_entries = (u32)c.ldt_ents;
    }
    if (c.flags & VGCF_i387_valid)
        fpu_set_legacy(v, raw);
    v->arch.ts = c.cr[0] & CR0_TS;
    v->arch.cr[4] = pv_fixup_cr4(v, c.cr[4]) & (v->arch.cr[4] | ~CR4_PAE);
    take_callbacks(v, &c);
    take_traps(v, c.traps);
    v->arch.fs_base = c.fs_base;
    v->arch.gs_base_kernel = c.gs_base_kernel;
    v->arch.gs_base_user = c.gs_base_user;
    v->arch.kernel_mode = c.kernel_mode;
    v->arch.kernel_ss = fixup_selector(d, (u16)c.kernel_ss);
    v->arch.kernel_sp = c.kernel_sp;
    v->arch.iopl = iopl;
    v->arch.regs = regs;
    for (unsigned i = 0; i < 8; i++)
        (void)pv_set_debugreg(v, i, c.dr[i]);
    if (v->id == 0) {
        /* The toolstack has cleared shared_info by now. */
        domain_wallclock_update(d);
        d->vm_assist = c.vm_assist & vm_assist_valid(d);
    }
    finish_roots(v);
    if (!v->is_initialised)
        vcpu_start_ticking(v);
    v->is_initialised = true;
    return 0;
}

#define NARROW(raw, c, T)                                                                                       \
    do {                                                                                                        \
        (raw)->flags = (T)(c)->flags; (raw)->ldt_base = (T)(c)->ldt_base; (raw)->ldt_ents = (T)(c)->ldt_ents;   \
        (raw)->gdt_ents = (T)(c)->gdt_ents; (raw)->kernel_ss = (T)(c)->kernel_ss;                               \
        (raw)->kernel_sp = (T)(c)->kernel_sp; (raw)->vm_assist = (T)(c)->vm_assist;                             \
        (raw)->event_callback_eip = (T)(c)->event.eip; (raw)->failsafe_callback_eip = (T)(c)->failsafe.eip;     \
        for (unsigned i_ = 0; i_ < 16; i_++) (raw)->gdt_frames[i_] = (T)(c)->gdt_frames[i_];                    \
        for (unsigned i_ = 0; i_ < 8; i_++) { (raw)->ctrlreg[i_] = (T)(c)->cr[i_]; (raw)->debugreg[i_] = (T)(c)->dr[i_]; } \
        for (unsigned i_ = 0; i_ < 256; i_++) {                                                                 \
            const struct trap_entry *t_ = &v->arch.traps[i_];                                                   \
            (raw)->trap_ctxt[i_].vector = (u8)i_; (raw)->trap_ctxt[i_].cs = t_->cs;                             \
            (raw)->trap_ctxt[i_].flags = (u8)(t_->dpl | (t_->disables_events ? TI_IF : 0));                     \
            (raw)->trap_ctxt[i_].address = (T)t_->address;                                                      \
        }                                                                                                       \
    } while (0)

void arch_vcpu_get_context(struct vcpu *v, void *raw)
{
    struct domain *d = v->domain;
    struct cpu_regs regs = *vcpu_regs(v);
    struct context c = { 0 };

    regs.rflags |= (u64)v->arch.iopl << 12;     /* virtual, as arch_vcpu_set_context() takes it */
    memset(raw, 0, arch_context_size(d));
    fpu_get_legacy(v, raw);
    c.flags = VGCF_i387_valid | (v->arch.kernel_mode ? VGCF_in_kernel : 0) |
              (v->pause_flags & VPF_DOWN ? 0 : VGCF_online) |
              (v->arch.callback[CB_FAILSAFE].disables_events ? VGCF_failsafe_disables_events : 0) |
              (v->arch.callback[CB_SYSCALL].disables_events ? VGCF_syscall_disables_events : 0);
    c.ldt_base = v->arch.ldt_base;
    c.ldt_ents = v->arch.ldt_entries;
    c.gdt_ents = v->arch.gdt_entries;
    for (unsigned i = 0; i < DIV_ROUND_UP(v->arch.gdt_entries, 512); i++)
        c.gdt_frames[i] = v->arch.gdt_frames[i].v;
    c.kernel_ss = v->arch.kernel_ss;
    c.kernel_sp = v->arch.kernel_sp;
    c.vm_assist = d->vm_assist;
    memcpy(c.cr, v->arch.cr, sizeof(c.cr));
    c.cr[0] = CR0_HOST | (v->arch.ts ? CR0_TS : 0);
    memcpy(c.dr, v->arch.debugreg, sizeof(c.dr));
    c.event.eip = v->arch.callback[CB_EVENT].address;
    c.failsafe.eip = v->arch.callback[CB_FAILSAFE].address;
    if (d->arch.word == ABI_64) {
        struct vcpu_guest_context_64 *r = raw;
        c.cr[3] = v->arch.root_kernel.v << PAGE_SHIFT;
        c.cr[1] = mfn_eq(v->arch.root_user, INVALID_MFN) ? 0 : v->arch.root_user.v << PAGE_SHIFT;
        NARROW(r, &c, u64);
        memcpy(&r->user_regs, &regs, sizeof(r->user_regs));
        r->syscall_callback_eip = v->arch.callback[CB_SYSCALL].address;
        r->fs_base = v->arch.fs_base;
        r->gs_base_kernel = v->arch.gs_base_kernel;
        r->gs_base_user = v->arch.gs_base_user;
    } else {
        struct vcpu_guest_context_32 *r = raw;
        c.cr[3] = XEN_PFN_TO_CR3_32(v->arch.root_kernel.v);
        NARROW(r, &c, u32);
        give_regs_32(&r->user_regs, &regs);
        r->event_callback_cs = v->arch.callback[CB_EVENT].cs;
        r->failsafe_callback_cs = v->arch.callback[CB_FAILSAFE].cs;
    }
}

static int drop_vcpu_frames(struct vcpu *v)
{
    int rc;

    pv_destroy_gdt(v);
    pv_destroy_ldt(v);
    v->arch.ldt_entries = 0;
    mirror_clear_root(v);
    rc = drop_roots(v);
    pv_make_cr3(v);     /* it names no frame that it does not hold */
    return rc;
}

void pv_forget_addresses(struct vcpu *v)
{
    v->runstate_area = v->time_area = v->arch.iobitmap = gva(0);
    v->arch.iobitmap_ports = 0;
}

int arch_vcpu_reset(struct vcpu *v)
{
    struct domain *d = v->domain;
    int rc;

    pv_forget_addresses(v);
    vcpu_areas_drop(v);
    pt_lock(d);
    rc = pt_drain_orphans(d);
    if (!rc)
        rc = drop_vcpu_frames(v);
    pt_unlock(d);
    return rc;
}
