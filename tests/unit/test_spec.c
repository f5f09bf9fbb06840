/* Which defences against speculative execution a CPU gets, and what spec-ctrl= makes of it. */
// SOURCES: arch/x86/cpu/errata.c arch/x86/cpu/spec_choose.c arch/x86/cpu/spec_options.c
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <asm/features.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <pvisor/cmdline.h>
#include <string.h>

int rdmsr_safe(u32 msr, u64 *v) { return (void)msr, (void)v, -1; }
int wrmsr_safe(u32 msr, u64 v) { return (void)msr, (void)v, -1; }
void printk(const char *fmt, ...) { (void)fmt; }
int cmdline_list(const char *value, int (*parse)(void *to, const char *word, size_t len), void *to)
{
    (void)value, (void)parse, (void)to;
    return 0;
}

static void give(struct cpu_host *h, enum x86_feature f) { h->feat[f / 32] |= 1u << f % 32; }

static struct cpu_host cpu(enum cpu_vendor vendor)
{
    struct cpu_host h = { .vendor = vendor };

    return h;
}

static int parse(struct spec_wishes *w, const char *word) { return spec_parse_word(w, word, strlen(word)); }

static const struct spec_wishes automatic;

static void an_old_cpu_gets_what_needs_no_microcode(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec s = spec_choose(&h, &automatic);

    (void)state;
    assert_int_equal(s.thunk, THUNK_RETPOLINE);
    assert_true(s.rsb);
    assert_false(s.ibrs || s.ibpb || s.verw);
}

static void microcode_brings_barrier_and_clearing(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec s;

    (void)state;
    give(&h, X86_FEATURE_IBRSB);
    give(&h, X86_FEATURE_MD_CLEAR);
    s = spec_choose(&h, &automatic);
    assert_true(s.ibpb && s.verw && s.rsb);
    assert_false(s.ibrs);
}

static void a_cpu_that_says_it_is_spared_is_spared(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec s;

    (void)state;
    give(&h, X86_FEATURE_IBRSB);
    give(&h, X86_FEATURE_MD_CLEAR);
    give(&h, X86_FEATURE_MDS_NO);
    give(&h, X86_FEATURE_EIBRS);
    s = spec_choose(&h, &automatic);
    assert_false(s.verw);
    assert_true(s.ibrs && s.ibpb);
    assert_int_equal(s.thunk, THUNK_RETPOLINE);
}

/* AMD's bit of the same place as Intel's says nothing about MSR_SPEC_CTRL there. */
static void amd_has_its_own_bits(void **state)
{
    struct cpu_host h = cpu(VENDOR_AMD);
    struct spec s;

    (void)state;
    give(&h, X86_FEATURE_MD_CLEAR);
    s = spec_choose(&h, &automatic);
    assert_false(s.ibpb || s.verw || s.ibrs);
    give(&h, X86_FEATURE_IBPB);
    assert_true(spec_choose(&h, &automatic).ibpb);
}

/* What MDS spares may still show its buffers otherwise: by aborted transactions (TAA), or by its register files (RFDS). */
static void other_ways_to_the_buffers(void **state)
{
    struct cpu_host taa = cpu(VENDOR_INTEL), rfds = taa;

    (void)state;
    give(&taa, X86_FEATURE_MD_CLEAR);
    give(&taa, X86_FEATURE_MDS_NO);
    assert_false(spec_choose(&taa, &automatic).verw);
    give(&taa, X86_FEATURE_RTM);
    assert_true(spec_choose(&taa, &automatic).verw);
    give(&taa, X86_FEATURE_TAA_NO);
    assert_false(spec_choose(&taa, &automatic).verw);
    give(&rfds, X86_FEATURE_MDS_NO);
    give(&rfds, X86_FEATURE_RFDS_CLEAR);
    assert_true(spec_choose(&rfds, &automatic).verw);
}

