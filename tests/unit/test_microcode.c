/* Files of microcode: the right patch is found, whatever is wrong is refused within the file's bounds, and what a CPU says is believed. */
// SOURCES: arch/x86/cpu/microcode_parse.c arch/x86/cpu/microcode.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/log.c tests/unit/fake/cpuid.c common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/features.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/printk.h>
#include <pvisor/microcode.h>
#include "fake/fake.h"
#include "fake/log.h"

void *malloc(size_t size);
void *aligned_alloc(size_t alignment, size_t size);
void free(void *p);

static u8 file[64 << 10];
static size_t len;
static const char *why;
static struct ucode_patch best;

static void put(u32 v) { memcpy(file + len, &v, 4); len += 4; }
static void set(size_t at, u32 v) { memcpy(file + at, &v, 4); }
static u32 get(size_t at) { u32 v; memcpy(&v, file + at, 4); return v; }

/* In a block of its own of just this size, so that the sanitizer sees what is read beyond. */
static int find_in(size_t bytes, const struct ucode_cpu *cpu)
{
    u8 *copy = malloc(bytes ? bytes : 1);
    int rc;

    memcpy(copy, file, bytes);
    rc = ucode_find(copy, bytes, cpu, &best, &why);
    if (best.at)
        best.at = file + (best.at - copy);
    free(copy);
    return rc;
}
static int find(const struct ucode_cpu *cpu) { return find_in(len, cpu); }

/* Makes the sum of the words from `from` to the end 0 by the one at `at`. */
static void balance(size_t from, size_t end, size_t at)
{
    u32 sum = 0;

    set(at, 0);
    for (size_t i = from; i < end; i += 4)
        sum += get(i);
    set(at, 0 - sum);
}

/* A patch with 64 bytes of data, and more CPUs if there are. Where it begins. */
static size_t intel_patch(u32 revision, u32 signature, u32 platforms, unsigned more, const u32 (*cpus)[2])
{
    size_t at = len, table;
    u32 total = 48 + 64 + (more ? 20 + 12 * more : 0);

    put(1), put(revision), put(0x01022024), put(signature), put(0), put(1), put(platforms), put(64), put(total), put(0), put(0), put(0);
    for (unsigned i = 0; i < 16; i++)
        put(0x1234567 * i);
    balance(at, len, at + 16);
    table = len;
    if (more) {
        put(more), put(0), put(0), put(0), put(0);
        for (unsigned i = 0; i < more; i++)
            put(cpus[i][0]), put(cpus[i][1]), put(0);
        balance(table, len, table + 4);
    }
    return at;
}

static const struct ucode_cpu intel = { .signature = 0x506e3, .platform = 1 << 2, .revision = 5 };
static const struct ucode_cpu amd = { .amd = true, .signature = 0x800f12, .revision = 5 };

static int fresh(void **state)
{
    (void)state;
    memset(file, 0, sizeof(file));
    len = 0;
    why = NULL;
    log_clear();
    return 0;
}

static void intel_has_the_newest_of_this_cpu(void **state)
{
    static const u32 others[][2] = { { 0x306c3, 0x32 }, { 0x506e3, 0x36 } };
    size_t newest;

    (void)state;
    intel_patch(9, 0x306c3, 0x32, 0, NULL);
    intel_patch(7, 0x506e3, 0x36, 0, NULL);
    newest = intel_patch(8, 0x506e3, 0x36, 0, NULL);
    intel_patch(6, 0x506e3, 0x36, 0, NULL);
    intel_patch(99, 0x506e3, 1 << 1, 0, NULL);      /* another platform's */
    assert_int_equal(find(&intel), 0);
    assert_ptr_equal(best.at, file + newest);
    assert_int_equal(best.revision, 8);
    newest = intel_patch(10, 0x406e3, 0xc0, 2, others);
    assert_int_equal(find(&intel), 0);
    assert_ptr_equal(best.at, file + newest);
    fresh(NULL);
    intel_patch(10, 0x406e3, 0xc0, 1, others);
    assert_int_equal(find(&intel), -ENOENT);
}

