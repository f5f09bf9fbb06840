/*
 * Block and network I/O through dom0's backends, as a domU: tests of its own at the start, and then a server that does
 * what the tests in dom0 ask for. The command line gives ip=, our address, and peer=, dom0's.
 *
 * A command is written to data/command in the domain's directory of the store: a number that is new, a name, arguments;
 * the answer comes in data/answer, under the same number. Meanwhile, and all the time, we answer pings, and whoever
 * connects to TCP port 9 and sends something is told its CRC-32 and its length.
 */
#include "blkfront.h"
#include "clock.h"
#include "data.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "net.h"
#include "netfront.h"
#include "string.h"
#include "tcp.h"
#include "test.h"
#include "xenstore.h"

#define SUM_PORT   9
#define TICK       (50 * MS)   /* the longest sleep while something may have to be sent again */
#define PATIENCE   (5000 * MS) /* until a ping counts as lost */
#define WATCH_COMMAND 2        /* the devices have watches 0 and 1 */

static bool has_disk, has_card;

static void poll_devices(void)
{
    blk_poll();
    net_poll();
    tcp_poll();
}

/* Everything goes on until the condition holds. */
#define WAIT_UNTIL(condition) do {                  \
    for (;;) {                                      \
        u32 seen_ = upcall_count;                   \
        poll_devices();                             \
        if (condition)                              \
            break;                                  \
        wait_event(seen_, system_time() + TICK);    \
    }                                               \
} while (0)

/* a.b.c.d */
static u32 parse_address(const char *s)
{
    u32 address = 0;

    for (unsigned i = 0; s && i < 4; i++) {
        address = address << 8 | (u32)parse_number(s);
        while (*s >= '0' && *s <= '9')
            s++;
        s += *s == '.';
    }
    return address;
}

/* ---- The store ---- */

TEST(store)
{
    store_init();
    CHECK(store_write("data/probe", "some words"));
    CHECK(!strncmp(store_read("data/probe"), "some words", 11));
    CHECK(store_watch("data/probe", 5));
    WAIT_UNTIL(store_fired(5)); /* a new watch fires once */
    CHECK(!store_fired(5));
    CHECK(store_write("data/probe/below", "more"));
    WAIT_UNTIL(store_fired(5));
    CHECK(!strncmp(store_first("data/probe"), "below", 6));
    CHECK(store_remove("data/probe"));
    CHECK(!store_read("data/probe"));
    CHECK(!strncmp(store_error(), "ENOENT", 7));
    CHECK(!store_write("/local/domain/0/name", "mine"));
    CHECK(!strncmp(store_error(), "EACCES", 7));
}

/* ---- The disk ---- */

static int finish(const struct blk_request *r)
{
    blk_submit(r);
    WAIT_UNTIL(!blk_busy((unsigned)r->id));
    return blk_status((unsigned)r->id);
}

/* One request, by slot 0; see blk_request(). */
static int transfer(u8 operation, u64 sector, unsigned first, unsigned count)
{
    struct blk_request r = blk_request(0, operation, sector, first, count);

    return finish(&r);
}

static void fill_buffer(u32 seed, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        data_fill(seed, i * SECTOR, blk_sector(0, first + i), SECTOR);
}

static u32 buffer_crc(unsigned first, unsigned count)
{
    u32 crc = 0;

    for (unsigned i = 0; i < count; i++)
        crc = crc32(crc, blk_sector(0, first + i), SECTOR);
    return crc;
}

TEST(disk)
{
    has_disk = blk_init();
    if (!has_disk)
        SKIP("no disk");
    printf("io: disk of %llu sectors\n", (unsigned long long)blk_sectors);
    CHECK(blk_sectors > 2 * BLK_BUFFER);
}

