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
; the frame from hypercall_done to ret_to_guest on.
;
; Here are exceptions, interrupts and the way back; SYSCALL of 64-bit guests is in syscall.asm, 32-bit guests' calls are in compat.asm, what
; page-table isolation adds to all of them in isolation.asm.

%include "entry.inc"

extern exception_handlers, trap_pf, trap_ud, trap_gp, do_interrupt, pv_iret_failed, guest_exit_work, int82_entry
extern __x86_indirect_thunk_rsi

global verw_selector:data hidden
align 8
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
    SITE SITE_INT82_
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

; #DF, #MC: on their own stacks. Their handlers do not return. #DB and NMI that interrupted us, too.
align 16
ist_entry:
    cld
    SAVE_GPRS
    ARRIVE
.saved:
    CALL_EXCEPTION_HANDLER
    SITE SITE_CLEAR_                    ; it may have come on the way out, behind the VERW there
    verw word [verw_selector]
    jmp restore_nested

; From an NMI to the next IRET the CPU takes no other, and SYSRET may be the way out: so an IRET to the next instruction. rcx and rdx are
; overwritten.
%macro UNBLOCK_NMIS 0
    mov rdx, rsp
    mov ecx, ss
    push rcx
    push rdx
    pushfq
    mov ecx, cs
    push rcx
    lea rcx, [%%next]
    push rcx
    iretq
%%next:
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
    cmp byte [rsp + REGS_entry_vector], 2
    jne .moved
    UNBLOCK_NMIS
.moved:
    CALL_EXCEPTION_HANDLER
    jmp ret_to_guest

; A trap of a 64-bit guest was delivered, with interrupts off. rsp: the frame, which is whole.
align 16
delivered:
    SHORT_WAY_OR ret_to_guest
    LOOK_FOR_WORK ret_to_guest
    mov rax, [rsp + REGS_rax]
    LEAVE_TO_HANDLER

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
    CLEAR_BUFFERS SITE_LEAVE_ANY_
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

section .text
; void stack_reset_jump(void *stack, void (*fn)(void)): never returns
global stack_reset_jump:function hidden
stack_reset_jump:
    mov rsp, rdi
    xor ebp, ebp
    jmp __x86_indirect_thunk_rsi
