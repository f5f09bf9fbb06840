/* What a call reads of a guest's twice is told, with both places; what it may read again is not. */
// SOURCES: tests/unit/fake/machine.c common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include "fake/fake.h"

static char told[512];
static jmp_buf ended;

void panic(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(told, sizeof(told), fmt, args);
    va_end(args);
    longjmp(ended, 1);
}

static gva_t arg;

static int setup(void **state)
{
    (void)state;
    fake_reset();
    fake_run(fake_domain(1, ABI_64, 1, false), 0);
    arg = fake_guest_alloc(PAGE_SIZE);
    told[0] = '\0';
    return 0;
}

static s64 call(s64 (*fn)(u64, u64, u64, u64, u64, u64))
{
    if (!setjmp(ended))
        return fake_hypercall(fn, 0, 0, 0);
    fetch_end();
    return -1;
}

static u32 at(u64 offset)
{
    u32 v;

    assert_int_equal(copy_from_guest(&v, gva_add(arg, offset), sizeof(v)), 0);
    return v;
}

/* Checked, and then used: another vCPU had all the time between. */
static s64 reads_twice(u64, u64, u64, u64, u64, u64) { return at(8) < 100 ? (s64)at(8) : -1; }
static s64 reads_once(u64, u64, u64, u64, u64, u64) { return at(0) + at(4) + at(12) + at(8); }

static s64 reads_a_byte_of_it(u64, u64, u64, u64, u64, u64)
{
    u8 byte;

    return at(8) + (u32)copy_from_guest(&byte, gva_add(arg, 11), 1);
}

/* By a pointer of ours, as a page that is shared has it too. */
static s64 reads_by_another_name(u64, u64, u64, u64, u64, u64) { return at(8) + read_shared(*(u32 *)fake_guest(gva_add(arg, 8))); }

static s64 reads_again(u64, u64, u64, u64, u64, u64)
{
    u32 *word = fake_guest(arg);

    return read_shared(*word) + read_shared_again(*word);
}

static s64 has_parts(u64, u64, u64, u64, u64, u64)
{
    u32 mark = fetch_mark();

    for (unsigned i = 0; i < 3; i++, fetch_forget(mark))
        (void)at(8);
    return 0;
}

static s64 parts_know_what_was_before(u64, u64, u64, u64, u64, u64)
{
    u32 mark;

    (void)at(4);
    mark = fetch_mark();
    (void)at(8);
    fetch_forget(mark);
    return at(4);
}

static s64 reads_much(u64, u64, u64, u64, u64, u64)
{
    for (u64 i = 0; i < PAGE_SIZE; i += 4)
        (void)at(i);
    return at(PAGE_SIZE - 4);
}

/* The word at 0 says where the one is that counts, as a structure's pointer does. */
static s64 follows_a_pointer(u64, u64, u64, u64, u64, u64)
{
    u64 to;
    u32 v;

    assert_int_equal(copy_from_guest(&to, arg, sizeof(to)), 0);
    assert_int_equal(copy_from_guest(&v, gva(to), sizeof(v)), 0);
    return v;
}

static s64 gives_way(u64, u64, u64, u64, u64, u64) { return at(8) ? 0 : (*(u32 *)fake_guest(gva_add(arg, 8)) = 1, -ERESTART_HYPERCALL); }

static void a_second_read_is_told(void **state)
{
    (void)state;
    call(reads_twice);
    assert_non_null(strstr(told, "double fetch"));
    assert_non_null(strstr(told, "4 bytes"));
    assert_non_null(strstr(told, "and again by"));
}

static void of_a_part_too(void **state)
{
    (void)state;
    call(reads_a_byte_of_it);
    assert_non_null(strstr(told, "1 bytes"));
}

static void by_another_name_too(void **state)
{
    (void)state;
    call(reads_by_another_name);
    assert_non_null(strstr(told, "4 bytes"));
}

static void after_parts_too(void **state)
{
    (void)state;
    call(parts_know_what_was_before);
    assert_non_null(strstr(told, "4 bytes"));
}

static void after_much_too(void **state)
{
    (void)state;
    call(reads_much);
    assert_non_null(strstr(told, "4 bytes"));
}

static void what_is_right_is_not(void **state)
{
    (void)state;
    call(reads_once);
    call(reads_again);
    call(has_parts);
    assert_string_equal(told, "");
}

/* A call whose pointer names its own arguments is told: so fuzzers draw none (tests/fuzz/fuzz_control.c), or the runner knows of it. */
static void a_pointer_to_itself_is_told(void **state)
{
    u64 *to = fake_guest(arg);

    (void)state;
    *to = gva_add(arg, 8).v;
    assert_int_equal(call(follows_a_pointer), 0);
    assert_string_equal(told, "");
    *to = gva_add(arg, 4).v;
    call(follows_a_pointer);
    assert_non_null(strstr(told, "4 bytes"));
}

static void another_attempt_is_another_call(void **state)
{
    (void)state;
    assert_int_equal(call(gives_way), 0);
    assert_string_equal(told, "");
}

static void out_of_calls_nothing_is_noted(void **state)
{
    (void)state;
    (void)at(8);
    (void)at(8);
    assert_string_equal(told, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_second_read_is_told, setup),
        cmocka_unit_test_setup(of_a_part_too, setup),
        cmocka_unit_test_setup(by_another_name_too, setup),
        cmocka_unit_test_setup(after_parts_too, setup),
        cmocka_unit_test_setup(after_much_too, setup),
        cmocka_unit_test_setup(what_is_right_is_not, setup),
        cmocka_unit_test_setup(a_pointer_to_itself_is_told, setup),
        cmocka_unit_test_setup(another_attempt_is_another_call, setup),
        cmocka_unit_test_setup(out_of_calls_nothing_is_noted, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
