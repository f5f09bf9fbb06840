; Entry from the boot loader: Multiboot 1 (GRUB `multiboot`, QEMU -kernel) and Multiboot 2.
; 32-bit protected mode, paging off. Builds the boot page tables, enters long mode and calls
; start_pvisor(magic, info). This section runs at its load address.

%include "asm-offsets.inc"

extern __image_phys_start, __load_end_phys, __image_end_phys, __bss_start_phys
extern boot_l4_phys, boot_l3_low_phys, boot_l3_image_phys, boot_l2_phys
extern start_pvisor, boot_stack

MB1_MAGIC  equ 0x1BADB002
MB1_FLAGS  equ 0x00010003          ; modules page-aligned, memory map, addresses given here
MB2_MAGIC  equ 0xE85250D6

section .multiboot progbits alloc exec nowrite align=8
mb1:
    dd MB1_MAGIC, MB1_FLAGS, -(MB1_MAGIC + MB1_FLAGS)
    dd mb1, __image_phys_start, __load_end_phys, __image_end_phys, start32
align 8
mb2:
    dd MB2_MAGIC, 0, mb2_end - mb2, -(MB2_MAGIC + (mb2_end - mb2))
    dw 1, 0                        ; what we need told: command line, modules, memory map
    dd 20
    dd 1, 3, 6, 0
    dw 2, 0                        ; load addresses
    dd 24
    dd mb2, __image_phys_start, __load_end_phys, __image_end_phys
    dw 3, 0                        ; entry address
    dd 12
    dd start32, 0
    dw 6, 0                        ; modules on page boundaries
    dd 8
    dw 4, 1                        ; a text mode will do
    dd 12
    dd 2, 0
    dw 5, 1                        ; and so will any graphics mode
    dd 20
    dd 0, 0, 0, 0
    dw 0, 0
    dd 8
mb2_end:

section .boot progbits alloc exec write align=16
bits 32
global start32
start32:
    cli
    cld
    mov esp, boot32_stack_top
    mov [boot_magic], eax
    mov [boot_info], ebx

    ; Memory after the file's end need not be zero on a warm start.
    mov edi, __bss_start_phys
    mov ecx, __image_end_phys
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb .no_long_mode
    mov eax, 0x80000001
    cpuid
    bt edx, 29
    jnc .no_long_mode
    mov ebp, edx

    ; RAM below 4 GiB in 2 MiB pages: at 0 (until we leave this section), in the direct map, and, its
    ; first GiB, at the image's address.
    mov edi, boot_l2_phys
    mov eax, 0x83
    mov ecx, 4 * 512
.fill_l2:
    mov [edi], eax
    add eax, 0x200000
    add edi, 8
    loop .fill_l2
    mov eax, boot_l2_phys + 3
    mov edi, boot_l3_low_phys
    mov ecx, 4
.fill_l3:
    mov [edi], eax
    add eax, 0x1000
    add edi, 8
    loop .fill_l3
    mov dword [boot_l3_image_phys + BOOT_IMAGE_L3_INDEX * 8], boot_l2_phys + 3
    mov dword [boot_l4_phys], boot_l3_low_phys + 3
    mov dword [boot_l4_phys + BOOT_DIRECTMAP_L4_INDEX * 8], boot_l3_low_phys + 3
    mov dword [boot_l4_phys + BOOT_IMAGE_L4_INDEX * 8], boot_l3_image_phys + 3

    mov eax, cr4
    or eax, (1 << 5) | (1 << 4)    ; PAE, PSE
    mov cr4, eax
    mov eax, boot_l4_phys
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1 << 8                 ; LME
    bt ebp, 20
    jnc .no_nx
    or eax, 1 << 11
.no_nx:
    wrmsr
    mov eax, 0x80010033            ; PG WP NE ET MP PE
    mov cr0, eax
    lgdt [boot_gdtr]
    jmp 0x08:start64

.no_long_mode:
    mov esi, msg_no_long_mode
    mov edi, 0xb8000
.print:
    lodsb
    test al, al
    jz .halt
    mov ah, 0x4f
    stosw
    mov dx, 0x3f8
    out dx, al
    jmp .print
.halt:
    hlt
    jmp .halt

bits 64
start64:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov edi, [abs boot_magic]
    mov esi, [abs boot_info]
    mov rax, boot_stack
    lea rsp, [rax + STACK_SIZE_ - CPUINFO_sizeof]
    xor ebp, ebp
    mov rax, start_pvisor
    call rax
    ud2

align 16
boot_gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdtr:
    dw 23
    dd boot_gdt, 0
align 4
boot_magic: dd 0
boot_info: dd 0
msg_no_long_mode: db "pvisor: this CPU has no 64-bit mode; a 64-bit x86 CPU is needed.", 0
align 16
    times 256 db 0
boot32_stack_top:
