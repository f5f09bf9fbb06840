/* A tasklet that waits already: what whoever schedules it once more wrote before is seen by its function all the same. */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/threads.c common/abi.c common/softirq.c common/preempt.c common/spinlock.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>

#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/softirq.h>
#include "fake/fake.h"
#include "fake/threads.h"

static u32 step, note, seen;

bool frames_drain_due(void) { return false; }
bool vcpu_event_pending(const struct vcpu *v) { return (void)v, false; }
void lapic_send_ipi(unsigned cpu, u8 vector) { (void)cpu, (void)vector; }

static void look(void *data) { (void)data; seen = note; }
static struct tasklet tasklet = { .fn = look };

static void wait_for(u32 n)
{
    while (read_once(step) < n)
        sched_yield();
}

/* As wait_for(3), but orders nothing: that is the tasklet's business. */
static void wait_without_order(void)
{
    while (__atomic_load_n(&step, __ATOMIC_RELAXED) < 3)
        sched_yield();
}

/* Once the tasklet is on its way, CPU 2 has something for it. */
static void cpu_lives(unsigned cpu)
{
    switch (cpu) {
    case 0:
        softirq_init_cpu();
        write_once(step, 1);
        wait_without_order();
        do_softirq();
        break;
    case 1:
        wait_for(1);
        tasklet_schedule_on(0, &tasklet);
        write_once(step, 2);
        break;
    case 2:
        wait_for(2);
        note = 7;
        tasklet_schedule_on(0, &tasklet);
        __atomic_store_n(&step, 3, __ATOMIC_RELAXED);
    }
}

static void sees_what_came_while_it_waited(void **state)
{
    (void)state;
    fake_reset();
    race(cpu_lives);
    assert_int_equal(seen, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(sees_what_came_while_it_waited) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
