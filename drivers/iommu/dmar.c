/* Intel's DMAR table (Virtualization Technology for Directed I/O, architecture specification 4.1, chapter 8). */
#include <pvisor/acpi.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include "internal.h"

#define FLAG_INTR_REMAP 1u
#define FLAG_X2APIC_OPT_OUT 2u
#define DRHD_INCLUDE_ALL 1u
#define PCI_SECONDARY_BUS 0x19
#define PCI_SUBORDINATE_BUS 0x1a
#define HEADER_BRIDGE 1

enum { SCOPE_ENDPOINT = 1, SCOPE_BRIDGE = 2, SCOPE_IOAPIC = 3, SCOPE_HPET = 4 };

/* What a scope is found in: a unit, or reserved memory. */
struct owner {
    u16 segment;
    bool (*add)(const struct owner *o, const u8 *scope, struct iommu_scope s);
    struct iommu_region region;
};

static bool add_to_unit(const struct owner *o, const u8 *scope, struct iommu_scope s)
{
    (void)o;
    s.unit = (u8)(iommu_info.nr_units - 1);
    return iommu_add_scope(scope, s);
}

static bool add_to_region(const struct owner *o, const u8 *scope, struct iommu_scope s)
{
    struct iommu_region r = o->region;

    r.segment = o->segment;
    r.first = s.first;
    r.last = s.last;
    return s.kind != IOMMU_FUNCTIONS || iommu_add_region(scope, r);
}

static bool is_bridge(u32 sbdf) { return (pci_read(sbdf, PCI_HEADER_TYPE, 1) & 0x7f) == HEADER_BRIDGE; }

/* Follows a scope's path, pairs of device and function, over bridges. False: a bridge on it is not there or has no buses. */
static bool follow(u16 segment, const u8 *scope, u32 *sbdf)
{
    u8 bus = scope[5];

    for (unsigned at = 6;; at += 2) {
        *sbdf = PCI_SBDF(segment, bus, (scope[at] & 0x1f) << 3 | (scope[at + 1] & 7));
        if (at + 4 > scope[1])
            return true;
        bus = (u8)pci_read(*sbdf, PCI_SECONDARY_BUS, 1);
        if (!is_bridge(*sbdf) || bus <= (*sbdf >> 8 & 0xff))
            return false;
    }
}

/* A bridge, and all that is behind it: nothing yet where the firmware gave it no buses, which reads as bus 0. */
static bool add_bridge(const struct owner *o, const u8 *scope, u32 sbdf)
{
    struct iommu_scope self = { .first = (u16)sbdf, .last = (u16)sbdf }, behind = { 0 };
    u32 secondary = pci_read(sbdf, PCI_SECONDARY_BUS, 1), subordinate = pci_read(sbdf, PCI_SUBORDINATE_BUS, 1);

    if (!is_bridge(sbdf))
        return true;
    behind.first = (u16)(secondary << 8);
    behind.last = (u16)(subordinate << 8 | 0xff);
    return o->add(o, scope, self) && (secondary <= (sbdf >> 8 & 0xff) || o->add(o, scope, behind));
}

static bool read_scope(const struct owner *o, const u8 *scope)
{
    static const u8 kinds[] = {
        [SCOPE_ENDPOINT] = IOMMU_FUNCTIONS, [SCOPE_BRIDGE] = IOMMU_FUNCTIONS, [SCOPE_IOAPIC] = IOMMU_IOAPIC, [SCOPE_HPET] = IOMMU_HPET };
    u8 type = scope[0];
    u32 sbdf;

    if (type < SCOPE_ENDPOINT || type > SCOPE_HPET)
        return true;
    if (!follow(o->segment, scope, &sbdf)) {
        printk(LOG_WARNING "IOMMU: DMAR names a function behind " PCI_FMT ", which is no bridge with buses: left out\n", PCI_ARGS(sbdf));
        return true;
    }
    if (type == SCOPE_BRIDGE)
        return add_bridge(o, scope, sbdf);
    return o->add(o, scope, (struct iommu_scope){ .kind = kinds[type], .id = scope[4], .first = (u16)sbdf, .last = (u16)sbdf });
}

static bool read_scopes(const struct owner *o, const u8 *block, u32 at, u32 length)
{
    while (at < length) {
        const u8 *scope = block + at;

        if (length - at < 8 || scope[1] < 8 || scope[1] % 2 || scope[1] > length - at)
            return iommu_refuse(scope, "a device scope's length makes no sense");
        if (!read_scope(o, scope))
            return false;
        at += scope[1];
    }
    return true;
}

/* Hardware unit: flags at 4, segment at 6, registers at 8, scopes from 16 on. */
static bool read_drhd(const u8 *block, u32 length)
{
    struct owner o = { .segment = (u16)acpi_field(block, 6, 2), .add = add_to_unit };
    struct iommu_unit unit = { .registers = maddr(acpi_field(block, 8, 8)), .segment = o.segment,
                               .all_others = block[4] & DRHD_INCLUDE_ALL };

    return iommu_add_unit(block, unit, 4096) && read_scopes(&o, block, 16, length);
}

/* Reserved memory: segment at 6, first byte at 8, last at 16, scopes from 24 on. */
static bool read_rmrr(const u8 *block, u32 length)
{
    struct owner o = { .segment = (u16)acpi_field(block, 6, 2), .add = add_to_region,
                       .region = { .start = maddr(acpi_field(block, 8, 8)), .end = maddr(acpi_field(block, 16, 8) + 1) } };

    return read_scopes(&o, block, 24, length);
}

static void read_header(const u8 *table, u32 length)
{
    (void)length;
    iommu_info.address_bits = table[36] < 64 ? table[36] + 1 : 0;
    iommu_info.remaps_interrupts = table[37] & FLAG_INTR_REMAP;
    iommu_info.x2apic_opt_out = table[37] & FLAG_X2APIC_OPT_OUT;
}

static const struct iommu_block blocks[] = { { 0, 16, read_drhd }, { 1, 24, read_rmrr } };
const struct iommu_table vtd_table = { IOMMU_VTD, "DMAR", "VT-d", 2, read_header, blocks, ARRAY_SIZE(blocks) };
