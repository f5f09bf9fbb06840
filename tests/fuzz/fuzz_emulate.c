/*
 * The emulator. A write to a page table has the effect that this machine's own processor has with the same instruction, and is what another
 * decoder takes it for; a privileged instruction is one of those that there are, and RIP moves by its length or not at all. Whatever the
 * guest's bytes and registers are, memory beyond its own is not touched. The rig is the unit test's.
 */
// MAX: 64
// AS: test_emulate
// LIBS: -lZydis
#define main the_unit_tests
#include "test_emulate.c"
#undef main
#include "fuzz.h"
#include "judge.h"

#define USER_DS 0x2b        /* of Linux: a selector that the guest's data segments can have here */

/* --- A write, as the judge sees it ------------------------------------------------------------------- */

#define IS(kind, mnemonic) { kind, ZYDIS_MNEMONIC_##mnemonic }
static const struct { u8 kind; ZydisMnemonic mnemonic; } kinds[] = {
    IS(PTW_MOV, MOV), IS(PTW_MOV, MOVNTI), IS(PTW_MOV, STOSB), IS(PTW_MOV, STOSW), IS(PTW_MOV, STOSD), IS(PTW_MOV, STOSQ),
    IS(PTW_MOV, MOVSB), IS(PTW_MOV, MOVSW), IS(PTW_MOV, MOVSD), IS(PTW_MOV, MOVSQ), IS(PTW_XCHG, XCHG), IS(PTW_CMPXCHG, CMPXCHG),
    IS(PTW_CMPXCHG8B, CMPXCHG8B), IS(PTW_XADD, XADD), IS(PTW_INC, INC), IS(PTW_DEC, DEC), IS(PTW_NOT, NOT), IS(PTW_BTS, BTS),
    IS(PTW_BTR, BTR), IS(PTW_BTC, BTC), IS(PTW_ALU + 0, ADD), IS(PTW_ALU + 1, OR), IS(PTW_ALU + 2, ADC), IS(PTW_ALU + 3, SBB),
    IS(PTW_ALU + 4, AND), IS(PTW_ALU + 5, SUB), IS(PTW_ALU + 6, XOR),
};
#undef IS

static bool is_kind(u8 kind, ZydisMnemonic m)
{
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
        if (kinds[i].kind == kind && kinds[i].mnemonic == m)
            return true;
    return false;
}

/* The first operand in memory that is written: MOVS has two. */
static const ZydisDecodedOperand *written(const struct verdict *v)
{
    for (unsigned i = 0; i < v->insn.operand_count; i++)
        if (v->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY && v->operand[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return &v->operand[i];
    return NULL;
}

static bool is_bit_string(const struct insn *i) { return i->map == 1 && (i->opcode & 0xc7) == 0x83 && i->opcode != 0xba; }

static void write_agrees(const struct pt_write *w, const struct cpu_regs *regs, const struct verdict *v)
{
    static ZydisRegisterContext registers;
    const ZydisDecodedOperand *m = written(v);
    ZyanU64 at;

    EXPECT(m && is_kind(w->kind, v->insn.mnemonic));
    EXPECT(w->bytes * 8 == m->size && w->insn.len == v->insn.length);
    judge_registers(&registers, regs);
    EXPECT(ZYAN_SUCCESS(ZydisCalcAbsoluteAddressEx(&v->insn, m, regs->rip, &registers, &at)));
    if (!is_bit_string(&w->insn))
        EXPECT(w->linear == (at & size_mask(w->insn.addr_bytes)));
}

/* What the rig has no stand-in for: the machine's own control registers, MSRs and caches. */
static bool needs_a_machine(const struct verdict *v)
{
    bool is_64 = v->insn.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;

    for (unsigned i = 0; i < v->insn.operand_count; i++) {
        const ZydisDecodedOperand *o = &v->operand[i];

        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && is_64 && o->mem.segment >= ZYDIS_REGISTER_FS)
            return true;
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value == ZYDIS_REGISTER_CR0)
            return true;
    }
    return v->insn.mnemonic == ZYDIS_MNEMONIC_LMSW;
}

/* --- The same write by the processor ------------------------------------------------------------------- */

/* Only registers that the rig hands over take part, and only the word in question is named. */
static bool can_run(const struct verdict *v)
{
    static const ZydisRegister known[] = {
        ZYDIS_REGISTER_RAX, ZYDIS_REGISTER_RCX, ZYDIS_REGISTER_RDX, ZYDIS_REGISTER_RBX, ZYDIS_REGISTER_RDI, ZYDIS_REGISTER_RFLAGS,
        ZYDIS_REGISTER_NONE,
    };

    for (unsigned i = 0; i < v->insn.operand_count; i++) {
        const ZydisDecodedOperandMem *m = &v->operand[i].mem;
        ZydisRegister r = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, v->operand[i].reg.value);
        bool found = v->operand[i].type != ZYDIS_OPERAND_TYPE_REGISTER;

        for (unsigned k = 0; k < ARRAY_SIZE(known); k++)
            found |= r == known[k];
        if (v->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            found &= m->base == ZYDIS_REGISTER_RDI && !m->index && !m->disp.value;
        if (!found)
            return false;
    }
    return true;
}

