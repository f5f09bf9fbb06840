/*
 * Where a builder puts what a kernel finds at its start, for each page-table format (Xen's public/xen.h, "start-of-day
 * memory layout"). Shared by dom0's builder and the boot loader in domUs.
 *
 *   pfn 0                                                             virtual: virt_base
 *     kernel | initrd (if mapped) | p2m (if mapped here) | start_info | page tables | boot stack | padding to 4 MiB
 *   then, not mapped there:  initrd | p2m and its page tables (INIT_P2M)
 *   then the rest of memory.
 */
#include "internal.h"

#define PAD_LEAST (512u << 10)      /* mapped and unused behind the boot stack, at least */
#define PAD_ALIGN (4u << 20)
#define TO_PAGES(bytes) DIV_ROUND_UP((u64)(bytes), PAGE_SIZE)

const struct image_shape image_shapes[NR_PT_FORMATS] = {
    [PT64]  = { .levels = 4, .index_bits = 9, .entry_bytes = 8, .word_bytes = 8 },
    [PT32P] = { .levels = 3, .index_bits = 9, .entry_bytes = 8, .word_bytes = 4 },
    [PT32]  = { .levels = 2, .index_bits = 10, .entry_bytes = 4, .word_bytes = 4 },
};

static u64 tables_for(const struct image_shape *f, u64 start, u64 end)
{
    u64 n = 1;

    for (unsigned level = 2; level <= f->levels; level++) {
        unsigned s = image_shift(f, level);
        n += ((end - 1) >> s) - (start >> s) + 1;
    }
    return n;
}

static void place_tables(const struct image_shape *f, bool pae, struct image_layout *l)
{
    for (l->nr_pt = 1;; l->nr_pt++) {
        l->v_stack = l->v_pt + l->nr_pt * PAGE_SIZE;
        l->v_end = align_up(l->v_stack + PAGE_SIZE + PAD_LEAST, PAD_ALIGN);
        l->extra_l2 = pae && l->v_end <= 3ULL << 30;
        if (tables_for(f, l->v_start, l->v_end) + l->extra_l2 <= l->nr_pt)
            break;
    }
}

static void place_unmapped(const struct kernel_image *k, u64 initrd_size, u64 p2m_bytes, struct image_layout *l)
{
    u64 pfn = (l->v_end - l->v_start) >> PAGE_SHIFT;

    l->initrd_pfn = k->unmapped_initrd ? pfn : (l->v_initrd - l->v_start) >> PAGE_SHIFT;
    if (k->unmapped_initrd)
        pfn += TO_PAGES(initrd_size);
    if (k->has_p2m_base) {
        l->p2m_pfn = pfn;
        l->p2m_frames = TO_PAGES(p2m_bytes) + tables_for(&image_shapes[k->format], l->v_p2m, l->v_p2m + p2m_bytes) - 1;
        pfn += l->p2m_frames;
    } else {
        l->p2m_pfn = (l->v_p2m - l->v_start) >> PAGE_SHIFT;
    }
    l->first_free_pfn = pfn;
}

void image_lay_out(const struct kernel_image *k, u64 nr_pages, u64 initrd_size, unsigned info_pages, struct image_layout *l)
{
    const struct image_shape *f = &image_shapes[k->format];
    u64 va = align_up(k->virt_kend, PAGE_SIZE), p2m_bytes = nr_pages * f->word_bytes;

    *l = (struct image_layout){ .v_start = k->virt_base, .v_p2m = k->p2m_base };
    if (!k->unmapped_initrd) {
        l->v_initrd = va;
        va += align_up(initrd_size, PAGE_SIZE);
    }
    if (!k->has_p2m_base) {
        l->v_p2m = va;
        va += align_up(p2m_bytes, PAGE_SIZE);
    }
    l->v_start_info = va;
    l->v_pt = va + info_pages * PAGE_SIZE;
    place_tables(f, k->format == PT32P, l);
    place_unmapped(k, initrd_size, p2m_bytes, l);
}
