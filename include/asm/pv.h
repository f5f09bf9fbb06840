/* The PV core: delivering traps and callbacks to guests, address-space and context switches, descriptors. */
#ifndef ASM_PV_H
#define ASM_PV_H

#include <asm/closed.h>
#include <asm/domain.h>
#include <asm/emulate.h>
#include <asm/mm.h>
#include <pvisor/pt_format_id.h>
#include <pvisor/domain.h>

/* --- pv/deliver.c --- */
/*
 * Makes the current guest continue in its handler at address (cs: 32-bit guests) with the interrupted state on its kernel
 * stack, as the ABI lays it out. Crashes the domain if its stack cannot be written.
 */
struct delivery {
    u64 address;
    u16 cs;
    bool disables_events, has_error;
    u64 error;
};
void pv_deliver(struct vcpu *v, struct cpu_regs *regs, const struct delivery *t);
/* Flags that a handler starts without. */
#define HANDLER_CLEARS (RFLAGS_TF | RFLAGS_RF | RFLAGS_NT | RFLAGS_VM | RFLAGS_AC | RFLAGS_DF)
/* Deliver the guest's handler for a vector, with dpl check done by the caller. */
void pv_deliver_trap(struct vcpu *v, struct cpu_regs *regs, u8 vector, u32 error);
void pv_deliver_page_fault(struct vcpu *v, struct cpu_regs *regs, u64 address, u32 error);
/*
 * Short ways of pv_deliver_trap() and pv_deliver_page_fault(), for what is delivered all the time; _64: to 64-bit guests only. True: to a
 * 64-bit guest's handler. Its address is canonical, as all are that a guest may set, so that SYSRET will do, and of the frame's
 * registers none has changed that C functions preserve.
 */
bool pv_deliver_ud_64(struct vcpu *v, struct cpu_regs *regs);
bool pv_deliver_page_fault_64(struct vcpu *v, struct cpu_regs *regs, u64 address, u64 error);
bool pv_deliver_page_fault_32(struct vcpu *v, struct cpu_regs *regs, u64 address, u32 error);   /* to a 32-bit guest: false */
bool pv_deliver_upcall(struct vcpu *v, struct cpu_regs *regs);     /* the event callback */

/* --- pv/switch.c --- */
/* 64-bit: the machine address of what the hardware walks in place of root, which may be INVALID_MFN. */
u64 mirror_walked_root(const struct domain *d, mfn_t root);

/* What v's CPU loads, from its roots. */
static inline void pv_make_cr3(struct vcpu *v)
{
    if (v->arch.monitor_l4) {
        v->arch.cr3 = virt_to_maddr(v->arch.monitor_l4).v;
        return;
    }
    if (likely(!v->domain->arch.mirror_walked)) {
        v->arch.walked[0] = v->arch.root_user.v << PAGE_SHIFT;
        v->arch.walked[1] = v->arch.root_kernel.v << PAGE_SHIFT;
    } else {
        v->arch.walked[0] = mirror_walked_root(v->domain, v->arch.root_user);
        v->arch.walked[1] = mirror_walked_root(v->domain, v->arch.root_kernel);
    }
    v->arch.cr3 = v->arch.walked[v->arch.kernel_mode];
}

/* The current vCPU, a 64-bit guest's, goes from user to kernel mode or back: its page tables, which are its own, and GS base. */
static inline void pv_change_mode(struct vcpu *v, bool kernel)
{
    v->arch.kernel_mode = kernel;
    __asm__ volatile("swapgs" ::: "memory");
    v->arch.cr3 = v->arch.walked[kernel];
    load_guest_cr3(v->arch.cr3);
}
void pv_load_cr3(struct vcpu *v);                /* on this CPU; flushes the TLB */
void switch_init(void);                               /* once: from then on CPUs switch to what the scheduler chooses */
void vcpu_start_on_cpu(struct vcpu *v) noreturn_fn;   /* first run of the boot CPU's idle vCPU */

/* --- pv/descriptors.c --- */
void pv_load_ldt(const struct vcpu *v);          /* this CPU's LDT register for v */
bool desc_check_page(const struct domain *d, void *page);
void pv_destroy_gdt(struct vcpu *v);
void pv_destroy_ldt(struct vcpu *v);
int pv_set_gdt(struct vcpu *v, const u64 *frames, u32 entries);
/* #PF on the LDT's part of the per-domain area: maps the guest's page there; false if it has none. */
bool pv_ldt_fault(struct vcpu *v, u64 offset);
/* A selector that a guest may load: its own or one of the flat ones, never ours. RPL is forced to ring. */
static inline u16 fixup_selector(const struct domain *d, u16 sel)
{
    unsigned ring = d->arch.word == ABI_64 ? 3 : 1;

    return (sel & 3) < ring ? (u16)((sel & ~3) | ring) : sel;
}

/* --- pv/mmu.c, pv/write_fault.c --- */
int pv_new_root(struct vcpu *v, mfn_t m, bool user);  /* installs a root, dropping the old one */
bool pv_pt_write_fault(struct cpu_regs *regs, u64 address);  /* true: emulated */
/*
 * Whether user space, if it is what runs, may not reach these bytes (at most a page of them) itself: then it has got the page
 * fault that it would have had. A 32-bit guest's user space shares its kernel's tables, and our own accesses are not
 * held up by them.
 */
bool pv_user_fault(struct vcpu *v, const struct cpu_regs *regs, u64 linear, unsigned bytes, bool write);
/* A fault on the mirrors below v's root, a page table of its guest's: true if they lacked what its own tables permit, and do no more. */
bool mirror_fault(struct vcpu *v, mfn_t root, u64 address, u32 error);

/* --- pv/domain.c, pv/context.c --- */
int pv_set_format(struct domain *d, enum pt_format_id id);
void pv_forget_addresses(struct vcpu *v);        /* where its kernel wants things written: another address space begins */
void arch_init_hypercall_page(struct domain *d, void *page);

static inline void vcpu_set_upcall_mask(struct vcpu *v, bool on) { write_shared(((u8 guest_shared *)v->info)[1], on); }
/* The guest's own flag: it only ever masks itself, so each look stands for itself. */
static inline bool vcpu_upcall_mask(const struct vcpu *v) { return read_shared_again(((u8 guest_shared *)v->info)[1]); }
/* The guest's CR2 lives where its fault handler reads it, in the vcpu_info. */
static always_inline void vcpu_set_cr2(enum abi_word w, struct vcpu *v, u64 address)
{
    if (likely(w == ABI_64))
        write_shared(((struct vcpu_info_l64 guest_shared *)v->info)->arch.cr2, address);
    else
        write_shared(((struct vcpu_info_l32 guest_shared *)v->info)->arch.cr2, (u32)address);
}

#endif
