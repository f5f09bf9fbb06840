/*
 * What the current guest is executing, and where its segments are (Intel SDM vol. 3 chapter 3.4). A 64-bit
 * guest's flat code segment, by far the most frequent, costs no descriptor look-up.
 */
#include <asm/emulate.h>
#include <asm/percpu.h>
#include <public/arch-x86.h>
#include <pvisor/guest.h>
#include <pvisor/short_way.h>

#define DESC_WRITABLE (1UL << 41)   /* data; in code: readable */
#define DESC_DOWN     (1UL << 42)   /* data: expands down */
#define DESC_CODE     (1UL << 43)
#define DESC_S        (1UL << 44)   /* code or data */
#define DESC_P        (1UL << 47)
#define DESC_L        (1UL << 53)
#define DESC_DB       (1UL << 54)
#define DESC_G        (1UL << 55)

#define DESC_HERE      (DESC_S | DESC_P)
#define DESC_CODE_HERE (DESC_HERE | DESC_CODE)

#define DR6_BS (1UL << 14)

static u32 desc_base(u64 d) { return (u32)((d >> 16 & 0xffffff) | (d >> 32 & 0xff000000)); }

static u32 desc_limit(u64 d)
{
    u32 limit = (u32)((d & 0xffff) | (d >> 32 & 0xf0000));

    return d & DESC_G ? limit << 12 | 0xfff : limit;
}

/* Offsets offset to offset + bytes - 1 lie in the segment. */
static bool within_segment(u64 d, u32 offset, unsigned bytes)
{
    u64 last = (u64)offset + bytes - 1, limit = desc_limit(d);

    if ((d & (DESC_CODE | DESC_DOWN)) == DESC_DOWN)
        return offset > limit && last <= (d & DESC_DB ? 0xffffffff : 0xffff);
    return last <= limit;
}

struct code_segment {
    enum code_mode mode;
    u64 linear;         /* of RIP */
    u64 room;           /* bytes up to the segment's end */
};

static bool code_segment(struct vcpu *v, const struct cpu_regs *regs, struct code_segment *c)
{
    u32 eip = (u32)regs->rip;
    u64 d;

    *c = (struct code_segment){ MODE_64, regs->rip, INSN_MAX };
    if (v->domain->arch.word == ABI_64 && regs->cs == FLAT_RING3_CS64)
        return true;
    if (!pv_read_descriptor(v, regs->cs, &d) || (d & DESC_CODE_HERE) != DESC_CODE_HERE)
        return false;
    if (v->domain->arch.word == ABI_64 && (d & DESC_L))
        return true;
    if (!within_segment(d, eip, 1))
        return false;
    c->mode = d & DESC_DB ? MODE_32 : MODE_16;
    c->linear = (u32)(desc_base(d) + eip);
    c->room = (u64)desc_limit(d) - eip + 1;
    return true;
}

/* As many bytes as can be had, up to n: a page that is not there must not hide the instruction before it. */
static __attribute__((noinline)) unsigned fetch_bytes(u8 *bytes, u64 linear, unsigned n)
{
    unsigned first = (unsigned)min((u64)n, PAGE_SIZE - (linear & ~PAGE_MASK));

    if (copy_from_guest(bytes, gva(linear), n) == 0)
        return n;
    if (first == n || copy_from_guest(bytes, gva(linear), first) != 0)      /* again: the first gave nothing */
        return 0;
    return first;
}

static __attribute__((noinline)) void any_text(struct insn_text *text, const struct cpu_regs *regs, enum code_mode *mode)
{
    struct code_segment c;

    if (short_way(current->domain->arch.word == ABI_32) && regs->cs == FLAT_RING1_CS && (regs->rip & ~PAGE_MASK) <= PAGE_SIZE - 16 &&
        !copy_from_guest(text->bytes, gva(regs->rip), 16)) {
        text->n = INSN_MAX;
        *mode = MODE_32;
        return;
    }
    text->n = 0;
    if (!code_segment(current, regs, &c))
        return;
    *mode = c.mode;
    text->n = fetch_bytes(text->bytes, c.linear, (unsigned)min(c.room, (u64)INSN_MAX));
}

/* Mostly it is in a 64-bit kernel's flat segment and within a page: then two words do. Nobody looks at the sixteenth byte. */
void insn_text(struct insn_text *text, const struct cpu_regs *regs, enum code_mode *mode)
{
    if (unlikely(!short_way(current->domain->arch.word == ABI_64) || regs->cs != FLAT_RING3_CS64 ||
                 (regs->rip & ~PAGE_MASK) > PAGE_SIZE - 16 || copy_from_guest(text->bytes, gva(regs->rip), 16))) {
        any_text(text, regs, mode);
        return;
    }
    text->n = INSN_MAX;
    *mode = MODE_64;
}

int insn_fetch(struct insn *i, const struct cpu_regs *regs)
{
    struct insn_text text;
    enum code_mode mode = MODE_64;

    insn_text(&text, regs, &mode);
    return insn_decode(i, mode, regs, &text);
}

static u16 selector(const struct cpu_regs *regs, enum segment seg)
{
    u16 sel = 0;

    switch (seg) {
    case SEG_CS: return regs->cs;
    case SEG_SS: return regs->ss;
    case SEG_ES: __asm__ volatile("mov %%es, %0" : "=r"(sel)); break;
    case SEG_DS: __asm__ volatile("mov %%ds, %0" : "=r"(sel)); break;
    case SEG_FS: __asm__ volatile("mov %%fs, %0" : "=r"(sel)); break;
    case SEG_GS: __asm__ volatile("mov %%gs, %0" : "=r"(sel)); break;
    }
    return sel;
}

static u64 base_64(enum segment seg)
{
    if (seg == SEG_FS)
        return rdmsr(MSR_FS_BASE);
    return seg == SEG_GS ? rdmsr(MSR_GS_BASE) : 0;
}

static bool is_flat_data(u16 sel) { return current->domain->arch.word == ABI_32 && is_flat_data_32(sel); }

bool insn_linear_based(const struct insn *i, const struct cpu_regs *regs, enum segment seg, u64 offset,
                       unsigned bytes, bool write, u64 *linear)
{
    u16 sel;
    u64 d;

    if (i->mode == MODE_64) {
        *linear = base_64(seg) + offset;
        return true;
    }
    sel = selector(regs, seg);
    if (likely(short_way(is_flat_data(sel))) && (u64)(u32)offset + bytes - 1 <= 0xffffffff) {
        *linear = (u32)offset;
        return true;
    }
    if (!pv_read_descriptor(current, sel, &d) || (d & DESC_HERE) != DESC_HERE)
        return false;
    if (write ? (d & (DESC_CODE | DESC_WRITABLE)) != DESC_WRITABLE
              : (d & (DESC_CODE | DESC_WRITABLE)) == DESC_CODE)
        return false;
    if (!within_segment(d, (u32)offset, bytes))
        return false;
    *linear = (u32)(desc_base(d) + (u32)offset);
    return true;
}

void insn_done_special(const struct insn *i, struct cpu_regs *regs)
{
    regs->rip += i->len;
    if (i->mode == MODE_32)
        regs->rip = (u32)regs->rip;
    else if (i->mode == MODE_16)
        regs->rip = (u16)regs->rip;
    regs->rflags &= ~RFLAGS_RF;
    if (regs->rflags & RFLAGS_TF) {
        current->arch.debugreg[6] |= DR6_BS;
        pv_inject_trap(X86_VEC_DB, 0);
    }
}
