/* The event-channel hypercalls: argument structures in and out, who may do what to whom. */
#include "event.h"
#include <asm/nospec.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define EVTCHNOP_reset_cont 14 /* a reset that gave way; not in the public interface */

/* The argument of every command. The union in struct evtchn_op has those of the oldest ones alone, and its size is part of the ABI. */
union arg {
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_interdomain bind_interdomain;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_bind_pirq bind_pirq;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
    struct evtchn_init_control init_control;
    struct evtchn_expand_array expand_array;
    struct evtchn_set_priority set_priority;
};

/* A port, or an error that leaves the argument as it is. */
static int give_port(s64 port, u32 *out)
{
    if (port < 0)
        return (int)port;
    *out = (u32)port;
    return 0;
}

static int op_alloc_unbound(struct domain *self, union arg *a)
{
    u16 remote = a->alloc_unbound.remote_dom;
    struct domain *d;
    s64 rc;

    d = domain_target(a->alloc_unbound.dom, &rc);
    if (!d)
        return (int)rc;
    rc = give_port(evtchn_alloc_unbound(d, remote == DOMID_SELF ? self->id : remote), &a->alloc_unbound.port);
    domain_put(d);
    return (int)rc;
}

static int op_bind_interdomain(struct domain *self, union arg *a)
{
    struct domain *rd = domain_get(a->bind_interdomain.remote_dom);
    int rc;

    if (!rd)
        return refuse(-ESRCH, "no domain %u", a->bind_interdomain.remote_dom);
    rc = give_port(evtchn_bind_interdomain(self, rd, a->bind_interdomain.remote_port),
                   &a->bind_interdomain.local_port);
    domain_put(rd);
    return rc;
}

static int op_bind_virq(struct domain *self, union arg *a)
{
    return give_port(evtchn_bind_virq(self, a->bind_virq.virq, a->bind_virq.vcpu), &a->bind_virq.port);
}

static int op_bind_pirq(struct domain *self, union arg *a)
{
    bool share = a->bind_pirq.flags & BIND_PIRQ__WILL_SHARE;

    return give_port(evtchn_bind_pirq(self, a->bind_pirq.pirq, share), &a->bind_pirq.port);
}

static int op_bind_ipi(struct domain *self, union arg *a)
{
    return give_port(evtchn_bind_ipi(self, a->bind_ipi.vcpu), &a->bind_ipi.port);
}

static int op_close(struct domain *self, union arg *a) { return evtchn_close(self, a->close.port); }
static int op_unmask(struct domain *self, union arg *a) { return evtchn_unmask(self, a->unmask.port); }

static int op_bind_vcpu(struct domain *self, union arg *a)
{
    return evtchn_bind_vcpu(self, a->bind_vcpu.port, a->bind_vcpu.vcpu);
}

static int op_status(struct domain *, union arg *a)
{
    struct domain *d;
    s64 rc;

    d = domain_target(a->status.dom, &rc);
    if (!d)
        return (int)rc;
    rc = evtchn_get_status(d, &a->status);
    domain_put(d);
    return (int)rc;
}

static int reset(u16 domid, bool resume)
{
    struct domain *d;
    s64 rc;

    d = domain_target(domid, &rc);
    if (!d)
        return (int)rc;
    rc = evtchn_reset_round(d, resume);
    domain_put(d);
    return (int)rc;
}

static int op_reset(struct domain *, union arg *a)
{
    return reset(a->reset.dom, false);
}

static int op_reset_cont(struct domain *, union arg *a)
{
    return reset(a->reset.dom, true);
}

static int op_init_control(struct domain *self, union arg *a)
{
    int rc = fifo_init_control(self, &a->init_control);

    if (rc == 0)
        a->init_control.link_bits = EVTCHN_FIFO_LINK_BITS;
    return rc;
}

static int op_expand_array(struct domain *self, union arg *a)
{
    return fifo_expand_array(self, a->expand_array.array_gfn);
}

static int op_set_priority(struct domain *self, union arg *a)
{
    return fifo_set_priority(self, a->set_priority.port, a->set_priority.priority);
}