/* Each sum and each size; cut anywhere but between patches. */
static void intel_files_that_are_spoilt(void **state)
{
    static const u32 others[][2] = { { 0x506e3, 0x36 } };
    static const struct { size_t at; u32 value; const char *why; } cases[] = {
        { 0, 2, "version" }, { 20, 0, "version" }, { 28, 63, "sizes" }, { 28, ~0u - 3, "sizes" }, { 28, 100, "sizes" },
        { 28, 80, "checksum" },
        { 32, ~0u, "ends within" }, { 32, ~0u - 3, "ends within" }, { 32, 4, "sizes" }, { 32, 116, "cut off" }, { 32, 141, "sizes" },
        { 60, 1, "checksum" }, { 112, 2, "longer" }, { 112, ~0u, "longer" }, { 112, 0x15555556, "longer" }, { 132, 1, "checksum" },
    };
    size_t whole;

    (void)state;
    whole = intel_patch(7, 0x506e3, 0x36, 1, others) + 144;
    assert_int_equal(len, whole);
    for (size_t n = 0; n < whole; n++)
        assert_int_equal(find_in(n, &intel), -EINVAL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u32 was = get(cases[i].at);

        set(cases[i].at, cases[i].value);
        if (cases[i].at < 48 && !strstr(cases[i].why, "checksum"))
            balance(0, 112, 16);
        assert_int_equal(find(&intel), -EINVAL);
        if (!strstr(why, cases[i].why))
            fail_msg("case %u: %s, expected %s", i, why, cases[i].why);
        set(cases[i].at, was);
        balance(0, 112, 16);
    }
    assert_int_equal(find(&intel), 0);
    /* Sizes of 0 mean 2048 in all, which are not there. */
    set(28, 0);
    assert_int_equal(find(&intel), -EINVAL);
}

static void amd_patch(u32 revision, u16 name)
{
    put(1), put(96), put(0), put(revision), put(0), put(0), put(0), put(0), put(name);
    for (unsigned i = 7; i < 24; i++)
        put(i);
}

static void amd_names(u32 signature, u16 name)
{
    put(0x00414d44), put(0), put(32), put(signature), put(0), put(0), put(name), put(0), put(0), put(0), put(0);
}

static void amd_has_the_newest_of_this_cpu(void **state)
{
    (void)state;
    amd_names(0x800f82, 0x8082);
    amd_patch(99, 0x8082);
    amd_names(0x800f12, 0x8012);
    amd_patch(98, 0x8082);
    amd_patch(7, 0x8012);
    amd_patch(9, 0x8012);
    amd_patch(8, 0x8012);
    assert_int_equal(find(&amd), 0);
    assert_int_equal(best.revision, 9);
    assert_int_equal(best.size, 96);
    fresh(NULL);
    amd_names(0x800f82, 0x8012);            /* a name means nothing without this CPU in the same container */
    amd_patch(7, 0x8012);
    assert_int_equal(find(&amd), -ENOENT);
}

static void amd_files_that_are_spoilt(void **state)
{
    static const struct { size_t at; u32 value; } cases[] = {
        { 0, 0x414d45 }, { 4, 1 }, { 4, 2 }, { 8, ~0u }, { 8, ~0u - 7 }, { 8, 33 }, { 44, 0xff }, { 48, 63 }, { 48, 97 }, { 48, 0x8001 },
        { 48, ~0u },
    };
    size_t table;

    (void)state;
    amd_names(0x800f12, 0x8012);
    table = len;
    amd_patch(7, 0x8012);
    assert_int_equal(find(&amd), 0);
    for (size_t n = 0; n < len; n++)
        assert_int_equal(find_in(n, &amd), n == table || n == 4 ? -ENOENT : -EINVAL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u32 was = get(cases[i].at);

        set(cases[i].at, cases[i].value);
        if (find(&amd) != -EINVAL)
            fail_msg("case %u is taken", i);
        set(cases[i].at, was);
    }
}

/* --- Archives --- */

static void put_entry(const char *name, const char *contents, size_t bytes)
{
    char head[111];

    snprintf(head, sizeof(head), "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, 2, 3, 4, 5, 6, (u32)bytes, 7, 8, 9, 10,
             (u32)strlen(name) + 1, 0);
    memcpy(file + len, head, 110);
    memcpy(file + len + 110, name, strlen(name) + 1);
    len = ROUND_UP(len + 110 + strlen(name) + 1, 4);
    memcpy(file + len, contents, bytes);
    len = ROUND_UP(len + bytes, 4);
}

