/* The machine's memory map, and memory at boot: nothing of a firmware's map is lost without a word, and what grows with it fits. */
// SOURCES: tests/unit/fake/log.c arch/x86/mm/boot_alloc.c arch/x86/boot/multiboot.c drivers/efi/memory.c common/lib/text.c
// SOURCES: common/cmdline.c common/cmdline_words.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "../../arch/x86/mm/e820.c"
#include <asm/boot.h>
#include <asm/mm.h>
#include <pvisor/cmdline.h>
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include "fake/log.h"

#define GIB (1UL << 30)
#define TIB (1UL << 40)

u64 fake_direct_map, nr_frames = ~0UL;
char __image_start[1], __image_end[1];

/* What the linker script does for the hypervisor. */
const struct cmdline_option __cmdline_start[] = {
    { "mem", parse_mem, NULL }, { "availmem", parse_availmem, NULL }, { "badpage", parse_badpage, NULL },
};
__asm__(".globl __cmdline_end\n.set __cmdline_end, __cmdline_start + 72");

static u64 heap_frames, heap_lowest;
static jmp_buf failed;

void boot_failure(const char *fmt, ...)
{
    (void)fmt;
    longjmp(failed, 1);
}

void heap_init_region(mfn_t first, u64 nr)
{
    heap_frames += nr;
    heap_lowest = min(heap_lowest, first.v);
}

static struct __attribute__((packed)) { u64 start, size; u32 type, reserved; } map[4096];
static unsigned entries;

static int setup(void **state)
{
    (void)state;
    entries = 0;
    log_clear();
    heap_frames = 0;
    heap_lowest = ~0UL;
    boot_info.nr_modules = 0;
    return 0;
}

static void add(u64 start, u64 end, u32 type)
{
    map[entries].start = start;
    map[entries].size = end - start;
    map[entries++].type = type;
}

static void read_map(void)
{
    struct e820_source s = { (const char *)map, (const char *)(map + entries), sizeof(map[0]) };

    e820_read(&s);
    e820_log();
}

static u64 bytes_of(u32 type)
{
    u64 n = 0;

    for (unsigned i = 0; i < host_e820_nr; i++) {
        n += host_e820[i].type == type ? host_e820[i].size : 0;
        assert_true(!i || host_e820[i - 1].start + host_e820[i - 1].size <= host_e820[i].start);
    }
    return n;
}

static void expect(unsigned i, u64 start, u64 end, u32 type)
{
    assert_true(i < host_e820_nr);
    assert_int_equal(host_e820[i].start, start);
    assert_int_equal(host_e820[i].size, end - start);
    assert_int_equal(host_e820[i].type, type);
}

static void sorts_and_joins(void **state)
{
    (void)state;
    add(3 * GIB, 4 * GIB, E820_RAM);
    add(0, GIB, E820_RAM);
    add(GIB, 2 * GIB, E820_RAM);
    read_map();
    assert_int_equal(host_e820_nr, 2);
    expect(0, 0, 2 * GIB, E820_RAM);
    expect(1, 3 * GIB, 4 * GIB, E820_RAM);
}

/* What lies in the middle of RAM leaves both its ends. */
static void ram_gives_way_where_entries_overlap(void **state)
{
    (void)state;
    add(0, 4 * GIB, E820_RAM);
    add(GIB, 2 * GIB, E820_RESERVED);
    add(2 * GIB - 4096, 3 * GIB, E820_ACPI);
    read_map();
    assert_int_equal(host_e820_nr, 4);
    expect(0, 0, GIB, E820_RAM);
    expect(1, GIB, 2 * GIB - 4096, E820_RESERVED);
    expect(2, 2 * GIB - 4096, 3 * GIB, E820_ACPI);
    expect(3, 3 * GIB, 4 * GIB, E820_RAM);
}

