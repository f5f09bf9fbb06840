/*
 * The hypervisor's virtual address space. The ABI gives us L4 slots 256 to 271 of every 64-bit
 * guest's tables (include/public: HYPERVISOR_VIRT_START/END); everything of ours lives there.
 *
 *   slot  start                what
 *   256   0xffff800000000000   M2P, readable by guests (the ABI's machine_to_phys_mapping)
 *   257   0xffff808000000000   the same M2P, writable by us
 *   258   0xffff810000000000   frame table: reference words; at +256 GiB: type words
 *   260   0xffff820000000000   per-domain slot: each vCPU's GDT and LDT
 *   261   0xffff828000000000   vmap area (device registers), our image, stacks and entry stubs
 *   262   0xffff830000000000   direct map of all RAM, 5 TiB
 */
#ifndef ASM_LAYOUT_H
#define ASM_LAYOUT_H

#define HYP_L4_FIRST 256
#define HYP_L4_LAST  271
#define HYP_VIRT_START 0xffff800000000000UL
#define HYP_VIRT_END   0xffff880000000000UL

#define M2P_RO_START      0xffff800000000000UL
#define M2P_RW_START      0xffff808000000000UL
#define FRAME_REF_START   0xffff810000000000UL
#define FRAME_TYPE_START  0xffff814000000000UL
#define PERDOMAIN_START   0xffff820000000000UL
#define VMAP_START        0xffff82c000000000UL
#define VMAP_END          0xffff82d000000000UL
#define IMAGE_START       0xffff82d040000000UL
#define IMAGE_END         0xffff82d060000000UL
#define STACKS_START      0xffff82d060000000UL
#define DIRECTMAP_START   0xffff830000000000UL
#define DIRECTMAP_END     0xffff880000000000UL
#define DIRECTMAP_SIZE    (DIRECTMAP_END - 0xffff830000000000UL)

/* Per-CPU area in the stacks region: guard page, stack pages, cpu_info at the very top. */
#define STACK_ORDER 3
#define STACK_SIZE  (4096UL << STACK_ORDER)
#define STACK_STRIDE (2 * STACK_SIZE)

/* Per-vCPU part of the per-domain slot: 16 GDT pages, then 16 LDT pages. */
#define PERVCPU_PAGES  32
#define PERVCPU_SHIFT  17
#define VCPU_GDT_START(id) (PERDOMAIN_START + ((unsigned long)(id) << PERVCPU_SHIFT))
#define VCPU_LDT_START(id) (VCPU_GDT_START(id) + (16UL << 12))

#define NR_CPUS 256

#endif
