/* The command line: splitting, the kinds of value, and that a word without effect is named in the log. */
// SOURCES: tests/unit/fake/log.c common/cmdline.c common/cmdline_words.c common/lib/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include "fake/log.h"

static bool quick;
static u32 count;
static char text[64];

static int parse_quick(const char *v) { return cmdline_bool(v, &quick); }
static int parse_count(const char *v) { return cmdline_uint(v, &count); }
static int parse_text(const char *v) { strlcpy(text, v, sizeof(text)); return 0; }

static int parse_colour(void *to, const char *word, size_t len)
{
    *(u32 *)to += 1;
    return (len == 3 && !strncmp(word, "red", 3)) || (len == 5 && !strncmp(word, "green", 5)) ? 0 : -EINVAL;
}
static int parse_list(const char *v)
{
    u32 n = 0;
    int rc = cmdline_list(v, parse_colour, &n);

    count = rc ? count : n;
    return rc;
}

const struct cmdline_option __cmdline_start[] = {
    { "quick", parse_quick, NULL }, { "count", parse_count, NULL }, { "text", parse_text, NULL }, { "list", parse_list, NULL },
};
/* What the linker script does for the hypervisor. */
__asm__(".globl __cmdline_end\n.set __cmdline_end, __cmdline_start + 96");

static int reset(void **state)
{
    (void)state;
    log_clear();
    text[0] = '\0';
    quick = false;
    count = 0;
    return 0;
}

static void splits_words(void **state)
{
    (void)state;
    cmdline_parse("/boot/xen.gz  quick count=0x10 text=\"two words\"");
    assert_true(quick);
    assert_int_equal(count, 16);
    assert_string_equal(text, "two words");
    assert_string_equal(log_text, "");
    assert_string_equal(cmdline_get(), "quick count=0x10 text=\"two words\"");
}

static void negates(void **state)
{
    (void)state;
    quick = true;
    cmdline_parse("no-quick");
    assert_false(quick);
    cmdline_parse("quick=yes");
    assert_true(quick);
    cmdline_parse("quick=off");
    assert_false(quick);
}

static void names_what_it_does_not_take(void **state)
{
    (void)state;
    cmdline_parse("flubber=3 count=many quick=maybe placeholder nonsense");
    assert_non_null(strstr(log_text, "unknown word 'flubber=3'"));
    assert_non_null(strstr(log_text, "'count=many' is malformed"));
    assert_non_null(strstr(log_text, "'quick=maybe' is malformed"));
    assert_non_null(strstr(log_text, "unknown word 'nonsense'"));
    assert_null(strstr(log_text, "placeholder"));
    assert_false(quick);
}

static void says_why_words_of_others_do_nothing(void **state)
{
    (void)state;
    cmdline_parse("rmrr=force,verbose no-pcid ivrs_ioapic[4]=00:14.0 placeholder no-real-mode edd=off sched=credit");
    assert_non_null(strstr(log_text, "'rmrr=force,verbose' has no effect: what the firmware's tables say of IOMMUs is taken as it is"));
    assert_non_null(strstr(log_text, "'no-pcid' has no effect: the hypervisor does not use"));
    assert_non_null(strstr(log_text, "'ivrs_ioapic[4]=00:14.0' has no effect: what the firmware's tables say of IOMMUs"));
    assert_non_null(strstr(log_text, "'sched=credit' has no effect: there is one scheduler"));
    assert_null(strstr(log_text, "placeholder"));
    assert_null(strstr(log_text, "real-mode"));
    assert_null(strstr(log_text, "edd"));
    assert_null(strstr(log_text, "unknown"));
}

static void names_the_nearest_word(void **state)
{
    static const struct { const char *word, *nearest; } cases[] = {
        { "qiuck=yes", "quick" }, { "coutn=1", "count" }, { "texts=x", "text" }, { "no-quck", "quick" }, { "nmua=on", "numa" },
        { "max-cstate=1", "max_cstate" }, { "crashkernell=1", "crashkernel" }, { "cpuidl", "cpuidle" },
    };
    char expected[100];

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        log_clear();
        cmdline_parse(cases[i].word);
        snprintf(expected, sizeof(expected), "unknown word '%s', did you mean '%s'?", cases[i].word, cases[i].nearest);
        assert_non_null(strstr(log_text, expected));
    }
    log_clear();
    cmdline_parse("root=/dev/sda1 q zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz=1 =3");
    assert_null(strstr(log_text, "did you mean"));
    assert_non_null(strstr(log_text, "unknown word 'root=/dev/sda1'\n"));
}

static void names_the_word_of_a_list_that_is_malformed(void **state)
{
    (void)state;
    cmdline_parse("list=red,green,red");
    assert_int_equal(count, 3);
    assert_string_equal(log_text, "");
    cmdline_parse("list=red,blue,green list= count=x");
    assert_non_null(strstr(log_text, "'list=red,blue,green' is malformed and has no effect: 'blue' is not understood"));
    assert_non_null(strstr(log_text, "'count=x' is malformed and has no effect\n"));
    assert_int_equal(count, 3);
}

static void numbers_do_not_wrap(void **state)
{
    (void)state;
    cmdline_parse("count=18446744073709551617");
    assert_int_equal(count, 0);
    assert_non_null(strstr(log_text, "is malformed"));
    assert_int_equal(cmdline_size("99999999999999999999999", NULL), UINT64_MAX);
}

static void stops_at_the_dashes(void **state)
{
    (void)state;
    cmdline_parse("count=1 -- count=2 root=/dev/sda1");
    assert_int_equal(count, 1);
    assert_string_equal(log_text, "");
}

static void survives_long_lines(void **state)
{
    static char line[5000];

    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    cmdline_parse(line);
    assert_non_null(strstr(log_text, "longer than"));
}

static void reads_sizes(void **state)
{
    const char *end;

    (void)state;
    assert_int_equal(cmdline_size("65536", &end), 64ul << 20);
    assert_int_equal(cmdline_size("512M,max:1G", &end), 512ul << 20);
    assert_string_equal(end, ",max:1G");
    assert_int_equal(cmdline_size("2g", &end), 2ul << 30);
    assert_int_equal(cmdline_size("100b", &end), 100);
    assert_true(cmdline_size("0xffffffffffffffffT", &end) == UINT64_MAX);
    assert_int_equal(cmdline_size("k", &end), 0);
    assert_string_equal(end, "k");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(splits_words, reset),
        cmocka_unit_test_setup(negates, reset),
        cmocka_unit_test_setup(names_what_it_does_not_take, reset),
        cmocka_unit_test_setup(says_why_words_of_others_do_nothing, reset),
        cmocka_unit_test_setup(names_the_nearest_word, reset),
        cmocka_unit_test_setup(stops_at_the_dashes, reset),
        cmocka_unit_test_setup(names_the_word_of_a_list_that_is_malformed, reset),
        cmocka_unit_test_setup(numbers_do_not_wrap, reset),
        cmocka_unit_test_setup(survives_long_lines, reset),
        cmocka_unit_test_setup(reads_sizes, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
