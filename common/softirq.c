/* Softirqs and tasklets. */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/cpumask.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include <pvisor/fetch.h>
#include <pvisor/steps.h>

static void (*handlers[NR_SOFTIRQS])(void);
static struct cpu_info *info_of[NR_CPUS];   /* where each CPU's pending word is */

struct tasklet_queue {
    spinlock_t lock;
    struct tasklet *head, **tail;
};
STATIC_PERCPU(struct tasklet_queue, tasklets);

void softirq_register(enum softirq n, void (*fn)(void))
{
    handlers[n] = fn;
}

bool softirq_pending(void)
{
    return read_once(cpu_info()->softirq_pending);
}

void raise_softirq(enum softirq n)
{
    atomic_or(&cpu_info()->softirq_pending, 1u << n);
}

/*
 * A CPU goes to a guest or to sleep only when, with interrupts off, its pending word is 0. So a word
 * that was not 0 means that it will look by itself, or that an IPI is on its way already; and one that watches the word
 * needs none.
 */
void raise_softirq_on(unsigned cpu, enum softirq n)
{
    struct cpu_info *info = info_of[cpu];

    if (!info)
        return;
    if (!__atomic_fetch_or(&info->softirq_pending, 1u << n, __ATOMIC_SEQ_CST) && cpu != this_cpu_id() &&
        !read_once(info->watching))
        lapic_send_ipi(cpu, VEC_EVENT_CHECK);
}

void do_softirq(void)
{
    u32 todo = read_once(cpu_info()->softirq_pending);

    spin_check_none_held("softirq");
    steps_begin();
    fetch_begin();
    irq_enable();
    while (todo) {
        unsigned n = find_first_set(todo);

        todo &= todo - 1;
        atomic_and(&cpu_info()->softirq_pending, ~(1u << n));
        if (n < NR_SOFTIRQS && handlers[n])
            handlers[n]();
        steps_look();
    }
}

void tasklet_schedule_on(unsigned cpu, struct tasklet *t)
{
    struct tasklet_queue *q = &cpu_var(tasklets, cpu);
    u64 flags;

    if (xchg(&t->queued, true))
        return;
    flags = spin_lock_irqsave(&q->lock);
    t->next = NULL;
    *q->tail = t;
    q->tail = &t->next;
    spin_unlock_irqrestore(&q->lock, flags);
    raise_softirq_on(cpu, SOFTIRQ_TASKLET);
}

void tasklet_schedule(struct tasklet *t) { tasklet_schedule_on(this_cpu_id(), t); }

static struct tasklet *take_all(struct tasklet_queue *q)
{
    u64 flags = spin_lock_irqsave(&q->lock);
    struct tasklet *t = q->head;

    q->head = NULL;
    q->tail = &q->head;
    spin_unlock_irqrestore(&q->lock, flags);
    return t;
}

/* One that schedules itself again waits for the next round, so that other softirqs get their turn. */
static void run_tasklets(void)
{
    struct tasklet *t = take_all(&this_cpu(tasklets));

    while (t) {
        struct tasklet *next = t->next;

        (void)xchg(&t->queued, false);      /* what was written before it was scheduled, by anybody, is seen by fn */
        t->fn(t->data);
        t = next;
    }
}

void softirq_init_cpu(void)
{
    struct tasklet_queue *q = &this_cpu(tasklets);

    info_of[this_cpu_id()] = cpu_info();
    spin_lock_init(&q->lock, RANK_LEAF);
    q->head = NULL;
    q->tail = &q->head;
    softirq_register(SOFTIRQ_TASKLET, run_tasklets);
}
