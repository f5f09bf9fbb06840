/* The scheduler as the toolstack sees it: credit2, whose parameters (weight, cap, rate limit) are ours. */
#include <public/domctl.h>
#include <public/errno.h>
#include <public/sysctl.h>
#include <pvisor/cpupool.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>

s64 sched_domctl(struct domain *d, struct xen_domctl_scheduler_op *op)
{
    u32 weight, cap;

    if (op->sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "scheduler %u, expected credit2 (%u)", op->sched_id, XEN_SCHEDULER_CREDIT2);
    sched_get_params(d, &weight, &cap);
    switch (op->cmd) {
    case XEN_DOMCTL_SCHEDOP_putinfo:    /* weight 0: leave it */
        return sched_set_params(d, op->u.credit2.weight ? op->u.credit2.weight : weight, op->u.credit2.cap);
    case XEN_DOMCTL_SCHEDOP_getinfo:
        op->u.credit2.weight = (u16)weight;
        op->u.credit2.cap = (u16)cap;
        return 0;
    }
    return refuse(-EINVAL, "command %u: credit2 has no parameters per vCPU", op->cmd);
}

s64 sched_sysctl(struct xen_sysctl_scheduler_op *op)
{
    struct cpupool *pool = cpupool_get(op->cpupool_id);

    if (!pool)
        return refuse(-ESRCH, "there is no CPU pool %u", op->cpupool_id);
    if (op->sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "scheduler %u, expected credit2 (%u)", op->sched_id, XEN_SCHEDULER_CREDIT2);
    switch (op->cmd) {
    case XEN_SYSCTL_SCHEDOP_putinfo:
        return sched_set_ratelimit(pool, op->u.sched_credit2.ratelimit_us);
    case XEN_SYSCTL_SCHEDOP_getinfo:
        op->u.sched_credit2.ratelimit_us = pool->ratelimit_us;
        return 0;
    }
    return refuse(-EINVAL, "command %u, expected 0 or 1", op->cmd);
}
