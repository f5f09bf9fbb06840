/*
 * Whose a frame is: frames go from domain to domain through the heap, are taken out of a domain's hands for an exchange, and are looked at
 * by a domain that knows no more of them than a number (arch/x86/pt/frame.c, frame_ref.h, internal.h, heap.c; common/memory/exchange.c,
 * which has no access of its own to what is shared).
 *
 * One frame; two domains with a CPU each, which does OPS operations: allocate the frame if it is free (also withdrawn, and as a frame that
 * the hypervisor shares with the domain), exchange it (it comes back or is freed), hold it, make it a pinned table and end that, give
 * it up. Another vCPU of the first domain looks by the frame's number whether it is a table of its own, as grant operations do with
 * addresses of entries, or pins it. With DEATH the first domain is killed meanwhile, and its memory collected. The frame begins as a table of the
 * second domain's, as data or a table of the first one's, or free.
 *
 * Holds: the heap gives the frame to one at a time; whoever holds it finds its owner unchanged; nobody holds what is withdrawn; what is
 * shared is never a table; what is taken for one's own table is one; the heap has no frame that is in use, and a dead domain none at all.
 */
//! fast -DOPS=2
//! fast -DOPS=1 -DDEATH
//! all -DOPS=3
//! mutation OWNER_BEFORE_TYPE -DOPS=2
//! mutation LOOK_WITHOUT_HOLD -DOPS=2
//! mutation WITHDRAW_IN_TWO_STEPS -DOPS=1
//! mutation SHARED_TYPE_LATE -DOPS=2
//! mutation RETURN_TO_THE_DEAD -DOPS=1 -DDEATH
#include "steps.h"

/* The reference word: owner, ALLOCATED, COUNTED, count. No owner: the heap's, or on its way there. */
#define ALLOCATED  32
#define COUNTED    16
#define OWNER(w)   ((w) >> 6)
#define COUNT(w)   ((w) & 15)
#define UNUSED(d)  ((d) << 6 | ALLOCATED | COUNTED | 1)
#define WITHDRAWN(d) ((d) << 6 | COUNTED)
/* The type word: a table that is in use, a writable frame; else no type. Both begin with a count of 1. */
#define TABLE      64
#define WRITABLE   32
#define TCOUNT(w)  ((w) & 15)

int refs, types;
bool pt_lock[3], page_lock[3], dying[3];
bool in_heap, shared;
byte withdrawn;                 /* by this domain, and not returned */
byte holders[3];
byte busy = 3;

inline frame_take()
{
    w = refs;                               //@ frame_ref.h:frame_take_least 1 read_once(frame_refs[m.v])
    do
    :: OWNER(w) != me || !COUNT(w) -> ok = false; break
    :: else ->
        CMPXCHG(refs, w, w + 1);            //@ frame_ref.h:frame_take_least 2 try_cmpxchg(&frame_refs[m.v],&w,w+1)
        if :: ok -> d_step { assert(!withdrawn && !in_heap); holders[me]++ }; break :: else fi
    od
}

/* frame_final_put(), and the softirq that frees the frame: nothing else looks at it in between but by its number. */
inline final_put()
{
    LOCK(page_lock[me]);                    //@ frame.c:frame_final_put 1 spin_lock(&d->page_lock)
    d_step {
        assert(OWNER(refs) == me && !COUNT(refs) && !TCOUNT(types) && !in_heap && !holders[1] && !holders[2]);
        refs = 0                            //@ frame.c:frame_final_put 2 write_once(frame_refs[m.v],(u64)DOMID_INVALID<<FR_OWNER_SHIFT)
    };
    UNLOCK(page_lock[me]);                  //@ frame.c:frame_final_put 3 spin_unlock(&d->page_lock)
    types = TABLE | 2;                      //@ frame.c:frame_final_put 4 write_once(frame_notes[m.v],p->head)
    skip;                                   //@ heap.c:free_frames 1 spin_lock(&heap_lock)
    types = 0;                              //@ heap.c:free_frames 2 frame_types[m.v+i]
    refs = 0;                               //@ heap.c:free_frames 3 frame_refs[m.v+i]
    d_step { assert(!in_heap); in_heap = true; shared = false }         //@ heap.c:free_frames 4 spin_unlock(&heap_lock)
}

