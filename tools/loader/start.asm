; The loader's own description, for a toolstack that takes it for an ordinary PAE kernel, and its entry.

extern load
global _start

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
    NOTE 9, db "yes", 0                 ; PAE_MODE
    NOTE 10, db "pae_pgdir_above_4gb", 0
    NOTE 3, dd 0xc0000000               ; VIRT_BASE
    NOTE 1, dd _start                   ; ENTRY

section .text
_start:                                 ; esi: start_info; esp: end of the builder's stack
    cld
    mov eax, esp
    mov esp, stack_end
    xor ebp, ebp
    push eax
    push esi
    call load
    ud2

section .bss align=4096
    resb 32768
stack_end:
