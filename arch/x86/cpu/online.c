/* Which CPUs there are: smp.c starts them, leave.c is where one ends. */
#include <asm/smp.h>
#include "internal.h"

cpumask_t cpu_online_map, cpu_live_map;
unsigned nr_cpus = 1;
u8 cpu_states[NR_CPUS];
