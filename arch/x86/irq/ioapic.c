/* IO-APICs (Intel 82093AA data sheet): index and data registers, one redirection entry for each line. */
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "internal.h"

#define REG_VERSION 0x01
#define REG_RTE(pin) (0x10 + 2 * (pin))
#define RTE_SENDS 0x7ffu           /* of a message's data: the vector, and how it is delivered */
#define RTE_LOW (1u << 13)
#define RTE_LEVEL (1u << 15)
#define RTE_MASKED (1u << 16)
#define RTE_DELIVERY(v) ((v) >> 8 & 7)
#define DELIVERY_SMI 2
#define DEFAULT_ADDRESS 0xfec00000UL
#define MAX_PINS 240
#define EOI_SINCE 0x20              /* IO-APICs of this version and later ones are told EOIs... */
#define EOI (0x40 / 4)              /* ...here, by the low byte of what the entry sends */

static struct ioapic {
    volatile u32 *regs;
    maddr_t address;
    u32 gsi_base, pins;
    u8 id;                      /* as in the MADT */
    u8 version;
} ioapics[ACPI_MAX_IOAPICS];
static unsigned nr_ioapics;
static spinlock_t lock = SPINLOCK_INIT(RANK_APIC);
u32 nr_gsis;

static u32 read_reg(const struct ioapic *io, u32 reg)
{
    u64 flags = spin_lock_irqsave(&lock);
    u32 v;

    io->regs[0] = reg;
    v = io->regs[4];
    spin_unlock_irqrestore(&lock, flags);
    return v;
}

static void write_reg(const struct ioapic *io, u32 reg, u32 v)
{
    u64 flags = spin_lock_irqsave(&lock);

    io->regs[0] = reg;
    io->regs[4] = v;
    spin_unlock_irqrestore(&lock, flags);
}

static const struct ioapic *find_gsi(u32 gsi)
{
    for (unsigned i = 0; i < nr_ioapics; i++)
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].pins)
            return &ioapics[i];
    return NULL;
}

static const struct ioapic *find_base(maddr_t base)
{
    for (unsigned i = 0; i < nr_ioapics; i++)
        if (ioapics[i].address.v == base.v)
            return &ioapics[i];
    return NULL;
}

maddr_t ioapic_page(unsigned n)
{
    return n < nr_ioapics ? maddr(ioapics[n].address.v & PAGE_MASK) : maddr(0);
}

/* Lines that the firmware routed to its own SMIs stay so. */
static void mask_all(const struct ioapic *io)
{
    for (u32 pin = 0; pin < io->pins; pin++)
        if (RTE_DELIVERY(read_reg(io, REG_RTE(pin))) != DELIVERY_SMI)
            write_reg(io, REG_RTE(pin), RTE_MASKED);
}

static void add(maddr_t address, u32 gsi_base, u8 id)
{
    struct ioapic *io = &ioapics[nr_ioapics];

    io->regs = ioremap(address, EOI * 4 + 4);
    io->address = address;
    io->gsi_base = gsi_base;
    io->id = id;
    if (!io->regs)
        panic("the IO-APIC at %#lx cannot be mapped", address.v);
    io->version = (u8)read_reg(io, REG_VERSION);
    io->pins = (read_reg(io, REG_VERSION) >> 16 & 0xff) + 1;
    if (io->pins > MAX_PINS) {
        printk(LOG_WARNING "IO-APIC at %#lx does not answer, ignored\n", address.v);
        return;
    }
    mask_all(io);
    nr_gsis = max(nr_gsis, gsi_base + io->pins);
    nr_ioapics++;
    printk("IO-APIC at %#lx: GSI %u-%u\n", address.v, gsi_base, gsi_base + io->pins - 1);
}

void ioapic_init(void)
{
    for (unsigned i = 0; i < acpi_info.nr_ioapics; i++) {
        if (acpi_info.ioapic[i].gsi_base > 4096) {
            printk(LOG_WARNING "IO-APIC with GSI base %u ignored\n", acpi_info.ioapic[i].gsi_base);
            continue;
        }
        add(acpi_info.ioapic[i].address, acpi_info.ioapic[i].gsi_base, acpi_info.ioapic[i].id);
    }
    if (!acpi_info.nr_ioapics)
        add(maddr(DEFAULT_ADDRESS), 0, 0);
}