static u16 flags_that_are_defined(const struct verdict *v)
{
    return (u16)(F_ARITH & ~(v->insn.cpu_flags ? v->insn.cpu_flags->undefined : 0));
}

/*
 * [RDI], so that the operand is the word in question, is put in place of whatever ModRM there is. Of the bits that a register may name
 * around it, those within the word.
 */
static void does_what_the_processor_does(u8 *code, unsigned n, const struct native *start, u64 memory)
{
    static u64 at __attribute__((aligned(8)));
    struct native native = *start;
    struct cpu_regs regs;
    struct write_case c;
    struct pt_write w;
    struct verdict v;

    setup(NULL);
    judge(&v, MODE_64, code, n);
    if (is_legal(&v) && v.insn.attributes & ZYDIS_ATTRIB_HAS_MODRM)
        code[v.insn.raw.modrm.offset] = (u8)((code[v.insn.raw.modrm.offset] & 0x38) | 7);
    judge(&v, MODE_64, code, n);
    if (!is_legal(&v) || needs_a_machine(&v) || !written(&v) || v.insn.address_width != 64 || !can_run(&v))
        return;
    memory_first = memory_end = 0;
    memcpy(code_page(), code, n);
    regs = kernel_regs(code_page());
    native.rcx &= is_bit_string(&(struct insn){ .map = 1, .opcode = v.insn.opcode }) ? 15 : ~0UL;
    regs.rax = native.rax, regs.rcx = native.rcx, regs.rdx = native.rdx, regs.rbx = native.rbx, regs.rdi = (u64)&at;
    if (!pv_decode_pt_write(&regs, &w) || (w.linear & ~7UL) != (u64)&at || w.insn.rep)
        return;
    c = (struct write_case){ (const char *)code, v.insn.length, flags_that_are_defined(&v) };
    compare(&c, &native, memory);
}

/* --- Any instruction ------------------------------------------------------------------------------------ */

/* A page below 4 GiB, so that code of each width can stand there; the guest has nothing else. */
static u8 *low_page(void)
{
    static u8 *page;

    if (!page)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x40 /* MAP_32BIT */, -1, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    return page;
}

static bool is_privileged(ZydisMnemonic m)
{
    static const ZydisMnemonic all[] = {
        ZYDIS_MNEMONIC_INSB, ZYDIS_MNEMONIC_INSW, ZYDIS_MNEMONIC_INSD, ZYDIS_MNEMONIC_OUTSB, ZYDIS_MNEMONIC_OUTSW, ZYDIS_MNEMONIC_OUTSD,
        ZYDIS_MNEMONIC_IN, ZYDIS_MNEMONIC_OUT, ZYDIS_MNEMONIC_CLI, ZYDIS_MNEMONIC_STI, ZYDIS_MNEMONIC_HLT, ZYDIS_MNEMONIC_RDTSC,
        ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_XSETBV, ZYDIS_MNEMONIC_CLTS, ZYDIS_MNEMONIC_INVD, ZYDIS_MNEMONIC_WBINVD, ZYDIS_MNEMONIC_MOV,
        ZYDIS_MNEMONIC_RDMSR, ZYDIS_MNEMONIC_WRMSR, ZYDIS_MNEMONIC_CPUID,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i] == m)
            return true;
    return false;
}

#define ANY_REP (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)

static u64 ip_mask(enum code_mode mode) { return mode == MODE_64 ? ~0UL : mode == MODE_32 ? 0xffffffff : 0xffff; }

static void privileged(struct cpu_regs regs, enum code_mode mode, const struct verdict *v)
{
    struct cpu_regs before = regs;
    unsigned steps = steps_to_mirrors;

    if (!pv_emulate_privop(&regs)) {
        EXPECT(regs.rip == before.rip);
        return;
    }
    EXPECT(is_legal(v) && is_privileged(v->insn.mnemonic));
    EXPECT(regs.rip == before.rip || regs.rip == ((before.rip + v->insn.length) & ip_mask(mode)));
    EXPECT(regs.rip != before.rip || injected >= 0 || v->insn.attributes & ANY_REP || steps_to_mirrors != steps);
}

