/*
 * Typed page tables: direct paging.
 *
 * A guest's page tables are its own frames, walked by the hardware and readable by the guest. What keeps the
 * guest inside its memory is that a frame becomes a table of level n only after every entry in it
 * has been checked, and that from then on entries change through pt_update_leaf() and _node() alone:
 *
 *      root (pinned, or in a CR3) --typed ref--> L4 frame --typed ref--> L3 --> L2 --> L1 --ref--> data frame
 *                                                                            \--typed ref (writable)--> ...
 *
 * Each present entry holds a general reference to the frame it names; a writable leaf also a writable
 * reference, an upper entry a reference of the table type one level down. So a frame that is mapped writable has the type
 * "writable" and cannot become a table, and a table cannot be mapped writable.
 *
 *   pt_get_table()    take a typed reference, promoting the frame if it is the first
 *   pt_put_table()    drop one, demoting the frame if it was the last
 *   promote, demote   check or release all entries; preemptible
 *   pt_update_*()     take what the new entry needs, store it, release what the old one held
 *
 * All of it runs under the owner's pt_lock. Writable references alone are taken without it, by
 * compare-and-exchange on the type word, which therefore changes only atomically here too.
 *
 * Preemption. A table that is half promoted or half demoted is PARTIAL: the entries below the number in its count
 * field hold references, the others none, nobody holds a typed reference, and the state itself holds one
 * general reference. Promotion and demotion both go on from any partial state. Nobody owns the rest of a demotion
 * that gave way, so its frames go on the domain's orphan list, tables before those below them. Every operation that could
 * add to the list empties it first, from its end and without letting go of the lock, and gives way itself as soon as
 * something was added: so the list holds one chain of each level at most, whatever the guest and its CPUs do when.
 *
 * Linear mappings. An entry may name a table of its own level, read-only, so that the guest sees its tables
 * through the address space: the table that it is in, or another, which must be complete and is held. Another's chain
 * ends there: a table that others name so names none itself, or demotion would recurse as deep as the guest likes.
 *
 * Stale translations. When an entry's reference to a frame goes, CPUs may still hold translations through or to it. The
 * domain remembers that (note_stale()), and a frame changes type only after a flush if so. Other domains' frames
 * are held until the flush (frame_put_foreign()).
 */
#ifndef ASM_PT_H
#define ASM_PT_H

#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/pt_format.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/short_way.h>
#include <pvisor/types.h>

/*
 * --- Frame words (pt/frame.c) ---
 *
 * The reference word: whose the frame is, and how many users it has.
 *
 *      heap's --domain_alloc_frames()--> owner, ALLOCATED, count 1 <--frame_get(), _put()--> count n
 *        ^                                   | domain_release_frame(): one, by compare-and-exchange
 *        |                                   v
 *        +---- after a flush ---- count 0 <--frame_final_put()-- owner, count of what still uses it
 *
 *   The owner and COUNTED change under the owner's page_lock, with its accounts; ALLOCATED and the count by atomic operations, by anybody;
 *   OUTWARD under the owner's pt_lock, from the first such entry until the frame is a table no more.
 *
 * The type word: what a frame that has an owner is in use as. A type that nobody counts any more stays until the next one takes its place,
 * so that this one flushes what CPUs may still know of it.
 *
 *                  frame_get_writable()                      pt_get_table()
 *      WRITABLE, n <------------------- any type, count 0 -------------------> L1..L4, 1, not VALID
 *         |                                  ^   ^                                |         |  gives way
 *         +------ frame_put_writable() ------+   |                      promoted  |         v
 *                                                |                                |      PARTIAL, entries done
 *      SEGDESC, n <--- frame_get_segdesc() ------+                                v         |  ^  pt_drain_orphans() goes on
 *                                                +---- demoted, the last put -- VALID, n    |  |  gives way
 *                                                +------------------------------------------+--+
 *
 *   To and from L1..L4, PARTIAL, SEGDESC, PINNED, HV, LINEAR: under the owner's pt_lock. To WRITABLE and its count: without, so all changes
 *   are compare-and-exchanges or atomic. VALID of WRITABLE is set by whoever changed the type, once it has flushed; others wait for it.
 *
 * The words of a frame that has no owner are notes of its keeper's: frame_notes.
 */
