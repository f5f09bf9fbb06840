/*
 * A build for tests (make BUILD=closed) that needs no SMAP and sees what SMAP does not, all pages of 32-bit guests, and code as well as
 * data: while the hypervisor runs for a guest, CR3 is this CPU's closed root, which has none of the guest's half of the address space.
 *
 *   way in, guest_close()     CR3 becomes cpu_info's closed_cr3
 *   way out, guest_open()     CR3 becomes open_cr3, the root of the guest's that is in use
 *
 * Each of these flushes the TLB. There is neither page-table isolation in this build nor SMAP, it takes no short ways, for those have
 * accesses in assembly, and it clears no buffers on the way out.
 */
#ifndef ASM_CLOSED_H
#define ASM_CLOSED_H

#include <asm/percpu.h>
#include <asm/x86.h>

#ifndef CLOSED_ROOTS
#define CLOSED_ROOTS 0
#endif

/* Makes this CPU's closed root that of cr3, a guest's root, and loads it. mm/closed.c */
void closed_load_cr3(u64 cr3);

/* CR3 becomes a guest's root, as far as the guest is concerned. Interrupts off, or no guest memory is accessed by who comes by one. */
static inline void load_guest_cr3(u64 cr3)
{
    if (CLOSED_ROOTS)
        closed_load_cr3(cr3);
    else
        write_cr3(cr3);
}

#endif
