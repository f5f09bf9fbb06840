/*
 * tools/template over a hypervisor of arrays: what a file of xl save has becomes a template and that a domain, which is what it was in
 * other frames, in both formats; and whatever either file has in it, something is made of it or it is said why not.
 */
// SOURCES: tools/template/make.c tools/template/file.c tools/template/load.c tests/unit/fake/tools.c
// SOURCES: tools/save-helper/read.c tools/save-helper/state.c tools/save-helper/stream.c
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <arpa/inet.h>
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../tools/template/template.h"
#include "fake/tools.h"

#include <xen/foreign/x86_32.h>
#include <xen/grant_table.h>

/* --- The guest: its own numbers --- */

enum pfn { START_INFO, STORE, CONSOLE, LIST_1, LIST_2, ROOT, USER_ROOT, TABLE_3, TABLE_2, TABLE_1, GDT, ZERO = 20, BALLOONED = 30, FEW = 60,
           LAST = 590, NR_PFNS = 600 };
#define ABSENT_ENTRY 0xdeadbee0ull      /* one that is not present */
#define FLAGS        0x8000000000000067ull

static const struct pv_info pae = { .width = 4, .levels = 3 }, wide = { .width = 8, .levels = 4 };
static struct pv_info form;
static bool is_wide(void) { return form.width == 8; }

static unsigned level_of(uint32_t pfn)
{
    return pfn == ROOT ? form.levels : pfn == USER_ROOT && is_wide() ? 4 : pfn == TABLE_3 && is_wide() ? 3 : pfn == TABLE_2 ? 2 :
           pfn == TABLE_1 ? 1 : 0;
}

static bool is_pinned(uint32_t pfn) { return pfn == ROOT || (pfn == USER_ROOT && is_wide()); }
/* Little, since each test copies it often; but there are numbers enough for a large extent, and for a list of two pages. */
static bool is_there(uint32_t pfn) { return pfn < BALLOONED || (pfn > BALLOONED + 3 && pfn < FEW) || pfn == LAST; }

static uint64_t entry(uint32_t table, unsigned i)
{
    uint32_t to = table == TABLE_1 ? i : table == TABLE_2 ? TABLE_1 : table == TABLE_3 || !is_wide() ? TABLE_2 : TABLE_3;

    return (table == TABLE_1 ? !is_there(i) : i > 1) ? ABSENT_ENTRY : FLAGS | (uint64_t)to << 12;
}

static void fill_page(uint8_t *page, uint32_t pfn)
{
    uint64_t *words = (uint64_t *)page;

    memset(page, pfn == ZERO ? 0 : (int)(pfn % 255 + 1), PAGE);
    for (unsigned i = 0; level_of(pfn) && i < 512; i++)
        words[i] = entry(pfn, i);
    if (pfn == START_INFO && is_wide()) {
        ((struct start_info *)page)->store_mfn = STORE;
        ((struct start_info *)page)->console.domU.mfn = CONSOLE;
    } else if (pfn == START_INFO) {
        ((struct start_info_x86_32 *)page)->store_mfn = STORE;
        ((struct start_info_x86_32 *)page)->console.domU.mfn = CONSOLE;
    }
}

/* --- What xl save has of it --- */

static uint8_t *file;
static size_t file_size;

static void put(const void *bytes, size_t size)
{
    if (size)
        memcpy(file + file_size, bytes, size);
    file_size += size;
}

static void put_record(uint32_t type, const void *head, size_t head_size, const void *body, size_t size)
{
    static const uint8_t none[8];

    put(&(struct record_head){ type, (uint32_t)(head_size + size) }, sizeof(struct record_head));
    put(head, head_size);
    put(body, size);
    put(none, -(head_size + size) & 7);
}

