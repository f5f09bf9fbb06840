; Closed roots on the ways in and out, in a build for tests: asm/closed.h.
%include "entry.inc"

extern syscall_entry, int82_entry

; %1 becomes the field %2 of this CPU's struct cpu_info, whichever of its stacks this is.
%macro FIND_IN_CPU_INFO 2
    mov %1, rsp
    or %1, STACK_SIZE_ - 1
    mov %1, [%1 + 1 - CPUINFO_sizeof + %2]
%endmacro

; From ARRIVE. What comes from code of ours finds the root that this had.
align 16
global closed_arrive:function hidden
closed_arrive:
    test byte [rsp + 8 + REGS_cs], 3
    jz .ours
    FIND_IN_CPU_INFO rax, CPUINFO_closed_cr3
    mov cr3, rax
.ours:
    ret

; INT 0x82, and SYSCALL's stub, with nothing saved yet.
align 16
global closed_int82_entry:function hidden
closed_int82_entry:
    push rax
    FIND_IN_CPU_INFO rax, CPUINFO_closed_cr3
    mov cr3, rax
    pop rax
    jmp int82_entry

align 16
global closed_syscall_entry:function hidden
closed_syscall_entry:
    push rax
    FIND_IN_CPU_INFO rax, CPUINFO_closed_cr3
    mov cr3, rax
    pop rax
    jmp syscall_entry

; From CLEAR_BUFFERS.
align 16
global closed_leave:function hidden
closed_leave:
    push rax
    FIND_IN_CPU_INFO rax, CPUINFO_open_cr3
    mov cr3, rax
    pop rax
    ret
