/* Binding, closing, sending: what changes a channel or goes through one. */
#include "event.h"
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

s64 evtchn_alloc_unbound(struct domain *d, u16 remote_domid)
{
    struct evtchn *chn;
    int rc;

    spin_lock(&d->evtchn->lock);
    rc = evtchn_port_take(d, &chn);
    if (rc == 0)
        evtchn_set_state(chn, PORT_UNBOUND, NULL, remote_domid);
    spin_unlock(&d->evtchn->lock);
    return rc ? rc : (s64)chn->port;
}

/* A dying domain's offers are over: the close of its ports would wait for who binds them and closes them in turns. */
static bool is_offered(const struct domain *rd, const struct evtchn *chn, const struct domain *d)
{
    return chn && chn->state == PORT_UNBOUND && chn->u.unbound_domid == d->id && !rd->evtchn->dying;
}

/* d's new port, connected to remote_port, which rd must have offered to d; or -errno. */
int evtchn_bind_interdomain(struct domain *d, struct domain *rd, u32 remote_port)
{
    struct evtchn *chn, *far = evtchn_at(rd, remote_port);
    int rc;

    evtchn_lock_two(d, rd);
    rc = is_offered(rd, far, d) ? evtchn_port_take(d, &chn)
                            : refuse(-EINVAL, "port %u of d%u is not offered to us", remote_port, rd->id);
    if (rc == 0) {
        evtchn_set_state(chn, PORT_INTERDOMAIN, rd, remote_port);
        evtchn_set_state(far, PORT_INTERDOMAIN, d, chn->port);
        /* What the far end sent before it was connected went nowhere: make the near one look. */
        evtchn_deliver(d, chn);
        rc = (int)chn->port;
    }
    evtchn_unlock_two(d, rd);
    return rc;
}

int evtchn_bind_ipi(struct domain *d, u32 vcpu)
{
    struct evtchn *chn;
    int rc;

    if (!domain_vcpu(d, vcpu))
        return refuse(-ENOENT, "no vCPU %u", vcpu);
    spin_lock(&d->evtchn->lock);
    rc = evtchn_port_take(d, &chn);
    if (rc == 0) {
        write_once(chn->notify_vcpu, (u16)vcpu);
        evtchn_set_state(chn, PORT_IPI, NULL, 0);
        rc = (int)chn->port;
    }
    spin_unlock(&d->evtchn->lock);
    return rc;
}

/* The pirq's own lock comes before ours, so the port is reserved first and gets its state afterwards. */
int evtchn_bind_pirq(struct domain *d, u32 pirq, bool shareable)
{
    struct vcpu *v = domain_vcpu(d, 0);
    struct evtchn *chn;
    int rc;

    if (!v)
        return refuse(-ENOENT, "no vCPU 0");
    spin_lock(&d->evtchn->lock);
    rc = evtchn_port_take(d, &chn);
    if (rc == 0)
        evtchn_set_state(chn, PORT_CHANGING, NULL, pirq);
    spin_unlock(&d->evtchn->lock);
    if (rc)
        return rc;

    rc = pirq_bind(v, pirq, chn->port, shareable);
    spin_lock(&d->evtchn->lock);
    if (rc)
        evtchn_port_free(d, chn);
    else
        evtchn_set_state(chn, PORT_PIRQ, NULL, pirq);
    spin_unlock(&d->evtchn->lock);
    return rc ? rc : (int)chn->port;
}

static void close_pirq(struct domain *d, struct evtchn *chn)
{
    u32 pirq = chn->u.pirq;

    evtchn_set_state(chn, PORT_CHANGING, NULL, pirq);
    spin_unlock(&d->evtchn->lock);
    pirq_unbind(d, pirq, chn->port);
    spin_lock(&d->evtchn->lock);
    evtchn_port_free(d, chn);
}