static void put_heads(const char *settings)
{
    const struct { char magic[32]; uint32_t order, mandatory, optional, size; } xl = {
        "Xen saved domain, xl format\n \0 \r", 0x01020304, 3, 0, (uint32_t)strlen(settings) + 5 };
    const struct { uint64_t id; uint32_t version, options; } libxl = { htobe64(0x4c6962786c466d74), htonl(2), 0 };
    const struct stream_head head = { .marker = ~0ull, .id = htonl(STREAM_ID), .version = htonl(STREAM_VERSION), .type = DOMAIN_PV,
                                      .page_shift = 12 };
    uint32_t length = (uint32_t)strlen(settings) + 1;

    put(&xl, sizeof(xl));
    put(&length, sizeof(length));
    put(settings, length);
    put(&libxl, sizeof(libxl));
    put(&(struct record_head){ 1, 0 }, sizeof(struct record_head));
    put(&head, sizeof(head));
}

static void put_pages(uint32_t first, uint32_t count)
{
    struct { struct page_data head; uint64_t word[MAX_BATCH]; } names = { .head.count = count };
    static uint8_t pages[MAX_BATCH][PAGE];
    unsigned nr = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t pfn = first + i;

        names.word[i] = PAGE_WORD(pfn, is_there(pfn) ? level_of(pfn) << XEN_DOMCTL_PFINFO_LTAB_SHIFT | (is_pinned(pfn) ?
                                  XEN_DOMCTL_PFINFO_LPINTAB : 0) : XEN_DOMCTL_PFINFO_XTAB);
        if (is_there(pfn))
            fill_page(pages[nr++], pfn);
    }
    put_record(REC_PAGE_DATA, &names, sizeof(names.head) + count * sizeof(names.word[0]), pages, (size_t)nr * PAGE);
}

static void put_context(void)
{
    static const struct vcpu_head head;
    struct vcpu_guest_context c64 = { .user_regs.rdx = START_INFO, .gdt_frames = { GDT }, .gdt_ents = 100, .kernel_sp = 0x1234,
                                      .ctrlreg = { [1] = USER_ROOT << 12 | 1, [3] = ROOT << 12 } };
    struct vcpu_guest_context_x86_32 c32 = { .user_regs.edx = START_INFO, .gdt_frames = { GDT }, .gdt_ents = 100, .kernel_sp = 0x1234,
                                             .ctrlreg = { [3] = xen_pfn_to_cr3_x86_32(ROOT) } };

    put_record(REC_VCPU_BASIC, &head, sizeof(head), is_wide() ? (void *)&c64 : &c32, is_wide() ? sizeof(c64) : sizeof(c32));
    put_record(REC_VCPU_XSAVE, &head, sizeof(head), file, 600);
}

static void put_shared_info(void)
{
    static uint8_t page[PAGE];
    struct shared_info *s = (void *)page;
    struct shared_info_x86_32 *s32 = (void *)page;

    memset(page, 0x55, sizeof(page));
    if (is_wide())
        s->vcpu_info[3].arch.cr2 = 77;
    else
        s32->vcpu_info[3].arch.cr2 = 77;
    put_record(REC_SHARED_INFO, NULL, 0, page, PAGE);
}

/* What stands before its memory. */
static void put_front(const struct pv_info *as)
{
    const struct p2m_frames list = { .end = NR_PFNS - 1 };
    static const uint64_t list_at[] = { LIST_1, LIST_2 };
    static const xen_cpuid_leaf_t leaves[2];
    static const xen_msr_entry_t msrs[1];

    form = *as;
    file_size = 0;
    put_heads("{\"b_info\": {\"max_vcpus\": 3, \"max_memkb\": 8192, \"target_memkb\": 4096}}");
    put_record(REC_PV_INFO, &form, sizeof(form), NULL, 0);
    put_record(REC_CPUID_POLICY, leaves, sizeof(leaves), NULL, 0);
    put_record(REC_MSR_POLICY, msrs, sizeof(msrs), NULL, 0);
    put_record(REC_STATIC_DATA_END, NULL, 0, NULL, 0);
    put_record(REC_P2M_FRAMES, &list, sizeof(list), list_at, (is_wide() ? 2 : 1) * sizeof(list_at[0]));
}

