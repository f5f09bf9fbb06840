/*
 * Records of events, into this CPU's trace buffer.
 *
 * The head of a buffer is the only thing in it that we read, and of it cons alone: dom0 may write anything there, at any time. Where we
 * write next is kept here. A cons that cannot be counts as a buffer that is full.
 */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/trace.h>

u32 trace_events;
cpumask_t trace_cpus;

struct trace_buffer {
    u32 guest_shared **pages;   /* NULL: there is none */
    u32 bytes;                  /* for records */
    u32 prod;                   /* as in struct t_buf, below 2 * bytes */
    u32 lost;                   /* events, since there was no room */
    u64 lost_since;             /* TSC */
    bool spoilt, said_so;       /* cons was none, once */
};
STATIC_PERCPU(struct trace_buffer, buffers);
static void (*notify)(u32 virq);

#define WORD 4u
#define HEAD_WORDS 3u                                       /* event and TSC */
#define LOST_WORDS 4u                                       /* of data */
#define RECORD_MAX ((HEAD_WORDS + TRACE_EXTRA_MAX) * WORD)
/* An event is lost when not so much is free: what goes in at once is it, a note of lost ones, and what is left at the end before each. */
#define ROOM_NEEDED (4 * RECORD_MAX)

void trace_give_pages(unsigned cpu, u32 guest_shared **pages, u32 nr)
{
    struct trace_buffer *b = &cpu_var(buffers, cpu);

    *b = (struct trace_buffer){ .pages = pages, .bytes = nr * (u32)PAGE_SIZE - (u32)sizeof(struct t_buf) };
}

static struct t_buf guest_shared *head_of(const struct trace_buffer *b) { return (struct t_buf guest_shared *)b->pages[0]; }

/* What dom0 has not read yet; as much as there is room for if it says nonsense. */
static u32 unread(struct trace_buffer *b)
{
    /* Each look stands for itself: it may be another value than the last event's, and nothing is kept of that. */
    u32 cons = read_shared_again(head_of(b)->cons), n = b->prod >= cons ? b->prod - cons : b->prod + 2 * b->bytes - cons;

    if (likely(cons < 2 * b->bytes && n <= b->bytes))
        return n;
    if (!b->spoilt) {
        b->spoilt = true;
        raise_softirq(SOFTIRQ_TRACE);
    }
    return b->bytes;
}

static void put_word(struct trace_buffer *b, u32 word)
{
    u32 at = (u32)sizeof(struct t_buf) + (b->prod < b->bytes ? b->prod : b->prod - b->bytes);

    write_shared(b->pages[at / PAGE_SIZE][at % PAGE_SIZE / WORD], word);
    b->prod = b->prod + WORD == 2 * b->bytes ? 0 : b->prod + WORD;
}

/* No record goes over the buffer's end: what is left there, if it is too little, is filled with records that say so. */
static void pad_to_end(struct trace_buffer *b, u32 words)
{
    u32 left = (b->bytes - (b->prod < b->bytes ? b->prod : b->prod - b->bytes)) / WORD;

    if (left >= words)
        return;
    while (left) {
        u32 data = min(left - 1, (u32)TRACE_EXTRA_MAX);

        put_word(b, TRC_TRACE_WRAP_BUFFER | data << TRACE_EXTRA_SHIFT);
        for (u32 i = 0; i < data; i++)
            put_word(b, 0);
        left -= data + 1;
    }
}

static void put_record(struct trace_buffer *b, u32 event, u64 tsc, unsigned nr, const u32 *words)
{
    pad_to_end(b, HEAD_WORDS + nr);
    put_word(b, event | nr << TRACE_EXTRA_SHIFT | (u32)TRC_HD_CYCLE_FLAG);
    put_word(b, (u32)tsc);
    put_word(b, (u32)(tsc >> 32));
    for (unsigned i = 0; i < nr; i++)
        put_word(b, words[i]);
}

static void put_lost(struct trace_buffer *b, u64 tsc)
{
    const struct vcpu *v = current;
    const u32 words[LOST_WORDS] = { b->lost, v ? v->domain->id | v->id << 16 : DOMID_IDLE, TRACE_U64(b->lost_since) };

    put_record(b, TRC_LOST_RECORDS, tsc, LOST_WORDS, words);
    b->lost = 0;
}

static void lose(struct trace_buffer *b, u64 tsc)
{
    if (!b->lost++)
        b->lost_since = tsc;
}

/* dom0 hears of it when half of the buffer has come to be full. */
static void put_event(struct trace_buffer *b, u32 event, unsigned nr, const u32 *words)
{
    u64 tsc = rdtsc();
    u32 before = unread(b), start = b->prod, added;

    if (b->bytes - before < ROOM_NEEDED) {
        lose(b, tsc);
        return;
    }
    if (unlikely(b->lost))
        put_lost(b, tsc);
    put_record(b, event, tsc, nr, words);
    barrier();      /* x86 makes stores visible in order */
    write_shared(head_of(b)->prod, b->prod);
    added = b->prod >= start ? b->prod - start : b->prod + 2 * b->bytes - start;
    if (before < b->bytes / 2 && before + added >= b->bytes / 2)
        raise_softirq(SOFTIRQ_TRACE);
}

bool trace_wanted(u32 event)
{
    u32 both = event & read_once(trace_events);

    return both >> TRC_CLS_SHIFT && both >> TRC_SUBCLS_SHIFT & 0xf && cpumask_test(&trace_cpus, this_cpu_id());
}

void trace_record(u32 event, unsigned nr, const u32 *words)
{
    struct trace_buffer *b = &this_cpu(buffers);
    u64 flags;

    if (!trace_wanted(event) || !b->pages)
        return;
    flags = irq_save();
    put_event(b, event, nr, words);
    irq_restore(flags);
}

void trace_forget_lost(void)
{
    unsigned cpu;

    for_each_online_cpu(cpu)
        cpu_var(buffers, cpu).lost = 0;
}

static void tell_dom0(void)
{
    struct trace_buffer *b = &this_cpu(buffers);

    if (b->spoilt && !b->said_so) {
        b->said_so = true;
        printk(LOG_WARNING "CPU%u's trace buffer: its reader's index is beyond what was written; events are lost until it is not\n",
               this_cpu_id());
    }
    notify(VIRQ_TBUF);
}

void trace_softirq_init(void (*send)(u32 virq))
{
    notify = send;
    softirq_register(SOFTIRQ_TRACE, tell_dom0);
}
