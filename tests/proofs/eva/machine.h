/* A machine in any legal state, of which Eva knows no more than what can be said of each variable by itself. */
#ifndef EVA_MACHINE_H
#define EVA_MACHINE_H

#include <__fc_builtin.h>
#include <pvisor/domain.h>

/* How many frames there are: enough for some above the 4 GiB that a mirrored table's number must be below. */
#ifndef NR_FRAMES
#define NR_FRAMES (0x100000u + 16)
#endif

/* Any number from min to max. */
static inline u64 any_u64(u64 min, u64 max) { return Frama_C_unsigned_long_interval(min, max); }
static inline u32 any_u32(u32 min, u32 max) { return Frama_C_unsigned_int_interval(min, max); }
static inline bool any_bool(void) { return Frama_C_interval(0, 1); }
#define any_of(a, b) (any_bool() ? (a) : (b))

#define MAX_LOGGED (3 * PAGE_SIZE * 8)      /* numbers that a log of a domain's writes has room for */

cpumask_t any_cpumask(void);
mfn_t any_frame(void);          /* of RAM that the frame table has */
mfn_t any_mfn(void);            /* or INVALID_MFN */
mfn_t any_table(void);          /* a frame that can be a table of dom's */

/* What a guest says. An entry: of its tables; who calls the core has seen to it that one of 4 bytes has no more. */
#define guests_u64() any_u64(0, ~0UL)
#define guests_u32() any_u32(0, ~0u)
#define guests_entry() (dom.arch.fmt->pte_bytes == 8 ? guests_u64() : guests_u32())

extern struct domain dom, other;        /* the one that runs, and another */
extern struct vcpu vcpu;                /* of dom, on this CPU */

void any_pending(void);                 /* pt/frame.c's own */
/* All of it: the domains have tables of that format, and mirrors of them or none. */
void any_machine(enum pt_format_id format, bool mirrors);

#endif
