/*
 * Instructions of ours that may fault on a guest's behalf: a pair of 32-bit self-relative offsets each, the
 * instruction and where to go on. asm goto users write _EX_TABLE("1b", "%l[label]").
 */
#ifndef ASM_EXTABLE_H
#define ASM_EXTABLE_H

#include <pvisor/types.h>

#define EX_TABLE(insn, fixup)                                 \
    ".pushsection .ex_table, \"a\"\n"                         \
    ".balign 4\n"                                             \
    ".long (" insn ") - .\n.long (" fixup ") - .\n"           \
    ".popsection\n"

/* Address to continue at, or 0. rip: of an instruction, prefixes that asm/sites.h puts in front of it included. */
u64 extable_find(u64 rip);

#endif
