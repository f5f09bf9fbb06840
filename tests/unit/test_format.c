/* The log's formatter, checked against the host's printf, and the text helpers. */
// SOURCES: common/lib/format.c common/lib/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pvisor/lib.h>

int pv_snprintf(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define same_as_host(...) do {                                         \
        char want[200], got[200];                                      \
        int n = snprintf(want, sizeof(want), __VA_ARGS__);             \
        assert_int_equal(pv_snprintf(got, sizeof(got), __VA_ARGS__), n); \
        assert_string_equal(got, want);                                \
    } while (0)

static void formats_like_printf(void **state)
{
    (void)state;
    same_as_host("%d %i %u", -5, 7, 4000000000u);
    same_as_host("[%5d] [%-5d] [%05d] [%+d]", -42, -42, -42, 42);
    same_as_host("%x %X %#x %#lx %#x", 0xbeef, 0xbeef, 0xbeef, 0xffffffffffffffffUL, 0);
    same_as_host("[%#10x] [%-#10x] [%#010x] [%016lx]", 0x1f, 0x1f, 0x1f, 0x123456789abcUL);
    same_as_host("%ld %lu %lld %zu", INT64_MIN, UINT64_MAX, -1LL, (size_t)9);
    same_as_host("%hhu %hu %hd %hhd", (unsigned char)255, (unsigned short)65535, (short)-1, (signed char)-1);
    same_as_host("[%.3d] [%8.3d] [%-8.3d] [%.0d]", 7, 7, 7, 0);
    same_as_host("[%s] [%8s] [%-8s] [%.2s] [%*s] [%-*s] [%.*s]", "abc", "abc", "abc", "abc", 6, "x", 6, "y", 1, "zz");
    same_as_host("%c%c %%", 'o', 'k');
    same_as_host("%04x:%02x:%02x.%u", 0u, 0x1fu, 2u, 7u);
}

static void truncates_and_terminates(void **state)
{
    char buf[6] = "?????";

    (void)state;
    assert_int_equal(pv_snprintf(buf, sizeof(buf), "%s", "123456789"), 9);
    assert_string_equal(buf, "12345");
    assert_int_equal(pv_snprintf(NULL, 0, "%u", 12345u), 5);
    assert_int_equal(pv_snprintf(buf, 1, "abc"), 3);
    assert_string_equal(buf, "");
}

static void prints_pointers_in_full(void **state)
{
    char buf[32];

    (void)state;
    pv_snprintf(buf, sizeof(buf), "%p", (void *)0x1234);
    assert_string_equal(buf, "0000000000001234");
}

static void copies_text(void **state)
{
    char buf[6];

    (void)state;
    assert_int_equal(strlcpy(buf, "abcdefgh", sizeof(buf)), 8);
    assert_string_equal(buf, "abcde");
    assert_int_equal(strlcpy(buf, "ab", sizeof(buf)), 2);
    assert_int_equal(strlcat(buf, "cdef", sizeof(buf)), 6);
    assert_string_equal(buf, "abcde");
}

static void reads_numbers(void **state)
{
    const char *end;

    (void)state;
    assert_int_equal(strtoull("0x1fg", &end, 0), 0x1f);
    assert_string_equal(end, "g");
    assert_int_equal(strtoull("017", &end, 0), 15);
    assert_int_equal(strtoull("ff", &end, 16), 255);
    assert_int_equal(strtoull("zz", &end, 0), 0);
    assert_string_equal(end, "zz");
    assert_int_equal(strtoull("0x", &end, 0), 0);
    assert_string_equal(end, "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_like_printf),
        cmocka_unit_test(truncates_and_terminates),
        cmocka_unit_test(prints_pointers_in_full),
        cmocka_unit_test(copies_text),
        cmocka_unit_test(reads_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
