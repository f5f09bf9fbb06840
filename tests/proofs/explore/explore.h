/*
 * The explorer: every state that a small machine can come to, by the page-table core of arch/x86/pt and its hypercalls.
 * docs/verification.md says what is shown.
 *
 *   machine.c      the machine: a few frames, two domains, what the core wants of the rest of the hypervisor
 *   canonical.c    one state of all those that differ in the names of frames alone
 *   states.c       all states so far, each once
 *   operations.c   what guests, the control domain and the CPU can do
 *   explore.c      the search, and what is asked of each step
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <asm/pt.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

/* --- The machine -------------------------------------------------------------------------------------------------------------- */

#define NR_DOMAINS  2u      /* with the numbers 1 and 2; each runs on the CPU of its number */
#define FRAMES_MAX  5u      /* of guests, or free: "frames", numbered from 0, where nothing else is said */
#define SLOTS_MAX   2u
/* Machine frames. Those below are no RAM, but for the hypervisor's. */
#define HYP_MFN     1u      /* what the hypervisor's own entries name */
#define DEVICE_MFN  2u      /* device memory that domain 1 may map */
#define FIXED_FIRST 4u      /* the hypervisor's, from the beginning on */
#define FIXED_NR    12u
#define POOL_FIRST  16u     /* for mirrors: blocks of BLOCK frames */
#define BLOCK       8u
#define BLOCKS      (3 * FRAMES_MAX)    /* a frame has one, and of each domain one of its may wait for a flush */
#define FRAME_FIRST 512u    /* the frames: of a region of their own, so that teardowns look at no others */
#define MFN_END     (FRAME_FIRST + FRAMES_MAX)

/* What is to be explored. */
struct size {
    const char *name;
    unsigned frames[NR_DOMAINS];        /* that each domain begins with */
    unsigned free;
    unsigned slots;                     /* entries of each table that are used */
    unsigned kinds;                     /* of operations: bits */
    u64 most;                           /* states; more are a failure */
    bool chain;                         /* a whole tree, of which no frame is anything else: docs/verification.md */
    bool mirrored;                      /* in formats that can be walked in place, too */
    bool changes;                       /* walked in place until somebody begins to mirror it, and again when that ends */
    bool for_good;                      /* what names memory without being present is not refused: such a domain is mirrored for good */
};
extern const struct size *size;
extern const struct pt_format *fmt;
/* The first frame of a chain is one of data; with four levels there is none, or there would be too many states. */
static inline unsigned chain_level(unsigned frame) { return frame + (fmt->levels == 4); }
extern bool mirrored;                   /* there may be mirrors of the tables (arch/x86/pt/mirror.c) */
extern unsigned nr_all, nr_blocks;      /* frames; blocks in the pool */
extern unsigned slot_index[SLOTS_MAX];  /* in a table; a PAE guest's level 3 has only the first four entries */

extern struct guests {
    struct domain d[NR_DOMAINS];
    struct vcpu v[NR_DOMAINS], *vcpus[NR_DOMAINS];
    u64 perdomain[NR_DOMAINS][32];      /* where the pages of descriptor tables are mapped */
} guests __attribute__((aligned(64)));
extern int explore_short_ways;          /* whether short ways are taken: docs/short-ways.md */

/* What else of the machine may change, while the store does: the row of mirrors' numbers that domain 1 has, and whether memory is short. */
extern struct changing { u32 *row; bool short_of_memory; } changing;
/* Numbers of the frames' mirrors; NULL: d has none. */
static inline u32 *mirror_numbers(const struct domain *d) { return d->arch.mirror && d->arch.mirror[0] ? &d->arch.mirror[0][FRAME_FIRST] : NULL; }
/* All vCPUs rest: what waits for that is done. */
void machine_rest(void);
/* Whether an order of the frames is that of a walk under way. */
static inline bool keeps_order(const struct domain *d) { return d->dying || d->arch.store_at; }

void machine_init(enum pt_format_id format);
static inline mfn_t frame_mfn(unsigned frame) { return mfn_kept(FRAME_FIRST + frame); }
static inline bool is_frame(mfn_t m) { return m.v - FRAME_FIRST < nr_all; }
static inline u64 entry_at(unsigned frame, unsigned idx) { return pt_load(fmt, mfn_to_virt(frame_mfn(frame)), idx); }
static inline unsigned complete_level(unsigned frame) { return pt_live_level(fake_types[FRAME_FIRST + frame]); }
static inline bool owns(const struct domain *d, unsigned frame) { return frame_owner_id(frame_mfn(frame)) == d->id; }

