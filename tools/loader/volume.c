/* What all kinds of volumes have in common. */
#include "fs.h"

int disk_memory(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err)
{
    if (!range_within(at, len, d->size))
        return image_fail(err, -EINVAL, "%s has %llu bytes, read was to %llu", d->name, (ull)d->size, (ull)(at + len));
    memcpy(buf, (const u8 *)d->memory + at, (size_t)len);
    return 0;
}

int volume_read(struct volume *v, u64 at, void *buf, u64 len, struct image_error *err)
{
    if (!range_within(at, len, v->size) || !range_within(v->start, v->size, v->disk->size))
        return image_fail(err, -EINVAL, "%s has %llu bytes, the file system names bytes up to %llu", v->name, (ull)v->size,
                          (ull)(at + len));
    return v->disk->read(v->disk, v->start + at, buf, len, err);
}

int volume_open(struct volume *v, struct image_error *err)
{
    static int (*const probes[])(struct volume *v, struct image_error *err) = { cpio_probe, ext4_probe };
    int rc = -ENODEV;

    v->type = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(probes) && rc == -ENODEV; i++)
        rc = probes[i](v, err);
    return rc;
}
