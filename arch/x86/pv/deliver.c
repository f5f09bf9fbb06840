/*
 * Handing control to a guest's handlers. The frame that a handler finds on its kernel stack (lowest address first):
 *
 *   64-bit:  rcx r11 [error code] rip cs rflags rsp ss           (cs: bits 32-39 hold the saved upcall mask)
 *   32-bit:  [error code] eip cs eflags [esp ss]                 (cs: bits 16-23; esp and ss on a change of ring)
 *
 * IF in the saved flags is the inverse of the event mask, which is what the guest thinks of as its interrupt flag.
 * Facts: Xen 4.17 public/arch-x86/xen-x86_64.h and xen-x86_32.h, and Linux's arch/x86/xen/xen-asm.S that consumes them.
 */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/evtchn.h>
#include <pvisor/printk.h>

static always_inline u64 saved_flags(const struct vcpu *v, const struct cpu_regs *regs, u8 mask)
{
    u64 f = regs->rflags & ~(RFLAGS_IF | RFLAGS_IOPL);

    if (!mask)
        f |= RFLAGS_IF;
    if (unlikely(v->domain->vm_assist & 1u << VMASST_TYPE_architectural_iopl))
        f |= (u64)v->arch.iopl << 12;
    return f;
}

/*
 * These return false for their callers, so that the call is the last thing these do and they need no frame. What cannot be delivered is
 * tried again until the domain stands still: interrupts are on, so that others' requests and softirqs get their chance.
 */
static __attribute__((cold, noinline)) bool no_stack(struct domain *d, u64 sp, u64 address)
{
    irq_enable();
    domain_crash(d, "kernel stack below %#lx cannot be written while delivering to handler %#lx", sp, address);
    return false;
}

/* A selector's whole place: nobody looks at the rest of it. */
static always_inline void set_selector(u16 *place, u16 sel) { *(u64 *)place = sel; }

/*
 * The lowest word is written first: what is_guest_address_64() relies on. True: delivered.
 */
static always_inline bool deliver_64(struct vcpu *v, struct cpu_regs *regs, const struct delivery *t)
{
    u64 sp, cs = regs->cs;
    u8 mask;

    if (likely(v->arch.kernel_mode)) {
        sp = regs->rsp;
        cs &= ~3UL;
    } else {
        sp = v->arch.kernel_sp;
        pv_change_mode(v, true);
    }
    mask = read_shared_again(((const u8 guest_shared *)v->info)[1]);
    cs |= (u64)mask << 32;
    sp &= ~0xfUL;
    if (unlikely(!is_guest_address_64(sp - 64)))
        goto fault;
    guest_open();
    if (t->has_error) {
        PUT_GUEST_U64(sp - 64, regs->rcx, fault);
        PUT_GUEST_U64(sp - 56, regs->r11, fault);
        PUT_GUEST_U64(sp - 48, t->error, fault);
    } else {
        PUT_GUEST_U64(sp - 56, regs->rcx, fault);
        PUT_GUEST_U64(sp - 48, regs->r11, fault);
    }
    PUT_GUEST_U64(sp - 40, regs->rip, fault);
    PUT_GUEST_U64(sp - 32, cs, fault);
    PUT_GUEST_U64(sp - 24, saved_flags(v, regs, mask), fault);
    PUT_GUEST_U64(sp - 16, regs->rsp, fault);
    PUT_GUEST_U64(sp - 8, regs->ss, fault);
    guest_close();
    regs->rsp = t->has_error ? sp - 64 : sp - 56;
    set_selector(&regs->ss, FLAT_RING3_SS64);
    set_selector(&regs->cs, FLAT_RING3_CS64);
    regs->rip = t->address;
    regs->rflags &= ~HANDLER_CLEARS;
    regs->entry_vector = ENTRY_SYSCALL;     /* rcx and r11 are on the stack: SYSRET will do */
    if (t->disables_events)
        vcpu_set_upcall_mask(v, true);
    return true;
fault:
    return no_stack(v->domain, sp, t->address);
}

/*
 * The description in scalars: they go by registers, and its other users need it nowhere in memory. Never true: what deliver_64()
 * says of its way back does not hold here.
 */
