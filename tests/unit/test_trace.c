/* Trace buffers: what goes in comes out in order or is counted, whatever the reader does with the words that it shares with us. */
// SOURCES: common/trace/record.c common/trace/buffers.c tests/unit/fake/machine.c tests/unit/fake/log.c common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/hypercall.h>
#include <pvisor/softirq.h>
#include <pvisor/trace.h>
#include "fake/fake.h"
#include "fake/log.h"

int rand(void);
void srand(unsigned seed);
void *aligned_alloc(size_t alignment, size_t size);
void free(void *p);

#define CPUS 3
#define SIZE 2                                  /* pages */
#define BYTES (SIZE * PAGE_SIZE - sizeof(struct t_buf))
#define EVENT TRC_SCHED_WAKE

/* --- Memory: pages whose frame numbers are places in a list -------------------------------------------------------- */

static struct { void *at; bool shown, writable; } pages[64];
static unsigned nr_pages, pages_left;

void *alloc_pages(unsigned order)
{
    void *p = pages_left >= 1u << order ? aligned_alloc(PAGE_SIZE, PAGE_SIZE << order) : NULL;

    if (!p)
        return NULL;
    memset(p, 0, PAGE_SIZE << order);
    for (unsigned i = 0; i < 1u << order; i++)
        pages[nr_pages++].at = (char *)p + i * PAGE_SIZE;
    pages_left -= 1u << order;
    return p;
}

mfn_t virt_to_mfn(const void *p)
{
    for (unsigned i = 0; i < nr_pages; i++)
        if (pages[i].at == p)
            return mfn_kept(i);
    fail_msg("no page of ours");
    return INVALID_MFN;
}

void free_frames(mfn_t m, unsigned order)
{
    assert_non_null(pages[m.v].at);
    assert_false(pages[m.v].shown);
    free(pages[m.v].at);
    for (unsigned i = 0; i < 1u << order; i++)
        pages[m.v + i].at = NULL;
    pages_left += 1u << order;
}

void free_pages(void *p, unsigned order) { free_frames(virt_to_mfn(p), order); }
void show_frames(mfn_t m, unsigned order, bool writable)
{
    for (unsigned i = 0; i < 1u << order; i++) {
        assert_false(pages[m.v + i].shown);
        pages[m.v + i].shown = true;
        pages[m.v + i].writable = writable;
    }
}

struct acpi_info acpi_info = { .nr_cpus = CPUS };
static unsigned raised, virqs;
static void (*handler)(void);
void raise_softirq(enum softirq n) { assert_int_equal(n, SOFTIRQ_TRACE); raised++; }
void softirq_register(enum softirq n, void (*fn)(void)) { assert_int_equal(n, SOFTIRQ_TRACE); handler = fn; }
static void note_virq(u32 virq) { assert_int_equal(virq, VIRQ_TBUF); virqs++; }

/* --- The reader ------------------------------------------------------------------------------------------------------ */

static struct t_buf *head(unsigned cpu)
{
    u32 bytes;
    const struct t_info *info = pages[trace_info(&bytes).v].at;

    return pages[((const u32 *)info)[info->mfn_offset[cpu]]].at;
}

static u32 word_at(unsigned cpu, u32 offset)
{
    u32 bytes, at = offset % BYTES + sizeof(struct t_buf);
    const struct t_info *info = pages[trace_info(&bytes).v].at;
    u32 frame = ((const u32 *)info)[info->mfn_offset[cpu] + at / PAGE_SIZE];

    return ((const u32 *)pages[frame].at)[at % PAGE_SIZE / 4];
}

struct record { u32 event; unsigned nr; u32 words[TRACE_EXTRA_MAX]; u64 tsc; };

/* The next record that is no filler, as tools read it; false: there is none. No record may go over the end. */
static bool next(unsigned cpu, struct record *r)
{
    struct t_buf *h = head(cpu);

    while (h->cons != h->prod) {
        u32 at = h->cons, first = word_at(cpu, at), words = (first >> TRACE_EXTRA_SHIFT & 7) + 1;

        memset(r, 0, sizeof(*r));
        r->event = first & 0x0fffffff;
        r->nr = words - 1;
        if (first & TRC_HD_CYCLE_FLAG) {
            r->tsc = word_at(cpu, at + 4) | (u64)word_at(cpu, at + 8) << 32;
            words += 2;
        }
        assert_true(at % BYTES + words * 4 <= BYTES);
        for (unsigned i = 0; i < r->nr; i++)
            r->words[i] = word_at(cpu, at + (words - r->nr + i) * 4);
        h->cons = (u32)((at + words * 4) % (2 * BYTES));
        if (r->event != TRC_TRACE_WRAP_BUFFER)
            return true;
    }
    return false;
}

/* --- Tests ----------------------------------------------------------------------------------------------------------- */

static int fresh(void **state)
{
    u32 none;

    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    fake_set_cpu(0);
    trace_softirq_init(note_virq);
    cpumask_fill(&trace_cpus);
    cpumask_fill(&cpu_online_map);
    pages_left = ARRAY_SIZE(pages);
    if (mfn_eq(trace_info(&none), INVALID_MFN))
        assert_int_equal(trace_set_size(SIZE), 0);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        for (struct record r; (head(cpu)->cons = head(cpu)->prod, next(cpu, &r)););
    trace_forget_lost();
    trace_events = TRC_ALL;
    raised = virqs = 0;
    return 0;
}

/* First of all, since buffers stay. */
static void memory_that_runs_out_leaves_nothing_behind(void **state)
{
    u32 bytes;

    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    for (unsigned n = 0; n < 1 + CPUS * SIZE; n++) {
        struct fake_usage before = fake_usage();

        nr_pages = 0;
        pages_left = n;
        assert_int_equal(trace_set_size(SIZE), -ENOMEM);
        assert_int_equal(pages_left, n);
        assert_int_equal(fake_usage().blocks, before.blocks);
        assert_true(mfn_eq(trace_info(&bytes), INVALID_MFN));
        assert_int_equal(bytes, 0);
    }
    nr_pages = 0;
    assert_int_equal(trace_set_size(0), -EINVAL);
    assert_int_equal(trace_set_size(~0u), -EINVAL);
    assert_int_equal(trace_set_size(65535 / CPUS), -EINVAL);
}

static void buffers_are_made_step_by_step_and_once(void **state)
{
    const struct t_info *info;
    u32 bytes;
    unsigned steps = 0;

    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    fake.preempt_every = 1;
    pages_left = ARRAY_SIZE(pages);
    while (trace_set_size(SIZE) == -ERESTART_HYPERCALL) {
        assert_true(mfn_eq(trace_info(&bytes), INVALID_MFN));
        steps++;
    }
    assert_int_equal(steps, CPUS * SIZE);
    info = pages[trace_info(&bytes).v].at;
    assert_int_equal(bytes, PAGE_SIZE);
    assert_int_equal(info->tbuf_size, SIZE);
    assert_false(pages[trace_info(&bytes).v].writable);
    for (unsigned i = 0; i < CPUS * SIZE; i++) {
        u32 frame = ((const u32 *)info)[info->mfn_offset[i / SIZE] + i % SIZE];

        assert_true(pages[frame].shown && pages[frame].writable);
    }
    assert_int_equal(trace_set_size(SIZE), -EINVAL);
}

static void a_record_has_event_time_and_words(void **state)
{
    struct record r;
    u64 tsc = __builtin_ia32_rdtsc();

    (void)state;
    trace(EVENT, 1, 2, 3);
    assert_true(next(0, &r));
    assert_int_equal(r.event, EVENT);
    assert_int_equal(r.nr, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(r.words[i], i + 1);
    assert_in_range(r.tsc, tsc, __builtin_ia32_rdtsc());
    assert_false(next(0, &r));
}

static void each_cpu_has_a_buffer_of_its_own(void **state)
{
    struct record r;

    (void)state;
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        fake_set_cpu(cpu);
        trace(EVENT, cpu);
    }
    fake_set_cpu(CPUS);         /* which came later, and has none */
    trace(EVENT, CPUS);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        assert_true(next(cpu, &r));
        assert_int_equal(r.words[0], cpu);
        assert_false(next(cpu, &r));
    }
}

/* As public/trace.h: bits 16 to 27 of which one must be common, and of 12 to 15. */
static void masks_choose_events_and_cpus(void **state)
{
    static const struct { u32 mask; bool kept; } cases[] = {
        { TRC_ALL, true }, { TRC_SCHED, true }, { TRC_SCHED_VERBOSE, true }, { TRC_SCHED_MIN, false }, { TRC_PV, false },
        { TRC_GEN, false }, { 0x00020000, false }, { 0x00008000, false }, { ~0u, true },
    };
    struct record r;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        trace_events = cases[i].mask;
        trace(EVENT, i);
        assert_int_equal(next(0, &r), cases[i].kept);
    }
    trace_events = TRC_ALL;
    trace_cpus = cpumask_of(1);
    trace(EVENT, 0);
    assert_false(next(0, &r));
    trace_cpus = cpumask_of(0);
    trace(EVENT, 0);
    assert_true(next(0, &r));
    trace_events = 0;
    trace(EVENT, 0);
    assert_false(next(0, &r));
}

