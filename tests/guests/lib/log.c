#include "log.h"
#include "hypercall.h"
#include "string.h"
#include <public/sysctl.h>

static u32 next_byte;
static char text_read[8192];

/* The log from next_byte on, as much as there is room for; its length. */
static u32 read_log(u32 *next)
{
    static struct xen_sysctl op;

    op = (struct xen_sysctl){ .cmd = XEN_SYSCTL_readconsole, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };
    op.u.readconsole.incremental = 1;
    op.u.readconsole.index = next_byte;
    op.u.readconsole.buffer = P(text_read);
    op.u.readconsole.count = sizeof(text_read) - 1;
    if (HYPERCALL(__HYPERVISOR_sysctl, P(&op)))
        return 0;
    *next = op.u.readconsole.index;
    return op.u.readconsole.count;
}

void look_at_invariant(void)
{
    static char key = 'I';
    static struct xen_sysctl op;

    op = (struct xen_sysctl){ .cmd = XEN_SYSCTL_debug_keys, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };
    op.u.debug_keys.keys = P(&key);
    op.u.debug_keys.nr_keys = 1;
    (void)HYPERCALL(__HYPERVISOR_sysctl, P(&op));
}

void log_mark(void)
{
    while (is_dom0() && read_log(&next_byte) > 0)
        ;
}

bool log_says(const char *text)
{
    u32 next, n = read_log(&next);

    text_read[n] = '\0';
    return strstr(text_read, text) != NULL;
}
