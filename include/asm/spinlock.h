/* The ticket lock itself: pvisor/spinlock.h adds the checks of debug builds. */
#ifndef ASM_SPINLOCK_H
#define ASM_SPINLOCK_H

#include <asm/sites.h>
#include <asm/x86.h>

/* Answers other CPUs until it is mine's turn: common/spinlock.c. */
void ticket_wait(const spinlock_t *l, u16 mine);

/*
 * The call of it as it is from C, but for registers: all are preserved, so that a function that takes a lock need not keep its values
 * where calls leave them alone.
 */
#ifdef HOST_TEST
#define ticket_wait_quietly(l, mine) ticket_wait(l, mine)
#else
static always_inline void ticket_wait_quietly(const spinlock_t *l, u16 mine)
{
    __asm__ volatile("call ticket_wait_saving" : : "D"(l), "S"((u32)mine) : "memory", "cc");
}
#endif

/*
 * A CPU that expects a lock to be free goes on behind it before it knows (GhostRace, CVE-2024-2193), with whatever its holder has half
 * done. So there is a fence behind the branch, where the command line does not say otherwise.
 */
#ifdef HOST_TEST
#define lock_fence() ((void)0)
#else
#define lock_fence() __asm__ volatile(SITE_ALONE("%c0") : : "i"(SITE_LOCK) : "memory")
#endif

static inline void ticket_lock(spinlock_t *l)
{
    u16 mine = __atomic_fetch_add(&l->t.next, 1, __ATOMIC_SEQ_CST);

    if (unlikely(__atomic_load_n(&l->t.serving, __ATOMIC_ACQUIRE) != mine))
        ticket_wait_quietly(l, mine);
    lock_fence();
}

static inline bool ticket_trylock(spinlock_t *l)
{
    u16 serving = __atomic_load_n(&l->t.serving, __ATOMIC_ACQUIRE);   /* its last holder's release */
    u16 expected = serving;

    if (!__atomic_compare_exchange_n(&l->t.next, &expected, (u16)(serving + 1), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return false;
    lock_fence();
    return true;
}

/* Only the holder writes serving, so a plain add and a release store do. */
static inline void ticket_unlock(spinlock_t *l)
{
    __atomic_store_n(&l->t.serving, (u16)(l->t.serving + 1), __ATOMIC_RELEASE);
}

static inline u64 ticket_lock_irqsave(spinlock_t *l)
{
    u64 flags = irq_save();

    ticket_lock(l);
    return flags;
}

static inline void ticket_unlock_irqrestore(spinlock_t *l, u64 flags)
{
    ticket_unlock(l);
    irq_restore(flags);
}

#endif
