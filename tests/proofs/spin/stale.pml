/*
 * Stale translations: a frame changes from writable to page table and back, while CPUs keep in their TLBs what entries have said
 * (arch/x86/mm/stale.c, flush.c; arch/x86/pt/frame.c, table.c, mirror.c; note_stale() in asm/domain.h; arch/x86/pv/switch.c).
 *
 * One frame of one domain; an entry that maps it writable, one that names it as a table (or its mirror, of which each life as a table has
 * a new one). CPUS CPUs run the domain, or leave it and come back; each does OPS operations: map, unmap, promote, demote, switch. WRITERS
 * CPUs of others take a writable reference without the domain's lock, write and drop it, or flush for another frame's sake. The TLB of a CPU that has loaded the domain's
 * tables takes what it likes of what entries say at any time.
 *
 * Holds: while the frame is trusted as a table no TLB maps it writable; while somebody may write to it no TLB walks through it; a mirror is
 * freed when no TLB walks through it; nobody waits for ever.
 *
 * Store buffers matter here and are modelled: entries, the stamp, a type that is written plainly and the lock's release are plain
 * stores, which others see later, in their order. Atomic operations, loading CR3 and the barrier before dirty_cpus is read wait until the
 * buffer is empty. That a CPU asked to flush does so before the one who asks goes on is a step here; call.pml has how.
 */
//! fast -DCPUS=2 -DOPS=1 -DWRITERS=1
//! fast -DCPUS=1 -DOPS=3 -DWRITERS=1
//! all -DCPUS=2 -DOPS=2 -DWRITERS=1
//! mutation NO_FLUSH -DCPUS=2 -DOPS=1 -DWRITERS=0
//! mutation NO_STAMP -DCPUS=2 -DOPS=1 -DWRITERS=0
//! mutation STAMP_AFTER_TYPE -DCPUS=1 -DOPS=1 -DWRITERS=1
//! mutation STAMP_READ_LATE -DCPUS=1 -DOPS=2 -DWRITERS=1
//! mutation CR3_BEFORE_DIRTY -DCPUS=2 -DOPS=2 -DWRITERS=0
//! mutation VALID_BEFORE_FLUSH -DCPUS=1 -DOPS=2 -DWRITERS=1
//! mutation DEAD_TAKEN_AFTER_FLUSH -DCPUS=1 -DOPS=2 -DWRITERS=1
#include "steps.h"

#define VALID  64
#define TABLE  32
#define WRITABLE 16
#define COUNT(w) ((w) & 15)
#define KIND(w)  ((w) & (TABLE | WRITABLE))

byte leaf, node;                /* entries: maps the frame writable; the number of the mirror */
byte types, stale, flushed, dead;
bool pt_lock;
bool dirty[CPUS], loaded[CPUS], tlb_leaf[CPUS];
byte tlb_node[CPUS];
bool trusted;
byte writing, lives;

/* --- Store buffers: of the domain's CPUs; others' plain stores are none that matter --- */
mtype = { LEAF, NODE, STALE, TYPES, RELEASE };
chan buffer[CPUS + 1] = [6] of { mtype, byte };     /* the last stays empty */
#define FENCE(c) (len(buffer[c]) == 0)

#if CPUS == 1
#define NO_TLB_LEAF    (!tlb_leaf[0])
#define NO_TLB_NODE(n) (tlb_node[0] != (n))
#define NO_TLB_NODES   (!tlb_node[0])
#else
#define NO_TLB_LEAF    (!tlb_leaf[0] && !tlb_leaf[1])
#define NO_TLB_NODE(n) (tlb_node[0] != (n) && tlb_node[1] != (n))
#define NO_TLB_NODES   (!tlb_node[0] && !tlb_node[1])
#endif

proctype hardware(byte c)
{
    mtype what;
    byte value;

end:
    do
    :: atomic { loaded[c] && leaf && !tlb_leaf[c] -> tlb_leaf[c] = true; assert(!trusted) }
    :: atomic { loaded[c] && node && tlb_node[c] != node -> tlb_node[c] = node; assert(!writing) }
    :: atomic {
            buffer[c]?what, value ->
            if
            :: what == LEAF -> leaf = value
            :: what == NODE -> node = value
            :: what == STALE -> stale = value
            :: what == TYPES -> types = value
            :: what == RELEASE -> pt_lock = false
            fi;
            what = LEAF; value = 0
        }
    od
}

