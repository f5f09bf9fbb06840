/* Exceptions, by vector: what each means coming from a guest and from our own code. */
#include <asm/desc.h>
#include <asm/emulate.h>
#include <asm/extable.h>
#include <asm/fpu.h>
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/efi.h>
#include <pvisor/evtchn.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/softirq.h>
#include <pvisor/trace.h>

noreturn_fn void fatal_trap(struct cpu_regs *r, const char *what);
void trap_nmi(struct cpu_regs *r);
/* From entry.asm. True: delivered as pv.h says, with interrupts off. */
bool trap_ud(struct cpu_regs *r);
extern const char iret_fault[];
bool trap_pf(struct cpu_regs *r);
void trap_gp(struct cpu_regs *r);

static const char *const trap_names[32] = {
    "divide error", "debug exception", "NMI", "breakpoint", "overflow", "bound range exceeded", "invalid opcode",
    "device not available", "double fault", "coprocessor overrun", "invalid TSS", "segment not present",
    "stack-segment fault", "general protection fault", "page fault", "reserved", "x87 error", "alignment check",
    "machine check", "SIMD error", "virtualization exception", "control protection exception",
};

static const char *trap_name(const struct cpu_regs *r)
{
    const char *n = r->entry_vector < 32 ? trap_names[r->entry_vector] : NULL;
    return n ? n : "exception";
}

static bool from_guest(const struct cpu_regs *r) { return r->cs & 3; }

/* Handlers start with interrupts off, for the sake of CR2 and DR6; what they do then may take its time. */
static void allow_interrupts(const struct cpu_regs *r)
{
    if (r->rflags & RFLAGS_IF)
        irq_enable();
}

/* An instruction of ours that was expected to fault sometimes. */
static void hypervisor_fault(struct cpu_regs *r)
{
    u64 fixup = extable_find(r->rip);

    if (!fixup && efi_faulted(r))
        return;
    if (!fixup)
        fatal_trap(r, trap_name(r));
    if (fixup == (u64)iret_fault) {
        cpu_info()->iret_error = r->error_code;
        cpu_info()->iret_vector = r->entry_vector;
    }
    guest_close_in(r);
    r->rip = fixup;
}

static void trap_generic(struct cpu_regs *r)
{
    allow_interrupts(r);
    if (!from_guest(r))
        hypervisor_fault(r);
    else
        pv_deliver_trap(current, r, (u8)r->entry_vector, r->error_code);
}

static void trap_debug(struct cpu_regs *r)
{
    if (!from_guest(r)) {
        /*
         * A guest's breakpoint on an address that we touch for it, or a single step into us; or one that it put off
         * with MOV SS until after a SYSCALL, when %rsp still was its own: hence the stack of its own.
         */
        write_dr6(DR6_RESERVED_SET);
        r->rflags &= ~RFLAGS_TF;
        return;
    }
    debugreg_take_db(current);
    pv_deliver_trap(current, r, X86_VEC_DB, 0);
}

static void trap_double_fault(struct cpu_regs *r) { fatal_trap(r, "double fault"); }
static void trap_machine_check(struct cpu_regs *r) { fatal_trap(r, "machine check"); }

static __attribute__((noinline)) bool other_ud(struct cpu_regs *r)
{
    allow_interrupts(r);
    if (!from_guest(r) || !pv_emulate_forced(r))
        trap_generic(r);
    return false;
}

/* Mostly one look says whether it is a forced CPUID. */
bool trap_ud(struct cpu_regs *r)
{
    struct vcpu *v = current;
    u64 text;

    if (from_guest(r))
        fetch_begin();
    if (unlikely(!short_way(from_guest(r)) || !guest_text_64(v->domain, r, &text)))
        return other_ud(r);
    if (unlikely(text << 8 == FORCED_CPUID << 8)) {
        pv_forced_cpuid(r);
        return false;
    }
    return pv_deliver_ud_64(v, r);
}

static void trap_nm(struct cpu_regs *r)
{
    if (!from_guest(r))
        hypervisor_fault(r);
    else if (!fpu_handle_nm())
        pv_deliver_trap(current, r, X86_VEC_NM, 0);
}

/* INT n: our gates refuse it, the guest's trap table decides. */
static bool software_interrupt(struct vcpu *v, struct cpu_regs *r)
{
    u32 vector = r->error_code >> 3;
    const struct trap_entry *t = &v->arch.traps[vector & 0xff];
    unsigned cpl = guest_in_kernel(v, r) ? 1 : 3;

    if ((r->error_code & 7) != 2 || vector > 0xff || !t->address || t->dpl < cpl)
        return false;
    r->rip += 2;
    pv_deliver_trap(v, r, (u8)vector, 0);
    return true;
}

