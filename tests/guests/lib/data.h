/* Data whose every byte follows from a seed and an offset, and CRC-32 (the IEEE one, as crc32 of busybox prints it). */
#ifndef GUEST_DATA_H
#define GUEST_DATA_H

#include <pvisor/types.h>

void data_fill(u32 seed, u64 offset, void *to, size_t n);
u32 crc32(u32 crc, const void *data, size_t n); /* crc: 0, or of the data before */
u32 data_crc(u32 seed, u64 n);                  /* of the first n bytes */

#endif
