; Page-table isolation on the ways in and out: asm/isolation.h.
%include "entry.inc"

extern ret_to_guest, verw_selector, syscall_entry, isolation_copy_root

; %1: this CPU's struct cpu_info, whichever of its stacks this is.
%macro FIND_CPU_INFO 1
    mov %1, rsp
    or %1, STACK_SIZE_ - 1
    sub %1, CPUINFO_sizeof - 1
%endmacro

; From CLEAR_BUFFERS; interrupts are off. All registers are preserved. full_cr3 is set first: an NMI between finds its way.
align 16
global load_guest_root:function hidden
load_guest_root:
    push rax
    push rcx
    FIND_CPU_INFO rcx
    cmp byte [rcx + CPUINFO_isolated], 0
    je .loaded
    SHORT_WAY_OR .copy
    mov rax, [rcx + CPUINFO_current]
    mov rax, [rax + VCPU_cr3]
    cmp rax, [rcx + CPUINFO_kernel_root_of]
    je .kernel
    cmp rax, [rcx + CPUINFO_user_root_of]
    jne .copy
    mov [rcx + CPUINFO_full_cr3], rax
    mov rax, [rcx + CPUINFO_user_root]
    mov cr3, rax
.loaded:
    SITE SITE_CLEAR_
    verw word [verw_selector]
    pop rcx
    pop rax
    ret
.kernel:
    mov [rcx + CPUINFO_full_cr3], rax
    mov rax, [rcx + CPUINFO_kernel_root]
    mov cr3, rax
    jmp .loaded
.copy:
    SAVE_CHANGING rcx
    call isolation_copy_root
    mov cr3, rax
    RESTORE_CHANGING
    jmp .loaded

; From ARRIVE or smap_arrive; rsp: the return address, and then the frame. All registers may be changed if code of ours was left, else
; those that C functions may change.
align 16
global load_full_root:function hidden
load_full_root:
    FIND_CPU_INFO rcx
    test byte [rsp + 8 + REGS_cs], 3
    jz .ours
    mov rax, [rcx + CPUINFO_full_cr3]
    test rax, rax
    jz .loaded
    mov cr3, rax
    mov qword [rcx + CPUINFO_full_cr3], 0
    cmp dword [rsp + 8 + REGS_entry_vector], 14
    je .page_fault
.loaded:
    ret
.page_fault:                            ; on a copy that is out of date: with a new one it may be none
    cmp rax, [rcx + CPUINFO_kernel_root_of]
    je .loaded
    cmp rax, [rcx + CPUINFO_user_root_of]
    je .loaded
    add rsp, 8
    jmp ret_to_guest
; Between a copy's root and the next instructions, or those before it: the fault of an IRET, an NMI. For reload_root r12 becomes what
; full_cr3 was, and rbx what CR3 was, for one may have changed and the other not.
.ours:
    mov rbx, cr3
    mov r12, [rcx + CPUINFO_full_cr3]
    test r12, r12
    jz .loaded
    mov cr3, r12
    mov qword [rcx + CPUINFO_full_cr3], 0
    ret

; From RESUME.
align 16
global reload_root:function hidden
reload_root:
    test r12, r12
    jz .loaded
    FIND_CPU_INFO rcx
    mov [rcx + CPUINFO_full_cr3], r12
    mov cr3, rbx
.loaded:
    ret

; Where the SYSCALL stub leads then; see there.
align 16
global syscall_entry_isolated:function hidden
syscall_entry_isolated:
%define INFO(field) rsp + CPUINFO_ %+ field - CPUINFO_guest_top
    mov [INFO(scratch_rax)], rax
    mov rax, [INFO(full_cr3)]
    test rax, rax
    jz .loaded
    mov cr3, rax
    mov qword [INFO(full_cr3)], 0
.loaded:
    mov rax, [INFO(scratch_rax)]
    jmp syscall_entry
