/* RAM at boot: an allocator for the tables that the real one needs. */
#include <asm/boot.h>
#include <asm/mm.h>
#include <asm/spec.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

extern char __image_start[], __image_end[];

/* Free RAM, page-aligned; what boot_alloc() takes comes off the end of one. */
#define MAX_REGIONS (E820_MAX + 2 * MAX_BOOT_MODULES + 8)
static struct region { u64 start, end; } regions[MAX_REGIONS] __initdata;
static unsigned nr_regions __initdata;

static __init void add_region(u64 start, u64 end)
{
    if (start >= end)
        return;
    if (nr_regions == MAX_REGIONS)
        boot_failure("free memory is in more than %u pieces", MAX_REGIONS);
    regions[nr_regions++] = (struct region){ start, end };
}

__init void boot_reserve(u64 start, u64 end)
{
    start &= PAGE_MASK;
    end = ROUND_UP(end, PAGE_SIZE);
    for (unsigned i = 0, n = nr_regions; i < n; i++) {
        struct region r = regions[i];
        if (r.end <= start || r.start >= end)
            continue;
        regions[i].end = max(r.start, min(start, r.end));
        add_region(max(r.start, end), r.end);
    }
}

/* What an entry names, one half of which a PAE kernel has written: nobody's (asm/spec.h). */
static __init void reserve_halves(void)
{
    for (u64 at = L1TF_HALF_STEP; at <= L1TF_HALVES; at += L1TF_HALF_STEP)
        boot_reserve(at, at + PAGE_SIZE);
}

__init void memory_init(void)
{
    for (unsigned i = 0; i < host_e820_nr; i++)
        if (host_e820[i].type == E820_RAM)
            add_region(ROUND_UP(host_e820[i].start, PAGE_SIZE), (host_e820[i].start + host_e820[i].size) & PAGE_MASK);
    boot_reserve(0, FIRST_MIB);
    reserve_halves();
    boot_reserve(virt_to_maddr(__image_start).v, virt_to_maddr(__image_end).v);
}

static u64 alloc_limit __initdata = 1UL << 32;      /* what the boot page tables map */

__init void boot_alloc_from_all(void) { alloc_limit = ~0UL; }

__init maddr_t boot_alloc_aligned(u64 nr_pages, u64 align)
{
    u64 bytes = nr_pages << PAGE_SHIFT, at = 0, end;
    struct region *best = NULL;

    for (unsigned i = 0; i < nr_regions; i++) {
        struct region *r = &regions[i];
        u64 from = (r->end - bytes) & ~(align - 1);
        if (r->start + bytes <= r->end && from >= r->start && r->end <= alloc_limit && from >= at) {
            best = r;
            at = from;
        }
    }
    if (!best)
        boot_failure("out of memory while booting: %lu KiB more are needed%s", bytes >> 10,
                     alloc_limit == ~0UL ? "" : " below 4 GiB");
    end = best->end;
    best->end = at;
    add_region(at + bytes, end);
    return maddr(at);
}

__init maddr_t boot_alloc(u64 nr_pages) { return boot_alloc_aligned(nr_pages, PAGE_SIZE); }

__init void memory_to_heap(void)
{
    for (unsigned i = 0; i < nr_regions; i++)
        if (regions[i].start < regions[i].end)
            heap_init_region(mfn(regions[i].start >> PAGE_SHIFT), (regions[i].end - regions[i].start) >> PAGE_SHIFT);
}

__init void boot_release(maddr_t start, u64 size)
{
    u64 from = max(ROUND_UP(start.v, PAGE_SIZE), FIRST_MIB), to = (start.v + size) & PAGE_MASK;

    if (from < to)
        heap_init_region(mfn(from >> PAGE_SHIFT), (to - from) >> PAGE_SHIFT);
}