void trap_gp(struct cpu_regs *r)
{
    allow_interrupts(r);
    if (!from_guest(r)) {
        hypervisor_fault(r);
        return;
    }
    fetch_begin();
    if (r->error_code ? software_interrupt(current, r) || pv_emulate_gate(r) : pv_emulate_privop(r))
        return;
    pv_deliver_trap(current, r, X86_VEC_GP, r->error_code);
}

/* The linear addresses of the current vCPU's LDT pages, which are mapped when first used. */
static bool is_ldt_area(const struct vcpu *v, u64 a)
{
    return a >= VCPU_LDT_START(v->id) && a < VCPU_LDT_START(v->id) + (16UL << PAGE_SHIFT);
}

/* The root that the CPU is on: a user's kernel tables are used for its kernel's areas, too (pv/switch.c). */
static mfn_t loaded_root(const struct vcpu *v)
{
    u64 cr3 = read_cr3();

    if (v->domain->arch.word == ABI_32 || cr3 == v->arch.walked[1])
        return v->arch.root_kernel;
    return cr3 == v->arch.walked[0] || !v->arch.kernel_mode ? v->arch.root_user : v->arch.root_kernel;
}

/* Of the guest's part of the address space, where mirrors are walked. */
static bool twin_may_lack(const struct vcpu *v, u64 address)
{
    const struct domain *d = v->domain;

    return d->arch.mirror_walked && (d->arch.word == ABI_64 ? is_guest_address_64(address) : address < d->arch.fmt->hv_start);
}

static bool fix_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    if (is_idle_vcpu(v))
        return false;
    /* Only the CPU's own reading of a descriptor: an access of the guest's would fault again for ever. */
    if (is_ldt_area(v, address))
        return !(r->error_code & (PF_WRITE | PF_USER | PF_PRESENT)) && pv_ldt_fault(v, address - VCPU_LDT_START(v->id));
    return twin_may_lack(v, address) && mirror_fault(v, loaded_root(v), address, r->error_code);
}

/* Of a guest's kernel to what is mapped read-only: mostly a page table of its own. */
static __attribute__((noinline)) bool write_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    allow_interrupts(r);
    fetch_begin();
    if (!pv_pt_write_fault(r, address))
        pv_deliver_page_fault(v, r, address, r->error_code);
    return false;
}

static bool is_write_fault(const struct cpu_regs *r)
{
    return (r->error_code & (PF_WRITE | PF_PRESENT | PF_RSVD | PF_INSTR)) == (PF_WRITE | PF_PRESENT);
}

static always_inline bool guests_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    if (guest_in_kernel(v, r)) {
        r->error_code &= ~PF_USER;
        if (is_write_fault(r))
            return write_fault(r, v, address);
    }
    if (likely(short_way(v->domain->arch.word == ABI_32)))
        return pv_deliver_page_fault_32(v, r, address, r->error_code);
    pv_deliver_page_fault(v, r, address, r->error_code);
    return false;
}

static __attribute__((noinline)) bool special_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    if (!from_guest(r) && efi_faulted(r))
        return false;
    /* That is no failure that the guest is told of, whoever would have taken the fault. */
    if (!from_guest(r) && is_guest_address_64(address) && guest_was_closed(r))
        fatal_trap(r, "access to a guest's closed memory");
    allow_interrupts(r);
    if (v && fix_fault(r, v, address))
        return false;
    if (from_guest(r))
        return guests_fault(r, v, address);
    guest_access_failed(address);
    hypervisor_fault(r);
    return false;
}

/* Of a guest, which the hardware may have taken because a twin lacks what the guest's entry has. */
static __attribute__((noinline)) bool mirrored_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    allow_interrupts(r);
    /* (Of a 64-bit guest other_fault() has asked where the address is.) */
    if ((v->domain->arch.word == ABI_64 || twin_may_lack(v, address)) && mirror_fault(v, loaded_root(v), address, r->error_code))
        return false;
    return guests_fault(r, v, address);
}

/* Ours, of a 32-bit guest, or in our part of the address space. */
static __attribute__((noinline)) bool other_fault(struct cpu_regs *r, struct vcpu *v, u64 address)
{
    if (!short_way(from_guest(r)) || !is_guest_address_64(address))
        return special_fault(r, v, address);
    return unlikely(v->domain->arch.mirror_walked) ? mirrored_fault(r, v, address) : guests_fault(r, v, address);
}

