/*
 * tools/save-helper saves a guest that runs: it writes, and changes its tables, kinds of pages and list of frames before each call that the
 * program makes, in steps of which none alone is a whole. What is restored is what the guest was when it stood still; whatever fails, and
 * whenever, nobody logs its writes afterwards. And the reader takes pages that come again and again, of whatever kinds.
 */
// SOURCES: tools/save-helper/save.c tools/save-helper/memory.c tools/save-helper/restore.c tools/save-helper/guest.c
// SOURCES: tools/save-helper/read.c tools/save-helper/state.c tools/save-helper/stream.c
// SOURCES: tests/unit/fake/tools.c tests/unit/fake/saved_guest.c
// LIBS: -Wl,--wrap=open
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fake/saved_guest.h"

#define LIVE  1u
#define DEBUG_TOO 2u
#define PINNED_L1 (XEN_DOMCTL_PFINFO_L1TAB | XEN_DOMCTL_PFINFO_LPINTAB)
#define FIRST_NEW 0x200u            /* frames from here on the guest gets when it wants more */

/* --- What the guest is when it stands still, by its own numbers --- */

static struct {
    unsigned reports;
    bool is_there[NR_PFNS];
    uint32_t kind[NR_PFNS];
    uint8_t page[NR_PFNS][PAGE];    /* with its own numbers in entries */
} *last;                            /* of any process's */

static uint32_t frame_of(uint32_t pfn) { return words(saved_frame(LIST))[pfn]; }

static uint32_t number(uint32_t frame, uint32_t (*frame_by)(uint32_t pfn))
{
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        if (frame_by(pfn) == frame)
            return pfn;
    EXPECT(!"a frame of the guest's");
    return 0;
}

static void copy_numbered(uint8_t *page, uint32_t frame, uint32_t kind, uint32_t (*frame_by)(uint32_t pfn))
{
    uint32_t *e = (uint32_t *)page;

    memcpy(page, memory[frame], PAGE);
    for (unsigned i = 0; table_level(kind) && i < ENTRIES; i++)
        if (table_level(kind) == 2 && i >= OURS)
            e[i] = 0;
        else if (e[i] & ENTRY_PRESENT)
            e[i] = ENTRY_AS(e[i], number(ENTRY_FRAME(e[i]), frame_by));
}

static void remember(void)
{
    last->reports = nr_reports;
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++) {
        uint32_t frame = frame_of(pfn);

        last->is_there[pfn] = frame != NO_FRAME;
        if (frame == NO_FRAME)
            continue;
        EXPECT(owned[frame]);
        last->kind[pfn] = kind_of[frame];
        copy_numbered(last->page[pfn], frame, kind_of[frame], frame_of);
    }
}

/* The pages that the tools write for a new domain are in test_save_helper.c. */
static bool is_theirs(uint32_t pfn) { return pfn == START_INFO || pfn == LIST; }

static void check_restored(void)
{
    static uint8_t page[PAGE];
    unsigned nr = 0;

    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++) {
        uint32_t frame = frame_now(pfn);

        EXPECT((frame != NO_FRAME) == last->is_there[pfn]);
        if (frame == NO_FRAME)
            continue;
        nr++;
        copy_numbered(page, frame, last->kind[pfn], frame_now);
        EXPECT(is_theirs(pfn) || !memcmp(page, last->page[pfn], PAGE));
        EXPECT(pinned[frame] == !!(last->kind[pfn] & XEN_DOMCTL_PFINFO_LPINTAB));
        EXPECT(!pinned[frame] || pinned_as[frame] == (last->kind[pfn] & XEN_DOMCTL_PFINFO_LTABTYPE_MASK));
    }
    for (uint32_t frame = 0; frame < NR_FRAMES; frame++)
        nr -= owned[frame];
    EXPECT(!nr);                    /* it has no frame that it has no number for */
}

/* --- What it does --- */

static unsigned work, next_new = FIRST_NEW, held;
static bool is_busy;                /* as much as it can, and of all kinds */

static struct { unsigned what, step; uint32_t a, b; } under_way;
enum { NOTHING, LOSE, GAIN, SWAP, WHATS };