static void put_back(void)
{
    static const struct tsc_info tsc;

    put_record(REC_TSC_INFO, &tsc, sizeof(tsc), NULL, 0);
    put_shared_info();
    put_context();
    put_record(REC_END, NULL, 0, NULL, 0);
}

static void save_guest(const struct pv_info *as)
{
    put_front(as);
    put_pages(0, 400);
    put_pages(400, NR_PFNS - 400);
    put_back();
}

/* --- Runs --- */

static int made = -1;           /* a file, what make left */

static void make_run(int from)
{
    template_make(from, made);
    _exit(DONE);
}

static int make_of(const uint8_t *bytes, size_t size)
{
    int from = file_of(bytes, size), result;

    if (made >= 0)
        close(made);
    made = memfd_create("template", 0);
    result = run_apart(make_run, from);
    close(from);
    return result;
}

static bool checks_result;
static void check_guest(const struct template *t, const struct job *j);

static uint32_t frame_now(uint32_t pfn);

/* Nobody may write to a descriptor table. */
void describe(struct xen_domctl *op, uint32_t cmd)
{
    (void)op;
    EXPECT(cmd != XEN_DOMCTL_setvcpucontext || !checks_result || !is_mapped_for_writing(frame_now(GDT)));
}

static void load_guest(const struct template *t, struct job *j)
{
    load_begin(t);
    load_memory(j);
    forget_mappings();
    load_vcpus(j);
}

static void load_run(int from)
{
    static struct template t;
    struct job j = { .store_port = 11, .console_port = 12, .shared_info = (uint64_t)SHARED_INFO << 12, .keeper = kept ? 5 : 0 };
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
    template_open(&t, path);
    forget_domain();
    next_frame = SHARED_INFO;
    set_policy(t.saved);
    load_guest(&t, &j);
    if (checks_result)
        check_guest(&t, &j);
    _exit(DONE);
}

/* --- What a loaded guest is --- */

static uint32_t list_frame;     /* of the list's first page */

static uint32_t frame_now(uint32_t pfn)
{
    uint64_t value = 0;

    for (uint32_t f = 1; f < NR_FRAMES && !list_frame; f++) {       /* by what it says of itself */
        memcpy(&value, memory[f] + LIST_1 * form.width, form.width);
        if (owned[f] && value == f)
            list_frame = f;
    }
    EXPECT(list_frame);
    value = 0;
    if (pfn * form.width < PAGE)
        memcpy(&value, memory[list_frame] + pfn * form.width, form.width);
    else
        memcpy(&value, memory[frame_now(LIST_2)] + pfn * form.width - PAGE, form.width);
    return (uint32_t)value;
}

static void check_page(uint32_t pfn)
{
    static uint8_t page[PAGE];
    uint64_t *words = (uint64_t *)page;

    fill_page(page, pfn);
    for (unsigned i = 0; level_of(pfn) && i < 512; i++)
        if (words[i] & 1)
            words[i] = FLAGS | (uint64_t)frame_now((words[i] & ~FLAGS) >> 12) << 12;
    EXPECT(!memcmp(memory[frame_now(pfn)], page, PAGE));
    EXPECT(pinned[frame_now(pfn)] == is_pinned(pfn) && (!is_pinned(pfn) || table_level(pinned_as[frame_now(pfn)]) == form.levels));
}

