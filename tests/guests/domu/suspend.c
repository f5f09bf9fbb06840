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
