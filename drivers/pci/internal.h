/* What the files of the PCI driver share. */
#ifndef PCI_INTERNAL_H
#define PCI_INTERNAL_H

#include <pvisor/types.h>

/* Makes registers from 256 on of this function's bus reachable. Not in interrupts. */
void pci_map_bus(u32 sbdf);
/* True if physdev_dom0_hide= names it. */
bool pci_is_hidden(u32 sbdf);

#endif
