/* See pvisor/steps.h: nothing in release builds. */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>
#include <pvisor/steps.h>

#ifdef DEBUG

static u32 longest, worst;
STATIC_PERCPU(u64, last_look);      /* TSC */

static bool is_new(u32 *most, u32 n)
{
    if (n <= read_once(*most))
        return false;
    write_once(*most, n);
    return true;
}

void steps_look(void)
{
    struct cpu_info *c = cpu_info();
    u32 n = c->steps, max = STEPS_MAX + c->steps_allowed;
    u64 now = rdtsc(), since = now - this_cpu(last_look);

    this_cpu(last_look) = now;
    c->steps = 0;
    if (unlikely(n > max) && is_new(&worst, n))
        printk(LOG_ERR "d%uv%u: %u steps of work without a look, at most %u are expected: %lu cycles (looked at %p, rax %#lx)\n",
               current->domain->id, current->id, n, max, since, __builtin_return_address(0), guest_regs()->rax);
    else if (unlikely(n > read_once(longest)) && !c->steps_allowed && is_new(&longest, n))
        printk(LOG_DEBUG "d%uv%u: the longest work without a look until now: %u steps, %lu cycles (looked at %p, rax %#lx)\n",
               current->domain->id, current->id, n, since, __builtin_return_address(0), guest_regs()->rax);
}

#endif