static uint32_t some_pfn(void) { return DATA + (uint32_t)rand() % (NR_PFNS - DATA); }
static bool is_data(uint32_t pfn) { return frame_of(pfn) != NO_FRAME && kind_of[frame_of(pfn)] == XEN_DOMCTL_PFINFO_NOTAB; }
static bool is_changing(uint32_t pfn) { return under_way.what && (pfn == under_way.a || pfn == under_way.b); }

static void set_word(uint32_t pfn, unsigned i, uint32_t value)
{
    words(frame_of(pfn))[i] = value;
    written[pfn] = true;
}

static void set_listed(uint32_t pfn, uint32_t frame) { set_word(LIST, pfn, frame); }

static void set_kind(uint32_t pfn, uint32_t kind)
{
    kind_of[frame_of(pfn)] = kind;
    written[pfn] = true;
}

static void fill(uint32_t pfn)
{
    memset(memory[frame_of(pfn)], rand(), PAGE);
    written[pfn] = true;
}

static bool is_table(uint32_t pfn) { return frame_of(pfn) != NO_FRAME && table_level(kind_of[frame_of(pfn)]) == 1; }

/* An entry of one of its tables: for some page, or for none. */
static void change_entry(void)
{
    uint32_t table = rand() % 2 ? TABLE : some_pfn(), to = some_pfn();

    if (is_table(table) && frame_of(to) != NO_FRAME && !is_changing(to))
        set_word(table, (unsigned)rand() % ENTRIES, rand() % 4 ? frame_of(to) << 12 | 0x25 : ABSENT);
}

/* Data becomes a table, a table is pinned or unpinned, or becomes data. */
static void change_kind(void)
{
    uint32_t pfn = some_pfn();

    if (pfn == BALLOONED || frame_of(pfn) == NO_FRAME || is_changing(pfn))
        return;
    if (is_data(pfn)) {
        memset(memory[frame_of(pfn)], 0, PAGE);
        set_word(pfn, 7, frame_of(TABLE) << 12 | 0x21);
        set_kind(pfn, rand() % 2 ? XEN_DOMCTL_PFINFO_L1TAB : PINNED_L1);
    } else if (rand() % 2) {
        set_kind(pfn, kind_of[frame_of(pfn)] ^ XEN_DOMCTL_PFINFO_LPINTAB);
    } else {
        set_kind(pfn, XEN_DOMCTL_PFINFO_NOTAB);
        fill(pfn);
    }
}

/* No entry for it is left. */
static void unmap_in(uint32_t table, uint32_t frame)
{
    const uint32_t *e = words(frame_of(table));

    for (unsigned i = 0; i < (table_level(kind_of[frame_of(table)]) == 2 ? OURS : ENTRIES); i++)
        if (e[i] & ENTRY_PRESENT && ENTRY_FRAME(e[i]) == frame)
            set_word(table, i, ABSENT);
}

static void unmap(uint32_t frame)
{
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        if (frame_of(pfn) != NO_FRAME && table_level(kind_of[frame_of(pfn)]))
            unmap_in(pfn, frame);
}

static void lose(void)
{
    if (!under_way.step++) {
        unmap(frame_of(under_way.a));
        owned[frame_of(under_way.a)] = false;
    } else {
        set_listed(under_way.a, NO_FRAME);
        under_way.what = NOTHING;
    }
}

/* First a frame and an entry for it, and then its number. */
static void gain(void)
{
    if (!under_way.step++) {
        owned[next_new] = true;
        kind_of[next_new] = XEN_DOMCTL_PFINFO_NOTAB;
        memset(memory[next_new], rand(), PAGE);
        set_word(TABLE, under_way.a, next_new << 12 | 0x25);
    } else {
        set_listed(under_way.a, next_new++);
        written[under_way.a] = true;
        under_way.what = NOTHING;
    }
}

/* Two numbers have each other's frames, one after the other; entries for these stay. */
static void swap(void)
{
    static uint32_t kept;

    if (!under_way.step++) {
        kept = frame_of(under_way.a);
        set_listed(under_way.a, frame_of(under_way.b));
    } else {
        set_listed(under_way.b, kept);
        written[under_way.a] = written[under_way.b] = true;
        under_way.what = NOTHING;
    }
}

