/*
 * Cross calls. Each CPU has one request of its own and a set of the CPUs that want something of it, so calls
 * of different CPUs share no lock. Whoever waits, for an answer or for a lock, answers meanwhile: two CPUs that call each
 * other, or one that waits with interrupts off for a lock that a caller holds, cannot block each other.
 */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/irq.h>

struct request {
    void (*fn)(void *data);
    void *data;
    u32 unanswered;
};
STATIC_PERCPU(struct request, requests);   /* by the CPU that asks */

struct inbox {
    bool any;                              /* something may be in from */
    cpumask_t from;
};
STATIC_PERCPU(struct inbox, inboxes);

/* fn and data stay as they are until the count is taken down. */
static void answer(unsigned asker)
{
    struct request *r = &cpu_var(requests, asker);

    r->fn(r->data);
    atomic_dec(&r->unanswered);
}

void smp_call_poll(void)
{
    struct inbox *in = &this_cpu(inboxes);
    u64 flags;
    unsigned c;

    if (likely(!read_once(in->any)))
        return;
    flags = irq_save();
    (void)xchg(&in->any, false);
    for_each_cpu(c, &in->from)
        if (test_and_clear_bit(c, in->from.w))
            answer(c);
    irq_restore(flags);
}

/* A CPU that goes offline leaves the live map first and answers once more then: one of the two sees the other. */
static void ask(unsigned cpu, struct request *r)
{
    struct inbox *in = &cpu_var(inboxes, cpu);
    unsigned self = this_cpu_id();

    atomic_inc(&r->unanswered);
    cpumask_set(&in->from, self);
    (void)xchg(&in->any, true);
    if (cpumask_test(&cpu_live_map, cpu))
        lapic_send_ipi(cpu, VEC_CALL);
    else if (test_and_clear_bit(self, in->from.w))
        atomic_dec(&r->unanswered);
}

void smp_call(const cpumask_t *cpus, void (*fn)(void *data), void *data)
{
    struct request *r = &this_cpu(requests);
    unsigned c, self = this_cpu_id();

    r->fn = fn;
    r->data = data;
    for_each_cpu(c, cpus)
        if (c != self && cpumask_test(&cpu_live_map, c))
            ask(c, r);
    while (read_once(r->unanswered)) {
        smp_call_poll();
        cpu_relax();
    }
}
