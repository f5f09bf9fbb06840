/*
 * A domU that is saved, restored and migrated, as kernels of Xen 3's time were (lib/suspend.h). It writes to its memory, changes entries of
 * its page tables, makes tables of pages and pages of tables, and, with memory=moves, gives memory back and takes it, all the time, and
 * looks after each life whether all is as it left it. With vcpus=2 the second one works, too, and stays up meanwhile, in a loop.
 * What it has seen it writes to data/lives in its directory of the store: how often it went on as a new domain, how often as the old one,
 * how many pages were wrong.
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
#include "vcpus.h"
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

/* A page's contents, and an entry: another page is shown in some slot of the window. Each vCPU has every second page and slot. */
static void work(unsigned vcpu, u32 random)
{
    unsigned slot = (random >> 8) % (MAPPED / 2) * 2 + vcpu, i = (random >> 16) % (PAGES / 2) * 2 + vcpu;

    write_page(i);
    i = random % (PAGES / 2) * 2 + vcpu;
    CHECK_OK(map_at(window(slot), virt_to_mfn(page[i]), random >> 31 ? PTE_DATA : PTE_READ));
    shown[slot] = i + 1;
}

/* --- Pages that become tables, and are pages again ----------------------------------------------------------------------------------- */

#define TURNING 16
#define IN_TABLE 7u             /* the entry that one has */

static struct { u8 *at; bool is_table; u32 seed; unsigned names; } turning[TURNING];

/* But for what the hypervisor sets in 64-bit guests' entries. */
static bool is_entry_right(u64 e, unsigned i) { return pte_mfn(e) == virt_to_mfn(page[i]) && (e & (PTE_P | PTE_RW)) == PTE_P; }

static bool is_as_turned(unsigned i)
{
    static u8 expected[4096];
    const void *at = turning[i].at;

    if (turning[i].is_table)
        return is_entry_right(pte_get(at, IN_TABLE), turning[i].names) && !pte_get(at, IN_TABLE + 1);
    data_fill(turning[i].seed, 0, expected, sizeof(expected));
    return !memcmp(at, expected, sizeof(expected));
}

static void make_data(unsigned i)
{
    if (turning[i].is_table) {
        CHECK_OK(unpin(turning[i].at));
        make_writable(turning[i].at);
    }
    turning[i].is_table = false;
    data_fill(++turning[i].seed, 0, turning[i].at, 4096);
}

static void make_table(unsigned i, u32 random)
{
    turning[i].names = random % PAGES;
    memset(turning[i].at, 0, 4096);
    ((pte_raw *)turning[i].at)[IN_TABLE] = (pte_raw)pte_make(virt_to_mfn(page[turning[i].names]), PTE_READ);
    make_readonly(turning[i].at);
    CHECK_OK(pin(turning[i].at, 1));
    turning[i].is_table = true;
}

static void turn(u32 random)
{
    unsigned i = (random >> 24) % TURNING;

    if (turning[i].is_table)
        make_data(i);
    else
        make_table(i, random);
}

/* --- Memory that comes and goes ------------------------------------------------------------------------------------------------------ */

/*
 * With memory=moves. The tools' own helper ends a migration that comes upon such a frame between two of its calls ("Mapping of pfn ...
 * failed"), so theirs are tried without.
 */
static bool memory_moves;

#define LOOSE 16
#define GONE  (~(word)0)

static struct { bool is_gone; u32 seed; } loose[LOOSE];         /* of the last frames, which nothing maps but the window */

static void *loose_at(unsigned i) { return window(MAPPED + i); }

static bool reserve(unsigned cmd, word *frame)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(frame), .nr_extents = 1, .domid = DOMID_SELF };

    return CHECK_EQ(memory_op(cmd, &r), 1);
}

static void lose(unsigned i)
{
    word frame = p2m[spare_pfn(i)];

    CHECK_OK(unmap_at(loose_at(i)));
    p2m[spare_pfn(i)] = GONE;
    loose[i].is_gone = reserve(XENMEM_decrease_reservation, &frame);
}

