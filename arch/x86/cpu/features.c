/*
 * Finds out what the processor can do, and sets every CPU up alike. The first CPU's features become
 * cpu_host; the others must have at least what guests are promised (Intel SDM vol. 2 CPUID, AMD APM vol. 3
 * appendix E).
 */
#include <asm/closed.h>
#include <asm/features.h>
#include <asm/fpu.h>
#include <asm/loaded.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct cpu_host cpu_host;

static bool opt_unsafe;
CMDLINE_BOOL("allow_unsafe", opt_unsafe);

bool cpu_hangs_by_64_bit_code(void) { return erratum_code_at_end_of_half(&cpu_host) && !opt_unsafe; }

static bool opt_smep = true, opt_smap = true, smap_asked_for, opt_xsave = true;
CMDLINE_BOOL("xsave", opt_xsave);

/* Xen's words: a boolean, or "hvm": for its HVM guests alone, which are none here. */
static int parse_prevention(const char *value, bool *on)
{
    if (strcmp(value, "hvm") != 0)
        return cmdline_bool(value, on);
    *on = false;
    return 0;
}

static int parse_smep(const char *value) { return parse_prevention(value, &opt_smep); }
CMDLINE_OPTION("smep", parse_smep);

static int parse_smap(const char *value)
{
    int err = parse_prevention(value, &opt_smap);

    smap_asked_for |= !err;
    return err;
}
CMDLINE_OPTION("smap", parse_smap);

#define XCR0_FP_SSE 3UL
#define XCR0_AVX    4UL
#define XCR0_AVX512 0xe0UL
#define MSR_ARCH_CAPABILITIES 0x10a

static void read_identity(struct cpu_host *h)
{
    struct cpuid_regs r = cpuid(0, 0);
    u32 sig = cpuid(1, 0).a;

    h->max_basic = r.a;
    memcpy(h->vendor_id, &r.b, 4);
    memcpy(h->vendor_id + 4, &r.d, 4);
    memcpy(h->vendor_id + 8, &r.c, 4);
    if (strcmp(h->vendor_id, "GenuineIntel") == 0)
        h->vendor = VENDOR_INTEL;
    else if (strcmp(h->vendor_id, "AuthenticAMD") == 0 || strcmp(h->vendor_id, "HygonGenuine") == 0)
        h->vendor = VENDOR_AMD;
    h->stepping = sig & 0xf;
    h->model = (sig >> 4 & 0xf) | (sig >> 12 & 0xf0);
    h->family = sig >> 8 & 0xf;
    if (h->family == 0xf)
        h->family += sig >> 20 & 0xff;
    r = cpuid(0x80000000, 0);
    h->max_extended = r.a >> 16 == 0x8000 ? r.a : 0;
}

/* Registers of a leaf, zero beyond the CPU's highest. */
static struct cpuid_regs leaf(const struct cpu_host *h, u32 n, u32 sub)
{
    u32 limit = n & 0x80000000 ? h->max_extended : h->max_basic;

    return n > limit ? (struct cpuid_regs){ 0, 0, 0, 0 } : cpuid(n, sub);
}

