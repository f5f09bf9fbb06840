/*
 * FIFO event channels: a guest that plays by the rules gets every event in order, one that does not spoils
 * nothing but its own; and the same with CPUs that send, close and bind at once.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c tests/unit/fake/clause.c common/event/invariant.c
// SOURCES: common/event/port.c common/event/channel.c common/event/call.c common/event/virq.c common/domain/rights.c
// SOURCES: common/event/deliver.c common/event/pending.c common/event/two_level.c common/event/fifo.c
// LIBS: -lpthread
#include <pthread.h>
#include "fake/event_rig.h"
#include "fake/step.h"
#include <pvisor/printk.h>

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define MASKED  (1u << EVTCHN_FIFO_MASKED)
#define LINKED  (1u << EVTCHN_FIFO_LINKED)
#define BUSY    (1u << EVTCHN_FIFO_BUSY)

static mfn_t control_frame[4], array_frame[128];
static unsigned nr_array;

static struct evtchn_fifo_control_block *control(u32 vcpu)
{
    return (void *)(fake_frame_data(control_frame[vcpu]) + 64);
}

static u32 *word(u32 port) { return (u32 *)fake_frame_data(array_frame[port / 1024]) + port % 1024; }

static s64 init_control(u32 vcpu, mfn_t m, u32 offset)
{
    struct evtchn_init_control a = { .control_gfn = m.v, .offset = offset, .vcpu = vcpu };
    s64 rc = event_call(EVTCHNOP_init_control, &a, sizeof(a));

    if (rc == 0)
        assert_int_equal(a.link_bits, 17);
    return rc;
}

static void expand(void)
{
    array_frame[nr_array] = fake_frame_of(one);
    assert_int_equal(CALL(expand_array, array_frame[nr_array].v), 0);
    nr_array++;
}

static void start_fifo(void)
{
    nr_array = 0;
    for (u32 i = 0; i < 4; i++) {
        control_frame[i] = fake_frame_of(one);
        assert_int_equal(init_control(i, control_frame[i], 64), 0);
    }
    expand();
}

/* Takes the next event off a queue as a guest does; 0: the queue is empty. head[] is the guest's own copy. */
static u32 consume(u32 vcpu, u32 priority, u32 head[16])
{
    u32 port = head[priority] ? head[priority] : control(vcpu)->head[priority];
    u32 w = read_once(*word(port)), next;

    while (!try_cmpxchg(word(port), &w, w & ~(LINKED | EVTCHN_FIFO_LINK_MASK)))
        ;
    next = w & EVTCHN_FIFO_LINK_MASK;
    head[priority] = next;
    if (!next)
        clear_bit(priority, &control(vcpu)->ready);
    w = read_once(*word(port));
    if ((w & (PENDING | MASKED)) != PENDING)
        return 0xffffffff; /* unlinked, but nothing to handle */
    atomic_and(word(port), ~PENDING);
    return port;
}

/* All events of a vCPU, highest priority first. */
static unsigned drain(u32 vcpu, u32 *ports, unsigned max)
{
    u32 head[16] = { 0 };
    unsigned n = 0;

    *upcall_pending(one->vcpu[vcpu]) = 0;
    while (control(vcpu)->ready) {
        u32 port = consume(vcpu, find_first_set(control(vcpu)->ready), head);

        if (port != 0xffffffff && n < max)
            ports[n++] = port;
    }
    return n;
}

