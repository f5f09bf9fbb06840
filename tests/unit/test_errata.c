/* Which CPUs have errata by which a guest can hang them. */
// SOURCES: arch/x86/cpu/errata.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/features.h>

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

static void zen_2_is_mended(void **state)
{
    static const struct { u8 model; bool has; } cases[] = {
        { 0x01, false }, { 0x2f, false }, { 0x31, true }, { 0x47, true }, { 0x50, false }, { 0x71, true }, { 0x90, true }, { 0x92, false },
        { 0xa0, true }, { 0xb0, false },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct cpu_host h = cpu(VENDOR_AMD, 0x17, cases[i].model), newer = cpu(VENDOR_AMD, 0x19, cases[i].model);

        assert_int_equal(erratum_zenbleed(&h), cases[i].has);
        assert_false(erratum_zenbleed(&newer));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_amd_cpus_run_no_64_bit_domus),
        cmocka_unit_test(where_hle_is_on_a_mib_is_bad),
        cmocka_unit_test(zen_2_is_mended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
