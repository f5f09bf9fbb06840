/* The hypervisor's own page tables, where they map device registers. */
// SOURCES: arch/x86/mm/hyp_map.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <asm/layout.h>
#include <asm/mm.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/frame.h>
#include <pvisor/spinlock.h>

/* --- The machine: some frames for tables --- */

#define NR_FRAMES 64
static u8 memory[NR_FRAMES][PAGE_SIZE] __attribute__((aligned(4096)));
static unsigned used, limit;
static unsigned flushes;
static cpumask_t flushed;

u64 fake_direct_map;
bool heap_ready = true;
cpumask_t cpu_live_map = { { 5 } };
struct e820_entry host_e820[E820_MAX];
unsigned host_e820_nr;
const struct percpu_array __percpu_start[1], __percpu_end[1];
char __text_start[1], __text_end[1], __init_text_start[1], __init_text_end[1], __init_data_start[1], __init_data_end[1],
    __init_bss_start[1], __init_bss_end[1], __main_text_start[1], __rodata_start[1], __rodata_end[1], __image_end[1];

void *alloc_pages(unsigned order) { return order || used == limit ? NULL : memory[used++]; }
maddr_t boot_alloc(u64 nr_pages) { return maddr(nr_pages); }
void boot_alloc_from_all(void) { }
void heap_init_region(mfn_t first, u64 nr) { (void)first, (void)nr; }
mfn_t virt_to_mfn(const void *p) { return (void)p, INVALID_MFN; }
void printk(const char *fmt, ...) { (void)fmt; }
void panic(const char *fmt, ...) { fail_msg("%s", fmt); __builtin_unreachable(); }
void spin_lock(spinlock_t *l) { (void)l; }
void spin_unlock(spinlock_t *l) { (void)l; }
void flush_tlb_local(void) { }
void flush_tlb_mask(const cpumask_t *m) { flushed = *m; flushes++; }

static int start(void **state)
{
    static u64 *l3;

    (void)state;
    fake_direct_map = (u64)memory;
    limit = NR_FRAMES;
    if (!hyp_l4) {
        hyp_l4 = alloc_pages(0);
        l3 = alloc_pages(0);
        hyp_l4[VMAP_START >> 39 & 511] = virt_to_maddr(l3).v | PTE_P;
    }
    flushes = 0;
    return 0;
}

static u64 entry(const void *p) { return hyp_lookup((u64)p) & PTE_MFN_MASK; }

/* --- Tests --- */

/* Others get other addresses, and one is left out behind each. */
static void addresses_are_not_used_again(void **state)
{
    u8 *a = ioremap(maddr(0xfe000ff0), 32), *b;

    (void)state;
    assert_non_null(a);
    assert_int_equal((u64)a & 0xfff, 0xff0);
    assert_int_equal(entry(a), 0xfe000000);
    assert_int_equal(entry(a + 16), 0xfe001000);
    iounmap(a, 32);
    assert_int_equal(entry(a) + entry(a + 16), 0);
    b = ioremap(maddr(0xfd000000), PAGE_SIZE);
    assert_ptr_equal(b, a - 0xff0 + 3 * PAGE_SIZE);
    assert_int_equal(hyp_lookup((u64)b) & HYP_UNCACHED, HYP_UNCACHED);
}

/* Whoever fails again and again has used nothing up, and nothing is mapped of what was in reach. */
static void without_memory_nothing_is_mapped_and_no_address_lost(void **state)
{
    u8 *before = ioremap(maddr(0xfc000000), PAGE_SIZE), *after;

    (void)state;
    limit = used;
    for (unsigned i = 0; i < 1000; i++)
        assert_null(ioremap(maddr(0xfb000000), 2 * 512 * PAGE_SIZE - PAGE_SIZE));
    assert_int_equal(entry(before + 2 * PAGE_SIZE), 0);
    limit = NR_FRAMES;
    after = ioremap(maddr(0xfb000000), PAGE_SIZE);
    assert_ptr_equal(after, before + 2 * PAGE_SIZE);
}

static void no_more_than_there_are(void **state)
{
    (void)state;
    assert_null(ioremap(maddr(0xfb000000), VMAP_END - VMAP_START));
    assert_non_null(ioremap(maddr(0xfb000000), PAGE_SIZE));
}

/* One that comes and goes for ever, as a domU can have its function's MSI-X table do. */
static void a_place_stays_and_is_flushed_before_it_names_other_frames(void **state)
{
    struct io_place place = { 0 }, other = { 0 };
    u8 *first = ioremap_at(&place, maddr(0xfe000010), 16), *second = ioremap_at(&other, maddr(0xfe800000), 16);
    unsigned tables;

    (void)state;
    assert_true(second >= first + IO_PLACE_PAGES * PAGE_SIZE);
    tables = used;
    for (unsigned i = 0; i < 1000; i++) {
        iounmap_at(&place);
        assert_int_equal(entry(first), 0);
        assert_int_equal(flushes, i + 1);
        assert_int_equal(flushed.w[0], 5);
        assert_ptr_equal(ioremap_at(&place, maddr(0xfe000010 + i * PAGE_SIZE), 16), first);
        assert_int_equal(entry(first), 0xfe000000 + i * PAGE_SIZE);
    }
    assert_int_equal(used, tables);
    assert_int_equal(entry(second), 0xfe800000);
}

/* The largest table begins anywhere in a page. */
static void a_place_has_room_for_the_largest_table(void **state)
{
    struct io_place place = { 0 };
    u8 *p = ioremap_at(&place, maddr(0xfe000ff0), 2048 * 16);

    (void)state;
    assert_int_equal(entry(p), 0xfe000000);
    assert_int_equal(entry(p + 2048 * 16 - 1), 0xfe008000);
    iounmap_at(&place);
    assert_int_equal(entry(p + 2048 * 16 - 1), 0);
}

static void a_place_without_memory_is_there_the_next_time(void **state)
{
    struct io_place place = { 0 };
    u8 *p;

    (void)state;
    do
        p = ioremap(maddr(0xfa000000), PAGE_SIZE);
    while (((u64)p & 0x1fffff) != 0x1ff000 && ((u64)p & 0x1fffff) != 0x1fe000);     /* a level-1 table's end */
    limit = used;
    assert_null(ioremap_at(&place, maddr(0xfe000000), 2 * PAGE_SIZE));
    limit = NR_FRAMES;
    assert_non_null(ioremap_at(&place, maddr(0xfe000000), 2 * PAGE_SIZE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(addresses_are_not_used_again, start),
        cmocka_unit_test_setup(without_memory_nothing_is_mapped_and_no_address_lost, start),
        cmocka_unit_test_setup(no_more_than_there_are, start),
        cmocka_unit_test_setup(a_place_stays_and_is_flushed_before_it_names_other_frames, start),
        cmocka_unit_test_setup(a_place_has_room_for_the_largest_table, start),
        cmocka_unit_test_setup(a_place_without_memory_is_there_the_next_time, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
