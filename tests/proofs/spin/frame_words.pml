/*
 * The two words of a frame, changed by compare-and-exchange (include/asm/pt.h draws the states): references and types are taken and given
 * back, tables are promoted and demoted and left half way, by CPUs at once; then the domain ends.
 *
 * One frame of one domain, in any state that operations leave behind; CPUS CPUs, each of which does OPS operations out of all:
 *   a writable reference, without a lock (grants, copies, event pages)     a table of either of two levels, held and given back
 *   pin and unpin                                                         a descriptor page
 *   the frame given up by its guest
 * Promotion and demotion may succeed, be refused, and give way at any point; check() of a descriptor page may fail. With FEW there are only
 * writable references, tables of one level and the giving up; with LONG no short way is taken (docs/short-ways.md).
 *
 * Holds: no CPU writes a frame through a writable reference while others trust its contents (a table, whole or half, or a descriptor
 * page); no count goes below 0; a frame that is held stays its owner's; it is freed once, with no type in use and nobody at it; after the
 * domain's end it has been freed, so no reference was lost; nobody waits for ever. What flushes are for is in stale.pml.
 *
 * Left out: FW_HV and FW_LINEAR, whose counts are those of any table; overflow of counts.
 */
//! fast -DCPUS=2 -DOPS=1
//! fast -DCPUS=2 -DOPS=1 -DLONG
//! all -DCPUS=3 -DOPS=1 -DFEW
//! mutation LOOK_THEN_PROMOTE -DCPUS=2 -DOPS=1
//! mutation LOOK_THEN_WRITE -DCPUS=2 -DOPS=1
//! mutation LOOK_THEN_TAKE -DCPUS=2 -DOPS=1
//! mutation NO_WAIT_FOR_VALID -DCPUS=2 -DOPS=1
//! mutation PARTIAL_KEEPS_NOTHING -DCPUS=2 -DOPS=1
#include "steps.h"

/* The reference word: owner, ALLOCATED, count. */
#define D            1
#define ALLOCATED    16
#define OWNER(w)     ((w) >> 5)
#define COUNT(w)     ((w) & 15)
#define UNUSED       (D << 5 | ALLOCATED | 1)
/* The type word: type, flags, count. */
#define NONE         0
#define WRITABLE     1
#define L1           2
#define L2           3
#define SEGDESC      4
#define VALID        64
#define PARTIAL      32
#define PINNED       16
#define TYPE(w)      ((w) >> 7)
#define TCOUNT(w)    ((w) & 15)
#define WORD(type)   ((type) << 7)

int refs = UNUSED, types = 0;
bool pt_lock, page_lock, orphan, freed, released;
byte writers, trusting;         /* who writes; who relies on what is in the frame */
byte running = CPUS;

inline trust() { d_step { trusting++; assert(!writers && OWNER(refs) == D) } }
inline distrust() { d_step { assert(trusting); trusting-- } }

inline final_put()
{
    LOCK(page_lock);            //@ frame.c:frame_final_put 1 spin_lock(&d->page_lock)
    d_step {
        assert(!freed && OWNER(refs) == D && !(refs & ALLOCATED) && !writers && !trusting && !TCOUNT(types) && !(types & PARTIAL));
        freed = true;
        refs = 0                //@ frame.c:frame_final_put 2 write_once(frame_refs[m.v],(u64)DOMID_INVALID<<FR_OWNER_SHIFT)
    };
    UNLOCK(page_lock)           //@ frame.c:frame_final_put 3 spin_unlock(&d->page_lock)
}

inline frame_take()
{
    w = refs;                               //@ frame_ref.h:frame_take_least 1 read_once(frame_refs[m.v])
    do
    :: OWNER(w) != D || !COUNT(w) -> ok = false; break
    :: else ->
#ifdef LOOK_THEN_TAKE
        refs++; ok = true;
#else
        CMPXCHG(refs, w, w + 1);            //@ frame_ref.h:frame_take_least 2 try_cmpxchg(&frame_refs[m.v],&w,w+1)
#endif
        if :: ok -> break :: else fi
    od
}

inline frame_drop()
{
    d_step { assert(COUNT(refs)); refs--; last = !COUNT(refs) }     //@ frame_ref.h:frame_drop 1 atomic_add_return((u32*)&frame_refs[m.v],~0u)
    if
    :: last -> w = refs; final_put()        //@ frame_ref.h:frame_drop 2 frame_refs[m.v]
    :: else
    fi
}

