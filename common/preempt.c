/* Whether a call that takes long is to give way: for work of this CPU, or for an event of its vCPU. */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <pvisor/domain.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/preempt.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

/* Frames that wait to be freed are no hurry, until there are so many that freeing them takes its time. */
static bool softirq_urgent(void)
{
    u32 todo = read_once(cpu_info()->softirq_pending);

    return todo & ~(1u << SOFTIRQ_FREE_FRAMES) || (unlikely(todo) && frames_drain_due());
}

bool preempt_needed(void)
{
    struct vcpu *v = current;

    /* Boot and idle work have nothing to restart. */
    if (!v || is_idle_vcpu(v))
        return false;
    steps_look();
    return softirq_urgent() || vcpu_event_pending(v);
}
