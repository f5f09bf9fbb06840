/*
 * The versions of the interface that control calls carry. Handlers know the newest one's structures and meanings; this is the table of
 * what older tools' calls have in another form, and what makes the one of the other. docs/abi.md has the versions.
 */
#include <pvisor/lib.h>
#include "internal.h"

/* Up to 4.21 the new domain's number is any free one if it is 0, which is dom0's, or one that no domain can have. */
static void zero_is_any(struct xen_domctl *op)
{
    if (!op->domain || op->domain >= DOMID_FIRST_RESERVED)
        op->domain = DOMID_ANY;
}

static const struct difference {
    u32 cmd;
    u32 last;                                 /* of the versions that have this form */
    const struct abi_desc *desc;              /* of what is in another layout, or NULL */
    abi_layout layout;
    void (*reword)(struct xen_domctl *op);    /* says in the newest version's words what the call means, or NULL */
    struct domain *(*find)(u32 id);           /* the domain that is meant, if it is not the one of this number, or NULL */
} differences[] = {
    { XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_18, .desc = &xen_domctl_createdomain_desc, .layout = ABI_4_17 },
    { XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_19, .reword = zero_is_any },
    { XEN_DOMCTL_getdomaininfo, XEN_DOMCTL_INTERFACE_VERSION_4_17, .find = domain_get_next },
};

#define for_each_difference(diff, op)                                                                       \
    for (const struct difference *diff = differences; diff < differences + ARRAY_SIZE(differences); diff++) \
        if (diff->cmd == (op)->cmd && (op)->interface_version <= diff->last)

bool domctl_version_served(const struct xen_domctl *op, bool stable)
{
    return stable ? op->interface_version == XEN_DOMCTL_INTERFACE_STABLE
                  : op->interface_version >= XEN_DOMCTL_INTERFACE_VERSION_4_17 &&
                    op->interface_version <= XEN_DOMCTL_INTERFACE_VERSION;
}

bool sysctl_version_served(const struct xen_sysctl *op)
{
    return op->interface_version >= XEN_SYSCTL_INTERFACE_VERSION_4_17 && op->interface_version <= XEN_SYSCTL_INTERFACE_VERSION;
}

void domctl_decode(struct xen_domctl *op)
{
    for_each_difference(diff, op) {
        u8 raw[sizeof(op->u)];

        if (diff->desc) {
            memcpy(raw, &op->u, sizeof(raw));
            abi_decode(diff->layout, diff->desc, &op->u, raw);
        }
        if (diff->reword)
            diff->reword(op);
    }
}

struct domain *domctl_find(const struct xen_domctl *op)
{
    struct domain *(*find)(u32 id) = domain_get;

    for_each_difference(diff, op)
        if (diff->find)
            find = diff->find;
    return op->domain < DOMID_FIRST_RESERVED ? find(op->domain) : NULL;
}

/* The bytes behind the older structure are the caller's, and 0. */
void domctl_encode(struct xen_domctl *op)
{
    for_each_difference(diff, op) {
        u8 raw[sizeof(op->u)] = { 0 };

        if (!diff->desc)
            continue;
        BUG_ON(!abi_encode(diff->layout, diff->desc, raw, &op->u));
        memcpy(&op->u, raw, sizeof(raw));
    }
}
