/*
 * tools/save-helper over a hypervisor of arrays: a guest that is saved and restored is what it was, in other frames; and whatever a stream
 * has in it, the reader restores something or says why not, and touches nothing that it should not.
 */
// SOURCES: tools/save-helper/save.c tools/save-helper/restore.c tools/save-helper/guest.c tests/unit/fake/tools.c
// SOURCES: tools/save-helper/read.c tools/save-helper/state.c tools/save-helper/stream.c
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "../../tools/save-helper/guest.h"
#include "fake/tools.h"

#include <xen/grant_table.h>
#include <xen/sched.h>

/* --- The guest: its own numbers --- */

enum pfn { START_INFO, STORE, CONSOLE, LIST_TOP, LIST_MIDDLE, LIST, ROOT, TABLE, OTHER_ROOT, GDT, DATA, BALLOONED = 30, NR_PFNS = 40 };
#define ABSENT      0xdeadbee0u /* an entry that is not present */

static uint32_t kind_of[NR_FRAMES];     /* of those that are the domain's */
static bool is_non_pae;
static context_t *const its_context = (context_t *)&context;

static uint32_t saved_frame(uint32_t pfn) { return pfn == BALLOONED ? NO_FRAME : 0x100 + pfn * 7 % NR_PFNS; }
static uint32_t *words(uint32_t frame) { return (uint32_t *)memory[frame]; }

static void fill_tables(void)
{
    uint32_t *root = words(saved_frame(ROOT)), *table = words(saved_frame(TABLE));

    memset(root, 0, PAGE);
    memset(table, 0, PAGE);
    root[0] = saved_frame(TABLE) << 12 | 0x67;
    root[5] = saved_frame(ROOT) << 12 | 0x61;       /* the tables as pages */
    root[OURS] = 0x12345067;                        /* whatever the hypervisor has there */
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        table[pfn] = pfn == BALLOONED ? ABSENT : saved_frame(pfn) << 12 | 0x25;
    memcpy(words(saved_frame(OTHER_ROOT)), root, PAGE);
    kind_of[saved_frame(ROOT)] = kind_of[saved_frame(OTHER_ROOT)] = XEN_DOMCTL_PFINFO_L2TAB | XEN_DOMCTL_PFINFO_LPINTAB;
    kind_of[saved_frame(TABLE)] = XEN_DOMCTL_PFINFO_L1TAB;
}

static void fill_list(void)
{
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        words(saved_frame(LIST))[pfn] = saved_frame(pfn);
    words(saved_frame(LIST_MIDDLE))[0] = saved_frame(LIST);
    words(saved_frame(LIST_TOP))[0] = saved_frame(LIST_MIDDLE);
}

static void fill_context(void)
{
    its_context->user_regs.edx = saved_frame(START_INFO);
    its_context->gdt_frames[0] = saved_frame(GDT);
    its_context->gdt_ents = 100;
    its_context->ctrlreg[3] = xen_pfn_to_cr3_x86_32(saved_frame(ROOT));
    its_context->kernel_sp = 0xc0101000;
}

static void make_guest(void)
{
    struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];
    struct start_info_x86_32 *i = (void *)memory[saved_frame(START_INFO)];

    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        if (pfn != BALLOONED) {
            owned[saved_frame(pfn)] = true;
            memset(memory[saved_frame(pfn)], (int)pfn, PAGE);
        }
    i->store_mfn = STORE;           /* as a guest has them while it is suspended */
    i->console.domU.mfn = CONSOLE;
    fill_tables();
    fill_list();
    fill_context();
    s->arch.max_pfn = NR_PFNS;
    s->arch.pfn_to_mfn_frame_list_list = saved_frame(LIST_TOP);
    s->vcpu_info[3].evtchn_pending_sel = 5;
    s->vcpu_info[3].arch.cr2 = 77;
    s->evtchn_pending[1] = 1;
}

