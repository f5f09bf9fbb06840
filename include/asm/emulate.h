/*
 * Emulation for PV guests: privileged operations, direct page-table writes, MSRs, debug registers. One small decoder
 * (struct insn) serves them all; it is plain logic and tested on the host.
 */
#ifndef ASM_EMULATE_H
#define ASM_EMULATE_H

#include <asm/domain.h>
#include <asm/regs.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/domain.h>

/* --- Decoder (pv/emulate/decode.c) --- */

enum code_mode { MODE_16, MODE_32, MODE_64 };
enum segment { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

#define INSN_MAX 15

struct insn {
    u8 len;                 /* all prefixes included */
    u8 map;                 /* 0: one-byte opcodes, 1: after 0x0f */
    u8 opcode;
    u8 modrm, mod, reg, rm; /* reg and rm with the REX bits */
    u8 rex;                 /* 0: none */
    u8 op_bytes;            /* operand size 1, 2, 4 or 8 */
    u8 addr_bytes;          /* 2, 4 or 8 */
    u8 seg;                 /* of the memory operand, or of rSI in string operations */
    u8 rep;                 /* 0, 0xf2 or 0xf3 */
    bool lock, mem;         /* mem: rm is in memory, at ea */
    bool prefixed;          /* by 0x66, 0xf2 or 0xf3, which some opcodes must not be */
    u8 mode;
    u16 selector;           /* of a far pointer in the instruction itself, its offset in imm */
    u64 imm;                /* sign-extended to 64 bits */
    u64 ea;                 /* offset in seg, truncated to addr_bytes */
};

/* The first n bytes (15 at most) of an instruction. The decoder may look at the others, but they do not count. */
struct insn_text {
    u8 bytes[32];           /* 15 prefixes, opcode, ModRM, SIB, displacement, immediate operand */
    unsigned n;
};

/*
 * Decodes the instruction at regs->rip. 0, or: -EFAULT if more than n bytes are needed, -EINVAL if it is none that we
 * emulate, -E2BIG if it is longer than 15 bytes. No effects.
 */
int insn_decode(struct insn *i, enum code_mode mode, const struct cpu_regs *regs, const struct insn_text *text);

/*
 * Of 64-bit code that begins with text: a MOV or XCHG of a whole register with [register + displacement], as kernels set entries of
 * page tables. False: something else. No effects.
 */
struct plain_write {
    u64 linear;
    u64 *reg;               /* what is written; XCHG: and takes what was there */
    bool exchanges;
    u8 len;
};
bool insn_plain_write(struct cpu_regs *regs, u64 text, struct plain_write *w);
/* insn_plain_write() of 32-bit code: linear is the offset in DS, and the upper halves of *reg mean nothing. */
bool insn_plain_write_32(struct cpu_regs *regs, u64 text, struct plain_write *w);
/* CMPXCHG8B, locked or not, of 32-bit code. */
struct plain_cmpxchg8b {
    u64 linear, expected, value;
    u8 len;
};
bool insn_plain_cmpxchg8b(const struct cpu_regs *regs, u64 text, struct plain_cmpxchg8b *c);

/* General register n (0 rax ... 15 r15), as the instruction names it: bytes wide, AH..BH when bytes is 1 without REX. */
u64 insn_reg_read(const struct insn *i, const struct cpu_regs *regs, unsigned n, unsigned bytes);
/* The write clears the upper half for 4 bytes in 64-bit mode and leaves the rest alone for 1 and 2. */
void insn_reg_write(const struct insn *i, struct cpu_regs *regs, unsigned n, unsigned bytes, u64 v);
static inline u64 size_mask(unsigned bytes) { return bytes >= 8 ? ~0UL : (1UL << (bytes * 8)) - 1; }

/* --- The current guest's instruction and segments (pv/emulate/fetch.c) --- */

/* The data segments of 4 GiB that we lend to 32-bit guests (cpu/desc.c): in a 64-bit guest the selectors are other segments'. */
static inline bool is_flat_data_32(u16 sel)
{
    return (sel & ~3) == (FLAT_RING1_DS & ~3) || (sel & ~3) == (FLAT_RING3_DS & ~3);
}

/* What stands at RIP: as much as can be had; n is 0 if nothing can. */
void insn_text(struct insn_text *text, const struct cpu_regs *regs, enum code_mode *mode);
/* Fetches and decodes what the current guest is executing; the same errors, -EFAULT also if it cannot be read. */
int insn_fetch(struct insn *i, const struct cpu_regs *regs);
/* Linear address of seg:offset for an access of so many bytes; false if the segment forbids it. */
bool insn_linear_based(const struct insn *i, const struct cpu_regs *regs, enum segment seg, u64 offset, unsigned bytes,
                       bool write, u64 *linear);
static inline bool insn_linear(const struct insn *i, const struct cpu_regs *regs, enum segment seg, u64 offset,
                               unsigned bytes, bool write, u64 *linear)
{
    if (unlikely(i->mode != MODE_64 || seg >= SEG_FS))
        return insn_linear_based(i, regs, seg, offset, bytes, write, linear);
    *linear = offset;
    return true;
}
/* Moves RIP past i, clears RF, and raises #DB if the guest is single-stepping. */
void insn_done_special(const struct insn *i, struct cpu_regs *regs);
static inline void insn_done(const struct insn *i, struct cpu_regs *regs)
{
    if (unlikely(i->mode != MODE_64 || regs->rflags & RFLAGS_TF)) {
        insn_done_special(i, regs);
        return;
    }
    regs->rip += i->len;
    regs->rflags &= ~RFLAGS_RF;
}

/* The guest runs its kernel: 64-bit by our own record, 32-bit by ring 1. */
static inline bool guest_in_kernel(const struct vcpu *v, const struct cpu_regs *regs)
{
    return v->domain->arch.word == ABI_64 ? v->arch.kernel_mode : (regs->cs & 3) == 1;
}

/* --- Privileged operations (pv/emulate/privop.c) --- */

/* #GP with error code 0 in the guest. True: emulated, or a trap was injected. False: the fault is the guest's own. */
bool pv_emulate_privop(struct cpu_regs *regs);
/* #UD: `ud2a; .ascii "xen"; cpuid`. True: emulated. */
bool pv_emulate_forced(struct cpu_regs *regs);
#define FORCED_CPUID 0xa20f6e65780b0fUL     /* its seven bytes */
void pv_forced_cpuid(struct cpu_regs *regs);    /* of a 64-bit guest that it is known to be */

/* #GP with a selector as error code: true if it was a far call through a 32-bit guest's call gate, now done (pv/emulate/gate.c). */
bool pv_emulate_gate(struct cpu_regs *regs);

/* IN, OUT, INS, OUTS (pv/emulate/io.c); as pv_emulate_privop(). */
bool pv_emulate_io(const struct insn *i, struct cpu_regs *regs);
/* The guest's I/O privilege level covers the mode that it is in. */
bool pv_iopl_ok(const struct vcpu *v, const struct cpu_regs *regs);

/* --- Page-table and read-only MMIO writes (pv/emulate/ptwr.c) --- */

enum pt_write_kind {
    PTW_MOV, PTW_XCHG, PTW_CMPXCHG, PTW_CMPXCHG8B, PTW_XADD, PTW_INC, PTW_DEC, PTW_NOT,
    PTW_BTS, PTW_BTR, PTW_BTC,
    PTW_ALU, /* plus the operation's number in the opcode: ADD OR ADC SBB AND SUB XOR; CMP does not write */
};

struct pt_write {
    u64 linear;             /* what the instruction writes; nobody checked it */
    u8 bytes;               /* 1, 2, 4 or 8 */
    u8 kind;                /* PTW_*; ALU operations are PTW_ALU + 0..6 */
    bool carry_in;
    u64 operand;            /* source, bit number, or cmpxchg's new value */
    u64 expected;           /* cmpxchg */
    struct insn insn;
};

/*
 * Decodes the current guest's instruction as a write to memory. False if it is none that we know. The guest may have changed
 * the instruction since it faulted: check w->linear and w->bytes, and take nothing else for granted. For a
 * write to read-only MMIO, a PTW_MOV's value is w->operand.
 */
bool pv_decode_pt_write(struct cpu_regs *regs, struct pt_write *w);
/*
 * The entry (of entry_bytes, 4 or 8, aligned) that the write makes of old. False if the write does not lie within the one
 * entry that w->linear is in. A cmpxchg that finds another value gives old.
 */
bool pt_write_new_entry(const struct pt_write *w, unsigned entry_bytes, u64 old, u64 *new_entry);
/*
 * After the entry was changed from old to what pt_write_new_entry() gave: writes registers and flags back and moves RIP on.
 * success false: old was no longer there; nothing is written back and the instruction runs again.
 */
void pv_finish_pt_write(struct cpu_regs *regs, const struct pt_write *w, unsigned entry_bytes, u64 old, bool success);

/* --- MSRs (pv/msr.c) and control registers (pv/emulate/privop.c) --- */

/* RDMSR / WRMSR by v's kernel; v is current. -EINVAL: the guest gets #GP. */
int guest_rdmsr(struct vcpu *v, u32 msr, u64 *val);
int guest_wrmsr(struct vcpu *v, u32 msr, u64 val);
/* What the guest may see and set in CR4: from a value that it or the toolstack wants to be there. */
u64 pv_fixup_cr4(const struct vcpu *v, u64 cr4);
/* Guest's CR4 bits that reach the CPU: what CR4 must be while v runs. */
u64 pv_hw_cr4(const struct vcpu *v);
/*
 * Context switch, interrupts off: CR4, TSC_AUX and SPEC_CTRL of a vCPU that is about to run; writes only what differs. SMAP is on from
 * here to the way out even if the vCPU runs without.
 */
void pv_cpu_switch_to(const struct vcpu *next);
/* XEN_DOMCTL_{get,set}_vcpu_msrs: at most PV_VCPU_MSRS (index, value) pairs; get returns the number. set: -EINVAL. */
#define PV_VCPU_MSRS 2
struct vcpu_msr { u32 index; u64 value; };
u32 pv_vcpu_msrs_get(const struct vcpu *v, struct vcpu_msr *out);
int pv_vcpu_msr_set(struct vcpu *v, u32 index, u64 value);

/* --- Debug registers (pv/debugreg.c) --- */

/*
 * 0, -EINVAL (no such register, or more than 32 bits in DR6, DR7), -EPERM (a breakpoint on the hypervisor's addresses, on
 * I/O without CR4.DE, or general detection), -ENODEV (DR4, DR5 with CR4.DE: #UD). Of a vCPU that is current or does not run.
 */
int pv_set_debugreg(struct vcpu *v, unsigned n, u64 value);
int pv_get_debugreg(const struct vcpu *v, unsigned n, u64 *value);
void debugreg_ctxt_switch(struct vcpu *prev, struct vcpu *next);
/* #DB from the guest: takes the CPU's DR6 into the guest's, and readies the CPU's for the next. */
void debugreg_take_db(struct vcpu *v);
/* Did this access by IN or OUT meet a breakpoint of v's, which then is in its DR6? #DB is the caller's to raise. */
bool debugreg_io(struct vcpu *v, u16 port, unsigned bytes);

/* --- Provided by the PV core (arch/x86/pv) --- */

/* The guest takes a trap when we return to it; the error code counts only for vectors that have one. */
void pv_inject_trap(u8 vector, u32 error_code);
/* The guest takes a page fault at address when we return to it. */
void pv_inject_page_fault(u64 address, u32 error_code);
/* Descriptor of a selector in v's GDT or LDT; false: null, out of bounds or not readable. v is current. */
bool pv_read_descriptor(struct vcpu *v, u16 sel, u64 *desc);
/* CR3 as the guest's kernel writes and reads it (machine frame, in its own encoding). write: 0 or -errno. */
u64 pv_read_cr3(struct vcpu *v);
int pv_write_cr3(struct vcpu *v, u64 cr3);
/* 64-bit: switches the current vCPU between kernel's and user's page tables and GS base. */
void pv_toggle_mode(struct vcpu *v);

#endif