/* Most are a 64-bit guest's own, and are quickly passed on. */
static always_inline bool take_fault(struct cpu_regs *r)
{
    u64 address = read_cr2();
    struct vcpu *v = current;

    if (unlikely(!short_way(from_guest(r)) || !is_guest_address_64(address) || !v->domain->arch.own_faults_64))
        return other_fault(r, v, address);
    if (likely(v->arch.kernel_mode)) {
        r->error_code &= ~PF_USER;
        if (unlikely(is_write_fault(r)))
            return write_fault(r, v, address);
    }
    return pv_deliver_page_fault_64(v, r, address, r->error_code);
}

/* Of a guest's faults each is an event, also those that are mended. */
static __attribute__((noinline)) bool traced_fault(struct cpu_regs *r)
{
    u64 address = read_cr2();

    if (from_guest(r) && current->domain->arch.word == ABI_64)
        trace(TRC_PV_PAGE_FAULT | TRC_64_FLAG, TRACE_U64(r->rip), TRACE_U64(address), r->error_code);
    else if (from_guest(r))
        trace(TRC_PV_PAGE_FAULT, (u32)r->rip, (u32)address, r->error_code);
    return take_fault(r);
}

bool trap_pf(struct cpu_regs *r) { return tracing() ? traced_fault(r) : take_fault(r); }

static void trap_int80(struct cpu_regs *r)
{
    struct vcpu *v = current;
    const struct trap_entry *t = &v->arch.traps[0x80];

    if (!t->address || (t->dpl < 3 && !guest_in_kernel(v, r))) {
        r->rip -= 2;
        pv_deliver_trap(v, r, X86_VEC_GP, 0x80 * 8 + 2);
        return;
    }
    pv_deliver_trap(v, r, 0x80, 0);
}

/* Without those that entry.asm calls by name. */
void (*const exception_handlers[0x81])(struct cpu_regs *) = {
    [X86_VEC_DE] = trap_generic,
    [X86_VEC_BP ... X86_VEC_BR] = trap_generic,
    [9 ... X86_VEC_SS] = trap_generic,
    [15 ... X86_VEC_AC] = trap_generic,
    [X86_VEC_XM ... 31] = trap_generic,
    [X86_VEC_DB] = trap_debug,
    [X86_VEC_NMI] = trap_nmi,
    [X86_VEC_NM] = trap_nm,
    [X86_VEC_DF] = trap_double_fault,
    [X86_VEC_MC] = trap_machine_check,
    [0x80] = trap_int80,
};

static bool deliver_nmi(struct vcpu *v, struct cpu_regs *regs)
{
    const struct guest_callback *cb = &v->arch.callback[CB_NMI];
    struct delivery t = { .address = cb->address, .cs = cb->cs };

    v->arch.nmi_pending = false;
    if (v->arch.nmi_masked || !cb->address)
        return false;
    v->arch.nmi_masked = true;
    pv_deliver(v, regs, &t);
    return true;
}

/* The way out found something to do. Interrupts are off on entry; they may be on when we return. */
void guest_exit_work(struct cpu_regs *regs)
{
    struct vcpu *v;

    if (read_once(cpu_info()->softirq_pending)) {
        do_softirq();
        irq_disable();
    }
    v = current;
    if (unlikely(read_once(v->arch.nmi_pending)) && deliver_nmi(v, regs))
        return;
    if (vcpu_event_pending(v))
        (void)pv_deliver_upcall(v, regs);
}

/* --- Hypercalls made again --- */

/* The guest's next instruction is its SYSCALL or INT 0x82 again: both are two bytes long. */
static void make_again(struct cpu_regs *regs)
{
    u64 *const regs64[6] = { &regs->rdi, &regs->rsi, &regs->rdx, &regs->r10, &regs->r8, &regs->r9 };
    u64 *const regs32[6] = { &regs->rbx, &regs->rcx, &regs->rdx, &regs->rsi, &regs->rdi, &regs->rbp };
    u64 *const *to = current->domain->arch.word == ABI_64 ? regs64 : regs32;
    u64 args[6];
    unsigned n;

    n = hypercall_restart_args(args);
    for (unsigned i = 0; i < n; i++)
        *to[i] = args[i];
    regs->rip -= 2;
}

/* From syscall.asm: a call's result wants a look, or the frame is not the call's any more. It still has the call's number. */
void hypercall_look(struct cpu_regs *regs, s64 rc)
{
    u32 why = cpu_info()->call_exit;

    cpu_info()->call_exit = 0;
    if (rc == -ERESTART_HYPERCALL && hypercall_restart_asked()) {
        make_again(regs);
        return;
    }
    if (why & CALL_LOOK)
        hypercall_log_failure((u32)regs->rax, rc);
    regs->rax = (u64)rc;
}