/* Single sectors, at odd places of disk and page, change nothing beside them. */
TEST(disk_single_sectors)
{
    u64 base = blk_sectors - BLK_BUFFER;

    if (!has_disk)
        SKIP("no disk");
    fill_buffer(1, 0, 32);
    CHECK_EQ(transfer(BLK_WRITE, base, 0, 32), 0);
    fill_buffer(2, 7, 1);
    CHECK_EQ(transfer(BLK_WRITE, base + 3, 7, 1), 0);
    fill_buffer(2, 1, 1);
    CHECK_EQ(transfer(BLK_WRITE, base + 14, 1, 1), 0);
    fill_buffer(3, 0, BLK_BUFFER);
    CHECK_EQ(transfer(BLK_READ, base, 5, 32), 0);
    CHECK_EQ(buffer_crc(5 + 3, 1), data_crc(2, SECTOR));
    CHECK_EQ(buffer_crc(5 + 14, 1), data_crc(2, SECTOR));
    data_fill(1, 3 * SECTOR, blk_sector(0, 5 + 3), SECTOR);
    data_fill(1, 14 * SECTOR, blk_sector(0, 5 + 14), SECTOR);
    CHECK_EQ(buffer_crc(5, 32), data_crc(1, 32 * SECTOR));
    for (unsigned i = 0; i < BLK_BUFFER; i == 4 ? i = 5 + 32 : i++) {
        u8 before[SECTOR];

        data_fill(3, i * SECTOR, before, SECTOR);
        CHECK(!memcmp(blk_sector(0, i), before, SECTOR));
    }
}

/* As many segments as a request can have, the first and last of them not whole pages. */
TEST(disk_many_segments)
{
    u64 base = blk_sectors - BLK_BUFFER;

    if (!has_disk)
        SKIP("no disk");
    fill_buffer(4, 5, BLK_BUFFER - 8);
    CHECK_EQ(transfer(BLK_WRITE, base + 1, 5, BLK_BUFFER - 8), 0);
    fill_buffer(5, 0, BLK_BUFFER);
    CHECK_EQ(transfer(BLK_READ, base + 1, 2, BLK_BUFFER - 8), 0);
    CHECK_EQ(buffer_crc(2, BLK_BUFFER - 8), data_crc(4, (BLK_BUFFER - 8) * SECTOR));
    CHECK_EQ(transfer(BLK_READ, base, 0, BLK_BUFFER), 0);
    CHECK_EQ(buffer_crc(1, BLK_BUFFER - 8), data_crc(4, (BLK_BUFFER - 8) * SECTOR));
}

TEST(disk_past_the_end)
{
    if (!has_disk)
        SKIP("no disk");
    CHECK(transfer(BLK_READ, blk_sectors, 0, 1) < 0);
    CHECK(transfer(BLK_READ, blk_sectors - 1, 0, 2) < 0);
    CHECK(transfer(BLK_WRITE, blk_sectors - 1, 0, 2) < 0);
    CHECK(transfer(BLK_READ, ~0ULL, 0, 1) < 0);
    CHECK(transfer(BLK_READ, 1ULL << 32, 0, 1) < 0);
    CHECK_EQ(transfer(BLK_READ, blk_sectors - 1, 0, 1), 0);
}

/* What the backend, or the hypervisor for it, must refuse; the next good request is served. */
TEST(disk_bad_requests)
{
    struct blk_request r;

    if (!has_disk)
        SKIP("no disk");
    r = blk_request(0, BLK_READ, 0, 0, BLK_BUFFER);
    r.nr_segments = BLK_SEGMENTS + 1;
    CHECK(finish(&r) < 0);
    r = blk_request(0, BLK_READ, 0, 0, 8);
    r.segment[0].last = 8;
    CHECK(finish(&r) < 0);
    r = blk_request(0, BLK_READ, 0, 0, 16);
    r.segment[1].ref = 1000; /* shares nothing */
    CHECK(finish(&r) < 0);
    r = blk_request(0, BLK_READ, 0, 0, 16);
    r.segment[1].ref = ~0u;
    CHECK(finish(&r) < 0);
    r = blk_request(0, BLK_WRITE, 0, 0, 8); /* a page that the backend may not write to */
    r.operation = BLK_READ;
    CHECK(finish(&r) < 0);
    r = blk_request(0, 77, 0, 0, 8);
    CHECK(finish(&r) < 0);
    CHECK_EQ(transfer(BLK_READ, 0, 0, BLK_BUFFER), 0);
    CHECK_EQ(blk_stuck, 0);
}

TEST(disk_flush)
{
    struct blk_request r = { .operation = BLK_FLUSH };

    if (!has_disk)
        SKIP("no disk");
    CHECK(blk_flushes());
    CHECK_EQ(finish(&r), 0);
}

/* A pass over a range of the disk, with as many requests at once as the ring holds, in pieces of odd sizes. */
struct pass {
    u8 operation;
    u64 start, next, end;   /* sectors */
    u32 seed, crc;
    unsigned submitted, finished, errors;
    struct { unsigned first, count; } piece[BLK_SLOTS];
};

