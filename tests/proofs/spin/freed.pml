/*
 * Frames that wait to be freed, and references of one domain's tables to another's frames that wait to be dropped, until TLBs have forgotten
 * them (arch/x86/pt/frame.c: struct pending).
 *
 * One frame of domain 1's; an entry of domain 1's and one of domain 2's map it, writable. CPUs that run either domain, or none, and do
 * OPS operations each: clear either entry, give the frame up, make a table of it, run another domain. A CPU whose domain has an entry may
 * take it into its TLB at any time. What waits on a CPU is done on its way out, after each operation.
 *
 * Holds: when the heap gets the frame, no TLB knows it; when it becomes a table, none maps it writable; it is freed once, and never while
 * anybody holds a reference; when all entries have gone and it was given up, it has been freed.
 *
 * Entries are plain stores: they wait in store buffers, which atomic operations, barriers and a load of CR3 empty. The stamps by which
 * the owner's own flush is saved or made are in stale.pml; here it is always made.
 */
//! fast -DOPS=2
//! mutation FREED_AT_ONCE -DOPS=2
//! mutation FOREIGN_AT_ONCE -DOPS=2
//! mutation FOREIGN_WITHOUT_BARRIER -DOPS=2
//! mutation NO_OWNERS_CPUS -DOPS=2
#include "steps.h"

#define CPUS 2
#define TABLE 16
#define COUNT(w) ((w) & 15)

bool entry[3];                  /* by domain */
byte refs = 3, types = 2;       /* allocation, two entries; two writable */
bool given_up, pt_lock[3], page_lock, owned = true, in_heap;
bool dirty[3 * CPUS], tlb[CPUS];
#define DIRTY(d, c) dirty[(d) * CPUS + (c)]
byte runs[CPUS];
byte busy = CPUS;
chan buffer[CPUS] = [2] of { byte };        /* entries that are cleared, by domain; 0 and more: locks given back */
#define FENCE(c) (len(buffer[c]) == 0)
#define NO_TLB (!tlb[0] && !tlb[1])

proctype hardware(byte c)
{
    byte what;

end:
    do
    :: atomic { runs[c] && entry[runs[c]] && !tlb[c] -> tlb[c] = true; assert(!in_heap && types != (TABLE | 1)) }
    :: atomic { buffer[c]?what -> if :: what < 3 -> entry[what] = false :: else -> pt_lock[what - 3] = false fi; what = 0 }
    od
}

inline lock(d) { atomic { FENCE(c) && !pt_lock[d] -> pt_lock[d] = true } }
inline unlock(d) { buffer[c]!d + 3 }

/* What the CPU notes to be flushed: note0 and note1, itself and the other by number. */
inline note_flush(d)
{
    note0 = note0 || DIRTY(d, 0);
    note1 = note1 || DIRTY(d, 1)
}

inline frame_final_put()
{
    LOCK(page_lock);                //@ frame.c:frame_final_put 1 spin_lock(&d->page_lock)
    d_step { assert(owned && !COUNT(types) && !refs); owned = false };      //@ frame.c:frame_final_put 2 write_once(frame_refs[m.v],(u64)DOMID_INVALID<<FR_OWNER_SHIFT)
    UNLOCK(page_lock);              //@ frame.c:frame_final_put 3 spin_unlock(&d->page_lock)
    waits = true;                   //@ frame.c:frame_final_put 4 write_once(frame_notes[m.v],p->head)
#ifndef NO_OWNERS_CPUS
    note_flush(1)              //@ frame.c:frame_final_put 5 note_flush(p,&d->arch.dirty_cpus)
#endif
}

inline frame_drop()
{
    atomic { FENCE(c) -> assert(refs); refs--; last = !refs };      //@ frame_ref.h:frame_drop 1 atomic_add_return((u32*)&frame_refs[m.v],~0u)
    if :: last -> last = false; frame_final_put() :: else fi
}

inline frame_drop_type() { atomic { FENCE(c) -> assert(COUNT(types) && !(types & TABLE)); types-- } }    //@ frame_ref.h:frame_drop_type 1 atomic_add_return(&frame_types[m.v],~0u)