/* Whether preempt_needed() says yes: bit n for its nth call, counted from when the step begins. */
extern u64 decisions;
extern unsigned nr_decisions;           /* calls so far */

/* Between the two a step is made, and TLBs know all that they may: what is wrong with it, or NULL. */
void step_begins(void);
const char *step_ends(void);

/*
 * The machine's memory, as lines of 64 bytes: those that a step may change. Others stay as they are from the beginning, which
 * machine_rest_holds() looks at.
 */
#define LINE_WORDS 8u
#define LINES_MAX  2048u
extern u64 *machine_line[LINES_MAX];
extern unsigned nr_lines;
bool machine_rest_holds(void);
/* The lines of one machine frame. */
unsigned frame_lines(u64 m, u64 **line);

/* --- Names -------------------------------------------------------------------------------------------------------------------- */

/* Gives frames other names, so that states which differ in them alone become one, and forgets what nothing reads. to: the new names. */
void canonicalise(u8 to[FRAMES_MAX]);
void rename_frames(const u8 to[FRAMES_MAX]);
extern bool keep_names;                 /* only forget */

/* --- States ------------------------------------------------------------------------------------------------------------------- */

void states_init(void);
void *states_room(u64 bytes);           /* zeros; what is not written takes no memory */
u32 state_here(bool *is_new);           /* the number of the machine's state */
void state_enter(u32 state);            /* the machine becomes it */
void state_back(void);                  /* the machine becomes again the one that was entered last */
u64 states_count(void);
u64 states_bytes(void);

/* --- Operations --------------------------------------------------------------------------------------------------------------- */

enum kind {
    WRITE, WRITE_AD, WRITE_LATE, PIN, UNPIN, ROOT, USER_ROOT, CLEAR, EMULATE, EMULATE_LATE, VA, WRITE_VA, ACCESS,
    DESCRIPTORS, INFO, GIVE_UP, POPULATE, WITHDRAW, FOREIGN, GRANT_MAP, GRANT_UNMAP, TEARDOWN,
    BEGIN, END, REST, SHORTAGE, NR_KINDS
};
#define KIND(k) (1u << (k))
#define TABLES (KIND(WRITE) | KIND(WRITE_LATE) | KIND(PIN) | KIND(UNPIN) | KIND(CLEAR) | KIND(TEARDOWN))
#define ROOTS (KIND(ROOT) | KIND(USER_ROOT) | KIND(VA) | KIND(WRITE_VA))
#define WAYS (KIND(WRITE_AD) | KIND(EMULATE) | KIND(EMULATE_LATE))
#define USES (KIND(DESCRIPTORS) | KIND(INFO))
#define BALLOON (KIND(GIVE_UP) | KIND(POPULATE) | KIND(WITHDRAW))
#define WALKS (KIND(TEARDOWN) | KIND(BEGIN) | KIND(END))    /* over all frames of a domain */
#define STORE (KIND(BEGIN) | KIND(END) | KIND(REST))
#define OTHERS (KIND(FOREIGN) | KIND(GRANT_MAP) | KIND(GRANT_UNMAP))

/* An entry's value names a frame, or one of those that are none. CLEAN: writable, not yet written; with that, RO is not accessed yet. */
enum value_kind { NONE, RO, RW, CLEAN, BAD, ABSENT, NR_VALUES };
#define VALUE_HOLE   (FRAMES_MAX + 0)
#define VALUE_DEVICE (FRAMES_MAX + 1)
#define VALUE_BEYOND (FRAMES_MAX + 2)

struct op {
    u8 kind, domain, frame, slot, level, value, which, path;
    u32 decisions;
};
#define SLOT_HV SLOTS_MAX       /* the first of the hypervisor's slots */

/* Each operation that may have an effect in the present state, one after the other. */
void for_each_op(void (*attempt)(struct op op));
/* Before the step of this one begins: what walks over a domain's frames takes them in every order. */
void op_prepare(struct op op, u8 to[FRAMES_MAX]);        /* to: the names that frames get by it */
bool op_renames(struct op op);
/* Makes one: what the hypercall returns, or for others 0 or an error. */
s64 op_run(struct op op);
s64 op_resume(void);            /* the last one, which returned -ERESTART_HYPERCALL */
void op_print(struct op op, const char *names);

/* --- What goes wrong: says it, with the path that leads there, and ends the program ------------------------------------------- */

void failed(const char *fmt, ...) printf_like(1, 2) noreturn_fn;

#endif
