/*
 * Per-CPU state without a segment register: %fs and %gs always hold the guest's values, and
 * each CPU's stack is aligned to its size with struct cpu_info at the top, found by masking %rsp.
 */
#ifndef ASM_PERCPU_H
#define ASM_PERCPU_H

#include <asm/layout.h>
#include <asm/regs.h>
#include <pvisor/types.h>

struct vcpu;
struct percpu;

/* A copy of the current vCPU's root, for page-table isolation: asm/isolation.h. */
struct guest_root {
    u64 of;                       /* machine address of the root; 0: the copy is of none, or out of date */
    u64 cr3;                      /* the copy's; 0: there is no isolation */
};

struct cpu_info {
    struct cpu_regs guest_regs;   /* must be first: entry from a guest pushes it; guest_regs.es is the stack top */
    u64 scratch_rsp;              /* where SYSCALL's stub parks the guest's %rsp */
    struct vcpu *current_vcpu;
    struct percpu *percpu;
    u32 softirq_pending;          /* bit n: softirq n */
    u32 call_exit;                /* CALL_*, of this CPU's own; syscall.asm looks at both in one */
    u32 cpu;
    bool watching;                /* waits by MWAIT on softirq_pending: a store wakes it */
    bool isolated;                /* the current vCPU runs on these copies */
    struct guest_root guest_root[2];    /* of user and kernel mode */
    u64 full_cr3;                 /* what every way in loads first; 0: that is loaded */
    u64 scratch_rax;              /* where it parks the guest's %rax for that */
    u32 iret_error, iret_vector;  /* of the fault that goes on at iret_fault */
    u32 steps, steps_allowed;     /* debug builds: since the last look, in this call: pvisor/steps.h */
    u64 closed_cr3, open_cr3;     /* a build for tests: asm/closed.h */
    u64 open_cr4;                 /* what CR4 is while the current vCPU runs, if it has no SMAP then; 0: as it is now (entry/smap.asm) */
    u32 fetched;                  /* debug builds: of guest memory, in this attempt: pvisor/fetch.h */
    u32 pad[3];
};

/* Why a hypercall does not leave by the short way: hypercall_look() looks at it. */
#define CALL_LOOK      1u         /* hypercall_wants_look() */
#define CALL_ELSEWHERE 2u         /* the handler changed the frame: the guest goes on at another place */

#ifdef HOST_TEST
struct cpu_info *cpu_info(void);   /* tests/unit/fake/ */
#else
static always_inline struct cpu_info *cpu_info(void)
{
    unsigned long sp;
    __asm__("mov %%rsp, %0" : "=r"(sp));
    return (struct cpu_info *)((sp & ~(STACK_SIZE - 1)) + STACK_SIZE) - 1;
}
#endif

#define current     (cpu_info()->current_vcpu)
#define this_cpu_id() (cpu_info()->cpu)
/* The frame of the guest that entered us on this CPU. */
#define guest_regs() (&cpu_info()->guest_regs)

/*
 * Per-CPU variables are an array indexed by CPU: DEFINE_PERCPU(type, name) in one file,
 * DECLARE_PERCPU in its header, this_cpu(name) and cpu_var(name, cpu) to use them. NR_CPUS entries,
 * cache-line aligned so that CPUs do not share lines.
 */
#define PERCPU_ALIGN 64

/*
 * Each array, PERCPU_ENTRY says, starts on a page, so that percpu_release() can give back what belongs to CPUs that the
 * machine does not have. That reads as zeros afterwards, and must not be written.
 */
struct percpu_array { char *start; size_t each; };
#ifdef HOST_TEST
#define PERCPU_SECTION
#define PERCPU_ENTRY(array) struct percpu_array
#else
#define PERCPU_SECTION __attribute__((section(".bss.percpu"), aligned(4096)))
#define PERCPU_ENTRY(array) \
    static const struct percpu_array array##_entry __attribute__((section(".percpu"), used, aligned(8))) =          \
        { (char *)(array), sizeof((array)[0]) }
#endif
#define DECLARE_PERCPU(type, name) \
    struct percpu_##name { type v; } __attribute__((aligned(PERCPU_ALIGN))); extern struct percpu_##name name##_percpu[]
#define DEFINE_PERCPU(type, name) struct percpu_##name name##_percpu[NR_CPUS] PERCPU_SECTION; PERCPU_ENTRY(name##_percpu)
/* For a variable of one file. */
#define STATIC_PERCPU(type, name) \
    static struct percpu_##name { type v; } __attribute__((aligned(PERCPU_ALIGN))) name##_percpu[NR_CPUS] PERCPU_SECTION; \
    PERCPU_ENTRY(name##_percpu)
#define cpu_var(name, cpu) (name##_percpu[cpu].v)
#define this_cpu(name) cpu_var(name, this_cpu_id())

#endif
