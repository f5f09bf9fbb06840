/*
 * The hypervisor's own page tables: four levels below slots 256 to 271 of hyp_l4. The sixteen level-3
 * tables exist from boot on and never change place, so what is mapped later shows in every address space at once.
 */
#include <asm/atomic.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>

extern const struct percpu_array __percpu_start[], __percpu_end[];

u64 *hyp_l4;
u64 hyp_nx;
u64 boot_l4[512] __attribute__((aligned(4096), section(".bss.page_aligned")));
u64 boot_l3_low[512] __attribute__((aligned(4096), section(".bss.page_aligned")));
u64 boot_l3_image[512] __attribute__((aligned(4096), section(".bss.page_aligned")));
u64 boot_l2[4 * 512] __attribute__((aligned(4096), section(".bss.page_aligned")));

static spinlock_t map_lock = SPINLOCK_INIT(RANK_VMAP);

static u64 *new_table(void)
{
    if (!heap_ready) {
        u64 *t = maddr_to_virt(boot_alloc(1));
        memset(t, 0, PAGE_SIZE);
        return t;
    }
    return alloc_pages(0);
}

static u64 *table_of(u64 e) { return maddr_to_virt(maddr(e & PTE_MFN_MASK)); }

/* The table of the given level below root that covers va, made if it is missing; NULL without memory. */
static u64 *walk_in(u64 *root, u64 va, unsigned to_level, bool make)
{
    u64 *t = root;

    for (unsigned level = 4; level > to_level; level--) {
        u64 *e = &t[va >> (12 + 9 * (level - 1)) & 511];
        if (!(*e & PTE_P)) {
            u64 *n = make ? new_table() : NULL;
            if (!n)
                return NULL;
            *e = virt_to_maddr(n).v | PTE_P | PTE_RW | PTE_US | PTE_A;
        } else if (*e & PTE_PS) {
            return NULL;
        }
        t = table_of(*e);
    }
    return t;
}

static u64 *walk(u64 va, unsigned to_level, bool make) { return walk_in(hyp_l4, va, to_level, make); }

u64 hyp_lookup(u64 va)
{
    u64 *t = hyp_l4;

    for (unsigned level = 4;; level--) {
        u64 e = t[va >> (12 + 9 * (level - 1)) & 511];
        if (!(e & PTE_P))
            return 0;
        if (level == 1 || e & PTE_PS)
            return e;
        t = table_of(e);
    }
}

/* The bit that chooses a memory type by PAT is PTE_PS in larger entries, and has another place there. */
static u64 leaf_flags(unsigned level, u64 flags)
{
    return level == 1 ? flags : (flags & ~PTE_PAT) | (flags & PTE_PAT ? PTE_PAT_LARGE : 0) | PTE_PS;
}

/* How many pages one entry maps of the nr at va. */
static u64 step_of(u64 va, u64 pa, u64 nr) { return nr >= 512 && !((va | pa) & 0x1fffff) ? 512 : 1; }

/* Makes the tables that nr pages at va need, and, if `enter`, the entries. */
static int map_pieces(u64 *root, u64 va, u64 pa, u64 nr, u64 flags, bool enter)
{
    for (u64 step; nr; nr -= step, va += step << PAGE_SHIFT, pa += step << PAGE_SHIFT) {
        unsigned level = (step = step_of(va, pa, nr)) == 1 ? 1 : 2;
        u64 *t = walk_in(root, va, level, true);

        if (!t)
            return -ENOMEM;
        if (enter)
            write_once(t[va >> (12 + 9 * (level - 1)) & 511], pa | leaf_flags(level, flags));
    }
    return 0;
}

/* First all tables: without memory for one nothing is mapped, rather than half of it. */
int hyp_map_in(u64 *root, u64 va, maddr_t pa, u64 nr, u64 flags)
{
    int rc;

    spin_lock(&map_lock);
    rc = map_pieces(root, va, pa.v, nr, flags, false);
    if (!rc)
        rc = map_pieces(root, va, pa.v, nr, flags, true);
    spin_unlock(&map_lock);
    return rc;
}

