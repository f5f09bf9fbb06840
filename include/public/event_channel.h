/* SPDX-License-Identifier: MIT */
/*
 * Event channels: the calls and both ways of delivery, two-level bitmaps (in shared_info) and FIFO queues
 * (in pages the guest gives). Facts from Xen 4.17's public/event_channel.h. All structures here have one
 * layout for both word sizes.
 */
#ifndef PUBLIC_EVENT_CHANNEL_H
#define PUBLIC_EVENT_CHANNEL_H

#include <public/xen.h>

#define EVTCHNOP_bind_interdomain  0
#define EVTCHNOP_bind_virq         1
#define EVTCHNOP_bind_pirq         2
#define EVTCHNOP_close             3
#define EVTCHNOP_send              4
#define EVTCHNOP_status            5
#define EVTCHNOP_alloc_unbound     6
#define EVTCHNOP_bind_ipi          7
#define EVTCHNOP_bind_vcpu         8
#define EVTCHNOP_unmask            9
#define EVTCHNOP_reset            10
#define EVTCHNOP_init_control     11
#define EVTCHNOP_expand_array     12
#define EVTCHNOP_set_priority     13

typedef u32 evtchn_port_t;

struct evtchn_alloc_unbound {
    domid_t dom, remote_dom; /* in */
    evtchn_port_t port;      /* out */
};

struct evtchn_bind_interdomain {
    domid_t remote_dom;        /* in */
    evtchn_port_t remote_port; /* in */
    evtchn_port_t local_port;  /* out */
};

struct evtchn_bind_virq {
    u32 virq; /* in */
    u32 vcpu; /* in */
    evtchn_port_t port;
};

#define BIND_PIRQ__WILL_SHARE 1
struct evtchn_bind_pirq {
    u32 pirq;  /* in */
    u32 flags; /* in: BIND_PIRQ__* */
    evtchn_port_t port;
};

struct evtchn_bind_ipi {
    u32 vcpu; /* in */
    evtchn_port_t port;
};

struct evtchn_close {
    evtchn_port_t port;
};

struct evtchn_send {
    evtchn_port_t port;
};

#define EVTCHNSTAT_closed      0
#define EVTCHNSTAT_unbound     1
#define EVTCHNSTAT_interdomain 2
#define EVTCHNSTAT_pirq        3
#define EVTCHNSTAT_virq        4
#define EVTCHNSTAT_ipi         5

struct evtchn_status {
    domid_t dom;        /* in */
    evtchn_port_t port; /* in */
    u32 status;         /* EVTCHNSTAT_* */
    u32 vcpu;
    union {
        struct {
            domid_t dom;
        } unbound;
        struct {
            domid_t dom;
            evtchn_port_t port;
        } interdomain;
        u32 pirq;
        u32 virq;
    } u;
};

struct evtchn_bind_vcpu {
    evtchn_port_t port;
    u32 vcpu;
};

struct evtchn_unmask {
    evtchn_port_t port;
};

struct evtchn_reset {
    domid_t dom;
};

struct evtchn_init_control {
    u64 control_gfn; /* in: frame of the vCPU's control block */
    u32 offset;      /* in: of the block in that frame */
    u32 vcpu;        /* in */
    u8 link_bits;    /* out: width of a link field */
    u8 _pad[7];
};

struct evtchn_expand_array {
    u64 array_gfn;
};

struct evtchn_set_priority {
    evtchn_port_t port;
    u32 priority;
};

/* Argument of event_channel_op_compat, whose command is inside. */
struct evtchn_op {
    u32 cmd;
    union {
        struct evtchn_alloc_unbound alloc_unbound;
        struct evtchn_bind_interdomain bind_interdomain;
        struct evtchn_bind_virq bind_virq;
        struct evtchn_bind_pirq bind_pirq;
        struct evtchn_bind_ipi bind_ipi;
        struct evtchn_close close;
        struct evtchn_send send;
        struct evtchn_status status;
        struct evtchn_bind_vcpu bind_vcpu;
        struct evtchn_unmask unmask;
    } u;
};

/* Two-level: word x word ports. */
#define EVTCHN_2L_NR_CHANNELS_64 4096
#define EVTCHN_2L_NR_CHANNELS_32 1024

/* FIFO */
#define EVTCHN_FIFO_PRIORITY_MAX     0
#define EVTCHN_FIFO_PRIORITY_DEFAULT 7
#define EVTCHN_FIFO_PRIORITY_MIN     15
#define EVTCHN_FIFO_MAX_QUEUES       (EVTCHN_FIFO_PRIORITY_MIN + 1)

typedef u32 event_word_t;
#define EVTCHN_FIFO_PENDING   31
#define EVTCHN_FIFO_MASKED    30
#define EVTCHN_FIFO_LINKED    29
#define EVTCHN_FIFO_BUSY      28
#define EVTCHN_FIFO_LINK_BITS 17
#define EVTCHN_FIFO_LINK_MASK ((1 << EVTCHN_FIFO_LINK_BITS) - 1)
#define EVTCHN_FIFO_NR_CHANNELS (1 << EVTCHN_FIFO_LINK_BITS)

struct evtchn_fifo_control_block {
    u32 ready; /* a bit per priority whose queue is not empty */
    u32 _rsvd;
    u32 head[EVTCHN_FIFO_MAX_QUEUES];
};

#endif
