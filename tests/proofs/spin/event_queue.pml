/*
 * The queues of FIFO delivery: how ports are put on them by several CPUs, move from one to another, and are taken off by the guest
 * (common/event/fifo.c has the picture).
 *
 * Two ports, two queues of different vCPUs. SENDS events for either port, from CPUs of their own, each of which finds the port bound to either
 * queue; with MASKS one of the guest's vCPUs masks the first port and unmasks it again. Each queue is emptied by its vCPU, as
 * Linux does it: head, LINKED and LINK away in one step, then a look at PENDING and MASKED.
 *
 * Holds: when nothing runs any more the guest has seen each event of a port that is not masked; nothing is put on a queue twice at a time;
 * queues are changed under their lock alone.
 *
 * Not bounded here: how often the queue of a port may change while its lock is taken (8 times in the code, then the event is lost), and how
 * often a guest may change the word of a tail (8 times too): so often a guest must mean it, and these events are its own.
 */
//! fast -DSENDS=2
//! fast -DSENDS=1 -DMASKS
//! all -DSENDS=3
//! all -DSENDS=2 -DMASKS
//! mutation NO_LOCK -DSENDS=3
//! mutation TAIL_NOT_FORGOTTEN -DSENDS=3
//! mutation LINK_BLINDLY -DSENDS=2
//! mutation NO_SECOND_LOOK_AT_QUEUE -DSENDS=3
//! mutation READY_BEFORE_HEAD -DSENDS=2
#include "steps.h"
#ifdef NO_LOCK
#undef LOCK
#undef UNLOCK
#define LOCK(l)   skip
#define UNLOCK(l) skip
#endif

#define PENDING 1
#define MASKED  2
#define LINKED  4
#define BUSY    8
#define LINK(w) ((w) >> 4)

byte word[3];                   /* of ports 1 and 2 */
byte last_queue[3], tail[2], head[2], sent[3], seen[3];
bool ready[2], lock[2], on_its_way[3];
byte busy;

/* --- The hypervisor --- */

/* linked: port is behind the tail; else the queue was empty. */
inline set_link(at)
{
    w = word[at];                   //@ fifo.c:set_link 1 read_shared_again(*tail_word)
    tries = 0;
    do
    :: !(w & LINKED) ->
        if :: tries -> word[at] = word[at] & ~BUSY :: else fi;      //@ fifo.c:set_link 2 atomic_and(tail_word,~BUSY)
        ok = false;
        break
    :: else ->
#ifdef LINK_BLINDLY
        word[at] = (w & 7) | port << 4; ok = true;
#else
        CMPXCHG(word[at], w, (w & 7) | port << 4);      //@ fifo.c:set_link 3 try_cmpxchg(tail_word,&w,(w&~(BUSY|EVTCHN_FIFO_LINK_MASK))|port)
#endif
        if
        :: ok -> break
        :: !ok && !tries -> atomic { word[at] = word[at] | BUSY; w = word[at] }; tries = 1      //@ fifo.c:set_link 4 __atomic_or_fetch(tail_word,BUSY,__ATOMIC_SEQ_CST)
        :: else
        fi
    od
}

inline append()
{
    old_tail = tail[to];
    tail[to] = port;
    ok = false;
    if :: old_tail -> set_link(old_tail) :: else fi;    //@ fifo.c:append 1 event_word(d,tail)
    was_empty = !ok;
#ifdef READY_BEFORE_HEAD
    if :: was_empty -> ready[to] = true :: else fi;
#endif
    if
    :: was_empty -> head[to] = port //@ fifo.c:append 2 write_shared(f->cb->head[priority],port)
    :: else
    fi
}

inline lock_last_queue()
{
    do
    :: true ->
        from = last_queue[port];    //@ fifo.c:lock_last_queue 1 read_once(chn->last_queue)
        LOCK(lock[from]);           //@ fifo.c:lock_last_queue 2 spin_lock_irqsave(&f->lock)
#ifdef NO_SECOND_LOOK_AT_QUEUE
        break
#else
        if
        :: from == last_queue[port] -> break        //@ fifo.c:lock_last_queue 3 read_once(chn->last_queue)
        :: else -> UNLOCK(lock[from])               //@ fifo.c:lock_last_queue 4 spin_unlock_irqrestore(&f->lock,*flags)
        fi
#endif
    od
}

