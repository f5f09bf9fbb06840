/*
 * The port table: channels in page-sized chunks, made as ports are handed out and kept until the domain goes.
 * Ports are given out lowest first.
 */
#include "event.h"
#include <pvisor/frame.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/steps.h>

int evtchn_domain_init(struct domain *d, u32 max_port)
{
    struct evtchn_domain *ed = xzalloc(struct evtchn_domain);

    if (!ed)
        return -ENOMEM;
    spin_lock_init(&ed->lock, RANK_EVTCHN);
    ed->max_port = min(max_port, (u32)EVTCHN_FIFO_NR_CHANNELS - 1);
    ed->format = &evtchn_two_level;
    ed->first_free = 1;
    ed->nr_chunks = DIV_ROUND_UP(ed->max_port + 1, PORTS_PER_CHUNK);
    ed->chunk = xzalloc_array(struct evtchn *, ed->nr_chunks);
    if (!ed->chunk) {
        xfree(ed);
        return -ENOMEM;
    }
    d->evtchn = ed;
    d->max_evtchn_port = ed->max_port;
    return 0;
}

void evtchn_vcpu_init(struct vcpu *v)
{
    spin_lock_init(&v->virq_lock, RANK_VIRQ);
    memset(v->virq_port, 0, sizeof(v->virq_port));
    v->fifo = NULL;
}

int evtchn_domain_destroy(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;
    u32 next;

    if (!ed)
        return 0;
    spin_lock(&ed->lock);
    if (!ed->dying)
        ed->reset_next = 0;     /* a reset that the domain did not finish */
    ed->dying = true;
    next = max(ed->reset_next, 1u);
    spin_unlock(&ed->lock);

    next = evtchn_close_from(d, next);
    spin_lock(&ed->lock);
    ed->reset_next = next;
    if (next || ed->nr_active) {    /* another CPU may be closing a pirq's port for a reset */
        spin_unlock(&ed->lock);
        return -ERESTART_HYPERCALL;
    }
    fifo_destroy(d);
    spin_unlock(&ed->lock);
    virq_forget_handler(d);
    return 0;
}

void evtchn_domain_free(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;

    if (!ed)
        return;
    d->evtchn = NULL;
    for (u32 i = 0; i < ed->nr_chunks; i++)
        xfree(ed->chunk[i]);
    xfree(ed->chunk);
    xfree(ed);
}

/* One more chunk of free channels. */
static int grow(struct evtchn_domain *ed)
{
    u32 nr = ed->nr_ports / PORTS_PER_CHUNK;
    struct evtchn *chunk;

    if (nr >= ed->nr_chunks)
        return -ENOSPC;
    chunk = xzalloc_array(struct evtchn, PORTS_PER_CHUNK);
    if (!chunk)
        return -ENOMEM;
    for (u32 i = 0; i < PORTS_PER_CHUNK; i++) {
        spin_lock_init(&chunk[i].lock, RANK_EVTCHN_PORT);
        chunk[i].port = ed->nr_ports + i;
        chunk[i].priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
    }
    if (nr == 0)
        chunk[0].state = PORT_RESERVED;
    ed->chunk[nr] = chunk;
    smp_wmb();                  /* evtchn_at() reads without a lock */
    write_once(ed->nr_ports, ed->nr_ports + PORTS_PER_CHUNK);
    return 0;
}