/* size: of the argument. writes_back: it has results. port_at: offset of the new port, when there is one. */
struct evtchn_call {
    int (*fn)(struct domain *self, union arg *a);
    u8 size;
    bool writes_back;
    u8 port_at;
};

#define IN(name)    { op_##name, sizeof(struct evtchn_##name), false, 0 }
#define INOUT(name) { op_##name, sizeof(struct evtchn_##name), true, 0 }
#define NEW_PORT(name, port) \
    { op_##name, sizeof(struct evtchn_##name), true, offsetof(struct evtchn_##name, port) }

static const struct evtchn_call calls[] = {
    [EVTCHNOP_bind_interdomain] = NEW_PORT(bind_interdomain, local_port),
    [EVTCHNOP_bind_virq] = NEW_PORT(bind_virq, port),
    [EVTCHNOP_bind_pirq] = NEW_PORT(bind_pirq, port),
    [EVTCHNOP_close] = IN(close),
    [EVTCHNOP_status] = INOUT(status),
    [EVTCHNOP_alloc_unbound] = NEW_PORT(alloc_unbound, port),
    [EVTCHNOP_bind_ipi] = NEW_PORT(bind_ipi, port),
    [EVTCHNOP_bind_vcpu] = IN(bind_vcpu),
    [EVTCHNOP_unmask] = IN(unmask),
    [EVTCHNOP_reset] = IN(reset),
    [EVTCHNOP_init_control] = INOUT(init_control),
    [EVTCHNOP_expand_array] = IN(expand_array),
    [EVTCHNOP_set_priority] = IN(set_priority),
    [EVTCHNOP_reset_cont] = { op_reset_cont, sizeof(struct evtchn_reset), false, 0 },
};

static always_inline s64 send(gva_t arg)
{
    struct domain *self = current->domain;
    struct evtchn_send s;

    if (copy_from_guest(&s, arg, sizeof(s)))
        return -EFAULT;
    return evtchn_send(self, s.port);
}

/* The caller cannot be told the port that it got. */
static void take_port_back(const struct evtchn_call *c, struct domain *self, const union arg *a)
{
    struct domain *d = domain_get(c->fn == op_alloc_unbound ? a->alloc_unbound.dom : self->id);
    u32 port;

    if (!d)
        return;
    memcpy(&port, (const u8 *)a + c->port_at, sizeof(port));
    (void)evtchn_close(d, port);
    domain_put(d);
}

static int perform(const struct evtchn_call *c, gva_t arg)
{
    struct domain *self = current->domain;
    union arg a;
    int rc;

    if (copy_from_guest(&a, arg, c->size))
        return -EFAULT;
    rc = c->fn(self, &a);
    if (rc == 0 && c->writes_back && copy_to_guest(arg, &a, c->size)) {
        if (c->port_at)
            take_port_back(c, self, &a);
        rc = -EFAULT;
    }
    return rc;
}

/* Apart from the way that sending takes, which is to be short. */
static __attribute__((noinline)) s64 other_command(u32 cmd, u64 arg)
{
    int rc;

    if (cmd >= ARRAY_SIZE(calls) || !calls[cmd].fn)
        return refuse(-ENOSYS, "unknown command %u", cmd);
    rc = perform(&array_nospec(calls, cmd), gva(arg));
    return rc == -ERESTART_HYPERCALL ? hypercall_restart(2, (u64)EVTCHNOP_reset_cont, arg) : rc;
}

s64 do_event_channel_op(u64 a0, u64 a1, u64, u64, u64, u64)
{
    u32 cmd = (u32)a0;

    return likely(cmd == EVTCHNOP_send) ? send(gva(a1)) : other_command(cmd, a1);
}

/* The call of the time before Xen 3.1: the command stands before the argument, and the last one is unmask. */
s64 do_event_channel_op_compat(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64)
{
    u32 cmd;

    if (copy_from_guest(&cmd, gva(a0), sizeof(cmd)))
        return -EFAULT;
    if (cmd > EVTCHNOP_unmask)
        return refuse(-ENOSYS, "unknown command %u", cmd);
    return do_event_channel_op(cmd, a0 + offsetof(struct evtchn_op, u), a1, a2, a3, a4);
}