/* --- The hypervisor --- */

int xen_version(void) { return 4 << 16 | 17; }

struct xen_domctl_getdomaininfo xen_domain_info(void)
{
    return (struct xen_domctl_getdomaininfo){ .shared_info_frame = SHARED_INFO,
                                              .flags = XEN_DOMINF_shutdown | SHUTDOWN_suspend << XEN_DOMINF_shutdownshift };
}

void describe(struct xen_domctl *op, uint32_t cmd)
{
    static const uint8_t some[600] = "state";

    if (cmd == XEN_DOMCTL_get_cpu_policy) {
        op->u.cpu_policy.nr_leaves = 2;
        op->u.cpu_policy.nr_msrs = 1;
    } else if (cmd == XEN_DOMCTL_getvcpuinfo) {
        op->u.getvcpuinfo.online = 1;
    } else if (cmd == XEN_DOMCTL_getvcpucontext) {
        memcpy(op->u.vcpucontext.ctxt.p, its_context, sizeof(*its_context));
    } else if (cmd == XEN_DOMCTL_get_ext_vcpucontext) {
        op->u.ext_vcpucontext.size = 32;
    } else if (cmd == XEN_DOMCTL_getvcpuextstate) {
        op->u.vcpuextstate.xfeature_mask = 3;
        op->u.vcpuextstate.size = sizeof(some);
        if (op->u.vcpuextstate.buffer.p)
            memcpy(op->u.vcpuextstate.buffer.p, some, sizeof(some));
    } else if (cmd == XEN_DOMCTL_get_vcpu_msrs) {
        op->u.vcpu_msrs.msr_count = 1;
    }
}

void xen_kinds(const uint32_t *frames, uint32_t *kinds, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        kinds[i] = frames[i] < NR_FRAMES && owned[frames[i]] ? kind_of[frames[i]] : XEN_DOMCTL_PFINFO_XTAB;
}

void xen_become_non_pae(void)
{
    EXPECT(!next_frame && !is_non_pae);
    is_non_pae = true;
    next_frame = SHARED_INFO;
}

/* --- libxl --- */

static bool checks_result;
static void check_guest(void);

void say_progress(const char *what, unsigned long done, unsigned long total) { (void)what, (void)done, (void)total; }
bool ask_to_suspend(void) { return true; }
bool say_static_data_done(unsigned missing) { EXPECT(missing < 4); return true; }
void say_restore_results(uint64_t store, uint64_t console) { EXPECT(owned[store] && owned[console]); }
void promise_restore_results(void) { }

void say_complete(void)
{
    if (checks_result)
        check_guest();
    _exit(DONE);
}

/* --- What a restored guest is --- */

static uint32_t frame_now(uint32_t pfn)
{
    static uint32_t list;

    for (uint32_t f = 1; f < NR_FRAMES && !list; f++)       /* by what it says of itself */
        if (owned[f] && words(f)[LIST] == f && words(f)[BALLOONED] == NO_FRAME)
            list = f;
    EXPECT(list);
    return words(list)[pfn];
}

static void check_tables(void)
{
    const uint32_t *root = words(frame_now(ROOT)), *table = words(frame_now(TABLE));

    EXPECT(root[0] == (frame_now(TABLE) << 12 | 0x67) && root[5] == (frame_now(ROOT) << 12 | 0x61) && root[OURS] == 0);
    EXPECT(!memcmp(root, words(frame_now(OTHER_ROOT)), OURS * 4));
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        EXPECT(table[pfn] == (pfn == BALLOONED ? ABSENT : frame_now(pfn) << 12 | 0x25));
    for (uint32_t pfn = 0; pfn < NR_PFNS; pfn++)
        EXPECT(pfn == BALLOONED || pinned[frame_now(pfn)] == (pfn == ROOT || pfn == OTHER_ROOT));
}

