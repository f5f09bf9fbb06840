/*
 * Handles: a grantee's record of its mappings, while its vCPUs map, and unmap the same handle at once in parts or whole, with any handle
 * and any address that a guest may name (common/grant/map.c, maptrack.c, grant.h); and the end of the grantee.
 *
 * Two handles, two places for a page-table entry, one granted frame, mapped by MAPS operations of one CPU, with a host part, a device
 * part or both; UNMAPPERS CPUs with OPS unmaps each. Mapping over an entry drops what that held, as a guest's own store does. Pins and
 * references are counted, no more: grant_pin.pml and the models of frames have what they are.
 *
 * Holds: each part is let go exactly once, and only when no translation that it stands for can be left; a handle goes to the free list
 * once, and with it the reference to the granter's table; nothing is lost: when the grantee has ended, no pin, reference or handle is left.
 *
 * The parts of a map are published without the table's lock, its other words before them; x86 keeps the order of stores, and of loads,
 * so a store buffer only delays all of it. Mapping and unmapping exclude each other by the page-table lock; a search (SEARCH) does not.
 */
//! fast -DMAPS=1 -DUNMAPPERS=2 -DOPS=1
//! fast -DMAPS=2 -DUNMAPPERS=1 -DOPS=1 -DSEARCH
//! all -DMAPS=2 -DUNMAPPERS=2 -DOPS=1
//! mutation NO_CLAIM -DMAPS=1 -DUNMAPPERS=2 -DOPS=1
//! mutation NO_FLUSH -DMAPS=1 -DUNMAPPERS=1 -DOPS=1
//! mutation FREED_WITH_CLAIMS -DMAPS=1 -DUNMAPPERS=2 -DOPS=1
//! mutation PINS_FIRST -DMAPS=1 -DUNMAPPERS=0 -DOPS=1
//! mutation PARTS_FIRST -DMAPS=1 -DUNMAPPERS=0 -DOPS=1 -DSEARCH
#include "steps.h"

#define HOST   1
#define DEVICE 2
#define NR(parts) (((parts) & 1) + ((parts) >> 1))

typedef map { bool granter, free; byte parts, unmapping }
map m[2];
bool lock, pt_lock;
bool pte[2], tlb[2];            /* what entries say, and what CPUs may still know of them */
byte pins, refs, nr_refs = 1, nr_mapped, busy;

inline free_handle(h) { d_step { assert(!m[h].free); m[h].free = true; m[h].parts = 0; m[h].granter = false } }

inline let_go(nr)
{
    d_step {
        assert(refs >= nr && pins >= nr);
        refs = refs - nr;
        assert(tlb[0] + tlb[1] <= refs)
    };
    pins = pins - nr
}

inline table_put() { d_step { assert(nr_refs > 1); nr_refs-- } }

/* One operation of a batch, with the page-table lock. */
inline map_one()
{
    if :: at = 0 :: at = 1 fi;
    if :: parts = HOST :: parts = DEVICE :: parts = HOST | DEVICE fi;
    pins = pins + NR(parts);
    refs = refs + NR(parts);
    if
    :: parts & HOST -> d_step { if :: pte[at] -> refs-- :: else fi; pte[at] = true; tlb[at] = true }
    :: else
    fi;
#ifdef PARTS_FIRST
    m[h].parts = parts;
#endif
    nr_refs++;                      //@ grant.h:map_publish 1 atomic_inc(&as->granter->nr_refs)
    m[h].granter = true;            //@ grant.h:map_publish 2 smp_wmb()
    m[h].parts = parts              //@ grant.h:map_publish 3 write_once(m->parts,as->parts)
}

proctype mapper()
{
    byte h, at, parts, left = MAPS;
    bool got;

    do
    :: left ->
        left--;
        LOCK(lock);                 //@ maptrack.c:maps_take 1 spin_lock(&t->lock)
        got = true;
        if
        :: m[0].free -> h = 0; m[0].free = false; nr_mapped++
        :: !m[0].free && m[1].free -> h = 1; m[1].free = false; nr_mapped++
        :: else -> got = false
        fi;
        UNLOCK(lock);               //@ maptrack.c:maps_take 2 spin_unlock(&t->lock)
        if
        :: got ->
            LOCK(pt_lock);          //@ pt/grant.c:pv_grant_begin 1 pt_lock(d)
            if
            :: map_one(); got = false
            :: skip                 /* refused */
            fi;
            UNLOCK(pt_lock);        //@ pt/grant.c:pv_grant_end 1 pt_unlock(current->domain)
            if
            :: got ->
                LOCK(lock);         //@ maptrack.c:maps_give_back 1 spin_lock(&t->lock)
                nr_mapped--;
                free_handle(h);
                UNLOCK(lock)        //@ maptrack.c:maps_give_back 2 spin_unlock(&t->lock)
            :: else
            fi
        :: else
        fi
    :: else -> break
    od;
    busy--
}

