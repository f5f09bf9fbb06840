/* Copies of a few words whose number is known, in line. Included by pvisor/guest.h. */
#ifndef ASM_GUEST_COPY_H
#define ASM_GUEST_COPY_H

#include <asm/guest_mem.h>
#include <public/errno.h>
#include <pvisor/fetch.h>
#include <pvisor/short_way.h>

static always_inline enum abi_word domain_word(const struct domain *d) { return d->arch.word; }
static always_inline enum abi_word current_word(void) { return current->domain->arch.word; }

#define SMALL_COPY_WORDS 8

/* (asm goto with outputs would do, but GCC 12 crashes on it when it is unrolled.) After a fault the rest is still read: open again. */
#define GET_WORD(insn, err, val, addr)                                                                              \
    __asm__ volatile("1: " insn " %2, %1\n2:\n"                                                                     \
                     ".pushsection .text.fixup, \"ax\"\n3: movl %3, %k0\n" SITE_IN_FRONT("%c4") "xorl %k1, %k1\n jmp 2b\n.popsection\n"   \
                     EX_TABLE("1b", "3b") : "+r"(err), "=&r"(val) : "m"(addr), "i"(-EFAULT), "i"(SITE_OPEN) : "memory")

/* w: the current domain's word size, for callers that know it. */
static always_inline bool own_access_ok(enum abi_word w, gva_t at, size_t len)
{
    if (__builtin_constant_p(w) && w == ABI_32)
        return is_guest_access_32(current->domain, at.v, len);
    return likely(w == ABI_64) ? is_guest_address_64(at.v) : guest_access_ok(current->domain, at.v, len);
}

static always_inline int copy_words_from_guest(enum abi_word w, void *dst, gva_t src, size_t len)
{
    int err = 0;

    if (unlikely(!own_access_ok(w, src, len)))
        return bad_guest_address(src.v);
    guest_open();
#pragma GCC unroll 8
    for (unsigned i = 0; i < len / 8; i++) {
        u64 word;
        GET_WORD("movq", err, word, ((const u64 *)src.v)[i]);
        ((u64 *)dst)[i] = word;
    }
    if (len & 4) {
        u32 word;
        GET_WORD("movl", err, word, *(const u32 *)(src.v + (len & ~7UL)));
        *(u32 *)((u8 *)dst + (len & ~7UL)) = word;
    }
    guest_close();
    if (!err)
        fetch_note(src.v, len);
    return err;
}

static always_inline int copy_words_to_guest(enum abi_word w, gva_t dst, const void *src, size_t len)
{
    if (unlikely(!own_access_ok(w, dst, len)))
        return bad_guest_address(dst.v);
    guest_open();
#pragma GCC unroll 8
    for (unsigned i = 0; i < len / 8; i++)
        PUT_GUEST_U64(dst.v + i * 8, ((const u64 *)src)[i], fault);
    if (len & 4)
        PUT_GUEST_U32(dst.v + (len & ~7UL), *(const u32 *)((const u8 *)src + (len & ~7UL)), fault);
    if (len & 2)
        PUT_GUEST_U16(dst.v + (len & ~3UL), *(const u16 *)((const u8 *)src + (len & ~3UL)), fault);
    guest_close();
    return 0;
fault:
    return -EFAULT;
}

#define IS_SMALL_COPY(len, unit) short_way(__builtin_constant_p(len) && (len) % (unit) == 0 && (len) <= SMALL_COPY_WORDS * 8)
#define copy_from_guest_as(w, dst, src, len) \
    (IS_SMALL_COPY(len, 4) ? copy_words_from_guest(w, dst, src, len) : (copy_from_guest)(dst, src, len))
#define copy_to_guest_as(w, dst, src, len) \
    (IS_SMALL_COPY(len, 2) ? copy_words_to_guest(w, dst, src, len) : (copy_to_guest)(dst, src, len))
#define copy_from_guest(dst, src, len) copy_from_guest_as(current_word(), dst, src, len)
#define copy_to_guest(dst, src, len) copy_to_guest_as(current_word(), dst, src, len)

#endif
