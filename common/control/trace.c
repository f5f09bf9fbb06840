/* What is traced: XEN_SYSCTL_tbuf_op, the words tbuf_size= and tevt_mask=, and the events of hypercalls. */
#include <asm/mm.h>
#include <pvisor/cmdline.h>
#include <pvisor/trace.h>
#include "internal.h"

static u32 event_mask = TRC_ALL;
static bool enabled;

static u32 opt_tbuf_size;
CMDLINE_UINT("tbuf_size", opt_tbuf_size);

static bool opt_traced;

/* A mask is written in any base. */
static int parse_tevt_mask(const char *value)
{
    u32 mask;
    int rc = cmdline_uint(value, &mask);

    if (rc)
        return rc;
    event_mask = mask;
    opt_traced = mask;
    return 0;
}
CMDLINE_OPTION("tevt_mask", parse_tevt_mask);

/* --- Hypercalls ------------------------------------------------------------------------------------------------------- */

/* Numbers among the arguments that say what a call does: bit n is argument n. */
static u8 told_arguments(u32 nr)
{
    static const u8 told[NR_HYPERCALLS] = {
        [__HYPERVISOR_mmu_update] = 1 << 1, [__HYPERVISOR_multicall] = 1 << 1, [__HYPERVISOR_mmuext_op] = 1 << 1,
        [__HYPERVISOR_grant_table_op] = 1 << 0 | 1 << 2, [__HYPERVISOR_vcpu_op] = 1 << 0 | 1 << 1, [__HYPERVISOR_memory_op] = 1 << 0,
        [__HYPERVISOR_sched_op] = 1 << 0, [__HYPERVISOR_event_channel_op] = 1 << 0, [__HYPERVISOR_physdev_op] = 1 << 0,
        [__HYPERVISOR_xen_version] = 1 << 0, [__HYPERVISOR_console_io] = 1 << 0 | 1 << 1,
    };

    return told[nr];
}

void trace_hypercall(u32 event, u32 nr, const u64 args[3])
{
    u32 words[4] = { nr }, n = 1;

    for (unsigned i = 0; i < 3; i++) {
        if (!(told_arguments(nr) >> i & 1))
            continue;
        words[0] |= TRC_PV_HYPERCALL_V2_ARG_32(i);
        words[n++] = (u32)args[i];
    }
    trace_record(event, n, words);
}

/* In the place of every handler while calls are traced. The call's number is what the guest has in its register yet. */
static s64 traced_call(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    u32 nr = guest_regs()->rax & (NR_HYPERCALLS - 1);

    trace_hypercall(TRC_PV_HYPERCALL_V2, nr, (const u64[3]){ a0, a1, a2 });
    return (nr == __HYPERVISOR_multicall ? do_traced_multicall : hypercall_handlers[nr])(a0, a1, a2, a3, a4, a5);
}

/*
 * The ways in look calls up in a table of their own, which is changed here, an entry at once: so what is not traced costs nothing. That
 * table cannot be written but through the direct map.
 */
static void hook_hypercalls(bool hook)
{
    for (u32 nr = 0; nr < NR_HYPERCALLS; nr++) {
        hypercall_fn **entry = image_for_writing(&hypercall_functions[nr]);

        write_once(*entry, hook ? traced_call : hypercall_handlers[nr]);
    }
}

/* --- On and off ------------------------------------------------------------------------------------------------------- */

static bool covers(u32 mask, u32 event) { return (mask & event) >> TRC_CLS_SHIFT && (mask & event) >> TRC_SUBCLS_SHIFT & 0xf; }

static void apply(void)
{
    write_once(trace_events, enabled ? event_mask : 0);
    hook_hypercalls(covers(trace_events, TRC_PV_HYPERCALL_V2));
}

static s64 enable(void)
{
    u32 bytes;

    if (mfn_eq(trace_info(&bytes), INVALID_MFN))
        return refuse(-EINVAL, "there are no trace buffers yet: XEN_SYSCTL_TBUFOP_set_size makes them, or tbuf_size= at boot");
    if (!enabled)
        trace_forget_lost();
    enabled = true;
    apply();
    return 0;
}

static s64 set_cpu_mask(const struct xenctl_bitmap *map)
{
    cpumask_t m;
    s64 rc = bitmap_from_guest(&m, NR_CPUS, map);

    if (rc)
        return refuse(rc, "the set of CPUs to trace cannot be read");
    trace_cpus = m;
    return 0;
}

s64 sc_tbuf_op(struct xen_sysctl *op)
{
    struct xen_sysctl_tbuf_op *t = &op->u.tbuf_op;
    mfn_t info;

    switch (t->cmd) {
    case XEN_SYSCTL_TBUFOP_get_info:
        info = trace_info(&t->size);
        t->evt_mask = event_mask;
        t->buffer_mfn = mfn_eq(info, INVALID_MFN) ? 0 : info.v;
        return 0;
    case XEN_SYSCTL_TBUFOP_set_cpu_mask:
        return set_cpu_mask(&t->cpu_mask);
    case XEN_SYSCTL_TBUFOP_set_evt_mask:
        event_mask = t->evt_mask;
        apply();
        return 0;
    case XEN_SYSCTL_TBUFOP_set_size:
        return trace_set_size(t->size);
    case XEN_SYSCTL_TBUFOP_enable:
        return enable();
    case XEN_SYSCTL_TBUFOP_disable:
        enabled = false;
        apply();
        return 0;
    }
    return refuse(-EINVAL, "operation %u, expected at most %u", t->cmd, XEN_SYSCTL_TBUFOP_disable);
}

void trace_init(void)
{
    cpumask_fill(&trace_cpus);
    trace_softirq_init(send_dom0_virq);
    if (!opt_tbuf_size)
        return;
    if (!trace_set_size(opt_tbuf_size) && opt_traced)
        (void)enable();
}
