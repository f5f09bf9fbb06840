/*
 * The domain's frames. They may be numbered in any order: the toolstack put us, our ramdisk and its tables into the first pfns;
 * we turn the numbering by as many, so that the new kernel's pfn 0 is a frame that nobody uses yet and ours are its last:
 *
 *     old pfn   0 .. used-1   used .. n-1            new pfn   0 .. n-used-1   n-used .. n-1
 *               us, tables    free                             new kernel ...  us, tables
 *
 * What we unpack goes to the last of the free ones (the arena), and is mapped, in pieces of 2 MiB, until the kernel is where it belongs.
 */
#include "pv.h"

#define ENTRIES   512u              /* of our own tables, of any level, but for PAE's four at the top */
#define NR_TABLES 24u
#define CHUNK     ((word_t)ENTRIES * PAGE_SIZE)

word_t nr_pages, used, nr_free;

static const word_t *p2m;
static const struct image_shape *own;
static word_t own_root, arena_at, arena_mapped;
static char windows[NR_WINDOWS][PAGE_SIZE] __attribute__((aligned(4096)));
static char tables[NR_TABLES][PAGE_SIZE] __attribute__((aligned(4096)));    /* frames for more tables of our own */
static unsigned nr_tables;

/* Kernels find their rings with the toolstack in the bootstrap mapping, behind start_info: there and here trade frames. */
static struct { word_t there, here; } trade[2];

word_t mfn_of(const void *p) { return p2m[((word_t)p - BASE) >> PAGE_SHIFT]; }

/* ---- Windows ---- */

static void set_page(word_t va, u64 entry)
{
#ifdef __x86_64__
    long rc = hypercall(__HYPERVISOR_update_va_mapping, va, entry, UVMF_INVLPG, 0);
#else
    long rc = hypercall(__HYPERVISOR_update_va_mapping, va, (word_t)entry, (word_t)(entry >> 32), UVMF_INVLPG);
#endif
    if (rc)
        fail("a page cannot be mapped at %#lx (error %ld)", va, -rc);
}

static u64 entry_of(word_t m, unsigned flags) { return (u64)m << PAGE_SHIFT | flags; }

void set_writable(const void *page, bool writable)
{
    set_page((word_t)page, entry_of(mfn_of(page), writable ? PTE_DATA : PTE_READ));
}

static u64 shown[NR_WINDOWS];

char *map_frame(enum window w, word_t m, unsigned flags)
{
    u64 e = entry_of(m, flags);

    if (shown[w] != e)
        set_page((word_t)windows[w], e);
    shown[w] = e;
    return windows[w];
}

void unmap_windows(void)
{
    for (unsigned w = 0; w < NR_WINDOWS; w++) {
        set_page((word_t)windows[w], 0);
        shown[w] = 0;
    }
}

/* ---- Our own tables ---- */

static unsigned index_of(word_t va, unsigned level)
{
    unsigned bits = level == 3 && own->levels == 3 ? 2 : own->index_bits;

    return (u64)va >> image_shift(own, level) & ((1u << bits) - 1);
}

/*
 * Goes down to the level's table for va, or to the one above the first that is missing: what level that is, and *where the machine address
 * of the entry there.
 */
static unsigned walk(word_t va, unsigned level, u64 *where, u64 *entry)
{
    word_t m = own_root;

    for (unsigned l = own->levels;; l--) {
        unsigned i = index_of(va, l);

        *entry = ((const u64 *)map_frame(W_LEVEL(l), m, PTE_READ))[i];
        *where = ((u64)m << PAGE_SHIFT) + i * 8;
        if (l == level || !(*entry & 1))
            return l;
        m = (word_t)((*entry & 0xffffffffff000ULL) >> PAGE_SHIFT);
    }
}

static void set_entry(u64 where, u64 value)
{
    struct mmu_update u = { where, value };
    NATIVE(mmuext_op) flush = { .cmd = MMUEXT_TLB_FLUSH_LOCAL };

    if (hypercall(__HYPERVISOR_mmu_update, (word_t)&u, 1, 0, DOMID_SELF) ||
        hypercall(__HYPERVISOR_mmuext_op, (word_t)&flush, 1, 0, DOMID_SELF))
        fail("its own page tables cannot be changed");
}

