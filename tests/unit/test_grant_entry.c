/*
 * Page-table entries of grants: plain stores into the table of the batch, and the long way, over real tables. Both leave the same entries,
 * references and answers, and at the end no reference is left that an entry had.
 */
// SOURCES: arch/x86/pt/dma.c
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/frames.c common/abi.c
// SOURCES: tests/unit/fake/invariant.c tests/unit/fake/clause.c arch/x86/pt/invariant.c arch/x86/pt/mirror_invariant.c
// SOURCES: arch/x86/mm/heap.c
// SOURCES: arch/x86/mm/frames.c arch/x86/pt/frame.c arch/x86/pt/format.c arch/x86/pt/table.c arch/x86/pt/entry.c arch/x86/pt/walk.c
// SOURCES: arch/x86/pt/quick.c arch/x86/pt/mirror.c
// LIBS: -lpthread
#include "fake/twin.h"

#include "../../arch/x86/pt/grant.c"

#include <pvisor/lib.h>
#include "fake/fake.h"
#include "fake/invariant.h"
#include "fake/mirrors.h"
#include "fake/step.h"

#define RW (PTE_P | PTE_US | PTE_RW)
#define NR_L1    3u
#define NO_TABLE NR_L1          /* a slot of the level-2 table, as those of the L1 tables are */
#define LINEAR   (NR_L1 + 1)
#define NR_PAGES 4u             /* in each table, at its start and from its middle on */
#define NR_GRANTED 6u

static enum pt_format_id format_id;
static struct domain *dom, *granter;
static mfn_t l1[NR_L1], root, own[2], granted[NR_GRANTED];

static void put(mfn_t m, unsigned i, u64 e)
{
    if (dom->arch.fmt->pte_bytes == 8)
        frame_words(m)[i] = e;
    else
        ((u32 *)frame_words(m))[i] = (u32)e;
}

static mfn_t make_l2(void)
{
    mfn_t l2 = frames_new(dom);

    for (unsigned i = 0; i < NR_L1; i++)
        put(l2, i, pte_make(l1[i], RW));
    return l2;
}

/* Linear addresses that are the table's machine addresses too: what means which is said by the flags alone. */
static u64 ambiguous(void) { return mfn_to_maddr(l1[0]).v & ~((1UL << REGION_SHIFT) - 1); }

static void map_ambiguous(mfn_t l3, mfn_t l2)
{
    const struct pt_format *f = dom->arch.fmt;

    put(l3, pt_index(f, 3, ambiguous()), pte_make(l2, RW));
    if (pt_index(f, 2, ambiguous()) >= NR_L1)
        put(l2, pt_index(f, 2, ambiguous()), pte_make(l1[0], RW));
}

static void make_tables(void)
{
    const struct pt_format *f = dom->arch.fmt;

    for (unsigned i = 0; i < NR_L1; i++)
        l1[i] = frames_new(dom);
    root = make_l2();
    if (f->hv_level == 2)
        put(root, LINEAR, pte_make(root, PTE_P | PTE_US));
    for (unsigned level = 3; level <= f->levels; level++) {
        mfn_t m = frames_new(dom);

        put(m, 0, pte_make(root, f->id == PT32P ? PTE_P : RW));
        if (f->id == PT32P)
            put(m, 3, pte_make(make_l2(), PTE_P));
        else if (level == 3)
            map_ambiguous(m, root);
        root = m;
    }
    pt_lock(dom);
    assert_int_equal(pt_pin(dom, root, f->levels), 0);
    pt_unlock(dom);
    current->arch.root_kernel = root;
    current->arch.kernel_mode = true;
}

static void begin(void)
{
    frames_reset();
    dom = frames_domain(1, format_id);
    granter = frames_domain(2, format_id);
    make_tables();
    for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
        own[i] = frames_new(dom);
    for (unsigned i = 0; i < NR_GRANTED; i++)
        granted[i] = frames_new(granter);
}

/* The domain dies: the granter's frames are as they were. */
static void end(void)
{
    while (pt_relinquish(dom))
        ;
    leave_hypervisor();
    for (unsigned i = 0; i < NR_GRANTED; i++) {
        assert_int_equal((u32)fake_refs[granted[i].v], 1);
        assert_int_equal(fake_types[granted[i].v] & FW_COUNT_MASK, 0);
    }
    assert_int_equal(dom->tot_pages, 0);
}

/* --- Steps --------------------------------------------------------------------------------------------------- */

static unsigned some_page(void)
{
    unsigned half = dom->arch.fmt->level[1].nr_entries / 2;

    return (unsigned)random_below(NR_PAGES / 2) + (random_below(2) ? half : 0);
}

static u64 some_address(void)
{
    unsigned slot = (unsigned)random_below(8);

    if (format_id == PT64 && !random_below(4))
        return ambiguous() | (u64)some_page() << PAGE_SHIFT;
    slot = slot > LINEAR ? 0 : slot;
    return (u64)slot << dom->arch.fmt->level[2].shift | (u64)some_page() << PAGE_SHIFT;
}

