/* See pvisor/fetch.h: nothing in release builds. */
#include <asm/atomic.h>
#include <asm/mm.h>
#include <asm/symbols.h>
#include <pvisor/domain.h>
#include <pvisor/fetch.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#ifdef DEBUG

#ifdef HOST_TEST        /* a unit test ends there */
#define FETCH_FAULT panic
#else
#define FETCH_FAULT(text, ...) printk(LOG_ERR text, __VA_ARGS__)
#endif

#define MAX_PIECES 64
#define NR_CALLERS 4

/* Bytes that one place in the code read, one access after the other. */
struct piece {
    u64 from, to;               /* machine addresses */
    u64 caller[NR_CALLERS];     /* return addresses, innermost first */
};

/* Bytes that two of them read. */
struct overlap {
    struct piece first, second;
    u64 call;                   /* rax */
    u16 domid, vcpu;
};

/* cpu_info()->fetched is the number of pieces and 1; 0: nothing is noted. */
struct log {
    u32 closed;                 /* pieces that do not grow any more: a part has begun since */
    u32 most;                   /* pieces there were */
    u32 nr_overlaps;            /* to be told when no lock is held */
    struct piece piece[MAX_PIECES];
    struct overlap overlap[4];
};
STATIC_PERCPU(struct log, logs);

/* Each pair of places is told once, by a number that stands for it. */
static u64 told[256];
static u32 nr_told, most;

static u64 places(const struct piece *first, const struct piece *second)
{
    u64 n = 0;

    for (unsigned i = 0; i < NR_CALLERS; i++)
        n = (n ^ first->caller[i] ^ second->caller[i] << 32) * 0x9e3779b97f4a7c15UL;    /* an odd number without a pattern */
    return n;
}

static bool is_told(u64 pair)
{
    u32 nr = read_once(nr_told);

    for (u32 i = 0; i < nr; i++)
        if (read_once(told[i]) == pair)
            return true;
    return nr == ARRAY_SIZE(told);
}

/* "inner+0x12 < outer+0x34", of size bytes at most. */
static const char *name_callers(const struct piece *p, char *text, size_t size)
{
    size_t n = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < NR_CALLERS && p->caller[i] && n < size; i++) {
        u64 start = 0, bytes;
        const char *name = symbol_lookup(p->caller[i], &start, &bytes);

        n += (size_t)snprintf(text + n, size - n, "%s%s+%#lx", i ? " < " : "", name ? name : "", p->caller[i] - start);
    }
    return text;
}

static void tell(const struct overlap *o)
{
    u64 from = max(o->first.from, o->second.from), to = min(o->first.to, o->second.to);
    u64 pair = places(&o->first, &o->second);
    u32 n = read_once(nr_told);
    char one[200], two[200];

    if (is_told(pair) || !try_cmpxchg(&nr_told, &n, n + 1))     /* another CPU tells of something: next time */
        return;
    write_once(told[n], pair);
    FETCH_FAULT("d%uv%u: double fetch %u: %lu bytes at machine address %#lx, of call %#lx, by (%s) and again by (%s)%s\n", o->domid,
                o->vcpu, n, to - from, from, o->call, name_callers(&o->first, one, sizeof(one)),
                name_callers(&o->second, two, sizeof(two)), n == ARRAY_SIZE(told) - 1 ? "; no more are told" : "");
}

static void tell_most(const struct log *log)
{
    if (log->most <= read_once(most))
        return;
    write_once(most, log->most);
    printk(LOG_DEBUG "d%uv%u: most pieces of guest memory that a call has read until now: %u%s (rax %#lx)\n", current->domain->id,
           current->id, log->most, log->most < MAX_PIECES ? "" : ", and more are not noted", guest_regs()->rax);
}

void fetch_look(void)
{
    struct log *log = &this_cpu(logs);
    u32 nr = log->nr_overlaps;

    log->nr_overlaps = 0;
    for (u32 i = 0; i < nr; i++)
        tell(&log->overlap[i]);
    tell_most(log);
}

/* Of those that there is no room for, one that is met again is told then. */
static void note_overlap(struct log *log, const struct piece *first, const struct piece *second)
{
    if (log->nr_overlaps < ARRAY_SIZE(log->overlap) && !is_told(places(first, second)))
        log->overlap[log->nr_overlaps++] = (struct overlap){ *first, *second, guest_regs()->rax, current->domain->id, (u16)current->id };
}

static bool same_place(const struct piece *p, const struct piece *q) { return !memcmp(p->caller, q->caller, sizeof(p->caller)); }

static void add(struct log *log, const struct piece *new)
{
    u32 nr = cpu_info()->fetched - 1;
    struct piece *last = nr > log->closed ? &log->piece[nr - 1] : NULL;

    for (u32 i = 0; i < nr; i++)
        if (log->piece[i].from < new->to && new->from < log->piece[i].to)
            note_overlap(log, &log->piece[i], new);
    if (last && last->to == new->from && same_place(last, new)) {
        last->to = new->to;
    } else if (nr < MAX_PIECES) {
        log->piece[nr] = *new;
        cpu_info()->fetched++;
        log->most = max(log->most, nr + 1);
    }
}

void fetch_note(u64 va, size_t len)
{
    struct piece p = { .caller = { 0 } };

    if (!cpu_info()->fetched)
        return;
    if (cpu_info()->fetched == 1)
        this_cpu(logs).closed = 0;
    stack_trace((u64)__builtin_frame_address(0), p.caller, NR_CALLERS);
    while (len) {
        size_t n = min(len, PAGE_SIZE - (va & ~PAGE_MASK));
        maddr_t at;

        /* Another vCPU may have unmapped it meanwhile. */
        if (linear_to_maddr(va, &at)) {
            p.from = at.v;
            p.to = at.v + n;
            add(&this_cpu(logs), &p);
        }
        va += n;
        len -= n;
    }
}

u32 fetch_mark(void)
{
    u32 fetched = cpu_info()->fetched;

    if (fetched)
        this_cpu(logs).closed = fetched - 1;
    return fetched;
}

void fetch_forget(u32 mark)
{
    if (cpu_info()->fetched)
        cpu_info()->fetched = mark;
}

#endif
