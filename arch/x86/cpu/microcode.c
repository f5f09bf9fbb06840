/* Loading of microcode. CPUs are of one model, and one patch is for all. */
#include <asm/atomic.h>
#include <asm/features.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cpumask.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/microcode.h>
#include <pvisor/printk.h>

#define MSR_PLATFORM_ID     0x17
#define MSR_INTEL_LOAD      0x79            /* the address of a patch's data */
#define MSR_REVISION        0x8b
#define MSR_AMD_LOAD        0xc0010020      /* the address of a patch */
#define INTEL_HEAD          48

/* What was loaded last, on pages of its own; a patch begins on one, as Intel's CPUs want their data aligned to 16. at NULL: nothing. */
static struct kept { u8 *at; unsigned order; u32 revision; } kept;
static bool busy;                           /* somebody uses it */

static bool is_amd(void) { return cpu_host.vendor == VENDOR_AMD; }

/* Intel's say it after a 0 was written and CPUID executed: SDM vol. 3, "Determining the Signature". */
static u32 revision(bool amd)
{
    u64 v = 0;

    if (!amd) {
        (void)wrmsr_safe(MSR_REVISION, 0);
        (void)cpuid(1, 0);
    }
    if (rdmsr_safe(MSR_REVISION, &v))
        return 0;
    return (u32)(amd ? v : v >> 32);
}

struct ucode_cpu ucode_this_cpu(void)
{
    struct ucode_cpu c = { .amd = is_amd(), .signature = cpuid(1, 0).a };
    u64 platform;

    if (!c.amd && !rdmsr_safe(MSR_PLATFORM_ID, &platform))
        c.platform = 1u << (platform >> 50 & 7);
    c.revision = revision(c.amd);
    return c;
}

static bool load_here(void)
{
    bool amd = is_amd();

    return !wrmsr_safe(amd ? MSR_AMD_LOAD : MSR_INTEL_LOAD, (u64)kept.at + (amd ? 0 : INTEL_HEAD)) && revision(amd) == kept.revision;
}

static void load_called(void *data) { *(bool *)data = load_here(); }

void ucode_load_kept(void)
{
    while (xchg(&busy, true))
        cpu_relax();
    if (kept.at && !load_here())
        printk(LOG_WARNING "Microcode: the CPU that comes does not take revision %#x\n", kept.revision);
    (void)xchg(&busy, false);
}

static int keep(const struct ucode_patch *p)
{
    unsigned order = 0;
    u8 *at;

    while (PAGE_SIZE << order < p->size)
        order++;
    at = alloc_pages(order);
    if (!at)
        return -ENOMEM;
    memcpy(at, p->at, p->size);
    kept = (struct kept){ at, order, p->revision };
    return 0;
}

static void drop(const struct kept *k)
{
    if (k->at)
        free_pages(k->at, k->order);
}

/* Interrupts are off on each while it loads. Threads of its core go on meanwhile. */
static int load_everywhere(u32 before)
{
    unsigned cpu, taken = 0, asked = 0;

    for_each_online_cpu(cpu) {
        cpumask_t one = cpumask_of(cpu);
        bool ok = false;
        u64 flags = irq_save();

        if (cpu == this_cpu_id())
            ok = load_here();
        irq_restore(flags);
        if (cpu != this_cpu_id())
            smp_call(&one, load_called, &ok);
        taken += ok;
        asked++;
    }
    printk(LOG_WARNING "Microcode: revision %#x to %#x on %u of %u CPUs\n", before, kept.revision, taken, asked);
    return taken == asked ? 0 : -EIO;
}

static int load_newest(const u8 *file, size_t len, bool force)
{
    struct ucode_cpu cpu = ucode_this_cpu();
    struct kept before = kept;
    struct ucode_patch patch;
    const char *why;
    int rc;

    if (cpu_host.vendor == VENDOR_OTHER)
        return refuse(-ENODEV, "microcode for CPUs of '%s' is not known", cpu_host.vendor_id);
    rc = ucode_find(file, len, &cpu, &patch, &why);
    if (rc == -EINVAL)
        return refuse(rc, "%s", why);
    if (rc)
        return refuse(rc, "there is no patch for this CPU (%s, signature %#x, platform %#x)", cpu.amd ? "AMD" : "Intel", cpu.signature,
                      cpu.platform);
    if (!force && patch.revision <= cpu.revision)
        return refuse(-EEXIST, "the newest patch for this CPU has revision %#x, and %#x is loaded", patch.revision, cpu.revision);
    rc = keep(&patch);
    if (rc)
        return refuse(rc, "no memory for a patch of %u bytes", patch.size);
    rc = load_everywhere(cpu.revision);
    drop(rc ? &kept : &before);
    if (!rc)
        return 0;
    kept = before;          /* what a CPU that comes has to have as the others */
    return refuse(rc, "not every CPU took the patch of revision %#x", patch.revision);
}

int ucode_load(const u8 *file, size_t len, bool force)
{
    int rc;

    if (xchg(&busy, true))
        return refuse(-EBUSY, "microcode is being loaded");
    rc = load_newest(file, len, force);
    (void)xchg(&busy, false);
    return rc;
}
