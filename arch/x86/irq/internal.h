/*
 * What the files about interrupts share.
 *
 * An irq_desc is one interrupt source with one vector on one CPU. How it is quieted differs:
 *   level (IO-APIC)  masked and acknowledged when it comes, unmasked when every guest that got it said EOI. A
 *                    guest that never does keeps its own line masked and holds up nothing else.
 *   edge, MSI        acknowledged at once; nothing to be said by the guest.
 * A source that fires faster than anyone can handle is masked for a while (storm), and so is one of a domU's when domUs' sources take too
 * much of a CPU together.
 */
#ifndef IRQ_INTERNAL_H
#define IRQ_INTERNAL_H

#include <pvisor/irq.h>
#include <pvisor/pci.h>
#include <pvisor/spinlock.h>
#include <pvisor/timer.h>

#define MAX_SHARERS 4

struct irq_desc;

struct irq_chip {
    const char *name;
    void (*mask)(struct irq_desc *desc);      /* desc->lock held; NULL: cannot be masked */
    void (*unmask)(struct irq_desc *desc);
    void (*retarget)(struct irq_desc *desc);  /* desc->lock held: cpu or vector changed; mask as it was */
    void (*release)(struct irq_desc *desc);   /* the irq is gone; without desc->lock */
};

struct irq_guest {
    struct domain *d;
    u32 pirq, port;
    bool awaits_eoi;
};

struct msi_entry {
    struct pci_dev *dev;
    bool msix;
    u16 index;          /* MSI-X: entry of the table */
    bool is_64, can_mask;
    u8 mask_reg;
};

struct irq_desc {
    spinlock_t lock;                    /* RANK_IRQ, interrupts off */
    u32 irq;
    const struct irq_chip *chip;        /* NULL: not set up */
    u8 vector;
    u16 cpu;                            /* whom it interrupts */
    bool level, low;
    bool is_domus;                      /* a domU's message, which gets nothing of what is kept for dom0 */
    bool masked, storm;
    u16 sends;                          /* a line: what its entry in the IO-APIC has of the message's data */

    void (*fn)(void *data, struct cpu_regs *regs);   /* the hypervisor's own */
    void *data;

    struct irq_guest guest[MAX_SHARERS];
    u8 nr_guests;
    bool shareable;

    u32 burst;
    u32 rest_round, rest_used;          /* of its CPU's budget for domUs' interrupts (irq.c) */
    u64 burst_start, count;
    u64 storm_said;                     /* when the log had it last; 0: never */
    struct timer storm_timer;
    struct msi_entry msi;
};

extern struct irq_desc *irq_descs;      /* nr_irqs of them */

/* Gives desc a vector and takes it back. -ENOSPC: none is free, or only such as are kept for dom0. */
int vector_alloc(struct irq_desc *desc);
void vector_free(struct irq_desc *desc);

/* Programs a GSI, masked, unless it is so already. -EINVAL: no such GSI; -EBUSY: bound with the other trigger mode. */
int gsi_setup(u32 gsi, bool level, bool low);
bool irq_is_host(u32 irq);

void ioapic_init(void);                 /* sets nr_gsis */
int ioapic_read_guest(maddr_t base, u32 reg, u32 *value);    /* 0 or -errno */
/* GSI whose low redirection word is register reg of the IO-APIC at base; -1: none. */
s64 ioapic_reg_to_gsi(maddr_t base, u32 reg);
void ioapic_program(struct irq_desc *desc);

extern const struct irq_remapper *irq_remapper;    /* NULL: interrupts are not remapped */

/* irqs made for messages: the caller holds the lock of all pirq tables (pirq.c), which guards their coming and going. */
/* An irq of d's for entry `index` (MSI: 0) of a device's MSI or MSI-X capability, masked. irq number or -errno. */
s64 msi_create(const struct domain *d, u32 sbdf, bool msix, u32 index, u64 table_base);
void irq_destroy(u32 irq);              /* an irq made by msi_create */
/* Writes the messages of a device again, after it lost them. -ENODEV: it has none. */
int msi_restore(u32 sbdf);
/* A free desc above the GSIs, NULL if all are taken, or domus, and the others are kept for dom0. */
struct irq_desc *irq_alloc_dynamic(bool domus);

/* Guests' side of a desc. */
int irq_bind_guest(struct irq_desc *desc, struct domain *d, u32 pirq, u32 port, bool shareable);
void irq_unbind_guest(struct irq_desc *desc, struct domain *d);
void irq_guest_eoi(struct irq_desc *desc, struct domain *d);

void i8259_init(void);

#endif