static void an_archive_has_the_makers_file(void **state)
{
    const u8 *found;
    size_t size, end;

    (void)state;
    put_entry("kernel", "", 0);
    put_entry("kernel/x86/microcode/GenuineIntel.bin", "intel", 5);
    end = len - 3;
    put_entry("kernel/x86/microcode/AuthenticAMD.bin", "amd!", 4);
    put_entry("TRAILER!!!", "", 0);
    assert_true(ucode_in_cpio(file, len, false, &found, &size));
    assert_int_equal(size, 5);
    assert_memory_equal(found, "intel", 5);
    assert_true(ucode_in_cpio(file, len, true, &found, &size));
    assert_memory_equal(found, "amd!", 4);
    for (size_t n = 0; n < len; n++) {
        u8 *copy = malloc(n ? n : 1);

        memcpy(copy, file, n);
        assert_int_equal(ucode_in_cpio(copy, n, false, &found, &size), n >= end);
        if (n >= end)
            assert_true(found >= copy && found + size <= copy + n);
        free(copy);
    }
    /* Sizes that overflow, and digits that are none. */
    memcpy(file + 54, "ffffffff", 8);
    assert_false(ucode_in_cpio(file, len, false, &found, &size));
    memcpy(file + 54, "00000000", 8);
    memcpy(file + 94, "ffffffff", 8);
    assert_false(ucode_in_cpio(file, len, false, &found, &size));
    memcpy(file + 94, "0000000g", 8);
    assert_false(ucode_in_cpio(file, len, false, &found, &size));
}

/* --- Loading: a CPU that takes patches, and one that does nothing, as emulated ones --- */

struct cpu_host cpu_host = { .vendor = VENDOR_INTEL };
static u32 loaded;
static bool deaf;
static unsigned loads;
int rdmsr_safe(u32 n, u64 *v)
{
    *v = n == 0x17 ? 2UL << 50 : n == 0x8b ? (u64)loaded << 32 : 0;
    return 0;
}
int wrmsr_safe(u32 n, u64 v)
{
    if (n != 0x79)
        return 0;
    loads++;
    assert_int_equal(v % 16, 0);
    if (!deaf)
        memcpy(&loaded, (const u8 *)v - 48 + 4, 4);
    return 0;
}
void smp_call(const cpumask_t *cpus, void (*fn)(void *), void *data) { (void)cpus, fn(data); }
static unsigned pages_out;
void *alloc_pages(unsigned order) { pages_out++; return aligned_alloc(PAGE_SIZE, PAGE_SIZE << order); }
void free_pages(void *p, unsigned order) { (void)order; pages_out--; free(p); }

static void a_patch_is_loaded_once_on_each_cpu_and_kept(void **state)
{
    u32 me = cpuid(1, 0).a;

    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    cpumask_zero(&cpu_online_map);
    for (unsigned cpu = 0; cpu < 3; cpu++)
        cpumask_set(&cpu_online_map, cpu);
    loaded = 5;
    intel_patch(7, me, 1 << 2, 0, NULL);
    assert_int_equal(ucode_this_cpu().revision, 5);
    assert_int_equal(ucode_this_cpu().platform, 1 << 2);
    assert_int_equal(ucode_load(file, len, false), 0);
    assert_int_equal(loads, 3);
    assert_non_null(strstr(log_text, "revision 0x5 to 0x7 on 3 of 3 CPUs"));
    assert_int_equal(ucode_load(file, len, false), -EEXIST);
    assert_int_equal(ucode_load(file, len, true), 0);
    assert_int_equal(pages_out, 1);
    loaded = 5;
    ucode_load_kept();
    assert_int_equal(loaded, 7);
    loaded = 5;
    deaf = true;
    assert_int_equal(ucode_load(file, len, false), -EIO);
    assert_non_null(strstr(log_text, "on 0 of 3 CPUs"));
    assert_int_equal(pages_out, 1);
    deaf = false;
    ucode_load_kept();          /* what the CPUs had before: one that comes must have it too */
    assert_int_equal(loaded, 7);
    assert_int_equal(ucode_load(file, len - 4, false), -EINVAL);
    fresh(NULL);
    intel_patch(7, me + 1, 1 << 2, 0, NULL);
    assert_int_equal(ucode_load(file, len, false), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(intel_has_the_newest_of_this_cpu, fresh),
        cmocka_unit_test_setup(intel_files_that_are_spoilt, fresh),
        cmocka_unit_test_setup(amd_has_the_newest_of_this_cpu, fresh),
        cmocka_unit_test_setup(amd_files_that_are_spoilt, fresh),
        cmocka_unit_test_setup(an_archive_has_the_makers_file, fresh),
        cmocka_unit_test_setup(a_patch_is_loaded_once_on_each_cpu_and_kept, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
