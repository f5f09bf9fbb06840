/*
 * What the files of arch/x86/pt share: what an entry takes and gives back, in line, for those that do it by thousands; the store; the walks.
 * Under the owner's pt_lock.
 */
#ifndef PT_INTERNAL_H
#define PT_INTERNAL_H

#include <asm/atomic.h>
#include <asm/dirty.h>
#include <asm/dma.h>
#include <asm/frame_ref.h>
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>

#define RESTART ERESTART_HYPERCALL

/* --- store.c --- */
/* Calls look() of each frame of d's that is a table, whole or half way, from store_at on: 0, what look() said, or -RESTART. */
int for_each_table(struct domain *d, int (*look)(struct domain *d, mfn_t m));

/*
 * --- Changes of type ---
 *
 * Of a frame that has an owner, each is one of these two. So whoever must hear of them (devices' tables: asm/dma.h; a log of what is
 * written) has one place to be told. Counts, and the flags of a table that stays one, are no changes.
 */
static always_inline bool type_try_change(mfn_t m, u32 *was, u32 to)
{
    if (!try_cmpxchg(&frame_types[m.v], was, to))
        return false;
    if (unlikely(dma_exact))
        dma_frame_changed(m.v);
    return true;
}

/* From a table's type, or to that of a frame that has no owner yet: neither is a device's business. */
static always_inline void type_change(mfn_t m, u32 to) { write_once(frame_types[m.v], to); }

/* --- dirty.c --- */
#define LOG_ROW_BITS (PAGE_SIZE * 8)

/* NULL: there is no room for pfn. */
static inline u64 *log_word(struct dirty_log *log, u64 pfn)
{
    return pfn < log->nr ? &log->row[pfn / LOG_ROW_BITS][pfn % LOG_ROW_BITS / 64u] : NULL;
}

static always_inline void log_mark(struct dirty_log *log, u64 pfn)
{
    u64 *w = log_word(log, pfn);

    if (w)
        atomic_or(w, 1UL << pfn % 64u);
}

/* A twin of a leaf that names m, d's own, is about to be writable. */
static always_inline void log_first_write(struct domain *d, mfn_t m)
{
    struct dirty_log *log = d->arch.log;

    log->nr_faults++;
    log_mark(log, ((const u64 *)M2P_RW_START)[m.v]);
}

/* The frame of leaf e is in the log, or need not be; of the former table m's mirror gets a note. */
bool may_write_unlogged(const struct domain *d, mfn_t m, u64 e);
void log_dirty_leaf(struct domain *d, u64 e);                /* a twin of e is about to be writable, if e's frame is d's and logged */

/* --- mirror.c --- */
/*
 * Notes, for the log: a twin of table m's permits writes to what is in the log. take: the twins of a level-1 table, whose note goes, or
 * NULL. for_each: the tables that have one, from store_at on, of which look takes it: 0 or -RESTART.
 */
void mirror_note_permits(const struct domain *d, mfn_t m);
u64 *mirror_take_leaves(const struct domain *d, mfn_t m);
int mirror_for_each_noted(struct domain *d, int (*look)(struct domain *d, mfn_t m));

/* --- table.c --- */
unsigned table_level(u32 w);                                 /* of a frame that is a table, whole or on the way, by its type word */
unsigned table_progress(const struct pt_format *f, u32 w);   /* how many entries of a partial table hold references */
unsigned table_checked(const struct pt_format *f, u32 w);    /* of a table, whole or on the way */
int get_table(struct domain *d, mfn_t m, unsigned level, u32 hv);      /* pt_get_table(); hv: FW_HV or 0 */

