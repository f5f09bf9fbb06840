#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if_arp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "template.h"

#include "../save-helper/talk.h"

void text_check(const char *text, const char *what)
{
    for (const char *p = text; *p; p++)
        if (!isprint((unsigned char)*p) || strchr("\"\\", *p))
            fail(EINVAL, "'%s' is no name for %s", text, what);
}

/* --- Disks --- */

#define XVD_MAJOR  202u
#define OLD_LETTERS 16u         /* so many disks of 16 partitions have numbers of the old kind */
#define NEW_NUMBER (1u << 28)

/* xvda is 0xca00, xvda1 0xca01, xvdq 0x10001000: docs/misc/vbd-interface.txt of Xen. */
static uint32_t number_of(const char *vdev)
{
    unsigned letter, part = 0;
    char *end = (char *)vdev + 4;

    if (strncmp(vdev, "xvd", 3) || !islower((unsigned char)vdev[3]))
        fail(EINVAL, "a disk is called xvda to xvdz, or xvda1 and so on, and not %s", vdev);
    letter = (unsigned)(vdev[3] - 'a');
    if (*end)
        part = (unsigned)strtoul(vdev + 4, &end, 10);
    if (*end || part > 255)
        fail(EINVAL, "%s: expected a number of a partition after the disk's letter", vdev);
    return letter < OLD_LETTERS && part < 16 ? XVD_MAJOR << 8 | letter << 4 | part : NEW_NUMBER | letter << 8 | part;
}

#define MOUNTS "/proc/self/mountinfo"

static bool is_block_device(const char *path, dev_t device)
{
    struct stat s;

    return !strncmp(path, "/dev/", 5) && !stat(path, &s) && S_ISBLK(s.st_mode) && s.st_rdev == device;
}

/*
 * A line of MOUNTS: is that file system on the device, and written to? Its number is the device's, but for btrfs, and its source may be
 * called /dev/root; of its two sets of options the last is the file system's, in which this comes first.
 */
static bool is_written(const char *line, dev_t device)
{
    const char *end = strstr(line, " - ");
    char source[PATH_MAX], option[3];
    unsigned number[2];

    if (sscanf(line, "%*u %*u %u:%u", number, number + 1) != 2 || !end || sscanf(end, " - %*s %4095s %2s", source, option) != 2)
        return false;
    return !strcmp(option, "rw") && (makedev(number[0], number[1]) == device || is_block_device(source, device));
}

static bool is_mounted_for_writing(dev_t device)
{
    FILE *f = fopen(MOUNTS, "re");
    char *line = NULL;
    bool found = false;
    size_t size;

    if (!f)
        fail(errno, MOUNTS);
    while (!found && getline(&line, &size, f) > 0)
        found = is_written(line, device);
    free(line);
    fclose(f);
    return found;
}

/*
 * The kernel refuses O_EXCL of a device that it has mounted, swaps to, or has made part of another one. Backends of other guests do not
 * take theirs so: what is theirs stands in xenstore. What nobody writes to may be mounted, here and there.
 */
static void check_unused(const struct disk *d, dev_t device)
{
    int fd;

    if (!d->is_writable && is_mounted_for_writing(device))
        fail(EBUSY, "%s: dom0 has it mounted and may write to it; what a guest reads must stay: mount it read-only, or give a snapshot",
             d->path);
    if (!d->is_writable)
        return;
    fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd < 0 && errno == EBUSY)
        fail(EBUSY, "%s: dom0 has it mounted or otherwise in use (lsblk says for what); what a guest writes to must be free", d->path);
    if (fd < 0)
        fail(errno, "%s", d->path);
    close(fd);
}

/* [phy:]PATH,VDEV[,r|w] */
void disk_parse(struct disk *d, char *text)
{
    struct stat s;
    char *vdev = strchr(text, ','), *mode = vdev ? strchr(vdev + 1, ',') : NULL;

    if (!vdev || (mode && strcmp(mode, ",w") && strcmp(mode, ",r")))
        fail(EINVAL, "a disk is phy:/dev/NAME,xvda,w or ...,r, and not %s", text);
    d->path = strncmp(text, "phy:", 4) ? text : text + 4;
    d->vdev = vdev + 1;
    d->is_writable = !mode || mode[1] == 'w';
    *vdev = 0;
    if (mode)
        *mode = 0;
    d->number = number_of(d->vdev);
    text_check(d->path, "a block device");
    if (stat(d->path, &s))
        fail(errno, "%s", d->path);
    if (!S_ISBLK(s.st_mode))
        fail(ENOTBLK, "%s is no block device; losetup makes one of a file", d->path);
    check_unused(d, s.st_rdev);
    snprintf(d->device, sizeof(d->device), "%x:%x", major(s.st_rdev), minor(s.st_rdev));
}

/* --- Cards --- */

#define MAC_FORM "%02x:%02x:%02x:%02x:%02x:%02x"

void mac_parse(struct card *c, const char *text)
{
    uint8_t b[6];
    char end;

    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", b, b + 1, b + 2, b + 3, b + 4, b + 5, &end) != 6 || b[0] & 1)
        fail(EINVAL, "%s is no address of a network card: expected one such as 00:16:3e:01:02:03", text);
    snprintf(c->mac, sizeof(c->mac), MAC_FORM, b[0], b[1], b[2], b[3], b[4], b[5]);
}

/* One of Xen's own, as the tools do. */
void mac_choose(struct card *c)
{
    uint8_t b[3];

    if (getrandom(b, sizeof(b), 0) != sizeof(b))
        fail(errno, "no random numbers");
    snprintf(c->mac, sizeof(c->mac), MAC_FORM, 0x00, 0x16, 0x3e, b[0] & 0x7f, b[1], b[2]);
}

static void ask(int fd, unsigned long request, struct ifreq *r, const char *what)
{
    if (ioctl(fd, request, r))
        fail(errno, "%s: %s", r->ifr_name, what);
}

/* A port of a bridge has no address of its own: the highest one loses when the bridge takes the lowest of its ports' for itself. */
void card_join(const struct job *j, unsigned number)
{
    static const uint8_t none[] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq port = { .ifr_hwaddr.sa_family = ARPHRD_ETHER }, bridge = { 0 };

    if (fd < 0)
        fail(errno, "no socket");
    snprintf(port.ifr_name, sizeof(port.ifr_name), "vif%u.%u", j->domid, number);
    memcpy(port.ifr_hwaddr.sa_data, none, sizeof(none));
    ask(fd, SIOCSIFHWADDR, &port, "cannot set its address");
    snprintf(bridge.ifr_name, sizeof(bridge.ifr_name), "%s", j->cards[number].bridge);
    bridge.ifr_ifindex = (int)if_nametoindex(port.ifr_name);
    if (ioctl(fd, SIOCBRADDIF, &bridge))
        fail(errno, "%s does not become a port of %s", port.ifr_name, bridge.ifr_name);
    ask(fd, SIOCGIFFLAGS, &port, "cannot read its flags");
    port.ifr_flags |= IFF_UP | IFF_NOARP;
    ask(fd, SIOCSIFFLAGS, &port, "cannot bring it up");
    close(fd);
}