/* AMD's transient scheduler attacks: microcode gives VERW its meaning, and later CPUs say that they are spared both. */
static void amd_has_buffers_too(void **state)
{
    struct cpu_host h = cpu(VENDOR_AMD);

    (void)state;
    assert_false(spec_choose(&h, &automatic).verw);
    give(&h, X86_FEATURE_VERW_CLEAR);
    assert_true(spec_choose(&h, &automatic).verw);
    give(&h, X86_FEATURE_TSA_SQ_NO);
    assert_true(spec_choose(&h, &automatic).verw);
    give(&h, X86_FEATURE_TSA_L1_NO);
    assert_false(spec_choose(&h, &automatic).verw);
}

/* What eIBRS and retpolines leave: each has a control of its own, in a register that must be there. */
static void histories_and_returns_have_controls(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec_wishes w = { 0 };

    (void)state;
    give(&h, X86_FEATURE_BHI_CTRL);
    give(&h, X86_FEATURE_RRSBA_CTRL);
    assert_false(spec_choose(&h, &w).bhi || spec_choose(&h, &w).rrsba);
    give(&h, X86_FEATURE_IBRSB);
    assert_true(spec_choose(&h, &w).bhi && spec_choose(&h, &w).rrsba);
    assert_int_equal(parse(&w, "no-bhi-dis-s"), 0);
    assert_int_equal(parse(&w, "bti-thunk=lfence"), 0);
    assert_false(spec_choose(&h, &w).bhi || spec_choose(&h, &w).rrsba);
}

static void zen_1_has_its_divider_overwritten(void **state)
{
    static const struct { u8 family, model; bool div; } cases[] = {
        { 0x17, 0x01, true }, { 0x17, 0x20, true }, { 0x17, 0x31, false }, { 0x17, 0x50, true },
        { 0x18, 0x00, true }, { 0x19, 0x01, false },
        { 0x15, 0x01, false },
    };
    struct spec_wishes w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cpu_host h = cpu(VENDOR_AMD);

        h.family = cases[i].family;
        h.model = cases[i].model;
        assert_int_equal(spec_choose(&h, &automatic).div, cases[i].div);
        assert_int_equal(parse(&w, "no-div-scrub"), 0);
        assert_false(spec_choose(&h, &w).div);
    }
}

/* Whether it is named among what nothing stops. */
static bool is_open(const struct cpu_host *h, const char *what)
{
    const char *name;

    for (unsigned next = 0; (name = spec_left_open(h, &next));)
        if (strstr(name, what))
            return true;
    return false;
}

/* What there is no defence for has its CPUs by number, and a bit by which others say that they are spared. */
static void what_is_left_open_is_named(void **state)
{
    static const struct {
        enum cpu_vendor vendor;
        u8 family, model;
        bool eibrs;
        const char *what;
        bool has;
        enum x86_feature spared;
    } cases[] = {
        { VENDOR_AMD, 0x17, 0x31, false, "Retbleed", true, X86_FEATURE_BTC_NO },
        { VENDOR_AMD, 0x15, 0x02, false, "Retbleed", true, X86_FEATURE_BTC_NO },
        { VENDOR_AMD, 0x18, 0x00, false, "Retbleed", true, X86_FEATURE_BTC_NO },
        { VENDOR_AMD, 0x19, 0x01, false, "Retbleed", false, X86_FEATURE_BTC_NO },
        { VENDOR_AMD, 0x10, 0x02, false, "Retbleed", false, X86_FEATURE_BTC_NO },
        { VENDOR_INTEL, 6, 0x5e, false, "Retbleed", true, X86_FEATURE_EIBRS },
        { VENDOR_INTEL, 6, 0x3c, false, "Retbleed", false, X86_FEATURE_EIBRS },
        { VENDOR_AMD, 0x19, 0x61, false, "Inception", true, X86_FEATURE_SRSO_NO },
        { VENDOR_AMD, 0x17, 0x01, false, "Inception", true, X86_FEATURE_SRSO_NO },
        { VENDOR_AMD, 0x1a, 0x02, false, "Inception", false, X86_FEATURE_SRSO_NO },
        { VENDOR_INTEL, 6, 0x6a, true, "target selection", true, X86_FEATURE_ITS_NO },
        { VENDOR_INTEL, 6, 0xa7, true, "target selection", true, X86_FEATURE_ITS_NO },
        { VENDOR_INTEL, 6, 0x8f, true, "target selection", false, X86_FEATURE_ITS_NO },
        { VENDOR_INTEL, 6, 0x5e, false, "target selection", false, X86_FEATURE_ITS_NO },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cpu_host h = { .vendor = cases[i].vendor, .family = cases[i].family, .model = cases[i].model };

        if (cases[i].eibrs)
            give(&h, X86_FEATURE_EIBRS);
        assert_int_equal(is_open(&h, cases[i].what), cases[i].has);
        give(&h, cases[i].spared);
        assert_false(is_open(&h, cases[i].what));
    }
}

