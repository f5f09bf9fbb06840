/* See cpuid.h. */
#include "cpuid.h"

/* As one of Intel's of 2015 says it, in a machine without hyper-threading; what is not here is 0. */
static const struct { u32 leaf, subleaf; struct cpuid_regs r; } said[] = {
    { 0x0, 0, { 0xd, 0x756e6547, 0x6c65746e, 0x49656e69 } },        /* GenuineIntel */
    { 0x1, 0, { 0x506e3, 0x00010800, 0x7ffa3203, 0x0f8bfbff } },
    { 0x2, 0, { 0x76036301, 0x00f0b5ff, 0, 0x00c30000 } },
    { 0x4, 0, { 0x04000121, 0x01c0003f, 0x3f, 0 } },
    { 0x4, 1, { 0x04000122, 0x01c0003f, 0x3f, 0 } },
    { 0x4, 2, { 0x04000143, 0x00c0003f, 0x3ff, 0 } },
    { 0x6, 0, { 0x4, 0, 0, 0 } },
    { 0x7, 0, { 0, 0x009c07a9, 0, 0 } },
    { 0xa, 0, { 0x07300404, 0, 0, 0x603 } },
    { 0xb, 1, { 0, 1, 0x201, 0 } },
    { 0xd, 0, { 7, 0x340, 0x340, 0 } },
    { 0xd, 1, { 0xf, 0x340, 0, 0 } },
    { 0xd, 2, { 0x100, 0x240, 0, 0 } },
    { 0x80000000, 0, { 0x80000008, 0, 0, 0 } },
    { 0x80000001, 0, { 0, 0, 0x121, 0x2c100800 } },
    { 0x80000002, 0, { 0x65746e49, 0x2952286c, 0, 0 } },            /* Intel(R) */
    { 0x80000006, 0, { 0, 0, 0x01006040, 0 } },
    { 0x80000007, 0, { 0, 0, 0, 0x100 } },
    { 0x80000008, 0, { 0x3028, 0, 0, 0 } },
};

u32 fake_feature_7d;

struct cpuid_regs cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_regs r = { 0, 0, 0, 0 };

    for (unsigned i = 0; i < sizeof(said) / sizeof(said[0]); i++)
        if (said[i].leaf == leaf && said[i].subleaf == subleaf)
            r = said[i].r;
    if (leaf == 7 && subleaf == 0)
        r.d = fake_feature_7d;
    return r;
}
