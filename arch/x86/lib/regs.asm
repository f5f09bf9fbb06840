; Functions that look at registers or keep them, as C cannot.
%include "asm-offsets.inc"

bits 64
default rel
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
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    and rsp, -16
    call ticket_wait
    lea rsp, [rbp - 9 * 8]
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    pop rbp
    ret

section .note.GNU-stack noalloc noexec nowrite progbits
