/* Errata by which a guest can hang the machine, or read what is not its own: which CPUs have them. */
#include <asm/features.h>
#include <asm/x86.h>

/*
 * AMD's erratum 121 (document 25759): code that runs over the end of the lower half of the address space, from a page that a guest
 * can map there, hangs the CPU. The models are those before revision F, as in XSA-9.
 */
bool erratum_code_at_end_of_half(const struct cpu_host *h) { return h->vendor == VENDOR_AMD && h->family == 0xf && h->model < 0x40; }

/* Intel's SKL167, SKZ63, KBL183 and their like: an access with HLE to the MiB from 1 GiB on may hang the CPU. The models are XSA-282's. */
bool erratum_hle_at_1g(const struct cpu_host *h)
{
    bool model = h->model == 0x4e || h->model == 0x5e || h->model == 0x55 || h->model == 0x8e || h->model == 0x9e;

    return h->vendor == VENDOR_INTEL && h->family == 6 && model && feature_in(h->feat, X86_FEATURE_HLE);
}

/* Models 0x50 to 0x5f are of the first generation, though their numbers are above those of the second. */
bool cpu_is_zen_1(const struct cpu_host *h)
{
    return h->vendor == VENDOR_AMD && h->family == 0x17 && (h->model < 0x30 || h->model >> 4 == 5);
}

bool cpu_is_zen_2(const struct cpu_host *h)
{
    u8 m = h->model;

    return h->vendor == VENDOR_AMD && h->family == 0x17 &&
           ((m >= 0x30 && m <= 0x4f) || (m >= 0x60 && m <= 0x7f) || (m >= 0x90 && m <= 0x91) || (m >= 0xa0 && m <= 0xaf));
}

/* AMD, "Software Techniques for Managing Speculation": here LFENCE waits for what is before it if a bit says so, on older CPUs always. */
static bool lfence_is_optional(const struct cpu_host *h) { return h->vendor == VENDOR_AMD && h->family >= 0x10 && h->family != 0x11; }

#define MSR_DE_CFG   0xc0011029
#define DE_CFG_LFENCE_WAITS (1UL << 1)

bool amd_lfence_waits(const struct cpu_host *h)
{
    u64 v;

    return !lfence_is_optional(h) || (!rdmsr_safe(MSR_DE_CFG, &v) && v & DE_CFG_LFENCE_WAITS);
}

/*
 * Bits that firmware or microcode of today sets, and that of yesterday does not:
 *   LFENCE         waits, which fences of ours and of guests' count on
 *   Zenbleed       CVE-2023-20593, AMD-SB-7008: Zen 2 shows what other code had in its vector registers
 *   FP-DSS         CVE-2025-54505, AMD-SB-7053: Zen 1's divider of floats shows other code's results
 *   the op cache   CVE-2025-54518, AMD-SB-7052: on Zen 2 other code can change which instructions it holds
 */
static const struct { bool (*needed)(const struct cpu_host *h); u32 msr; u64 bit; } cures[] = {
    { lfence_is_optional, MSR_DE_CFG, DE_CFG_LFENCE_WAITS },
    { cpu_is_zen_2, MSR_DE_CFG, 1UL << 9 },
    { cpu_is_zen_1, 0xc0011028, 1UL << 9 },
    { cpu_is_zen_2, 0xc001102e, 1UL << 33 },
};

/* Another hypervisor below may have no such register: it is that one's then. */
void cure_errata(const struct cpu_host *h)
{
    u64 v;

    for (unsigned i = 0; i < ARRAY_SIZE(cures); i++)
        if (cures[i].needed(h) && !rdmsr_safe(cures[i].msr, &v) && !(v & cures[i].bit))
            (void)wrmsr_safe(cures[i].msr, v | cures[i].bit);
}
