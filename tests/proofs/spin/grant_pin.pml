/*
 * Pins: how the uses of one grant are counted, while its guest withdraws it, gives it anew and changes the table's version, and at the
 * granter's end (common/grant/pin.h, version.c, table.c).
 *
 * The guest's words (the entry, and in version 2 the status beside it) are changed by both sides without a common lock. The guest
 * keeps to the public protocol: in version 1 it withdraws by a compare-and-exchange that fails while the entry says that it is in use, in
 * version 2 it clears the flags, then a full barrier, then looks at the status. Of what a guest loses that does not keep to it, nothing is
 * claimed here: nothing is decided by its words.
 *
 * USERS CPUs of other domains, each with OPS uses, as a mapping (which holds a reference to the granter's table) or as a copy (which holds
 * one to the domain); the first is of domain 1, the second of 1 or 2. One CPU of the granter's, with STEPS steps: give for reading or
 * writing, withdraw, change the version. At last the granter is destroyed, as soon as nobody holds the domain, with mappings still there.
 * With RESERVED the entry is one of the first eight, which a change of version keeps, uses and all.
 *
 * Holds: once the guest has found its grant not in use nobody uses it, and nobody begins to before it is given anew; nobody writes to what
 * was given for reading; two domains never use it at once; marks in the guest's words tell all uses while there are any, and none
 * when all have ended; counts never go below 0; no word of the guest's is touched after its frame was given back, and nothing of the
 * table after that was freed; it is freed at last.
 *
 * Each store here is one that a locked instruction follows before anything depends on it (the lock's own, or atomic_or() on the
 * status), so store buffers would add nothing but delay. The guest's clearing of flags has its barrier with it.
 */
//! fast -DUSERS=2 -DOPS=1 -DSTEPS=3
//! fast -DUSERS=2 -DOPS=1 -DSTEPS=2 -DRESERVED
//! all -DUSERS=2 -DOPS=2 -DSTEPS=3
//! mutation LOOK_THEN_MARK -DUSERS=1 -DOPS=1 -DSTEPS=3
//! mutation NO_SECOND_LOOK -DUSERS=1 -DOPS=1 -DSTEPS=3
//! mutation VERSION_WITHOUT_LOCK -DUSERS=1 -DOPS=1 -DSTEPS=3
//! mutation FRAMES_BEFORE_ENTRIES -DUSERS=1 -DOPS=1 -DSTEPS=1
//! mutation MAP_HOLDS_NO_TABLE -DUSERS=1 -DOPS=1 -DSTEPS=1
#include "steps.h"

/* The entry: to whom, and how. In version 2 READING and WRITING are in the status. */
#define READING  1
#define WRITING  2
#define READONLY 4
#define PERMIT   8
#define TO(dom)  ((dom) << 4)
#define LOOKED_AT(readonly) (TO(3) | PERMIT | (readonly -> 0 : READONLY))
#define USES (readers + writers)

byte entry, status;
byte version = 1;
bool there = true;              /* v1 or v2 of the grant's frame is not NULL */
bool frame_gone, table_gone;
bool lock;
byte readers, writers, active_dom;
byte nr_refs = 1, dom_refs, busy = USERS + 1;

/* What is really going on: uses between a pin and its unpin, and what the guest relies on. */
byte reading, writing, using_dom;
bool guests_own = true, given_rw;
bool changing;                  /* the guest changes the version: its words say nothing meanwhile, as it knows */

inline touch() { assert(there && !frame_gone && !table_gone) }

inline begin_use(readonly, dom)
{
    d_step {
        assert(!guests_own && (readonly || given_rw) && (!(reading + writing) || using_dom == dom));
        using_dom = dom;
        if :: readonly -> reading++ :: else -> writing++ fi
    }
}

inline end_use(readonly)
{
    d_step {
        assert(!guests_own);
        assert(changing || version == 2 || !there || (entry & READING && (!writing || entry & WRITING)));
        assert(changing || version == 1 || !there || (status & READING && (!writing || status & WRITING)));
        if :: readonly -> reading-- :: else -> writing-- fi
    }
}

/* --- Pins --- */

inline refuse_use() { ok = false }

