/*
 * Defences against speculative execution (Intel's and AMD's guidance for software; Intel SDM vol. 4 for the MSRs).
 *
 *   branch target injection    our indirect calls go through thunks (lib/thunk.asm), which are retpolines. Enhanced IBRS,
 *                              where the CPU has it, is on too, but alone it does not do: it keeps predictions made in user
 *                              mode apart, and the kernels of 32-bit guests run in ring 1, which counts as supervisor mode
 *                              The history of branches, which eIBRS leaves to choose among predictions, is kept out where the CPU can, and
 *                              so are returns' predictions by the same means as indirect branches', which would make retpolines useless
 *   races that speculation     LFENCE behind each lock that is taken (asm/spinlock.h), and each that was tried with success
 *   makes of what locks keep
 *   the same between domains   IBPB, and a return stack overwritten, when a CPU goes from one domain to another
 *   Zen 1's divider            divides something of ours then
 *   MDS, TAA, RFDS, AMD's TSA  VERW on every way out to a guest, where microcode makes it clear the buffers
 *   Meltdown                   page tables that have next to nothing of ours, for 64-bit guests (mm/isolation.c)
 *   bounds-check bypass        guests' numbers are cut to their arrays by arithmetic, after the check (asm/nospec.h)
 *   L1TF                       entries of page tables that are not present and name memory are refused (pt/entry.c)
 *
 * The code is built with all of it; what a CPU does not need is patched out at boot, so that it costs nothing there. Bounds-check
 * bypass, which spares no CPU, costs three instructions a number, always.
 *
 * What a CPU gets is chosen in spec_choose.c, after the command line's wishes (spec_options.c); spec_patch.c patches. Here: the rest.
 */
#include <asm/closed.h>
#include <asm/features.h>
#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define SPEC_CTRL_IBRS 1
#define SPEC_CTRL_RRSBA_DIS_S (1u << 6)
#define SPEC_CTRL_BHI_DIS_S (1u << 10)
#define MSR_PRED_CMD 0x49
#define PRED_CMD_IBPB 1

static struct spec spec;
STATIC_PERCPU(const struct domain *, last_domain);

static void warn_of_the_rest(const struct cpu_host *h)
{
    const char *name;

    for (unsigned next = 0; (name = spec_left_open(h, &next));)
        printk(LOG_WARNING "This CPU is known for %s, and there is no defence: do not run guests that distrust each other\n", name);
    if (h->vendor == VENDOR_INTEL && !feature_in(h->feat, X86_FEATURE_RDCL_NO) && !(spec.isolate_domus && spec.l1tf_domus))
        printk(LOG_WARNING "This CPU does not say that Meltdown and L1TF spare it, and %s off: do not run guests that distrust "
               "each other\n", spec.l1tf_domus ? "page-table isolation (xpti=) is" : spec.isolate_domus ?
               "the checks against L1TF (pv-l1tf=) are" : "page-table isolation (xpti=) and the checks (pv-l1tf=) are");
    if (h->vendor == VENDOR_INTEL && !spec.verw && !feature_in(h->feat, X86_FEATURE_MDS_NO))
        printk(LOG_WARNING "This CPU does not say that MDS spares it, and %s\n",
               feature_in(h->feat, X86_FEATURE_MD_CLEAR) ? "the defence is off" : "its microcode has no defence");
}

void spec_init(void)
{
    static const char *const thunk[] = { "retpoline", "lfence", "jmp" };
    static const char *const isolation[] = { "", ", page-table isolation of dom0", ", page-table isolation of domUs",
                                             ", page-table isolation" };
    static const char *const checks[] = { "", ", L1TF checks of dom0", ", L1TF checks of domUs", ", L1TF checks" };
    struct spec_wishes wishes = spec_wished();

    if (CLOSED_ROOTS)
        wishes.xpti = (struct guest_wishes){ SPEC_OFF, SPEC_OFF };
    spec = spec_choose(&cpu_host, &wishes);
    if (spec.ibpb && wrmsr_safe(MSR_PRED_CMD, PRED_CMD_IBPB)) {
        spec.ibpb = false;
        printk(LOG_WARNING "spec-ctrl: the CPU has IBPB, but refuses it\n");
    }
    if (spec.isolate_dom0 || spec.isolate_domus)
        isolation_init(spec.isolate_dom0, spec.isolate_domus);
    spec_patch(&spec, cpu_host.cr4 & CR4_SMAP);
    l1tf_addresses = ((1UL << cpu_host.phys_bits) - 1) & PTE_MFN_MASK;
    printk(LOG_INFO "Speculation: thunk %s%s%s%s%s%s%s%s%s%s%s\n", thunk[spec.thunk], spec.ibrs ? ", IBRS" : "",
           spec.bhi ? ", BHI_DIS_S" : "", spec.rrsba ? ", RRSBA_DIS_S" : "", spec.ibpb ? ", IBPB" : "", spec.rsb ? ", RSB" : "",
           spec.div ? ", divider" : "", spec.lock ? ", locks" : "", spec.verw ? ", VERW" : "",
           isolation[spec.isolate_dom0 + 2 * spec.isolate_domus], checks[spec.l1tf_dom0 + 2 * spec.l1tf_domus]);
    warn_of_the_rest(&cpu_host);
}

u64 l1tf_addresses;

/* Below 4 GiB firmware has memory, too, that it does not tell of. */
u64 spec_l1tf_span(const struct domain *d)
{
    bool on = d->is_hardware ? spec.l1tf_dom0 : spec.l1tf_domus;

    return on && d->arch.fmt->pte_bytes == 8 ? max(nr_frames << PAGE_SHIFT, 1UL << 32) - PAGE_SIZE : 0;
}

u32 spec_ctrl_ours(void)
{
    return (spec.ibrs ? SPEC_CTRL_IBRS : 0) | (spec.bhi ? SPEC_CTRL_BHI_DIS_S : 0) | (spec.rrsba ? SPEC_CTRL_RRSBA_DIS_S : 0);
}

/* 32 calls whose return addresses lead nowhere take the place of whatever the CPU remembers. */
static void overwrite_return_stack(void)
{
    __asm__ volatile(".rept 32\n"
                     "call 1f\n"
                     "int3\n"
                     "1:\n"
                     ".endr\n"
                     "addq $32 * 8, %%rsp" ::: "memory", "cc");
}

/* 1 by 1: what the divider has last is nobody's. What we divide later is no secret of a guest's. */
static void overwrite_divider(void)
{
    u32 low = 1, high = 0;

    __asm__ volatile("divl %0" : "+a"(low), "+d"(high) :: "cc");
}

void spec_switch_to(const struct vcpu *v)
{
    if (this_cpu(last_domain) == v->domain)
        return;
    this_cpu(last_domain) = v->domain;
    if (spec.ibpb)
        wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
    if (spec.rsb)
        overwrite_return_stack();
    if (spec.div)
        overwrite_divider();
}

void spec_forget(const struct domain *d)
{
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        if (cpu_var(last_domain, cpu) == d)
            cpu_var(last_domain, cpu) = NULL;
}
