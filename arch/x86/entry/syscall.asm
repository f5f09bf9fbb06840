; SYSCALL by a 64-bit guest: its kernel's hypercalls, its user space's system calls. entry.asm has the picture.
%include "entry.inc"

extern ret_to_guest, iret_fault, verw_selector, pv_guest_syscall, hypercall_look, do_iret, pv_deliver_upcall

align 8
syscall_entry_word: dd 0, ENTRY_SYSCALL_         ; error_code and entry_vector
short_entry_word:   dd 0, ENTRY_SYSCALL_ | ENTRY_SHORT_

; The per-CPU stub has parked the guest's %rsp and loaded %rsp with the address of guest_regs.es. Interrupts are off. The
; two ways that a kernel's system call takes, into the kernel and out of it by the iret hypercall, are taken
; here if nothing is special about them: short_syscall, short_iret. All else is done in C.

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

%ifdef DEBUG
extern steps_look, fetch_look, invariant_after_call
; The handler in rax, whose work is counted, pvisor/steps.h, and what it reads of guest memory noted, pvisor/fetch.h. Then it may be time to
; look at the invariant, pvisor/invariant.h.
global counted_call:function hidden
counted_call:
    mov r11, rsp
    or r11, STACK_SIZE_ - 1
    mov qword [r11 + 1 - CPUINFO_sizeof + CPUINFO_steps], 0     ; and steps_allowed
    mov dword [r11 + 1 - CPUINFO_sizeof + CPUINFO_fetched], 1
    sub rsp, 8
    call __x86_indirect_thunk_rax
    mov [rsp], rax
    call steps_look
    call fetch_look
    call invariant_after_call
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
global hypercall_done:function hidden
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
    mov rax, [rcx + VCPU_walked_kernel]
    SWITCH_MODE rax, 1
    mov rax, [rsp + F + FRAME_RIP]
    OPEN_GUEST
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
    CLOSE_GUEST
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
    mov rax, [rcx + VCPU_walked_user]
    SWITCH_MODE rax, 0
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
    OPEN_GUEST
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
    CLOSE_GUEST
    jnz .to_kernel
    cmp qword [rcx + VCPU_root_user], -1
    je .fault3
    mov r11, [rcx + VCPU_walked_user]
    SWITCH_MODE r11, 0
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
