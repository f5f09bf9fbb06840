/*
 * Calls that exist in the interface and are not offered: each says so with the error that its callers know
 * how to live with.
 */
#include <public/errno.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

#define REFUSED(name, err, why)                                                                       \
    s64 name(u64, u64, u64, u64, u64, u64)                                                            \
    {                                                                                                 \
        static bool told;                                                                             \
        /* Tools try these again and again: once is enough. */                                        \
        return told ? (err) : (told = true, decline(err, why));                                       \
    }

REFUSED(do_xsm_op, -ENOSYS, "there is no security module")
REFUSED(do_nmi_op, -ENOSYS, "NMI callbacks are registered by callback_op")
REFUSED(do_xenoprof_op, -ENOSYS, "there is no profiling")
REFUSED(do_kexec_op, -ENOSYS, "there is no kexec")
REFUSED(do_xenpmu_op, -EOPNOTSUPP, "guests have no performance counters")
REFUSED(do_argo_op, -EOPNOTSUPP, "there is no argo")
REFUSED(do_hvm_op, -ENOSYS, "there are no HVM guests")
