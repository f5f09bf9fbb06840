; Entry, hypercalls and traps of a 64-bit kernel.

default rel

extern start_c, trap
global _start, hypercall_page, hypercall_page_call, hypercall_bare
global catch_save, catch_resume, user_enter, iret_frame
global trap_stubs, event_entry, failsafe_entry, syscall_entry, sysenter_entry

%define HYPERCALL_IRET 23
%define VECTOR_EVENT    256
%define VECTOR_SYSCALL  257
%define VECTOR_FAILSAFE 258
%define VECTOR_SYSENTER 259

%include "notes.inc"

section .hypercall progbits alloc exec nowrite align=4096
hypercall_page:
    times 4096 db 0xcc                  ; the hypervisor fills it

section .entry progbits alloc exec nowrite align=4096
_start:                                 ; rsi: start_info, rsp: the builder's stack
    cld
    mov rdi, rsi
    mov rsi, rsp
    lea rsp, [boot_stack_top]
    xor ebp, ebp
    call start_c
    ud2

section .text

; long f(word number, word args[6])
%macro LOAD_ARGS 0
    push rbx
    mov rax, rdi
    mov rbx, rsi
    mov rdi, [rbx]
    mov rsi, [rbx + 8]
    mov rdx, [rbx + 16]
    mov r10, [rbx + 24]
    mov r8, [rbx + 32]
    mov r9, [rbx + 40]
%endmacro

%macro STORE_ARGS 0
    mov [rbx], rdi
    mov [rbx + 8], rsi
    mov [rbx + 16], rdx
    mov [rbx + 24], r10
    mov [rbx + 32], r8
    mov [rbx + 40], r9
    pop rbx
    ret
%endmacro

hypercall_page_call:
    LOAD_ARGS
    shl rax, 5                          ; 32 bytes of code for each number
    lea rcx, [hypercall_page]
    add rax, rcx
    call rax
    STORE_ARGS

hypercall_bare:
    LOAD_ARGS
    syscall
    STORE_ARGS

; int catch_save(struct catch *)
catch_save:
    mov [rdi], rbx
    mov [rdi + 8], rbp
    mov [rdi + 16], r12
    mov [rdi + 24], r13
    mov [rdi + 32], r14
    mov [rdi + 40], r15
    lea rax, [rsp + 8]
    mov [rdi + 48], rax
    mov rax, [rsp]
    mov [rdi + 56], rax
    xor eax, eax
    ret

; Where execution goes on after a caught trap; rdx: the struct catch. The stack pointer is anything.
catch_resume:
    mov rdi, rdx
    mov rbx, [rdi]
    mov rbp, [rdi + 8]
    mov r12, [rdi + 16]
    mov r13, [rdi + 24]
    mov r14, [rdi + 32]
    mov r15, [rdi + 40]
    mov rsp, [rdi + 48]
    cld
    mov eax, 1
    jmp [rdi + 56]

; void user_enter(ip, sp, flags, cs, ss)
user_enter:
    push r8
    push rsi
    push rdx
    push rcx
    push rdi
    push 0
    jmp hypercall_page + HYPERCALL_IRET * 32

; void iret_frame(const word *frame, unsigned words): the frame from flags (VGCF_*) up
iret_frame:
    mov esi, esi
.copy:
    push qword [rdi + rsi * 8 - 8]
    dec esi
    jnz .copy
    jmp hypercall_page + HYPERCALL_IRET * 32

; The hypervisor pushed rcx and r11 below the frame. Events are masked all through.
%macro ENTRY_STUB 2 ; vector, 1 if there is an error code
    pop rcx
    pop r11
%if %2 == 0
    push 0
%endif
    push dword %1
    jmp trap_common
%endmacro

%define HAS_ERROR(v) ((v) == 8 || ((v) >= 10 && (v) <= 14) || (v) == 17)

align 16
trap_stubs:
%assign vector 0
%rep 256
    align 16
    ENTRY_STUB vector, HAS_ERROR(vector)
%assign vector vector + 1
%endrep

event_entry:
    ENTRY_STUB VECTOR_EVENT, 0
syscall_entry:
    ENTRY_STUB VECTOR_SYSCALL, 0
sysenter_entry:
    ENTRY_STUB VECTOR_SYSENTER, 0

failsafe_entry:                         ; rcx, r11, ds, es, fs, gs, then the frame
    pop rcx
    pop r11
    add rsp, 32
    push 0
    push dword VECTOR_FAILSAFE

trap_common:
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call trap
    mov rsp, rbp
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 8
    mov qword [rsp], 0                  ; flags of the iret hypercall in place of the error code
    jmp hypercall_page + HYPERCALL_IRET * 32

section .bss align=4096
    resb 32768
boot_stack_top:
