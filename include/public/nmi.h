/* SPDX-License-Identifier: MIT */
/* nmi_op, and the reasons in arch_shared_info.nmi_reason. Facts from Xen 4.17's public/nmi.h. */
#ifndef PUBLIC_NMI_H
#define PUBLIC_NMI_H

#include <pvisor/abi.h>

#define _XEN_NMIREASON_io_error  0
#define XEN_NMIREASON_io_error   (1UL << _XEN_NMIREASON_io_error)
#define _XEN_NMIREASON_pci_serr  1
#define XEN_NMIREASON_pci_serr   (1UL << _XEN_NMIREASON_pci_serr)
#define _XEN_NMIREASON_unknown   2
#define XEN_NMIREASON_unknown    (1UL << _XEN_NMIREASON_unknown)

#define XENNMI_register_callback   0
#define XENNMI_unregister_callback 1
#define XENNMI_CALLBACK_FIELDS(X) X(LONG, handler_address) X(LONG, pad)
ABI_STRUCT(xennmi_callback, XENNMI_CALLBACK_FIELDS)

#endif
