/* Ethernet, ARP, IPv4 and ICMP echo, as little as one network without a router needs. Addresses are numbers: 10.0.0.1 is
 * 0x0a000001. Packets with a wrong sum are counted and dropped. */
#ifndef GUEST_NET_H
#define GUEST_NET_H

#include "abi.h"

#define IP_TCP 6

extern u32 net_address;         /* ours; set it before anything is sent */
extern unsigned net_bad_sums;

static inline u16 get16(const void *p) { return (u16)(((const u8 *)p)[0] << 8 | ((const u8 *)p)[1]); }
static inline u32 get32(const void *p) { return (u32)get16(p) << 16 | get16((const u8 *)p + 2); }
static inline void put16(void *p, u32 v) { ((u8 *)p)[0] = (u8)(v >> 8), ((u8 *)p)[1] = (u8)v; }
static inline void put32(void *p, u32 v) { put16(p, v >> 16), put16((u8 *)p + 2, v); }

/* Where to write a packet's content, behind its IP header; NULL if there is no room now, or the other's Ethernet address
 * is not known yet: it has been asked for. net_send() sends what net_packet() gave last. */
u8 *net_packet(u32 to);
void net_send(u8 protocol, unsigned length);
/* The internet sum over data, continued from start (0, or an earlier result inverted); as it stands in headers. */
u16 net_sum(u32 start, const void *data, unsigned n);
/* The start for the sum of a protocol that includes the addresses. */
u32 net_pseudo_sum(u32 from, u32 to, u8 protocol, unsigned length);

bool net_ping(u32 to, u16 number);    /* false if it could not be sent now */
extern u16 net_ping_answered;         /* the number in the last answer */

void net_poll(void);                  /* takes what came; TCP's goes to tcp_input() */

#endif
