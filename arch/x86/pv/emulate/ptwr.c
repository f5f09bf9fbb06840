/*
 * Writes of guests to their own page tables, and to read-only device memory: which instruction, what it makes
 * of the old value, and what it leaves in registers and flags (Intel SDM vol. 2). Decoding has no effects;
 * the caller does the write.
 */
#include <asm/emulate.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/guest.h>

#define RFLAGS_PF (1UL << 2)
#define RFLAGS_AF (1UL << 4)
#define RFLAGS_SF (1UL << 7)
#define RFLAGS_OF (1UL << 11)
#define ARITHMETIC_FLAGS (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSI = 6, REG_RDI };
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

/* --- Arithmetic --------------------------------------------------------------------------------- */

static u64 alu(unsigned op, u64 a, u64 b, bool carry)
{
    switch (op) {
    case ALU_ADD: return a + b;
    case ALU_OR:  return a | b;
    case ALU_ADC: return a + b + carry;
    case ALU_SBB: return a - b - carry;
    case ALU_AND: return a & b;
    case ALU_XOR: return a ^ b;
    default:      return a - b;
    }
}

/* Flags of result = a op b, all of so many bytes; the carries out of each bit tell CF, AF and OF. */
static u64 alu_flags(unsigned op, u64 a, u64 b, u64 result, unsigned bytes)
{
    u64 top = 1UL << (bytes * 8 - 1), carries = 0, overflow = 0, f = 0;

    if (op == ALU_ADD || op == ALU_ADC) {
        carries = (a & b) | ((a | b) & ~result);
        overflow = (a ^ result) & (b ^ result);
    } else if (op == ALU_SUB || op == ALU_SBB || op == ALU_CMP) {
        carries = (~a & b) | ((~a | b) & result);
        overflow = (a ^ b) & (a ^ result);
    }
    f |= carries & top ? RFLAGS_CF : 0;
    f |= carries & 8 ? RFLAGS_AF : 0;
    f |= overflow & top ? RFLAGS_OF : 0;
    f |= result & top ? RFLAGS_SF : 0;
    f |= result & size_mask(bytes) ? 0 : RFLAGS_ZF;
    f |= __builtin_parity(result & 0xff) ? 0 : RFLAGS_PF;
    return f;
}

/* What the write makes of the w->bytes that were there. */
static u64 new_value(const struct pt_write *w, u64 old)
{
    u64 bit = 1UL << (w->operand & 63);

    switch (w->kind) {
    case PTW_CMPXCHG:
    case PTW_CMPXCHG8B: return old == w->expected ? w->operand : old;
    case PTW_XADD:      return old + w->operand;
    case PTW_INC:       return old + 1;
    case PTW_DEC:       return old - 1;
    case PTW_NOT:       return ~old;
    case PTW_BTS:       return old | bit;
    case PTW_BTR:       return old & ~bit;
    case PTW_BTC:       return old ^ bit;
    case PTW_MOV:
    case PTW_XCHG:      return w->operand;
    default:            return alu(w->kind - PTW_ALU, old, w->operand, w->carry_in);
    }
}

/* The flags after it; those that it leaves alone from before. */
static u64 new_flags(const struct pt_write *w, u64 old, u64 before)
{
    u64 mask = size_mask(w->bytes), result, changed = ARITHMETIC_FLAGS, f = 0;

    if (w->kind == PTW_MOV || w->kind == PTW_XCHG || w->kind == PTW_NOT)
        return before;
    result = new_value(w, old) & mask;
    switch (w->kind) {
    case PTW_BTS:
    case PTW_BTR:
    case PTW_BTC:
        changed = RFLAGS_CF;
        f = old >> (w->operand & 63) & 1 ? RFLAGS_CF : 0;
        break;
    case PTW_CMPXCHG8B:
        changed = RFLAGS_ZF;
        f = old == w->expected ? RFLAGS_ZF : 0;
        break;
    case PTW_CMPXCHG:
        f = alu_flags(ALU_CMP, w->expected, old, (w->expected - old) & mask, w->bytes);
        break;
    case PTW_INC:
    case PTW_DEC:
        changed &= ~RFLAGS_CF;
        f = alu_flags(w->kind == PTW_INC ? ALU_ADD : ALU_SUB, old, 1, result, w->bytes);
        break;
    default:
        f = alu_flags(w->kind == PTW_XADD ? ALU_ADD : w->kind - PTW_ALU, old, w->operand, result, w->bytes);
    }
    return (before & ~changed) | (f & changed);
}

/* --- Decoding ----------------------------------------------------------------------------------- */