inline mark_in_use_v1()
{
    tries = 0;
    d_step { touch(); w = entry };          //@ pin.h:mark_in_use 1 read_shared(*word)
    do
    :: (w & LOOKED_AT(readonly)) == (TO(dom) | PERMIT) && tries < 2 ->
        tries++;
#ifdef LOOK_THEN_MARK
        entry = w | READING | (readonly -> 0 : WRITING); ok = true;
#else
        touch();
        CMPXCHG(entry, w, w | READING | (readonly -> 0 : WRITING));     //@ pin.h:mark_in_use 2 try_cmpxchg(word,&w,w|terms.in_use)
#endif
        if :: ok -> break :: else fi
    :: else -> refuse_use(); break
    od
}

inline mark_in_use_v2()
{
    d_step { touch(); w = entry };          //@ version.c:mark_in_use_v2 1 read_shared(*word)
    if
    :: (w & LOOKED_AT(readonly)) == (TO(dom) | PERMIT) ->
        touch();
        status = status | READING | (readonly -> 0 : WRITING);      //@ version.c:mark_in_use_v2 2 atomic_or(status_of(t,pin.ref),(u16)terms.in_use)
#ifndef NO_SECOND_LOOK
        d_step { touch(); w = entry }       //@ version.c:mark_in_use_v2 3 read_shared_again(*word)
#endif
    :: else
    fi;
    ok = (w & LOOKED_AT(readonly)) == (TO(dom) | PERMIT)
}

inline unmark_v2(flags)
{
    if
    :: there ->
        touch();
        status = status & ~(flags)          //@ version.c:unmark_v2 1 atomic_and(status_of(t,ref),(u16)~flags)
    :: else
    fi
}

inline count_uses()
{
    d_step {
        assert(!table_gone);
        if :: !USES -> active_dom = dom :: else fi;
        if :: readonly -> readers++ :: else -> writers++ fi
    }
}

inline pin()
{
    LOCK(lock);                             //@ pin.h:grant_pin 1 spin_lock(&granter->lock)
    assert(!table_gone);
    ok = there && !(USES && active_dom != dom);
    if
    :: ok && version == 1 ->
        if
        :: (readonly -> !USES : !writers) -> mark_in_use_v1()
        :: else
        fi;
        if
        :: ok ->
            count_uses();                   //@ pin.h:pin_locked 1 read_shared(entry->frame)
            begin_use(readonly, dom)
        :: else
        fi
    :: ok && version == 2 ->
        mark_in_use_v2();
        if
        :: ok ->
            count_uses();                   //@ version.c:pin_v2 1 read_shared(entry->full_page.frame)
            begin_use(readonly, dom)
        :: else ->
            unmark_v2((READING | WRITING) & ~((USES -> READING : 0) | (writers -> WRITING : 0)));
            ok = false
        fi
    :: else
    fi;
    UNLOCK(lock)                            //@ pin.h:grant_pin 2 spin_unlock(&granter->lock)
}

inline unpin()
{
    end_use(readonly);
    LOCK(lock);                             //@ pin.h:grant_unpin 1 spin_lock(&granter->lock)
    d_step {
        assert(!table_gone && (readonly -> readers : writers));
        if :: readonly -> readers-- :: else -> writers-- fi;
        over = (!readonly && !writers -> WRITING : 0) | (!USES -> READING : 0)
    };
    if
    :: over && version == 1 && there ->
        touch();
        entry = entry & ~over               //@ pin.h:grant_unpin 2 atomic_and(&entry->flags,(u16)~over)
    :: over && !(version == 1 && there) ->
        if :: version == 2 -> unmark_v2(over) :: else fi
    :: else
    fi;
    UNLOCK(lock)                            //@ pin.h:grant_unpin 3 spin_unlock(&granter->lock)
}

inline table_put()
{
    d_step { assert(!table_gone && nr_refs); nr_refs--; last = !nr_refs };      //@ grant.h:grant_table_put 1 atomic_dec_and_test(&t->nr_refs)
    if :: last -> table_gone = true :: else fi
}

