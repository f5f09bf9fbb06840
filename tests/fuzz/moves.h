/*
 * Inputs that are lists of moves, MOVE_BYTES each behind a first byte: what a move draws beyond its bytes is 0, so that those behind it
 * stay what they are when it changes. Besides what libFuzzer does to bytes, moves are taken out, repeated and exchanged as a whole.
 */
#ifndef MOVES_H
#define MOVES_H

#include "fuzz.h"

#ifndef MOVE_BYTES
#define MOVE_BYTES 16u
#endif

void *memmove(void *to, const void *from, size_t n);
size_t LLVMFuzzerMutate(u8 *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t most, unsigned seed);

/* What is left of the bytes of the move that is being made. */
static struct fuzz_input move;

static inline bool next_move(struct fuzz_input *in)
{
    size_t left = (size_t)(in->end - in->at);

    if (!left)
        return false;
    move.at = in->at;
    in->at += left < MOVE_BYTES ? left : MOVE_BYTES;
    move.end = in->at;
    return true;
}

/* States that were seen, as counters that libFuzzer takes for coverage: four small numbers are one of them. */
#define SEEN 8192u
__attribute__((section("__libfuzzer_extra_counters"))) static u8 seen[SEEN];
static inline void note_seen(unsigned a, unsigned b, unsigned c, unsigned d) { seen[(a | b << 3 | c << 8 | d << 10) % SEEN] = 1; }

size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t most, unsigned seed)
{
    size_t moves = size ? (size - 1) / MOVE_BYTES : 0;
    u8 *from = data + 1 + (moves ? seed / 8 % moves : 0) * MOVE_BYTES, *to = data + 1 + (moves ? seed / 1024 % moves : 0) * MOVE_BYTES;
    u8 *end = data + size;

    switch (moves ? seed % 8 : 7) {
    case 0:     /* out */
        memmove(from, from + MOVE_BYTES, (size_t)(end - from) - MOVE_BYTES);
        return size - MOVE_BYTES;
    case 1:     /* once more, elsewhere */
    case 2: {
        u8 copy[MOVE_BYTES];

        if (size + MOVE_BYTES > most)
            break;
        memmove(copy, from, MOVE_BYTES);
        memmove(to + MOVE_BYTES, to, (size_t)(end - to));
        memmove(to, copy, MOVE_BYTES);
        return size + MOVE_BYTES;
    }
    case 3:     /* one changes */
    case 4:
    case 5:
        (void)LLVMFuzzerMutate(from, MOVE_BYTES, MOVE_BYTES);
        return size;
    case 6:     /* one takes another's place */
        memmove(to, from, MOVE_BYTES);
        return size;
    }
    return LLVMFuzzerMutate(data, size, most);
}

#endif
