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

/*
 * Taking bytes checks nothing: the buffer is longer than anything that can be taken before insn_decode() looks how
 * many bytes there were.
 */
static u8 take_byte(const u8 **at) { return *(*at)++; }
static u64 take_s8(const u8 **at) { return (u64)(s8)take_byte(at); }

#define TAKE(type)                                \
    static u64 take_##type(const u8 **at)         \
    {                                             \
        type v;                                   \
        __builtin_memcpy(&v, *at, sizeof(v));     \
        *at += sizeof(v);                         \
        return (u64)v;                            \
    }
TAKE(u16) TAKE(s16) TAKE(u32) TAKE(s32) TAKE(u64)

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

/*
 * What ModRM, the third byte of text, has for an address, if it is [register + displacement] without SIB and not relative to RIP:
 * returns the length up to there, or 0. high: 8 if REX makes it one of the registers from r8 on.
 */
static always_inline unsigned plain_address(const struct cpu_regs *regs, u64 text, unsigned high, u64 *linear)
{
    unsigned mod = text >> 22 & 3, rm = text >> 16 & 7;

    if (mod == 3 || rm == 4 || (mod == 0 && rm == 5))
        return 0;
    *linear = *reg(regs, rm | high);
    if (mod == 0)
        return 3;
    *linear += mod == 1 ? (u64)(s8)(text >> 24) : (u64)(s32)(text >> 24);
    return mod == 1 ? 4 : 7;
}

static always_inline bool is_mov_or_xchg(unsigned opcode) { return opcode == 0x89 || opcode == 0x87; }

/* REX.W without an index register, the opcode, ModRM. */
bool insn_plain_write(struct cpu_regs *regs, u64 text, struct plain_write *w)
{
    unsigned opcode = text >> 8 & 0xff;

    if ((text & 0xfa) != 0x48 || !is_mov_or_xchg(opcode))
        return false;
    w->len = (u8)plain_address(regs, text, (text & 1) << 3, &w->linear);
    if (!w->len)
        return false;
    w->exchanges = opcode == 0x87;
    w->reg = reg(regs, (text >> 19 & 7) | (text & 4) << 1);
    return true;
}

/* EBP, as a base, implies the stack's segment. */
static always_inline bool plain_address_32(const struct cpu_regs *regs, u64 text, u64 *linear, u8 *bytes)
{
    *bytes = (text >> 16 & 7) == 5 ? 0 : (u8)plain_address(regs, text, 0, linear);
    if (!*bytes)
        return false;
    *linear = (u32)*linear;
    return true;
}

bool insn_plain_write_32(struct cpu_regs *regs, u64 text, struct plain_write *w)
{
    unsigned opcode = text & 0xff;

    if (!is_mov_or_xchg(opcode) || !plain_address_32(regs, text << 8, &w->linear, &w->len))
        return false;
    w->len--;
    w->exchanges = opcode == 0x87;
    w->reg = reg(regs, text >> 11 & 7);
    return true;
}

bool insn_plain_cmpxchg8b(const struct cpu_regs *regs, u64 text, struct plain_cmpxchg8b *c)
{
    unsigned lock = (text & 0xff) == 0xf0;

    text >>= lock * 8;
    if ((text & 0x38ffff) != 0x08c70f || !plain_address_32(regs, text, &c->linear, &c->len))
        return false;
    c->len += lock;
    c->expected = (u32)regs->rax | regs->rdx << 32;
    c->value = (u32)regs->rbx | regs->rcx << 32;
    return true;
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

#define NO_SEG 0xff

/* What a byte is before the opcode; a REX is one in 64-bit mode only. */
enum prefix { NO_PREFIX, REX, OPSIZE, ADSIZE, LOCK, REP, SEGMENT /* plus its number */ };

static const u8 prefix_of[256] = {
    [0x40 ... 0x4f] = REX, [0x66] = OPSIZE, [0x67] = ADSIZE, [0xf0] = LOCK, [0xf2 ... 0xf3] = REP,
    [0x26] = SEGMENT + SEG_ES, [0x2e] = SEGMENT + SEG_CS, [0x36] = SEGMENT + SEG_SS, [0x3e] = SEGMENT + SEG_DS,
    [0x64] = SEGMENT + SEG_FS, [0x65] = SEGMENT + SEG_GS,
};

struct sizes { bool opsize, adsize; };

static void take_prefix(struct insn *i, struct sizes *s, u8 b)
{
    switch (prefix_of[b]) {
    case REX:    i->rex = b; return;
    case OPSIZE: s->opsize = i->prefixed = true; break;
    case ADSIZE: s->adsize = true; break;
    case LOCK:   i->lock = true; break;
    case REP:    i->rep = b, i->prefixed = true; break;
    default:
        /* 64-bit code has no bases in the other four. */
        if (i->mode != MODE_64 || prefix_of[b] >= SEGMENT + SEG_FS)
            i->seg = prefix_of[b] - SEGMENT;
    }
    i->rex = 0;     /* it counts only right before the opcode */
}

/* Returns the opcode's first byte, or what stands at the place of the sixteenth. */
static always_inline u8 take_prefixes(struct insn *i, const u8 **at, struct sizes *s)
{
    const u8 *end = *at + INSN_MAX;
    u8 b = take_byte(at);

    while (prefix_of[b] && *at <= end && (prefix_of[b] != REX || i->mode == MODE_64)) {
        take_prefix(i, s, b);
        b = take_byte(at);
    }
    return b;
}

/* 16-bit addressing: the eight base combinations of ModRM.rm. */
static void address_16(struct insn *i, const struct cpu_regs *regs, const u8 **at)
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
        i->ea += take_s8(at);
    else if (i->mod == 2 || direct)
        i->ea += take_u16(at);
    if (i->seg == NO_SEG)
        i->seg = seg;
}

