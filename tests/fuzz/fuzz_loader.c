/*
 * What tools/loader reads on a guest's disk, where anything may stand: configurations, partition tables, ext4, archives. Each reader
 * ends, within bounds, and says what is wrong when it refuses. The first byte says which; disks are a good one with changes.
 */
// MAX: 2200
// SOURCES: tools/loader/grub.c tools/loader/ext4.c tools/loader/cpio.c tools/loader/partition.c tools/loader/volume.c common/lib/text.c
#include <string.h>

#include "tools/loader/fs.h"
#include "tools/loader/grub.h"
#include "fuzz.h"

void *malloc(size_t size);
void free(void *p);

#define BLOCK 1024u
#define SIZE  (32 * BLOCK)
#define READS 20000u

static u8 image[SIZE];
static unsigned reads;

/* As disk_memory(), and counts: what takes more reads than this does not end. */
static int read_image(struct disk *d, u64 at, void *buf, u64 len, struct image_error *err)
{
    EXPECT(++reads < READS);
    return disk_memory(d, at, buf, len, err);
}

static struct disk disk = { .read = read_image, .size = SIZE, .name = "xvda", .memory = image };

/* ---- A small ext4: one group; a directory, a link to a file, a file with extents and one without ---- */

static void put_inode(unsigned number, u32 mode, u32 size, u32 flags)
{
    u8 *i = image + 5 * BLOCK + (number - 1) * 128;

    put_le(i, 2, mode);
    put_le(i + 4, 4, size);
    put_le(i + 0x20, 4, flags);
}

static void put_extent(unsigned number, u32 block, u32 length)
{
    u8 *e = image + 5 * BLOCK + (number - 1) * 128 + 0x28;

    put_le(e, 2, 0xf30a);
    put_le(e + 2, 2, 1);
    put_le(e + 4, 2, 4);
    put_le(e + 16, 2, length);
    put_le(e + 20, 4, block);
}

static u8 *put_name(u8 *at, u32 inode, const char *name, u32 length)
{
    put_le(at, 4, inode);
    put_le(at + 4, 2, length);
    at[6] = (u8)strlen(name);
    memcpy(at + 8, name, strlen(name));
    return at + length;
}

static void make_ext4(void)
{
    u8 *s = image + 1024, *d = image + 8 * BLOCK;

    put_le(s, 4, 16);
    put_le(s + 4, 4, SIZE / BLOCK);
    put_le(s + 0x14, 4, 1);
    put_le(s + 0x20, 4, 8192);
    put_le(s + 0x28, 4, 16);
    put_le(s + 0x38, 2, 0xef53);
    put_le(s + 0x4c, 4, 1);
    put_le(s + 0x58, 2, 128);
    put_le(s + 0x60, 4, 0x42);
    put_le(image + 2 * BLOCK + 8, 4, 5);
    put_inode(2, 0x41ed, BLOCK, 0x80000);
    put_extent(2, 8, 1);
    put_inode(12, 0x81a4, 3 * BLOCK, 0x80000);
    put_extent(12, 9, 3);
    put_inode(13, 0xa1ff, 4, 0);
    memcpy(image + 5 * BLOCK + 12 * 128 + 0x28, "file", 4);
    put_inode(14, 0x81a4, 14 * BLOCK, 0);
    for (unsigned i = 0; i < 13; i++)
        put_le(image + 5 * BLOCK + 13 * 128 + 0x28 + 4 * i, 4, 9 + i);
    d = put_name(d, 2, ".", 12);
    d = put_name(d, 12, "file", 12);
    d = put_name(d, 13, "link", 12);
    put_name(d, 14, "mapped", BLOCK - 36);
}

static int any_name(void *ctx, const char *name)
{
    (void)ctx;
    EXPECT(strlen(name) < 256);
    return 0;
}

static void look_at(struct volume *v, const char *path)
{
    struct image_error err = { "" };
    struct file f;
    u8 buf[512];
    int rc = file_open(v, path, &f, &err);

    EXPECT(!rc || *err.text);
    if (rc)
        return;
    for (unsigned i = 0; i < 8 && !rc; i++) {
        u64 at = f.size / 8 * i;

        rc = file_read(&f, at, buf, min(f.size - at, (u64)sizeof(buf)), &err);
        EXPECT(!rc || *err.text);
    }
    (void)v->type->list(&f, any_name, NULL, &err);
}

