#include "mm.h"
#include "hypercall.h"
#include "string.h"
#include "traps.h"

#define ARENA_PAGES 4096
#define WINDOW_BASE (VIRT_BASE + 0x10000000UL)
#define MAP_FLUSH   (UVMF_INVLPG | UVMF_ALL)

const struct pt_format format = {
    .pte_bytes = sizeof(pte_raw),
#if defined(FORMAT_PT64)
    .levels = 4, .frame_mask = 0x000ffffffffff000, .hv_start = HYPERVISOR_VIRT_START_64,
    .m2p_start = MACH2PHYS_VIRT_START_64,
    .level = { [1] = { 12, 9, 0 }, { 21, 9, PTE_TABLE }, { 30, 9, PTE_TABLE }, { 39, 9, PTE_TABLE } },
#elif defined(FORMAT_PT32P)
    .levels = 3, .frame_mask = 0x000ffffffffff000, .hv_start = HYPERVISOR_VIRT_START_PAE,
    .m2p_start = MACH2PHYS_VIRT_START_PAE,
    .level = { [1] = { 12, 9, 0 }, { 21, 9, PTE_TABLE }, { 30, 2, PTE_P } },
#else
    .levels = 2, .frame_mask = 0xfffff000, .hv_start = HYPERVISOR_VIRT_START_NONPAE,
    .m2p_start = MACH2PHYS_VIRT_START_NONPAE,
    .level = { [1] = { 12, 10, 0 }, { 22, 10, PTE_TABLE } },
#endif
};

GUEST(start_info) *start_info;
word *p2m;
word arena_end;

static word base_mfn;
static word *m2p;
static word m2p_max;
static word next_free;
static void *free_list;

bool is_dom0(void) { return start_info->flags & SIF_INITDOMAIN; }

/* ---- Frame numbers ---- */

word m2p_raw(word mfn) { return read_once(m2p[mfn]); }
word m2p_limit(void) { return m2p_max; }
void *pfn_to_virt(word pfn) { return (void *)(VIRT_BASE + (pfn << 12)); }
word virt_to_pfn(const void *va) { return ((word)va - VIRT_BASE) >> 12; }
word virt_to_mfn(const void *va) { return p2m[virt_to_pfn(va)]; }
u64 virt_to_maddr(const void *va) { return (u64)virt_to_mfn(va) << 12 | ((word)va & 0xfff); }

word mfn_to_pfn(word mfn)
{
    word pfn = BAD_FRAME;

    if (mfn >= m2p_max)
        return BAD_FRAME;
    if (FAULT_IN(pfn = m2p_raw(mfn)).hit || pfn >= start_info->nr_pages)
        return BAD_FRAME;
    return pfn;
}

void *mfn_to_virt(word mfn)
{
    word pfn = m2p_raw(mfn);

    return pfn < arena_end && p2m[pfn] == mfn ? pfn_to_virt(pfn) : NULL;
}

static bool is_ours(word mfn)
{
    word pfn = mfn_to_pfn(mfn);

    return pfn != BAD_FRAME && p2m[pfn] == mfn;
}

static bool in_ram(const struct e820entry *map, unsigned n, word mfn)
{
    u64 addr = (u64)mfn << 12;

    for (unsigned i = 0; i < n; i++)
        if (map[i].type == E820_RAM && addr >= map[i].addr && addr + 4096 <= map[i].addr + map[i].size)
            return true;
    return false;
}

/* A domU cannot ask where RAM is; there, frames that are not RAM serve as well. Even: from below, odd: from above. */
word foreign_frame(unsigned nth)
{
    static struct e820entry map[E820MAX];
    GUEST(xen_memory_map) arg = { .nr_entries = E820MAX, .buffer = (word)map };
    bool known = is_dom0() && memory_op(XENMEM_machine_memory_map, &arg) == 0;
    unsigned skip = nth / 2 * 31;

    for (word i = 0x100; i < m2p_max; i++) {
        word mfn = nth % 2 ? m2p_max - (i - 0x100) - 1 : i;

        if (known && !in_ram(map, arg.nr_entries, mfn))
            continue;
        if (!is_ours(mfn) && skip-- == 0)
            return mfn;
    }
    return BAD_FRAME;
}

/* ---- Pages ---- */

