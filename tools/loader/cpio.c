/*
 * Archives as `cpio -o -H newc` writes them (Linux Documentation/driver-api/early-userspace/buffer-format.rst): a header of 110
 * characters, numbers in hexadecimal; the name; the contents; each padded to four bytes. Names are compared without "./" and "/" before
 * them.
 */
#include "fs.h"

#define HEADER 110
#define MOST   100000u      /* members */

struct member { u64 size, at, next; char name[256 + 1]; };

static u64 number(const char *header, unsigned field)
{
    char text[9] = { 0 };

    memcpy(text, header + 6 + 8 * field, 8);
    return strtoull(text, NULL, 16);
}

static const char *plain_name(const char *name)
{
    for (;;) {
        if (*name == '/')
            name++;
        else if (name[0] == '.' && name[1] == '/')
            name += 2;
        else
            return name;
    }
}

/* 1: a member, 0: the archive's end. */
static int read_member(struct volume *v, u64 at, struct member *m, struct image_error *err)
{
    char header[HEADER];
    u64 name_size;
    int rc = volume_read(v, at, header, HEADER, err);

    if (rc)
        return rc;
    if (memcmp(header, "07070", 5) || (header[5] != '1' && header[5] != '2'))
        return image_fail(err, -EINVAL, "the archive (cpio) has no member's header at byte %llu, expected 070701", (ull)at);
    m->size = number(header, 6);
    name_size = number(header, 11);
    if (!name_size || name_size >= sizeof(m->name))
        return image_fail(err, -EINVAL, "a name in the archive (cpio), at byte %llu, has %llu bytes, expected 1 to %u", (ull)at,
                          (ull)name_size, (unsigned)sizeof(m->name) - 1);
    rc = volume_read(v, at + HEADER, m->name, name_size, err);
    if (rc)
        return rc;
    m->name[name_size] = 0;     /* GRUB (2.06) writes none behind the name */
    m->at = align_up(at + HEADER + name_size, 4);
    m->next = align_up(m->at + m->size, 4);
    if (!range_within(m->at, m->size, v->size))
        return image_fail(err, -EINVAL, "the archive (cpio) is truncated: %.64s ends at byte %llu of %llu", m->name, (ull)(m->at + m->size),
                          (ull)v->size);
    return strcmp(m->name, "TRAILER!!!") != 0;
}

static int cpio_open(struct volume *v, const char *path, struct file *f, struct image_error *err)
{
    struct member m;
    u64 at = 0;
    int rc;

    for (unsigned i = 0; i < MOST; i++, at = m.next) {
        rc = read_member(v, at, &m, err);
        if (rc < 0)
            return rc;
        if (!rc)
            break;
        if (!strcmp(plain_name(m.name), plain_name(path))) {
            *f = (struct file){ .volume = v, .size = m.size, .at = m.at };
            return 0;
        }
    }
    return image_fail(err, -ENOENT, "%s has no %.96s", v->name, path);
}

static int cpio_read(struct file *f, u64 at, void *buf, u64 len, struct image_error *err)
{
    return volume_read(f->volume, f->at + at, buf, len, err);
}

static int cpio_list(struct file *dir, each_name_fn *each, void *ctx, struct image_error *err)
{
    (void)dir;
    (void)each;
    (void)ctx;
    return image_fail(err, -ENOENT, "directories of archives are not listed");
}

const struct fs_type cpio_type = { "cpio", cpio_open, cpio_read, cpio_list };

int cpio_probe(struct volume *v, struct image_error *err)
{
    char magic[6];
    int rc = v->size < HEADER ? -ENODEV : volume_read(v, 0, magic, sizeof(magic), err);

    if (rc || (memcmp(magic, "070701", 6) && memcmp(magic, "070702", 6)))
        return rc ? rc : -ENODEV;
    v->type = &cpio_type;
    return 0;
}
