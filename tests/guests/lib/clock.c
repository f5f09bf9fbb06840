#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "traps.h"

u64 rdtsc(void)
{
    u32 low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (u64)high << 32 | low;
}

struct vcpu_time_info time_info(unsigned vcpu)
{
    const volatile struct vcpu_time_info *area = (const void *)&vcpu_info(vcpu)->time;
    struct vcpu_time_info copy;

    do {
        copy.version = area->version;
        barrier();
        copy.tsc_timestamp = area->tsc_timestamp;
        copy.system_time = area->system_time;
        copy.tsc_to_system_mul = area->tsc_to_system_mul;
        copy.tsc_shift = area->tsc_shift;
        copy.flags = area->flags;
        barrier();
    } while ((copy.version & 1) || copy.version != area->version);
    return copy;
}

u64 scale_tsc(const struct vcpu_time_info *t, u64 tsc)
{
    u64 delta = tsc - t->tsc_timestamp;

    delta = t->tsc_shift < 0 ? delta >> -t->tsc_shift : delta << t->tsc_shift;
    return t->system_time + (delta >> 32) * t->tsc_to_system_mul + ((delta & ~0U) * t->tsc_to_system_mul >> 32);
}

u64 system_time(void)
{
    struct vcpu_time_info t = time_info(this_vcpu());

    return scale_tsc(&t, rdtsc());
}

long set_singleshot(u64 deadline, u32 flags)
{
    GUEST(vcpu_set_singleshot_timer) op = { .timeout_abs_ns = deadline, .flags = flags };

    return vcpu_op(VCPUOP_set_singleshot_timer, this_vcpu(), &op);
}

long sleep_until_event(u64 deadline)
{
    long rc;

    events_off();
    rc = set_singleshot(deadline, 0);
    if (rc == 0)
        rc = sched_op(SCHEDOP_block, NULL);
    events_on();
    return rc;
}

bool wait_change(const volatile u32 *counter, u32 old, u64 ns)
{
    u64 end = system_time() + ns;

    while (*counter == old && system_time() < end)
        sched_op(SCHEDOP_yield, NULL);
    return *counter != old;
}

static long timer;      /* its port */

void clock_after_suspend(void) { timer = 0; }

void wait_event(u32 seen, u64 deadline)
{
    if (!timer) {
        vcpu_op(VCPUOP_stop_periodic_timer, this_vcpu(), NULL);
        timer = bind_virq(VIRQ_TIMER, this_vcpu());
        if (timer < 0)
            panic("no timer: %ld", timer);
    }
    events_off();
    if (upcall_count == seen) {
        set_timer_op(deadline == FOREVER ? 0 : deadline);
        sched_op(SCHEDOP_block, NULL); /* takes events again; one that came meanwhile ends it at once */
    }
    events_on();
}
