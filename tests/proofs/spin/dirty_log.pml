/*
 * The log of what is written: how writes are noted while a domain's memory is copied to elsewhere (arch/x86/pt/dirty.c, mirror.c;
 * common/control/dirty_log.c, whose reports call these).
 *
 * A word of the log with the bits of two pages, and one twin that maps the first. CPUS CPUs of the domain make OPS steps each: they write the
 * page, which faults until their TLB permits it, or have the entry stored anew. OTHERS write one of the pages once by a reference of theirs, as
 * a grant's holder does. The sender makes ROUNDS reports that take the word (CLEAN), and copies the pages that it had; one more report once
 * all of them have stopped.
 * Somebody else looks at the log (PEEK).
 *
 * Holds: what was sent at last is what there is.
 *
 * The sender's store to the twin may wait in its CPU's buffer until the barrier of the flush; the other CPUs' stores to twins are seen in the
 * order of their stores, so before the lock's release. Marks are locked instructions: a write that came before is seen before. That each CPU
 * has flushed when the flush returns is a step here, and that an interrupt empties its buffer; call.pml has how.
 */
//! fast -DCPUS=1 -DOPS=3 -DOTHERS=1 -DROUNDS=2
//! fast -DCPUS=2 -DOPS=1 -DOTHERS=1 -DROUNDS=1
//! all -DCPUS=2 -DOPS=2 -DOTHERS=1 -DROUNDS=2
//! all -DCPUS=3 -DOPS=1 -DOTHERS=1 -DROUNDS=1
//! mutation MARK_BEFORE_WRITE -DCPUS=1 -DOPS=1 -DOTHERS=1 -DROUNDS=1
//! mutation TWIN_WITHOUT_LOG -DCPUS=1 -DOPS=2 -DOTHERS=0 -DROUNDS=2
//! mutation WITHOUT_NOTE -DCPUS=1 -DOPS=2 -DOTHERS=0 -DROUNDS=2
//! mutation TAKEN_IN_TWO_STEPS -DCPUS=1 -DOPS=1 -DOTHERS=1 -DROUNDS=2
//! mutation TAKEN_LAST -DCPUS=1 -DOPS=1 -DOTHERS=0 -DROUNDS=1
//! mutation WITHOUT_LOCK -DCPUS=2 -DOPS=2 -DOTHERS=0 -DROUNDS=1
//! mutation NO_FLUSH -DCPUS=1 -DOPS=2 -DOTHERS=0 -DROUNDS=1
//! mutation FLUSH_WITHOUT_BARRIER -DCPUS=1 -DOPS=2 -DOTHERS=0 -DROUNDS=1
//! mutation COPIED_BEFORE_FLUSH -DCPUS=1 -DOPS=2 -DOTHERS=0 -DROUNDS=1
#include "steps.h"

#define PAGE      1
#define NEIGHBOUR 2

byte word = PAGE | NEIGHBOUR;   /* the first copy has everything */
bool twin, tlb[CPUS];           /* it permits writes */
bool noted;                     /* its table's mirror, as one that a report has to look at */
bool taking_back;               /* the sender's store to the twin, in its buffer */
bool pt_lock;
byte unsent = PAGE | NEIGHBOUR; /* written since they were copied */
byte busy = CPUS + OTHERS;

proctype hardware()
{
end:
    do
    :: atomic { twin && !tlb[0] -> tlb[0] = true }
#if CPUS > 1
    :: atomic { twin && !tlb[1] -> tlb[1] = true }
#endif
#if CPUS > 2
    :: atomic { twin && !tlb[2] -> tlb[2] = true }
#endif
    :: atomic { taking_back -> taking_back = false; twin = false }
    od
}

inline mark(page) { word = word | page }        //@ pt/internal.h:log_mark 1 atomic_or(w,1UL<<pfn%64u)

/* leaf_twin(): an entry that says dirty, so the log decides. */
inline store_twin()
{
#ifdef TWIN_WITHOUT_LOG
    permits = true;
#else
    permits = word & PAGE;                      //@ pt/dirty.c:dirty_log_has 1 read_once(*w)
#endif
#ifndef WITHOUT_NOTE
    noted = noted || permits;                   //@ mirror.c:note_permits 1 write_once(frame_notes[block],it_does)
#endif
    twin = permits                              //@ mirror.c:mirror_twins 1 write_once(((u64*)block)[idx],level==1?leaf_twin(d,m,e):e&PTE_P?(e&(PTE_MFN_MASK|PTE_P|PTE_US|PTE_NX))|PTE_A:0)
}

