/* SCHEDOP_poll: who sleeps in it is looked for, whatever others still do about the poll before. */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/clause.c common/event/invariant.c common/abi.c common/sched/sched_op.c
// SOURCES: common/event/port.c common/event/channel.c common/event/call.c common/event/virq.c common/domain/rights.c
// SOURCES: common/event/deliver.c common/event/two_level.c common/event/fifo.c
// LIBS: -lpthread
#include "fake/event_rig.h"
#include "fake/step.h"
#include <asm/atomic.h>
#include <public/sched.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

/* What else sched_op.c wants of the machine. */
void timer_set(struct timer *t, u64 expires) { (void)t, (void)expires; }
void timer_migrate(struct timer *t, unsigned cpu) { (void)t, (void)cpu; }
void domain_shutdown(struct domain *d, u8 reason) { (void)d, (void)reason; }
u64 now_ns(void) { return 0; }
void vcpu_yield(void) { }
void vcpu_block(void) { }

void raise_softirq(enum softirq n) { (void)n; }

/* What a poll does before and after it says that it polls. */
void timer_stop(struct timer *t) { (void)t; step_on(); }
bool vcpu_event_pending(const struct vcpu *v) { (void)v; step_off(); return false; }

static gva_t poll_arg, poll_ports;

static void poll_a_port(void)
{
    fake_run(one, 0);
    assert_int_equal(fake_hypercall(do_sched_op, SCHEDOP_poll, poll_arg.v, 0), 0);
}

/* vcpu_unblock(), by one that found it in an earlier poll. */
static void unblock_late(void)
{
    write_once(one->vcpu[0]->poll_active, false);
    atomic_and(&one->vcpu[0]->pause_flags, ~VPF_BLOCKED);
}

static bool unblocked_after(unsigned instructions)
{
    struct vcpu *v = one->vcpu[0];
    bool happened = step_over(poll_a_port, instructions, unblock_late);

    assert_true(!(v->pause_flags & VPF_BLOCKED) || v->poll_active);
    v->pause_flags = 0;
    v->poll_active = false;
    return happened;
}

static void sleeper_is_looked_for(void **state)
{
    u32 port = (u32)bind_ipi(0);
    unsigned n = 1;

    (void)state;
    poll_ports = fake_guest_alloc(sizeof(port));
    poll_arg = fake_guest_alloc(24);
    memcpy(fake_guest(poll_ports), &port, sizeof(port));
    if (one->arch.word == ABI_64)
        memcpy(fake_guest(poll_arg), (u64[]){ poll_ports.v, 1, 0 }, 24);
    else
        memcpy(fake_guest(poll_arg), (u32[]){ (u32)poll_ports.v, 1, 0, 0 }, 16);
    while (unblocked_after(n))
        n++;
    assert_true(n > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "sleeper_is_looked_for (64)", sleeper_is_looked_for, event_setup, event_teardown, &WORD_64 },
        { "sleeper_is_looked_for (32)", sleeper_is_looked_for, event_setup, event_teardown, &WORD_32 },
    };

    return cmocka_run_group_tests_name("poll", tests, NULL, NULL);
}