int ioapic_id(u32 gsi)
{
    const struct ioapic *io = find_gsi(gsi);

    return io ? io->id : -1;
}

bool ioapics_take_eoi(void)
{
    for (unsigned i = 0; i < nr_ioapics; i++)
        if (ioapics[i].version < EOI_SINCE)
            return false;
    return true;
}

static u32 low_word(const struct irq_desc *desc)
{
    return desc->sends | (desc->low ? RTE_LOW : 0) | (desc->level ? RTE_LEVEL : 0) |
           (desc->masked ? RTE_MASKED : 0);
}

static void write_low(struct irq_desc *desc)
{
    const struct ioapic *io = find_gsi(desc->irq);

    write_reg(io, REG_RTE(desc->irq - io->gsi_base), low_word(desc));
}

static struct msi_message message_of(const struct irq_desc *desc)
{
    struct irq_route r = { .irq = desc->irq, .apic_id = cpu_apic_ids[desc->cpu], .vector = desc->vector, .line = true,
                           .level = desc->level };

    return irq_remapper ? irq_remapper->route(r) : msi_compose(r.apic_id, r.vector);
}

void ioapic_program(struct irq_desc *desc)
{
    const struct ioapic *io = find_gsi(desc->irq);
    u32 reg = REG_RTE(desc->irq - io->gsi_base);
    struct msi_message m;

    write_reg(io, reg, RTE_MASKED);
    m = message_of(desc);
    desc->sends = m.data & RTE_SENDS;
    write_reg(io, reg + 1, (u32)(m.address >> 4 & 0xffff) << 16);
    write_reg(io, reg, low_word(desc));
}

static void ioapic_mask(struct irq_desc *desc)
{
    desc->masked = true;
    write_low(desc);
}

/* One that has not been told of its last interrupt's end sends no other. */
static void ioapic_unmask(struct irq_desc *desc)
{
    if (desc->level && irq_remapper && irq_remapper->lines_need_eoi)
        find_gsi(desc->irq)->regs[EOI] = desc->sends & 0xff;
    desc->masked = false;
    write_low(desc);
}

static const struct irq_chip edge_chip = { "IO-APIC-edge", ioapic_mask, ioapic_unmask, ioapic_program, NULL };
static const struct irq_chip level_chip = { "IO-APIC-level", ioapic_mask, ioapic_unmask, ioapic_program, NULL };

static int gsi_setup_locked(struct irq_desc *desc, bool level, bool low)
{
    int err;

    if (desc->chip && desc->level == level && desc->low == low)
        return 0;
    if (desc->chip && (desc->fn || desc->nr_guests)) {
        printk(LOG_WARNING "GSI %u is in use as %s, active %s\n", desc->irq, desc->chip->name,
               desc->low ? "low" : "high");
        return -EBUSY;
    }
    if (!desc->chip && (err = vector_alloc(desc)) != 0)
        return refuse(err, "no vector is free for GSI %u", desc->irq);
    desc->level = level;
    desc->low = low;
    desc->masked = true;
    desc->chip = level ? &level_chip : &edge_chip;
    ioapic_program(desc);
    return 0;
}

int gsi_setup(u32 gsi, bool level, bool low)
{
    struct irq_desc *desc;
    u64 flags;
    int err;

    if (!find_gsi(gsi))
        return -EINVAL;
    desc = &irq_descs[gsi];
    flags = spin_lock_irqsave(&desc->lock);
    err = gsi_setup_locked(desc, level, low);
    spin_unlock_irqrestore(&desc->lock, flags);
    return err;
}

int ioapic_read_guest(maddr_t base, u32 reg, u32 *value)
{
    const struct ioapic *io = find_base(base);

    if (!io)
        return -EINVAL;
    *value = reg < REG_RTE(io->pins) ? read_reg(io, reg) : ~0u;
    return 0;
}

s64 ioapic_reg_to_gsi(maddr_t base, u32 reg)
{
    const struct ioapic *io = find_base(base);

    if (!io || reg < REG_RTE(0) || reg >= REG_RTE(io->pins) || reg % 2)
        return -1;
    return io->gsi_base + (reg - REG_RTE(0)) / 2;
}
