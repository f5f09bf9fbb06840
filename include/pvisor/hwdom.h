/* What of the real machine dom0 may touch. */
#ifndef PVISOR_HWDOM_H
#define PVISOR_HWDOM_H

#include <pvisor/types.h>

struct domain;
struct rangeset;

/* Frames of device memory that any mapping of may only be read-only (IO-APICs, a HPET in use, where CPUs start). */
extern struct rangeset *mmio_ro_ranges;

/*
 * Fills d's iomem (frames), ioports and irqs (GSIs) with everything but what the hypervisor keeps. Before dom0 runs,
 * after irq_init() and console_init(); panics without memory.
 */
void hardware_domain_permissions(struct domain *d);
/*
 * Firmware that has devices use memory of its own, to emulate a keyboard or for a management processor, is to name it (RMRR, IVMD), and
 * often does not. So unless dom0 is kept strictly, its devices reach all that the memory map calls reserved, below 4 GiB, where such
 * firmware works, and where dom0's CPUs may write. After hardware_domain_permissions() and iommu_init(), before dma_start().
 */
void hardware_domain_reserved_memory(void);
/* Each of these frames, both ends included, is device memory that dom0's CPUs may write. */
bool hardware_domain_may_write(u64 first, u64 last);

#endif
