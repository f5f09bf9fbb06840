/* How domains end: the guest shuts down or crashes, the toolstack resumes or kills it. */
#include <asm/atomic.h>
#include <public/errno.h>
#include <public/sched.h>
#include <pvisor/cpupool.h>
#include <pvisor/devices.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>
#include <pvisor/irq.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include "internal.h"

/*
 * Takes no lock of its own, so that a domain can be ended from anywhere. A reason that is there already
 * (SCHEDOP_shutdown_code) wins over the one given.
 */
void domain_shutdown(struct domain *d, u8 reason)
{
    u8 none = 0xff;

    if (!try_cmpxchg(&d->shutdown_code, &none, reason))
        reason = none;
    if (d->is_hardware)
        hardware_shutdown(reason);
    domain_pause_nowait(d);
    if (xchg(&d->is_shut_down, true)) {
        domain_unpause(d);
        return;
    }
    if (reason == SHUTDOWN_suspend && d->suspend_port)
        evtchn_send(d, d->suspend_port);
    else
        domain_changed(d->id);
}

int domain_resume(struct domain *d)
{
    if (d == current->domain)
        return refuse(-EINVAL, "a domain cannot resume itself");
    domain_pause(d);
    d->shutdown_code = 0xff;
    d->crash_logged = false;
    if (xchg(&d->is_shut_down, false))
        domain_unpause(d);
    domain_unpause(d);
    return 0;
}

/*
 * First the domain stands still, and then there is time to say why: another of its vCPUs, whose way back to the guest is as impossible,
 * would try it again and again. Whoever is not the first holds the domain until it sees that the first does.
 */
void domain_crash(struct domain *d, const char *fmt, ...)
{
    char reason[192];
    va_list args;

    domain_pause_nowait(d);
    if (xchg(&d->crash_logged, true)) {
        domain_unpause(d);
        return;
    }
    va_start(args, fmt);
    vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);
    if (current->domain == d) {
        printk(LOG_ERR "d%uv%u crashed: %s\n", d->id, current->id, reason);
        vcpu_show_registers(current);
    } else {
        printk(LOG_ERR "d%u crashed: %s\n", d->id, reason);
    }
    domain_shutdown(d, SHUTDOWN_crash);
    domain_unpause(d);
}

/* --- Teardown: what a domain holds of others' and of the machine's, in stages that can give way --- */

static int stop(struct domain *d)
{
    domain_pause(d);
    return 0;
}

/* Its pool can be destroyed while frames of it are left. Pool 0 has a CPU at all times. */
static int leave_pool(struct domain *d)
{
    return cpupool_move_domain(d, 0);
}

static int close_events(struct domain *d)
{
    int rc = evtchn_domain_destroy(d);

    if (!rc)
        domain_reset_vcpu_info(d);
    return rc;
}

static int drop_claim(struct domain *d)
{
    return domain_claim(d, 0);
}

/* What a grant permits is used until its page-table entries are gone. The granter, and a log of what is written, hear of its end then. */
static int (*const teardown[])(struct domain *d) = {
    stop,
    devices_release,
    leave_pool,
    close_events,
    drop_claim,
    arch_domain_relinquish,
    gnttab_release_mappings,
};

int domain_kill(struct domain *d)
{
    if (d == current->domain)
        return refuse(-EINVAL, "a domain cannot destroy itself");
    if (d->dying == DOMAIN_DEAD)
        return 0;
    /* The page lock, because the frame allocator looks at the flag under it. */
    spin_lock(&d->page_lock);
    d->dying = DOMAIN_DYING;
    spin_unlock(&d->page_lock);
    for (; d->teardown < ARRAY_SIZE(teardown); d->teardown++) {
        int rc = teardown[d->teardown](d);
        if (rc)
            return rc;
    }
    ASSERT(frame_accounts_hold(d));
    write_once(d->dying, DOMAIN_DEAD);
    domain_changed(d->id);
    domain_put(d);
    return 0;
}
