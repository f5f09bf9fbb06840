/* What wraps a kernel: boot images, packings, wrong sizes, cut and corrupted payloads, too little memory. */
// SOURCES: common/image/identify.c common/image/decompress.c
// LIBS: -llzma -lzstd -lz -llz4
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <pvisor/image.h>

#define SETUP_SECTS 3
#define PAYLOAD_AT ((SETUP_SECTS + 1) * 512 + 0x40)
#define PLAIN_SIZE 300000
#define ROOM       (PLAIN_SIZE + 65536)

static u8 plain[PLAIN_SIZE];
static struct image_wrap wrap;
static struct image_error err;

struct bytes { u8 *data; size_t size; };

/* ---- Packing, as Linux's build does it ---- */

static size_t pack_gzip(u8 *out)
{
    z_stream s = { .next_in = plain, .avail_in = PLAIN_SIZE, .next_out = out, .avail_out = ROOM };

    assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, 16 + 15, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
    deflateEnd(&s);
    return s.total_out;
}

static size_t with_size(u8 *out, size_t n)
{
    u32 size = PLAIN_SIZE;

    memcpy(out + n, &size, 4);
    return n + 4;
}

static size_t pack_xz_with(u8 *out, lzma_check check, u32 dict_size)
{
    lzma_options_lzma o;
    lzma_filter f[] = { { LZMA_FILTER_X86, NULL }, { LZMA_FILTER_LZMA2, &o }, { LZMA_VLI_UNKNOWN, NULL } };
    size_t n = 0;

    lzma_lzma_preset(&o, 1);
    o.dict_size = dict_size;
    assert_int_equal(lzma_stream_buffer_encode(f, check, NULL, plain, PLAIN_SIZE, out, &n, ROOM), LZMA_OK);
    return with_size(out, n);
}

static size_t pack_xz(u8 *out) { return pack_xz_with(out, LZMA_CHECK_CRC32, 1 << 20); }

/* Several blocks in one stream, as xz -T makes them. */
static size_t pack_xz_blocks(u8 *out)
{
    lzma_mt mt = { .threads = 1, .block_size = PLAIN_SIZE / 4, .preset = 1, .check = LZMA_CHECK_CRC32 };
    lzma_stream s = LZMA_STREAM_INIT;

    assert_int_equal(lzma_stream_encoder_mt(&s, &mt), LZMA_OK);
    s.next_in = plain;
    s.avail_in = PLAIN_SIZE;
    s.next_out = out;
    s.avail_out = ROOM;
    assert_int_equal(lzma_code(&s, LZMA_FINISH), LZMA_STREAM_END);
    lzma_end(&s);
    return with_size(out, s.total_out);
}

static size_t pack_lzma(u8 *out)
{
    lzma_options_lzma o;
    lzma_stream s = LZMA_STREAM_INIT;

    lzma_lzma_preset(&o, 1);
    assert_int_equal(lzma_alone_encoder(&s, &o), LZMA_OK);
    s.next_in = plain;
    s.avail_in = PLAIN_SIZE;
    s.next_out = out;
    s.avail_out = ROOM;
    assert_int_equal(lzma_code(&s, LZMA_FINISH), LZMA_STREAM_END);
    lzma_end(&s);
    return with_size(out, s.total_out);
}

static size_t pack_zstd(u8 *out)
{
    size_t n = ZSTD_compress(out, ROOM, plain, PLAIN_SIZE, 3);

    assert_false(ZSTD_isError(n));
    return with_size(out, n);
}

static size_t pack_lz4(u8 *out)
{
    static const u8 magic[] = { 0x02, 0x21, 0x4c, 0x18 };
    u32 n = (u32)LZ4_compress_default((char *)plain, (char *)out + 8, PLAIN_SIZE, ROOM - 8);

    memcpy(out, magic, 4);
    memcpy(out + 4, &n, 4);
    return with_size(out, 8 + n);
}

