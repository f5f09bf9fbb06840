/* Which CPUs have errata by which a guest can hang them, or see what is not its own; and what is set in them. */
// SOURCES: arch/x86/cpu/errata.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/features.h>
#include <asm/x86.h>

static struct cpu_host cpu(enum cpu_vendor vendor, u8 family, u8 model)
{
    struct cpu_host h = { .vendor = vendor, .family = family, .model = model };

    return h;
}

static void old_amd_cpus_run_no_64_bit_domus(void **state)
{
    static const struct { enum cpu_vendor vendor; u8 family, model; bool hangs; } cases[] = {
        { VENDOR_AMD, 0xf, 0x05, true }, { VENDOR_AMD, 0xf, 0x3f, true }, { VENDOR_AMD, 0xf, 0x40, false },
        { VENDOR_AMD, 0x10, 0x02, false }, { VENDOR_INTEL, 0xf, 0x04, false }, { VENDOR_OTHER, 0xf, 0x05, false },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cpu_host h = cpu(cases[i].vendor, cases[i].family, cases[i].model);

        assert_int_equal(erratum_code_at_end_of_half(&h), cases[i].hangs);
    }
}

static void where_hle_is_on_a_mib_is_bad(void **state)
{
    static const u8 bad[] = { 0x4e, 0x5e, 0x55, 0x8e, 0x9e }, good[] = { 0x3c, 0x3f, 0x4f, 0x6a, 0xa5 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct cpu_host h = cpu(VENDOR_INTEL, 6, bad[i]), g = cpu(VENDOR_INTEL, 6, good[i]);

        assert_false(erratum_hle_at_1g(&h));
        h.feat[X86_FEATURE_HLE / 32] = g.feat[X86_FEATURE_HLE / 32] = 1u << X86_FEATURE_HLE % 32;
        assert_true(erratum_hle_at_1g(&h));
        assert_false(erratum_hle_at_1g(&g));
        h.vendor = VENDOR_AMD;
        assert_false(erratum_hle_at_1g(&h));
    }
}

/* --- Registers that can be set --- */

static struct { u32 msr; u64 value; bool there, fixed; } msrs[3];
static unsigned writes;

int rdmsr_safe(u32 msr, u64 *v)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        if (msrs[i].there && msrs[i].msr == msr)
            return *v = msrs[i].value, 0;
    return -1;
}

int wrmsr_safe(u32 msr, u64 v)
{
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
        if (msrs[i].there && msrs[i].msr == msr)
            return msrs[i].fixed ? -1 : (writes++, msrs[i].value = v, 0);
    return -1;
}

#define DE_CFG 0xc0011029
#define FP_CFG 0xc0011028
#define BP_CFG 0xc001102e
#define KEPT   0x100000000UL    /* another bit of theirs */

static void cure(struct cpu_host h, bool there, bool fixed)
{
    static const u32 names[] = { DE_CFG, FP_CFG, BP_CFG };

    writes = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        msrs[i].msr = names[i];
        msrs[i].value = KEPT;
        msrs[i].there = there;
        msrs[i].fixed = fixed;
    }
    cure_errata(&h);
}

static u64 set_in(unsigned i) { return msrs[i].value & ~KEPT; }

static void amd_cpus_are_cured(void **state)
{
    static const struct { u8 family, model; u64 de, fp, bp; } cases[] = {
        { 0x0f, 0x05, 0, 0, 0 }, { 0x11, 0x03, 0, 0, 0 }, { 0x15, 0x02, 2, 0, 0 }, { 0x17, 0x01, 2, 0x200, 0 }, { 0x17, 0x2f, 2, 0x200, 0 },
        { 0x17, 0x31, 0x202, 0, 1UL << 33 }, { 0x17, 0x47, 0x202, 0, 1UL << 33 }, { 0x17, 0x50, 2, 0x200, 0 },
        { 0x17, 0x71, 0x202, 0, 1UL << 33 }, { 0x17, 0x90, 0x202, 0, 1UL << 33 }, { 0x17, 0x92, 2, 0, 0 },
        { 0x17, 0xa0, 0x202, 0, 1UL << 33 }, { 0x17, 0xb0, 2, 0, 0 }, { 0x18, 0x01, 2, 0, 0 }, { 0x19, 0x31, 2, 0, 0 },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        cure(cpu(VENDOR_AMD, cases[i].family, cases[i].model), true, false);
        assert_int_equal(set_in(0), cases[i].de);
        assert_int_equal(set_in(1), cases[i].fp);
        assert_int_equal(set_in(2), cases[i].bp);
        for (unsigned n = 0; n < ARRAY_SIZE(msrs); n++)
            assert_true(msrs[n].value & KEPT);
    }
    cure(cpu(VENDOR_INTEL, 0x17, 0x31), true, false);
    assert_int_equal(writes, 0);
}

/* Guests are told so only where it is so. */
static void lfence_is_said_to_wait_if_it_does(void **state)
{
    struct cpu_host old = cpu(VENDOR_AMD, 0x0f, 0x05), zen_2 = cpu(VENDOR_AMD, 0x17, 0x31);

    (void)state;
    cure(old, false, false);
    assert_true(amd_lfence_waits(&old));
    assert_false(amd_lfence_waits(&zen_2));
    cure(zen_2, true, true);
    assert_false(amd_lfence_waits(&zen_2));
    cure(zen_2, true, false);
    assert_true(amd_lfence_waits(&zen_2));
}

/* Below another hypervisor registers may be missing, or refuse; and what is set already is not written. */
static void what_cannot_be_cured_is_left(void **state)
{
    (void)state;
    cure(cpu(VENDOR_AMD, 0x17, 0x31), false, false);
    cure(cpu(VENDOR_AMD, 0x17, 0x31), true, true);
    assert_int_equal(set_in(0), 0);
    cure(cpu(VENDOR_AMD, 0x17, 0x31), true, false);
    assert_int_equal(writes, 3);
    writes = 0;
    cure_errata(&(struct cpu_host){ .vendor = VENDOR_AMD, .family = 0x17, .model = 0x31 });
    assert_int_equal(writes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_amd_cpus_run_no_64_bit_domus),
        cmocka_unit_test(where_hle_is_on_a_mib_is_bad),
        cmocka_unit_test(amd_cpus_are_cured),
        cmocka_unit_test(lfence_is_said_to_wait_if_it_does),
        cmocka_unit_test(what_cannot_be_cured_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
