/*
 * Physical interrupts. An irq (0..nr_irqs-1) is a GSI or a dynamically made MSI; each has one vector, one
 * handler of ours or up to a few guests bound to it through their pirqs.
 */
#ifndef PVISOR_IRQ_H
#define PVISOR_IRQ_H

#include <asm/regs.h>
#include <pvisor/types.h>

struct domain;
struct vcpu;

extern u32 nr_gsis;   /* GSIs 0 .. nr_gsis - 1 belong to IO-APICs */
extern u32 nr_irqs;   /* above them: irqs made for MSIs */

/* Vectors of our own; device vectors are allocated between the two bounds. */
#define VEC_SPURIOUS      0xff
#define VEC_ERROR         0xfe
#define VEC_TIMER         0xfd   /* local APIC timer */
#define VEC_EVENT_CHECK   0xfc   /* IPI: look at softirqs and events */
#define VEC_CALL          0xfb   /* IPI: call function */
#define VEC_DEVICE_FIRST  0x30   /* 0x20..0x2f: the 8259's, spurious only; 0x80, 0x82 are never used */
#define VEC_DEVICE_LAST   0xef

/* Every external interrupt, from entry code, interrupts off; regs->entry_vector says which. */
void do_interrupt(struct cpu_regs *regs);

/* After acpi_init() and lapic_init_bsp(), with a heap. A guest's interrupt calls set_pending(), with interrupts off. */
void irq_init(void (*set_pending)(struct domain *d, u32 port));
/* A handler of the hypervisor's own for a GSI (serial console). 0 or -errno. */
int irq_request(u32 gsi, void (*fn)(void *data, struct cpu_regs *regs), void *data);
/* A function for one of our own vectors (IPIs); called with interrupts off, after the APIC's EOI. */
void vector_set_handler(u8 vector, void (*fn)(struct cpu_regs *regs));

/* What a device must write to interrupt somebody. An IO-APIC's entry has its parts: bits 4 to 19 of the address, 0 to 10 of the data. */
struct msi_message { u64 address; u32 data; };
/* What a device must write to interrupt the CPU with this APIC id where nothing is remapped (Intel SDM 3A, 10.11). */
struct msi_message msi_compose(u32 apic_id, u8 vector);

/*
 * Interrupt remapping: each irq has an entry in a table, which says whom it interrupts. A message with an entry's number from anybody but
 * the irq's source is refused, as is one that names a CPU itself. The lines of IO-APICs have entries from the start.
 */
struct irq_source {                         /* what the messages of an irq carry: */
    u32 sbdf;                               /* the id (bus, device, function) behind this segment... */
    bool any_of_bus;                        /* ...or any id of that bus */
};
struct irq_route {
    u32 irq, apic_id;
    u8 vector;
    bool line, level;                       /* an IO-APIC's */
};
struct irq_remapper {
    /* An entry for the irq, which has none, through which nothing comes yet. -ENOMEM, -ENOSPC. No lock of an interrupt's is held. */
    int (*claim)(u32 irq, struct irq_source from);
    void (*release)(u32 irq);               /* it comes no more, and the entry is free; no lock of an interrupt's is held */
    /* The irq comes as described; what its source must send. Any context; no two calls for one irq at once. */
    struct msi_message (*route)(struct irq_route r);
    void (*unroute)(u32 irq);               /* it comes no more, until the next route() */
    bool lines_need_eoi;                    /* CPUs' EOIs name vectors that IO-APICs do not know */
};
/* From here on every source sends as r says; NULL: as without remapping. Boot. */
void irq_remap_by(const struct irq_remapper *r);
bool lapic_is_x2apic(void);

/* Local APIC. A CPU that comes up calls lapic_init_cpu() before it takes interrupts or IPIs. */
void lapic_init_bsp(void);                              /* after acpi_init(); also silences the 8259s */
void lapic_init_cpu(void);
void lapic_eoi(void);
bool lapic_can_name(u32 apic_id);                       /* in this mode; else the CPU with that id cannot be started */
u32 lapic_id(void);
extern u32 cpu_apic_ids[];                              /* of initialised CPUs */
maddr_t lapic_base(void);                               /* machine address of its page */
/* Machine address of the nth IO-APIC's register page. */
maddr_t ioapic_page(unsigned n);                        /* maddr(0) when there are no more */
int ioapic_id(u32 gsi);                                 /* of the one that has this GSI, as in the MADT; -1: none has */
bool ioapics_take_eoi(void);                            /* all can be told that an interrupt is over */
void lapic_send_ipi(unsigned cpu, u8 vector);
void lapic_send_nmi(unsigned cpu);
void lapic_send_init_sipi(u32 apic_id, u8 start_page);

/* Domain side: pirqs (include/public/physdev.h). */
int pirq_domain_init(struct domain *d);
void pirq_domain_destroy(struct domain *d);             /* unbinds and unmaps all */
void pirq_unmap_device(struct domain *d, u32 sbdf);     /* its messages come to d no more: the function is not d's now */
void pirq_unshare_eoi_map(struct domain *d);            /* gives back the frame of PHYSDEVOP_pirq_eoi_gmfn; d's vCPUs run no more */
/* Binds pirq of v's domain to deliver to event port; -EPERM, -EINVAL, -EBUSY. */
int pirq_bind(struct vcpu *v, u32 pirq, u32 port, bool shareable);
void pirq_unbind(struct domain *d, u32 pirq, u32 port);
u32 pirq_limit(const struct domain *d);                 /* pirqs are below it; 0: the domain has no table of them */
u32 pirq_port(const struct domain *d, u32 pirq);        /* the event channel port that it is bound to, 0: none */
void pirq_unmasked(struct domain *d, u32 pirq);         /* EVTCHNOP_unmask of its port, or PHYSDEVOP_eoi; any context */
/* Every interrupt of a CPU that goes offline to another; both CPUs take them until irq_cpu_gone(). */
void irq_leave_cpu(unsigned cpu);
void irq_cpu_gone(unsigned cpu);
void irq_dump(void);                                    /* debug key 'i' */

#endif