#define MASKS_EVENTS (1u << 16)     /* beside cs */
static bool __attribute__((noinline)) deliver_32(struct vcpu *v, struct cpu_regs *regs, u32 address, u32 cs, bool has_error,
                                                 u32 error)
{
    bool from_kernel = (regs->cs & 3) == 1;
    u32 bytes = (has_error ? 16 : 12) + (from_kernel ? 0 : 8);
    u64 sp = (u32)((from_kernel ? regs->rsp : v->arch.kernel_sp) - bytes), at = sp;

    if (unlikely(!guest_range_ok(v->domain, sp, bytes)))
        goto fault;
    guest_open();
    if (has_error) {
        PUT_GUEST_U32(at, error, fault);
        at += 4;
    }
    PUT_GUEST_U32(at, regs->rip, fault);
    PUT_GUEST_U32(at + 4, regs->cs | (u32)vcpu_upcall_mask(v) << 16, fault);
    PUT_GUEST_U32(at + 8, saved_flags(v, regs, vcpu_upcall_mask(v)), fault);
    if (!from_kernel) {
        PUT_GUEST_U32(at + 12, regs->rsp, fault);
        PUT_GUEST_U32(at + 16, regs->ss, fault);
        regs->ss = v->arch.kernel_ss;
    }
    guest_close();
    regs->rsp = sp;
    regs->cs = (u16)cs;
    regs->rip = address;
    regs->rflags &= ~HANDLER_CLEARS;
    regs->entry_vector = ENTRY_INT82;
    if (cs & MASKS_EVENTS)
        vcpu_set_upcall_mask(v, true);
    return false;
fault:
    irq_enable();
    domain_crash(v->domain, "kernel stack at %#lx cannot be written while delivering to handler %04x:%#x", sp, (u16)cs, address);
    return false;
}

/* w: the domain's word size, for callers that know it. */
static always_inline bool deliver(enum abi_word w, struct vcpu *v, struct cpu_regs *regs, const struct delivery *t)
{
    if (likely(w == ABI_64))
        return deliver_64(v, regs, t);
    return deliver_32(v, regs, (u32)t->address, t->cs | (t->disables_events ? MASKS_EVENTS : 0), t->has_error, (u32)t->error);
}

void pv_deliver(struct vcpu *v, struct cpu_regs *regs, const struct delivery *t)
{
    (void)deliver(v->domain->arch.word, v, regs, t);
}

#define VECTORS_WITH_ERROR_CODE \
    (1u << X86_VEC_DF | 1u << X86_VEC_TS | 1u << X86_VEC_NP | 1u << X86_VEC_SS | 1u << X86_VEC_GP | 1u << X86_VEC_PF | \
     1u << X86_VEC_AC)

static always_inline bool has_error_code(u8 vector) { return vector < 32 && VECTORS_WITH_ERROR_CODE >> vector & 1; }

static __attribute__((cold, noinline)) bool no_handler(struct vcpu *v, u8 vector, u32 error)
{
    if (vector == X86_VEC_PF) {
        pt_lock(v->domain);
        pt_walk_dump(v, v->arch.cr[2]);
        pt_unlock(v->domain);
    }
    domain_crash(v->domain, "trap %u (error code %#x) and no handler for it", vector, error);
    return false;
}

static always_inline bool deliver_trap(enum abi_word w, struct vcpu *v, struct cpu_regs *regs, u8 vector, u64 error)
{
    const struct trap_entry *e = &v->arch.traps[vector];
    struct delivery t = {
        .address = e->address, .cs = e->cs, .disables_events = e->disables_events,
        .has_error = has_error_code(vector), .error = error,
    };

    if (unlikely(!e->address))
        return no_handler(v, vector, (u32)error);
    return deliver(w, v, regs, &t);
}

void pv_deliver_trap(struct vcpu *v, struct cpu_regs *regs, u8 vector, u32 error)
{
    (void)deliver_trap(v->domain->arch.word, v, regs, vector, error);
}

bool pv_deliver_ud_64(struct vcpu *v, struct cpu_regs *regs) { return deliver_trap(ABI_64, v, regs, X86_VEC_UD, 0); }

void pv_inject_trap(u8 vector, u32 error_code) { pv_deliver_trap(current, guest_regs(), vector, error_code); }

static always_inline bool deliver_page_fault(enum abi_word w, struct vcpu *v, struct cpu_regs *regs, u64 address, u64 error_code)
{
    vcpu_set_cr2(w, v, address);
    v->arch.cr[2] = address;
    return deliver_trap(w, v, regs, X86_VEC_PF, error_code);
}

void pv_deliver_page_fault(struct vcpu *v, struct cpu_regs *regs, u64 address, u32 error_code)
{
    (void)deliver_page_fault(v->domain->arch.word, v, regs, address, error_code);
}

bool pv_deliver_page_fault_64(struct vcpu *v, struct cpu_regs *regs, u64 address, u64 error_code)
{
    return deliver_page_fault(ABI_64, v, regs, address, error_code);
}

bool pv_deliver_page_fault_32(struct vcpu *v, struct cpu_regs *regs, u64 address, u32 error_code)
{
    return deliver_page_fault(ABI_32, v, regs, address, error_code);
}

void pv_inject_page_fault(u64 address, u32 error_code)
{
    pv_deliver_page_fault(current, guest_regs(), address, error_code);
}

static __attribute__((cold, noinline)) bool no_callback(struct domain *d)
{
    irq_enable();
    domain_crash(d, "event pending, not masked, and no event callback registered");
    return false;
}

