/*
 * Machine memory for tests of arch/x86/pt on the host: an arena whose frames straddle 4 GiB, a frame table over it,
 * domains that own frames and a model of their TLBs. Needs fake/machine.c for the rest.
 */
#ifndef FAKE_FRAMES_H
#define FAKE_FRAMES_H

#include <asm/pt.h>
#include <pvisor/domain.h>

#ifndef ARENA_NR    /* the fuzzers have less, so that looking at all of it takes less */
#define ARENA_NR    4096u
#endif
#define ARENA_FIRST ((1u << 20) - ARENA_NR / 2)
#define ARENA_END   (ARENA_FIRST + ARENA_NR)
#define DEVICE_MFN  0x100u      /* the frame of device memory that domain 1 may map */

/* All frames free; nothing else. */
void frames_reset(void);
/* Domains 1 and 2, empty; domain 1 is current. */
struct domain *frames_domain(u16 id, enum pt_format_id fmt);
mfn_t frames_new(struct domain *d);             /* of a domain with entries of 4 bytes: below 4 GiB */
u64 *frame_words(mfn_t m);
extern bool iommu_no_memory;                    /* no more is added to what devices reach, frame by frame */

/* preempt_needed() is true at the nth call from now on (0: never), and stays so if sticky. */
void preempt_at(unsigned n, bool sticky);
/* At the nth call and every step calls after that. */
void preempt_every(unsigned n, unsigned step);
unsigned preempt_calls(void);

/* Runs what waits for the way out of the hypervisor. */
void leave_hypervisor(void);
bool unit_knows(unsigned space, mfn_t m);       /* an IOMMU lets the space's devices there, by its tables or from memory */
extern void (*on_unit_flush)(u64 spaces);       /* called at each flush of IOMMUs that frames wait for */
/* Called at each TLB flush of a domain's. */
extern void (*on_flush)(u16 domid);
extern void (*on_root_change)(mfn_t root);     /* isolation_forget() */
extern bool isolation_any;               /* isolation_any_linear() */

#endif
