/* Control calls on a domain's memory: who is told of what kind its frames are, and with what number a domain gets which page tables. */
// SOURCES: common/control/memory.c common/abi.c tests/unit/fake/machine.c arch/x86/pt/format.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <asm/mm.h>
#include <asm/pv.h>
#include <common/control/internal.h>
#include <public/pvisor.h>
#include "fake/fake.h"

#define FRAMES 3u

static struct domain *dom;
static gva_t array;
static u64 *word;
static mfn_t frame[FRAMES];
static u32 size_set;

unsigned frame_type_get(mfn_t m, bool *pinned)
{
    *pinned = mfn_eq(m, frame[1]);
    return mfn_eq(m, frame[1]) ? FT_L2 : mfn_eq(m, frame[2]) ? FT_L1 : FT_WRITABLE;
}

void arch_init_hypercall_page(struct domain *d, void *page) { (void)d, (void)page; }
int arch_domain_set_address_size(struct domain *d, u32 size) { (void)d; size_set = size; return 0; }

static int fresh(void **state)
{
    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    dom = fake_domain(2, ABI_32, 1, false);
    array = fake_guest_alloc((FRAMES + 1) * sizeof(u64));
    word = fake_guest(array);
    for (unsigned i = 0; i < FRAMES; i++)
        frame[i] = fake_frame_of(dom);
    return 0;
}

/* Of three frames of the domain's and one that is not. */
static s64 ask(enum pt_format_id format, u64 num)
{
    struct xen_domctl op = { .u.getpageframeinfo3 = { .num = num, .array = array.v } };

    dom->arch.fmt = &pt_formats[format];
    for (unsigned i = 0; i < FRAMES; i++)
        word[i] = frame[i].v;
    word[FRAMES] = ~0ULL;
    return dc_getpageframeinfo3(dom, &op, gva(0));
}

static void expect_kinds(void)
{
    assert_int_equal(word[0], XEN_DOMCTL_PFINFO_NOTAB);
    assert_int_equal(word[1], XEN_DOMCTL_PFINFO_L2TAB | XEN_DOMCTL_PFINFO_LPINTAB);
    assert_int_equal(word[2], XEN_DOMCTL_PFINFO_L1TAB);
    assert_int_equal(word[3], XEN_DOMCTL_PFINFO_XTAB);
}

static void everybody_is_told_of_tables_of_8_byte_entries(void **state)
{
    (void)state;
    assert_int_equal(ask(PT64, FRAMES + 1), 0);
    expect_kinds();
    assert_int_equal(ask(PT32P, FRAMES + 1), 0);
    expect_kinds();
}

static void who_does_not_know_non_pae_tables_is_told_of_none(void **state)
{
    (void)state;
    assert_int_equal(ask(PT32, FRAMES + 1), -EOPNOTSUPP);
    assert_int_equal(ask(PT32, 0), -EOPNOTSUPP);
    assert_int_equal(word[0], frame[0].v);
}

static void who_does_is_told_of_these_alone(void **state)
{
    (void)state;
    assert_int_equal(ask(PT32, PVISOR_PFINFO_NONPAE | (FRAMES + 1)), 0);
    expect_kinds();
    assert_int_equal(ask(PT32, PVISOR_PFINFO_NONPAE), 0);
    assert_int_equal(word[0], frame[0].v);
    for (unsigned f = PT64; f <= PT32P; f++) {
        assert_int_equal(ask(f, PVISOR_PFINFO_NONPAE), -EOPNOTSUPP);
        assert_int_equal(ask(f, PVISOR_PFINFO_NONPAE | 1), -EOPNOTSUPP);
        assert_int_equal(word[0], frame[0].v);
    }
}

static void too_many_frames_are_too_many_however_they_are_asked_for(void **state)
{
    (void)state;
    assert_int_equal(ask(PT64, 1025), -E2BIG);
    assert_int_equal(ask(PT32, PVISOR_PFINFO_NONPAE | 1025), -E2BIG);
    assert_int_equal(ask(PT32, ~0ULL), -E2BIG);
    assert_int_equal(ask(PT64, ~PVISOR_PFINFO_NONPAE), -E2BIG);
}

static void a_non_pae_domain_says_32(void **state)
{
    struct xen_domctl op = { .u.address_size.size = PVISOR_ADDRESS_SIZE_NONPAE };

    (void)state;
    assert_int_equal(dc_set_address_size(dom, &op, gva(0)), 0);
    assert_int_equal(size_set, PVISOR_ADDRESS_SIZE_NONPAE);
    dom->arch.fmt = &pt_formats[PT32];
    assert_int_equal(dc_get_address_size(dom, &op, gva(0)), 0);
    assert_int_equal(op.u.address_size.size, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everybody_is_told_of_tables_of_8_byte_entries, fresh),
        cmocka_unit_test_setup(who_does_not_know_non_pae_tables_is_told_of_none, fresh),
        cmocka_unit_test_setup(who_does_is_told_of_these_alone, fresh),
        cmocka_unit_test_setup(too_many_frames_are_too_many_however_they_are_asked_for, fresh),
        cmocka_unit_test_setup(a_non_pae_domain_says_32, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
