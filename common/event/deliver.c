/*
 * From a pending port to a vCPU: the upcall flag of vcpu_info (offset 0; the mask is at offset 1, in both
 * word sizes), waking and interrupting.
 *
 * No lock is needed: each side sets its own flag by a locked instruction and then looks at the other's. The
 * sender sets the pending flag, then reads the mask and VPF_BLOCKED; one that goes to sleep opens the mask
 * and sets VPF_BLOCKED, then reads the pending flag.
 *
 * A vCPU that runs is different: it opens its mask by a plain store and then reads the pending flag (Linux's xen_irq_enable(), our own
 * iret), and a CPU may do these two the other way round. So the mask that a sender reads says nothing of it, and it is
 * interrupted in any case: on its way out of the interrupt both flags are seen as they are.
 */
#include "event.h"

void vcpu_mark_events_pending(struct vcpu *v) { evtchn_mark(v); }

/* The upcall was not pending before. */
void evtchn_notify(struct vcpu *v)
{
    if (read_once(v->pause_flags) & VPF_BLOCKED && vcpu_event_pending(v))
        vcpu_unblock(v);
    if (v != current)           /* the current vCPU looks on its way out */
        vcpu_kick(v);
}

/* Port 0 stands for several: wake it and let it look again. */
static bool waits_for(const struct vcpu *v, u32 port)
{
    u32 polled = read_once(v->poll_port);

    return polled == 0 || polled == port;
}

void evtchn_wake_waiting(struct domain *d, u32 port)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        if (read_once(v->poll_active) && waits_for(v, port) && xchg(&v->poll_active, false))
            vcpu_unblock(v);
}

void evtchn_set_pending(struct domain *d, u32 port)
{
    struct evtchn *chn = evtchn_at(d, port);

    if (chn)
        evtchn_deliver(d, chn);
}
