#include "grant.h"
#include "hypercall.h"
#include "mm.h"
#include "test.h"
#include "traps.h"

#define FRAMES 4

/* The table's frames are not ours: they get the virtual space of these pages. */
static u8 table_pages[FRAMES][4096] __attribute__((aligned(4096)));
static u8 status_page[4096] __attribute__((aligned(4096)));
static volatile struct grant_entry_v1 *table;
static volatile union grant_entry_v2 *table2;   /* NULL: the table is of version 1 */
static volatile grant_status_t *status;
static grant_ref_t next_ref = GNTTAB_NR_RESERVED_ENTRIES;

/* All entries of FRAMES have their status in one frame. */
static void set_up_version_2(void)
{
    struct gnttab_set_version set = { 2 };
    u64 frame;
    GUEST(gnttab_get_status_frames) get = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = P(&frame) };

    if (grant_table_op(GNTTABOP_set_version, &set, 1))
        panic("no grant tables of version 2");
    if (grant_table_op(GNTTABOP_get_status_frames, &get, 1) || get.status)
        panic("no status frame: %d", get.status);
    if (map_at(status_page, (word)frame, PTE_DATA))
        panic("the status frame %lx cannot be mapped", (word)frame);
    table2 = (void *)table_pages;
    status = (void *)status_page;
}

static void set_up(void)
{
    word frames[FRAMES];
    GUEST(gnttab_setup_table) op = { .dom = DOMID_SELF, .nr_frames = FRAMES, .frame_list = P(frames) };

    if (grant_table_op(GNTTABOP_setup_table, &op, 1) || op.status)
        panic("no grant table: %d", op.status);
    for (unsigned i = 0; i < FRAMES; i++)
        if (map_at(table_pages[i], frames[i], PTE_DATA))
            panic("the grant table's frame %lx cannot be mapped", frames[i]);
    table = (void *)table_pages;
    if (cmdline_is("grants", "2"))
        set_up_version_2();
}

static volatile u16 *flags_of(grant_ref_t ref) { return table2 ? &table2[ref].hdr.flags : &table[ref].flags; }

grant_ref_t grant_new(void)
{
    if (!table)
        set_up();
    if (next_ref == sizeof(table_pages) / (table2 ? sizeof(*table2) : sizeof(*table)))
        panic("out of grant entries");
    return next_ref++;
}

void grant_access(grant_ref_t ref, domid_t to, const void *page, u16 flags)
{
    if (table2) {
        table2[ref].full_page.frame = virt_to_mfn(page);
        table2[ref].hdr.domid = to;
    } else {
        table[ref].frame = (u32)virt_to_mfn(page);
        table[ref].domid = to;
    }
    barrier();
    *flags_of(ref) = GTF_permit_access | flags;
}

bool grant_end(grant_ref_t ref)
{
    u16 flags = *flags_of(ref);

    if (table2) {
        (void)__atomic_exchange_n(flags_of(ref), 0, __ATOMIC_SEQ_CST);
        if (!(status[ref] & (GTF_reading | GTF_writing)))
            return true;
        *flags_of(ref) = flags;
        return false;
    }
    do {
        if (flags & (GTF_reading | GTF_writing))
            return false;
    } while (!__atomic_compare_exchange_n(flags_of(ref), &flags, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return true;
}

grant_ref_t grant_page(domid_t to, const void *page)
{
    grant_ref_t ref = grant_new();

    grant_access(ref, to, page, 0);
    return ref;
}
