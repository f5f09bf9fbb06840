/* Instructions of ours that may fault, and those that read and write MSRs which a CPU may not have. */
#include <asm/extable.h>
#include <asm/sites.h>
#include <asm/x86.h>
#include <public/errno.h>

#define INSN_BYTES_MAX 15

struct ex_entry { s32 insn, fixup; };
extern const struct ex_entry __ex_table_start[], __ex_table_end[];

/* Whether rip is insn's, or that of prefixes in front of it. Nothing is read at rip, which may be anywhere if we jumped astray. */
static bool begins_at(u64 insn, u64 rip)
{
    u64 n = insn - rip;

    if (n >= INSN_BYTES_MAX)
        return false;
    while (n && *(const u8 *)(insn - n) == SITE_PREFIX)
        n--;
    return !n;
}

u64 extable_find(u64 rip)
{
    for (const struct ex_entry *e = __ex_table_start; e < __ex_table_end; e++)
        if (begins_at((u64)&e->insn + (s64)e->insn, rip))
            return (u64)&e->fixup + (s64)e->fixup;
    return 0;
}

int rdmsr_safe(u32 msr, u64 *v)
{
    u32 lo, hi;

    __asm__ goto("1: rdmsr\n" EX_TABLE("1b", "%l[fault]") : "=a"(lo), "=d"(hi) : "c"(msr) :: fault);
    *v = lo | (u64)hi << 32;
    return 0;
fault:
    return -EFAULT;
}

int wrmsr_safe(u32 msr, u64 v)
{
    __asm__ goto("1: wrmsr\n" EX_TABLE("1b", "%l[fault]") :: "c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory" : fault);
    return 0;
fault:
    return -EFAULT;
}
