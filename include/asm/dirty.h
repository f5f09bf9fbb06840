/*
 * The log of what is written to a domain's memory, by the guest's own frame numbers, for who copies it while it runs (pt/dirty.c).
 *
 * While it is kept, a domain's tables are mirrored, and a twin is writable only if its frame is in the log (pt/mirror.c). Whoever else
 * writes the domain's memory says so, once it has: what is noted before it is written may be copied in between. Whoever lets others write
 * says so before, and again when they can no more.
 *
 * A frame has the number that the machine-to-physical table says. One that has none there, or one beyond what the log has room for, is
 * always in the log; a number that comes to name another frame counts as written.
 */
#ifndef ASM_DIRTY_H
#define ASM_DIRTY_H

#include <pvisor/domain.h>
#include <pvisor/types.h>

/* What a control call asks for: common/control/dirty_log.c. One that gave way is gone on with by the same. */
struct dirty_report {
    u32 op;
    bool clean;                 /* what is reported is taken out of the log */
    bool final;                 /* and what others, and we, can write without a word is in it: d does not run any more */
    gva_t bitmap;               /* of the caller's, one bit a number, (pages + 7) / 8 bytes; 0: only count */
    u64 pages;
    u64 dirty, faults;          /* out: bits that are set; first writes since the last that was clean */
};

struct dirty_log {
    u64 nr;                     /* numbers that there is room for */
    u64 rows_made;
    u64 nr_faults;              /* since the last report */
    bool lost;                  /* a report failed: the next has everything */
    bool made_first;            /* since before the domain was mirrored: no twin of its is older */
    struct dirty_report under_way;      /* the report that gave way; op 0: none did */
    u32 granted_at;             /* how far it has come: in frames of the grant table, */
    u32 viewer;                 /* in domains that may have the memory mapped, and in the frames of that one, */
    u64 viewer_at;
    u64 at, dirty;              /* and in numbers; and what it has found */
    u64 *row[];
};

void dirty_log_mark(struct domain *d, mfn_t m);
bool dirty_log_has(const struct domain *d, mfn_t m);

/*
 * By the control domain, for another: 0, -errno, or -ERESTART_HYPERCALL, and it is called again with the same. start: room for nr numbers,
 * if there is no log yet. -EBUSY, -EOPNOTSUPP (it has devices), -ENOMEM; then it is not logged. stop: no error.
 */
int dirty_log_start(struct domain *d, u64 nr);
int dirty_log_stop(struct domain *d);
/* d dies: nobody wants to know any more. And when no frame of it is mapped by anybody, so that nobody marks: the structure goes next. */
void dirty_log_end(struct domain *d);
void dirty_log_free(struct domain *d);

/* For reports: common/control/dirty_log.c. take: nr numbers, 1 to 64, from pfn on, a multiple of 64; clean: and out. withdraw: then. */
u64 dirty_log_take(struct dirty_log *log, u64 pfn, u64 nr, bool clean);
int dirty_log_withdraw(struct domain *d);               /* 0, -ERESTART_HYPERCALL, -ENOMEM: it does not hold */
bool dirty_log_holds(const struct domain *d);           /* the store is still what it needs */
void dirty_log_mark_vcpus(struct domain *d);            /* what d's vCPUs have registered, which does not run */
int dirty_log_mark_viewed(struct domain *d);            /* what others' page tables let them write: 0 or -ERESTART_HYPERCALL */

static inline bool dirty_log_is_kept(const struct domain *d) { return read_once(d->arch.logging); }

/* Domains whose writes are logged. */
extern u32 nr_dirty_logs;
void frame_log_dirty(mfn_t m);              /* log_dirty() of the domain whose frame it is, if it is held */

/* Any context, with any locks: m, a frame of d's, has been written or will be. */
static always_inline void log_dirty(struct domain *d, mfn_t m)
{
    if (unlikely(read_once(d->arch.logging)))
        dirty_log_mark(d, m);
}

#endif
