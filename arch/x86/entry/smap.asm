; SMAP on the ways in and out. A 64-bit guest runs in ring 3, where SMAP says nothing, so it stays on. The kernel of a 32-bit guest runs in
; ring 1, is a supervisor to the CPU, and uses its users' pages: SMAP is on while the hypervisor runs, and off while such a guest does. That
; takes two writes of CR4, on CPUs that have SMAP, for these guests. (SMEP stays off with them, in here too: to turn it on drops all
; translations.)
;
; The guest may have set AC itself, which would open its memory to us; no gate clears that. (SYSCALL's mask does, and SYSENTER's entry.)
%include "entry.inc"

extern load_guest_root, load_full_root, int82_entry, verw_selector

; rax: what CR4 is while the current vCPU runs, if it runs without SMAP, else 0. The flags say which.
%macro FIND_OPEN_CR4 0
    mov rax, rsp
    or rax, STACK_SIZE_ - 1
    mov rax, [rax + 1 - CPUINFO_sizeof + CPUINFO_open_cr4]
    test rax, rax
%endmacro

; From ARRIVE, and as load_full_root. What comes from code of ours finds SMAP as that had it: on, or off on the last steps of the way out.
align 16
global smap_arrive:function hidden
smap_arrive:
    clac
    test byte [rsp + 8 + REGS_cs], 3
    jz .closed
    FIND_OPEN_CR4
    jz .closed
    or eax, CR4_SMAP_
    mov cr4, rax
.closed:
    SITE SITE_ARRIVED_
    ret
    times 4 int3

; INT 0x82, with nothing saved yet. Gates let only ring 1 do it.
align 16
global smap_int82_entry:function hidden
smap_int82_entry:
    clac
    push rax
    FIND_OPEN_CR4
    or eax, CR4_SMAP_
    mov cr4, rax
    pop rax
    jmp int82_entry

; From CLEAR_BUFFERS, and as load_guest_root.
align 16
global smap_leave:function hidden
smap_leave:
    push rax
    FIND_OPEN_CR4
    jz .ready
    mov cr4, rax
.ready:
    pop rax
    CLEAR_BUFFERS
    ret
