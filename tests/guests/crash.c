/*
 * Kernels that are meant to end, one way for each mode=... on the command line: faults that cannot be delivered, and
 * the reasons for shutting down. The hypervisor must end this domain alone, and say why. Nothing here returns unless it is wrong.
 */
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "test.h"
#include "user.h"

static void no_handlers(void)
{
    GUEST(trap_info) empty = { .address = 0 };

    set_trap_table(NULL);
    set_trap_table(&empty);
}

static void set_callback(unsigned type, word address)
{
    GUEST(callback_register) reg = { .type = (u16)type, .eip = address };

#ifndef FORMAT_PT64
    reg.cs = KERNEL_CS;
#endif
    callback_op(CALLBACKOP_register, &reg);
}

static void no_handler(void)
{
    no_handlers();
    __asm__ volatile("ud2");
}

/* The page fault handler faults on its first instruction, and so for ever, down to the stack's end. */
static void fault_recursion(void)
{
    trap_table[VECTOR_PF].address = P(window(0));
    set_trap_table(trap_table);
    *(volatile int *)window(1) = 0;
}

static void null_callback(void)
{
    long port = bind_ipi(0);

    no_handlers();
    set_callback(CALLBACKTYPE_event, 0);
    send_port((unsigned)port);
}

static void bad_iret(void)
{
#ifdef FORMAT_PT64
    const word frame[] = { 0, 0, 0xe00b, EFLAGS_IF, 0, USER_SS };
#else
    const word frame[] = { 0, 0xe00b, EFLAGS_IF, 0, USER_SS };
#endif

    no_handlers();
    set_callback(CALLBACKTYPE_failsafe, 0);
    iret_frame(frame, ARRAY_SIZE(frame));
}

static void bad_stack(void)
{
#ifdef FORMAT_PT64
    __asm__ volatile("mov %0, %%rsp\n ud2" : : "r"(window(1)));
#else
    __asm__ volatile("mov %0, %%esp\n ud2" : : "r"(window(1)));
#endif
}

/* The stack is a page table: the frame must not be written into it. */
static void table_stack(void)
{
    const char *top = (const char *)table_of(window(0), 1) + 4096;

#ifdef FORMAT_PT64
    __asm__ volatile("mov %0, %%rsp\n ud2" : : "r"(top));
#else
    __asm__ volatile("mov %0, %%esp\n ud2" : : "r"(top));
#endif
}

static void unmapped_code(void)
{
    void (*code)(void) = (void (*)(void))window(0);

    no_handlers();
    code();
}

/* Long mode has no virtual-8086 mode; the 64-bit hypercall cannot even ask for it. */
static void iret_vm86(void)
{
#ifndef FORMAT_PT64
    const word frame[] = { 0, 0x1000, EFLAGS_IF | 1 << 17, 0x2000, 0, 0, 0, 0, 0 };

    no_handlers();
    iret_frame(frame, ARRAY_SIZE(frame));
#endif
}

static void no_user_tables(void)
{
    no_handlers();
    user_enter(P(window(0)), P(window(1)), EFLAGS_IF, USER_CS, USER_SS);
}

static void lost_tables(void)
{
    no_handlers();
    for (unsigned i = 0; i < pte_count(top_level()); i++)
        pte_set(pte_at(mfn_to_virt(current_base()), i), 0);
    *(volatile int *)window(0) = 0;
}

/* The log says how the tables lead to an address that faults: here one of the hypervisor's. */
static void fault_in_hole(void)
{
    void *top = copy_top();

    no_handlers();
    mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0);
    *(volatile int *)(format.hv_start + (2 << 22)) = 0;
}

static void spin(void)
{
    for (;;)
        ;
}

/* Of user mode, and hypercalls: for what comes to the hypervisor meanwhile (tests/system/test_entry.py). */
static void system_calls(void)
{
    static const u8 code[] = { 0x0f, 0x05 };    /* syscall */

    for (;;) {
        (void)user_run(code, sizeof(code));
        (void)HYPERCALL(__HYPERVISOR_xen_version, XENVER_version, 0, 0);
    }
}

static void shutdown_poweroff(void) { shutdown(SHUTDOWN_poweroff); }
static void shutdown_reboot(void) { shutdown(SHUTDOWN_reboot); }
static void shutdown_suspend(void) { shutdown(SHUTDOWN_suspend); }
static void shutdown_crash(void) { shutdown(SHUTDOWN_crash); }
static void shutdown_watchdog(void) { shutdown(SHUTDOWN_watchdog); }
static void shutdown_unknown(void) { shutdown(77); }
/* What kernels of the Xen 3 era do: the call that takes a number gets a pointer to it. */
static void shutdown_old(void)
{
    static u32 reason = SHUTDOWN_poweroff;

    (void)HYPERCALL(__HYPERVISOR_sched_op_compat, SCHEDOP_shutdown, P(&reason));
}

static const struct test modes[] = {
    { "no_handler", no_handler }, { "fault_recursion", fault_recursion }, { "null_callback", null_callback },
    { "bad_iret", bad_iret }, { "bad_stack", bad_stack }, { "table_stack", table_stack },
    { "unmapped_code", unmapped_code }, { "iret_vm86", iret_vm86 }, { "no_user_tables", no_user_tables }, { "lost_tables", lost_tables },
    { "fault_in_hole", fault_in_hole },
    { "spin", spin }, { "system_calls", system_calls }, { "shutdown_poweroff", shutdown_poweroff }, { "shutdown_reboot", shutdown_reboot },
    { "shutdown_suspend", shutdown_suspend }, { "shutdown_crash", shutdown_crash },
    { "shutdown_watchdog", shutdown_watchdog }, { "shutdown_unknown", shutdown_unknown },
    { "shutdown_old", shutdown_old },
};

TEST(end)
{
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
        if (cmdline_is("mode", modes[i].name)) {
            printf("PVTEST begin %s\n", modes[i].name);
            modes[i].run();
            printf("PVTEST survived %s\n", modes[i].name);
            return;
        }
    printf("PVTEST survived: no mode=... of mine on the command line\n");
}
