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

#endif
