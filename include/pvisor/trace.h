/*
 * Trace buffers, which xentrace reads: docs/tracing.md. Each CPU has one, where it alone writes, with interrupts off and without a lock;
 * the reader is dom0, which maps it and moves the index of what it has read.
 *
 * Off, a place that traces costs a look at one word, which nobody writes; hypercalls cost nothing (common/control/trace.c).
 */
#ifndef PVISOR_TRACE_H
#define PVISOR_TRACE_H

#include <public/trace.h>
#include <pvisor/cpumask.h>
#include <pvisor/fetch.h>
#include <pvisor/types.h>

/* The classes and subclasses of events that are recorded, as XEN_SYSCTL_TBUFOP_set_evt_mask has them; 0: nothing is. */
extern u32 trace_events;
extern cpumask_t trace_cpus;        /* on which CPUs */

/* Whether anything is recorded: one look at memory and a branch, where a compiler would load the word first. */
static always_inline bool tracing(void)
{
    __asm__ goto("cmpl $0, %0\n\tjne %l[on]" : : "m"(trace_events) : "cc" : on);
    return false;
on:
    return true;
}
/* Whether this CPU records an event. */
bool trace_wanted(u32 event);
/* At most TRACE_EXTRA_MAX words. Any context but NMIs; no locks are taken. */
void trace_record(u32 event, unsigned nr, const u32 *words);
/* One event with its words, TRC_*: trace(TRC_SCHED_WAKE, v->domain->id, v->id); */
#define trace(event, ...) do {                                                                  \
    if (tracing()) {                                                                            \
        const u32 words_[] = { __VA_ARGS__ };                                                   \
        _Static_assert(ARRAY_SIZE(words_) <= TRACE_EXTRA_MAX, "a record has no room for it");   \
        trace_record((event), ARRAY_SIZE(words_), words_);                                      \
    }                                                                                           \
} while (0)
#define TRACE_U64(x) (u32)(x), (u32)((u64)(x) >> 32)

/*
 * Makes a buffer of so many pages for each CPU, once: they stay. 0; -ERESTART_HYPERCALL: there is more to do; -EINVAL: they are there, or
 * the size cannot be; -ENOMEM. One CPU at a time.
 */
s64 trace_set_size(u32 pages);
/* The frames of struct t_info, which is INVALID_MFN and 0 bytes before there are buffers. */
mfn_t trace_info(u32 *bytes);
/* For records to come: what was lost of former ones is forgotten. Nothing is recorded meanwhile. */
void trace_forget_lost(void);
/* send is called with VIRQ_TBUF when a buffer comes to be half full. */
void trace_softirq_init(void (*send)(u32 virq));
void trace_init(void);              /* boot */

/* A hypercall, TRC_PV_HYPERCALL_*, by its number, with what of its first arguments tells what it does. */
void trace_hypercall(u32 event, u32 nr, const u64 args[3]);

/* The buffer of a CPU, for who makes it: nr pages, of which dom0 will write the first. */
void trace_give_pages(unsigned cpu, u32 guest_shared **pages, u32 nr);

#endif
