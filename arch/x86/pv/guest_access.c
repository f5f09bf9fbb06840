/* Copies to and from the current guest: direct accesses through its own page tables, with faults caught. */
#include <asm/guest_mem.h>
#include <asm/pt.h>
#include <asm/percpu.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/fetch.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/steps.h>

void __attribute__((cold)) guest_access_failed(u64 va)
{
    if (!current)
        return;
    current->bad_address = va;
    hypercall_wants_look();
}

u64 last_bad_guest_address(void)
{
    u64 va = current->bad_address;

    current->bad_address = 0;
    return va;
}

/* Bytes left undone. The string instructions leave their registers where the fault was. */
static size_t copy_raw(void *dst, const void *src, size_t len)
{
    size_t words = len / 8, rest = len % 8;

    guest_open();
    __asm__ volatile("1: rep movsq\n"
                     "   movq %3, %%rcx\n"
                     "2: rep movsb\n"
                     "   xorl %k3, %k3\n"
                     "   jmp 4f\n"
                     "3: leaq (%3, %%rcx, 8), %%rcx\n"
                     "4:\n"
                     EX_TABLE("1b", "3b") EX_TABLE("2b", "4b")
                     : "+D"(dst), "+S"(src), "+c"(words), "+r"(rest) :: "memory");
    guest_close();
    return words;
}

int (copy_from_guest)(void *dst, gva_t src, size_t len)
{
    steps_add(1 + len / 128);
    if (unlikely(!guest_range_ok(current->domain, src.v, len)))
        return bad_guest_address(src.v);
    if (unlikely(copy_raw(dst, (const void *)src.v, len)))
        return -EFAULT;
    fetch_note(src.v, len);
    return 0;
}

int (copy_to_guest)(gva_t dst, const void *src, size_t len)
{
    steps_add(1 + len / 128);
    if (unlikely(!guest_range_ok(current->domain, dst.v, len)))
        return bad_guest_address(dst.v);
    return likely(!copy_raw((void *)dst.v, src, len)) ? 0 : -EFAULT;
}

int clear_guest(gva_t dst, size_t len)
{
    static const u8 zeros[256];

    for (; len; ) {
        size_t n = min(len, sizeof(zeros));
        if (copy_to_guest(dst, zeros, n))
            return -EFAULT;
        dst = gva_add(dst, n);
        len -= n;
    }
    return 0;
}

int guest_read_abi_(const struct abi_desc *d, void *internal, gva_t src)
{
    u8 raw[512];
    enum abi_word w = current_word();

    ASSERT(abi_size(w, d) <= sizeof(raw));
    if (copy_from_guest(raw, src, abi_size(w, d)))
        return -EFAULT;
    abi_decode(w, d, internal, raw);
    return 0;
}

int guest_write_abi_(const struct abi_desc *d, gva_t dst, const void *internal)
{
    u8 raw[512];
    enum abi_word w = current_word();

    ASSERT(abi_size(w, d) <= sizeof(raw));
    if (!abi_encode(w, d, raw, internal))
        return -EOVERFLOW;
    return copy_to_guest(dst, raw, abi_size(w, d));
}

/* (The sizes are constants, so that these are moves.) */
int guest_read_word(u64 *v, gva_t array, u64 i)
{
    *v = 0;
    if (i >= 1UL << 48)
        return bad_guest_address(array.v);
    if (current_word() == ABI_64)
        return copy_from_guest(v, gva_add(array, i * 8), 8);
    return copy_from_guest(v, gva_add(array, i * 4), 4);
}

int guest_write_word(gva_t array, u64 i, u64 v)
{
    if (i >= 1UL << 48)
        return bad_guest_address(array.v);
    if (current_word() == ABI_64)
        return copy_to_guest(gva_add(array, i * 8), &v, 8);
    return v >> 32 ? -EOVERFLOW : copy_to_guest(gva_add(array, i * 4), &v, 4);
}

/*
 * A page that user space must be able to reach, in the tables of a 32-bit guest; under pt_lock. False, and why in *error, as the
 * CPU would say it. PAE's level 3 has no such bits.
 */
static bool user_page(const struct vcpu *v, u64 va, bool write, u32 *error)
{
    const struct pt_format *f = v->domain->arch.fmt;
    u64 need = PTE_US | (write ? PTE_RW : 0);
    struct pt_walk w = pt_walk_from(f, v->arch.root_kernel);
    bool allowed = true;

    *error = PF_USER | (write ? PF_WRITE : 0) | (va < f->hv_start ? 0 : PF_PRESENT);
    if (va >= f->hv_start)
        return false;
    while (pt_walk_down(&w, va))
        allowed &= w.level == 3 || (w.entry & need) == need;
    if (!(w.entry & PTE_P))
        return false;
    *error |= PF_PRESENT;
    return allowed;
}

bool pv_user_fault(struct vcpu *v, const struct cpu_regs *regs, u64 linear, unsigned bytes, bool write)
{
    u64 address = linear, last = linear + bytes - 1;
    u32 error;
    bool ok;

    if (v->domain->arch.word == ABI_64 || guest_in_kernel(v, regs))
        return false;
    pt_lock(v->domain);
    ok = user_page(v, linear, write, &error);
    if (ok && (linear ^ last) & PAGE_MASK) {
        address = last & PAGE_MASK;
        ok = user_page(v, last, write, &error);
    }
    pt_unlock(v->domain);
    if (!ok)
        pv_inject_page_fault(address, error);
    return !ok;
}
