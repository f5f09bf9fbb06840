/*
 * The machine's CPUs: starting and stopping them, making them do something, finding out where they are.
 *
 * CPU 0 is the one that the firmware started; the others are numbered in the order of the MADT.
 */
#ifndef ASM_SMP_H
#define ASM_SMP_H

#include <pvisor/cpumask.h>
#include <pvisor/types.h>

/* What a starting CPU finds at the end of the trampoline's page (cpu/trampoline.asm has the same order). */
struct trampoline_data {
    u64 stack;                  /* taken by exchange against 0: one CPU only goes on from here */
    u64 hyp_cr3, entry;
    u32 boot_cr3, cr4, efer;
    u32 far_offset;
    u16 far_selector, gdt_limit;
    u32 gdt_base;
};

/* CPUs that answer cross calls: those of cpu_online_map, and those on their way up or down. */
extern cpumask_t cpu_live_map;

/* arch/x86/cpu/smp.c */
/* Boot: starts every enabled CPU of the MADT, up to maxcpus=. One that does not answer is named and skipped. */
void smp_init(void);
/* Where CPUs start: a page in the first MiB; 0: there is none. After smp_init(). */
maddr_t smp_trampoline(void);
/*
 * Control calls. cpu_online: 0, -EINVAL (no such CPU), -EEXIST, -ENOMEM, -EIO (it does not answer). cpu_offline: 0, -EINVAL, -EBUSY,
 * or -ERESTART_HYPERCALL while the CPU has not finished what it was doing. The caller holds the control lock.
 */
int cpu_online(unsigned cpu);
int cpu_offline(unsigned cpu);
/* The idle loop of a CPU that is no longer in cpu_online_map ends here (leave.c). */
void smp_leave(void) noreturn_fn;

/* arch/x86/cpu/call.c */
/*
 * Runs fn(data) with interrupts off on all live CPUs of the set but this one, and waits until all have. fn may come in
 * the middle of anything, also of waiting for a lock: it takes no lock and looks at nothing that one protects.
 */
void smp_call(const cpumask_t *cpus, void (*fn)(void *data), void *data);
void smp_call_init(void);
/* Answers calls to this CPU. For loops that wait with interrupts off, such as a spinlock's. */
#ifdef HOST_TEST
static inline void smp_call_poll(void) { }
#else
void smp_call_poll(void);
#endif

/* arch/x86/pv/nmi.c */
void nmi_init(void);

/* arch/x86/cpu/nmi.c */
/* What port 0x61 said at this CPU's last NMI, with 0x100; 0: there was none since the last call. */
u32 nmi_take_reason(void);
/* For the end of the machine's run: stops all other CPUs where they are, by NMI; tell: and prints where that was. */
void nmi_stop_others(bool tell);
/* Prints where a CPU is, and how it came there. */
void nmi_show_cpu(unsigned cpu);

/* arch/x86/cpu/watchdog.c: on each CPU once its timers work, and before it goes offline. */
void watchdog_init_cpu(void);
void watchdog_start(void);      /* boot is over: complain from now on */
void watchdog_fini_cpu(void);

#endif