inline frame_drop()
{
    d_step { assert(COUNT(refs) && OWNER(refs) == me); holders[me]--; refs--; last = !COUNT(refs) };    //@ frame_ref.h:frame_drop 1 atomic_add_return((u32*)&frame_refs[m.v],~0u)
    if :: last -> final_put() :: else fi    //@ frame_ref.h:frame_drop 2 frame_refs[m.v]
}

/* Of a frame that is known by its number alone. */
inline own_level()
{
#ifdef LOOK_WITHOUT_HOLD
    t = types;
    w = refs;
    ok = OWNER(w) == me && t & TABLE && TCOUNT(t);
#else
#ifdef OWNER_BEFORE_TYPE
    w = refs;
    t = types;
    ok = OWNER(w) == me && t & TABLE && TCOUNT(t);
#else
    frame_take();
    if
    :: ok ->
        t = types;                          //@ pt/grant.c:is_own_l1 1 read_once(frame_types[m.v])
        frame_drop();
        ok = t & TABLE && TCOUNT(t)
    :: else
    fi
#endif
#endif
}

/* --- From the heap --- */

inline give(is_shared, is_withdrawn)
{
    types = 0;                              //@ heap.c:set_hypervisor_owned 1 frame_types[m+i]
    refs = 0;                               //@ heap.c:set_hypervisor_owned 2 frame_refs[m+i]
    LOCK(page_lock[me]);                    //@ frame.c:domain_alloc_frames 1 spin_lock(&d->page_lock)
    ok = !dying[me] || is_shared;
    if
    :: ok ->
#ifndef SHARED_TYPE_LATE
        if :: is_shared -> types = WRITABLE | 1 :: else fi;             //@ frame.c:give_frames 1 type_change(mfn_kept(m),FW_TYPE(FT_WRITABLE)|FW_VALID|1)
#endif
        d_step {
            assert(!holders[1] && !holders[2] && !withdrawn);
            shared = is_shared;
            if
            :: is_withdrawn -> refs = WITHDRAWN(me); withdrawn = me     //@ frame.c:give_frames 2 write_once(frame_refs[m],flags&MEMF_WITHDRAWN?withdrawn_word(d):unused_word(d,counted))
            :: else -> holders[me]++; refs = UNUSED(me) & ~(is_shared -> COUNTED : 0)
            fi
        };
#ifdef SHARED_TYPE_LATE
        if :: is_shared -> types = WRITABLE | 1 :: else fi;
#endif
    :: else
    fi;
    UNLOCK(page_lock[me]);                  //@ frame.c:domain_alloc_frames 2 spin_unlock(&d->page_lock)
    if :: !ok -> in_heap = true :: else fi
}

inline allocate()
{
    atomic { ok = in_heap; in_heap = false };       //@ heap.c:alloc_claimed_frames 1 spin_lock(&heap_lock)
    if
    :: ok ->                                        //@ heap.c:alloc_claimed_frames 2 spin_unlock(&heap_lock)
        if
        :: give(false, false)
        :: give(true, false)
        :: give(false, true);
            if :: ok -> give_back() :: else fi
        fi
    :: else
    fi
}

/* --- Out of a domain's hands --- */

inline withdraw()
{
#ifdef WITHDRAW_IN_TWO_STEPS
    ok = refs == UNUSED(me);
    if :: ok -> refs = WITHDRAWN(me) :: else fi;
#else
    w = UNUSED(me);
    CMPXCHG(refs, w, WITHDRAWN(me));        //@ frame.c:domain_withdraw_frame 1 try_cmpxchg(&frame_refs[m.v],&w,withdrawn_word(d))
#endif
    if :: ok -> d_step { holders[me]--; assert(!holders[1] && !holders[2] && !withdrawn); withdrawn = me } :: else fi
}

inline give_back()
{
    LOCK(page_lock[me]);                    //@ frame.c:domain_return_frames 1 spin_lock(&d->page_lock)
#ifdef RETURN_TO_THE_DEAD
    ok = true;
#else
    ok = !dying[me];
#endif
    if
    :: ok ->
        d_step {
            assert(refs == WITHDRAWN(me));
            withdrawn = 0;
            holders[me]++;
            refs = UNUSED(me)               //@ frame.c:domain_return_frames 2 write_once(frame_refs[m.v+i],unused_word(d,true))
        }
    :: else
    fi;
    UNLOCK(page_lock[me]);                  //@ frame.c:domain_return_frames 3 spin_unlock(&d->page_lock)
    if :: !ok -> free_withdrawn() :: else fi
}

