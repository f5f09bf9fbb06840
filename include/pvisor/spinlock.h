/*
 * Ticket spinlocks with a rank. Locks are taken in rising rank order; debug builds panic on a
 * violation, on recursion and on a release by a CPU that does not hold the lock. Interrupt handlers may
 * take only locks of rank >= RANK_IRQ, and those are taken with interrupts off (spin_lock_irqsave).
 * docs/locking.md states the order, which is the enum below, and what each lock is for.
 */
#ifndef PVISOR_SPINLOCK_H
#define PVISOR_SPINLOCK_H

#include <pvisor/types.h>

enum lock_rank {
    RANK_NONE = 0,
    RANK_CONTROL,      /* one control call (domctl, sysctl) at a time */
    RANK_DOMAIN,       /* a domain's life cycle: vCPU table, shutdown, pause */
    RANK_DOMLIST,      /* the list and hash of domains */
    RANK_DEVICES,      /* whose PCI functions are */
    RANK_PIRQ,         /* a domain's pirq table */
    RANK_PCI,          /* PCI devices and configuration space */
    RANK_PT,           /* one domain's page-table updates */
    RANK_GRANT,        /* one grant table; never two at once */
    RANK_EVTCHN,       /* a domain's port table; two at once in domid order (spin_lock_second) */
    RANK_EVTCHN_PORT,  /* one event channel: held to send on it, and to change its state */
    RANK_PAGES,        /* a domain's page accounting */
    RANK_IOMMU,        /* what devices reach */
    RANK_VMAP,
    RANK_XMALLOC,
    RANK_HEAP,         /* the frame allocator */
    RANK_IRQ,          /* irq_desc: first rank that interrupt handlers may take */
    RANK_VIRQ,         /* a vCPU's virq table */
    RANK_FIFO,         /* a FIFO event queue */
    RANK_SCHED,        /* a CPU's run queue; never two at once */
    RANK_TIMER,        /* a CPU's timer heap; two at once in CPU order */
    RANK_APIC,         /* IO-APIC registers and other index/data pairs */
    RANK_CONSOLE,
    RANK_DOMHASH,      /* finding domains by number, and their last references */
    RANK_LEAF,         /* nothing is taken inside */
};

typedef struct {
    struct { u16 serving, next; } t;   /* ticket being served; next one to hand out */
    u8 rank;
#ifdef DEBUG
    u8 pad;
    u16 owner;         /* CPU + 1, 0 when free */
    const void *caller;
#endif
} spinlock_t;

#define SPINLOCK_INIT(r) { .rank = (r) }
static inline void spin_lock_init(spinlock_t *l, enum lock_rank rank) { *l = (spinlock_t)SPINLOCK_INIT(rank); }

/*
 * spin_lock_second() takes a second lock of the same rank, in the order that the rank's comment states. Debug builds have
 * these as functions, which know their caller; release builds have them in line.
 */
#include <asm/spinlock.h>
#ifdef DEBUG
void spin_lock(spinlock_t *l);
void spin_lock_second(spinlock_t *l);
bool spin_trylock(spinlock_t *l);
void spin_unlock(spinlock_t *l);
u64 spin_lock_irqsave(spinlock_t *l);
void spin_unlock_irqrestore(spinlock_t *l, u64 flags);
#else
#define spin_lock(l)        ticket_lock(l)
#define spin_lock_second(l) ticket_lock(l)
#define spin_trylock(l)     ticket_trylock(l)
#define spin_unlock(l)      ticket_unlock(l)
#define spin_lock_irqsave(l) ticket_lock_irqsave(l)
#define spin_unlock_irqrestore(l, flags) ticket_unlock_irqrestore(l, flags)
#endif
/* For ASSERT: this CPU holds l (always true in release builds). */
bool spin_is_held(const spinlock_t *l);
/* For panic(): nothing is checked from here on, so that the message gets out whatever is held. */
void spin_checks_off(void);
/* Debug builds panic if this CPU holds a lock: where a CPU is about to leave for a guest or another vCPU. */
void spin_check_none_held(const char *where);

#endif
