/* Which domain a PCI function works for: pvisor/devices.h says. What it reaches then is asm/dma.h's. */
#include <asm/dirty.h>
#include <asm/dma.h>
#include <public/domctl.h>
#include <public/errno.h>
#include <pvisor/devices.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>

/* No function changes hands, comes or goes but under this lock: what is found of a parent's owner holds until that is acted upon. */
static spinlock_t lock = SPINLOCK_INIT(RANK_DEVICES);

bool devices_can_be_given(void) { return iommu_on || pci_any_unsafe(); }

void devices_say(void)
{
    if (!devices_can_be_given())
        printk(LOG_INFO "PCI devices cannot be given to domains: that takes an IOMMU in use, or pci-unsafe= for devices whose domains "
               "may reach all memory\n");
    if (pci_any_unsafe())
        printk(LOG_WARNING "pci-unsafe: a domain that gets such a device without an IOMMU can read and write ALL memory of this machine\n");
}

/* --- Checks --- */

/*
 * NULL: the IOMMU can keep it. That is not asked again of one that it keeps: what is to be taken back must not stay where it was because it
 * answers no more.
 */
static const char *why_not_kept(const struct pci_dev *dev) { return dev->apart ? NULL : iommu_why_not(dev->sbdf); }

/* NULL: it can be given away. */
static const char *why_not(const struct pci_dev *dev)
{
    if (dev->hidden)
        return "it is hidden from dom0, which must prepare it (xen-pciback.hide= hides it from dom0's other drivers)";
    if (dev->header_type & 0x7f || dev->class_code >> 16 == PCI_CLASS_BRIDGE)
        return "it is a bridge";
    return pci_is_unsafe(dev->sbdf) ? NULL : why_not_kept(dev);
}

static int check_device(const struct pci_dev *dev, u32 sbdf)
{
    const char *why;

    if (!dev)
        return refuse(-ENODEV, "there is no PCI device " PCI_FMT, PCI_ARGS(sbdf));
    why = why_not(dev);
    if (why)
        return refuse(-EOPNOTSUPP, PCI_FMT " cannot be given away: %s", PCI_ARGS(sbdf), why);
    if (dev->owner != dom0->id && dev->owner != DOMID_IO)
        return refuse(-EBUSY, PCI_FMT " is domain %u's", PCI_ARGS(sbdf), dev->owner);
    return 0;
}

static int check_taker(const struct domain *d, const struct pci_dev *dev)
{
    if (d && (d->is_hardware || d->dying || !(d->createflags & XEN_DOMCTL_CDF_iommu)))
        return refuse(-EINVAL, "domain %u was not made for devices (passthrough=), is dom0, or dies", d->id);
    if (d && dirty_log_is_kept(d))
        return refuse(-EBUSY, "domain %u's writes are logged, and nobody can log a device's", d->id);
    if (dev->nr_msi || dev->nr_msix)
        return refuse(-EBUSY, PCI_FMT " has interrupts of domain %u's", PCI_ARGS(dev->sbdf), dev->owner);
    return 0;
}

/*
 * Who drives a card can reset the virtual functions that it has made, or take them away, under whoever has them. So a domain gets either
 * only while the other is its own too, or still where everybody's devices are dom0's to manage: the card dom0's or nobody's, the virtual
 * functions nobody's.
 */
static int check_parent(u16 domid, u32 sbdf, u32 maker)
{
    const struct pci_dev *parent = maker == sbdf ? NULL : pci_find(maker);

    if (!parent || parent->owner == dom0->id || parent->owner == DOMID_IO || parent->owner == domid)
        return 0;
    return refuse(-EBUSY, PCI_FMT " cannot be domain %u's: " PCI_FMT ", which makes it, is domain %u's", PCI_ARGS(sbdf), domid,
                  PCI_ARGS(maker), parent->owner);
}

/* What a card has made and nobody has found works with dom0's tables, whoever tells it what to do. */
static bool has_made_more(const struct pci_dev *dev)
{
    u16 at = dev->parent == dev->sbdf ? pci_find_extended_capability(dev->sbdf, PCI_EXT_SRIOV) : 0;

    return at && pci_read(dev->sbdf, at + SRIOV_CONTROL, 2) & SRIOV_CONTROL_ON &&
           pci_read(dev->sbdf, at + SRIOV_NUMBER, 2) > pci_nr_virtual(dev->sbdf);
}

