; Entry, hypercalls and traps of a 32-bit kernel, PAE or not.

extern start_c, trap
global _start, hypercall_page, hypercall_page_call, hypercall_bare
global catch_save, catch_resume, user_enter, iret_frame
global trap_stubs, event_entry, failsafe_entry, sysenter_entry

%define HYPERCALL_IRET 23
%define VECTOR_EVENT    256
%define VECTOR_FAILSAFE 258
%define VECTOR_SYSENTER 259
%define KERNEL_DS       0xe021

%include "notes.inc"

section .hypercall progbits alloc exec nowrite align=4096
hypercall_page:
    times 4096 db 0xcc                  ; the hypervisor fills it

section .entry progbits alloc exec nowrite align=4096
_start:                                 ; esi: start_info, esp: the builder's stack
    cld
    mov eax, esp
    mov esp, boot_stack_top
    xor ebp, ebp
    push eax
    push esi
    call start_c
    ud2

section .text

; long f(word number, word args[6])
%macro LOAD_ARGS 0
    push ebx
    push esi
    push edi
    push ebp
    mov eax, [esp + 24]                 ; args
    mov ebx, [eax]
    mov ecx, [eax + 4]
    mov edx, [eax + 8]
    mov esi, [eax + 12]
    mov edi, [eax + 16]
    mov ebp, [eax + 20]
    mov eax, [esp + 20]                 ; number
%endmacro

%macro STORE_ARGS 0
    push eax
    mov eax, [esp + 28]
    mov [eax], ebx
    mov [eax + 4], ecx
    mov [eax + 8], edx
    mov [eax + 12], esi
    mov [eax + 16], edi
    mov [eax + 20], ebp
    pop eax
    pop ebp
    pop edi
    pop esi
    pop ebx
    ret
%endmacro

hypercall_page_call:
    LOAD_ARGS
    shl eax, 5                          ; 32 bytes of code for each number
    add eax, hypercall_page
    call eax
    STORE_ARGS

hypercall_bare:
    LOAD_ARGS
    int 0x82
    STORE_ARGS

; int catch_save(struct catch *)
catch_save:
    mov eax, [esp + 4]
    mov [eax], ebx
    mov [eax + 4], ebp
    mov [eax + 8], esi
    mov [eax + 12], edi
    lea ecx, [esp + 4]
    mov [eax + 16], ecx
    mov ecx, [esp]
    mov [eax + 20], ecx
    xor eax, eax
    ret

; Where execution goes on after a caught trap; edx: the struct catch. The stack pointer is anything.
catch_resume:
    mov ebx, [edx]
    mov ebp, [edx + 4]
    mov esi, [edx + 8]
    mov edi, [edx + 12]
    mov esp, [edx + 16]
    cld
    mov eax, 1
    jmp [edx + 20]

; void user_enter(ip, sp, flags, cs, ss)
user_enter:
    mov eax, esp
    push dword [eax + 20]
    push dword [eax + 8]
    push dword [eax + 12]
    push dword [eax + 16]
    push dword [eax + 4]
    jmp hypercall_page + HYPERCALL_IRET * 32

; void iret_frame(const word *frame, unsigned words): the frame from ip up
iret_frame:
    mov edx, [esp + 4]
    mov ecx, [esp + 8]
.copy:
    push dword [edx + ecx * 4 - 4]
    dec ecx
    jnz .copy
    jmp hypercall_page + HYPERCALL_IRET * 32

%macro ENTRY_STUB 2 ; vector, 1 if there is an error code
%if %2 == 0
    push dword 0
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

sysenter_entry:
    ENTRY_STUB VECTOR_SYSENTER, 0

failsafe_entry:                         ; ds, es, fs, gs, then the frame
    add esp, 16
    push dword 0
    push dword VECTOR_FAILSAFE

trap_common:
    pusha
    push ds
    push es
    push fs
    push gs
    mov eax, KERNEL_DS
    mov ds, eax
    mov es, eax
    cld
    mov ebp, esp
    push ebp
    call trap
    mov esp, ebp
    pop gs
    pop fs
    pop es
    pop ds
    popa
    add esp, 8
    jmp hypercall_page + HYPERCALL_IRET * 32

section .bss align=4096
    resb 32768
boot_stack_top:
