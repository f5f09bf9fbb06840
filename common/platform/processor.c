/*
 * XENPF_set_processor_pminfo: what the firmware's tables say of a CPU's idle and performance states, which dom0's ACPI interpreter reads.
 *
 * Idle CPUs wait in C1 (arch/x86/cpu/idle.c) and clocks are the firmware's, so nothing is done by what is uploaded. It is checked and
 * told in the log, for whoever wonders why a CPU sleeps no deeper.
 */
#include <pvisor/acpi.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include "internal.h"

#define MAX_CX 8            /* as ACPI_PROCESSOR_MAX_POWER in Linux */
#define MAX_PX 255          /* struct pm_px_stat counts them in a byte */
#define UNION_AT 8          /* behind id and type, in both word sizes */

static const u8 *union_of(const struct xen_platform_op *op) { return op->u.pad + UNION_AT; }

/* The number of the CPU with this id in ACPI's tables; NR_CPUS: there is none. */
static u32 cpu_of_acpi(u32 id)
{
    for (u32 i = 0; i < acpi_info.nr_cpus; i++)
        for (u32 cpu = 0; acpi_info.cpu[i].acpi_uid == id && cpu < nr_cpus; cpu++)
            if (cpu_apic_ids[cpu] == acpi_info.cpu[i].apic_id)
                return cpu;
    return NR_CPUS;
}

static s64 idle_states(u32 cpu, const struct xen_platform_op *op)
{
    struct xen_processor_power p;
    u32 deepest = 0;

    abi_decode(current_word(), &xen_processor_power_desc, &p, union_of(op));
    if (!p.count || p.count > MAX_CX)
        return refuse(-EINVAL, "%u idle states, expected 1 to %u", p.count, MAX_CX);
    for (u32 i = 0; i < p.count; i++) {
        struct xen_processor_cx cx;

        if (guest_read_abi(xen_processor_cx, &cx, guest_abi_elem(xen_processor_cx, gva(p.states), i)))
            return -EFAULT;
        if (!cx.type || cx.type > 3)
            return refuse(-EINVAL, "idle state %u of %u is of type C%u, expected C1 to C3", i, p.count, cx.type);
        deepest = max(deepest, (u32)cx.type);
    }
    printk(LOG_INFO "CPU%u: the firmware offers %u idle states down to C%u; C1 is used\n", cpu, p.count, deepest);
    return 0;
}

static s64 performance_states(u32 cpu, const struct xen_platform_op *op)
{
    struct xen_processor_performance p;
    u64 low = ~0UL, high = 0;

    abi_decode(current_word(), &xen_processor_performance_desc, &p, union_of(op));
    if (!(p.flags & XEN_PX_PSS))
        return 0;
    if (!p.state_count || p.state_count > MAX_PX)
        return refuse(-EINVAL, "%u performance states, expected 1 to %u", p.state_count, MAX_PX);
    for (u32 i = 0; i < p.state_count; i++) {
        struct xen_processor_px px;

        if (copy_from_guest(&px, gva(p.states + i * sizeof(px)), sizeof(px)))
            return -EFAULT;
        low = min(low, px.core_frequency);
        high = max(high, px.core_frequency);
    }
    printk(LOG_INFO "CPU%u: the firmware offers %u frequencies, %lu to %lu MHz; they are left to it\n", cpu, p.state_count, low, high);
    return 0;
}

/*
 * What an operating system tells the firmware that it can do (_PDC: revision, count, capabilities). Of that stays what is about C1: the
 * firmware is not to hand over what nobody takes up. Bits: Intel's "Processor Vendor-Specific ACPI", table 2.
 */
#define PDC_C1 (1u << 1 | 1u << 3 | 1u << 8)

static s64 capabilities(const struct xen_platform_op *op)
{
    u32 head[2], caps;
    u64 at = 0;

    memcpy(&at, union_of(op), abi_word_bytes(current_word()));
    if (copy_from_guest(head, gva(at), sizeof(head)))
        return -EFAULT;
    if (!head[1])
        return refuse(-EINVAL, "a list of no capabilities");
    if (copy_from_guest(&caps, gva(at + sizeof(head)), sizeof(caps)))
        return -EFAULT;
    caps &= PDC_C1;
    return copy_to_guest(gva(at + sizeof(head)), &caps, sizeof(caps));
}

s64 op_processor_info(struct xen_platform_op *op)
{
    u32 id = op->u.set_pminfo.id, type = op->u.set_pminfo.type, cpu;

    if (type == XEN_PM_PDC)
        return capabilities(op);
    if (type != XEN_PM_CX && type != XEN_PM_PX)
        return refuse(-EINVAL, "information of type %u, expected idle (%u) or performance (%u) states", type, XEN_PM_CX, XEN_PM_PX);
    /* Tables may name CPUs that are not there. */
    cpu = cpu_of_acpi(id);
    if (cpu == NR_CPUS)
        return decline(-EINVAL, "ACPI's processor %u is none of the %u CPUs", id, nr_cpus);
    return type == XEN_PM_CX ? idle_states(cpu, op) : performance_states(cpu, op);
}
