/* Errata by which a guest can hang the machine, or read what is not its own: which CPUs have them. */
#include <asm/features.h>

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

/* Zenbleed (CVE-2023-20593, AMD-SB-7008): Zen 2 shows what other code had in its vector registers. The models are Zen 2's. */
bool erratum_zenbleed(const struct cpu_host *h)
{
    u8 m = h->model;

    return h->vendor == VENDOR_AMD && h->family == 0x17 &&
           ((m >= 0x30 && m <= 0x4f) || (m >= 0x60 && m <= 0x7f) || (m >= 0x90 && m <= 0x91) || (m >= 0xa0 && m <= 0xaf));
}