/* Each event has a number of its own; its other words say which, too. */
static void put_numbered(u32 n)
{
    u32 words[TRACE_EXTRA_MAX];
    unsigned nr = 1 + n % TRACE_EXTRA_MAX;

    for (unsigned i = 0; i < nr; i++)
        words[i] = n + i;
    trace_record(EVENT, nr, words);
}

static void any_pace_loses_nothing_silently(void **state)
{
    u32 n = 0, expected = 0;
    struct record r;

    (void)state;
    srand(11);
    for (unsigned round = 0; round < 3000; round++) {
        for (int burst = rand() % 300; burst; burst--)
            put_numbered(n++);
        for (int burst = rand() % 300; burst && next(0, &r); burst--) {
            if (r.event == TRC_LOST_RECORDS) {
                assert_int_equal(r.nr, 4);
                expected += r.words[0];
                continue;
            }
            assert_int_equal(r.event, EVENT);
            assert_int_equal(r.words[0], expected);
            assert_int_equal(r.nr, 1 + expected % TRACE_EXTRA_MAX);
            for (unsigned i = 0; i < r.nr; i++)
                assert_int_equal(r.words[i], expected + i);
            expected++;
        }
    }
    assert_true(n > 100000 && expected > 100000);
}

static void the_reader_hears_of_half_a_buffer_once(void **state)
{
    struct record r;

    (void)state;
    while (head(0)->prod - head(0)->cons < BYTES / 2) {
        assert_int_equal(raised, 0);
        put_numbered(0);
    }
    assert_int_equal(raised, 1);
    for (unsigned i = 0; i < 1000; i++)
        put_numbered(0);
    assert_int_equal(raised, 1);
    handler();
    assert_int_equal(virqs, 1);
    while (next(0, &r))
        ;
    for (unsigned i = 0; i < 1000; i++)
        put_numbered(0);
    assert_int_equal(raised, 2);
}

/* Whatever stands in the head, we write within the buffer (the sanitizer looks), and go on as soon as the reader is sane again. */
static void a_reader_that_writes_nonsense_harms_its_events_alone(void **state)
{
    static const u32 nonsense[] = { ~0u, 2 * BYTES, 2 * BYTES + 4, 2 * BYTES - 1, 0, 1, 3, 0x80000000, BYTES, BYTES + 1 };
    struct record r;

    (void)state;
    for (u32 round = 0; round < 5000; round++) {
        head(0)->cons = round % 3 ? nonsense[(unsigned)rand() % ARRAY_SIZE(nonsense)] : (u32)rand() * 2u;
        put_numbered(0);
        head(0)->cons = head(0)->prod;
        head(0)->prod = (u32)rand();        /* nobody asks for it */
        put_numbered(round);
        assert_true(next(0, &r));
        if (r.event == TRC_LOST_RECORDS) {
            assert_int_equal(r.words[0], 1);
            assert_true(next(0, &r));
        }
        assert_int_equal(r.words[0], round);
        assert_false(next(0, &r));
    }
}

static void nonsense_is_told_of_once(void **state)
{
    (void)state;
    fake_set_cpu(1);
    head(1)->cons = ~0u;
    put_numbered(1);
    put_numbered(1);
    assert_int_equal(raised, 1);
    handler();
    assert_non_null(strstr(log_text, "CPU1's trace buffer"));
    log_clear();
    handler();
    assert_int_equal(log_text[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_runs_out_leaves_nothing_behind),
        cmocka_unit_test(buffers_are_made_step_by_step_and_once),
        cmocka_unit_test_setup(a_record_has_event_time_and_words, fresh),
        cmocka_unit_test_setup(each_cpu_has_a_buffer_of_its_own, fresh),
        cmocka_unit_test_setup(masks_choose_events_and_cpus, fresh),
        cmocka_unit_test_setup(any_pace_loses_nothing_silently, fresh),
        cmocka_unit_test_setup(the_reader_hears_of_half_a_buffer_once, fresh),
        cmocka_unit_test_setup(a_reader_that_writes_nonsense_harms_its_events_alone, fresh),
        cmocka_unit_test_setup(nonsense_is_told_of_once, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
