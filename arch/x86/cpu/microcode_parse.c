/*
 * Files of microcode. Intel's (SDM vol. 3, "Microcode Update Facilities"): patches one behind the other, each with a header, data, and
 * perhaps a table of other CPUs that it is for. AMD's, as Linux has them in linux-firmware: containers of a table that gives CPUs short
 * names, and of patches, which bear such a name.
 */
#include <public/errno.h>
#include <pvisor/lib.h>
#include <pvisor/microcode.h>

struct reader { const u8 *at; size_t left; };

/* A number of n bytes at offset; the caller knows that it is there. */
static u32 number(const u8 *p, size_t offset, unsigned n)
{
    u32 v = 0;

    memcpy(&v, p + offset, n);
    return v;
}

static int malformed(const char **why, const char *what)
{
    *why = what;
    return -EINVAL;
}

static void consider(struct ucode_patch *best, const u8 *at, u32 size, u32 revision)
{
    if (!best->at || revision > best->revision)
        *best = (struct ucode_patch){ at, size, revision };
}

/* --- Intel --- */

#define INTEL_HEAD      48u
#define INTEL_TABLE     20u     /* head of the table of more CPUs */
#define INTEL_ENTRY     12u

static u32 sum_of(const u8 *p, u32 bytes)
{
    u32 sum = 0;

    for (u32 i = 0; i < bytes; i += 4)
        sum += number(p, i, 4);
    return sum;
}

static bool intel_fits(const struct ucode_cpu *cpu, u32 signature, u32 platforms)
{
    /* Old patches are for all platforms, which 0 says. */
    return signature == cpu->signature && (!platforms || platforms & cpu->platform);
}

/* Sizes are 0 in the patches of the first CPUs that had any. */
static void intel_sizes(const u8 *p, u32 *data, u32 *total)
{
    *data = number(p, 28, 4);
    *total = number(p, 32, 4);
    if (!*data) {
        *data = 2000;
        *total = 2048;
    }
}

static int intel_table(const u8 *p, u32 data, u32 total, const struct ucode_cpu *cpu, bool *fits, const char **why)
{
    const u8 *table = p + INTEL_HEAD + data;
    u32 room = total - INTEL_HEAD - data, count;

    if (!room)
        return 0;
    if (room < INTEL_TABLE)
        return malformed(why, "a table of CPUs is cut off");
    count = number(table, 0, 4);
    if (count > (room - INTEL_TABLE) / INTEL_ENTRY)
        return malformed(why, "a table of CPUs is longer than its patch");
    if (sum_of(table, INTEL_TABLE + count * INTEL_ENTRY))
        return malformed(why, "a table of CPUs has a wrong checksum");
    for (u32 i = 0; i < count; i++) {
        const u8 *e = table + INTEL_TABLE + i * INTEL_ENTRY;

        *fits |= intel_fits(cpu, number(e, 0, 4), number(e, 4, 4));
    }
    return 0;
}

static int intel_patch(struct reader *r, const struct ucode_cpu *cpu, struct ucode_patch *best, const char **why)
{
    const u8 *p = r->at;
    u32 data, total;
    bool fits;
    int rc;

    if (r->left < INTEL_HEAD)
        return malformed(why, "the file ends within a patch's header");
    if (number(p, 0, 4) != 1 || number(p, 20, 4) != 1)
        return malformed(why, "a patch has a header of an unknown version");
    intel_sizes(p, &data, &total);
    if (total > r->left)
        return malformed(why, "the file ends within a patch");
    if (data % 4 || total % 4 || total < INTEL_HEAD || data > total - INTEL_HEAD)
        return malformed(why, "a patch's sizes cannot be");
    if (sum_of(p, INTEL_HEAD + data))
        return malformed(why, "a patch has a wrong checksum");
    fits = intel_fits(cpu, number(p, 12, 4), number(p, 24, 4));
    rc = intel_table(p, data, total, cpu, &fits, why);
    if (rc)
        return rc;
    if (fits)
        consider(best, p, total, number(p, 4, 4));
    r->at += total;
    r->left -= total;
    return 0;
}

/* --- AMD --- */