static void spared_by_age_and_model(void **state)
{
    enum { GDS = 1, RFDS = 2, ITS = 4 };
    enum { AVX = 1, EIBRS = 2, VIRTUAL = 4, GDS_CTRL = 8, MENDED = 16, RFDS_CLEAR = 32 };
    static const struct { u8 vendor, model, has, spared; } cases[] = {
        { VENDOR_INTEL, 0x1a, 0, GDS | RFDS | ITS },                        /* Nehalem */
        { VENDOR_INTEL, 0x1a, VIRTUAL, GDS | ITS },                         /* ... perhaps */
        { VENDOR_INTEL, 0x3c, AVX, GDS | RFDS | ITS },                      /* Haswell */
        { VENDOR_INTEL, 0x4f, AVX, GDS | RFDS | ITS },                      /* Broadwell */
        { VENDOR_INTEL, 0x3a, AVX | VIRTUAL, ITS },                         /* Ivy Bridge, perhaps */
        { VENDOR_INTEL, 0x55, AVX, RFDS | ITS },                            /* Skylake's server */
        { VENDOR_INTEL, 0x55, AVX | GDS_CTRL, RFDS | ITS },
        { VENDOR_INTEL, 0x55, AVX | GDS_CTRL | MENDED, GDS | RFDS | ITS },
        { VENDOR_INTEL, 0x6a, AVX | EIBRS, RFDS },                          /* Ice Lake */
        { VENDOR_INTEL, 0x5c, 0, GDS | ITS },                               /* Goldmont */
        { VENDOR_INTEL, 0x97, AVX | EIBRS, GDS | ITS },                     /* Alder Lake */
        { VENDOR_INTEL, 0x3c, AVX | RFDS_CLEAR, GDS | ITS },
        { VENDOR_AMD, 0x01, 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        static const unsigned features[] = { X86_FEATURE_AVX, X86_FEATURE_EIBRS, X86_FEATURE_HYPERVISOR, X86_FEATURE_GDS_CTRL, 0,
                                             X86_FEATURE_RFDS_CLEAR };
        struct cpu_host h = { .vendor = cases[i].vendor, .family = 6, .model = cases[i].model };
        u64 expected = (cases[i].spared & GDS ? 1UL << 26 : 0) | (cases[i].spared & RFDS ? 1UL << 27 : 0) |
                       (cases[i].spared & ITS ? 1UL << 62 : 0);

        for (unsigned n = 0; n < sizeof(features) / sizeof(features[0]); n++)
            if (cases[i].has >> n & 1 && features[n])
                give(&h, features[n]);
        assert_int_equal(spec_spared(&h, cases[i].has & MENDED), expected);
    }
}

static void locks_have_fences(void **state)
{
    struct cpu_host h = cpu(VENDOR_OTHER);
    struct spec_wishes w = { 0 };

    (void)state;
    assert_true(spec_choose(&h, &w).lock);
    assert_int_equal(parse(&w, "no-lock-harden"), 0);
    assert_false(spec_choose(&h, &w).lock);
    assert_int_equal(parse(&w, "lock-harden=on"), 0);
    assert_true(spec_choose(&h, &w).lock);
    assert_int_equal(parse(&w, "no"), 0);
    assert_false(spec_choose(&h, &w).lock);
}

static void no_turns_all_off(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec_wishes w = { 0 };
    struct spec s;

    (void)state;
    give(&h, X86_FEATURE_IBRSB);
    give(&h, X86_FEATURE_MD_CLEAR);
    give(&h, X86_FEATURE_EIBRS);
    assert_int_equal(parse(&w, "no"), 0);
    s = spec_choose(&h, &w);
    assert_int_equal(s.thunk, THUNK_JMP);
    assert_false(s.ibrs || s.ibpb || s.rsb || s.verw);
    assert_int_equal(parse(&w, "ibpb"), 0);
    assert_true(spec_choose(&h, &w).ibpb);
    assert_int_equal(parse(&w, "on"), 0);
    assert_true(spec_choose(&h, &w).verw);
}

static void an_intel_cpu_is_isolated_unless_it_is_spared(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL), amd = cpu(VENDOR_AMD);
    struct spec_wishes w = { 0 };

    (void)state;
    assert_true(spec_choose(&h, &w).isolate_dom0 && spec_choose(&h, &w).isolate_domus);
    assert_false(spec_choose(&amd, &w).isolate_dom0 || spec_choose(&amd, &w).isolate_domus);
    assert_int_equal(parse(&w, "no"), 0);
    assert_false(spec_choose(&h, &w).isolate_dom0 || spec_choose(&h, &w).isolate_domus);
    assert_int_equal(parse(&w, "yes"), 0);
    assert_true(spec_choose(&h, &w).isolate_dom0 && spec_choose(&h, &w).isolate_domus);
    give(&h, X86_FEATURE_RDCL_NO);
    assert_false(spec_choose(&h, &w).isolate_dom0 || spec_choose(&h, &w).isolate_domus);
}

