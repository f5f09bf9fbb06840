/* The ring between the log and a serial line: what goes in comes out, or is counted. */
// SOURCES: common/console/txring.c common/lib/format.c common/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/txring.h>

int rand(void);
void srand(unsigned seed);
int sscanf(const char *s, const char *fmt, ...);

static struct txring ring;
static char store[TXRING_SIZE];
static char out[1u << 20];
static u32 out_len;

static int fresh(void **state)
{
    (void)state;
    memset(&ring, 0, sizeof(ring));
    ring.buf = store;
    ring.in = ring.out = 0xffffff00u;      /* the counts wrap soon */
    out_len = 0;
    return 0;
}

static void drain(u32 most)
{
    char c;

    while (most-- && txring_get(&ring, &c))
        out[out_len++] = c;
    out[out_len] = '\0';
}

static void put(const char *s) { txring_put(&ring, s, strlen(s)); }

static void what_goes_in_comes_out(void **state)
{
    (void)state;
    put("one\ntw");
    put("o\n");
    put("$ ");
    drain(~0u);
    assert_string_equal(out, "one\r\ntwo\r\n$ ");
    assert_true(txring_is_empty(&ring));
}

/* Reads what came out: numbered lines in order, and words about missing ones that account for every gap. */
static void check_numbers(u32 end)
{
    u32 expected = 0, n, before = 0;
    char *line = out;

    while (*line) {
        char *next = strchr(line, '\n') + 1;

        assert_true(next[-2] == '\r');
        if (sscanf(line, "(XEN) *** %u lines", &n) == 1) {
            assert_int_equal(before, 0);
            before = n;
        } else {
            assert_int_equal(sscanf(line, "line %u", &n), 1);
            assert_int_equal(n, expected + before);
            expected = n + 1;
            before = 0;
        }
        line = next;
    }
    assert_int_equal(expected + before, end);
}

static void put_line(u32 n, unsigned padding)
{
    char line[1100];
    unsigned len = snprintf(line, sizeof(line), "line %u ", n);

    memset(line + len, 'x', padding);
    line[len + padding] = '\n';
    /* printk gives a line in pieces */
    txring_put(&ring, line, 6);
    txring_put(&ring, line + 6, len + padding + 1 - 6);
}

static void a_full_ring_drops_whole_lines_and_counts_them(void **state)
{
    (void)state;
    for (u32 n = 0; n < 2000; n++)
        put_line(n, 80);
    assert_true(txring_used(&ring) <= TXRING_SIZE);
    drain(~0u);
    check_numbers(2000);
    assert_non_null(strstr(out, "lines are missing"));
}

static void any_pace_loses_nothing_silently(void **state)
{
    u32 n = 0;

    (void)state;
    srand(7);
    for (int round = 0; round < 400; round++) {
        for (int burst = rand() % 40; burst; burst--)
            put_line(n++, rand() % 900);
        drain(rand() % 3000);
        assert_true(txring_used(&ring) <= TXRING_SIZE);
    }
    drain(~0u);
    check_numbers(n);
}

static void lines_come_again_only_with_half_the_ring_free(void **state)
{
    u32 n = 0;

    (void)state;
    while (!ring.lost)
        put_line(n++, 80);
    drain(4000);
    put_line(n++, 80);
    assert_int_equal(ring.lost, 2);
    drain(TXRING_SIZE / 2);
    put_line(n++, 80);
    assert_int_equal(ring.lost, 0);
    drain(~0u);
    check_numbers(n);
}

static void a_text_without_end_is_cut_and_counted(void **state)
{
    (void)state;
    for (u32 i = 0; i < 2 * TXRING_SIZE; i++)
        put("y");
    assert_int_equal(txring_used(&ring), TXRING_SIZE);
    drain(TXRING_SIZE);
    assert_int_equal(txring_used(&ring), 0);
    assert_false(txring_is_empty(&ring));       /* it has to say what is missing */
    drain(~0u);
    assert_true(txring_is_empty(&ring));
    assert_int_equal(strchr(out, '\n') - out, TXRING_SIZE - 1);
    assert_non_null(strstr(out, "\r\n(XEN) *** 1 lines are missing"));
    out_len = 0;
    put("again\n");
    drain(~0u);
    assert_string_equal(out, "again\r\n");
}

/* A line of which a part went to the transmitter directly, because the ring was empty: to the ring it begins, or ends, in its middle. */
static void parts_of_lines_are_lines(void **state)
{
    u32 n = 0;

    (void)state;
    put("begun ");
    drain(~0u);
    out_len = 0;                             /* "and ended\n" passes by */
    while (!ring.lost)
        put_line(n++, 80);
    drain(~0u);
    check_numbers(n);

    out_len = 0;                             /* "begun " passes by */
    put("and ended\n");
    drain(~0u);
    assert_string_equal(out, "and ended\r\n");
    assert_true(txring_is_empty(&ring));
}

/* What was lost before is of writers that cannot wait. */
static void who_waits_until_it_is_not_crowded_loses_nothing(void **state)
{
    u32 n = 0;

    (void)state;
    while (!ring.lost)
        put_line(n++, 80);
    while (txring_used(&ring) > TXRING_CROWDED)
        drain(1);
    n = ring.lost;
    put("waited\n");
    assert_int_equal(ring.lost, 0);
    drain(~0u);
    assert_non_null(strstr(out, "\nwaited\r\n"));
    assert_int_equal(n, 1);
}

static void writers_that_can_wait_leave_room(void **state)
{
    (void)state;
    while (txring_used(&ring) <= TXRING_CROWDED)
        put("0123456789");
    for (u32 n = 0; n < 6; n++)
        put_line(n, 1000);
    assert_int_equal(ring.lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_goes_in_comes_out, fresh),
        cmocka_unit_test_setup(a_full_ring_drops_whole_lines_and_counts_them, fresh),
        cmocka_unit_test_setup(any_pace_loses_nothing_silently, fresh),
        cmocka_unit_test_setup(lines_come_again_only_with_half_the_ring_free, fresh),
        cmocka_unit_test_setup(a_text_without_end_is_cut_and_counted, fresh),
        cmocka_unit_test_setup(parts_of_lines_are_lines, fresh),
        cmocka_unit_test_setup(who_waits_until_it_is_not_crowded_loses_nothing, fresh),
        cmocka_unit_test_setup(writers_that_can_wait_leave_room, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
