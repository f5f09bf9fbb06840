/* Partition tables, file systems and archives, as tools/loader reads them: images of mke2fs, sfdisk and cpio, whole and damaged. */
// SOURCES: tools/loader/ext4.c tools/loader/cpio.c tools/loader/partition.c tools/loader/volume.c common/lib/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "tools/loader/fs.h"

/* Of <stdlib.h>, whose strtoull() is not the project's. */
int system(const char *command);
char *mkdtemp(char *template);
void *malloc(size_t size);
void free(void *p);

#define BIG 9000123     /* bytes: on ext2 with blocks of 1 KiB, more than two levels of blocks */

static char directory[] = "/tmp/pvisor-fs-XXXXXX";
static u8 *image;
static struct disk disk;
static struct volume volume;
static struct image_error err;

static void shell(const char *command)
{
    char line[2000];

    snprintf(line, sizeof(line), "set -e; export PATH=$PATH:/usr/sbin:/sbin; cd %s; { %s; } > log 2>&1 || { cat log; exit 1; }", directory,
             command);
    assert_int_equal(system(line), 0);
}

static void load(const char *name)
{
    char path[100];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    disk = (struct disk){ .read = disk_memory, .size = (u64)ftell(f), .name = "xvda" };
    rewind(f);
    free(image);
    disk.memory = image = malloc(disk.size);
    assert_int_equal(fread(image, 1, disk.size, f), disk.size);
    fclose(f);
    volume = (struct volume){ .disk = &disk, .size = disk.size, .name = "xvda" };
    err.text[0] = 0;
}

static int make_tree(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    shell("mkdir -p tree/boot/grub tree/many; echo words > tree/boot/grub/grub.cfg; seq 2000000 | head -c 9000123 > tree/big; "
          "ln -s boot/grub/grub.cfg tree/link; ln -s /link tree/boot/absolute; ln -s ../big tree/boot/up; ln -s loop tree/loop; "
          "ln -s $(printf './%.0s' $(seq 60))boot/grub/grub.cfg tree/long; for i in $(seq 3000); do echo $i > tree/many/name-$i; done; "
          "truncate -s 5M tree/sparse; echo end >> tree/sparse; :> tree/empty");
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    shell("cd /; rm -rf $OLDPWD");
    free(image);
    return 0;
}

static void contains(const char *path, const char *text)
{
    struct file f;
    char buf[64] = "";

    if (file_open(&volume, path, &f, &err))
        fail_msg("%s: %s", path, err.text);
    assert_int_equal(f.size, strlen(text));
    assert_int_equal(file_read(&f, 0, buf, f.size, &err), 0);
    assert_string_equal(buf, text);
}

static void refuses(const char *path, int error, const char *why)
{
    struct file f;

    assert_int_equal(file_open(&volume, path, &f, &err), error);
    if (!strstr(err.text, why))
        fail_msg("'%s' does not say '%s'", err.text, why);
}

static void big_file_is_right(void)
{
    static u8 got[BIG], want[BIG];
    struct file f;
    char path[100];
    FILE *in;

    snprintf(path, sizeof(path), "%s/tree/big", directory);
    in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fread(want, 1, BIG, in), BIG);
    fclose(in);
    assert_int_equal(file_open(&volume, "/big", &f, &err), 0);
    assert_int_equal(f.size, BIG);
    assert_int_equal(file_read(&f, 0, got, BIG, &err), 0);
    assert_memory_equal(got, want, BIG);
    assert_int_equal(file_read(&f, 1234567, got, 54321, &err), 0);
    assert_memory_equal(got, want + 1234567, 54321);
    assert_int_equal(file_read(&f, BIG - 10, got, 11, &err), -EINVAL);
}

static void sparse_file_is_right(void)
{
    char end[5] = "";
    u8 hole[4096];
    struct file f;

    assert_int_equal(file_open(&volume, "sparse", &f, &err), 0);
    assert_int_equal(file_read(&f, 5 << 20, end, 4, &err), 0);
    assert_string_equal(end, "end\n");
    memset(hole, 1, sizeof(hole));
    assert_int_equal(file_read(&f, 1 << 20, hole, sizeof(hole), &err), 0);
    for (unsigned i = 0; i < sizeof(hole); i++)
        assert_int_equal(hole[i], 0);
}