static void a_cpu_with_l1tf_checks_domus(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL), amd = cpu(VENDOR_AMD);
    struct spec_wishes w = { 0 };

    (void)state;
    assert_true(spec_choose(&h, &w).l1tf_domus && !spec_choose(&h, &w).l1tf_dom0);
    assert_false(spec_choose(&amd, &w).l1tf_domus || spec_choose(&amd, &w).l1tf_dom0);
    assert_int_equal(parse(&w, "no"), 0);
    assert_false(spec_choose(&h, &w).l1tf_domus);
    assert_int_equal(parse(&w, "yes"), 0);
    assert_true(spec_choose(&h, &w).l1tf_domus);
    w.l1tf.dom0 = SPEC_ON;
    assert_true(spec_choose(&h, &w).l1tf_dom0);
    give(&h, X86_FEATURE_RDCL_NO);
    assert_false(spec_choose(&h, &w).l1tf_domus);
}

static int parse_guests(struct guest_wishes *w, const char *word) { return guests_parse_word(w, word, strlen(word)); }

static void a_word_names_dom0_and_domus(void **state)
{
    static const char *const bad[] = { "", "dom0", "dom0=", "domu=maybe", "dom1=no", "defaul", "nope" };
    struct guest_wishes w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(parse_guests(&w, bad[i]), 0);
    assert_true(w.dom0 == SPEC_AUTO && w.domus == SPEC_AUTO);
    assert_int_equal(parse_guests(&w, "no"), 0);
    assert_int_equal(parse_guests(&w, "domu=yes"), 0);
    assert_true(w.dom0 == SPEC_OFF && w.domus == SPEC_ON);
    assert_int_equal(parse_guests(&w, "true"), 0);
    assert_int_equal(parse_guests(&w, "dom0=off"), 0);
    assert_true(w.dom0 == SPEC_OFF && w.domus == SPEC_ON);
    assert_int_equal(parse_guests(&w, "default"), 0);
    assert_true(w.dom0 == SPEC_AUTO && w.domus == SPEC_AUTO);
}

