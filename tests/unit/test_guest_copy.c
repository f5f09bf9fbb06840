/*
 * Copies to and from a guest's memory: in line and by the general way, as the hypervisor has them, on memory of the test's own.
 * Faults are real ones, which the table of instructions that may fault answers.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c arch/x86/pt/format.c arch/x86/lib/extable.c
// LIBS: -Wl,-T,extable.lds
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <cmocka.h>

#include <asm/x86.h>
#define read_cr4() 0UL      /* no SMAP */
#include <asm/guest_mem.h>
#include <asm/percpu.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/steps.h>

/* The machine is fake, but for the copies. */
#undef HOST_TEST
#include <pvisor/guest.h>
#include "../../arch/x86/pv/guest_access.c"
#define HOST_TEST

u64 fake_direct_map, fake_refs[1], fake_m2p[1];
u32 fake_types[1];

void pv_inject_page_fault(u64 address, u32 error) { (void)address, (void)error; }

#define LEN_MAX 72u             /* one word more than is copied in line */
#define HALF    (2 * PAGE_SIZE)

static struct domain *dom;
static struct vcpu vcpu;
/* Of 32-bit domains: one whose part of the address space ends with the first half of the arena. */
static struct pt_format format;
/* Guest memory below 2 GiB, for both word sizes: the second half cannot be accessed. */
static u8 *arena;
static unsigned nr_faults;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    u64 fixup = extable_find((u64)*rip);

    (void)info;
    nr_faults++;
    if (!fixup)
        signal(sig, SIG_DFL);   /* and again */
    else
        *rip = (greg_t)fixup;
}

static int setup(void **state)
{
    static struct domain d;

    if (!arena) {
        arena = mmap(NULL, 2 * HALF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        assert_ptr_not_equal(arena, MAP_FAILED);
        assert_int_equal(mprotect(arena + HALF, HALF, PROT_NONE), 0);
    }
    dom = &d;
    dom->arch.word = *(enum abi_word *)*state;
    format = pt_formats[dom->arch.word == ABI_64 ? PT64 : PT32P];
    dom->arch.fmt = &format;
    vcpu.domain = dom;
    cpu_info()->current_vcpu = &vcpu;
    nr_faults = 0;
    return 0;
}

/* --- All lengths, each a constant as where copies are made ------------------------------------------------- */

#define EIGHT(of, n) of(n) of((n) + 1) of((n) + 2) of((n) + 3) of((n) + 4) of((n) + 5) of((n) + 6) of((n) + 7)
#define ALL_LENGTHS(of) \
    EIGHT(of, 0) EIGHT(of, 8) EIGHT(of, 16) EIGHT(of, 24) EIGHT(of, 32) EIGHT(of, 40) EIGHT(of, 48) EIGHT(of, 56) EIGHT(of, 64) of(LEN_MAX)

#define FROM(n)    case n: return copy_from_guest(ours, guests, n);
#define FROM_32(n) case n: return copy_from_guest_as(ABI_32, ours, guests, n);
#define FROM_64(n) case n: return copy_from_guest_as(ABI_64, ours, guests, n);
#define TO(n)      case n: return copy_to_guest(guests, ours, n);
#define TO_32(n)   case n: return copy_to_guest_as(ABI_32, guests, ours, n);
#define TO_64(n)   case n: return copy_to_guest_as(ABI_64, guests, ours, n);
#define COPY(name, of) \
    static int name(void *ours, gva_t guests, size_t len) { switch (len) { ALL_LENGTHS(of) } return 1; }
COPY(from, FROM) COPY(from_32, FROM_32) COPY(from_64, FROM_64)
COPY(to, TO) COPY(to_32, TO_32) COPY(to_64, TO_64)

/* The general way, and the one in line whatever the length: only if it is a multiple of unit. */
static int from_general(void *ours, gva_t guests, size_t len) { return (copy_from_guest)(ours, guests, len); }
static int to_general(void *ours, gva_t guests, size_t len) { return (copy_to_guest)(guests, ours, len); }
static int from_words(void *ours, gva_t guests, size_t len) { return copy_words_from_guest(current_word(), ours, guests, len); }
static int to_words(void *ours, gva_t guests, size_t len) { return copy_words_to_guest(current_word(), guests, ours, len); }

static const struct way {
    const char *name;
    int (*copy)(void *ours, gva_t guests, size_t len);
    bool to;
    size_t unit;
    bool of_word[ABI_NR];
} ways[] = {
    { "from, general", from_general, false, 1, { true, true } }, { "to, general", to_general, true, 1, { true, true } },
    { "from, in line", from_words, false, 4, { true, true } },   { "to, in line", to_words, true, 2, { true, true } },
    { "from", from, false, 1, { true, true } },                  { "to", to, true, 1, { true, true } },
    { "from, 64-bit", from_64, false, 1, { [ABI_64] = true } },  { "to, 64-bit", to_64, true, 1, { [ABI_64] = true } },
    { "from, 32-bit", from_32, false, 1, { [ABI_32] = true } },  { "to, 32-bit", to_32, true, 1, { [ABI_32] = true } },
};

/* For each way and length. (The test program's handler is put back with each test.) */
static void each_copy(void (*test)(const struct way *way, size_t len))
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        for (size_t len = 0; ways[i].of_word[dom->arch.word] && len <= LEN_MAX; len++)
            if (len % ways[i].unit == 0)
                test(&ways[i], len);
}