/* A SIB byte. Returns the base register's number, or 0xff if there is none. */
static u8 take_sib(struct insn *i, const struct cpu_regs *regs, const u8 **at)
{
    u8 sib = take_byte(at), base = sib & 7;
    u8 index = (sib >> 3 & 7) | (i->rex & 2) << 2;

    if (index != 4)
        i->ea = *reg(regs, index) << (sib >> 6);
    return base == 5 && i->mod == 0 ? 0xff : base | (i->rex & 1) << 3;
}

static always_inline void address_32_64(struct insn *i, const struct cpu_regs *regs, const u8 **at, bool *rip_relative)
{
    u8 low = i->modrm & 7, base = i->rm;

    *rip_relative = i->mode == MODE_64 && i->mod == 0 && low == 5;
    if (low == 4)
        base = take_sib(i, regs, at);
    else if (i->mod == 0 && low == 5)
        base = 0xff;
    if (base != 0xff)
        i->ea += *reg(regs, base);
    if (i->mod == 1)
        i->ea += take_s8(at);
    else if (i->mod == 2 || base == 0xff)
        i->ea += take_s32(at);
    /* Only rSP and rBP imply the stack's segment: r12 and r13 do not, but there segments have no bases. */
    if (i->seg == NO_SEG)
        i->seg = base == 4 || base == 5 ? SEG_SS : SEG_DS;
}

static always_inline void take_modrm(struct insn *i, const struct cpu_regs *regs, const u8 **at, u8 shape,
                                     bool *rip_relative)
{
    i->modrm = take_byte(at);
    i->mod = i->modrm >> 6;
    i->reg = (i->modrm >> 3 & 7) | (i->rex & 4) << 1;
    i->rm = (i->modrm & 7) | (i->rex & 1) << 3;
    if (i->mod == 3 || (shape & REGS))
        return;
    i->mem = true;
    if (i->addr_bytes == 2)
        address_16(i, regs, at);
    else
        address_32_64(i, regs, at, rip_relative);
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

static u64 take_address(const u8 **at, unsigned bytes)
{
    return bytes == 8 ? take_u64(at) : bytes == 4 ? take_u32(at) : take_u16(at);
}

int insn_decode(struct insn *i, enum code_mode mode, const struct cpu_regs *regs, const struct insn_text *text)
{
    const u8 *at = text->bytes;
    struct sizes s = { false, false };
    bool rip_relative = false;
    u8 shape;

    *i = (struct insn){ .mode = mode, .seg = NO_SEG };
    i->opcode = take_prefixes(i, &at, &s);
    if (i->opcode == 0x0f) {
        i->map = 1;
        i->opcode = take_byte(&at);
    }
    shape = (i->map ? two_byte : one_byte)[i->opcode];
    i->op_bytes = operand_bytes(i, shape, s.opsize);
    i->addr_bytes = address_bytes(mode, s.adsize);
    if (likely(shape & (MODRM | REGS)))
        take_modrm(i, regs, &at, shape, &rip_relative);
    if (unlikely(shape & (MOFFS | IMM8 | IMMV))) {
        if (shape & MOFFS) {
            i->mem = true;
            i->ea = take_address(&at, i->addr_bytes);
        }
        if (shape & IMM8)
            i->imm = take_s8(&at);
        else if (shape & IMMV)
            i->imm = i->op_bytes == 2 ? take_s16(&at) : take_s32(&at);
        if (!i->map && i->opcode == 0x9a)
            i->selector = (u16)take_u16(&at);
    }
    i->len = (u8)(at - text->bytes);
    if (unlikely(i->len > text->n))
        return text->n < INSN_MAX ? -EFAULT : -E2BIG;
    if (unlikely(!shape))
        return -EINVAL;
    if (rip_relative)
        i->ea += regs->rip + i->len;
    i->ea &= size_mask(i->addr_bytes);
    if (i->seg == NO_SEG)
        i->seg = SEG_DS;
    return 0;
}
