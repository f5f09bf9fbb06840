/*
 * What devices reach in an exact space: an I/O table follows a frame's two words (arch/x86/pt/dma.c; frame.c, internal.h, table.c;
 * drivers/iommu/iommu.c). The looks are modelled without the lock that covers them now, which a space needs that is made while its
 * domain runs: with one domain and its space there from the start they hold without.
 *
 * One frame, dom0's or the heap's; CPUS of dom0's, each of which does OPS operations: allocate the frame if the heap has it, take a writable
 * reference and drop it, make the frame a table and end that, give it up. A device writes whenever the I/O table lets it, or what the unit
 * remembers of that. When a type changes the unit forgets at once; a frame without references waits for that on the CPU's way out.
 *
 * Holds: no device reaches the frame while it is trusted as a table, or the heap has it; two CPUs never set its entry at once; who has made
 * it writable finds that devices reach it; and when nothing is under way its entry says what its words say.
 *
 * The entry's change, the unit's flush and the answer are one step: they have a lock, and the driver waits. Every access of the words before
 * is a locked instruction or comes after one, so there are no store buffers.
 */
//! fast -DCPUS=2 -DOPS=2
//! all -DCPUS=3 -DOPS=1
//! all -DCPUS=2 -DOPS=3
//! mutation HOOK_BEFORE_TYPE -DCPUS=2 -DOPS=2
//! mutation HOOK_WITHOUT_REFERENCE -DCPUS=2 -DOPS=2
//! mutation NO_HOOK_WHEN_VALID -DCPUS=2 -DOPS=2
//! mutation HEAP_BEFORE_HOOK -DCPUS=2 -DOPS=2
//! mutation HEAP_BEFORE_FLUSH -DCPUS=2 -DOPS=2
//! mutation TRUST_BEFORE_HOOK -DCPUS=2 -DOPS=2
#include "steps.h"

/* The reference word: whose, the allocation's, the count. */
#define OWNED      32
#define ALLOCATED  16
#define COUNT(w)   ((w) & 15)
/* The type word. */
#define VALID      64
#define TABLE      32
#define WRITABLE   16
#define KIND(w)    ((w) & (TABLE | WRITABLE))
#define TCOUNT(w)  ((w) & 15)

int refs = OWNED | ALLOCATED | 1, types;
bool in_heap, trusted, pt_lock;
bool entry, known;              /* devices reach it: by the table, by what the unit remembers */
byte setting, busy = CPUS;

#define MAY(r, t) ((r) & OWNED && KIND(t) == WRITABLE && (t) & VALID)

/* --- dma.c --- */

inline dma_frame_changed()
{
    setting++;
    assert(setting == 1);
    look = types;                           //@ dma.c:is_writable_of 1 read_once(frame_types[m])
    may = MAY(refs, look);                  //@ dma.c:is_writable_of 2 read_once(frame_refs[m])
    if
    :: entry != may -> d_step { entry = may; known = known && may; assert(!entry || !trusted && !in_heap) }
    :: else
    fi;
    setting--
}

inline type_try_change(was, to)
{
#ifdef HOOK_BEFORE_TYPE
    dma_frame_changed();
    CMPXCHG(types, was, to)
#else
    CMPXCHG(types, was, to);
#ifndef HOOK_WITHOUT_REFERENCE
    if :: ok -> dma_frame_changed() :: else fi
#endif
#endif
}

/* --- References --- */

inline frame_take()
{
    w = refs;
    do
    :: !(w & OWNED) || !COUNT(w) -> ok = false; break
    :: else -> CMPXCHG(refs, w, w + 1); if :: ok -> break :: else fi
    od
}

inline free_frame() { d_step { types = 0; in_heap = true; assert(!entry && !known) } }

inline frame_drop()
{
    d_step { assert(COUNT(refs)); refs--; last = !COUNT(refs) }
    if
    :: last ->
        assert(!TCOUNT(types));
        refs = 0;                           //@ frame.c:frame_final_put 2 write_once(frame_refs[m.v],(u64)DOMID_INVALID<<FR_OWNER_SHIFT)
#ifdef HEAP_BEFORE_HOOK
        free_frame();
        entry = false
#else
        entry = false;
        waits = true
#endif
    :: else
    fi
}

/* On the way out: frames_drain_pending(). TLBs, which it flushes with the units: freed.pml. */
inline leave()
{
    if
    :: waits ->
        waits = false;
#ifndef HEAP_BEFORE_FLUSH
        known = false;
#endif
        free_frame()
    :: else
    fi
}

/* --- Writable --- */

