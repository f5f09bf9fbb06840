/*
 * Unpacking through liblzma, libzstd, zlib and liblz4, linked statically. All memory comes from one arena
 * that the caller gives, so that a hostile file can ask for no more than that. The claimed size bounds the
 * output.
 */
#include <lz4.h>
#include <lzma.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#define Z_SOLO
#include <zlib.h>
#include "internal.h"

#define ARENA_ALIGN 16

struct arena { u8 *base; u64 size, used; };

struct job {
    const u8 *in;
    u64 in_size;
    u8 *out;
    u64 out_size, out_used;
    struct arena arena;
    struct image_error *err;
};

/* Nothing is freed singly: the arena is dropped as a whole. */
static void *arena_alloc(void *opaque, size_t count, size_t size)
{
    struct arena *a = opaque;
    u64 bytes, left = a->size - a->used;
    void *p = a->base + a->used;

    if (__builtin_mul_overflow((u64)count, (u64)size, &bytes) || bytes > left)
        return NULL;
    a->used += min(align_up(bytes, ARENA_ALIGN), left);
    return p;
}

static void *zlib_alloc(void *opaque, unsigned count, unsigned size)
{
    return arena_alloc(opaque, count, size);
}

static void arena_free(void *, void *)
{
}

u64 image_scratch_size(enum image_packing packing, u64 unpacked_size)
{
    switch (packing) {
    case PACKED_XZ:
    case PACKED_LZMA:
        /* A dictionary never needs to exceed the output; the decoders' own state takes some 30 KiB. */
        return align_up(unpacked_size, 4096) + (256 << 10);
    case PACKED_ZSTD:
        return align_up(ZSTD_estimateDCtxSize(), 4096);
    case PACKED_GZIP:
        return 64 << 10;
    default:
        return 0;
    }
}

static int corrupt(struct job *j, const char *what, const char *why)
{
    return image_fail(j->err, -EILSEQ, "the %s payload is corrupt: %s", what, why);
}

static const char *too_short_or_long(const struct job *j)
{
    return j->out_used == j->out_size ? "it is longer than it says" : "it ends too early";
}

static int unpack_gzip(struct job *j)
{
    z_stream s = {
        .next_in = (u8 *)j->in, .avail_in = (unsigned)j->in_size,
        .next_out = j->out, .avail_out = (unsigned)j->out_size,
        .zalloc = zlib_alloc, .zfree = arena_free, .opaque = &j->arena,
    };
    int rc = inflateInit2(&s, 16 + 15);   /* gzip framing, largest window */

    if (rc != Z_OK)
        return image_fail(j->err, -ENOMEM, "too little memory to unpack gzip");
    rc = inflate(&s, Z_FINISH);
    j->out_used = j->out_size - s.avail_out;
    if (rc != Z_STREAM_END)
        return corrupt(j, "gzip", s.msg ? s.msg : too_short_or_long(j));
    return 0;
}

static int unpack_zstd(struct job *j)
{
    ZSTD_DCtx *dctx = ZSTD_initStaticDCtx(j->arena.base, (size_t)j->arena.size);
    size_t n;

    if (!dctx)
        return image_fail(j->err, -ENOMEM, "too little memory to unpack zstd");
    n = ZSTD_decompressDCtx(dctx, j->out, (size_t)j->out_size, j->in, (size_t)j->in_size - 4);
    if (ZSTD_isError(n))
        return corrupt(j, "zstd", ZSTD_getErrorName(n));
    j->out_used = n;
    return 0;
}

/* The frame of `lz4 -l`: a magic number, then blocks of up to 8 MiB, each behind its packed size. */
static int unpack_lz4(struct job *j)
{
    const u8 *p = j->in + 4, *end = j->in + j->in_size - 4;
    const u64 block_max = 8 << 20, packed_max = LZ4_COMPRESSBOUND(8 << 20);

    while (end - p >= 4) {
        u64 packed = get_le(p, 4), room = min(j->out_size - j->out_used, block_max);
        int n;

        p += 4;
        if (packed > min((u64)(end - p), packed_max))
            return corrupt(j, "lz4", "a block is too long");
        n = LZ4_decompress_safe((const char *)p, (char *)j->out + j->out_used, (int)packed, (int)room);
        if (n < 0)
            return corrupt(j, "lz4", "a block cannot be unpacked");
        p += packed;
        j->out_used += (unsigned)n;
    }
    return 0;
}

static int lzma_failed(struct job *j, const char *what, lzma_ret rc)
{
    switch (rc) {
    case LZMA_MEM_ERROR:
        return image_fail(j->err, -ENOMEM, "too little memory to unpack %s", what);
    case LZMA_OPTIONS_ERROR:
        return image_fail(j->err, -EOPNOTSUPP, "the %s payload uses options that are not supported", what);
    case LZMA_BUF_ERROR:
        return corrupt(j, what, too_short_or_long(j));
    default:
        return corrupt(j, what, "bad data or checksum");
    }
}

