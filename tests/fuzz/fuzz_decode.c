/*
 * The instruction decoder against another one: what ours takes the other takes too, and both say the same of its length, its operands'
 * sizes and its address. What lies behind the bytes that there are does not count. The decoders of a few plain forms say what it says.
 */
// MAX: 18
// SOURCES: arch/x86/pv/emulate/decode.c
// LIBS: -lZydis
#include <stdio.h>
#include <string.h>

#include <public/errno.h>
#include <pvisor/lib.h>
#include "fuzz.h"
#include "judge.h"

/* Numbers that no sum of two, shifted, mistakes for another's. */
static struct cpu_regs some_regs(u64 x)
{
    struct cpu_regs regs = { 0 };
    u64 *r[] = { &regs.rax, &regs.rcx, &regs.rdx, &regs.rbx, &regs.rsp, &regs.rbp, &regs.rsi, &regs.rdi, &regs.r8, &regs.r9, &regs.r10,
                 &regs.r11, &regs.r12, &regs.r13, &regs.r14, &regs.r15, &regs.rip };

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
        *r[i] = (x + i + 1) * 0x9e3779b97f4a7c15UL;
    return regs;
}

/* --- One decoded instruction ------------------------------------------------------------------------ */

static bool has_prefix(const struct verdict *v, u8 value)
{
    for (unsigned i = 0; i < v->insn.raw.prefix_count; i++)
        if (v->insn.raw.prefixes[i].value == value)
            return true;
    return false;
}

static u8 last_rep(const struct verdict *v)
{
    u8 rep = 0;

    for (unsigned i = 0; i < v->insn.raw.prefix_count; i++)
        if ((v->insn.raw.prefixes[i].value & 0xfe) == 0xf2)
            rep = v->insn.raw.prefixes[i].value;
    return rep;
}