/* --- entry.c --- */
int refuse_leaf(const struct domain *d, const struct pt_format *f, u64 e);
int refuse_writable(mfn_t m, const struct domain *owner);
int absent_exposes(struct domain *d, u64 e);     /* what l1tf_exposes() says so of: -RESTART, or refused */
/* What get_leaf() does not see every day: e's frame could not be had. */
int get_other_leaf(const struct domain *d, const struct domain *owner, u64 *e);
void put_others_leaf(struct domain *d, u64 e);
void leaf_moves(struct domain *d, mfn_t to, u64 e);      /* whatever leaf e is, another table of d's is about to have it instead */
/* References that upper entry e, number idx of a table, needs; *e becomes what is to be stored. */
int get_node(struct domain *d, const struct pt_format *f, unsigned level, mfn_t table, unsigned idx, u64 *e);
/* The general way of replacing a leaf of d's at p, which was old. */
int update_any_leaf(struct domain *d, void *p, u64 e, u64 old, const struct domain *owner, unsigned flags);
int update_mirrored_leaf(struct domain *d, u32 *p, u32 e, u32 old);

static inline bool is_hv_slot(const struct pt_format *f, unsigned level, u32 type_word, unsigned i)
{
    if (level != f->hv_level || i < f->hv_first || i > f->hv_last)
        return false;
    return f->id != PT32P || type_word & FW_HV;
}

/* --- Leaf entries --- */

/*
 * Flags of a leaf that d may not set. RAM of a memory type other than write-back is for those who have devices: a guest that
 * reads past the caches may find what was another's, where our zeroes have not arrived yet.
 */
#define CACHE_FLAGS (PTE_PWT | PTE_PCD | PTE_PAT)

static always_inline u64 denied_flags(const struct domain *d, const struct pt_level *l, u64 e)
{
    u64 denied = e & l->denied;

    if (unlikely(e & CACHE_FLAGS) && !d->is_hardware && mfn_valid(pte_mfn(e)))
        denied |= e & CACHE_FLAGS;
    return denied;
}

/* least: least_ref(owner). */
static always_inline int get_leaf(struct domain *d, const struct pt_format *f, u64 *e, const struct domain *owner, u64 least)
{
    const struct pt_level *l = &f->level[1];
    mfn_t m;

    if (unlikely(denied_flags(d, l, *e)))
        return refuse_leaf(d, f, *e);
    *e = (*e | l->forced) & l->kept;
    m = pte_mfn(*e);
    if (unlikely(!frame_take_least(m, least))) {
        u64 other = *e;     /* a copy, so that *e can be in a register */
        int rc = get_other_leaf(d, owner, &other);

        *e = other;
        return rc;
    }
    if (!(*e & PTE_RW) || likely(frame_take_writable(m)))
        return 0;
    frame_drop(m);
    return frame_get_writable(m, owner) ? refuse_writable(m, owner) : 0;
}

/* Is it a frame of d's own? Only of an entry that holds a reference: nobody else can own the frame meanwhile. */
static always_inline bool is_own(const struct domain *d, mfn_t m)
{
    return likely(!mfn_eq(m, INVALID_MFN)) && likely(frame_ref_owner(read_once(frame_refs[m.v])) == d->id);
}

/* Only of a frame that an entry of d's names, as is_own(). */
static always_inline unsigned own_level(const struct domain *d, mfn_t m)
{
    u32 w = likely(!mfn_eq(m, INVALID_MFN)) ? read_once(frame_types[m.v]) : 0;

    return is_own(d, m) ? pt_live_level(w) : 0;
}

/* After note_stale(), for what may be writable. */
static always_inline void put_noted_leaf(struct domain *d, u64 e)
{
    mfn_t m = pte_mfn(e);

    if (unlikely(!is_own(d, m)))
        put_others_leaf(d, e);
    else if (e & PTE_RW)
        frame_drop_writable(m);
    else
        frame_drop(m);
}

static always_inline void put_leaf(struct domain *d, u64 e)
{
    if (e & PTE_RW)
        note_stale(&d->arch);
    put_noted_leaf(d, e);
}

/* After the store, which was done or not: the references of the leaf that is not in the table go. 0 or -EAGAIN. */
static always_inline int leaf_replaced(struct domain *d, bool stored, u64 e, u64 old)
{
    if (unlikely(!stored)) {
        if (e & PTE_P)
            put_leaf(d, e);
        return -EAGAIN;
    }
    if (old & PTE_P)
        put_leaf(d, old);
    return 0;
}

/* --- Entries that are not present --- */

