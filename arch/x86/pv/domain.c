/* The machine's part of making, describing and unmaking PV domains and their vCPUs. */
#include <asm/desc.h>
#include <asm/emulate.h>
#include <asm/fpu.h>
#include <asm/guest_mem.h>
#include <asm/mm.h>
#include <asm/pv.h>
#include <asm/spec.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/evtchn.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/time.h>
#include <pvisor/printk.h>

/* vCPUs whose 32 pages share one level-1 table of the per-domain slot. */
#define VCPUS_PER_L1 (512 / PERVCPU_PAGES)

static void take_format(struct domain *d, const struct pt_format *f)
{
    d->arch.fmt = f;
    d->arch.word = f->word_bits == 64 ? ABI_64 : ABI_32;
    /* The M2P of a 32-bit guest reaches so far; its frames must lie within. */
    d->arch.physaddr_bits = f->id == PT64 ? 64 : f->id == PT32P ? 34 : 32;
    d->arch.l1tf_span = spec_l1tf_span(d);
}

int arch_domain_create(struct domain *d)
{
    u64 *l3 = alloc_pages(0), *l2 = alloc_pages(0);

    if (!l3 || !l2) {
        free_pages(l3, 0);
        free_pages(l2, 0);
        return -ENOMEM;
    }
    l3[0] = virt_to_maddr(l2).v | PTE_P | PTE_RW | PTE_A;
    take_format(d, &pt_formats[PT64]);
    d->arch.perdomain_l3 = l3;
    d->arch.perdomain_l3_mfn = virt_to_mfn(l3);
    d->arch.pirq_eoi_mfn = INVALID_MFN;
    d->arch.known_l1 = d->arch.known_mirrored_l1 = no_known_table;
    spin_lock_init(&d->arch.pt_lock, RANK_PT);
    tsc_domain_init(d);
    return 0;
}

void arch_domain_destroy(struct domain *d)
{
    u64 *l3 = d->arch.perdomain_l3, *l2 = maddr_to_virt(maddr(l3[0] & PTE_MFN_MASK));

    for (unsigned i = 0; i < 512; i++)
        if (l2[i])
            free_pages(maddr_to_virt(maddr(l2[i] & PTE_MFN_MASK)), 0);
    free_pages(l2, 0);
    free_pages(l3, 0);
    spec_forget(d);
    xfree(d->arch.e820);
    d->arch.e820 = NULL;
    mirror_free_domain(d);
}

static u64 *perdomain_entries(struct domain *d, u32 id)
{
    u64 *l3 = d->arch.perdomain_l3, *l2 = maddr_to_virt(maddr(l3[0] & PTE_MFN_MASK)), *l1;
    unsigned i = id / VCPUS_PER_L1;

    if (!l2[i]) {
        l1 = alloc_pages(0);
        if (!l1)
            return NULL;
        l2[i] = virt_to_maddr(l1).v | PTE_P | PTE_RW | PTE_A;
    }
    return (u64 *)maddr_to_virt(maddr(l2[i] & PTE_MFN_MASK)) + id % VCPUS_PER_L1 * PERVCPU_PAGES;
}

/* A non-PAE guest must not find PAE on. */
static u64 first_cr4(const struct vcpu *v)
{
    return pv_fixup_cr4(v, 0) & ~(v->domain->arch.fmt->id == PT32 ? CR4_PAE : 0);
}

int arch_vcpu_create(struct vcpu *v)
{
    v->arch.kernel_mode = true;
    v->arch.root_kernel = v->arch.root_user = INVALID_MFN;
    v->arch.cr[4] = first_cr4(v);
    v->arch.debugreg[6] = DR6_RESERVED_SET;
    v->arch.debugreg[7] = DR7_RESERVED_SET;
    for (unsigned i = 0; i < ARRAY_SIZE(v->arch.gdt_frames); i++)
        v->arch.gdt_frames[i] = INVALID_MFN;
    v->arch.perdomain_l1 = perdomain_entries(v->domain, v->id);
    v->arch.traps = xzalloc_array(struct trap_entry, 256);
    if (!v->arch.perdomain_l1 || !v->arch.traps || fpu_vcpu_init(v) || mirror_init_vcpu(v)) {
        arch_vcpu_destroy(v);
        return -ENOMEM;
    }
    return 0;
}

void arch_vcpu_destroy(struct vcpu *v)
{
    xfree(v->arch.traps);
    v->arch.traps = NULL;
    fpu_vcpu_free(v);
    mirror_free_vcpu(v);
}