inline frame_drop_type()
{
    d_step { assert(TYPE(types) == WRITABLE && TCOUNT(types)); types-- }    //@ frame_ref.h:frame_drop_type 1 atomic_add_return(&frame_types[m.v],~0u)
}

/* --- Writable references --- */

inline frame_take_writable()
{
    t = types;                              //@ frame_ref.h:frame_take_writable 1 read_once(frame_types[m.v])
    ok = false;
    if
    :: TYPE(t) == WRITABLE && (t & (VALID | PARTIAL | PINNED)) == VALID ->
        CMPXCHG(types, t, t + 1)            //@ frame_ref.h:frame_take_writable 2 try_cmpxchg(&frame_types[m.v],&w,w+1)
    :: else
    fi
}

inline type_get_writable()
{
    t = types;                              //@ frame.c:type_get_writable 1 read_once(frame_types[m.v])
    do
#ifndef NO_WAIT_FOR_VALID
    :: TYPE(t) == WRITABLE && !(t & VALID) ->
        (types != t);                       //@ frame.c:type_get_writable 2 smp_call_poll()
        t = types                           //@ frame.c:type_get_writable 3 read_once(frame_types[m.v])
#endif
    :: else ->
        if
        :: TYPE(t) == WRITABLE -> n = t + 1
        :: TYPE(t) != WRITABLE && !TCOUNT(t) && !(t & (PARTIAL | PINNED)) ->
            n = WORD(WRITABLE) | (TYPE(t) == NONE -> VALID : 0) | 1
        :: else -> ok = false; break
        fi;
#ifdef LOOK_THEN_WRITE
        types = n; ok = true;
#else
        CMPXCHG(types, t, n);               //@ frame.c:type_get_writable 4 type_try_change(m,&w,n)
#endif
        if
        :: !ok
        :: ok && n & VALID -> break
        :: ok && !(n & VALID) ->
            flushing++;                     //@ frame.c:type_get_writable 5 domain_flush_stale((structdomain*)owner)
            d_step { flushing--; types = types | VALID };       //@ frame.c:type_get_writable 6 atomic_or(&frame_types[m.v],FW_VALID)
            break
        fi
    od;
    if :: !ok -> frame_drop(); ok = false :: else fi
}

/* Whoever takes a reference to a frame that was another's until a flush must not have it before. */
byte flushing;

inline write_frame()
{
    frame_take();
    if
    :: ok ->
        frame_take_writable();
        if :: !ok -> type_get_writable() :: else fi;
        if
        :: ok ->
            d_step { writers++; assert(!trusting && !flushing && OWNER(refs) == D) };
            d_step { writers--; assert(!trusting && OWNER(refs) == D) };
            frame_drop_type();
            frame_drop()
        :: else
        fi
    :: else
    fi
}

/* --- Tables, under pt_lock --- */

inline set_partial(type)
{
    if
    :: types = WORD(type) | PARTIAL | 1     //@ table.c:set_partial 1 type_change(m,(w&(FW_TYPE(7)|FW_HV))|FW_PARTIAL|progress)
    :: types = WORD(type) | PARTIAL         /* nothing done yet */
    fi
}

inline retire(type)
{
    distrust();
    types = WORD(type)                      //@ table.c:retire 2 type_change(m,FW_TYPE(FT_L1+level-1))
}

/* t: the type word. ok: all of it is done. */
inline demote()
{
    assert(t & PARTIAL);
    if
    :: set_partial(TYPE(t)); ok = false     /* gives way */
    :: orphan = false; retire(TYPE(t)); frame_drop(); ok = true
    fi
}

inline pt_drain_orphans()
{
    ok = true;
    if
    :: orphan -> t = types; demote()        //@ table.c:pt_drain_orphans 1 frame_types[m.v]
    :: else
    fi
}

inline promote(type)
{
    if
    :: d_step { assert(TYPE(types) == type && TCOUNT(types) == 1); types = types | VALID };  //@ table.c:promote 1 atomic_or(&frame_types[m.v],FW_VALID)
        ok = true
    :: set_partial(type); ok = false                     /* it gives way: whoever wants the table goes on */
    :: orphan = true; set_partial(type); ok = false      /* refused, and its undoing gives way: nobody owns the rest */
    :: retire(type); ok = false                          /* refused */
    fi;
    /* What is partial keeps the reference. */
#ifdef PARTIAL_KEEPS_NOTHING
    if :: !ok -> frame_drop(); ok = false :: else fi
#else
    if
    :: !ok ->
        t = types;                          //@ table.c:get_held_table 7 frame_types[m.v]
        if :: !(t & PARTIAL) -> frame_drop(); ok = false :: else fi
    :: else
    fi
#endif
}

