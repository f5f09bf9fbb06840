/* Numbers that assembly needs, from the C definitions: the Makefile turns the "->NAME value" lines into %define. */
#include <asm/desc.h>
#include <asm/layout.h>
#include <asm/percpu.h>
#include <asm/pt_format.h>
#include <asm/pv.h>
#include <asm/sites.h>
#include <asm/smp.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>

#define DEFINE(sym, val) __asm__ volatile("\n#->" #sym " %0" :: "i"(val))
#define OFFSET(sym, type, member) DEFINE(sym, offsetof(type, member))

void asm_offsets(void);
void asm_offsets(void)
{
    DEFINE(BOOT_DIRECTMAP_L4_INDEX, DIRECTMAP_START >> 39 & 511);
    DEFINE(BOOT_IMAGE_L4_INDEX, IMAGE_START >> 39 & 511);
    DEFINE(BOOT_IMAGE_L3_INDEX, IMAGE_START >> 30 & 511);
    DEFINE(STACK_SIZE_, STACK_SIZE);

    DEFINE(CPUINFO_sizeof, sizeof(struct cpu_info));
    OFFSET(CPUINFO_guest_top, struct cpu_info, guest_regs.es);
    OFFSET(CPUINFO_scratch_rsp, struct cpu_info, scratch_rsp);
    OFFSET(CPUINFO_current, struct cpu_info, current_vcpu);
    OFFSET(CPUINFO_isolated, struct cpu_info, isolated);
    OFFSET(CPUINFO_user_root_of, struct cpu_info, guest_root[0].of);
    OFFSET(CPUINFO_user_root, struct cpu_info, guest_root[0].cr3);
    OFFSET(CPUINFO_kernel_root_of, struct cpu_info, guest_root[1].of);
    OFFSET(CPUINFO_kernel_root, struct cpu_info, guest_root[1].cr3);
    OFFSET(CPUINFO_full_cr3, struct cpu_info, full_cr3);
    OFFSET(CPUINFO_scratch_rax, struct cpu_info, scratch_rax);
    OFFSET(CPUINFO_iret_fault, struct cpu_info, iret_error);
    OFFSET(CPUINFO_closed_cr3, struct cpu_info, closed_cr3);
    OFFSET(CPUINFO_open_cr3, struct cpu_info, open_cr3);
    OFFSET(CPUINFO_open_cr4, struct cpu_info, open_cr4);
    OFFSET(CPUINFO_softirq, struct cpu_info, softirq_pending);
    OFFSET(CPUINFO_steps, struct cpu_info, steps);
    OFFSET(CPUINFO_fetched, struct cpu_info, fetched);
    OFFSET(CPUINFO_call_exit, struct cpu_info, call_exit);
    _Static_assert(offsetof(struct cpu_info, call_exit) == offsetof(struct cpu_info, softirq_pending) + 4, "compared as one");

    OFFSET(REGS_rax, struct cpu_regs, rax);
    OFFSET(REGS_rcx, struct cpu_regs, rcx);
    OFFSET(REGS_rdx, struct cpu_regs, rdx);
    OFFSET(REGS_rbx, struct cpu_regs, rbx);
    OFFSET(REGS_rbp, struct cpu_regs, rbp);
    OFFSET(REGS_rsi, struct cpu_regs, rsi);
    OFFSET(REGS_rdi, struct cpu_regs, rdi);
    OFFSET(REGS_r8, struct cpu_regs, r8);
    OFFSET(REGS_r9, struct cpu_regs, r9);
    OFFSET(REGS_r10, struct cpu_regs, r10);
    OFFSET(REGS_r11, struct cpu_regs, r11);
    OFFSET(REGS_r12, struct cpu_regs, r12);
    OFFSET(REGS_r13, struct cpu_regs, r13);
    OFFSET(REGS_r14, struct cpu_regs, r14);
    OFFSET(REGS_r15, struct cpu_regs, r15);
    OFFSET(REGS_error_code, struct cpu_regs, error_code);
    OFFSET(REGS_entry_vector, struct cpu_regs, entry_vector);
    OFFSET(REGS_rip, struct cpu_regs, rip);
    OFFSET(REGS_cs, struct cpu_regs, cs);
    OFFSET(REGS_rflags, struct cpu_regs, rflags);
    OFFSET(REGS_rsp, struct cpu_regs, rsp);
    OFFSET(REGS_ss, struct cpu_regs, ss);

    OFFSET(VCPU_info, struct vcpu, info);
    OFFSET(VCPU_domain, struct vcpu, domain);
    OFFSET(VCPU_kernel_mode, struct vcpu, arch.kernel_mode);
    OFFSET(VCPU_nmi_pending, struct vcpu, arch.nmi_pending);
    OFFSET(VCPU_nmi_masked, struct vcpu, arch.nmi_masked);
    OFFSET(VCPU_walked_user, struct vcpu, arch.walked[0]);
    OFFSET(VCPU_walked_kernel, struct vcpu, arch.walked[1]);
    OFFSET(VCPU_root_user, struct vcpu, arch.root_user);
    OFFSET(VCPU_cr3, struct vcpu, arch.cr3);
    OFFSET(VCPU_kernel_sp, struct vcpu, arch.kernel_sp);
    OFFSET(VCPU_syscall_address, struct vcpu, arch.callback[CB_SYSCALL].address);
    OFFSET(VCPU_syscall_disables_events, struct vcpu, arch.callback[CB_SYSCALL].disables_events);
    OFFSET(DOMAIN_vm_assist, struct domain, vm_assist);
    OFFSET(DOMAIN_fmt, struct domain, arch.fmt);
    OFFSET(FORMAT_id, struct pt_format, id);
    _Static_assert(sizeof(((struct pt_format *)0)->id) == 4, "read as a double word");
    OFFSET(FORMAT_hv_start, struct pt_format, hv_start);
    DEFINE(FORMAT_64, PT64);

    DEFINE(TRAMP_sizeof, sizeof(struct trampoline_data));
    OFFSET(TRAMP_stack, struct trampoline_data, stack);
    OFFSET(TRAMP_hyp_cr3, struct trampoline_data, hyp_cr3);
    OFFSET(TRAMP_entry, struct trampoline_data, entry);
    OFFSET(TRAMP_boot_cr3, struct trampoline_data, boot_cr3);
    OFFSET(TRAMP_cr4, struct trampoline_data, cr4);
    OFFSET(TRAMP_efer, struct trampoline_data, efer);
    OFFSET(TRAMP_far_offset, struct trampoline_data, far_offset);
    OFFSET(TRAMP_gdt_limit, struct trampoline_data, gdt_limit);

    DEFINE(HCDESC_shift, __builtin_ctzl(sizeof(struct hypercall_desc)));
    DEFINE(NR_HYPERCALLS_, NR_HYPERCALLS);
    OFFSET(HCDESC_wide, struct hypercall_desc, wide);
    DEFINE(SITE_LEAVE_, SITE_LEAVE);
    DEFINE(SITE_LEAVE_ANY_, SITE_LEAVE_ANY);
    DEFINE(SITE_ARRIVE_, SITE_ARRIVE);
    DEFINE(SITE_RESUME_, SITE_RESUME);
    DEFINE(SITE_CLEAR_, SITE_CLEAR);
    DEFINE(SITE_INT82_, SITE_INT82);
    DEFINE(SITE_ARRIVED_, SITE_ARRIVED);
    DEFINE(SITE_OPEN_, SITE_OPEN);
    DEFINE(SITE_CLOSE_, SITE_CLOSE);
    DEFINE(SITE_PREFIX_, SITE_PREFIX);
    DEFINE(ENTRY_SYSCALL_, ENTRY_SYSCALL);
    DEFINE(ENTRY_SHORT_, ENTRY_SHORT);
    DEFINE(CALL_LOOK_, CALL_LOOK);
    DEFINE(HYPERCALL_IRET, __HYPERVISOR_iret);
    DEFINE(ASSIST_IOPL, 1 << VMASST_TYPE_architectural_iopl);
    DEFINE(HYP_VIRT_START_, HYP_VIRT_START);
    DEFINE(HYP_VIRT_SHIFT, __builtin_ctzl(HYP_VIRT_END - HYP_VIRT_START));
    DEFINE(HYP_DS_, HYP_DS);
    DEFINE(SYSCALL_CS, FLAT_RING3_CS64);
    DEFINE(SYSCALL_SS, FLAT_RING3_SS64);
    DEFINE(FLAGS_OWNED, RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF | RFLAGS_VIP);
    DEFINE(CR4_SMAP_, CR4_SMAP);
    DEFINE(FLAGS_IF, RFLAGS_IF);
    DEFINE(FLAGS_IOPL, RFLAGS_IOPL);
    DEFINE(FLAGS_VM, RFLAGS_VM);
    DEFINE(FLAGS_FIXED, RFLAGS_FIXED);
    DEFINE(FLAGS_HANDLER_CLEARS, HANDLER_CLEARS);
    DEFINE(ENTRY_SYSENTER_, ENTRY_SYSENTER);
}
