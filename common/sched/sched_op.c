/* sched_op, sched_op_compat and set_timer_op (public/sched.h). */
#include <asm/atomic.h>
#include <asm/nospec.h>
#include <public/errno.h>
#include <public/sched.h>
#include <pvisor/evtchn.h>
#include <pvisor/guest.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "internal.h"

#define MAX_POLL_PORTS 128

/* The flags are the first two bytes in both word sizes. */
static void unmask_upcalls(struct vcpu *v)
{
    write_shared(((struct vcpu_info_l64 guest_shared *)v->info)->evtchn_upcall_mask, 0);
}

static s64 op_yield(gva_t)
{
    vcpu_yield();
    return 0;
}

static s64 op_block(gva_t)
{
    unmask_upcalls(current);
    vcpu_block();
    return 0;
}

static s64 op_shutdown(gva_t arg)
{
    struct sched_shutdown s;

    if (copy_from_guest(&s, arg, sizeof(s)))
        return refuse(-EFAULT, "shutdown reason at %#lx cannot be read", arg.v);
    trace(TRC_SCHED_SHUTDOWN, current->domain->id, current->id, s.reason);
    domain_shutdown(current->domain, (u8)s.reason);
    return 0;
}

/* --- Poll ------------------------------------------------------------------------------------------ */

/* 1: one of the ports is pending. A single port is remembered, so that others do not wake the vCPU. */
static s64 check_ports(struct vcpu *v, const struct sched_poll *p)
{
    for (u32 i = 0; i < p->nr_ports; i++) {
        u32 port;
        int pending;

        if (copy_from_guest(&port, gva_add(gva(p->ports), i * sizeof(port)), sizeof(port)))
            return refuse(-EFAULT, "port %u of %u at %#lx cannot be read", i, p->nr_ports, p->ports);
        pending = evtchn_port_pending(v->domain, port);
        if (pending)
            return pending;
        if (p->nr_ports == 1)
            write_once(v->poll_port, port);
    }
    return 0;
}

static void stop_polling(struct vcpu *v)
{
    write_once(v->poll_active, false);
    atomic_and(&v->pause_flags, ~VPF_BLOCKED);
}

/*
 * Marked as polling first, ports looked at second: an event that comes in between wakes it. Blocked before it polls: one that still wakes
 * it for the last time ends both in the opposite order (vcpu_unblock()), and so never leaves it blocked and looked for by nobody.
 */
static s64 op_poll(gva_t arg)
{
    struct vcpu *v = current;
    struct sched_poll p;
    s64 rc;

    if (guest_read_abi(sched_poll, &p, arg))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if (p.nr_ports > MAX_POLL_PORTS)
        return refuse(-EINVAL, "%u ports, expected at most %u", p.nr_ports, MAX_POLL_PORTS);
    timer_stop(&v->poll_timer);
    write_once(v->poll_port, 0);
    atomic_or(&v->domain->event_watch, WATCH_POLLERS);
    atomic_or(&v->pause_flags, VPF_BLOCKED);
    (void)xchg(&v->poll_active, true);      /* a full barrier */
    rc = vcpu_event_pending(v) ? 1 : check_ports(v, &p);
    if (rc) {
        stop_polling(v);
        return rc < 0 ? rc : 0;
    }
    trace(TRC_SCHED_BLOCK, v->domain->id, v->id);
    if (p.timeout) {
        timer_migrate(&v->poll_timer, v->cpu);
        timer_set(&v->poll_timer, p.timeout);
    }
    raise_softirq(SOFTIRQ_SCHEDULE);
    return 0;
}

/* --- Shutdown of others, codes, watchdog ------------------------------------------------------------ */