static void read_features(struct cpu_host *h)
{
    struct cpuid_regs r = leaf(h, 1, 0);
    u32 *fs = h->feat, sub7;
    u64 caps;

    fs[FEATURESET_1d] = r.d, fs[FEATURESET_1c] = r.c;
    r = leaf(h, 0x80000001, 0);
    fs[FEATURESET_e1d] = r.d, fs[FEATURESET_e1c] = r.c;
    r = leaf(h, 7, 0);
    sub7 = r.a;
    fs[FEATURESET_7b0] = r.b, fs[FEATURESET_7c0] = r.c, fs[FEATURESET_7d0] = r.d;
    r = sub7 >= 1 ? leaf(h, 7, 1) : (struct cpuid_regs){ 0, 0, 0, 0 };
    fs[FEATURESET_7a1] = r.a, fs[FEATURESET_7b1] = r.b, fs[FEATURESET_7c1] = r.c, fs[FEATURESET_7d1] = r.d;
    fs[FEATURESET_7d2] = sub7 >= 2 ? leaf(h, 7, 2).d : 0;
    fs[FEATURESET_Da1] = leaf(h, 0xd, 1).a;
    fs[FEATURESET_e7d] = leaf(h, 0x80000007, 0).d;
    r = leaf(h, 0x80000008, 0);
    fs[FEATURESET_e8b] = r.b;
    h->phys_bits = r.a ? r.a & 0xff : 36;
    h->virt_bits = r.a ? r.a >> 8 & 0xff : 48;
    r = leaf(h, 0x80000021, 0);
    fs[FEATURESET_e21a] = r.a, fs[FEATURESET_e21c] = r.c;
    if (feature_in(fs, X86_FEATURE_ARCH_CAPS)) {
        caps = rdmsr(MSR_ARCH_CAPABILITIES);
        fs[FEATURESET_m10Al] = (u32)caps, fs[FEATURESET_m10Ah] = (u32)(caps >> 32);
    }
}

/* Which extended state is kept for guests, and how much room it takes in XSAVE's standard format. */
static void choose_xstate(struct cpu_host *h)
{
    struct cpuid_regs r = leaf(h, 0xd, 0);
    u64 have = r.a | (u64)r.d << 32;

    h->xsave_size = FPU_LEGACY_SIZE;
    if (!opt_xsave || !feature_in(h->feat, X86_FEATURE_XSAVE) || (have & XCR0_FP_SSE) != XCR0_FP_SSE)
        return;
    h->xcr0 = XCR0_FP_SSE;
    if (feature_in(h->feat, X86_FEATURE_AVX))
        h->xcr0 |= have & XCR0_AVX;
    if (feature_in(h->feat, X86_FEATURE_AVX512F) && (have & h->xcr0 & XCR0_AVX)
        && (have & XCR0_AVX512) == XCR0_AVX512)
        h->xcr0 |= XCR0_AVX512;
    h->xsave_size = FPU_LEGACY_SIZE + 64;
    for (unsigned n = 2; n < 63; n++)
        if (h->xcr0 >> n & 1) {
            r = cpuid(0xd, n);
            h->xsave_size = max(h->xsave_size, r.a + r.b);
        }
}

/*
 * QEMU's emulation before 9.1 reads what an IRET from user mode to user mode pops with the rights of a kernel, which is a fault with SMAP;
 * Linux's kernel makes such IRETs while it starts. Later ones do right, and cannot be told from these.
 */
static bool __init breaks_iret_by_smap(void)
{
    struct cpuid_regs r = { 0, 0, 0, 0 };

    if (cpu_has(X86_FEATURE_HYPERVISOR))
        r = cpuid(0x40000000, 0);
    return memcmp(&r.b, "TCGT", 4) == 0 && memcmp(&r.c, "CGTC", 4) == 0 && memcmp(&r.d, "GTCG", 4) == 0;
}

static void __init choose_smap(void)
{
    if (!cpu_has(X86_FEATURE_SMAP) || smap_asked_for || !breaks_iret_by_smap())
        return;
    opt_smap = false;
    printk(LOG_INFO "SMAP is left off: QEMU's emulation of it breaks guests' IRET before QEMU 9.1 (smap=yes turns it on)\n");
}

static u64 wanted_cr4(const struct cpu_host *h)
{
    u64 cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

    if (feature_in(h->feat, X86_FEATURE_MCE))
        cr4 |= CR4_MCE;
    if (h->xcr0)
        cr4 |= CR4_OSXSAVE;
    if (opt_smep && feature_in(h->feat, X86_FEATURE_SMEP))
        cr4 |= CR4_SMEP;
    if (!CLOSED_ROOTS && opt_smap && feature_in(h->feat, X86_FEATURE_SMAP))
        cr4 |= CR4_SMAP;
    return cr4;
}

