/*
 * The instruction decoder (Intel SDM vol. 2 chapter 2 and appendix A). It knows the shape of the few opcodes
 * that PV guests have emulated, and nothing else: two tables say which opcodes exist and what follows them.
 */
#include <asm/emulate.h>
#include <public/errno.h>

/* What follows an opcode, and how wide its operand is. No bit: not an opcode of ours. */
enum shape {
    PLAIN  = 0x01,
    MODRM  = 0x02,
    IMM8   = 0x04,
    IMMV   = 0x08,  /* 2 or 4 bytes, by operand size */
    BYTE   = 0x10,  /* operand of one byte */
    MOFFS  = 0x20,  /* address without ModRM */
    REGS   = 0x40,  /* ModRM names two registers, whatever its mod says */
    NATIVE = 0x80,  /* operand of 8 bytes in 64-bit mode, else 4, whatever the prefixes say */
};

#define ALU(op) [(op)] = MODRM | BYTE, [(op) + 1] = MODRM

static const u8 one_byte[256] = {
    ALU(0x00), ALU(0x08), ALU(0x10), ALU(0x18), ALU(0x20), ALU(0x28), ALU(0x30),
    [0x6c] = BYTE, [0x6d] = PLAIN, [0x6e] = BYTE, [0x6f] = PLAIN,                 /* INS, OUTS */
    [0x80] = MODRM | IMM8 | BYTE, [0x81] = MODRM | IMMV, [0x83] = MODRM | IMM8,
    [0x86] = MODRM | BYTE, [0x87] = MODRM,                                  /* XCHG */
    [0x88] = MODRM | BYTE, [0x89] = MODRM,                                  /* MOV */
    [0x9a] = IMMV,                                                           /* CALL far; the selector follows */
    [0xa2] = MOFFS | BYTE, [0xa3] = MOFFS,
    [0xa4] = BYTE, [0xa5] = PLAIN, [0xaa] = BYTE, [0xab] = PLAIN,                 /* MOVS, STOS */
    [0xc6] = MODRM | IMM8 | BYTE, [0xc7] = MODRM | IMMV,
    [0xe4] = IMM8 | BYTE, [0xe5] = IMM8, [0xe6] = IMM8 | BYTE, [0xe7] = IMM8, /* IN, OUT */
    [0xec] = BYTE, [0xed] = PLAIN, [0xee] = BYTE, [0xef] = PLAIN,
    [0xf4] = PLAIN, [0xfa] = PLAIN, [0xfb] = PLAIN,                                  /* HLT, CLI, STI */
    [0xf6] = MODRM | BYTE, [0xf7] = MODRM, [0xfe] = MODRM | BYTE, [0xff] = MODRM,
};

static const u8 two_byte[256] = {
    [0x01] = MODRM, [0x06] = PLAIN, [0x08] = PLAIN, [0x09] = PLAIN,                  /* CLTS, INVD, WBINVD */
    [0x20] = REGS | NATIVE, [0x21] = REGS | NATIVE, [0x22] = REGS | NATIVE, [0x23] = REGS | NATIVE,
    [0x30] = PLAIN, [0x31] = PLAIN, [0x32] = PLAIN, [0x33] = PLAIN,         /* MSRs, RDTSC, RDPMC */
    [0xa2] = PLAIN,                                                            /* CPUID */
    [0xab] = MODRM, [0xb3] = MODRM, [0xbb] = MODRM, [0xba] = MODRM | IMM8,  /* BTS, BTR, BTC */
    [0xb0] = MODRM | BYTE, [0xb1] = MODRM, [0xc7] = MODRM,                  /* CMPXCHG, CMPXCHG8B */
    [0xc0] = MODRM | BYTE, [0xc1] = MODRM, [0xc3] = MODRM,                  /* XADD, MOVNTI */
};

/* The bytes of one instruction. Reading past the end sets err and yields zeros. */
struct stream {
    const u8 *bytes;
    unsigned at, n;
    int err;
};

static u64 take(struct stream *s, unsigned count)
{
    u64 v = 0;

    if (s->err || s->at + count > INSN_MAX || s->at + count > s->n) {
        if (!s->err)
            s->err = s->at + count > INSN_MAX ? -E2BIG : -EFAULT;
        return 0;
    }
    for (unsigned i = 0; i < count; i++)
        v |= (u64)s->bytes[s->at + i] << (8 * i);
    s->at += count;
    return v;
}

