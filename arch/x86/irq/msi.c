/*
 * Message-signalled interrupts (PCI Local Bus Specification 3.0, section 6.8). dom0 finds the capabilities and
 * switches them on and off; what a device writes where, the messages, is ours alone.
 */
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/hwdom.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include "internal.h"

#define CONTROL 2
#define MSI_ENABLE 0x0001u
#define MSI_MULTIPLE 0x0070u
#define MSI_64BIT 0x0080u
#define MSI_MASKBITS 0x0100u
#define MSI_ADDRESS_LOW 4
#define MSI_ADDRESS_HIGH 8
#define MSIX_ENABLE 0x8000u
#define ENTRY_SIZE 16
#define ENTRY_MASKED 1u

/* One entry of an MSI-X table. */
struct msix_slot { u32 address_low, address_high, data, control; };

static volatile struct msix_slot *slot_of(const struct msi_entry *m)
{
    return (volatile struct msix_slot *)m->dev->msix_table + m->index;
}

static struct msi_message message_of(const struct irq_desc *desc)
{
    struct irq_route r = { .irq = desc->irq, .apic_id = cpu_apic_ids[desc->cpu], .vector = desc->vector };

    return irq_remapper ? irq_remapper->route(r) : msi_compose(r.apic_id, r.vector);
}

/*
 * Masks are the device's, which may send what they forbid: a hostile one at any rate. Where interrupts are remapped it comes no further
 * than the table then, and what has no mask has this one.
 */
static void open_route(const struct irq_desc *desc)
{
    if (irq_remapper)
        (void)message_of(desc);     /* which the device has already */
}

static void close_route(const struct irq_desc *desc)
{
    if (irq_remapper)
        irq_remapper->unroute(desc->irq);
}

static void set_msix_mask(struct irq_desc *desc, bool masked)
{
    desc->masked = masked;
    slot_of(&desc->msi)->control = masked ? ENTRY_MASKED : 0;
    (void)read_once(slot_of(&desc->msi)->control);   /* reaches the device before we go on */
}

static void msix_mask(struct irq_desc *desc)
{
    set_msix_mask(desc, true);
    close_route(desc);
}

static void set_control(const struct msi_entry *m, u16 clear, u16 set)
{
    u8 reg = (m->msix ? m->dev->msix_cap : m->dev->msi_cap) + CONTROL;
    u16 v = pci_read(m->dev->sbdf, reg, 2);

    /* All ones are no answer, perhaps in the middle of a reset: a moment later it would have all that bits can switch on. */
    if (v != 0xffff && ((v & ~clear) | set) != v)
        pci_write(m->dev->sbdf, reg, 2, (v & ~clear) | set);
}

static void msix_unmask(struct irq_desc *desc)
{
    open_route(desc);
    set_msix_mask(desc, false);
    set_control(&desc->msi, 0, MSIX_ENABLE);
}

static void set_msi_mask(struct irq_desc *desc, bool masked)
{
    desc->masked = masked;
    if (desc->msi.can_mask)
        pci_write(desc->msi.dev->sbdf, desc->msi.mask_reg, 4, masked);
}

static void msi_mask(struct irq_desc *desc)
{
    set_msi_mask(desc, true);
    close_route(desc);
}

static void msi_unmask(struct irq_desc *desc)
{
    open_route(desc);
    set_msi_mask(desc, false);
    set_control(&desc->msi, MSI_MULTIPLE, MSI_ENABLE);
}

static void write_message(const struct irq_desc *desc)
{
    struct msi_message msg = message_of(desc);
    const struct msi_entry *m = &desc->msi;
    u8 cap = m->dev->msi_cap;

    if (m->msix) {
        slot_of(m)->control = ENTRY_MASKED;
        slot_of(m)->address_low = msg.address;
        slot_of(m)->address_high = msg.address >> 32;
        slot_of(m)->data = msg.data;
        return;
    }
    pci_write(m->dev->sbdf, cap + MSI_ADDRESS_LOW, 4, msg.address);
    if (m->is_64)
        pci_write(m->dev->sbdf, cap + MSI_ADDRESS_HIGH, 4, msg.address >> 32);
    pci_write(m->dev->sbdf, cap + (m->is_64 ? 12 : 8), 2, msg.data);
}

static void msi_retarget(struct irq_desc *desc)
{
    write_message(desc);
    if (desc->masked)
        close_route(desc);
    else if (desc->msi.msix)
        set_msix_mask(desc, false);
}

