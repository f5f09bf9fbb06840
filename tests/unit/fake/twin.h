/*
 * The same random life twice, once with the short ways of what the test includes and once without: what it says of its state after each
 * step must be the same. To be included before all else; the code under test is included too, so that its short ways are asked here.
 */
#ifndef FAKE_TWIN_H
#define FAKE_TWIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/types.h>

static bool short_ways;
#undef SHORT_WAYS
#define SHORT_WAYS short_ways

#define TWIN_STEPS 4096u
static u64 twin_first[TWIN_STEPS], twin_state, twin_seed;
static unsigned twin_step;

static u64 random_below(u64 n)
{
    twin_seed ^= twin_seed << 13;
    twin_seed ^= twin_seed >> 7;
    twin_seed ^= twin_seed << 17;
    return twin_seed % n;
}

/* Part of the state; a multiple of 8 bytes. */
static void twin_say(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes / 8; i++)
        twin_state = (twin_state ^ ((const u64 *)p)[i]) * 0x9e3779b97f4a7c15UL + 1;
}

static void twin_say_number(u64 n) { twin_say(&n, sizeof(n)); }

static void twin_step_ends(void)
{
    assert_in_range(twin_step, 0, TWIN_STEPS - 1);
    if (!short_ways)
        twin_first[twin_step] = twin_state;
    else if (twin_first[twin_step] != twin_state)
        fail_msg("after step %u the two are not the same", twin_step);
    twin_step++;
}

/* life: from nothing to nothing, the same for the same seed. */
static void twins_live(void (*life)(void), u64 seed)
{
    for (unsigned i = 0; i < 2; i++) {
        short_ways = i;
        twin_seed = seed * 0x9e3779b97f4a7c15UL;
        twin_state = twin_step = 0;
        life();
    }
}

#endif