/* As GRUB's cutmem makes one. */
static void takes_a_map_in_many_pieces(void **state)
{
    (void)state;
    for (u64 i = 0; i < E820_MAX; i++)
        add(i * 0x200000, i * 0x200000 + 0x100000, E820_RAM);
    read_map();
    assert_int_equal(host_e820_nr, E820_MAX);
    assert_int_equal(bytes_of(E820_RAM), E820_MAX * 0x100000UL);
    assert_null(strstr(log_text, "left unused"));
}

static void says_what_of_too_many_pieces_is_left_out(void **state)
{
    char line[128];

    (void)state;
    for (u64 i = 0; i < E820_MAX + 100; i++)
        add(i * 0x200000, i * 0x200000 + (i % 7 ? 0x100000 : 0x2000), E820_RAM);
    add(TIB, TIB + 4096, E820_RESERVED);
    read_map();
    assert_int_equal(host_e820_nr, E820_MAX);
    expect(E820_MAX - 1, TIB, TIB + 4096, E820_RESERVED);
    snprintf(line, sizeof(line), "more than %u pieces: the smallest 101, of %u KiB, are left unused", E820_MAX, 101 * 8);
    assert_non_null(strstr(log_text, line));
}

static void multiboot_1_entries_have_their_own_lengths(void **state)
{
    static struct __attribute__((packed)) { u32 size; u64 start, len; u32 type; } one[2] = {
        { 20, 0, GIB, E820_RAM }, { 20, GIB, GIB, E820_RESERVED } };
    struct e820_source s = { (const char *)one, (const char *)(one + 2), 0 };

    (void)state;
    e820_read(&s);
    assert_int_equal(host_e820_nr, 2);
    expect(1, GIB, 2 * GIB, E820_RESERVED);
}

static void memory_beyond_our_reach_is_named_and_unused(void **state)
{
    (void)state;
    add(0, 2 * GIB, E820_RAM);
    add(4 * GIB, 16 * TIB, E820_RAM);
    read_map();
    assert_int_equal(bytes_of(E820_RAM), 2 * GIB + E820_RAM_LIMIT - 4 * GIB);
    expect(2, E820_RAM_LIMIT, 16 * TIB, E820_UNUSABLE);
    assert_non_null(strstr(log_text, "is left unused: pvisor reaches 5120 GiB"));
}

static void no_memory_of_the_first_mib_is_given_out(void **state)
{
    (void)state;
    add(0, 0x9fc00, E820_RAM);
    add(0x100000, GIB, E820_RAM);
    boot_info.nr_modules = 1;
    boot_info.module[0].start = maddr(0x80000);
    boot_info.module[0].size = 0x100000;
    read_map();
    memory_init();
    boot_reserve(0x80000, 0x180000);
    memory_to_heap();
    boot_release(boot_info.module[0].start, boot_info.module[0].size);
    assert_true(heap_lowest >= 0x100);
    assert_int_equal(heap_frames, (GIB - 0x100000) >> PAGE_SHIFT);
}

/* Multiboot 2 information at machine address 0, as a list of tags: type, size, contents. */
static struct { u32 size, reserved; u8 tags[8192]; } loader = { 8, 0, { 0 } };

static void tag(u32 type, const void *body, u32 size)
{
    u8 *at = (u8 *)&loader + loader.size;
    u32 head[2] = { type, size + 8 };

    memcpy(at, head, 8);
    memcpy(at + 8, body, size);
    loader.size += ROUND_UP(size + 8, 8);
}

static void says_what_of_the_loaders_does_not_fit(void **state)
{
    static const struct { u32 start, end; char cmdline[8]; } module = { 0x100000, 0x200000, "text" };
    static char words[1500];
    static const struct { u32 stride, version; u64 start, size; u32 type, reserved; } memory_map = { 24, 0, 0, GIB, E820_RAM, 0 };

    (void)state;
    memset(words, 'x', sizeof(words) - 1);
    tag(1, words, sizeof(words));
    for (unsigned i = 0; i < MAX_BOOT_MODULES + 2; i++)
        tag(3, &module, sizeof(module));
    tag(6, &memory_map, sizeof(memory_map));
    fake_direct_map = (u64)&loader;
    assert_true(multiboot_parse(0x36d76289, 0));
    fake_direct_map = 0;
    assert_int_equal(boot_info.nr_modules, MAX_BOOT_MODULES);
    assert_non_null(strstr(log_text, "more modules of the boot loader than the 8"));
    assert_non_null(strstr(log_text, "The command line is longer than 1023 bytes: the rest is left out"));
    expect(0, 0, GIB, E820_RAM);
}