static void words_act_alone(void **state)
{
    struct cpu_host h = cpu(VENDOR_OTHER);
    struct spec_wishes w = { 0 };

    (void)state;
    assert_int_equal(parse(&w, "bti-thunk=lfence"), 0);
    assert_int_equal(spec_choose(&h, &w).thunk, THUNK_LFENCE);
    assert_int_equal(parse(&w, "bti-thunk=retpoline"), 0);
    assert_int_equal(spec_choose(&h, &w).thunk, THUNK_RETPOLINE);
    assert_int_equal(parse(&w, "no-bti-thunk"), 0);
    assert_int_equal(spec_choose(&h, &w).thunk, THUNK_JMP);
    assert_int_equal(parse(&w, "ibpb=no"), 0);
    assert_int_equal(w.ibpb, SPEC_OFF);
    assert_int_equal(parse(&w, "verw=on"), 0);
    assert_int_equal(w.verw, SPEC_ON);
    /* Xen's words for what there is not stand in the way of no others. */
    assert_int_equal(parse(&w, "gds-mit=no"), 0);
    assert_int_equal(parse(&w, "no-branch-harden"), 0);
    assert_int_equal(parse(&w, "bhb-seq=long"), 0);
    assert_int_equal(parse(&w, "md-clear"), 0);
    assert_true(spec_choose(&h, &w).verw);
    assert_int_equal(parse(&w, "no-rsb"), 0);
    assert_false(spec_choose(&h, &w).rsb);
}

/* Wishes for what needs an MSR that is not there are not fulfilled: it would fault. */
static void a_missing_msr_is_not_used(void **state)
{
    struct cpu_host h = cpu(VENDOR_INTEL);
    struct spec_wishes w = { 0 };
    struct spec s;

    (void)state;
    assert_int_equal(parse(&w, "ibpb"), 0);
    assert_int_equal(parse(&w, "ibrs"), 0);
    s = spec_choose(&h, &w);
    assert_false(s.ibpb || s.ibrs);
}

static void unknown_words_are_refused(void **state)
{
    static const char *const bad[] = { "", "n", "nope", "no-", "no-no", "bti-thunk=", "bti-thunk=jm", "ibpbx", "md-clea", "no-bti" };
    struct spec_wishes w = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_not_equal(parse(&w, bad[i]), 0);
    assert_memory_equal(&w, &automatic, sizeof(w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_cpu_gets_what_needs_no_microcode),
        cmocka_unit_test(microcode_brings_barrier_and_clearing),
        cmocka_unit_test(a_cpu_that_says_it_is_spared_is_spared),
        cmocka_unit_test(amd_has_its_own_bits),
        cmocka_unit_test(other_ways_to_the_buffers),
        cmocka_unit_test(amd_has_buffers_too),
        cmocka_unit_test(histories_and_returns_have_controls),
        cmocka_unit_test(zen_1_has_its_divider_overwritten),
        cmocka_unit_test(what_is_left_open_is_named),
        cmocka_unit_test(spared_by_age_and_model),
        cmocka_unit_test(locks_have_fences),
        cmocka_unit_test(no_turns_all_off),
        cmocka_unit_test(an_intel_cpu_is_isolated_unless_it_is_spared),
        cmocka_unit_test(a_cpu_with_l1tf_checks_domus),
        cmocka_unit_test(a_word_names_dom0_and_domus),
        cmocka_unit_test(words_act_alone),
        cmocka_unit_test(a_missing_msr_is_not_used),
        cmocka_unit_test(unknown_words_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
