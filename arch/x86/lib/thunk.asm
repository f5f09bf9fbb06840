; The thunks through which GCC (-mindirect-branch=thunk-extern) and arch/x86/entry make indirect calls and jumps: retpolines, in
; which speculation goes round in a loop instead of to a predicted address. spec.c overwrites them where the CPU needs none.
; 32 bytes each, in the order of the registers' numbers; %rsp has a place, but no use.

bits 64
default rel
section .text.entry

%macro THUNK 1
global __x86_indirect_thunk_%1:function hidden
align 32
__x86_indirect_thunk_%1:
    call %%set
%%speculate:
    pause
    lfence
    jmp %%speculate
%%set:
    mov [rsp], %1
    ret
%endmacro

global indirect_thunks:data hidden, indirect_thunks_end:data hidden
align 32
indirect_thunks:
    THUNK rax
    THUNK rcx
    THUNK rdx
    THUNK rbx
    THUNK rsp
    THUNK rbp
    THUNK rsi
    THUNK rdi
    THUNK r8
    THUNK r9
    THUNK r10
    THUNK r11
    THUNK r12
    THUNK r13
    THUNK r14
    THUNK r15
    align 32
indirect_thunks_end:

section .note.GNU-stack noalloc noexec nowrite progbits