static bool from_reg(struct pt_write *w, const struct cpu_regs *regs, u8 kind)
{
    w->kind = kind;
    w->operand = insn_reg_read(&w->insn, regs, w->insn.reg, w->bytes);
    return true;
}

static bool from_imm(struct pt_write *w, u8 kind)
{
    w->kind = kind;
    w->operand = w->insn.imm & size_mask(w->bytes);
    return true;
}

static bool alu_write(struct pt_write *w, const struct cpu_regs *regs)
{
    unsigned op = w->insn.opcode < 0x40 ? w->insn.opcode >> 3 : w->insn.modrm >> 3 & 7;

    w->carry_in = regs->rflags & RFLAGS_CF;
    if (op == ALU_CMP)
        return false;
    return w->insn.opcode < 0x40 ? from_reg(w, regs, PTW_ALU + op) : from_imm(w, PTW_ALU + op);
}

static bool cmpxchg_write(struct pt_write *w, const struct cpu_regs *regs)
{
    w->expected = insn_reg_read(&w->insn, regs, REG_RAX, w->bytes);
    return from_reg(w, regs, PTW_CMPXCHG);
}

static bool cmpxchg8b(struct pt_write *w, const struct cpu_regs *regs)
{
    if ((w->insn.modrm >> 3 & 7) != 1 || w->insn.rex & 8)
        return false;
    w->bytes = 8;
    w->kind = PTW_CMPXCHG8B;
    w->expected = (u32)regs->rax | regs->rdx << 32;
    w->operand = (u32)regs->rbx | regs->rcx << 32;
    return true;
}

/* BTS, BTR, BTC: a register's bit number reaches beyond the operand, an immediate one does not. */
static bool bit_write(struct pt_write *w, const struct cpu_regs *regs)
{
    static const u8 kind[4] = { 0xff, PTW_BTS, PTW_BTR, PTW_BTC };
    struct insn *i = &w->insn;
    unsigned bits = w->bytes * 8u, op = i->opcode == 0xba ? i->modrm >> 3 & 7 : i->opcode >> 3 & 7;
    s64 n;

    if (op < 5)
        return false;
    from_imm(w, kind[op - 4]);
    if (i->opcode != 0xba) {
        n = (s64)(insn_reg_read(i, regs, i->reg, w->bytes) << (64 - bits)) >> (64 - bits);
        w->operand = (u64)n;
        i->ea = (i->ea + (u64)((n >> (w->bytes == 8 ? 6 : w->bytes == 4 ? 5 : 4)) * w->bytes))
              & size_mask(i->addr_bytes);
    }
    w->operand &= bits - 1;
    return true;
}

/* STOS and MOVS, one unit at a time: the next one faults again. */
static bool string_write(struct pt_write *w, const struct cpu_regs *regs)
{
    struct insn *i = &w->insn;
    u64 source;

    w->kind = PTW_MOV;
    i->ea = insn_reg_read(i, regs, REG_RDI, i->addr_bytes);
    if (i->rep && !insn_reg_read(i, regs, REG_RCX, i->addr_bytes))
        return false;
    if (i->opcode >= 0xaa) {
        w->operand = insn_reg_read(i, regs, REG_RAX, w->bytes);
        return true;
    }
    source = insn_reg_read(i, regs, REG_RSI, i->addr_bytes);
    return insn_linear(i, regs, i->seg, source, w->bytes, false, &source)
        && copy_from_guest(&w->operand, gva(source), w->bytes) == 0;
}

static bool is_string(const struct insn *i)
{
    return i->map == 0 && ((i->opcode & 0xfe) == 0xa4 || (i->opcode & 0xfe) == 0xaa);
}

static bool group_write(struct pt_write *w)
{
    unsigned n = w->insn.modrm >> 3 & 7;

    if ((w->insn.opcode & 0xfe) == 0xf6) {
        w->kind = PTW_NOT;
        return n == 2;
    }
    w->kind = n == 0 ? PTW_INC : PTW_DEC;
    return n <= 1;
}

static bool one_byte_write(struct pt_write *w, const struct cpu_regs *regs)
{
    switch (w->insn.opcode) {
    case 0x00 ... 0x3f:
    case 0x80 ... 0x83: return alu_write(w, regs);
    case 0x86 ... 0x87: return from_reg(w, regs, PTW_XCHG);
    case 0x88 ... 0x89: return from_reg(w, regs, PTW_MOV);
    case 0xa2 ... 0xa3:
        w->kind = PTW_MOV;
        w->operand = insn_reg_read(&w->insn, regs, REG_RAX, w->bytes);
        return true;
    case 0xc6 ... 0xc7: return (w->insn.modrm >> 3 & 7) == 0 && from_imm(w, PTW_MOV);
    case 0xf6 ... 0xf7:
    case 0xfe ... 0xff: return group_write(w);
    default:            return false;
    }
}