static u64 take_signed(struct stream *s, unsigned count)
{
    unsigned shift = 64 - 8 * count;

    return (u64)((s64)(take(s, count) << shift) >> shift);
}

/* Where each register is in struct cpu_regs, in the numbering of instructions. */
static const u16 reg_offset[16] = {
    offsetof(struct cpu_regs, rax), offsetof(struct cpu_regs, rcx), offsetof(struct cpu_regs, rdx),
    offsetof(struct cpu_regs, rbx), offsetof(struct cpu_regs, rsp), offsetof(struct cpu_regs, rbp),
    offsetof(struct cpu_regs, rsi), offsetof(struct cpu_regs, rdi), offsetof(struct cpu_regs, r8),
    offsetof(struct cpu_regs, r9), offsetof(struct cpu_regs, r10), offsetof(struct cpu_regs, r11),
    offsetof(struct cpu_regs, r12), offsetof(struct cpu_regs, r13), offsetof(struct cpu_regs, r14),
    offsetof(struct cpu_regs, r15),
};

static u64 *reg(const struct cpu_regs *regs, unsigned n)
{
    return (u64 *)((char *)regs + reg_offset[n & 15]);
}

/* AH, CH, DH, BH take the numbers of SPL..DIL where there is no REX. */
static bool high_byte(const struct insn *i, unsigned n, unsigned bytes)
{
    return bytes == 1 && !i->rex && n >= 4 && n < 8;
}

u64 insn_reg_read(const struct insn *i, const struct cpu_regs *regs, unsigned n, unsigned bytes)
{
    if (high_byte(i, n, bytes))
        return *reg(regs, n - 4) >> 8 & 0xff;
    return *reg(regs, n) & size_mask(bytes);
}

void insn_reg_write(const struct insn *i, struct cpu_regs *regs, unsigned n, unsigned bytes, u64 v)
{
    u64 *r = reg(regs, high_byte(i, n, bytes) ? n - 4 : n);

    if (high_byte(i, n, bytes))
        *r = (*r & ~0xff00UL) | (v & 0xff) << 8;
    else if (bytes >= 4)
        *r = v & size_mask(bytes);
    else
        *r = (*r & ~size_mask(bytes)) | (v & size_mask(bytes));
}

/* Legacy prefixes, then REX, which counts only right before the opcode. Returns the opcode's first byte. */
static u8 take_prefixes(struct insn *i, struct stream *s, bool *opsize, bool *adsize)
{
    static const u8 segment_of[256] = {
        [0x26] = SEG_ES + 1, [0x2e] = SEG_CS + 1, [0x36] = SEG_SS + 1, [0x3e] = SEG_DS + 1,
        [0x64] = SEG_FS + 1, [0x65] = SEG_GS + 1,
    };
    u8 b;

    for (;; i->rex = i->mode == MODE_64 && (b & 0xf0) == 0x40 ? b : 0) {
        b = (u8)take(s, 1);
        if (s->err)
            return 0;
        if (segment_of[b]) {
            /* 64-bit code has no bases in the other four. */
            if (i->mode != MODE_64 || segment_of[b] > SEG_FS)
                i->seg = segment_of[b] - 1;
        } else if (b == 0x66) {
            *opsize = true;
        } else if (b == 0x67) {
            *adsize = true;
        } else if (b == 0xf0) {
            i->lock = true;
        } else if (b == 0xf2 || b == 0xf3) {
            i->rep = b;
        } else if (i->mode != MODE_64 || (b & 0xf0) != 0x40) {
            return b;
        }
    }
}

#define NO_SEG 0xff

/* 16-bit addressing: the eight base combinations of ModRM.rm. */
static void address_16(struct insn *i, const struct cpu_regs *regs, struct stream *s)
{
    static const struct { u8 a, b, seg; } form[8] = {
        { 3, 6, SEG_DS }, { 3, 7, SEG_DS }, { 5, 6, SEG_SS }, { 5, 7, SEG_SS },
        { 6, 0xff, SEG_DS }, { 7, 0xff, SEG_DS }, { 5, 0xff, SEG_SS }, { 3, 0xff, SEG_DS },
    };
    bool direct = i->mod == 0 && i->rm == 6;
    u8 seg = SEG_DS;

    if (!direct) {
        i->ea = *reg(regs, form[i->rm].a);
        if (form[i->rm].b != 0xff)
            i->ea += *reg(regs, form[i->rm].b);
        seg = form[i->rm].seg;
    }
    if (i->mod == 1)
        i->ea += take_signed(s, 1);
    else if (i->mod == 2 || direct)
        i->ea += take(s, 2);
    if (i->seg == NO_SEG)
        i->seg = seg;
}

