/*
 * Memory and vCPUs of a new domain from a template. Frames are had by few large calls. Pages of data the hypervisor copies from a domain
 * that keeps them, if there is one; or they are read from the file right into the frames, which are mapped in long runs and stay so until
 * the process ends, when the kernel gives them up for less. Tables are mapped beside them, and made of this domain's frames. What is done
 * afterwards, when nothing is mapped any more, makes tables and descriptor tables of frames, which nobody may write to then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "template.h"

#include <xen/foreign/x86_32.h>
#include <xen/grant_table.h>

#include "../save-helper/talk.h"

#define RUN         16384u      /* frames that are mapped at once: 64 MiB */
#define LARGE_ORDER 9u
#define LARGE       (1u << LARGE_ORDER)

#define ENTRIES        512u     /* of a table, in either format */
#define ENTRY_PRESENT  1ull
#define ENTRY_NUMBER   0x000ffffffffff000ull

static const struct template *template;
static uint32_t nr_pfns;
static uint32_t *frame;         /* by the guest's number, or NO_FRAME */

static unsigned content(uint32_t pfn) { return CONTENT(template->content[pfn]); }

/* --- Frames --- */

static uint32_t checked_frame(uint64_t mfn)
{
    if (mfn >= NO_FRAME)
        fail(ERANGE, "the domain has got frame %#llx, which lies above 16 TiB", (unsigned long long)mfn);
    return (uint32_t)mfn;
}

/* One frame each for those of a run of numbers that have one. */
static void populate_singly(uint32_t first, uint32_t end)
{
    uint64_t list[LARGE];
    unsigned nr = 0;

    for (uint32_t pfn = first; pfn < end; pfn++)
        if (content(pfn) != ABSENT)
            list[nr++] = pfn;
    if (nr && xen_try_populate(list, nr, 0) != nr)
        fail(ENOMEM, "the hypervisor has not enough memory for a domain of %u frames", nr_pfns);
    for (uint32_t pfn = end; pfn-- > first;)
        if (content(pfn) != ABSENT)
            frame[pfn] = checked_frame(list[--nr]);
}

static bool is_whole(uint32_t first)
{
    for (uint32_t pfn = first; pfn < first + LARGE; pfn++)
        if (pfn >= nr_pfns || content(pfn) == ABSENT)
            return false;
    return true;
}

/* Large extents as far as there are any. */
static void populate_large(const uint64_t *firsts, unsigned nr)
{
    uint64_t list[MAX_BATCH];
    unsigned done;

    if (!nr)
        return;
    memcpy(list, firsts, nr * sizeof(*list));
    done = xen_try_populate(list, nr, LARGE_ORDER);
    for (unsigned i = 0; i < nr; i++) {
        if (i >= done)
            populate_singly((uint32_t)firsts[i], (uint32_t)firsts[i] + LARGE);
        for (uint32_t n = 0; i < done && n < LARGE; n++)
            frame[firsts[i] + n] = checked_frame(list[i] + n);
    }
}

static void populate(void)
{
    uint64_t firsts[MAX_BATCH];
    unsigned nr = 0;

    for (uint32_t pfn = 0; pfn < nr_pfns; pfn += LARGE) {
        if (!is_whole(pfn))
            populate_singly(pfn, pfn + LARGE < nr_pfns ? pfn + LARGE : nr_pfns);
        else
            firsts[nr++] = pfn;
        if (nr == MAX_BATCH) {
            populate_large(firsts, nr);
            nr = 0;
        }
    }
    populate_large(firsts, nr);
}

/* --- Pages --- */

/* Frames of up to RUN pages that are in the file one after the other; done() is given where they are mapped. */
struct run {
    uint32_t pfn[RUN], frame[RUN];
    unsigned nr;
    uint64_t at;                /* in the file */
    uint32_t keeper;            /* whose frames have them, too; or 0 */
    const char *what;
    void (*done)(const struct run *r, uint8_t *pages);
};

static void fill_run(const struct run *r)
{
    uint8_t *pages = xen_map(r->frame, r->nr, PROT_READ | PROT_WRITE, r->what);

    template_read(template, pages, (size_t)r->nr * PAGE, r->at);
    r->done(r, pages);
}

static void finish_run(struct run *r)
{
    if (!r->nr)
        return;
    if (r->keeper)
        xen_copy_granted((uint16_t)r->keeper, FREE_GRANT + (unsigned)((r->at - DATA_AT) / PAGE), r->frame, r->nr);
    else
        fill_run(r);
    r->at += (uint64_t)r->nr * PAGE;
    r->nr = 0;
}

static void add_to_run(struct run *r, uint32_t pfn)
{
    r->pfn[r->nr] = pfn;
    r->frame[r->nr++] = frame[pfn];
    if (r->nr == RUN)
        finish_run(r);
}

static void leave_mapped(const struct run *r, uint8_t *pages) { (void)r, (void)pages; }

static void localise(uint64_t *table, uint32_t pfn)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint64_t e = table[i], to = (e & ENTRY_NUMBER) >> 12;

        if (!(e & ENTRY_PRESENT))
            continue;
        if (to >= nr_pfns || frame[to] == NO_FRAME)
            fail(ERANGE, "entry %u of the page table in the guest's frame %#x is %#llx, which names none of its frames", i, pfn,
                 (unsigned long long)e);
        table[i] = (e & ~ENTRY_NUMBER) | (uint64_t)frame[to] << 12;
    }
}