proctype cpu(byte c)
{
    byte left = OPS;
    bool permits;

    do
    :: left && tlb[c] ->
        left--;
        if
        :: atomic { tlb[c] -> unsent = unsent | PAGE }   /* the write; else the flush came first, and it faults */
        :: atomic { !tlb[c] -> left++ }
        fi
    :: left && !tlb[c] ->
        LOCK(pt_lock);                          //@ mirror.c:mirror_fault 1 pt_lock(d)
        mark(PAGE);
        if
        :: store_twin()
        :: twin = true;                         //@ mirror.c:permit_write 1 write_once(((u64*)block_at(block))[idx],e)
           noted = true
        fi;
        UNLOCK(pt_lock);                        //@ mirror.c:mirror_fault 2 pt_unlock(d)
        if :: tlb[c] :: !twin fi                /* it writes, or faults once more */
    :: left ->
        left--;
        LOCK(pt_lock);
        store_twin();
        UNLOCK(pt_lock)
    :: !left -> break
    od;
    busy--
}

proctype other()
{
    byte page;

    if :: page = PAGE :: page = NEIGHBOUR fi;
#ifdef MARK_BEFORE_WRITE
    mark(page);
    unsent = unsent | page;
#else
    unsent = unsent | page;
    mark(page);
#endif
    busy--
}

inline take()
{
    taken = word;                               //@ pt/dirty.c:dirty_log_take 1 read_once(*w)
    if
    :: taken ->
#ifdef TAKEN_IN_TWO_STEPS
        taken = word;
        word = 0
#else
        d_step { taken = word; word = 0 }       //@ pt/dirty.c:dirty_log_take 2 fetch_and(w,~mask)
#endif
    :: else
    fi
}

inline flush()
{
#ifndef FLUSH_WITHOUT_BARRIER
    !taking_back;
#endif
    k = 0;
    do
    :: k < CPUS -> tlb[k] = false; k++          //@ pt/dirty.c:withdraw_all 2 flush_tlb_mask(&d->arch.dirty_cpus)
    :: else -> k = 0; break
    od
}

inline withdraw()
{
#ifndef WITHOUT_LOCK
    LOCK(pt_lock);                              //@ pt/dirty.c:withdraw_all 1 pt_lock(d)
#endif
    if
    :: noted ->                                 //@ mirror.c:next_noted 1 read_once(frame_notes[row[i]])
        noted = false;                          /* mirror_take_leaves() */
        if
        :: twin ->                              //@ pt/dirty.c:withdraw 1 read_once(twins[i])
            taking_back = true                  //@ pt/dirty.c:withdraw 2 write_once(twins[i],e&~PTE_RW)
        :: else
        fi
    :: else
    fi;
#ifdef COPIED_BEFORE_FLUSH
    copy();
#endif
#ifndef NO_FLUSH
    flush();
#endif
#ifndef WITHOUT_LOCK
    !taking_back;                               /* the release is in the buffer behind it */
    UNLOCK(pt_lock)                             //@ pt/dirty.c:withdraw_all 3 pt_unlock(d)
#endif
}

inline copy() { unsent = unsent & ~taken }

inline report()
{
#ifdef TAKEN_LAST
    withdraw();
    take();
#else
    take();
    withdraw();
#endif
#ifndef COPIED_BEFORE_FLUSH
    copy()
#endif
}

proctype sender()
{
    byte left = ROUNDS, k, taken;

    do
    :: left -> left--; report()
    :: else -> break
    od;
    !busy;
    report();
    assert(!unsent)
}

proctype looker()
{
    byte seen;

    seen = word                                 //@ pt/dirty.c:dirty_log_take 3 read_once(*w)
}

init
{
    atomic {
        run hardware();
        run cpu(0);
#if CPUS > 1
        run cpu(1);
#endif
#if CPUS > 2
        run cpu(2);
#endif
#if OTHERS
        run other();
#endif
        run looker();
        run sender()
    }
}
