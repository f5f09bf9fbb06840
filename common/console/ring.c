/*
 * The log's ring, which `xl dmesg` reads. Positions are free-running 32-bit counts of bytes; the ring holds
 * the last ring_size of them, a power of two.
 */
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include "internal.h"

#define EARLY_RING (64u << 10)
#define MAX_RING   (16u << 20)

static char early_ring[EARLY_RING];
static char *ring = early_ring;
static u32 ring_size = EARLY_RING, wanted_size = EARLY_RING;
static u32 produced, cleared;

static int parse_conring_size(const char *v)
{
    const char *end;
    u64 size = cmdline_size(v, &end);

    if (end == v || *end || !size || size > MAX_RING)
        return -EINVAL;
    wanted_size = size > EARLY_RING ? 2u << ilog2(size - 1) : EARLY_RING;
    return 0;
}
CMDLINE_OPTION("conring_size", parse_conring_size);

void ring_put(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ring[produced++ & (ring_size - 1)] = s[i];
}

void ring_resize(void)
{
    char *old = ring, *new;
    u32 old_size = ring_size, end = produced;
    u32 start = end > old_size ? end - old_size : 0;

    if (wanted_size <= ring_size)
        return;
    new = alloc_pages(ilog2(wanted_size) - PAGE_SHIFT);
    if (!new)
        return;
    for (u32 i = start; i != end; i++)
        new[i & (wanted_size - 1)] = old[i & (old_size - 1)];
    ring = new;
    ring_size = wanted_size;
}

/* The oldest position that can be read. */
static u32 oldest(u32 from)
{
    if ((s32)(from - cleared) < 0)
        from = cleared;
    if (produced - from > ring_size)
        from = produced - ring_size;
    return from;
}

u32 console_ring_read(char *buf, u32 n, u32 *index, bool clear)
{
    u64 flags = console_lock();
    u32 from = oldest(*index), count = min(n, produced - from);

    for (u32 i = 0; i < count; i++)
        buf[i] = ring[(from + i) & (ring_size - 1)];
    *index = from + count;
    if (clear)
        cleared = *index;
    console_unlock(flags);
    return count;
}
