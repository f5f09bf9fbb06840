/*
 * I/O page tables: what an IOMMU walks. A device's address is a machine address, so a table only says which frames may be reached and how:
 * each frame number leads to itself, or nowhere. Frames are plain numbers, since not all of them are RAM.
 *
 *      level   3 (of 3 or 4)        2                   1
 *     +---------------------+  +---------------+  +-----------+
 *     | table, 1 GiB, none  |->| table, 2 MiB, |->| 4 KiB,    |      512 entries of 8 bytes in each table
 *     +---------------------+  | none          |  | none      |
 *                              +---------------+  +-----------+
 *
 * A format is data (struct io_format); there is one walker. Whoever calls serializes calls for one set of tables.
 */
#ifndef IOMMU_TABLE_H
#define IOMMU_TABLE_H

#include <pvisor/types.h>

#define IO_READ  1u     /* devices may read */
#define IO_WRITE 2u

/* Bits of an entry. A table's or frame's address is in bits 12 to 51 in each format. */
struct io_format {
    const char *name;
    u64 present;                /* an entry without any of these leads nowhere */
    u64 read, write;            /* an access needs its bit at every level */
    u64 leaf;                   /* that every leaf has */
    u64 large_mask, large;      /* above level 1, what is present is a leaf if its bits of the mask are these, else it leads to a table */
    u64 table, next_level;      /* what leads to a table has these, the second times the table's level */
};
extern const struct io_format vtd_format, vtd_snooping_format, amd_format;

/* Tables that were cut off and that an IOMMU may still walk. */
#define IO_MAX_CUT 8

struct io_tables {
    const struct io_format *format;
    u64 *root;
    u8 levels;                  /* 3 or 4: frame numbers below 2^(9 * levels) */
    u8 largest;                 /* the highest level of leaves: 1, 2 or 3 */
    bool coherent;              /* the IOMMU reads what is in caches */
    u8 nr_cut;
    struct { u64 *table; u8 level; } cut[IO_MAX_CUT];
    u64 nr_tables;              /* frames that they take */
};

/* Empty tables: 0 or -ENOMEM. */
int io_tables_init(struct io_tables *t, const struct io_format *format, unsigned levels, unsigned largest, bool coherent) must_check;
/*
 * Frames *first to before end may be reached as `access` says, 0: not at all; whatever was there is replaced, large pieces are split where
 * they must be and made where they can be. Moves *first on. 0: all is done. -EAGAIN: so much was done; the caller is to flush,
 * io_free_cut(), and go on when it likes. -ENOMEM, -ERANGE (frames that the tables have no place for): what is before *first is done.
 */
int io_set(struct io_tables *t, u64 *first, u64 end, unsigned access) must_check;
unsigned io_lookup(const struct io_tables *t, u64 frame);
/* After a flush of all that was translated: frees what was cut off, at most IO_MAX_CUT * 513 frames. */
void io_free_cut(struct io_tables *t);
/* Once no IOMMU knows them and io_set() has removed all: frees the rest. */
void io_tables_free(struct io_tables *t);

#endif
