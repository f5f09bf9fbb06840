/* What CPUID says to a unit test: the same wherever it runs. */
#ifndef FAKE_CPUID_H
#define FAKE_CPUID_H

#include <asm/x86.h>

extern u32 fake_feature_7d;     /* leaf 7's EDX, which has what came with the attacks on speculative execution; 0 unless a test says so */

#endif
