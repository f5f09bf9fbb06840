/* Hypercalls, words for people, and waiting. */
#include "pv.h"

struct console_ring {
    char in[1024], out[2048];
    u32 in_cons, in_prod, out_cons, out_prod;
};

/* ---- Hypercalls ---- */

#ifdef __x86_64__
long hypercall(unsigned nr, word_t a, word_t b, word_t c, word_t d)
{
    register word_t r10 asm("r10") = d;
    long rc;

    asm volatile("syscall" : "=a"(rc), "+D"(a), "+S"(b), "+d"(c), "+r"(r10) : "0"((long)nr) : "rcx", "r11", "memory");
    return rc;
}
#else
long hypercall(unsigned nr, word_t a, word_t b, word_t c, word_t d)
{
    long rc;

    asm volatile("int $0x82" : "=a"(rc), "+b"(a), "+c"(b), "+d"(c), "+S"(d) : "0"(nr) : "memory");
    return rc;
}
#endif

NATIVE(shared_info) *shared_info(void)
{
    static char page[PAGE_SIZE] __attribute__((aligned(4096)));
    static bool mapped;

    if (!mapped)
        map_at((word_t)page, (word_t)(start_info->shared_info >> PAGE_SHIFT));
    mapped = true;
    return (void *)page;
}

/* ---- Words ---- */

static struct console_ring *ring(void) { return (struct console_ring *)map_frame(W_RING, (word_t)start_info->console_mfn, PTE_DATA); }

static void notify(u32 port)
{
    struct evtchn_send send = { .port = port };

    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (word_t)&send, 0, 0);
}

static void to_console(const char *text)
{
    struct console_ring *r = ring();
    u64 patience = now_ns() + 200000000;

    for (; *text; text++) {
        while (read_once(r->out_prod) - read_once(r->out_cons) > sizeof(r->out) - 2 && now_ns() < patience) {
            notify(start_info->console_evtchn);
            wait_for(start_info->console_evtchn, now_ns() + 10000000);
        }
        if (*text == '\n')
            r->out[r->out_prod++ % sizeof(r->out)] = '\r';
        r->out[r->out_prod++ % sizeof(r->out)] = *text;
        barrier();
    }
    notify(start_info->console_evtchn);
}

void say_to_log(const char *fmt, ...)
{
    static char line[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, strlen(line), (word_t)line, 0);
}

void say(const char *fmt, ...)
{
    static char line[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    to_console(line);
}

int console_in(void)
{
    struct console_ring *r = ring();

    if (read_once(r->in_cons) == read_once(r->in_prod))
        return -1;
    barrier();
    return r->in[r->in_cons++ % sizeof(r->in)];
}

void fail(const char *fmt, ...)
{
    static char text[480];
    u32 reason = SHUTDOWN_crash;
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    say_to_log("pvisor loader: %s\n", text);
    say("pvisor loader: %s\n", text);
    for (;;)
        hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (word_t)&reason, 0, 0);
}

/* What the compression libraries' rest calls when a check of theirs fails. */
void panic(const char *fmt, ...)
{
    fail("%s", fmt);
}

/* ---- Time and events ---- */

static u64 scale(u64 ticks, s8 shift, u32 mul)
{
    ticks = shift < 0 ? ticks >> -shift : ticks << shift;
    return (ticks >> 32) * mul + ((ticks & 0xffffffff) * mul >> 32);
}

u64 now_ns(void)
{
    const struct vcpu_time_info *t = &shared_info()->vcpu_info[0].time;
    u32 version, low, high;
    u64 ns;

    do {
        version = read_once(t->version);
        barrier();
        asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
        ns = t->system_time + scale(((u64)high << 32 | low) - t->tsc_timestamp, t->tsc_shift, t->tsc_to_system_mul);
        barrier();
    } while (version & 1 || version != read_once(t->version));
    return ns;
}

void wait_for(u32 port, u64 until_ns)
{
    NATIVE(shared_info) *s = shared_info();
    NATIVE(sched_poll) poll = { .ports = (word_t)&port, .nr_ports = 1, .timeout = until_ns };
    unsigned bits = sizeof(s->evtchn_pending.word[0]) * 8;

    hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, (word_t)&poll, 0, 0);
    __atomic_fetch_and(&s->evtchn_pending.word[port / bits], ~((word_t)1 << port % bits), __ATOMIC_SEQ_CST);
}

void forget_events(void)
{
    NATIVE(shared_info) *s = shared_info();

    memset(&s->evtchn_pending, 0, sizeof(s->evtchn_pending));
    memset(&s->evtchn_mask, 0, sizeof(s->evtchn_mask));
    for (u32 i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) {
        s->vcpu_info[i].evtchn_upcall_pending = 0;
        s->vcpu_info[i].evtchn_upcall_mask = 1;
        s->vcpu_info[i].evtchn_pending_sel = 0;
    }
}