static void begin_something(void)
{
    under_way.a = some_pfn();
    under_way.b = some_pfn();
    under_way.step = 0;
    if (under_way.a == BALLOONED || under_way.a == under_way.b)
        return;
    if (frame_of(under_way.a) == NO_FRAME)
        under_way.what = next_new < FIRST_NEW + 100 ? GAIN : NOTHING;
    else if (is_data(under_way.a) && rand() % 2)
        under_way.what = LOSE;
    else if (is_data(under_way.a) && is_data(under_way.b))
        under_way.what = SWAP;
}

static void go_on(void)
{
    static void (*const steps[WHATS])(void) = { [NOTHING] = begin_something, [LOSE] = lose, [GAIN] = gain, [SWAP] = swap };

    steps[under_way.what]();
}

static void do_something(void)
{
    uint32_t pfn = some_pfn();

    switch (rand() % 8) {
    case 0:
        change_entry();
        return;
    case 1:
        change_kind();
        return;
    case 2:
        go_on();
        return;
    default:
        if (is_data(pfn) && !is_changing(pfn))
            fill(pfn);
    }
}

static bool is_standing;

/* Does nothing but gain a frame: the entry is there before the first report, the number behind the second round's look at the list. */
static bool is_gaining;

static void gain_late(unsigned call)
{
    static unsigned reported_at;

    if (!*log_is_on)
        return;
    if (nr_reports && !reported_at)
        reported_at = call;
    if (!under_way.step) {
        under_way.a = BALLOONED + 1;
        unmap(frame_of(under_way.a));
        set_listed(under_way.a, NO_FRAME);
        gain();
    } else if (under_way.step == 1 && reported_at && call == reported_at + 2) {
        gain();
    }
}

static void run_guest(unsigned call)
{
    if (is_standing)
        return;
    if (is_gaining)
        gain_late(call);
    for (unsigned i = 0; is_busy && i < work; i++)
        do_something();
    /* What a backend has mapped for writing, in a page that nothing else is done to. */
    memory[frame_of(GDT)][PAGE - 1] = (uint8_t)++held;
    written_silently[GDT] = true;
}

/* What is under way comes to its end first, as with a guest that obeys. */
static bool stand_still(void)
{
    while (under_way.what)
        go_on();
    is_standing = true;
    remember();
    return true;
}

/* --- Runs --- */

static int seed;
static bool refuses_to_suspend;
static unsigned terminated_at;
static void (*meanwhile)(void);         /* what happens after some of its calls have been made */
#define SOME_CALLS 30

static bool refuse(void) { return false; }

/* Where they say whom they save is a file of the test's; others are as they are. */
static int savers;
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode)
{
    char ours[32];

    if (strcmp(path, "/run/pvisor-save-helper"))
        return __real_open(path, flags, mode);
    snprintf(ours, sizeof(ours), "/proc/self/fd/%d", savers);
    return __real_open(ours, flags, mode);
}

static void each_call(unsigned call)
{
    if (call == SOME_CALLS && meanwhile)
        meanwhile();
    if (call == terminated_at && *log_is_on)
        raise(SIGTERM);
    run_guest(call);
}

static void live_run(int fd)
{
    srand((unsigned)seed);
    before_call = each_call;
    on_suspend = refuses_to_suspend ? refuse : stand_still;
    save_run(fd);
}

static int saved_live(int *fd)
{
    *fd = memfd_create("saved", 0);
    return run_apart(live_run, *fd);
}

/* What there is of the file, and how it restores. */
static int restored_from(int fd)
{
    int result;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    on_complete = check_restored;
    result = run_apart(restore_run, fd);
    on_complete = NULL;
    return result;
}

