/* SPDX-License-Identifier: MIT */
/* Trace buffers: events, records, and where the toolstack finds them. Facts from Xen 4.17's public/trace.h. */
#ifndef PUBLIC_TRACE_H
#define PUBLIC_TRACE_H

#include <pvisor/types.h>

#define TRACE_EXTRA_MAX   7
#define TRACE_EXTRA_SHIFT 28

/* Classes; one bit each from TRC_CLS_SHIFT on. Bits 12 to 15: the subclass. */
#define TRC_CLS_SHIFT    16
#define TRC_SUBCLS_SHIFT 12
#define TRC_GEN          0x0001f000
#define TRC_SCHED        0x0002f000
#define TRC_PV           0x0020f000
#define TRC_ALL          0x0ffff000

#define TRC_SCHED_MIN     0x00021000
#define TRC_SCHED_VERBOSE 0x00028000
#define TRC_PV_ENTRY      0x00201000
#define TRC_PV_SUBCALL    0x00202000

#define TRC_LOST_RECORDS       (TRC_GEN + 1)
#define TRC_TRACE_WRAP_BUFFER  (TRC_GEN + 2)
#define TRC_TRACE_CPU_CHANGE   (TRC_GEN + 3)   /* written by tools, into their files */

#define TRC_SCHED_RUNSTATE_CHANGE (TRC_SCHED_MIN + 1)
#define TRC_SCHED_DOM_ADD         (TRC_SCHED_VERBOSE + 1)
#define TRC_SCHED_DOM_REM         (TRC_SCHED_VERBOSE + 2)
#define TRC_SCHED_SLEEP           (TRC_SCHED_VERBOSE + 3)
#define TRC_SCHED_WAKE            (TRC_SCHED_VERBOSE + 4)
#define TRC_SCHED_YIELD           (TRC_SCHED_VERBOSE + 5)
#define TRC_SCHED_BLOCK           (TRC_SCHED_VERBOSE + 6)
#define TRC_SCHED_SHUTDOWN        (TRC_SCHED_VERBOSE + 7)
#define TRC_SCHED_SWITCH          (TRC_SCHED_VERBOSE + 10)
#define TRC_SCHED_SWITCH_INFPREV  (TRC_SCHED_VERBOSE + 14)
#define TRC_SCHED_SWITCH_INFNEXT  (TRC_SCHED_VERBOSE + 15)
#define TRC_SCHED_SWITCH_INFCONT  (TRC_SCHED_VERBOSE + 17)

#define TRC_64_FLAG               0x100     /* addresses of 64 bits */
#define TRC_PV_PAGE_FAULT         (TRC_PV_ENTRY + 4)
/* First word: the call's number, and for each argument that follows what size it has. */
#define TRC_PV_HYPERCALL_V2       (TRC_PV_ENTRY + 13)
#define TRC_PV_HYPERCALL_SUBCALL  (TRC_PV_SUBCALL + 14)
#define TRC_PV_HYPERCALL_V2_ARG_32(i) (0x1u << (20 + 2 * (i)))

/*
 * A record is a word (bits 0 to 27 the event, 28 to 30 how many words of data, bit 31 whether the TSC is there), the TSC in two words
 * and the data.
 */
#define TRC_HD_CYCLE_FLAG (1UL << 31)

/* Head of a CPU's buffer; records fill the rest, X bytes. Both are offsets in it modulo 2 * X: equal, there are none. */
struct t_buf {
    u32 cons;   /* the toolstack's */
    u32 prod;   /* ours */
};

/* In words of 32 bits from its start: where the frame numbers of each CPU's buffer are, 32 bits each. */
struct t_info {
    u16 tbuf_size;  /* pages of each buffer */
    u16 mfn_offset[];
};

#endif