#define FR_COUNT_MASK  0xffffffffUL
#define FR_OWNER_SHIFT 32
#define FR_ALLOCATED   (1UL << 48)
#define FR_COUNTED     (1UL << 49)
#define FR_OUTWARD     (1UL << 50)      /* a level-1 table in which an entry was stored by which its domain writes another's memory */
#define FW_TYPE_SHIFT 29
static inline enum frame_type fw_type(u32 w) { return (enum frame_type)(w >> FW_TYPE_SHIFT); }
#define frame_refs  ((u64 *)FRAME_REF_START)
#define frame_types ((u32 *)FRAME_TYPE_START)

/*
 * A frame without an owner has no type. In the place of it there is what its keeper notes: the hypervisor's allocator the order of a large
 * block (mm/xmalloc.c); a frame that waits for a flush the next such frame (pt/frame.c), a mirror the next such mirror (pt/mirror.c); the
 * heap, which looks at words of frames that may have an owner, a link with a mark that no type has (mm/heap.c).
 */
#define frame_notes frame_types
#define NOTE_HEAP     7u                 /* in the place of the type */
#define FW_TYPE(t)    ((u32)(t) << FW_TYPE_SHIFT)
#define FW_PINNED     (1u << 28)
#define FW_VALID      (1u << 27)
#define FW_PARTIAL    (1u << 26)         /* entries below the count field's value hold references */
#define FW_HV         (1u << 25)         /* PAE: the L2 that has the hypervisor's entries */
#define FW_LINEAR     (1u << 24)         /* another table of its level names it */
#define FW_COUNT_MASK ((1u << 24) - 1)

/* The level of a complete page table that is in use, from its type word; 0: it is none. */
static always_inline unsigned pt_live_level(u32 w)
{
    return w & FW_VALID && w & FW_COUNT_MASK && fw_type(w) >= FT_L1 && fw_type(w) <= FT_L4 ? fw_type(w) - FT_L1 + 1u : 0;
}

void frame_final_put(mfn_t m, u64 ref_word);
/*
 * A page-table entry of d's gave up its reference of another domain's frame: dropped once d's CPUs are flushed, on the
 * way out of the hypervisor at the latest.
 */
void frame_put_foreign(const struct domain *d, mfn_t m, bool writable);
void frames_drain_pending(void);         /* SOFTIRQ: flush, then drop what waited for it and free frames */

/* --- Typed page tables; d's pt_lock is held --- */
int pt_get_table(struct domain *d, mfn_t m, unsigned level);
int pt_put_table(struct domain *d, mfn_t m);
int pt_pin(struct domain *d, mfn_t m, unsigned level);
int pt_unpin(struct domain *d, mfn_t m);
int pt_drain_orphans(struct domain *d);
#define PT_PRESERVE_AD (1u << 0)
/* Replaces entry idx of table m (type level, valid), which lies in the page. owner: whose frames a leaf entry may map. */
int pt_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e, const struct domain *owner, unsigned flags);
/*
 * Whether ma, a machine address of a guest's and any number at all, lies in a table of d's that is known to be a level-1 table which
 * the hardware walks; then *p is the place. It was found so under the lock; only whoever drops a table's last typed reference, which
 * takes the lock too, can end that, and then forgets it. So nothing of it needs a look, nor a reference. pt_know_l1(): the caller has
 * found it so. There being none is a number that no address has, with a page that says nothing to a CPU that reads ahead of the
 * comparison; and what is not that table's is no pointer.
 */
extern const struct known_table no_known_table;
static always_inline bool pt_in_known(const struct known_table *known, u64 ma, u64 **p)
{
    if (unlikely(!short_way(ma >> PAGE_SHIFT == known->mfn.v)))
        return false;
    /* Not by the guest's number: should the CPU have expected another answer (asm/nospec.h), it is in that table still. */
    *p = (u64 *)(known->page + (ma & ~PAGE_MASK));
    return true;
}
static always_inline bool pt_in_known_l1(const struct domain *d, u64 ma, u64 **p) { return pt_in_known(&d->arch.known_l1, ma, p); }
/* As pt_in_known_l1(), of a mirrored table. */
static always_inline bool pt_in_known_mirrored_l1(const struct domain *d, u64 ma, u32 **p)
{
    u64 *at;
    bool known = pt_in_known(&d->arch.known_mirrored_l1, ma, &at);

    *p = known ? (u32 *)at : NULL;
    return known;
}
void pt_know_l1(struct domain *d, mfn_t m);
void pt_know_none(struct domain *d);
/* pt_update_leaf() of the entry at p, in such a table, for d's own frames. */
int pt_update_known(struct domain *d, u64 *p, u64 e);
int pt_update_known_ad(struct domain *d, u64 *p, u64 e);      /* PT_PRESERVE_AD */
int pt_update_known_mirrored(struct domain *d, u32 *p, u32 e);  /* of a mirrored table that is known */
/* pt_update_leaf() of the entry that maps va in v's current tables; -EINVAL, with a word in the log, if there is no such table. */
int pt_update_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner);
/*
 * A write of e to va by v's 64-bit kernel, which maps one of its level-1 tables there, read-only: 0 with what was there. -ENOENT: it
 * is none. -EAGAIN, only if it exchanges: the entry changed meanwhile. Other errors: it may not have that entry.
 */
