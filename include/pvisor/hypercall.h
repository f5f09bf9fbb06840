/*
 * Hypercalls. Every handler has the same type: six words, already widened to 64 bits, with the meaning of
 * the public interface; it returns a value or a negative errno. common/hypercall_table.c maps numbers to
 * handlers.
 *
 * A handler that must give way (preempt_needed()) ends with
 *
 *     return hypercall_restart(n, a0, a1, ...);
 * which has the guest make the same call again with these first n arguments replaced: the progress lives in the
 * guest's own registers (or its multicall entry), at its word size.
 */
#ifndef PVISOR_HYPERCALL_H
#define PVISOR_HYPERCALL_H

#include <pvisor/types.h>

typedef s64 hypercall_fn(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5);

/* There is one for every number, and each refuses those who may not call it: callers check nothing but the number. */
extern hypercall_fn *const hypercall_handlers[];
/* The same, for the ways in from guests: while calls are traced, another function stands in its entries (common/control/trace.c). */
extern hypercall_fn *const hypercall_functions[];
extern const u64 nr_hypercalls;

/* No name: no such call. */
struct hypercall_desc {
    const char *name;
    u8 nr_args;
    /* bit n: argument n has 64 bits, which a 32-bit guest passes in two registers, low half first; compat.asm knows 0 and 1 */
    u8 wide;
} __attribute__((aligned(16)));     /* so that compat.asm finds one by a shift */

extern const struct hypercall_desc hypercall_table[];

/*
 * Has the way out of the call that runs look at its result: whether it is to be made again, or the log has to say why it failed.
 * Outside of a hypercall it does nothing.
 */
void hypercall_wants_look(void);

/*
 * What the log should say of a call that returned rc and whose handler could not: that there is no such call, or which address
 * was bad. rc need not be an error.
 */
void hypercall_log_failure(u64 number, s64 rc);

/* Internal return value: the call is to be made again. Never reaches a guest. */
#define ERESTART_HYPERCALL 0x7001
s64 hypercall_restart(unsigned nr_args, ...);   /* arguments as u64; wide ones as the guest passes them */
/*
 * Whether a call that returned -ERESTART_HYPERCALL made it by hypercall_restart(); if so, what it asked for: replaces
 * the first n of args, returns n, and ends the request.
 */
bool hypercall_restart_asked(void);
unsigned hypercall_restart_args(u64 args[6]);

#define HYPERCALL(name) hypercall_fn name
HYPERCALL(do_set_trap_table); HYPERCALL(do_mmu_update); HYPERCALL(do_set_gdt); HYPERCALL(do_stack_switch);
HYPERCALL(do_set_callbacks); HYPERCALL(do_fpu_taskswitch); HYPERCALL(do_sched_op_compat); HYPERCALL(do_platform_op);
HYPERCALL(do_set_debugreg); HYPERCALL(do_get_debugreg); HYPERCALL(do_update_descriptor); HYPERCALL(do_memory_op);
HYPERCALL(do_multicall); HYPERCALL(do_update_va_mapping); HYPERCALL(do_set_timer_op); HYPERCALL(do_event_channel_op_compat);
HYPERCALL(do_xen_version); HYPERCALL(do_console_io); HYPERCALL(do_physdev_op_compat); HYPERCALL(do_grant_table_op);
HYPERCALL(do_vm_assist); HYPERCALL(do_update_va_mapping_otherdomain); HYPERCALL(do_iret); HYPERCALL(do_vcpu_op);
HYPERCALL(do_set_segment_base); HYPERCALL(do_mmuext_op); HYPERCALL(do_xsm_op); HYPERCALL(do_nmi_op);
HYPERCALL(do_sched_op); HYPERCALL(do_callback_op); HYPERCALL(do_xenoprof_op); HYPERCALL(do_event_channel_op);
HYPERCALL(do_traced_multicall); HYPERCALL(do_physdev_op); HYPERCALL(do_hvm_op); HYPERCALL(do_sysctl); HYPERCALL(do_domctl);
HYPERCALL(do_kexec_op); HYPERCALL(do_xenpmu_op); HYPERCALL(do_mca); HYPERCALL(do_argo_op); HYPERCALL(do_hypfs_op); HYPERCALL(do_pvisor_op);

#endif
