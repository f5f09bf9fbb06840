/* Which hypercall number is whose. Absent ones are -ENOSYS; refused.c says why others are there. */
#include <public/errno.h>
#include <public/pvisor.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>

static s64 absent(u64, u64, u64, u64, u64, u64)
{
    hypercall_wants_look();
    return -ENOSYS;
}

/* The control domain's own calls. */
#define PRIVILEGED(name)                                                                            \
    static s64 control_##name(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)                       \
    {                                                                                               \
        return control_only() ?: do_##name(a0, a1, a2, a3, a4, a5);                                 \
    }
PRIVILEGED(platform_op)
PRIVILEGED(sysctl)
PRIVILEGED(domctl)
PRIVILEGED(kexec_op)
PRIVILEGED(mca)
PRIVILEGED(hypfs_op)

/*
 * Number, function, how many arguments, and which of the first two have 64 bits in 32-bit guests too: a bit for each. sysctl's are
 * the interface's one, and two of ours for when it is made again.
 */
#define HYPERCALLS(CALL)                                                              \
    CALL(set_trap_table, do_set_trap_table, 1, 0)                                     \
    CALL(mmu_update, do_mmu_update, 4, 0)                                             \
    CALL(set_gdt, do_set_gdt, 2, 0)                                                   \
    CALL(stack_switch, do_stack_switch, 2, 0)                                         \
    CALL(set_callbacks, do_set_callbacks, 4, 0)                                       \
    CALL(fpu_taskswitch, do_fpu_taskswitch, 1, 0)                                     \
    CALL(sched_op_compat, do_sched_op_compat, 2, 0)                                   \
    CALL(platform_op, control_platform_op, 1, 0)                                      \
    CALL(set_debugreg, do_set_debugreg, 2, 0)                                         \
    CALL(get_debugreg, do_get_debugreg, 1, 0)                                         \
    CALL(update_descriptor, do_update_descriptor, 2, 1 << 0 | 1 << 1)                 \
    CALL(memory_op, do_memory_op, 2, 0)                                               \
    CALL(multicall, do_multicall, 2, 0)                                               \
    CALL(update_va_mapping, do_update_va_mapping, 3, 1 << 1)                          \
    CALL(set_timer_op, do_set_timer_op, 1, 1 << 0)                                    \
    CALL(event_channel_op_compat, do_event_channel_op_compat, 1, 0)                   \
    CALL(xen_version, do_xen_version, 2, 0)                                           \
    CALL(console_io, do_console_io, 3, 0)                                             \
    CALL(physdev_op_compat, do_physdev_op_compat, 1, 0)                               \
    CALL(grant_table_op, do_grant_table_op, 3, 0)                                     \
    CALL(vm_assist, do_vm_assist, 2, 0)                                               \
    CALL(update_va_mapping_otherdomain, do_update_va_mapping_otherdomain, 4, 1 << 1)  \
    CALL(iret, do_iret, 0, 0)                                                         \
    CALL(vcpu_op, do_vcpu_op, 3, 0)                                                   \
    CALL(set_segment_base, do_set_segment_base, 2, 0)                                 \
    CALL(mmuext_op, do_mmuext_op, 4, 0)                                               \
    CALL(xsm_op, do_xsm_op, 1, 0)                                                     \
    CALL(nmi_op, do_nmi_op, 2, 0)                                                     \
    CALL(sched_op, do_sched_op, 2, 0)                                                 \
    CALL(callback_op, do_callback_op, 2, 0)                                           \
    CALL(xenoprof_op, do_xenoprof_op, 2, 0)                                           \
    CALL(event_channel_op, do_event_channel_op, 2, 0)                                 \
    CALL(physdev_op, do_physdev_op, 2, 0)                                             \
    CALL(hvm_op, do_hvm_op, 2, 0)                                                     \
    CALL(sysctl, control_sysctl, 3, 0)                                                \
    CALL(domctl, control_domctl, 1, 0)                                                \
    CALL(kexec_op, control_kexec_op, 2, 0)                                            \
    CALL(argo_op, do_argo_op, 5, 0)                                                   \
    CALL(xenpmu_op, do_xenpmu_op, 2, 0)                                               \
    CALL(hypfs_op, control_hypfs_op, 5, 0)                                            \
    CALL(pvisor_op, do_pvisor_op, 3, 0)                                               \
    CALL(arch_0, control_mca, 1, 0)

#pragma GCC diagnostic ignored "-Woverride-init"
#define FUNCTION(n, function, args, is_wide) [__HYPERVISOR_##n] = function,
hypercall_fn *const hypercall_handlers[NR_HYPERCALLS] = { [0 ... NR_HYPERCALLS - 1] = absent, HYPERCALLS(FUNCTION) };
hypercall_fn *const hypercall_functions[NR_HYPERCALLS] = { [0 ... NR_HYPERCALLS - 1] = absent, HYPERCALLS(FUNCTION) };

#define DESC(n, function, args, is_wide) \
    [__HYPERVISOR_##n] = { #n, (args), (is_wide) * sizeof(char[(is_wide) < 4 ? 1 : -1]) },
const struct hypercall_desc hypercall_table[NR_HYPERCALLS] = { HYPERCALLS(DESC) };

const u64 nr_hypercalls = NR_HYPERCALLS;
_Static_assert(!(NR_HYPERCALLS & (NR_HYPERCALLS - 1)), "numbers are cut by a mask");
