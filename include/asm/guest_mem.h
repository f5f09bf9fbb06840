/*
 * Single accesses to the current guest's memory that may fault: asm goto with an exception-table entry.
 *
 * They stand between guest_open() and guest_close(), and nothing else does: no call, no return, no jump away. Where the CPU has SMAP,
 * any other access of ours to a page that a guest's user mode may use is a fault, on which the hypervisor stops (traps.c). An access
 * that faults has closed when it goes on at its label. Debug builds see what was left open when something is opened next.
 */
#ifndef ASM_GUEST_MEM_H
#define ASM_GUEST_MEM_H

#include <asm/closed.h>
#include <asm/extable.h>
#include <asm/layout.h>
#include <asm/pt_format.h>
#include <asm/sites.h>
#include <asm/x86.h>
#include <public/arch-x86.h>
#include <pvisor/fetch.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>

/* Of a 32-bit domain: what it may reach ends where the hypervisor's part begins. */
static always_inline bool is_guest_access_32(const struct domain *d, u64 va, u64 len)
{
    return va + len >= va && va + len <= d->arch.fmt->hv_start;
}

/* [va, va + len) holds no hypervisor address and, for a 32-bit guest, ends below its hole. */
static always_inline bool guest_range_ok(const struct domain *d, u64 va, u64 len)
{
    if (likely(d->arch.word == ABI_64))
        return (va + len <= (1UL << 47) && va + len >= va) || (va >= HYP_VIRT_END && va + len - 1 >= va);
    return is_guest_access_32(d, va, len);
}

/* An access that begins there does not reach the hypervisor's part; between the halves it faults by itself. */
static always_inline bool is_guest_address_64(u64 va) { return va - HYP_VIRT_START >= HYP_VIRT_END - HYP_VIRT_START; }

/* Canonical and not ours: in arithmetic modulo 2^64, one range from the upper part of a guest's space to its lower half's end. */
static always_inline bool is_canonical_guest_address(u64 va) { return va - HYP_VIRT_END < (1UL << 47) - HYP_VIRT_END; }

/*
 * Not ours, for accesses that go upwards from va without a gap of 4 KiB: one that begins between the two halves of a 64-bit
 * address space faults at once, so only where it begins needs a look.
 */
static always_inline bool guest_access_ok(const struct domain *d, u64 va, u64 len)
{
    if (likely(d->arch.word == ABI_64))
        return is_guest_address_64(va);
    return is_guest_access_32(d, va, len);
}

/* As far as this CPU can tell, with these flags. */
static always_inline bool guest_is_closed(u64 rflags)
{
    return CLOSED_ROOTS ? read_cr3() == cpu_info()->closed_cr3 : !(read_cr4() & CR4_SMAP && rflags & RFLAGS_AC);
}

/* (The compiler keeps the order of volatile asm. Other accesses may move in, for all these care.) */
static always_inline void guest_open(void)
{
    ASSERT(guest_is_closed(read_rflags()));
    if (CLOSED_ROOTS)
        write_cr3(cpu_info()->open_cr3);
    else
        __asm__ volatile inline(SITE_IN_FRONT("%c0") :: "i"(SITE_OPEN));
}

static always_inline void guest_close(void)
{
    if (CLOSED_ROOTS)
        write_cr3(cpu_info()->closed_cr3);
    else
        __asm__ volatile inline(SITE_IN_FRONT("%c0") :: "i"(SITE_CLOSE));
}

/* Of code of ours that a fault with this frame interrupted. */
static inline void guest_close_in(struct cpu_regs *r)
{
    r->rflags &= ~RFLAGS_AC;
    if (CLOSED_ROOTS)
        guest_close();
}

/* A page fault of ours, at an address of a guest's: is it because its memory was closed? */
static inline bool guest_was_closed(const struct cpu_regs *r)
{
    bool may_be = CLOSED_ROOTS || (read_cr4() & CR4_SMAP && (r->error_code & (PF_PRESENT | PF_RSVD | PF_INSTR)) == PF_PRESENT);

    return may_be && guest_is_closed(r->rflags);
}

#define PUT_GUEST_U64(addr, val, fault) \
    __asm__ goto("1: movq %1, %0\n" EX_TABLE("1b", "%l[" #fault "]") \
                 :: "m"(*(u64 *)(u64)(addr)), "re"((u64)(val)) : "memory" : fault)
#define PUT_GUEST_U32(addr, val, fault) \
    __asm__ goto("1: movl %1, %0\n" EX_TABLE("1b", "%l[" #fault "]") \
                 :: "m"(*(u32 *)(u64)(addr)), "ri"((u32)(val)) : "memory" : fault)
#define PUT_GUEST_U16(addr, val, fault) \
    __asm__ goto("1: movw %1, %0\n" EX_TABLE("1b", "%l[" #fault "]") \
                 :: "m"(*(u16 *)(u64)(addr)), "ri"((u16)(val)) : "memory" : fault)
#define GET_GUEST_U64(var, addr, fault) \
    __asm__ goto("1: movq %1, %0\n" EX_TABLE("1b", "%l[" #fault "]") \
                 : "=r"(var) : "m"(*(const u64 *)(u64)(addr)) : "memory" : fault)
#define GET_GUEST_U32(var, addr, fault) \
    __asm__ goto("1: movl %1, %k0\n" EX_TABLE("1b", "%l[" #fault "]") \
                 : "=r"(var) : "m"(*(const u32 *)(u64)(addr)) : "memory" : fault)

/*
 * The eight bytes at rip, of a 64-bit guest that runs in its flat code segment, where they lie in one page; false: something of that
 * is not so, or they cannot be read. A fault of the access may come with interrupts off.
 */
static always_inline bool guest_text_64(const struct domain *d, const struct cpu_regs *regs, u64 *text)
{
    if (unlikely(d->arch.word != ABI_64 || regs->cs != FLAT_RING3_CS64 || (regs->rip & ~PAGE_MASK) > PAGE_SIZE - sizeof(*text) ||
                 !is_guest_address_64(regs->rip)))
        return false;
    guest_open();
    GET_GUEST_U64(*text, regs->rip, fault);
    guest_close();
    fetch_note(regs->rip, sizeof(*text));
    return true;
fault:
    return false;
}

/* guest_text_64() of a 32-bit guest that runs in its kernel's flat code segment. */
static always_inline bool guest_text_32(const struct domain *d, const struct cpu_regs *regs, u64 *text)
{
    if (unlikely(regs->cs != FLAT_RING1_CS || (regs->rip & ~PAGE_MASK) > PAGE_SIZE - sizeof(*text) ||
                 regs->rip > d->arch.fmt->hv_start - sizeof(*text)))
        return false;
    guest_open();
    GET_GUEST_U64(*text, regs->rip, fault);
    guest_close();
    fetch_note(regs->rip, sizeof(*text));
    return true;
fault:
    return false;
}

#endif
