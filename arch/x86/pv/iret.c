/* The iret hypercall: a guest's kernel returns from a handler, to itself or to user space. */
#include <asm/guest_mem.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/arch-x86.h>

static u64 clean_flags(u64 f) { return (f & ~(RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF | RFLAGS_VIP)) | RFLAGS_IF | RFLAGS_FIXED; }

static void take_guest_flags(struct vcpu *v, u64 f)
{
    if (v->domain->vm_assist & 1u << VMASST_TYPE_architectural_iopl)
        v->arch.iopl = f >> 12 & 3;
    vcpu_set_upcall_mask(v, !(f & RFLAGS_IF));
}

static s64 iret_64(struct vcpu *v, struct cpu_regs *regs)
{
    u64 sp = regs->rsp, rax, r11, rcx, rip, cs, rflags, rsp, ss;

    if (unlikely(!guest_range_ok(v->domain, sp, sizeof(struct iret_context))))
        goto fault;
    guest_open();
    GET_GUEST_U64(rax, sp, fault);
    GET_GUEST_U64(r11, sp + 8, fault);
    GET_GUEST_U64(rcx, sp + 16, fault);
    GET_GUEST_U64(rip, sp + 32, fault);
    GET_GUEST_U64(cs, sp + 40, fault);
    GET_GUEST_U64(rflags, sp + 48, fault);
    GET_GUEST_U64(rsp, sp + 56, fault);
    GET_GUEST_U64(ss, sp + 64, fault);
    guest_close();
    fetch_note(sp, sizeof(struct iret_context));
    if ((cs & 3) == 3) {
        if (unlikely(mfn_eq(v->arch.root_user, INVALID_MFN))) {
            domain_crash(v->domain, "iret to user mode at %#lx without user page tables", rip);
            return 0;
        }
        pv_toggle_mode(v);
    }
    regs->rip = rip;
    regs->cs = (u16)(cs | 3);
    regs->rflags = clean_flags(rflags);
    regs->rsp = rsp;
    regs->ss = (u16)(ss | 3);
    /* By IRET, whatever the frame's flags say: it loads rcx and r11, and any rip it likes. In a multicall the call says so. */
    regs->entry_vector &= ENTRY_SHORT;
    cpu_info()->call_exit |= CALL_ELSEWHERE;
    regs->r11 = r11;
    regs->rcx = rcx;
    take_guest_flags(v, rflags);
    if (unlikely(v->arch.nmi_masked))
        v->arch.nmi_masked = false;
    return (s64)rax;
fault:
    domain_crash(v->domain, "iret hypercall: frame at %#lx cannot be read", sp);
    return 0;
}

/* 32-bit: eax eip cs eflags [esp ss]; the upper half of cs is ignored. */
static s64 iret_32(struct vcpu *v, struct cpu_regs *regs)
{
    u64 sp = (u32)regs->rsp;
    u32 eax, eip, cs, eflags, esp, ss;

    if (!guest_range_ok(v->domain, sp, 24))
        goto fault;
    guest_open();
    GET_GUEST_U32(eax, sp, fault);
    GET_GUEST_U32(eip, sp + 4, fault);
    GET_GUEST_U32(cs, sp + 8, fault);
    GET_GUEST_U32(eflags, sp + 12, fault);
    guest_close();
    fetch_note(sp, 16);
    if (eflags & RFLAGS_VM) {
        domain_crash(v->domain, "iret to virtual-8086 mode at %04x:%#x: not possible in long mode", cs & 0xffff, eip);
        return 0;
    }
    if ((cs & 3) < 1) {
        domain_crash(v->domain, "iret to ring 0 (cs %04x)", cs & 0xffff);
        return 0;
    }
    if ((cs & 3) > 1) {
        guest_open();
        GET_GUEST_U32(esp, sp + 16, fault);
        GET_GUEST_U32(ss, sp + 20, fault);
        guest_close();
        fetch_note(sp + 16, 8);
        regs->rsp = esp;
        regs->ss = (u16)ss;
    } else {
        regs->rsp = sp + 16;
    }
    regs->rip = eip;
    regs->cs = (u16)cs;
    regs->rflags = clean_flags(eflags);
    regs->entry_vector = ENTRY_INT82;
    take_guest_flags(v, eflags);
    v->arch.nmi_masked = false;
    return eax;
fault:
    domain_crash(v->domain, "iret hypercall: frame at %#lx cannot be read", sp);
    return 0;
}

s64 do_iret(u64, u64, u64, u64, u64, u64)
{
    struct vcpu *v = current;

    fetch_begin();      /* syscall.asm calls it by name, too */
    return v->domain->arch.word == ABI_64 ? iret_64(v, guest_regs()) : iret_32(v, guest_regs());
}
