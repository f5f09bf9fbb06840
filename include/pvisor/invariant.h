/*
 * What keeps domains apart, looked at as a whole. Between two operations of the hypervisor certain things hold of all frames, entries of
 * page tables, grants, event channels and accounts: each part's file invariant.c says which, a clause each, and finds out by counting
 * again from the beginning. For debug builds and tests: docs/verification.md.
 *
 * A look is made while all CPUs are between two operations (common/invariant.c). So it takes no locks, and changes nothing that it does
 * not put back.
 */
#ifndef PVISOR_INVARIANT_H
#define PVISOR_INVARIANT_H

#include <pvisor/frame.h>
#include <pvisor/types.h>

struct domain;

#ifdef DEBUG
void invariant_init(void);      /* boot, before there is a domain: the memory to count in, the debug key, the command line's word */
#else
static inline void invariant_init(void) { }
#endif

/* True if it holds; else the clause is told, by its name, with what is wrong and where. */
#define CLAUSE(name, holds, fmt, ...) (likely(holds) || clause_broken(name ": " fmt, ##__VA_ARGS__))
bool clause_broken(const char *fmt, ...) printf_like(1, 2);      /* false */

/*
 * --- Frames: arch/x86/pt/invariant.c ---
 *
 * What holds references to frames says so of each, and then as many must be there as were said. counts: memory for the sums, of
 * frames_count_bytes(), zero; it is so again after frames_compare() of all domains.
 */
size_t frames_count_bytes(void);
void frames_count_in(void *counts);
/* who holds a reference to m, and one of m's type (FT_NONE: none of it). holds_type: that alone. */
void holds(const char *who, mfn_t m, enum frame_type as);
void holds_type(const char *who, mfn_t m, enum frame_type as);
void frames_count(struct domain *d);            /* what d's frames hold: allocations, pins, tables with their entries */
void frames_compare(struct domain *d);          /* once all holders have spoken */
void frames_look(void);                         /* each frame is some domain's that has it, or nobody's */
void frames_look_devices(u64 first, u64 end);   /* and devices reach what they may of these */
/* May d's tables name m, a frame of another domain's? Its grants and privileges say so. */
bool may_name_others(struct domain *d, mfn_t m);

/* --- Other parts, each of one domain's; all: of what lies between domains --- */
void vcpus_look(struct domain *d);              /* arch/x86/pv/: roots and tables above them, descriptor tables, copies */
void mirrors_look(const struct domain *d);      /* arch/x86/pt/mirror_invariant.c */
mfn_t mirror_of(const struct domain *d, mfn_t m);       /* the first frame of table m's mirror; INVALID_MFN: it has none */
void grants_count(struct domain *d);            /* common/grant/: three rounds, each for all domains */
void grants_compare(struct domain *d);
void grants_put_back(struct domain *d);
bool grants_map(const struct domain *d, mfn_t m);
void events_look(struct domain *d);             /* common/event/ */
void domains_look(void);                        /* common/domain/: the list, references, claims */
void copies_look(void);                         /* arch/x86/pv/ */

#endif