static int look_at_partition(void *ctx, unsigned number, u64 start, u64 size)
{
    (void)ctx;
    (void)number;
    EXPECT(size && start < SIZE && size <= SIZE - start);
    return 0;
}

static void look_at_volume(u64 size)
{
    struct volume v = { .disk = &disk, .size = size, .name = "xvda1" };
    struct image_error err = { "" };
    int rc = volume_open(&v, &err);

    EXPECT(!rc || rc == -ENODEV || *err.text);
    if (rc)
        return;
    look_at(&v, "/");
    look_at(&v, "/link");
    look_at(&v, "mapped");
    look_at(&v, "kernel");
}

/* Changes: a place and what stands there now. */
static void change(struct fuzz_input *in)
{
    while (in->at < in->end) {
        u64 at = take(in, 2) % (SIZE - 1);

        put_le(image + at, 2, take(in, 2));
    }
}

static void a_file_system(struct fuzz_input *in)
{
    memset(image, 0, SIZE);
    make_ext4();
    change(in);
    look_at_volume(SIZE);
}

static void an_archive(struct fuzz_input *in)
{
    size_t n = min((size_t)(in->end - in->at), (size_t)SIZE);

    memset(image, 0, SIZE);
    memcpy(image, in->at, n);
    look_at_volume(n);
}

static void a_partition_table(struct fuzz_input *in)
{
    struct image_error err = { "" };
    bool is_gpt = take(in, 1) & 1;
    int rc;

    memset(image, 0, SIZE);
    put_le(image + 510, 2, 0xaa55);
    image[446 + 4] = 5;
    put_le(image + 446 + 8, 4, 4);
    put_le(image + 446 + 12, 4, 40);
    if (is_gpt) {
        memcpy(image + 512, "EFI PART", 8);
        put_le(image + 512 + 72, 4, 2);
        put_le(image + 512 + 80, 4, 4);
        put_le(image + 512 + 84, 4, 128);
    }
    change(in);
    rc = each_partition(&disk, look_at_partition, NULL, &err);
    EXPECT(!rc || *err.text);
}

/* ---- Configurations ---- */

static bool is_file(void *ctx, const char *root, const char *path) { (void)ctx, (void)root; return strlen(path) & 1; }

static int read_text(void *ctx, const char *root, const char *path, char *text, unsigned room)
{
    (void)ctx, (void)root, (void)path;
    return (int)strlcpy(text, "saved_entry=1>0\nnext_entry=\n#####", room);
}

static bool search(void *ctx, char kind, const char *value, char *device, unsigned room)
{
    (void)ctx, (void)kind;
    strlcpy(device, "xvda2", room);
    return strlen(value) & 1;
}

static void a_configuration(struct fuzz_input *in)
{
    static const struct grub_host host = { is_file, read_text, search, NULL };
    static struct grub g;
    size_t n = (size_t)(in->end - in->at);
    char *text = malloc(n + 1);

    memcpy(text, in->at, n);
    text[n] = 0;
    memset(&g, 0, sizeof(g));
    g.host = &host;
    if (grub_read(&g, text))
        EXPECT(*g.err.text);
    (void)grub_timeout(&g);
    (void)grub_add_bls(&g, "some-6.1.conf", text);
    (void)grub_add_bls(&g, "some-6.12.conf", text);
    grub_sort_bls(&g);
    EXPECT(grub_default(&g) < g.nr_entries);
    for (unsigned i = 0; i < g.nr_entries && !*g.err.text; i++)
        if (grub_choose(&g, i, text))
            EXPECT(*g.err.text);
    free(text);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static void (*const kinds[])(struct fuzz_input *) = { a_configuration, a_file_system, an_archive, a_partition_table };
    struct fuzz_input in = { data, data + size };

    reads = 0;
    kinds[take(&in, 1) % ARRAY_SIZE(kinds)](&in);
    return 0;
}