void *page_alloc(void)
{
    void *page = free_list;

    if (page)
        free_list = *(void **)page;
    else if (next_free < arena_end)
        page = pfn_to_virt(next_free++);
    else
        panic("out of pages");
    return memset(page, 0, 4096);
}

void page_free(void *page)
{
    *(void **)page = free_list;
    free_list = page;
}

word spare_pfn(unsigned nth) { return start_info->nr_pages - 1 - nth; }

/* ---- Walking ---- */

unsigned top_level(void) { return format.levels; }
word current_base(void) { return base_mfn; }
void mm_set_base(word mfn) { base_mfn = mfn; }

unsigned pte_index(const volatile void *va, unsigned level)
{
    const struct pt_level *l = &format.level[level];

    return (unsigned)((word)va >> l->shift) & ((1u << l->bits) - 1);
}

void *table_of(const volatile void *va, unsigned level)
{
    void *table = mfn_to_virt(base_mfn);

    for (unsigned l = format.levels; l > level && table; l--) {
        u64 entry = pte_get(table, pte_index(va, l));

        table = entry & PTE_P ? mfn_to_virt(pte_mfn(entry)) : NULL;
    }
    return table;
}

u64 entry_of(const volatile void *va, unsigned level)
{
    void *table = table_of(va, level);

    return table ? pte_get(table, pte_index(va, level)) : 0;
}

word frame_at(const volatile void *va)
{
    u64 entry = entry_of(va, 1);

    return entry & PTE_P ? pte_mfn(entry) : BAD_FRAME;
}

/* ---- Changing ---- */

long pte_update(const void *entry, u64 value, unsigned cmd)
{
    struct mmu_update req = { .ptr = virt_to_maddr(entry) | cmd, .val = value };

    return mmu_update(&req, 1, NULL, DOMID_SELF);
}

long pte_set(const void *entry, u64 value) { return pte_update(entry, value, MMU_NORMAL_PT_UPDATE); }

void *window(unsigned page) { return (void *)(WINDOW_BASE + page * 4096UL); }
void *user_page(unsigned page) { return (void *)(USER_BASE + page * 4096UL); }

long map_at(const volatile void *va, word mfn, u64 flags)
{
    return update_va_mapping(va, pte_make(mfn, flags), MAP_FLUSH);
}

long unmap_at(const volatile void *va) { return update_va_mapping(va, 0, MAP_FLUSH); }

void make_readonly(const void *page)
{
    long rc = map_at(page, virt_to_mfn(page), PTE_READ);

    if (rc)
        panic("page %p cannot be made read-only: %ld", page, rc);
}

long map_writable(const void *page) { return map_at(page, virt_to_mfn(page), PTE_DATA); }

void make_writable(const void *page)
{
    long rc = map_writable(page);

    if (rc)
        panic("page %p cannot be made writable: %ld", page, rc);
}

void *table_alloc(void)
{
    void *page = page_alloc();

    make_readonly(page);
    return page;
}

void table_free(void *table)
{
    make_writable(table);
    page_free(table);
}

void build_tables(const volatile void *va)
{
    for (unsigned l = format.levels; l > 1; l--) {
        void *table = table_of(va, l), *below;
        unsigned i = pte_index(va, l);

        if (pte_get(table, i) & PTE_P)
            continue;
        below = table_alloc();
        if (pte_set(pte_at(table, i), pte_make(virt_to_mfn(below), format.level[l].table_flags)))
            panic("no level %u table for %p", l - 1, va);
    }
}

long pin(const void *table, unsigned level)
{
    return mmuext(MMUEXT_PIN_L1_TABLE + level - 1, virt_to_mfn(table), 0);
}

long unpin(const void *table) { return mmuext(MMUEXT_UNPIN_TABLE, virt_to_mfn(table), 0); }

/* ---- The top level ---- */

bool is_hypervisor_slot(const volatile void *va, unsigned level, unsigned i)
{
#if defined(FORMAT_PT64)
    (void)va;
    return level == 4 && i >= 256 && i < 272;
#elif defined(FORMAT_PT32P)
    return level == 2 && (word)va >= VIRT_BASE && i >= pte_index((void *)format.hv_start, 2);
#else
    (void)va;
    return level == 2 && i >= pte_index((void *)format.hv_start, 2);
#endif
}

