/*
 * Ticket locks, and in debug builds the check that they are taken in rank order.
 *
 * A debug build keeps, per CPU, the locks held with the address that took each. Interrupt handlers push
 * onto the same stack: what they interrupt is still held, so the order must hold across them too.
 */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>

#define CALLER __builtin_return_address(0)

/* The holder may be waiting for us to flush our TLB, and interrupts may be off here (guests' exceptions). */
void __attribute__((cold)) ticket_wait(const spinlock_t *l, u16 mine)
{
    while (__atomic_load_n(&l->t.serving, __ATOMIC_ACQUIRE) != mine) {
        smp_call_poll();
        cpu_relax();
    }
}

#ifdef DEBUG

#define MAX_HELD 16

struct held_locks {
    unsigned nr;
    spinlock_t *lock[MAX_HELD];
};

STATIC_PERCPU(struct held_locks, held);
static bool checks_off;

void spin_checks_off(void)
{
    write_once(checks_off, true);
}

static void complain(const char *what, const spinlock_t *l, const void *caller, const spinlock_t *other)
{
    spin_checks_off();
    panic("lock %p (rank %u) from %p: %s %p (rank %u, taken at %p)",
          (const void *)l, l->rank, caller, what, (const void *)other, other->rank, other->caller);
}

static void check_order(const spinlock_t *l, const void *caller, bool second)
{
    u64 flags = irq_save();
    const struct held_locks *h = &this_cpu(held);

    if (l->rank >= RANK_IRQ && (flags & RFLAGS_IF))
        complain("interrupts are on; itself:", l, caller, l);
    for (unsigned i = 0; i < h->nr; i++) {
        if (h->lock[i] == l)
            complain("already held:", l, caller, l);
        if (l->rank && (second ? h->lock[i]->rank > l->rank : h->lock[i]->rank >= l->rank))
            complain("while holding", l, caller, h->lock[i]);
    }
    irq_restore(flags);
}

static void record_lock(spinlock_t *l, const void *caller)
{
    u64 flags = irq_save();
    struct held_locks *h = &this_cpu(held);

    l->owner = (u16)(this_cpu_id() + 1);
    l->caller = caller;
    if (h->nr == MAX_HELD)
        complain("too many locks held; last:", l, caller, h->lock[MAX_HELD - 1]);
    h->lock[h->nr++] = l;
    irq_restore(flags);
}

static void record_unlock(spinlock_t *l, const void *caller)
{
    u64 flags = irq_save();
    struct held_locks *h = &this_cpu(held);
    unsigned i = h->nr;

    while (i && h->lock[i - 1] != l)
        i--;
    if (!i)
        complain("released but not held by this CPU:", l, caller, l);
    for (; i < h->nr; i++)
        h->lock[i - 1] = h->lock[i];
    h->nr--;
    l->owner = 0;
    irq_restore(flags);
}

bool spin_is_held(const spinlock_t *l)
{
    return read_once(checks_off) || l->owner == this_cpu_id() + 1;
}

void spin_check_none_held(const char *where)
{
    const struct held_locks *h = &this_cpu(held);

    if (h->nr && !read_once(checks_off)) {
        spin_checks_off();
        panic("%s: lock %p (rank %u, taken at %p) is still held", where, (void *)h->lock[h->nr - 1],
              h->lock[h->nr - 1]->rank, h->lock[h->nr - 1]->caller);
    }
}

#define CHECKED(action) do { if (!read_once(checks_off)) action; } while (0)

void spin_lock(spinlock_t *l)
{
    CHECKED(check_order(l, CALLER, false));
    ticket_lock(l);
    CHECKED(record_lock(l, CALLER));
}

void spin_lock_second(spinlock_t *l)
{
    CHECKED(check_order(l, CALLER, true));
    ticket_lock(l);
    CHECKED(record_lock(l, CALLER));
}

/* Never waits, so it cannot deadlock and obeys no order; what is taken inside still does. */
bool spin_trylock(spinlock_t *l)
{
    if (!ticket_trylock(l))
        return false;
    CHECKED(record_lock(l, CALLER));
    return true;
}

void spin_unlock(spinlock_t *l)
{
    CHECKED(record_unlock(l, CALLER));
    ticket_unlock(l);
}

u64 spin_lock_irqsave(spinlock_t *l)
{
    u64 flags = irq_save();

    CHECKED(check_order(l, CALLER, false));
    ticket_lock(l);
    CHECKED(record_lock(l, CALLER));
    return flags;
}

void spin_unlock_irqrestore(spinlock_t *l, u64 flags)
{
    CHECKED(record_unlock(l, CALLER));
    ticket_unlock(l);
    irq_restore(flags);
}

#else

void spin_checks_off(void) { }
bool spin_is_held(const spinlock_t *l) { (void)l; return true; }
void spin_check_none_held(const char *where) { (void)where; }
#endif
