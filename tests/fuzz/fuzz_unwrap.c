/*
 * What wraps a kernel: boot images and packings. No byte beyond the file is read, and none beyond the room that was asked for is written,
 * whatever the file says of its size. A first byte that is odd is followed by a file, an even one by what goes into a boot image.
 */
// MAX: 1200
// AS: test_image_unwrap
#include <stdlib.h>
#include <string.h>

#include <pvisor/image.h>
#include "fuzz.h"

#define MOST (4u << 20)     /* more is not unpacked here: it is what a machine that has no more memory does */

/* The libraries are no code that the sanitizer looks into: what lies behind a room must be untouched. */
#define BEHIND 64

static u8 *room(u64 size)
{
    u8 *p = malloc(size + BEHIND);

    memset(p + size, 0xa5, BEHIND);
    return p;
}

static void leave(u8 *p, u64 size)
{
    for (unsigned i = 0; i < BEHIND; i++)
        EXPECT(p[size + i] == 0xa5);
    free(p);
}

static void unpack(const struct image_wrap *w)
{
    struct image_error err = { "" };
    u8 *out = room(w->unpacked_size), *scratch = room(w->scratch_size);
    int rc = image_unwrap(w, out, w->unpacked_size, scratch, w->scratch_size, &err);

    EXPECT(!rc || *err.text);
    EXPECT(w->unpacked_size == 0 || image_unwrap(w, out, w->unpacked_size - 1, scratch, w->scratch_size, &err) < 0);
    if (!rc && w->unpacked_size < 4096) {      /* all of it was written, and is the same again */
        u8 *again = room(w->unpacked_size);

        EXPECT(image_unwrap(w, again, w->unpacked_size, scratch, w->scratch_size, NULL) == 0);
        EXPECT(!memcmp(out, again, w->unpacked_size));
        leave(again, w->unpacked_size);
    }
    leave(out, w->unpacked_size);
    leave(scratch, w->scratch_size);
}

static void look_at(const u8 *file, size_t size)
{
    struct image_error err = { "" };
    struct image_wrap w;
    int rc = image_identify(file, size, &w, &err);

    EXPECT(!rc || *err.text);
    if (rc)
        return;
    EXPECT(w.payload >= file && w.payload <= file + size && w.payload_size <= (u64)(file + size - w.payload));
    EXPECT(w.unpacked_size && (w.packing == PACKED_NOT || w.unpacked_size <= IMAGE_MAX_UNPACKED));
    (void)image_packing_name(w.packing);
    if (w.packing != PACKED_NOT && w.unpacked_size <= MOST)
        unpack(&w);
}

/* Two sectors of setup, and a payload behind them (Documentation/x86/boot.rst of Linux). */
static void look_at_wrapped(const u8 *payload, size_t size)
{
    size_t at = 2 * 512, whole = at + size;
    u8 *file = calloc(1, whole);
    u32 length = (u32)size;

    file[0x1f1] = 1;
    memcpy(file + 0x1fe, "\x55\xaaxxHdrS\x0f\x02", 10);
    memcpy(file + 0x24c, &length, 4);
    if (size)
        memcpy(file + at, payload, size);
    look_at(file, whole);
    free(file);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };

    if (take(&in, 1) & 1)
        look_at(in.at, (size_t)(in.end - in.at));
    else
        look_at_wrapped(in.at, (size_t)(in.end - in.at));
    return 0;
}
