/*
 * The change from two-level to FIFO delivery, and the pages of event words that come after it, while others send (common/event/event.h,
 * fifo.c, two_level.c). A sender holds its channel's lock, which the change does not take: it may have seen the old format.
 *
 * One port; SENDERS CPUs that send once each; the domain's CPU, which changes the format, adds the page with the port's word, and takes
 * events as it goes: before the change from the bits, then from words. Stores of the domain's CPU that no locked instruction
 * follows wait in a store buffer (format, number of words); a sender stores nothing by plain stores.
 *
 * Holds: when all is done no event is left where the guest does not look: not in the bits of two levels, and not with us once there is a
 * word (after a reset such a bit would keep the next event back). For each event that was sent after the guest's last look there is something that makes it look again.
 */
//! fast -DSENDERS=1
//! fast -DSENDERS=2
//! all -DSENDERS=3
//! mutation NO_LOOK_AGAIN -DSENDERS=1
//! mutation WATCH_LATE -DSENDERS=1
//! mutation BIT_STAYS -DSENDERS=1
//! mutation BIT_NOT_TAKEN -DSENDERS=1
//! mutation NO_LOOK_AT_WORDS -DSENDERS=1
//! mutation WORDS_WITHOUT_BARRIER -DSENDERS=1
#include "steps.h"

bool fifo, watch, bit_pending, word, word_pending, kept;
bool has_words;                 /* the domain's CPU has written the number of words */
byte busy = SENDERS + 1;
byte sent, seen;                /* events, and how many the guest knows of by its last look */
/* The domain's CPU's stores that others do not see yet, in their order. */
#define TO_FIFO  1
#define TO_WORDS 2
chan buffer = [2] of { byte };
#define FENCE empty(buffer)

/* The CPU writes its buffer whenever it likes. */
active proctype write_buffer()
{
    byte what;

end:
    do
    :: atomic { buffer?what -> if :: what == TO_FIFO -> fifo = true :: else -> word = true fi }
    od
}

/* by: whether it is the domain's CPU, which sees its own stores at once. */
#define SEES_WORD(by) (word || (by && has_words))

inline fifo_set_pending(by)
{
    if
    :: !SEES_WORD(by) ->            //@ fifo.c:fifo_set_pending 1 event_word(d,chn->port)
        if :: by -> FENCE :: else fi;
        kept = true;                //@ fifo.c:fifo_set_pending 2 xchg(&chn->pending,true)
#ifndef NO_LOOK_AT_WORDS
        if
        :: SEES_WORD(by) ->         //@ fifo.c:fifo_set_pending 3 event_word(d,chn->port)
            if
            :: atomic { kept -> kept = false }; word_pending = true     //@ fifo.c:fifo_set_pending 4 xchg(&chn->pending,false)
            :: !kept
            fi
        :: else
        fi
#endif
    :: else ->
        if :: by -> FENCE :: else fi;
        word_pending = true         //@ fifo.c:fifo_set_pending 5 __atomic_fetch_or(word,PENDING,__ATOMIC_SEQ_CST)
    fi
}

proctype sender()
{
    bool was;

    sent++;
    if
    :: !fifo ->                     //@ event.h:evtchn_deliver 2 evtchn_format(d)
        atomic { was = bit_pending; bit_pending = true };       //@ two_level.c:set_pending 1 test_and_set_bit(port,pending_map_as(w,d))
#ifndef NO_LOOK_AGAIN
        if
        :: !was && watch ->         //@ two_level.c:set_pending 3 read_once(d->event_watch)
            if
            :: fifo ->              //@ two_level.c:look_further 1 evtchn_format(d)
#ifndef BIT_STAYS
                bit_pending = false;        //@ two_level.c:look_further 2 clear_bit(port,pending_map(d))
#endif
                fifo_set_pending(false)
            :: else
            fi
        :: else
        fi
#endif
    :: else -> fifo_set_pending(false)
    fi;
    busy--
}

active proctype domain()
{
    bool was;

    if
    :: atomic { bit_pending -> bit_pending = false; seen = sent }
    :: true
    fi;
    buffer!TO_FIFO;                 //@ fifo.c:switch_to_fifo 4 write_once(ed->format,&evtchn_fifo)
#ifndef WATCH_LATE
    atomic { FENCE -> watch = true };           //@ fifo.c:switch_to_fifo 5 atomic_or(&d->event_watch,WATCH_FORMAT)
#endif
#ifdef BIT_NOT_TAKEN
    was = bit_pending;
#else
    atomic { FENCE -> was = bit_pending; bit_pending = false };     //@ two_level.c:two_level_take_pending 1 test_and_clear_bit(chn->port,pending_map(d))
#endif
#ifdef WATCH_LATE
    watch = true;
#endif
    if                              //@ fifo.c:switch_to_fifo 6 evtchn_is_open(chn)
    :: was -> fifo_set_pending(true)
    :: else
    fi;
    /* fifo_expand_array() */
    buffer!TO_WORDS;                //@ fifo.c:add_words 2 write_once(fd->nr_words,first+WORDS_PER_PAGE)
    has_words = true;
#ifndef WORDS_WITHOUT_BARRIER
    FENCE;                          //@ fifo.c:add_words 3 smp_mb()
#endif
    if
    :: kept ->                      //@ fifo.c:add_words 4 evtchn_is_open(chn)
#ifndef WORDS_WITHOUT_BARRIER
        kept = false;               //@ fifo.c:add_words 5 xchg(&chn->pending,false)
#else
        kept = false;
#endif
        fifo_set_pending(true)
    :: else
    fi;
    if
    :: atomic { word_pending -> word_pending = false; seen = sent }
    :: true
    fi;
    busy--
}

init
{
    byte i;

    atomic { do :: i < SENDERS -> run sender(); i++ :: else -> break od }
    !busy && FENCE;
    assert(!kept && !bit_pending && (seen == sent || word_pending))
}
