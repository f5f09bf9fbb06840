/*
 * Channels that are closed and reset while they are used, and the end of a domain (common/event/channel.c, port.c, virq.c, fifo.c).
 *
 * Domains 1 and 2; port A of 1 is offered to 2 or connected to port B of 2; port V of 1 is a virtual interrupt's. VCPUS1 vCPUs of 1
 * and VCPUS2 of 2 do OPS operations each: send, unmask, close, bind anew, and, by domain 1, a reset, which frees the FIFO state, and
 * its making. An interrupt sends to V. With DEATH domain 2 is taken apart meanwhile, and its channels' memory goes with its last reference.
 *
 * Holds: FIFO state is in use by nobody when it is freed, and nobody uses it later; a port that somebody delivers to has not been freed;
 * nobody touches a domain's channels once their memory is gone; both ends of a connection agree whenever neither domain's lock is held; the
 * count of open ports is right; nobody waits for ever.
 *
 * Locks stand for all accesses: no store buffer can show what a lock hides. What is read without (the format, a state before a close)
 * is asked again under one, or is harmless. A pirq's binding (PORT_CHANGING) is counted as open all the time and is not here.
 */
//! fast -DVCPUS1=1 -DVCPUS2=1 -DOPS=1
//! fast -DVCPUS1=1 -DVCPUS2=1 -DOPS=1 -DDEATH
//! all -DVCPUS1=2 -DVCPUS2=1 -DOPS=1
//! all -DVCPUS1=1 -DVCPUS2=2 -DOPS=1
//! all -DVCPUS1=1 -DVCPUS2=1 -DOPS=2 -DDEATH
//! mutation FREED_BEFORE_FAR -DVCPUS1=1 -DVCPUS2=1 -DOPS=1
//! mutation SEND_WITHOUT_LOCK -DVCPUS1=1 -DVCPUS2=1 -DOPS=1
//! mutation UNMASK_UNASKED -DVCPUS1=2 -DVCPUS2=0 -DOPS=1
//! mutation RESET_UNCOUNTED -DVCPUS1=2 -DVCPUS2=0 -DOPS=1
//! mutation VIRQ_AFTER_PORT -DVCPUS1=1 -DVCPUS2=0 -DOPS=1
//! mutation LOCKS_UNORDERED -DVCPUS1=1 -DVCPUS2=1 -DOPS=1
//! mutation NOT_ASKED_AGAIN -DVCPUS1=1 -DVCPUS2=1 -DOPS=1
#include "steps.h"

#define FREE    0
#define UNBOUND 1
#define INTER   2
#define VIRQ    3
#define OPEN(p) (state[p] != FREE)
/* Ports, and whose they are. */
#define A 0
#define B 1
#define V 2
#define DOM(p) ((p) == B -> 2 : 1)
#define FAR(p) (1 - (p))

byte state[3], nr_active[3], refs[3], users[3];
bool port_lock[3], lock[3], fifo[3], dying[3], gone[3];
bool virq_lock, virq_port;

inline whole(d) { assert(!gone[d]) }

/* What the format keeps: with FIFO, words and queues. */
inline touch(d)
{
    atomic { is_fifo = fifo[d]; if :: is_fifo -> users[d]++ :: else fi };   //@ event.h:evtchn_deliver 2 evtchn_format(d)
    if :: is_fifo -> assert(fifo[d] && !gone[d]); users[d]-- :: else fi
}

inline deliver(p) { assert(OPEN(p) && !gone[DOM(p)]); touch(DOM(p)) }

inline fifo_destroy(d) { atomic { assert(!users[d] && !nr_active[d]); fifo[d] = false } }      //@ fifo.c:fifo_destroy 1 write_once(ed->format,&evtchn_two_level)

inline set_state(p, to)
{
    LOCK(port_lock[p]);             //@ port.c:evtchn_set_state 1 spin_lock(&chn->lock)
    state[p] = to;                  //@ port.c:evtchn_set_state 2 write_once(chn->state,state)
    UNLOCK(port_lock[p])            //@ port.c:evtchn_set_state 3 spin_unlock(&chn->lock)
}

inline port_free(p)
{
    set_state(p, FREE);
    touch(DOM(p));                  //@ fifo.c:clear_pending 3 atomic_and(word,~PENDING)
    nr_active[DOM(p)]--
}

/* With the lock of p's domain. */
inline port_take(p)
{
    ok = !dying[DOM(p)] && !OPEN(p);
    if
    :: ok ->
        touch(DOM(p));              /* is_busy() */
        nr_active[DOM(p)]++
    :: else
    fi
}

inline lock_two()
{
#ifdef LOCKS_UNORDERED
    LOCK(lock[me]);
    LOCK(lock[3 - me])
#else
    LOCK(lock[1]);                  //@ port.c:evtchn_lock_two 1 spin_lock(&first->evtchn->lock)
    LOCK(lock[2])                   //@ port.c:evtchn_lock_two 2 spin_lock_second(&(first==d?e:d)->evtchn->lock)
#endif
}

inline unlock_two()
{
    atomic { assert((state[A] == INTER) == (state[B] == INTER) && nr_active[1] == OPEN(A) + OPEN(V) && nr_active[2] == OPEN(B)); lock[1] = false };     //@ port.c:evtchn_unlock_two 1 spin_unlock(&d->evtchn->lock)
    UNLOCK(lock[2])                 //@ port.c:evtchn_unlock_two 2 spin_unlock(&e->evtchn->lock)
}

inline bind_interdomain()
{
    lock_two();                     //@ channel.c:evtchn_bind_interdomain 1 evtchn_lock_two(d,rd)
    ok = state[A] == UNBOUND && !dying[1];
    if :: ok -> port_take(B) :: else fi;
    if
    :: ok ->
        set_state(B, INTER);
        set_state(A, INTER);
        deliver(B)
    :: else
    fi;
    unlock_two()                    //@ channel.c:evtchn_bind_interdomain 2 evtchn_unlock_two(d,rd)
}

inline alloc_unbound()
{
    LOCK(lock[1]);                  //@ channel.c:evtchn_alloc_unbound 1 spin_lock(&d->evtchn->lock)
    port_take(A);
    if :: ok -> set_state(A, UNBOUND) :: else fi;
    UNLOCK(lock[1])                 //@ channel.c:evtchn_alloc_unbound 2 spin_unlock(&d->evtchn->lock)
}

inline bind_virq()
{
    LOCK(lock[1]);                  //@ virq.c:evtchn_bind_virq 1 spin_lock(&d->evtchn->lock)
    ok = !virq_port;
    if :: ok -> port_take(V) :: else fi;
    if
    :: ok ->
        set_state(V, VIRQ);
        virq_port = true            //@ virq.c:evtchn_bind_virq 3 write_once(v->virq_port[virq],chn->port)
    :: else
    fi;
    UNLOCK(lock[1])                 //@ virq.c:evtchn_bind_virq 4 spin_unlock(&d->evtchn->lock)
}

inline unbind_virq()
{
    LOCK(virq_lock);                //@ virq.c:evtchn_unbind_virq 1 spin_lock_irqsave(&v->virq_lock)
    virq_port = false;              //@ virq.c:evtchn_unbind_virq 2 write_once(v->virq_port[chn->u.virq],0)
    UNLOCK(virq_lock)               //@ virq.c:evtchn_unbind_virq 3 spin_unlock_irqrestore(&v->virq_lock,flags)
}

inline close_locked(p)
{
    if
    :: state[p] == FREE
    :: state[p] == UNBOUND -> port_free(p)
    :: state[p] == VIRQ ->
#ifdef VIRQ_AFTER_PORT
        port_free(p);
        unbind_virq()
#else
        unbind_virq();
        port_free(p)
#endif
    :: state[p] == INTER ->
        assert(lock[1] && lock[2]);
#ifdef FREED_BEFORE_FAR
        port_free(p);
        set_state(FAR(p), UNBOUND)
#else
        set_state(FAR(p), UNBOUND);
        port_free(p)
#endif
    fi
}

/* far: the other domain is locked too, and referenced. */
inline close_port(p)
{
    do
    :: true ->
        LOCK(lock[DOM(p)]);         //@ channel.c:far_domain 1 spin_lock(&d->evtchn->lock)
        far = state[p] == INTER;
        if :: far -> refs[3 - DOM(p)]++ :: else fi;
        UNLOCK(lock[DOM(p)]);       //@ channel.c:far_domain 2 spin_unlock(&d->evtchn->lock)
        if :: far -> lock_two() :: else -> LOCK(lock[DOM(p)]) fi;       //@ channel.c:close_port 1 evtchn_lock_two(d,rd?rd:d)
#ifdef NOT_ASKED_AGAIN
        ok = true;
#else
        ok = far == (state[p] == INTER);
#endif
        if :: ok -> close_locked(p) :: else fi;
        if
        :: far -> unlock_two(); refs[3 - DOM(p)]--      //@ channel.c:close_port 2 evtchn_unlock_two(d,rd?rd:d)
        :: else -> UNLOCK(lock[DOM(p)])
        fi;
        if :: ok -> break :: else fi
    od;
    far = false
}

inline send(p)
{
#ifdef SEND_WITHOUT_LOCK
    if :: state[p] == INTER -> deliver(FAR(p)) :: else fi
#else
    LOCK(port_lock[p]);             //@ channel.c:evtchn_send 1 spin_lock(&chn->lock)
    if
    :: state[p] == INTER -> deliver(FAR(p)); UNLOCK(port_lock[p])       //@ channel.c:evtchn_send 3 spin_unlock(&chn->lock)
    :: else -> UNLOCK(port_lock[p])     //@ channel.c:evtchn_send 2 spin_unlock(&chn->lock)
    fi
#endif
}

