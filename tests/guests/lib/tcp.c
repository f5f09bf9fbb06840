#include "tcp.h"
#include "clock.h"
#include "net.h"
#include "string.h"
#include "traps.h"

#define HEADER     20
#define MSS        1460u
#define WINDOW     32768   /* that we offer: what comes is used up at once */
#define RESEND     (300 * MS)
#define MAX_TRIES  12

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

unsigned tcp_resent;

static struct tcp connections[8];
static u16 listen_port;
static void (*on_accept)(struct tcp *t);

static bool before(u32 a, u32 b) { return (s32)(a - b) < 0; }
static bool is_open(const struct tcp *t) { return t->unacked != t->first; }

/* The sequence number after all that there is to send. */
static u32 end_of(const struct tcp *t) { return t->first + 1 + t->length + t->closing; }

/* ---- Out ---- */

static bool send_segment(struct tcp *t, u8 flags, u32 seq, u32 n)
{
    u8 *s = net_packet(t->remote);
    unsigned header = flags & SYN ? HEADER + 4 : HEADER;

    if (!s)
        return false;
    put16(s, t->port);
    put16(s + 2, t->remote_port);
    put32(s + 4, seq);
    put32(s + 8, flags & ACK ? t->expected : 0);
    put16(s + 12, header << 10 | flags);
    put16(s + 14, WINDOW);
    put32(s + 16, 0);
    if (flags & SYN)
        put32(s + HEADER, 0x02040000 | MSS);
    if (n)
        t->fill(t, seq - t->first - 1, s + header, n);
    put16(s + 16, net_sum(net_pseudo_sum(net_address, t->remote, IP_TCP, header + n), s, header + n));
    net_send(IP_TCP, header + n);
    if (flags & ACK)
        t->ack_due = false;
    return true;
}

static void output_open(struct tcp *t)
{
    while (t->next != end_of(t) && t->next - t->unacked < t->window) {
        u32 left = t->length - (t->next - t->first - 1);
        u32 n = min(min(left, MSS), t->window - (t->next - t->unacked));
        u8 fin = t->closing && n == left ? FIN : 0;

        if (!send_segment(t, (u8)(ACK | PSH | fin), t->next, n))
            return;
        t->next += n + (fin ? 1 : 0);
    }
}

void tcp_output(struct tcp *t)
{
    if (t->next == t->first) {
        if (send_segment(t, t->passive ? SYN | ACK : SYN, t->first, 0))
            t->next++;
    } else if (is_open(t)) {
        output_open(t);
    }
    if (!t->resend_at && (!is_open(t) || t->unacked != end_of(t)))
        t->resend_at = system_time() + (RESEND << min(t->tries, 3u));
}

/* Goes back to what the other has not acknowledged. */
static void resend(struct tcp *t)
{
    t->resend_at = 0;
    t->next = t->unacked;
    if (!t->window)
        t->window = 1; /* asks a closed window whether it is still closed */
    tcp_resent++;
    tcp_output(t);
}

/* ---- In ---- */

static struct tcp *new_connection(u32 remote, u16 remote_port, u16 port)
{
    for (struct tcp *t = connections; t < connections + ARRAY_SIZE(connections); t++) {
        if (t->state == TCP_RUNNING)
            continue;
        *t = (struct tcp){ .state = TCP_RUNNING, .remote = remote, .remote_port = remote_port, .port = port };
        t->first = t->unacked = t->next = (u32)rdtsc();
        return t;
    }
    panic("too many connections");
}

struct tcp *tcp_connect(u32 to, u16 port)
{
    static u16 last_port;

    if (!last_port)
        last_port = (u16)(49152 + rdtsc() % 8192);
    return new_connection(to, port, ++last_port);
}

void tcp_listen(u16 port, void (*accepted)(struct tcp *t))
{
    listen_port = port;
    on_accept = accepted;
}

