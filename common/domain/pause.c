/*
 * Holding domains and vCPUs back. Both have a count of those who want them held; the flag VPF_PAUSED, which
 * is what the scheduler looks at, is set while either count is not 0.
 */
#include <asm/atomic.h>
#include <public/errno.h>
#include <pvisor/printk.h>
#include "internal.h"

/* Keeps counts and flags in step. Nothing is taken inside. */
static spinlock_t pause_lock = SPINLOCK_INIT(RANK_LEAF);

static void set_flag(struct vcpu *v)
{
    if (v->pause_count || v->domain->pause_count)
        atomic_or(&v->pause_flags, VPF_PAUSED);
    else
        atomic_and(&v->pause_flags, ~VPF_PAUSED);
}

static void vcpu_count(struct vcpu *v, int delta)
{
    u64 flags = spin_lock_irqsave(&pause_lock);

    BUG_ON(delta < 0 && !v->pause_count);
    v->pause_count += (u32)delta;
    set_flag(v);
    spin_unlock_irqrestore(&pause_lock, flags);
}

static void domain_count(struct domain *d, int delta)
{
    struct vcpu *v;
    u64 flags = spin_lock_irqsave(&pause_lock);

    BUG_ON(delta < 0 && !d->pause_count);
    d->pause_count += (u32)delta;
    for_each_vcpu(d, v)
        set_flag(v);
    spin_unlock_irqrestore(&pause_lock, flags);
}

/* A new vCPU joins its domain, which may be paused. */
void domain_add_vcpu(struct vcpu *v)
{
    u64 flags = spin_lock_irqsave(&pause_lock);

    set_flag(v);
    write_once(v->domain->vcpu[v->id], v);
    spin_unlock_irqrestore(&pause_lock, flags);
}

void vcpu_pause_nowait(struct vcpu *v)
{
    vcpu_count(v, 1);
    vcpu_sleep_nowait(v);
}

void vcpu_pause(struct vcpu *v)
{
    ASSERT(v != current);
    vcpu_count(v, 1);
    vcpu_sleep_sync(v);
}

void vcpu_unpause(struct vcpu *v)
{
    vcpu_count(v, -1);
    vcpu_wake(v);
}

void domain_pause_nowait(struct domain *d)
{
    struct vcpu *v;

    domain_count(d, 1);
    for_each_vcpu(d, v)
        vcpu_sleep_nowait(v);
}

void domain_pause(struct domain *d)
{
    struct vcpu *v;

    ASSERT(d != current->domain);
    domain_count(d, 1);
    for_each_vcpu(d, v)
        vcpu_sleep_sync(v);
}

void domain_unpause(struct domain *d)
{
    struct vcpu *v;

    domain_count(d, -1);
    for_each_vcpu(d, v)
        vcpu_wake(v);
}

/* The toolstack's own count: `xl pause` twice needs `xl unpause` twice. Under the control lock. */
int domain_pause_by_controller(struct domain *d)
{
    if (d->controller_pause_count == 255)
        return refuse(-EOVERFLOW, "d%u is paused %u times already", d->id, d->controller_pause_count);
    d->controller_pause_count++;
    domain_pause(d);
    return 0;
}

int domain_unpause_by_controller(struct domain *d)
{
    if (!d->controller_pause_count)
        return refuse(-EINVAL, "d%u is not paused by the toolstack", d->id);
    d->creation_finished = true;
    d->controller_pause_count--;
    domain_unpause(d);
    return 0;
}