int hyp_map(u64 va, maddr_t pa, u64 nr, u64 flags) { return hyp_map_in(hyp_l4, va, pa, nr, flags); }

/* A table whose entries are all e. */
static __init u64 *uniform_table(u64 e)
{
    u64 *t = new_table();

    for (unsigned i = 0; i < 512; i++)
        t[i] = e;
    return t;
}

/* fill[level]: what an entry becomes, in the table t of some level or one below it, that leads nowhere. */
static __init void fill_table(u64 *t, unsigned level, const u64 *fill)
{
    for (unsigned i = 0; i < 512; i++)
        if (!(t[i] & PTE_P))
            t[i] = fill[level];
        else if (level > 1 && !(t[i] & PTE_PS))
            fill_table(table_of(t[i]), level - 1, fill);
}

__init void hyp_map_holes(u64 va, maddr_t page, u64 flags)
{
    u64 fill[4] = { 0, page.v | flags };

    for (unsigned level = 2; level <= 3; level++)
        fill[level] = virt_to_maddr(uniform_table(fill[level - 1])).v | PTE_P | PTE_RW | PTE_US | PTE_A;
    fill_table(walk(va, 3, true), 3, fill);
}

void hyp_unmap(u64 va, u64 nr)
{
    spin_lock(&map_lock);
    for (; nr; nr--, va += PAGE_SIZE) {
        u64 *t = walk(va, 1, false);
        if (t)
            write_once(t[va >> 12 & 511], 0);
    }
    spin_unlock(&map_lock);
}

/* Level-3 tables for all our slots; 257 shares 256's, so that the M2P has a writable and a read-only view. */
static __init void make_slots(void)
{
    for (unsigned i = HYP_L4_FIRST; i <= HYP_L4_LAST; i++) {
        u64 *t = i == 257 ? table_of(hyp_l4[256]) : new_table();
        hyp_l4[i] = virt_to_maddr(t).v | PTE_P | PTE_A | (i == 256 ? PTE_US : PTE_RW);
    }
}

extern char __text_start[], __text_end[], __init_text_start[], __init_text_end[], __init_data_start[], __init_data_end[],
    __init_bss_start[], __init_bss_end[], __main_text_start[], __rodata_start[], __rodata_end[], __data_start[], __image_end[];

static __init void map_image_part(char *start, char *end, u64 flags)
{
    hyp_map((u64)start, virt_to_maddr(start), DIV_ROUND_UP((u64)(end - start), PAGE_SIZE), flags);
}

/* Only what the firmware calls memory: device registers must not be reachable through a cached alias. */
static __init void map_ram(void)
{
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *r = &host_e820[i];
        u64 start = r->start & PAGE_MASK, end = ROUND_UP(r->start + r->size, PAGE_SIZE);
        if ((r->type != E820_RAM && r->type != E820_ACPI && r->type != E820_NVS) || end > E820_RAM_LIMIT)
            continue;
        start = i && start < host_e820[i - 1].start + host_e820[i - 1].size && host_e820[i - 1].type != E820_RESERVED ?
            ROUND_UP(start, PAGE_SIZE) : start;
        hyp_map(DIRECTMAP_START + start, maddr(start), (end - start) >> PAGE_SHIFT, HYP_RW);
    }
    hyp_map(DIRECTMAP_START, maddr(0), 256, HYP_RW);
}

__init void hyp_map_init(void)
{
    if (rdmsr(MSR_EFER) & EFER_NX)
        hyp_nx = PTE_NX;
    hyp_l4 = new_table();
    make_slots();
    map_ram();
    map_image_part(__text_start, __init_text_end, HYP_RX);
    map_image_part(__init_data_start, __init_data_end, HYP_RW);
    map_image_part(__main_text_start, __text_end, HYP_RX);
    map_image_part(__rodata_start, __rodata_end, HYP_RO);
    /* Never by a large page: percpu_release() takes some of these back. */
    for (char *page = __data_start; page < __image_end; page += PAGE_SIZE)
        map_image_part(page, page + PAGE_SIZE, HYP_RW);
    write_cr3(virt_to_maddr(hyp_l4).v);
    boot_alloc_from_all();
}

