/*
 * References to frames, in line, for the paths that take and drop thousands: page-table entries. The rules are those of
 * pvisor/frame.h; pt/frame.c has the same as functions, and all that is not the common case.
 */
#ifndef ASM_FRAME_REF_H
#define ASM_FRAME_REF_H

#include <asm/atomic.h>
#include <asm/pt.h>
#include <pvisor/domain.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/steps.h>

static always_inline u16 frame_ref_owner(u64 ref_word) { return (u16)(ref_word >> FR_OWNER_SHIFT); }

/* What a reference word of owner's is at least, without the flags above the owner: the owner, and a count of 1. */
static always_inline u64 least_ref(const struct domain *owner) { return (u64)owner->id << (FR_OWNER_SHIFT + 16) | 1UL << 16; }

/* frame_get(); least: least_ref() of the owner, for those who take thousands. */
static always_inline bool frame_take_least(mfn_t m, u64 least)
{
    u64 w;

    if (unlikely(mfn_eq(m, INVALID_MFN)))
        return false;
    steps_add(1);
    w = read_once(frame_refs[m.v]);
    do {
        /* A count of 0 is a frame on its way to the heap; one above 2^31 might wrap. */
        if (unlikely(((w << 16) - least) >> (31 + 16)))
            return false;
    } while (unlikely(!try_cmpxchg(&frame_refs[m.v], &w, w + 1)));
    return true;
}

static always_inline bool frame_take(mfn_t m, const struct domain *owner) { return frame_take_least(m, least_ref(owner)); }

/*
 * As frame_take(), for what must not fail because a guest has had the count go up to where that refuses: for a moment, so that these are a
 * few for each CPU at most, for which the rest of the count has room.
 */
static inline bool frame_hold(mfn_t m, const struct domain *owner)
{
    u64 w;

    if (mfn_eq(m, INVALID_MFN))
        return false;
    w = read_once(frame_refs[m.v]);
    do {
        if (frame_ref_owner(w) != owner->id || !(u32)w)
            return false;
    } while (!try_cmpxchg(&frame_refs[m.v], &w, w + 1));
    return true;
}

/* frame_put(). */
static always_inline void frame_drop(mfn_t m)
{
    /* The count's half of the word alone: a decrement that says by itself whether it came to 0. */
    u32 count = atomic_add_return((u32 *)&frame_refs[m.v], ~0u);

    steps_add(1);
    ASSERT(count != ~0u);
    if (unlikely(!count))
        frame_final_put(m, frame_refs[m.v]);    /* nobody else has it now */
}

/* The type's reference alone, of a frame that is held otherwise. */
static always_inline void frame_drop_type(mfn_t m)
{
    u32 w = atomic_add_return(&frame_types[m.v], ~0u);

    ASSERT(fw_type(w) == FT_WRITABLE && (w & FW_COUNT_MASK) != FW_COUNT_MASK);
    (void)w;
}

/* frame_put_writable(). */
static always_inline void frame_drop_writable(mfn_t m)
{
    frame_drop_type(m);
    frame_drop(m);
}

/*
 * One more writable reference to a frame that is held, and settled as writable; false: ask frame_get_writable(). All
 * states with any other flag are numbers outside of the range.
 */
static always_inline bool frame_take_writable(mfn_t m)
{
    u32 w = read_once(frame_types[m.v]);

    return likely(short_way(w - (FW_TYPE(FT_WRITABLE) | FW_VALID) < FW_COUNT_MASK)) && try_cmpxchg(&frame_types[m.v], &w, w + 1);
}

#endif
