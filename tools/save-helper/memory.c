#include "memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "talk.h"

static struct guest guest;
static struct shared_info_x86_32 shared;
static bool is_still;

static uint32_t list[ENTRIES];      /* the frames that the guest's list lies in */
static uint64_t list_pfns[ENTRIES]; /* as the stream has them */
static uint32_t *listed;            /* what stands in it */
static bool is_renumbered;          /* a frame has another number than tables were sent with */

/* --- Sets of the guest's numbers --- */

static uint64_t *wanted, *later;
static uint32_t nr_later;

#define SET_BYTES(nr) (((size_t)(nr) + 63) / 64 * 8)

static bool has(const uint64_t *set, uint32_t pfn) { return set[pfn / 64] >> pfn % 64 & 1; }
static void add(uint64_t *set, uint32_t pfn) { set[pfn / 64] |= 1ULL << pfn % 64; }
static void drop(uint64_t *set, uint32_t pfn) { set[pfn / 64] &= ~(1ULL << pfn % 64); }

static bool is_wanted(uint32_t pfn) { return has(wanted, pfn); }

static void leave_for_later(uint32_t pfn)
{
    add(later, pfn);
    drop(wanted, pfn);
    nr_later++;
}

void memory_want_all(void)
{
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++)
        add(wanted, pfn);
}

void memory_want_written(void)
{
    xen_take_log(wanted, guest.nr_pfns, is_still);
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++)
        if (has(later, pfn))
            add(wanted, pfn);
    memset(later, 0, SET_BYTES(guest.nr_pfns));
}

/* --- Numbers and frames --- */

static uint32_t number_of(uint64_t frame) { return frame < MAX_FRAMES ? guest.pfn[frame] : NO_FRAME; }

uint32_t memory_pfn_of(uint64_t frame, const char *what)
{
    uint32_t pfn = number_of(frame);

    if (pfn == NO_FRAME)
        fail(ERANGE, "%s: frame %#llx is not in the guest's list of its frames", what, (unsigned long long)frame);
    return pfn;
}

const struct shared_info_x86_32 *memory_shared_info(void) { return &shared; }

static void read_shared_info(uint32_t frame)
{
    void *page = xen_map(&frame, 1, PROT_READ, "shared info");

    memcpy(&shared, page, sizeof(shared));
    xen_unmap(page, 1);
}

/* The list's own pages are named by a page, and that by another, which has one such as there can be no more frames. */
static void find_list(void)
{
    uint32_t top = shared.arch.pfn_to_mfn_frame_list_list, *page;

    if (!shared.arch.max_pfn || shared.arch.max_pfn > MAX_FRAMES)
        fail(ERANGE, "the guest says that it has %u frames, expected 1 to %u", shared.arch.max_pfn, MAX_FRAMES);
    if (!top || top >= MAX_FRAMES)
        fail(ERANGE, "the guest says that frame %#x names the list of its frames (shared info, pfn_to_mfn_frame_list_list)", top);
    page = xen_map(&top, 1, PROT_READ, "list of the lists of its frames");
    memcpy(&top, page, sizeof(top));
    xen_unmap(page, 1);
    page = xen_map(&top, 1, PROT_READ, "list of the pages of the list of its frames");
    memcpy(list, page, PAGE);
    xen_unmap(page, 1);
}

static void read_list(void)
{
    unsigned nr = LIST_PAGES(guest.nr_pfns);
    void *pages = xen_map(list, nr, PROT_READ, "list of its frames");

    memcpy(listed, pages, guest.nr_pfns * sizeof(*listed));
    xen_unmap(pages, nr);
}

static void forget(uint32_t pfn)
{
    if (guest.frame[pfn] == NO_FRAME)
        return;
    guest.pfn[guest.frame[pfn]] = NO_FRAME;
    guest.frame[pfn] = NO_FRAME;
    is_renumbered = true;
}

/* What is not the domain's is none of its frames: what it has ballooned out, or mapped of others. */
static void learn(uint32_t pfn)
{
    uint32_t frame = listed[pfn], kind = guest.kind[pfn];

    if (!is_known(kind, NONPAE_LEVELS))
        fail(EINVAL, "frame %#x, the guest's number %#x, is of a kind that a non-PAE guest's cannot be: %#x", frame, pfn, kind);
    if (kind == XEN_DOMCTL_PFINFO_XTAB) {
        forget(pfn);
        return;
    }
    if (guest.pfn[frame] != NO_FRAME && guest.pfn[frame] != pfn) {
        if (is_still)
            fail(EINVAL, "the guest's list has frame %#x twice, as %#x and %#x", frame, guest.pfn[frame], pfn);
        leave_for_later(pfn);
        return;
    }
    guest.frame[pfn] = frame;
    guest.pfn[frame] = pfn;
}

static void learn_some(const uint32_t *pfns, unsigned nr)
{
    static uint32_t frames[MAX_BATCH], kinds[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++)
        frames[i] = listed[pfns[i]];
    xen_kinds(frames, kinds, nr);
    for (unsigned i = 0; i < nr; i++) {
        guest.kind[pfns[i]] = kinds[i];
        learn(pfns[i]);
    }
}

/*
 * The list as it is now. Numbers whose frames have changed are wanted, whatever the log says. If a frame has lost its number, tables
 * that name it, and were written before, say the old one: all go again, which are few.
 */
