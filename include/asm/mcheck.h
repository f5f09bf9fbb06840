/* Errors that the hardware has corrected, as the banks of each CPU tell of them (SDM volume 3, 16.3.2; APM volume 2, 9.3). */
#ifndef ASM_MCHECK_H
#define ASM_MCHECK_H

#include <pvisor/types.h>

#define MSR_MCG_CAP 0x179
#define MSR_MCG_STATUS 0x17a
/* Of bank 0; each has four registers. */
#define MSR_MC_STATUS(bank) (0x401 + 4 * (bank))
#define MSR_MC_ADDR(bank) (0x402 + 4 * (bank))
#define MSR_MC_MISC(bank) (0x403 + 4 * (bank))
#define MC_STATUS_VALID (1UL << 63)
#define MC_STATUS_UNCORRECTED (1UL << 61)
#define MC_STATUS_HAS_MISC (1UL << 59)
#define MC_STATUS_HAS_ADDR (1UL << 58)

struct machine_check {
    u64 id;                     /* from 1 on, in the order in which they were found */
    u64 status, addr, misc;     /* of the bank; 0 where it has none */
    u64 mcg_status, tsc;
    u32 cpu, bank;
    bool was_there;             /* when the machine was started: of its life before */
};

/*
 * After smp_init(): looks at what is in the banks of all CPUs, and each 30 seconds from then on. send is called with VIRQ_MCA when
 * something was found. An error that the hardware has not corrected comes as an exception, and stops the machine: it is read here only if
 * it was there before.
 */
void mcheck_init(void (*send)(u32 virq));
/* The oldest that nobody has taken. false: there is none. */
bool mcheck_oldest(struct machine_check *m);
/* Forgets the oldest, whose id must be this. false: it is another, or there is none. */
bool mcheck_taken(u64 id);

#endif
