/*
 * PCI configuration space, the list of functions, and what dom0 may do with them. A function is named by its
 * sbdf: segment << 16 | bus << 8 | device << 3 | function.
 */
#ifndef PVISOR_PCI_H
#define PVISOR_PCI_H

#include <pvisor/frame.h>
#include <pvisor/list.h>
#include <pvisor/types.h>

struct domain;

#define PCI_SBDF(seg, bus, devfn) ((u32)(seg) << 16 | (u32)(bus) << 8 | (devfn))
#define PCI_FMT "%04x:%02x:%02x.%u"
#define PCI_ARGS(sbdf) (sbdf) >> 16, (sbdf) >> 8 & 0xff, (sbdf) >> 3 & 0x1f, (sbdf) & 7

/* Registers and bits used here (PCI Local Bus Specification 3.0, chapter 6). */
#define PCI_VENDOR_ID 0x00
#define PCI_COMMAND 0x04
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_STATUS 0x06
#define PCI_STATUS_CAP_LIST 0x0010
#define PCI_CLASS_REVISION 0x08
#define PCI_CLASS_BRIDGE 0x06     /* upper byte of the class */
#define PCI_HEADER_TYPE 0x0e
#define PCI_BAR0 0x10
#define PCI_CAP_POINTER 0x34
#define PCI_CAP_MSI 0x05
#define PCI_CAP_EXPRESS 0x10
#define PCI_CAP_MSIX 0x11
#define MSIX_CONTROL 2              /* from the capability on */
#define MSIX_CONTROL_SIZE 0x07ffu   /* how many entries the table has, but one */
#define MSIX_TABLE 4
#define MSIX_TABLE_BAR 7u           /* the table is in this BAR, at an offset that is the other bits */

/* Of the capability PCI_CAP_EXPRESS: what the device can do (PCI Express Base Specification 7.5.3.3). */
#define EXPRESS_DEVICE 4
#define EXPRESS_PHANTOMS 0x18               /* so many bits of its number it can vary, if that is switched on */

/* A capability from register 256 on, by which a function makes others of itself (PCI Express Base Specification 9.3.3). */
#define PCI_EXT_SRIOV 0x10
#define SRIOV_CONTROL 0x08
#define SRIOV_CONTROL_ON (1u << 0)          /* there are as many of them as SRIOV_NUMBER says */
#define SRIOV_CONTROL_MEMORY (1u << 3)      /* those others answer to memory accesses */
#define SRIOV_NUMBER 0x10
#define SRIOV_DEVICE 0x1a                   /* what they are */

/* What functions of one device want of each other goes by way of the port, and so by the IOMMU (Access Control Services, 7.7.8). */
#define PCI_EXT_ACS 0x0d
#define ACS_CONTROL 6
#define ACS_REDIRECTS 0x000c                /* requests, and what completes them */

/* Which function 0 has where all functions of a bus are one device's, up to 256 (Alternative Routing-ID Interpretation, 7.8.8). */
#define PCI_EXT_ARI 0x0e

struct pci_dev {
    struct list link;
    u32 sbdf;
    u32 parent;             /* of a virtual function: the function that makes it (SR-IOV); else sbdf */
    u16 vendor, device;
    u32 class_code;         /* 24 bits */
    u8 header_type;
    bool hidden;            /* physdev_dom0_hide=: absent for dom0 */
    u16 owner;              /* the domain whose interrupts and memory it uses: dom0, another, or DOMID_IO: nobody (pvisor/devices.h) */
    u16 had;                /* the last domU from which it was taken during that one's life; 0: none */
    bool gone;              /* dom0 lost it; pci_find()'s callers hold nothing, so the entry stays, for the next that comes there */
    bool apart;             /* an IOMMU has moved it, and it is not back in dom0's space: it can be moved whatever it says of itself now */
    bool named_by_bridge;   /* on an old bus behind a bridge: requests have names of the bridge's choice, on the same bus */
    bool has_phantoms;      /* its requests can have numbers that are no function's */
    u8 msi_cap, msix_cap;   /* offsets in configuration space; 0: none */
    u16 parents_sriov;      /* of a virtual function: where its parent's SR-IOV capability is; 0: none */
    u16 nr_msi, nr_msix;    /* interrupts set up by us now */
    /* What the function said of its MSI-X table when dom0 reported it. A domU may have it say something else, and we write there. */
    u32 msix_where;         /* as MSIX_TABLE has it */
    u32 msix_entries;
    void *msix_table;       /* mapped while nr_msix is not 0, at msix_place */
    struct io_place msix_place;
};

/* After ACPI tables are read: scans all buses, maps what is needed of MCFG. */
void pci_init(void);

/*
 * Configuration space; bytes is 1, 2 or 4 and reg a multiple of it. Registers from 256 on need MCFG. What is not
 * there reads as all ones, and writes to it vanish. Any context.
 */
u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes);
void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value);
/* Offset of the first capability with this id, 0 if there is none. */
u8 pci_find_capability(u32 sbdf, u8 id);
u16 pci_find_extended_capability(u32 sbdf, u16 id);
/* Machine address of memory BAR n (0-5); 0 for I/O BARs and unset ones. */
u64 pci_bar_address(u32 sbdf, unsigned n);

/* Devices are never freed while known; NULL if there is none. */
struct pci_dev *pci_find(u32 sbdf);
/* One that is this domain's, gone or not; NULL. */
struct pci_dev *pci_find_owned(u16 domid);
/* A virtual function that this one has made and that is neither the domain's nor nobody's; NULL. */
struct pci_dev *pci_find_others_virtual(u32 parent, u16 domid);
/* How many virtual functions of this one are known. */
unsigned pci_nr_virtual(u32 parent);
/* pci-unsafe= names it, or any: it may be given away though no IOMMU keeps it from others' memory. */
bool pci_is_unsafe(u32 sbdf);
bool pci_any_unsafe(void);
/*
 * There is a function: -ENODEV if nothing answers, -ENOMEM. Repeated adding is no error, and has the function asked again what it is, if it
 * is dom0's and has no messages: in another's hands it may say anything.
 * parent: of a virtual function the one that makes it, else sbdf; -ENODEV: there is no such; -EINVAL: that one is made itself, or makes
 * others; -EBUSY: it is another's, or has messages, and had another parent. nobodys: it is to be nobody's, unless it is another's.
 */
int pci_add_device(u32 sbdf, u32 parent, bool nobodys);
/* It is not there any more. What was nobody's is so when it is added again. -ENODEV; -EBUSY: it is a domU's. */
int pci_remove_device(u32 sbdf);
/* For XEN_SYSCTL_pcitopoinfo and the debug key 'Q'. */
extern struct list pci_devices;

/* dom0's IN and OUT on ports 0xcf8 to 0xcff, any width; other domains see no devices. */
u32 pci_conf_port_read(struct domain *d, u16 port, unsigned bytes);
void pci_conf_port_write(struct domain *d, u16 port, unsigned bytes, u32 value);

#endif
