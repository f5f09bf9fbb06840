/* The frame allocator and small allocations: nothing is given out twice, and what is freed grows together again. */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c
// SOURCES: arch/x86/mm/heap.c arch/x86/mm/frames.c arch/x86/pt/dma.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/mm/xmalloc.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/lib.h>
#include "fake/fake.h"
#include "fake/frames.h"

static u64 seed = 88172645463325252UL;

static u64 random_below(u64 n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static int setup(void **state)
{
    (void)state;
    frames_reset();
    return 0;
}

/* Two zones with 2048 frames each: the largest blocks that there can be. */
static void expect_all_free(void)
{
    mfn_t low, high;

    assert_int_equal(heap_free_frames(), ARENA_NR);
    high = alloc_frames(11, MEMF_NO_ZERO);
    low = alloc_frames(11, MEMF_NO_ZERO);
    assert_int_equal(high.v, 1u << 20);
    assert_int_equal(low.v, ARENA_FIRST);
    free_frames(high, 11);
    free_frames(low, 11);
}

static void gives_what_it_has(void **state)
{
    u64 n = 0;

    (void)state;
    expect_all_free();
    assert_true(mfn_eq(alloc_frames(12, 0), INVALID_MFN));
    assert_true(mfn_eq(alloc_frames(40, 0), INVALID_MFN));
    while (!mfn_eq(alloc_frames(0, MEMF_NO_ZERO), INVALID_MFN))
        n++;
    assert_int_equal(n, ARENA_NR);
    assert_int_equal(heap_free_frames(), 0);
    for (u64 m = ARENA_FIRST; m < ARENA_END; m++)
        free_frames(mfn(m), 0);
    expect_all_free();
}

static void obeys_address_limits(void **state)
{
    u64 n = 0;
    mfn_t m;

    (void)state;
    while (!mfn_eq(m = alloc_frames(2, MEMF_LOW | MEMF_NO_ZERO), INVALID_MFN)) {
        assert_true(m.v + 4 <= 1u << 20);
        n += 4;
    }
    assert_int_equal(n, (1u << 20) - ARENA_FIRST);
    m = alloc_frames(0, MEMF_NO_ZERO);
    assert_true(m.v >= 1u << 20);
    assert_true(mfn_eq(alloc_frames(0, MEMF_BITS(31)), INVALID_MFN));
    assert_true(mfn_eq(alloc_frames(0, MEMF_BITS(1)), INVALID_MFN));
}

/* Low memory is for who can use no other. */
static void gives_high_memory_first(void **state)
{
    u64 last = ~0UL;

    (void)state;
    for (unsigned bits = 0; bits < 2; bits++) {
        mfn_t m = alloc_frames(0, MEMF_NO_ZERO | (bits ? MEMF_BITS(40) : 0));

        assert_true(m.v >= 1u << 20);
    }
    while (heap_free_frames()) {
        u64 m = alloc_frames(0, MEMF_NO_ZERO).v;

        assert_true(m >> 20 <= last >> 20);
        last = m;
    }
}

static void zeroes_frames(void **state)
{
    mfn_t m = alloc_frames(3, 0);

    (void)state;
    memset(frame_words(m), 0x5a, 8 * PAGE_SIZE);
    free_frames(m, 3);
    m = alloc_frames(3, 0);
    for (u64 i = 0; i < 8 * PAGE_SIZE / 8; i++)
        assert_int_equal(frame_words(m)[i], 0);
}

static void random_blocks(void **state)
{
    static struct { mfn_t m; unsigned order; } block[256];
    static u8 taken[ARENA_NR];
    unsigned nr = 0;

    (void)state;
    memset(taken, 0, sizeof(taken));
    for (unsigned i = 0; i < 20000; i++) {
        if (nr < ARRAY_SIZE(block) && random_below(2)) {
            unsigned order = (unsigned)random_below(7);
            mfn_t m = alloc_frames(order, MEMF_NO_ZERO | (random_below(4) ? 0 : MEMF_LOW));

            if (mfn_eq(m, INVALID_MFN))
                continue;
            assert_int_equal(m.v & ((1u << order) - 1), 0);
            for (u64 f = m.v; f < m.v + (1u << order); f++)
                assert_int_equal(taken[f - ARENA_FIRST]++, 0);
            block[nr].m = m;
            block[nr++].order = order;
        } else if (nr) {
            unsigned n = (unsigned)random_below(nr);

            for (u64 f = block[n].m.v; f < block[n].m.v + (1u << block[n].order); f++)
                taken[f - ARENA_FIRST] = 0;
            free_frames(block[n].m, block[n].order);
            block[n] = block[--nr];
        }
    }
    while (nr--)
        free_frames(block[nr].m, block[nr].order);
    expect_all_free();
}

/* Sizes around every class's border; contents stay, and come zeroed. */
static void small_allocations(void **state)
{
    static struct { u8 *p; size_t size; } block[200];
    unsigned nr = 0;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        if (nr < ARRAY_SIZE(block) && random_below(2)) {
            size_t base = 16UL << random_below(10), size = base + random_below(3) - 1;
            u8 *p = xzalloc_bytes(size);

            assert_non_null(p);
            assert_int_equal((u64)p % 8, 0);
            for (size_t j = 0; j < size; j++)
                assert_int_equal(p[j], 0);
            memset(p, (u8)size, size);
            block[nr].p = p;
            block[nr++].size = size;
        } else if (nr) {
            unsigned n = (unsigned)random_below(nr);

            for (size_t j = 0; j < block[n].size; j++)
                assert_int_equal(block[n].p[j], (u8)block[n].size);
            xfree(block[n].p);
            block[n] = block[--nr];
        }
    }
    while (nr--)
        xfree(block[nr].p);
    xfree(NULL);
    expect_all_free();
}