static void check_infos(void)
{
    const struct start_info_x86_32 *i = (void *)memory[frame_now(START_INFO)];
    const struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];

    EXPECT(i->store_mfn == frame_now(STORE) && i->store_evtchn == 11 && i->console.domU.mfn == frame_now(CONSOLE));
    EXPECT(i->console.domU.evtchn == 12 && i->nr_pages == NR_PFNS && i->shared_info == SHARED_INFO << 12 && !i->flags);
    EXPECT(granted[GNTTAB_RESERVED_XENSTORE].frame == i->store_mfn && granted[GNTTAB_RESERVED_XENSTORE].domid == 21);
    EXPECT(granted[GNTTAB_RESERVED_CONSOLE].frame == i->console.domU.mfn && granted[GNTTAB_RESERVED_CONSOLE].domid == 22);
    EXPECT(s->arch.max_pfn == NR_PFNS && !s->arch.pfn_to_mfn_frame_list_list && s->vcpu_info[3].arch.cr2 == 77);
    EXPECT(!s->vcpu_info[3].evtchn_pending_sel && !s->evtchn_pending[1] && s->evtchn_mask[31] == ~0u);
}

static void check_guest(void)
{
    static uint8_t page[PAGE];

    for (uint32_t pfn = DATA; pfn < NR_PFNS; pfn++)
        if (pfn != BALLOONED) {
            memset(page, (int)pfn, PAGE);
            EXPECT(!memcmp(memory[frame_now(pfn)], page, PAGE));
        }
    check_tables();
    check_infos();
    EXPECT(has_policy && has_context && its_context->user_regs.edx == frame_now(START_INFO));
    EXPECT(its_context->gdt_frames[0] == frame_now(GDT) && its_context->gdt_ents == 100 && its_context->flags & VGCF_online);
    EXPECT(its_context->ctrlreg[3] == xen_pfn_to_cr3_x86_32(frame_now(ROOT)) && its_context->kernel_sp == 0xc0101000);
}

/* --- Runs --- */

static void save_run(int fd)
{
    struct job j = { .fd = fd, .domid = 7 };

    save(&j);
}

static void restore_run(int fd)
{
    struct job j = { .is_restore = true, .fd = fd, .domid = 7, .store_port = 11, .store_domid = 21, .console_port = 12,
                     .console_domid = 22 };

    forget_domain();
    restore(&j);
}

static uint8_t *stream;
static size_t stream_size;

static int restored(const uint8_t *bytes, size_t size)
{
    int fd = file_of(bytes, size), result = run_apart(restore_run, fd);

    close(fd);
    return result;
}

static int save_once(void **state)
{
    int fd = memfd_create("saved", 0);

    (void)state;
    make_memory();
    make_guest();
    assert_int_equal(run_apart(save_run, fd), DONE);
    stream_size = (size_t)lseek(fd, 0, SEEK_END);
    stream = malloc(stream_size);
    assert_int_equal(pread(fd, stream, stream_size, 0), stream_size);
    close(fd);
    return 0;
}

static void is_what_it_was_in_other_frames(void **state)
{
    (void)state;
    checks_result = true;
    assert_int_equal(restored(stream, stream_size), DONE);
    checks_result = false;
}

static void a_stream_that_ends_early_is_refused(void **state)
{
    (void)state;
    for (size_t size = 0; size < stream_size; size += size < 400 ? 13 : 12001)
        assert_int_equal(restored(stream, size), REFUSED);
    assert_int_equal(restored(stream, stream_size - 1), REFUSED);
}

/* Where numbers are and not pages, mostly. */
static size_t some_place(size_t size)
{
    size_t front = (size_t)rand() % 1000, back = size - 1 - (size_t)rand() % 12000;

    return rand() % 8 == 0 ? (size_t)rand() % size : rand() % 2 ? front : back;
}

