/*
 * The domctl hypercall: one table from command to handler. The structure is copied in once, the handler works
 * on the copy, in the newest version's form, and commands that return something have it copied back whole.
 */
#include <asm/nospec.h>
#include <pvisor/lib.h>
#include "internal.h"

#define DF_ANY      (1u << 0)   /* needs no domain */
#define DF_OTHER    (1u << 1)   /* not for the caller's own domain */
#define DF_ALIVE    (1u << 2)   /* not for a domain that is being destroyed */
#define DF_OUT      (1u << 3)   /* copied back after success */
#define DF_OUT_FAIL (1u << 4)   /* and after failure */
#define DF_STABLE   (1u << 5)   /* carries the version of what does not change */

static const struct domctl_command {
    domctl_fn *fn;
    u32 flags;
} commands[] = {
    [XEN_DOMCTL_createdomain]        = { dc_createdomain, DF_ANY | DF_OUT },
    [XEN_DOMCTL_destroydomain]       = { dc_destroydomain, DF_OTHER },
    [XEN_DOMCTL_pausedomain]         = { dc_pausedomain, DF_OTHER },
    [XEN_DOMCTL_unpausedomain]       = { dc_unpausedomain, 0 },
    [XEN_DOMCTL_resumedomain]        = { dc_resumedomain, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_getdomaininfo]       = { dc_getdomaininfo, DF_ANY | DF_OUT },
    [XEN_DOMCTL_max_vcpus]           = { dc_max_vcpus, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_setdomainhandle]     = { dc_setdomainhandle, 0 },
    [XEN_DOMCTL_setdebugging]        = { dc_setdebugging, DF_OTHER },
    [XEN_DOMCTL_settimeoffset]       = { dc_settimeoffset, 0 },
    [XEN_DOMCTL_subscribe]           = { dc_subscribe, 0 },
    [XEN_DOMCTL_set_virq_handler]    = { dc_set_virq_handler, 0 },
    [XEN_DOMCTL_setvcpucontext]      = { dc_setvcpucontext, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_getvcpucontext]      = { dc_getvcpucontext, DF_OTHER },
    [XEN_DOMCTL_getvcpuinfo]         = { dc_getvcpuinfo, DF_OUT },
    [XEN_DOMCTL_setvcpuaffinity]     = { dc_setvcpuaffinity, DF_OUT },
    [XEN_DOMCTL_getvcpuaffinity]     = { dc_getvcpuaffinity, 0 },
    [XEN_DOMCTL_setnodeaffinity]     = { dc_setnodeaffinity, 0 },
    [XEN_DOMCTL_getnodeaffinity]     = { dc_getnodeaffinity, 0 },
    [XEN_DOMCTL_scheduler_op]        = { dc_scheduler_op, DF_OUT },
    [XEN_DOMCTL_sendtrigger]         = { dc_sendtrigger, 0 },
    [XEN_DOMCTL_set_ext_vcpucontext] = { dc_set_ext_vcpucontext, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_get_ext_vcpucontext] = { dc_get_ext_vcpucontext, DF_OUT },
    [XEN_DOMCTL_setvcpuextstate]     = { dc_setvcpuextstate, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_getvcpuextstate]     = { dc_getvcpuextstate, DF_OTHER | DF_OUT },
    [XEN_DOMCTL_set_vcpu_msrs]       = { dc_set_vcpu_msrs, DF_OTHER | DF_OUT | DF_OUT_FAIL },
    [XEN_DOMCTL_get_vcpu_msrs]       = { dc_get_vcpu_msrs, DF_OTHER | DF_OUT | DF_OUT_FAIL },
    [XEN_DOMCTL_max_mem]             = { dc_max_mem, 0 },
    [XEN_DOMCTL_getpageframeinfo3]   = { dc_getpageframeinfo3, DF_OUT },
    [XEN_DOMCTL_shadow_op]           = { dc_shadow_op, DF_OTHER | DF_OUT },
    [XEN_DOMCTL_hypercall_init]      = { dc_hypercall_init, DF_ALIVE },
    [XEN_DOMCTL_set_address_size]    = { dc_set_address_size, DF_OTHER | DF_ALIVE },
    [XEN_DOMCTL_get_address_size]    = { dc_get_address_size, DF_OUT },
    [XEN_DOMCTL_irq_permission]      = { dc_irq_permission, 0 },
    [XEN_DOMCTL_iomem_permission]    = { dc_iomem_permission, 0 },
    [XEN_DOMCTL_ioport_permission]   = { dc_ioport_permission, 0 },
    [XEN_DOMCTL_gsi_permission]      = { dc_gsi_permission, 0 },
    [XEN_DOMCTL_set_llc_colors]      = { dc_no_colors, 0 },
    [XEN_DOMCTL_get_domain_state]    = { dc_get_domain_state, DF_STABLE | DF_ANY | DF_OUT },
    [XEN_DOMCTL_assign_device]       = { dc_assign_device, DF_ANY },
    [XEN_DOMCTL_test_assign_device]  = { dc_test_assign_device, DF_ANY },
    [XEN_DOMCTL_deassign_device]     = { dc_deassign_device, DF_ANY },
    [XEN_DOMCTL_get_device_group]    = { dc_no_groups, DF_ANY },
    [XEN_DOMCTL_bind_pt_irq]         = { dc_no_hvm, 0 },
    [XEN_DOMCTL_unbind_pt_irq]       = { dc_no_hvm, 0 },
    [XEN_DOMCTL_memory_mapping]      = { dc_no_hvm, 0 },
    [XEN_DOMCTL_ioport_mapping]      = { dc_no_hvm, 0 },
    [XEN_DOMCTL_gethvmcontext]       = { dc_no_hvm, 0 },
    [XEN_DOMCTL_sethvmcontext]       = { dc_no_hvm, 0 },
    [XEN_DOMCTL_gethvmcontext_partial] = { dc_no_hvm, 0 },
    [XEN_DOMCTL_get_cpu_policy]      = { dc_get_cpu_policy, DF_OUT | DF_OUT_FAIL },
    [XEN_DOMCTL_set_cpu_policy]      = { dc_set_cpu_policy, DF_OTHER | DF_OUT | DF_OUT_FAIL },
    [XEN_DOMCTL_settscinfo]          = { dc_settscinfo, DF_OTHER },
    [XEN_DOMCTL_gettscinfo]          = { dc_gettscinfo, DF_OUT },
};

