#include "data.h"

/* A mixing function in which each bit of the input changes about half of the output's. */
static u32 word_at(u32 seed, u32 i)
{
    u32 x = seed ^ i * 0x9e3779b1u;

    x = (x ^ x >> 16) * 0x21f0aaadu;
    x = (x ^ x >> 15) * 0x735a2d97u;
    return x ^ x >> 15;
}

void data_fill(u32 seed, u64 offset, void *to, size_t n)
{
    u32 w = word_at(seed, (u32)(offset / 4));

    for (u8 *byte = to; n; n--) {
        *byte++ = (u8)(w >> offset % 4 * 8);
        if (++offset % 4 == 0)
            w = word_at(seed, (u32)(offset / 4));
    }
}

u32 crc32(u32 crc, const void *data, size_t n)
{
    static u32 table[256];

    for (u32 i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (unsigned bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    crc = ~crc;
    for (const u8 *byte = data; n; n--)
        crc = crc >> 8 ^ table[(crc ^ *byte++) & 0xff];
    return ~crc;
}

u32 data_crc(u32 seed, u64 n)
{
    u8 piece[512];
    u32 crc = 0;

    for (u64 at = 0; at < n; at += sizeof(piece)) {
        size_t part = (size_t)min((u64)sizeof(piece), n - at);

        data_fill(seed, at, piece, part);
        crc = crc32(crc, piece, part);
    }
    return crc;
}