inline flush_noted()
{
    if :: note0 -> note0 = false; tlb[0] = false :: else fi;
    if :: note1 -> note1 = false; tlb[1] = false :: else fi
}

/* The softirq on the way out; what it drops may leave something for another round. */
inline frames_drain_pending()
{
    do
    :: waits || foreign ->
        d_step { had_frame = waits; had_foreign = foreign; waits = false; foreign = false };
#ifdef FREED_AT_ONCE
        if :: had_foreign -> flush_noted() :: else fi;
#else
        FENCE(c);
        flush_noted();              //@ frame.c:frames_drain_pending 1 flush_tlb_mask(&list.flush)
#endif
        if :: had_foreign -> frame_drop_type(); frame_drop() :: else fi;
        if
        :: had_frame -> d_step { assert(!in_heap && NO_TLB); in_heap = true }       //@ frame.c:frames_drain_pending 2 frame_notes[list.head]
        :: else
        fi
    :: else -> break
    od
}

inline clear_own()
{
    lock(1);
    if
    :: entry[1] ->
        buffer[c]!1;
        frame_drop_type();
        frame_drop()
    :: else
    fi;
    unlock(1)
}

inline clear_others()
{
    lock(2);
    if
    :: entry[2] ->
        buffer[c]!2;                //@ pt/internal.h:store_8 2 write_once(*p,e)
#ifdef FOREIGN_AT_ONCE
        frame_drop_type();
        frame_drop()
#else
#ifndef FOREIGN_WITHOUT_BARRIER
        FENCE(c);                   //@ frame.c:frame_put_foreign 1 smp_mb()
#endif
        foreign = true;
        note_flush(2)          //@ frame.c:frame_put_foreign 2 note_flush(p,&d->arch.dirty_cpus)
#endif
    :: else
    fi;
    unlock(2)
}

inline give_up()
{
    atomic { FENCE(c) -> ok = !given_up && refs; if :: ok -> given_up = true :: else fi };
    if :: ok -> frame_drop() :: else fi
}

/* And back, with nothing in it. */
inline make_table()
{
    lock(1);
    atomic { FENCE(c) -> ok = refs && owned; if :: ok -> refs++ :: else fi };
    if
    :: ok ->
        atomic { FENCE(c) -> ok = !COUNT(types); if :: ok -> types = TABLE | 1 :: else fi };
        if
        :: ok ->
            note_flush(1);
            flush_noted();
            assert(NO_TLB);
            types = 0
        :: else
        fi;
        frame_drop()
    :: else
    fi;
    unlock(1)
}

/* The next domain is entered before this one is left. */
inline switch_to(d)
{
    was = runs[c];
    FENCE(c);
    if :: d -> DIRTY(d, c) = true :: else fi;      //@ pv/switch.c:load_first_cr3 1 cpumask_set(&next->domain->arch.dirty_cpus,this_cpu_id())
    d_step { runs[c] = d; tlb[c] = false };
    if
    :: was && was != d -> DIRTY(was, c) = false         //@ pv/switch.c:reschedule 1 cpumask_clear(&prev->domain->arch.dirty_cpus,this_cpu_id())
    :: else
    fi;
    was = 0
}

proctype cpu(byte c)
{
    byte was, left = OPS;
    bool ok, last, note0, note1, waits, foreign, had_frame, had_foreign;

    do
    :: left ->
        left--;
        if
        :: true -> clear_own()
        :: true -> clear_others()
        :: true -> give_up()
        :: true -> make_table()
        :: true -> switch_to(0)
        :: true -> switch_to(1)
        :: true -> switch_to(2)
        fi;
        ok = false;
        frames_drain_pending()
    :: else -> break
    od;
    FENCE(c);
    busy--
}

init
{
    atomic {
        entry[1] = true;
        entry[2] = true;
        runs[0] = 1;
        DIRTY(1, 0) = true;
        if
        :: runs[1] = 2; DIRTY(2, 1) = true
        :: runs[1] = 1; DIRTY(1, 1) = true
        :: skip
        fi;
        run cpu(0);
        run cpu(1);
        run hardware(0);
        run hardware(1)
    };
    !busy;
    assert(in_heap == (given_up && !entry[1] && !entry[2]))
}