static int check_family(u16 domid, const struct pci_dev *dev)
{
    const struct pci_dev *others = pci_find_others_virtual(dev->sbdf, domid);

    if (has_made_more(dev))
        return refuse(-EBUSY, PCI_FMT " cannot be domain %u's: it has made virtual functions that dom0 has not found", PCI_ARGS(dev->sbdf),
                      domid);
    if (others)
        return refuse(-EBUSY, PCI_FMT " cannot be domain %u's: " PCI_FMT ", which it makes, is domain %u's", PCI_ARGS(dev->sbdf), domid,
                      PCI_ARGS(others->sbdf), others->owner);
    return check_parent(domid, dev->sbdf, dev->parent);
}

int device_test(u32 sbdf)
{
    int rc;

    spin_lock(&lock);
    rc = check_device(pci_find(sbdf), sbdf);
    spin_unlock(&lock);
    return rc;
}

/* --- Moves --- */

/* One that no IOMMU can move stays where it is: pci-unsafe= named it. */
static int hand_over(struct pci_dev *dev, unsigned space, u16 owner)
{
    bool moves = !why_not_kept(dev);
    int rc = moves ? iommu_move(dev->sbdf, space) : 0;

    if (rc)
        return rc;
    dev->apart = moves && space != SPACE_DOM0;
    write_once(dev->owner, owner);
    return 0;
}

/* Its registers are in the page tables of who had it, until the end of that one. */
static void say_who_had_it(const struct pci_dev *dev, u16 domid)
{
    struct domain *had = dev->had && dev->had != domid ? domain_get(dev->had) : NULL;

    if (!had)
        return;
    if (!had->dying)
        printk(LOG_WARNING PCI_FMT ": domain %u, which had it, keeps what it has mapped of its registers until its end\n",
               PCI_ARGS(dev->sbdf), had->id);
    domain_put(had);
}

static bool redirects(const struct pci_dev *dev)
{
    u16 at = pci_find_extended_capability(dev->sbdf, PCI_EXT_ACS);

    return at && (pci_read(dev->sbdf, at + ACS_CONTROL, 2) & ACS_REDIRECTS) == ACS_REDIRECTS;
}

/* There is a function that another domain has; what one function has made is kept apart by it. */
static bool is_anothers(const struct domain *d, const struct pci_dev *other)
{
    return other && other->owner != d->id && other->owner != DOMID_IO && other->parent == other->sbdf;
}

/* Functions of one device may reach each other's registers, which no IOMMU sees. */
static void say_who_is_near(const struct domain *d, const struct pci_dev *dev)
{
    u32 numbers = pci_find_extended_capability(dev->sbdf & ~0xffu, PCI_EXT_ARI) ? 0xff : 7;
    bool redirected = redirects(dev);

    for (u32 fn = 0; dev->parent == dev->sbdf && fn <= numbers; fn++) {
        const struct pci_dev *other = pci_find((dev->sbdf & ~numbers) | fn);

        if (is_anothers(d, other) && !(redirected && redirects(other)))
            printk(LOG_WARNING PCI_FMT ": domain %u may reach " PCI_FMT " by it, which is domain %u's: they are one device, without ACS\n",
                   PCI_ARGS(dev->sbdf), d->id, PCI_ARGS(other->sbdf), other->owner);
    }
}

static void say_what_it_may(const struct domain *d, const struct pci_dev *dev)
{
    const char *why = why_not_kept(dev);
    u32 sbdf = dev->sbdf;

    if (why)
        printk(LOG_WARNING PCI_FMT ": domain %u can read and write ALL memory through it (pci-unsafe; %s)\n", PCI_ARGS(sbdf), d->id, why);
    else if (!iommu_remaps())
        printk(LOG_WARNING PCI_FMT ": domain %u can raise any interrupt with it: interrupts are not remapped\n", PCI_ARGS(sbdf), d->id);
    if (!why)
        say_who_is_near(d, dev);
    say_who_had_it(dev, d->id);
}

/* The lock is held. */
static int assign(struct domain *d, u32 sbdf)
{
    struct pci_dev *dev = pci_find(sbdf);
    int rc = check_device(dev, sbdf), space = SPACE_NOBODY;

    if (!rc)
        rc = check_taker(d, dev);
    if (!rc && d)
        rc = check_family(d->id, dev);
    if (rc)
        return rc;
    if (d && !why_not_kept(dev))
        space = dma_space(d);
    if (space < 0)
        return space;
    rc = hand_over(dev, (unsigned)space, d ? d->id : DOMID_IO);
    if (rc)
        return rc;
    /* One that dom0 has mapped since the look, for which it needs no control lock. */
    pirq_unmap_device(dom0, sbdf);
    if (d)
        say_what_it_may(d, dev);
    return 0;
}