/* --- What is in memory, and what a copy must make of it --------------------------------------------------- */

#define MARGIN 16u
static u8 ours[LEN_MAX + 2 * MARGIN] __attribute__((aligned(8))), was_ours[sizeof(ours)];
static u8 was_guests[LEN_MAX + 2 * MARGIN];

/* Other bytes each time, on both sides: at is where the guest's are copied, of which up to MARGIN more on both sides are looked at. */
static void fill(u8 *at, size_t len)
{
    static u32 x = 1;

    for (unsigned i = 0; i < sizeof(ours); i++)
        ours[i] = was_ours[i] = (u8)((x = x * 1103515245 + 12345) >> 16);
    for (unsigned i = 0; i < len + 2 * MARGIN; i++) {
        was_guests[i] = (u8)((x = x * 1103515245 + 12345) >> 16);
        if (at - MARGIN + i < arena + HALF)
            at[(int)i - (int)MARGIN] = was_guests[i];
    }
}

/* The first nr bytes were copied, and no others. */
static void expect_copied(const struct way *way, const u8 *at, size_t len, size_t nr)
{
    memcpy((way->to ? was_guests : was_ours) + MARGIN, (way->to ? was_ours : was_guests) + MARGIN, nr);
    assert_memory_equal(ours, was_ours, sizeof(ours));
    for (unsigned i = 0; i < len + 2 * MARGIN && at - MARGIN + i < arena + HALF; i++)
        assert_int_equal(at[(int)i - (int)MARGIN], was_guests[i]);
}

static int copy(const struct way *way, const void *at, size_t len) { return way->copy(ours + MARGIN, gva((u64)at), len); }

/* --- Tests -------------------------------------------------------------------------------------------------- */

static void copies_so_many_bytes(const struct way *way, size_t len)
{
    for (unsigned offset = 0; offset < 16; offset++) {
        u8 *at = arena + PAGE_SIZE + offset - len / 2;

        fill(at, len);
        assert_int_equal(copy(way, at, len), 0);
        expect_copied(way, at, len, len);
    }
}

/* Wherever it begins, so over the end of a page too. */
static void copies_each_length(void **state)
{
    (void)state;
    each_copy(copies_so_many_bytes);
    assert_int_equal(nr_faults, 0);
}

/* What was copied before the fault is a beginning of it. */
static void faults_after_some_bytes(const struct way *way, size_t len)
{
    for (size_t there = 0; there < len; there++) {
        u8 *at = arena + HALF - there;
        size_t nr = 0;

        fill(at, len);
        nr_faults = 0;
        assert_int_equal(copy(way, at, len), -EFAULT);
        assert_true(nr_faults > 0);
        while (nr < there && (way->to ? at[nr] == was_ours[MARGIN + nr] : ours[MARGIN + nr] == was_guests[MARGIN + nr]))
            nr++;
        if (way->to)
            expect_copied(way, at, len, nr);
        assert_memory_equal(ours, was_ours, MARGIN);
        assert_memory_equal(ours + MARGIN + len, was_ours + MARGIN + len, sizeof(ours) - MARGIN - len);
    }
}

