/*
 * dirty-log DOMID ROUNDS MS: in dom0, has what a domain writes logged, and takes the log ROUNDS times, MS apart, and once more when the
 * domain has stood still since. For each time "BENCH clean PAGES", and marks around it (count.c); "BENCH refused 0" where there is no
 * such log.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xenctrl.h>
#include "mark.h"

static xc_interface *xch;
static uint32_t domid;
static xen_pfn_t last;

static int clean(void)
{
    DECLARE_HYPERCALL_BUFFER(uint8_t, bitmap);
    xc_shadow_op_stats_t stats = { 0 };
    long long rc;

    bitmap = xc_hypercall_buffer_alloc_pages(xch, bitmap, (last / 8 + 4096) / 4096);
    if (!bitmap)
        return -1;
    MARK_NOP(9);
    rc = xc_logdirty_control(xch, domid, XEN_DOMCTL_SHADOW_OP_CLEAN, HYPERCALL_BUFFER(bitmap), last + 1, 0, &stats);
    MARK_NOP(10);
    xc_hypercall_buffer_free_pages(xch, bitmap, (last / 8 + 4096) / 4096);
    printf("BENCH clean %u\n", stats.dirty_count);
    return rc < 0 ? -1 : 0;
}

static int begin(void)
{
    int rc;

    MARK_NOP(11);
    rc = xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0);
    MARK_NOP(12);
    return rc;
}

static int log_writes(int rounds, int ms)
{
    int rc = 0;

    while (!rc && rounds--) {
        usleep((useconds_t)ms * 1000);
        rc = clean();
    }
    if (!rc)
        rc = xc_domain_pause(xch, domid) || clean() || clean() || xc_domain_unpause(xch, domid);
    return xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0) || rc;
}

int main(int argc, char **argv)
{
    xch = xc_interface_open(NULL, NULL, 0);
    domid = argc > 3 ? (uint32_t)atoi(argv[1]) : 0;
    if (!xch || !domid || xc_domain_maximum_gpfn(xch, domid, &last)) {
        perror("dirty-log");
        return 1;
    }
    if (begin()) {
        printf("BENCH refused 0\n");
        return 0;
    }
    if (log_writes(atoi(argv[2]), atoi(argv[3]))) {
        perror("dirty-log");
        return 1;
    }
    return 0;
}