static s64 op_remote_shutdown(gva_t arg)
{
    struct sched_remote_shutdown r;
    struct domain *d;
    s64 rc;

    if (control_only())
        return -EPERM;
    if (copy_from_guest(&r, arg, sizeof(r)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    d = domain_target(r.domain_id, &rc);
    if (!d)
        return rc;
    domain_shutdown(d, (u8)r.reason);
    domain_put(d);
    return 0;
}

/* What the domain's shutdown will be reported as, whenever it comes. */
static s64 op_shutdown_code(gva_t arg)
{
    struct domain *d = current->domain;
    struct sched_shutdown s;
    u8 none = 0xff;

    if (copy_from_guest(&s, arg, sizeof(s)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    (void)try_cmpxchg(&d->shutdown_code, &none, (u8)s.reason);
    return 0;
}

/* A free watchdog is started; its number, from 1. */
static s64 new_watchdog(struct domain *d, u32 seconds)
{
    for (u32 i = 0; i < ARRAY_SIZE(d->sched.watchdog); i++) {
        if (d->sched.watchdogs_in_use & 1u << i)
            continue;
        d->sched.watchdogs_in_use |= (u8)(1u << i);
        timer_set(&d->sched.watchdog[i], now_ns() + SECONDS((u64)seconds));
        return i + 1;
    }
    return refuse(-ENOSPC, "both watchdogs are in use");
}

static s64 set_watchdog(struct domain *d, u32 id, u32 seconds)
{
    struct timer *t = &array_nospec(d->sched.watchdog, id - 1);

    if (!(d->sched.watchdogs_in_use & 1u << (id - 1)))
        return refuse(-EINVAL, "watchdog %u is not in use", id);
    if (seconds) {
        timer_set(t, now_ns() + SECONDS((u64)seconds));
    } else {
        timer_stop(t);
        d->sched.watchdogs_in_use &= (u8)~(1u << (id - 1));
    }
    return 0;
}

static s64 op_watchdog(gva_t arg)
{
    struct domain *d = current->domain;
    struct sched_watchdog w;
    s64 rc;

    if (copy_from_guest(&w, arg, sizeof(w)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if (w.id > ARRAY_SIZE(d->sched.watchdog))
        return refuse(-EINVAL, "watchdog %u, expected at most %zu", w.id, ARRAY_SIZE(d->sched.watchdog));
    if (!w.id && !w.timeout)
        return 0;
    spin_lock(&d->lock);
    rc = w.id ? set_watchdog(d, w.id, w.timeout) : new_watchdog(d, w.timeout);
    spin_unlock(&d->lock);
    return rc;
}

static s64 op_pin_override(gva_t)
{
    return current->domain->is_hardware ? refuse(-ENOSYS, "pin_override is not supported")
                                        : refuse(-EPERM, "pin_override is for the hardware domain");
}

s64 do_sched_op(u64 cmd, u64 arg, u64, u64, u64, u64)
{
    static s64 (*const ops[])(gva_t) = {
        [SCHEDOP_yield] = op_yield,
        [SCHEDOP_block] = op_block,
        [SCHEDOP_shutdown] = op_shutdown,
        [SCHEDOP_poll] = op_poll,
        [SCHEDOP_remote_shutdown] = op_remote_shutdown,
        [SCHEDOP_shutdown_code] = op_shutdown_code,
        [SCHEDOP_watchdog] = op_watchdog,
        [SCHEDOP_pin_override] = op_pin_override,
    };

    if ((u32)cmd >= ARRAY_SIZE(ops))
        return refuse(-ENOSYS, "command %u, expected at most %zu", (u32)cmd, ARRAY_SIZE(ops) - 1);
    return array_nospec(ops, (u32)cmd)(gva(arg));
}

/*
 * The call of Xen 2 and 3.0: the shutdown reason is the argument itself. Some kernels pass a pointer
 * nevertheless, as for the newer call; what is no reason then counts as power-off.
 */
s64 do_sched_op_compat(u64 cmd, u64 arg, u64, u64, u64, u64)
{
    switch ((u32)cmd) {
    case SCHEDOP_yield:
        return op_yield(gva(0));
    case SCHEDOP_block:
        return op_block(gva(0));
    case SCHEDOP_shutdown:
        domain_shutdown(current->domain, arg <= SHUTDOWN_MAX ? (u8)arg : SHUTDOWN_poweroff);
        return 0;
    }
    return refuse(-ENOSYS, "command %u, expected at most %u", (u32)cmd, SCHEDOP_shutdown);
}

/* Some kernels pass times that lie years off after a miscalculation: they get a tick soon, and set it anew. */
static u64 sane_timeout(u64 timeout)
{
    u64 now = now_ns();

    return (s64)timeout < 0 || (timeout > now && (timeout - now) >> 50) ? now + MILLISECS(100) : timeout;
}

/* Arms the single-shot timer for an absolute time; 0 stops it. A 32-bit guest passes the time in two words. */
s64 do_set_timer_op(u64 a0, u64, u64, u64, u64, u64)
{
    u64 timeout = a0;
    struct vcpu *v = current;

    if (!timeout) {
        timer_stop(&v->singleshot);
        return 0;
    }
    /* The clock need not be read for a time that is soon after v began to run. */
    if (unlikely((timeout - v->runstate.entry_time) >> 50))
        timeout = sane_timeout(timeout);
    timer_migrate(&v->singleshot, v->cpu);
    timer_set(&v->singleshot, timeout);
    return 0;
}