static void submit_piece(struct pass *p)
{
    unsigned slot = p->submitted % BLK_SLOTS, first = p->submitted % 8;
    unsigned count = (unsigned)min((u64)(BLK_BUFFER - first - p->submitted % 5), p->end - p->next);
    struct blk_request r = blk_request(slot, p->operation, p->next, first, count);

    for (unsigned i = 0; p->operation == BLK_WRITE && i < count; i++) {
        data_fill(p->seed, (p->next - p->start + i) * SECTOR, blk_sector(slot, first + i), SECTOR);
        p->crc = crc32(p->crc, blk_sector(slot, first + i), SECTOR);
    }
    p->piece[slot].first = first;
    p->piece[slot].count = count;
    blk_submit(&r);
    p->next += count;
    p->submitted++;
}

static void finish_piece(struct pass *p)
{
    unsigned slot = p->finished % BLK_SLOTS, first = p->piece[slot].first;

    p->errors += blk_status(slot) != 0;
    for (unsigned i = 0; p->operation == BLK_READ && i < p->piece[slot].count; i++)
        p->crc = crc32(p->crc, blk_sector(slot, first + i), SECTOR);
    p->finished++;
}

/* True once all is done. */
static bool pass_step(struct pass *p)
{
    while (p->finished < p->submitted && !blk_busy(p->finished % BLK_SLOTS))
        finish_piece(p);
    while (p->next < p->end && p->submitted - p->finished < BLK_SLOTS)
        submit_piece(p);
    return p->finished == p->submitted && p->next >= p->end;
}

static struct pass pass_begin(u8 operation, u64 start, u64 count, u32 seed)
{
    return (struct pass){ .operation = operation, .start = start, .next = start, .end = start + count, .seed = seed };
}

/* ---- The network ---- */

static unsigned ping(u32 to, unsigned count)
{
    static u16 number;
    unsigned answered = 0;

    for (unsigned i = 0; i < count; i++) {
        u64 end = system_time() + PATIENCE;

        number++;
        WAIT_UNTIL(net_ping(to, number) || system_time() > end);
        WAIT_UNTIL(net_ping_answered == number || system_time() > end);
        answered += net_ping_answered == number;
    }
    return answered;
}

static void fill_text(struct tcp *t, u32 offset, u8 *to, u32 n) { memcpy(to, t->text + offset, n); }
static void fill_data(struct tcp *t, u32 offset, u8 *to, u32 n) { data_fill(t->seed, offset, to, n); }

static void take_text(struct tcp *t, const u8 *data, u32 n)
{
    n = min(n, (u32)(sizeof(t->text) - 1 - t->received));
    memcpy(t->text + t->received, data, n);
    t->received += n;
}

static void take_and_sum(struct tcp *t, const u8 *data, u32 n)
{
    t->crc = crc32(t->crc, data, n);
    t->received += n;
    if (!n) {
        snprintf(t->text, sizeof(t->text), "%08x %u\n", t->crc, t->received);
        t->length = (u32)strlen(t->text);
        t->closing = true;
    }
}

static void sum_accepted(struct tcp *t)
{
    t->take = take_and_sum;
    t->fill = fill_text;
}

static struct tcp *send_begin(u32 to, u16 port, u32 bytes, u32 seed)
{
    struct tcp *t = tcp_connect(to, port);

    t->seed = seed;
    t->length = bytes;
    t->closing = true;
    t->fill = fill_data;
    t->take = take_text;
    tcp_output(t);
    return t;
}

TEST(card)
{
    net_address = parse_address(cmdline_value("ip"));
    has_card = netfront_init();
    if (!has_card)
        SKIP("no network card");
    tcp_listen(SUM_PORT, sum_accepted);
    CHECK_EQ(ping(parse_address(cmdline_value("peer")), 5), 5);
}

/* ---- The server ---- */

#define MAX_WORDS 8

static char *words[MAX_WORDS];   /* a command's: its number, its name, the arguments */
static char answer[200];
static bool quitting;

static u32 argument(unsigned i) { return (u32)parse_number(words[i + 2]); }

#define ANSWER(...) snprintf(answer, sizeof(answer), __VA_ARGS__)

static void answer_pass(struct pass *p)
{
    WAIT_UNTIL(pass_step(p));
    ANSWER("%08x %u", p->crc, p->errors);
}

