; Where the other CPUs start: a page below 1 MiB that this is copied to, in real mode, CS = page / 16, IP = 0.
; From there to long mode in one step, on the boot page tables, which map the page at its own address.

%include "asm-offsets.inc"

extern start_secondary

%define AT(label) (label - trampoline_start)

section .rodata
align 16
global trampoline_start:data hidden, trampoline_64:data hidden, trampoline_gdt:data hidden
global trampoline_data:data hidden, trampoline_end:data hidden
bits 16
trampoline_start:
    cli
    cld
    mov ax, cs
    mov ds, ax
    o32 lgdt [AT(trampoline_data) + TRAMP_gdt_limit]
    mov eax, [AT(trampoline_data) + TRAMP_cr4]
    mov cr4, eax
    mov eax, [AT(trampoline_data) + TRAMP_boot_cr3]
    mov cr3, eax
    mov ecx, 0xc0000080
    mov eax, [AT(trampoline_data) + TRAMP_efer]
    xor edx, edx
    wrmsr
    mov eax, 0x80010033            ; PG WP NE ET MP PE
    mov cr0, eax
    jmp dword far [AT(trampoline_data) + TRAMP_far_offset]

bits 64
trampoline_64:
    lea rbx, [rel trampoline_data]
    jmp [rbx + TRAMP_entry]

align 8
trampoline_gdt:
    dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
align 8
trampoline_data:
    times TRAMP_sizeof db 0
trampoline_end:

; rbx: the trampoline's data, at its own address. A CPU that comes when its start was given up finds no stack.
section .text
global secondary_entry:function hidden
secondary_entry:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rcx, [rbx + TRAMP_hyp_cr3]
    xor edx, edx
    xchg rdx, [rbx + TRAMP_stack]
    test rdx, rdx
    jz .too_late
    mov cr3, rcx
    mov rsp, rdx
    xor ebp, ebp
    call start_secondary
.too_late:
    cli
    hlt
    jmp .too_late

section .note.GNU-stack noalloc noexec nowrite progbits
