/*
 * I/O page tables, in each format and depth: what they say is compared, after changes of all sizes, with a plain list of frames; entries
 * are compared with what the makers' manuals say; no table is freed, and none is made anew, while an IOMMU may still walk it.
 */
// SOURCES: tests/unit/fake/log.c drivers/iommu/table.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/mm.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include "drivers/iommu/table.h"
#include "fake/log.h"

void abort(void) noreturn_fn;

/* --- Memory: pages that are used once --- */

#define PAGES 8192u
#define TOP_FRAME (1UL << 18)               /* of what the random changes are about: 1 GiB, and as much before it */
#define FIRST (TOP_FRAME - 4096)
#define NR 8192u

static u8 memory[PAGES][PAGE_SIZE] __attribute__((aligned(4096)));
u64 fake_direct_map, nr_frames = PAGES;
static unsigned used, freed, room;

void panic(const char *fmt, ...)
{
    fail_msg("%s", fmt);
    abort();
}

void *alloc_pages(unsigned order)
{
    assert_int_equal(order, 0);
    return room && used < PAGES ? room--, memset(memory[used++], 0, PAGE_SIZE) : NULL;
}

/* Whoever still walks it finds what is in no format. */
void free_pages(void *p, unsigned order)
{
    assert_int_equal(order, 0);
    memset(p, 0xff, PAGE_SIZE);
    freed++;
}

static struct io_tables t;

static const struct kind { const struct io_format *format; unsigned levels, largest; } kinds[] = {
    { &vtd_format, 3, 3 }, { &vtd_format, 4, 2 }, { &vtd_format, 3, 1 }, { &amd_format, 3, 3 }, { &amd_format, 4, 3 },
    { &vtd_snooping_format, 3, 3 },
};

static void begin(const struct kind *k)
{
    fake_direct_map = (u64)memory;
    used = freed = 0;
    room = PAGES;
    assert_int_equal(io_tables_init(&t, k->format, k->levels, k->largest, true), 0);
}

/* As callers do it: nothing is freed before the flush, and a call is bounded. */
static void set(u64 first, u64 end, unsigned access)
{
    int rc;

    do {
        unsigned before = freed;
        u64 at = first;

        rc = io_set(&t, &first, end, access);
        assert_int_equal(freed, before);
        assert_true(rc == 0 || (rc == -EAGAIN && first > at));
        io_free_cut(&t);
        assert_true(freed - before <= IO_MAX_CUT * 513);
    } while (rc);
    assert_int_equal(first, end);
}

static void end(void)
{
    set(0, 1UL << 9 * t.levels, 0);
    io_tables_free(&t);
    assert_int_equal(t.nr_tables, 0);
    assert_int_equal(freed, used);
}

static u64 entry(u64 frame, unsigned level)
{
    const u64 *table = t.root;

    for (unsigned l = t.levels; l > level; l--)
        table = (const u64 *)(memory[0] + (table[frame >> 9 * (l - 1) & 511] & 0xffffffffff000UL));
    return table[frame >> 9 * (level - 1) & 511];
}

/* --- Formats: the numbers are the manuals' --- */

static void vtd_entries(void **state)
{
    (void)state;
    begin(&kinds[0]);
    set(0x40000, 0x80000, IO_READ | IO_WRITE);
    set(0x80000, 0x80200, IO_READ);
    set(0x80201, 0x80202, IO_WRITE);
    assert_int_equal(entry(0x40000, 3), 0x40000083);                /* 1 GiB */
    assert_int_equal(entry(0x80000, 3) & 0xfff, 3);
    assert_int_equal(entry(0x80000, 2), 0x80000081);                /* 2 MiB, to be read */
    assert_int_equal(entry(0x80201, 2) & 0xfff, 3);
    assert_int_equal(entry(0x80201, 1), 0x80201002);
    assert_int_equal(entry(0x80202, 1), 0);
    end();
}

static void vtd_entries_that_snoop(void **state)
{
    (void)state;
    begin(&kinds[5]);
    set(0x40000, 0x80000, IO_READ | IO_WRITE);
    set(0x80201, 0x80202, IO_WRITE);
    assert_int_equal(entry(0x40000, 3), 0x40000883);
    assert_int_equal(entry(0x80000, 3) & 0xfff, 3);                 /* reserved in what leads to a table */
    assert_int_equal(entry(0x80201, 1), 0x80201802);
    assert_int_equal(entry(0x80202, 1), 0);
    end();
}

static void amd_entries(void **state)
{
    (void)state;
    begin(&kinds[4]);
    set(0x40000, 0x80000, IO_READ | IO_WRITE);
    set(0x80201, 0x80202, IO_READ);
    assert_int_equal(entry(0, 4) & ~0xffffff000UL, 0x6000000000000601);     /* leads to level 3 */
    assert_int_equal(entry(0x40000, 3), 0x7000000040000001);                /* next level 0: 1 GiB */
    assert_int_equal(entry(0x80201, 3) & ~0xffffff000UL, 0x6000000000000401);
    assert_int_equal(entry(0x80201, 2) & ~0xffffff000UL, 0x6000000000000201);
    assert_int_equal(entry(0x80201, 1), 0x3000000080201001);
    end();
}

/* --- Pieces --- */

