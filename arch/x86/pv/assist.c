/* What a guest may have the hypervisor do otherwise: HYPERVISOR_vm_assist(). */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

#define ASSIST(name) (1UL << VMASST_TYPE_##name)

/* 4 GiB segments are the way of 32-bit guests alone; the strict M2P is one that only 64-bit ones can have. */
u64 vm_assist_valid(const struct domain *d)
{
    u64 all = ASSIST(writable_pagetables) | ASSIST(pae_extended_cr3) | ASSIST(architectural_iopl) |
              ASSIST(runstate_update_flag);

    /* 64-bit kernels ask for the segment assists too; for them they mean nothing. */
    all |= ASSIST(4gb_segments) | ASSIST(4gb_segments_notify);
    return domain_word(d) == ABI_64 ? all | ASSIST(m2p_strict) : all;
}

s64 do_vm_assist(u64 cmd, u64 type, u64, u64, u64, u64)
{
    struct domain *d = current->domain;

    cmd = (u32)cmd;
    type = (u32)type;
    if (type >= 64 || !(vm_assist_valid(d) >> type & 1))
        return refuse(-EINVAL, "assist %lu is not for this kind of guest", type);
    switch (cmd) {
    case VMASST_CMD_enable:
        atomic_or(&d->vm_assist, 1UL << type);
        return 0;
    case VMASST_CMD_disable:
        atomic_and(&d->vm_assist, ~(1UL << type));
        return 0;
    }
    return refuse(-ENOSYS, "unknown command %lu", cmd);
}