/* A SIB byte. Returns the base register's number, or 0xff if there is none. */
static u8 take_sib(struct insn *i, const struct cpu_regs *regs, struct stream *s)
{
    u8 sib = (u8)take(s, 1), base = sib & 7;
    u8 index = (sib >> 3 & 7) | (i->rex & 2) << 2;

    if (index != 4)
        i->ea = *reg(regs, index) << (sib >> 6);
    return base == 5 && i->mod == 0 ? 0xff : base | (i->rex & 1) << 3;
}

static void address_32_64(struct insn *i, const struct cpu_regs *regs, struct stream *s, bool *rip_relative)
{
    u8 low = i->modrm & 7, base = i->rm;

    *rip_relative = i->mode == MODE_64 && i->mod == 0 && low == 5;
    if (low == 4)
        base = take_sib(i, regs, s);
    else if (i->mod == 0 && low == 5)
        base = 0xff;
    if (base != 0xff)
        i->ea += *reg(regs, base);
    if (i->mod == 1)
        i->ea += take_signed(s, 1);
    else if (i->mod == 2 || base == 0xff)
        i->ea += take_signed(s, 4);
    /* Only rSP and rBP imply the stack's segment: r12 and r13 do not, but there segments have no bases. */
    if (i->seg == NO_SEG)
        i->seg = base == 4 || base == 5 ? SEG_SS : SEG_DS;
}

static void take_modrm(struct insn *i, const struct cpu_regs *regs, struct stream *s, u8 shape,
                       bool *rip_relative)
{
    i->modrm = (u8)take(s, 1);
    i->mod = i->modrm >> 6;
    i->reg = (i->modrm >> 3 & 7) | (i->rex & 4) << 1;
    i->rm = (i->modrm & 7) | (i->rex & 1) << 3;
    if (i->mod == 3 || (shape & REGS))
        return;
    i->mem = true;
    if (i->addr_bytes == 2)
        address_16(i, regs, s);
    else
        address_32_64(i, regs, s, rip_relative);
}

static u8 operand_bytes(const struct insn *i, u8 shape, bool opsize)
{
    if (shape & BYTE)
        return 1;
    if (shape & NATIVE)
        return i->mode == MODE_64 ? 8 : 4;
    if (i->rex & 8)
        return 8;
    return (i->mode == MODE_16) != opsize ? 2 : 4;
}

static u8 address_bytes(enum code_mode mode, bool adsize)
{
    if (mode == MODE_64)
        return adsize ? 4 : 8;
    return (mode == MODE_16) != adsize ? 2 : 4;
}

int insn_decode(struct insn *i, enum code_mode mode, const struct cpu_regs *regs, const u8 *bytes, unsigned n)
{
    struct stream s = { .bytes = bytes, .n = n };
    bool opsize = false, adsize = false, rip_relative = false;
    u8 shape;

    *i = (struct insn){ .mode = mode, .seg = NO_SEG };
    i->opcode = take_prefixes(i, &s, &opsize, &adsize);
    if (i->opcode == 0x0f && !s.err) {
        i->map = 1;
        i->opcode = (u8)take(&s, 1);
    }
    if (s.err)
        return s.err;
    shape = (i->map ? two_byte : one_byte)[i->opcode];
    if (!shape)
        return -EINVAL;
    i->op_bytes = operand_bytes(i, shape, opsize);
    i->addr_bytes = address_bytes(mode, adsize);
    if (shape & (MODRM | REGS))
        take_modrm(i, regs, &s, shape, &rip_relative);
    if (shape & MOFFS) {
        i->mem = true;
        i->ea = take(&s, i->addr_bytes);
    }
    if (shape & IMM8)
        i->imm = take_signed(&s, 1);
    else if (shape & IMMV)
        i->imm = take_signed(&s, i->op_bytes == 2 ? 2 : 4);
    if (!i->map && i->opcode == 0x9a)
        i->selector = (u16)take(&s, 2);
    if (s.err)
        return s.err;
    i->len = (u8)s.at;
    if (rip_relative)
        i->ea += regs->rip + i->len;
    i->ea &= size_mask(i->addr_bytes);
    if (i->seg == NO_SEG)
        i->seg = SEG_DS;
    return 0;
}
