/* tools/template/devices.c: a disk that dom0 itself uses is none for a guest to write to, and one that it writes to none to read. */
// SOURCES: tools/template/devices.c tests/unit/fake/tools.c
// LIBS: -Wl,--wrap=stat -Wl,--wrap=open -Wl,--wrap=fopen
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../../tools/template/template.h"
#include "fake/tools.h"

/* --- dom0: its block devices /dev/x1 to /dev/x9, and its file systems --- */

static char mounts[] =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n"
    "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
    "24 22 0:30 /@ /data rw,relatime shared:2 master:3 - btrfs /dev/x2 rw,ssd\n"
    "25 22 254:3 / /old ro,relatime - ext4 /dev/x3 ro\n"
    "26 22 254:4 /part /seen ro - ext4 /dev/x4 rw\n"
    "27 22 0:31 / /far rw - nfs4 far:/dev/x9 rw\n";

static bool is_in_use;          /* exclusively */

int __wrap_stat(const char *path, struct stat *s)
{
    unsigned number;

    *s = (struct stat){ .st_mode = S_IFBLK };
    if (sscanf(path, "/dev/x%u", &number) != 1) {
        errno = ENOENT;
        return -1;
    }
    s->st_rdev = makedev(254, number);
    return 0;
}

int __wrap_open(const char *path, int flags)
{
    EXPECT(!strncmp(path, "/dev/x", 6) && (flags & O_ACCMODE) == O_RDONLY);
    errno = EBUSY;
    return flags & O_EXCL && is_in_use ? -1 : dup(STDERR_FILENO);
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
    EXPECT(!strcmp(path, "/proc/self/mountinfo"));
    return fmemopen(mounts, sizeof(mounts) - 1, mode);
}

void describe(struct xen_domctl *op, uint32_t cmd) { (void)op, (void)cmd; }

/* --- What becomes of a disk --- */

static const char *text;

static void parse(int argument)
{
    struct disk d;
    char device[24], *copy = strdup(text);

    (void)argument;
    disk_parse(&d, copy);
    snprintf(device, sizeof(device), "fe:%c", text[strlen("phy:/dev/x")]);
    EXPECT(!strcmp(d.device, device) && d.number == 51712 && d.is_writable == !strstr(text, ",r"));
    _exit(DONE);
}

static int parsed(const char *disk, bool in_use)
{
    text = disk;
    is_in_use = in_use;
    return run_apart(parse, 0);
}

static void what_dom0_uses_is_not_written_to(void **state)
{
    (void)state;
    assert_int_equal(parsed("phy:/dev/x9,xvda,w", false), DONE);
    assert_int_equal(parsed("phy:/dev/x9,xvda", false), DONE);
    assert_int_equal(parsed("phy:/dev/x9,xvda,w", true), REFUSED);
    assert_int_equal(parsed("phy:/dev/x9,xvda", true), REFUSED);
}

/* By its number, by its name, and by another mount of it that shows it read-only; but one that is only read is for all to read. */
static void what_dom0_writes_to_is_not_read(void **state)
{
    (void)state;
    assert_int_equal(parsed("phy:/dev/x1,xvda,r", true), REFUSED);
    assert_int_equal(parsed("phy:/dev/x2,xvda,r", true), REFUSED);
    assert_int_equal(parsed("phy:/dev/x4,xvda,r", true), REFUSED);
    assert_int_equal(parsed("phy:/dev/x3,xvda,r", true), DONE);
    assert_int_equal(parsed("phy:/dev/x9,xvda,r", true), DONE);
    assert_int_equal(parsed("phy:/dev/x9,xvda,r", false), DONE);
}

static int make(void **state)
{
    (void)state;
    make_memory();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_dom0_uses_is_not_written_to),
        cmocka_unit_test(what_dom0_writes_to_is_not_read),
    };

    return cmocka_run_group_tests(tests, make, NULL);
}