static struct tcp *connection_of(u32 remote, u16 remote_port, u16 port)
{
    for (struct tcp *t = connections; t < connections + ARRAY_SIZE(connections); t++)
        if (t->state != TCP_FREE && t->remote == remote && t->remote_port == remote_port && t->port == port)
            return t;
    return NULL;
}

static void refuse(u32 from, const u8 *s)
{
    struct tcp t = { .remote = from, .remote_port = get16(s), .port = get16(s + 2), .expected = get32(s + 4) + 1 };

    if (!(s[13] & RST))
        send_segment(&t, RST | ACK, get32(s + 8), 0);
}

static void take_ack(struct tcp *t, u32 ack, u32 window, unsigned n)
{
    if (before(t->unacked, ack) && !before(end_of(t), ack)) {
        t->unacked = ack;
        if (before(t->next, ack))
            t->next = ack;
        t->tries = t->duplicates = 0;
        t->resend_at = 0;
    } else if (ack == t->unacked && !n && window == t->window && t->next != ack && ++t->duplicates == 3) {
        resend(t);
    }
    if (ack == t->unacked)
        t->window = window;
}

/* Data and the FIN behind it, if they continue what came before. */
static void take_stream(struct tcp *t, u32 seq, const u8 *data, u32 n, bool fin)
{
    u32 old = t->expected - seq;

    t->ack_due = true;
    if (before(t->expected, seq) || old > n || t->ended)
        return;
    if (n > old) {
        t->expected += n - old;
        t->take(t, data + old, n - old);
    }
    if (fin) {
        t->expected++;
        t->ended = true;
        t->take(t, NULL, 0);
    }
}

static void take_segment(struct tcp *t, const u8 *s, unsigned n)
{
    unsigned header = s[12] >> 4 << 2;
    u32 seq = get32(s + 4);

    if (s[13] & RST) {
        t->state = t->state == TCP_RUNNING ? TCP_FAILED : t->state;
        return;
    }
    if (s[13] & SYN) { /* the answer to ours, or theirs again */
        if (!t->passive && !is_open(t))
            t->expected = seq + 1;
        if (t->passive && !is_open(t))
            t->next = t->first;
        t->ack_due = true;
    }
    if (s[13] & ACK)
        take_ack(t, get32(s + 8), get16(s + 14), n - header);
    if (is_open(t) && !(s[13] & SYN) && (n > header || (s[13] & FIN)))
        take_stream(t, seq, s + header, n - header, s[13] & FIN);
    if (t->ended && t->closing && t->unacked == end_of(t))
        t->state = TCP_DONE;
}

void tcp_input(u32 from, const u8 *s, unsigned n)
{
    struct tcp *t;

    if (n < HEADER || s[12] >> 4 < 5 || (unsigned)(s[12] >> 4 << 2) > n ||
        net_sum(net_pseudo_sum(from, net_address, IP_TCP, n), s, n)) {
        net_bad_sums++;
        return;
    }
    t = connection_of(from, get16(s), get16(s + 2));
    if ((s[13] & (SYN | ACK | RST)) == SYN && get16(s + 2) == listen_port && (!t || t->state != TCP_RUNNING)) {
        t = new_connection(from, get16(s), listen_port);
        t->passive = true;
        t->expected = get32(s + 4) + 1;
        on_accept(t);
    } else if (t) {
        take_segment(t, s, n);
    } else {
        refuse(from, s);
    }
}

/* ---- Time ---- */

void tcp_poll(void)
{
    u64 now = system_time();

    for (struct tcp *t = connections; t < connections + ARRAY_SIZE(connections); t++) {
        if (t->state == TCP_RUNNING && t->resend_at && now >= t->resend_at) {
            if (++t->tries > MAX_TRIES)
                t->state = TCP_FAILED;
            else
                resend(t);
        }
        if (t->state == TCP_RUNNING)
            tcp_output(t);
        if (t->ack_due && is_open(t))
            send_segment(t, ACK, t->next, 0);
    }
}
