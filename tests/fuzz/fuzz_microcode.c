/*
 * Files of microcode: no byte beyond the file is read, and what is found lies in it. The first byte says whose format it is, and whether
 * the sums of Intel's first patch are made right, so that what is behind them is reached.
 */
// MAX: 600
// SOURCES: arch/x86/cpu/microcode_parse.c
#include <stdlib.h>
#include <string.h>

#include <public/errno.h>
#include <pvisor/microcode.h>
#include "fuzz.h"

static u32 word_at(const u8 *p) { u32 v; memcpy(&v, p, 4); return v; }

/* Makes the words from p on sum up to 0 by one of them. */
static void balance(u8 *p, size_t bytes, u8 *by)
{
    u32 sum = 0;

    memset(by, 0, 4);
    for (size_t i = 0; i + 4 <= bytes; i += 4)
        sum -= word_at(p + i);
    memcpy(by, &sum, 4);
}

static void make_sums_right(u8 *p, size_t len)
{
    size_t data = len >= 48 ? word_at(p + 28) : 0, count;

    if (len < 48 || data > len - 48)
        return;
    balance(p, 48 + data, p + 16);
    p += 48 + data;
    len -= 48 + data;
    count = len >= 20 ? word_at(p) : 0;
    if (count && count <= (len - 20) / 12)
        balance(p, 20 + count * 12, p + 4);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct ucode_cpu cpu = { .amd = size && data[0] & 1, .signature = 0x01010101, .platform = 1 };
    struct ucode_patch best;
    const char *why = NULL;
    size_t len = size ? size - 1 : 0, found_size;
    const u8 *found;
    u8 *file = malloc(len + !len);
    int rc;

    if (len)
        memcpy(file, data + 1, len);
    if (len && data[0] & 2)
        make_sums_right(file, len);
    rc = ucode_find(file, len, &cpu, &best, &why);
    EXPECT(rc == 0 || rc == -ENOENT || (rc == -EINVAL && why));
    EXPECT(rc != 0 || (best.at >= file && best.size <= len && best.at + best.size <= file + len));
    if (ucode_in_cpio(file, len, cpu.amd, &found, &found_size))
        EXPECT(found >= file && found_size <= len && found + found_size <= file + len);
    free(file);
    return 0;
}
