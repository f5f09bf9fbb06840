/*
 * Cross calls, on which all flushes rest: CPUs make each other run a function and wait for it, also while they hold a lock or wait for one
 * (arch/x86/cpu/call.c, common/spinlock.c, asm/spinlock.h).
 *
 * CPUS CPUs with OPS operations each: call all others; take a lock; take it and call all others while it is held; the last CPU may go
 * offline. Interrupts are off all the time but for a CPU that has nothing to do, so whoever waits must answer by itself: with
 * interrupts on there are only more moments at which it may.
 *
 * Holds: who has called knows that each CPU that was asked has run the function since, or is offline; it is run while the caller waits and
 * its request stands, never later; nobody waits for ever, whoever calls whom; the lock has one holder.
 *
 * All stores are locked instructions but the request itself, which the locked ones after it follow, and the lock's release, which
 * may come late and then only makes others wait.
 */
//! fast -DCPUS=2 -DOPS=2
//! all -DCPUS=3 -DOPS=1
//! mutation NO_ANSWER_WHILE_CALLING -DCPUS=2 -DOPS=1
//! mutation NO_ANSWER_WHILE_LOCKING -DCPUS=2 -DOPS=1
//! mutation ANY_BEFORE_FROM -DCPUS=2 -DOPS=1
//! mutation CLEARED_AFTER_LOOK -DCPUS=3 -DOPS=1
//! mutation NO_ANSWER_WHEN_OFFLINE -DCPUS=2 -DOPS=1
#include "steps.h"

#define BIT(c) (1 << (c))

byte from[CPUS], unanswered[CPUS], did[CPUS];
bool any[CPUS], ipi[CPUS], live[CPUS], calling[CPUS];
byte next, serving;             /* the lock's tickets */
bool held;
byte busy = CPUS;

/* The caller's function and its data are read, and then it has run. */
inline answer()
{
    d_step { assert(calling[k]); did[k] = did[k] | BIT(c) };
    d_step { assert(calling[k] && unanswered[k]); unanswered[k]-- }         //@ cpu/call.c:answer 1 atomic_dec(&r->unanswered)
}

inline smp_call_poll()
{
    if
    :: any[c] ->                    //@ cpu/call.c:smp_call_poll 1 read_once(in->any)
#ifndef CLEARED_AFTER_LOOK
        any[c] = false;             //@ cpu/call.c:smp_call_poll 2 xchg(&in->any,false)
#endif
        k = 0;
        do
        :: k < CPUS ->
            if
            :: from[c] & BIT(k) ->  //@ cpu/call.c:smp_call_poll 3 for_each_cpu(c,&in->from)
                atomic { got = (from[c] & BIT(k)) != 0; from[c] = from[c] & ~BIT(k) };         //@ cpu/call.c:smp_call_poll 4 test_and_clear_bit(c,in->from.w)
                if :: got -> answer() :: else fi
            :: else
            fi;
            k++
        :: else -> break
        od;
#ifdef CLEARED_AFTER_LOOK
        any[c] = false;
#endif
        k = 0; got = false
    :: else
    fi
}

inline ask()
{
    unanswered[c]++;                //@ cpu/call.c:ask 1 atomic_inc(&r->unanswered)
#ifdef ANY_BEFORE_FROM
    any[i] = true;
    from[i] = from[i] | BIT(c);
#else
    from[i] = from[i] | BIT(c);     //@ cpu/call.c:ask 2 cpumask_set(&in->from,self)
    any[i] = true;                  //@ cpu/call.c:ask 3 xchg(&in->any,true)
#endif
    if
    :: live[i] -> ipi[i] = true     //@ cpu/call.c:ask 4 cpumask_test(&cpu_live_map,cpu)
    :: else ->
        atomic { got = (from[i] & BIT(c)) != 0; from[i] = from[i] & ~BIT(c) };     //@ cpu/call.c:ask 5 test_and_clear_bit(self,in->from.w)
        if
        :: got -> unanswered[c]--   //@ cpu/call.c:ask 6 atomic_dec(&r->unanswered)
        :: else
        fi;
        got = false
    fi
}

inline smp_call()
{
    d_step { assert(!calling[c] && !unanswered[c]); calling[c] = true; did[c] = 0; asked = 0 };
    i = 0;
    do
    :: i < CPUS ->                  //@ cpu/call.c:smp_call 1 for_each_cpu(c,cpus)
        if
        :: i != c && live[i] -> asked = asked | BIT(i); ask()       //@ cpu/call.c:smp_call 2 cpumask_test(&cpu_live_map,c)
        :: else
        fi;
        i++
    :: else -> break
    od;
    do
    :: !unanswered[c] -> break      //@ cpu/call.c:smp_call 3 read_once(r->unanswered)
#ifndef NO_ANSWER_WHILE_CALLING
    :: unanswered[c] && any[c] -> smp_call_poll()       //@ cpu/call.c:smp_call 4 smp_call_poll()
#endif
    od;
    atomic {
        calling[c] = false;
        i = 0;
        do
        :: i < CPUS -> assert(!(asked & BIT(i)) || did[c] & BIT(i) || !live[i]); i++
        :: else -> break
        od;
        i = 0;
        asked = 0
    }
}

inline ticket_lock()
{
    d_step { mine = next; next = (next + 1) % 8 };      //@ asm/spinlock.h:ticket_lock 1 __atomic_fetch_add(&l->t.next,1,__ATOMIC_SEQ_CST)
    do
    :: serving == mine -> break     //@ asm/spinlock.h:ticket_lock 2 __atomic_load_n(&l->t.serving,__ATOMIC_ACQUIRE)
#ifndef NO_ANSWER_WHILE_LOCKING
    :: serving != mine && any[c] -> //@ common/spinlock.c:ticket_wait 1 __atomic_load_n(&l->t.serving,__ATOMIC_ACQUIRE)
        smp_call_poll()             //@ common/spinlock.c:ticket_wait 2 smp_call_poll()
#endif
    od;
    atomic { assert(!held); held = true; mine = 0 }
}

inline ticket_unlock()
{
    d_step { assert(held); held = false; serving = (serving + 1) % 8 }      //@ asm/spinlock.h:ticket_unlock 1 __atomic_store_n(&l->t.serving,(u16)(l->t.serving+1),__ATOMIC_RELEASE)
}

proctype cpu(byte c)
{
    byte i, k, asked, mine, left = OPS;
    bool got;

    do
    :: left ->
        left--;
        if
        :: true -> smp_call()
        :: true -> ticket_lock(); ticket_unlock()
        :: true -> ticket_lock(); smp_call(); ticket_unlock()
        :: c == CPUS - 1 ->
            live[c] = false;
#ifndef NO_ANSWER_WHEN_OFFLINE
            smp_call_poll();
#endif
            left = 0
        fi
    :: else -> break
    od;
    busy--;
    /* In a guest: an interrupt comes if one was sent. */
    do
    :: atomic { live[c] && ipi[c] -> ipi[c] = false }; smp_call_poll()
    :: !busy -> break
    :: !live[c] -> break
    od
}

init
{
    byte i;

    atomic {
        do
        :: i < CPUS -> live[i] = true; run cpu(i); i++
        :: else -> break
        od
    }
}