/* What is used without asking further: by us, by the compiler, and by every 64-bit kernel. */
static const struct { u16 feature; const char *name; } required[] __initconst = {
    { X86_FEATURE_FPU, "FPU" }, { X86_FEATURE_PSE, "PSE" }, { X86_FEATURE_TSC, "TSC" }, { X86_FEATURE_MSR, "MSR" },
    { X86_FEATURE_PAE, "PAE" }, { X86_FEATURE_CX8, "CX8" }, { X86_FEATURE_APIC, "APIC" }, { X86_FEATURE_SEP, "SEP" },
    { X86_FEATURE_CMOV, "CMOV" }, { X86_FEATURE_PAT, "PAT" }, { X86_FEATURE_FXSR, "FXSR" }, { X86_FEATURE_SSE, "SSE" }, { X86_FEATURE_SSE2, "SSE2" },
    { X86_FEATURE_SYSCALL, "SYSCALL" }, { X86_FEATURE_LM, "long mode" },
};

static __init void check_required(void)
{
    char missing[128] = "";

    for (unsigned i = 0; i < ARRAY_SIZE(required); i++)
        if (!cpu_has(required[i].feature)) {
            strlcat(missing, " ", sizeof(missing));
            strlcat(missing, required[i].name, sizeof(missing));
        }
    if (missing[0])
        boot_failure("this CPU says that it lacks%s: pvisor cannot do without", missing);
}

void __init cpu_detect(void)
{
    struct cpu_host *h = &cpu_host;

    read_identity(h);
    read_features(h);
    choose_xstate(h);
    check_required();
    choose_smap();
    h->cr4 = wanted_cr4(h);
    printk(LOG_INFO "CPU: %s family %#x model %#x stepping %u, %u-bit machine addresses%s%s%s%s\n",
           h->vendor_id, h->family, h->model, h->stepping, h->phys_bits,
           cpu_has(X86_FEATURE_NX) ? ", NX" : "",
           h->cr4 & CR4_SMEP ? ", SMEP" : "",
           h->cr4 & CR4_SMAP ? ", SMAP" : "",
           cpu_has(X86_FEATURE_ITSC) ? ", invariant TSC" : "");
    if (h->xcr0)
        printk(LOG_INFO "CPU: XSAVE components %#lx in %u bytes%s\n", h->xcr0, h->xsave_size,
               cpu_has(X86_FEATURE_XSAVEOPT) ? ", XSAVEOPT" : "");
}

/* A later CPU must have all that guests may have been told about. */
static void check_same(void)
{
    struct cpu_host mine = { 0 };
    u32 lost;

    read_identity(&mine);
    read_features(&mine);
    choose_xstate(&mine);
    /* OSXSAVE and the APIC bit follow this CPU's own state. */
    mine.feat[FEATURESET_1c] |= 1u << X86_FEATURE_OSXSAVE % 32;
    mine.feat[FEATURESET_1d] |= 1u << X86_FEATURE_APIC % 32;
    for (unsigned w = 0; w < FEATURESET_WORDS; w++) {
        lost = cpu_host.feat[w] & ~mine.feat[w];
        if (lost)
            printk(LOG_WARNING "CPU%u lacks features %#x of the boot CPU in word %u\n",
                   this_cpu_id(), lost, w);
    }
    if (cpu_host.xcr0 & ~mine.xcr0 || cpu_host.xsave_size != mine.xsave_size)
        panic("CPU%u has extended state %#lx in %u bytes, the boot CPU %#lx in %u", this_cpu_id(), mine.xcr0, mine.xsave_size,
              cpu_host.xcr0, cpu_host.xsave_size);
    if (cpu_host.cr4 & ~wanted_cr4(&mine))
        panic("CPU%u cannot run with CR4 %#lx as the boot CPU does", this_cpu_id(), cpu_host.cr4);
}

void cpu_init_features(void)
{
    u64 efer = rdmsr(MSR_EFER) | EFER_SCE;

    if (this_cpu_id() != 0)
        check_same();
    if (cpu_has(X86_FEATURE_NX))
        efer |= EFER_NX;
    wrmsr(MSR_EFER, efer);
    wrmsr(MSR_PAT, PAT_VALUE);
    cure_errata(&cpu_host);
    loaded_init_cpu();
    fpu_init_cpu();
}
