/*
 * Files that the loader finds: in an archive that is its ramdisk, or on the guest's disk. Pure code: it reads through a callback, keeps
 * all in structures of its caller's, and runs in tests on the host. What is read is not trusted. Errors are negative errno values
 * with a sentence for people in err.
 */
#ifndef LOADER_FS_H
#define LOADER_FS_H

#include "../../common/image/internal.h"

/* Bytes from somewhere: len of them at byte offset at, all or an error. */
struct disk {
    int (*read)(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err);
    u64 size;                           /* bytes */
    char name[16];                      /* as in the guest's configuration: xvda */
    const void *memory;                 /* what is in memory is read by disk_memory() */
};

struct file;

struct volume {
    struct disk *disk;
    u64 start, size;                    /* bytes, on the disk */
    unsigned number;                    /* of the partition, from 1; 0: the whole disk */
    char name[24];                      /* for messages: xvda1, ramdisk */
    char uuid[40], label[20];           /* of the file system, if it has them */
    const struct fs_type *type;
    struct { u64 block_size, inode_size, inodes_per_group, nr_inodes, nr_blocks, first_table, desc_size, nr_groups; } ext4;
};

struct file {
    struct volume *volume;
    u64 size;
    u64 at;                             /* cpio: where the contents are */
    u8 inode[128];                      /* ext4 */
    u64 inode_number;
    bool directory;
};

/* A name in a directory. A value other than 0 ends the listing with it. */
typedef int each_name_fn(void *ctx, const char *name);

struct fs_type {
    const char *name;
    /* path: absolute, without links to follow but those of the file system itself. -ENOENT if there is none. */
    int (*open)(struct volume *v, const char *path, struct file *f, struct image_error *err);
    int (*read)(struct file *f, u64 at, void *buf, u64 len, struct image_error *err);
    int (*list)(struct file *dir, each_name_fn *each, void *ctx, struct image_error *err);
};

int volume_read(struct volume *v, u64 at, void *buf, u64 len, struct image_error *err);
/* What is in the volume: v->type stays NULL if it is nothing known; err says what was found. */
int volume_open(struct volume *v, struct image_error *err);

static inline int file_open(struct volume *v, const char *path, struct file *f, struct image_error *err)
{
    return v->type->open(v, path, f, err);
}

/* len bytes at offset at, which the file has. */
static inline int file_read(struct file *f, u64 at, void *buf, u64 len, struct image_error *err)
{
    if (!range_within(at, len, f->size))
        return image_fail(err, -EINVAL, "%s ends at byte %llu, read was to %llu", f->volume->name, (ull)f->size, (ull)(at + len));
    return f->volume->type->read(f, at, buf, len, err);
}

int disk_memory(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err);

extern const struct fs_type cpio_type, ext4_type;
int cpio_probe(struct volume *v, struct image_error *err);
int ext4_probe(struct volume *v, struct image_error *err);

/* Calls each() for the partitions, by number, or once for the whole disk, with number 0, if it has no table. */
typedef int each_partition_fn(void *ctx, unsigned number, u64 start, u64 size);
int each_partition(struct disk *d, each_partition_fn *each, void *ctx, struct image_error *err);

#endif