inline link_event()
{
    if :: to = 0 :: to = 1 fi;      //@ fifo.c:link_event 1 read_once(chn->priority)
    lock_last_queue();
    atomic { ok = !(word[port] & LINKED); word[port] = word[port] | LINKED };       //@ fifo.c:link_event 3 test_and_set_bit(EVTCHN_FIFO_LINKED,shared_raw(word))
    if
    :: !ok -> UNLOCK(lock[from])    //@ fifo.c:link_event 4 spin_unlock_irqrestore(&f->lock,flags)
    :: else ->
        d_step { assert(!on_its_way[port]); on_its_way[port] = true };
#ifndef TAIL_NOT_FORGOTTEN
        if :: tail[from] == port -> tail[from] = 0 :: else fi;
#endif
        last_queue[port] = to;      //@ fifo.c:link_event 5 write_once(chn->last_queue,FIFO_QUEUE(v->id,priority))
        if
        :: from != to ->
            UNLOCK(lock[from]);     //@ fifo.c:link_event 6 spin_unlock_irqrestore(&f->lock,flags)
            LOCK(lock[to])          //@ fifo.c:link_event 7 spin_lock_irqsave(&to->lock)
        :: else
        fi;
        append();
        on_its_way[port] = false;
        UNLOCK(lock[to]);           //@ fifo.c:link_event 8 spin_unlock_irqrestore(&to->lock,flags)
#ifdef READY_BEFORE_HEAD
        was_empty = false;
#endif
        if
        :: was_empty -> ready[to] = true        //@ fifo.c:link_event 9 test_and_set_bit(priority,shared_raw(&to->cb->ready))
        :: else
        fi
    fi
}

inline fifo_set_pending()
{
    atomic { w = word[port]; word[port] = w | PENDING };        //@ fifo.c:fifo_set_pending 5 __atomic_fetch_or(word,PENDING,__ATOMIC_SEQ_CST)
    if
    :: !(w & (MASKED | LINKED)) -> link_event()
    :: else
    fi
}

proctype sender(byte port)
{
    byte w, to, from, old_tail, tries;
    bool ok, was_empty;

    sent[port]++;
    fifo_set_pending();
    busy--
}

/* --- The guest --- */

#ifdef MASKS
proctype masker(byte port)
{
    byte w, to, from, old_tail, tries;
    bool ok, was_empty;

    word[port] = word[port] | MASKED;
    atomic { word[port] = word[port] & ~MASKED; w = word[port] };
    if
    :: w & PENDING ->
        word[port] = word[port] & ~MASKED;      //@ fifo.c:unmask 2 clear_bit(EVTCHN_FIFO_MASKED,shared_raw(word))
        w = word[port];             //@ fifo.c:unmask 3 test_bit(EVTCHN_FIFO_PENDING,shared_raw(word))
        if :: w & PENDING -> fifo_set_pending() :: else fi
    :: else
    fi;
    busy--
}
#endif

proctype consumer(byte q)
{
    byte port, next, w;

end:
    do
    :: atomic { ready[q] -> ready[q] = false };
        do
        :: true ->
            if :: next -> port = next :: else -> port = head[q] fi;
            atomic { w = word[port]; word[port] = w & 3; next = LINK(w) };
            w = word[port];
            if
            :: (w & (PENDING | MASKED)) == PENDING ->
                atomic { word[port] = word[port] & ~PENDING; seen[port] = sent[port] }
            :: else
            fi;
            /* Nothing behind it, and nothing new. */
            if
            :: !next && !ready[q] -> break
            :: next
            :: atomic { !next && ready[q] -> ready[q] = false }
            fi
        od;
        port = 0; w = 0
    od
}

init
{
    byte i;

    atomic {
        run consumer(0);
        run consumer(1);
        do
        :: i < SENDS ->
            if :: run sender(1) :: run sender(2) fi;
            busy++;
            i++
        :: else -> break
        od;
#ifdef MASKS
        run masker(1);
        busy++
#endif
    };
    timeout;
    assert(!busy && !ready[0] && !ready[1] && seen[1] == sent[1] && seen[2] == sent[2])
}
