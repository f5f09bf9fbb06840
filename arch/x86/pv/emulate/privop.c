/*
 * Privileged instructions of PV guests, which fault because their kernels run in ring 3 (64-bit) or 1
 * (32-bit). Each operation says whether it was done; if not, the fault goes to the guest unchanged.
 */
#include <asm/emulate.h>
#include <asm/fpu.h>
#include <asm/percpu.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/sched.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

typedef bool privop(const struct insn *i, struct cpu_regs *regs, struct vcpu *v);

/* #UD instead of the #GP that brought us here. */
static bool undefined(void)
{
    pv_inject_trap(X86_VEC_UD, 0);
    return true;
}

static bool done(const struct insn *i, struct cpu_regs *regs)
{
    insn_done(i, regs);
    return true;
}

static u64 edx_eax(const struct cpu_regs *regs) { return (u32)regs->rax | regs->rdx << 32; }

static void set_edx_eax(struct cpu_regs *regs, u64 v)
{
    regs->rax = (u32)v;
    regs->rdx = v >> 32;
}

/* --- Control registers -------------------------------------------------------------------------- */

static u64 read_guest_cr0(const struct vcpu *v) { return (read_cr0() & ~CR0_TS) | (v->arch.ts ? CR0_TS : 0); }

/* TS is all that a guest may change. */
static bool write_guest_cr0(const struct vcpu *v, u64 val)
{
    if ((val ^ read_guest_cr0(v)) & ~CR0_TS) {
        guest_log("write of %#lx to CR0, which is %#lx: only TS can change", val, read_guest_cr0(v));
        return false;
    }
    fpu_set_ts(val & CR0_TS);
    return true;
}

static u64 read_guest_cr2(const struct vcpu *v)
{
    return v->domain->arch.word == ABI_64 ? read_shared(((const struct vcpu_info_l64 guest_shared *)v->info)->arch.cr2)
                                          : read_shared(((const struct vcpu_info_l32 guest_shared *)v->info)->arch.cr2);
}

static bool op_read_cr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    u64 val = 0;

    switch (i->reg) {
    case 0: val = read_guest_cr0(v); break;
    case 2: val = read_guest_cr2(v); break;
    case 3: val = pv_read_cr3(v); break;
    case 4: val = v->arch.cr[4]; break;
    default: return false;
    }
    insn_reg_write(i, regs, i->rm, i->op_bytes, val);
    return done(i, regs);
}

static bool op_write_cr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    u64 val = insn_reg_read(i, regs, i->rm, i->op_bytes);

    switch (i->reg) {
    case 0:
        if (!write_guest_cr0(v, val))
            return false;
        break;
    case 2:
        vcpu_set_cr2(v->domain->arch.word, v, val);
        break;
    case 3:
        switch (pv_write_cr3(v, val)) {
        case 0:
            break;
        case -ERESTART_HYPERCALL:
            pt_mirror_step(v->domain);
            return true;    /* it executes again: the rest is done then */
        default:
            return false;
        }
        break;
    case 4:
        /* PAE stays what the guest's format makes it. */
        v->arch.cr[4] = pv_fixup_cr4(v, val) & (v->arch.cr[4] | ~CR4_PAE);
        pv_cpu_switch_to(v);
        break;
    default:
        return false;
    }
    return done(i, regs);
}

static bool op_clts(const struct insn *i, struct cpu_regs *regs, struct vcpu *)
{
    fpu_set_ts(false);
    return done(i, regs);
}

/* LMSW: the low four bits of CR0; it cannot clear PE. */
static bool lmsw(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    u64 cr0 = read_guest_cr0(v), linear;
    u16 val = (u16)insn_reg_read(i, regs, i->rm, 2);

    if (i->mem && (!insn_linear(i, regs, i->seg, i->ea, 2, false, &linear)
                   || copy_from_guest(&val, gva(linear), 2)))
        return false;
    return write_guest_cr0(v, (cr0 & ~0xeUL) | (val & 0xf)) && done(i, regs);
}

static bool op_xsetbv(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    if (!(v->arch.cr[4] & CR4_OSXSAVE))
        return undefined();
    return fpu_xsetbv((u32)regs->rcx, edx_eax(regs)) == 0 && done(i, regs);
}

/* --- Debug registers ---------------------------------------------------------------------------- */

static bool op_read_dr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    u64 val;
    int err = pv_get_debugreg(v, i->reg, &val);

    if (err)
        return err == -ENODEV && undefined();
    insn_reg_write(i, regs, i->rm, i->op_bytes, val);
    return done(i, regs);
}

static bool op_write_dr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    int err = pv_set_debugreg(v, i->reg, insn_reg_read(i, regs, i->rm, i->op_bytes));

    if (err)
        return err == -ENODEV && undefined();
    return done(i, regs);
}

/* --- MSRs, time, identification ----------------------------------------------------------------- */

static bool op_rdmsr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    u64 val;

    if (guest_rdmsr(v, (u32)regs->rcx, &val))
        return false;
    set_edx_eax(regs, val);
    return done(i, regs);
}

static bool op_wrmsr(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    return guest_wrmsr(v, (u32)regs->rcx, edx_eax(regs)) == 0 && done(i, regs);
}

/* In user mode only while the guest's own CR4.TSD allows it. */
static bool may_read_tsc(const struct vcpu *v, const struct cpu_regs *regs)
{
    return !(v->arch.cr[4] & CR4_TSD) || guest_in_kernel(v, regs);
}

static bool op_rdtsc(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    if (!may_read_tsc(v, regs))
        return false;
    set_edx_eax(regs, guest_rdtsc(v));
    return done(i, regs);
}

static bool op_rdtscp(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    if (!policy_has(v->domain->cpuid, X86_FEATURE_RDTSCP))
        return undefined();
    if (!may_read_tsc(v, regs))
        return false;
    regs->rcx = v->arch.tsc_aux;    /* before it is done: a single step saves the registers as they are then */
    return op_rdtsc(i, regs, v);
}

static bool op_cpuid(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    struct cpuid_regs r = guest_cpuid(v, (u32)regs->rax, (u32)regs->rcx);

    regs->rax = r.a;
    regs->rbx = r.b;
    regs->rcx = r.c;
    regs->rdx = r.d;
    return done(i, regs);
}

/* --- The rest ----------------------------------------------------------------------------------- */

/* Only a domain with device memory can have caches to care about. */
static bool op_wbinvd(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    if (v->domain->is_hardware)
        __asm__ volatile("wbinvd" ::: "memory");
    return done(i, regs);
}

/* As the hypercall: takes events again and waits for one. */
static bool op_hlt(const struct insn *i, struct cpu_regs *regs, struct vcpu *)
{
    insn_done(i, regs);
    do_sched_op(SCHEDOP_block, 0, 0, 0, 0, 0);
    return true;
}

/* CLI and STI do not touch the event mask, for POPF could not undo it. They pass where IOPL covers them. */
static bool op_cli_sti(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    return pv_iopl_ok(v, regs) && done(i, regs);
}

static bool op_io(const struct insn *i, struct cpu_regs *regs, struct vcpu *)
{
    return pv_emulate_io(i, regs);
}

/* Two-byte opcode 01: by the whole ModRM byte, or its reg field. */
static bool op_group7(const struct insn *i, struct cpu_regs *regs, struct vcpu *v)
{
    if (i->modrm == 0xf9)
        return op_rdtscp(i, regs, v);
    if (!guest_in_kernel(v, regs))
        return false;
    if (i->modrm == 0xd1 && !i->prefixed)
        return op_xsetbv(i, regs, v);
    return (i->reg & 7) == 6 && lmsw(i, regs, v);
}

/* User mode has those that check for themselves, up to the mark. */
enum op {
    NO_OP, RDTSC, CPUID, GROUP7, IO, CLI_STI, LAST_OF_USER = CLI_STI,
    READ_CR, WRITE_CR, READ_DR, WRITE_DR, CLTS, WBINVD, WRMSR, RDMSR, HLT,
};

static privop *const op_functions[] = {
    [RDTSC] = op_rdtsc, [CPUID] = op_cpuid, [GROUP7] = op_group7, [IO] = op_io, [CLI_STI] = op_cli_sti,
    [READ_CR] = op_read_cr, [WRITE_CR] = op_write_cr, [READ_DR] = op_read_dr, [WRITE_DR] = op_write_dr,
    [CLTS] = op_clts, [WBINVD] = op_wbinvd, [WRMSR] = op_wrmsr, [RDMSR] = op_rdmsr, [HLT] = op_hlt,
};

/* By map and opcode. */
static const u8 op_of[2][256] = {
    { [0x6c ... 0x6f] = IO, [0xe4 ... 0xe7] = IO, [0xec ... 0xef] = IO, [0xfa ... 0xfb] = CLI_STI, [0xf4] = HLT },
    { [0x01] = GROUP7, [0x06] = CLTS, [0x08 ... 0x09] = WBINVD, [0x20] = READ_CR, [0x21] = READ_DR, [0x22] = WRITE_CR,
      [0x23] = WRITE_DR, [0x30] = WRMSR, [0x31] = RDTSC, [0x32] = RDMSR, [0xa2] = CPUID },
};

bool pv_emulate_privop(struct cpu_regs *regs)
{
    struct vcpu *v = current;
    struct insn i;
    enum op op;

    if (insn_fetch(&i, regs) || i.lock)
        return false;
    op = op_of[i.map][i.opcode];
    if (op == NO_OP || (op > LAST_OF_USER && !guest_in_kernel(v, regs)))
        return false;
    return op_functions[op](&i, regs, v);
}

void pv_forced_cpuid(struct cpu_regs *regs)
{
    static const struct insn forced = { .len = 7, .mode = MODE_64 };

    op_cpuid(&forced, regs, current);
}

bool pv_emulate_forced(struct cpu_regs *regs)
{
    const u64 forced_cpuid = FORCED_CPUID;
    enum code_mode mode;
    struct insn_text text;

    insn_text(&text, regs, &mode);
    if (text.n < 7 || memcmp(text.bytes, &forced_cpuid, 7) != 0)
        return false;
    return op_cpuid(&(struct insn){ .len = 7, .mode = mode }, regs, current);
}