/* The operand that ModRM or the address in the instruction names, or NULL. */
static const ZydisDecodedOperand *memory_operand(const struct verdict *v)
{
    for (unsigned i = 0; i < v->insn.operand_count; i++)
        if (v->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY && v->operand[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
            return &v->operand[i];
    return NULL;
}

static void same_address(const struct insn *i, const struct verdict *v, const struct cpu_regs *regs)
{
    static ZydisRegisterContext registers;
    const ZydisDecodedOperand *m = memory_operand(v);
    ZyanU64 ea = 0;

    if (!m)
        return;
    judge_registers(&registers, regs);
    EXPECT(ZYAN_SUCCESS(ZydisCalcAbsoluteAddressEx(&v->insn, m, regs->rip, &registers, &ea)));
    EXPECT(i->ea == (ea & size_mask(i->addr_bytes)));
    /* What has no base in 64-bit code is all one; a CPU that knows of NOTRACK takes it for DS still. */
    if (v->insn.attributes & ZYDIS_ATTRIB_HAS_NOTRACK)
        return;
    if (i->mode != MODE_64 || i->seg >= SEG_FS || m->mem.segment >= ZYDIS_REGISTER_FS)
        EXPECT(i->seg == m->mem.segment - ZYDIS_REGISTER_ES);
}

static void same_modrm(const struct insn *i, const struct verdict *v)
{
    EXPECT(i->mod == v->insn.raw.modrm.mod);
    EXPECT((i->reg & 7) == v->insn.raw.modrm.reg && (i->rm & 7) == v->insn.raw.modrm.rm);
    EXPECT(!v->insn.raw.rex.offset || i->rex);
    EXPECT(i->reg >> 3 == v->insn.raw.rex.R && i->rm >> 3 == v->insn.raw.rex.B);
}

/* The operand whose size the decoder means: what is in memory, the accumulator of IN and OUT, else the first. */
static const ZydisDecodedOperand *sized_operand(const struct verdict *v)
{
    bool out = v->insn.mnemonic == ZYDIS_MNEMONIC_OUT;

    for (unsigned i = 0; i < v->insn.operand_count; i++)
        if (v->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return &v->operand[i];
    return v->insn.operand_count_visible ? &v->operand[out] : NULL;
}

/*
 * Those that their users know, as they come with no choice or with another one: group 7, CMPXCHG8B,
 * MOVNTI with a prefix that it may not have, CALL, JMP and PUSH, XBEGIN, ports.
 */
static bool has_own_size(const struct insn *i)
{
    if (i->map == 1)
        return i->opcode == 0x01 || i->opcode == 0xc7 || (i->opcode == 0xc3 && i->op_bytes == 2);
    return i->opcode == 0x9a || (i->opcode == 0xff && (i->reg & 7) > 1) || (i->opcode == 0xc7 && (i->reg & 7) == 7) ||
           (i->rex & 8 && ((i->opcode & 0xf4) == 0xe4 || (i->opcode & 0xfc) == 0x6c));
}

static void same_sizes(const struct insn *i, const struct verdict *v)
{
    const ZydisDecodedOperand *o = sized_operand(v);

    if (o && o->type == ZYDIS_OPERAND_TYPE_MEMORY)
        EXPECT(i->addr_bytes * 8 == v->insn.address_width);
    if (o && !has_own_size(i))
        EXPECT(i->op_bytes * 8 == o->size);
}

static void same_immediate(const struct insn *i, const struct verdict *v)
{
    const ZydisDecodedOperand *o = NULL;
    unsigned bits;

    for (unsigned n = 0; n < v->insn.operand_count_visible; n++)
        if (v->operand[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE || v->operand[n].type == ZYDIS_OPERAND_TYPE_POINTER)
            o = &v->operand[n];
    if (!o)
        return;
    if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
        EXPECT(i->selector == o->ptr.segment && ((i->imm ^ o->ptr.offset) & size_mask(i->op_bytes)) == 0);
        return;
    }
    bits = v->insn.raw.imm[0].size;
    EXPECT(((i->imm ^ o->imm.value.u) & size_mask(min((unsigned)i->op_bytes, bits / 8))) == 0);
    EXPECT((s64)i->imm == (s64)(i->imm << (64 - bits)) >> (64 - bits));
}

static void same_instruction(const struct insn *i, const struct verdict *v, const struct cpu_regs *regs)
{
    EXPECT(i->len == v->insn.length);
    EXPECT(i->map == (v->insn.opcode_map == ZYDIS_OPCODE_MAP_0F) && i->opcode == v->insn.opcode);
    EXPECT(i->lock == has_prefix(v, 0xf0));
    EXPECT(i->rep == last_rep(v));
    if (v->insn.attributes & ZYDIS_ATTRIB_HAS_MODRM)
        same_modrm(i, v);
    EXPECT(i->mem == (memory_operand(v) != NULL));
    same_address(i, v, regs);
    same_sizes(i, v);
    same_immediate(i, v);
}

/* --- The plain forms ---------------------------------------------------------------------------------- */

static u64 *register_of(struct cpu_regs *regs, unsigned n)
{
    u64 *r[] = { &regs->rax, &regs->rcx, &regs->rdx, &regs->rbx, &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi, &regs->r8, &regs->r9,
                 &regs->r10, &regs->r11, &regs->r12, &regs->r13, &regs->r14, &regs->r15 };

    return r[n];
}

static void plain_write_agrees(const struct plain_write *w, struct cpu_regs *regs, enum code_mode mode, const struct insn_text *text)
{
    struct insn i;

    EXPECT(insn_decode(&i, mode, regs, text) == 0);
    EXPECT(i.len == w->len && i.mem && i.ea == w->linear && i.map == 0 && i.seg < SEG_FS && !i.lock && !i.rep);
    EXPECT(i.opcode == (w->exchanges ? 0x87 : 0x89) && i.op_bytes == (mode == MODE_64 ? 8 : 4));
    EXPECT(w->reg == register_of(regs, i.reg));
    EXPECT(mode == MODE_64 || i.seg == SEG_DS);
}

static void plain_cmpxchg8b_agrees(const struct plain_cmpxchg8b *c, struct cpu_regs *regs, const struct insn_text *text)
{
    struct insn i;

    EXPECT(insn_decode(&i, MODE_32, regs, text) == 0);
    EXPECT(i.len == c->len && i.mem && i.ea == c->linear && i.seg == SEG_DS && i.map == 1 && i.opcode == 0xc7 && (i.reg & 7) == 1);
    EXPECT(c->expected == ((u32)regs->rax | regs->rdx << 32) && c->value == ((u32)regs->rbx | regs->rcx << 32));
}

static void plain_forms_agree(struct cpu_regs *regs, enum code_mode mode, const struct insn_text *text)
{
    struct plain_cmpxchg8b c;
    struct plain_write w;
    u64 first;

    memcpy(&first, text->bytes, 8);
    if (mode == MODE_64 && insn_plain_write(regs, first, &w))
        plain_write_agrees(&w, regs, mode, text);
    if (mode == MODE_32 && insn_plain_write_32(regs, first, &w))
        plain_write_agrees(&w, regs, mode, text);
    if (mode == MODE_32 && insn_plain_cmpxchg8b(regs, first, &c))
        plain_cmpxchg8b_agrees(&c, regs, text);
}

/* --- When they do not agree --------------------------------------------------------------------------- */

static struct insn last;
static struct verdict verdict;

static void explain(void)
{
    const ZydisDecodedInstruction *z = &verdict.insn;
    char text[128] = "nothing";
    ZydisFormatter f;

    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    if (is_legal(&verdict))
        ZydisFormatterFormatInstruction(&f, z, verdict.operand, z->operand_count_visible, text, sizeof(text), 0, NULL);
    fprintf(stderr, "mode %u: we have map %u opcode %#x of %u bytes, operand %u, address %u bytes, segment %u, ea %#lx, imm %#lx\n",
            last.mode, last.map, last.opcode, last.len, last.op_bytes, last.addr_bytes, last.seg, last.ea, last.imm);
    fprintf(stderr, "the judge has %s of %u bytes (status %#x), operands of %u bits, addresses of %u\n", text, z->length, verdict.status,
            z->operand_width, z->address_width);
}

/* --- Any bytes ------------------------------------------------------------------------------------------ */

/*
 * What is wrong with an instruction that only the judge refuses: the CPU raises #UD before anything that we are asked to emulate can
 * happen, or it is one of the opcode's forms that no user of the decoder takes. fuzz_emulate looks at what they take.
 */
static bool may_be_refused(ZyanStatus s)
{
    return s == STATUS(ILLEGAL_LOCK) || s == STATUS(BAD_REGISTER) || s == STATUS(DECODING_ERROR) || s == STATUS(ILLEGAL_LEGACY_PFX);
}

/* F6 and F7: of this group NOT alone has users. TEST has an immediate operand more, which the decoder does not take. */
static bool is_test(const struct insn *i) { return i->map == 0 && (i->opcode & 0xfe) == 0xf6 && (i->reg & 7) < 2; }

static void look_at(enum code_mode mode, struct cpu_regs *regs, const u8 *bytes, unsigned n, u8 filler)
{
    struct insn_text text = { .n = n }, other = { .n = n };
    struct insn again;
    int rc;

    memset(text.bytes, 0x2e, sizeof(text.bytes));
    memset(other.bytes, filler, sizeof(other.bytes));
    memcpy(text.bytes, bytes, n);
    memcpy(other.bytes, bytes, n);
    rc = insn_decode(&last, mode, regs, &text);
    EXPECT(insn_decode(&again, mode, regs, &other) == rc);
    EXPECT(rc || !memcmp(&last, &again, sizeof(last)));
    judge(&verdict, mode, bytes, n);
    if (!rc && is_test(&last))
        return;
    if (!rc && is_legal(&verdict))
        same_instruction(&last, &verdict, regs);
    else if (!rc)
        EXPECT(may_be_refused(verdict.status));
    else
        EXPECT(rc == -EINVAL || !is_legal(&verdict));
    if (n == INSN_MAX)
        plain_forms_agree(regs, mode, &text);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };
    enum code_mode mode = (enum code_mode)(take(&in, 1) % 3);
    u8 filler = (u8)take(&in, 1);
    struct cpu_regs regs = some_regs(take(&in, 1));

    fuzz_explain = explain;
    look_at(mode, &regs, in.at, (unsigned)min((size_t)INSN_MAX, (size_t)(in.end - in.at)), filler);
    return 0;
}
