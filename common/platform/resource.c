/* XENPF_resource_op: registers of a CPU that tools may read, those of cache monitoring, and the time beside them. */
#include <asm/features.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/lib.h>
#include <pvisor/time.h>
#include "internal.h"

#define MSR_TSC         0x10
#define MSR_CMT_EVTSEL  0xc8d       /* what is counted of whom: SDM vol. 3, 18.18 */
#define MSR_CMT_CTR     0xc8e

#define MAX_ENTRIES 3               /* as Xen's: choose, read, and when that was */

struct batch {
    struct xenpf_resource_entry entry[MAX_ENTRIES];
    u32 nr, done;
    s32 err;                        /* of the entry that is not done */
};

static s32 check(const struct xenpf_resource_entry *e)
{
    bool monitoring = e->idx == MSR_CMT_EVTSEL || e->idx == MSR_CMT_CTR;

    if (e->u.cmd != XEN_RESOURCE_OP_MSR_READ && e->u.cmd != XEN_RESOURCE_OP_MSR_WRITE)
        return refuse(-EOPNOTSUPP, "operation %u, expected a read (0) or a write (1) of an MSR", e->u.cmd);
    if (e->rsvd)
        return refuse(-EINVAL, "the field that must be zero is %#x", e->rsvd);
    if (e->idx == MSR_TSC)
        return e->u.cmd == XEN_RESOURCE_OP_MSR_READ ? 0 : refuse(-EPERM, "the TSC is not written");
    if (!monitoring)
        return refuse(-EACCES, "MSR %#lx is none of those of cache monitoring, or the TSC", e->idx);
    return cpu_has(X86_FEATURE_PQM) ? 0 : refuse(-EACCES, "MSR %#lx: this CPU has no cache monitoring", e->idx);
}

static s32 access(struct xenpf_resource_entry *e)
{
    if (e->u.cmd == XEN_RESOURCE_OP_MSR_WRITE)
        return wrmsr_safe((u32)e->idx, e->val);
    if (e->idx != MSR_TSC)
        return rdmsr_safe((u32)e->idx, &e->val);
    e->val = now_ns();
    return 0;
}

/* On the CPU that is meant, with interrupts off: so a time that is read behind a counter is the counter's. */
static void run(void *data)
{
    struct batch *b = data;

    while (!b->err && b->done < b->nr) {
        b->err = access(&b->entry[b->done]);
        b->done += !b->err;
    }
}

static void run_on(u32 cpu, struct batch *b)
{
    cpumask_t one = cpumask_of(cpu);
    u64 flags;

    if (cpu != this_cpu_id()) {
        smp_call(&one, run, b);
        return;
    }
    flags = irq_save();
    run(b);
    irq_restore(flags);
}

/* How many entries were done. Of one that was not, u.ret says why. */
s64 op_resource(struct xen_platform_op *op)
{
    struct xenpf_resource_op r;
    struct batch b = { .nr = 0 };
    s32 wrong = 0;

    DECODE(xenpf_resource_op, &r, op);
    if (r.nr_entries > MAX_ENTRIES)
        return refuse(-E2BIG, "%u entries, at most %u are done at once", r.nr_entries, MAX_ENTRIES);
    if (!cpu_is_online(r.cpu))
        return refuse(-ENODEV, "CPU %u is not online", r.cpu);
    if (copy_from_guest(b.entry, gva(r.entries), r.nr_entries * sizeof(b.entry[0])))
        return -EFAULT;
    while (b.nr < r.nr_entries && !(wrong = check(&b.entry[b.nr])))
        b.nr++;
    run_on(r.cpu, &b);
    if (b.done < r.nr_entries)
        b.entry[b.done].u.ret = b.err ? b.err : wrong;
    if (copy_to_guest(gva(r.entries), b.entry, r.nr_entries * sizeof(b.entry[0])))
        return -EFAULT;
    return b.done;
}