/* e is not present; mostly it is empty. */
static always_inline bool l1tf_exposes(const struct domain *d, u64 e)
{
    u64 address = e & l1tf_addresses;

    return unlikely(e) && unlikely(address - PAGE_SIZE < d->arch.l1tf_span) && address & ~L1TF_HALVES;
}

/* --- Upper entries --- */

static inline int put_node(struct domain *d, mfn_t table, u64 e)
{
    mfn_t m = pte_held_mfn(e);

    if (mfn_eq(m, table))
        return 0;
    return pt_put_table(d, m);
}

/*
 * --- Stores ---
 *
 * All that is stored in a guest's table passes store_8(), and mirror_twins() if its domain is mirrored. (The hypervisor's own slots apart:
 * pt_fill_hv_slots().)
 */

/* A flag of changes besides PT_PRESERVE_AD: store only if the entry still is old. */
#define COMPARE (1u << 31)

static always_inline bool store_8(u64 *p, u64 e, u64 old, unsigned flags)
{
    if (flags & COMPARE)
        return try_cmpxchg(p, &old, e);
    if (!(flags & PT_PRESERVE_AD))
        write_once(*p, e);
    else
        while (!try_cmpxchg(p, &old, e | (old & (PTE_A | PTE_D))))
            ;
    return true;
}

/* --- Walks --- */

/* The bits that any word of a line has. Plain loads: what is looked for changes under the lock that is held, or nobody can write it. */
static always_inline u64 line_bits(const void *line)
{
    const u64 *w = line;

    return w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7];
}

/* Of an array of entries or slots of so many bytes, the line that number i is in. */
static always_inline bool line_is_empty(const void *table, unsigned bytes, unsigned i)
{
    return !line_bits((const char *)table + (i * bytes & ~(CACHE_LINE - 1)));
}

/* For walks over frames' words, most of which have none of the bits looked for: from m on, beyond whole lines without, at most to last. */
static always_inline u64 pass_lines(const void *words, unsigned bytes, u64 m, u64 last, u64 bits)
{
    unsigned frames = CACHE_LINE / bytes;

    while (!((m + 1) % frames) && m + frames <= last && short_way(!(line_bits((const char *)words + (m + 1) * bytes) & bits)))
        m += frames;
    return m;
}

/* bytes: of an entry, bits: of an address that a level takes: constants, so that what is made of these becomes straight code. */
static always_inline u64 load_entry(const void *table, unsigned bytes, unsigned i)
{
    return bytes == 8 ? read_once(((const u64 *)table)[i]) : read_once(((const u32 *)table)[i]);
}

static always_inline unsigned index_at(u64 va, unsigned level, unsigned bits)
{
    return va >> (PAGE_SHIFT + bits * (level - 1)) & ((1u << bits) - 1);
}

/* pt_walk_down() to level 1, in each format. */
static always_inline bool walk_to_l1(mfn_t *m, u64 va, unsigned levels, unsigned bytes, unsigned bits)
{
#pragma GCC unroll 4
    for (unsigned level = levels; level > 1; level--) {
        u64 e = load_entry(mfn_to_virt(*m), bytes, index_at(va, level, bits));

        if (unlikely((e & (level == 2 ? PTE_P | PTE_PS : PTE_P)) != PTE_P))
            return false;
        *m = pte_held_mfn(e);
    }
    return true;
}

static always_inline bool find_l1_pae(mfn_t *m, u64 va)
{
    return !mfn_eq(*m, INVALID_MFN) && likely(va < pt_formats[PT32P].hv_start) && walk_to_l1(m, va, 3, 8, 9);
}

static always_inline bool find_l1_mirrored(mfn_t *m, u64 va)
{
    return !mfn_eq(*m, INVALID_MFN) && likely(va < pt_formats[PT32].hv_start) && walk_to_l1(m, va, 2, 4, 10);
}

static always_inline bool find_l1_64(mfn_t *m, u64 va)
{
    return !mfn_eq(*m, INVALID_MFN) && likely(is_canonical_guest_address(va)) && walk_to_l1(m, va, 4, 8, 9);
}

/* Through a linear mapping the last table is of a higher level: not ours to treat as L1. */
static always_inline bool is_l1(mfn_t m) { return fw_type(frame_types[m.v]) == FT_L1; }

#endif