static void whole_file_system(const char *make)
{
    char command[300];

    snprintf(command, sizeof(command),
             "rm -f fs; truncate -s 40M fs; mke2fs -q %s -L label -U 01234567-89ab-cdef-0123-456789abcdef -d tree fs", make);
    shell(command);
    load("fs");
    if (volume_open(&volume, &err))
        fail_msg("%s: %s", make, err.text);
    assert_string_equal(volume.uuid, "01234567-89ab-cdef-0123-456789abcdef");
    assert_string_equal(volume.label, "label");
    contains("/boot/grub/grub.cfg", "words\n");
    contains("boot//grub/./../grub/grub.cfg", "words\n");
    contains("/link", "words\n");
    contains("/boot/absolute", "words\n");
    contains("/long", "words\n");
    contains("/many/name-2718", "2718\n");
    contains("/empty", "");
    big_file_is_right();
    sparse_file_is_right();
    refuses("/boot/nothing", -ENOENT, "has no nothing");
    refuses("/link/below", -ENOENT, "no directory");
    refuses("/loop", -EINVAL, "symbolic links");
}

static void ext4(void **state)
{
    (void)state;
    whole_file_system("-t ext4");
    whole_file_system("-t ext4 -b 1024 -O ^64bit");
    whole_file_system("-t ext4 -b 2048 -I 256 -O metadata_csum,64bit,flex_bg");
}

static void ext2_and_ext3(void **state)
{
    (void)state;
    whole_file_system("-t ext2 -b 1024");
    whole_file_system("-t ext3");
    whole_file_system("-t ext2 -r 0");
}

static void features_that_are_not_there(void **state)
{
    (void)state;
    shell("rm -f fs; truncate -s 20M fs; mke2fs -q -t ext4 -O meta_bg,^resize_inode fs");
    load("fs");
    assert_int_equal(volume_open(&volume, &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "meta_bg"));
    image[0x400 + 0x60 + 2] = 0x80;
    image[0x400 + 0x60] &= 0xef;
    assert_int_equal(volume_open(&volume, &err), -EOPNOTSUPP);
    assert_non_null(strstr(err.text, "unknown features"));
}

static int count_names(void *ctx, const char *name)
{
    ++*(unsigned *)ctx;
    return strcmp(name, "name-3000") ? 0 : 7;
}

static void listing(void **state)
{
    struct file dir;
    unsigned nr = 0;

    (void)state;
    shell("rm -f fs; truncate -s 40M fs; mke2fs -q -t ext4 -d tree fs");
    load("fs");
    assert_int_equal(volume_open(&volume, &err), 0);
    assert_int_equal(file_open(&volume, "/many", &dir, &err), 0);
    assert_int_equal(volume.type->list(&dir, count_names, &nr, &err), 7);
    assert_in_range(nr, 1, 3002);
    assert_int_equal(file_open(&volume, "/big", &dir, &err), 0);
    assert_int_equal(volume.type->list(&dir, count_names, &nr, &err), -ENOENT);
}

/* Each byte of what holds the file system together, changed, leads to an answer or an error, and never beyond the image. */
static void damaged_file_systems(void **state)
{
    (void)state;
    shell("rm -rf fs small; truncate -s 1M fs; mkdir small; echo w > small/file; ln -s file small/link; "
          "mke2fs -q -t ext4 -b 1024 -N 16 -d small fs");
    load("fs");
    for (u64 at = 0x400; at < 0x8000; at++) {
        static const u8 values[] = { 0, 0xff, 0x80 };
        u8 was = image[at];

        for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
            struct file f;
            u8 buf[64];

            image[at] = values[i];
            err.text[0] = 0;
            int rc = volume_open(&volume, &err);

            if (!rc)
                rc = file_open(&volume, "/link", &f, &err);
            if (!rc)
                rc = file_read(&f, 0, buf, min(f.size, (u64)sizeof(buf)), &err);
            assert_true(!rc || rc == -ENODEV || *err.text);
        }
        image[at] = was;
    }
}

/* ---- Partitions ---- */

static struct { unsigned number; u64 start, size; } found[80];
static unsigned nr_found;

static int note(void *ctx, unsigned number, u64 start, u64 size)
{
    (void)ctx;
    assert_in_range(nr_found, 0, ARRAY_SIZE(found) - 1);
    found[nr_found].number = number;
    found[nr_found].start = start;
    found[nr_found++].size = size;
    return 0;
}

static int partitions(const char *script)
{
    char command[500];

    snprintf(command, sizeof(command), "rm -f disk; truncate -s 40M disk; printf '%s' | sfdisk -q disk", script);
    shell(command);
    load("disk");
    nr_found = 0;
    return each_partition(&disk, note, NULL, &err);
}

static void gpt(void **state)
{
    (void)state;
    assert_int_equal(partitions("label: gpt\\nfirst-lba: 34\\nstart=2048,size=4096\\nstart=8192,size=100\\n"), 0);
    assert_int_equal(nr_found, 2);
    assert_int_equal(found[1].number, 2);
    assert_int_equal(found[1].start, 8192 * 512);
    assert_int_equal(found[1].size, 100 * 512);
    memset(image + 1024 + 128 + 40, 0xff, 8);       /* the second one's end */
    assert_int_equal(each_partition(&disk, note, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "partition 2 of xvda"));
    memset(image + 512 + 84, 0xff, 4);
    assert_int_equal(each_partition(&disk, note, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "GPT's entries"));
}

