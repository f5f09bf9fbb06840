/*
 * Defences against speculative execution (Intel's and AMD's guidance for software; Intel SDM vol. 4 for the MSRs).
 *
 *   branch target injection    our indirect calls go through thunks (entry/thunk.asm), which are retpolines. Enhanced IBRS,
 *                              where the CPU has it, is on too, but alone it does not do: it keeps predictions made in user
 *                              mode apart, and the kernels of 32-bit guests run in ring 1, which counts as supervisor mode
 *   the same between domains   IBPB, and a return stack overwritten, when a CPU goes from one domain to another
 *   MDS, TAA and their kind    VERW on every way out to a guest, where microcode makes it clear the buffers
 *   Meltdown                   page tables that have next to nothing of ours, for 64-bit guests (mm/isolation.c)
 *   bounds-check bypass        guests' numbers are cut to their arrays by arithmetic, after the check (asm/nospec.h)
 *   L1TF                       entries of page tables that are not present and name memory are refused (mm/ptype.c)
 *
 * The code is built with all of it; what a CPU does not need is patched out at boot, so that it costs nothing there. Bounds-check
 * bypass, which spares no CPU, costs three instructions a number, always.
 */
#include <asm/features.h>
#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define SPEC_CTRL_IBRS 1
#define MSR_PRED_CMD 0x49
#define PRED_CMD_IBPB 1

/* --- What to do ------------------------------------------------------------------------------------ */

static bool granted(enum spec_wish wish, bool needed) { return wish == SPEC_AUTO ? needed : wish == SPEC_ON; }

struct spec spec_choose(const struct cpu_host *h, const struct spec_wishes *w)
{
    const u32 *f = h->feat;
    bool intel = h->vendor == VENDOR_INTEL, has_ctrl = intel && feature_in(f, X86_FEATURE_IBRSB);
    bool has_barrier = has_ctrl || feature_in(f, X86_FEATURE_IBPB);
    bool meltdown = intel && !feature_in(f, X86_FEATURE_RDCL_NO);      /* who is spared this is spared L1TF */
    bool mds = intel && !feature_in(f, X86_FEATURE_MDS_NO);
    struct spec s;

    s.ibrs = w->ibrs != SPEC_OFF && has_ctrl && feature_in(f, X86_FEATURE_EIBRS);
    s.ibpb = w->ibpb != SPEC_OFF && has_barrier;
    s.rsb = w->rsb != SPEC_OFF;
    s.verw = granted(w->verw, mds && feature_in(f, X86_FEATURE_MD_CLEAR));
    s.isolate_dom0 = granted(w->xpti.dom0, meltdown);
    s.isolate_domus = granted(w->xpti.domus, meltdown);
    s.l1tf_dom0 = granted(w->l1tf.dom0, false);
    s.l1tf_domus = granted(w->l1tf.domus, meltdown);
    s.thunk = w->thunk == SPEC_OFF ? THUNK_JMP : w->thunk == SPEC_ON ? w->which : THUNK_RETPOLINE;
    return s;
}

static const struct { const char *name; size_t field; } switches[] = {
    { "bti-thunk", offsetof(struct spec_wishes, thunk) }, { "ibrs", offsetof(struct spec_wishes, ibrs) },
    { "ibpb", offsetof(struct spec_wishes, ibpb) }, { "rsb", offsetof(struct spec_wishes, rsb) },
    { "md-clear", offsetof(struct spec_wishes, verw) },
};

static enum spec_wish *wish_of(struct spec_wishes *w, unsigned i) { return (enum spec_wish *)((char *)w + switches[i].field); }

static bool is_word(const char *word, size_t len, const char *name) { return len == strlen(name) && !strncmp(word, name, len); }

static int all_wishes(struct spec_wishes *w, enum spec_wish wish)
{
    for (unsigned i = 0; i < ARRAY_SIZE(switches); i++)
        *wish_of(w, i) = wish;
    w->xpti = w->l1tf = (struct guest_wishes){ wish, wish };    /* which have options of their own besides */
    return 0;
}

static int choose_thunk(struct spec_wishes *w, enum spec_thunk which)
{
    w->thunk = SPEC_ON;
    w->which = which;
    return 0;
}

static bool is_true(const char *word, size_t len)
{
    return is_word(word, len, "yes") || is_word(word, len, "on") || is_word(word, len, "true") || is_word(word, len, "1");
}

static bool is_false(const char *word, size_t len)
{
    return is_word(word, len, "no") || is_word(word, len, "off") || is_word(word, len, "false") || is_word(word, len, "0");
}

