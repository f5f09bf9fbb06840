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
#include <asm/atomic.h>
#include <asm/frame_ref.h>
#include <asm/guest_mem.h>
#include <asm/isolation.h>
#include <asm/mm.h>
#include <asm/spec.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

#define RESTART ERESTART_HYPERCALL

extern struct rangeset *mmio_ro_ranges;

static int demote(struct domain *d, mfn_t m, unsigned level);

static bool give_way(const struct domain *d) { return preempt_needed() && !d->arch.table_limit; }

static inline bool is_hv_slot(const struct pt_format *f, unsigned level, u32 type_word, unsigned i)
{
    if (level != f->hv_level || i < f->hv_first || i > f->hv_last)
        return false;
    return f->id != PT32P || type_word & FW_HV;
}

/* --- Leaf entries --- */

/* Device memory: no counts, but the domain must be allowed to use it. */
static int get_mmio(const struct domain *d, const struct domain *owner, u64 *e)
{
    u64 m = pte_number(*e);

    if (!rangeset_contains(owner->iomem, m, m) && !rangeset_contains(d->iomem, m, m))
        return refuse(-EINVAL, "d%u may not map device frame %#lx", d->id, m);
    if (*e & PTE_RW && rangeset_contains(mmio_ro_ranges, m, m))
        *e &= ~PTE_RW;
    return 0;
}

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

/* The same of an upper entry: the table that it names is RAM. */
static u64 denied_node_flags(const struct domain *d, const struct pt_level *l, u64 e)
{
    return e & (l->denied | (d->is_hardware ? 0 : PTE_PWT | PTE_PCD));
}

static __attribute__((noinline)) int refuse_leaf(const struct domain *d, const struct pt_format *f, u64 e)
{
    return refuse(-EINVAL, "L1 entry %#lx has flags %#lx that a %s guest%s may not set", e, denied_flags(d, &f->level[1], e),
                  f->name, d->is_hardware ? "" : " without devices");
}

static __attribute__((noinline)) int refuse_writable(mfn_t m, const struct domain *owner)
{
    return refuse(-EINVAL, "cannot map frame %#lx writable: owner d%u (wanted d%u), type word %#x", m.v, frame_owner_id(m),
                  owner->id, frame_types[m.v]);
}

/* What get_leaf() does not see every day: e's frame could not be had. */
static __attribute__((noinline)) int get_other_leaf(const struct domain *d, const struct domain *owner, u64 *e)
{
    mfn_t m = pte_mfn(*e);

    if (!mfn_valid(m))
        return get_mmio(d, owner, e);
    return refuse(-EINVAL, "cannot map frame %#lx: owner d%u, wanted d%u", m.v, frame_owner_id(m), owner->id);
}

