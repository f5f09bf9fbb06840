/* What all hypercalls have in common, beside the way in (arch/x86/entry). */
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

void hypercall_join_halves(const struct hypercall_desc *h, u64 args[6])
{
    unsigned from = 0;
    u64 joined[6] = { 0 };

    for (unsigned i = 0; i < h->nr_args && from < 6; i++) {
        joined[i] = args[from++];
        if (h->wide & 1 << i && from < 6)
            joined[i] |= args[from++] << 32;
    }
    for (unsigned i = 0; i < 6; i++)
        args[i] = joined[i];
}

void hypercall_log_failure(u64 number, s64 rc)
{
    const char *name = number < nr_hypercalls ? hypercall_table[number].name : NULL;

    if (!name)
        guest_log("there is no hypercall %lu", number);
    else if (rc == -EFAULT)
        guest_log("%s: memory at %#lx, or next to it, is not there or not the caller's", name, last_bad_guest_address());
}
