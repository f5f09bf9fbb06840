/* pt/frame.c, and any legal state of what it keeps to itself. */
#include "arch/x86/pt/frame.c"
#include "machine.h"

void any_pending(void)
{
    struct pending *p = &this_cpu(free_pending);

    p->head = any_u32(0, NR_FRAMES - 1);
    p->nr = any_u32(0, ~0u);
    p->nr_foreign = any_u32(0, MAX_FOREIGN);
    for (unsigned i = 0; i < MAX_FOREIGN; i++)
        p->foreign[i] = any_u32(0, NR_FRAMES - 1) << 1 | any_u32(0, 1);
    p->flush = any_cpumask();
}
