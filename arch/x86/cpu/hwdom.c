/*
 * The hardware domain's permissions: all of the machine except the parts that would let it take the machine from
 * under the hypervisor (interrupt controllers, the clocks in use, the message window) or the console's line.
 */
#include <asm/e820.h>
#include <asm/mm.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/domain.h>
#include <pvisor/efi.h>
#include <pvisor/hwdom.h>
#include <pvisor/iommu.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/serial.h>

#define MSI_WINDOW 0xfee00000UL
#define MSI_WINDOW_END 0xfeefffffUL
/* AMD BIOS and Kernel Developer's Guides: HyperTransport's own range below 1 TiB. */
#define HT_WINDOW 0xfd00000000UL
#define HT_WINDOW_END 0xffffffffffUL

static const struct port_range { u16 first, last; } kept_ports[] = {
    { 0x20, 0x21 }, { 0xa0, 0xa1 }, { 0x4d0, 0x4d1 },   /* 8259s and their trigger modes */
    { 0x40, 0x43 }, { 0x61, 0x61 },                     /* PIT and its gate */
    { 0xcf8, 0xcff },                                   /* PCI configuration: emulated */
};

static void check(int err)
{
    if (err)
        panic("no memory for the hardware domain's permissions");
}

static void keep_frames(struct rangeset *r, u64 first, u64 last)
{
    check(rangeset_remove(r, first >> PAGE_SHIFT, last >> PAGE_SHIFT));
}

static void only_read(maddr_t page)
{
    check(rangeset_add(mmio_ro_ranges, page.v >> PAGE_SHIFT, page.v >> PAGE_SHIFT));
}

/* The firmware's own code and data, which it is called with in ring 0: dom0 reads tables there. */
static void only_read_firmware(void)
{
    for (unsigned i = 0; i < efi_nr_regions; i++) {
        const struct efi_region *e = &efi_regions[i];

        if (e->type == EFI_RUNTIME_SERVICES_CODE || e->type == EFI_RUNTIME_SERVICES_DATA)
            check(rangeset_add(mmio_ro_ranges, e->start >> PAGE_SHIFT, (e->end - 1) >> PAGE_SHIFT));
    }
}

static u64 last_physical_frame(void)
{
    u32 bits = 36;

    if (cpuid(0x80000000, 0).a >= 0x80000008)
        bits = cpuid(0x80000008, 0).a & 0xff;
    return (1UL << (min(bits, 52u) - PAGE_SHIFT)) - 1;
}

static bool is_amd(void)
{
    struct cpuid_regs c = cpuid(0, 0);

    return !memcmp(&c.b, "Auth", 4) || !memcmp(&c.b, "Hygo", 4);
}

/* RAM is a guest's by ownership of frames, or the hypervisor's; that of the first MiB is the machine's. */
static void keep_ram(struct rangeset *r)
{
    for (unsigned i = 0; i < host_e820_nr; i++) {
        u64 first = max(ROUND_UP(host_e820[i].start, PAGE_SIZE), FIRST_MIB);
        u64 end = (host_e820[i].start + host_e820[i].size) & PAGE_MASK;

        if ((host_e820[i].type == E820_RAM || host_e820[i].type == E820_UNUSABLE) && first < end)
            keep_frames(r, first, end - 1);
    }
}

static void keep_iommus(struct rangeset *r)
{
    maddr_t first;
    u64 bytes;

    for (unsigned n = 0; iommu_registers(n, &first, &bytes); n++)
        keep_frames(r, first.v, first.v + bytes - 1);
}

static void set_memory(struct rangeset *r)
{
    check(rangeset_add(r, 0, last_physical_frame()));
    keep_ram(r);
    keep_frames(r, lapic_base().v, lapic_base().v);
    keep_iommus(r);
    keep_frames(r, MSI_WINDOW, MSI_WINDOW_END);
    if (is_amd())
        keep_frames(r, HT_WINDOW, HT_WINDOW_END);
    for (unsigned i = 0; ioapic_page(i).v; i++)
        only_read(ioapic_page(i));
    if (acpi_info.hpet_address.v)
        only_read(acpi_info.hpet_address);
    only_read_firmware();
    if (smp_trampoline().v)
        only_read(smp_trampoline());
}