static void small_allocations_run_out(void **state)
{
    void *last = NULL, *p;

    (void)state;
    assert_null(xzalloc_bytes(64UL << 20));
    while ((p = xzalloc_bytes(2048))) {
        *(void **)p = last;
        last = p;
    }
    assert_int_equal(heap_free_frames(), 0);
    while (last) {
        p = *(void **)last;
        xfree(last);
        last = p;
    }
    expect_all_free();
}

/* What one domain has claimed the other does not get, and neither claims it again; the hypervisor itself may have all. */
static void claims_keep_others_out(void **state)
{
    struct domain *d = frames_domain(1, PT64), *other = frames_domain(2, PT64);
    u64 n = 0;

    (void)state;
    assert_true(heap_claim(&d->outstanding_pages, 1000));
    assert_false(heap_claim(&other->outstanding_pages, ARENA_NR - 999));
    assert_true(heap_claim(&other->outstanding_pages, ARENA_NR - 1000));
    assert_true(heap_claim(&other->outstanding_pages, 0));
    assert_int_equal(claimed_frames(), 1000);
    assert_true(mfn_eq(domain_alloc_frames(other, 12, MEMF_NO_ZERO), INVALID_MFN));
    while (!mfn_eq(domain_alloc_frames(other, 0, MEMF_NO_ZERO), INVALID_MFN))
        n++;
    assert_int_equal(n, ARENA_NR - 1000);
    assert_false(mfn_eq(alloc_frames(0, 0), INVALID_MFN));
    assert_false(mfn_eq(domain_alloc_frames(d, 9, MEMF_NO_ZERO), INVALID_MFN));
    assert_int_equal(claimed_frames(), 1000 - 512);
    assert_true(heap_claim(&d->outstanding_pages, 0));
    assert_int_equal(claimed_frames(), 0);
    assert_false(mfn_eq(domain_alloc_frames(other, 0, MEMF_NO_ZERO), INVALID_MFN));
    assert_true(frame_accounts_hold(d) && frame_accounts_hold(other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(gives_what_it_has, setup),
        cmocka_unit_test_setup(obeys_address_limits, setup),
        cmocka_unit_test_setup(gives_high_memory_first, setup),
        cmocka_unit_test_setup(zeroes_frames, setup),
        cmocka_unit_test_setup(random_blocks, setup),
        cmocka_unit_test_setup(small_allocations, setup),
        cmocka_unit_test_setup(small_allocations_run_out, setup),
        cmocka_unit_test_setup(claims_keep_others_out, setup),
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
