/* SPDX-License-Identifier: MIT */
/*
 * physdev_op: interrupts, I/O ports and PCI devices of the real machine. Facts from Xen 4.17's
 * public/physdev.h.
 */
#ifndef PUBLIC_PHYSDEV_H
#define PUBLIC_PHYSDEV_H

#include <public/xen.h>
#include <public/memory.h> /* struct physdev_pci_device */

#define PHYSDEVOP_IRQ_UNMASK_NOTIFY    4 /* old call only: an eoi that names no irq */
#define PHYSDEVOP_irq_status_query     5
#define PHYSDEVOP_set_iopl             6
#define PHYSDEVOP_set_iobitmap         7
#define PHYSDEVOP_apic_read            8
#define PHYSDEVOP_apic_write           9
#define PHYSDEVOP_alloc_irq_vector    10
#define PHYSDEVOP_free_irq_vector     11
#define PHYSDEVOP_eoi                 12
#define PHYSDEVOP_map_pirq            13
#define PHYSDEVOP_unmap_pirq          14
#define PHYSDEVOP_manage_pci_add      15
#define PHYSDEVOP_manage_pci_remove   16
#define PHYSDEVOP_pirq_eoi_gmfn_v1    17
#define PHYSDEVOP_restore_msi         19
#define PHYSDEVOP_manage_pci_add_ext  20
#define PHYSDEVOP_setup_gsi           21
#define PHYSDEVOP_get_free_pirq       23
#define PHYSDEVOP_pci_mmcfg_reserved  24
#define PHYSDEVOP_pci_device_add      25
#define PHYSDEVOP_pci_device_remove   26
#define PHYSDEVOP_restore_msi_ext     27
#define PHYSDEVOP_pirq_eoi_gmfn_v2    28
#define PHYSDEVOP_dbgp_op             29
#define PHYSDEVOP_prepare_msix        30
#define PHYSDEVOP_release_msix        31
#define PHYSDEVOP_pci_device_reset    32

struct physdev_eoi {
    u32 irq;
};

/* v1 also turns off the automatic unmasking of a pirq's event channel; v2 does not. */
#define PHYSDEV_PIRQ_EOI_GMFN_FIELDS(X) X(LONG, gmfn)
ABI_STRUCT(physdev_pirq_eoi_gmfn, PHYSDEV_PIRQ_EOI_GMFN_FIELDS)

#define _XENIRQSTAT_needs_eoi 0
#define XENIRQSTAT_needs_eoi  (1U << _XENIRQSTAT_needs_eoi)
#define _XENIRQSTAT_shared    1
#define XENIRQSTAT_shared     (1U << _XENIRQSTAT_shared)
struct physdev_irq_status_query {
    u32 irq;   /* in */
    u32 flags; /* out */
};

struct physdev_set_iopl {
    u32 iopl;
};

#define PHYSDEV_SET_IOBITMAP_FIELDS(X) X(PTR, bitmap) X(U32, nr_ports)
ABI_STRUCT(physdev_set_iobitmap, PHYSDEV_SET_IOBITMAP_FIELDS)

#define PHYSDEV_APIC_FIELDS(X) X(LONG, apic_physbase) X(U32, reg) X(U32, value)
ABI_STRUCT(physdev_apic, PHYSDEV_APIC_FIELDS)

struct physdev_irq {
    u32 irq;    /* in */
    u32 vector; /* in or out */
};

/* Argument of physdev_op_compat: cmd, then the structure of the command at the offset of apic_op. */
#define PHYSDEV_OP_FIELDS(X) X(U32, cmd) X(STRUCT(physdev_apic), apic_op)
ABI_STRUCT(physdev_op, PHYSDEV_OP_FIELDS)

#define MAP_PIRQ_TYPE_MSI       0x0
#define MAP_PIRQ_TYPE_GSI       0x1
#define MAP_PIRQ_TYPE_UNKNOWN   0x2
#define MAP_PIRQ_TYPE_MSI_SEG   0x3 /* segment in bits 16-31 of bus */
#define MAP_PIRQ_TYPE_MULTI_MSI 0x4
/* index: GSI, or -1 for MSI. pirq: in -1 for any; out. table_base: of the MSI-X table; 0 for MSI. */
#define PHYSDEV_MAP_PIRQ_FIELDS(X)                                              \
    X(U16, domid) X(S32, type) X(S32, index) X(S32, pirq) X(S32, bus)           \
    X(S32, devfn) X(S32, entry_nr) X(U64, table_base)
ABI_STRUCT(physdev_map_pirq, PHYSDEV_MAP_PIRQ_FIELDS)

struct physdev_unmap_pirq {
    domid_t domid;
    s32 pirq;
};

struct physdev_manage_pci {
    u8 bus;
    u8 devfn;
};

struct physdev_restore_msi {
    u8 bus;
    u8 devfn;
};

struct physdev_manage_pci_ext {
    u8 bus;
    u8 devfn;
    u32 is_extfn;
    u32 is_virtfn;
    struct {
        u8 bus;
        u8 devfn;
    } physfn;
};

struct physdev_setup_gsi {
    s32 gsi;
    u8 triggering; /* 0 edge, 1 level */
    u8 polarity;   /* 0 high, 1 low */
};

struct physdev_get_free_pirq {
    s32 type; /* MAP_PIRQ_TYPE_* */
    u32 pirq;
};

#define XEN_PCI_MMCFG_RESERVED 0x1
struct physdev_pci_mmcfg_reserved {
    u64 address;
    u16 segment;
    u8 start_bus;
    u8 end_bus;
    u32 flags;
};

#define XEN_PCI_DEV_EXTFN  0x1
#define XEN_PCI_DEV_VIRTFN 0x2
#define XEN_PCI_DEV_PXM    0x4 /* the node follows in optarr[0] */
struct physdev_pci_device_add {
    u16 seg;
    u8 bus;
    u8 devfn;
    u32 flags;
    struct {
        u8 bus;
        u8 devfn;
    } physfn;
    u32 optarr[];
};

#define PCI_DEVICE_RESET_MASK 0x3 /* cold, warm, hot, of the function */
struct pci_device_reset {
    struct physdev_pci_device dev;
    u32 flags;
};

#define PHYSDEVOP_DBGP_RESET_PREPARE 1
#define PHYSDEVOP_DBGP_RESET_DONE    2
#define PHYSDEVOP_DBGP_BUS_UNKNOWN   0
#define PHYSDEVOP_DBGP_BUS_PCI       1
struct physdev_dbgp_op {
    u8 op;
    u8 bus;
    union {
        struct physdev_pci_device pci;
    } u;
};

#endif
