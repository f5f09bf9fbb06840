/* XENPF_microcode_update and its kind: a file of microcode from dom0, and which revision a CPU has. */
#include <asm/smp.h>
#include <pvisor/frame.h>
#include <pvisor/microcode.h>
#include "internal.h"

#define ORDER 9                         /* files of a CPU's family are some 100 KiB */
#define FILE_MAX (PAGE_SIZE << ORDER)

static s64 update(u64 data, u32 length, bool force)
{
    u8 *file;
    s64 rc;

    if (!length || length > FILE_MAX)
        return refuse(-EINVAL, "a file of %u bytes, expected 1 to %lu", length, FILE_MAX);
    file = alloc_pages(ORDER);
    if (!file)
        return refuse(-ENOMEM, "no memory for a file of %u bytes", length);
    rc = copy_from_guest(file, gva(data), length) ? -EFAULT : ucode_load(file, length, force);
    free_pages(file, ORDER);
    return rc;
}

s64 op_microcode(struct xen_platform_op *op)
{
    struct xenpf_microcode_update m;

    DECODE(xenpf_microcode_update, &m, op);
    return update(m.data, m.length, false);
}

s64 op_microcode2(struct xen_platform_op *op)
{
    struct xenpf_microcode_update2 m;

    DECODE(xenpf_microcode_update2, &m, op);
    if (m.flags & ~XENPF_UCODE_FORCE)
        return refuse(-EINVAL, "unknown flags %#x", m.flags);
    return update(m.data, m.length, m.flags & XENPF_UCODE_FORCE);
}

static void ask(void *data) { *(struct ucode_cpu *)data = ucode_this_cpu(); }

s64 op_microcode_revision(struct xen_platform_op *op)
{
    struct xenpf_ucode_revision *r = &op->u.ucode_revision;
    struct ucode_cpu c = ucode_this_cpu();
    cpumask_t one;

    if (!cpu_is_online(r->cpu))
        return refuse(-EINVAL, "CPU %u is not online", r->cpu);
    one = cpumask_of(r->cpu);
    smp_call(&one, ask, &c);            /* not on this CPU, which has answered */
    r->signature = c.signature;
    r->pf = c.platform;
    r->revision = c.revision;
    return 0;
}
