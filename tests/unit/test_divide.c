/* The division of 64-bit numbers that 32-bit code calls, against this CPU's own. */
// SOURCES: tools/loader/divide.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/types.h>

u64 __udivmoddi4(u64 n, u64 d, u64 *rest);
u64 __udivdi3(u64 n, u64 d);
u64 __umoddi3(u64 n, u64 d);
s64 __divdi3(s64 n, s64 d);
s64 __moddi3(s64 n, s64 d);

/* Numbers at which a word is just full, empty or overflows. */
static const u64 numbers[] = {
    0, 1, 2, 3, 10, 16, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0x100000000, 0x100000001, 0x1ffffffff,
    0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xfffffffeffffffff, 0xffffffff00000000,
    0xfffffffffffffffe, 0xffffffffffffffff, 0x123456789abcdef0, 10000000000000000000u,
};

static void check(u64 n, u64 d)
{
    s64 sn = (s64)n, sd = (s64)d;
    u64 rest;

    assert_true(__udivmoddi4(n, d, &rest) == n / d && rest == n % d);
    assert_true(__udivmoddi4(n, d, NULL) == n / d);
    assert_true(__udivdi3(n, d) == n / d && __umoddi3(n, d) == n % d);
    if (sn == INT64_MIN && sd == -1)
        return;     /* has no result */
    assert_true(__divdi3(sn, sd) == sn / sd && __moddi3(sn, sd) == sn % sd);
}

static void edges(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
        for (unsigned j = 1; j < ARRAY_SIZE(numbers); j++)
            check(numbers[i], numbers[j]);
}

/* Of every length. */
static void many(void **state)
{
    u64 x = 88172645463325252u;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        u64 n, d;

        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        n = x >> (i % 64);
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        d = x >> (i / 64 % 64);
        if (d)
            check(n, d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(edges), cmocka_unit_test(many) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