/* NAME and no-NAME, besides the words for all together and the kinds of thunk. */
int spec_parse_word(struct spec_wishes *w, const char *word, size_t len)
{
    bool no = len > 3 && !strncmp(word, "no-", 3);

    if (is_false(word, len))
        return all_wishes(w, SPEC_OFF);
    if (is_true(word, len))
        return all_wishes(w, SPEC_AUTO);
    if (is_word(word, len, "bti-thunk=retpoline"))
        return choose_thunk(w, THUNK_RETPOLINE);
    if (is_word(word, len, "bti-thunk=lfence"))
        return choose_thunk(w, THUNK_LFENCE);
    if (is_word(word, len, "bti-thunk=jmp"))
        return choose_thunk(w, THUNK_JMP);
    word += no ? 3 : 0;
    len -= no ? 3 : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(switches); i++)
        if (is_word(word, len, switches[i].name)) {
            *wish_of(w, i) = no ? SPEC_OFF : SPEC_ON;
            return 0;
        }
    return -EINVAL;
}

int guests_parse_word(struct guest_wishes *w, const char *word, size_t len)
{
    bool dom0 = len > 5 && !strncmp(word, "dom0=", 5), domus = len > 5 && !strncmp(word, "domu=", 5);
    size_t prefix = dom0 || domus ? 5 : 0;
    enum spec_wish wish = is_true(word + prefix, len - prefix) ? SPEC_ON : SPEC_OFF;

    if (is_word(word, len, "default"))
        wish = SPEC_AUTO;
    else if (wish == SPEC_OFF && !is_false(word + prefix, len - prefix))
        return -EINVAL;
    if (!domus)
        w->dom0 = wish;
    if (!dom0)
        w->domus = wish;
    return 0;
}

static struct spec_wishes wishes;
static struct guest_wishes xpti, l1tf;      /* whatever spec-ctrl= says, before it or after */

static int parse_spec_word(void *to, const char *word, size_t len) { return spec_parse_word(to, word, len); }
static int parse_guests_word(void *to, const char *word, size_t len) { return guests_parse_word(to, word, len); }

/* Without a word: "on". */
static int parse_spec_ctrl(const char *value)
{
    struct spec_wishes new = wishes;
    int rc = cmdline_list(*value ? value : "on", parse_spec_word, &new);

    if (!rc)
        wishes = new;
    return rc;
}
CMDLINE_OPTION("spec-ctrl", parse_spec_ctrl);

static int parse_guests(const char *value, struct guest_wishes *to)
{
    struct guest_wishes new = *to;
    int rc = cmdline_list(*value ? value : "on", parse_guests_word, &new);

    if (!rc)
        *to = new;
    return rc;
}

static int parse_xpti(const char *value) { return parse_guests(value, &xpti); }
CMDLINE_OPTION("xpti", parse_xpti);
static int parse_l1tf(const char *value) { return parse_guests(value, &l1tf); }
CMDLINE_OPTION("pv-l1tf", parse_l1tf);

#ifndef HOST_TEST

/* --- Patching -------------------------------------------------------------------------------------- */

extern char indirect_thunks[], indirect_thunks_end[];
#define THUNK_SIZE 32

/* One register's thunk becomes [lfence;] jmp *reg. The thunks stand in the order of the registers' numbers. */
static void simple_thunk(u8 *to, unsigned reg, bool lfence)
{
    static const u8 barrier[3] = { 0x0f, 0xae, 0xe8 };

    if (lfence) {
        memcpy(to, barrier, sizeof(barrier));
        to += sizeof(barrier);
    }
    if (reg >= 8)
        *to++ = 0x41;
    *to++ = 0xff;
    *to++ = (u8)(0xe0 | (reg & 7));
    *to = 0xcc;
}

/* Our code is mapped without write permission; the direct map has it writable. */
static u8 *writable(const void *code) { return maddr_to_virt(virt_to_maddr(code)); }

static void patch_thunks(bool lfence)
{
    for (unsigned reg = 0; reg < (unsigned)(indirect_thunks_end - indirect_thunks) / THUNK_SIZE; reg++)
        simple_thunk(writable(indirect_thunks + reg * THUNK_SIZE), reg, lfence);
}

/* at: relative to itself. */
extern const struct entry_site { s32 at; u32 kind; } __entry_sites[], __entry_sites_end[];
extern const char load_guest_root[], load_full_root[], reload_root[];

#define SITE_BYTES 7

static void patch_nop(const char *site)
{
    static const u8 nop[SITE_BYTES] = { 0x0f, 0x1f, 0x80, 0, 0, 0, 0 };

    memcpy(writable(site), nop, SITE_BYTES);
}

static void patch_call(const char *site, const char *target)
{
    u8 code[SITE_BYTES] = { 0xe8, 0, 0, 0, 0, 0x66, 0x90 };

    *(s32 *)(code + 1) = (s32)(target - (site + 5));
    memcpy(writable(site), code, SITE_BYTES);
}