static void check_infos(const struct job *j)
{
    const struct start_info *i = (void *)memory[frame_now(START_INFO)];
    const struct shared_info *s = (void *)memory[SHARED_INFO];

    EXPECT(j->rings.store == frame_now(STORE) && j->rings.console == frame_now(CONSOLE));
    EXPECT(granted[GNTTAB_RESERVED_XENSTORE].frame == j->rings.store && granted[GNTTAB_RESERVED_CONSOLE].frame == j->rings.console);
    if (!is_wide())
        return;
    EXPECT(i->store_mfn == j->rings.store && i->store_evtchn == 11 && i->console.domU.mfn == j->rings.console);
    EXPECT(i->console.domU.evtchn == 12 && i->nr_pages == NR_PFNS && i->shared_info == SHARED_INFO << 12 && !i->flags);
    EXPECT(!s->arch.pfn_to_mfn_frame_list_list && !s->arch.p2m_cr3 && s->arch.max_pfn == 0x5555555555555555 && !s->wc_sec);
    EXPECT(s->vcpu_info[3].arch.cr2 == 77 && !s->vcpu_info[3].evtchn_pending_sel && !s->evtchn_pending[1] && s->evtchn_mask[63] == ~0ul);
}

static void check_infos_of_pae(void)
{
    const struct start_info_x86_32 *i = (void *)memory[frame_now(START_INFO)];
    const struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];

    EXPECT(i->store_mfn == frame_now(STORE) && i->store_evtchn == 11 && i->console.domU.mfn == frame_now(CONSOLE));
    EXPECT(i->console.domU.evtchn == 12 && i->nr_pages == NR_PFNS && i->shared_info == SHARED_INFO << 12 && !i->flags);
    EXPECT(!s->arch.pfn_to_mfn_frame_list_list && !s->arch.p2m_cr3 && s->arch.max_pfn == 0x55555555);
    EXPECT(s->vcpu_info[3].arch.cr2 == 77 && !s->vcpu_info[3].evtchn_pending_sel && !s->evtchn_pending[1] && s->evtchn_mask[31] == ~0u);
}

static void check_context(void)
{
    const struct vcpu_guest_context_x86_32 *c32 = (void *)&context;
    const vcpu_guest_context_t *c = &context.c64;

    EXPECT(has_context && has_policy);
    if (is_wide()) {
        EXPECT(c->user_regs.rdx == frame_now(START_INFO) && c->gdt_frames[0] == frame_now(GDT) && c->flags & VGCF_online);
        EXPECT(c->ctrlreg[3] == (uint64_t)frame_now(ROOT) << 12 && c->ctrlreg[1] == (uint64_t)frame_now(USER_ROOT) << 12);
        EXPECT(c->kernel_sp == 0x1234 && c->gdt_ents == 100);
    } else {
        EXPECT(c32->user_regs.edx == frame_now(START_INFO) && c32->gdt_frames[0] == frame_now(GDT) && c32->flags & VGCF_online);
        EXPECT(c32->ctrlreg[3] == xen_pfn_to_cr3_x86_32(frame_now(ROOT)) && c32->kernel_sp == 0x1234 && c32->gdt_ents == 100);
    }
}

static void check_guest(const struct template *t, const struct job *j)
{
    EXPECT(t->head.nr_vcpus == 3 && t->head.max_kib == 8192 && t->head.target_kib == 4096);
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        if (!is_there(pfn))
            EXPECT(frame_now(pfn) == NO_FRAME);
        else if (pfn != START_INFO && pfn != LIST_1 && (pfn != LIST_2 || !is_wide()))
            check_page(pfn);
    check_infos(j);
    if (!is_wide())
        check_infos_of_pae();
    check_context();
}

static void expect_what_it_was(const struct pv_info *as)
{
    save_guest(as);
    assert_int_equal(make_of(file, file_size), DONE);
    checks_result = true;
    assert_int_equal(run_apart(load_run, made), DONE);
    assert_int_equal(run_apart(load_run, made), DONE);      /* a template stays what it is */
    checks_result = false;
}

static void is_what_it_was_in_other_frames(void **state)
{
    (void)state;
    expect_what_it_was(&wide);
    expect_what_it_was(&pae);
}

/* --- Kept in memory --- */

static uint8_t *template_of(const struct pv_info *as, size_t *size)
{
    uint8_t *bytes;

    save_guest(as);
    assert_int_equal(make_of(file, file_size), DONE);
    *size = (size_t)lseek(made, 0, SEEK_END);
    bytes = malloc(*size);
    assert_int_equal(pread(made, bytes, *size, 0), *size);
    return bytes;
}