/* A zeroed frame that is mapped nowhere: the hypervisor takes no other for a table. */
static word_t take_table(void)
{
    char *page;

    if (nr_tables == NR_TABLES)
        fail("more than %u page tables of its own are needed", NR_TABLES);
    page = tables[nr_tables++];
    set_page((word_t)page, 0);
    return mfn_of(page);
}

/* Makes all tables for va that are missing down to the level, and says where its entry there is. */
static u64 tables_down_to(word_t va, unsigned level)
{
    u64 where, entry;
    unsigned l;

    while ((l = walk(va, level, &where, &entry)) > level)
        set_entry(where, entry_of(take_table(), own->levels == 3 && l == 3 ? 1 : PTE_TABLE));
    return where;
}

void map_at(word_t va, word_t m)
{
    tables_down_to(va, 1);
    set_page(va, entry_of(m, PTE_DATA));
}

/* ---- The arena ---- */

static bool map_chunk(void)
{
    u64 where = tables_down_to(arena_mapped, 2), *l1;
    word_t table;

    if (nr_free - used <= ENTRIES)
        return false;
    table = p2m[--nr_free];
    l1 = (u64 *)map_frame(W_DATA, table, PTE_DATA);
    for (unsigned i = 0; i < ENTRIES; i++)
        l1[i] = entry_of(p2m[--nr_free], PTE_DATA);
    unmap_windows();
    set_entry(where, entry_of(table, PTE_TABLE));
    arena_mapped += CHUNK;
    return true;
}

void *arena_alloc(u64 bytes, const char *what)
{
    void *p = (void *)arena_at;
    u64 size = ROUND_UP(bytes, 4096ULL);

    if (size > ARENA_END - arena_at)
        fail("%s of %llu KiB is too big", what, (unsigned long long)bytes >> 10);
    while (arena_mapped - arena_at < size)
        if (!map_chunk())
            fail("too little memory for %s (%llu KiB): the domain has %lu KiB (memory=)", what, (unsigned long long)bytes >> 10,
                 nr_pages << 2);
    arena_at += size;
    return memset(p, 0, size);
}

void arena_release(void)
{
    u64 where, entry;

    for (word_t va = ARENA; va < arena_mapped; va += CHUNK) {
        walk(va, 2, &where, &entry);
        set_entry(where, 0);
    }
    arena_at = arena_mapped = ARENA;
    nr_free = nr_pages;
    unmap_windows();
}

/* ---- New numbers ---- */

word_t new_mfn(word_t pfn)
{
    for (unsigned i = 0; i < ARRAY_SIZE(trade); i++) {
        if (pfn == trade[i].there || pfn == trade[i].here) {
            pfn ^= trade[i].there ^ trade[i].here;
            break;
        }
    }
    return p2m[pfn + used < nr_pages ? pfn + used : pfn + used - nr_pages];
}

void trade_places(unsigned slot, word_t m, word_t pfn)
{
    word_t at = 0;

    while (at < used && p2m[at] != m)
        at++;
    if (at == used)
        return;
    trade[slot].there = nr_pages - used + at;
    trade[slot].here = pfn;
}

void renumber_m2p(void)
{
    static struct mmu_update batch[64];

    for (word_t pfn = 0; pfn < nr_pages;) {
        unsigned n = 0;

        for (; n < ARRAY_SIZE(batch) && pfn < nr_pages; n++, pfn++)
            batch[n] = (struct mmu_update){ entry_of(new_mfn(pfn), MMU_MACHPHYS_UPDATE), pfn };
        if (hypercall(__HYPERVISOR_mmu_update, (word_t)batch, n, 0, DOMID_SELF))
            fail("the machine-to-physical table cannot be changed");
    }
}

/* ---- The beginning ---- */

/* The toolstack maps some more behind our stack; none of that may become a table while we have it mapped. */
void memory_init(word_t stack_end)
{
    word_t va = ROUND_UP(stack_end, PAGE_SIZE);
    u64 where, entry;

    nr_free = nr_pages = (word_t)start_info->nr_pages;
    p2m = (const word_t *)(word_t)start_info->mfn_list;
    own = &image_shapes[OWN_FORMAT];
    own_root = mfn_of((void *)(word_t)start_info->pt_base);
    while (walk(va, 1, &where, &entry) == 1 && entry & 1)
        va += PAGE_SIZE;
    used = (va - BASE) >> PAGE_SHIFT;
    trade[0].there = trade[0].here = trade[1].there = trade[1].here = nr_pages;
    arena_at = arena_mapped = ARENA;
}