static void mbr(void **state)
{
    (void)state;
    assert_int_equal(partitions("label: dos\\nstart=2048,size=2048\\nstart=6144,type=5\\nstart=8192,size=2048\\n"
                                "start=12288,size=2048\\n"), 0);
    assert_int_equal(nr_found, 3);
    assert_int_equal(found[0].number, 1);
    assert_int_equal(found[1].number, 5);
    assert_int_equal(found[2].number, 6);
    assert_int_equal(found[2].start, 12288 * 512);
}

/* Logical partitions whose tables name each other end. */
static void mbr_in_circles(void **state)
{
    (void)state;
    assert_int_equal(partitions("label: dos\\nstart=6144,type=5\\nstart=8192,size=2048\\n"), 0);
    memcpy(image + 6144 * 512 + 446 + 16, (u8[16]){ [4] = 5, [12] = 1 }, 16);
    nr_found = 0;
    assert_int_equal(each_partition(&disk, note, NULL, &err), -E2BIG);
    assert_non_null(strstr(err.text, "logical partitions"));
}

static void no_table(void **state)
{
    (void)state;
    shell("rm -f disk; truncate -s 4M disk; mke2fs -q disk");
    load("disk");
    nr_found = 0;
    assert_int_equal(each_partition(&disk, note, NULL, &err), 0);
    assert_int_equal(nr_found, 1);
    assert_int_equal(found[0].number, 0);
    assert_int_equal(found[0].size, 4 << 20);
}

/* ---- Archives ---- */

static void archives(void **state)
{
    struct file f;

    (void)state;
    shell("mkdir -p a; echo words > a/kernel; printf 1234567 > a/initrd; (cd a; ls | cpio -o -H newc) > archive; "
          "(cd a; find . | cpio -o -H newc) > dots");
    for (unsigned i = 0; i < 2; i++) {
        load(i ? "dots" : "archive");
        assert_int_equal(volume_open(&volume, &err), 0);
        contains("kernel", "words\n");
        contains("/initrd", "1234567");
        refuses("cmdline", -ENOENT, "has no cmdline");
    }
    for (u64 size = 0; size < 300; size++) {    /* cut anywhere */
        volume.size = size;
        assert_int_not_equal(!volume_open(&volume, &err) && !file_open(&volume, "nothing", &f, &err), 1);
    }
    load("archive");
    assert_int_equal(volume_open(&volume, &err), 0);
    memset(image + 6 + 8 * 6, 'f', 8);          /* the first one's size */
    refuses("cmdline", -EINVAL, "truncated");
}

/* A member as GRUB writes it: what is behind the name is the padding, or nothing at all. */
static u8 *put_member(u8 *at, const char *name, const char *text)
{
    unsigned header = (unsigned)sprintf((char *)at, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, 0100777, 0, 0, 1, 0,
                                        (unsigned)strlen(text), 0, 0, 0, 0, (unsigned)strlen(name), 0);

    memcpy(at + header, name, strlen(name));
    at += align_up(header + strlen(name), 4);
    memcpy(at, text, strlen(text));
    return at + align_up(strlen(text), 4);
}

static void archives_of_grub(void **state)
{
    static u8 memory[2000];
    u8 *end = memory;

    (void)state;
    memset(memory, 0x55, sizeof(memory));
    end = put_member(end, "kernel", "words");           /* with its name, the header ends at a multiple of 4 */
    end = put_member(end, "initrd+", "1234567");
    end = put_member(end, "TRAILER!!!", "");
    disk = (struct disk){ .read = disk_memory, .size = (u64)(end - memory), .name = "ramdisk", .memory = memory };
    volume = (struct volume){ .disk = &disk, .size = disk.size, .name = "ramdisk" };
    assert_int_equal(volume_open(&volume, &err), 0);
    contains("kernel", "words");
    contains("initrd+", "1234567");
    refuses("initrd", -ENOENT, "has no initrd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ext4),
        cmocka_unit_test(ext2_and_ext3),
        cmocka_unit_test(features_that_are_not_there),
        cmocka_unit_test(listing),
        cmocka_unit_test(damaged_file_systems),
        cmocka_unit_test(gpt),
        cmocka_unit_test(mbr),
        cmocka_unit_test(mbr_in_circles),
        cmocka_unit_test(no_table),
        cmocka_unit_test(archives),
        cmocka_unit_test(archives_of_grub),
    };

    return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