proctype user(byte dom)
{
    byte w, over, tries, left = OPS;
    bool ok, readonly, maps, last;

    do
    :: left ->
        left--;
        d_step { dom_refs++ };              /* peer_get(): the domain is there, for it waits for us to have begun */
        if :: readonly = false :: readonly = true fi;
        pin();
        if
        :: ok ->
            if
            :: maps = true;
#ifndef MAP_HOLDS_NO_TABLE
                nr_refs++;                  //@ grant.h:map_publish 1 atomic_inc(&as->granter->nr_refs)
#endif
                if :: !left -> dom_refs--; busy-- :: else -> dom_refs-- fi
            :: maps = false
            fi;
            unpin();
            if
            :: maps ->
#ifndef MAP_HOLDS_NO_TABLE
                table_put()
#else
                skip
#endif
            :: else -> dom_refs--
            fi
        :: else -> maps = false; dom_refs--
        fi
    :: else -> break
    od;
    if :: !maps -> busy-- :: else fi
}

/* --- The granter --- */

inline give()
{
    if
    :: guests_own ->
        d_step {
            guests_own = false;
            if :: given_rw = true :: given_rw = false fi
        };
        entry = TO(1) | PERMIT | (given_rw -> 0 : READONLY)
    :: else
    fi
}

/* Marks that are left over from a use that failed may come and go, so it may have to be tried again. */
inline withdraw()
{
    if
    :: version == 1 ->
        w = entry;
        if
        :: !(w & (READING | WRITING)) ->
            atomic { if :: entry == w -> entry = 0; ok = true :: else -> ok = false fi }
        :: else -> ok = false
        fi
    :: else ->
        entry = 0;                          /* and a full barrier */
        w = status;
        ok = !(w & (READING | WRITING))
    fi;
    if :: ok -> d_step { assert(!reading && !writing); guests_own = true } :: else fi
}

inline set_version()
{
#ifndef VERSION_WITHOUT_LOCK
    LOCK(lock);                             //@ version.c:grant_set_version 1 spin_lock(&t->lock)
#endif
#ifdef RESERVED
    changing = true;
    w = entry;                              //@ version.c:keep_entry 1 read_shared(*(constu64guest_shared*)entry_v1(t,ref))
    version = 3 - version;                  //@ version.c:keep_entry 2 read_shared(*(constu32guest_shared*)entry)
    entry = 0;                              //@ version.c:keep_entry 3 read_shared(entry->full_page.frame)
    status = 0;
    d_step {
        over = (USES -> READING : 0) | (writers -> WRITING : 0);
        w = w & ~(READING | WRITING)
    };
    if
    :: version == 2 ->
        status = over;                      //@ version.c:restore_entry 2 write_shared(*status_of(t,ref),uses)
        entry = w                           //@ version.c:restore_entry 3 write_shared(*(u32guest_shared*)entry,kept.flags|(u32)kept.domid<<16)
    :: else -> entry = w | over             //@ version.c:restore_entry 4 write_shared(*(u64guest_shared*)entry_v1(t,ref),word)
    fi;
    changing = false;
    UNLOCK(lock)                            //@ version.c:grant_set_version 2 spin_unlock(&t->lock)
#else
    if
    :: USES
    :: else ->
        version = 3 - version;
        entry = 0;
        status = 0;
        d_step { assert(!reading && !writing); guests_own = true }
    fi;
#ifndef VERSION_WITHOUT_LOCK
    UNLOCK(lock)
#endif
#endif
}

proctype granter()
{
    byte w, over, left = STEPS;
    bool ok, last;

    do
    :: left ->
        left--;
        if
        :: true -> give()
        :: true -> withdraw()
        :: true -> set_version()
        fi
    :: else -> break
    od;
    busy--;
    /* No references are left: gnttab_domain_destroy(). Mappings may be there still. */
    atomic { !busy && !dom_refs };
#ifdef FRAMES_BEFORE_ENTRIES
    frame_gone = true;
#endif
    LOCK(lock);                             //@ table.c:gnttab_domain_destroy 1 spin_lock(&t->lock)
    assert(!USES || nr_refs > 1);
    if
    :: !USES -> assert(version == 2 || !(entry & (READING | WRITING))); assert(version == 1 || !status)
    :: else
    fi;
    there = false;
    UNLOCK(lock);                           //@ table.c:gnttab_domain_destroy 2 spin_unlock(&t->lock)
    frame_gone = true;
    table_put();
    table_gone;                             /* freed at last */
    assert(!USES && !reading && !writing)
}

init
{
    atomic {
        run user(1);
#if USERS > 1
        if :: run user(1) :: run user(2) fi;
#endif
#if USERS > 2
        run user(1);
#endif
        run granter()
    }
}
