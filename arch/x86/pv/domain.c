/* The machine's part of making, describing and unmaking PV domains and their vCPUs. */
#include <asm/desc.h>
#include <asm/dirty.h>
#include <asm/emulate.h>
#include <asm/fpu.h>
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/spec.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/pvisor.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/evtchn.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/hypercall_page.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/time.h>
#include <pvisor/printk.h>

/* vCPUs whose 32 pages share one level-1 table of the per-domain slot. */
#define VCPUS_PER_L1 (512 / PERVCPU_PAGES)

static void take_format(struct domain *d, const struct pt_format *f)
{
    d->arch.fmt = f;
    d->arch.word = f->word_bits == 64 ? ABI_64 : ABI_32;
    d->arch.mirrored = d->arch.mirror_walked = f->pte_bytes == 4;       /* long mode knows no such entries */
    d->arch.own_faults_64 = f->id == PT64;
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
    pt_know_none(d);
    pt_store_init(d);
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

static enum pt_format_id format_of_size(u32 size)
{
    switch (size) {
    case 64:                         return PT64;
    case 32:                         return PT32P;
    case PVISOR_ADDRESS_SIZE_NONPAE: return PT32;
    default:                         return NR_PT_FORMATS;
    }
}

int arch_domain_set_address_size(struct domain *d, u32 size)
{
    enum pt_format_id id = format_of_size(size);

    if (id == NR_PT_FORMATS)
        return refuse(-EINVAL, "%u bits: expected 32, 64 or pvisor's %u, 32 without PAE", size, PVISOR_ADDRESS_SIZE_NONPAE);
    if (d->tot_pages)
        return refuse(-EACCES, "d%u has memory already", d->id);
    if (d->arch.store != STORE_IN_PLACE || dirty_log_is_kept(d))
        return refuse(-EBUSY, "d%u's page tables are mirrored, or its writes logged", d->id);
    if (d->arch.fmt == &pt_formats[id])
        return 0;
    /* Its grant frames are not among those that it has none of, and of the other word size an area is larger than was asked. */
    if (domain_has_registered_info(d))
        return refuse(-EBUSY, "d%u has a vcpu_info or an area registered", d->id);
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

/* --- vcpu_info --- */

int arch_vcpu_register_info(struct vcpu *v, u64 gfn, u32 offset)
{
    struct domain *d = v->domain;
    size_t size = abi_sizeof(d->arch.word, vcpu_info);
    char guest_shared *page, *old = v->info;
    int rc;

    if (offset > PAGE_SIZE - size || offset % abi_word_bytes(d->arch.word))
        return refuse(-ENXIO, "offset %u: the structure must lie within one frame, aligned to a word", offset);
    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        return refuse(-EINVAL, "registered already");
    if (v != current && !(v->pause_flags & VPF_DOWN))
        return refuse(-EINVAL, "vCPU %u is running", v->id);
    rc = frame_get_writable(mfn(gfn), d);
    if (rc)
        return refuse(-EINVAL, "frame %#lx is not d%u's to write", gfn, d->id);
    page = map_frame(mfn(gfn));
    memcpy(shared_raw(page + offset), shared_raw(old), size);
    v->info_mfn = mfn(gfn);
    write_once(v->info, (void guest_shared *)(page + offset));
    evtchn_vcpu_info_moved(v);
    return 0;
}

/* --- The hypercall page: 32 bytes for each call number --- */

void arch_init_hypercall_page(struct domain *d, void *page)
{
    fill_hypercall_page(d->arch.word == ABI_32, page);
}

/* --- The end --- */

int arch_domain_relinquish(struct domain *d)
{
    struct vcpu *v;
    int rc;

    dirty_log_end(d);
    for_each_vcpu(d, v)
        if ((rc = arch_vcpu_reset(v)) != 0)
            return rc;
    pirq_unshare_eoi_map(d);
    return pt_relinquish(d);
}

/* --- Diagnosis --- */

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
