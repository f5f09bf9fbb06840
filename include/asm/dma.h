/*
 * What devices reach, on a machine whose IOMMU is used. Each domain that has devices has a space (pvisor/iommu.h), and it is one of two:
 *
 *   exact     the domain's frames of type writable, and nothing else. Before a frame is trusted as a table, and before anybody else gets
 *             it, no device reaches it, and what was under way is over: the rule that holds for CPUs (asm/pt.h). Frames of others that
 *             the domain maps, by grants or as a builder, are out of reach. So are domUs' spaces, and dom0's with dom0-strict.
 *   relaxed   dom0's unless told: RAM that is a domain's, or free for one, but nothing that was the hypervisor's own when dom0 began to
 *             run (its code and data, the frame table, its own structures), unless it has become a domain's since. Page tables are
 *             within reach. And device memory that firmware has its devices use, or reserves (pvisor/hwdom.h).
 *
 * A domain without devices pays nothing: its space is made for its first device and ends with its last.
 */
#ifndef ASM_DMA_H
#define ASM_DMA_H

#include <pvisor/iommu.h>

/* Some space is exact: its frames' words and what it reaches are to be kept in step, by dma_frame_changed() and dma_frame_freed(). */
extern bool dma_exact;

/* Boot, when dom0 is built and what only boot needed is free, before dom0 runs. may_write: as iommu_start()'s. */
void dma_start(bool (*may_write)(u64 first, u64 last));
struct domain;
/*
 * The space for d's devices, made if there is none: its number. -ENOSPC, -ENOMEM; -ERESTART_HYPERCALL: there is more to do. Under the
 * control lock, as dma_space_drop(): its devices are gone; -ERESTART_HYPERCALL, else 0.
 */
int dma_space(const struct domain *d);
int dma_space_drop(const struct domain *d);
/* The frames first to before end have become d's; shared: and are of type writable. */
void dma_frames_given(const struct domain *d, u64 first, u64 end, bool shared);
/* A frame's type is another now. The caller sees to it that it does not change hands meanwhile: a reference is held. */
void dma_frame_changed(u64 frame);
/*
 * Its owner was d, its last reference is gone, and it is not free yet. The answer is spaces, a bit for each, whose devices may reach it
 * still, from what units remember: the caller sees to it that nobody gets it before iommu_flush() of these.
 */
u64 dma_frame_freed(const struct domain *d, u64 frame) must_check;
/* For the invariant: is the space exact, and does it reach the frame if and only if it may? */
bool dma_is_exact(unsigned space);
bool dma_is_right(unsigned space, u64 frame);

#endif
