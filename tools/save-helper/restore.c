/*
 * A non-PAE domain from the stream. The stream may be anything: each number in it is looked at before it is used. What it makes of the
 * domain the hypervisor looks at, as it does at all guests' doing.
 *
 * Pages of tables are written as they come, and made what they were when all frames are known; then tables are pinned, which makes them
 * tables, and nobody may write them any more. Of a guest that ran when it was saved pages come again and again: the last that the stream
 * says of one counts, and whether it is data, a table or none at all. However long a stream is, no frame is more than one of the guest's
 * numbers, and what is kept of a number is of one size.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "state.h"
#include "talk.h"

#include <xen/grant_table.h>

#define MISSING_CPUID 1u        /* as libxl is told of what the stream does not have */
#define MISSING_MSR   2u

static void take_info(const struct pv_info *pv);
static void take_static_data(const struct saved *s);
static void take_frames(const struct saved *s);
static void take_pages(const struct page_data *p, const uint8_t *pages);
static void take_verify(void);

static struct guest guest;
static struct reader reader = {
    .format = { .width = NONPAE_WIDTH, .levels = NONPAE_LEVELS }, .context_size = sizeof(context_t), .max_pfns = MAX_FRAMES,
    .info = take_info, .static_data = take_static_data, .frames = take_frames, .pages = take_pages, .verify = take_verify,
};
static bool is_verifying;
static uint32_t nr_different;
#define MOST_SAID 100u          /* of those that differ */
static struct xen_domctl_getdomaininfo info;    /* once the stream's format is known */

/* The frame of a page of data. */
static uint32_t data_frame(uint64_t pfn, const char *what)
{
    if (pfn >= guest.nr_pfns || guest.frame[pfn] == NO_FRAME)
        fail(ERANGE, "%s: %#llx is none of the guest's %u frames", what, (unsigned long long)pfn, guest.nr_pfns);
    if (guest.kind[pfn] != XEN_DOMCTL_PFINFO_NOTAB)
        fail(EINVAL, "%s: the guest's frame %#llx is of kind %#x, expected data", what, (unsigned long long)pfn, guest.kind[pfn]);
    return guest.frame[pfn];
}

/* --- What the domain is made with --- */

static void take_info(const struct pv_info *pv)
{
    if (pv->width != NONPAE_WIDTH || pv->levels != NONPAE_LEVELS)
        return;                 /* which is an error */
    xen_become_non_pae();
    info = xen_domain_info();
    if (info.max_vcpu_id >= MAX_VCPUS)
        fail(ERANGE, "the domain has %u vCPUs, expected at most %u", info.max_vcpu_id + 1, MAX_VCPUS);
    reader.nr_vcpus = info.max_vcpu_id + 1;
}

static void take_static_data(const struct saved *s)
{
    set_policy(s);
    if (!say_static_data_done((s->leaves.size ? 0 : MISSING_CPUID) | (s->msrs.size ? 0 : MISSING_MSR)))
        fail(0, "libxl could not do its part after the static data");
}

static void take_frames(const struct saved *s) { guest = guest_with(s->nr_pfns); }

/* --- Memory --- */

/* Gives a frame to each of these numbers that has none. One may be there twice. */
static void populate(const uint32_t *pfns, unsigned nr)
{
    uint32_t new[MAX_BATCH], frames[MAX_BATCH];
    unsigned n = 0;

    for (unsigned i = 0; i < nr; i++) {
        if (guest.frame[pfns[i]] != NO_FRAME)
            continue;
        guest.frame[pfns[i]] = 0;
        new[n++] = pfns[i];
    }
    if (!n)
        return;
    memcpy(frames, new, n * sizeof(*frames));
    xen_populate(frames, n);
    for (unsigned i = 0; i < n; i++)
        guest.frame[new[i]] = frames[i];
}

/* What has become none of its frames since it came: the guest has it no more. */
static void give_up(const struct page_data *p)
{
    uint32_t frames[MAX_BATCH];
    unsigned nr = 0;

    for (unsigned i = 0; i < p->count; i++) {
        uint32_t pfn = (uint32_t)PAGE_PFN(p->word[i]);

        if (has_page(guest.kind[pfn]) || guest.frame[pfn] == NO_FRAME)
            continue;
        frames[nr++] = guest.frame[pfn];
        guest.frame[pfn] = NO_FRAME;
    }
    if (nr)
        xen_give_up(frames, nr);
}

static void *map_pfns(const uint32_t *pfns, unsigned nr, const char *what)
{
    uint32_t frames[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++)
        frames[i] = guest.frame[pfns[i]];
    return xen_map(frames, nr, PROT_READ | PROT_WRITE, what);
}

static void compare(const uint32_t *pfns, const uint8_t *pages, const uint8_t *from, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        if (memcmp(pages + (size_t)i * PAGE, from + (size_t)i * PAGE, PAGE) && nr_different++ < MOST_SAID)
            say(XTL_ERROR, "the guest's frame %#x, of kind %#x, is not what it was", pfns[i], guest.kind[pfns[i]]);
}

static void take_some(const uint32_t *pfns, const uint8_t *from, unsigned nr)
{
    void *pages;

    populate(pfns, nr);
    pages = map_pfns(pfns, nr, "its memory");
    if (is_verifying)
        compare(pfns, pages, from, nr);
    else
        memcpy(pages, from, (size_t)nr * PAGE);
    xen_unmap(pages, nr);
}

