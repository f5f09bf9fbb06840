/* The version of Xen that we say we are. */
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/version.h>

#ifndef XEN_MAJOR /* Config.mk has the default */
#define XEN_MAJOR 4
#define XEN_MINOR 17
#endif

/* Whose tools' calls are served: common/control/versions.c. */
#define OLDEST_MINOR 17
#define NEWEST_MINOR 22

u32 version_number = XEN_MAJOR << 16 | XEN_MINOR;

static int parse_version(const char *value)
{
    const char *p;
    u64 major_said = strtoull(value, &p, 10), minor_said;

    if (major_said != XEN_MAJOR || *p != '.' || p[1] < '0' || p[1] > '9')
        return -EINVAL;
    minor_said = strtoull(p + 1, &p, 10);
    if (*p || minor_said < OLDEST_MINOR || minor_said > NEWEST_MINOR)
        return -EINVAL;
    version_number = XEN_MAJOR << 16 | (u32)minor_said;
    return 0;
}
CMDLINE_OPTION("xen-version", parse_version);
