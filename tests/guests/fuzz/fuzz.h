/*
 * Random calls with a memory. Steps are numbered, and what a step does follows from the seed, the vCPU and its number alone (and from what
 * the steps before it have left): so a step can be left out without changing the others, and a failure shrinks (tests/guests/fuzz/shrink).
 *
 *     numbers.c       random numbers and values; the model: what this domain holds
 *     vital.c         what we live in: no call may reach it, and whether it is as it was says whose fault a fault is
 *     calls.c         each hypercall and each of its commands, with its arguments' fields
 *     memory.c        page tables, reservations, descriptors;   grants.c   grants;   others.c   domains that dom0 makes
 *     instructions.c  what the hypervisor emulates, refuses or restores
 *     steps.c         one step after the other, alone or as multicalls; counts
 *     children.c      domains that run this same kernel
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "abi.h"
#include "hypercall.h"
#include "mm.h"
#include "traps.h"
#include <public/domctl.h>

#define NR_VICTIMS     24   /* frames that become anything; mapped read-only */
#define NR_LOOSE       64   /* frames that come and go; mapped nowhere */
#define NR_FOREIGN     8    /* frames of others, at first; some of them come to us */
#define NR_OTHERS      4    /* domains that we made or know of */
#define NR_SLOTS       16   /* window pages of each vCPU */
#define NR_HELD        32   /* ports, handles */
#define FIRST_REF      32
#define NR_REFS        8
#define MAX_FUZZERS    4    /* vCPUs that make calls */
#define BATCH          8    /* steps of a multicall */

/* A vCPU's part. */
struct fuzz {
    u64 state;              /* of the random numbers, anew for each step */
    u64 step;
    unsigned who;
    bool batched;           /* the call is one of a multicall's */
    u64 *buffer;            /* arguments of the call that is being made: a page */
    u64 *scratch;           /* the only page of ours that a call may replace: arguments name its address */
};
extern struct fuzz fuzz[MAX_FUZZERS];

struct call;
struct command {
    u32 cmd;
    const char *name;
    const char *fields;                                         /* of the structure in the buffer: fill() */
    void (*make)(struct fuzz *z, struct call *c);               /* what fields cannot say; after them */
    void (*learn)(struct fuzz *z, struct call *c, long rc);     /* what we hold now */
    bool alone;             /* another's change would make it our end: its arguments are where nobody writes, and its pointer is right */
};

struct group {
    word number;
    const char *name;
    const char *args;           /* as fields, a letter each */
    unsigned weight;
    const struct command *command;
    unsigned nr, first;         /* first: the first command's place among all */
};
extern struct group groups[];
extern const unsigned nr_groups;

struct call {
    const struct group *group;
    const struct command *command;
    u64 *buffer;
    word args[6];
};

/* ---- The model: what this domain holds, as far as calls told. Several vCPUs change it as they like: nothing of ours hangs on it. ---- */

struct held_map { u32 handle, flags; u64 host_addr; };
struct model {
    struct {                    /* stays as it is */
        void *victim[NR_VICTIMS];
        word roots[2];          /* of ours: the second is a copy */
        volatile struct grant_entry_v1 *grants;
        volatile union grant_entry_v2 *grants2;     /* the same page: the version changes at random */
    } fixed;
    unsigned fuzzers, vcpus;    /* vCPUs that make calls, and of the domain */
    u8 level[NR_VICTIMS];       /* of table that we take it for; 0: none */
    bool pinned[NR_VICTIMS];
    word loose[NR_LOOSE], foreign[NR_FOREIGN];
    u32 port[NR_HELD];
    struct held_map map[NR_HELD];
    domid_t other[NR_OTHERS];
    word status_frame;
};
extern struct model model;
bool model_init(void);

/* ---- numbers.c ---- */

void seed_step(struct fuzz *z, u64 seed, u64 step);
u64 next(struct fuzz *z);
unsigned below(struct fuzz *z, unsigned n);
bool once_in(struct fuzz *z, unsigned n);
/* Read-only pages of ours that are tables or not; a window page of this vCPU. */
unsigned victim_nr(struct fuzz *z);
void *some_victim(struct fuzz *z);
void *slot(struct fuzz *z);
word some_mfn(struct fuzz *z);
u64 some_pte(struct fuzz *z);
domid_t some_domain(struct fuzz *z);
domid_t some_other(struct fuzz *z);
/* The buffer's address, or nearly, or none at all. */
word some_pointer(struct fuzz *z, const void *buffer);
/* Whatever is safe to be any field. */
u64 some_value(struct fuzz *z);
void scribble(struct fuzz *z, unsigned bytes);
/* A value of the kind that a letter names: kinds are listed there. */
u64 value_of(struct fuzz *z, struct call *c, char kind);
void hold_port(struct fuzz *z, u32 port);
void hold_map(struct fuzz *z, struct held_map m);
/* System time, by the clock as it was before calls could write to the shared page. */
u64 fuzz_now(void);
u64 number_word(const char *word_, u64 otherwise);

