/*
 * Guest memory and the guest-facing rules of a domain's word size.
 *
 * Copies act on the current vCPU's address space, with the rights of the hypervisor, on guest addresses only: an
 * address in the hypervisor's part is -EFAULT like one that is not mapped. Each byte is read once.
 */
#ifndef PVISOR_GUEST_H
#define PVISOR_GUEST_H

#include <public/errno.h>
#include <pvisor/abi.h>
#include <pvisor/types.h>

struct domain;
struct vcpu;

/* 0 or -EFAULT. */
int copy_from_guest(void *dst, gva_t src, size_t len) must_check;
int copy_to_guest(gva_t dst, const void *src, size_t len) must_check;
int clear_guest(gva_t dst, size_t len) must_check;

/*
 * Access to va of the current guest's memory was not possible. The log line of a call that fails for it names the address of
 * the last such access, and forgets it.
 */
void guest_access_failed(u64 va);
u64 last_bad_guest_address(void);
static always_inline int bad_guest_address(u64 va)
{
    guest_access_failed(va);
    return -EFAULT;
}

/* A structure described by ABI_STRUCT, at the current domain's width. write: -EFAULT, or -EOVERFLOW if a value does not fit. */
int guest_read_abi_(const struct abi_desc *d, void *internal, gva_t src) must_check;
int guest_write_abi_(const struct abi_desc *d, gva_t dst, const void *internal) must_check;
#define guest_read_abi(name, internal, src) ({                                                                  \
    struct name *in_ = (internal);                                                                              \
    short_way(name##_is_same_64()) && current_word() == ABI_64 ? copy_from_guest(in_, src, sizeof(struct name)) \
                                                               : guest_read_abi_(&name##_desc, in_, src); })
/*
 * abi_decode() in line, where w and d are constants: a straight line of moves. A STRUCT in the structure must be one, not an array, and
 * have none itself: its fields are moved like the structure's own.
 */
static always_inline void abi_decode_inline(enum abi_word w, const struct abi_desc *d, void *internal, const void *raw)
{
    size_t in_at = 0, raw_at = 0;

#pragma GCC unroll 16
    for (unsigned n = 0; n < d->nr_fields; n++) {
        const struct abi_field *f = &d->fields[n], *part = f->sub ? f->sub->fields : f;
        unsigned nr_parts = f->sub ? f->sub->nr_fields : 1;

#pragma GCC unroll 16
        for (unsigned k = 0; k < nr_parts; k++) {
            const struct abi_place *in = &part[k].in, *from = &part[k].raw[w];

            /* A structure begins where its strictest field may. */
            in_at = ROUND_UP(in_at, k ? in->align : f->in.align);
            raw_at = ROUND_UP(raw_at, k ? from->align : f->raw[w].align);
#pragma GCC unroll 16
            for (unsigned i = 0; i < part[k].count; i++, in_at += in->size, raw_at += from->size) {
                __builtin_memset((u8 *)internal + in_at, 0, in->size);
                __builtin_memcpy((u8 *)internal + in_at, (const u8 *)raw + raw_at, min(in->size, from->size));
            }
        }
        in_at = ROUND_UP(in_at, f->in.align);
        raw_at = ROUND_UP(raw_at, f->raw[w].align);
    }
}

/* guest_read_abi() in line, for calls that are made all the time: of a domain whose word size is known, or of the current one. */
#define guest_read_abi_as(w, name, internal, src) ({                                                            \
    struct name *in_ = (internal);                                                                              \
    struct name##_l32 raw_;                                                                                     \
    int rc_;                                                                                                    \
    if (!short_way(true)) {                                                                                     \
        rc_ = guest_read_abi_(&name##_desc, in_, src);                                                          \
    } else if (likely((w) == ABI_64)) {                                                                         \
        rc_ = copy_from_guest_as(w, in_, src, sizeof(struct name));                                             \
        _Static_assert(sizeof(struct name) == sizeof(struct name##_l64), "the layout is ours");                 \
    } else if ((rc_ = copy_from_guest_as(ABI_32, &raw_, src, sizeof(raw_))) == 0) {                             \
        abi_decode_inline(ABI_32, &name##_desc, in_, &raw_);                                                    \
    }                                                                                                           \
    rc_; })
#define guest_read_abi_inline(name, internal, src) guest_read_abi_as(current_word(), name, internal, src)
#define guest_write_abi(name, dst, internal) guest_write_abi_(&name##_desc, dst, (const struct name *){ (internal) })
/* Address of element i of a guest array of such structures. */
#define guest_abi_elem(name, base, i) gva_add(base, (u64)(i) * abi_sizeof(current_word(), name))

/* Element i of a guest array of words (unsigned long, xen_pfn_t): 8 or 4 bytes each. */
int guest_read_word(u64 *v, gva_t array, u64 i) must_check;
int guest_write_word(gva_t array, u64 i, u64 v) must_check;

#ifdef HOST_TEST
enum abi_word current_word(void);
enum abi_word domain_word(const struct domain *d);
#define copy_from_guest_as(w, dst, src, len) ((void)(w), copy_from_guest(dst, src, len))
#define copy_to_guest_as(w, dst, src, len) ((void)(w), copy_to_guest(dst, src, len))
#else
#include <asm/guest_copy.h>
#endif

#endif