/* A dictionary larger than the output is never used: declare it no larger than needed. */
static void clip_dictionary(lzma_filter *filters, u64 out_size)
{
    for (; filters->id != LZMA_VLI_UNKNOWN; filters++) {
        lzma_options_lzma *o = filters->options;

        if (filters->id == LZMA_FILTER_LZMA2 || filters->id == LZMA_FILTER_LZMA1EXT)
            o->dict_size = (u32)min((u64)o->dict_size, max(out_size, (u64)LZMA_DICT_SIZE_MIN));
    }
}

static lzma_ret unpack_xz_block(struct job *j, size_t *at, lzma_check check, const lzma_allocator *alloc)
{
    lzma_filter filters[LZMA_FILTERS_MAX + 1];
    lzma_block block = { .version = 1, .check = check, .filters = filters };
    size_t in_size = (size_t)j->in_size - 4, out_at = (size_t)j->out_used;
    lzma_ret rc;

    block.header_size = lzma_block_header_size_decode(j->in[*at]);
    if (block.header_size > in_size - *at)
        return LZMA_BUF_ERROR;
    rc = lzma_block_header_decode(&block, alloc, j->in + *at);
    if (rc != LZMA_OK)
        return rc;
    *at += block.header_size;
    clip_dictionary(filters, j->out_size);
    rc = lzma_block_buffer_decode(&block, alloc, j->in, at, in_size, j->out, &out_at, (size_t)j->out_size);
    j->out_used = out_at;
    return rc;
}

/*
 * Block by block, so that dictionaries can be clipped; each block carries its checksum. The index after
 * them adds nothing. Linux packs with CRC32; liblzma picks its CRC64 code in a constructor, which does not
 * run here.
 */
static int unpack_xz(struct job *j)
{
    const lzma_allocator alloc = { arena_alloc, arena_free, &j->arena };
    size_t at = LZMA_STREAM_HEADER_SIZE;
    lzma_stream_flags flags;
    lzma_ret rc = lzma_stream_header_decode(&flags, j->in);

    if (rc == LZMA_OK && flags.check != LZMA_CHECK_NONE && flags.check != LZMA_CHECK_CRC32)
        rc = LZMA_OPTIONS_ERROR;
    while (rc == LZMA_OK) {
        if (at >= j->in_size - 4)
            rc = LZMA_BUF_ERROR;
        else if (!j->in[at])   /* the index */
            return 0;
        else
            rc = unpack_xz_block(j, &at, (lzma_check)flags.check, &alloc);
        j->arena.used = 0;
    }
    return lzma_failed(j, "xz", rc);
}

/* The format before xz: properties, dictionary size, unpacked size, or all ones (and an end marker). */
static int unpack_lzma(struct job *j)
{
    const lzma_allocator alloc = { arena_alloc, arena_free, &j->arena };
    u64 size = get_le(j->in + 5, 8);
    unsigned props = j->in[0];
    lzma_options_lzma o = {
        .dict_size = (u32)get_le(j->in + 1, 4),
        .lc = props % 9, .lp = props / 9 % 5, .pb = props / 45,
        .ext_flags = LZMA_LZMA1EXT_ALLOW_EOPM,
    };
    lzma_filter filters[2] = { { LZMA_FILTER_LZMA1EXT, &o }, { LZMA_VLI_UNKNOWN, NULL } };
    size_t at = 13, out_at = 0;
    lzma_ret rc;

    lzma_set_ext_size(o, size);
    clip_dictionary(filters, j->out_size);
    rc = lzma_raw_buffer_decode(filters, &alloc, j->in, &at, (size_t)j->in_size - 4, j->out, &out_at,
                                (size_t)j->out_size);
    j->out_used = out_at;
    return rc == LZMA_OK ? 0 : lzma_failed(j, "lzma", rc);
}

static int (*const unpackers[])(struct job *) = {
    [PACKED_GZIP] = unpack_gzip,
    [PACKED_XZ]   = unpack_xz,
    [PACKED_LZMA] = unpack_lzma,
    [PACKED_ZSTD] = unpack_zstd,
    [PACKED_LZ4]  = unpack_lz4,
};

int image_unwrap(const struct image_wrap *w, void *out, u64 out_size, void *scratch, u64 scratch_size,
                 struct image_error *err)
{
    struct job j = {
        .in = w->payload, .in_size = w->payload_size, .out = out, .out_size = w->unpacked_size,
        .arena = { scratch, scratch_size, 0 }, .err = err,
    };
    int rc;

    if (w->packing == PACKED_NOT)
        return image_fail(err, -EINVAL, "nothing to unpack");
    if (out_size < w->unpacked_size || scratch_size < w->scratch_size)
        return image_fail(err, -ENOMEM, "unpacking takes %llu bytes and %llu to work in, "
                          "there are %llu and %llu",
                          (ull)w->unpacked_size, (ull)w->scratch_size,
                          (ull)out_size, (ull)scratch_size);
    rc = unpackers[w->packing](&j);
    if (!rc && j.out_used != j.out_size)
        rc = image_fail(err, -EILSEQ, "the %s payload unpacks to %llu bytes, it claims %llu",
                        image_packing_name(w->packing), (ull)j.out_used,
                        (ull)j.out_size);
    return rc;
}
