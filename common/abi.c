/*
 * The codec between a guest's layout of a structure and ours. One walk over the field table serves both
 * directions and both word sizes; every value is little-endian, so widening is a copy of the low bytes and
 * zeroes above, and narrowing is a copy of the low bytes and a check that nothing was above.
 */
#include <pvisor/abi.h>
#include <pvisor/lib.h>

/* Takes a field of count elements at the next aligned offset. Returns that offset and moves *at past it. */
static size_t place(size_t *at, const struct abi_place *p, unsigned count)
{
    size_t offset = ROUND_UP(*at, p->align);

    *at = offset + (size_t)p->size * count;
    return offset;
}

static void decode_element(abi_layout w, const struct abi_field *f, u8 *in, const u8 *raw)
{
    size_t n = min(f->in.size, f->raw[w].size);

    if (f->sub) {
        abi_decode(w, f->sub, in, raw);
        return;
    }
    memcpy(in, raw, n);
    memset(in + n, 0, f->in.size - n);
}

void abi_decode(abi_layout w, const struct abi_desc *d, void *internal, const void *raw)
{
    size_t in_at = 0, raw_at = 0;

    memset(internal, 0, d->internal_size);
    for (const struct abi_field *f = d->fields; f < d->fields + d->nr_fields; f++) {
        u8 *in = (u8 *)internal + place(&in_at, &f->in, f->count);
        const u8 *from = (const u8 *)raw + place(&raw_at, &f->raw[w], f->count);

        for (unsigned i = 0; i < f->count; i++)
            decode_element(w, f, in + i * f->in.size, from + i * f->raw[w].size);
    }
}

static bool encode_element(abi_layout w, const struct abi_field *f, u8 *raw, const u8 *in)
{
    size_t n = min(f->in.size, f->raw[w].size);
    u8 lost = 0;

    if (f->sub)
        return abi_encode(w, f->sub, raw, in);
    memcpy(raw, in, n);
    /* A field that the layout does not have at all is dropped, not lost. */
    for (size_t i = n; n && i < f->in.size; i++)
        lost |= in[i];
    return lost == 0;
}

bool abi_encode(abi_layout w, const struct abi_desc *d, void *raw, const void *internal)
{
    size_t in_at = 0, raw_at = 0;
    bool fits = true;

    memset(raw, 0, d->size[w]);
    for (const struct abi_field *f = d->fields; f < d->fields + d->nr_fields; f++) {
        const u8 *in = (const u8 *)internal + place(&in_at, &f->in, f->count);
        u8 *to = (u8 *)raw + place(&raw_at, &f->raw[w], f->count);

        for (unsigned i = 0; i < f->count; i++)
            fits &= encode_element(w, f, to + i * f->raw[w].size, in + i * f->in.size);
    }
    return fits;
}
