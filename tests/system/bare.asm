; The least kernel: says a line by the hypercall page and powers off. How it describes itself is what is tried:
;
;   nasm -f bin -DFORMAT_PT64             notes without an address but the hypercall page's: base 0, the ELF's own entry
;   nasm -f bin -DFORMAT_PT32P            such notes for PAE
;   nasm -f bin -DFORMAT_PT32             such notes for non-PAE
;   nasm -f bin -DFORMAT_PT32 -DSTRING    a __xen_guest string without a base, and virtual addresses for physical ones

%ifdef FORMAT_PT64
    bits 64
    %define ADDR dq
    %define EHDR_SIZE 64
    %define PHDR_SIZE 56
    %define SHDR_SIZE 64
    %define CLASS 2
    %define MACHINE 62
%else
    bits 32
    %define ADDR dd
    %define EHDR_SIZE 52
    %define PHDR_SIZE 32
    %define SHDR_SIZE 40
    %define CLASS 1
    %define MACHINE 3
%endif

%ifdef STRING
    %define START 0xc0010000
    %define NR_PHDRS 1
    %define SECTIONS sections
    %define NR_SHDRS 3
%else
    %define START 0x100000
    %define NR_PHDRS 2
    %define SECTIONS 0
    %define NR_SHDRS 0
%endif

%define CONSOLE_IO 18
%define SCHED_OP   29
%define SHUTDOWN    2
%define PAGE       0x1000

%macro PHDR 3 ; type, file offset, size
%ifdef FORMAT_PT64
    dd %1, 7
    dq %2, START + %2, START + %2, %3, %3, 0
%else
    dd %1, %2, START + %2, START + %2, %3, %3, 7, 0
%endif
%endmacro

%macro SHDR 4 ; name, type, file offset, size
%ifdef FORMAT_PT64
    dd %1, %2
    dq 0, 0, %3, %4, 0, 0, 0
%else
    dd %1, %2, 0, 0, %3, %4, 0, 0, 0, 0
%endif
%endmacro

; As tools/loader/start.asm has it, and not shared with it: either is to be read, and built, alone.
%macro NOTE 2+ ; type, contents
    align 4, db 0
    dd 4, %%end - %%start, %1
    db "Xen", 0
%%start:
    %2
%%end:
    align 4, db 0
%endmacro

    org 0
    db 0x7f, "ELF", CLASS, 1, 1
    times 9 db 0
    dw 2, MACHINE
    dd 1
    ADDR START + entry, EHDR_SIZE, SECTIONS
    dd 0
    dw EHDR_SIZE, PHDR_SIZE, NR_PHDRS, SHDR_SIZE, NR_SHDRS, NR_SHDRS - (NR_SHDRS > 0)
    PHDR 1, 0, end
%ifdef STRING
sections:
    SHDR 0, 0, 0, 0
    SHDR 1, 1, string, string_end - string
    SHDR 13, 3, names, names_end - names
string:
    db "GUEST_OS=bare,XEN_VER=xen-3.0,LOADER=generic,HYPERCALL_PAGE=0x1", 0
string_end:
names:
    db 0, "__xen_guest", 0, ".shstrtab", 0
names_end:
%else
    PHDR 4, notes, notes_end - notes
    align 4, db 0
notes:
    NOTE 8, db "generic", 0             ; LOADER
    NOTE 5, db "xen-3.0", 0             ; XEN_VERSION
    NOTE 10, db "pae_pgdir_above_4gb", 0
    NOTE 2, ADDR START + PAGE           ; HYPERCALL_PAGE
%ifdef FORMAT_PT32P
    NOTE 9, db "yes", 0                 ; PAE_MODE
%endif
notes_end:
%endif

%macro CALL_PAGE 1 ; number
%ifdef FORMAT_PT64
    mov rax, START + PAGE + %1 * 32
    call rax
%else
    mov eax, START + PAGE + %1 * 32
    call eax
%endif
%endmacro

entry:
%ifdef FORMAT_PT64
    xor edi, edi                        ; CONSOLEIO_write
    mov esi, text_end - text
    mov rdx, START + text
    CALL_PAGE CONSOLE_IO
    mov edi, SHUTDOWN
    mov rsi, START + reason
%else
    xor ebx, ebx
    mov ecx, text_end - text
    mov edx, START + text
    CALL_PAGE CONSOLE_IO
    mov ebx, SHUTDOWN
    mov ecx, START + reason
%endif
    CALL_PAGE SCHED_OP
    ud2

text:
    db "bare kernel runs", 10
text_end:
    align 4, db 0
reason:
    dd 0                                ; power off
    times PAGE - ($ - $$) db 0
    times PAGE db 0xcc                  ; the hypervisor fills it
end:
