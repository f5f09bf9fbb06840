/*
 * References to frames, in line, for the paths that take and drop thousands: page-table entries. The rules are those of
 * pvisor/frame.h; mm/frame.c has the same as functions, and all that is not the common case.
 */
#ifndef ASM_FRAME_REF_H
#define ASM_FRAME_REF_H

#include <asm/atomic.h>
#include <asm/mm.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>

static always_inline u16 frame_ref_owner(u64 ref_word) { return (u16)(ref_word >> FR_OWNER_SHIFT); }

/* frame_get(). */
static always_inline bool frame_take(mfn_t m, const struct domain *owner)
{
    u64 w;

    if (unlikely(m.v >= nr_frames))
        return false;
    w = read_once(frame_refs[m.v]);
    do {
        /* A count of 0 is a frame on its way to the heap; a full one would wrap. */
        if (unlikely(frame_ref_owner(w) != owner->id || (u32)w - 1 >= 0xfffffffeu))
            return false;
    } while (unlikely(!try_cmpxchg(&frame_refs[m.v], &w, w + 1)));
    return true;
}

/* frame_put(). */
static always_inline void frame_drop(mfn_t m)
{
    u64 w = atomic_add_return(&frame_refs[m.v], ~0UL);

    ASSERT((u32)w != 0xffffffffu);
    if (unlikely(!(w & FR_COUNT_MASK)))
        frame_final_put(m, w);
}

/* frame_put_writable(). */
static always_inline void frame_drop_writable(mfn_t m)
{
    u32 w = atomic_add_return(&frame_types[m.v], ~0u);

    ASSERT(fw_type(w) == FT_WRITABLE && (w & FW_COUNT_MASK) != FW_COUNT_MASK);
    (void)w;
    frame_drop(m);
}

/* One more writable reference to a frame that is settled as writable; false: ask frame_get_writable(). */
static always_inline bool frame_take_writable(mfn_t m)
{
    u32 w = read_once(frame_types[m.v]);

    return likely(fw_type(w) == FT_WRITABLE && w & FW_VALID && (w & FW_COUNT_MASK) != FW_COUNT_MASK) &&
           try_cmpxchg(&frame_types[m.v], &w, w + 1);
}

#endif