static void faults_anywhere(void **state)
{
    (void)state;
    each_copy(faults_after_some_bytes);
}

/* Refused before anything is touched, and the address is noted. */
static void expect_refused(const struct way *way, u64 va, size_t len)
{
    nr_faults = 0;
    vcpu.bad_address = 0;
    assert_int_equal(copy(way, (const void *)va, len), -EFAULT);
    assert_int_equal(nr_faults, 0);
    assert_int_equal(last_bad_guest_address(), va);
    assert_memory_equal(ours, was_ours, sizeof(ours));
}

static void refuses_ours(const struct way *way, size_t len)
{
    static const u64 in_ours[] = { HYP_VIRT_START, HYP_VIRT_START + 1, HYP_VIRT_START + PAGE_SIZE,
                                   HYP_VIRT_END - PAGE_SIZE, HYP_VIRT_END - 1 };

    for (unsigned i = 0; i < ARRAY_SIZE(in_ours) && len; i++)
        expect_refused(way, in_ours[i], len);
}

/* In between the halves, and where nothing is mapped: by whichever check, or the CPU's. */
static void refuses_none(const struct way *way, size_t len)
{
    static const u64 none[] = { 0, 8, (1UL << 47) - 1, 1UL << 47, 1UL << 62, HYP_VIRT_START - 1, HYP_VIRT_START - 8, HYP_VIRT_END,
                                ~0UL << 12 };

    for (unsigned i = 0; i < ARRAY_SIZE(none) && len; i++)
        assert_int_equal(copy(way, (const void *)none[i], len), -EFAULT);
}

static void keeps_to_the_guests_halves(void **state)
{
    (void)state;
    fill(arena + PAGE_SIZE, 0);
    each_copy(refuses_ours);
    each_copy(refuses_none);
}

static void ends_with_the_guests_part(const struct way *way, size_t len)
{
    u8 *end = arena + PAGE_SIZE;

    format.hv_start = (u64)end;
    fill(end - len, len);
    assert_int_equal(copy(way, end - len, len), 0);
    expect_copied(way, end - len, len, len);
    fill(end - len, len);
    for (size_t over = 1; over <= len; over++)
        expect_refused(way, (u64)end - len + over, len);
    expect_refused(way, (u64)end + 1, len);
    expect_refused(way, 1UL << 32, len);
    expect_refused(way, ~0UL - 4, max(len, (size_t)5));
}

static void keeps_below_the_hole(void **state)
{
    (void)state;
    each_copy(ends_with_the_guests_part);
}

/* We jumped astray: the report is to say where to, and not that looking for it there failed. */
static void nothing_is_read_where_it_faulted(void **state)
{
    unsigned before = nr_faults;

    (void)state;
    assert_int_equal(extable_find((u64)arena + HALF), 0);
    assert_int_equal(extable_find(0), 0);
    assert_int_equal(extable_find(1UL << 63 >> 1), 0);
    assert_int_equal(nr_faults, before);
}

static enum abi_word words[] = { ABI_32, ABI_64 };
#define OF_BOTH_WORDS(f) { #f " (64)", f, setup, NULL, &words[1] }, { #f " (32)", f, setup, NULL, &words[0] }

int main(void)
{
    const struct CMUnitTest tests[] = {
        OF_BOTH_WORDS(copies_each_length),
        OF_BOTH_WORDS(faults_anywhere),
        { "keeps_to_the_guests_halves", keeps_to_the_guests_halves, setup, NULL, &words[1] },
        { "nothing_is_read_where_it_faulted", nothing_is_read_where_it_faulted, setup, NULL, &words[1] },
        { "keeps_below_the_hole", keeps_below_the_hole, setup, NULL, &words[0] },
    };

    return cmocka_run_group_tests_name("guest_copy", tests, NULL, NULL);
}
