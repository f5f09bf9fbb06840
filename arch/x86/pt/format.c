/* The three page-table formats, as data. */
#include <asm/mm.h>
#include <public/xen.h>

#define LEAF_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A | PTE_D | PTE_PAT | PTE_G | PTE_AVAIL_LOW)
#define NODE_FLAGS (PTE_P | PTE_RW | PTE_US | PTE_PWT | PTE_PCD | PTE_A | PTE_D | PTE_AVAIL_LOW)
#define HIGH_FLAGS (PTE_AVAIL_HIGH | PTE_NX)

#define LEVEL(shift, nr, allowed, forced, cleared) { shift, nr, ~(PTE_MFN_MASK | (allowed)), forced, ~(u64)(cleared) }

/*
 * 64-bit kernels run in ring 3, so all their pages must be user pages; 32-bit kernels run in ring 1, which
 * paging counts as supervisor. Global entries would outlive the switch between a guest's kernel and user tables.
 */
const struct pt_format pt_formats[NR_PT_FORMATS] = {
    [PT64] = {
        .name = "64-bit", .capability = "xen-3.0-x86_64", .id = PT64, .levels = 4, .pte_bytes = 8, .word_bits = 64,
        .hv_start = HYP_VIRT_START, .hv_end = HYP_VIRT_END, .hv_level = 4, .hv_first = HYP_L4_FIRST, .hv_last = HYP_L4_LAST,
        .level = {
            [1] = LEVEL(12, 512, LEAF_FLAGS | HIGH_FLAGS, PTE_US, PTE_G),
            [2] = LEVEL(21, 512, NODE_FLAGS | HIGH_FLAGS, PTE_US, PTE_G),
            [3] = LEVEL(30, 512, NODE_FLAGS | HIGH_FLAGS, PTE_US, PTE_G),
            [4] = LEVEL(39, 512, NODE_FLAGS | HIGH_FLAGS, PTE_US, PTE_G),
        },
    },
    [PT32P] = {
        .name = "32-bit PAE", .capability = "xen-3.0-x86_32p", .id = PT32P, .levels = 3, .pte_bytes = 8, .word_bits = 32,
        .hv_start = 0xf5800000UL, .hv_end = 0x100000000UL, .hv_level = 2, .hv_first = 0x1ac, .hv_last = 511,
        .level = {
            [1] = LEVEL(12, 512, LEAF_FLAGS | HIGH_FLAGS, 0, PTE_G),
            [2] = LEVEL(21, 512, NODE_FLAGS | HIGH_FLAGS, 0, PTE_G),
            /* Hardware in PAE mode knows only P, PWT, PCD here, builders set more; long mode walks copies (pt/mirror.c). */
            [3] = LEVEL(30, 4, PTE_P | PTE_PWT | PTE_PCD | PTE_AVAIL_LOW | PTE_A | PTE_D | PTE_RW | PTE_US, 0, 0),
        },
    },
    [PT32] = {
        .name = "32-bit non-PAE", .capability = "xen-3.0-x86_32", .id = PT32, .levels = 2, .pte_bytes = 4, .word_bits = 32,
        .hv_start = 0xfc000000UL, .hv_end = 0x100000000UL, .hv_level = 2, .hv_first = 1008, .hv_last = 1023,
        .level = {
            [1] = LEVEL(12, 1024, LEAF_FLAGS, 0, PTE_G),
            [2] = LEVEL(22, 1024, NODE_FLAGS, 0, PTE_G),
        },
    },
};