static void look_at_list(void)
{
    read_list();
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++) {
        if (listed[pfn] >= MAX_FRAMES)
            listed[pfn] = NO_FRAME;
        if (listed[pfn] == guest.frame[pfn])
            continue;
        forget(pfn);
        add(wanted, pfn);
    }
    in_batches(&guest, is_wanted, learn_some);
    for (uint32_t pfn = 0; is_renumbered && pfn < guest.nr_pfns; pfn++)
        if (guest.frame[pfn] != NO_FRAME && table_level(guest.kind[pfn]))
            add(wanted, pfn);
    is_renumbered = false;
}

/* --- The list's record --- */

static void put_list(void)
{
    struct p2m_frames head = { .end = guest.nr_pfns - 1 };

    for (unsigned i = 0; i < LIST_PAGES(guest.nr_pfns); i++)
        list_pfns[i] = memory_pfn_of(list[i], "the list of frames lies in one that is");
    stream_put(REC_P2M_FRAMES, &head, sizeof(head), list_pfns, LIST_PAGES(guest.nr_pfns) * sizeof(*list_pfns));
}

void memory_begin(uint32_t shared_info, bool runs)
{
    is_still = !runs;
    read_shared_info(shared_info);
    find_list();
    guest = guest_with(shared.arch.max_pfn);
    guest.pfn = numbers(MAX_FRAMES, NO_FRAME);
    listed = numbers(guest.nr_pfns, NO_FRAME);
    wanted = xen_buffer(SET_BYTES(guest.nr_pfns));
    later = xen_buffer(SET_BYTES(guest.nr_pfns));
    memory_want_all();
}

void memory_stands_still(uint32_t shared_info)
{
    is_still = true;
    read_shared_info(shared_info);
    find_list();
    if (shared.arch.max_pfn != guest.nr_pfns)
        fail(EAGAIN, "the guest had %u frames when its memory began to be copied, and has %u now", guest.nr_pfns, shared.arch.max_pfn);
}

/* The stream says once where the list is, before any page. */
static void say_list(void)
{
    static bool is_said;

    if (!is_said)
        put_list();
    is_said = true;
    if (!is_still)
        return;
    for (unsigned i = 0; i < LIST_PAGES(guest.nr_pfns); i++)
        if (number_of(list[i]) != list_pfns[i])
            fail(EAGAIN, "the guest's list of frames has moved while its memory was copied, from its frame %#llx",
                 (unsigned long long)list_pfns[i]);
}

/* --- Pages --- */

/* Entries with the guest's own numbers in place of frames. False: there is none for some. */
static bool number_entries(uint32_t *table, unsigned level, uint32_t pfn)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint32_t e = level == 2 && i >= OURS ? 0 : table[i], to = number_of(ENTRY_FRAME(e));

        if (e & ENTRY_PRESENT && to == NO_FRAME) {
            if (is_still)
                fail(ERANGE, "entry %u of the page table in the guest's frame %#x is %#x: that frame is not in its list", i, pfn, e);
            return false;
        }
        table[i] = e & ENTRY_PRESENT ? ENTRY_AS(e, to) : e;
    }
    return true;
}

/* First a copy, since a guest that runs may write there between two looks. */
static bool copy_page(uint8_t *to, const uint8_t *from, uint32_t pfn)
{
    unsigned level = table_level(guest.kind[pfn]);

    memcpy(to, from, PAGE);
    return !level || number_entries((uint32_t *)to, level, pfn);
}

static struct { struct page_data head; uint64_t word[MAX_BATCH]; } names;
static uint8_t copies[MAX_BATCH][PAGE];
static unsigned nr_copies;

static void name(uint32_t pfn) { names.word[names.head.count++] = PAGE_WORD(pfn, guest.kind[pfn]); }

static void copy_some(const uint32_t *pfns, unsigned nr)
{
    uint32_t frames[MAX_BATCH];
    bool there[MAX_BATCH];
    uint8_t *pages;

    for (unsigned i = 0; i < nr; i++) {
        frames[i] = guest.frame[pfns[i]];
        there[i] = true;
    }
    pages = is_still ? xen_map(frames, nr, PROT_READ, "its memory") : xen_map_there(frames, nr, there, "its memory");
    for (unsigned i = 0; i < nr; i++) {
        if (!there[i] || !copy_page(copies[nr_copies], pages + (size_t)i * PAGE, pfns[i])) {
            leave_for_later(pfns[i]);
            continue;
        }
        name(pfns[i]);
        nr_copies++;
    }
    xen_unmap(pages, nr);
}

static uint32_t nr_sent, nr_to_send;
static const char *title;

static void put_some(const uint32_t *pfns, unsigned nr)
{
    uint32_t with_page[MAX_BATCH];
    unsigned n = 0;

    say_progress(title, nr_sent, nr_to_send);
    names.head.count = nr_copies = 0;
    for (unsigned i = 0; i < nr; i++)
        if (has_page(guest.kind[pfns[i]]))
            with_page[n++] = pfns[i];
        else
            name(pfns[i]);
    if (n)
        copy_some(with_page, n);
    if (names.head.count)
        stream_put(REC_PAGE_DATA, &names, sizeof(names.head) + names.head.count * sizeof(*names.word), copies, (size_t)nr_copies * PAGE);
    nr_sent += nr;
}

struct sent memory_send(const char *what)
{
    nr_later = nr_to_send = nr_sent = 0;
    title = what;
    look_at_list();
    say_list();
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++)
        nr_to_send += has(wanted, pfn);
    in_batches(&guest, is_wanted, put_some);
    say_progress(title, nr_to_send, nr_to_send);
    memset(wanted, 0, SET_BYTES(guest.nr_pfns));
    return (struct sent){ nr_to_send, nr_later };
}
