/* NMIs: what the hardware reports, and our own, which find out where a CPU is whatever it does. */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/symbols.h>
#include <asm/x86.h>
#include <pvisor/cpumask.h>
#include <pvisor/domain.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include "internal.h"

#define TRACE_DEPTH 16
#define ANSWER_US 100000u

/* A handler must not print: the CPU may be in the middle of that. So it leaves its findings here. */
struct snapshot {
    bool wanted, taken;
    u64 rip, nr;
    u16 cs;
    u64 trace[TRACE_DEPTH];
    const struct vcpu *v;
};
STATIC_PERCPU(struct snapshot, snapshots);
static bool stop_all;
STATIC_PERCPU(u32, nmi_reason);

static void take_snapshot(struct snapshot *s, const struct cpu_regs *r)
{
    s->rip = r->rip;
    s->cs = r->cs;
    s->v = current;
    s->nr = r->cs & 3 ? 0 : stack_trace(r->rbp, s->trace, TRACE_DEPTH);
    __atomic_store_n(&s->taken, true, __ATOMIC_RELEASE);
}

void trap_nmi(struct cpu_regs *r)
{
    struct snapshot *s = &this_cpu(snapshots);

    if (xchg(&s->wanted, false)) {
        take_snapshot(s, r);
        if (read_once(stop_all))
            halt_forever();
        return;
    }
    /* The hardware's: told by tell_of_nmi() (pv/nmi.c), once printing is safe. */
    write_once(this_cpu(nmi_reason), inb(0x61) | 0x100);
    raise_softirq(SOFTIRQ_NMI);
}

u32 nmi_take_reason(void) { return xchg(&this_cpu(nmi_reason), 0u); }

static void ask(unsigned cpu)
{
    struct snapshot *s = &cpu_var(snapshots, cpu);

    write_once(s->taken, false);
    (void)xchg(&s->wanted, true);
    lapic_send_nmi(cpu);
}

static void show(unsigned cpu)
{
    struct snapshot *s = &cpu_var(snapshots, cpu);

    for (unsigned us = 0; us < ANSWER_US && !read_once(s->taken); us += 100)
        delay_us(100);
    if (!__atomic_load_n(&s->taken, __ATOMIC_ACQUIRE)) {
        printk(LOG_ERR "CPU%u does not answer an NMI\n", cpu);
        return;
    }
    printk(LOG_ERR "CPU%u is at %04x:%016lx", cpu, s->cs, s->rip);
    if (s->v && !is_idle_vcpu(s->v))
        printk(LOG_ERR " with d%uv%u", s->v->domain->id, s->v->id);
    printk(LOG_ERR "\n");
    if (s->cs & 3)
        return;
    print_symbol(s->rip);
    for (unsigned i = 0; i < s->nr; i++)
        print_symbol(s->trace[i]);
}

void nmi_show_cpu(unsigned cpu)
{
    ask(cpu);
    show(cpu);
}

void nmi_stop_others(bool tell)
{
    unsigned c;

    if (nr_cpus == 1 || xchg(&stop_all, true))
        return;
    for_each_cpu(c, &cpu_live_map)
        if (c != this_cpu_id())
            ask(c);
    for_each_cpu(c, &cpu_live_map)
        if (tell && c != this_cpu_id())
            show(c);
}