static void localise_run(const struct run *r, uint8_t *pages)
{
    for (unsigned i = 0; i < r->nr; i++)
        localise((uint64_t *)(pages + (size_t)i * PAGE), r->pfn[i]);
    xen_unmap(pages, r->nr);
}

static void read_memory(uint32_t keeper)
{
    static struct run data, tables;

    data.at = DATA_AT;
    data.keeper = keeper;
    data.what = "its memory";
    data.done = leave_mapped;
    tables.at = tables_at(&template->head);
    tables.what = "its page tables";
    tables.done = localise_run;
    for (uint32_t pfn = 0; pfn < nr_pfns; pfn++)
        if (content(pfn) >= TABLE)
            add_to_run(&tables, pfn);
        else if (content(pfn) == DATA)
            add_to_run(&data, pfn);
    finish_run(&data);
    finish_run(&tables);
}

static void pin_tables(void)
{
    uint32_t frames[MAX_BATCH], kinds[MAX_BATCH];
    unsigned nr = 0;

    for (uint32_t pfn = 0; pfn < nr_pfns; pfn++) {
        if (!(template->content[pfn] & PINNED))
            continue;
        frames[nr] = frame[pfn];
        kinds[nr++] = (content(pfn) - TABLE + 1) << XEN_DOMCTL_PFINFO_LTAB_SHIFT;
        if (nr == MAX_BATCH) {
            xen_pin(frames, kinds, nr);
            nr = 0;
        }
    }
    if (nr)
        xen_pin(frames, kinds, nr);
}

/* --- What names frames --- */

static uint32_t data_frame(uint64_t pfn, const char *what)
{
    if (pfn >= nr_pfns || frame[pfn] == NO_FRAME || content((uint32_t)pfn) >= TABLE)
        fail(ERANGE, "%s: %#llx is none of the guest's %u frames, or not of data", what, (unsigned long long)pfn, nr_pfns);
    return frame[pfn];
}

static uint32_t root_frame(uint64_t pfn)
{
    unsigned levels = template->format->pv.levels;

    if (pfn >= nr_pfns || content((uint32_t)pfn) != TABLE + levels - 1)
        fail(ERANGE, "a vCPU's CR3 names the guest's frame %#llx, expected a table of level %u", (unsigned long long)pfn, levels);
    return frame[pfn];
}

static void write_list(void)
{
    const uint64_t *pfns = template->saved->list.bytes;
    unsigned nr = template->saved->list.size / sizeof(*pfns), width = template->format->pv.width;
    uint32_t *frames = malloc(nr * sizeof(*frames));
    uint8_t *pages;

    if (!frames)
        fail(ENOMEM, "no memory for the numbers of %u pages", nr);
    for (unsigned i = 0; i < nr; i++)
        frames[i] = data_frame(pfns[i], "the list of frames");
    pages = xen_map(frames, nr, PROT_READ | PROT_WRITE, "list of its frames");
    for (uint32_t pfn = 0; pfn < nr_pfns; pfn++) {
        uint64_t value = frame[pfn] == NO_FRAME ? ~0ull : frame[pfn];

        memcpy(pages + (size_t)pfn * width, &value, width);
    }
    free(frames);
}

static void write_start_info(struct job *j)
{
    const struct layout *l = template->format->layout;
    uint32_t at = data_frame(start_info_of(template->saved->vcpu[0].context.bytes, l), "start info");

    j->rings = fill_start_info(xen_map(&at, 1, PROT_READ | PROT_WRITE, "start info"), l, nr_pfns, j->shared_info, j->store_port,
                               j->console_port, data_frame);
}

static void write_shared_info(const struct job *j)
{
    uint32_t at = (uint32_t)(j->shared_info / PAGE);

    fill_shared_info(xen_map(&at, 1, PROT_READ | PROT_WRITE, "shared info"), template->saved->shared.bytes, template->format->layout);
}

static void set_vcpus(void)
{
    for (uint32_t id = 0; id < template->head.nr_vcpus; id++) {
        if (template->saved->vcpu[id].context.size)
            fill_context(template->saved->vcpu[id].context.bytes, template->format->layout, id, data_frame, root_frame);
        set_vcpu(template->saved, id);
    }
}

void load_begin(const struct template *t)
{
    template = t;
    nr_pfns = t->head.nr_pfns;
    frame = mmap(NULL, nr_pfns * sizeof(*frame), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (frame == MAP_FAILED)
        fail(errno, "no memory for %u frames' numbers", nr_pfns);
    memset(frame, 0xff, nr_pfns * sizeof(*frame));
}

void load_memory(struct job *j)
{
    populate();
    read_memory(j->keeper);
    write_start_info(j);
    write_list();
    write_shared_info(j);
}

void load_vcpus(const struct job *j)
{
    pin_tables();
    set_vcpus();
    xen_grant(GNTTAB_RESERVED_CONSOLE, 0, j->rings.console);
    xen_grant(GNTTAB_RESERVED_XENSTORE, 0, j->rings.store);
}

void load_kept(const struct template *t)
{
    populate();
    read_memory(0);
    xen_grant_to_read(FREE_GRANT, frame, t->head.nr_data);
}
