/* What files of cpu/ share. */
#ifndef ARCH_X86_CPU_INTERNAL_H
#define ARCH_X86_CPU_INTERNAL_H

#include <pvisor/cpu_policy.h>
#include <pvisor/types.h>

/* A line with the function that a lies in; nothing if it lies outside our code. */
void print_symbol(u64 a);

enum cpu_state { CPU_ABSENT, CPU_STARTING, CPU_RUNNING, CPU_STOPPED };
extern u8 cpu_states[];     /* enum cpu_state of each CPU: smp.c, and leave.c when one stops */

/* What CPU policies consist of besides leaves, and bits of leaf 1 that 0x80000001.edx repeats on AMD's processors. */
#define MSR_PLATFORM_INFO 0xce
#define MSR_ARCH_CAPABILITIES 0x10a
#define COMMON_1D 0x0183f3ffu

/* Where a word of the featureset lives; leaf 0: in ARCH_CAPABILITIES. reg: of struct cpuid_regs, from 0. */
struct word_home { u32 leaf, subleaf, reg; };
struct word_home policy_word_home(unsigned word);
u32 *policy_feature_word(const struct cpu_policy *p, unsigned word);

/*
 * A policy that a domain is to have, against what guests may have at most here: no feature more, no higher limit, no other
 * vendor's name. 0 or -EINVAL with *e. p: its leaves; its featureset need not follow from them yet.
 */
int policy_check(const struct cpu_policy *p, const struct cpu_policy *max, struct cpu_policy_error *e);

#endif
