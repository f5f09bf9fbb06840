/*
 * Port I/O by guests. Two questions: may the guest's program do it (its kernel's I/O privilege level or
 * bitmap; if not, the fault is the guest's), and may the domain have the port (if not, reads give ones and
 * writes go nowhere, as with no device there: kernels probe ports without expecting faults).
 */
#include <asm/emulate.h>
#include <asm/percpu.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/pci.h>
#include <pvisor/rangeset.h>

#define PCI_CONF_FIRST 0xcf8
#define PCI_CONF_LAST  0xcff
#define REP_BATCH      512      /* repetitions before the guest runs on, at the same instruction */

bool pv_iopl_ok(const struct vcpu *v, const struct cpu_regs *regs)
{
    bool architectural = v->domain->vm_assist >> VMASST_TYPE_architectural_iopl & 1;
    unsigned cpl = !guest_in_kernel(v, regs) ? 3 : architectural ? 0 : 1;

    return cpl <= v->arch.iopl;
}

/* The kernel's bitmap, which lies in its own address space, has zeros for all these ports. */
static bool bitmap_ok(struct vcpu *v, const struct cpu_regs *regs, u16 port, unsigned bytes)
{
    bool toggle = v->domain->arch.word == ABI_64 && !guest_in_kernel(v, regs);
    u16 bits = 0xffff;
    int err;

    if (!v->arch.iobitmap.v || port + bytes > v->arch.iobitmap_ports)
        return false;
    if (toggle)
        pv_toggle_mode(v);
    err = copy_from_guest(&bits, gva_add(v->arch.iobitmap, port / 8), (port & 7) + bytes > 8 ? 2 : 1);
    if (toggle)
        pv_toggle_mode(v);
    return !err && !(bits >> (port & 7) & ((1u << bytes) - 1));
}

static bool is_pci_conf(u16 port) { return port >= PCI_CONF_FIRST && port <= PCI_CONF_LAST; }

static u32 port_read(struct domain *d, u16 port, unsigned bytes)
{
    if (is_pci_conf(port))
        return pci_conf_port_read(d, port, bytes);
    if (!rangeset_contains(d->ioports, port, port + bytes - 1))
        return (u32)size_mask(bytes);
    return bytes == 1 ? inb(port) : bytes == 2 ? inw(port) : inl(port);
}

static void port_write(struct domain *d, u16 port, unsigned bytes, u32 v)
{
    if (is_pci_conf(port))
        pci_conf_port_write(d, port, bytes, v);
    else if (!rangeset_contains(d->ioports, port, port + bytes - 1))
        return;
    else if (bytes == 1)
        outb(port, (u8)v);
    else if (bytes == 2)
        outw(port, (u16)v);
    else
        outl(port, v);
}

enum { REG_RAX, REG_RCX, REG_RDX, REG_RSI = 6, REG_RDI };

/* One unit between port and memory. False: a fault was injected, or (*gp) the segment forbids it. */
static bool string_step(const struct insn *i, struct cpu_regs *regs, bool in, u16 port, unsigned bytes,
                        bool *gp)
{
    struct vcpu *v = current;
    u64 offset = insn_reg_read(i, regs, in ? REG_RDI : REG_RSI, i->addr_bytes), linear;
    u32 data = 0;
    int err;

    if (!insn_linear(i, regs, in ? SEG_ES : i->seg, offset, bytes, in, &linear)) {
        *gp = true;
        return false;
    }
    if (pv_user_fault(v, regs, linear, bytes, in))
        return false;
    if (in) {
        data = port_read(v->domain, port, bytes);
        err = copy_to_guest(gva(linear), &data, bytes);
    } else {
        err = copy_from_guest(&data, gva(linear), bytes);
        if (!err)
            port_write(v->domain, port, bytes, data);
    }
    if (err)
        pv_inject_page_fault(linear, (in ? PF_WRITE : 0) | (guest_in_kernel(v, regs) ? 0 : PF_USER));
    return !err;
}

/* After an access: a breakpoint is a trap, as single-stepping is, and one #DB serves both. */
static void done(const struct insn *i, struct cpu_regs *regs, bool hit)
{
    bool stepping = regs->rflags & RFLAGS_TF;

    insn_done(i, regs);
    if (unlikely(hit) && !stepping)
        pv_inject_trap(X86_VEC_DB, 0);
}

/* INS and OUTS. A breakpoint stops between repetitions. */
static bool string_io(const struct insn *i, struct cpu_regs *regs, bool in, u16 port, unsigned bytes)
{
    u64 count = i->rep ? insn_reg_read(i, regs, REG_RCX, i->addr_bytes) : 1;
    unsigned index = in ? REG_RDI : REG_RSI, nr = 0;
    u64 step = regs->rflags & RFLAGS_DF ? -(u64)bytes : bytes;
    bool gp = false, hit = false;

    for (; nr < REP_BATCH && count && !hit; nr++) {
        if (!string_step(i, regs, in, port, bytes, &gp))
            return !gp || nr;
        hit = debugreg_io(current, port, bytes);
        insn_reg_write(i, regs, index, i->addr_bytes, insn_reg_read(i, regs, index, i->addr_bytes) + step);
        count--;
        if (i->rep)
            insn_reg_write(i, regs, REG_RCX, i->addr_bytes, count);
    }
    if (!count)
        done(i, regs, hit);
    else if (hit)
        pv_inject_trap(X86_VEC_DB, 0);
    return true;
}

bool pv_emulate_io(const struct insn *i, struct cpu_regs *regs)
{
    struct vcpu *v = current;
    unsigned bytes = min(i->op_bytes, (u8)4);
    bool string = (i->opcode & 0xf0) == 0x60, in = !(i->opcode & 2);
    u16 port = (i->opcode & 0xf8) == 0xe0 ? (u8)i->imm : (u16)regs->rdx;

    if (!pv_iopl_ok(v, regs) && !bitmap_ok(v, regs, port, bytes))
        return false;
    if (string)
        return string_io(i, regs, in, port, bytes);
    if (in)
        insn_reg_write(i, regs, REG_RAX, bytes, port_read(v->domain, port, bytes));
    else
        port_write(v->domain, port, bytes, (u32)insn_reg_read(i, regs, REG_RAX, bytes));
    done(i, regs, debugreg_io(v, port, bytes));
    return true;
}