inline free_withdrawn()
{
    d_step { assert(refs == WITHDRAWN(me) && withdrawn == me); withdrawn = 0 };
    final_put()
}

inline exchange()
{
    withdraw();
    if
    :: ok ->
        if
        :: true -> free_withdrawn()
        :: true -> give_back()
        fi
    :: else
    fi
}

/* What allocation holds; need: COUNTED for a guest's own word. */
inline release(need)
{
    w = refs;                               //@ frame.c:release 1 read_once(frame_refs[m.v])
    do
    :: OWNER(w) != me || !(w & ALLOCATED) || (w & (need)) != (need) || !COUNT(w) -> ok = false; break
    :: else ->
        CMPXCHG(refs, w, w & ~ALLOCATED);   //@ frame.c:release 2 try_cmpxchg(&frame_refs[m.v],&w,w&~FR_ALLOCATED)
        if :: ok -> break :: else fi
    od;
    if
    :: ok ->
        if
        :: !(w & COUNTED) -> assert(TCOUNT(types)); types--     //@ frame.c:release 3 atomic_dec(&frame_types[m.v])
        :: else
        fi;
        frame_drop()
    :: else
    fi
}

/* --- Tables, under pt_lock: one reference, the pin's --- */

inline pin()
{
    LOCK(pt_lock[me]);
    frame_take();
    if
    :: ok ->
        if
        :: dying[me] -> ok = false
        :: else ->
            t = types;
            ok = false;
            if :: !TCOUNT(t) -> CMPXCHG(types, t, TABLE | 1) :: else fi
        fi;
        if :: ok -> assert(!shared) :: else -> frame_drop() fi
    :: else
    fi;
    UNLOCK(pt_lock[me])
}

inline unpin_locked()
{
    t = types;
    if
    :: t & TABLE && TCOUNT(t) -> types = TABLE; frame_drop()
    :: else
    fi
}

inline unpin()
{
    LOCK(pt_lock[me]);
    frame_take();
    if :: ok -> unpin_locked(); frame_drop() :: else fi;
    UNLOCK(pt_lock[me])
}

/* Another vCPU of a domain's, which knows the frame by its number alone. */
proctype other(byte me)
{
    int w, t;
    bool ok, last;

    if
    :: true ->
        LOCK(pt_lock[me]);
        own_level();
        if :: ok -> assert(OWNER(refs) == me && types & TABLE && TCOUNT(types)) :: else fi;
        UNLOCK(pt_lock[me])
    :: true -> pin()
    fi;
    busy--
}

proctype cpu(byte me)
{
    int w, t;
    bool ok, last;
    byte left = OPS;

    do
    :: left ->
        left--;
        if
        :: true -> allocate()
        :: true -> exchange()
        :: true -> frame_take(); if :: ok -> assert(OWNER(refs) == me); frame_drop() :: else fi
        :: true -> pin()
        :: true -> unpin()
        :: true -> release(COUNTED)
        fi
    :: else -> break
    od;
    busy--
}

#ifdef DEATH
/* domain_kill() and pt_relinquish(); the frame that the hypervisor shares goes last, with the domain's parts. */
proctype kill(byte me)
{
    int w, t;
    bool ok, last;

    LOCK(page_lock[me]);
    dying[me] = true;
    UNLOCK(page_lock[me]);
    LOCK(pt_lock[me]);
    w = refs;                               //@ frame.c:frame_owner_id 1 read_once(frame_refs[m.v])
    if
    :: OWNER(w) == me -> frame_take()
    :: else -> ok = false
    fi;
    if
    :: ok ->
        unpin_locked();
        release(COUNTED);
        frame_drop()
    :: else
    fi;
    UNLOCK(pt_lock[me]);
    !busy;                                  /* no references are left */
    if :: shared && OWNER(refs) == me -> release(0) :: else fi;
    assert(OWNER(refs) != me && withdrawn != me)
}
#endif

init
{
    atomic {
        if
        :: refs = UNUSED(2) + 1; types = TABLE | 1; holders[2] = 2
        :: refs = UNUSED(1); holders[1] = 1
        :: refs = UNUSED(1) + 1; types = TABLE | 1; holders[1] = 2
        :: in_heap = true
        fi;
        run other(1);
        run cpu(1);
        run cpu(2);
#ifdef DEATH
        run kill(1)
#endif
    }
}
