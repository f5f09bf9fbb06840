/*
 * Partition tables: GPT (UEFI specification, "GUID Partition Table"), MBR with logical partitions, or none. Sectors have 512 bytes, as with
 * all block backends. Checksums are not looked at: a wrong table leads to no file system that is known.
 */
#include "fs.h"

#define SECTOR         512u
#define GPT_MOST       256u         /* entries looked at */
#define LOGICAL_MOST   64u
#define MBR_TABLE      446u
#define MBR_EXTENDED(t) ((t) == 0x05 || (t) == 0x0f || (t) == 0x85)

struct sectors { u64 first, count; };

static int tell(struct disk *d, each_partition_fn *each, void *ctx, unsigned number, struct sectors s, struct image_error *err)
{
    u64 all = d->size / SECTOR;

    if (!s.count || !range_within(s.first, s.count, all))
        return image_fail(err, -EINVAL, "partition %u of %s takes sectors %llu to %llu, the disk has %llu", number, d->name, (ull)s.first,
                          (ull)(s.first + s.count), (ull)all);
    return each(ctx, number, s.first * SECTOR, s.count * SECTOR);
}

static int gpt(struct disk *d, const u8 *header, each_partition_fn *each, void *ctx, struct image_error *err)
{
    static const u8 unused[16];
    u64 table = get_le(header + 72, 8), nr = min(get_le(header + 80, 4), (u64)GPT_MOST), size = get_le(header + 84, 4);
    u8 e[128];

    if (size < sizeof(e) || size > 4096 || table > d->size / SECTOR)
        return image_fail(err, -EINVAL, "%s: the GPT's entries have %llu bytes each and begin in sector %llu of %llu", d->name, (ull)size,
                          (ull)table, (ull)(d->size / SECTOR));
    for (unsigned i = 0; i < nr; i++) {
        int rc = d->read(d, table * SECTOR + i * size, e, sizeof(e), err);
        u64 first = get_le(e + 32, 8), last = get_le(e + 40, 8);

        if (!rc && memcmp(e, unused, sizeof(unused)))
            rc = tell(d, each, ctx, i + 1, (struct sectors){ first, last < first ? 0 : last - first + 1 }, err);
        if (rc)
            return rc;
    }
    return 0;
}

static struct sectors mbr_entry(const u8 *sector, unsigned i)
{
    const u8 *e = sector + MBR_TABLE + 16 * i;

    return (struct sectors){ get_le(e + 8, 4), get_le(e + 12, 4) };
}

static u8 mbr_type(const u8 *sector, unsigned i) { return sector[MBR_TABLE + 16 * i + 4]; }
static bool is_mbr(const u8 *sector) { return get_le(sector + 510, 2) == 0xaa55; }

/* A chain of tables: each has one partition, counted from the table itself, and the place of the next, counted from the first. */
static int logical(struct disk *d, u64 base, each_partition_fn *each, void *ctx, struct image_error *err)
{
    u8 s[SECTOR];
    u64 at = base;

    for (unsigned number = 5; number < 5 + LOGICAL_MOST; number++) {
        int rc = d->read(d, at * SECTOR, s, sizeof(s), err);
        struct sectors e;

        if (rc)
            return rc;
        if (!is_mbr(s))
            return image_fail(err, -EINVAL, "%s: sector %llu has no table of logical partitions", d->name, (ull)at);
        e = mbr_entry(s, 0);
        e.first += at;
        rc = mbr_type(s, 0) ? tell(d, each, ctx, number, e, err) : 0;
        if (rc || !mbr_type(s, 1))
            return rc;
        at = base + mbr_entry(s, 1).first;
    }
    return image_fail(err, -E2BIG, "%s has more than %u logical partitions", d->name, LOGICAL_MOST);
}

static int mbr(struct disk *d, const u8 *sector, each_partition_fn *each, void *ctx, struct image_error *err)
{
    for (unsigned i = 0; i < 4; i++) {
        u8 type = mbr_type(sector, i);
        struct sectors e = mbr_entry(sector, i);
        int rc = !type ? 0 : MBR_EXTENDED(type) ? logical(d, e.first, each, ctx, err) : tell(d, each, ctx, i + 1, e, err);

        if (rc)
            return rc;
    }
    return 0;
}

/* Boot sectors of file systems end as an MBR does, but have no such entries. */
static bool plausible_mbr(const u8 *sector)
{
    bool any = false;

    for (unsigned i = 0; i < 4; i++) {
        if (sector[MBR_TABLE + 16 * i] & 0x7f)
            return false;
        any |= mbr_type(sector, i) && mbr_entry(sector, i).count;
    }
    return is_mbr(sector) && any;
}

int each_partition(struct disk *d, each_partition_fn *each, void *ctx, struct image_error *err)
{
    u8 s[2 * SECTOR];
    int rc = d->size < sizeof(s) ? -EINVAL : d->read(d, 0, s, sizeof(s), err);

    if (d->size < sizeof(s))
        return image_fail(err, rc, "%s has %llu bytes, expected a disk", d->name, (ull)d->size);
    if (rc)
        return rc;
    if (!memcmp(s + SECTOR, "EFI PART", 8))
        return gpt(d, s + SECTOR, each, ctx, err);
    if (plausible_mbr(s))
        return mbr(d, s, each, ctx, err);
    return each(ctx, 0, 0, d->size);
}
