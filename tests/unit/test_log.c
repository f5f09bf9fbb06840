/* The log's front: each domain has a rate limit of its own, which takes no lock from anybody, and says what it kept back. */
// SOURCES: common/lib/format.c common/lib/text.c tests/unit/fake/machine.c common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "../../common/console/printk.c"     /* for what the command line would set */
#include "fake/fake.h"

#define ALLOWED 30u             /* at once */
#define REFILL  250000000UL     /* ns */

static u64 now;
static unsigned locked;
static char out[65536];

u64 now_ns(void) { return now; }
u64 console_lock(void) { locked++; return 0; }
void console_unlock(u64 flags) { (void)flags; }
void console_emit_log(const char *s, size_t len) { strncat(out, s, len); }

static struct domain *noisy, *quiet;

static int setup(void **state)
{
    (void)state;
    fake_reset();
    noisy = fake_domain(1, ABI_64, 1, false);
    quiet = fake_domain(2, ABI_64, 1, false);
    now += 3600 * 1000000000UL;
    assert_int_equal(parse_guest_loglvl("none/warning"), 0);    /* a release build's */
    out[0] = '\0';
    return 0;
}

static unsigned lines(void)
{
    unsigned n = 0;

    for (const char *p = out; *p; p++)
        n += *p == '\n';
    return n;
}

static void make_noise(unsigned n)
{
    fake_run(noisy, 0);
    while (n--)
        guest_log("noise");
}

static void one_does_not_silence_another(void **state)
{
    (void)state;
    make_noise(1000);
    assert_int_equal(lines(), ALLOWED);
    fake_run(quiet, 0);
    guest_log("a word");
    assert_non_null(strstr(out, "d2v0: a word\n"));
    assert_null(strstr(out, "suppressed"));
}

/* What a domain does while another runs is said of it, and takes nothing of the other's allowance. */
static void said_of_another(void **state)
{
    (void)state;
    fake_run(quiet, 0);
    for (unsigned i = 0; i < 1000; i++)
        domain_log(noisy, "noise");
    assert_int_equal(lines(), ALLOWED);
    assert_non_null(strstr(out, "d1: noise\n"));
    guest_log("a word");
    assert_non_null(strstr(out, "d2v0: a word\n"));
    out[0] = '\0';
    make_noise(1);
    assert_int_equal(lines(), 0);
}

static void what_is_dropped_takes_no_lock(void **state)
{
    (void)state;
    make_noise(ALLOWED);
    locked = 0;
    make_noise(1000);
    assert_int_equal(locked, 0);
}

static void the_count_is_the_domains(void **state)
{
    (void)state;
    make_noise(ALLOWED + 7);
    now += REFILL;
    fake_run(quiet, 0);
    guest_log("a word");
    assert_null(strstr(out, "suppressed"));
    out[0] = '\0';
    make_noise(5);
    assert_non_null(strstr(out, "d1v0: 7 lines before this were suppressed"));
    assert_int_equal(lines(), 2);
    out[0] = '\0';
    guest_log_end(quiet);
    assert_int_equal(lines(), 0);
    guest_log_end(noisy);
    assert_non_null(strstr(out, "d1: its last 4 lines were suppressed"));
}

static void the_allowance_comes_back(void **state)
{
    (void)state;
    make_noise(ALLOWED);
    out[0] = '\0';
    now += 3 * REFILL;
    make_noise(10);
    assert_int_equal(lines(), 3);
    out[0] = '\0';
    now += 1000 * REFILL;
    make_noise(1000);
    assert_int_equal(lines(), ALLOWED + 1);     /* with the count of the last time */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_does_not_silence_another, setup),
        cmocka_unit_test_setup(said_of_another, setup),
        cmocka_unit_test_setup(what_is_dropped_takes_no_lock, setup),
        cmocka_unit_test_setup(the_count_is_the_domains, setup),
        cmocka_unit_test_setup(the_allowance_comes_back, setup),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
