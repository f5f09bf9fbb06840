/*
 * Typed page tables, by a list of moves: the first byte says the format, and each 16 bytes are one move of those that the unit test draws
 * at random, with all that it draws for it. After each all references are counted again, and what TLBs, mirrors and copies may hold is
 * looked at; in the end the domain dies, and nothing may be left.
 */
// MAX: 641
// AS: test_ptype
// LIBS: -lpthread
#define main the_unit_tests
#include "test_ptype.c"
#undef main
#include "fuzz.h"
#include "moves.h"

/* A frame is mostly one of a few, so that moves meet. */
static u64 drawn_below(u64 n)
{
    u64 x = take(&move, n > 256 ? 2 : 1);

    return n == NR_PLAY && x < 0xc0 ? x % 8 : x % n;
}

/* What this machine has come to, for libFuzzer to collect: it counts these as it does code. */
static void note_state(void)
{
    for (unsigned i = 0; i < NR_PLAY; i++) {
        u32 w = type_word(play[i]);

        note_seen(fw_type(w), w >> 24 & 31, min(w & FW_COUNT_MASK, 3u), (unsigned)min(dom->arch.nr_orphans, 3u));
    }
}

/* The place for whatever else is to hold between two moves. */
static void between_moves(void)
{
    check();
    walk_some();
    note_state();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };
    enum pt_format_id *format = &formats[take(&in, 1) % ARRAY_SIZE(formats)];

    random_below = drawn_below;
    setup((void *[]){ format });
    for (unsigned i = 0; i < NR_PLAY; i++)
        play[i] = frames_new(dom);
    while (next_move(&in)) {
        play_once();
        between_moves();
    }
    preempt_at(5, false);
    relinquish();
    expect_nothing_left();
    return 0;
}
