/* Waiting for work on a CPU that has none. */
#include <asm/idle.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/softirq.h>

/* STI takes effect after the next instruction: an interrupt cannot come between the check and HLT. */
void cpu_wait_for_work(void)
{
    irq_disable();
    if (softirq_pending())
        irq_enable();
    else if (unlikely(!cpumask_test(&cpu_online_map, this_cpu_id())))
        smp_leave();
    else
        __asm__ volatile("sti; hlt" ::: "memory");
}
