/*
 * A domain's use of the configuration ports. Each domain has an address latch of its own. dom0 reaches every
 * device that is not hidden. Of the interrupt capabilities that the hypervisor has programmed it may change only
 * the enable bits, which is all that Linux writes there (the messages are ours).
 */
#include <asm/x86.h>
#include <pvisor/domain.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include "internal.h"

#define ADDRESS_PORT 0xcf8
#define RESET_PORT 0xcf9
#define DATA_PORT 0xcfc
#define MSI_CONTROL 2
#define MSI_ENABLE 0x0001u
#define MSIX_ENABLE_MASKALL 0xc000u
#define MSI_CAP_SIZE 24
#define MSIX_CAP_SIZE 12

static u32 all_ones(unsigned bytes)
{
    return ~0u >> (32 - 8 * bytes);
}

static u32 latched_sbdf(const struct domain *d)
{
    return d->arch.pci_cf8 >> 8 & 0xffff;
}

/* The register number; AMD's extension keeps bits 11:8 of it in bits 27:24 of the latch. */
static unsigned latched_reg(const struct domain *d, u16 port)
{
    return (d->arch.pci_cf8 & 0xfc) + (port & 3) + (d->arch.pci_cf8 >> 16 & 0xf00);
}

static bool may_access(const struct domain *d, u16 port, unsigned bytes)
{
    return d->is_hardware && d->arch.pci_cf8 >> 31 && (port & 3) + bytes <= 4 && !pci_is_hidden(latched_sbdf(d));
}

u32 pci_conf_port_read(struct domain *d, u16 port, unsigned bytes)
{
    if (port == ADDRESS_PORT && bytes == 4)
        return d->arch.pci_cf8;
    if (port == RESET_PORT && bytes == 1 && d->is_hardware)
        return inb(port);
    if (port < DATA_PORT || !may_access(d, port, bytes))
        return all_ones(bytes);
    return pci_read(latched_sbdf(d), latched_reg(d, port), bytes);
}

/*
 * Cuts a write to a capability of ours down to the `allowed` bits of its control word; false if nothing is left of
 * it. A write elsewhere stays as it is.
 */
static bool filter_capability(u32 sbdf, unsigned cap, unsigned size, u32 allowed, unsigned reg, unsigned bytes,
                              u32 *value)
{
    u32 mask = 0;

    if (reg + bytes <= cap || reg >= cap + size)
        return true;
    for (unsigned i = 0; i < bytes; i++) {
        if (reg + i == cap + MSI_CONTROL)
            mask |= (allowed & 0xff) << 8 * i;
        if (reg + i == cap + MSI_CONTROL + 1)
            mask |= (allowed >> 8) << 8 * i;
    }
    if (mask)
        *value = (pci_read(sbdf, reg, bytes) & ~mask) | (*value & mask);
    return mask != 0;
}

static bool filter_write(u32 sbdf, unsigned reg, unsigned bytes, u32 *value)
{
    const struct pci_dev *dev = pci_find(sbdf);

    if (!dev)
        return true;
    if (dev->nr_msi && !filter_capability(sbdf, dev->msi_cap, MSI_CAP_SIZE, MSI_ENABLE, reg, bytes, value))
        return false;
    return !dev->nr_msix ||
           filter_capability(sbdf, dev->msix_cap, MSIX_CAP_SIZE, MSIX_ENABLE_MASKALL, reg, bytes, value);
}

void pci_conf_port_write(struct domain *d, u16 port, unsigned bytes, u32 value)
{
    if (port == ADDRESS_PORT && bytes == 4) {
        d->arch.pci_cf8 = value;
        return;
    }
    if (port == RESET_PORT && bytes == 1 && d->is_hardware) {
        outb(port, value);
        return;
    }
    if (port < DATA_PORT || !may_access(d, port, bytes))
        return;
    if (filter_write(latched_sbdf(d), latched_reg(d, port), bytes, &value))
        pci_write(latched_sbdf(d), latched_reg(d, port), bytes, value);
}
