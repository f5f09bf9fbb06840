#include "vcpus.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "traps.h"

extern u8 event_entry[], failsafe_entry[];
#ifdef FORMAT_PT64
extern u8 syscall_entry[];
#endif

#define STACK_BYTES 16384

/* Of vCPUs 1 and up: the first stack, and the one for traps from user mode. */
static u8 stacks[MAX_TEST_VCPUS - 1][2][STACK_BYTES] __attribute__((aligned(4096)));

unsigned this_vcpu(void)
{
    u8 here;
    word offset = P(&here) - P(stacks);

    return offset < sizeof(stacks) ? 1 + offset / sizeof(stacks[0]) : 0;
}

vcpu_guest_context *vcpu_context(unsigned vcpu, void (*main)(void))
{
    static vcpu_guest_context c;
    u8 *stack_end = stacks[vcpu - 1][0] + STACK_BYTES;

    memset(&c, 0, sizeof(c));
    c.flags = VGCF_in_kernel;
    for (unsigned i = 0; i < 256; i++)
        memcpy(&c.trap_ctxt[i], &trap_table[i], sizeof(c.trap_ctxt[i]));
    c.event_callback_eip = P(event_entry);
    c.failsafe_callback_eip = P(failsafe_entry);
    c.kernel_sp = P(stack_end + STACK_BYTES);
    c.kernel_ss = KERNEL_SS;
    c.user_regs.ss = KERNEL_SS;
#ifdef FORMAT_PT64
    c.syscall_callback_eip = P(syscall_entry);
    c.ctrlreg[3] = (u64)current_base() << 12;
    c.user_regs.cs = FLAT_RING3_CS64;
    c.user_regs.rip = P(main);
    c.user_regs.rsp = P(stack_end) - 8;
    c.user_regs.rflags = EFLAGS_IF;
#else
    c.event_callback_cs = c.failsafe_callback_cs = KERNEL_CS;
    c.ctrlreg[3] = XEN_PFN_TO_CR3_32(current_base());
    c.user_regs.cs = KERNEL_CS;
    c.user_regs.ds = c.user_regs.es = KERNEL_SS;
    c.user_regs.eip = P(main);
    c.user_regs.esp = P(stack_end) - 4;
    c.user_regs.eflags = EFLAGS_IF;
#endif
    return &c;
}

long vcpu_start(unsigned vcpu, void (*main)(void))
{
    long rc = vcpu_op(VCPUOP_initialise, vcpu, vcpu_context(vcpu, main));

    return rc ? rc : vcpu_op(VCPUOP_up, vcpu, NULL);
}