static void delivers_in_order(void **state)
{
    u32 got[16], port[6];

    (void)state;
    start_fifo();
    for (u32 i = 0; i < 6; i++) {
        port[i] = (u32)bind_ipi(1);
        assert_int_equal(CALL(set_priority, port[i], i < 3 ? 7 : 2), 0);
    }
    for (u32 i = 0; i < 6; i++)
        assert_int_equal(CALL(send, port[i]), 0);
    assert_int_equal(CALL(send, port[0]), 0); /* pending already */
    assert_int_equal(*upcall_pending(one->vcpu[1]), 1);
    assert_int_equal(control(1)->ready, 1 << 2 | 1 << 7);
    assert_int_equal(drain(1, got, 16), 6);
    for (u32 i = 0; i < 6; i++)
        assert_int_equal(got[i], port[(i + 3) % 6]);

    /* A second round starts from the empty queue. */
    assert_int_equal(CALL(send, port[5]), 0);
    assert_int_equal(CALL(send, port[4]), 0);
    assert_int_equal(drain(1, got, 16), 2);
    assert_int_equal(got[0], port[5]);
    assert_int_equal(got[1], port[4]);
    assert_int_equal(drain(0, got, 16), 0);
}

static void masked_events_are_not_linked(void **state)
{
    u32 got[4], port;

    (void)state;
    start_fifo();
    port = (u32)bind_ipi(0);
    *word(port) |= MASKED;
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(*word(port), PENDING | MASKED);
    assert_int_equal(evtchn_port_pending(one, port), 1);
    assert_int_equal(CALL(unmask, port), 0);
    assert_int_equal(*word(port), PENDING | LINKED);
    assert_int_equal(drain(0, got, 4), 1);
    assert_int_equal(*word(port), 0);
}

/*
 * The tail of the queue that an event leaves must forget it, or what is added there next hangs on the wrong
 * list.
 */
static void events_change_queues(void **state)
{
    u32 got[8], a, b, far, near;

    (void)state;
    start_fifo();
    a = (u32)alloc_unbound(DOMID_SELF, 2);
    b = (u32)bind_ipi(0);
    fake_run(two, 0);
    near = (u32)bind_interdomain(1, a);
    far = near;
    assert_int_equal(CALL(send, far), 0);
    fake_run(one, 0);
    assert_int_equal(drain(0, got, 8), 1);

    assert_int_equal(CALL(bind_vcpu, a, 2), 0);
    assert_int_equal(CALL(set_priority, a, 0), 0);
    fake_run(two, 0);
    assert_int_equal(CALL(send, far), 0);
    fake_run(one, 0);
    assert_int_equal(CALL(send, b), 0); /* into the queue that a was the tail of */
    assert_int_equal(drain(0, got, 8), 1);
    assert_int_equal(got[0], b);
    assert_int_equal(drain(2, got, 8), 1);
    assert_int_equal(got[0], a);

    /* While linked it stays where it is. */
    fake_run(two, 0);
    assert_int_equal(CALL(send, far), 0);
    fake_run(one, 0);
    assert_int_equal(CALL(bind_vcpu, a, 3), 0);
    atomic_and(word(a), ~PENDING);
    fake_run(two, 0);
    assert_int_equal(CALL(send, far), 0);
    fake_run(one, 0);
    assert_int_equal(drain(3, got, 8), 0);
    assert_int_equal(drain(2, got, 8), 1);
}

static void pending_survives_the_switch(void **state)
{
    u32 got[8], far, near, late;

    (void)state;
    nr_array = 0;
    near = connect(&far);
    fake_run(two, 0);
    assert_int_equal(CALL(send, far), 0); /* two-level still */
    fake_run(one, 0);
    control_frame[0] = fake_frame_of(one);
    assert_int_equal(init_control(0, control_frame[0], 64), 0);
    late = (u32)bind_ipi(0);
    assert_int_equal(CALL(send, late), 0); /* no word yet */
    assert_int_equal(evtchn_port_pending(one, late), 1);
    expand();
    assert_int_equal(drain(0, got, 8), 2);
    assert_int_equal(got[0], near);
    assert_int_equal(got[1], late);
}

static u32 switch_far;

static void send_to_one(void)
{
    step_on();
    BUG_ON(evtchn_send(two, switch_far) != 0);
    step_off();
}

static void change_to_fifo(void)
{
    fake_run(one, 0);
    BUG_ON(fifo_init_control(one, &(struct evtchn_init_control){ .control_gfn = control_frame[0].v, .offset = 64 }));
}

