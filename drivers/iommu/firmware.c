/*
 * What ACPI's tables say of IOMMUs: the frame that both makers' tables share. Each is a header of 48 bytes and then blocks with a type and,
 * at offset 2, a length. All of it is the firmware's data: nothing is read that a length does not cover.
 */
#include <pvisor/acpi.h>
#include <pvisor/iommu.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include "internal.h"

#define FIRST_BLOCK 48
#define ADDRESS_LIMIT (1UL << 52)
#define PAGE 4096UL

struct iommu_info iommu_info;
static const u8 *reading;       /* the table, for messages */

bool iommu_refuse(const u8 *block, const char *why)
{
    printk(LOG_WARNING "IOMMU: %.4s, offset %u: %s. No IOMMU is used\n", (const char *)reading, (u32)(block - reading), why);
    return false;
}

/* --- What is found ------------------------------------------------------------------------------------------ */

bool iommu_add_unit(const u8 *block, struct iommu_unit unit, u64 size)
{
    struct iommu_info *i = &iommu_info;
    u64 at = unit.registers.v;

    if (!at || at % size || at >= ADDRESS_LIMIT)
        return iommu_refuse(block, "a unit's registers are at no proper address");
    if (i->nr_units == IOMMU_MAX_UNITS)
        return iommu_refuse(block, "more units than there is room for");
    for (u32 n = 0; n < i->nr_units; n++) {
        if (i->units[n].registers.v == at)
            return iommu_refuse(block, "two units have the same registers");
        if (unit.all_others && i->units[n].all_others && i->units[n].segment == unit.segment)
            return iommu_refuse(block, "two units are for all other functions of one segment");
    }
    i->units[i->nr_units++] = unit;
    return true;
}

static bool is_same_thing(const struct iommu_scope *a, const struct iommu_scope *b)
{
    if (a->kind != b->kind || iommu_info.units[a->unit].segment != iommu_info.units[b->unit].segment)
        return false;
    return a->kind == IOMMU_FUNCTIONS ? a->first <= b->last && b->first <= a->last : a->id == b->id;
}

bool iommu_add_scope(const u8 *block, struct iommu_scope scope)
{
    struct iommu_info *i = &iommu_info;

    if (scope.last < scope.first)
        return iommu_refuse(block, "a range of functions ends before it starts");
    for (u32 n = 0; n < i->nr_scopes; n++)
        if (i->scopes[n].unit != scope.unit && is_same_thing(&i->scopes[n], &scope))
            return iommu_refuse(block, "a function is behind two units");
    if (i->nr_scopes == IOMMU_MAX_SCOPES)
        return iommu_refuse(block, "more functions are named than there is room for");
    i->scopes[i->nr_scopes++] = scope;
    return true;
}

bool iommu_add_region(const u8 *block, struct iommu_region region)
{
    struct iommu_info *i = &iommu_info;

    if (region.start.v % PAGE || region.end.v % PAGE || region.end.v <= region.start.v || region.end.v > ADDRESS_LIMIT)
        return iommu_refuse(block, "reserved memory is no whole number of pages");
    if (region.last < region.first)
        return iommu_refuse(block, "reserved memory's range of functions ends before it starts");
    if (i->nr_regions == IOMMU_MAX_REGIONS)
        return iommu_refuse(block, "more reserved memory than there is room for");
    i->regions[i->nr_regions++] = region;
    return true;
}

/* --- The walk over blocks ----------------------------------------------------------------------------------- */

/* Blocks of a type that is not in the list say nothing that is needed. */
static bool read_block(const struct iommu_table *t, const u8 *block, u32 length)
{
    u16 type = (u16)acpi_field(block, 0, t->type_bytes);

    for (unsigned i = 0; i < t->nr_blocks; i++) {
        if (t->blocks[i].type != type)
            continue;
        if (length < t->blocks[i].length)
            return iommu_refuse(block, "a block is shorter than its type");
        return t->blocks[i].read(block, length);
    }
    return true;
}

static bool read_blocks(const struct iommu_table *t, const u8 *table, u32 length)
{
    u32 at = FIRST_BLOCK;

    while (at < length) {
        u32 bytes = length - at < 4 ? 0 : (u32)acpi_field(table, at + 2, 2);

        if (bytes < 4 || bytes > length - at)
            return iommu_refuse(table + at, "a block's length makes no sense");
        if (!read_block(t, table + at, bytes))
            return false;
        at += bytes;
    }
    return iommu_info.nr_units || iommu_refuse(table, "it names no unit");
}

static bool read_table(const struct iommu_table *t)
{
    const u8 *table = acpi_find_table(t->signature, 0);
    u32 length = table ? (u32)acpi_field(table, 4, 4) : 0;

    if (!table)
        return false;
    reading = table;
    iommu_info.maker = t->maker;
    if (length < FIRST_BLOCK)
        return iommu_refuse(table, "the table is shorter than its header");
    t->header(table, length);
    if (!read_blocks(t, table, length))
        return false;
    printk(LOG_INFO "IOMMU: %s, %u unit(s), %u reserved region(s)\n", t->name, iommu_info.nr_units,
           iommu_info.nr_regions);
    return true;
}

void iommu_read_firmware(void)
{
    static const struct iommu_table *const tables[] = { &vtd_table, &amd_table };

    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        memset(&iommu_info, 0, sizeof(iommu_info));
        if (read_table(tables[i]))
            return;
    }
    memset(&iommu_info, 0, sizeof(iommu_info));
}

const struct iommu_unit *iommu_unit_of(u32 sbdf)
{
    const struct iommu_info *i = &iommu_info;
    u16 segment = (u16)(sbdf >> 16), id = (u16)sbdf;

    for (u32 n = 0; n < i->nr_scopes; n++) {
        const struct iommu_scope *s = &i->scopes[n];

        if (s->kind == IOMMU_FUNCTIONS && i->units[s->unit].segment == segment && s->first <= id && id <= s->last)
            return &i->units[s->unit];
    }
    for (u32 n = 0; n < i->nr_units; n++)
        if (i->units[n].all_others && i->units[n].segment == segment)
            return &i->units[n];
    return NULL;
}
