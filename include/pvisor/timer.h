/* One-shot timers on per-CPU heaps; expiry functions run in softirq context with interrupts on. */
#ifndef PVISOR_TIMER_H
#define PVISOR_TIMER_H

#include <pvisor/types.h>

struct timer {
    u64 expires;               /* system time, ns */
    void (*fn)(void *data);
    void *data;
    u16 cpu;
    u8 state;                  /* private to timer.c */
    /* Pairing heap: first child, next sibling, and what points here (parent or previous sibling). */
    struct timer *child, *next, *prev;
};

/* On each CPU before its first timer (sched_init_cpu() calls it). */
void timer_init_cpu(void);
/* On a CPU that comes back online (sched_return_cpu() calls it). */
void timer_return_cpu(void);
/* From the local timer's interrupt: what was programmed has come. */
void timer_interrupt(void);

/* fn(data) will run on cpu. Also what makes a killed timer usable again. */
void timer_init(struct timer *t, void (*fn)(void *), void *data, unsigned cpu);
void timer_set(struct timer *t, u64 expires);    /* arms or re-arms; a time that is past fires at once */
void timer_stop(struct timer *t);                /* after return fn will not start; it may still be running */
void timer_kill(struct timer *t);                /* also waits for a running fn; timer_set has no effect after it */
void timer_migrate(struct timer *t, unsigned cpu);
bool timer_armed(const struct timer *t);
/* Moves every timer of a CPU that goes offline to another. */
void timer_migrate_all(unsigned from, unsigned to);

#endif