inline get_held_table(type)
{
    t = types;                              //@ table.c:get_held_table 1 read_once(frame_types[m.v])
    do
    :: t & PARTIAL && TYPE(t) != type ->
        demote();
        if :: !ok -> frame_drop(); ok = false; break :: else fi;
        t = types                           //@ table.c:get_held_table 2 read_once(frame_types[m.v])
    :: t & PARTIAL && TYPE(t) == type ->
        orphan = false;
        types = WORD(type) | 1;             //@ table.c:get_held_table 3 type_change(m,FW_TYPE(type)|hv|1)
        frame_drop();
        promote(type);
        break
    :: !(t & PARTIAL) && TCOUNT(t) ->
        if
        :: TYPE(t) == type && t & VALID ->
            trust();
            d_step { assert(TYPE(types) == type && TCOUNT(types)); types++ };    //@ table.c:get_held_table 4 atomic_inc(&frame_types[m.v])
            ok = true
        :: else -> frame_drop(); ok = false
        fi;
        break
    :: else ->
#ifdef LOOK_THEN_PROMOTE
        types = WORD(type) | 1; ok = true;
#else
        CMPXCHG(types, t, WORD(type) | 1);  //@ table.c:get_held_table 5 type_try_change(m,&w,FW_TYPE(type)|hv|1)
#endif
        if
        :: ok ->
            skip;                           //@ table.c:get_held_table 6 domain_flush_stale(d)
            trust();
            promote(type);
            break
        :: else
        fi
    od
}

inline get_table(type)
{
    frame_take();
    if
    :: ok ->
#ifdef LONG
        get_held_table(type)
#else
        t = types;                          //@ table.c:get_table 1 read_once(frame_types[m.v])
        if
        :: TYPE(t) == type && t & VALID && !(t & PARTIAL) && TCOUNT(t) ->
            trust();
            types++                         //@ table.c:get_table 2 atomic_inc(&frame_types[m.v])
        :: else -> get_held_table(type)
        fi
#endif
    :: else
    fi
}

inline put_table()
{
    t = types;                              //@ table.c:pt_put_table 1 frame_types[m.v]
    if
    :: !(t & VALID) || TCOUNT(t) <= 1 ->
        t = types;                          //@ table.c:put_last 1 frame_types[m.v]
        assert(t & VALID && TCOUNT(t));
        if
        :: orphan = true; set_partial(TYPE(t))   /* our reference becomes the partial state's */
        :: retire(TYPE(t)); frame_drop()
        fi
    :: else ->
        distrust();
        types--;                            //@ table.c:pt_put_table 2 atomic_dec(&frame_types[m.v])
        frame_drop()
    fi
}

inline use_table(type)
{
    LOCK(pt_lock);
    pt_drain_orphans();
    if :: ok -> get_table(type) :: else fi;
    UNLOCK(pt_lock);
    if
    :: ok ->
        assert(!writers && TYPE(types) == type && types & VALID);
        LOCK(pt_lock);
        put_table();
        UNLOCK(pt_lock)
    :: else
    fi
}

inline pin()
{
    LOCK(pt_lock);
    pt_drain_orphans();
    if :: ok -> get_table(L1) :: else fi;
    if
    :: ok ->
        t = types;                          //@ table.c:pt_pin 1 frame_types[m.v]
        if
        :: t & PINNED -> put_table()
        :: else -> types = types | PINNED   //@ table.c:pt_pin 2 atomic_or(&frame_types[m.v],FW_PINNED)
        fi
    :: else
    fi;
    UNLOCK(pt_lock)
}

inline unpin_held()
{
    t = types;                              //@ table.c:pt_unpin 1 frame_types[m.v]
    if
    :: t & PINNED ->
        types = types & ~PINNED;            //@ table.c:pt_unpin 2 atomic_and(&frame_types[m.v],~FW_PINNED)
        put_table()
    :: else
    fi
}

inline unpin()
{
    LOCK(pt_lock);
    pt_drain_orphans();
    if :: ok -> frame_take() :: else fi;
    if :: ok -> unpin_held(); frame_drop() :: else fi;
    UNLOCK(pt_lock)
}

