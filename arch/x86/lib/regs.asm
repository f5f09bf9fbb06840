; Functions that look at registers or keep them, as C cannot.
%include "entry.inc"
section .text

; struct cpu_regs *, for panic(): the caller's registers
global capture_regs:function hidden
capture_regs:
    mov [rdi + REGS_rbx], rbx
    mov [rdi + REGS_rbp], rbp
    lea rax, [rsp + 8]
    mov [rdi + REGS_rsp], rax
    mov rax, [rsp]
    mov [rdi + REGS_rip], rax
    ret

; ticket_wait(rdi, rsi), with all registers preserved
global ticket_wait_saving:function hidden
extern ticket_wait
ticket_wait_saving:
    push rbp
    mov rbp, rsp
    SAVE_CHANGING rcx
    and rsp, -16
    call ticket_wait
    lea rsp, [rbp - 9 * 8]
    RESTORE_CHANGING
    pop rbp
    ret
