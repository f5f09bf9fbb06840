/*
 * Virtual interrupts. Per-vCPU ones belong to the vCPU they were bound on. Global ones are bound on vCPU 0
 * and may be sent to any vCPU by EVTCHNOP_bind_vcpu; most of them exist once in the machine and go to the
 * control domain, or to the domain that XEN_DOMCTL_set_virq_handler named.
 */
#include "event.h"
#include <pvisor/printk.h>

enum virq_kind {
    VIRQ_GLOBAL = 0,   /* each domain may bind its own */
    VIRQ_PER_VCPU,
    VIRQ_MACHINE,      /* one receiver: its handler */
};

static const u8 virq_kind[NR_VIRQS] = {
    [VIRQ_TIMER] = VIRQ_PER_VCPU,
    [VIRQ_DEBUG] = VIRQ_PER_VCPU,
    [VIRQ_XENOPROF] = VIRQ_PER_VCPU,
    [VIRQ_XENPMU] = VIRQ_PER_VCPU,
    [VIRQ_CONSOLE] = VIRQ_MACHINE,
    [VIRQ_DOM_EXC] = VIRQ_MACHINE,
    [VIRQ_TBUF] = VIRQ_MACHINE,
    [VIRQ_DEBUGGER] = VIRQ_MACHINE,
    [VIRQ_CON_RING] = VIRQ_MACHINE,
    [VIRQ_PCPU_STATE] = VIRQ_MACHINE,
    [VIRQ_MEM_EVENT] = VIRQ_MACHINE,
    [VIRQ_ENOMEM] = VIRQ_MACHINE,
    [VIRQ_ARCH_0 ... VIRQ_ARCH_7] = VIRQ_MACHINE,
};

/* Who gets each machine-wide virq; NULL: dom0. Each entry holds a reference to its domain. */
static struct domain *handler[NR_VIRQS];
static spinlock_t handler_lock = SPINLOCK_INIT(RANK_IRQ);

bool virq_is_global(u32 virq) { return virq_kind[virq] != VIRQ_PER_VCPU; }

static bool may_bind(const struct domain *d, u32 virq)
{
    return virq_kind[virq] != VIRQ_MACHINE || is_control_domain(d) || read_once(handler[virq]) == d;
}

/*
 * The port, or -EINVAL (no such virq, or a global one not on vCPU 0), -EPERM, -ENOENT (no such vCPU),
 * -EEXIST.
 */
int evtchn_bind_virq(struct domain *d, u32 virq, u32 vcpu)
{
    struct vcpu *v = domain_vcpu(d, vcpu);
    struct evtchn *chn;
    int rc;

    if (virq >= NR_VIRQS)
        return refuse(-EINVAL, "virq %u, expected below %u", virq, NR_VIRQS);
    if (virq_is_global(virq) && vcpu != 0)
        return refuse(-EINVAL, "global virq %u on vCPU %u, expected vCPU 0", virq, vcpu);
    if (!may_bind(d, virq))
        return refuse(-EPERM, "virq %u belongs to the control domain", virq);
    if (!v)
        return refuse(-ENOENT, "no vCPU %u", vcpu);

    spin_lock(&d->evtchn->lock);
    rc = v->virq_port[virq] ? refuse(-EEXIST, "virq %u of vCPU %u is bound to port %u", virq, vcpu,
                                     v->virq_port[virq])
                            : evtchn_port_take(d, &chn);
    if (rc == 0) {
        write_once(chn->notify_vcpu, (u16)vcpu);
        evtchn_set_state(chn, PORT_VIRQ, NULL, virq);
        write_once(v->virq_port[virq], chn->port);
        rc = (int)chn->port;
    }
    spin_unlock(&d->evtchn->lock);
    if (rc > 0 && virq == VIRQ_DOM_EXC)
        domains_all_changed();
    return rc;
}

/* After return nobody delivers to the port any more. With the domain's lock held. */
void evtchn_unbind_virq(struct domain *d, const struct evtchn *chn)
{
    struct vcpu *v;

    for_each_vcpu(d, v) {
        u64 flags = spin_lock_irqsave(&v->virq_lock);

        if (v->virq_port[chn->u.virq] == chn->port)
            write_once(v->virq_port[chn->u.virq], 0);
        spin_unlock_irqrestore(&v->virq_lock, flags);
    }
}

static void send_on(struct vcpu *v, u32 virq)
{
    u64 flags = spin_lock_irqsave(&v->virq_lock);
    u32 port = read_once(v->virq_port[virq]);      /* bound under the domain's lock alone; unbound under both */

    if (port)
        evtchn_deliver(v->domain, evtchn_at(v->domain, port));
    spin_unlock_irqrestore(&v->virq_lock, flags);
}

void send_guest_vcpu_virq(struct vcpu *v, u32 virq)
{
    ASSERT(virq < NR_VIRQS && !virq_is_global(virq));
    if (read_once(v->virq_port[virq]))
        send_on(v, virq);
}

void send_guest_global_virq(struct domain *d, u32 virq)
{
    struct vcpu *v = d && d->vcpu ? domain_vcpu(d, 0) : NULL;

    ASSERT(virq < NR_VIRQS && virq_is_global(virq));
    if (v)
        send_on(v, virq);
}

/*
 * The receiver's reference keeps it alive; replacing it waits for the lock, so it is held across the
 * sending.
 */
void send_dom0_virq(u32 virq)
{
    u64 flags = spin_lock_irqsave(&handler_lock);

    send_guest_global_virq(handler[virq] ? handler[virq] : dom0, virq);
    spin_unlock_irqrestore(&handler_lock, flags);
}

/* Returns the former handler, whose reference now belongs to the caller. */
static struct domain *replace_handler(u32 virq, struct domain *from, struct domain *to)
{
    struct domain *old = NULL;
    u64 flags = spin_lock_irqsave(&handler_lock);

    if (!from || handler[virq] == from) {
        old = handler[virq];
        write_once(handler[virq], to);
    }
    spin_unlock_irqrestore(&handler_lock, flags);
    return old;
}

int virq_set_handler(struct domain *d, u32 virq)
{
    struct domain *old;

    if (virq >= NR_VIRQS || !virq_is_global(virq))
        return refuse(-EINVAL, "virq %u is not a global one", virq);
    if (d->dying != DOMAIN_ALIVE)
        return refuse(-EINVAL, "d%u is dying", d->id);
    domain_ref(d);
    old = replace_handler(virq, NULL, d);
    if (old)
        domain_put(old);
    return 0;
}

void virq_forget_handler(struct domain *d)
{
    for (u32 virq = 0; virq < NR_VIRQS; virq++)
        if (replace_handler(virq, d, NULL))
            domain_put(d);
}