static void keep_run(int from)
{
    static struct template t;
    static uint8_t content[NR_FRAMES], page[PAGE];
    struct template pages;

    (void)from;
    template_open(&t, "/proc/self/fd/100");
    forget_domain();
    next_frame = SHARED_INFO;
    memset(content, DATA, sizeof(content));
    pages = (struct template){ .fd = t.fd, .head = { .nr_pfns = t.head.nr_data, .nr_data = t.head.nr_data }, .content = content };
    load_begin(&pages);
    load_kept(&pages);
    for (uint32_t i = 0; i < t.head.nr_data; i++) {
        EXPECT(pread(t.fd, page, PAGE, (off_t)(DATA_AT + (uint64_t)i * PAGE)) == PAGE);
        EXPECT(!memcmp(memory[readable[FREE_GRANT + i]], page, PAGE));
    }
    _exit(DONE);
}

static void is_what_it_was_from_who_keeps_it(void **state)
{
    size_t size = 0;
    uint8_t *bytes = template_of(&wide, &size);

    (void)state;
    assert_int_equal(dup2(made, 100), 100);
    assert_int_equal(run_apart(keep_run, 0), DONE);
    close(100);
    kept = bytes + DATA_AT;
    checks_result = true;
    assert_int_equal(run_apart(load_run, made), DONE);
    checks_result = false;
    kept = NULL;
    free(bytes);
}

/* --- The file that it is made in --- */

static char directory[32], target[64];
static const char *source;

static void make_file_run(int argument)
{
    (void)argument;
    template_make_file(source, target);
    _exit(DONE);
}

/* A directory of its own, and one that is gone again: nothing but the template may be left in it. */
static void begin_directory(void)
{
    strcpy(directory, "/tmp/template-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(target, sizeof(target), "%s/T", directory);
}

static void end_directory(void)
{
    unlink(target);
    assert_int_equal(rmdir(directory), 0);
}

static void expect_template(const uint8_t *bytes, size_t size)
{
    static uint8_t now[1 << 22];
    int fd = open(target, O_RDONLY);
    size_t id = offsetof(struct template_head, id), behind = id + sizeof(((struct template_head *)0)->id);

    assert_true(fd >= 0 && size < sizeof(now));
    assert_int_equal(read(fd, now, sizeof(now)), size);
    assert_memory_equal(now, bytes, id);
    assert_memory_equal(now + behind, bytes + behind, size - behind);
    close(fd);
}

/* Of which some has come, and then no more until there is another template of that name, of another guest. */
static void write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t n = write(fd, bytes, size);

        EXPECT(n > 0);
        bytes += n;
        size -= (size_t)n;
    }
}

static bool is_empty(int fd)
{
    int left;

    return !ioctl(fd, FIONREAD, &left) && !left;
}

static void two_of_one_name_do_not_mix(void **state)
{
    size_t wide_size, size;
    uint8_t *of_wide = template_of(&wide, &wide_size), *of_pae = template_of(&pae, &size);
    int ends[2], fd = file_of(file, file_size), status;
    char slow[32], quick[32];
    pid_t first;

    (void)state;
    begin_directory();
    assert_int_equal(pipe(ends), 0);
    snprintf(slow, sizeof(slow), "/proc/self/fd/%d", ends[0]);
    snprintf(quick, sizeof(quick), "/proc/self/fd/%d", fd);
    save_guest(&wide);
    first = fork();
    source = slow;
    if (!first) {
        close(ends[1]);
        make_file_run(0);
    }
    write_all(ends[1], file, file_size / 2);
    while (!is_empty(ends[0]))
        usleep(1000);
    source = quick;
    assert_int_equal(run_apart(make_file_run, 0), DONE);
    expect_template(of_pae, size);
    write_all(ends[1], file + file_size / 2, file_size - file_size / 2);
    close(ends[1]);
    assert_int_equal(waitpid(first, &status, 0), first);
    assert_int_equal(status, DONE);
    expect_template(of_wide, wide_size);
    end_directory();
    close(ends[0]);
    close(fd);
    free(of_wide);
    free(of_pae);
}