int device_assign(struct domain *d, u32 sbdf)
{
    int rc;

    spin_lock(&lock);
    rc = assign(d, sbdf);
    spin_unlock(&lock);
    return rc;
}

/* It writes to no memory any more, which matters where no IOMMU keeps it from what was d's, and no interrupt of it comes to d. */
static void take_back(struct domain *d, struct pci_dev *dev)
{
    u32 command = pci_read(dev->sbdf, PCI_COMMAND, 2);

    /* All ones are no answer, perhaps in the middle of a reset: a moment later it would have all that bits can switch on. */
    pci_write(dev->sbdf, PCI_COMMAND, 2, command == 0xffff ? 0 : command & ~PCI_COMMAND_MASTER);
    /* It has an entry of its own in the unit's tables already: that needs no memory. */
    if (hand_over(dev, SPACE_NOBODY, DOMID_IO))
        BUG();
    pirq_unmap_device(d, dev->sbdf);
}

/* The lock is held. */
static int deassign(struct domain *d, u32 sbdf)
{
    struct pci_dev *dev = pci_find(sbdf);
    int rc;

    if (!dev || (dev->owner != (d ? d->id : DOMID_IO) && (d || dev->owner != dom0->id)))
        return refuse(-ENODEV, PCI_FMT " is not there, or not %s's", PCI_ARGS(sbdf), d ? "this domain" : "nobody");
    if (d && d->is_hardware)
        return refuse(-EINVAL, PCI_FMT " is dom0's", PCI_ARGS(sbdf));
    if (d) {
        take_back(d, dev);
        dev->had = d->id;
        return 0;
    }
    rc = check_parent(dom0->id, sbdf, dev->parent);
    if (!rc)
        rc = hand_over(dev, SPACE_DOM0, dom0->id);
    if (!rc)
        say_who_had_it(dev, dom0->id);
    return rc;
}

int device_deassign(struct domain *d, u32 sbdf)
{
    int rc;

    spin_lock(&lock);
    rc = deassign(d, sbdf);
    spin_unlock(&lock);
    return rc;
}

static bool take_one_back(struct domain *d)
{
    struct pci_dev *dev;

    spin_lock(&lock);
    dev = pci_find_owned(d->id);
    if (dev)
        take_back(d, dev);
    spin_unlock(&lock);
    return dev;
}

int devices_release(struct domain *d)
{
    while (take_one_back(d))
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    return dma_space_drop(d);
}

/* --- What dom0 finds and loses --- */

/* It reaches nothing, and has no messages. Without memory for that it is not there at all. */
static int keep_from_dom0(struct pci_dev *dev)
{
    int rc = hand_over(dev, SPACE_NOBODY, DOMID_IO);

    pirq_unmap_device(dom0, dev->sbdf);
    if (rc)
        (void)pci_remove_device(dev->sbdf);
    else
        printk(LOG_WARNING PCI_FMT " is nobody's: dom0 can use it after 'xl pci-assignable-remove'\n", PCI_ARGS(dev->sbdf));
    return rc;
}

/* The lock is held. What another has already stays as it is, and so does what it is. */
static int found(u32 sbdf, u32 parent)
{
    struct pci_dev *dev = pci_find(sbdf);
    bool is_new = !dev || dev->owner == dom0->id;
    int rc = pci_add_device(sbdf, parent, is_new && check_parent(dom0->id, sbdf, parent));

    dev = pci_find(sbdf);
    return rc || !is_new || dev->owner == dom0->id ? rc : keep_from_dom0(dev);
}

int device_found(u32 sbdf, u32 parent)
{
    int rc;

    spin_lock(&lock);
    rc = found(sbdf, parent);
    spin_unlock(&lock);
    return rc;
}

/* First it is gone, so that no message of it is mapped any more. */
int device_lost(u32 sbdf)
{
    int rc;

    spin_lock(&lock);
    rc = pci_remove_device(sbdf);
    if (!rc)
        pirq_unmap_device(dom0, sbdf);
    spin_unlock(&lock);
    return rc;
}
