/*
 * PCI configuration space: by the address/data port pair for the first 256 bytes of segment 0, through the
 * memory window that ACPI's MCFG table names for the rest. The window is mapped bus by bus, where devices are.
 */
#include <asm/x86.h>
#include <pvisor/acpi.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "internal.h"

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define ENABLE (1u << 31)
#define BUS_WINDOW (1u << 20)

static spinlock_t port_lock = SPINLOCK_INIT(RANK_APIC);
static u8 *bus_window[ACPI_MAX_MCFG][256];

static u32 port_access(u32 sbdf, unsigned reg, unsigned bytes, bool write, u32 value)
{
    u16 port = DATA_PORT + (reg & 3);
    u64 flags = spin_lock_irqsave(&port_lock);

    outl(ADDRESS_PORT, ENABLE | (sbdf & 0xffff) << 8 | (reg & 0xfc));
    switch (bytes * 2 + write) {
    case 2: value = inb(port); break;
    case 3: outb(port, value); break;
    case 4: value = inw(port); break;
    case 5: outw(port, value); break;
    case 8: value = inl(port); break;
    case 9: outl(port, value); break;
    }
    spin_unlock_irqrestore(&port_lock, flags);
    return value;
}

static u8 **window_slot(u32 sbdf, maddr_t *address)
{
    u8 bus = sbdf >> 8;

    for (unsigned i = 0; i < acpi_info.nr_mcfg; i++) {
        const struct acpi_mcfg *m = &acpi_info.mcfg[i];

        if (m->segment == sbdf >> 16 && bus >= m->first_bus && bus <= m->last_bus) {
            *address = maddr(m->address.v + (u64)bus * BUS_WINDOW);
            return &bus_window[i][bus];
        }
    }
    return NULL;
}

void pci_map_bus(u32 sbdf)
{
    maddr_t address;
    u8 **slot = window_slot(sbdf, &address);

    if (slot && !*slot)
        *slot = ioremap(address, BUS_WINDOW);
}

static volatile void *window(u32 sbdf, unsigned reg)
{
    maddr_t unused;
    u8 **slot = window_slot(sbdf, &unused);

    return slot && *slot ? *slot + ((sbdf & 0xff) << 12) + reg : NULL;
}

static bool by_port(u32 sbdf, unsigned reg)
{
    return sbdf >> 16 == 0 && reg < 256;
}

u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    volatile void *p;

    if (by_port(sbdf, reg))
        return port_access(sbdf, reg, bytes, false, 0);
    p = window(sbdf, reg);
    if (!p)
        return ~0u >> (32 - 8 * bytes);
    return bytes == 1 ? *(volatile u8 *)p : bytes == 2 ? *(volatile u16 *)p : *(volatile u32 *)p;
}

void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value)
{
    volatile void *p;

    if (by_port(sbdf, reg)) {
        port_access(sbdf, reg, bytes, true, value);
        return;
    }
    p = window(sbdf, reg);
    if (!p)
        return;
    if (bytes == 1)
        *(volatile u8 *)p = value;
    else if (bytes == 2)
        *(volatile u16 *)p = value;
    else
        *(volatile u32 *)p = value;
}

u8 pci_find_capability(u32 sbdf, u8 id)
{
    u8 at;

    if (!(pci_read(sbdf, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
        return 0;
    at = pci_read(sbdf, PCI_CAP_POINTER, 1) & ~3;
    /* A list of at most 48 fits: a longer one goes in circles. */
    for (unsigned n = 0; at >= 0x40 && n < 48; n++) {
        u16 head = pci_read(sbdf, at, 2);

        if ((head & 0xff) == id)
            return at;
        at = head >> 8 & ~3;
    }
    return 0;
}

u16 pci_find_extended_capability(u32 sbdf, u16 id)
{
    u32 at = 256;

    /* At most 960 fit, and all ones are no list: there is no window to it, or nothing there. */
    for (unsigned n = 0; at >= 256 && n < 960; n++) {
        u32 head = pci_read(sbdf, at, 4);

        if (head == ~0u)
            return 0;
        if ((head & 0xffff) == id)
            return (u16)at;
        at = head >> 20 & ~3u;
    }
    return 0;
}

u64 pci_bar_address(u32 sbdf, unsigned n)
{
    unsigned reg = PCI_BAR0 + 4 * n;
    u32 low;

    if (n > 5)
        return 0;
    low = pci_read(sbdf, reg, 4);
    if (low & 1 || low == ~0u)
        return 0;
    if ((low & 6) == 4 && n < 5)
        return (u64)pci_read(sbdf, reg + 4, 4) << 32 | (low & ~0xfu);
    return low & ~0xfu;
}
