/* The end of a CPU that goes offline. smp.c may start it again. */
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/time.h>
#include "internal.h"

void smp_leave(void)
{
    unsigned cpu = this_cpu_id();

    watchdog_fini_cpu();
    time_fini_cpu();
    clock_event_off();
    irq_disable();
    cpumask_clear(&cpu_live_map, cpu);
    smp_call_poll();
    write_once(cpu_states[cpu], CPU_STOPPED);
    halt_forever();
    __builtin_unreachable();
}