/* The list of tags ends at one that does not fit, and none is read beyond its size: found by tests/fuzz, which it kept looking for ever. */
static void tags_end_where_they_say(void **state)
{
    static const u32 sizes[] = { 0, 7, 17, 0x7fffffff, 0xfffffff8, 0xfffffff9, 0xffffffff };
    static const u32 module[2] = { 0x100000, 0x200000 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        loader.size = 8;
        tag(1, "one", 4);
        tag(3, module, sizeof(module));     /* without its text */
        tag(6, "", 0);                      /* without its fields */
        tag(1, "two", 4);
        memcpy((u8 *)&loader + loader.size - 12, &sizes[i], 4);
        fake_direct_map = (u64)&loader;
        assert_true(multiboot_parse(0x36d76289, 0));
        fake_direct_map = 0;
        assert_string_equal(boot_info.cmdline, "one");
        assert_int_equal(boot_info.nr_modules, 0);
    }
}

/* Its memory map says that it is all RAM; the firmware's own, where it keeps code and data of its services. */
static void what_uefi_needs_is_no_ram(void **state)
{
    static const struct { u32 type, pad; u64 start, virtual_start, pages, attributes, more; } pieces[] = {
        { EFI_CONVENTIONAL_MEMORY, 0, 0x100000, 0, 0x100, EFI_MEMORY_WB, 0 },
        { EFI_RUNTIME_SERVICES_CODE, 0, 0x200000, 0, 2, EFI_MEMORY_RUNTIME | EFI_MEMORY_WB, 0 },
        { EFI_BOOT_SERVICES_DATA, 0, 0x300000, 0, 1, EFI_MEMORY_WB, 0 },
        { EFI_BOOT_SERVICES_CODE, 0, 0x400000, 0, 1, EFI_MEMORY_WB | EFI_MEMORY_RUNTIME, 0 },
        { 9, 0, 0x500000, 0, 1, EFI_MEMORY_WB, 0 },                      /* ACPI tables: not in use once they are read */
        { 0, 0, ~0xfffUL, 0, ~0UL, EFI_MEMORY_RUNTIME, 0 },              /* reaches beyond the end of all addresses */
    };
    static struct { u32 stride, version; u8 bytes[sizeof(pieces)]; } map_tag = { sizeof(pieces[0]), 1, { 0 } };
    static const struct { u32 stride, version; u64 start, size; u32 type, reserved; } memory_map = { 24, 0, 0, GIB, E820_RAM, 0 };
    static const u64 system_table = 0x12345678;

    (void)state;
    loader.size = 8;
    memcpy(map_tag.bytes, pieces, sizeof(pieces));
    tag(17, &map_tag, sizeof(map_tag));
    tag(12, &system_table, sizeof(system_table));
    tag(15, "RSD PTR 2...........................more than there is of it", 60);
    tag(14, "RSD PTR 1...........", 20);
    tag(6, &memory_map, sizeof(memory_map));
    fake_direct_map = (u64)&loader;
    assert_true(multiboot_parse(0x36d76289, 0));
    fake_direct_map = 0;
    efi_reserve_memory();
    expect(0, 0, 0x200000, E820_RAM);
    expect(1, 0x200000, 0x202000, E820_RESERVED);
    expect(2, 0x202000, 0x400000, E820_RAM);
    expect(3, 0x400000, 0x401000, E820_RESERVED);
    expect(4, 0x401000, GIB, E820_RAM);
    assert_null(efi_region_at(0x100000));
    assert_null(efi_region_at(0x300000));
    assert_int_equal(efi_region_at(0x201fff)->type, EFI_RUNTIME_SERVICES_CODE);
    assert_false(efi_is_runtime(efi_region_at(0x500000)));
    assert_true(efi_is_runtime(efi_region_at(0x400000)));
    assert_int_equal(boot_info.efi_system_table, system_table);
    /* The newer form, whole, and a copy: what the loader wrote is overwritten. */
    memset(loader.tags, 0, sizeof(loader.tags));
    assert_memory_equal(boot_info.rsdp, "RSD PTR 2...........................", BOOT_RSDP_SIZE);
}