/* Between two instructions of who sends. */
static bool switches_after(unsigned instructions)
{
    u32 near = connect(&switch_far);
    bool happened = step_over(send_to_one, instructions, change_to_fifo);

    if (happened) {
        memset(fake_frame_data(array_frame[0]), 0, PAGE_SIZE);
        assert_int_equal(CALL(expand_array, array_frame[0].v), 0);
        assert_true(*word(near) & PENDING);
    }
    assert_int_equal(CALL(reset, DOMID_SELF), 0);
    memset(one->shared_info, 0, PAGE_SIZE);
    return happened;
}

static void no_event_is_lost_by_the_switch(void **state)
{
    unsigned n = 1;

    (void)state;
    control_frame[0] = fake_frame_of(one);
    array_frame[0] = fake_frame_of(one);
    while (switches_after(n))
        n++;
    assert_true(n > 1);
}

static void linked_ports_are_not_given_out(void **state)
{
    u32 got[8], port;

    (void)state;
    start_fifo();
    port = (u32)bind_ipi(0);
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(CALL(close, port), 0);
    assert_int_equal(*word(port), LINKED);
    assert_int_equal(bind_ipi(0), port + 1);
    assert_int_equal(drain(0, got, 8), 0);
    assert_int_equal(bind_ipi(0), port);
    assert_int_equal(bind_ipi(0), port + 2);
}

static void checks_its_arguments(void **state)
{
    mfn_t m = fake_frame_of(one), foreign = fake_frame_of(two), table = fake_frame_of(one);

    (void)state;
    fake_frame(table)->is_table = true;
    bind_ipi(0);
    assert_int_equal(CALL(expand_array, m.v), -EOPNOTSUPP);
    assert_int_equal(CALL(set_priority, 1, 3), -ENOSYS);
    assert_int_equal(init_control(4, m, 0), -ENOENT);
    assert_int_equal(init_control(0, m, 4), -EINVAL);
    assert_int_equal(init_control(0, m, PAGE_SIZE - 64), -EINVAL);
    assert_int_equal(init_control(0, m, 0xfffffff8), -EINVAL);
    assert_int_equal(init_control(0, foreign, 0), -EINVAL);
    assert_int_equal(init_control(0, table, 0), -EINVAL);
    assert_int_equal(init_control(0, mfn(~0UL), 0), -EINVAL);
    assert_int_equal(fake_frame(m)->refs, 1);

    assert_int_equal(init_control(0, m, PAGE_SIZE - 72), 0);
    assert_int_equal(init_control(0, m, 0), -EINVAL);
    assert_int_equal(fake_frame(m)->refs, 2);
    assert_int_equal(CALL(expand_array, foreign.v), -EINVAL);
    assert_int_equal(CALL(expand_array, ~0UL), -EINVAL);
    assert_int_equal(CALL(set_priority, 1, 16), -EINVAL);
    assert_int_equal(CALL(set_priority, 9999, 1), -EINVAL);
    for (unsigned i = 0; i < 128; i++)
        assert_int_equal(CALL(expand_array, m.v), 0);
    assert_int_equal(CALL(expand_array, m.v), -ENOSPC);
    assert_int_equal(fake_frame(m)->writers, 129);
}

/* Port 0 is never open: what the guest writes into its word makes it neither pending nor linked. */
static void port_zero_is_never_open(void **state)
{
    mfn_t m = fake_frame_of(one), words_frame = fake_frame_of(one);
    event_word_t *word = map_frame(words_frame), spoilt = 1u << EVTCHN_FIFO_PENDING | 1u << EVTCHN_FIFO_MASKED;

    (void)state;
    assert_int_equal(init_control(0, m, 0), 0);
    assert_int_equal(CALL(expand_array, words_frame.v), 0);
    assert_int_equal(alloc_unbound(DOMID_SELF, two->id), 1);
    word[0] = spoilt;
    assert_int_equal(CALL(unmask, 0), 0);
    assert_int_equal(word[0], spoilt);
    assert_int_equal(evtchn_port_pending(one, 0), 0);
    assert_int_equal(CALL(set_priority, 0, 1), -EINVAL);
    unmap_frame(word);
}