static const struct packer {
    const char *name;
    size_t (*pack)(u8 *out);
    enum image_packing packing;
} packers[] = {
    { "gzip", pack_gzip, PACKED_GZIP }, { "xz", pack_xz, PACKED_XZ }, { "xz", pack_xz_blocks, PACKED_XZ },
    { "lzma", pack_lzma, PACKED_LZMA }, { "zstd", pack_zstd, PACKED_ZSTD }, { "lz4", pack_lz4, PACKED_LZ4 },
};

/* A boot image in a heap block of exactly its size. */
static struct bytes boot_image(const u8 *payload, size_t size)
{
    struct bytes b = { calloc(1, PAYLOAD_AT + size), PAYLOAD_AT + size };
    u32 offset = 0x40, length = (u32)size;

    b.data[0x1f1] = SETUP_SECTS;
    memcpy(b.data + 0x1fe, "\x55\xaaxxHdrS\x0f\x02", 10);
    memcpy(b.data + 0x248, &offset, 4);
    memcpy(b.data + 0x24c, &length, 4);
    memcpy(b.data + PAYLOAD_AT, payload, size);
    return b;
}

static struct bytes packed_image(const struct packer *p)
{
    u8 *payload = malloc(ROOM);
    struct bytes b = boot_image(payload, p->pack(payload));

    free(payload);
    return b;
}

static int identify(const void *file, u64 size)
{
    memset(&err, 0, sizeof(err));
    return image_identify(file, size, &wrap, &err);
}

/* Unpacks into blocks of exactly the sizes that were announced. */
static int unwrap(u8 **out)
{
    void *scratch = malloc(wrap.scratch_size);
    int rc;

    *out = malloc(wrap.unpacked_size);
    rc = image_unwrap(&wrap, *out, wrap.unpacked_size, scratch, wrap.scratch_size, &err);
    free(scratch);
    return rc;
}

#define assert_says(words) do {                                              \
        if (!strstr(err.text, words))                                        \
            fail_msg("error says '%s', expected '%s'", err.text, words);     \
    } while (0)

static void unpacks_every_packing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(packers); i++) {
        struct bytes b = packed_image(&packers[i]);
        u8 *out;

        assert_int_equal(identify(b.data, b.size), 0);
        assert_true(wrap.bzimage);
        assert_int_equal(wrap.boot_protocol, 0x20f);
        assert_int_equal(wrap.packing, packers[i].packing);
        assert_string_equal(image_packing_name(wrap.packing), packers[i].name);
        assert_int_equal(wrap.unpacked_size, PLAIN_SIZE);
        if (unwrap(&out))
            fail_msg("%s: %s", packers[i].name, err.text);
        assert_memory_equal(out, plain, PLAIN_SIZE);
        free(out);
        free(b.data);
    }
}

static void takes_plain_and_gzipped_elf(void **state)
{
    u8 *packed = malloc(ROOM), *out;
    size_t n = pack_gzip(packed);
    struct bytes b = boot_image(plain, 1000);

    (void)state;
    assert_int_equal(identify(plain, PLAIN_SIZE), 0);
    assert_int_equal(wrap.packing, PACKED_NOT);
    assert_false(wrap.bzimage);
    assert_ptr_equal(wrap.payload, plain);
    assert_int_equal(identify(packed, n), 0);
    assert_false(wrap.bzimage);
    assert_int_equal(unwrap(&out), 0);
    assert_memory_equal(out, plain, PLAIN_SIZE);
    assert_int_equal(identify(b.data, b.size), 0);
    assert_int_equal(wrap.packing, PACKED_NOT);
    assert_ptr_equal(wrap.payload, b.data + PAYLOAD_AT);
    assert_int_equal(wrap.payload_size, 1000);
    free(b.data);
    free(out);
    n = pack_xz(packed);
    assert_int_equal(identify(packed, n), -EOPNOTSUPP);
    assert_says("unpack it first");
    free(packed);
}