inline unmask(p)
{
    LOCK(port_lock[p]);             //@ channel.c:evtchn_unmask 1 spin_lock(&chn->lock)
#ifdef UNMASK_UNASKED
    touch(DOM(p));
#else
    if
    :: OPEN(p) ->                   //@ channel.c:evtchn_unmask 3 evtchn_is_open(chn)
        touch(DOM(p))               //@ channel.c:evtchn_unmask 4 evtchn_format(d)
    :: else
    fi;
#endif
    UNLOCK(port_lock[p])            //@ channel.c:evtchn_unmask 5 spin_unlock(&chn->lock)
}

inline reset()
{
    LOCK(lock[1]);                  //@ channel.c:evtchn_reset_round 1 spin_lock(&ed->lock)
    skip;
    UNLOCK(lock[1]);                //@ channel.c:evtchn_reset_round 2 spin_unlock(&ed->lock)
    if :: OPEN(A) -> close_port(A) :: else fi;      //@ channel.c:evtchn_close_from 2 evtchn_is_open(chn)
    if :: OPEN(V) -> close_port(V) :: else fi;
    LOCK(lock[1]);                  //@ channel.c:evtchn_reset_round 3 spin_lock(&ed->lock)
#ifdef RESET_UNCOUNTED
    fifo[1] = false;
#else
    if :: !nr_active[1] -> fifo_destroy(1) :: else fi;
#endif
    UNLOCK(lock[1])                 //@ channel.c:evtchn_reset_round 4 spin_unlock(&ed->lock)
}

inline init_control()
{
    LOCK(lock[1]);                  //@ fifo.c:fifo_init_control 1 spin_lock(&d->evtchn->lock)
    fifo[1] = true;                 //@ fifo.c:switch_to_fifo 4 write_once(ed->format,&evtchn_fifo)
    UNLOCK(lock[1])                 //@ fifo.c:fifo_init_control 3 spin_unlock(&d->evtchn->lock)
}

proctype vcpu1()
{
    byte me = 1, left = OPS;
    bool ok, far, is_fifo;

    do
    :: left ->
        left--;
        if
        :: true -> send(A)
        :: true -> unmask(A)
        :: true -> unmask(V)
        :: true -> close_port(A)
        :: true -> reset()
        :: true -> alloc_unbound()
        :: true -> bind_virq()
        :: true -> init_control()
        fi
    :: else -> break
    od
}

proctype vcpu2()
{
    byte me = 2, left = OPS;
    bool ok, far, is_fifo;

    do
    :: left ->
        left--;
        if
        :: true -> send(B)
        :: true -> unmask(B)
        :: true -> close_port(B)
        :: true -> bind_interdomain()
        fi
    :: else -> break
    od;
    refs[2]--
}

proctype interrupt()
{
    bool is_fifo;

    LOCK(virq_lock);                //@ virq.c:send_on 1 spin_lock_irqsave(&v->virq_lock)
    if :: virq_port -> deliver(V) :: else fi;   //@ virq.c:send_on 2 read_once(v->virq_port[virq])
    UNLOCK(virq_lock)               //@ virq.c:send_on 3 spin_unlock_irqrestore(&v->virq_lock,flags)
}

#ifdef DEATH
/* evtchn_domain_destroy(), and evtchn_domain_free() when the last reference has gone. */
proctype death()
{
    byte me = 2;
    bool ok, far, is_fifo;

    LOCK(lock[2]);                  //@ port.c:evtchn_domain_destroy 1 spin_lock(&ed->lock)
    dying[2] = true;
    UNLOCK(lock[2]);                //@ port.c:evtchn_domain_destroy 2 spin_unlock(&ed->lock)
    do
    :: true ->
        if :: OPEN(B) -> close_port(B) :: else fi;
        LOCK(lock[2]);              //@ port.c:evtchn_domain_destroy 3 spin_lock(&ed->lock)
        ok = !nr_active[2];
        if
        :: ok -> fifo_destroy(2); UNLOCK(lock[2]); break        //@ port.c:evtchn_domain_destroy 5 spin_unlock(&ed->lock)
        :: else -> UNLOCK(lock[2])  //@ port.c:evtchn_domain_destroy 4 spin_unlock(&ed->lock)
        fi
    od;
    atomic { !refs[2] -> assert(!port_lock[B] && !lock[2]); gone[2] = true }
}
#endif

init
{
    byte i;

    atomic {
        fifo[1] = true;
        fifo[2] = true;
        refs[2] = VCPUS2;
        if
        :: state[A] = INTER; state[B] = INTER; nr_active[1] = 1; nr_active[2] = 1
        :: state[A] = UNBOUND; nr_active[1] = 1
        :: skip
        fi;
        if
        :: state[V] = VIRQ; virq_port = true; nr_active[1]++
        :: skip
        fi;
        do
        :: i < VCPUS1 -> run vcpu1(); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < VCPUS2 -> run vcpu2(); i++
        :: else -> break
        od;
        run interrupt();
#ifdef DEATH
        run death()
#endif
    }
}
