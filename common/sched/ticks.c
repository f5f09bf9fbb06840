/* When a vCPU's periodic timer goes off next: vcpu_timer.c has what happens then. */
#include "internal.h"

/* Keeps to the period's own beat; for all that v missed meanwhile it has the one tick that is pending. */
void vcpu_set_next_tick(struct vcpu *v)
{
    u64 period = read_once(v->periodic_period), now = now_ns(), next = read_once(v->periodic.expires) + period;

    if (!period)
        return;
    if (next <= now)
        next += (now - next) / period * period + period;
    timer_set(&v->periodic, next);
}

void vcpu_ticks_again(struct vcpu *v)
{
    if (likely(!read_once(v->periodic_period)))
        return;
    timer_migrate(&v->periodic, v->cpu);
    if (!timer_armed(&v->periodic))
        vcpu_set_next_tick(v);
}