/* With d's lock held, and the far domain's if there is one. */
static int close_locked(struct domain *d, struct evtchn *chn)
{
    switch ((enum port_state)chn->state) {
    case PORT_FREE:
    case PORT_RESERVED:
    case PORT_CHANGING:
        return -EINVAL;
    case PORT_PIRQ:
        close_pirq(d, chn);
        return 0;
    case PORT_VIRQ:
        evtchn_unbind_virq(d, chn);
        break;
    case PORT_INTERDOMAIN:
        /* First, so that the far end's senders have gone when this port becomes free. */
        evtchn_set_state(evtchn_at(chn->remote, chn->u.remote_port), PORT_UNBOUND, NULL, d->id);
        break;
    case PORT_UNBOUND:
    case PORT_IPI:
        break;
    }
    evtchn_port_free(d, chn);
    return 0;
}

/* The domain at the other end of an interdomain channel, referenced; d itself does not count. */
static struct domain *far_domain(struct domain *d, const struct evtchn *chn)
{
    struct domain *rd = NULL;

    spin_lock(&d->evtchn->lock);
    if (chn->state == PORT_INTERDOMAIN && chn->remote != d) {
        rd = chn->remote;
        domain_ref(rd);         /* it cannot go before it has closed its end, for which it needs our lock */
    }
    spin_unlock(&d->evtchn->lock);
    return rd;
}

static int close_port(struct domain *d, struct evtchn *chn)
{
    steps_add(10);
    for (;;) {
        struct domain *rd = far_domain(d, chn);
        int rc = -EAGAIN;

        evtchn_lock_two(d, rd ? rd : d);
        if ((chn->state == PORT_INTERDOMAIN && chn->remote != d ? chn->remote : NULL) == rd)
            rc = close_locked(d, chn);
        evtchn_unlock_two(d, rd ? rd : d);
        if (rd)
            domain_put(rd);
        if (rc != -EAGAIN)      /* else it was rebound while no lock was held */
            return rc;
    }
}

int evtchn_close(struct domain *d, u32 port)
{
    struct evtchn *chn = evtchn_at(d, port);
    int rc = chn ? close_port(d, chn) : -EINVAL;

    return rc ? refuse(rc, "port %u of d%u is not open", port, d->id) : 0;
}

u32 evtchn_close_from(struct domain *d, u32 first)
{
    for (u32 port = first; port < read_once(d->evtchn->nr_ports); port++) {     /* another vCPU may have it grow */
        struct evtchn *chn = evtchn_at(d, port);

        if (evtchn_is_open(chn))
            (void)close_port(d, chn);
        if (port % 64 == 63 && preempt_needed())
            return port + 1;
    }
    return 0;
}

int evtchn_reset_round(struct domain *d, bool resume)
{
    struct evtchn_domain *ed = d->evtchn;
    u32 next;
    bool refused;
    int rc = 0;

    if (d != current->domain && !d->controller_pause_count)
        return refuse(-EINVAL, "d%u is not paused", d->id);
    spin_lock(&ed->lock);
    refused = (ed->reset_next != 0) != resume;
    if (!ed->reset_next && !refused)
        ed->reset_next = 1;
    next = ed->reset_next;
    spin_unlock(&ed->lock);
    if (refused)
        return refuse(-EBUSY, "d%u: %s reset under way", d->id, resume ? "no" : "a");

    next = evtchn_close_from(d, next);
    spin_lock(&ed->lock);
    ed->reset_next = next;
    if (next)
        rc = -ERESTART_HYPERCALL;
    else if (ed->nr_active)
        rc = -EAGAIN;
    else
        fifo_destroy(d);
    spin_unlock(&ed->lock);
    return rc;
}

int evtchn_reset(struct domain *d) { return evtchn_reset_round(d, read_once(d->evtchn->reset_next) != 0); }

