/* Which hypercall number is whose. Absent ones are -ENOSYS; refused.c says why others are there. */
#include <asm/percpu.h>
#include <public/errno.h>
#include <public/pvisor.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

static s64 absent(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    (void)a0, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    hypercall_wants_look();
    return -ENOSYS;
}

/* The control domain's own calls. */
#define PRIVILEGED(name)                                                                            \
    static s64 control_##name(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)                       \
    {                                                                                               \
        if (!is_control_domain(current->domain))                                                    \
            return refuse(-EPERM, "for the control domain");                                        \
        return do_##name(a0, a1, a2, a3, a4, a5);                                                   \
    }
PRIVILEGED(platform_op)
PRIVILEGED(sysctl)
PRIVILEGED(domctl)
PRIVILEGED(kexec_op)
PRIVILEGED(mca)

#define CALL(n, args)    [__HYPERVISOR_##n] = { do_##n, (args), 0, #n }
#define CONTROL(n, args) [__HYPERVISOR_##n] = { control_##n, (args), 0, #n }
/* Arguments of 64 bits in 32-bit guests too: a bit for each, of the first two. */
#define WIDE(n, args, wide) [__HYPERVISOR_##n] = { do_##n, (args), (wide) * sizeof(char[(wide) < 4 ? 1 : -1]), #n }

#pragma GCC diagnostic ignored "-Woverride-init"
const struct hypercall_desc hypercall_table[NR_HYPERCALLS] = {
    [0 ... NR_HYPERCALLS - 1] = { absent, 0, 0, NULL },
    CALL(set_trap_table, 1),
    CALL(mmu_update, 4),
    CALL(set_gdt, 2),
    CALL(stack_switch, 2),
    CALL(set_callbacks, 4),
    CALL(fpu_taskswitch, 1),
    CALL(sched_op_compat, 2),
    CONTROL(platform_op, 1),
    CALL(set_debugreg, 2),
    CALL(get_debugreg, 1),
    WIDE(update_descriptor, 2, 1 << 0 | 1 << 1),
    CALL(memory_op, 2),
    CALL(multicall, 2),
    WIDE(update_va_mapping, 3, 1 << 1),
    WIDE(set_timer_op, 1, 1 << 0),
    CALL(event_channel_op_compat, 1),
    CALL(xen_version, 2),
    CALL(console_io, 3),
    CALL(physdev_op_compat, 1),
    CALL(grant_table_op, 3),
    CALL(vm_assist, 2),
    WIDE(update_va_mapping_otherdomain, 4, 1 << 1),
    CALL(iret, 0),
    CALL(vcpu_op, 3),
    CALL(set_segment_base, 2),
    CALL(mmuext_op, 4),
    CALL(xsm_op, 1),
    CALL(nmi_op, 2),
    CALL(sched_op, 2),
    CALL(callback_op, 2),
    CALL(xenoprof_op, 2),
    CALL(event_channel_op, 2),
    CALL(physdev_op, 2),
    CALL(hvm_op, 2),
    CONTROL(sysctl, 3),         /* the interface's one, and two of ours for when it is made again */
    CONTROL(domctl, 1),
    CONTROL(kexec_op, 2),
    CALL(argo_op, 5),
    CALL(xenpmu_op, 2),
    CALL(pvisor_op, 2),
    [__HYPERVISOR_arch_0] = { control_mca, 1, 0, "mca" },
};

const u64 nr_hypercalls = NR_HYPERCALLS;