static always_inline int get_leaf(struct domain *d, const struct pt_format *f, u64 *e, const struct domain *owner)
{
    const struct pt_level *l = &f->level[1];
    mfn_t m;

    if (unlikely(denied_flags(d, l, *e)))
        return refuse_leaf(d, f, *e);
    *e = (*e | l->forced) & l->kept;
    m = pte_mfn(*e);
    if (unlikely(!frame_take(m, owner))) {
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

static __attribute__((noinline)) void put_others_leaf(struct domain *d, u64 e)
{
    mfn_t m = pte_mfn(e);

    if (mfn_valid(m))
        frame_put_foreign(d, m, e & PTE_RW);
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

/* --- Entries that are not present --- */

/* e is not present; mostly it is empty. */
static always_inline bool l1tf_exposes(const struct domain *d, u64 e)
{
    u64 address = e & l1tf_addresses;

    return unlikely(e) && unlikely(address - PAGE_SIZE < d->arch.l1tf_span) && address & ~L1TF_HALVES;
}

static __attribute__((cold, noinline)) int refuse_absent(u64 e)
{
    return refuse(-EINVAL, "entry %#lx is not present and names memory, which a CPU with L1TF shows to a guest (a guest that is trusted "
                  "may be an old kernel: pv-l1tf=domu=no)", e);
}

/* --- Upper entries --- */

static bool names_linear(const struct pt_format *f, unsigned level, mfn_t m)
{
    u32 w = !mfn_eq(m, INVALID_MFN) ? read_once(frame_types[m.v]) : 0;

    return level >= 2 && level >= f->hv_level && w & FW_VALID && w & FW_COUNT_MASK &&
           fw_type(w) == (enum frame_type)(FT_L1 + level - 1);
}

/* Does a table have linear entries for others, besides m and what its entry skip names? */
static bool has_linear(const struct pt_format *f, unsigned level, mfn_t table, mfn_t m, unsigned skip)
{
    const void *p = mfn_to_virt(table);

    for (unsigned i = 0; i < f->level[level].nr_entries; i++) {
        u64 e = pt_load(f, p, i);
        mfn_t named = pte_mfn(e);

        if (e & PTE_P && i != skip && !mfn_eq(named, table) && !mfn_eq(named, m) && names_linear(f, level, named))
            return true;
    }
    return false;
}

static int get_linear(struct domain *d, const struct pt_format *f, unsigned level, mfn_t table, unsigned idx, u64 e)
{
    mfn_t m = pte_mfn(e);
    bool any;

    /* One level down all of the page counts, so all of it must have been checked. */
    if (e & PTE_RW || f->level[level].nr_entries * f->pte_bytes != PAGE_SIZE)
        return -EINVAL;
    any = level < 4 || isolation_any_linear(d);
    if (mfn_eq(m, table))
        return 0;
    if (!any && has_linear(f, level, table, m, idx))
        return refuse(-EINVAL, "L4[%u]: with page-table isolation a table can name one other, and itself", idx);
    if (!frame_get(m, d))
        return -EINVAL;
    if (names_linear(f, level, m) && !(frame_types[table.v] & FW_LINEAR) && !has_linear(f, level, m, m, ~0u) &&
        (frame_types[m.v] & FW_COUNT_MASK) != FW_COUNT_MASK) {
        atomic_inc(&frame_types[m.v]);
        atomic_or(&frame_types[m.v], FW_LINEAR);
        return 0;
    }
    frame_put(m);
    return -EINVAL;
}

static int get_node(struct domain *d, const struct pt_format *f, unsigned level, mfn_t table, unsigned idx, u64 *e)
{
    const struct pt_level *l = &f->level[level];
    mfn_t m = pte_mfn(*e);
    u32 want_hv;
    int rc;

    if (denied_node_flags(d, l, *e))
        return refuse(-EINVAL, "L%u entry %#lx has flags %#lx that a %s guest%s may not set%s", level, *e, denied_node_flags(d, l, *e),
                      f->name, d->is_hardware ? "" : " without devices", *e & PTE_PS ? " (large pages are not supported)" : "");
    *e = (*e | l->forced) & l->kept;
    if (mfn_eq(m, table) || names_linear(f, level, m)) {
        rc = get_linear(d, f, level, table, idx, *e);
        return rc ? refuse(rc, "L%u entry %#lx: linear mapping refused", level, *e) : 0;
    }
    /* PAE: the fourth L2 carries the hypervisor's entries, the others must not. */
    want_hv = f->id == PT32P && level == 3 && idx == 3 ? FW_HV : 0;
    rc = pt_get_table(d, m, (level - 1) | (want_hv ? 0x100 : 0));
    if (rc && rc != -RESTART)
        return refuse(rc, "L%u[%u] entry %#lx: frame is no usable L%u table", level, idx, *e, level - 1);
    return rc;
}

static int put_node(struct domain *d, mfn_t table, u64 e)
{
    mfn_t m = pte_held_mfn(e);

    if (mfn_eq(m, table))
        return 0;
    return pt_put_table(d, m);
}

/* --- Tables on the way --- */

static void set_partial(mfn_t m, u32 w, unsigned progress)
{
    write_once(frame_types[m.v], (w & (FW_TYPE(7) | FW_HV)) | FW_PARTIAL | progress);
}

/* at: how many there were before the operation that leaves m behind; what it left before are tables below m. */
static void orphan_insert(struct domain *d, unsigned at, mfn_t m)
{
    mfn_t *o = d->arch.orphans;

    BUG_ON(d->arch.nr_orphans == ARRAY_SIZE(d->arch.orphans));
    memmove(o + at + 1, o + at, (d->arch.nr_orphans - at) * sizeof(*o));
    o[at] = m;
    d->arch.nr_orphans++;
}

/* m is partial no more, or somebody goes on with it. */
static void orphan_forget(struct domain *d, mfn_t m)
{
    mfn_t *o = d->arch.orphans;

    for (unsigned i = 0; i < d->arch.nr_orphans; i++) {
        if (!mfn_eq(o[i], m))
            continue;
        d->arch.nr_orphans--;
        memmove(o + i, o + i + 1, (d->arch.nr_orphans - i) * sizeof(*o));
        return;
    }
}

const struct known_table no_known_table = { INVALID_MFN, zero_page };

void pt_know_l1(struct domain *d, mfn_t m)
{
    *(d->arch.fmt->mirrored ? &d->arch.known_mirrored_l1 : &d->arch.known_l1) = (struct known_table){ m, mfn_to_virt(m) };
}

/* Before a table's entries lose their references. */
static void forget_l1(struct domain *d, mfn_t m)
{
    if (mfn_eq(d->arch.known_l1.mfn, m))
        d->arch.known_l1 = no_known_table;
    if (mfn_eq(d->arch.known_mirrored_l1.mfn, m))
        d->arch.known_mirrored_l1 = no_known_table;
}

/* The type stays, without a count, so that the frame's next use in another type begins with a flush. */
static void retire(struct domain *d, mfn_t m, unsigned level)
{
    d->arch.nr_tables--;
    if (d->arch.fmt->mirrored)
        mirror_free(d, m, level);
    note_stale(&d->arch);
    write_once(frame_types[m.v], FW_TYPE(FT_L1 + level - 1));
}

/* --- Promotion --- */

/*
 * Most of a process's tables is empty, so they are searched in lines of 64 bytes. Plain loads are enough: a table that is not
 * complete can be written by nobody, and the hardware, whose caches may still name it, sets bits only in entries that are
 * not empty.
 */
#define LINE_BYTES 64u
#define EMPTY_TABLE_STEPS 16u   /* what reading a table takes, whatever is in it */

static always_inline bool line_is_empty(const void *table, unsigned bytes, unsigned i)
{
    const u64 *w = (const u64 *)((const char *)table + (i * bytes & ~(LINE_BYTES - 1)));

    return !(w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]);
}

static always_inline unsigned line_start(unsigned i, unsigned bytes) { return i & ~(LINE_BYTES / bytes - 1); }
static always_inline unsigned line_end(unsigned i, unsigned bytes) { return line_start(i, bytes) + LINE_BYTES / bytes; }

static always_inline u64 load_entry(const void *table, unsigned bytes, unsigned i)
{
    return bytes == 8 ? read_once(((const u64 *)table)[i]) : read_once(((const u32 *)table)[i]);
}

static always_inline int promote_leaf(struct domain *d, const struct pt_format *f, mfn_t m, unsigned i, u64 e)
{
    u64 was = e;
    int rc = get_leaf(d, f, &e, d);

    if (likely(!rc) && (e != was || f->mirrored))
        pt_store(d, m, 1, i, e);
    return rc;
}

static always_inline int promote_node(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                      unsigned i, u64 e)
{
    u64 was = e;
    int rc;

    if (is_hv_slot(f, level, w, i))
        return 0;
    if (i && give_way(d))
        return -RESTART;
    rc = get_node(d, f, level, m, i, &e);
    if (likely(!rc) && (e != was || f->mirrored))
        pt_store(d, m, level, i, e);
    return rc;
}

/* Takes what the entries from *at on need. bytes: f's, as a constant. *at becomes how many entries hold references now. */
static always_inline int promote_range(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                       unsigned *at, unsigned bytes)
{
    const void *table = mfn_to_virt(m);
    unsigned nr = f->level[level].nr_entries, i = *at;
    int rc = 0;

    while (i < nr) {
        unsigned end = min(line_end(i, bytes), nr);

        if (line_is_empty(table, bytes, i)) {
            i = end;
            continue;
        }
        for (; i < end; i++) {
            u64 e = load_entry(table, bytes, i);

            if (!(e & PTE_P)) {
                if (!l1tf_exposes(d, e) || (level > 1 && is_hv_slot(f, level, w, i)))
                    continue;
                rc = refuse_absent(e);
            } else {
                rc = level == 1 ? promote_leaf(d, f, m, i, e) : promote_node(d, f, m, level, w, i, e);
            }
            if (unlikely(rc))
                goto out;
        }
    }
out:
    *at = i;
    return rc;
}

static int promote_entries(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w, unsigned *at)
{
    steps_add(EMPTY_TABLE_STEPS);
    if (f->pte_bytes == 8)
        return level == 1 ? promote_range(d, f, m, 1, w, at, 8) : promote_range(d, f, m, level, w, at, 8);
    return level == 1 ? promote_range(d, f, m, 1, w, at, 4) : promote_range(d, f, m, level, w, at, 4);
}

/* Releases the first n entries, from the top down. Returns how many are left when it gives way, 0 when done. */
static always_inline unsigned demote_range(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w,
                                           unsigned n, unsigned bytes)
{
    const void *table = mfn_to_virt(m);

    while (n) {
        unsigned start = line_start(n - 1, bytes);

        if (line_is_empty(table, bytes, start)) {
            n = start;
            continue;
        }
        while (n > start) {
            u64 e = load_entry(table, bytes, n - 1);

            if (!(e & PTE_P) || (level > 1 && is_hv_slot(f, level, w, n - 1))) {
                n--;
            } else if (level == 1) {
                n--;
                put_noted_leaf(d, e);
            } else {
                if (give_way(d))
                    return n;
                n--;
                if (put_node(d, m, e) && n)
                    return n;
            }
        }
    }
    return 0;
}

/*
 * One note is enough for all entries: the table hangs in no tree any more, so whoever flushes from now on ends all
 * translations through it, and nothing makes new ones.
 */
static unsigned demote_entries(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, u32 w, unsigned n)
{
    if (level == 4)
        isolation_forget(d, m);
    note_stale(&d->arch);
    steps_add(EMPTY_TABLE_STEPS);
    if (f->pte_bytes == 8)
        return level == 1 ? demote_range(d, f, m, 1, w, n, 8) : demote_range(d, f, m, level, w, n, 8);
    return level == 1 ? demote_range(d, f, m, 1, w, n, 4) : demote_range(d, f, m, level, w, n, 4);
}

/* from: where a partial table is to go on; -1 for a new one. The frame may be partial after an error too. */
static int promote(struct domain *d, mfn_t m, unsigned level, u32 w, int from)
{
    const struct pt_format *f = d->arch.fmt;
    unsigned at = from < 0 ? 0 : (unsigned)from, orphans = d->arch.nr_orphans;
    int rc = 0;

    if (f->mirrored && from < 0)
        rc = mirror_alloc(d, m, level);
    if (!rc)
        rc = promote_entries(d, f, m, level, w, &at);
    if (!rc && f->id == PT32P && level == 3 && !(pt_load(f, mfn_to_virt(m), 3) & PTE_P))
        rc = refuse(-EINVAL, "L3 frame %#lx: the fourth entry, which covers the hypervisor's hole, is not present", m.v);
    if (!rc) {
        if (level == f->hv_level && (f->id != PT32P || w & FW_HV))
            pt_fill_hv_slots(d, mfn_to_virt(m));
        atomic_or(&frame_types[m.v], FW_VALID);
        return 0;
    }
    if (rc == -RESTART) {
        set_partial(m, w, at);
        return rc;      /* the general reference stays with the partial state */
    }
    at = demote_entries(d, f, m, level, w, at);
    if (at) {
        set_partial(m, w, at);
        orphan_insert(d, orphans, m);
    } else {
        retire(d, m, level);
    }
    return rc;
}

static __attribute__((cold, noinline)) int refuse_table(const struct domain *d, mfn_t m)
{
    return mfn_eq(m, INVALID_MFN) ? refuse(-EINVAL, "a frame beyond the machine's memory (%#lx frames) is not d%u's", nr_frames, d->id)
                                  : refuse(-EINVAL, "frame %#lx is not d%u's (owner d%u)", m.v, d->id, frame_owner_id(m));
}

/* The caller has a general reference, which becomes that of the typed one, or goes. */
static __attribute__((noinline)) int get_held_table(struct domain *d, mfn_t m, unsigned level, u32 hv)
{
    enum frame_type type = (enum frame_type)(FT_L1 + level - 1);
    u32 w;
    int rc, from = -1;

    w = read_once(frame_types[m.v]);
    for (;;) {
        if (w & FW_PARTIAL) {
            if (fw_type(w) != type || (w & FW_HV) != hv) {
                rc = demote(d, m, fw_type(w) - FT_L1 + 1);
                if (rc)
                    goto out;
                w = read_once(frame_types[m.v]);
                continue;
            }
            from = (int)(w & FW_COUNT_MASK);
            orphan_forget(d, m);
            write_once(frame_types[m.v], FW_TYPE(type) | hv | 1);
            frame_put(m);       /* the partial state's own */
            break;
        }
        if (w & FW_COUNT_MASK) {
            if (fw_type(w) != type || !(w & FW_VALID) || (w & FW_HV) != hv || (w & FW_COUNT_MASK) == FW_COUNT_MASK) {
                rc = -EINVAL;
                goto out;
            }
            atomic_inc(&frame_types[m.v]);
            return 0;
        }
        if (try_cmpxchg(&frame_types[m.v], &w, FW_TYPE(type) | hv | 1)) {
            d->arch.nr_tables++;
            domain_flush_stale(d);
            break;
        }
    }
    rc = promote(d, m, level, FW_TYPE(type) | hv, from);
    /* What is partial keeps the reference. */
    if (!rc || frame_types[m.v] & FW_PARTIAL)
        return rc;
out:
    frame_put(m);
    return rc;
}

/* Mostly it is such a table already. */
int pt_get_table(struct domain *d, mfn_t m, unsigned level_hv)
{
    unsigned level = level_hv & 0xff;
    u32 hv = level_hv & 0x100 ? FW_HV : 0, w;

    if (unlikely(!frame_take(m, d)))
        return refuse_table(d, m);
    w = read_once(frame_types[m.v]) & ~(FW_PINNED | FW_LINEAR);
    /* The type, complete, and a count from 1 to all but the highest: all other states are numbers outside of the range. */
    if (unlikely(w - (FW_TYPE(FT_L1 + level - 1) | FW_VALID | hv | 1) >= FW_COUNT_MASK - 1))
        return get_held_table(d, m, level, hv);
    atomic_inc(&frame_types[m.v]);
    return 0;
}

/* --- Demotion --- */

/*
 * Goes on with a partial frame's demotion. The caller has a general reference of its own. When it is done, the partial
 * state's reference is dropped too. -RESTART: something is left, of this table or on the orphan list.
 */
static int demote(struct domain *d, mfn_t m, unsigned level)
{
    u32 w = frame_types[m.v];
    unsigned orphans = d->arch.nr_orphans, left = demote_entries(d, d->arch.fmt, m, level, w, w & FW_COUNT_MASK);
    bool more = d->arch.nr_orphans > orphans;

    if (left) {
        set_partial(m, w, left);
        return -RESTART;
    }
    orphan_forget(d, m);
    retire(d, m, level);
    frame_put(m);
    return more ? -RESTART : 0;
}

static __attribute__((noinline)) int put_last(struct domain *d, mfn_t m)
{
    const struct pt_format *f = d->arch.fmt;
    u32 w = frame_types[m.v];
    unsigned level = fw_type(w) - FT_L1 + 1, orphans = d->arch.nr_orphans, left;

    BUG_ON(!(w & FW_VALID) || !(w & FW_COUNT_MASK));
    forget_l1(d, m);
    left = demote_entries(d, f, m, level, w, f->level[level].nr_entries);
    if (left) {
        set_partial(m, w, left);    /* our general reference becomes the partial state's */
        orphan_insert(d, orphans, m);
        return -RESTART;
    }
    retire(d, m, level);
    frame_put(m);
    return d->arch.nr_orphans > orphans ? -RESTART : 0;
}

int pt_put_table(struct domain *d, mfn_t m)
{
    u32 w = frame_types[m.v];

    if (unlikely(!(w & FW_VALID) || (w & FW_COUNT_MASK) <= 1))
        return put_last(d, m);
    atomic_dec(&frame_types[m.v]);
    frame_drop(m);
    return 0;
}

int pt_drain_orphans(struct domain *d)
{
    while (d->arch.nr_orphans) {
        mfn_t m = d->arch.orphans[d->arch.nr_orphans - 1];
        int rc = demote(d, m, fw_type(frame_types[m.v]) - FT_L1 + 1);

        if (rc)
            return rc;
    }
    return 0;
}

/* --- Pinning --- */

int pt_pin(struct domain *d, mfn_t m, unsigned level)
{
    int rc = pt_drain_orphans(d);

    if (!rc)
        rc = pt_get_table(d, m, level);
    if (rc)
        return rc;
    if (frame_types[m.v] & FW_PINNED) {
        pt_put_table(d, m);
        return refuse(-EINVAL, "frame %#lx is pinned already", m.v);
    }
    atomic_or(&frame_types[m.v], FW_PINNED);
    return 0;
}

int pt_unpin(struct domain *d, mfn_t m)
{
    int rc = pt_drain_orphans(d);
    u32 w;

    if (rc)
        return rc;
    if (!frame_get(m, d))
        return refuse_table(d, m);
    w = frame_types[m.v];
    if (!(w & FW_PINNED)) {
        frame_put(m);
        return refuse(-EINVAL, "frame %#lx is not pinned (type word %#x)", m.v, w);
    }
    atomic_and(&frame_types[m.v], ~FW_PINNED);
    (void)pt_put_table(d, m);   /* what is left of it is on the orphan list */
    frame_put(m);
    return 0;
}

/* --- Entry updates --- */

/* Of update_leaf(): store only if the entry still is old. */
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

/* False: not stored. Only hardware changes entries without the lock, and it does not touch those of mirrored tables. */
static always_inline bool store_entry(struct domain *d, const struct pt_format *f, mfn_t m, unsigned level, unsigned idx, u64 e,
                        u64 old, unsigned flags)
{
    if (f->mirrored) {
        mirror_store(d, m, level, idx, flags & PT_PRESERVE_AD ? e | (old & (PTE_A | PTE_D)) : e);
        return true;
    }
    if (!store_8((u64 *)mfn_to_virt(m) + idx, e, old, flags))
        return false;
    if (level == 3 && f->id == PT32P)
        mirror_root_changed(d, m, idx, e);
    if (level == 4)
        isolation_forget(d, m);
    return true;
}

void pt_store(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e)
{
    (void)store_entry(d, d->arch.fmt, m, level, idx, e, 0, 0);
}

/* An upper entry that needs the same reference as the old one: only software, cache or accessed bits differ. */
static inline bool same_reference(u64 e, u64 old) { return e & PTE_P && !((e ^ old) & (PTE_MFN_MASK | PTE_P)); }

/*
 * Names the new leaf the old one's frame, so that its general reference stays with the entry? If the entry becomes writable, or
 * no longer is, the type's comes or goes: that is for frames of d's own, which the caller may map anew.
 */
static always_inline bool keeps_frame(const struct domain *d, const struct domain *owner, u64 e, u64 old)
{
    u64 diff = e ^ old;

    return old & PTE_P && !(diff & PTE_MFN_MASK) && (!(diff & PTE_RW) || (likely(owner == d) && is_own(d, pte_mfn(e))));
}

static always_inline int update_leaf_flags(struct domain *d, const struct pt_format *f, mfn_t m, unsigned idx, u64 e, u64 old,
                                           unsigned flags)
{
    const struct pt_level *l = &f->level[1];
    bool now = e & PTE_RW, before = old & PTE_RW;
    mfn_t frame = pte_held_mfn(e);      /* if these differ: keeps_frame() */

    if (unlikely(denied_flags(d, l, e)))
        return refuse_leaf(d, f, e);
    e = (e | l->forced) & l->kept;
    if (now && !before && unlikely(!frame_take_writable(frame))) {
        if (frame_get_writable(frame, d))
            return refuse_writable(frame, d);
        frame_drop(frame);
    }
    if (unlikely(!store_entry(d, f, m, 1, idx, e, old, flags))) {
        if (now && !before)
            frame_drop_type(frame);
        return -EAGAIN;
    }
    if (before && !now) {
        note_stale(&d->arch);
        frame_drop_type(frame);
    }
    return 0;
}

/* The general way of replacing a leaf at p by e, if it still is old (COMPARE). bytes: of an entry. */
static always_inline int replace_leaf(struct domain *d, void *p, u64 e, u64 old, const struct domain *owner, unsigned flags,
                                      unsigned bytes)
{
    const struct pt_format *f = d->arch.fmt;
    mfn_t m = mfn_kept(((u64)p - DIRECTMAP_START) >> PAGE_SHIFT);
    unsigned idx = (unsigned)((u64)p & ~PAGE_MASK) >> (bytes == 8 ? 3 : 2);

    if (e & PTE_P) {
        if (keeps_frame(d, owner, e, old))
            return update_leaf_flags(d, f, m, idx, e, old, flags);
        int rc = get_leaf(d, f, &e, owner);
        if (unlikely(rc))
            return rc;
    } else if (l1tf_exposes(d, e)) {
        return refuse_absent(e);
    }
    if (!store_entry(d, f, m, 1, idx, e, old, flags)) {
        if (e & PTE_P)
            put_leaf(d, e);
        return -EAGAIN;
    }
    if (old & PTE_P)
        put_leaf(d, old);
    return 0;
}

static __attribute__((noinline)) int update_any_leaf(struct domain *d, void *p, u64 e, u64 old, const struct domain *owner,
                                                     unsigned flags)
{
    return replace_leaf(d, p, e, old, owner, flags, d->arch.fmt->pte_bytes);
}

/* get_leaf() is to take it all anew, and to say why it cannot. */
static __attribute__((noinline)) int drop_and_update_any_leaf(struct domain *d, void *p, u64 e, u64 old,
                                                              const struct domain *owner, unsigned flags)
{
    frame_drop(pte_mfn(e));
    return update_any_leaf(d, p, e, old, owner, flags);
}

/*
 * The next two do the same for what is frequent: an entry in a table that the hardware walks, without cache flags or forbidden ones,
 * of a frame of d's that can be had as it is. Whatever turns out otherwise is left to update_any_leaf(), as the last call, so that these
 * need no frame and save no registers. This one: the entry keeps its frame (keeps_frame() without its checks).
 */
static __attribute__((noinline)) int update_kept_leaf(struct domain *d, u64 *p, u64 e, u64 old, unsigned flags)
{
    const struct pt_level *l = &d->arch.fmt->level[1];
    mfn_t frame = pte_held_mfn(e);      /* if PTE_RW differs */
    u64 diff = e ^ old;

    if (diff & PTE_RW && unlikely(!is_own(d, pte_mfn(e)) || (e & PTE_RW && !frame_take_writable(frame))))
        return update_any_leaf(d, p, e, old, d, flags);
    if (unlikely(!store_8(p, (e | l->forced) & l->kept, old, flags))) {
        if (e & diff & PTE_RW)
            frame_drop_type(frame);
        return -EAGAIN;
    }
    if (old & diff & PTE_RW) {
        note_stale(&d->arch);
        frame_drop_type(frame);
    }
    return 0;
}

static always_inline int update_own_leaf(struct domain *d, u64 *p, u64 e, u64 old, unsigned flags)
{
    const struct pt_format *f = d->arch.fmt;
    const struct pt_level *l = &f->level[1];

    if (e & PTE_P) {
        if (unlikely(e & (l->denied | CACHE_FLAGS)))
            return update_any_leaf(d, p, e, old, d, flags);
        if (old & PTE_P && !((e ^ old) & PTE_MFN_MASK))
            return update_kept_leaf(d, p, e, old, flags);
        e = (e | l->forced) & l->kept;
        if (unlikely(!frame_take(pte_mfn(e), d)))
            return update_any_leaf(d, p, e, old, d, flags);
        if (e & PTE_RW && unlikely(!frame_take_writable(pte_mfn(e))))
            return drop_and_update_any_leaf(d, p, e, old, d, flags);
    } else if (l1tf_exposes(d, e)) {
        return refuse_absent(e);
    }
    if (unlikely(!store_8(p, e, old, flags))) {
        if (e & PTE_P)
            put_leaf(d, e);
        return -EAGAIN;
    }
    if (old & PTE_P)
        put_leaf(d, old);
    return 0;
}

int pt_update_node(struct domain *d, mfn_t m, unsigned level, unsigned idx, u64 e, unsigned flags)
{
    const struct pt_format *f = d->arch.fmt;
    const struct pt_level *l = &f->level[level];
    int rc = pt_drain_orphans(d);
    u64 old;

    if (rc)
        return rc;
    if (idx >= l->nr_entries)
        return refuse(-EINVAL, "a %s guest's L%u tables have %u entries, this is number %u", f->name, level,
                      l->nr_entries, idx);
    if (is_hv_slot(f, level, frame_types[m.v], idx))
        return refuse(-EINVAL, "L%u[%u] belongs to the hypervisor", level, idx);
    if (f->id == PT32P && level == 3 && idx == 3 && !(e & PTE_P))
        return refuse(-EINVAL, "the fourth L3 entry must stay present");
    old = pt_load(f, mfn_to_virt(m), idx);
    if (e & PTE_P) {
        if (same_reference(e, old) && !denied_node_flags(d, l, e) && !mfn_eq(pte_mfn(e), m) &&
            !names_linear(f, level, pte_mfn(e))) {
            (void)store_entry(d, f, m, level, idx, (e | l->forced) & l->kept, old, flags);
            return 0;
        }
        rc = get_node(d, f, level, m, idx, &e);
        if (rc)
            return rc;
    } else if (l1tf_exposes(d, e)) {
        return refuse_absent(e);
    }
    (void)store_entry(d, f, m, level, idx, e, old, flags);
    /* A table that leaves the tree may be walked by CPUs until they flush; its frame's next use waits for that. */
    if (old & PTE_P)
        put_node(d, m, old);
    return 0;
}

static __attribute__((noinline)) int update_mirrored_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e,
                                                          const struct domain *owner, unsigned flags)
{
    u32 *p = (u32 *)mfn_to_virt(m) + idx;

    return replace_leaf(d, p, e, read_once(*p), owner, flags, 4);
}

int pt_update_known_mirrored(struct domain *d, u32 *p, u32 e) { return replace_leaf(d, p, e, read_once(*p), d, 0, 4); }

int pt_update_known_ad(struct domain *d, u64 *p, u64 e)
{
    return update_own_leaf(d, p, e, read_once(*p), PT_PRESERVE_AD);
}

int pt_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e, const struct domain *owner, unsigned flags)
{
    u64 *p = (u64 *)mfn_to_virt(m) + idx;

    if (unlikely(d->arch.fmt->mirrored))
        return update_mirrored_leaf(d, m, idx, e, owner, flags & PT_PRESERVE_AD);
    if (unlikely(owner != d))
        return update_any_leaf(d, p, e, read_once(*p), owner, flags & PT_PRESERVE_AD);
    return flags & PT_PRESERVE_AD ? pt_update_known_ad(d, p, e) : update_own_leaf(d, p, e, read_once(*p), 0);
}