static void what_fails_leaves_what_was_there(void **state)
{
    char name[32];
    size_t size;
    uint8_t *bytes = template_of(&wide, &size);
    int whole = file_of(file, file_size), cut = file_of(file, file_size / 2);
    struct stat s;

    (void)state;
    begin_directory();
    for (unsigned i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "/proc/self/fd/%d", i ? cut : whole);
        source = name;
        assert_int_equal(run_apart(make_file_run, 0), i ? REFUSED : DONE);
        expect_template(bytes, size);
    }
    assert_int_equal(stat(target, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    end_directory();
    close(whole);
    close(cut);
    free(bytes);
}

/* --- Frames --- */

static unsigned wanted_large;

static void load_and_count(int from)
{
    static struct template t;
    struct job j = { .shared_info = (uint64_t)SHARED_INFO << 12 };
    uint8_t *content;

    (void)from;
    template_open(&t, "/proc/self/fd/100");
    content = (uint8_t *)t.content;
    forget_domain();
    next_frame = SHARED_INFO;
    for (unsigned pfn = 0; pfn < 512; pfn++)        /* a whole one, then */
        content[pfn] = content[pfn] == ABSENT ? EMPTY : content[pfn];
    load_guest(&t, &j);
    EXPECT(extents[9] == wanted_large && extents[0] == 513 - wanted_large * 512);
    _exit(DONE);
}

static void frames_come_in_large_extents_if_there_are_any(void **state)
{
    (void)state;
    save_guest(&wide);
    assert_int_equal(make_of(file, file_size), DONE);
    assert_int_equal(dup2(made, 100), 100);
    wanted_large = 1;
    assert_int_equal(run_apart(load_and_count, 0), DONE);
    wanted_large = largest = 0;
    assert_int_equal(run_apart(load_and_count, 0), DONE);
    largest = 9;
    close(100);
}

/* --- Hostile files --- */

static void a_saved_domain_that_ends_early_is_refused(void **state)
{
    (void)state;
    save_guest(&wide);
    for (size_t size = 0; size < file_size; size += size < 700 ? 13 : 30001)
        assert_int_equal(make_of(file, size), REFUSED);
    assert_int_equal(make_of(file, file_size - 1), REFUSED);
}

#define ROUNDS 80

/* Where numbers are and not pages, mostly. */
static size_t some_place(size_t size)
{
    size_t front = (size_t)rand() % (rand() % 2 ? 64 : 1200), back = size - 1 - (size_t)rand() % 15000;

    return rand() % 8 == 0 ? (size_t)rand() % size : rand() % 2 ? front : back;
}

static void expect_done_or_refused(int (*run)(const uint8_t *bytes, size_t size), const uint8_t *from, size_t size)
{
    struct ends ends = run_spoilt(run, from, size, some_place, ROUNDS);

    assert_int_equal(ends.others, 0);
    assert_true(ends.done > ROUNDS / 20 && ends.refused > ROUNDS / 5);
}

static int make_and_load(const uint8_t *bytes, size_t size)
{
    int result = make_of(bytes, size);

    return result == DONE ? run_apart(load_run, made) : result;
}

static void whatever_is_in_a_saved_domain(void **state)
{
    (void)state;
    save_guest(&wide);
    expect_done_or_refused(make_and_load, file, file_size);
    save_guest(&pae);
    expect_done_or_refused(make_and_load, file, file_size);
}

static int load_of(const uint8_t *bytes, size_t size)
{
    int fd = file_of(bytes, size), result = run_apart(load_run, fd);

    close(fd);
    return result;
}

static void whatever_is_in_a_template(void **state)
{
    size_t size;
    uint8_t *bytes = template_of(&wide, &size);

    (void)state;
    expect_done_or_refused(load_of, bytes, size);
    for (size_t short_of = 1; short_of < size; short_of = short_of * 3 / 2 + 1)
        assert_int_equal(load_of(bytes, size - short_of), REFUSED);
    free(bytes);
}

/* A template whose head has this 32-bit word. */
static void expect_head_refused(const uint8_t *good, size_t size, size_t at, uint32_t value)
{
    uint8_t *bytes = malloc(size);

    memcpy(bytes, good, size);
    memcpy(bytes + at, &value, sizeof(value));
    assert_int_equal(load_of(bytes, size), REFUSED);
    free(bytes);
}

static void sizes_of_a_template_are_looked_at(void **state)
{
    static const uint32_t values[] = { 0, 1, NR_PFNS - 8, NR_PFNS + 8, 1u << 20, 1u << 28, 1u << 31, ~0u };
    size_t size;
    uint8_t *good = template_of(&wide, &size);

    (void)state;
    assert_int_equal(load_of(good, size), DONE);
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        expect_head_refused(good, size, offsetof(struct template_head, nr_pfns), values[i]);
        expect_head_refused(good, size, offsetof(struct template_head, records), values[i]);
        expect_head_refused(good, size, offsetof(struct template_head, nr_data), values[i]);
        expect_head_refused(good, size, offsetof(struct template_head, nr_tables), values[i]);
    }
    expect_head_refused(good, size, offsetof(struct template_head, nr_vcpus), 0);
    expect_head_refused(good, size, offsetof(struct template_head, nr_vcpus), MAX_VCPUS + 1);
    expect_head_refused(good, size, offsetof(struct template_head, version), 2);
    free(good);
}

