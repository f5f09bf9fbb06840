/*
 * Event channels, two-level and FIFO (include/public/event_channel.h).
 *
 * A port is an index into its domain's table. What is behind it: nothing, an offer to another domain
 * (unbound), a port of a domain (interdomain), a physical or virtual interrupt, or a vCPU of the same
 * domain (IPI).
 */
#ifndef PVISOR_EVTCHN_H
#define PVISOR_EVTCHN_H

#include <pvisor/types.h>

struct domain;
struct vcpu;

/*
 * max_port: the highest port that d may have; ports above the format's own limit are never given out. 0 or
 * -ENOMEM.
 */
int evtchn_domain_init(struct domain *d, u32 max_port);
void evtchn_vcpu_init(struct vcpu *v);
/*
 * Closes all ports, for good, and gives back the frames of FIFO channels; idempotent. -ERESTART_HYPERCALL: call again to
 * go on.
 */
int evtchn_domain_destroy(struct domain *d);
void evtchn_domain_free(struct domain *d);       /* after the last reference is gone */
/*
 * Closes all ports and goes back to two-level channels. d must be the caller's, or paused by its
 * controller. -EINVAL: it is not; -EAGAIN: d opened ports meanwhile; -ERESTART_HYPERCALL: call again to go
 * on.
 */
int evtchn_reset(struct domain *d);

/*
 * For hypervisor code: marks local port of d pending; any context. The caller sees to it that the port stays
 * bound meanwhile (a pirq's binding does).
 */
void evtchn_set_pending(struct domain *d, u32 port);
/* What EVTCHNOP_send does, for a port of d. 0 or -EINVAL. */
s64 evtchn_send(struct domain *d, u32 local_port);
/* Frees a port of d; the other end, if any, becomes an offer to d again. 0 or -EINVAL. */
int evtchn_close(struct domain *d, u32 port);
/* EVTCHNOP_unmask; PHYSDEVOP_eoi too, where a domain asked for it (auto_unmask). 0 or -EINVAL. */
int evtchn_unmask(struct domain *d, u32 port);
/*
 * A port of d that ACCEPTS remote_domid (XEN_DOMCTL/EVTCHNOP alloc_unbound, console and xenstore set-up).
 * port number or -errno.
 */
s64 evtchn_alloc_unbound(struct domain *d, u16 remote_domid);
/* For SCHEDOP_poll: 1 if the port is pending, 0 if not, -EINVAL if d has no such port. */
int evtchn_port_pending(struct domain *d, u32 port);

/* True if v has an event pending that its mask lets through. */
bool vcpu_event_pending(const struct vcpu *v);
/* Sets the upcall-pending flag and wakes or interrupts v: called by both delivery formats. */
void vcpu_mark_events_pending(struct vcpu *v);
void evtchn_dump(struct domain *d);              /* debug key 'e' */
/* For v->arch layer after VCPUOP_register_vcpu_info moved the vcpu_info: keep selectors pending. */
void evtchn_vcpu_info_moved(struct vcpu *v);
/* Calls fn(d, m) for each frame of d's that the hypervisor writes events to, besides vcpu_info's. */
void evtchn_for_frames(struct domain *d, void (*fn)(struct domain *d, mfn_t m));

/* XEN_DOMCTL_set_virq_handler: d gets the machine-wide virq from now on, and may bind it. 0 or -EINVAL. */
int virq_set_handler(struct domain *d, u32 virq);

#endif
