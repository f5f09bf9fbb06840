/* Who may act on whom: one domain on another, which it names in a call of its own. */
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>

struct domain *domain_target_of(const char *call, u32 domid, s64 *err)
{
    struct domain *d = domain_get(domid);

    if (!d) {
        guest_log("%s: no domain %u", call, domid);
        *err = -ESRCH;
    } else if (d != current->domain && !is_control_domain(current->domain)) {
        guest_log("%s: only the control domain may act on d%u", call, domid);
        *err = -EPERM;
        domain_put(d);
        d = NULL;
    }
    return d;
}