static void whatever_is_in_it(void **state)
{
    struct ends ends = run_spoilt(restored, stream, stream_size, some_place, 250);

    (void)state;
    assert_int_equal(ends.others, 0);
    assert_true(ends.done > 10 && ends.refused > 50);
}

/* --- Guests that cannot be saved --- */

static void expect_not_saved(uint32_t *word, uint32_t value)
{
    uint32_t before = *word;
    int fd = memfd_create("saved", 0);

    *word = value;
    assert_int_equal(run_apart(save_run, fd), REFUSED);
    *word = before;
    close(fd);
}

static void what_a_guest_says_of_itself_is_looked_at(void **state)
{
    struct shared_info_x86_32 *s = (void *)memory[SHARED_INFO];
    static const uint32_t frames[] = { 0, SHARED_INFO, NR_FRAMES, MAX_FRAMES - 1, MAX_FRAMES, ~0u };

    (void)state;
    for (unsigned i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        expect_not_saved(&s->arch.pfn_to_mfn_frame_list_list, frames[i]);
        expect_not_saved(words(saved_frame(LIST_TOP)), frames[i]);
        expect_not_saved(words(saved_frame(LIST_MIDDLE)), frames[i]);
        expect_not_saved(words(saved_frame(TABLE)) + 3, frames[i] << 12 | 1);
        expect_not_saved(words(saved_frame(LIST)) + DATA, frames[i]);       /* the tables name it still */
        expect_not_saved(&its_context->user_regs.edx, frames[i]);
        expect_not_saved(&its_context->gdt_frames[0], frames[i]);
        expect_not_saved(&its_context->ctrlreg[3], xen_pfn_to_cr3_x86_32(frames[i] & 0xfffffff));
    }
    expect_not_saved(&s->arch.max_pfn, 0);
    expect_not_saved(&s->arch.max_pfn, MAX_FRAMES + 1);
    expect_not_saved(&its_context->gdt_ents, 8192);
    expect_not_saved(words(saved_frame(LIST)) + DATA, saved_frame(DATA + 1));
    expect_not_saved(&kind_of[saved_frame(DATA)], XEN_DOMCTL_PFINFO_L3TAB);
}

/* --- Whose stream it is --- */

static void expect_ours(bool ours, const uint8_t *bytes, size_t size)
{
    uint8_t after[64];
    int ends[3][2];

    ends[0][0] = file_of(bytes, size);
    ends[0][1] = dup(ends[0][0]);
    assert_int_equal(pipe(ends[1]), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[2]), 0);
    for (unsigned i = 0; i < 3; i++) {
        if (i)
            assert_int_equal(write(ends[i][1], bytes, size), size);
        close(ends[i][1]);
        assert_int_equal(stream_is_non_pae(ends[i][0]), ours);
        assert_int_equal(read(ends[i][0], after, sizeof(after)), size < sizeof(after) ? size : sizeof(after));
        assert_memory_equal(after, bytes, size < sizeof(after) ? size : sizeof(after));
        close(ends[i][0]);
    }
}

static void a_stream_is_known_by_its_first_bytes_which_stay(void **state)
{
    uint8_t first[200];
    size_t levels = sizeof(struct stream_head) + sizeof(struct record_head) + offsetof(struct pv_info, levels);

    (void)state;
    memcpy(first, stream, sizeof(first));
    expect_ours(true, first, sizeof(first));
    first[levels] = 3;
    expect_ours(false, first, sizeof(first));
    first[levels] = NONPAE_LEVELS;
    first[0] = 0;
    expect_ours(false, first, sizeof(first));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_what_it_was_in_other_frames),
        cmocka_unit_test(a_stream_that_ends_early_is_refused),
        cmocka_unit_test(whatever_is_in_it),
        cmocka_unit_test(what_a_guest_says_of_itself_is_looked_at),
        cmocka_unit_test(a_stream_is_known_by_its_first_bytes_which_stay),
    };

    return cmocka_run_group_tests(tests, save_once, NULL);
}