/* The entry is there first, the number after it. The tools may have given one that was lost a frame, which is as good. */
static void gain(unsigned i)
{
    word frame = spare_pfn(i);

    if (p2m[spare_pfn(i)] != GONE)
        frame = p2m[spare_pfn(i)];
    else if (!reserve(XENMEM_populate_physmap, &frame))
        return;
    CHECK_OK(map_at(loose_at(i), frame, PTE_DATA));
    data_fill(++loose[i].seed, 0, loose_at(i), 4096);
    p2m[spare_pfn(i)] = frame;
    loose[i].is_gone = false;
}

static void come_or_go(u32 random)
{
    unsigned i = (random >> 20) % LOOSE;

    if (loose[i].is_gone)
        gain(i);
    else
        lose(i);
}

static bool is_loose_right(unsigned i)
{
    static u8 expected[4096];

    data_fill(loose[i].seed, 0, expected, sizeof(expected));
    return loose[i].is_gone || !memcmp(loose_at(i), expected, sizeof(expected));
}

/* --- After a life -------------------------------------------------------------------------------------------------------------------- */

static void look_at_pages(void)
{
    unsigned before = wrong;

    for (unsigned i = 0; i < PAGES; i++)
        wrong += !is_right(i, page[i]);
    for (unsigned slot = 0; slot < MAPPED; slot++)
        wrong += shown[slot] && !is_right(shown[slot] - 1, window(slot));
    for (unsigned i = 0; i < TURNING; i++)
        wrong += !is_as_turned(i);
    for (unsigned i = 0; memory_moves && i < LOOSE; i++)
        wrong += !is_loose_right(i);
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

/* --- The second vCPU ----------------------------------------------------------------------------------------------------------------- */

#define SECOND_LIMIT 0x3456

static void *second_gdt;
static bool is_second_up, is_held, is_holding;      /* is_held: it shall stop where it touches nothing; is_holding: it does */

static void second_main(void)
{
    word gdt = virt_to_mfn(second_gdt);
    u32 random = 1;

    CHECK_OK(set_gdt(&gdt, 512));
    for (;; random = random * 1664525 + 1013904223) {
        GUEST(sched_poll) poll = { .timeout = system_time() + TICK };

        CHECK_EQ(limit_of(IN_GDT), SECOND_LIMIT);
        work(1, random);
        while (read_once(is_held)) {
            write_once(is_holding, true);
            sched_op(SCHEDOP_yield, NULL);
        }
        write_once(is_holding, false);
        sched_op(SCHEDOP_poll, &poll);
    }
}

static void start_second(void)
{
    second_gdt = descriptors(SECOND_LIMIT);
    REQUIRE_OK(vcpu_start(1, second_main));
    is_second_up = true;
}

/* It holds still, between two things that it does, or goes on. */
static void hold_second(bool held)
{
    write_once(is_held, held);
    barrier();
    while (is_second_up && read_once(is_holding) != held)
        sched_op(SCHEDOP_yield, NULL);
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
    hold_second(true);
    is_new = suspend(cmdline_is("call", "old"));
    *(is_new ? &new_lives : &old_lives) += 1;
    if (is_new)
        CHECK(store_watch("control/shutdown", WATCH_SHUTDOWN));
    look_at_pages();
    look_at_tables(ours);
    look_at_registers();
    hold_second(false);
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

static void work_on_all(void)
{
    u32 random = (u32)random_u64();

    work(0, random);
    turn(random);
    if (memory_moves)
        come_or_go(random);
}

static void begin(void)
{
    suspend_init();
    for (unsigned i = 0; i < PAGES; i++) {
        page[i] = page_alloc();
        write_page(i);
    }
    for (unsigned i = 0; i < TURNING; i++) {
        turning[i].at = page_alloc();
        make_data(i);
    }
    memory_moves = cmdline_is("memory", "moves");
    for (unsigned i = 0; memory_moves && i < LOOSE; i++)
        gain(i);
    set_registers();
    look_at_registers();
    other = copy_top();
    REQUIRE_OK(pin(other, top_level()));
    if (cmdline_is("vcpus", "2"))
        start_second();
}

TEST(live)
{
    store_init();
    begin();
    REQUIRE(store_watch("control/shutdown", WATCH_SHUTDOWN));
    tell();
    printf("suspend: ready\n");
    while (!is_over) {
        u32 seen = upcall_count;

        work_on_all();
        if (store_fired(WATCH_SHUTDOWN))
            obey();
        else
            wait_event(seen, system_time() + TICK);
    }
    look_at_pages();
    CHECK_EQ(wrong, 0);
}