bool pv_deliver_upcall(struct vcpu *v, struct cpu_regs *regs)
{
    const struct guest_callback *cb = &v->arch.callback[CB_EVENT];
    struct delivery t = { .address = cb->address, .cs = cb->cs, .disables_events = true };

    if (unlikely(!cb->address))
        return no_callback(v->domain);
    return deliver(v->domain->arch.word, v, regs, &t);
}

/* SYSCALL by a 64-bit guest's user space. */
void pv_guest_syscall(struct cpu_regs *regs)
{
    struct vcpu *v = current;
    const struct guest_callback *cb = &v->arch.callback[CB_SYSCALL];
    struct delivery t = { .address = cb->address, .disables_events = cb->disables_events };

    if (unlikely(!cb->address)) {
        regs->rip -= 2;
        pv_deliver_trap(v, regs, X86_VEC_UD, 0);
        return;
    }
    pv_deliver(v, regs, &t);
}

/* SYSENTER, or SYSCALL in compatibility mode. The guest learns nothing of where it came from, as on hardware. */
void pv_guest_sysenter(struct cpu_regs *regs)
{
    struct vcpu *v = current;
    bool is_syscall = regs->entry_vector != ENTRY_SYSENTER;
    const struct guest_callback *cb = &v->arch.callback[is_syscall ? CB_SYSCALL32 : CB_SYSENTER];
    struct delivery t = { .address = cb->address, .cs = cb->cs, .disables_events = cb->disables_events };

    regs->rflags |= RFLAGS_IF;
    if (v->domain->arch.word == ABI_32) {
        regs->cs = FLAT_RING3_CS;
        regs->ss = FLAT_RING3_SS;
    }
    regs->entry_vector = 0;
    if (!cb->address) {
        t = (struct delivery){ .address = v->arch.traps[X86_VEC_GP].address, .cs = v->arch.traps[X86_VEC_GP].cs,
                               .disables_events = v->arch.traps[X86_VEC_GP].disables_events, .has_error = true };
        if (!t.address) {
            domain_crash(v->domain, "SYSENTER without a callback or a #GP handler");
            return;
        }
    }
    pv_deliver(v, regs, &t);
}

/* The frame of a failsafe callback begins with the data selectors: ds es fs gs; 64-bit: after rcx and r11. */
static bool push_selectors(struct vcpu *v, struct cpu_regs *regs, const u64 sel[4])
{
    bool wide = v->domain->arch.word == ABI_64;
    u64 sp = wide ? regs->rsp - 32 : (u32)(regs->rsp - 16);

    if (!guest_range_ok(v->domain, sp, 48))
        return false;
    guest_open();
    if (wide) {
        PUT_GUEST_U64(sp, regs->rcx, fault);
        PUT_GUEST_U64(sp + 8, regs->r11, fault);
        for (unsigned i = 0; i < 4; i++)
            PUT_GUEST_U64(sp + 16 + i * 8, sel[i], fault);
    } else {
        for (unsigned i = 0; i < 4; i++)
            PUT_GUEST_U32(sp + i * 4, sel[i], fault);
    }
    guest_close();
    regs->rsp = sp;
    return true;
fault:
    return false;
}

/* A fault of our IRET, as one of the guest's instruction there. A page fault was the CPU's, on a descriptor of the guest's LDT. */
static void deliver_iret_fault(struct vcpu *v, struct cpu_regs *regs)
{
    bool no_descriptor = regs->entry_vector == X86_VEC_PF;
    u8 vector = no_descriptor ? X86_VEC_GP : (u8)regs->entry_vector;
    u32 error = no_descriptor ? 0 : regs->error_code;

    regs->entry_vector = regs->error_code = 0;
    pv_deliver_trap(v, regs, vector, error);
}

/*
 * Our IRET to the guest faulted on what it asked for, a selector or an address that is not canonical: the failsafe callback, or the
 * fault's own handler.
 */
void pv_iret_failed(struct cpu_regs *regs)
{
    struct vcpu *v = current;
    const struct guest_callback *cb = &v->arch.callback[CB_FAILSAFE];
    struct delivery t = { .address = cb->address, .cs = cb->cs, .disables_events = cb->disables_events };
    u64 sel[4];

    irq_enable();   /* if the handler's own selectors are bad this comes round for ever: let the scheduler in */
    if (!cb->address) {
        deliver_iret_fault(v, regs);
        return;
    }
    regs->entry_vector = regs->error_code = 0;
    __asm__ volatile("movl %%ds, %k0; movl %%es, %k1; movl %%fs, %k2; movl %%gs, %k3"
                     : "=r"(sel[0]), "=r"(sel[1]), "=r"(sel[2]), "=r"(sel[3]));
    pv_deliver(v, regs, &t);
    if (!v->domain->is_shut_down && !push_selectors(v, regs, sel))
        domain_crash(v->domain, "kernel stack cannot be written for the failsafe callback");
}
