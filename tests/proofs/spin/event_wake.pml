/*
 * A vCPU that waits for an event, by blocking or by polling a port, and those who send meanwhile (common/event/deliver.c, event.h, pending.c;
 * common/sched/core.c, sched_op.c).
 *
 * One vCPU, which does OPS times: forget some or all of what it has seen, mask or unmask upcalls, then block or poll. CALLS CPUs send an event
 * that wants an upcall, POLLED CPUs one on the port that it polls, which the guest keeps masked, so that only polling hears of it.
 *
 * Holds: a vCPU never sleeps with an upcall that is pending and open, nor polls in its sleep a port that is pending. It may wake for nothing.
 *
 * Each plain store here (the mask, that a port is polled, and that it is no more) has a locked instruction after it before the same
 * CPU looks at what others write, so a store buffer only delays it until then. What a vCPU that runs sees on its way out is not here.
 */
//! fast -DOPS=2 -DCALLS=1 -DPOLLED=2
//! mutation POLLING_BEFORE_BLOCKED -DOPS=2 -DCALLS=0 -DPOLLED=2
//! mutation LOOK_THEN_BLOCK -DOPS=1 -DCALLS=1 -DPOLLED=0
//! mutation LOOK_THEN_POLL -DOPS=1 -DCALLS=0 -DPOLLED=1
//! mutation UNBLOCKED_FIRST -DOPS=2 -DCALLS=0 -DPOLLED=2
#include "steps.h"

bool bit_call, bit_polled, pending, mask, blocked, poll_active, watched, asleep;
byte poll_port;                 /* 0: any */
#define PORT_CALL   1
#define PORT_POLLED 2

inline vcpu_event_pending()
{
    ok = pending;                   //@ event/pending.c:vcpu_event_pending 1 read_shared_again(f->pending)
    if
    :: ok -> ok = !mask             //@ event/pending.c:vcpu_event_pending 2 read_shared_again(f->mask)
    :: else
    fi
}

inline vcpu_unblock()
{
#ifdef UNBLOCKED_FIRST
    blocked = false;
    poll_active = false
#else
    poll_active = false;            //@ sched/core.c:vcpu_unblock 1 write_once(v->poll_active,false)
    blocked = false                 //@ sched/core.c:vcpu_unblock 2 __atomic_fetch_and(&v->pause_flags,~VPF_BLOCKED,__ATOMIC_SEQ_CST)
#endif
}

/* --- Senders --- */

inline wake_pollers(port)
{
    if
    :: watched ->                //@ event/event.h:evtchn_wake_pollers 1 read_once(d->event_watch)
        ok = poll_active;           //@ event/deliver.c:evtchn_wake_waiting 1 read_once(v->poll_active)
        if :: ok -> ok = poll_port == 0 || poll_port == port :: else fi;   //@ event/deliver.c:waits_for 1 read_once(v->poll_port)
        if :: ok -> atomic { ok = poll_active; poll_active = false } :: else fi;        //@ event/deliver.c:evtchn_wake_waiting 2 xchg(&v->poll_active,false)
        if :: ok -> vcpu_unblock() :: else fi
    :: else
    fi
}

proctype caller()
{
    bool ok;

    atomic { ok = bit_call; bit_call = true };
    if
    :: !ok ->
        skip;                       //@ event/event.h:evtchn_mark 1 read_once(v->info)
        atomic { ok = pending; pending = true };        //@ event/event.h:evtchn_mark 2 xchg(&f->pending,1)
        if
        :: !ok ->
            ok = blocked;           //@ event/deliver.c:evtchn_notify 1 read_once(v->pause_flags)
            if :: ok -> vcpu_event_pending() :: else fi;
            if :: ok -> vcpu_unblock() :: else fi
        :: else
        fi;
        wake_pollers(PORT_CALL)
    :: else
    fi
}

proctype sender()
{
    bool ok;

    atomic { ok = bit_polled; bit_polled = true };
    if :: !ok -> wake_pollers(PORT_POLLED) :: else fi
}

/* --- The vCPU --- */

inline block()
{
    mask = false;                   //@ sched/sched_op.c:unmask_upcalls 1 write_shared(((structvcpu_info_l64guest_shared*)v->info)->evtchn_upcall_mask,0)
#ifdef LOOK_THEN_BLOCK
    vcpu_event_pending();
    if :: !ok -> blocked = true :: else fi
#else
    blocked = true;                 //@ sched/core.c:vcpu_block 1 atomic_or(&v->pause_flags,VPF_BLOCKED)
    vcpu_event_pending();
    if
    :: ok -> blocked = false        //@ sched/core.c:vcpu_block 2 atomic_and(&v->pause_flags,~VPF_BLOCKED)
    :: else
    fi
#endif
}

inline poll()
{
    poll_port = 0;                  //@ sched/sched_op.c:op_poll 1 write_once(v->poll_port,0)
    watched = true;              //@ sched/sched_op.c:op_poll 2 atomic_or(&v->domain->event_watch,WATCH_POLLERS)
#ifdef LOOK_THEN_POLL
    vcpu_event_pending();
    if :: !ok -> ok = bit_polled :: else fi;
    blocked = true;
    poll_active = true;
#else
#ifdef POLLING_BEFORE_BLOCKED
    poll_active = true;
    blocked = true;
#else
    blocked = true;                 //@ sched/sched_op.c:op_poll 3 atomic_or(&v->pause_flags,VPF_BLOCKED)
    poll_active = true;             //@ sched/sched_op.c:op_poll 4 xchg(&v->poll_active,true)
#endif
    vcpu_event_pending();
    if
    :: !ok ->
        ok = bit_polled;
        if
        :: !ok -> poll_port = PORT_POLLED       //@ sched/sched_op.c:check_ports 1 write_once(v->poll_port,port)
        :: else
        fi
    :: else
    fi;
#endif
    if
    :: ok ->
        poll_active = false;        //@ sched/sched_op.c:stop_polling 1 write_once(v->poll_active,false)
        blocked = false             //@ sched/sched_op.c:stop_polling 2 atomic_and(&v->pause_flags,~VPF_BLOCKED)
    :: else
    fi
}

/* What the guest does before it waits: it must have seen what it forgets. */
active proctype vcpu()
{
    bool ok, polls;
    byte left = OPS;

    do
    :: left ->
        left--;
        if
        :: pending = false; bit_call = false
        :: skip
        fi;
        if
        :: bit_polled = false
        :: skip
        fi;
        if :: mask = true :: mask = false fi;
        if
        :: polls = false; block()
        :: polls = true; poll()
        fi;
        if
        :: !ok ->
            asleep = true;
end_asleep: !blocked;
            asleep = false
        :: else
        fi
    :: else -> break
    od
}

init
{
    byte i;

    atomic {
        do
        :: i < CALLS -> run caller(); i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < POLLED -> run sender(); i++
        :: else -> break
        od
    };
    timeout;
    assert(!(asleep && pending && !mask) && !(asleep && vcpu:polls && bit_polled))
}