int pt_update_known(struct domain *d, u64 *p, u64 e) { return update_own_leaf(d, p, e, read_once(*p), 0); }

int pt_compare_update_leaf(struct domain *d, mfn_t m, unsigned idx, u64 old, u64 e)
{
    char *table = mfn_to_virt(m);

    if (unlikely(d->arch.fmt->mirrored))
        return update_any_leaf(d, table + idx * d->arch.fmt->pte_bytes, e, old, d, COMPARE);
    return update_own_leaf(d, (u64 *)table + idx, e, old, COMPARE);
}

int pt_replace_leaf(struct domain *d, mfn_t m, unsigned idx, u64 e)
{
    u64 old = pt_load(d->arch.fmt, mfn_to_virt(m), idx);

    (void)store_entry(d, d->arch.fmt, m, 1, idx, e, old, 0);
    if (old & PTE_P)
        put_leaf(d, old);
    return 0;
}

bool pt_find_l1(const struct vcpu *v, u64 va, mfn_t *table, unsigned *idx)
{
    bool user = v->domain->arch.fmt->levels == 4 && !v->arch.kernel_mode;

    return pt_find_l1_below(v->domain, user ? v->arch.root_user : v->arch.root_kernel, va, table, idx);
}

/*
 * The three formats' walks: constants, so that each becomes straight code. No table of a guest's has large pages, but the last one
 * may be ours, through a linear mapping.
 */