inline writable()
{
    frame_take();
    if
    :: ok ->
        t = types;                          //@ frame.c:type_get_writable 1 read_once(frame_types[m.v])
        do
        :: KIND(t) == WRITABLE && !(t & VALID) ->
            (types != t);                   //@ frame.c:type_get_writable 2 smp_call_poll()
            t = types                       //@ frame.c:type_get_writable 3 read_once(frame_types[m.v])
        :: KIND(t) == WRITABLE && t & VALID -> /* no change of type: frame_take_writable() */
            CMPXCHG(types, t, t + 1);
            if :: ok -> break :: else fi
        :: KIND(t) != WRITABLE && TCOUNT(t) -> ok = false; break
        :: KIND(t) != WRITABLE && !TCOUNT(t) ->
            n = WRITABLE | (KIND(t) == TABLE -> 0 : VALID) | 1;
            type_try_change(t, n);          //@ frame.c:type_get_writable 4 type_try_change(m,&w,n)
            if
            :: ok && !(n & VALID) ->
                types = types | VALID;      //@ frame.c:type_get_writable 6 atomic_or(&frame_types[m.v],FW_VALID)
#ifndef NO_HOOK_WHEN_VALID
                dma_frame_changed();
#endif
                assert(entry); break
            :: ok && n & VALID ->
#if !defined(HOOK_WITHOUT_REFERENCE) && !defined(HOOK_BEFORE_TYPE)
                assert(entry);
#endif
                break
            :: !ok
            fi
        od;
        if
        :: ok ->
            d_step { assert(KIND(types) == WRITABLE && TCOUNT(types) && !trusted); types-- }
        :: else
        fi;
        frame_drop()
#ifdef HOOK_WITHOUT_REFERENCE
        ;
        dma_frame_changed()
#endif
    :: else
    fi;
    ok = false
}

/* --- Tables: under the domain's lock --- */

inline table()
{
    frame_take();
    if
    :: ok ->
        LOCK(pt_lock);
        t = types;                          //@ table.c:get_held_table 1 read_once(frame_types[m.v])
        ok = false;
        do
        :: TCOUNT(t) -> break
        :: else ->
#ifdef TRUST_BEFORE_HOOK
            CMPXCHG(types, t, TABLE | 1);
            if :: ok -> d_step { trusted = true; assert(!entry) }; dma_frame_changed(); break :: else fi
#else
            type_try_change(t, TABLE | 1);  //@ table.c:get_held_table 5 type_try_change(m,&w,FW_TYPE(type)|hv|1)
            if :: ok -> break :: else fi
#endif
        od;
        if
        :: ok ->
            d_step { trusted = true; assert(!entry && !known); types = types | VALID };   //@ table.c:promote 1 atomic_or(&frame_types[m.v],FW_VALID)
            d_step { trusted = false; assert(!entry && !known); types = TABLE }           //@ table.c:retire 2 type_change(m,FW_TYPE(FT_L1+level-1))
        :: else
        fi;
        UNLOCK(pt_lock);
        frame_drop()
    :: else
    fi;
    ok = false
}

/* --- Allocation --- */

inline allocate()
{
    if
    :: atomic { in_heap -> in_heap = false; assert(!entry && !known && !refs) };
        refs = OWNED | ALLOCATED | 1        //@ frame.c:give_frames 2 write_once(frame_refs[m],flags&MEMF_WITHDRAWN?withdrawn_word(d):unused_word(d,counted))
    :: else
    fi
}

inline release()
{
    w = refs;                               //@ frame.c:release 1 read_once(frame_refs[m.v])
    do
    :: !(w & OWNED) || !(w & ALLOCATED) -> ok = false; break
    :: else ->
        CMPXCHG(refs, w, w & ~ALLOCATED);   //@ frame.c:release 2 try_cmpxchg(&frame_refs[m.v],&w,w&~FR_ALLOCATED)
        if :: ok -> break :: else fi
    od;
    if :: ok -> frame_drop() :: else fi;
    ok = false
}

active proctype device()
{
end:
    do
    :: atomic { entry && !known -> known = true; assert(!trusted && !in_heap) }
    od
}

active [CPUS] proctype cpu()
{
    int w, t, n, look;
    bool ok, last, may, waits;
    byte op;

    do
    :: op < OPS ->
        op++;
        if
        :: writable()
        :: table()
        :: allocate()
        :: release()
        fi;
        leave();
        d_step { w = 0; t = 0; n = 0; look = 0; last = false; may = false }
    :: else -> break
    od;
    atomic {
        busy--;
        assert(busy || entry == (MAY(refs, types) -> true : false))
    }
}