#define AMD_MAGIC       0x00414d44u
#define AMD_SECTION     8u      /* type and size */
#define AMD_NAMES       0u
#define AMD_PATCH       1u
#define AMD_NAME        16u
#define AMD_HEAD        64u
#define AMD_PATCH_MAX   (32u << 10)

/* The short name of the CPU; 0: the table has none. */
static u32 amd_name(const u8 *table, u32 bytes, u32 signature)
{
    for (u32 i = 0; i + AMD_NAME <= bytes && number(table, i, 4); i += AMD_NAME)
        if (number(table, i, 4) == signature)
            return number(table, i + 12, 2);
    return 0;
}

static int amd_section(struct reader *r, u32 type, const struct ucode_cpu *cpu, u32 *name, struct ucode_patch *best, const char **why)
{
    const u8 *p = r->at + AMD_SECTION;
    u32 size = number(r->at, 4, 4);

    if (size > r->left - AMD_SECTION)
        return malformed(why, "the file ends within a section");
    if (type == AMD_NAMES) {
        *name = amd_name(p, size, cpu->signature);
    } else {
        if (size < AMD_HEAD || size > AMD_PATCH_MAX)
            return malformed(why, "a patch's size cannot be");
        if (*name && number(p, 24, 2) == *name)
            consider(best, p, size, number(p, 4, 4));
    }
    r->at += AMD_SECTION + size;
    r->left -= AMD_SECTION + size;
    return 0;
}

/* One container, up to the next or the end. */
static int amd_container(struct reader *r, const struct ucode_cpu *cpu, struct ucode_patch *best, const char **why)
{
    u32 name = 0;
    int rc = 0;

    if (r->left < 4 || number(r->at, 0, 4) != AMD_MAGIC)
        return malformed(why, "there is no container where one should begin");
    r->at += 4;
    r->left -= 4;
    while (!rc && r->left && !(r->left >= 4 && number(r->at, 0, 4) == AMD_MAGIC)) {
        u32 type;

        if (r->left < AMD_SECTION)
            return malformed(why, "the file ends within a section's head");
        type = number(r->at, 0, 4);
        if (type > AMD_PATCH)
            return malformed(why, "a section is of an unknown type");
        rc = amd_section(r, type, cpu, &name, best, why);
    }
    return rc;
}

int ucode_find(const u8 *file, size_t len, const struct ucode_cpu *cpu, struct ucode_patch *best, const char **why)
{
    struct reader r = { file, len };
    int rc = 0;

    *best = (struct ucode_patch){ 0 };
    if (!len)
        return malformed(why, "the file is empty");
    while (!rc && r.left)
        rc = cpu->amd ? amd_container(&r, cpu, best, why) : intel_patch(&r, cpu, best, why);
    return rc ? rc : best->at ? 0 : -ENOENT;
}

/* --- Archives --- */

#define CPIO_HEAD 110u

/* Eight digits of a base of 16; *ok: they are. */
static u32 hex(const u8 *p, bool *ok)
{
    u32 v = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned c = p[i] | 0x20u;
        unsigned digit = c >= 'a' ? c - 'a' + 10 : p[i] - (unsigned)'0';

        *ok &= digit < 16;
        v = v << 4 | (digit & 15);
    }
    return v;
}

/* Entries lie behind each other, head with name and contents on multiples of 4. */
bool ucode_in_cpio(const u8 *archive, size_t len, bool amd, const u8 **file, size_t *size)
{
    const char *wanted = amd ? "kernel/x86/microcode/AuthenticAMD.bin" : "kernel/x86/microcode/GenuineIntel.bin";
    size_t at = 0;

    while (len - at >= CPIO_HEAD && !memcmp(archive + at, "070701", 6)) {
        bool ok = true;
        u32 bytes = hex(archive + at + 54, &ok), name = hex(archive + at + 94, &ok);
        const u8 *text = archive + at + CPIO_HEAD;
        size_t data = at + ROUND_UP((size_t)CPIO_HEAD + name, 4), next = data + ROUND_UP((size_t)bytes, 4);

        if (!ok || data > len || bytes > len - data)
            return false;
        if (name == strlen(wanted) + 1 && !memcmp(text, wanted, name)) {
            *file = archive + data;
            *size = bytes;
            return true;
        }
        if (next > len)
            return false;
        at = next;
    }
    return false;
}