static always_inline bool walk_to_l1(mfn_t *m, u64 va, unsigned levels, unsigned bytes, unsigned bits)
{
#pragma GCC unroll 4
    for (unsigned level = levels; level > 1; level--) {
        unsigned i = va >> (PAGE_SHIFT + bits * (level - 1)) & ((1u << bits) - 1);
        const void *table = mfn_to_virt(*m);
        u64 e = bytes == 8 ? read_once(((const u64 *)table)[i]) : read_once(((const u32 *)table)[i]);

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

/* *p: the entry that maps va below m, in tables with entries of 8 bytes. */
static always_inline bool find_entry_8(enum abi_word w, mfn_t m, u64 va, u64 **p)
{
    if (unlikely(!(likely(w == ABI_64) ? find_l1_64(&m, va) : find_l1_pae(&m, va)) || !is_l1(m)))
        return false;
    *p = (u64 *)mfn_to_virt(m) + (va >> PAGE_SHIFT & 511);
    return true;
}

bool pt_find_l1_below(const struct domain *d, mfn_t m, u64 va, mfn_t *table, unsigned *idx)
{
    const struct pt_format *f = d->arch.fmt;
    bool found;

    if (likely(f->levels == 4))
        found = find_l1_64(&m, va);
    else if (f->levels == 3)
        found = find_l1_pae(&m, va);
    else
        found = find_l1_mirrored(&m, va);
    if (!found)
        return false;
    *table = m;
    *idx = pt_index(f, 1, va);
    return is_l1(m);
}

static __attribute__((cold, noinline)) int no_table(u64 va) { return refuse(-EINVAL, "no page table for address %#lx", va); }

static __attribute__((noinline)) int update_any_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner)
{
    mfn_t m;
    unsigned idx;

    if (unlikely(v->domain->arch.fmt->pte_bytes == 4 && e >> 32))
        return refuse(-EINVAL, "entry %#lx has more than 32 bits", e);
    if (likely(owner == v->domain)) {       /* so it is mirrored */
        m = v->arch.root_kernel;
        return likely(find_l1_mirrored(&m, va) && is_l1(m))
             ? pt_update_known_mirrored(v->domain, (u32 *)mfn_to_virt(m) + (va >> PAGE_SHIFT & 1023), (u32)e) : no_table(va);
    }
    return likely(pt_find_l1(v, va, &m, &idx)) ? pt_update_leaf(v->domain, m, idx, e, owner, 0) : no_table(va);
}

int pt_update_va(const struct vcpu *v, u64 va, u64 e, const struct domain *owner)
{
    struct domain *d = v->domain;
    mfn_t m = likely(v->arch.kernel_mode || d->arch.word == ABI_32) ? v->arch.root_kernel : v->arch.root_user;
    u64 *p;

    if (unlikely(d->arch.fmt->mirrored || owner != d))
        return update_any_va(v, va, e, owner);
    if (unlikely(!find_entry_8(d->arch.word, m, va, &p)))
        return no_table(va);
    return update_own_leaf(d, p, e, read_once(*p), 0);
}

/* No reference is needed: the entry that maps the table holds one while we have the lock. */
static always_inline bool is_own_l1(const struct domain *d, mfn_t m)
{
    u32 w = is_own(d, m) ? read_once(frame_types[m.v]) : 0;

    return fw_type(w) == FT_L1 && w & FW_VALID && w & FW_COUNT_MASK;
}

/* *p: what v's kernel sees at va, if that is mapped read-only and in a level-1 table of its domain's. */
static always_inline bool entry_seen_at(enum abi_word w, const struct vcpu *v, u64 va, u64 **p)
{
    const struct domain *d = v->domain;
    u64 *mapping, entry;
    const char *page;

    if (unlikely(!find_entry_8(w, v->arch.root_kernel, va, &mapping)))
        return false;
    entry = read_once(*mapping);
    if (unlikely((entry & (PTE_P | PTE_RW)) != PTE_P))
        return false;
    if (likely((entry & PTE_MFN_MASK) >> PAGE_SHIFT == d->arch.known_l1.mfn.v))
        page = d->arch.known_l1.page;
    else if (is_own_l1(d, pte_mfn(entry)))
        page = mfn_to_virt(pte_mfn(entry));
    else
        return false;
    *p = (u64 *)(page + (va & ~PAGE_MASK));
    return true;
}

int pt_write_va(const struct vcpu *v, u64 va, u64 e, bool exchanges, u64 *was)
{
    struct domain *d = v->domain;
    u64 *p;

    if (unlikely(!entry_seen_at(ABI_64, v, va, &p)))
        return -ENOENT;
    *was = read_once(*p);
    return exchanges ? update_own_leaf(d, p, e, *was, COMPARE) : update_own_leaf(d, p, e, *was, 0);
}

int pt_compare_write_va_pae(const struct vcpu *v, u64 va, u64 expected, u64 e, u64 *was)
{
    u64 *p;

    if (unlikely(!entry_seen_at(ABI_32, v, va, &p)))
        return -ENOENT;
    *was = read_once(*p);
    return likely(*was == expected) ? update_own_leaf(v->domain, p, e, expected, COMPARE) : 0;
}

int pt_write_va_mirrored(const struct vcpu *v, u64 va, u32 e, u32 *was)
{
    struct domain *d = v->domain;
    mfn_t m = v->arch.root_kernel;
    u32 entry, *p;

    if (unlikely(!find_l1_mirrored(&m, va) || !is_l1(m)))
        return -ENOENT;
    entry = read_once(((u32 *)mfn_to_virt(m))[va >> PAGE_SHIFT & 1023]);
    if (unlikely((entry & (PTE_P | PTE_RW)) != PTE_P))
        return -ENOENT;
    m = pte_mfn(entry);
    if (unlikely(!is_own_l1(d, m)))
        return -ENOENT;
    p = (u32 *)((char *)mfn_to_virt(m) + (va & ~PAGE_MASK));
    *was = read_once(*p);
    return replace_leaf(d, p, e, *was, d, 0, 4);
}

/* --- The end of a domain --- */

/* One frame of a dying domain, whose vCPUs have let go of their roots: its own partial state, pin and allocation. */
static int relinquish_frame(struct domain *d, mfn_t m)
{
    int rc = 0;
    u32 w;

    if (frame_owner_id(m) != d->id || !frame_get(m, d))
        return 0;
    w = frame_types[m.v];
    if (w & FW_PARTIAL)
        rc = demote(d, m, fw_type(w) - FT_L1 + 1);
    else if (w & FW_PINNED)
        rc = pt_unpin(d, m);
    if (!rc && d->arch.nr_orphans)
        rc = -RESTART;
    if (!rc && !domain_give_up_frame(d, m))
        rc = 0;     /* given up before, or one that we share with the domain */
    frame_put(m);
    return rc;
}

int pt_relinquish(struct domain *d)
{
    u64 m = d->arch.relinquish_at;
    int rc;

    pt_lock(d);
    rc = pt_drain_orphans(d);
    /* A frame may be a table, with its entries: so there is a look after each. */
    for (; !rc && m < nr_frames; d->arch.relinquish_at = ++m) {
        steps_add(1);
        if (!(d->regions[m >> 15] >> (m >> 9 & 63) & 1))
            m |= 511;
        else if ((rc = relinquish_frame(d, mfn(m))) != 0)
            break;
        if (preempt_needed())
            rc = -RESTART;
    }
    pt_unlock(d);
    return rc;
}
