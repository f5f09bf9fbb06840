/* What the log says of a hypercall that failed and whose handler could not say it. */
#include <public/errno.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

void hypercall_log_failure(u64 number, s64 rc)
{
    const char *name = number < nr_hypercalls ? hypercall_table[number].name : NULL;

    if (!name)
        guest_log("there is no hypercall %lu", number);
    else if (rc == -EFAULT)
        guest_log("%s: memory at %#lx, or next to it, is not there or not the caller's", name, last_bad_guest_address());
}
