; Handlers that do nothing but return, and loops for user mode: what the benchmarks measure is the way in and out.

extern hypercall_page, shared_info, bench_demand_pte
global bench_demand_fault, bench_skip_fault, bench_skip_ud, bench_syscall
global user_syscall_loop, user_syscall_loop_end, user_fault_loop, user_fault_loop_end

%define HYPERCALL_UPDATE_VA_MAPPING 14
%define HYPERCALL_IRET 23
%define CR2_64 16                       ; in vCPU 0's vcpu_info, with which shared_info begins
%define CR2_32 8
%define IRET hypercall_page + HYPERCALL_IRET * 32
%define VGCF_IN_SYSCALL 0x100

section .text

; %1: 1 if there is an error code. %2: bytes of the instruction to skip.
%macro SKIP 2
%ifdef FORMAT_PT64
    pop rcx
    pop r11
%if %1
    mov qword [rsp], 0                  ; the error code's place is the iret's flags
%else
    push 0
%endif
    add qword [rsp + 8], %2
%else
%if %1
    add esp, 4
%endif
    add dword [esp], %2
%endif
    jmp IRET
%endmacro

bench_skip_fault:
    SKIP 1, 2                           ; mov [reg], eax
bench_skip_ud:
    SKIP 0, 2

; Maps bench_demand_pte where the fault was.
bench_demand_fault:
%ifdef FORMAT_PT64
    push rax
    push rdi
    push rsi
    push rdx
    mov rdi, [shared_info]
    mov rdi, [rdi + CR2_64]
    and rdi, -4096
    mov rsi, [bench_demand_pte]
    xor edx, edx
    call hypercall_page + HYPERCALL_UPDATE_VA_MAPPING * 32
    pop rdx
    pop rsi
    pop rdi
    pop rax
    pop rcx
    pop r11
    mov qword [rsp], 0                  ; the error code's place is the iret's flags
%else
    push eax
    push ebx
    push ecx
    push edx
    push esi
    mov ebx, [shared_info]
    mov ebx, [ebx + CR2_32]
    and ebx, -4096
    mov ecx, [bench_demand_pte]
    mov edx, [bench_demand_pte + 4]
    xor esi, esi
    call hypercall_page + HYPERCALL_UPDATE_VA_MAPPING * 32
    pop esi
    pop edx
    pop ecx
    pop ebx
    pop eax
    add esp, 4
%endif
    jmp IRET

%ifdef FORMAT_PT64
bench_syscall:
    pop rcx
    pop r11
    push VGCF_IN_SYSCALL
    jmp IRET

; User mode: rcx and r11 die. r8: instructions of the loop, of r9 rounds.
%macro TIMED_LOOP 2+ ; rounds, what
    mov r9d, %1
    mov r12d, 8
    mov r13, -1
%%again:
    mov ebx, r9d
    rdtsc
    shl rdx, 32
    lea r8, [rax + rdx]
%%loop:
    %2
    dec ebx
    jnz %%loop
    rdtsc
    shl rdx, 32
    add rax, rdx
    sub rax, r8
    cmp rax, r13
    cmovb r13, rax
    dec r12d
    jnz %%again
    mov r8, r13
    ud2
%endmacro

user_syscall_loop:
    TIMED_LOOP 64, syscall
user_syscall_loop_end:

user_fault_loop:
    xor esi, esi
    TIMED_LOOP 64, mov [rsi], eax
user_fault_loop_end:
%else
bench_syscall:
user_syscall_loop:
user_syscall_loop_end:
user_fault_loop:
user_fault_loop_end:
%endif

section .note.GNU-stack noalloc noexec nowrite progbits
