/* The sysctl hypercall: one table from command to handler, as in domctl.c. */
#include <pvisor/lib.h>
#include "internal.h"

static const struct sysctl_command {
    sysctl_fn *fn;
    bool out, out_fail;         /* copied back after success, after failure */
} commands[] = {
    [XEN_SYSCTL_readconsole]            = { sc_readconsole, true, false },
    [XEN_SYSCTL_tbuf_op]                = { sc_tbuf_op, true, false },
    [XEN_SYSCTL_physinfo]               = { sc_physinfo, true, false },
    [XEN_SYSCTL_sched_id]               = { sc_sched_id, true, false },
    [XEN_SYSCTL_getdomaininfolist]      = { sc_getdomaininfolist, true, false },
    [XEN_SYSCTL_debug_keys]             = { sc_debug_keys, false, false },
    [XEN_SYSCTL_getcpuinfo]             = { sc_getcpuinfo, true, false },
    [XEN_SYSCTL_cpu_hotplug]            = { sc_cpu_hotplug, false, false },
    [XEN_SYSCTL_availheap]              = { sc_availheap, true, false },
    [XEN_SYSCTL_cputopoinfo]            = { sc_cputopoinfo, true, false },
    [XEN_SYSCTL_numainfo]               = { sc_numainfo, true, false },
    [XEN_SYSCTL_pcitopoinfo]            = { sc_pcitopoinfo, true, false },
    [XEN_SYSCTL_cpupool_op]             = { sc_cpupool_op, true, false },
    [XEN_SYSCTL_scheduler_op]           = { sc_scheduler_op, true, false },
    [XEN_SYSCTL_get_cpu_levelling_caps] = { sc_levelling_caps, true, false },
    [XEN_SYSCTL_get_cpu_featureset]     = { sc_cpu_featureset, true, true },
    [XEN_SYSCTL_get_cpu_policy]         = { sc_cpu_policy, true, true },
    [XEN_SYSCTL_get_pmstat]             = { sc_get_pmstat, true, false },
    [XEN_SYSCTL_pm_op]                  = { sc_pm_op, true, false },
    /* Cache partitioning: as on a machine that has none. */
    [XEN_SYSCTL_psr_cmt_op]             = { sc_absent, false, false },
    [XEN_SYSCTL_psr_alloc]              = { sc_absent, false, false },
};

/* In the second argument, which the interface does not have: the third is sysctl_progress. */
#define RESUMED 0x70767363u
u32 sysctl_progress;

s64 do_sysctl(u64 arg, u64 a1, u64 a2, u64, u64, u64)
{
    const struct sysctl_command *c;
    struct xen_sysctl op;
    u32 progress;
    s64 rc;

    if (copy_from_guest(&op, gva(arg), sizeof(op)))
        return -EFAULT;
    if (!sysctl_version_served(&op))
        return refuse(-EACCES, "command %u has interface version %#x, served are %#x to %#x (tools of Xen 4.17 to 4.22)", op.cmd,
                      op.interface_version, XEN_SYSCTL_INTERFACE_VERSION_4_17, XEN_SYSCTL_INTERFACE_VERSION);
    c = op.cmd < ARRAY_SIZE(commands) ? &commands[op.cmd] : NULL;
    if (!c || !c->fn)
        return refuse(-ENOSYS, "command %u is not supported", op.cmd);
    if (!spin_trylock(&control_lock))
        return hypercall_restart(1, arg);
    sysctl_progress = (u32)a1 == RESUMED ? (u32)a2 : 0;
    rc = c->fn(&op);
    progress = sysctl_progress;
    spin_unlock(&control_lock);
    if (rc == -ERESTART_HYPERCALL)
        return hypercall_restart(3, arg, (u64)RESUMED, (u64)progress);
    if ((rc < 0 ? c->out_fail : c->out) && copy_to_guest(gva(arg), &op, sizeof(op)))
        return -EFAULT;
    return rc;
}
