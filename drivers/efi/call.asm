; A call of the firmware's: on tables and a stack of its own (drivers/efi/call.c).
bits 64
default rel
section .note.GNU-stack noalloc noexec nowrite progbits
section .text

extern __x86_indirect_thunk_rax

; u64 efi_enter(u64 function, const u64 args[5], u64 stack, u64 cr3, struct efi_way_back *): interrupts are off. A fault leads to
; efi_left, with rbx, r12 and rax as they are there.
global efi_enter:function hidden, efi_left:function hidden
efi_enter:
    push rbp
    mov rbp, rsp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov rbx, cr3
    mov r12, rsp
    mov [r8], rbx
    mov [r8 + 8], r12
    mov rax, rdi
    mov r10, rsi
    mov r11, rdx
    mov cr3, rcx
    mov rsp, r11
    ; The firmware's convention is Microsoft's: four arguments in registers, room for them on the stack, and then the fifth.
    and rsp, -16
    sub rsp, 48
    mov rcx, [r10 + 32]
    mov [rsp + 32], rcx
    mov rcx, [r10]
    mov rdx, [r10 + 8]
    mov r8, [r10 + 16]
    mov r9, [r10 + 24]
    cld
    call __x86_indirect_thunk_rax
efi_left:
    cli
    cld
    mov cr3, rbx
    mov rsp, r12
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
