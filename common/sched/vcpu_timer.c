/* A vCPU's timers (single-shot, periodic, the one of SCHEDOP_poll) and a domain's watchdogs. */
#include <asm/atomic.h>
#include <public/sched.h>
#include <pvisor/printk.h>
#include "internal.h"

static void singleshot_over(void *data)
{
    send_guest_vcpu_virq(data, VIRQ_TIMER);
}

/*
 * The tick wakes v if it is blocked. The next one is set only if v runs, else when it does (vcpu_ticks_again()): so a vCPU that
 * is down, paused, waits or cannot be woken takes one interrupt of others' time for each time it ran, and no more.
 * This side sees the timer off the queue, then looks whether v runs; the other side the reverse: one of them sets it.
 */
static void periodic_over(void *data)
{
    struct vcpu *v = data;

    if (!read_once(v->periodic_period))
        return;
    send_guest_vcpu_virq(v, VIRQ_TIMER);
    smp_mb();
    if (read_once(v->is_running))
        vcpu_set_next_tick(v);
}

static void poll_over(void *data)
{
    struct vcpu *v = data;

    if (read_once(v->poll_active))
        vcpu_unblock(v);
}

void vcpu_timers_init(struct vcpu *v)
{
    timer_init(&v->singleshot, singleshot_over, v, v->cpu);
    timer_init(&v->periodic, periodic_over, v, v->cpu);
    timer_init(&v->poll_timer, poll_over, v, v->cpu);
}

/* The tick that a vCPU has until its kernel stops it (VCPUOP_stop_periodic_timer): 100 Hz, as old kernels expect. */
void vcpu_start_ticking(struct vcpu *v)
{
    v->periodic_period = MILLISECS(10);
    timer_set(&v->periodic, now_ns() + v->periodic_period);
}

void vcpu_timers_kill(struct vcpu *v)
{
    timer_kill(&v->singleshot);
    timer_kill(&v->periodic);
    timer_kill(&v->poll_timer);
}

static void watchdog_over(void *data)
{
    struct domain *d = data;

    if (d->is_shut_down || d->dying != DOMAIN_ALIVE)
        return;
    printk(LOG_WARNING "d%u: its watchdog was not reset in time\n", d->id);
    domain_shutdown(d, SHUTDOWN_watchdog);
}

void domain_watchdogs_init(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->sched.watchdog); i++)
        timer_init(&d->sched.watchdog[i], watchdog_over, d, this_cpu_id());
}

void domain_watchdogs_kill(struct domain *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(d->sched.watchdog); i++)
        timer_kill(&d->sched.watchdog[i]);
}
