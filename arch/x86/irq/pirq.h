/* A domain's physical interrupts: the table that pirq.c keeps and physdev.c works on. */
#ifndef IRQ_PIRQ_H
#define IRQ_PIRQ_H

#include <pvisor/types.h>

struct domain;

/* Checks the caller's permissions and maps for d; *pirq < 0 on entry: any. The caller is dom0. 0 or -errno. */
int pirq_map_gsi(struct domain *d, s32 gsi, s32 *pirq);
int pirq_map_msi(struct domain *d, u32 sbdf, bool msix, u32 index, u64 table_base, s32 *pirq);
int pirq_unmap(struct domain *d, s32 pirq);
/* A free pirq, set aside for a later map; -ENOSPC. */
s64 pirq_reserve(struct domain *d, bool msi);
/* True if the pirq is mapped to a level-triggered irq: its guest must say EOI. -EINVAL: no such pirq. */
int pirq_needs_eoi(const struct domain *d, u32 pirq, bool *needs, bool *shared);
/* PHYSDEVOP_pirq_eoi_gmfn_*: shares the bitmap page. -EBUSY: there is one. */
int pirq_share_eoi_map(struct domain *d, u64 gmfn, bool auto_unmask);

#endif