static void refuses_what_is_no_kernel(void **state)
{
    static const struct { const char *bytes; size_t size; int rc; const char *words; } cases[] = {
        { "", 0, -ENOEXEC, "the file is empty" },
        { "x", 1, -ENOEXEC, "not a kernel" },
        { "#!/bin/sh\n", 10, -ENOEXEC, "starts with 23 21 2f 62" },
        { "BZh91AY&SY", 10, -EOPNOTSUPP, "packed with bzip2" },
        { "\x1f\x8b\x08\0\0", 5, -EINVAL, "kernel is truncated: 5 bytes of gzip" },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u8 *copy = malloc(cases[i].size + 1);

        copy = realloc(copy, cases[i].size ? cases[i].size : 1);
        memcpy(copy, cases[i].bytes, cases[i].size);
        assert_int_equal(identify(copy, cases[i].size), cases[i].rc);
        assert_says(cases[i].words);
        free(copy);
    }
}

static void refuses_bad_setup_headers(void **state)
{
    struct bytes b = packed_image(&packers[0]);
    u32 good, huge = 0xfffffff0;

    (void)state;
    b.data[0x206] = 7;
    assert_int_equal(identify(b.data, b.size), -EOPNOTSUPP);
    assert_says("boot protocol 2.07, expected 2.08");
    b.data[0x206] = 15;
    memcpy(&good, b.data + 0x24c, 4);
    memset(b.data + 0x24c, 0, 4);
    assert_int_equal(identify(b.data, b.size), -EOPNOTSUPP);
    good++;
    memcpy(b.data + 0x24c, &good, 4);
    assert_int_equal(identify(b.data, b.size), -EINVAL);
    assert_says("kernel is truncated: payload ends at byte");
    memcpy(b.data + 0x248, &huge, 4);
    memcpy(b.data + 0x24c, &huge, 4);
    assert_int_equal(identify(b.data, b.size), -EINVAL);
    free(b.data);
}

static void sizes_must_be_true(void **state)
{
    static const s32 lies[] = { -1, 1, -4096, 4096, -PLAIN_SIZE + 1 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(packers); i++)
        for (unsigned n = 0; n < ARRAY_SIZE(lies); n++) {
            struct bytes b = packed_image(&packers[i]);
            u32 size = PLAIN_SIZE + (u32)lies[n];
            u8 *out;

            memcpy(b.data + b.size - 4, &size, 4);
            assert_int_equal(identify(b.data, b.size), 0);
            if (unwrap(&out) != -EILSEQ)
                fail_msg("%s, %d: '%s'", packers[i].name, lies[n], err.text);
            assert_says(packers[i].name);
            free(out);
            free(b.data);
        }
}

static void huge_sizes_are_refused(void **state)
{
    static const u32 sizes[] = { 0, 0x40000001, 0xffffffff };

    (void)state;
    for (unsigned n = 0; n < ARRAY_SIZE(sizes); n++) {
        struct bytes b = packed_image(&packers[1]);

        memcpy(b.data + b.size - 4, &sizes[n], 4);
        assert_int_equal(identify(b.data, b.size), -E2BIG);
        assert_says("claims to unpack to");
        free(b.data);
    }
}

/* A dictionary of 128 MiB, as newer kernels declare, needs no more memory than the output. */
static void large_dictionary_fits(void **state)
{
    u8 *payload = malloc(ROOM), *out;
    struct bytes b = boot_image(payload, pack_xz_with(payload, LZMA_CHECK_CRC32, 128 << 20));

    (void)state;
    assert_int_equal(identify(b.data, b.size), 0);
    assert_true(wrap.scratch_size < 2 * PLAIN_SIZE);
    assert_int_equal(unwrap(&out), 0);
    assert_memory_equal(out, plain, PLAIN_SIZE);
    free(out);
    free(b.data);
    b = boot_image(payload, pack_xz_with(payload, LZMA_CHECK_CRC64, 1 << 20));
    assert_int_equal(identify(b.data, b.size), 0);
    assert_int_equal(unwrap(&out), -EOPNOTSUPP);
    assert_says("options that are not supported");
    free(out);
    free(b.data);
    free(payload);
}

