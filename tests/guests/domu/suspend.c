/*
 * A domU that is saved, restored and migrated, as kernels of Xen 3's time were (lib/suspend.h). It writes to its memory and changes its
 * page tables all the time, and looks after each life whether all is as it left it. What it has seen it writes to data/lives in its
 * directory of the store: how often it went on as a new domain, how often as the old one, how many pages were wrong.
 */
#include "clock.h"
#include "console.h"
#include "data.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "suspend.h"
#include "test.h"
#include "xenstore.h"

#define PAGES 1024
#define TICK  (2 * MS)
#define MAPPED 64               /* slots of the window, each of which shows one of the pages */
#define WATCH_SHUTDOWN 1

static u8 *page[PAGES];
static u32 written[PAGES];      /* how often: the seed of what is in it */
static unsigned shown[MAPPED];  /* which page, plus one */
static void *other;             /* a second top level, pinned, which says the same as ours did when it was made */
static unsigned new_lives, old_lives, wrong;
static bool is_over;

static void write_page(unsigned i) { data_fill(++written[i] * PAGES + i, 0, page[i], 4096); }

static bool is_right(unsigned i, const u8 *at)
{
    static u8 expected[4096];

    data_fill(written[i] * PAGES + i, 0, expected, sizeof(expected));
    return !memcmp(at, expected, sizeof(expected));
}

/* A page's contents, and an entry: another page is shown in some slot of the window. */
static void work(void)
{
    unsigned slot = (unsigned)(random_u64() % MAPPED), i = (unsigned)(random_u64() % PAGES);

    write_page((unsigned)(random_u64() % PAGES));
    CHECK_OK(map_at(window(slot), virt_to_mfn(page[i]), random_u64() % 2 ? PTE_DATA : PTE_READ));
    shown[slot] = i + 1;
}

static void look_at_pages(void)
{
    unsigned before = wrong;

    for (unsigned i = 0; i < PAGES; i++)
        wrong += !is_right(i, page[i]);
    for (unsigned slot = 0; slot < MAPPED; slot++)
        wrong += shown[slot] && !is_right(shown[slot] - 1, window(slot));
    if (wrong != before)
        printf("suspend: %u pages are wrong\n", wrong - before);
}

static void load(const void *top) { CHECK_OK(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0)); }

/* The tables are tables still, of the kinds that they had. */
static void look_at_tables(const void *ours)
{
    CHECK_REFUSED(map_writable(ours));
    CHECK_REFUSED(map_writable(other));
    load(other);
    wrong += !is_right(0, page[0]);
    load(ours);
    CHECK_OK(unpin(other));
    CHECK_OK(pin(other, top_level()));
}

/* --- What is not memory: descriptor tables, registers of debugging and of the FPU ------------------------------------------------- */

#define IN_GDT 0x18u            /* the fourth descriptor of ours, and in the LDT the fourth too */
#define IN_LDT (IN_GDT | 4)

/* A data segment of so many bytes, for all. */
static u64 segment(u32 limit) { return (limit & 0xffff) | (u64)(limit & 0xf0000) << 32 | (u64)0x40f3 << 40; }

static u32 limit_of(u32 selector)
{
    u32 limit = 0;

    __asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"(selector) : "cc");
    return limit;
}

/* A table whose fourth descriptor says where it is. */
static void *descriptors(u32 limit)
{
    u64 *table = page_alloc();

    table[IN_GDT / 8] = segment(limit);
    make_readonly(table);
    return table;
}

static void set_xmm0(u32 v) { __asm__ volatile("movd %0, %%xmm0" : : "r"(v)); }

static u32 xmm0(void)
{
    u32 v;

    __asm__ volatile("movd %%xmm0, %0" : "=r"(v));
    return v;
}

static void set_registers(void)
{
    void *ldt = descriptors(0x2345);
    word gdt = virt_to_mfn(descriptors(0x1234));

    CHECK_OK(set_gdt(&gdt, 512));
    CHECK_OK(mmuext(MMUEXT_SET_LDT, P(ldt), 512));
    CHECK_OK(set_debugreg(0, P(&page)));
    set_xmm0(0x87654321);
}

static void look_at_registers(void)
{
    CHECK_EQ(limit_of(IN_GDT), 0x1234);
    CHECK_EQ(limit_of(IN_LDT), 0x2345);
    CHECK_EQ((word)get_debugreg(0), P(&page));
    CHECK_EQ(xmm0(), 0x87654321);
}

/* --- Lives --------------------------------------------------------------------------------------------------------------------------- */

static void tell(void)
{
    char text[64];

    snprintf(text, sizeof(text), "%u %u %u", new_lives, old_lives, wrong + test_has_failed());
    CHECK(store_write("data/lives", text));
}

static void live_on(void)
{
    void *ours = mfn_to_virt(current_base());
    bool is_new;

    CHECK(store_write("control/shutdown", ""));
    is_new = suspend(cmdline_is("call", "old"));
    *(is_new ? &new_lives : &old_lives) += 1;
    if (is_new)
        CHECK(store_watch("control/shutdown", WATCH_SHUTDOWN));
    look_at_pages();
    look_at_tables(ours);
    look_at_registers();
    printf("suspend: life %u, %u\n", new_lives, old_lives);
    tell();
}

static void obey(void)
{
    const char *what = store_read("control/shutdown");

    if (!what)
        return;
    if (!strncmp(what, "suspend", 8))
        live_on();
    else if (*what)
        is_over = true;
}

TEST(live)
{
    store_init();
    suspend_init();
    for (unsigned i = 0; i < PAGES; i++) {
        page[i] = page_alloc();
        write_page(i);
    }
    set_registers();
    look_at_registers();
    other = copy_top();
    REQUIRE_OK(pin(other, top_level()));
    REQUIRE(store_watch("control/shutdown", WATCH_SHUTDOWN));
    tell();
    printf("suspend: ready\n");
    while (!is_over) {
        u32 seen = upcall_count;

        work();
        if (store_fired(WATCH_SHUTDOWN))
            obey();
        else
            wait_event(seen, system_time() + TICK);
    }
    look_at_pages();
    CHECK_EQ(wrong, 0);
}
