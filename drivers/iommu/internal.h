/* What the files of the IOMMU driver share: the reading of tables. */
#ifndef IOMMU_INTERNAL_H
#define IOMMU_INTERNAL_H

#include <pvisor/iommu.h>

/* One kind of block in a table: its bytes are at least `length` when read() is called; false: it said why, the whole table is refused. */
struct iommu_block {
    u16 type, length;
    bool (*read)(const u8 *block, u32 length);
};

/* Says why the table is refused, and returns false. */
bool iommu_refuse(const u8 *block, const char *why);
/* Each adds one to iommu_info, or refuses: room, alignment, overlaps, order are checked here. */
bool iommu_add_unit(const u8 *block, struct iommu_unit unit, u64 size);
bool iommu_add_scope(const u8 *block, struct iommu_scope scope);
bool iommu_add_region(const u8 *block, struct iommu_region region);

/* What the two makers' tables are: signature, blocks from offset 48 on, and how the type of one is read (1 or 2 bytes). */
struct iommu_table {
    enum iommu_maker maker;
    char signature[5], name[8];
    u8 type_bytes;
    void (*header)(const u8 *table, u32 length);
    const struct iommu_block *blocks;
    unsigned nr_blocks;
};
extern const struct iommu_table vtd_table, amd_table;

#endif