static void page_table_write(struct cpu_regs regs, const struct verdict *v, u64 old)
{
    struct cpu_regs before = regs;
    struct pt_write w;

    if (!pv_decode_pt_write(&regs, &w))
        return;
    EXPECT(!memcmp(&regs, &before, sizeof(regs)));
    EXPECT(is_legal(v));
    if (w.insn.mode == MODE_64)
        write_agrees(&w, &regs, v);
    for (unsigned bytes = 4; bytes <= 8; bytes += 4) {
        u64 e = 0;
        bool within = pt_write_new_entry(&w, bytes, old & size_mask(bytes), &e);

        EXPECT(within == (w.linear % bytes + w.bytes <= bytes));
        EXPECT(!within || e == (e & size_mask(bytes)));
        regs = before;
        pv_finish_pt_write(&regs, &w, bytes, old & size_mask(bytes), within);
        EXPECT(within || !memcmp(&regs, &before, sizeof(regs)));
        EXPECT(regs.rip == before.rip || regs.rip == ((before.rip + w.insn.len) & ip_mask((enum code_mode)w.insn.mode)));
    }
}

static struct cpu_regs drawn_registers(struct fuzz_input *in, u64 near)
{
    struct cpu_regs regs = { 0 };
    u64 *r[] = { &regs.rax, &regs.rcx, &regs.rdx, &regs.rbx, &regs.rsp, &regs.rbp, &regs.rsi, &regs.rdi, &regs.r8, &regs.r9, &regs.r10,
                 &regs.r11, &regs.r12, &regs.r13, &regs.r14, &regs.r15 };

    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        u8 how = (u8)take(in, 1);

        *r[i] = how < 0x80 ? near + how * 8 : how < 0xf0 ? how * 0x0101010101010101UL : how == 0xf0 ? ~0UL : (u64)how - 0xf0;
    }
    return regs;
}

/* Of the guest's own, in ring 1 or 3; 32-bit code is in the flat one, too, that is lent, beside flat data. */
static void choose_segments(struct cpu_regs *regs, enum code_mode mode, u8 kind)
{
    dom.arch.word = mode == MODE_64 ? ABI_64 : ABI_32;
    regs->ss = USER_DS;
    regs->cs = mode == MODE_64 ? FLAT_RING3_CS64 : kind & 0x40 ? 0x61 : 0x63;
    descriptor = mode == MODE_16 ? 0x008ffb000000ffff : 0x00cffb000000ffff;
    if (mode == MODE_32 && kind & 0x20) {
        regs->cs = FLAT_RING1_CS;
        descriptor = 0x00cff3000000ffff;
    }
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" :: "r"(USER_DS));
}

static void choose_state(struct cpu_regs *regs, struct fuzz_input *in, u8 kind)
{
    vcpu.arch.kernel_mode = kind & 0x40;
    vcpu.arch.iopl = (u8)(take(in, 1) & 3);
    vcpu.arch.cr[4] = take(in, 1) & 1 ? CR4_OSXSAVE : CR4_TSD;
    regs->rflags = (take(in, 2) & (F_ARITH | RFLAGS_TF | RFLAGS_DF)) | 0x202;
}

/* The code, at the place or the end of the page, of which n bytes fit. */
static unsigned put_code(struct cpu_regs *regs, const u8 *code, unsigned n, unsigned from_end)
{
    unsigned offset = from_end ? 4096 - from_end : 256;

    memory_first = (u64)low_page(), memory_end = memory_first + 4096;
    memset(low_page(), 0x55, 4096);
    regs->rip = memory_first + offset;
    n = min(n, 4096 - offset);
    memcpy(low_page() + offset, code, n);
    return n;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };
    u8 kind = (u8)take(&in, 1), code[INSN_MAX] = { 0 };
    enum code_mode mode = (enum code_mode)(kind % 3);
    u64 old = take(&in, 8);
    struct cpu_regs regs = drawn_registers(&in, (u64)low_page());
    struct native native;
    struct verdict v;

    setup(NULL);
    choose_segments(&regs, mode, kind);
    choose_state(&regs, &in, kind);
    memcpy(code, in.at, min((size_t)INSN_MAX, (size_t)(in.end - in.at)));
    judge(&v, mode, code, put_code(&regs, code, INSN_MAX, kind & 0x80 ? kind >> 2 & 15 : 0));
    if (!is_legal(&v) || !needs_a_machine(&v)) {
        page_table_write(regs, &v, old);
        privileged(regs, mode, &v);
    }
    (void)pv_emulate_forced(&(struct cpu_regs){ .rip = regs.rip, .cs = regs.cs });
    native = (struct native){ regs.rax, regs.rcx, regs.rdx, regs.rbx, 0, regs.rflags & F_ARITH };
    does_what_the_processor_does(code, INSN_MAX, &native, old);
    return 0;
}
