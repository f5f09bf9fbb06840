/*
 * Far calls through 32-bit call gates (Intel SDM vol. 3 chapter 5.8.3). Long mode has no such gates, and 32-bit kernels
 * of the Xen 3 era offer them to user space as system calls: GNU Mach's are `lcall $7, $0`. A gate in a guest's table has
 * DPL 0 (pv/descriptors.c), so that every use of it comes here as #GP with its selector.
 *
 * The frame (lowest address first): eip cs [parameters] [esp ss], the latter two on a change of ring.
 */
#include <asm/desc.h>
#include <asm/guest_mem.h>
#include <asm/percpu.h>
#include <asm/pv.h>
#include <pvisor/guest.h>

#define DESC_CODE_P   (1UL << 47 | 1UL << 44 | 1UL << 43)
#define DESC_CONFORMS (1UL << 42)
#define DESC_D        (1UL << 54)

struct gate_call {
    u16 cs;             /* with the new ring */
    u32 eip;
    unsigned nr_params;
    bool inner;         /* the ring changes */
};

/* The selector that a far call names, directly or in memory. */
static bool called_selector(const struct insn *i, const struct cpu_regs *regs, u16 *sel)
{
    u64 linear;

    if (i->map == 0 && i->opcode == 0x9a) {
        *sel = i->selector;
        return true;
    }
    return i->map == 0 && i->opcode == 0xff && (i->reg & 7) == 3 && i->mem &&
           insn_linear(i, regs, i->seg, i->ea, i->op_bytes + 2u, false, &linear) &&
           !copy_from_guest(sel, gva(linear + i->op_bytes), sizeof(*sel));
}

/* What the gate leads to, if whoever is running may go through it. */
static bool look_up(struct vcpu *v, const struct cpu_regs *regs, u16 sel, struct gate_call *c)
{
    unsigned cpl = regs->cs & 3, ring;
    u64 gate, code;
    u16 target;

    if (!pv_read_descriptor(v, sel, &gate) || !desc_is_gate(gate))
        return false;
    if (desc_gate_dpl(gate) < cpl || desc_gate_dpl(gate) < (sel & 3u))
        return false;
    target = (u16)(gate >> 16);
    if (!pv_read_descriptor(v, target, &code) || (code & (DESC_CODE_P | DESC_D)) != (DESC_CODE_P | DESC_D))
        return false;
    ring = code & DESC_CONFORMS ? cpl : code >> 45 & 3;
    /* Of the rings further in, only the kernel's has a stack. */
    if (ring == 0 || ring > cpl || (ring < cpl && ring != 1))
        return false;
    *c = (struct gate_call){ (u16)((target & ~3) | ring), (u32)((gate & 0xffff) | (gate >> 32 & 0xffff0000)),
                             gate >> 32 & 31, ring < cpl };
    return true;
}

/* The frame as it lies in memory; its number of words, 0 if the parameters, at an address, cannot be read. */
static unsigned make_frame(const struct insn *i, const struct cpu_regs *regs, const struct gate_call *c, u64 params, u32 *frame)
{
    unsigned n = 0;

    frame[n++] = (u32)regs->rip + i->len;
    frame[n++] = regs->cs;
    if (!c->inner)
        return n;
    if (c->nr_params && copy_from_guest(frame + n, gva(params), c->nr_params * 4))
        return 0;
    n += c->nr_params;
    frame[n++] = (u32)regs->rsp;
    frame[n++] = regs->ss;
    return n;
}

static bool enter(struct vcpu *v, struct cpu_regs *regs, const struct insn *i, const struct gate_call *c)
{
    u32 frame[4 + 31], sp = (u32)regs->rsp;
    u64 linear = 0;
    unsigned n, bytes = c->inner ? c->nr_params * 4 : 8;

    /* Of its own stack the caller has read and written what it may itself. */
    if (!c->inner)
        sp -= bytes;
    if (bytes) {
        if (!insn_linear(i, regs, SEG_SS, sp, bytes, !c->inner, &linear))
            return false;
        if (pv_user_fault(v, regs, linear, bytes, !c->inner))
            return true;
    }
    n = make_frame(i, regs, c, linear, frame);
    if (c->inner) {
        sp = (u32)v->arch.kernel_sp - n * 4;
        linear = sp;
    }
    if (!n || copy_to_guest(gva(linear), frame, n * 4))
        return false;
    if (c->inner)
        regs->ss = v->arch.kernel_ss;
    regs->rsp = sp;
    regs->cs = c->cs;
    regs->rip = c->eip;
    return true;
}

bool pv_emulate_gate(struct cpu_regs *regs)
{
    struct vcpu *v = current;
    struct gate_call c;
    struct insn i;
    u16 sel;

    return v->domain->arch.word == ABI_32 && !(regs->error_code & 3) && !insn_fetch(&i, regs) &&
           called_selector(&i, regs, &sel) && (sel & ~3u) == regs->error_code &&
           look_up(v, regs, sel, &c) && enter(v, regs, &i, &c);
}
