/* Which device memory, I/O ports and interrupts a domain may use. Nobody can hand on what is not its own. */
#include <asm/dirty.h>
#include <pvisor/devices.h>
#include <pvisor/rangeset.h>
#include "internal.h"

static s64 set_rights(const char *what, struct rangeset *own, struct rangeset *r, u64 first, u64 last,
                      bool allow)
{
    if (last < first)
        return refuse(-EINVAL, "%s %#lx to %#lx is no range", what, first, last);
    if (!rangeset_contains(own, first, last))
        return refuse(-EPERM, "%s %#lx to %#lx is not this domain's to give", what, first, last);
    return allow ? rangeset_add(r, first, last) : rangeset_remove(r, first, last);
}

s64 dc_irq_permission(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_irq_permission *p = &op->u.irq_permission;

    return set_rights("interrupt", current->domain->irqs, d->irqs, p->pirq, p->pirq, p->allow_access);
}

/* Interrupts of devices have their GSI's number. */
s64 dc_gsi_permission(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_gsi_permission *p = &op->u.gsi_permission;

    if (p->flags & ~XEN_DOMCTL_GSI_ACTION_MASK)
        return refuse(-EINVAL, "flags %#x, possible are %#x", p->flags, XEN_DOMCTL_GSI_ACTION_MASK);
    return set_rights("GSI", current->domain->irqs, d->irqs, p->gsi, p->gsi, p->flags == XEN_DOMCTL_GSI_GRANT);
}

s64 dc_iomem_permission(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_iomem_permission *p = &op->u.iomem_permission;
    s64 rc;

    if (p->allow_access && dirty_log_is_kept(d))
        return refuse(-EBUSY, "d%u's writes are logged, and nobody can log a device's", d->id);
    rc = set_rights("device frames", current->domain->iomem, d->iomem, p->first_mfn, p->first_mfn + p->nr_mfns - 1,
                    p->allow_access);
    d->iomem_withdrawn |= !rc && !p->allow_access;
    return rc;
}

s64 dc_ioport_permission(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_ioport_permission *p = &op->u.ioport_permission;
    u64 last = (u64)p->first_port + p->nr_ports - 1;

    if (!p->nr_ports || last > 0xffff)
        return refuse(-EINVAL, "%u I/O ports from %#x on, expected at least 1, and none above 0xffff", p->nr_ports, p->first_port);
    return set_rights("I/O ports", current->domain->ioports, d->ioports, p->first_port, last,
                      p->allow_access);
}

/* --- PCI functions --- */

/* 0; -EOPNOTSUPP: no PCI function; -EINVAL; -ESRCH: for nobody who could have one. */
static int check_device(const struct domain *d, const struct xen_domctl *op, u16 not_a_domain)
{
    const struct xen_domctl_assign_device *a = &op->u.assign_device;

    if (a->dev != XEN_DOMCTL_DEV_PCI)
        return refuse(-EOPNOTSUPP, "device of kind %u, only PCI's (%u) are known", a->dev, XEN_DOMCTL_DEV_PCI);
    if (a->flags & ~XEN_DOMCTL_DEV_RDM_RELAXED)
        return refuse(-EINVAL, "flags %#x, possible is %#x", a->flags, XEN_DOMCTL_DEV_RDM_RELAXED);
    return d || op->domain == not_a_domain ? 0 : refuse(-ESRCH, "there is no domain %u", op->domain);
}

/* For DOMID_IO: nobody is to have it. */
s64 dc_assign_device(struct domain *d, struct xen_domctl *op, gva_t)
{
    int rc = check_device(d, op, DOMID_IO);

    return rc ? rc : device_assign(d, op->u.assign_device.u.pci.machine_sbdf);
}

s64 dc_deassign_device(struct domain *d, struct xen_domctl *op, gva_t)
{
    int rc = check_device(d, op, DOMID_IO);

    return rc ? rc : device_deassign(d, op->u.assign_device.u.pci.machine_sbdf);
}

s64 dc_test_assign_device(struct domain *d, struct xen_domctl *op, gva_t)
{
    int rc = check_device(d, op, DOMID_INVALID);

    return rc ? rc : device_test(op->u.assign_device.u.pci.machine_sbdf);
}

/* Functions that no IOMMU can tell apart are not given away at all. */
s64 dc_no_groups(struct domain *, struct xen_domctl *, gva_t) { return refuse(-EOPNOTSUPP, "there are no groups of devices"); }

/* libxl asks for each domain, and takes this errno alone for an answer. */
s64 dc_no_colors(struct domain *d, struct xen_domctl *op, gva_t)
{
    return decline(-EOPNOTSUPP, "%u cache colours for d%u: memory is not coloured", op->u.set_llc_colors.num_llc_colors, d->id);
}

s64 dc_no_hvm(struct domain *, struct xen_domctl *op, gva_t)
{
    return refuse(-EINVAL, "command %u is for HVM guests", op->cmd);
}
