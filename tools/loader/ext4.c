/*
 * ext2, ext3 and ext4, to be read (Linux Documentation/filesystems/ext4). A journal that was not replayed is passed over: the kernels
 * and configurations that one starts were written long before. No library: libext2fs wants a C library below it, and Debian has it for
 * one word size; this is what remains of it when nothing is written, checked or repaired.
 */
#include "fs.h"

#define SUPERBLOCK_AT   1024u
#define ROOT_INODE      2u
#define BLOCK_MOST      4096u       /* Linux mounts no larger ones on x86 */
#define PATH_MOST       1024u
#define LINKS_MOST      16u
#define DIRECTORY_MOST  (64u << 20) /* bytes */
#define DEPTH_MOST      5u          /* of an extent tree */
#define FLAG_EXTENTS    0x80000u
#define FLAG_INLINE     0x10000000u
#define FLAG_ENCRYPTED  0x800u

/* Features that change what is read, by bit, and whether that is done here. */
static const struct { u32 bit; bool done; const char *name; } features[] = {
    { 0x1, false, "compression" }, { 0x2, true, "filetype" }, { 0x4, true, "needs_recovery" }, { 0x8, false, "journal_dev" },
    { 0x10, false, "meta_bg" }, { 0x40, true, "extent" }, { 0x80, true, "64bit" }, { 0x100, true, "mmp" }, { 0x200, true, "flex_bg" },
    { 0x400, true, "ea_inode" }, { 0x1000, false, "dirdata" }, { 0x2000, true, "metadata_csum_seed" }, { 0x4000, true, "large_dir" },
    { 0x8000, true, "inline_data" }, { 0x10000, true, "encrypt" }, { 0x20000, true, "casefold" },
};

static int check_features(const struct volume *v, u32 incompat, struct image_error *err)
{
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        if (incompat & features[i].bit && !features[i].done)
            return image_fail(err, -EOPNOTSUPP, "%s: ext4 with the feature %s cannot be read", v->name, features[i].name);
        incompat &= ~features[i].bit;
    }
    return incompat ? image_fail(err, -EOPNOTSUPP, "%s: ext4 with unknown features (%#x) cannot be read", v->name, incompat) : 0;
}

