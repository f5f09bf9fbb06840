/* Where a linear address leads, of a guest's space or ours. Debug builds ask: common/fetch.c. */
#include <asm/mm.h>
#include <asm/pt_format.h>
#include <asm/x86.h>

/* Interrupts are off meanwhile, so that no flush of this CPU ends: until then tables that are given up stay so, as for walks of its own. */
bool linear_to_maddr(u64 va, maddr_t *at)
{
    u64 e = read_cr3() | PTE_P, flags = irq_save();
    unsigned shift = 48;

    do {
        mfn_t table = mfn_kept(pte_number(e));

        shift -= 9;
        e = table.v < nr_frames ? read_once(((const u64 *)mfn_to_virt(table))[va >> shift & 511]) : 0;
    } while (e & PTE_P && shift > PAGE_SHIFT && !(e & PTE_PS));
    irq_restore(flags);
    *at = maddr((e & PTE_MFN_MASK & ~0UL << shift) | (va & ~(~0UL << shift)));
    return e & PTE_P;
}