static u64 some_entry_address(void)
{
    static const u16 odd[] = { 0, 0, 0, 0, 0, 0, 1, 4 };
    mfn_t m = random_below(8) ? l1[random_below(NR_L1)] : random_below(2) ? own[0] : root;

    return mfn_to_maddr(m).v + some_page() * dom->arch.fmt->pte_bytes + odd[random_below(ARRAY_SIZE(odd))];
}

static u32 some_flags(void)
{
    u32 flags = random_below(2) ? GNTMAP_readonly : 0;

    flags |= random_below(4) ? 0 : GNTMAP_contains_pte;
    flags |= random_below(4) ? 0 : GNTMAP_application_map;
    return flags | (u32)random_below(8) << _GNTMAP_guest_avail0;
}

static u64 address_for(u32 flags) { return flags & GNTMAP_contains_pte ? some_entry_address() : some_address(); }

static void take(mfn_t m, bool readonly)
{
    if (readonly)
        assert_true(frame_get(m, granter));
    else
        assert_int_equal(frame_get_writable(m, granter), 0);
}

static void give_back(mfn_t m, bool readonly)
{
    if (readonly)
        frame_put(m);
    else
        frame_put_writable(m);
}

/* As common/grant/map.c does: references first, which become the entry's. */
static int map_some(struct pv_grant_walk *walk)
{
    u32 flags = some_flags();
    mfn_t m = granted[random_below(NR_GRANTED)];
    int status;

    take(m, flags & GNTMAP_readonly);
    status = pv_grant_map(walk, address_for(flags), m, flags);
    if (status != GNTST_okay)
        give_back(m, flags & GNTMAP_readonly);
    return status;
}

static int unmap_some(struct pv_grant_walk *walk)
{
    u32 flags = some_flags();
    mfn_t m = granted[random_below(NR_GRANTED)];
    u64 new_addr = random_below(4) ? 0 : some_address();
    int status = pv_grant_unmap(walk, address_for(flags), m, new_addr, flags);

    if (status == GNTST_okay)
        give_back(m, flags & GNTMAP_readonly);
    return status;
}

/* What is there now, or nothing, is unmapped as its owner would. */
static int unmap_what_is_there(struct pv_grant_walk *walk)
{
    u64 va = some_address(), e;
    unsigned idx;
    mfn_t table;
    int status;

    if (!pt_find_l1(current, va, &table, &idx))
        return 0;
    e = pt_load(dom->arch.fmt, mfn_to_virt(table), idx);
    if (!(e & PTE_P) || frame_owner_id(pte_mfn(e)) != granter->id)
        return 0;
    status = pv_grant_unmap(walk, va, pte_mfn(e), 0, e & PTE_RW ? 0 : GNTMAP_readonly);
    if (status == GNTST_okay)
        give_back(pte_mfn(e), !(e & PTE_RW));
    return status;
}

static void batch(void)
{
    struct pv_grant_walk walk;

    pv_grant_begin(&walk, some_address());
    for (u64 n = random_below(6); n + 1; n--) {
        u64 what = random_below(5);

        twin_say_number((u64)(s64)(what < 2 ? map_some(&walk) : what < 3 ? unmap_some(&walk) : unmap_what_is_there(&walk)));
    }
    pv_grant_end();
}

/* The guest's own changes, of whatever is there. */
static void change_entry(void)
{
    u64 e = random_below(3) ? pte_make(own[random_below(ARRAY_SIZE(own))], random_below(2) ? RW : RW & ~PTE_RW) : 0;

    pt_lock(dom);
    (void)pt_update_leaf(dom, l1[random_below(NR_L1)], some_page(), e, dom, 0);
    pt_unlock(dom);
}

static void say_all(void)
{
    for (unsigned i = 0; i < NR_L1; i++)
        twin_say(frame_words(l1[i]), PAGE_SIZE);
    twin_say(frame_words(root), PAGE_SIZE);
    for (unsigned i = 0; i < NR_GRANTED + ARRAY_SIZE(own); i++) {
        mfn_t m = i < NR_GRANTED ? granted[i] : own[i - NR_GRANTED];

        twin_say_number(fake_refs[m.v]);
        twin_say_number(fake_types[m.v]);
    }
}

static void life(void)
{
    begin();
    for (unsigned i = 0; i < 2000; i++) {
        if (random_below(4))
            batch();
        else
            change_entry();
        leave_hypervisor();
        mirrors_look(dom);
        say_all();
        twin_step_ends();
    }
    end();
}

static void both_ways_agree(void **state)
{
    format_id = *(enum pt_format_id *)*state;
    for (u64 seed = 1; seed < 4; seed++)
        twins_live(life, seed);
}

/* --- An entry's address whose frame changes hands -------------------------------------------------------------- */