static void a_non_pae_domain_is_refused(void **state)
{
    static const struct pv_info nonpae = { .width = 4, .levels = 2 };

    (void)state;
    save_guest(&nonpae);
    assert_int_equal(make_of(file, file_size), REFUSED);
}

/* A page that comes again, as while a domain runs, has no place in the order. */
static void a_domain_that_was_saved_while_it_ran_is_refused(void **state)
{
    (void)state;
    save_guest(&wide);
    file_size -= sizeof(struct record_head);
    put_pages(100, 2);
    put_record(REC_END, NULL, 0, NULL, 0);
    assert_int_equal(make_of(file, file_size), REFUSED);
}

/* Without any memory, or without one page of the list: no domain could be begun from that. */
static void a_list_of_frames_that_has_not_come_is_refused(void **state)
{
    (void)state;
    put_front(&wide);
    put_back();
    assert_int_equal(make_of(file, file_size), REFUSED);
    put_front(&wide);
    put_pages(0, LIST_2);
    put_pages(LIST_2 + 1, NR_PFNS - LIST_2 - 1);
    put_back();
    assert_int_equal(make_of(file, file_size), REFUSED);
}

static int begin(void **state)
{
    (void)state;
    make_memory();
    file = calloc(1, 1u << 20);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_it_was_in_other_frames),
        cmocka_unit_test(is_what_it_was_from_who_keeps_it),
        cmocka_unit_test(two_of_one_name_do_not_mix),
        cmocka_unit_test(what_fails_leaves_what_was_there),
        cmocka_unit_test(frames_come_in_large_extents_if_there_are_any),
        cmocka_unit_test(a_saved_domain_that_ends_early_is_refused),
        cmocka_unit_test(whatever_is_in_a_saved_domain),
        cmocka_unit_test(whatever_is_in_a_template),
        cmocka_unit_test(sizes_of_a_template_are_looked_at),
        cmocka_unit_test(a_non_pae_domain_is_refused),
        cmocka_unit_test(a_domain_that_was_saved_while_it_ran_is_refused),
        cmocka_unit_test(a_list_of_frames_that_has_not_come_is_refused),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