int arch_domain_set_address_size(struct domain *d, u32 bits)
{
    enum pt_format_id id = bits == 64 ? PT64 : PT32P;

    if (bits != 32 && bits != 64)
        return refuse(-EINVAL, "%u bits", bits);
    if (d->tot_pages)
        return refuse(-EACCES, "d%u has memory already", d->id);
    if (d->arch.fmt == &pt_formats[id])
        return 0;
    return pv_set_format(d, id);
}

static int init_format(struct domain *d)
{
    struct vcpu *v;
    int rc = d->arch.word == ABI_32 ? compat_m2p_build() : 0;

    if (!rc)
        rc = mirror_init_domain(d);
    for_each_vcpu(d, v) {
        v->arch.cr[4] = first_cr4(v);
        if (!rc)
            rc = mirror_init_vcpu(v);
    }
    return rc;
}

/*
 * Gives d another page-table format, and what goes with it. Only while it has no page tables, and no vcpu_info is registered
 * (domain_has_registered_info()): others may be writing to such a one.
 */
int pv_set_format(struct domain *d, enum pt_format_id id)
{
    const struct pt_format *old = d->arch.fmt;

    take_format(d, &pt_formats[id]);
    if (init_format(d)) {
        take_format(d, old);
        (void)init_format(d);    /* what the old format does not use is freed */
        return -ENOMEM;
    }
    cpu_policy_domain_resized(d);
    domain_reset_vcpu_info(d);
    return 0;
}

/* --- The hypervisor's part of a guest's top-level table --- */

void pt_fill_top(const struct domain *d, u64 *l4)
{
    for (unsigned i = HYP_L4_FIRST; i <= HYP_L4_LAST; i++)
        l4[i] = hyp_l4[i];
    l4[PERDOMAIN_START >> 39 & 511] = d->arch.perdomain_l3_mfn.v << PAGE_SHIFT | PTE_P | PTE_RW | PTE_A;
}

/* The mirrored format's hole is in the mirror alone. */
void pt_fill_hv_slots(struct domain *d, u64 *table)
{
    const struct pt_format *f = d->arch.fmt;

    if (f->id == PT64)
        pt_fill_top(d, table);
    else if (f->id == PT32P)
        for (unsigned i = f->hv_first; i <= f->hv_last; i++)
            table[i] = compat_m2p_l2e(i - f->hv_first);
}

