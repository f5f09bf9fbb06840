/* Which hypercall number is whose. Absent ones are -ENOSYS; refused.c says why others are there. */
#include <public/pvisor.h>
#include <public/xen.h>
#include <pvisor/hypercall.h>

#define CALL(n, args)       [__HYPERVISOR_##n] = { do_##n, (args), HC_ANY, 0, #n }
#define PRIVILEGED(n, args) [__HYPERVISOR_##n] = { do_##n, (args), HC_PRIVILEGED, 0, #n }
/* Arguments of 64 bits in 32-bit guests too: a bit for each, of the first two. */
#define WIDE(n, args, wide) [__HYPERVISOR_##n] = { do_##n, (args), HC_ANY, (wide) * sizeof(char[(wide) < 4 ? 1 : -1]), #n }

const struct hypercall_desc hypercall_table[NR_HYPERCALLS] = {
    CALL(set_trap_table, 1),
    CALL(mmu_update, 4),
    CALL(set_gdt, 2),
    CALL(stack_switch, 2),
    CALL(set_callbacks, 4),
    CALL(fpu_taskswitch, 1),
    CALL(sched_op_compat, 2),
    PRIVILEGED(platform_op, 1),
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
    PRIVILEGED(sysctl, 1),
    PRIVILEGED(domctl, 1),
    PRIVILEGED(kexec_op, 2),
    CALL(argo_op, 5),
    CALL(xenpmu_op, 2),
    CALL(pvisor_op, 2),
    [__HYPERVISOR_arch_0] = { do_mca, 1, HC_PRIVILEGED, 0, "mca" },
};

const u64 nr_hypercalls = NR_HYPERCALLS;
