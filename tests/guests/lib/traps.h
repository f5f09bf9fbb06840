/*
 * Traps. Every vector has a handler; a trap inside FAULT_IN(statement) is recorded and execution goes on behind the
 * statement. Anywhere else it ends the test that runs.
 */
#ifndef GUEST_TRAPS_H
#define GUEST_TRAPS_H

#include "abi.h"

#define VECTOR_EVENT    256 /* not vectors of the CPU: the callbacks, in trap_regs.vector */
#define VECTOR_SYSCALL  257
#define VECTOR_FAILSAFE 258
#define VECTOR_SYSENTER 259 /* once sysenter_callback() was called */

/* What the entry stubs push; ip and above are the hypervisor's frame. A 32-bit kernel's own frame ends at flags. */
struct trap_regs {
#ifdef FORMAT_PT64
    word r15, r14, r13, r12, r11, r10, r9, r8, bp, di, si, dx, cx, bx, ax;
#else
    word gs, fs, es, ds, di, si, bp, unused_sp, bx, dx, cx, ax;
#endif
    word vector, error, ip, cs, flags, sp, ss;
};

struct fault {
    bool hit;
    unsigned vector;
    word error;
    word cr2;               /* page faults */
    struct trap_regs regs;  /* as they were */
};

/* Saved registers, in the order that catch_save() stores them. */
struct catch {
    word saved[9];
    struct catch *outer;
};

int catch_save(struct catch *c) __attribute__((returns_twice)); /* 0; 1 when a trap came */
void catch_begin(struct catch *c);
void catch_end(struct catch *c);
unsigned catch_depth(void);   /* FAULT_IN()s that this vCPU is in */
/* Of the vCPU that asks: each catches its own. */
struct fault *fault_here(void);
#define last_fault (*fault_here())

/* Runs the statement; last_fault, with .hit saying whether a trap ended it. Traps from user mode count as well. */
#define FAULT_IN(...) ({            \
    struct catch catch_;            \
    catch_begin(&catch_);           \
    if (catch_save(&catch_) == 0) { \
        __VA_ARGS__;                \
        last_fault.hit = false;     \
    }                               \
    catch_end(&catch_);             \
    last_fault;                     \
})

/* Installs the trap table, the callbacks and the stack for traps from user mode. Again: restores all of that. */
void traps_init(void);
void user_stack_restore(void);     /* the latter alone: of the first vCPU */
void sysenter_callback(void);
void syscall32_callback(void);      /* comes as VECTOR_SYSENTER too */
/* Table of 256 entries and a terminator, with all vectors; changeable, then set_trap_table(). */
extern GUEST(trap_info) trap_table[257];
void print_regs(const struct trap_regs *r);
/* A handler that sees a trap first, and returns true if execution may go on. NULL: none. */
extern bool (*trap_hook)(struct trap_regs *regs);

/* Enters user mode; comes back only by a trap, so use it inside FAULT_IN(). */
void user_enter(word ip, word sp, word flags, word cs, word ss);
/* Makes the iret hypercall with this frame, lowest word first. */
void iret_frame(const word *frame, unsigned words);

noreturn_fn void panic(const char *format, ...) printf_like(1, 2);

/* The faults that loads and stores of one word raise, if any. */
struct fault read_fault(const volatile void *p);
struct fault write_fault(volatile void *p, word value);

#endif
