/* The roots that a CPU has while guests' memory is closed. See asm/closed.h. */
#include <asm/closed.h>
#include <asm/layout.h>
#include <asm/mm.h>

static u64 roots[NR_CPUS][512] __attribute__((aligned(PAGE_SIZE)));

void closed_load_cr3(u64 cr3)
{
    const u64 *guests = maddr_to_virt(maddr(cr3));
    struct cpu_info *info = cpu_info();
    u64 *root = roots[info->cpu];

    for (unsigned slot = HYP_L4_FIRST; slot <= HYP_L4_LAST; slot++)
        root[slot] = guests[slot];
    info->open_cr3 = cr3;
    info->closed_cr3 = virt_to_maddr(root).v;
    write_cr3(info->closed_cr3);
}
