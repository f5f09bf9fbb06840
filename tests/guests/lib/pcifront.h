/*
 * PCI functions that were given to us: their configuration space and messages, as dom0's xen-pciback lends them through a page that we
 * share (public/io/pciif.h). All are on one bus there, whose numbers are pciback's.
 */
#ifndef GUEST_PCIFRONT_H
#define GUEST_PCIFRONT_H

#include "abi.h"

#define PCI_NOBODY (~0u)

/* Connects to pciback; false if nothing was given to us. watch: a number for the watch on the backend's state. */
bool pcifront_init(unsigned watch);
/* The first function that says it is this vendor's and of this kind; PCI_NOBODY: none of them does. */
unsigned pcifront_find(u16 vendor, u16 device);
/* Configuration space; bytes: 1, 2 or 4. What is not there reads as ones; a write may be refused. */
u32 pcifront_read(unsigned devfn, unsigned offset, unsigned bytes);
bool pcifront_write(unsigned devfn, unsigned offset, unsigned bytes, u32 value);
/* The function sends messages instead of using its line: the pirq, or a negative errno. And the line again. */
long pcifront_enable_msi(unsigned devfn);
bool pcifront_disable_msi(unsigned devfn);

#endif
