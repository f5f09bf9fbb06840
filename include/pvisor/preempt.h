/* preempt_needed() in line, for loops of hypercalls: there is a guest's vCPU, and mostly nothing waits. */
#ifndef PVISOR_PREEMPT_H
#define PVISOR_PREEMPT_H

#include <asm/percpu.h>
#include <pvisor/domain.h>
#include <pvisor/short_way.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>

#ifdef HOST_TEST    /* the test says when */
#define call_gives_way() preempt_needed()
#else
static always_inline bool call_gives_way(void)
{
    const struct cpu_info *c = cpu_info();

    steps_look();
    /* No softirq at all, and no upcall pending, masked or not: the rest is for preempt_needed() to weigh. */
    if (likely(short_way(!read_once(c->softirq_pending)) && !read_shared_again(*(const u8 guest_shared *)c->current_vcpu->info)))
        return false;
    return preempt_needed();
}
#endif

#endif
