/*
 * What the hardware domain's devices reach, on a machine whose IOMMU is used. One of two:
 *
 *   relaxed   RAM that is a domain's, or free for one, but nothing that was the hypervisor's own when dom0 began to run (its code and
 *             data, the frame table, its own structures), unless it has become a domain's since. Page tables are within reach.
 *   strict    exactly dom0's frames of type writable (iommu=dom0-strict). Before a frame is trusted as a table, and before anybody else
 *             gets it, no device reaches it, and what was under way is over: the rule that holds for CPUs (asm/pt.h). Frames of others
 *             that dom0 maps, by grants or as their builder, are out of its devices' reach.
 */
#ifndef ASM_DMA_H
#define ASM_DMA_H

#include <pvisor/iommu.h>

/* A frame's words and what devices reach are to be kept in step: dma_frame_changed(). */
extern bool dma_strict;
extern u16 dma_domain;      /* whose devices these are */

/* Boot, when dom0 is built and what only boot needed is free, before dom0 runs. */
void dma_start(void);
struct domain;
/* The frames first to before end have become d's, and may be reached. */
void dma_frames_given(const struct domain *d, u64 first, u64 end);
/*
 * A frame's type, or its owner, is another now. The caller sees to it that neither changes meanwhile: a reference is held, or its last is
 * gone and it is not free yet.
 */
void dma_frame_changed(u64 frame);
bool dma_may_reach(u64 frame);      /* what its words say of the frame at this moment */

#endif
