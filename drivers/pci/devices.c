/* The list of PCI functions: found by a scan at boot, completed by what dom0 reports. */
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "internal.h"

#define MAX_NAMED 16

struct list pci_devices = LIST_INIT(pci_devices);
static spinlock_t list_lock = SPINLOCK_INIT(RANK_PCI);
static struct named { u32 sbdf[MAX_NAMED]; unsigned nr; } hidden, unsafe;

/* A number below limit that ends with the character `end`; *p moves behind that. */
static bool parse_part(const char **p, char end, unsigned limit, unsigned *v)
{
    const char *stop;
    u64 n = strtoull(*p, &stop, 16);

    if (stop == *p || *stop != end || n >= limit)
        return false;
    *p = stop + 1;
    *v = n;
    return true;
}

/* ([segment:]bus:device.function) in hexadecimal digits. */
static bool parse_name(const char **p, struct named *to)
{
    const char *close = strchr(*p, ')'), *colon = strchr(*p, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
    unsigned seg = 0, bus, dev, fn;

    if (*(*p)++ != '(' || to->nr == MAX_NAMED || (close && second && second < close && !parse_part(p, ':', 0x10000, &seg)))
        return false;
    if (!parse_part(p, ':', 256, &bus) || !parse_part(p, '.', 32, &dev) || !parse_part(p, ')', 8, &fn))
        return false;
    to->sbdf[to->nr++] = PCI_SBDF(seg, bus, dev << 3 | fn);
    return true;
}

static int parse_names(const char *p, struct named *to)
{
    struct named new = *to;

    while (*p)
        if (!parse_name(&p, &new))
            return -EINVAL;
    *to = new;
    return 0;
}

static int parse_hide(const char *p) { return parse_names(p, &hidden); }
CMDLINE_OPTION("physdev_dom0_hide", parse_hide);
static int parse_unsafe(const char *p) { return parse_names(p, &unsafe); }
CMDLINE_OPTION("pci-unsafe", parse_unsafe);

static bool is_named(const struct named *n, u32 sbdf)
{
    for (unsigned i = 0; i < n->nr; i++)
        if (n->sbdf[i] == sbdf)
            return true;
    return false;
}

bool pci_is_hidden(u32 sbdf) { return is_named(&hidden, sbdf); }
bool pci_is_unsafe(u32 sbdf) { return is_named(&unsafe, sbdf); }
bool pci_any_unsafe(void) { return unsafe.nr; }

/* Also one that is gone. */
static struct pci_dev *find_locked(u32 sbdf)
{
    struct pci_dev *dev;

    list_for_each(dev, &pci_devices, link)
        if (dev->sbdf == sbdf)
            return dev;
    return NULL;
}

struct pci_dev *pci_find(u32 sbdf)
{
    struct pci_dev *dev;

    spin_lock(&list_lock);
    dev = find_locked(sbdf);
    spin_unlock(&list_lock);
    return dev && !read_once(dev->gone) ? dev : NULL;
}

struct pci_dev *pci_find_owned(u16 domid)
{
    struct pci_dev *dev, *found = NULL;

    spin_lock(&list_lock);
    list_for_each(dev, &pci_devices, link)
        if (dev->owner == domid)
            found = dev;
    spin_unlock(&list_lock);
    return found;
}

static bool is_virtual_of(const struct pci_dev *dev, u32 parent)
{
    return dev->parent == parent && dev->sbdf != parent && !read_once(dev->gone);
}

struct pci_dev *pci_find_others_virtual(u32 parent, u16 domid)
{
    struct pci_dev *dev, *found = NULL;

    spin_lock(&list_lock);
    list_for_each(dev, &pci_devices, link)
        if (is_virtual_of(dev, parent) && dev->owner != domid && dev->owner != DOMID_IO)
            found = dev;
    spin_unlock(&list_lock);
    return found;
}

unsigned pci_nr_virtual(u32 parent)
{
    struct pci_dev *dev;
    unsigned nr = 0;

    spin_lock(&list_lock);
    list_for_each(dev, &pci_devices, link)
        nr += is_virtual_of(dev, parent);
    spin_unlock(&list_lock);
    return nr;
}

/* The entry of a function; NULL: no memory for a new one. */
static struct pci_dev *entry_of(u32 sbdf)
{
    struct pci_dev *dev;

    spin_lock(&list_lock);
    dev = find_locked(sbdf);
    if (!dev && (dev = xzalloc(struct pci_dev)) != NULL) {
        dev->sbdf = sbdf;
        dev->gone = true;
        list_add_tail(&dev->link, &pci_devices);
    }
    spin_unlock(&list_lock);
    return dev;
}

/* A virtual function says nothing of its maker and kind: its parent does. */
static u32 kind_of(const struct pci_dev *dev)
{
    u32 id = pci_read(dev->parent, PCI_VENDOR_ID, 4);

    return dev->parents_sriov ? pci_read(dev->parent, dev->parents_sriov + SRIOV_DEVICE, 2) << 16 | (id & 0xffff) : id;
}

/* Families have two generations, so that who looks at a function's parent has seen all that can take it away. */
static int check_claim(u32 sbdf, u32 parent)
{
    const struct pci_dev *maker = pci_find(parent);

    if (parent == sbdf)
        return pci_read(sbdf, PCI_VENDOR_ID, 2) != 0xffff ? 0 : -ENODEV;
    if (!maker || pci_read(sbdf, PCI_CLASS_REVISION, 4) == ~0u)
        return -ENODEV;
    if (maker->parent != parent || pci_nr_virtual(sbdf))
        return refuse(-EINVAL, PCI_FMT " cannot be made by " PCI_FMT ": that one is made itself, or this one makes others", PCI_ARGS(sbdf),
                      PCI_ARGS(parent));
    return 0;
}

static void read_msix(struct pci_dev *dev)
{
    dev->msix_cap = pci_find_capability(dev->sbdf, PCI_CAP_MSIX);
    if (!dev->msix_cap)
        return;
    dev->msix_where = pci_read(dev->sbdf, dev->msix_cap + MSIX_TABLE, 4);
    dev->msix_entries = (pci_read(dev->sbdf, dev->msix_cap + MSIX_CONTROL, 2) & MSIX_CONTROL_SIZE) + 1;
}

static void read_identity(struct pci_dev *dev, u32 parent)
{
    u8 express = pci_find_capability(dev->sbdf, PCI_CAP_EXPRESS);
    u32 id;

    dev->parent = parent;
    dev->parents_sriov = parent == dev->sbdf ? 0 : pci_find_extended_capability(parent, PCI_EXT_SRIOV);
    id = kind_of(dev);
    dev->vendor = id;
    dev->device = id >> 16;
    dev->class_code = pci_read(dev->sbdf, PCI_CLASS_REVISION, 4) >> 8;
    dev->header_type = pci_read(dev->sbdf, PCI_HEADER_TYPE, 1);
    dev->msi_cap = pci_find_capability(dev->sbdf, PCI_CAP_MSI);
    read_msix(dev);
    dev->named_by_bridge = dev->sbdf >> 8 & 0xff && !express;
    dev->has_phantoms = express && pci_read(dev->sbdf, express + EXPRESS_DEVICE, 4) & EXPRESS_PHANTOMS;
    dev->hidden = pci_is_hidden(dev->sbdf);
}

/* What a function is must not change while that is built upon; and one that is another's, or off, says what it likes. */
static bool is_settled(const struct pci_dev *dev) { return read_once(dev->owner) || dev->nr_msi || dev->nr_msix; }

int pci_add_device(u32 sbdf, u32 parent, bool nobodys)
{
    struct pci_dev *dev = pci_find(sbdf);
    int rc;

    pci_map_bus(sbdf);
    if (dev && is_settled(dev))
        return dev->parent == parent ? 0 : refuse(-EBUSY, PCI_FMT " is in use, and has another parent", PCI_ARGS(sbdf));
    rc = check_claim(sbdf, parent);
    if (rc)
        return rc;
    dev = entry_of(sbdf);
    if (!dev)
        return -ENOMEM;
    read_identity(dev, parent);
    if (nobodys)
        write_once(dev->owner, DOMID_IO);
    write_once(dev->gone, false);
    return 0;
}

int pci_remove_device(u32 sbdf)
{
    struct pci_dev *dev = pci_find(sbdf);

    if (!dev)
        return -ENODEV;
    if (dev->owner && dev->owner != DOMID_IO)
        return refuse(-EBUSY, PCI_FMT " is domain %u's: take it back first", PCI_ARGS(sbdf), dev->owner);
    write_once(dev->gone, true);
    return 0;
}

static unsigned scan_function(u32 sbdf)
{
    if (pci_read(sbdf, PCI_VENDOR_ID, 2) == 0xffff || pci_add_device(sbdf, sbdf, false))
        return 0;
    if (pci_is_hidden(sbdf))
        printk("PCI " PCI_FMT " is hidden from dom0\n", PCI_ARGS(sbdf));
    return 1;
}

static unsigned scan_slot(u32 sbdf)
{
    unsigned n = scan_function(sbdf);

    /* Bit 7 of the header type: there may be functions beside 0. */
    if (!n || !(pci_read(sbdf, PCI_HEADER_TYPE, 1) & 0x80))
        return n;
    for (unsigned fn = 1; fn < 8; fn++)
        n += scan_function(sbdf | fn);
    return n;
}

static void dump_devices(char, struct cpu_regs *)
{
    struct pci_dev *dev;

    spin_lock(&list_lock);
    list_for_each(dev, &pci_devices, link) {
        if (dev->gone)
            continue;
        printk("  " PCI_FMT " %04x:%04x class %06x MSI %u MSI-X %u d%u%s\n", PCI_ARGS(dev->sbdf), dev->vendor,
               dev->device, dev->class_code, dev->nr_msi, dev->nr_msix, dev->owner, dev->hidden ? " hidden" : "");
    }
    spin_unlock(&list_lock);
}

void pci_init(void)
{
    unsigned n = 0;

    for (unsigned bus = 0; bus < 256; bus++)
        for (unsigned slot = 0; slot < 32; slot++)
            n += scan_slot(PCI_SBDF(0, bus, slot << 3));
    printk("PCI: %u functions\n", n);
    debug_key_register('Q', dump_devices, "dump PCI devices");
}
