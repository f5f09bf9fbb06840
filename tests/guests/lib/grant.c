#include "grant.h"
#include "hypercall.h"
#include "mm.h"
#include "traps.h"

#define FRAMES 4
#define ENTRIES (FRAMES * 4096 / sizeof(struct grant_entry_v1))

/* The table's frames are not ours: they get the virtual space of these pages. */
static u8 table_pages[FRAMES][4096] __attribute__((aligned(4096)));
static volatile struct grant_entry_v1 *table;
static grant_ref_t next_ref = GNTTAB_NR_RESERVED_ENTRIES;

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
}

grant_ref_t grant_new(void)
{
    if (!table)
        set_up();
    if (next_ref == ENTRIES)
        panic("out of grant entries");
    return next_ref++;
}

void grant_access(grant_ref_t ref, domid_t to, const void *page, u16 flags)
{
    table[ref].frame = (u32)virt_to_mfn(page);
    table[ref].domid = to;
    barrier();
    table[ref].flags = GTF_permit_access | flags;
}

bool grant_end(grant_ref_t ref)
{
    u16 flags = table[ref].flags;

    do {
        if (flags & (GTF_reading | GTF_writing))
            return false;
    } while (!__atomic_compare_exchange_n(&table[ref].flags, &flags, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return true;
}

grant_ref_t grant_page(domid_t to, const void *page)
{
    grant_ref_t ref = grant_new();

    grant_access(ref, to, page, 0);
    return ref;
}