s64 evtchn_send(struct domain *d, u32 local_port)
{
    struct evtchn *chn = evtchn_at(d, local_port), *to = chn;

    if (unlikely(!chn))
        return refuse(-EINVAL, "no port %u", local_port);
    spin_lock(&chn->lock);
    switch (chn->state) {
    case PORT_INTERDOMAIN:
        d = chn->remote;
        to = evtchn_at(d, chn->u.remote_port);
        break;
    case PORT_IPI:
        break;
    case PORT_UNBOUND:          /* nobody listens yet: not an error */
        to = NULL;
        break;
    default:
        spin_unlock(&chn->lock);
        return refuse(-EINVAL, "port %u cannot be sent on", chn->port);
    }
    if (likely(to != NULL))
        evtchn_deliver(d, to);
    spin_unlock(&chn->lock);
    return 0;
}

int evtchn_unmask(struct domain *d, u32 port)
{
    struct evtchn *chn = evtchn_at(d, port);
    struct vcpu *v;

    if (!chn)
        return refuse(-EINVAL, "no port %u", port);
    spin_lock(&chn->lock);
    v = domain_vcpu(d, read_once(chn->notify_vcpu));
    if (evtchn_is_open(chn) && v)
        evtchn_format(d)->unmask(v, chn);
    spin_unlock(&chn->lock);
    return 0;
}

int evtchn_port_pending(struct domain *d, u32 port)
{
    struct evtchn *chn = evtchn_at(d, port);
    int pending;

    if (!chn)
        return -EINVAL;
    spin_lock(&chn->lock);
    pending = evtchn_is_open(chn) && evtchn_format(d)->is_pending(d, chn);
    spin_unlock(&chn->lock);
    return pending;
}

static bool may_move(const struct evtchn *chn)
{
    switch (chn->state) {
    case PORT_VIRQ:
        return virq_is_global(chn->u.virq);
    case PORT_UNBOUND:
    case PORT_INTERDOMAIN:
    case PORT_PIRQ:
        return true;
    default:
        return false;
    }
}

int evtchn_bind_vcpu(struct domain *d, u32 port, u32 vcpu)
{
    struct evtchn *chn = evtchn_at(d, port);
    int rc = 0;

    if (!domain_vcpu(d, vcpu))
        return refuse(-ENOENT, "no vCPU %u", vcpu);
    if (!chn)
        return refuse(-EINVAL, "no port %u", port);
    spin_lock(&d->evtchn->lock);
    if (may_move(chn))
        write_once(chn->notify_vcpu, (u16)vcpu);
    else
        rc = -EINVAL;
    spin_unlock(&d->evtchn->lock);
    return rc ? refuse(rc, "port %u belongs to its vCPU or is not open", port) : 0;
}

static void fill_status(const struct evtchn *chn, struct evtchn_status *st)
{
    static const u8 abi_state[] = {
        [PORT_FREE] = EVTCHNSTAT_closed, [PORT_RESERVED] = EVTCHNSTAT_closed,
        [PORT_CHANGING] = EVTCHNSTAT_closed, [PORT_UNBOUND] = EVTCHNSTAT_unbound,
        [PORT_INTERDOMAIN] = EVTCHNSTAT_interdomain,
        [PORT_PIRQ] = EVTCHNSTAT_pirq, [PORT_VIRQ] = EVTCHNSTAT_virq, [PORT_IPI] = EVTCHNSTAT_ipi,
    };

    st->status = abi_state[chn->state];
    st->vcpu = chn->notify_vcpu;
    switch (chn->state) {
    case PORT_UNBOUND:
        st->u.unbound.dom = chn->u.unbound_domid;
        break;
    case PORT_INTERDOMAIN:
        st->u.interdomain.dom = chn->remote->id;
        st->u.interdomain.port = chn->u.remote_port;
        break;
    case PORT_PIRQ:
    case PORT_VIRQ:
        st->u.virq = chn->u.virq;
        break;
    default:
        break;
    }
}

/* Fills all but st->dom. */
int evtchn_get_status(struct domain *d, struct evtchn_status *st)
{
    const struct evtchn *chn = evtchn_at(d, st->port);

    if (!chn)
        return refuse(-EINVAL, "d%u has no port %u", d->id, st->port);
    spin_lock(&d->evtchn->lock);
    fill_status(chn, st);
    spin_unlock(&d->evtchn->lock);
    return 0;
}
