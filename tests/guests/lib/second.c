#include "second.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "traps.h"

extern u8 event_entry[], failsafe_entry[];
#ifdef FORMAT_PT64
extern u8 syscall_entry[];
#endif

vcpu_guest_context *context_of_second(void (*run)(void))
{
    static vcpu_guest_context c;

    memset(&c, 0, sizeof(c));
    c.flags = VGCF_in_kernel;
    for (unsigned i = 0; i < 256; i++)
        memcpy(&c.trap_ctxt[i], &trap_table[i], sizeof(c.trap_ctxt[i]));
    c.event_callback_eip = P(event_entry);
    c.failsafe_callback_eip = P(failsafe_entry);
    c.kernel_sp = P(second_stack[2]);
    c.kernel_ss = KERNEL_SS;
    c.user_regs.ss = KERNEL_SS;
#ifdef FORMAT_PT64
    c.syscall_callback_eip = P(syscall_entry);
    c.ctrlreg[3] = (u64)current_base() << 12;
    c.user_regs.cs = FLAT_RING3_CS64;
    c.user_regs.rip = P(run);
    c.user_regs.rsp = P(second_stack[1]) - 8;
    c.user_regs.rflags = EFLAGS_IF;
#else
    c.event_callback_cs = c.failsafe_callback_cs = KERNEL_CS;
    c.ctrlreg[3] = XEN_PFN_TO_CR3_32(current_base());
    c.user_regs.cs = KERNEL_CS;
    c.user_regs.ds = c.user_regs.es = KERNEL_SS;
    c.user_regs.eip = P(run);
    c.user_regs.esp = P(second_stack[1]) - 4;
    c.user_regs.eflags = EFLAGS_IF;
#endif
    return &c;
}
