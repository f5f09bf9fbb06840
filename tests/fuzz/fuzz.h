/*
 * What the fuzzers share: an input is read as numbers, and what must hold is said by EXPECT(), which ends the program, so that libFuzzer
 * keeps the input. The assertions of cmocka, in rigs of the unit tests, end it too.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <pvisor/types.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

void fuzz_failed(const char *file, int line, const char *what) __attribute__((noreturn));
/* Says more of the input, if a fuzzer has set it. */
extern void (*fuzz_explain)(void);
#define EXPECT(condition) ((condition) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #condition))

/* What is left of the input. Beyond its end there are zeros. */
struct fuzz_input { const u8 *at, *end; };

static inline u64 take(struct fuzz_input *in, unsigned bytes)
{
    u64 v = 0;

    for (unsigned i = 0; i < bytes && in->at < in->end; i++)
        v |= (u64)*in->at++ << (i * 8);
    return v;
}

#endif
