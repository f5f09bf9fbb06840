/* AMD's IVRS table (AMD I/O Virtualization Technology specification 48882, revision 3.07, chapter 5). */
#include <pvisor/acpi.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "internal.h"

#define REGISTERS_SIZE 0x4000
enum { HARDWARE_10 = 0x10, HARDWARE_11 = 0x11, HARDWARE_40 = 0x40, MEMORY_ALL = 0x20, MEMORY_ONE = 0x21, MEMORY_RANGE = 0x22 };
enum { DEV_ALL = 1, DEV_SELECT = 2, DEV_START = 3, DEV_END = 4, DEV_ALIAS = 66, DEV_ALIAS_START = 67, DEV_EXT = 70, DEV_EXT_START = 71,
       DEV_SPECIAL = 72, DEV_ACPI_HID = 240 };
enum { SPECIAL_IOAPIC = 1, SPECIAL_HPET = 2 };

static u8 hardware_type;        /* newer types of block describe the same units again: the highest that is there counts */

/* Bytes of the device entry at e, of which left are there; 0: it does not fit. */
static u32 entry_length(const u8 *e, u32 left)
{
    u32 n = e[0] < DEV_ACPI_HID ? 4u << (e[0] >> 6) : left >= 22 ? 22u + e[21] : 0;

    return n <= left ? n : 0;
}

static bool add_special(const u8 *e)
{
    u16 id = (u16)acpi_field(e, 5, 2);
    u8 kind = e[7] == SPECIAL_IOAPIC ? IOMMU_IOAPIC : IOMMU_HPET;
    struct iommu_scope s = { .unit = (u8)(iommu_info.nr_units - 1), .kind = kind, .id = e[4], .passes = e[3], .first = id, .last = id };

    return (e[7] != SPECIAL_IOAPIC && e[7] != SPECIAL_HPET) || iommu_add_scope(e, s);
}

/* The entry at e. open: the range that has started and not ended, if *started. */
static bool read_entry(const u8 *e, struct iommu_scope *open, bool *started)
{
    u16 id = (u16)acpi_field(e, 1, 2);
    struct iommu_scope one = { .unit = (u8)(iommu_info.nr_units - 1), .first = id, .last = id };

    if (*started != (e[0] == DEV_END))
        return iommu_refuse(e, "a range of devices has no start, or no end");
    switch (e[0]) {
    case DEV_ALL:
        one.first = 0;
        one.last = 0xffff;
        return iommu_add_scope(e, one);
    case DEV_ALIAS: case DEV_ALIAS_START:
        one.has_alias = true;
        one.alias = (u16)acpi_field(e, 5, 2);
        break;
    case DEV_END:
        *started = false;
        open->last = id;
        return iommu_add_scope(e, *open);
    case DEV_SPECIAL:
        return add_special(e);
    case DEV_SELECT: case DEV_EXT: case DEV_START: case DEV_EXT_START:
        break;
    default:
        return true;
    }
    *started = e[0] == DEV_START || e[0] == DEV_ALIAS_START || e[0] == DEV_EXT_START;
    *open = one;
    return *started || iommu_add_scope(e, one);
}

static bool read_entries(const u8 *block, u32 at, u32 length)
{
    struct iommu_scope open = { 0 };
    bool started = false;

    while (at < length) {
        u32 n = entry_length(block + at, length - at);

        if (!n)
            return iommu_refuse(block + at, "a device entry's length makes no sense");
        if (!read_entry(block + at, &open, &started))
            return false;
        at += n;
    }
    return !started || iommu_refuse(block, "a range of devices has no start, or no end");
}

/* Hardware unit: registers at 8, segment at 16, device entries from 24 (type 0x10) or 40 on. */
static bool read_hardware(const u8 *block, u32 length)
{
    struct iommu_unit unit = { .registers = maddr(acpi_field(block, 8, 8)), .segment = (u16)acpi_field(block, 16, 2) };

    if (block[0] != hardware_type)
        return true;
    return iommu_add_unit(block, unit, REGISTERS_SIZE) && read_entries(block, block[0] == HARDWARE_10 ? 24 : 40, length);
}

/* Reserved memory: function at 4, the range's last at 6, start at 16, bytes at 24. */
static bool read_memory(const u8 *block, u32 length)
{
    u64 start = acpi_field(block, 16, 8), bytes = acpi_field(block, 24, 8);
    struct iommu_region r = { .start = maddr(start), .end = maddr(start + bytes), .any_segment = true, .last = 0xffff };

    (void)length;
    if (block[0] != MEMORY_ALL)
        r.first = r.last = (u16)acpi_field(block, 4, 2);
    if (block[0] == MEMORY_RANGE)
        r.last = (u16)acpi_field(block, 6, 2);
    return iommu_add_region(block, r);
}

/* Looks which type of hardware block counts. What is wrong with lengths is said when blocks are read. */
static void read_header(const u8 *table, u32 length)
{
    iommu_info.address_bits = acpi_field(table, 36, 4) >> 8 & 0x7f;
    iommu_info.remaps_interrupts = true;
    hardware_type = 0;
    for (u32 at = 48, n; at + 4 <= length; at += n) {
        u8 type = table[at];

        n = (u32)acpi_field(table, at + 2, 2);
        if (n < 4)
            return;
        if ((type == HARDWARE_10 || type == HARDWARE_11 || type == HARDWARE_40) && type > hardware_type)
            hardware_type = type;
    }
}

static const struct iommu_block blocks[] = {
    { HARDWARE_10, 24, read_hardware }, { HARDWARE_11, 40, read_hardware }, { HARDWARE_40, 40, read_hardware },
    { MEMORY_ALL, 32, read_memory }, { MEMORY_ONE, 32, read_memory }, { MEMORY_RANGE, 32, read_memory },
};
const struct iommu_table amd_table = { IOMMU_AMD, "IVRS", "AMD-Vi", 1, read_header, blocks, ARRAY_SIZE(blocks) };