static void a_uefi_map_that_makes_no_sense_is_none(void **state)
{
    static const u64 map_of_short_ones[12] = { EFI_RUNTIME_SERVICES_CODE, 0x200000, 0, 1, EFI_MEMORY_RUNTIME };

    (void)state;
    efi_read_map(map_of_short_ones, sizeof(map_of_short_ones), 39);
    assert_int_equal(efi_nr_regions, 0);
    efi_read_map(map_of_short_ones, 39, 40);
    assert_int_equal(efi_nr_regions, 0);
    efi_read_map(map_of_short_ones, 79, 40);
    assert_int_equal(efi_nr_regions, 1);
}

/* In both forms: a mode of direct colours is one that text can be drawn in, others are none. */
static void tells_of_a_graphics_mode(void **state)
{
    static struct __attribute__((packed)) {
        u64 address;
        u32 pitch, width, height;
        u8 bits, type, colours[8];
    } mode = { 0x180000000, 5120, 1280, 800, 32, 1, { 0, 0, 16, 8, 8, 8, 0, 8 } };
    static struct __attribute__((packed)) { u32 flags, more[21]; u8 mode[28]; } one = { 1u << 12, { 0 }, { 0 } };

    (void)state;
    loader.size = 8;
    memset(&boot_info, 0, sizeof(boot_info));
    tag(8, &mode, sizeof(mode));
    fake_direct_map = (u64)&loader;
    assert_true(multiboot_parse(0x36d76289, 0));
    assert_true(boot_info.framebuffer.address == 0x180000000 && boot_info.framebuffer.pitch == 5120 && boot_info.framebuffer.height == 800);
    assert_true(boot_info.framebuffer.red.at == 16 && boot_info.framebuffer.green.at == 8 && boot_info.framebuffer.blue.size == 8);
    memset(&boot_info, 0, sizeof(boot_info));
    memmove(mode.colours, mode.colours + 2, 6);
    memcpy(one.mode, &mode, sizeof(one.mode));
    fake_direct_map = (u64)&one;
    assert_true(multiboot_parse(0x2badb002, 0));
    assert_true(boot_info.framebuffer.width == 1280 && boot_info.framebuffer.red.at == 16 && boot_info.framebuffer.blue.size == 8);
    memset(&boot_info, 0, sizeof(boot_info));
    one.mode[21] = 2;                   /* EGA text */
    assert_true(multiboot_parse(0x2badb002, 0));
    fake_direct_map = 0;
    assert_int_equal(boot_info.framebuffer.address, 0);
}

/* Tables that grow with memory: 12 bytes of the frame table and 8 of the M2P for each frame, more than lies below 4 GiB. */
static void tables_of_a_large_machine_fit(void **state)
{
    (void)state;
    if (setjmp(failed))
        fail_msg("out of memory while booting");
    add(0x100000, 2 * GIB, E820_RAM);
    add(4 * GIB, 5 * TIB, E820_RAM);
    read_map();
    memory_init();
    assert_true(boot_alloc(5 * TIB >> 21 >> 9).v < 4 * GIB);      /* the direct map's */
    boot_alloc_from_all();
    for (u64 bytes = 0; bytes < (5 * TIB >> PAGE_SHIFT) * 20; bytes += 2UL << 20)
        boot_alloc_aligned(512, 2UL << 20);
    assert_true(boot_alloc(1).v >= 4 * GIB);
}

