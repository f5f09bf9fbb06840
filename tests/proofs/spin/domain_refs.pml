/*
 * The end of a domain: references that are found by number while the last ones go, frames that others hold longer than anybody holds the
 * domain, and the tasklet that takes it apart (common/domain/lookup.c, create.c).
 *
 * One domain that has been killed: its creation's reference is about to go. GETTERS CPUs look it up by number, use it, and put it.
 * FRAMES frames of it, which others hold, have their last references dropped by CPUs of their own. The tasklet runs on one CPU, as often as
 * it is queued.
 *
 * Holds: the parts are there as long as anybody has a handle by domain_get(); the structure as long as anybody has any reference, holds one of
 * its frames, or the tasklet is queued; both go once, and they do go.
 *
 * The flag that the tasklet is queued is cleared by a plain store; what runs then begins with a lock's locked instruction, which is what
 * keeps a store buffer from mattering.
 */
//! fast -DGETTERS=1 -DFRAMES=1
//! fast -DGETTERS=2 -DFRAMES=0
//! all -DGETTERS=2 -DFRAMES=1
//! all -DGETTERS=1 -DFRAMES=2
//! mutation PUT_IN_TWO_STEPS -DGETTERS=1 -DFRAMES=1
//! mutation FOUND_WHEN_HIDDEN -DGETTERS=1 -DFRAMES=1
//! mutation QUEUED_NOT_ASKED -DGETTERS=1 -DFRAMES=1
//! mutation FRAMES_NOT_ASKED -DGETTERS=0 -DFRAMES=1
//! mutation COUNTED_OUT_FIRST -DGETTERS=0 -DFRAMES=1
#include "steps.h"

byte refs = 1, frames = FRAMES, handles, queue;
bool hash_lock, page_lock, unseen, queued, found = true, parts = true, gone;

inline schedule()
{
    atomic { ok = queued; queued = true };
    if :: !ok -> queue++ :: else fi
}

inline domain_put()
{
    assert(!gone);
    r = refs;                       //@ domain/lookup.c:domain_put 1 read_once(d->refs)
    ok = false;
    do
    :: r > 1 && !ok ->
        CMPXCHG(refs, r, r - 1)     //@ domain/lookup.c:domain_put 2 try_cmpxchg(&d->refs,&refs,refs-1)
    :: else -> break
    od;
    if
    :: !ok ->
#ifdef PUT_IN_TWO_STEPS
        atomic { refs--; ok = !refs };
        if :: ok -> assert(!gone); schedule() :: else fi
#else
        LOCK(hash_lock);            //@ domain/lookup.c:domain_put 3 spin_lock_irqsave(&hash_lock)
        atomic { assert(!gone && refs); refs--; ok = !refs };       //@ domain/lookup.c:domain_put 4 atomic_dec_and_test(&d->refs)
        if :: ok -> assert(!gone); schedule() :: else fi;
        UNLOCK(hash_lock)           //@ domain/lookup.c:domain_put 5 spin_unlock_irqrestore(&hash_lock,flags)
#endif
    :: else
    fi
}

proctype getter()
{
    byte r;
    bool ok;

    LOCK(hash_lock);                //@ domain/lookup.c:domain_get 1 spin_lock_irqsave(&hash_lock)
#ifdef FOUND_WHEN_HIDDEN
    ok = found;
#else
    ok = found && !unseen && refs;
#endif
    if
    :: ok -> assert(!gone); refs++; handles++       //@ domain/lookup.c:ref_if_visible 1 atomic_inc(&d->refs)
    :: else
    fi;
    UNLOCK(hash_lock);              //@ domain/lookup.c:domain_get 2 spin_unlock_irqrestore(&hash_lock,flags)
    if
    :: ok ->
        assert(parts && !gone);
        atomic { assert(parts && !gone); handles-- };
        domain_put()
    :: else
    fi
}

/* frame_final_put(). */
proctype frame()
{
    byte r;
    bool ok;

    LOCK(hash_lock);                //@ domain/lookup.c:domain_get_owner 1 spin_lock_irqsave(&hash_lock)
    assert(found && !gone);
#ifdef COUNTED_OUT_FIRST
    UNLOCK(hash_lock);
    LOCK(page_lock);
    frames--;
    UNLOCK(page_lock);
    LOCK(hash_lock);
    assert(found && !gone);
    refs++;
    UNLOCK(hash_lock);
#else
    refs++;                         //@ domain/lookup.c:domain_get_owner 2 atomic_inc(&d->refs)
    UNLOCK(hash_lock);              //@ domain/lookup.c:domain_get_owner 3 spin_unlock_irqrestore(&hash_lock,flags)
    LOCK(page_lock);
    assert(!gone);
    frames--;
    UNLOCK(page_lock);
#endif
    domain_put()
}

proctype creation()
{
    byte r;
    bool ok;

    domain_put()
}

/* domain_destroy(). */
active proctype tasklet()
{
    bool ok;
    byte left;

end:
    do
    :: atomic { queue -> queue-- };
        assert(!gone);
        queued = false;
        LOCK(hash_lock);            //@ domain/lookup.c:domain_hide 1 spin_lock_irqsave(&hash_lock)
        if :: !refs -> unseen = true :: else fi;
        UNLOCK(hash_lock);          //@ domain/lookup.c:domain_hide 2 spin_unlock_irqrestore(&hash_lock,flags)
        if
        :: unseen ->
            if :: parts -> assert(!handles); parts = false :: else fi;
            LOCK(page_lock);        //@ domain/create.c:domain_destroy 1 spin_lock(&d->page_lock)
            left = frames;
            UNLOCK(page_lock);      //@ domain/create.c:domain_destroy 2 spin_unlock(&d->page_lock)
#ifdef FRAMES_NOT_ASKED
            left = 0;
#endif
            if
            :: !left ->
                LOCK(hash_lock);    //@ domain/lookup.c:domain_unpublish 2 spin_lock_irqsave(&hash_lock)
#ifdef QUEUED_NOT_ASKED
                ok = !refs;
#else
                ok = !refs && !queued;
#endif
                if :: ok -> assert(found); found = false :: else fi;
                UNLOCK(hash_lock);  //@ domain/lookup.c:domain_unpublish 3 spin_unlock_irqrestore(&hash_lock,flags)
                if :: ok -> assert(!gone); gone = true :: else fi
            :: else
            fi
        :: else
        fi
    od
}

init
{
    byte i;

    atomic {
        run creation();
        do
        :: i < GETTERS -> run getter(); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < FRAMES -> run frame(); i++
        :: else -> break
        od
    };
    timeout;
    assert(gone && !parts && !refs && !frames)
}