static void large_pieces_are_split_and_made_again(void **state)
{
    (void)state;
    begin(&kinds[0]);
    set(0, 1 << 20, IO_READ | IO_WRITE);
    assert_int_equal(t.nr_tables, 1);
    set(0x12345, 0x12346, 0);
    assert_int_equal(t.nr_tables, 3);
    assert_int_equal(io_lookup(&t, 0x12344), IO_READ | IO_WRITE);
    assert_int_equal(io_lookup(&t, 0x12345), 0);
    assert_int_equal(io_lookup(&t, 0x12346), IO_READ | IO_WRITE);
    assert_int_equal(io_lookup(&t, 0x3ffff), IO_READ | IO_WRITE);
    set(0x12345, 0x12346, IO_READ | IO_WRITE);
    set(0, 1 << 18, IO_READ | IO_WRITE);
    assert_int_equal(t.nr_tables, 1);
    end();
}

/* A unit that cannot have a size of leaves gets none. */
static void no_larger_leaf_than_allowed(void **state)
{
    (void)state;
    begin(&kinds[1]);
    set(0, 1 << 19, IO_READ);
    assert_int_equal(t.nr_tables, 1 + 1 + 2);
    end();
    begin(&kinds[2]);
    set(0, 1 << 12, IO_READ);
    assert_int_equal(t.nr_tables, 1 + 1 + 8);
    end();
}

/* What is cut off stays as it was until the flush, for an IOMMU that has the old entry in a cache. */
static void cut_tables_stay_until_the_flush(void **state)
{
    u64 first = 0x12200, *old;

    (void)state;
    begin(&kinds[0]);
    set(0x12345, 0x12346, IO_READ);
    old = (u64 *)(memory[0] + (entry(0x12345, 2) & 0xffffff000));
    assert_int_equal(io_set(&t, &first, 0x12400, 0), 0);
    assert_int_equal(io_lookup(&t, 0x12345), 0);
    assert_int_equal(old[0x145], 0x12345001);
    assert_int_equal(t.nr_cut, 1);
    io_free_cut(&t);
    assert_int_equal(old[0x145], ~0UL);
    end();
}

static void a_call_is_bounded(void **state)
{
    u64 first = 1, calls = 1;

    (void)state;
    begin(&kinds[2]);
    while (io_set(&t, &first, 20000, IO_READ) == -EAGAIN)
        calls++;
    assert_in_range(calls, 20000 / 1024, 20000 / 512);
    for (first = 0, calls = 1; io_set(&t, &first, 20000, 0) == -EAGAIN; calls++)
        io_free_cut(&t);
    assert_in_range(calls, 39 / IO_MAX_CUT, 39);
    end();
}

/* --- Refusals --- */

static void refuses_frames_beyond_its_width(void **state)
{
    u64 first = (1UL << 27) - 1;

    (void)state;
    begin(&kinds[0]);
    assert_int_equal(io_set(&t, &first, (1UL << 27) + 1, IO_READ), -ERANGE);
    assert_int_equal(first, (1UL << 27) - 1);
    assert_int_equal(io_lookup(&t, 1UL << 27), 0);
    assert_int_equal(io_lookup(&t, ~0UL), 0);
    set(first, 1UL << 27, IO_READ);
    assert_int_equal(io_lookup(&t, first), IO_READ);
    end();
}

/* At each moment: what is before *first is done, what is behind it is as it was, and nothing is lost. */
static void survives_want_of_memory(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 4; n++) {
        u64 first = 0x1ff;

        begin(&kinds[4]);
        room = n;
        assert_int_equal(io_set(&t, &first, 0x401, IO_READ), -ENOMEM);
        for (u64 f = 0x1ff; f < 0x401; f++)
            assert_int_equal(io_lookup(&t, f), f < first ? IO_READ : 0);
        room = PAGES;
        assert_int_equal(io_set(&t, &first, 0x401, IO_READ), 0);
        end();
    }
    room = 0;
    assert_int_equal(io_tables_init(&t, &vtd_format, 3, 3, true), -ENOMEM);
}

/* --- Anything at all --- */

static u8 model[NR];
static u64 seed = 1;

static u64 any(u64 n)
{
    seed = seed * 6364136223846793005UL + 1442695040888963407UL;
    return (seed >> 33) % n;
}

static void change_something(void)
{
    static const u64 grains[] = { 1, 1, 7, 512, 512, 1024, 4096 };
    u64 grain = grains[any(ARRAY_SIZE(grains))], at = any(NR) / grain * grain, n = min((1 + any(3)) * grain, NR - at);
    unsigned access = any(4);

    set(FIRST + at, FIRST + at + n, access);
    memset(model + at, access, n);
}

static void says_what_a_list_says(void **state)
{
    (void)state;
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        begin(&kinds[k]);
        memset(model, 0, sizeof(model));
        for (unsigned n = 0; n < 400; n++) {
            change_something();
            for (u64 i = 0; i < NR; i += 1 + any(5))
                if (io_lookup(&t, FIRST + i) != model[i])
                    fail_msg("%s, change %u: frame %#lx is %u, not %u", t.format->name, n, FIRST + i, io_lookup(&t, FIRST + i), model[i]);
        }
        assert_int_equal(io_lookup(&t, FIRST - 1) + io_lookup(&t, FIRST + NR), 0);
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vtd_entries), cmocka_unit_test(vtd_entries_that_snoop),
        cmocka_unit_test(amd_entries),
        cmocka_unit_test(large_pieces_are_split_and_made_again),
        cmocka_unit_test(no_larger_leaf_than_allowed),
        cmocka_unit_test(cut_tables_stay_until_the_flush),
        cmocka_unit_test(a_call_is_bounded),
        cmocka_unit_test(refuses_frames_beyond_its_width),
        cmocka_unit_test(survives_want_of_memory),
        cmocka_unit_test(says_what_a_list_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