/* --- Descriptor pages, under pt_lock --- */

inline get_segdesc()
{
    t = types;                              //@ frame.c:frame_get_segdesc 1 read_once(frame_types[m.v])
    if
    :: TYPE(t) == SEGDESC && TCOUNT(t) ->
        trust();
        types++;                            //@ frame.c:frame_get_segdesc 2 atomic_inc(&frame_types[m.v])
        ok = true
    :: else ->
        ok = false;
        if
        :: !TCOUNT(t) && !(t & PARTIAL) ->
            CMPXCHG(types, t, WORD(SEGDESC) | 1)    //@ frame.c:frame_get_segdesc 3 type_try_change(m,&w,FW_TYPE(FT_SEGDESC)|1)
        :: else
        fi;
        if
        :: ok ->
            trust();                        //@ frame.c:frame_get_segdesc 4 domain_flush_stale(d)
            if
            :: types = types | VALID        //@ frame.c:frame_get_segdesc 5 atomic_or(&frame_types[m.v],FW_VALID)
            :: distrust();
                types = 0;                  //@ frame.c:frame_get_segdesc 6 type_change(m,0)
                ok = false
            fi
        :: else
        fi;
        if :: !ok -> frame_drop(); ok = false :: else fi
    fi
}

inline use_segdesc()
{
    LOCK(pt_lock);
    frame_take();
    if :: ok -> get_segdesc() :: else fi;
    UNLOCK(pt_lock);
    if
    :: ok ->
        LOCK(pt_lock);
        distrust();                         //@ frame.c:put_segdesc 1 note_stale(&d->arch)
        d_step { assert(TYPE(types) == SEGDESC && TCOUNT(types)); types-- };    //@ frame.c:put_segdesc 2 atomic_dec(&frame_types[m.v])
        frame_drop();
        UNLOCK(pt_lock)
    :: else
    fi
}

/* --- The end --- */

inline release()
{
    w = refs;                               //@ frame.c:release 1 read_once(frame_refs[m.v])
    do
    :: OWNER(w) != D || !(w & ALLOCATED) || !COUNT(w) -> ok = false; break
    :: else ->
        CMPXCHG(refs, w, w & ~ALLOCATED);   //@ frame.c:release 2 try_cmpxchg(&frame_refs[m.v],&w,w&~FR_ALLOCATED)
        if :: ok -> break :: else fi
    od;
    if :: ok -> assert(!released); released = true; frame_drop() :: else fi
}

proctype cpu()
{
    int w, t, n;
    bool ok, last;
    byte left = OPS;

    do
    :: left ->
        left--;
        if
        :: write_frame()
        :: use_table(L1)
        :: release()
#ifndef FEW
        :: use_table(L2)
        :: pin()
        :: unpin()
        :: use_segdesc()
#endif
        fi
    :: else -> break
    od;
    running--
}

/* relinquish_frame(), until nothing is left. */
proctype end_of_domain()
{
    int w, t;
    bool ok, last;

    !running;
    do
    :: freed -> break
    :: else ->
        LOCK(pt_lock);                      //@ table.c:pt_relinquish 1 pt_lock(d)
        pt_drain_orphans();
        if :: ok -> frame_take() :: else fi;
        if
        :: ok ->
            t = types;                      //@ table.c:relinquish_frame 1 frame_types[m.v]
            if
            :: t & PARTIAL -> demote()
            :: !(t & PARTIAL) && t & PINNED -> unpin_held(); ok = true
            :: else
            fi;
            if :: ok && !orphan -> release() :: else fi;
            frame_drop()
        :: else -> assert(orphan || freed)
        fi;
        UNLOCK(pt_lock)                     //@ table.c:pt_relinquish 2 pt_unlock(d)
    od;
    assert(!refs && !trusting && !writers && !orphan)
}

init
{
    byte i = 0;

    atomic {
        /* Any state that operations leave behind. */
        if
        :: skip
        :: types = WORD(WRITABLE) | VALID
        :: types = WORD(L1)
        :: types = WORD(SEGDESC) | VALID
        :: types = WORD(L1) | VALID | PINNED | 1; refs++; trusting = 1
        :: types = WORD(L2) | PARTIAL | 1; refs++; trusting = 1; orphan = true
        :: types = WORD(L2) | PARTIAL | 1; refs++; trusting = 1
        fi;
        do
        :: i < CPUS -> run cpu(); i++
        :: else -> break
        od;
        run end_of_domain()
    }
}
