/*
 * Event channels, delivered through FIFO queues in pages that we give: set-up, order by priority, and wrong frames.
 * The switch is for good, so these tests are a suite of their own and run in this order.
 */
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "test.h"

#define WORDS_PER_PAGE 1024
#define NR_SEEN 16

static u8 *control_page;
static volatile u32 *words;    /* one page of event words: ports below 1024 */
static unsigned heads[EVTCHN_FIFO_MAX_QUEUES];
static unsigned seen[NR_SEEN], nr_seen;

static volatile struct evtchn_fifo_control_block *control(void)
{
    return (void *)(control_page + 256);
}

/* Takes the port off its queue: clears LINKED, and tells the next in line, 0 for none. */
static unsigned unlink_port(unsigned port)
{
    u32 word = words[port];

    while (!__atomic_compare_exchange_n(&words[port], &word,
                                        word & ~(1U << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return word & EVTCHN_FIFO_LINK_MASK;
}

static void take_port(unsigned port)
{
    u32 word = words[port];

    if (!(word >> EVTCHN_FIFO_PENDING & 1) || (word >> EVTCHN_FIFO_MASKED & 1))
        return;
    __atomic_fetch_and(&words[port], ~(1U << EVTCHN_FIFO_PENDING), __ATOMIC_SEQ_CST);
    event_count[port]++;
    if (nr_seen < NR_SEEN && (is_dom0() || port != start_info->console_evtchn))
        seen[nr_seen++] = port;
}

static void drain_queue(unsigned queue)
{
    unsigned port = heads[queue] ? heads[queue] : control()->head[queue];

    heads[queue] = unlink_port(port);
    if (!heads[queue])
        __atomic_fetch_and(&control()->ready, ~(1U << queue), __ATOMIC_SEQ_CST);
    take_port(port);
}

static void scan_fifo(unsigned vcpu)
{
    u32 ready;

    upcall_count++;
    write_once(vcpu_info(vcpu)->evtchn_upcall_pending, 0);
    while ((ready = control()->ready))
        drain_queue((unsigned)__builtin_ctz(ready));
}

static long init_control(word frame, u32 offset, u32 vcpu)
{
    struct evtchn_init_control op = { .control_gfn = frame, .offset = offset, .vcpu = vcpu };
    long rc = event_channel_op(EVTCHNOP_init_control, &op);

    if (rc == 0)
        CHECK_EQ(op.link_bits, EVTCHN_FIFO_LINK_BITS);
    return rc;
}

static long expand_array(word frame)
{
    struct evtchn_expand_array op = { .array_gfn = frame };

    return event_channel_op(EVTCHNOP_expand_array, &op);
}

TEST(refused_set_up)
{
    control_page = page_alloc();
    words = page_alloc();
    CHECK_REFUSED(expand_array(virt_to_mfn((void *)words))); /* no control block yet */
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 4096 - 64, 0));
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 4096, 0));
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), ~7u, 0));
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 4, 0)); /* alignment is 8 */
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 0, 4000));
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 0, ~0u));
    CHECK_REFUSED(init_control(foreign_frame(0), 0, 0));
    CHECK_REFUSED(init_control(~0UL, 0, 0));
    CHECK_REFUSED(init_control(virt_to_mfn(table_of(window(0), 1)), 0, 0));
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
}

TEST(set_up)
{
    unsigned a = (unsigned)alloc_unbound(DOMID_SELF, DOMID_SELF);

    events_off(); /* an upcall that looked in the old place would leave the queue as it is, and no other comes */
    REQUIRE_OK(init_control(virt_to_mfn(control_page), 256, 0));
    upcall = scan_fifo;
    CHECK_REFUSED(init_control(virt_to_mfn(control_page), 256, 0)); /* once for a vCPU */
    CHECK_REFUSED(expand_array(foreign_frame(0)));
    CHECK_REFUSED(expand_array(virt_to_mfn(table_of(window(0), 1))));
    REQUIRE_OK(expand_array(virt_to_mfn((void *)words)));
    events_on();
    CHECK_OK(close_port(a)); /* one from before the switch */
}