static bool two_byte_write(struct pt_write *w, const struct cpu_regs *regs)
{
    switch (w->insn.opcode) {
    case 0xab:
    case 0xb3:
    case 0xba:
    case 0xbb:          return bit_write(w, regs);
    case 0xb0 ... 0xb1: return cmpxchg_write(w, regs);
    case 0xc0 ... 0xc1: return from_reg(w, regs, PTW_XADD);
    case 0xc3:          return w->bytes >= 4 && !w->insn.prefixed && from_reg(w, regs, PTW_MOV);
    case 0xc7:          return cmpxchg8b(w, regs);
    default:            return false;
    }
}

bool pv_decode_pt_write(struct cpu_regs *regs, struct pt_write *w)
{
    struct insn *i = &w->insn;
    bool known;

    w->carry_in = false;
    w->operand = w->expected = 0;
    if (insn_fetch(i, regs))
        return false;
    w->bytes = i->op_bytes;
    if (is_string(i))
        return !i->lock && string_write(w, regs) && insn_linear(i, regs, SEG_ES, i->ea, w->bytes, true, &w->linear);
    if (!i->mem)
        return false;
    known = i->map ? two_byte_write(w, regs) : one_byte_write(w, regs);
    /* The CPU raises #UD at such a MOV: the guest has changed the instruction since. */
    if (!known || (unlikely(i->lock) && w->kind == PTW_MOV))
        return false;
    return insn_linear(i, regs, i->seg, i->ea, w->bytes, true, &w->linear);
}

/* --- Performing --------------------------------------------------------------------------------- */

/* Position of the written bytes in the entry, in bits; negative if they are not in one entry. */
static int place_in_entry(const struct pt_write *w, unsigned entry_bytes)
{
    unsigned offset = (unsigned)w->linear & (entry_bytes - 1);

    return offset + w->bytes <= entry_bytes ? (int)offset * 8 : -1;
}

bool pt_write_new_entry(const struct pt_write *w, unsigned entry_bytes, u64 old, u64 *new_entry)
{
    int shift = place_in_entry(w, entry_bytes);
    u64 mask = size_mask(w->bytes), value;

    if (shift < 0)
        return false;
    value = likely(w->kind == PTW_MOV) ? w->operand : new_value(w, old >> shift & mask) & mask;
    *new_entry = ((old & ~(mask << shift)) | value << shift) & size_mask(entry_bytes);
    return true;
}

static void finish_string(struct cpu_regs *regs, const struct pt_write *w)
{
    const struct insn *i = &w->insn;
    u64 step = regs->rflags & RFLAGS_DF ? -(u64)w->bytes : w->bytes;
    unsigned n = i->addr_bytes;

    insn_reg_write(i, regs, REG_RDI, n, insn_reg_read(i, regs, REG_RDI, n) + step);
    if (i->opcode < 0xaa)
        insn_reg_write(i, regs, REG_RSI, n, insn_reg_read(i, regs, REG_RSI, n) + step);
    if (i->rep) {
        insn_reg_write(i, regs, REG_RCX, n, insn_reg_read(i, regs, REG_RCX, n) - 1);
        if (insn_reg_read(i, regs, REG_RCX, n))
            return;
    }
    insn_done(i, regs);
}

/* Registers that take the old value. */
static void write_back(struct cpu_regs *regs, const struct pt_write *w, u64 old)
{
    const struct insn *i = &w->insn;

    if (w->kind == PTW_XCHG || w->kind == PTW_XADD) {
        insn_reg_write(i, regs, i->reg, w->bytes, old);
    } else if (w->kind == PTW_CMPXCHG && old != w->expected) {
        insn_reg_write(i, regs, REG_RAX, w->bytes, old);
    } else if (w->kind == PTW_CMPXCHG8B && old != w->expected) {
        regs->rax = (u32)old;
        regs->rdx = old >> 32;
    }
}

void pv_finish_pt_write(struct cpu_regs *regs, const struct pt_write *w, unsigned entry_bytes, u64 old,
                        bool success)
{
    int shift = place_in_entry(w, entry_bytes);

    if (!success || shift < 0)
        return;
    if (unlikely(is_string(&w->insn))) {
        finish_string(regs, w);
        return;
    }
    if (unlikely(w->kind != PTW_MOV)) {
        old = old >> shift & size_mask(w->bytes);
        regs->rflags = new_flags(w, old, regs->rflags);
        write_back(regs, w, old);
    }
    insn_done(&w->insn, regs);
}