static int begin(void **state)
{
    (void)state;
    last = mmap(NULL, sizeof(*last), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    make_memory();
    make_guest();
    save_flags = LIVE;
    savers = memfd_create("savers", 0);
    return last == MAP_FAILED || savers < 0;
}

static int begin_test(void **state)
{
    (void)state;
    *log_is_on = refuses_to_suspend = false;
    on_complete = NULL;
    meanwhile = NULL;
    failing_call = terminated_at = 0;
    is_gaining = false;
    is_busy = true;
    work = 40;
    seed = 1;
    save_flags = LIVE;
    return 0;
}

static void what_stood_still_at_last_is_restored(void **state)
{
    int fd;

    (void)state;
    for (seed = 1; seed <= 25; seed++) {
        work = (unsigned)seed * 5;
        assert_int_equal(saved_live(&fd), DONE);
        assert_false(*log_is_on);
        assert_int_equal(restored_from(fd), DONE);
        close(fd);
    }
}

static void rounds_end(void **state)
{
    int fd;

    (void)state;
    work = 300;         /* more than a round would have to have for another */
    assert_int_equal(saved_live(&fd), DONE);
    assert_int_equal(last->reports, 4);
    assert_int_equal(restored_from(fd), DONE);
    close(fd);
    is_busy = false;
    assert_int_equal(saved_live(&fd), DONE);
    assert_int_equal(last->reports, 1);
    assert_int_equal(restored_from(fd), DONE);
    close(fd);
}

static void what_does_not_fit_yet_is_sent_later(void **state)
{
    int fd;

    (void)state;
    is_busy = false;
    is_gaining = true;
    assert_int_equal(saved_live(&fd), DONE);
    assert_true(last->is_there[BALLOONED + 1]);
    assert_int_equal(last->reports, 1);
    assert_int_equal(restored_from(fd), DONE);
    close(fd);
}

static void an_error_leaves_no_log(void **state)
{
    int fd, result = REFUSED;

    (void)state;
    for (failing_call = 1; result != DONE; failing_call++) {
        result = saved_live(&fd);
        assert_true(result == REFUSED || result == DONE);
        assert_false(*log_is_on);
        close(fd);
    }
    assert_true(failing_call > 40);
    refuses_to_suspend = true;
    assert_int_equal(saved_live(&fd), REFUSED);
    assert_false(*log_is_on);
    close(fd);
}

/* A file that has no room for more. */
static int full_after(off_t size)
{
    int fd = memfd_create("full", MFD_ALLOW_SEALING);

    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    return fd;
}

static void a_reader_that_is_gone_leaves_no_log(void **state)
{
    int fd, result = REFUSED;
    unsigned refused = 0;

    (void)state;
    for (off_t size = 100; result != DONE; size += size / 3) {
        fd = full_after(size);
        result = run_apart(live_run, fd);
        refused += result == REFUSED;
        assert_true(result == REFUSED || result == DONE);
        assert_false(*log_is_on);
        close(fd);
    }
    assert_true(refused > 20);
}

static void who_is_told_to_end_leaves_no_log(void **state)
{
    unsigned refused = 0;
    int fd;

    (void)state;
    for (terminated_at = 1; terminated_at < 40; terminated_at += 2) {
        refused += saved_live(&fd) == REFUSED;
        assert_false(*log_is_on);
        close(fd);
    }
    assert_true(refused > 10);
}

/* --- A second one --- */

/* Itself, and not what has to be put right of the first one's. */
static void save_anew(int fd)
{
    at_end(NULL);
    before_call = NULL;
    save_run(fd);
}

static int saved_anew(void)
{
    int fd = memfd_create("anew", 0), result = run_apart(save_anew, fd);

    close(fd);
    return result;
}

static void another_begins(void) { EXPECT(saved_anew() == REFUSED && *log_is_on); }
static void it_is_killed(void) { raise(SIGKILL); }

static void a_second_one_is_refused_until_the_first_has_ended(void **state)
{
    int fd;

    (void)state;
    meanwhile = another_begins;
    assert_int_equal(saved_live(&fd), DONE);
    assert_int_equal(restored_from(fd), DONE);
    close(fd);
    meanwhile = it_is_killed;
    assert_int_equal(saved_live(&fd), -1);
    assert_true(*log_is_on);
    close(fd);
    *log_is_on = false;         /* as xen_begin_log() has it */
    assert_int_equal(saved_anew(), DONE);
}

/* --- Guests that stand still and do not fit together --- */

static uint32_t *spoilt_word, spoilt_value;

static bool stand_spoilt(void)
{
    stand_still();
    *spoilt_word = spoilt_value;
    written[TABLE] = written[LIST] = true;
    return true;
}

static void spoilt_run(int fd)
{
    before_call = run_guest;
    on_suspend = stand_spoilt;
    save_run(fd);
}

static void expect_refused(uint32_t *word, uint32_t value)
{
    int fd = memfd_create("saved", 0);

    spoilt_word = word;
    spoilt_value = value;
    assert_int_equal(run_apart(spoilt_run, fd), REFUSED);
    assert_false(*log_is_on);
    close(fd);
}

static void a_guest_that_stands_still_must_fit_together(void **state)
{
    struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];

    (void)state;
    is_busy = false;
    expect_refused(words(saved_frame(TABLE)) + 3, 0x3001u << 12 | 1);
    expect_refused(words(saved_frame(TABLE)) + 3, FIRST_NEW << 12 | 1);
    expect_refused(words(saved_frame(LIST)) + DATA, saved_frame(DATA + 1));
    expect_refused(words(saved_frame(LIST)) + LIST, NO_FRAME);
    expect_refused(&s->arch.max_pfn, NR_PFNS - 1);
    expect_refused(&s->arch.pfn_to_mfn_frame_list_list, NR_FRAMES);
    expect_refused(words(saved_frame(LIST_MIDDLE)), saved_frame(DATA));
    expect_refused(&its_context->ctrlreg[3], xen_pfn_to_cr3_x86_32(0x3001));
}

