; Every way into the hypervisor and back to a guest.
;
; A frame is struct cpu_regs. Coming from a guest it is built at the top of this CPU's stack, so that %rsp
; afterwards points at struct cpu_info; nested entries build theirs where the stack happens to be.
;
;   IDT stubs -----> save all --> exception_handlers[vector] or do_interrupt --+--> ret_to_guest (frame is a guest's)
;   #PF, #UD, #GP -> save all --> their handlers ------------------------------+--> delivered (a handler of the guest's comes next)
;   SYSCALL stub --> save all --+-- kernel mode: hypercall_table[rax] --------->|    or plain iretq
;                               +-- user mode:   pv_guest_syscall ------------->|
;   INT 0x82 ------> hypercall with the 32-bit registers ---------------------->|
;
; ret_to_guest looks for softirqs and events once more with interrupts off, and leaves by SYSRET if the
; frame allows it, else by IRET. A fault of that IRET is the guest's fault: iret_fault. A hypercall after which
; nothing waits leaves by itself, and loads no registers that C functions preserve. A SYSCALL's does not store them either: they are in
; the frame from hypercall's way to ret_to_guest on.

%include "asm-offsets.inc"

extern exception_handlers, trap_pf, trap_ud, trap_gp, do_interrupt, hypercall_functions, hypercall_table
extern pv_guest_syscall, pv_guest_sysenter, pv_iret_failed, guest_exit_work, hypercall_look, do_iret, pv_deliver_upcall
extern isolation_copy_root
extern __x86_indirect_thunk_rax, __x86_indirect_thunk_rcx, __x86_indirect_thunk_rsi

bits 64
default rel
section .ex_table progbits alloc noexec nowrite align=4
section .entry_sites progbits alloc noexec nowrite align=4
section .text.entry progbits alloc exec nowrite align=16

; Before a short way: to the long one, %1, in a build that has no others (pvisor/short_way.h).
%macro SHORT_WAY_OR 1
%ifdef LONG_WAYS
    jmp %1
%endif
%endmacro

; Places that are patched at boot, seven bytes each (cpu/spec_patch.c). %1: SITE_*
%macro SITE 1
%%at:
[section .entry_sites]
    dd %%at - $
    dd %1
__SECT__
%endmacro

; Every way out, before the last registers are loaded: what a guest must not find in the CPU's buffers goes, for microcode gives VERW
; that meaning. Patched out where it has none, or to call load_guest_root; then nothing may be touched any more but this CPU's stack.
; Flags are overwritten.
%macro CLEAR_BUFFERS 0
    SITE SITE_LEAVE_
    verw word [verw_selector]
%endmacro

; Every way in that has saved all registers, and the way back from there to code of ours: nothing, or calls of load_full_root and
; reload_root. In between, if it was code of ours that was left, rbx and r12 must be preserved.
%macro ARRIVE 0
    SITE SITE_ARRIVE_
    db 0x0f, 0x1f, 0x80, 0, 0, 0, 0         ; NOP
%endmacro
%macro RESUME 0
    SITE SITE_RESUME_
    db 0x0f, 0x1f, 0x80, 0, 0, 0, 0
%endmacro

; The registers that C functions may change. %1: what is pushed as rcx.
%macro SAVE_CHANGING 1
    push rdi
    push rsi
    push rdx
    push %1
    push rax
    push r8
    push r9
    push r10
    push r11
%endmacro

%define PRESERVED_BYTES 48              ; rbx rbp r12 to r15

; %1, optional: what is pushed as rcx.
%macro SAVE_GPRS 0-1 rcx
    SAVE_CHANGING %1
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
%endmacro

%macro RESTORE_CHANGING 0
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
%endmacro

%macro RESTORE_GPRS 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    RESTORE_CHANGING
%endmacro

align 8
syscall_entry_word: dd 0, ENTRY_SYSCALL_         ; error_code and entry_vector
short_entry_word:   dd 0, ENTRY_SYSCALL_ | ENTRY_SHORT_
verw_selector: dw HYP_DS_

; --- IDT stubs: 256 of 16 bytes ---------------------------------------------------------------------------

%macro STUB 1
    align 16
%if %1 == 8 || (%1 >= 10 && %1 <= 14) || %1 == 17 || %1 == 21 || %1 == 29 || %1 == 30
%else
    push 0
%endif
    mov dword [rsp + 4], %1
%if %1 == 0x82
    jmp strict near int82_entry
%elif %1 == 1 || %1 == 2
    jmp strict near moving_entry
%elif %1 == 8 || %1 == 18
    jmp strict near ist_entry
%elif %1 == 6
    jmp strict near ud_entry
%elif %1 == 13
    jmp strict near gp_entry
%elif %1 == 14
    jmp strict near pf_entry
%elif %1 < 0x20 || %1 == 0x80
    jmp strict near exception_entry
%else
    jmp strict near interrupt_entry
%endif
%endmacro

global idt_stubs:function hidden
align 16
idt_stubs:
%assign v 0
%rep 256
    STUB v
%assign v v+1
%endrep

; rsp: the frame.
%macro CALL_EXCEPTION_HANDLER 0
    mov rdi, rsp
    xor ebp, ebp
    movzx eax, byte [rsp + REGS_entry_vector]
    lea rcx, [exception_handlers]
    mov rcx, [rcx + rax * 8]
    call __x86_indirect_thunk_rcx
%endmacro

align 16
exception_entry:
    cld
    SAVE_GPRS
    ARRIVE
    CALL_EXCEPTION_HANDLER
    test byte [rsp + REGS_cs], 3
    jnz ret_to_guest
restore_nested:
    RESUME
    RESTORE_GPRS
    add rsp, 8
    iretq

align 16
gp_entry:
    cld
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    call trap_gp
    test byte [rsp + REGS_cs], 3
    jnz ret_to_guest
    jmp restore_nested

; %1: handler, which says whether it delivered the trap at once: then delivered is the way out.
%macro DELIVERING_ENTRY 1
    cld
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    call %1
    test al, al
    jnz delivered
    test byte [rsp + REGS_cs], 3
    jnz ret_to_guest
    jmp restore_nested
%endmacro

align 16
pf_entry:
    DELIVERING_ENTRY trap_pf

align 16
ud_entry:
    DELIVERING_ENTRY trap_ud

align 16
interrupt_entry:
    cld
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    xor ebp, ebp
    call do_interrupt
    test byte [rsp + REGS_cs], 3
    jnz ret_to_guest
    jmp restore_nested

; #DF, #MC: on their own stacks. Their handlers do not return.
align 16
ist_entry:
    cld
    SAVE_GPRS
    ARRIVE
.saved:
    CALL_EXCEPTION_HANDLER
    jmp restore_nested

; Jumps to %1 if an event is pending for the current vCPU and not masked. rcx is overwritten.
%macro LOOK_FOR_EVENTS 1
    mov rcx, [rsp + CPUINFO_current]
    mov rcx, [rcx + VCPU_info]
    cmp word [rcx], 0                    ; upcall pending, upcall mask: mostly neither
    je %%none
    cmp byte [rcx + 1], 0
    je %1
%%none:
%endmacro

; The same if anything is to be done before it goes on: a softirq, as which a guest's NMI comes too, or an event.
%macro LOOK_FOR_WORK 1
    cmp dword [rsp + CPUINFO_softirq], 0
    jne %1
    LOOK_FOR_EVENTS %1
%endmacro

; Jumps to %1 if the frame's rip is not canonical: SYSRET would fault in ring 0. rcx is overwritten.
%macro CANONICAL_RIP 1
    mov rcx, [rsp + REGS_rip]
    shl rcx, 16
    sar rcx, 16
    cmp rcx, [rsp + REGS_rip]
    jne %1
%endmacro

; SYSRET, with the guest's rip and rflags as its rcx and r11. rsp: the frame.
%macro LEAVE_BY_SYSRET 0
    mov rcx, [rsp + REGS_rip]
    mov r11, [rsp + REGS_rflags]
    CLEAR_BUFFERS
    mov r10, [rsp + REGS_r10]
    mov r9, [rsp + REGS_r9]
    mov r8, [rsp + REGS_r8]
    mov rdx, [rsp + REGS_rdx]
    mov rsi, [rsp + REGS_rsi]
    mov rdi, [rsp + REGS_rdi]
    mov rsp, [rsp + REGS_rsp]
    o64 sysret
%endmacro

; The same to a handler that a guest registered. C functions preserved the other registers.
%macro LEAVE_TO_HANDLER 0
%ifdef DEBUG
    CANONICAL_RIP %%bug
%endif
    LEAVE_BY_SYSRET
%ifdef DEBUG
%%bug:
    ud2
%endif
%endmacro

; A trap of a 64-bit guest was delivered, with interrupts off. rsp: the frame, which is whole.
align 16
delivered:
    SHORT_WAY_OR ret_to_guest
    LOOK_FOR_WORK ret_to_guest
    mov rax, [rsp + REGS_rax]
    LEAVE_TO_HANDLER

; Of a hypercall's frame: what C functions have preserved, so that it is as if all registers had been saved.
%macro COMPLETE_FRAME 0
    mov [rsp + REGS_rbx], rbx
    mov [rsp + REGS_rbp], rbp
    mov [rsp + REGS_r12], r12
    mov [rsp + REGS_r13], r13
    mov [rsp + REGS_r14], r14
    mov [rsp + REGS_r15], r15
    and dword [rsp + REGS_entry_vector], ~ENTRY_SHORT_
%endmacro

; --- What the short ways use ----------------------------------------------------------------------------------------

%define FRAME_TOP 40                    ; rip cs rflags rsp ss
%define FRAME_RIP 0
%define FRAME_CS 8
%define FRAME_RFLAGS 16
%define FRAME_RSP 24
%define FRAME_SS 32

; Jumps to %3 if [%1, ...) starts in the hypervisor's part of the address space; what lies between the halves faults by
; itself. %2 is overwritten.
%macro CHECK_GUEST_ADDRESS 3
    mov %2, -HYP_VIRT_START_
    add %2, %1
    shr %2, HYP_VIRT_SHIFT
    jz %3
%endmacro

; A read or write of guest memory with a fixup.
%macro GUEST 2+ ; fixup, instruction
%%at:
    %2
[section .ex_table]
%%entry:
    dd %%at - %%entry
    dd %1 - (%%entry + 4)
__SECT__
%endmacro

; %1: mov %1 %2, value of the root that is used next. %3: 1 kernel, 0 user. rcx: vCPU
%macro SWITCH_MODE 3
    mov byte [rcx + VCPU_kernel_mode], %3
    swapgs
    shl %1, 12
    mov [rcx + VCPU_cr3], %1
    mov cr3, %1
%endmacro

; #DB and NMI have stacks of their own, since %rsp is the guest's for one instruction after SYSCALL. What comes from a guest
; interrupted nothing of ours: its frame moves to the ordinary stack, and the way back is the ordinary one, whose IRET may
; fault. What interrupted us goes back to the very place.
align 16
moving_entry:
    cld
    SAVE_GPRS
    ARRIVE
    test byte [rsp + REGS_cs], 3
    jz ist_entry.saved
    mov rsi, rsp
    mov rdi, rsp
    or rdi, STACK_SIZE_ - 1
    sub rdi, CPUINFO_sizeof - 1
    mov rsp, rdi
    mov ecx, CPUINFO_guest_top / 8
    rep movsq
    CALL_EXCEPTION_HANDLER
    jmp ret_to_guest

; --- Hypercalls -------------------------------------------------------------------------------------------

; The per-CPU stub has parked the guest's %rsp and loaded %rsp with the address of guest_regs.es. Interrupts are off. The
; two ways that a kernel's system call takes, into the kernel and out of it by the iret hypercall, are taken
; here if nothing is special about them: short_syscall, short_iret. All else is done in C.

; Calls the handler of hypercall rax, or jumps to %1 if there is no such number. rdi rsi rdx rcx r8 r9: arguments
%macro CALL_HYPERCALL 1
    cmp rax, NR_HYPERCALLS_
    jae %1
    and eax, NR_HYPERCALLS_ - 1         ; should the CPU have expected another answer: asm/nospec.h
    lea r11, [hypercall_functions]
    mov rax, [r11 + rax * 8]
%ifdef DEBUG
    call counted_call
%else
    call __x86_indirect_thunk_rax
%endif
%endmacro

%ifdef DEBUG
extern steps_look
; The handler in rax, whose work is counted: pvisor/steps.h.
counted_call:
    mov r11, rsp
    or r11, STACK_SIZE_ - 1
    mov qword [r11 + 1 - CPUINFO_sizeof + CPUINFO_steps], 0     ; and steps_allowed
    sub rsp, 8
    call __x86_indirect_thunk_rax
    mov [rsp], rax
    call steps_look
    pop rax
    ret
%endif

global syscall_entry:function hidden
align 16
syscall_entry:
    push SYSCALL_SS
    push qword [rsp + 8 + CPUINFO_scratch_rsp - CPUINFO_guest_top]
    push r11
    push SYSCALL_CS
    push rcx
    mov rcx, [rsp + FRAME_TOP + CPUINFO_current - CPUINFO_guest_top]
    cmp byte [rcx + VCPU_kernel_mode], 0
    je short_syscall
    cmp eax, HYPERCALL_IRET
    je short_iret
    push qword [short_entry_word]
    SAVE_CHANGING {qword [rsp + 4 * 8]}     ; SYSCALL had put rip in rcx
    sub rsp, PRESERVED_BYTES
    sti
    mov rcx, r10
    CALL_HYPERCALL .bad
    cli
    ; What C preserves is the guest's again, and rax is what it gets. A handler whose result wants a look, or that made the guest
    ; go on elsewhere, said so in call_exit; so rip is where SYSCALL said: behind an instruction at an address that is canonical.
    SHORT_WAY_OR .full_exit
    cmp qword [rsp + CPUINFO_softirq], 0        ; and call_exit
    jne .full_exit
    LOOK_FOR_EVENTS .event
    cmp dword [rsp + REGS_rip + 4], 0x8000      ; the only one there that is not, with which SYSRET would fault in ring 0
    je .full_exit
%ifdef DEBUG
    CANONICAL_RIP .bug
%endif
    LEAVE_BY_SYSRET
%ifdef DEBUG
.bug:
    ud2
%endif
.full_exit:
    COMPLETE_FRAME
hypercall_done:
    cmp dword [rsp + CPUINFO_call_exit], 0
    jne .look
    mov [rsp + REGS_rax], rax
    jmp ret_to_guest
.look:
    mov rdi, rsp
    mov rsi, rax
    call hypercall_look
    jmp ret_to_guest
; Interrupts are off since softirqs were looked for: who raises one now sends an interrupt, too.
syscall_entry.event:
    COMPLETE_FRAME
    mov [rsp + REGS_rax], rax
    mov rdi, [rsp + CPUINFO_current]
    mov rsi, rsp
    call pv_deliver_upcall
    test al, al
    jz ret_to_guest
    mov rax, [rsp + REGS_rax]
    LEAVE_TO_HANDLER
syscall_entry.bad:
    mov dword [rsp + CPUINFO_call_exit], CALL_LOOK_
    mov rax, -38        ; ENOSYS
    jmp syscall_entry.full_exit

; SYSCALL by a 64-bit guest's user space, to its kernel's handler. rcx: vCPU; rcx and r11 are in the frame. Interrupts
; stay off and the event mask is not lifted, so nothing can have become pending that was not when user space ran.
;   kernel's stack: rcx r11 rip cs rflags rsp ss
align 16
short_syscall:
    push rax
    push rdx
%define F 16
    SHORT_WAY_OR .full
    mov r11, [rcx + VCPU_domain]
    test byte [r11 + DOMAIN_vm_assist], ASSIST_IOPL
    jnz .full
    mov rdx, [rcx + VCPU_kernel_sp]
    and rdx, -16
    sub rdx, 56
    CHECK_GUEST_ADDRESS rdx, rax, .full
    cmp qword [rcx + VCPU_syscall_address], 0
    je .full
    mov rax, [rcx + VCPU_root_kernel]
    SWITCH_MODE rax, VCPU_root_kernel, 1
    mov rax, [rsp + F + FRAME_RIP]
    GUEST .fault, mov [rdx], rax
    GUEST .fault, mov [rdx + 16], rax
    mov rax, [rsp + F + FRAME_RSP]
    GUEST .fault, mov [rdx + 40], rax
    mov eax, SYSCALL_SS
    GUEST .fault, mov [rdx + 48], rax
    mov r11, [rcx + VCPU_info]
    movzx eax, byte [r11 + 1]           ; the event mask: saved beside cs, and inverted as IF
    shl rax, 32
    or rax, SYSCALL_CS
    GUEST .fault, mov [rdx + 24], rax
    mov rax, [rsp + F + FRAME_RFLAGS]
    GUEST .fault, mov [rdx + 8], rax
    and eax, ~(FLAGS_IF | FLAGS_IOPL)
    cmp byte [r11 + 1], 0
    jne .masked
    or eax, FLAGS_IF
.masked:
    GUEST .fault, mov [rdx + 32], rax
    cmp byte [rcx + VCPU_syscall_disables_events], 0
    je .leave
    mov byte [r11 + 1], 1
.leave:
    mov r11, [rsp + F + FRAME_RFLAGS]
    and r11d, ~FLAGS_HANDLER_CLEARS
    mov rcx, [rcx + VCPU_syscall_address]   ; canonical: callback.c refuses others
    mov [rsp + F + FRAME_RSP], rdx
    CLEAR_BUFFERS
    pop rdx
    pop rax
    mov rsp, [rsp + FRAME_RSP]
    o64 sysret
.fault:                                 ; in C, from the start
    mov rax, [rcx + VCPU_root_user]
    SWITCH_MODE rax, VCPU_root_user, 0
.full:
    pop rdx
    pop rax
    mov rcx, [rsp + FRAME_RIP]
    mov r11, [rsp + FRAME_RFLAGS]
    push qword [syscall_entry_word]
    SAVE_GPRS
    mov rdi, rsp
    xor ebp, ebp
    call pv_guest_syscall
    jmp ret_to_guest

; The iret hypercall; if it wants more than this, do_iret() sees all registers. rcx: vCPU; rax, rcx and r11 are to come from
; the guest's frame, so all three are free.
;   at the guest's rsp: rax r11 rcx flags rip cs rflags rsp ss
align 16
short_iret:
    SHORT_WAY_OR .full
    mov rax, [rcx + VCPU_domain]
    mov r11, [rsp + FRAME_RSP]
    test byte [rax + DOMAIN_vm_assist], ASSIST_IOPL
    jnz .full
    cmp word [rcx + VCPU_nmi_pending], 0        ; and nmi_masked
    jne .full
    CHECK_GUEST_ADDRESS r11, rax, .full
    GUEST .fault, push qword [r11 + 16]
    GUEST .fault1, push qword [r11 + 8]
    GUEST .fault2, push qword [r11]
%define F 24
    GUEST .fault3, mov rax, [r11 + 32]
    mov [rsp + F + FRAME_RIP], rax
    GUEST .fault3, mov rax, [r11 + 56]
    mov [rsp + F + FRAME_RSP], rax
    GUEST .fault3, movzx eax, word [r11 + 64]
    or eax, 3
    mov [rsp + F + FRAME_SS], rax
    GUEST .fault3, movzx eax, word [r11 + 40]
    mov [rsp + F + FRAME_CS], rax
    not eax
    test al, 3                          ; ring 3 is user mode; the kernel's frames say ring 0
    GUEST .fault3, mov rax, [r11 + 48]
    jnz .to_kernel
    cmp qword [rcx + VCPU_root_user], -1
    je .fault3
    mov r11, [rcx + VCPU_root_user]
    SWITCH_MODE r11, VCPU_root_user, 0
.to_kernel:
    or byte [rsp + F + FRAME_CS], 3
    mov r11, [rcx + VCPU_info]
    bt eax, 9
    setnc byte [r11 + 1]
    and eax, ~FLAGS_OWNED
    or eax, FLAGS_IF | FLAGS_FIXED
    mov [rsp + F + FRAME_RFLAGS], rax
    cmp byte [r11], 0                   ; an upcall is pending: ret_to_guest looks whether it is masked
    jne .event
    CLEAR_BUFFERS
    pop rax
    pop r11
    pop rcx
    GUEST iret_fault, iretq
.event:
    pop rax
    pop r11
    pop rcx
    push 0                              ; as if an interrupt had come at the place we go to
    SAVE_GPRS
    jmp ret_to_guest
.fault3:
    add rsp, 8
.fault2:
    add rsp, 8
.fault1:
    add rsp, 8
.fault:
    mov [rsp + FRAME_RSP], r11
.full:
    mov eax, HYPERCALL_IRET
    push qword [syscall_entry_word]
    SAVE_GPRS {qword [rsp + 4 * 8]}
    sti
    call do_iret
    jmp hypercall_done

align 16
int82_entry:
    cmp eax, HYPERCALL_IRET
    je short_iret_32
.full:
    cld
    SAVE_GPRS
    sti
    mov edi, [rsp + REGS_rbx]
    mov esi, [rsp + REGS_rcx]
    mov edx, [rsp + REGS_rdx]
    mov ecx, [rsp + REGS_rsi]
    mov r8d, [rsp + REGS_rdi]
    mov r9d, [rsp + REGS_rbp]
    mov eax, eax
    cmp eax, NR_HYPERCALLS_
    jae .bad
    mov r10d, eax
    and r10d, NR_HYPERCALLS_ - 1
    shl r10d, HCDESC_shift
    lea r11, [hypercall_table + HCDESC_wide]
    cmp byte [r11 + r10], 0
    jne .wide
.call:
    CALL_HYPERCALL .bad
    cli
    SHORT_WAY_OR hypercall_done
    cmp qword [rsp + CPUINFO_softirq], 0        ; and call_exit
    jne hypercall_done
    LOOK_FOR_EVENTS hypercall_done
    CLEAR_BUFFERS
    ; rax is the result, C preserved rbx and rbp, and 32-bit code has no others than these.
    mov rcx, [rsp + REGS_rcx]
    mov rdx, [rsp + REGS_rdx]
    mov rsi, [rsp + REGS_rsi]
    mov rdi, [rsp + REGS_rdi]
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    add rsp, REGS_rip
    GUEST iret_fault, iretq
.bad:
    mov dword [rsp + CPUINFO_call_exit], CALL_LOOK_
    mov rax, -38        ; ENOSYS
    jmp hypercall_done
.wide:
    ; An argument of 64 bits comes in two registers, the first of all arguments or the second (hypercall.h).
    test byte [r11 + r10], 1
    jz .second
    shl rsi, 32
    or rdi, rsi
    mov esi, edx
    mov edx, ecx
    mov ecx, r8d
    mov r8d, r9d
    xor r9d, r9d
    test byte [r11 + r10], 2
    jz .call
.second:
    shl rdx, 32
    or rsi, rdx
    mov edx, ecx
    mov ecx, r8d
    mov r8d, r9d
    xor r9d, r9d
    jmp .call

; The iret hypercall of a 32-bit guest; as short_iret. 32-bit code sees none of r8 to r15, so these are free. IRET checks the selectors as
; it does for do_iret(), which is the one to refuse ring 0. A fault on mirrored tables may be mended here, under their lock.
;   at the guest's esp: eax eip cs eflags [esp ss]
align 16
short_iret_32:
%define F 8                             ; error code and vector
    SHORT_WAY_OR .full
    mov r8, [rsp + F + FRAME_TOP + CPUINFO_current - CPUINFO_guest_top]
    mov r9, [r8 + VCPU_domain]
    mov r10, [r9 + DOMAIN_fmt]
    test byte [r9 + DOMAIN_vm_assist], ASSIST_IOPL
    jnz .full
    cmp word [r8 + VCPU_nmi_pending], 0         ; and nmi_masked
    jne .full
    cmp dword [r10 + FORMAT_id], FORMAT_64
    je .full
    mov r9d, [rsp + F + FRAME_RSP]
    lea r11, [r9 + 24]
    cmp r11, [r10 + FORMAT_hv_start]
    ja .full
    GUEST .full, mov eax, [r9]
    GUEST .full, mov r10d, [r9 + 4]
    GUEST .full, movzx r11d, word [r9 + 8]
    GUEST .full, mov r12d, [r9 + 12]
    test r12d, FLAGS_VM
    jnz .full
    mov r14d, r11d
    and r14d, 3
    jz .full
    lea r13, [r9 + 16]
    dec r14d
    jnz .to_user
.frame:
    mov [rsp + F + FRAME_RIP], r10
    mov [rsp + F + FRAME_CS], r11
    mov [rsp + F + FRAME_RSP], r13
    mov r9, [r8 + VCPU_info]
    bt r12d, 9
    setnc byte [r9 + 1]
    and r12d, ~FLAGS_OWNED
    or r12d, FLAGS_IF | FLAGS_FIXED
    mov [rsp + F + FRAME_RFLAGS], r12
    cmp byte [r9], 0                    ; an upcall is pending: ret_to_guest looks whether it is masked
    jne .event
    xor r8d, r8d
    xor r9d, r9d
    CLEAR_BUFFERS
    add rsp, F
    GUEST iret_fault, iretq
.to_user:
    GUEST .full, mov r13d, [r9 + 16]
    GUEST .full, movzx r14d, word [r9 + 20]
    mov [rsp + F + FRAME_SS], r14
    jmp .frame
.event:
    cld
    SAVE_GPRS
    jmp ret_to_guest
.full:
    mov eax, HYPERCALL_IRET
    jmp int82_entry.full

; 32-bit SYSENTER of a guest's user space: %rsp from the MSR is guest_regs.es; the guest's is lost by design.
global sysenter_entry:function hidden
align 16
sysenter_entry:
    push 0xe02b
    push 0
    pushfq
    push 0xe023
    push 0
    push 0
    mov dword [rsp + 4], ENTRY_SYSENTER_
    push 2
    popfq                                ; SYSENTER leaves NT, with which our IRET would fault
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    xor ebp, ebp
    call pv_guest_sysenter
    jmp ret_to_guest

; SYSCALL from compatibility mode (AMD): reflected like SYSENTER, with the return address in %rcx.
global cstar_entry:function hidden
align 16
cstar_entry:
    push 0xe02b
    push qword [rsp + 8 + CPUINFO_scratch_rsp - CPUINFO_guest_top]
    push r11
    push 0xe023
    push rcx
    push 0
    mov dword [rsp + 4], ENTRY_SYSENTER_ + 1
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    xor ebp, ebp
    call pv_guest_sysenter
    jmp ret_to_guest

; --- Back to the guest ------------------------------------------------------------------------------------

global ret_to_guest:function hidden
align 16
ret_to_guest:
    cli
    LOOK_FOR_WORK .work
    SHORT_WAY_OR .iret
    cmp dword [rsp + REGS_entry_vector], ENTRY_SYSCALL_
    jne .iret
    CANONICAL_RIP .iret
    mov rax, [rsp + REGS_rax]
    mov rbx, [rsp + REGS_rbx]
    mov rbp, [rsp + REGS_rbp]
    mov r12, [rsp + REGS_r12]
    mov r13, [rsp + REGS_r13]
    mov r14, [rsp + REGS_r14]
    mov r15, [rsp + REGS_r15]
    LEAVE_BY_SYSRET
.iret:
    CLEAR_BUFFERS
    RESTORE_GPRS
    add rsp, 8
    GUEST iret_fault, iretq
.work:
    mov rdi, rsp
    call guest_exit_work
    jmp ret_to_guest

; An IRET to the guest faulted: the frame (rip, cs, rflags, rsp, ss) still lies at %rsp, the other registers are the guest's. Which
; fault it was becomes the frame's error_code and entry_vector.
align 16
global iret_fault:function hidden
iret_fault:
    push qword [rsp + FRAME_TOP + CPUINFO_iret_fault - CPUINFO_guest_top]
    SAVE_GPRS
    ARRIVE
    mov rdi, rsp
    xor ebp, ebp
    call pv_iret_failed
    jmp ret_to_guest

; --- Page-table isolation (asm/isolation.h) ---------------------------------------------------------------

; %1: this CPU's struct cpu_info, whichever of its stacks this is.
%macro FIND_CPU_INFO 1
    mov %1, rsp
    or %1, STACK_SIZE_ - 1
    sub %1, CPUINFO_sizeof - 1
%endmacro

; From CLEAR_BUFFERS; interrupts are off. All registers are preserved. full_cr3 is set first: an NMI between finds its way.
align 16
global load_guest_root:function hidden
load_guest_root:
    push rax
    push rcx
    FIND_CPU_INFO rcx
    cmp byte [rcx + CPUINFO_isolated], 0
    je .loaded
    SHORT_WAY_OR .copy
    mov rax, [rcx + CPUINFO_current]
    mov rax, [rax + VCPU_cr3]
    cmp rax, [rcx + CPUINFO_kernel_root_of]
    je .kernel
    cmp rax, [rcx + CPUINFO_user_root_of]
    jne .copy
    mov [rcx + CPUINFO_full_cr3], rax
    mov rax, [rcx + CPUINFO_user_root]
    mov cr3, rax
.loaded:
    SITE SITE_CLEAR_
    verw word [verw_selector]
    pop rcx
    pop rax
    ret
.kernel:
    mov [rcx + CPUINFO_full_cr3], rax
    mov rax, [rcx + CPUINFO_kernel_root]
    mov cr3, rax
    jmp .loaded
.copy:
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    call isolation_copy_root
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    mov cr3, rax
    jmp .loaded

; From ARRIVE; rsp: the return address, and then the frame. All registers may be changed if code of ours was left, else those that C
; functions may change.
align 16
global load_full_root:function hidden
load_full_root:
    FIND_CPU_INFO rcx
    test byte [rsp + 8 + REGS_cs], 3
    jz .ours
    mov rax, [rcx + CPUINFO_full_cr3]
    test rax, rax
    jz .loaded
    mov cr3, rax
    mov qword [rcx + CPUINFO_full_cr3], 0
    cmp dword [rsp + 8 + REGS_entry_vector], 14
    je .page_fault
.loaded:
    ret
.page_fault:                            ; on a copy that is out of date: with a new one it may be none
    cmp rax, [rcx + CPUINFO_kernel_root_of]
    je .loaded
    cmp rax, [rcx + CPUINFO_user_root_of]
    je .loaded
    add rsp, 8
    jmp ret_to_guest
; Between a copy's root and the next instructions, or those before it: the fault of an IRET, an NMI. For reload_root r12 becomes what
; full_cr3 was, and rbx what CR3 was, for one may have changed and the other not.
.ours:
    mov rbx, cr3
    mov r12, [rcx + CPUINFO_full_cr3]
    test r12, r12
    jz .loaded
    mov cr3, r12
    mov qword [rcx + CPUINFO_full_cr3], 0
    ret

; From RESUME.
align 16
global reload_root:function hidden
reload_root:
    test r12, r12
    jz .loaded
    FIND_CPU_INFO rcx
    mov [rcx + CPUINFO_full_cr3], r12
    mov cr3, rbx
.loaded:
    ret

; Where the SYSCALL stub leads then; see there.
align 16
global syscall_entry_isolated:function hidden
syscall_entry_isolated:
%define INFO(field) rsp + CPUINFO_ %+ field - CPUINFO_guest_top
    mov [INFO(scratch_rax)], rax
    mov rax, [INFO(full_cr3)]
    test rax, rax
    jz .loaded
    mov cr3, rax
    mov qword [INFO(full_cr3)], 0
.loaded:
    mov rax, [INFO(scratch_rax)]
    jmp syscall_entry

; --- Small things -----------------------------------------------------------------------------------------

section .text
; void stack_reset_jump(void *stack, void (*fn)(void)): never returns
global stack_reset_jump:function hidden
stack_reset_jump:
    mov rsp, rdi
    xor ebp, ebp
    jmp __x86_indirect_thunk_rsi

; Template of the per-CPU SYSCALL stubs; desc.c copies it and fills in the three displacements.
global syscall_stub:data hidden, syscall_stub_end:data hidden
section .rodata
syscall_stub:
    db 0x48, 0x89, 0x25
    dd 0                                 ; mov [rip + d], rsp
    db 0x48, 0x8d, 0x25
    dd 0                                 ; lea rsp, [rip + d]
    db 0xe9
    dd 0                                 ; jmp d
syscall_stub_end:

section .note.GNU-stack noalloc noexec nowrite progbits
