/* Bitmaps in tools' memory, and the vCPU that a call names. */
#include <pvisor/lib.h>
#include "internal.h"

#define MAX_GUEST_BITS (1u << 16)

int bitmap_from_guest(void *bits, u32 nr_bits, const struct xenctl_bitmap *map)
{
    u32 theirs = map->nr_bits, bytes = DIV_ROUND_UP(nr_bits, 8);
    u32 n = min(DIV_ROUND_UP(theirs, 8), bytes);

    if (theirs > MAX_GUEST_BITS)
        return refuse(-EINVAL, "a bitmap of %u bits, at most %u are possible", theirs, MAX_GUEST_BITS);
    memset(bits, 0, bytes);
    if (copy_from_guest(bits, gva(map->bitmap), n))
        return -EFAULT;
    if (theirs < n * 8)
        ((u8 *)bits)[n - 1] &= (u8)((1u << theirs % 8) - 1);
    return 0;
}

int bitmap_to_guest(const struct xenctl_bitmap *map, const void *bits, u32 nr_bits)
{
    u32 theirs = DIV_ROUND_UP(map->nr_bits, 8), n = min(theirs, DIV_ROUND_UP(nr_bits, 8));

    if (map->nr_bits > MAX_GUEST_BITS)
        return refuse(-EINVAL, "a bitmap of %u bits, at most %u are possible", map->nr_bits, MAX_GUEST_BITS);
    if (copy_to_guest(gva(map->bitmap), bits, n))
        return -EFAULT;
    return theirs > n && clear_guest(gva(map->bitmap + n), theirs - n) ? -EFAULT : 0;
}

struct vcpu *control_vcpu(struct domain *d, u32 id)
{
    struct vcpu *v = domain_vcpu(d, id);

    return v ? v : refuse(NULL, "d%u has no vCPU %u", d->id, id);
}