/* dom0 may move the BAR while no entry is in use: so it must be mapped anew then. A domU can have that happen without end. */
static void unmap_unused_table(struct pci_dev *dev)
{
    if (dev->nr_msix || !dev->msix_table)
        return;
    iounmap_at(&dev->msix_place);
    dev->msix_table = NULL;
}

static void msix_release(struct irq_desc *desc)
{
    struct pci_dev *dev = desc->msi.dev;

    if (--dev->nr_msix)
        return;
    set_control(&desc->msi, MSIX_ENABLE, 0);
    unmap_unused_table(dev);
}

static void msi_release(struct irq_desc *desc)
{
    set_control(&desc->msi, MSI_ENABLE, 0);
    desc->msi.dev->nr_msi--;
}

static const struct irq_chip msi_chip = { "MSI-maskable", msi_mask, msi_unmask, msi_retarget, msi_release };
static const struct irq_chip msi_plain_chip = { "MSI", NULL, msi_unmask, msi_retarget, msi_release };
static const struct irq_chip msix_chip = { "MSI-X", msix_mask, msix_unmask, msi_retarget, msix_release };

/* --- Setting up --------------------------------------------------------------------------------------------- */

static struct irq_desc *find_entry(const struct pci_dev *dev, bool msix, u32 index)
{
    for (u32 i = nr_gsis; i < nr_irqs; i++) {
        struct irq_desc *desc = &irq_descs[i];

        if (desc->chip && desc->msi.dev == dev && desc->msi.msix == msix && desc->msi.index == index)
            return desc;
    }
    return NULL;
}

static int check_msi(struct pci_dev *dev, struct msi_entry *m)
{
    u16 control;

    if (!dev->msi_cap)
        return refuse(-ENODEV, PCI_FMT " has no MSI capability", PCI_ARGS(dev->sbdf));
    if (dev->nr_msix)
        return refuse(-EBUSY, PCI_FMT " uses MSI-X now", PCI_ARGS(dev->sbdf));
    control = pci_read(dev->sbdf, dev->msi_cap + CONTROL, 2);
    m->is_64 = control & MSI_64BIT;
    m->can_mask = control & MSI_MASKBITS;
    m->mask_reg = dev->msi_cap + (m->is_64 ? 16 : 12);
    return 0;
}

/*
 * Where in its BAR the table is only the device says, and messages are written there: so it must be where dom0 might write, neither RAM nor
 * what is the hypervisor's.
 */
static bool may_be_table(u64 start, u64 size)
{
    u64 last = (start + size - 1) >> PAGE_SHIFT;

    if (!rangeset_contains(dom0->iomem, start >> PAGE_SHIFT, last))
        return false;
    for (u64 m = start >> PAGE_SHIFT; m <= last; m++)
        if (rangeset_contains(mmio_ro_ranges, m, m))
            return false;
    return true;
}