/* A CPU sees its own stamp before others do. */
inline note_stale()
{
    d_step {
        if :: !stamped || len(buffer[c]) == 0 -> stamp = stale :: else fi;
        stamp++;
        stamped = true;
        buffer[c]!STALE, stamp
    }
}

inline fence() { atomic { FENCE(c) -> stamped = false } }

/* try_cmpxchg(), by one of the domain's CPUs. */
inline cmpxchg_types(to)
{
    atomic {
        FENCE(c) -> stamped = false;
        if :: types == t -> types = to; ok = true :: else -> t = types; ok = false fi
    }
}

/* --- arch/x86/mm/stale.c, flush.c; fenced: by a CPU whose buffer is empty --- */

inline flush_tlb_mask()
{
    k = 0;
    do
    :: k < CPUS ->
        if
        :: dirty[k] -> d_step { tlb_leaf[k] = false; tlb_node[k] = 0 }      //@ flush.c:flush_on 2 cpumask_test(m,this_cpu_id())
        :: else                                                         //@ flush.c:flush_on 3 smp_call(m,fn,data)
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

inline domain_flush_stale()
{
#ifndef NO_FLUSH
    now = stale;                    //@ stale.c:domain_flush_stale 1 read_once(d->arch.stale)
    done = flushed;                 //@ stale.c:domain_flush_stale 2 read_once(d->arch.flushed)
    if
    :: done < now ->
#ifdef DEAD_TAKEN_AFTER_FLUSH
        flush_tlb_mask();           //@ flush.c:flush_on 1 smp_mb()
        d_step { taken = dead; dead = 0 };
#else
        d_step { taken = dead; dead = 0 };
        flush_tlb_mask();           //@ stale.c:domain_flush_stale 3 flush_tlb_mask(&d->arch.dirty_cpus)
#endif
        atomic { assert(!taken || NO_TLB_NODE(taken)); taken = 0 };
#ifdef STAMP_READ_LATE
        now = stale; done = flushed;
#endif
        do
        :: done < now ->
            atomic { if :: flushed == done -> flushed = now; break :: else -> done = flushed fi }   //@ stale.c:domain_flush_stale 4 try_cmpxchg(&d->arch.flushed,&done,now)
        :: else -> break
        od
    :: else
    fi;
    atomic { now = 0; done = 0 }
#endif
    skip
}

/* --- Operations, under pt_lock --- */

inline lock() { atomic { FENCE(c) && !pt_lock -> pt_lock = true; stamped = false } }    //@ pt/grant.c:pv_grant_begin 1 pt_lock(d)
inline unlock() { buffer[c]!RELEASE, 0 }

/* Of a CPU of the domain's; the frame is taken by compare-and-exchange, and its state is settled. */
inline get_writable()
{
    t = types;                      //@ frame.c:type_get_writable 1 read_once(frame_types[m.v])
    do
    :: KIND(t) == WRITABLE && !(t & VALID) -> types != t; t = types     //@ frame.c:type_get_writable 3 read_once(frame_types[m.v])
    :: KIND(t) == WRITABLE && t & VALID ->
        cmpxchg_types(t + 1);       //@ frame_ref.h:frame_take_writable 2 try_cmpxchg(&frame_types[m.v],&w,w+1)
        if :: ok -> break :: else fi
    :: KIND(t) != WRITABLE && COUNT(t) -> ok = false; break
    :: KIND(t) != WRITABLE && !COUNT(t) ->
#ifdef VALID_BEFORE_FLUSH
        cmpxchg_types(WRITABLE | VALID | 1);
        if :: ok -> domain_flush_stale(); ok = true; break :: else fi
#else
        cmpxchg_types(WRITABLE | 1);    //@ frame.c:type_get_writable 4 type_try_change(m,&w,n)
        if
        :: ok ->
            domain_flush_stale();       //@ frame.c:type_get_writable 5 domain_flush_stale((structdomain*)owner)
            types = types | VALID;      //@ frame.c:type_get_writable 6 atomic_or(&frame_types[m.v],FW_VALID)
            break
        :: else
        fi
#endif
    od;
    if :: ok -> atomic { assert(!trusted && NO_TLB_NODES); writing++ } :: else fi;
    t = 0
}

inline map()
{
    lock();
    if
    :: !leaf ->
        get_writable();
        if :: ok -> buffer[c]!LEAF, 1 :: else fi        //@ pt/internal.h:store_8 2 write_once(*p,e)
    :: else
    fi;
    unlock()
}

inline unmap()
{
    lock();
    if
    :: leaf ->
        buffer[c]!LEAF, 0;
#ifndef NO_STAMP
        note_stale();               //@ pt/internal.h:put_leaf 1 note_stale(&d->arch)
#endif
        writing--;
        atomic { FENCE(c) -> stamped = false; types-- }         //@ frame_ref.h:frame_drop_type 1 atomic_add_return(&frame_types[m.v],~0u)
    :: else
    fi;
    unlock()
}

inline promote()
{
    lock();
    t = types;                      //@ table.c:get_held_table 1 read_once(frame_types[m.v])
    if
    :: !COUNT(t) ->
        cmpxchg_types(TABLE | 1);   //@ table.c:get_held_table 5 type_try_change(m,&w,FW_TYPE(type)|hv|1)
        if
        :: ok ->
            domain_flush_stale();   //@ table.c:get_held_table 6 domain_flush_stale(d)
            d_step { assert(!writing && NO_TLB_LEAF); trusted = true; lives++ };
            types = types | VALID;  //@ table.c:promote 1 atomic_or(&frame_types[m.v],FW_VALID)
            buffer[c]!NODE, lives
        :: else
        fi
    :: else
    fi;
    t = 0;
    unlock()
}

/* The table's only entry goes, and with it the table and its mirror. */
inline demote()
{
    lock();
    if
    :: node ->
        buffer[c]!NODE, 0;
#if !defined(NO_STAMP) && !defined(STAMP_AFTER_TYPE)
        note_stale();               //@ table.c:demote_entries 1 note_stale(&d->arch)
#endif
        fence();                    /* an entry's reference is dropped */
        atomic { FENCE(c); assert(!dead); dead = lives };       //@ mirror.c:mirror_free 3 try_cmpxchg(&d->arch.mirror_dead,&head,link)
#if !defined(NO_STAMP) && !defined(STAMP_AFTER_TYPE)
        note_stale();               //@ mirror.c:mirror_free 4 note_stale(&d->arch)
        note_stale();               //@ table.c:retire 1 note_stale(&d->arch)
#endif
        trusted = false;
        buffer[c]!TYPES, TABLE;     //@ table.c:retire 2 type_change(m,FW_TYPE(FT_L1+level-1))
#ifdef STAMP_AFTER_TYPE
        note_stale()
#else
        skip
#endif
    :: else
    fi;
    unlock()
}

/* pv/switch.c: the CPU runs another domain's vCPU, or this one's again. */
inline switch()
{
    if
    :: loaded[c] ->
        atomic { FENCE(c) -> loaded[c] = false; tlb_leaf[c] = false; tlb_node[c] = 0 };
        dirty[c] = false            //@ pv/switch.c:reschedule 1 cpumask_clear(&prev->domain->arch.dirty_cpus,this_cpu_id())
    :: else ->
#ifdef CR3_BEFORE_DIRTY
        loaded[c] = true;
        dirty[c] = true
#else
        fence();
        dirty[c] = true;            //@ pv/switch.c:load_first_cr3 1 cpumask_set(&next->domain->arch.dirty_cpus,this_cpu_id())
        loaded[c] = true
#endif
    fi
}

proctype cpu(byte c)
{
    byte t, stamp, now, done, taken, k, left = OPS;
    bool ok, stamped;

    do
    :: left ->
        left--;
        if
        :: true -> map()
        :: true -> unmap()
        :: true -> promote()
        :: true -> demote()
        :: true -> switch()
        fi
    :: else -> break
    od
}

/* Another domain's CPU, whose plain stores are none of these. */
proctype writer()
{
    byte c = CPUS, t, now, done, taken, k;
    bool ok, stamped;

    if
    :: true ->
        get_writable();
        if
        :: ok ->
            writing--;
            types--
        :: else
        fi
    :: true -> domain_flush_stale()         /* for another frame of the domain's */
    fi
}

init
{
    byte i;

    atomic {
        /* What operations leave behind; the first CPU runs the domain, the second may. */
        if
        :: skip
        :: types = WRITABLE | VALID | 1; leaf = 1; writing = 1
        :: types = TABLE | VALID | 1; node = 1; lives = 1; trusted = true
        fi;
        if :: stale = 1 :: skip fi;         /* another frame's */
        dirty[0] = true;
        loaded[0] = true;
#if CPUS > 1
        if :: dirty[1] = true; loaded[1] = true :: skip fi;
#endif
        do
        :: i < CPUS -> run cpu(i); run hardware(i); i++
        :: else -> break
        od;
#if WRITERS
        run writer()
#endif
    }
}
