/* What the files of common/control share. */
#ifndef CONTROL_INTERNAL_H
#define CONTROL_INTERNAL_H

#include <public/domctl.h>
#include <public/errno.h>
#include <public/sysctl.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

extern spinlock_t control_lock;      /* held by every control call while it works */

/*
 * For a sysctl that gives way: what it leaves here, not 0, it finds here when it is made again. Under the control lock; kept in
 * the caller's registers meanwhile, so it is the caller's to change: check it as any argument.
 */
extern u32 sysctl_progress;

/*
 * A domctl's handler. d: the domain that op names, referenced by the caller; NULL only for commands that
 * need none. u: where op lies in guest memory, for those that must be made again. The control lock is held.
 */
typedef s64 domctl_fn(struct domain *d, struct xen_domctl *op, gva_t u);
typedef s64 sysctl_fn(struct xen_sysctl *op);

/*
 * versions.c: whether the call carries a version that is served; the call in the newest version's form, and back in its own; the domain
 * that it names, referenced, or NULL.
 */
bool domctl_version_served(const struct xen_domctl *op, bool stable);
bool sysctl_version_served(const struct xen_sysctl *op);
void domctl_decode(struct xen_domctl *op);
void domctl_encode(struct xen_domctl *op);
struct domain *domctl_find(const struct xen_domctl *op);

/* life.c */
domctl_fn dc_createdomain, dc_destroydomain, dc_pausedomain, dc_unpausedomain, dc_resumedomain, dc_max_vcpus;
domctl_fn dc_getdomaininfo, dc_get_domain_state, dc_setdomainhandle, dc_setdebugging;
domctl_fn dc_settimeoffset, dc_subscribe, dc_set_virq_handler;
/* vcpu.c */
domctl_fn dc_setvcpucontext, dc_getvcpucontext, dc_getvcpuinfo, dc_setvcpuaffinity;
domctl_fn dc_getvcpuaffinity, dc_sendtrigger;
domctl_fn dc_setnodeaffinity, dc_getnodeaffinity, dc_scheduler_op;
/* vcpu_state.c */
domctl_fn dc_set_ext_vcpucontext, dc_get_ext_vcpucontext, dc_setvcpuextstate, dc_getvcpuextstate;
domctl_fn dc_set_vcpu_msrs, dc_get_vcpu_msrs;
/* memory.c */
domctl_fn dc_max_mem, dc_getpageframeinfo3, dc_shadow_op, dc_hypercall_init;
domctl_fn dc_set_address_size, dc_get_address_size;
/* access.c */
domctl_fn dc_irq_permission, dc_iomem_permission, dc_ioport_permission, dc_gsi_permission;
domctl_fn dc_assign_device, dc_deassign_device, dc_test_assign_device, dc_no_groups, dc_no_hvm, dc_no_colors;
/* policy.c */
domctl_fn dc_get_cpu_policy, dc_set_cpu_policy, dc_settscinfo, dc_gettscinfo;
sysctl_fn sc_cpu_policy, sc_cpu_featureset, sc_levelling_caps;
/* machine.c */
sysctl_fn sc_physinfo, sc_getdomaininfolist, sc_getcpuinfo, sc_cpu_hotplug, sc_availheap;
sysctl_fn sc_numainfo, sc_cputopoinfo, sc_pcitopoinfo;
sysctl_fn sc_readconsole, sc_debug_keys, sc_sched_id, sc_scheduler_op, sc_cpupool_op, sc_absent;
/* pm.c */
sysctl_fn sc_get_pmstat, sc_pm_op;
/* trace.c */
sysctl_fn sc_tbuf_op;

void fill_domaininfo(struct domain *d, struct xen_domctl_getdomaininfo *info);

/* The vCPU that a domctl names, with a refusal in the log if there is none. */
struct vcpu *control_vcpu(struct domain *d, u32 id);

/*
 * Bitmaps of the tools, of any length: bits beyond nr_bits (ours) are ignored coming in and 0 going out.
 * -EFAULT; -EINVAL for a length that no tool uses.
 */
int bitmap_from_guest(void *bits, u32 nr_bits, const struct xenctl_bitmap *map);
int bitmap_to_guest(const struct xenctl_bitmap *map, const void *bits, u32 nr_bits);

#endif
