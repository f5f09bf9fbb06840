/* Event channels, two-level: counting what arrives, and waiting. */
#ifndef GUEST_EVENTS_H
#define GUEST_EVENTS_H

#include "abi.h"
#include "vcpus.h"

#define MAX_PORTS (sizeof(word) * 8 * sizeof(word) * 8)

extern GUEST(shared_info) *shared_info;
extern GUEST(shared_info) first_shared_info; /* as the kernel found it */
extern volatile u32 event_count[MAX_PORTS];  /* upcalls seen per port */
extern volatile u32 upcall_count;
/* What an upcall does; scan_two_level() unless a test replaces it. Runs with events masked. */
extern void (*upcall)(unsigned vcpu);
void scan_two_level(unsigned vcpu);

unsigned this_vcpu(void); /* by the stack in use */
static inline GUEST(vcpu_info) *vcpu_info(unsigned vcpu) { return &shared_info->vcpu_info[vcpu]; }

void events_init(void);
/* shared_info's page: gone while the domain is suspended, since it is another one's frame then. */
void events_map(void);
void events_unmap(void);
void events_open_all(void);          /* unmasks all ports, by the bitmap */
void events_off(void);               /* masks upcalls */
void events_on(void);                /* unmasks and takes what is pending */
void port_mask(unsigned port);       /* masks one port */
long port_unmask(unsigned port);     /* unmasks it, by hypercall */
bool port_pending(unsigned port);
void port_clear(unsigned port);

/* Port, or a negative errno. */
long bind_virq(unsigned virq, unsigned vcpu);
long bind_ipi(unsigned vcpu);
long alloc_unbound(domid_t domain, domid_t remote);
long bind_interdomain(domid_t remote, unsigned remote_port);
/* Of an interrupt; flags: BIND_PIRQ__*. */
long bind_pirq(unsigned pirq, unsigned flags);
long close_port(unsigned port);
long send_port(unsigned port);
long port_status(unsigned port, struct evtchn_status *status);

#endif