static void lack_of_memory_leaves_it_as_it_was(void **state)
{
    mfn_t m = fake_frame_of(one);

    (void)state;
    for (int i = 0; i < 5; i++) {
        fake.allocs_before_failure = i ? 2 : 1; /* what one attempt got is there for the next */
        assert_int_equal(init_control(0, m, 0), -ENOMEM);
        assert_int_equal(fake_frame(m)->refs, 1);
        assert_ptr_equal(one->evtchn->format, &evtchn_two_level);
    }
    fake.allocs_before_failure = 0;
    assert_int_equal(init_control(0, m, 0), 0);
}

static void has_many_ports(void **state)
{
    u32 got[4], last = EVTCHN_FIFO_NR_CHANNELS - 1;

    (void)state;
    start_fifo();
    while (nr_array < 128)
        expand();
    for (u32 port = 1; port <= last; port++)
        assert_int_equal(evtchn_bind_ipi(one, 0), port);
    assert_int_equal(bind_ipi(0), -ENOSPC);
    assert_int_equal(CALL(send, last), 0);
    assert_int_equal(drain(0, got, 4), 1);
    assert_int_equal(got[0], last);
}

static void reset_goes_back_to_two_levels(void **state)
{
    u32 port;

    (void)state;
    start_fifo();
    port = (u32)bind_ipi(0);
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(CALL(reset, DOMID_SELF), 0);
    for (u32 i = 0; i < 4; i++)
        assert_int_equal(fake_frame(control_frame[i])->refs, 1);
    assert_int_equal(fake_frame(array_frame[0])->refs, 1);
    assert_int_equal(bind_ipi(0), port);
    assert_int_equal(CALL(send, port), 0);
    assert_true(test_bit(port, (u8 *)one->shared_info + 2048));
    start_fifo();
    assert_int_equal(CALL(reset, DOMID_SELF), 0);
}

/* A port beyond those of two levels keeps the queue that it was on last; in the next life that is no queue of its. */
static void high_ports_after_a_reset(void **state)
{
    u32 got[4], high = EVTCHN_2L_NR_CHANNELS_64 + 100;

    (void)state;
    for (u32 vcpu = 4; vcpu-- > 0;) {
        start_fifo();
        while (nr_array < 5)
            expand();
        for (u32 port = 1; port <= high; port++)
            assert_int_equal(evtchn_bind_ipi(one, vcpu), port);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(CALL(send, high - i), 0);
            assert_int_equal(CALL(send, 1 + i), 0);
        }
        assert_int_equal(drain(vcpu, got, 4), 4);
        assert_int_equal(got[0], high);
        assert_int_equal(got[1], 1);
        assert_int_equal(got[2], high - 1);
        assert_int_equal(CALL(send, high), 0);      /* pending, and at a tail, when all ends */
        assert_int_equal(CALL(reset, DOMID_SELF), 0);
    }
}

/* Whatever the guest writes into its words and control blocks, calls end and touch nothing else. */
static void survives_spoilt_words(void **state)
{
    u64 r = 12345;

    (void)state;
    start_fifo();
    for (u32 i = 1; i < 200; i++)
        bind_ipi(i % 4);
    for (u32 i = 0; i < 100000; i++) {
        u32 port;

        r = r * 6364136223846793005UL + 1442695040888963407UL;
        port = 1 + (r >> 33) % 199;
        switch (r >> 60) {
        case 0: case 1: case 2: *word((r >> 20) % 1024) = (u32)(r >> 28); break;
        case 3: *word(port) ^= LINKED; break;
        case 4: *word(port) |= BUSY | EVTCHN_FIFO_LINK_MASK; break;
        case 5: memset(control(port % 4), (int)(r >> 40), 72); break;
        case 6: CALL(unmask, port); break;
        case 7: CALL(set_priority, port, (u32)(r >> 10) % 20); break;
        case 8: CALL(close, port); break;
        case 9: case 10: evtchn_bind_ipi(one, port % 4); break;
        default: CALL(send, port);
        }
    }
}