static void too_little_memory(void **state)
{
    struct bytes b = packed_image(&packers[1]);
    u8 *out = malloc(PLAIN_SIZE), *scratch;

    (void)state;
    assert_int_equal(identify(b.data, b.size), 0);
    scratch = malloc(wrap.scratch_size);
    assert_int_equal(image_unwrap(&wrap, out, PLAIN_SIZE - 1, scratch, wrap.scratch_size, &err), -ENOMEM);
    assert_int_equal(image_unwrap(&wrap, out, PLAIN_SIZE, scratch, wrap.scratch_size - 1, &err), -ENOMEM);
    assert_says("unpacking takes 300000 bytes");
    for (unsigned i = 0; i < ARRAY_SIZE(packers); i++) {
        struct bytes other = packed_image(&packers[i]);

        assert_int_equal(identify(other.data, other.size), 0);
        wrap.scratch_size = 1024;   /* an allocation within fails; lz4 needs none */
        assert_int_equal(image_unwrap(&wrap, out, PLAIN_SIZE, scratch, 1024, &err),
                         packers[i].packing == PACKED_LZ4 ? 0 : -ENOMEM);
        free(other.data);
    }
    free(scratch);
    free(out);
    free(b.data);
}

/* The payload cut at many places, with its length and claimed size set to match the cut. */
static void truncated_payloads(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(packers); i++) {
        struct bytes whole = packed_image(&packers[i]);
        size_t size = whole.size - PAYLOAD_AT;

        for (size_t cut = 0; cut < size - 8; cut += cut < 64 ? 1 : size / 50) {
            struct bytes b = boot_image(whole.data + PAYLOAD_AT, cut);
            u32 claim = PLAIN_SIZE;
            u8 *out;
            int rc;

            if (cut >= 24)
                memcpy(b.data + b.size - 4, &claim, 4);
            rc = identify(b.data, b.size);
            if (!rc) {
                rc = unwrap(&out);
                free(out);
            }
            if (rc >= 0 || !err.text[0])
                fail_msg("%s cut at %zu: %d", packers[i].name, cut, rc);
            free(b.data);
        }
        free(whole.data);
    }
}

static u32 seed = 20062;
static u32 rnd(void) { return (seed = seed * 1664525 + 1013904223) >> 8; }

/* Any damage: an error with words, or (lz4 and lzma carry no checksum) some output of the claimed size. */
static void fuzzed_payloads(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(packers); i++) {
        struct bytes whole = packed_image(&packers[i]);

        for (unsigned round = 0; round < 250; round++) {
            u8 *copy = malloc(whole.size), *out;

            memcpy(copy, whole.data, whole.size);
            for (unsigned n = 1 + rnd() % 4; n; n--) {
                size_t at = PAYLOAD_AT + rnd() % (rnd() % 2 ? 64 : whole.size - PAYLOAD_AT - 4);

                copy[at] = (u8)rnd();
            }
            if (identify(copy, whole.size)) {
                assert_true(err.text[0] != 0);
            } else if (wrap.packing != PACKED_NOT) {
                if (unwrap(&out))
                    assert_true(err.text[0] != 0);
                free(out);
            }
            free(copy);
        }
        free(whole.data);
    }
}

/* Half repetitive, half noise, so that every packing uses matches and literals; starts like an ELF. */
static int make_plain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PLAIN_SIZE; i++)
        plain[i] = i % 4096 < 2048 ? (u8)(i % 61) : (u8)(rnd() & 0x1f);
    memcpy(plain, "\177ELF", 4);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpacks_every_packing),
        cmocka_unit_test(takes_plain_and_gzipped_elf),
        cmocka_unit_test(refuses_what_is_no_kernel),
        cmocka_unit_test(refuses_bad_setup_headers),
        cmocka_unit_test(sizes_must_be_true),
        cmocka_unit_test(huge_sizes_are_refused),
        cmocka_unit_test(large_dictionary_fits),
        cmocka_unit_test(too_little_memory),
        cmocka_unit_test(truncated_payloads),
        cmocka_unit_test(fuzzed_payloads),
    };

    return cmocka_run_group_tests(tests, make_plain, NULL);
}
