/* What another decoder (Zydis) says of an instruction: the judge of ours. */
#ifndef JUDGE_H
#define JUDGE_H

#define strtoull libc_strtoull /* pvisor/lib.h has its own */
#include <Zydis/Zydis.h>
#undef strtoull
#include <asm/emulate.h>

struct verdict {
    ZyanStatus status;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

#define STATUS(of) ((ZyanStatus)ZYDIS_STATUS_##of)

static inline bool is_legal(const struct verdict *v) { return ZYAN_SUCCESS(v->status); }

/*
 * Zydis 4.0.0 takes a base of 5 for R13 where REX.B is set, mod is 0 and a displacement follows: by the manual (SDM vol. 2, table 2-5)
 * there is no base then, whatever REX says.
 */
static inline void correct_base(struct verdict *v)
{
    const ZydisDecodedInstructionRaw *r = &v->insn.raw;

    if (!(v->insn.attributes & ZYDIS_ATTRIB_HAS_SIB) || r->modrm.mod || r->sib.base != 5)
        return;
    for (unsigned i = 0; i < v->insn.operand_count; i++)
        if (v->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY && v->operand[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
            v->operand[i].mem.base = ZYDIS_REGISTER_NONE;
            v->operand[i].mem.disp.has_displacement = true;
            v->operand[i].mem.disp.value = r->disp.value;
        }
}

static inline void judge(struct verdict *v, enum code_mode mode, const u8 *bytes, unsigned n)
{
    static const struct { ZydisMachineMode mode; ZydisStackWidth stack; } modes[] = {
        [MODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
        [MODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
        [MODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
    };
    ZydisDecoder d;

    ZydisDecoderInit(&d, modes[mode].mode, modes[mode].stack);
    v->status = n ? ZydisDecoderDecodeFull(&d, bytes, n, &v->insn, v->operand) : STATUS(NO_MORE_DATA);
    if (is_legal(v))
        correct_base(v);
}

/* Registers as the judge wants them. */
static inline void judge_registers(ZydisRegisterContext *c, const struct cpu_regs *regs)
{
    const u64 r[16] = { regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp, regs->rsi, regs->rdi,
                        regs->r8, regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15 };

    for (unsigned i = 0; i < 16; i++) {
        c->values[ZYDIS_REGISTER_RAX + i] = r[i];
        c->values[ZYDIS_REGISTER_EAX + i] = (u32)r[i];
        c->values[ZYDIS_REGISTER_AX + i] = (u16)r[i];
    }
    c->values[ZYDIS_REGISTER_RIP] = regs->rip;
    c->values[ZYDIS_REGISTER_EIP] = (u32)regs->rip;
}

#endif