/* copy: which of the wanted parts are there. */
inline map_find(wanted)
{
    parts = m[h].parts;             //@ grant.h:map_find 1 read_once(m->parts)
    if
    :: !parts || m[h].unmapping == 255 -> ok = false
    :: else ->
        assert(m[h].granter && !m[h].free);     //@ grant.h:map_find 2 smp_rmb()
        parts = parts & (wanted);
        ok = true
    fi
}

inline map_claim()
{
#ifndef NO_CLAIM
    m[h].parts = m[h].parts & ~parts;           //@ grant.h:map_claim 1 write_once(m->parts,m->parts&(u8)~parts)
#endif
    m[h].unmapping++
}

inline map_settle()
{
    d_step { assert(m[h].unmapping); m[h].unmapping-- };
#ifdef NO_CLAIM
    m[h].parts = m[h].parts & ~parts;
#endif
#ifdef FREED_WITH_CLAIMS
    last = !m[h].parts;
#else
    last = !m[h].parts && !m[h].unmapping;
#endif
    if :: last -> free_handle(h); nr_mapped-- :: else fi
}

inline unmap_begin()
{
    map_find(wanted);
    if
    :: ok && parts & HOST && pte[at] -> pte[at] = false
    :: ok && parts & HOST && !pte[at] -> ok = false
    :: else
    fi;
    if :: ok -> map_claim() :: else fi
}

proctype unmapper()
{
    byte h, at, wanted, parts, left = OPS;
    bool ok, last;

    do
    :: left ->
        left--;
        if :: h = 0 :: h = 1 fi;
        if :: at = 0 :: at = 1 fi;
        if :: wanted = 0 :: wanted = HOST :: wanted = DEVICE :: wanted = HOST | DEVICE fi;
        LOCK(pt_lock);
        LOCK(lock);                 //@ map.c:unmap_all 1 spin_lock(&t->lock)
        unmap_begin();
        UNLOCK(lock);               //@ map.c:unmap_all 2 spin_unlock(&t->lock)
        UNLOCK(pt_lock);
        if
        :: ok ->
#ifndef NO_FLUSH
            if
            :: parts & HOST -> d_step { tlb[0] = pte[0]; tlb[1] = pte[1] }      //@ pt/grant.c:pv_grant_flush 1 flush_tlb_mask(&d->arch.dirty_cpus)
            :: else
            fi;
#endif
            let_go(NR(parts));
            LOCK(lock);             //@ map.c:unmap_finish 1 spin_lock(&t->lock)
            map_settle();
            UNLOCK(lock);           //@ map.c:unmap_finish 2 spin_unlock(&t->lock)
            if :: last -> table_put() :: else fi
        :: else
        fi
    :: else -> break
    od;
    busy--
}

#ifdef SEARCH
/* cache_flush looks at all handles for one that names the frame. */
proctype searcher()
{
    byte h;

    if :: h = 0 :: h = 1 fi;
    LOCK(lock);                     //@ maptrack.c:chunk_maps 1 spin_lock(&t->lock)
    if
    :: m[h].parts -> assert(m[h].granter)       //@ maptrack.c:chunk_maps 2 read_once(map[i].parts)
    :: else
    fi;
    UNLOCK(lock)                    //@ maptrack.c:chunk_maps 3 spin_unlock(&t->lock)
}
#endif

/* The page tables, and then gnttab_release_mappings(). */
proctype end_of_grantee()
{
    byte h, parts;
    bool ok, last;

    !busy;
#ifndef PINS_FIRST
    d_step { refs = refs - pte[0] - pte[1]; pte[0] = false; pte[1] = false };
#endif
    do
    :: h < 2 ->
        LOCK(lock);                 //@ maptrack.c:release 1 spin_lock(&t->lock)
        map_find(HOST | DEVICE);
        if :: ok -> map_claim() :: else fi;
        UNLOCK(lock);               //@ maptrack.c:release 2 spin_unlock(&t->lock)
        if
        :: ok ->
            /* A host mapping's reference went with its page-table entry. */
            d_step {
                if :: parts & DEVICE -> assert(refs); refs-- :: else fi;
                assert(pins >= NR(parts) && !pte[0] && !pte[1]);    /* the granter may take it that it is written no more */
                pins = pins - NR(parts)
            };
            LOCK(lock);             //@ maptrack.c:release 3 spin_lock(&t->lock)
            map_settle();
            UNLOCK(lock);           //@ maptrack.c:release 4 spin_unlock(&t->lock)
            if :: last -> table_put() :: else fi
        :: else
        fi;
        h++
    :: else -> break
    od;
    assert(!nr_mapped && !pins && nr_refs == 1 && m[0].free && m[1].free && !refs)
}

init
{
    byte i;

    atomic {
        m[0].free = true;
        m[1].free = true;
        busy = UNMAPPERS + 1;
        run mapper();
#ifdef SEARCH
        run searcher();
#endif
        do
        :: i < UNMAPPERS -> run unmapper(); i++
        :: else -> break
        od;
        run end_of_grantee()
    }
}