static void take_pages(const struct page_data *p, const uint8_t *from)
{
    uint32_t pfns[MAX_BATCH];
    unsigned nr = 0;

    for (unsigned i = 0; i < p->count; i++) {
        uint32_t pfn = (uint32_t)PAGE_PFN(p->word[i]);

        guest.kind[pfn] = PAGE_KIND(p->word[i]);
        if (has_page(guest.kind[pfn]))
            pfns[nr++] = pfn;
    }
    if (nr)
        take_some(pfns, from, nr);
    give_up(p);
}

/* Pages that come are compared from now on; it is said which differ, as the tools do. */
static void take_verify(void) { is_verifying = true; }

static void say_verified(void)
{
    if (is_verifying)
        say(nr_different ? XTL_ERROR : XTL_INFO, "of the guest's frames that were compared, %u are not what they were", nr_different);
}

/* --- What names frames --- */

static void localise(uint32_t *table, uint32_t pfn)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint32_t e = table[i], to = ENTRY_FRAME(e);

        if (!(e & ENTRY_PRESENT))
            continue;
        if (to >= guest.nr_pfns || guest.frame[to] == NO_FRAME)
            fail(ERANGE, "entry %u of the page table in the guest's frame %#x is %#x, which names none of its frames", i, pfn, e);
        table[i] = ENTRY_AS(e, guest.frame[to]);
    }
}

static bool is_table(uint32_t pfn) { return has_page(guest.kind[pfn]) && table_level(guest.kind[pfn]); }
static bool is_pinned(uint32_t pfn) { return is_table(pfn) && guest.kind[pfn] & XEN_DOMCTL_PFINFO_LPINTAB; }

static void localise_some(const uint32_t *pfns, unsigned nr)
{
    uint8_t *pages = map_pfns(pfns, nr, "its page tables");

    for (unsigned i = 0; i < nr; i++)
        localise((uint32_t *)(pages + (size_t)i * PAGE), pfns[i]);
    xen_unmap(pages, nr);
}

static void pin_some(const uint32_t *pfns, unsigned nr)
{
    uint32_t frames[MAX_BATCH], levels[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++) {
        frames[i] = guest.frame[pfns[i]];
        levels[i] = guest.kind[pfns[i]] & XEN_DOMCTL_PFINFO_LTABTYPE_MASK;
    }
    xen_pin(frames, levels, nr);
}

static void write_shared_info(uint32_t frame)
{
    void *to = xen_map(&frame, 1, PROT_READ | PROT_WRITE, "shared info");

    fill_shared_info(to, reader.saved.shared.bytes, &layout32);
    xen_unmap(to, 1);
}

static void write_list(void)
{
    unsigned nr = LIST_PAGES(guest.nr_pfns);
    const uint64_t *pfns = reader.saved.list.bytes;
    uint32_t frames[ENTRIES];
    void *pages;

    for (unsigned i = 0; i < nr; i++)
        frames[i] = data_frame(pfns[i], "the list of frames");
    pages = xen_map(frames, nr, PROT_READ | PROT_WRITE, "list of its frames");
    memcpy(pages, guest.frame, guest.nr_pfns * sizeof(*guest.frame));
    xen_unmap(pages, nr);
}

static struct rings write_start_info(const struct job *j, uint64_t pfn)
{
    uint32_t frame = data_frame(pfn, "start info");
    void *page = xen_map(&frame, 1, PROT_READ | PROT_WRITE, "start info");
    struct rings r = fill_start_info(page, &layout32, guest.nr_pfns, (uint64_t)info.shared_info_frame << 12, j->store_port,
                                     j->console_port, data_frame);

    xen_unmap(page, 1);
    return r;
}

/* --- vCPUs --- */

static uint32_t root_frame(uint64_t pfn)
{
    if (pfn >= guest.nr_pfns || guest.frame[pfn] == NO_FRAME || table_level(guest.kind[pfn]) != 2)
        fail(ERANGE, "a vCPU's CR3 names the guest's frame %#llx, expected a table of level 2", (unsigned long long)pfn);
    return guest.frame[pfn];
}

static void set_vcpus(void)
{
    for (uint32_t id = 0; id < reader.nr_vcpus; id++) {
        if (reader.saved.vcpu[id].context.size)
            fill_context(reader.saved.vcpu[id].context.bytes, &layout32, id, data_frame, root_frame);
        set_vcpu(&reader.saved, id);
    }
}

void restore(const struct job *j)
{
    struct rings r;

    promise_restore_results();
    stream_begin(j->fd);
    read_stream(&reader);
    say_verified();
    set_tsc(&reader.saved);
    in_batches(&guest, is_table, localise_some);
    r = write_start_info(j, start_info_of(reader.saved.vcpu[0].context.bytes, &layout32));
    write_list();
    write_shared_info((uint32_t)info.shared_info_frame);
    in_batches(&guest, is_pinned, pin_some);
    set_vcpus();
    xen_grant(GNTTAB_RESERVED_CONSOLE, (uint16_t)j->console_domid, r.console);
    xen_grant(GNTTAB_RESERVED_XENSTORE, (uint16_t)j->store_domid, r.store);
    say_restore_results(r.store, r.console);
    say_complete();
}