/* --- Several CPUs --------------------------------------------------------------------------------- */

static u32 shared_near, shared_far;
static bool stop;

static void *sender(void *arg)
{
    fake_set_cpu(1);
    fake_run(two, 1);
    (void)arg;
    for (u32 i = 0; i < 30000; i++)
        (void)evtchn_send(two, read_once(shared_far));
    write_once(stop, true);
    return NULL;
}

static void *consumer(void *arg)
{
    u32 head[16] = { 0 };

    fake_set_cpu(2);
    fake_run(one, 1);
    (void)arg;
    while (!read_once(stop))
        for (u32 vcpu = 0; vcpu < 4; vcpu++)
            if (control(vcpu)->ready)
                (void)consume(vcpu, find_first_set(control(vcpu)->ready), head);
    return NULL;
}

static void cpus_send_close_and_bind_at_once(void **state)
{
    pthread_t t[2];
    u32 i = 0;

    (void)state;
    start_fifo();
    shared_near = connect(&shared_far);
    stop = false;
    assert_int_equal(pthread_create(&t[0], NULL, sender, NULL), 0);
    assert_int_equal(pthread_create(&t[1], NULL, consumer, NULL), 0);
    while (!read_once(stop)) {
        s64 port;

        (void)evtchn_bind_vcpu(one, shared_near, i++ % 4);
        (void)fifo_set_priority(one, shared_near, i % 16);
        (void)evtchn_unmask(one, shared_near);
        if (i % 2)
            (void)evtchn_close(one, shared_near);
        else
            (void)evtchn_close(two, shared_far);
        port = evtchn_alloc_unbound(one, 2);
        if (port < 0)
            continue;
        (void)evtchn_close(two, shared_far);
        shared_near = (u32)port;
        port = evtchn_bind_interdomain(two, one, shared_near);
        if (port > 0)
            write_once(shared_far, (u32)port);
    }
    for (unsigned n = 0; n < 2; n++)
        pthread_join(t[n], NULL);
    fake_run(one, 0);
}

#define T(f) \
    { #f " (64)", f, event_setup, event_teardown, &WORD_64 }, \
    { #f " (32)", f, event_setup, event_teardown, &WORD_32 }

/* It looks for an event that is there, and the change takes it from where it looks. */
static void a_change_wakes_who_polls(void **state)
{
    struct vcpu *v = one->vcpu[1];
    mfn_t m = fake_frame_of(one);
    u32 far, port = connect(&far);

    (void)state;
    assert_int_equal(evtchn_send(two, far), 0);
    v->poll_port = port;
    v->poll_active = true;
    atomic_or(&one->event_watch, WATCH_POLLERS);
    assert_int_equal(init_control(0, m, 64), 0);
    assert_false(v->poll_active);
    assert_true(evtchn_port_pending(one, port));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(delivers_in_order), T(masked_events_are_not_linked), T(events_change_queues),
        T(pending_survives_the_switch), T(a_change_wakes_who_polls),
        { "no_event_is_lost_by_the_switch", no_event_is_lost_by_the_switch, event_setup, event_teardown, &WORD_64 },
        T(linked_ports_are_not_given_out), T(checks_its_arguments), T(port_zero_is_never_open), T(lack_of_memory_leaves_it_as_it_was),
        T(has_many_ports), T(reset_goes_back_to_two_levels), T(high_ports_after_a_reset), T(survives_spoilt_words),
        T(cpus_send_close_and_bind_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
