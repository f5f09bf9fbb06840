/*
 * What the boot loader says, Multiboot 1 and 2, and what comes of its memory map: the pieces are sorted and apart, and the heap gets RAM
 * that is nobody's, once. The loader is trusted as to where its structures are, and with what they say of that; not with anything else.
 */
// MAX: 2048
// SOURCES: tests/unit/fake/log.c tests/unit/fake/cmdline.c arch/x86/mm/e820.c arch/x86/boot/multiboot.c common/lib/text.c
// SOURCES: drivers/efi/memory.c
#include <setjmp.h>

#include "arch/x86/mm/boot_alloc.c"
#include <asm/e820.h>
#include <pvisor/efi.h>
#include "fake/log.h"
#include "fuzz.h"

void *malloc(size_t size);
void free(void *p);

u64 fake_direct_map, nr_frames = ~0UL;
char __image_start[1], __image_end[1];

static jmp_buf failed;

void boot_failure(const char *fmt, ...)
{
    (void)fmt;
    longjmp(failed, 1);
}

/* --- What goes to the heap ----------------------------------------------------------------------------- */

static struct region given[MAX_REGIONS], reserved;
static unsigned nr_given;

static bool is_ram(u64 start, u64 end)
{
    for (unsigned i = 0; i < host_e820_nr; i++)
        if (host_e820[i].type == E820_RAM && start >= host_e820[i].start && end <= host_e820[i].start + host_e820[i].size)
            return true;
    return false;
}

void heap_init_region(mfn_t first, u64 nr)
{
    u64 start = first.v << PAGE_SHIFT, end = start + (nr << PAGE_SHIFT);

    EXPECT(nr && start >= FIRST_MIB && end <= E820_RAM_LIMIT && is_ram(start, end));
    EXPECT(end <= reserved.start || start >= reserved.end);
    for (unsigned i = 0; i < nr_given; i++)
        EXPECT(end <= given[i].start || start >= given[i].end);
    EXPECT(nr_given < MAX_REGIONS);
    given[nr_given++] = (struct region){ start, end };
}

static void map_is_sound(void)
{
    EXPECT(host_e820_nr <= E820_MAX);
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *e = &host_e820[i];

        EXPECT(e->size && e->type && e->start + e->size > e->start);
        EXPECT(e->type != E820_RAM || e->start + e->size <= E820_RAM_LIMIT);
        EXPECT(!i || e[-1].start + e[-1].size <= e->start);
    }
}

static void memory_is_given_once(u8 pages)
{
    nr_regions = nr_given = 0;
    alloc_limit = 1UL << 32;
    if (setjmp(failed))
        return;
    memory_init();
    reserved = (struct region){ 0x200000, 0x200001 + pages * PAGE_SIZE / 2 };
    boot_reserve(reserved.start, reserved.end);
    for (unsigned i = 0; i < pages / 16u; i++) {
        maddr_t a = boot_alloc_aligned(1 + i, PAGE_SIZE << (i & 7));

        EXPECT(a.v >= FIRST_MIB && is_ram(a.v, a.v + (1 + i) * PAGE_SIZE) && a.v % (PAGE_SIZE << (i & 7)) == 0);
        given[nr_given++] = (struct region){ a.v, a.v + (1 + i) * PAGE_SIZE };
    }
    boot_alloc_from_all();
    memory_to_heap();
}

/* --- What the loader hands over ---------------------------------------------------------------------------- */

/* Machine address 0 is the start of a block of this size; behind it there is nothing, but the last text in it ends. */
static u8 *block;
static u32 block_size;

static void bound(u32 at, u32 limit, u32 align)
{
    u32 v;

    memcpy(&v, block + at, 4);
    v = v % limit & ~(align - 1);
    memcpy(block + at, &v, 4);
}

static u32 word(u32 at)
{
    u32 v;

    memcpy(&v, block + at, 4);
    return v;
}

#define MULTIBOOT_1_SIZE 116

/* The places in the structure at 0, and those in the list of modules, are in the block, and aligned. */
static void keep_multiboot_1_inside(void)
{
    bound(16, block_size, 1);   /* the command line */
    bound(24, block_size, 4);   /* modules */
    bound(20, (block_size - word(24)) / 16 + 1, 1);
    bound(48, block_size, 4);   /* the memory map */
    bound(44, block_size - word(48) + 1, 1);
    bound(64, block_size, 1);   /* the loader's name */
    for (u32 i = 0; i < word(20); i++)
        if (word(24) >= MULTIBOOT_1_SIZE)     /* else it is the structure itself */
            bound(word(24) + i * 16 + 8, block_size, 1);
}

static bool hand_over(struct fuzz_input *in, u8 kind)
{
    size_t size = (size_t)(in->end - in->at);

    if (size < MULTIBOOT_1_SIZE)
        return false;
    block_size = (u32)size + 1;
    block = malloc(block_size);
    memcpy(block, in->at, size);
    block[size] = 0;
    if (kind & 1) {
        u32 whole = (u32)size & ~7u;

        memcpy(block, &whole, 4);
        return true;
    }
    keep_multiboot_1_inside();
    return word(24) >= MULTIBOOT_1_SIZE || word(20) == 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };
    u8 kind = (u8)take(&in, 1), pages = (u8)take(&in, 1);

    block = NULL;
    if (hand_over(&in, kind)) {
        log_clear();
        memset(&boot_info, 0, sizeof(boot_info));
        host_e820_nr = 0;
        fake_direct_map = (u64)block;
        EXPECT(multiboot_parse(kind & 1 ? 0x36d76289 : 0x2badb002, 0));
        fake_direct_map = 0;
        EXPECT(boot_info.nr_modules <= MAX_BOOT_MODULES && efi_nr_regions <= EFI_MAX_REGIONS);
        efi_reserve_memory();
        for (unsigned i = 0; i < efi_nr_regions; i++)
            EXPECT(efi_regions[i].start < efi_regions[i].end && efi_region_at(efi_regions[i].start));
        e820_log();
        map_is_sound();
        memory_is_given_once(pages);
    }
    free(block);
    return 0;
}
