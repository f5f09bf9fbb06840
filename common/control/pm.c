/*
 * Idle and performance states as xenpm asks for them. Idle CPUs wait in C1, by HLT or MWAIT, of which there are figures; clocks are
 * the firmware's, of which there are none.
 */
#include <asm/idle.h>
#include <asm/time.h>
#include <pvisor/lib.h>
#include <pvisor/time.h>
#include "internal.h"

#define NR_CX 2     /* C0 and C1 */

static u64 ticks_to_ns(u64 ticks)
{
    u64 khz = tsc_khz();

    return ticks / khz * 1000000 + ticks % khz * 1000000 / khz;
}

static s64 idle_figures(u32 cpu, struct pm_cx_stat *s)
{
    struct idle_stat i = idle_stat(cpu);
    u64 waited = ticks_to_ns(i.ticks), now = now_ns();
    const u64 triggers[NR_CX] = { i.waits, i.waits }, residencies[NR_CX] = { now > waited ? now - waited : 0, waited };
    u32 nr = min(s->nr, (u32)NR_CX);

    s->nr = NR_CX;
    s->last = NR_CX - 1;
    s->idle_time = vcpu_runtime(idle_domain->vcpu[cpu]);
    s->nr_pc = s->nr_cc = 0;        /* no register of the CPU's own is read */
    if (copy_to_guest(gva(s->triggers), triggers, nr * sizeof(u64)))
        return -EFAULT;
    return copy_to_guest(gva(s->residencies), residencies, nr * sizeof(u64));
}

s64 sc_get_pmstat(struct xen_sysctl *op)
{
    struct xen_sysctl_get_pmstat *p = &op->u.get_pmstat;

    if (!cpu_is_online(p->cpuid))
        return refuse(-EINVAL, "CPU %u is not online", p->cpuid);
    switch (p->type) {
    case PMSTAT_get_max_cx:
        p->u.getcx.nr = NR_CX;
        return 0;
    case PMSTAT_get_cxstat:
        return idle_figures(p->cpuid, &p->u.getcx);
    case PMSTAT_reset_cxstat:
        return refuse(-EOPNOTSUPP, "idle figures are counted from the start of the machine");
    }
    if ((p->type & PMSTAT_CATEGORY_MASK) == PMSTAT_PX)
        return decline(-ENODEV, "CPUs' frequencies are left to the firmware: there are no figures of them");
    return refuse(-EINVAL, "unknown figure %#x", p->type);
}

s64 sc_pm_op(struct xen_sysctl *op)
{
    struct xen_sysctl_pm_op *p = &op->u.pm_op;

    switch (p->cmd) {
    case XEN_SYSCTL_pm_op_get_max_cstate:       /* of CPU "1": the sub-state */
        p->u.get_max_cstate = p->cpuid ? 0 : 1;
        return 0;
    case XEN_SYSCTL_pm_op_set_max_cstate:
        return refuse(-EOPNOTSUPP, "idle CPUs wait in C1, and idle= says how");
    case XEN_SYSCTL_pm_op_set_sched_opt_smt:
        return refuse(-EOPNOTSUPP, "threads of a core are not told apart");
    }
    return decline(-ENODEV, "operation %#x: CPUs' frequencies are left to the firmware", p->cmd);
}
