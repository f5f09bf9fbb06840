/* Who may act on whom. All that one domain does to another by a call of its own passes here. */
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>

bool domain_may_act_on(const struct domain *who, const struct domain *on)
{
    return who == on || is_control_domain(who);
}

struct domain *domain_target(u32 domid, s64 *err)
{
    struct domain *d = domain_get(domid);

    if (d && domain_may_act_on(current->domain, d))
        return d;
    *err = d ? refuse(-EPERM, "only the control domain may act on d%u", domid) : refuse(-ESRCH, "no domain %u", domid);
    if (d)
        domain_put(d);
    return NULL;
}

s64 control_only(void)
{
    return likely(is_control_domain(current->domain)) ? 0 : refuse(-EPERM, "for the control domain");
}