static u64 release(char *start, char *end)
{
    u64 nr = (u64)(end - start) >> PAGE_SHIFT;

    hyp_unmap((u64)start, nr);
    flush_tlb_local();
    heap_init_region(virt_to_mfn(start), nr);
    return nr;
}

/* What only boot needed becomes ordinary memory. */
void hyp_release_init(void)
{
    u64 nr = release(__init_text_start, __init_data_end) + release(__init_bss_start, __init_bss_end);

    printk(LOG_INFO "%lu KiB of initial code and data freed\n", nr << 2);
}

const char zero_page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

/* Before other CPUs run. */
__init void percpu_release(unsigned nr)
{
    u64 freed = 0;

    for (const struct percpu_array *a = __percpu_start; a < __percpu_end; a++) {
        u64 from = ROUND_UP((u64)a->start + nr * a->each, PAGE_SIZE), to = (u64)a->start + NR_CPUS * a->each;

        BUG_ON(!a->start || (u64)a->start & ~PAGE_MASK);    /* the table of arrays has gaps */
        if (from >= to)
            continue;
        for (u64 va = from; va < to; va += PAGE_SIZE)
            BUG_ON(hyp_map(va, virt_to_maddr(zero_page), 1, HYP_RO) < 0);
        flush_tlb_local();
        heap_init_region(virt_to_mfn((void *)from), (to - from) >> PAGE_SHIFT);
        freed += to - from;
    }
    printk(LOG_INFO "%lu KiB for CPUs that are not there freed\n", freed >> 10);
}

/* --- Device registers --- */

static u64 vmap_next = VMAP_START;

static u64 pages_of(u64 start, size_t size) { return (ROUND_UP(start + size, PAGE_SIZE) - (start & PAGE_MASK)) >> PAGE_SHIFT; }

/* Addresses for nr pages, and for one behind them that is never mapped; 0: there are no more. */
static u64 take_addresses(u64 nr)
{
    u64 va = read_once(vmap_next);

    do {
        if (nr >= (VMAP_END - va) >> PAGE_SHIFT)
            return 0;
    } while (!try_cmpxchg(&vmap_next, &va, va + ((nr + 1) << PAGE_SHIFT)));
    return va;
}

/* Nothing was mapped there: so no CPU has a translation. Those that others have been taken behind stay unused. */
static void return_addresses(u64 va, u64 nr)
{
    u64 next = va + ((nr + 1) << PAGE_SHIFT);

    (void)try_cmpxchg(&vmap_next, &next, va);
}

static void *map_at(u64 va, maddr_t a, size_t size, u64 flags)
{
    int rc = hyp_map(va, maddr(a.v & PAGE_MASK), pages_of(a.v, size), flags);

    return rc ? NULL : (void *)(va + (a.v & ~PAGE_MASK));
}

static void *map_device(maddr_t a, size_t size, u64 flags)
{
    u64 nr = pages_of(a.v, size), va = take_addresses(nr);
    void *p = va ? map_at(va, a, size, flags) : NULL;

    if (va && !p)
        return_addresses(va, nr);
    return p;
}

void *ioremap(maddr_t a, size_t size) { return map_device(a, size, HYP_UNCACHED); }
void *ioremap_wc(maddr_t a, size_t size) { return map_device(a, size, HYP_COMBINING); }

void iounmap(void *p, size_t size) { hyp_unmap((u64)p & PAGE_MASK, pages_of((u64)p, size)); }

void *ioremap_at(struct io_place *place, maddr_t a, size_t size)
{
    BUG_ON(pages_of(a.v, size) > IO_PLACE_PAGES);
    if (!place->va)
        place->va = take_addresses(IO_PLACE_PAGES);
    return place->va ? map_at(place->va, a, size, HYP_UNCACHED) : NULL;
}

/* A CPU on its way offline still takes interrupts, whose handlers use such places. */
void iounmap_at(const struct io_place *place)
{
    hyp_unmap(place->va, IO_PLACE_PAGES);
    flush_tlb_mask(&cpu_live_map);
}
