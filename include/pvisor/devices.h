/*
 * PCI functions that are given to domains. A function works for one domain at a time, whose frames it reaches and whose pirqs it may have:
 * dom0 from the start, another, or nobody, in whose hands it is between two domains and reaches nothing. All under the control lock.
 */
#ifndef PVISOR_DEVICES_H
#define PVISOR_DEVICES_H

#include <pvisor/types.h>

struct domain;

/* Can any be given away on this machine? */
bool devices_can_be_given(void);
/* Boot, after dma_start(): says in the log if not, and what a domain may do that gets one by pci-unsafe=. */
void devices_say(void);
/* 0: the function can be given away, and nobody has it; -ENODEV, -EOPNOTSUPP, -EBUSY. */
int device_test(u32 sbdf);
/*
 * The function is d's from here on, or, d NULL, nobody's. It was dom0's or nobody's, and none of its messages is mapped. What device_test()
 * says; -EINVAL: d was not made for devices, or is dom0; -EBUSY, also where a virtual function and the card that makes it would become
 * different domains'; -ENOSPC, -ENOMEM; -ERESTART_HYPERCALL.
 */
int device_assign(struct domain *d, u32 sbdf);
/* From d to nobody, or, d NULL, from nobody back to dom0. -ENODEV: it is not d's; of dom0's it is no error that nobody had it. -EBUSY: it
 * is a virtual function of what is not dom0's now, nor nobody's. */
int device_deassign(struct domain *d, u32 sbdf);
/* All of a dying domain's, and what they reach. 0 or -ERESTART_HYPERCALL. */
int devices_release(struct domain *d);

#endif