/* ---- vital.c ---- */

void vital_init(void);
bool is_vital(u64 mfn);
/* v, in whatever field it ends up, whole or in halves: names a frame of ours, or an address of ours that calls must not write to. */
bool names_vital(u64 v);
word harmless_frame(struct fuzz *z, word mfn);
/* NULL: all that we live in is as it was. */
bool names_memory(u32 half);        /* the lower half of an address of our memory: put beside the right upper half it would be one */
const char *vital_changed(void);
/* For trap_hook: traps that steps cause on purpose go on; any other ends the run and says whose fault it is. */
bool fuzz_trap(struct trap_regs *regs);
/* Of the running vCPU: the step that it makes. */
void say_step(void);

/* ---- calls ---- */

void fill(struct fuzz *z, struct call *c, const char *fields);
void make_call(struct fuzz *z, struct call *c, unsigned place);     /* in a batch */
void make_mmu_update(struct fuzz *z, struct call *c);
void learn_mmu_update(struct fuzz *z, struct call *c, long rc);
void make_mmuext(struct fuzz *z, struct call *c);
void make_root(struct fuzz *z, struct call *c);
void learn_mmuext(struct fuzz *z, struct call *c, long rc);
void make_va_mapping(struct fuzz *z, struct call *c);
void make_va_mapping_other(struct fuzz *z, struct call *c);
void make_descriptor(struct fuzz *z, struct call *c);
void make_gdt(struct fuzz *z, struct call *c);
void make_reservation(struct fuzz *z, struct call *c);
void make_exchange(struct fuzz *z, struct call *c);
void learn_frames(struct fuzz *z, struct call *c, long rc);
void learn_exchange(struct fuzz *z, struct call *c, long rc);
void make_grant(struct fuzz *z, struct call *c);
void learn_map(struct fuzz *z, struct call *c, long rc);
void learn_unmap(struct fuzz *z, struct call *c, long rc);
void make_created(struct fuzz *z, struct call *c);
void learn_created(struct fuzz *z, struct call *c, long rc);
void learn_destroyed(struct fuzz *z, struct call *c, long rc);
void make_context(struct fuzz *z, struct call *c);
void make_got_context(struct fuzz *z, struct call *c);
void make_policy(struct fuzz *z, struct call *c);

/* A domain of 16 pages, or none; its place among the others. Ends it, whoever has done so already. */
unsigned other_place(void);     /* that is free for one more; NR_OTHERS: none is */
long fuzz_domctl(struct xen_domctl *op);
void other_make(struct fuzz *z, unsigned n);
void other_end(struct fuzz *z, unsigned n);
void other_set_context(struct fuzz *z, struct xen_domctl *op);

/* ---- steps.c and what it calls ---- */

u64 *arguments_of(struct fuzz *z, unsigned place, bool alone);     /* a page */
void *state_of(struct fuzz *z);     /* a page for an instruction to read and write */
void some_instruction(struct fuzz *z);
/* At a trap that user mode may go on from: whether it does. */
bool user_goes_on(struct trap_regs *r);
bool fuzz_prepare(u64 seed);
/* Makes steps up to `end`; true unless what we live in has changed. */
void steps_run(struct fuzz *z, u64 end);
void fuzzer_main(void);         /* of vCPUs 1 and up */
void idler_main(void);          /* of vCPUs that make no calls, but disturb those that do */
extern volatile bool fuzz_stops;
extern volatile u32 fuzzers_stopped;
u64 calls_made(void);
void counts_print(void);
/* Number of commands there are, and what a child tells dom0 of each. */
struct count { u32 made, accepted; };
unsigned nr_commands(void);
extern struct count counts[];
void counts_add(const volatile struct count *more);

/* ---- children.c: dom0 alone, in a format that it can build ---- */

bool children_possible(void);
/* One of them is made, fed, looked after or ended. */
void children_step(struct fuzz *z, u64 seed);
void children_end(void);
/* In a child: where it tells how far it is. NULL elsewhere. */
volatile struct count *child_report(void);

/* The module that the host gives dom0 (tests/guests/run --mask, --children): which steps to make, and a kernel for children. */
bool step_is_wanted(const struct fuzz *z);

#endif