void *hypervisor_entry(void)
{
    const void *va = (const void *)format.hv_start;
    unsigned level = format.levels == 4 ? 4 : 2;

    return pte_at(table_of(va, level), pte_index(va, level));
}

unsigned free_top_slot(void)
{
    return format.levels == 4 ? 100 : format.levels == 3 ? 1 : 512;
}

/* In the hypervisor's slots is what must mean nothing: an entry of a frame that is not there. */
static void *copy_table(const void *va, unsigned level)
{
    const void *from = table_of(va, level);
    pte_raw *to = page_alloc();

    for (unsigned i = 0; i < pte_count(level); i++)
        to[i] = is_hypervisor_slot(va, level, i) ? pte_make(0xfffff, PTE_DATA) : (pte_raw)pte_get(from, i);
    return to;
}

void *copy_top(void)
{
    void *top = copy_table((void *)VIRT_BASE, format.levels);

#ifdef FORMAT_PT32P
    /* The level 2 table that holds the hypervisor's slots belongs to one top level only. */
    void *high = copy_table((void *)VIRT_BASE, 2);

    make_readonly(high);
    ((pte_raw *)top)[3] = pte_make(virt_to_mfn(high), PTE_P);
#endif
    make_readonly(top);
    return top;
}

void free_top(void *top)
{
#ifdef FORMAT_PT32P
    void *high = mfn_to_virt(pte_mfn(pte_get(top, 3)));

    make_writable(top);
    table_free(high);
    page_free(top);
#else
    table_free(top);
#endif
}

/* ---- Start ---- */

/* Linear mapping on to the arena's end; its tables come from what the builder left mapped behind the stack. */
static void extend_arena(word end)
{
    unsigned span = pte_count(1);

    for (word pfn = arena_end & ~(word)(span - 1); pfn < end; pfn += span) {
        pte_raw *l1;
        void *l2 = table_of(pfn_to_virt(pfn), 2);
        unsigned i = pte_index(pfn_to_virt(pfn), 2);

        if (pte_get(l2, i) & PTE_P)
            continue;
        l1 = page_alloc();
        for (unsigned n = 0; n < span && pfn + n < end; n++)
            l1[n] = (pte_raw)pte_make(p2m[pfn + n], PTE_DATA);
        make_readonly(l1);
        if (pte_set(pte_at(l2, i), pte_make(virt_to_mfn(l1), PTE_TABLE)))
            panic("cannot map frame %lx", pfn);
        arena_end = min(pfn + span, end);
    }
}

static void find_m2p(void)
{
    GUEST(xen_machphys_mapping) m = { 0 };
    long last = memory_op(XENMEM_maximum_ram_page, NULL);

    m2p = (word *)format.m2p_start;
    m2p_max = (format.hv_start == HYPERVISOR_VIRT_START_NONPAE ? 0x400000UL : 0x1000000UL) / sizeof(word);
    if (memory_op(XENMEM_machphys_mapping, &m) == 0) {
        m2p = (word *)(word)m.v_start;
        m2p_max = m.max_mfn + 1;
    }
    if (last > 0)
        m2p_max = min(m2p_max, (word)last + 1);
}

static word base_pfn;

void mm_before_suspend(void) { base_pfn = mfn_to_pfn(base_mfn); }

/* The p2m has been written anew if frames have changed, and the other machine may have more of them. */
void mm_after_suspend(void)
{
    base_mfn = p2m[base_pfn];
    find_m2p();
}

void mm_init(GUEST(start_info) *si, word entry_sp)
{
    word tables_end = (word)si->pt_base + si->nr_pt_frames * 4096;

    start_info = si;
    p2m = (word *)(word)si->mfn_list;
    base_mfn = virt_to_mfn((void *)(word)si->pt_base);
    find_m2p();
    next_free = virt_to_pfn((void *)((max(tables_end, entry_sp) + 4095) & ~4095UL));
    arena_end = next_free; /* enough for mfn_to_virt() to see all page tables */
    while (frame_at(pfn_to_virt(arena_end)) == p2m[arena_end])
        arena_end++;
    extend_arena(min((word)ARENA_PAGES, (word)si->nr_pages - 64));
    build_tables(window(0));
    build_tables(user_page(0));
}
