/* Event channels from several CPUs at once: no data race, no lock out of order, and nothing left when all is closed. */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/threads.c common/abi.c tests/unit/fake/clause.c common/event/invariant.c
// SOURCES: common/event/port.c common/event/channel.c common/event/call.c common/event/virq.c common/domain/rights.c
// SOURCES: common/event/deliver.c common/event/pending.c common/event/two_level.c common/event/fifo.c common/spinlock.c
#include "fake/event_rig.h"
#include "fake/threads.h"

#define ROUNDS 4000
#define PORTS 12        /* few, so that CPUs meet */

static struct domain *any_domain(void)
{
    struct domain *all[] = { ctl, one, two };

    return all[race_random(3)];
}

/* Port 0 too, which is nobody's and never closed. */
static u32 any_port(void) { return (u32)race_random(PORTS + 1); }

static void open_something(struct domain *d)
{
    struct domain *far = any_domain();
    bool full;
    int rc;

    spin_lock(&d->evtchn->lock);
    full = d->evtchn->nr_active >= PORTS;
    spin_unlock(&d->evtchn->lock);
    if (full)
        return;
    switch (race_random(4)) {
    case 0:
        (void)evtchn_alloc_unbound(d, far->id);
        break;
    case 1:
        rc = evtchn_bind_interdomain(d, far, any_port());
        assert_true(rc > 0 || rc == -EINVAL || rc == -ENOSPC);
        break;
    case 2:
        (void)evtchn_bind_ipi(d, (u32)race_random(4));
        break;
    default:
        (void)evtchn_bind_virq(d, VIRQ_TIMER, (u32)race_random(4));
    }
}

/* The guest's part: takes what is pending, masks and unmasks. */
static void guest_looks(struct domain *d)
{
    u32 port = any_port();
    struct vcpu *v = d->vcpu[race_random(4)];

    (void)xchg(upcall_pending(v), 0);
    if (read_once(d->evtchn->format) == &evtchn_two_level) {
        clear_bit(port, (u8 *)d->shared_info + 2048);
        set_bit(port, (u8 *)d->shared_info + 2048 + (d->arch.word == ABI_64 ? 512 : 128));
    }
    (void)evtchn_unmask(d, port);
}

static void act(struct domain *d)
{
    struct evtchn_status st = { .port = any_port() };

    switch (race_random(11)) {
    case 0:
    case 1:
        open_something(d);
        break;
    case 2:
        (void)evtchn_close(d, any_port());
        break;
    case 3:
        (void)evtchn_bind_vcpu(d, any_port(), (u32)race_random(4));
        break;
    case 4:
        (void)evtchn_get_status(d, &st);
        break;
    case 5:
        (void)evtchn_port_pending(d, any_port());
        break;
    case 6:
        guest_looks(d);
        break;
    case 7:
        send_guest_vcpu_virq(d->vcpu[race_random(4)], VIRQ_TIMER);
        break;
    case 8:
        (void)fifo_set_priority(d, any_port(), (u32)race_random(16));
        break;
    default:
        (void)evtchn_send(d, any_port());
    }
}

static void live(unsigned cpu)
{
    fake_set_cpu(cpu);
    for (unsigned i = 0; i < ROUNDS; i++) {
        fake_run(any_domain(), (u32)race_random(4));
        act(current->domain);
    }
}

static void channels_of_all_kinds(void **state)
{
    (void)state;
    race(live);
}

/* One CPU binds and closes what the others send. */
static void bind_or_send(unsigned cpu)
{
    fake_set_cpu(cpu);
    fake_run(one, cpu);
    for (unsigned i = 0; i < 4 * ROUNDS; i++) {
        if (cpu) {
            send_guest_vcpu_virq(one->vcpu[0], VIRQ_TIMER);
        } else {
            int port = evtchn_bind_virq(one, VIRQ_TIMER, 0);

            assert_true(port > 0);
            assert_int_equal(evtchn_close(one, (u32)port), 0);
        }
    }
}

static void a_virq_is_bound_while_it_is_sent(void **state)
{
    (void)state;
    race(bind_or_send);
}

/* A domain dies while others send to it and bind its offers. */
static void die_or_live(unsigned cpu)
{
    if (cpu) {
        live(cpu);
        return;
    }
    for (unsigned i = 0; i < ROUNDS / 2; i++)
        (void)evtchn_send(two, any_port());
    evtchn_domain_destroy(two);
}

static void a_domain_dies_among_senders(void **state)
{
    (void)state;
    race(die_or_live);
    assert_int_equal(two->evtchn->nr_active, 0);
}

/* What the guest gives for its FIFO channels: control blocks of all vCPUs in one page, and the first page of words. */
static mfn_t control_frame[3], word_frame[3];

static void use_fifo(struct domain *d)
{
    for (u32 i = 0; i < d->max_vcpus; i++) {
        struct evtchn_init_control c = { .control_gfn = control_frame[d->id].v, .offset = 256 * i, .vcpu = i };

        assert_int_equal(fifo_init_control(d, &c), 0);
    }
    assert_int_equal(fifo_expand_array(d, word_frame[d->id].v), 0);
}

static void give_frames(struct domain *d)
{
    control_frame[d->id] = fake_frame_of(d);
    word_frame[d->id] = fake_frame_of(d);
}

static void fifo_channels(void **state)
{
    (void)state;
    give_frames(one);
    give_frames(two);
    use_fifo(one);
    use_fifo(two);
    race(live);
}

/* As a guest that unmasks what it made pending itself, so that the port is linked. */
static void unmask_pending(struct domain *d, u32 port)
{
    event_word_t *words = map_frame(word_frame[d->id]);

    write_once(words[port], 1u << EVTCHN_FIFO_PENDING | 1u << EVTCHN_FIFO_MASKED);
    unmap_frame(words);
    (void)evtchn_unmask(d, port);
}

/* Its channels go back to two levels and to FIFO again, while others open, close and use them. */
static void reset_or_live(unsigned cpu)
{
    struct domain *d = cpu ? two : one;

    fake_set_cpu(cpu);
    for (unsigned i = 0; i < ROUNDS; i++) {
        fake_run(cpu < 2 ? d : any_domain(), (u32)race_random(4));
        if (cpu >= 2) {
            if (current->domain != ctl && race_random(3) == 0)
                unmask_pending(current->domain, any_port());
            else
                act(current->domain);
            continue;
        }
        while (evtchn_reset(d))
            ;
        use_fifo(d);
    }
}

static void channels_are_reset_among_their_users(void **state)
{
    (void)state;
    give_frames(one);
    give_frames(two);
    use_fifo(one);
    use_fifo(two);
    race(reset_or_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(channels_of_all_kinds, event_setup, event_teardown, &WORD_64),
        cmocka_unit_test_prestate_setup_teardown(a_domain_dies_among_senders, event_setup, event_teardown, &WORD_32),
        cmocka_unit_test_prestate_setup_teardown(a_virq_is_bound_while_it_is_sent, event_setup, event_teardown, &WORD_64),
        cmocka_unit_test_prestate_setup_teardown(fifo_channels, event_setup, event_teardown, &WORD_64),
        cmocka_unit_test_prestate_setup_teardown(channels_are_reset_among_their_users, event_setup, event_teardown, &WORD_64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
