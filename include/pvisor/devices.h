/*
 * PCI functions that are given to domains. A function works for one domain at a time, whose frames it reaches and whose pirqs it may have:
 * dom0 from the start, another, or nobody, in whose hands it is between two domains and reaches nothing. A lock makes one step of the
 * looks at owners and what is done then; all but device_found() and device_lost() are called under the control lock, too.
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
/*
 * dom0 has found a function: pci_add_device() says what may be wrong. It is dom0's then; but nobody's, with a line in the log, if it was so
 * when dom0 lost it, or if its parent is not dom0's now, nor nobody's: device_deassign() gives it to dom0.
 */
int device_found(u32 sbdf, u32 parent);
/* dom0 has lost one, whose messages it has no more. -ENODEV; -EBUSY: it is a domU's. What was nobody's is so when it comes again. */
int device_lost(u32 sbdf);
/* All of a dying domain's, and what they reach. 0 or -ERESTART_HYPERCALL. */
int devices_release(struct domain *d);

#endif