/* Frames that the hypervisor writes to may not become page tables. */
TEST(frames_are_writable)
{
    const void *page = (const void *)words;

    make_readonly(page);
    CHECK_REFUSED(pin(page, 1));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, virt_to_mfn(control_page), 0));
    make_writable(page);
}

static unsigned new_ipi(void)
{
    long port = bind_ipi(0);

    CHECK(port > 0);
    return (unsigned)port;
}

TEST(delivery)
{
    unsigned port = new_ipi();
    u32 before = event_count[port];

    CHECK_OK(port_unmask(port));
    CHECK_OK(send_port(port));
    CHECK_OK(send_port(port));
    CHECK_EQ(event_count[port], before + 2);
    CHECK_EQ(words[port] >> EVTCHN_FIFO_PENDING & 1, 0);
    CHECK_OK(close_port(port));
}

TEST(masked_port)
{
    unsigned port = new_ipi();
    u32 before = event_count[port];

    __atomic_fetch_or(&words[port], 1U << EVTCHN_FIFO_MASKED, __ATOMIC_SEQ_CST);
    CHECK_OK(send_port(port));
    CHECK_EQ(event_count[port], before);
    CHECK_EQ(words[port] >> EVTCHN_FIFO_PENDING & 1, 1);
    CHECK_OK(port_unmask(port));
    CHECK_EQ(event_count[port], before + 1);
    CHECK_OK(close_port(port));
}

static long set_priority(unsigned port, unsigned priority)
{
    struct evtchn_set_priority op = { .port = port, .priority = priority };

    return event_channel_op(EVTCHNOP_set_priority, &op);
}

TEST(priorities)
{
    unsigned low = new_ipi(), middle = new_ipi(), high = new_ipi();

    CHECK_OK(port_unmask(low));
    CHECK_OK(port_unmask(middle));
    CHECK_OK(port_unmask(high));
    CHECK_OK(set_priority(low, EVTCHN_FIFO_PRIORITY_MIN));
    CHECK_OK(set_priority(high, EVTCHN_FIFO_PRIORITY_MAX));
    CHECK_REFUSED(set_priority(high, EVTCHN_FIFO_MAX_QUEUES));
    CHECK_REFUSED(set_priority(high, ~0u));
    CHECK_REFUSED(set_priority(900, 0));
    nr_seen = 0;
    events_off();
    CHECK_OK(send_port(low));
    CHECK_OK(send_port(middle));
    CHECK_OK(send_port(high));
    events_on();
    CHECK_EQ(nr_seen, 3);
    CHECK_EQ(seen[0], high);
    CHECK_EQ(seen[1], middle);
    CHECK_EQ(seen[2], low);
    CHECK_OK(close_port(low));
    CHECK_OK(close_port(middle));
    CHECK_OK(close_port(high));
}

TEST(order_within_queue)
{
    unsigned port[3] = { new_ipi(), new_ipi(), new_ipi() };

    nr_seen = 0;
    events_off();
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(port_unmask(port[i]));
    for (unsigned i = 3; i-- > 0;)
        CHECK_OK(send_port(port[i]));
    events_on();
    CHECK_EQ(nr_seen, 3);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(seen[i], port[2 - i]);
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(close_port(port[i]));
}

/* We own the queue's memory and may write anything into it: only our own events suffer. */
TEST(corrupt_queue)
{
    unsigned a = new_ipi(), b = new_ipi();

    CHECK_OK(port_unmask(a));
    CHECK_OK(port_unmask(b));
    events_off();
    CHECK_OK(send_port(a));
    for (unsigned i = 0; i < WORDS_PER_PAGE; i++)
        words[i] = 0xffffffff;
    for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++)
        control()->head[i] = 0xffffffff;
    (void)send_port(b);
    (void)port_unmask(a);
    (void)close_port(b);
    for (unsigned i = 0; i < WORDS_PER_PAGE; i++)
        words[i] = 0;
    for (unsigned i = 0; i < EVTCHN_FIFO_MAX_QUEUES; i++)
        control()->head[i] = heads[i] = 0;
    control()->ready = 0;
    (void)close_port(a);
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
    write_once(vcpu_info(0)->evtchn_upcall_pending, 0);
    events_on();
}
