/*
 * Calls that exist in the interface and are not offered: each says so with the error that its callers know
 * how to live with.
 */
#include <asm/percpu.h>
#include <public/errno.h>
#include <public/mca.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

#define REFUSED(name, err, why)                                                                       \
    s64 name(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)                                          \
    {                                                                                                 \
        static bool told;                                                                             \
        (void)a0, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;                                   \
        /* Tools try these again and again: once is enough. */                                        \
        return told ? (err) : (told = true, refuse(err, why));                                        \
    }

REFUSED(do_xsm_op, -ENOSYS, "there is no security module")
REFUSED(do_nmi_op, -ENOSYS, "NMI callbacks are registered by callback_op")
REFUSED(do_xenoprof_op, -ENOSYS, "there is no profiling")
REFUSED(do_kexec_op, -ENOSYS, "there is no kexec")
REFUSED(do_xenpmu_op, -EOPNOTSUPP, "guests have no performance counters")
REFUSED(do_argo_op, -EOPNOTSUPP, "there is no argo")
REFUSED(do_hvm_op, -ENOSYS, "there are no HVM guests")

struct mc_request {
    u32 cmd, interface_version;
    u8 rest[24];   /* of the largest command taken */
};

/* A machine check of ours stops the machine, so there is never one to fetch. */
static s64 fetch(struct mc_request *op, gva_t arg)
{
    struct xen_mc_fetch f;

    abi_decode(current_word(), &xen_mc_fetch_desc, &f, op->rest);
    f.flags = XEN_MC_NODATA;
    if (!abi_encode(current_word(), &xen_mc_fetch_desc, op->rest, &f) || copy_to_guest(arg, op, sizeof(*op)))
        return -EFAULT;
    return 0;
}

s64 do_mca(u64 arg, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct mc_request op;

    (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    if (copy_from_guest(&op, gva(arg), sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XEN_MCA_INTERFACE_VERSION)
        return refuse(-EACCES, "interface version %#x, expected %#x", op.interface_version,
                      XEN_MCA_INTERFACE_VERSION);
    if (!current->domain->is_hardware)
        return refuse(-EPERM, "machine checks are dom0's business");
    if (op.cmd == XEN_MC_fetch)
        return fetch(&op, gva(arg));
    return refuse(-ENOSYS, "command %u is not offered", op.cmd);
}
