/*
 * The real table of hypercalls: entry.asm and multicalls look at nothing but the number, so each entry must answer for itself.
 */
// SOURCES: common/hypercall_table.c common/abi.c arch/x86/pt/format.c tests/unit/fake/machine.c common/domain/rights.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <public/errno.h>
#include <public/pvisor.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include "fake/fake.h"

#define DONE 0x1234
#define NR_CALLS 42
#define CALL(name)                                                                      \
    s64 do_##name(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)                       \
    {                                                                                   \
        return a0 == 1 && a1 == 2 && a2 == 3 && a3 == 4 && a4 == 5 && a5 == 6 ? DONE : 0; \
    }
CALL(set_trap_table) CALL(mmu_update) CALL(set_gdt) CALL(stack_switch) CALL(set_callbacks)
CALL(fpu_taskswitch) CALL(sched_op_compat) CALL(platform_op) CALL(set_debugreg) CALL(get_debugreg)
CALL(update_descriptor) CALL(memory_op) CALL(multicall) CALL(update_va_mapping) CALL(set_timer_op)
CALL(event_channel_op_compat) CALL(xen_version) CALL(console_io) CALL(physdev_op_compat) CALL(grant_table_op)
CALL(vm_assist) CALL(update_va_mapping_otherdomain) CALL(iret) CALL(vcpu_op) CALL(set_segment_base)
CALL(mmuext_op) CALL(xsm_op) CALL(nmi_op) CALL(sched_op) CALL(callback_op) CALL(xenoprof_op)
CALL(event_channel_op) CALL(physdev_op) CALL(hvm_op) CALL(sysctl) CALL(domctl) CALL(kexec_op) CALL(xenpmu_op)
CALL(mca) CALL(argo_op) CALL(hypfs_op) CALL(pvisor_op)

static struct domain *dom;

static int setup(void **state)
{
    (void)state;
    fake_reset();
    dom = fake_domain(1, ABI_64, 1, false);
    fake_run(dom, 0);
    return 0;
}

static s64 call(unsigned n) { return hypercall_functions[n](1, 2, 3, 4, 5, 6); }
static bool for_control_domain(unsigned n)
{
    return n == __HYPERVISOR_platform_op || n == __HYPERVISOR_sysctl || n == __HYPERVISOR_domctl ||
           n == __HYPERVISOR_kexec_op || n == __HYPERVISOR_arch_0 || n == __HYPERVISOR_hypfs_op;
}

static void each_number_has_a_function(void **state)
{
    unsigned present = 0;

    (void)state;
    assert_int_equal(nr_hypercalls, NR_HYPERCALLS);
    dom->is_control = true;
    for (unsigned n = 0; n < NR_HYPERCALLS; n++) {
        assert_non_null(hypercall_functions[n]);
        assert_int_equal(call(n), hypercall_table[n].name ? DONE : -ENOSYS);
        present += call(n) == DONE;
    }
    assert_int_equal(present, NR_CALLS);
}

static void some_are_the_control_domain_s(void **state)
{
    (void)state;
    for (unsigned n = 0; n < NR_HYPERCALLS; n++)
        if (for_control_domain(n))
            assert_int_equal(call(n), -EPERM);
        else
            assert_int_not_equal(call(n), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_number_has_a_function, setup),
        cmocka_unit_test_setup(some_are_the_control_domain_s, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