/* --- Pages that are compared --- */

static bool expects_errors;

static void check_errors(void)
{
    EXPECT(expects_errors ? errors_said > 0 : errors_said == 0);
    check_restored();
}

static void pages_are_compared_if_libxl_says_so(void **state)
{
    struct { struct record_head verify, pages; } here = { { .type = REC_VERIFY }, { .type = REC_PAGE_DATA } };
    uint8_t *bytes, *at;
    size_t size;
    int fd;

    (void)state;
    save_flags = LIVE | DEBUG_TOO;
    assert_int_equal(saved_live(&fd), DONE);
    bytes = stream_from(fd, &size);
    on_complete = check_errors;
    expects_errors = false;
    assert_int_equal(restored(bytes, size), DONE);
    at = memmem(bytes, size, &here, sizeof(here) - sizeof(here.pages.length));
    assert_non_null(at);
    at[sizeof(here) + sizeof(struct page_data) + NR_PFNS * 8 + 50 * PAGE]++;
    expects_errors = true;
    assert_int_equal(restored(bytes, size), DONE);
    on_complete = NULL;
    free(bytes);
}

/* --- Streams with pages that come again and again --- */

static struct { uint8_t *bytes; size_t size, pages_at, pages_end; } plain;

static bool stand(void)
{
    remember();
    return true;
}

static void plain_run(int fd)
{
    on_suspend = stand;
    save_run(fd);
}

static struct record_head *record_at(size_t at) { return (void *)(plain.bytes + at); }

static void save_plain(void)
{
    int fd = memfd_create("saved", 0);

    save_flags = 0;
    assert_int_equal(run_apart(plain_run, fd), DONE);
    plain.bytes = stream_from(fd, &plain.size);
    plain.pages_at = sizeof(struct stream_head);
    while (record_at(plain.pages_at)->type != REC_PAGE_DATA)
        plain.pages_at += sizeof(struct record_head) + (record_at(plain.pages_at)->length + 7) / 8 * 8;
    plain.pages_end = plain.pages_at + sizeof(struct record_head) + (record_at(plain.pages_at)->length + 7) / 8 * 8;
}