static void what_a_guest_could_hang_the_cpu_by_is_not_used(void **state)
{
    (void)state;
    add(0x100000, 2 * GIB, E820_RAM);
    read_map();
    e820_withhold(false);
    assert_int_equal(bytes_of(E820_UNUSABLE), 0);
    e820_withhold(true);
    expect(1, GIB, GIB + 0x100000, E820_UNUSABLE);
    assert_int_equal(bytes_of(E820_UNUSABLE), 0x100000);
}

/* The last of the tests: what it says holds. */
static void what_the_command_line_withholds_is_not_used(void **state)
{
    (void)state;
    add(0x100000, GIB, E820_RAM);
    add(GIB, GIB + 0x1000, E820_ACPI);
    add(4 * GIB, 8 * GIB, E820_RAM);
    read_map();
    cmdline_parse("badpage=0x200,0x300-0x30f,0x100200-0x100200");
    e820_withhold(false);
    expect(0, 0x100000, 0x200000, E820_RAM);
    expect(1, 0x200000, 0x201000, E820_UNUSABLE);
    expect(2, 0x201000, 0x300000, E820_RAM);
    expect(3, 0x300000, 0x310000, E820_UNUSABLE);
    expect(4, 0x310000, GIB, E820_RAM);
    expect(5, GIB, GIB + 0x1000, E820_ACPI);
    expect(7, 4 * GIB + 0x200000, 4 * GIB + 0x201000, E820_UNUSABLE);
    assert_int_equal(bytes_of(E820_UNUSABLE), 18 << 12);

    cmdline_parse("mem=6G");
    read_map();
    e820_withhold(false);
    assert_int_equal(bytes_of(E820_RAM), GIB - 0x100000 + 2 * GIB - (18 << 12));
    expect(host_e820_nr - 1, 6 * GIB, 8 * GIB, E820_UNUSABLE);

    cmdline_parse("availmem=1G");
    read_map();
    log_clear();
    e820_withhold(false);
    assert_int_equal(bytes_of(E820_RAM), GIB);
    assert_non_null(strstr(log_text, "KiB of RAM are left unused"));

    log_clear();
    cmdline_parse("badpage=9-8 mem=x availmem=0 badpage=1,2,");
    assert_non_null(strstr(log_text, "badpage=9-8' is malformed"));
    assert_non_null(strstr(log_text, "mem=x' is malformed"));
    assert_non_null(strstr(log_text, "availmem=0' is malformed"));
    assert_non_null(strstr(log_text, "badpage=1,2,' is malformed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sorts_and_joins, setup),
        cmocka_unit_test_setup(ram_gives_way_where_entries_overlap, setup),
        cmocka_unit_test_setup(takes_a_map_in_many_pieces, setup),
        cmocka_unit_test_setup(says_what_of_too_many_pieces_is_left_out, setup),
        cmocka_unit_test_setup(multiboot_1_entries_have_their_own_lengths, setup),
        cmocka_unit_test_setup(memory_beyond_our_reach_is_named_and_unused, setup),
        cmocka_unit_test_setup(no_memory_of_the_first_mib_is_given_out, setup),
        cmocka_unit_test_setup(says_what_of_the_loaders_does_not_fit, setup),
        cmocka_unit_test_setup(tags_end_where_they_say, setup),
        cmocka_unit_test_setup(what_uefi_needs_is_no_ram, setup),
        cmocka_unit_test_setup(a_uefi_map_that_makes_no_sense_is_none, setup),
        cmocka_unit_test_setup(tells_of_a_graphics_mode, setup),
        cmocka_unit_test_setup(tables_of_a_large_machine_fit, setup),
        cmocka_unit_test_setup(what_a_guest_could_hang_the_cpu_by_is_not_used, setup),
        cmocka_unit_test_setup(what_the_command_line_withholds_is_not_used, setup),
    };

    return cmocka_run_group_tests_name("memory map", tests, NULL, NULL);
}