static void patch_entry(bool verw, bool isolate)
{
    static const char *const target[] = {
        [SITE_LEAVE] = load_guest_root, [SITE_ARRIVE] = load_full_root, [SITE_RESUME] = reload_root,
    };

    for (const struct entry_site *s = __entry_sites; s < __entry_sites_end; s++) {
        const char *site = (const char *)&s->at + s->at;

        if (isolate && s->kind != SITE_CLEAR)
            patch_call(site, target[s->kind]);
        else if (!verw)
            patch_nop(site);
    }
}

/* --- At work --------------------------------------------------------------------------------------- */

static struct spec spec;
STATIC_PERCPU(const struct domain *, last_domain);

static void warn_of_the_rest(const struct cpu_host *h)
{
    if (h->vendor == VENDOR_INTEL && !feature_in(h->feat, X86_FEATURE_RDCL_NO) && !(spec.isolate_domus && spec.l1tf_domus))
        printk(LOG_WARNING "This CPU does not say that Meltdown and L1TF spare it, and %s off: do not run guests that distrust "
               "each other\n", spec.l1tf_domus ? "page-table isolation (xpti=) is" : spec.isolate_domus ?
               "the checks against L1TF (pv-l1tf=) are" : "page-table isolation (xpti=) and the checks (pv-l1tf=) are");
    if (h->vendor == VENDOR_INTEL && !spec.verw && !feature_in(h->feat, X86_FEATURE_MDS_NO))
        printk(LOG_WARNING "This CPU does not say that MDS spares it, and %s\n",
               feature_in(h->feat, X86_FEATURE_MD_CLEAR) ? "the defence is off" : "its microcode has no defence");
}

static void override(struct guest_wishes *w, const struct guest_wishes *by)
{
    if (by->dom0 != SPEC_AUTO)
        w->dom0 = by->dom0;
    if (by->domus != SPEC_AUTO)
        w->domus = by->domus;
}

void spec_init(void)
{
    static const char *const thunk[] = { "retpoline", "lfence", "jmp" };
    static const char *const isolation[] = { "", ", page-table isolation of dom0", ", page-table isolation of domUs",
                                             ", page-table isolation" };
    static const char *const checks[] = { "", ", L1TF checks of dom0", ", L1TF checks of domUs", ", L1TF checks" };
    bool isolates;

    override(&wishes.xpti, &xpti);
    override(&wishes.l1tf, &l1tf);
    spec = spec_choose(&cpu_host, &wishes);
    isolates = spec.isolate_dom0 || spec.isolate_domus;
    if (spec.ibpb && wrmsr_safe(MSR_PRED_CMD, PRED_CMD_IBPB)) {
        spec.ibpb = false;
        printk(LOG_WARNING "spec-ctrl: the CPU has IBPB, but refuses it\n");
    }
    if (spec.thunk != THUNK_RETPOLINE)
        patch_thunks(spec.thunk == THUNK_LFENCE);
    if (isolates)
        isolation_init(spec.isolate_dom0, spec.isolate_domus);
    patch_entry(spec.verw, isolates);
    l1tf_addresses = ((1UL << cpu_host.phys_bits) - 1) & PTE_MFN_MASK;
    (void)cpuid(0, 0);      /* serialises: no old instruction is still in the pipeline (SDM vol. 3, self-modifying code) */
    printk(LOG_INFO "Speculation: thunk %s%s%s%s%s%s%s\n", thunk[spec.thunk], spec.ibrs ? ", IBRS" : "",
           spec.ibpb ? ", IBPB" : "", spec.rsb ? ", RSB" : "", spec.verw ? ", VERW" : "",
           isolation[spec.isolate_dom0 + 2 * spec.isolate_domus], checks[spec.l1tf_dom0 + 2 * spec.l1tf_domus]);
    warn_of_the_rest(&cpu_host);
}

u64 l1tf_addresses;

/* Below 4 GiB firmware has memory, too, that it does not tell of. */
u64 spec_l1tf_span(const struct domain *d)
{
    bool on = d->is_hardware ? spec.l1tf_dom0 : spec.l1tf_domus;

    return on && !d->arch.fmt->mirrored ? max(nr_frames << PAGE_SHIFT, 1UL << 32) - PAGE_SIZE : 0;
}

u32 spec_ctrl_ours(void) { return spec.ibrs ? SPEC_CTRL_IBRS : 0; }

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

void spec_switch_to(const struct vcpu *v)
{
    if (this_cpu(last_domain) == v->domain)
        return;
    this_cpu(last_domain) = v->domain;
    if (spec.ibpb)
        wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
    if (spec.rsb)
        overwrite_return_stack();
}

void spec_forget(const struct domain *d)
{
    for (unsigned cpu = 0; cpu < NR_CPUS; cpu++)
        if (cpu_var(last_domain, cpu) == d)
            cpu_var(last_domain, cpu) = NULL;
}

#endif