/* A level-1 table of the granter's, which becomes a page of dom's that says that it has an entry for one. */
static mfn_t named;
static struct pv_grant_walk named_walk;
static int named_status;

/* None of it takes dom's page-table lock, nor does the copy of a grant, which writes the page. */
static void change_hands(void)
{
    pt_lock(granter);
    BUG_ON(pt_unpin(granter, named));
    pt_unlock(granter);
    BUG_ON(!domain_give_up_frame(granter, named));
    leave_hypervisor();
    BUG_ON(!mfn_eq(frames_new(dom), named));
    put(named, 0, pte_make(own[0], RW));
}

static void map_at_named(void)
{
    step_on();
    named_status = pv_grant_map(&named_walk, mfn_to_maddr(named).v, granted[0], GNTMAP_contains_pte);
    step_off();
}

static bool changes_hands_after(unsigned instructions)
{
    bool happened;

    begin();
    named = frames_new(granter);
    pt_lock(granter);
    assert_int_equal(pt_pin(granter, named, 1), 0);
    pt_unlock(granter);
    take(granted[0], false);
    pv_grant_begin(&named_walk, 0);
    happened = step_over(map_at_named, instructions, change_hands);
    pv_grant_end();
    assert_int_equal(named_status, GNTST_general_error);
    give_back(granted[0], false);
    assert_int_equal((u32)fake_refs[own[0].v], 1);
    return happened;
}

static void entry_is_in_a_table_of_ours_at_one_moment(void **state)
{
    unsigned n = 1;

    format_id = *(enum pt_format_id *)*state;
    while (changes_hands_after(n))
        n++;
    assert_true(n > 1);
}

/* --- An entry that is moved to where a grant was ---------------------------------------------------------------- */

u32 nr_dirty_logs;
static bool logged;     /* the frame that is viewed */

void frame_log_dirty(mfn_t m) { logged |= mfn_eq(m, granted[0]); }

static bool is_outward(mfn_t m) { return fake_refs[m.v] & FR_OUTWARD; }

/* As a toolstack's view of a guest's page: no grant's. It is in the second table, where its first page is. */
static void map_others(u64 flags)
{
    pt_lock(dom);
    assert_int_equal(pt_update_leaf(dom, l1[1], 0, pte_make(granted[0], flags), granter, 0), 0);
    pt_unlock(dom);
}

/* A grant's entry in the first table goes, and what is in the second's takes its place. */
static void replace_granted(void)
{
    struct pv_grant_walk walk;

    take(granted[1], false);
    pv_grant_begin(&walk, 0);
    assert_int_equal(pv_grant_map(&walk, 0, granted[1], 0), GNTST_okay);
    assert_int_equal(pv_grant_unmap(&walk, 0, granted[1], 1UL << dom->arch.fmt->level[2].shift, 0), GNTST_okay);
    pv_grant_end();
    give_back(granted[1], false);
}

static void moves(u64 flags)
{
    bool writes = flags & PTE_RW;

    begin();
    logged = false;
    map_others(flags);
    nr_dirty_logs = 1;
    replace_granted();
    nr_dirty_logs = 0;
    assert_int_equal(pte_mfn(pt_load(dom->arch.fmt, frame_words(l1[0]), 0)).v, granted[0].v);
    assert_int_equal(is_outward(l1[0]), writes);
    assert_int_equal(dom->arch.nr_outward, writes ? 2 : 0);
    assert_int_equal(logged, writes);
    mirrors_look(dom);
    end();
    assert_int_equal(dom->arch.nr_outward, 0);
}

/* The last report of what the granter's memory has gone through finds the tables by their mark, and what moves meanwhile in the log. */
static void a_view_that_moves_is_found(void **state)
{
    format_id = *(enum pt_format_id *)*state;
    moves(RW);
    moves(RW & ~(u64)PTE_RW);
}

static enum pt_format_id formats[] = { PT64, PT32P, PT32 };

int main(void)
{
    const struct CMUnitTest tests[] = {
        { "both_ways_agree (64-bit)", both_ways_agree, NULL, NULL, &formats[0] },
        { "both_ways_agree (PAE)", both_ways_agree, NULL, NULL, &formats[1] },
        { "both_ways_agree (non-PAE)", both_ways_agree, NULL, NULL, &formats[2] },
        { "a_view_that_moves_is_found (64-bit)", a_view_that_moves_is_found, NULL, NULL, &formats[0] },
        { "a_view_that_moves_is_found (PAE)", a_view_that_moves_is_found, NULL, NULL, &formats[1] },
        { "a_view_that_moves_is_found (non-PAE)", a_view_that_moves_is_found, NULL, NULL, &formats[2] },
        { "entry_is_in_a_table_of_ours_at_one_moment", entry_is_in_a_table_of_ours_at_one_moment, NULL, NULL, &formats[0] },
    };

    return cmocka_run_group_tests_name("grant_entry", tests, NULL, NULL);
}