/* --- vCPU context --- */

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
    int rc;

    pt_lock(d);
    rc = pt_drain_orphans(d);
    if (!rc)
        rc = pt_get_table(d, kernel, level);
    if (!rc && user.v) {
        rc = pt_get_table(d, user, level);
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
    return rc == -ERESTART_HYPERCALL ? rc : rc ? refuse(-EINVAL, "frame %#lx cannot be the root", kernel.v) : 0;
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
    v->arch.syscall_disables_events = c->flags & VGCF_syscall_disables_events;
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
    pv_make_cr3(v);
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
              (v->arch.syscall_disables_events ? VGCF_syscall_disables_events : 0);
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

/* --- vcpu_info --- */

int arch_vcpu_register_info(struct vcpu *v, u64 gfn, u32 offset)
{
    struct domain *d = v->domain;
    size_t size = abi_sizeof(d->arch.word, vcpu_info);
    char *page, *old = v->info;
    int rc;

    if (offset > PAGE_SIZE - size || offset % 4)
        return refuse(-ENXIO, "offset %u: the structure must lie within one frame", offset);
    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        return refuse(-EINVAL, "registered already");
    if (v != current && !(v->pause_flags & VPF_DOWN))
        return refuse(-EINVAL, "vCPU %u is running", v->id);
    rc = frame_get_writable(mfn(gfn), d);
    if (rc)
        return refuse(-EINVAL, "frame %#lx is not d%u's to write", gfn, d->id);
    page = map_frame(mfn(gfn));
    memcpy(page + offset, old, size);
    v->info_mfn = mfn(gfn);
    write_once(v->info, (void *)(page + offset));
    evtchn_vcpu_info_moved(v);
    return 0;
}

/* --- The hypercall page: 32 bytes for each call number --- */

void arch_init_hypercall_page(struct domain *d, void *page)
{
    static const u8 stub64[] = { 0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3 };
    static const u8 iret64[] = { 0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05 };
    static const u8 stub32[] = { 0xb8, 0, 0, 0, 0, 0xcd, 0x82, 0xc3 };
    static const u8 iret32[] = { 0x50, 0xb8, 0, 0, 0, 0, 0xcd, 0x82 };
    bool narrow = d->arch.word == ABI_32;

    memset(page, 0xcc, PAGE_SIZE);
    for (u32 i = 0; i < PAGE_SIZE / 32; i++) {
        u8 *p = (u8 *)page + i * 32;
        bool is_iret = i == __HYPERVISOR_iret;
        const u8 *code = narrow ? (is_iret ? iret32 : stub32) : (is_iret ? iret64 : stub64);
        size_t n = narrow ? (is_iret ? sizeof(iret32) : sizeof(stub32)) : (is_iret ? sizeof(iret64) : sizeof(stub64));
        memcpy(p, code, n);
        memcpy(p + (narrow ? (is_iret ? 2 : 1) : (is_iret ? 5 : 4)), &i, 4);
    }
}

/* --- The end --- */

static int drop_vcpu_frames(struct vcpu *v)
{
    pv_destroy_gdt(v);
    pv_destroy_ldt(v);
    v->arch.ldt_entries = 0;
    mirror_clear_root(v);
    return drop_roots(v);
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
    pt_lock(d);
    rc = pt_drain_orphans(d);
    if (!rc)
        rc = drop_vcpu_frames(v);
    pt_unlock(d);
    return rc;
}

int arch_domain_relinquish(struct domain *d)
{
    struct vcpu *v;
    int rc;

    for_each_vcpu(d, v)
        if ((rc = arch_vcpu_reset(v)) != 0)
            return rc;
    if (!mfn_eq(d->arch.pirq_eoi_mfn, INVALID_MFN)) {
        frame_put_writable(d->arch.pirq_eoi_mfn);
        d->arch.pirq_eoi_mfn = INVALID_MFN;
        d->arch.pirq_eoi_map = NULL;
    }
    return pt_relinquish(d);
}

/* --- Diagnosis --- */

void pt_walk_dump(const struct vcpu *v, u64 va)
{
    const struct pt_format *f = v->domain->arch.fmt;
    mfn_t m = f->levels == 4 && !v->arch.kernel_mode ? v->arch.root_user : v->arch.root_kernel;

    printk(LOG_ERR "Page walk of %#lx (%s tables):\n", va, f->name);
    for (unsigned level = f->levels; level && !mfn_eq(m, INVALID_MFN) && mfn_valid(m); level--) {
        u64 e = pt_load(f, mfn_to_virt(m), pt_index(f, level, va));
        printk(LOG_ERR " L%u[%03x] = %016lx  pfn %016lx\n", level, pt_index(f, level, va), e, m2p_get(pte_mfn(e)));
        if (!(e & PTE_P))
            break;
        m = pte_mfn(e);
    }
}

void vcpu_show_registers(struct vcpu *v)
{
    const struct cpu_regs *r = vcpu_regs(v);

    printk(LOG_ERR "d%uv%u %s, %s mode, events %s\n", v->domain->id, v->id, v->domain->arch.fmt->name,
           guest_in_kernel(v, r) ? "kernel" : "user", vcpu_upcall_mask(v) ? "masked" : "open");
    printk(LOG_ERR "rip %04x:%016lx  rflags %08lx  rsp %04x:%016lx\n", r->cs, r->rip, r->rflags, r->ss, r->rsp);
    printk(LOG_ERR "rax %016lx  rbx %016lx  rcx %016lx\n", r->rax, r->rbx, r->rcx);
    printk(LOG_ERR "rdx %016lx  rsi %016lx  rdi %016lx\n", r->rdx, r->rsi, r->rdi);
    printk(LOG_ERR "rbp %016lx  r8  %016lx  r9  %016lx\n", r->rbp, r->r8, r->r9);
    printk(LOG_ERR "r10 %016lx  r11 %016lx  r12 %016lx\n", r->r10, r->r11, r->r12);
    printk(LOG_ERR "r13 %016lx  r14 %016lx  r15 %016lx\n", r->r13, r->r14, r->r15);
    if (r->entry_vector & ENTRY_SHORT)
        printk(LOG_ERR "In a hypercall: rbx, rbp and r12 to r15 are not the guest's\n");
    printk(LOG_ERR "cr2 %016lx  cr3 %016lx  fs %016lx  gs %016lx\n", v->arch.cr[2], v->arch.cr3, v->arch.fs_base,
           v->arch.gs_base_kernel);
    if (v == current) {
        printk(LOG_ERR "Guest stack:");
        for (unsigned i = 0; i < 12; i++) {
            u64 w = 0;
            if (copy_from_guest(&w, gva(r->rsp + i * 8), 8))
                break;
            printk(LOG_ERR " %016lx", w);
        }
        printk(LOG_ERR "\n");
    }
}
