/*
 * What holds of event channels between two operations: both ends of a channel agree; what is bound to a port, a virtual or a physical
 * interrupt, is what the port says; ports that are open are counted; and FIFO channels have the pages that they hold.
 */
#include <pvisor/invariant.h>
#include <pvisor/irq.h>
#include "event.h"

static void look_at_pair(const struct domain *d, const struct evtchn *chn)
{
    const struct evtchn *far = chn->remote && chn->remote->evtchn ? evtchn_at(chn->remote, chn->u.remote_port) : NULL;

    (void)CLAUSE("ends", far && far->state == PORT_INTERDOMAIN && far->remote == d && far->u.remote_port == chn->port,
                 "d%u port %u leads to port %u of d%u, which is in state %u and leads to port %u", d->id, chn->port, chn->u.remote_port,
                 chn->remote ? chn->remote->id : DOMID_INVALID, far ? far->state : 0u, far ? far->u.remote_port : 0);
}

static void look_at_virq(const struct domain *d, const struct evtchn *chn)
{
    struct vcpu *v;
    unsigned bound = 0;

    for_each_vcpu(d, v)
        bound += chn->u.virq < NR_VIRQS && v->virq_port[chn->u.virq] == chn->port;
    (void)CLAUSE("virq", bound == 1, "d%u port %u has virq %u, which is bound to it on %u vCPUs", d->id, chn->port, chn->u.virq, bound);
}

static void look_at_port(const struct domain *d, const struct evtchn *chn, u32 port)
{
    const struct evtchn_domain *ed = d->evtchn;

    (void)CLAUSE("ports", chn->port == port && (chn->state == PORT_RESERVED) == !port && chn->state != PORT_CHANGING,
                 "d%u port %u calls itself %u, state %u", d->id, port, chn->port, chn->state);
    (void)CLAUSE("first free port", chn->state != PORT_FREE || port >= ed->first_free, "d%u: port %u is free, and %u is the first", d->id, port,
                 ed->first_free);
    if (chn->state == PORT_INTERDOMAIN)
        look_at_pair(d, chn);
    else
        (void)CLAUSE("ends", !chn->remote, "d%u port %u in state %u leads to d%u", d->id, port, chn->state, chn->remote->id);
    if (chn->state == PORT_VIRQ)
        look_at_virq(d, chn);
}

/* Not the other way round: an interrupt that was unmapped leaves its port behind, and may be mapped and bound to another. */
static void look_at_pirqs(const struct domain *d)
{
    for (u32 pirq = 0; pirq < pirq_limit(d); pirq++) {
        u32 port = pirq_port(d, pirq);
        const struct evtchn *chn = port ? evtchn_at(d, port) : NULL;

        (void)CLAUSE("pirq", !port || (chn && chn->state == PORT_PIRQ && chn->u.pirq == pirq),
                     "d%u: pirq %u is bound to port %u, whose it is not", d->id, pirq, port);
    }
}

/* The other way round: what has a port. */
static void look_at_virqs(const struct domain *d, const struct vcpu *v)
{
    for (u32 virq = 0; virq < NR_VIRQS; virq++) {
        const struct evtchn *chn = v->virq_port[virq] ? evtchn_at(d, v->virq_port[virq]) : NULL;

        (void)CLAUSE("virq", !v->virq_port[virq] || (chn && chn->state == PORT_VIRQ && chn->u.virq == virq),
                     "d%uv%u: virq %u goes to port %u, whose it is not", d->id, v->id, virq, v->virq_port[virq]);
    }
}

static void look_at_page(const struct guest_page *page, const char *who)
{
    if (page->p)
        holds(who, page->mfn, FT_WRITABLE);
}

static void look_at_queues(const struct domain *d, const struct vcpu *v)
{
    const struct fifo_vcpu *f = v->fifo;

    if (!f || !CLAUSE("FIFO", d->evtchn->fifo, "d%uv%u has queues, and its domain has no FIFO channels", d->id, v->id))
        return;
    (void)CLAUSE("FIFO", !f->cb == !f->page.p, "d%uv%u: control block %p in page %p", d->id, v->id, f->cb, f->page.p);
    look_at_page(&f->page, "a control block");
    for (unsigned i = 0; i < NR_QUEUES; i++)
        (void)CLAUSE("queues", f->tail[i] < max(d->evtchn->fifo->nr_words, 1u), "d%uv%u: port %u, which has no word, is at the end of queue %u",
                     d->id, v->id, f->tail[i], i);
}

static void look_at_fifo(const struct domain *d)
{
    const struct fifo_domain *fd = d->evtchn->fifo;

    (void)CLAUSE("FIFO", fd || d->evtchn->format != &evtchn_fifo, "d%u has FIFO channels without what they need", d->id);
    for (u32 i = 0; fd && i < MAX_PAGES; i++) {
        (void)CLAUSE("event words", !fd->page[i].p == (i >= fd->nr_words / WORDS_PER_PAGE), "d%u: page %u of %u words", d->id, i, fd->nr_words);
        look_at_page(&fd->page[i], "event words");
    }
}

void events_look(struct domain *d)
{
    const struct evtchn_domain *ed = d->evtchn;
    struct vcpu *v;
    u32 open = 0;

    if (!ed)
        return;
    for (u32 port = 0; port < ed->nr_ports; port++) {
        look_at_port(d, evtchn_at(d, port), port);
        open += evtchn_is_open(evtchn_at(d, port));
    }
    (void)CLAUSE("open ports", open == ed->nr_active, "d%u has %u, counted are %u", d->id, open, ed->nr_active);
    look_at_pirqs(d);
    look_at_fifo(d);
    if (!d->vcpu)
        return;
    for_each_vcpu(d, v) {
        look_at_virqs(d, v);
        look_at_queues(d, v);
    }
}
