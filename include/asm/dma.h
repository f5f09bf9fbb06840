/*
 * What the hardware domain's devices reach, on a machine whose IOMMU is used: RAM that is a domain's, or free for one, but nothing that was
 * the hypervisor's own when dom0 began to run (its code and data, the frame table, page tables, its own structures), unless it has become
 * a domain's since.
 */
#ifndef ASM_DMA_H
#define ASM_DMA_H

#include <pvisor/iommu.h>

/* Boot, when dom0 is built and what only boot needed is free, before dom0 runs. */
void dma_start(void);
/* A frame has become a domain's. */
void dma_frame_given(u64 frame);

#endif