/* Of virtual functions it is their parent's to say. */
static bool answers_to_memory(const struct pci_dev *dev)
{
    return dev->parents_sriov ? pci_read(dev->parent, dev->parents_sriov + SRIOV_CONTROL, 2) & SRIOV_CONTROL_MEMORY
                              : pci_read(dev->sbdf, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
}

static int map_table(struct pci_dev *dev, u64 table_base)
{
    u32 n = dev->msix_where & MSIX_TABLE_BAR, size = dev->msix_entries * ENTRY_SIZE;
    u64 bar = pci_bar_address(dev->sbdf, n);

    if (!answers_to_memory(dev))
        return refuse(-ENXIO, PCI_FMT " does not answer to memory accesses", PCI_ARGS(dev->sbdf));
    /* A virtual function has no BARs of its own: there dom0's word must do. */
    if (bar && table_base && bar != table_base)
        return refuse(-EINVAL, PCI_FMT " has its MSI-X table in BAR %u at %#lx, not %#lx", PCI_ARGS(dev->sbdf), n, bar, table_base);
    if (!bar)
        bar = table_base;
    if (!bar || bar % 16)
        return refuse(-EINVAL, PCI_FMT ": no address for its MSI-X table", PCI_ARGS(dev->sbdf));
    bar += dev->msix_where & ~MSIX_TABLE_BAR;
    if (!may_be_table(bar, size))
        return refuse(-EINVAL, PCI_FMT " says that its MSI-X table is at %#lx, which is no place for it", PCI_ARGS(dev->sbdf), bar);
    dev->msix_table = ioremap_at(&dev->msix_place, maddr(bar), size);
    return dev->msix_table ? 0 : -ENOMEM;
}

static int check_msix(struct pci_dev *dev, u32 index, u64 table_base)
{
    if (!dev->msix_cap)
        return refuse(-ENODEV, PCI_FMT " has no MSI-X capability", PCI_ARGS(dev->sbdf));
    if (dev->nr_msi)
        return refuse(-EBUSY, PCI_FMT " uses MSI now", PCI_ARGS(dev->sbdf));
    if (index >= dev->msix_entries)
        return refuse(-EINVAL, PCI_FMT ": MSI-X entry %u of %u", PCI_ARGS(dev->sbdf), index, dev->msix_entries);
    return dev->msix_table ? 0 : map_table(dev, table_base);
}

/* Where interrupts are remapped, an entry in the function's table. */
static int claim_route(const struct irq_desc *desc, const struct pci_dev *dev)
{
    int err = irq_remapper ? irq_remapper->claim(desc->irq, (struct irq_source){ dev->sbdf, dev->named_by_bridge }) : 0;

    return err ? refuse(err, PCI_FMT ": no memory or no place for an entry of interrupt remapping", PCI_ARGS(dev->sbdf)) : 0;
}

/*
 * desc->lock is held, from the choice of a CPU until the chip is set: when that CPU goes offline, irq_leave_cpu() comes afterwards and
 * finds the irq, or came before, and the CPU was not online any more.
 */
static int set_up_locked(struct irq_desc *desc, struct msi_entry m, bool domus)
{
    int err;

    desc->is_domus = domus;
    err = vector_alloc(desc);
    if (err)
        return err;
    desc->msi = m;
    desc->level = desc->low = false;
    if (m.msix)
        m.dev->nr_msix++;
    else
        m.dev->nr_msi++;
    write_message(desc);
    desc->masked = true;
    if (m.can_mask)
        set_msi_mask(desc, true);
    desc->chip = m.msix ? &msix_chip : m.can_mask || irq_remapper ? &msi_chip : &msi_plain_chip;
    return 0;
}

static int set_up(struct irq_desc *desc, struct msi_entry m, const struct domain *d)
{
    int err = claim_route(desc, m.dev);
    u64 flags;

    if (err)
        return err;
    flags = spin_lock_irqsave(&desc->lock);
    err = set_up_locked(desc, m, !d->is_hardware);
    spin_unlock_irqrestore(&desc->lock, flags);
    if (!err)
        return 0;
    if (irq_remapper)
        irq_remapper->release(desc->irq);
    return refuse(err, PCI_FMT ": no vector is free for a message of domain %u's", PCI_ARGS(m.dev->sbdf), d->id);
}

s64 msi_create(const struct domain *d, u32 sbdf, bool msix, u32 index, u64 table_base)
{
    struct pci_dev *dev = pci_find(sbdf);
    struct msi_entry m = { .dev = dev, .msix = msix, .index = index };
    struct irq_desc *desc;
    int err;

    if (!dev || dev->hidden)
        return refuse(-ENODEV, "there is no PCI device " PCI_FMT, PCI_ARGS(sbdf));
    if (find_entry(dev, msix, index))
        return refuse(-EEXIST, PCI_FMT " %s %u is mapped already", PCI_ARGS(sbdf), msix ? "MSI-X" : "MSI", index);
    err = msix ? check_msix(dev, index, table_base) : check_msi(dev, &m);
    if (err)
        return err;
    desc = irq_alloc_dynamic(!d->is_hardware);
    err = desc ? set_up(desc, m, d) : refuse(-ENOSPC, "no irq of %u is free for a message of domain %u's", nr_irqs, d->id);
    if (!err)
        return desc->irq;
    unmap_unused_table(dev);
    return err;
}

int msi_restore(u32 sbdf)
{
    const struct pci_dev *dev = pci_find(sbdf);
    int found = -ENODEV;

    for (u32 i = nr_gsis; dev && i < nr_irqs; i++) {
        struct irq_desc *desc = &irq_descs[i];
        u64 flags = spin_lock_irqsave(&desc->lock);

        if (desc->chip && desc->msi.dev == dev) {
            write_message(desc);
            if (desc->nr_guests && !desc->storm)
                desc->chip->unmask(desc);
            found = 0;
        }
        spin_unlock_irqrestore(&desc->lock, flags);
    }
    return found;
}
