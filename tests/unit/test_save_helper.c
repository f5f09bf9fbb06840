/*
 * tools/save-helper over a hypervisor of arrays: a guest that is saved and restored is what it was, in other frames; and whatever a stream
 * has in it, the reader restores something or says why not, and touches nothing that it should not.
 */
// SOURCES: tools/save-helper/save.c tools/save-helper/memory.c tools/save-helper/restore.c tools/save-helper/guest.c
// SOURCES: tools/save-helper/read.c tools/save-helper/state.c tools/save-helper/stream.c
// SOURCES: tests/unit/fake/tools.c tests/unit/fake/saved_guest.c
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

#include "fake/saved_guest.h"

#include <xen/grant_table.h>

/* --- What a restored guest is --- */

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
    EXPECT(second_context.user_regs.edx == 0xffff && second_context.gdt_frames[0] == frame_now(OTHER_GDT));
    EXPECT(second_context.ctrlreg[3] == xen_pfn_to_cr3_x86_32(frame_now(OTHER_ROOT)) && second_context.flags & VGCF_online);
}

/* --- Runs --- */

static uint8_t *stream;
static size_t stream_size;

static int save_once(void **state)
{
    int fd = memfd_create("saved", 0);

    (void)state;
    make_memory();
    make_guest();
    assert_int_equal(run_apart(save_run, fd), DONE);
    stream = stream_from(fd, &stream_size);
    return 0;
}

static void is_what_it_was_in_other_frames(void **state)
{
    (void)state;
    on_complete = check_guest;
    assert_int_equal(restored(stream, stream_size), DONE);
    on_complete = NULL;
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
