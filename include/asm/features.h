/*
 * What the processor can do. Features have the numbers of the ABI's CPU featureset: word * 32 + bit, where each word is
 * one register of one CPUID leaf (Xen 4.17 public/arch-x86/cpufeatureset.h). cpu_has() is one load and one
 * test. The host's words are filled by cpu_detect(), once, from the boot CPU.
 */
#ifndef ASM_FEATURES_H
#define ASM_FEATURES_H

#include <asm/x86.h>
#include <public/cpufeatureset.h>
#include <pvisor/types.h>

#define X86_FEATURE_ENUM(word, bit, name) X86_FEATURE_##name = (word) * 32 + (bit),
enum x86_feature { XEN_X86_FEATURES(X86_FEATURE_ENUM) X86_FEATURE_END = FEATURESET_NR_WORDS * 32 };
#define FEATURESET_WORDS FEATURESET_NR_WORDS

enum cpu_vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD /* and Hygon */ };

struct cpu_host {
    u32 feat[FEATURESET_WORDS];
    enum cpu_vendor vendor;
    u8 family, model, stepping;     /* with the extended fields added */
    u8 phys_bits, virt_bits;        /* address widths */
    u32 max_basic, max_extended;    /* highest leaves */
    char vendor_id[13];
    u64 xcr0;                       /* components that the hypervisor keeps for guests; 0: FXSAVE only */
    u32 xsave_size;                 /* bytes of the standard format for xcr0 (512 without XSAVE) */
    u64 cr4;                        /* what every CPU runs with, before a guest's own bits */
};

extern struct cpu_host cpu_host;

static inline bool feature_in(const u32 *featureset, unsigned f) { return featureset[f / 32] >> (f % 32) & 1; }
static inline bool cpu_has(enum x86_feature f) { return feature_in(cpu_host.feat, f); }

/* Boot CPU, after the command line is parsed: fills cpu_host and logs what was found. Panics on a CPU that cannot do it. */
void cpu_detect(void);
/*
 * Every CPU, after cpu_detect(): EFER, PAT (the ABI's 0x050100070406) and what asm/loaded.h is about, as the hypervisor and its
 * guests need them. Panics on a CPU that lacks what the boot CPU has and guests were promised.
 */
void cpu_init_features(void);

/* Errata (cpu/errata.c), of any CPU. */
bool erratum_code_at_end_of_half(const struct cpu_host *h);
bool erratum_hle_at_1g(const struct cpu_host *h);
/* Of AMD's: the first Zens, and the second ones. */
bool cpu_is_zen_1(const struct cpu_host *h);
bool cpu_is_zen_2(const struct cpu_host *h);
/* AMD: LFENCE waits for what is before it, always or since a register says so. */
bool amd_lfence_waits(const struct cpu_host *h);
/* On each CPU, which is such a one: sets what makes it behave, and says so nowhere. */
void cure_errata(const struct cpu_host *h);
/* This CPU has such, and the command line does not say that it is to run 64-bit domUs all the same. */
bool cpu_hangs_by_64_bit_code(void);

#define PAT_VALUE 0x050100070406UL

#endif
