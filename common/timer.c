/*
 * Timers. Each CPU has a pairing heap of armed timers, linked through the timers themselves, so that arming
 * one never allocates. The hardware is told only when an earlier time comes up: a timer that is stopped or
 * moved later leaves at worst one interrupt that finds nothing to do.
 */
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/cpumask.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

enum timer_state { TIMER_NEVER_INIT, TIMER_IDLE, TIMER_ARMED, TIMER_KILLED };

#define NEVER (~0UL)

struct timer_queue {
    spinlock_t lock;
    struct timer *root;
    struct timer *running;      /* whose fn is being called on this CPU */
    u64 programmed;             /* what the hardware was last told; NEVER: nothing */
};
STATIC_PERCPU(struct timer_queue, queues);

/* --- The heap -------------------------------------------------------------------------------------- */

/* Joins two heaps, either of which may be empty; the root has no prev and no next. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->expires < a->expires) {
        struct timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    a->child = b;
    return a;
}

/* Melds a list of siblings pair by pair, then the pairs together from the last to the first. */
static struct timer *meld_siblings(struct timer *list)
{
    struct timer *pairs = NULL, *root = NULL;

    while (list) {
        struct timer *a = list, *b = a->next, *pair;

        list = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        struct timer *next = pairs->next;

        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

static void heap_insert(struct timer_queue *q, struct timer *t)
{
    t->child = t->next = t->prev = NULL;
    q->root = meld(q->root, t);
    write_once(t->state, TIMER_ARMED);
}

static void heap_remove(struct timer_queue *q, struct timer *t)
{
    struct timer *below = meld_siblings(t->child);

    if (t == q->root) {
        q->root = below;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        q->root = meld(q->root, below);
    }
    t->child = t->next = t->prev = NULL;
    write_once(t->state, TIMER_IDLE);
}

/* --- Locking and hardware -------------------------------------------------------------------------- */

/* The queue that t belongs to, locked with interrupts off; t may be moving between CPUs meanwhile. */
static struct timer_queue *lock_queue_of(const struct timer *t, u64 *flags)
{
    for (;;) {
        unsigned cpu = read_once(t->cpu);
        struct timer_queue *q = &cpu_var(queues, cpu);

        *flags = spin_lock_irqsave(&q->lock);
        if (likely(cpu == read_once(t->cpu)))
            return q;
        spin_unlock_irqrestore(&q->lock, *flags);
    }
}

/* Sees to it that cpu looks at its queue no later than at its earliest timer. Called with the lock held. */
static void program(struct timer_queue *q, unsigned cpu)
{
    if (!q->root || q->root->expires >= read_once(q->programmed))
        return;
    if (cpu != this_cpu_id()) {
        raise_softirq_on(cpu, SOFTIRQ_TIMER);
        return;
    }
    q->programmed = q->root->expires;
    clock_event_set(q->programmed);
}

void timer_interrupt(void)
{
    write_once(this_cpu(queues).programmed, NEVER);
    raise_softirq(SOFTIRQ_TIMER);
}

/* Takes the earliest timer off the heap if its time has come, else programs the hardware for it. */
static struct timer *next_expired(struct timer_queue *q)
{
    u64 flags = spin_lock_irqsave(&q->lock);
    struct timer *t = q->root;
    u64 now = now_ns();

    write_once(q->running, NULL);
    if (q->programmed <= now)
        q->programmed = NEVER;
    if (t && t->expires <= now) {
        heap_remove(q, t);
        write_once(q->running, t);
    } else {
        t = NULL;
        program(q, this_cpu_id());
    }
    spin_unlock_irqrestore(&q->lock, flags);
    return t;
}

static void run_timers(void)
{
    struct timer_queue *q = &this_cpu(queues);
    struct timer *t;

    while ((t = next_expired(q)) != NULL)
        t->fn(t->data);
}

/* --- The interface --------------------------------------------------------------------------------- */

void timer_init_cpu(void)
{
    struct timer_queue *q = &this_cpu(queues);

    spin_lock_init(&q->lock, RANK_TIMER);
    q->root = q->running = NULL;
    q->programmed = NEVER;
    softirq_register(SOFTIRQ_TIMER, run_timers);
}

/* Going offline took what the hardware was told from it, and others may have left timers here meanwhile. */
void timer_return_cpu(void)
{
    struct timer_queue *q = &this_cpu(queues);
    u64 flags = spin_lock_irqsave(&q->lock);

    q->programmed = NEVER;
    spin_unlock_irqrestore(&q->lock, flags);
    raise_softirq(SOFTIRQ_TIMER);
}

void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu)
{
    *t = (struct timer){ .fn = fn, .data = data, .cpu = (u16)cpu, .state = TIMER_IDLE };
}

/*
 * As lock_queue_of(), for arming t: a timer that lay idle when its CPU went offline comes here. Asked with the lock held, which
 * timer_migrate_all() takes once that CPU is not online any more: either we see that, or it moves what we arm.
 */
static struct timer_queue *lock_queue_to_arm(struct timer *t, u64 *flags)
{
    for (;;) {
        struct timer_queue *q = lock_queue_of(t, flags);

        if (likely(t->cpu == this_cpu_id() || cpumask_test(&cpu_online_map, t->cpu)))
            return q;
        spin_unlock_irqrestore(&q->lock, *flags);
        timer_migrate(t, this_cpu_id());
    }
}

/* What a guest does all the time: its timer, with none below it, goes to a later time. Then the heap stays as it is. */
static bool can_stay(const struct timer *t, u64 expires)
{
    return short_way(t->state == TIMER_ARMED) && !t->child && expires >= t->expires;
}

void timer_set(struct timer *t, u64 expires)
{
    u64 flags;
    struct timer_queue *q;

    q = lock_queue_to_arm(t, &flags);
    if (likely(can_stay(t, expires))) {
        write_once(t->expires, expires);
    } else if (t->state != TIMER_KILLED) {
        if (t->state == TIMER_ARMED)
            heap_remove(q, t);
        write_once(t->expires, expires);
        heap_insert(q, t);
        if (q->root == t)
            program(q, t->cpu);
    }
    spin_unlock_irqrestore(&q->lock, flags);
}

/* Leaves t in the given state, off the heap. */
static void take_off(struct timer *t, enum timer_state state)
{
    u64 flags;
    struct timer_queue *q = lock_queue_of(t, &flags);

    if (t->state == TIMER_ARMED)
        heap_remove(q, t);
    if (t->state != TIMER_KILLED)
        write_once(t->state, (u8)state);
    spin_unlock_irqrestore(&q->lock, flags);
}

void timer_stop(struct timer *t)
{
    if (read_once(t->state) == TIMER_ARMED)
        take_off(t, TIMER_IDLE);
}

/*
 * A timer may have been migrated while its function ran, so every CPU is looked at, also one on its way offline, but not this one: a
 * timer that kills itself from its own function must not wait for itself. That function may wait for us meanwhile.
 */
void timer_kill(struct timer *t)
{
    unsigned cpu;

    if (t->state == TIMER_NEVER_INIT)
        return;
    take_off(t, TIMER_KILLED);
    for (cpu = 0; cpu < nr_cpus; cpu++)
        while (cpu != this_cpu_id() && read_once(cpu_var(queues, cpu).running) == t) {
            smp_call_poll();
            cpu_relax();
        }
}

bool timer_armed(const struct timer *t)
{
    return read_once(t->state) == TIMER_ARMED;
}

static void lock_two(struct timer_queue *a, struct timer_queue *b)
{
    spin_lock(a < b ? &a->lock : &b->lock);
    spin_lock_second(a < b ? &b->lock : &a->lock);
}

/* Moves t from one queue to another, both locked. */
static void move_timer(struct timer *t, struct timer_queue *from, struct timer_queue *to, unsigned cpu)
{
    bool armed = t->state == TIMER_ARMED;

    if (armed)
        heap_remove(from, t);
    write_once(t->cpu, (u16)cpu);
    if (armed)
        heap_insert(to, t);
}

void timer_migrate(struct timer *t, unsigned cpu)
{
    struct timer_queue *to = &cpu_var(queues, cpu);
    u64 flags;
    unsigned old;

    if (likely(read_once(t->cpu) == cpu))
        return;
    flags = irq_save();
    while ((old = read_once(t->cpu)) != cpu) {
        struct timer_queue *from = &cpu_var(queues, old);

        lock_two(from, to);
        if (t->cpu == old) {
            move_timer(t, from, to, cpu);
            program(to, cpu);
        }
        spin_unlock(&from->lock);
        spin_unlock(&to->lock);
    }
    irq_restore(flags);
}

void timer_migrate_all(unsigned from_cpu, unsigned to_cpu)
{
    struct timer_queue *from = &cpu_var(queues, from_cpu), *to = &cpu_var(queues, to_cpu);
    u64 flags = irq_save();

    lock_two(from, to);
    while (from->root)
        move_timer(from->root, from, to, to_cpu);
    program(to, to_cpu);
    spin_unlock(&from->lock);
    spin_unlock(&to->lock);
    irq_restore(flags);
}