static void set_ports_and_irqs(struct rangeset *ports, struct rangeset *irqs)
{
    u16 serial;

    check(rangeset_add(ports, 0, 0xffff));
    for (unsigned i = 0; i < ARRAY_SIZE(kept_ports); i++)
        check(rangeset_remove(ports, kept_ports[i].first, kept_ports[i].last));
    /* GSI 0 is the PIT's, or nothing's where an override moves that. */
    if (nr_gsis > 1)
        check(rangeset_add(irqs, 1, nr_gsis - 1));
    /* A serial line's interrupt may be mapped as any; while the hypervisor has it, nobody else can bind it. */
    for (unsigned n = 0; n < 2; n++)
        if (serial_in_use(n, &serial))
            check(rangeset_remove(ports, serial, serial + 7));
}

/* dom0_ioports_disable=first[-last],... in hexadecimal. */
#define MAX_DISABLED 16
static struct disabled { struct port_range range[MAX_DISABLED]; unsigned nr; } disabled_ports;

static int parse_ports(void *to, const char *word, size_t len)
{
    struct disabled *d = to;
    const char *stop, *end = word + len;
    u64 first = strtoull(word, &stop, 16), last = first;

    if (stop != word && *stop == '-') {
        word = stop + 1;
        last = strtoull(word, &stop, 16);
    }
    if (stop == word || stop != end || last > 0xffff || first > last || d->nr == MAX_DISABLED)
        return -EINVAL;
    d->range[d->nr++] = (struct port_range){ (u16)first, (u16)last };
    return 0;
}

static int parse_disabled_ports(const char *v)
{
    struct disabled new = disabled_ports;
    int rc = cmdline_list(v, parse_ports, &new);

    if (!rc)
        disabled_ports = new;
    return rc;
}
CMDLINE_OPTION("dom0_ioports_disable", parse_disabled_ports);

void hardware_domain_permissions(struct domain *d)
{
    mmio_ro_ranges = rangeset_new();
    if (!d->iomem)
        d->iomem = rangeset_new();
    if (!d->ioports)
        d->ioports = rangeset_new();
    if (!d->irqs)
        d->irqs = rangeset_new();
    if (!mmio_ro_ranges || !d->iomem || !d->ioports || !d->irqs)
        panic("no memory for the hardware domain's permissions");
    set_memory(d->iomem);
    set_ports_and_irqs(d->ioports, d->irqs);
    for (unsigned i = 0; i < disabled_ports.nr; i++)
        check(rangeset_remove(d->ioports, disabled_ports.range[i].first, disabled_ports.range[i].last));
}

/* --- What firmware has its devices use --- */

bool hardware_domain_may_write(u64 first, u64 last)
{
    return rangeset_contains(dom0->iomem, first, last) && !rangeset_overlaps(mmio_ro_ranges, first, last);
}

/* In runs; 0, or -ENOMEM. */
static int let_devices_reach(u64 first, u64 end)
{
    int rc = 0;

    for (u64 m = first; !rc && m < end; m++) {
        if (hardware_domain_may_write(m, m))
            continue;
        rc = first == m ? 0 : iommu_set(SPACE_DOM0, first, m, true);
        first = m + 1;
    }
    return rc || first >= end ? rc : iommu_set(SPACE_DOM0, first, end, true);
}

void hardware_domain_reserved_memory(void)
{
    const u64 limit = 1UL << 32;

    if (!iommu_wanted() || iommu_strict())
        return;
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *e = &host_e820[i];
        u64 first = DIV_ROUND_UP(min(e->start, limit), PAGE_SIZE), end = min(e->start + e->size, limit) >> PAGE_SHIFT;

        if ((e->type == E820_RESERVED || e->type == E820_ACPI || e->type == E820_NVS) && let_devices_reach(first, end))
            printk(LOG_WARNING "IOMMU: no memory for what the firmware reserves at %#lx: devices do not reach it\n", e->start);
    }
}