/* One control call at a time. A second caller tries again, so that it can be interrupted while it waits. */
spinlock_t control_lock = SPINLOCK_INIT(RANK_CONTROL);

static s64 dispatch(const struct domctl_command *c, struct xen_domctl *op, gva_t u)
{
    struct domain *d;
    s64 rc;

    domctl_decode(op);
    d = domctl_find(op);
    if (!d && !(c->flags & DF_ANY))
        return refuse(-ESRCH, "command %u: no domain %u", op->cmd, op->domain);
    if (d == current->domain && c->flags & DF_OTHER)
        rc = refuse(-EINVAL, "command %u is not for a domain's own use", op->cmd);
    else if (d && d->dying && c->flags & DF_ALIVE)
        rc = refuse(-EINVAL, "command %u on d%u, which is being destroyed", op->cmd, d->id);
    else
        rc = c->fn(d, op, u);
    if (d)
        domain_put(d);
    return rc;
}

s64 do_domctl(u64 arg, u64, u64, u64, u64, u64)
{
    const struct domctl_command *c;
    struct xen_domctl op;
    s64 rc;

    if (copy_from_guest(&op, gva(arg), sizeof(op)))
        return -EFAULT;
    c = op.cmd < ARRAY_SIZE(commands) && commands[op.cmd].fn ? &array_nospec(commands, op.cmd) : NULL;
    if (!domctl_version_served(&op, c && c->flags & DF_STABLE))
        return refuse(-EACCES, "command %u has interface version %#x, served are %#x to %#x (tools of Xen 4.17 to 4.22), and %u where it "
                      "is stable", op.cmd, op.interface_version, XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION,
                      XEN_DOMCTL_INTERFACE_STABLE);
    if (!c)
        return refuse(-ENOSYS, "command %u is not supported", op.cmd);
    if (!spin_trylock(&control_lock))
        return hypercall_restart(1, arg);
    rc = dispatch(c, &op, gva(arg));
    spin_unlock(&control_lock);
    if (rc == -ERESTART_HYPERCALL)
        return hypercall_restart(1, arg);
    if (!(c->flags & (rc < 0 ? DF_OUT_FAIL : DF_OUT)))
        return rc;
    domctl_encode(&op);
    return copy_to_guest(gva(arg), &op, sizeof(op)) ? -EFAULT : rc;
}
