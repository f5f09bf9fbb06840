; A 32-bit guest: its kernel's hypercalls by INT 0x82, its user space's SYSENTER and SYSCALL.
%include "entry.inc"

extern ret_to_guest, iret_fault, verw_selector, hypercall_done, hypercall_table, pv_guest_sysenter
%ifdef DEBUG
extern counted_call
%endif

global int82_entry:function hidden
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
    CLEAR_BUFFERS SITE_LEAVE_ANY_
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
    OPEN_GUEST
    GUEST .full, mov eax, [r9]
    GUEST .full, mov r10d, [r9 + 4]
    GUEST .full, movzx r11d, word [r9 + 8]
    GUEST .full, mov r12d, [r9 + 12]
    CLOSE_GUEST
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
    CLEAR_BUFFERS SITE_LEAVE_ANY_
    add rsp, F
    GUEST iret_fault, iretq
.to_user:
    OPEN_GUEST
    GUEST .full, mov r13d, [r9 + 16]
    GUEST .full, movzx r14d, word [r9 + 20]
    CLOSE_GUEST
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
.reflect:
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
    jmp sysenter_entry.reflect
