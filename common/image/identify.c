/*
 * What wraps a kernel: a Linux boot image (Documentation/x86/boot.rst of Linux: setup header at 0x1f1,
 * payload since protocol 2.08), compression, or nothing. A packed payload ends with its unpacked size, 32
 * bits little-endian: gzip's own trailer, or appended by Linux's build.
 */
#include "internal.h"

#define BZ_SETUP_SECTS    0x1f1
#define BZ_BOOT_FLAG      0x1fe
#define BZ_HEADER         0x202
#define BZ_VERSION        0x206
#define BZ_PAYLOAD_OFFSET 0x248
#define BZ_PAYLOAD_LENGTH 0x24c
#define BZ_LEAST_SIZE     0x250

static const struct magic {
    const char *name;
    u8 len;
    u8 bytes[6];
    bool supported;
    enum image_packing packing;
} magics[] = {
    { "an ELF", 4, "\177ELF", true, PACKED_NOT },
    { "gzip", 2, "\037\213", true, PACKED_GZIP },
    { "xz", 6, "\3757zXZ", true, PACKED_XZ },
    { "lzma", 3, { 0x5d, 0, 0 }, true, PACKED_LZMA },
    { "zstd", 4, { 0x28, 0xb5, 0x2f, 0xfd }, true, PACKED_ZSTD },
    { "lz4", 4, { 0x02, 0x21, 0x4c, 0x18 }, true, PACKED_LZ4 },
    { "bzip2", 3, "BZh", false, PACKED_NOT },
    { "lzo", 4, { 0x89, 'L', 'Z', 'O' }, false, PACKED_NOT },
};

const char *image_packing_name(enum image_packing packing)
{
    for (unsigned i = 1; i < ARRAY_SIZE(magics); i++)
        if (magics[i].packing == packing)
            return packing == PACKED_NOT ? "none" : magics[i].name;
    return "?";
}

static int find_payload(const u8 *file, u64 size, struct image_wrap *w, struct image_error *err)
{
    u64 sects = file[BZ_SETUP_SECTS] ?: 4;
    u64 offset, length;

    w->bzimage = true;
    w->boot_protocol = (u16)get_le(file + BZ_VERSION, 2);
    offset = (sects + 1) * 512 + get_le(file + BZ_PAYLOAD_OFFSET, 4);
    length = get_le(file + BZ_PAYLOAD_LENGTH, 4);
    if (w->boot_protocol < 0x208 || !length)
        return image_fail(err, -EOPNOTSUPP, "the boot image does not say where its kernel is "
                          "(boot protocol %u.%02u, expected 2.08)", w->boot_protocol / 256u,
                          w->boot_protocol % 256u);
    if (!range_within(offset, length, size))
        return image_fail(err, -EINVAL, "kernel is truncated: payload ends at byte %llu, file has %llu",
                          (ull)(offset + length), (ull)size);
    w->payload = file + offset;
    w->payload_size = length;
    return 0;
}

static const struct magic *find_magic(const u8 *p, u64 size)
{
    for (unsigned i = 0; i < ARRAY_SIZE(magics); i++)
        if (size >= magics[i].len && !memcmp(p, magics[i].bytes, magics[i].len))
            return &magics[i];
    return NULL;
}

static int unknown_file(const u8 *p, u64 size, struct image_error *err)
{
    if (!size)
        return image_fail(err, -ENOEXEC, "the file is empty");
    return image_fail(err, -ENOEXEC, "not a kernel: neither ELF nor gzip nor a Linux boot image "
                      "(starts with %02x %02x %02x %02x)", p[0], size > 1 ? p[1] : 0, size > 2 ? p[2] : 0,
                      size > 3 ? p[3] : 0);
}

static int unpacked_size(struct image_wrap *w, const char *name, struct image_error *err)
{
    if (w->payload_size < 24)
        return image_fail(err, -EINVAL, "kernel is truncated: %llu bytes of %s",
                          (ull)w->payload_size, name);
    if (w->payload_size > IMAGE_MAX_UNPACKED)
        return image_fail(err, -E2BIG, "the kernel has %llu bytes, expected up to %llu",
                          (ull)w->payload_size, IMAGE_MAX_UNPACKED);
    w->unpacked_size = get_le(w->payload + w->payload_size - 4, 4);
    if (!w->unpacked_size || w->unpacked_size > IMAGE_MAX_UNPACKED)
        return image_fail(err, -E2BIG, "the %s payload claims to unpack to %llu bytes, expected 1 to %llu: truncated or corrupt",
                          name, (ull)w->unpacked_size, IMAGE_MAX_UNPACKED);
    w->scratch_size = image_scratch_size(w->packing, w->unpacked_size);
    return 0;
}

int image_identify(const void *file, u64 size, struct image_wrap *w, struct image_error *err)
{
    const struct magic *m;
    const u8 *p = file;
    int rc;

    *w = (struct image_wrap){ .payload = p, .payload_size = size };
    if (size >= BZ_LEAST_SIZE && get_le(p + BZ_BOOT_FLAG, 2) == 0xaa55 && !memcmp(p + BZ_HEADER, "HdrS", 4)) {
        rc = find_payload(p, size, w, err);
        if (rc)
            return rc;
    }
    m = find_magic(w->payload, w->payload_size);
    if (!m)
        return unknown_file(w->payload, w->payload_size, err);
    if (!m->supported)
        return image_fail(err, -EOPNOTSUPP, "kernel is packed with %s, which is not supported", m->name);
    w->packing = m->packing;
    if (w->packing == PACKED_NOT) {
        w->unpacked_size = w->payload_size;
        return 0;
    }
    if (!w->bzimage && w->packing != PACKED_GZIP)
        return image_fail(err, -EOPNOTSUPP, "a kernel file packed with %s outside a Linux boot image is "
                          "not supported; unpack it first", m->name);
    return unpacked_size(w, m->name, err);
}