int evtchn_port_take(struct domain *d, struct evtchn **chn)
{
    struct evtchn_domain *ed = d->evtchn;
    bool lower_busy = false;
    int rc;

    ASSERT(spin_is_held(&ed->lock));
    if (ed->dying)
        return refuse(-EINVAL, "d%u is dying", d->id);
    for (u32 port = ed->first_free;; port++) {
        steps_add(port % 4 == 0);
        if (port > ed->max_port || port >= ed->format->nr_ports(d)) {
            if (!lower_busy)
                ed->first_free = port;
            return refuse(-ENOSPC, "d%u has no free port below %u", d->id, port);
        }
        if (port >= ed->nr_ports && (rc = grow(ed)) != 0)
            return rc;
        *chn = evtchn_at(d, port);
        if ((*chn)->state != PORT_FREE)
            continue;
        if (!ed->format->is_busy(d, *chn)) {
            if (!lower_busy)
                ed->first_free = port + 1;
            break;
        }
        if (!lower_busy)
            ed->first_free = port;
        lower_busy = true;
    }
    ed->nr_active++;
    write_once((*chn)->notify_vcpu, 0);
    write_once((*chn)->priority, EVTCHN_FIFO_PRIORITY_DEFAULT);
    write_once((*chn)->pending, false);
    return 0;
}

void evtchn_set_state(struct evtchn *chn, enum port_state state, struct domain *remote, u32 what)
{
    spin_lock(&chn->lock);
    chn->remote = remote;
    memset(&chn->u, 0, sizeof(chn->u));
    if (state == PORT_UNBOUND)
        chn->u.unbound_domid = (u16)what;
    else
        chn->u.pirq = what;     /* one word under three names */
    write_once(chn->state, state);
    spin_unlock(&chn->lock);
}

void evtchn_port_free(struct domain *d, struct evtchn *chn)
{
    struct evtchn_domain *ed = d->evtchn;

    ASSERT(spin_is_held(&ed->lock));
    evtchn_set_state(chn, PORT_FREE, NULL, 0);
    ed->format->clear_pending(d, chn);
    write_once(chn->notify_vcpu, 0);
    ed->nr_active--;
    if (chn->port < ed->first_free)
        ed->first_free = chn->port;
}

void evtchn_lock_two(struct domain *d, struct domain *e)
{
    struct domain *first = d->id <= e->id ? d : e;

    spin_lock(&first->evtchn->lock);
    if (d != e)
        spin_lock_second(&(first == d ? e : d)->evtchn->lock);
}

void evtchn_unlock_two(struct domain *d, struct domain *e)
{
    spin_unlock(&d->evtchn->lock);
    if (d != e)
        spin_unlock(&e->evtchn->lock);
}

static const char *const state_name[] = {
    [PORT_FREE] = "free", [PORT_RESERVED] = "reserved", [PORT_CHANGING] = "changing",
    [PORT_UNBOUND] = "unbound", [PORT_INTERDOMAIN] = "interdomain", [PORT_PIRQ] = "pirq",
    [PORT_VIRQ] = "virq", [PORT_IPI] = "ipi",
};

static void dump_port(struct domain *d, const struct evtchn *chn)
{
    const struct evtchn_format *f = d->evtchn->format;

    printk(LOG_INFO "  %4u [%c%c] v%u %s", chn->port, f->is_pending(d, chn) ? 'p' : '-',
           f->is_masked(d, chn) ? 'm' : '-', chn->notify_vcpu, state_name[chn->state]);
    if (chn->state == PORT_UNBOUND)
        printk(" d%u\n", chn->u.unbound_domid);
    else if (chn->state == PORT_INTERDOMAIN)
        printk(" d%u port %u\n", chn->remote->id, chn->u.remote_port);
    else
        printk(" %u\n", chn->u.pirq);
}

void evtchn_dump(struct domain *d)
{
    struct evtchn_domain *ed = d->evtchn;

    if (!ed)
        return;
    spin_lock(&ed->lock);
    printk(LOG_INFO "d%u: event channels, %s, %u in use, highest port allowed %u\n", d->id,
           ed->format->name, ed->nr_active, ed->max_port);
    for (u32 port = 1; port < ed->nr_ports; port++) {
        const struct evtchn *chn = evtchn_at(d, port);

        if (evtchn_is_open(chn))
            dump_port(d, chn);
    }
    spin_unlock(&ed->lock);
}