/* A record of pages of the guest's, of any kinds, some of them several times. */
static void put_noise(FILE *f)
{
    static const uint32_t kinds[] = { XEN_DOMCTL_PFINFO_NOTAB, XEN_DOMCTL_PFINFO_L1TAB, PINNED_L1, XEN_DOMCTL_PFINFO_L2TAB,
                                      XEN_DOMCTL_PFINFO_L2TAB | XEN_DOMCTL_PFINFO_LPINTAB, XEN_DOMCTL_PFINFO_XTAB };
    struct { struct record_head head; struct page_data data; } r = { { REC_PAGE_DATA, 0 }, { .count = 1 + (uint32_t)rand() % 200 } };
    uint8_t page[PAGE];
    uint64_t word[200];
    unsigned nr = 0;

    for (unsigned i = 0; i < r.data.count; i++) {
        word[i] = PAGE_WORD((unsigned)rand() % NR_PFNS, kinds[rand() % 6]);
        nr += has_page(PAGE_KIND(word[i]));
    }
    r.head.length = (uint32_t)(sizeof(r.data) + r.data.count * sizeof(*word) + nr * PAGE);
    fwrite(&r, sizeof(r), 1, f);
    fwrite(word, sizeof(*word), r.data.count, f);
    while (nr--) {
        memset(page, rand(), PAGE);
        fwrite(page, PAGE, 1, f);
    }
}

static void put_records(FILE *f, size_t from, size_t to) { fwrite(plain.bytes + from, to - from, 1, f); }

/* How a stream restores with so many records of noise before the guest's pages, and behind them. */
static int restored_with(unsigned before, unsigned behind)
{
    char *bytes = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&bytes, &size);
    int result;

    put_records(f, 0, plain.pages_at);
    while (before--)
        put_noise(f);
    put_records(f, plain.pages_at, plain.pages_end);
    while (behind--)
        put_noise(f);
    put_records(f, plain.pages_end, plain.size);
    fclose(f);
    result = restored((const uint8_t *)bytes, size);
    free(bytes);
    return result;
}

static void the_last_that_comes_of_a_page_counts(void **state)
{
    (void)state;
    srand(1);
    save_plain();
    on_complete = check_restored;
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(restored_with(1 + i % 5, 0), DONE);
    assert_int_equal(restored_with(100, 0), DONE);
    on_complete = NULL;
    free(plain.bytes);
}

static void whatever_comes_last(void **state)
{
    unsigned refused = 0;

    (void)state;
    srand(2);
    save_plain();
    for (unsigned i = 0; i < 40; i++) {
        int result = restored_with(i % 3, 1 + i % 3);

        assert_true(result == DONE || result == REFUSED);
        refused += result == REFUSED;
    }
    assert_true(refused > 10);
    free(plain.bytes);
}

/* In the numbers at the beginning and in the vCPUs at the end, mostly. */
static size_t some_place(size_t size)
{
    size_t places[] = { (size_t)rand() % 3000, size - 1 - (size_t)rand() % 9000, (size_t)rand() % size };

    return places[rand() % 3];
}

static void whatever_is_in_a_stream_of_rounds(void **state)
{
    struct ends ends;
    uint8_t *bytes;
    size_t size;
    int fd;

    (void)state;
    save_flags = LIVE | DEBUG_TOO;
    assert_int_equal(saved_live(&fd), DONE);
    bytes = stream_from(fd, &size);
    ends = run_spoilt(restored, bytes, size, some_place, 50);
    assert_int_equal(ends.others, 0);
    assert_true(ends.done > 3 && ends.refused > 3);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_stood_still_at_last_is_restored, begin_test),
        cmocka_unit_test_setup(rounds_end, begin_test),
        cmocka_unit_test_setup(what_does_not_fit_yet_is_sent_later, begin_test),
        cmocka_unit_test_setup(an_error_leaves_no_log, begin_test),
        cmocka_unit_test_setup(a_reader_that_is_gone_leaves_no_log, begin_test),
        cmocka_unit_test_setup(who_is_told_to_end_leaves_no_log, begin_test),
        cmocka_unit_test_setup(a_second_one_is_refused_until_the_first_has_ended, begin_test),
        cmocka_unit_test_setup(a_guest_that_stands_still_must_fit_together, begin_test),
        cmocka_unit_test_setup(pages_are_compared_if_libxl_says_so, begin_test),
        cmocka_unit_test_setup(the_last_that_comes_of_a_page_counts, begin_test),
        cmocka_unit_test_setup(whatever_comes_last, begin_test),
        cmocka_unit_test_setup(whatever_is_in_a_stream_of_rounds, begin_test),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