int pt_write_va(const struct vcpu *v, u64 va, u64 e, bool exchanges, u64 *was);
/* pt_write_va() by v's PAE kernel, of an entry that must be expected: 0 too, with what was there, if it is another. It is aligned. */
int pt_compare_write_va_pae(const struct vcpu *v, u64 va, u64 expected, u64 e, u64 *was);
/* pt_write_va() by v's non-PAE kernel, without a comparison: nobody else changes such entries. va is aligned. */
int pt_write_va_mirrored(const struct vcpu *v, u64 va, u32 e, u32 *was);
/*
 * Replaces entry idx of table m, which is of this level and which the caller holds. -RESTART: it gave way, or m is no such table any more
 * once that is taken apart which comes first; then the guest's request is to be looked at anew.
 */
int pt_update_node(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, unsigned flags);
/*
 * pt_update_leaf() of a leaf of d's own, if it still is old; -EAGAIN if not. For emulated writes, which must be atomic to hardware that
 * sets accessed and dirty bits; of a mirrored table no hardware does, and the lock is enough.
 */
int pt_compare_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 old, u64 e);
unsigned pt_own_level(const struct domain *d, mfn_t m);     /* pt_live_level(), of what an entry of d's names; 0 if it is another's */
/*
 * A walk down from a root, of a guest's or one of its vCPU's: the entry for va in the table of each level. Under pt_lock.
 *
 *      struct pt_walk w = pt_walk_from(f, root);
 *      while (pt_walk_down(&w, va))
 *          ... w.entry, which is entry w.idx of table w.table, of level w.level
 *
 * It ends below level 1 and below an entry that names no table; w has that entry then.
 * (Kernels' own updates walk in straight code, one for each format: pt/internal.h.)
 */
struct pt_walk { const struct pt_format *f; mfn_t table; unsigned level, idx; u64 entry; };
static inline struct pt_walk pt_walk_from(const struct pt_format *f, mfn_t root)
{
    return (struct pt_walk){ .f = f, .level = f->levels + 1u, .entry = mfn_eq(root, INVALID_MFN) ? 0 : pte_make(root, PTE_P) };
}

static inline bool pt_walk_down(struct pt_walk *w, u64 va)
{
    /* No table of a guest's has large pages, but through a linear mapping the last one may be ours. */
    if (w->level == 1 || (w->entry & (PTE_P | PTE_PS)) != PTE_P)
        return false;
    w->table = pte_held_mfn(w->entry);
    w->level--;
    w->idx = pt_index(w->f, w->level, va);
    w->entry = pt_load(w->f, mfn_to_virt(w->table), w->idx);
    return true;
}
/* The L1 entry that maps va in v's current tables: its table frame and index; false if there is no L1 table. */
bool pt_find_l1(const struct vcpu *v, u64 va, mfn_t *table, unsigned *idx);
bool pt_find_l1_below(const struct domain *d, mfn_t root, u64 va, mfn_t *table, unsigned *idx);
/* Raw store of an entry that stands for references the caller accounts for. */
void pt_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e);
#define pt_lock(d)   spin_lock(&(d)->arch.pt_lock)
#define pt_unlock(d) spin_unlock(&(d)->arch.pt_lock)
/*
 * --- The store: whether the hardware walks d's tables in place or their mirrors; pt/store.c ---
 *
 * By the control domain, for another. begin: a domain with entries of 8 bytes becomes mirrored; of others there is nothing to do. 0,
 * -ENOMEM, or -ERESTART_HYPERCALL: to be called again, until it is neither. end: back again, unless the guest itself wants to be mirrored;
 * 0 or -ERESTART_HYPERCALL.
 */