static void read_names(struct volume *v, const u8 *s)
{
    const u8 *u = s + 0x68;

    snprintf(v->uuid, sizeof(v->uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
             u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    memcpy(v->label, s + 0x78, 16);
    v->label[16] = 0;
}

/* Numbers are such that no arithmetic with them goes beyond 64 bits. */
static int read_geometry(struct volume *v, const u8 *s, struct image_error *err)
{
    u64 log = get_le(s + 0x18, 4), per_group = get_le(s + 0x20, 4);
    bool wide = get_le(s + 0x60, 4) & 0x80, old = !get_le(s + 0x4c, 4);

    v->ext4.block_size = log > 2 ? 0 : 1024u << log;
    v->ext4.inode_size = old ? 128 : get_le(s + 0x58, 2);
    v->ext4.desc_size = wide ? get_le(s + 0xfe, 2) : 32;
    v->ext4.nr_inodes = get_le(s, 4);
    v->ext4.inodes_per_group = get_le(s + 0x28, 4);
    v->ext4.nr_blocks = get_le(s + 4, 4) | (wide ? get_le(s + 0x150, 4) << 32 : 0);
    v->ext4.first_table = get_le(s + 0x14, 4) + 1;
    if (!v->ext4.block_size)
        return image_fail(err, -EOPNOTSUPP, "%s: ext4 with blocks of 2^%llu KiB cannot be read", v->name, (ull)log);
    if (v->ext4.inode_size < 128 || v->ext4.inode_size > v->ext4.block_size || v->ext4.desc_size < 32 || v->ext4.desc_size > 1024 ||
        !v->ext4.inodes_per_group || !per_group || v->ext4.nr_blocks > v->size / v->ext4.block_size)
        return image_fail(err, -EINVAL,
                          "%s: its ext4 has %llu blocks of %llu bytes, inodes of %llu, %llu a group: the partition has %llu bytes", v->name,
                          (ull)v->ext4.nr_blocks, (ull)v->ext4.block_size, (ull)v->ext4.inode_size, (ull)v->ext4.inodes_per_group,
                          (ull)v->size);
    return 0;
}

/* ---- Blocks ---- */

static int read_in_block(struct volume *v, u64 block, u64 offset, void *buf, u64 len, struct image_error *err)
{
    if (!block || block >= v->ext4.nr_blocks || !range_within(offset, len, v->ext4.block_size))
        return image_fail(err, -EINVAL, "%s: its ext4 names block %llu of %llu", v->name, (ull)block, (ull)v->ext4.nr_blocks);
    return volume_read(v, block * v->ext4.block_size + offset, buf, len, err);
}

static int read_inode(struct volume *v, u64 number, struct file *f, struct image_error *err)
{
    u64 group = (number - 1) / v->ext4.inodes_per_group, index = (number - 1) % v->ext4.inodes_per_group, at, table;
    u8 desc[64] = { 0 };
    int rc;

    *f = (struct file){ .volume = v, .inode_number = number };
    if (!number || number > v->ext4.nr_inodes)
        return image_fail(err, -EINVAL, "%s: its ext4 names inode %llu of %llu", v->name, (ull)number, (ull)v->ext4.nr_inodes);
    at = group * v->ext4.desc_size;
    rc = read_in_block(v, v->ext4.first_table + at / v->ext4.block_size, at % v->ext4.block_size, desc,
                       min(v->ext4.desc_size, (u64)sizeof(desc)), err);
    if (rc)
        return rc;
    table = get_le(desc + 8, 4) | (v->ext4.desc_size >= 64 ? get_le(desc + 0x28, 4) << 32 : 0);
    at = index * v->ext4.inode_size;
    rc = read_in_block(v, table + at / v->ext4.block_size, at % v->ext4.block_size, f->inode, sizeof(f->inode), err);
    f->size = get_le(f->inode + 4, 4) | get_le(f->inode + 0x6c, 4) << 32;
    f->directory = get_le(f->inode, 2) >> 12 == 4;
    return rc;
}

static u32 inode_flags(const struct file *f) { return (u32)get_le(f->inode + 0x20, 4); }
static bool is_link(const struct file *f) { return get_le(f->inode, 2) >> 12 == 10; }

/* Blocks that follow each other in the file and on the disk; at 0, those that are holes. */
struct run { u64 at, length; };

/* The last of a node's entries that begins at or before the block; NULL if there is none. */
static const u8 *find_extent(const u8 *node, unsigned nr, u64 block)
{
    const u8 *found = NULL;

    for (unsigned i = 0; i < nr; i++)
        if (get_le(node + 12 + 12 * i, 4) <= block)
            found = node + 12 + 12 * i;
    return found;
}

/* How far a hole at the block goes: to the next entry of the node, at most. */
static u64 to_next_extent(const u8 *node, unsigned nr, u64 block)
{
    u64 next = block + 0x100000;

    for (unsigned i = 0; i < nr; i++)
        if (get_le(node + 12 + 12 * i, 4) > block)
            next = min(next, get_le(node + 12 + 12 * i, 4));
    return next - block;
}

static int bad_extents(struct file *f, struct image_error *err)
{
    return image_fail(err, -EINVAL, "%s: inode %llu of its ext4 has a malformed tree of extents", f->volume->name, (ull)f->inode_number);
}

static int run_in_extents(struct file *f, u64 block, struct run *r, struct image_error *err)
{
    u8 node[BLOCK_MOST];
    u64 room = 60, length;

    memcpy(node, f->inode + 0x28, 60);
    for (unsigned level = 0; level <= DEPTH_MOST; level++) {
        unsigned nr = (unsigned)get_le(node + 2, 2), depth = (unsigned)get_le(node + 6, 2);
        const u8 *e;
        int rc;

        if (get_le(node, 2) != 0xf30a || 12 + 12 * (u64)nr > room || depth > DEPTH_MOST - level)
            return bad_extents(f, err);
        e = find_extent(node, nr, block);
        *r = (struct run){ 0, to_next_extent(node, nr, block) };
        if (!e)
            return 0;
        if (!depth) {
            length = get_le(e + 4, 2);
            bool unwritten = length > 32768;
            u64 skip = block - get_le(e, 4);

            length -= unwritten ? 32768 : 0;
            if (skip < length)
                *r = (struct run){ unwritten ? 0 : (get_le(e + 8, 4) | get_le(e + 6, 2) << 32) + skip, length - skip };
            return 0;
        }
        rc = read_in_block(f->volume, get_le(e + 4, 4) | get_le(e + 8, 2) << 32, 0, node, f->volume->ext4.block_size, err);
        if (rc)
            return rc;
        room = f->volume->ext4.block_size;
    }
    return bad_extents(f, err);
}

/* ext2's way: 12 blocks named in the inode, then trees of one, two and three levels of blocks that are full of numbers. */
static int run_in_map(struct file *f, u64 block, struct run *r, struct image_error *err)
{
    u64 each = f->volume->ext4.block_size / 4, span = 1, name;
    unsigned levels = 0;
    u8 entry[4];

    if (block < 12) {
        *r = (struct run){ get_le(f->inode + 0x28 + 4 * block, 4), 1 };
        return 0;
    }
    for (block -= 12, levels = 1, span = each; levels <= 3 && block >= span; levels++, span *= each)
        block -= span;
    if (levels > 3)
        return image_fail(err, -EINVAL, "%s: inode %llu of its ext4 is too long", f->volume->name, (ull)f->inode_number);
    name = get_le(f->inode + 0x28 + 4 * (11 + levels), 4);
    for (; levels && name; levels--, block %= span) {
        int rc;

        span /= each;
        rc = read_in_block(f->volume, name, block / span * 4, entry, sizeof(entry), err);
        if (rc)
            return rc;
        name = get_le(entry, 4);
    }
    *r = (struct run){ name, 1 };
    return 0;
}

static int find_run(struct file *f, u64 block, struct run *r, struct image_error *err)
{
    return inode_flags(f) & FLAG_EXTENTS ? run_in_extents(f, block, r, err) : run_in_map(f, block, r, err);
}

static int ext4_read(struct file *f, u64 at, void *buf, u64 len, struct image_error *err)
{
    struct volume *v = f->volume;
    u64 bs = v->ext4.block_size;
    u8 *to = buf;

    if (inode_flags(f) & (FLAG_INLINE | FLAG_ENCRYPTED))
        return image_fail(err, -EOPNOTSUPP, "%s: inode %llu of its ext4 is encrypted or inline, which is not supported", v->name,
                          (ull)f->inode_number);
    for (u64 n; len; at += n, to += n, len -= n) {
        struct run r;
        int rc = find_run(f, at / bs, &r, err);

        if (rc)
            return rc;
        n = min(len, r.length * bs - at % bs);
        if (r.at && (r.at >= v->ext4.nr_blocks || r.length > v->ext4.nr_blocks - r.at))
            return image_fail(err, -EINVAL, "%s: inode %llu of its ext4 has blocks from %llu on, of %llu", v->name, (ull)f->inode_number,
                              (ull)r.at, (ull)v->ext4.nr_blocks);
        if (r.at)
            rc = volume_read(v, r.at * bs + at % bs, to, n, err);
        else
            memset(to, 0, (size_t)n);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- Names ---- */

/* each() has what stands in directories: a name that is not terminated, its length and inode. */
typedef int each_entry_fn(void *ctx, const char *name, unsigned len, u64 inode);

static int each_in_block(const u8 *block, u64 size, each_entry_fn *each, void *ctx)
{
    for (u64 at = 0, len; at + 8 <= size; at += len) {
        unsigned name_len = block[at + 6];
        int rc;

        len = get_le(block + at + 4, 2);
        if (len < 8 || len % 4 || len > size - at || name_len > len - 8)
            return -EINVAL;
        rc = get_le(block + at, 4) ? each(ctx, (const char *)block + at + 8, name_len, get_le(block + at, 4)) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

/* Directories with an index can be read as if they had none. */
static int each_in_directory(struct file *dir, each_entry_fn *each, void *ctx, struct image_error *err)
{
    u8 block[BLOCK_MOST];
    u64 bs = dir->volume->ext4.block_size;

    for (u64 at = 0; at < min(dir->size, (u64)DIRECTORY_MOST); at += bs) {
        int rc = ext4_read(dir, at, block, bs, err);

        if (!rc && (rc = each_in_block(block, bs, each, ctx)) == -EINVAL)
            (void)image_fail(err, rc, "%s: inode %llu of its ext4 is a malformed directory", dir->volume->name, (ull)dir->inode_number);
        if (rc)
            return rc;
    }
    return 0;
}

struct sought { const char *name; unsigned len; u64 inode; };

static int is_sought(void *ctx, const char *name, unsigned len, u64 inode)
{
    struct sought *s = ctx;

    if (len != s->len || memcmp(name, s->name, len))
        return 0;
    s->inode = inode;
    return 1;
}

static int look_up(struct file *dir, const char *name, unsigned len, u64 *inode, struct image_error *err)
{
    struct sought s = { name, len, 0 };
    int rc;

    if (!dir->directory)
        return image_fail(err, -ENOENT, "%s: %.*s is looked for in what is no directory", dir->volume->name, (int)min(len, 96u), name);
    rc = each_in_directory(dir, is_sought, &s, err);
    *inode = s.inode;
    return rc < 0 ? rc : rc ? 0 : image_fail(err, -ENOENT, "%s has no %.*s", dir->volume->name, (int)min(len, 96u), name);
}

/* A link's target stands before the rest of the path. */
static int follow(struct file *link, char *rest, struct image_error *err)
{
    char path[PATH_MOST];
    size_t len = (size_t)link->size;
    int rc = 0;

    if (link->size >= PATH_MOST / 2)
        return image_fail(err, -EINVAL, "%s: a symbolic link has %llu characters", link->volume->name, (ull)link->size);
    if (len < 60)
        memcpy(path, link->inode + 0x28, len);
    else
        rc = ext4_read(link, 0, path, len, err);
    path[len] = 0;
    if (!rc && (strlcat(path, "/", sizeof(path)) >= sizeof(path) || strlcat(path, rest, sizeof(path)) >= sizeof(path)))
        rc = image_fail(err, -EINVAL, "%s: a path with symbolic links has more than %u characters", link->volume->name, PATH_MOST);
    if (!rc)
        strlcpy(rest, path, PATH_MOST);
    return rc;
}

static int ext4_open(struct volume *v, const char *path, struct file *f, struct image_error *err)
{
    char rest[PATH_MOST], *p = rest;
    unsigned links = 0;
    int rc = read_inode(v, ROOT_INODE, f, err);

    if (strlcpy(rest, path, sizeof(rest)) >= sizeof(rest))
        return image_fail(err, -EINVAL, "%s: a path has more than %u characters", v->name, PATH_MOST);
    while (!rc) {
        struct file dir = *f;
        unsigned len = 0;
        u64 inode;

        while (*p == '/')
            p++;
        if (!*p)
            return 0;
        while (p[len] && p[len] != '/')
            len++;
        rc = look_up(&dir, p, len, &inode, err);
        if (!rc)
            rc = read_inode(v, inode, f, err);
        p += len;
        if (rc || !is_link(f))
            continue;
        if (++links > LINKS_MOST)
            return image_fail(err, -EINVAL, "%s: %.96s has more than %u symbolic links", v->name, path, LINKS_MOST);
        memmove(rest, p, strlen(p) + 1);
        rc = follow(f, rest, err);
        p = rest;
        if (!rc && *p == '/')
            rc = read_inode(v, ROOT_INODE, f, err);
        else
            *f = dir;
    }
    return rc;
}

struct listing { each_name_fn *each; void *ctx; };

static int tell_name(void *ctx, const char *name, unsigned len, u64 inode)
{
    struct listing *l = ctx;
    char text[256];

    (void)inode;
    memcpy(text, name, len);
    text[len] = 0;
    return l->each(l->ctx, text);
}

static int ext4_list(struct file *dir, each_name_fn *each, void *ctx, struct image_error *err)
{
    struct listing l = { each, ctx };

    return dir->directory ? each_in_directory(dir, tell_name, &l, err) : image_fail(err, -ENOENT, "%s: no directory", dir->volume->name);
}

const struct fs_type ext4_type = { "ext4", ext4_open, ext4_read, ext4_list };

int ext4_probe(struct volume *v, struct image_error *err)
{
    u8 s[1024];
    int rc = v->size < SUPERBLOCK_AT + sizeof(s) ? -ENODEV : volume_read(v, SUPERBLOCK_AT, s, sizeof(s), err);

    if (rc || get_le(s + 0x38, 2) != 0xef53)
        return rc ? rc : -ENODEV;
    rc = check_features(v, (u32)get_le(s + 0x60, 4), err);
    if (!rc)
        rc = read_geometry(v, s, err);
    if (rc)
        return rc;
    read_names(v, s);
    v->type = &ext4_type;
    return 0;
}
