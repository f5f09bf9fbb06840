#include "net.h"
#include "clock.h"
#include "netfront.h"
#include "string.h"
#include "tcp.h"

#define ETHER      14
#define IP         20
#define TYPE_IP    0x0800
#define TYPE_ARP   0x0806
#define IP_ICMP    1
#define PING_ID    0x7076
#define ARP_PERIOD (200 * MS)

enum { ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { ECHO_REPLY = 0, ECHO_REQUEST = 8 };

u32 net_address;
unsigned net_bad_sums;
u16 net_ping_answered;

static struct neighbour {
    u32 ip;
    u8 mac[6];
    bool known;
    u64 asked;
} neighbours[8];

static u8 *packet;   /* the frame that net_packet() gave last */
static u32 packet_to;

/* ---- Sums ---- */

static u32 add_words(u32 sum, const void *data, unsigned n)
{
    const u8 *p = data;

    for (; n > 1; n -= 2, p += 2)
        sum += get16(p);
    return n ? sum + (u32)(*p << 8) : sum;
}

u16 net_sum(u32 start, const void *data, unsigned n)
{
    u32 sum = add_words(start, data, n);

    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)~sum;
}

u32 net_pseudo_sum(u32 from, u32 to, u8 protocol, unsigned length)
{
    return (from >> 16) + (from & 0xffff) + (to >> 16) + (to & 0xffff) + protocol + length;
}

/* ---- Ethernet and ARP ---- */

static void put_ether(u8 *frame, const u8 *to, u16 type)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, netfront_mac, 6);
    put16(frame + 12, type);
}

static void send_arp(u16 operation, const u8 *mac, u32 ip)
{
    static const u8 everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    static const u8 ether_ip[6] = { 0, 1, TYPE_IP >> 8, TYPE_IP & 0xff, 6, 4 };
    u8 *frame = netfront_buffer(), *arp = frame + ETHER;

    if (!frame)
        return;
    put_ether(frame, mac ? mac : everybody, TYPE_ARP);
    memcpy(arp, ether_ip, 6);
    put16(arp + 6, operation);
    memcpy(arp + 8, netfront_mac, 6);
    put32(arp + 14, net_address);
    memset(arp + 18, 0, 6);
    if (mac)
        memcpy(arp + 18, mac, 6);
    put32(arp + 24, ip);
    netfront_send(ETHER + 28);
}

/* The entry for an address; a new one takes the place of the first, and the others move up. */
static struct neighbour *neighbour_of(u32 ip)
{
    for (unsigned i = 0; i < ARRAY_SIZE(neighbours); i++)
        if (neighbours[i].ip == ip)
            return &neighbours[i];
    for (unsigned i = ARRAY_SIZE(neighbours) - 1; i > 0; i--)
        neighbours[i] = neighbours[i - 1];
    neighbours[0] = (struct neighbour){ .ip = ip };
    return &neighbours[0];
}

static void take_arp(const u8 *arp)
{
    struct neighbour *n;

    if (get32(arp + 24) != net_address)
        return;
    n = neighbour_of(get32(arp + 14));
    memcpy(n->mac, arp + 8, 6);
    n->known = true;
    if (get16(arp + 6) == ARP_REQUEST)
        send_arp(ARP_REPLY, n->mac, n->ip);
}

/* ---- IP ---- */

u8 *net_packet(u32 to)
{
    struct neighbour *n = neighbour_of(to);

    if (!n->known) {
        u64 now = system_time();

        if (!n->asked || now >= n->asked + ARP_PERIOD) {
            n->asked = now;
            send_arp(ARP_REQUEST, NULL, to);
        }
        return NULL;
    }
    packet = netfront_buffer();
    packet_to = to;
    if (!packet)
        return NULL;
    put_ether(packet, n->mac, TYPE_IP);
    return packet + ETHER + IP;
}

void net_send(u8 protocol, unsigned length)
{
    static u16 id;
    u8 *ip = packet + ETHER;

    put16(ip, 0x4500);
    put16(ip + 2, IP + length);
    put16(ip + 4, ++id);
    put16(ip + 6, 0x4000); /* not to be cut */
    put16(ip + 8, 64 << 8 | protocol);
    put16(ip + 10, 0);
    put32(ip + 12, net_address);
    put32(ip + 16, packet_to);
    put16(ip + 10, net_sum(0, ip, IP));
    netfront_send(ETHER + IP + length);
}

bool net_ping(u32 to, u16 number)
{
    u8 *echo = net_packet(to);

    if (!echo)
        return false;
    put32(echo, ECHO_REQUEST << 24);
    put16(echo + 4, PING_ID);
    put16(echo + 6, number);
    memset(echo + 8, (u8)number, 56);
    put16(echo + 2, net_sum(0, echo, 64));
    net_send(IP_ICMP, 64);
    return true;
}

static void take_icmp(u32 from, const u8 *message, unsigned n)
{
    u8 *reply;

    if (n < 8 || net_sum(0, message, n)) {
        net_bad_sums++;
        return;
    }
    if (message[0] == ECHO_REPLY && get16(message + 4) == PING_ID)
        net_ping_answered = get16(message + 6);
    if (message[0] != ECHO_REQUEST || !(reply = net_packet(from)))
        return;
    memcpy(reply, message, n);
    put32(reply, ECHO_REPLY << 24);
    put16(reply + 2, net_sum(0, reply, n));
    net_send(IP_ICMP, n);
}

static void take_ip(const u8 *ip, unsigned room)
{
    unsigned header = (ip[0] & 15) * 4, length = get16(ip + 2);

    if (ip[0] >> 4 != 4 || header < IP || length < header || length > room || net_sum(0, ip, header)) {
        net_bad_sums++;
        return;
    }
    if (get32(ip + 16) != net_address || (get16(ip + 6) & 0x3fff)) /* another's, or a fragment */
        return;
    if (ip[9] == IP_ICMP)
        take_icmp(get32(ip + 12), ip + header, length - header);
    if (ip[9] == IP_TCP)
        tcp_input(get32(ip + 12), ip + header, length - header);
}

static void take_frame(const u8 *frame, unsigned n)
{
    if (n >= ETHER + 28 && get16(frame + 12) == TYPE_ARP)
        take_arp(frame + ETHER);
    if (n >= ETHER + IP && get16(frame + 12) == TYPE_IP)
        take_ip(frame + ETHER, n - ETHER);
}

void net_poll(void)
{
    netfront_poll(take_frame);
}