/* read SECTOR COUNT: the data's sum, and how many requests failed */
static void do_read(void)
{
    struct pass p = pass_begin(BLK_READ, argument(0), argument(1), 0);

    answer_pass(&p);
}

/* write SECTOR COUNT SEED: the same, of what was written */
static void do_write(void)
{
    struct pass p = pass_begin(BLK_WRITE, argument(0), argument(1), argument(2));

    answer_pass(&p);
}

/* ping ADDRESS COUNT: how many were answered */
static void do_ping(void) { ANSWER("%u", ping(parse_address(words[2]), argument(1))); }

static void answer_sent(struct tcp *t, const char *before)
{
    for (u32 i = 0; i < t->received; i++)
        t->text[i] = t->text[i] == '\n' ? '\0' : t->text[i];
    ANSWER("%s%s%08x %u%s%s", before, t->state == TCP_DONE ? "" : "broken ", data_crc(t->seed, t->length), t->length,
           t->received ? ", " : "", t->text);
}

/* send ADDRESS PORT BYTES SEED: what was sent, its sum and length, and what the other said */
static void do_send(void)
{
    struct tcp *t = send_begin(parse_address(words[2]), (u16)argument(1), argument(2), argument(3));

    WAIT_UNTIL(t->state != TCP_RUNNING);
    answer_sent(t, "");
}

/* both ADDRESS PORT BYTES SEED SECTOR COUNT: a read and a send at the same time, and their answers */
static void do_both(void)
{
    struct pass p = pass_begin(BLK_READ, argument(4), argument(5), 0);
    struct tcp *t = send_begin(parse_address(words[2]), (u16)argument(1), argument(2), argument(3));
    char read[32];

    WAIT_UNTIL(pass_step(&p) && t->state != TCP_RUNNING);
    snprintf(read, sizeof(read), "%08x %u, ", p.crc, p.errors);
    answer_sent(t, read);
}

/* churn ADDRESS PORT SECTORS: sends, and reads again and again, until somebody ends this domain */
static void do_churn(void)
{
    send_begin(parse_address(words[2]), (u16)argument(1), 1u << 31, 0);
    for (;;) {
        struct pass p = pass_begin(BLK_READ, 0, argument(2), 0);

        WAIT_UNTIL(pass_step(&p));
    }
}

/* errors: packets with wrong sums, frames refused or kept, disk pages kept; times that TCP sent again */
static void do_errors(void) { ANSWER("%u %u %u, %u", net_bad_sums, netfront_errors, blk_stuck, tcp_resent); }

static void do_quit(void)
{
    quitting = true;
    ANSWER("bye");
}

static const struct command {
    const char *name;
    unsigned arguments;
    void (*run)(void);
} commands[] = {
    { "read", 2, do_read }, { "write", 3, do_write }, { "ping", 2, do_ping }, { "send", 4, do_send },
    { "both", 6, do_both }, { "churn", 3, do_churn },
    { "errors", 0, do_errors }, { "quit", 0, do_quit },
};

static unsigned split(char *text)
{
    unsigned n = 0;

    while (*text && n < MAX_WORDS) {
        words[n++] = text;
        while (*text && *text != ' ')
            text++;
        if (*text)
            *text++ = '\0';
    }
    return n;
}

static void run_command(unsigned n)
{
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        const struct command *c = &commands[i];

        if (!strncmp(words[1], c->name, strlen(c->name) + 1) && n == c->arguments + 2) {
            c->run();
            return;
        }
    }
    ANSWER("unknown command, or wrong number of arguments");
}

TEST(serve)
{
    static char text[256], reply[256];
    u64 last = 0;

    REQUIRE(store_watch("data/command", WATCH_COMMAND));
    printf("io: ready\n");
    while (!quitting) {
        const char *value;
        unsigned n;

        WAIT_UNTIL(store_fired(WATCH_COMMAND));
        value = store_read("data/command");
        snprintf(text, sizeof(text), "%s", value ? value : "");
        n = split(text);
        if (n < 2 || parse_number(words[0]) == last)
            continue;
        last = parse_number(words[0]);
        run_command(n);
        snprintf(reply, sizeof(reply), "%s %s", words[0], answer);
        CHECK(store_write("data/answer", reply));
    }
    CHECK_EQ(net_bad_sums, 0);
    CHECK_EQ(netfront_errors, 0);
    CHECK_EQ(blk_stuck, 0);
}