enum store { STORE_IN_PLACE, STORE_ALLOCATING, STORE_FILLING, STORE_READY, STORE_MIRRORED, STORE_ENDING };
enum for_good { FOR_GOOD_NOT, FOR_GOOD_WANTED, FOR_GOOD_TAKEN, FOR_GOOD_DENIED };
void pt_store_init(struct domain *d);
int pt_mirror_begin(struct domain *d);
int pt_mirror_end(struct domain *d);
/* Under pt_lock: a table that becomes one is to have a mirror. 0, -errno, or -RESTART: there is none, and the mirrored store ends. */
int mirror_wanted(struct domain *d, mfn_t m, unsigned level);
/*
 * Under pt_lock: an entry is to be stored that no hardware may walk. True: -RESTART is the answer, until d is mirrored for good; whoever
 * makes the request goes on with that by pt_mirror_step(), without the lock. False: it cannot be, and the entry is refused.
 */
bool mirror_wanted_for_good(struct domain *d);
void pt_mirror_step(struct domain *d);     /* no effect if nothing of that kind waits */

/* Mirrors (pt/mirror.c). */
int mirror_init_domain(struct domain *d);      /* once d is mirrored, or is not; 0 or -ENOMEM */
void mirror_free_domain(struct domain *d);
int mirror_alloc(struct domain *d, mfn_t m, unsigned level);   /* no effect if there is one; 0, -ENOMEM, -EINVAL */
void mirror_free(struct domain *d, mfn_t m, unsigned level);   /* no effect if there is none */
/* Mirrors that were given up: taken before a flush, freed after it. */
#define mirror_take_dead(d) (read_once((d)->arch.mirror_dead) ? xchg(&(d)->arch.mirror_dead, 0) : 0)
void mirror_free_dead(u32 list);
/*
 * 32-bit formats: the top levels that are ours. init makes them for v's present format (64-bit: frees them). set_root takes
 * v's root; clear_root leaves only the hypervisor's half.
 */
int mirror_init_vcpu(struct vcpu *v);
void mirror_free_vcpu(struct vcpu *v);
void mirror_set_root(struct vcpu *v);
void mirror_clear_root(struct vcpu *v);
/* PAE: what CR3's tables of ours have for entry e of the guest's level 3. */
u64 mirror_pae_top(const struct domain *d, u64 e);
/* PAE: entry idx of a level-3 table changed, which vCPUs may have as their root. */
void mirror_root_changed(struct domain *d, mfn_t root, unsigned idx, u64 e);
/* Entry idx of m becomes e, whose references the caller accounts for; twins: only in m's mirror, if it has one yet. */
void mirror_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e);
void mirror_twins(const struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e);
/* Grants: replaces a leaf entry of d by one whose references the caller holds; the old entry's are dropped. 0 or -errno. */
int pt_replace_leaf(struct domain *d, mfn_t table, unsigned idx, u64 e);
/* Frames typed as segment descriptors. */
int frame_get_segdesc(struct domain *d, mfn_t m, bool (*check)(const struct domain *d, void *page));
void frame_put_segdesc(struct domain *d, mfn_t m);
int pt_relinquish(struct domain *d);
void pt_walk_dump(const struct vcpu *v, u64 va);
void pt_fill_hv_slots(struct domain *d, u64 *root);
/* That slot of a root's mirror, if it has one. */
void mirror_show_m2p(const struct domain *d, mfn_t root, u64 e);
/* With VMASST_TYPE_m2p_strict, user space does not see the M2P: its root lacks that slot. */
static inline void pt_show_m2p(const struct domain *d, mfn_t root, bool user)
{
    unsigned slot = M2P_RO_START >> 39 & 511;

    if (likely(!(d->vm_assist >> VMASST_TYPE_m2p_strict & 1)) || mfn_eq(root, INVALID_MFN))
        return;
    write_once(((u64 *)mfn_to_virt(root))[slot], user ? 0 : hyp_l4[slot]);
    if (unlikely(d->arch.mirrored))
        mirror_show_m2p(d, root, user ? 0 : hyp_l4[slot]);
    isolation_forget(d, root);
}
void pt_fill_top(const struct domain *d, u64 *l4);   /* the hypervisor's slots of a level-4 table */

#endif
