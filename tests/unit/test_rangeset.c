/* Range sets against a plain array of bits, and at the ends of the number line. */
// SOURCES: common/rangeset.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <public/errno.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/rangeset.h>
#include <pvisor/spinlock.h>

void *calloc(size_t n, size_t size);   /* the host's stdlib.h clashes with lib.h */
void free(void *p);
int rand(void);
void srand(unsigned seed);

static bool no_memory;

void *xzalloc_bytes(size_t n) { return no_memory ? NULL : calloc(1, n); }
void xfree(void *p) { free(p); }
u64 spin_lock_irqsave(spinlock_t *l) { assert_int_equal(l->t.next++, 0); return 7; }
void spin_unlock_irqrestore(spinlock_t *l, u64 flags) { assert_int_equal(flags, 7); assert_int_equal(--l->t.next, 0); }

#define SPAN 200

static void check(const struct rangeset *r, const bool *bits)
{
    for (u64 first = 0; first < SPAN; first++) {
        bool all = true, any = false;

        for (u64 last = first; last < SPAN && last < first + 12; last++) {
            all &= bits[last];
            any |= bits[last];
            assert_int_equal(rangeset_contains(r, first, last), all);
            assert_int_equal(rangeset_overlaps(r, first, last), any);
        }
    }
}

static void follows_a_bitmap(void **state)
{
    struct rangeset *r = rangeset_new();
    bool bits[SPAN] = { false };

    (void)state;
    srand(42);
    for (int step = 0; step < 1500; step++) {
        u64 first = rand() % SPAN, last = min(first + rand() % 15, (u64)SPAN - 1);
        bool add = rand() % 2;

        assert_int_equal(add ? rangeset_add(r, first, last) : rangeset_remove(r, first, last), 0);
        for (u64 i = first; i <= last; i++)
            bits[i] = add;
        if (step % 10 == 0)
            check(r, bits);
    }
    check(r, bits);
    rangeset_free(r);
}

static void reaches_the_ends(void **state)
{
    struct rangeset *r = rangeset_new();

    (void)state;
    assert_int_equal(rangeset_add(r, 0, UINT64_MAX), 0);
    assert_true(rangeset_contains(r, 0, UINT64_MAX));
    assert_int_equal(rangeset_remove(r, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(rangeset_remove(r, 0, 0), 0);
    assert_false(rangeset_contains(r, UINT64_MAX, UINT64_MAX));
    assert_false(rangeset_contains(r, 0, 0));
    assert_true(rangeset_contains(r, 1, UINT64_MAX - 1));
    assert_int_equal(rangeset_add(r, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(rangeset_add(r, 0, 0), 0);
    assert_true(rangeset_contains(r, 0, UINT64_MAX));
    assert_int_equal(rangeset_remove(r, 0, UINT64_MAX), 0);
    for (unsigned i = 0; i < 64; i++) {
        assert_false(rangeset_contains(r, 1UL << i, 1UL << i));
        assert_false(rangeset_contains(r, ~(1UL << i), ~(1UL << i)));
    }
    assert_false(rangeset_contains(r, 0, 0));
    assert_false(rangeset_contains(r, UINT64_MAX, UINT64_MAX));
    rangeset_free(r);
}

static void refuses(void **state)
{
    struct rangeset *r = rangeset_new();

    (void)state;
    assert_int_equal(rangeset_add(r, 5, 4), -EINVAL);
    no_memory = true;
    assert_int_equal(rangeset_add(r, 4, 5), -ENOMEM);
    no_memory = false;
    assert_false(rangeset_contains(r, 4, 4));
    assert_false(rangeset_contains(NULL, 0, 0) || rangeset_overlaps(NULL, 0, 0));
    rangeset_free(r);
    rangeset_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_a_bitmap),
        cmocka_unit_test(reaches_the_ends),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
