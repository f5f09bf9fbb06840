/*
 * TCP for bulk transfers. Nothing is kept for sending again: a connection's user makes any part of its stream anew. What
 * comes out of order is dropped, and what gets lost is sent again from there on.
 */
#ifndef GUEST_TCP_H
#define GUEST_TCP_H

#include "abi.h"

enum tcp_state { TCP_FREE, TCP_RUNNING, TCP_DONE, TCP_FAILED };

struct tcp {
    enum tcp_state state;
    u32 remote;
    u16 port, remote_port;

    /* Ours, in sequence numbers: the SYN has first, stream offset n has first + 1 + n, the FIN follows the stream. */
    u32 first, unacked, next, window;
    bool passive;
    unsigned duplicates, tries;
    u64 resend_at;                /* 0: nothing is under way */

    u32 expected;                 /* theirs */
    bool ack_due, ended;

    /* The user's. length may be raised until closing is set. */
    u32 length;
    bool closing;
    void (*fill)(struct tcp *t, u32 offset, u8 *to, u32 n);
    void (*take)(struct tcp *t, const u8 *data, u32 n);   /* in order; n is 0 once at the end */
    u32 seed, crc, received;
    char text[64];
};

extern unsigned tcp_resent;       /* times that something had to be sent again */

/* A connection to another's port. The caller sets fill, take and what they need, then calls tcp_output(). */
struct tcp *tcp_connect(u32 to, u16 port);
/* Takes connections to a port of ours; accepted() sets fill, take and what they need. */
void tcp_listen(u16 port, void (*accepted)(struct tcp *t));
void tcp_output(struct tcp *t);   /* sends what may be sent */
void tcp_input(u32 from, const u8 *segment, unsigned n);
void tcp_poll(void);              /* acknowledges, sends, and sends again */

#endif
