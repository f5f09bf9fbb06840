; The loader's own description, for a toolstack that takes it for an ordinary kernel; its entry; and its last instructions. For both
; word sizes: nasm -f elf64 or elf32.

%ifidn __?OUTPUT_FORMAT?__, elf64
  bits 64
  default rel
  %define BASE 0xffffffffc0000000
  %define DW dq
%else
  bits 32
  %define BASE 0xe0000000
  %define DW dd
%endif

extern load
global _start, jump, trampoline, trampoline_end

%macro NOTE 2+ ; type, contents
    align 4, db 0
    dd 4, %%end - %%start, %1
    db "Xen", 0
%%start:
    %2
%%end:
%endmacro

section .note.Xen note alloc noexec nowrite align=4
    NOTE 6, db "pvisor-loader", 0       ; GUEST_OS
    NOTE 5, db "xen-3.0", 0             ; XEN_VERSION
    NOTE 8, db "generic", 0             ; LOADER
%ifidn __?OUTPUT_FORMAT?__, elf32
    NOTE 9, db "yes", 0                 ; PAE_MODE
    NOTE 10, db "pae_pgdir_above_4gb", 0
%endif
    NOTE 3, DW BASE                     ; VIRT_BASE
    NOTE 1, DW _start                   ; ENTRY

section .text

; A kernel starts with its start_info in (r)si and (r)sp at the end of the builder's stack.
; The end: jump(trampoline, handover) has all in registers, since no stack of ours is there when the tables have changed. The
; trampoline asks for that, by an mmuext_op whose operations lie behind it, and starts the kernel. It lies in a page
; that old and new tables have at one address.

%ifidn __?OUTPUT_FORMAT?__, elf64

_start:
    cld
    mov rdi, rsi
    mov rsi, rsp
    lea rsp, [stack_end]
    xor ebp, ebp
    call load
    ud2

jump:
    mov rax, rdi
    mov rbx, rsi
    mov rdi, [rbx]                      ; operations
    mov rsi, [rbx + 8]                  ; how many
    mov r12, [rbx + 16]                 ; entry
    mov rsp, [rbx + 24]
    mov r13, [rbx + 32]                 ; start_info
    xor edx, edx
    mov r10d, 0x7ff0                    ; DOMID_SELF
    jmp rax

trampoline:
    mov eax, 26                         ; mmuext_op
    syscall
    test eax, eax
    jnz .refused
    mov rsi, r13
    xor ebx, ebx
    xor ebp, ebp
    jmp r12
.refused:
    ud2
trampoline_end:

%else

_start:
    cld
    mov eax, esp
    mov esp, stack_end
    xor ebp, ebp
    push eax
    push esi
    call load
    ud2

jump:
    mov eax, [esp + 4]
    mov edx, [esp + 8]
    mov ebx, [edx]                      ; operations
    mov ecx, [edx + 4]                  ; how many
    mov edi, [edx + 8]                  ; entry
    mov esp, [edx + 12]
    mov ebp, [edx + 16]                 ; start_info
    xor edx, edx
    mov esi, 0x7ff0                     ; DOMID_SELF
    jmp eax

trampoline:
    mov eax, 26                         ; mmuext_op
    int 0x82
    test eax, eax
    jnz .refused
    mov esi, ebp
    xor ebp, ebp
    jmp edi
.refused:
    ud2
trampoline_end:

%endif

section .bss align=4096
    resb 65536
stack_end:
