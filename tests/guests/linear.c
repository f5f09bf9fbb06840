/*
 * Level-4 tables that name level-4 tables: by going through such a slot once, twice or more, a kernel reads its level-1, 2, 3 and 4
 * tables at addresses that follow from what they map. What it reads must be its own entries, whatever the hypervisor does so that the
 * way does not lead to its own. With stay=kernel or stay=user the kernel stays so, in its tables or those of user space, to be looked at
 * from outside (tests/system/test_isolation.py).
 */
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "user.h"

#ifdef FORMAT_PT64

#define LINK PTE_READ        /* read-only: all that is allowed */
#define OWN 100u             /* slots of the current root: for itself, for another table, for a third */
#define OTHER 101u
#define THIRD 102u
#define ITS_OWN 103u         /* of the other table, for itself */

static const u64 *seen_at(unsigned a, unsigned b, unsigned c, unsigned d)
{
    word va = (word)a << 39 | (word)b << 30 | (word)c << 21 | (word)d << 12;

    return (const u64 *)(a < 256 ? va : va | 0xffff000000000000);
}

static bool is_theirs(unsigned i) { return i >= 256 && i < 272; }

/* What is seen of a table must be what it is; top: of level 4. */
static void check_same(const u64 *seen, const void *table, bool top)
{
    unsigned differences = 0;

    CHECK_NO_FAULT(for (unsigned i = 0; i < 512; i++)
                       if (!(top && is_theirs(i)) && (read_once(seen[i]) ^ pte_get(table, i)) & ~(PTE_A | PTE_D))
                           differences++);
    CHECK_EQ(differences, 0);
}

/* The four tables that map va, through slot and, for what is above level 1, through again, which names top in top. */
static void check_walk(unsigned slot, unsigned again, const void *top, const void *va)
{
    unsigned i4 = pte_index(va, 4), i3 = pte_index(va, 3), i2 = pte_index(va, 2);

    check_same(seen_at(slot, i4, i3, i2), table_of(va, 1), false);
    check_same(seen_at(slot, again, i4, i3), table_of(va, 2), false);
    check_same(seen_at(slot, again, again, i4), table_of(va, 3), false);
    check_same(seen_at(slot, again, again, again), top, true);
}

static void check_walks(unsigned slot, unsigned again, const void *top)
{
    check_walk(slot, again, top, (const void *)VIRT_BASE);
    check_walk(slot, again, top, window(0));
    check_walk(slot, again, top, user_page(0));
}

static void *current_top(void) { return mfn_to_virt(current_base()); }
static long set_link(const void *top, unsigned slot, const void *to) { return pte_set(pte_at(top, slot), to ? pte_make(virt_to_mfn(to), LINK) : 0); }

/* A table that can be named: complete, and with an entry for itself. */
static void *new_other(void)
{
    void *other = copy_top();

    if (pin(other, 4) || set_link(other, ITS_OWN, other))
        panic("no other root");
    return other;
}

static void free_other(void *other)
{
    CHECK_OK(set_link(other, ITS_OWN, NULL));
    CHECK_OK(unpin(other));
    free_top(other);
}

TEST(own_tables)
{
    const void *top = current_top();

    REQUIRE_OK(set_link(top, OWN, top));
    check_walks(OWN, OWN, top);
    CHECK_EQ(pte_mfn(seen_at(OWN, OWN, OWN, OWN)[OWN]), current_base());
    /* What changes is seen: at once in the table itself, and through it, as ever, after a flush. */
    CHECK_EQ(seen_at(OWN, OWN, OWN, OWN)[THIRD], 0);
    CHECK_OK(set_link(top, THIRD, top));
    CHECK_EQ(pte_mfn(seen_at(OWN, OWN, OWN, OWN)[THIRD]), current_base());
    check_walks(THIRD, OWN, top);
    check_walks(OWN, THIRD, top);
    CHECK_OK(set_link(top, THIRD, NULL));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    CHECK_FAULT(VECTOR_PF, (void)*(const volatile u64 *)seen_at(THIRD, OWN, OWN, OWN));
    CHECK_OK(set_link(top, OWN, NULL));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    CHECK_FAULT(VECTOR_PF, (void)*(const volatile u64 *)seen_at(OWN, OWN, OWN, OWN));
}

TEST(anothers_tables)
{
    const void *top = current_top();
    void *other = new_other(), *next = new_other();

    REQUIRE_OK(set_link(top, OTHER, other));
    check_walks(OTHER, ITS_OWN, other);
    REQUIRE_OK(set_link(top, OWN, top));
    check_walks(OTHER, ITS_OWN, other);
    check_walks(OWN, OWN, top);
    check_same(seen_at(OWN, OWN, OWN, OTHER), other, true);
    /* The other changes, without being in use itself. */
    CHECK_OK(set_link(other, ITS_OWN + 1, other));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    check_walks(OTHER, ITS_OWN + 1, other);
    CHECK_OK(set_link(other, ITS_OWN + 1, NULL));
    /* Another takes its place in one step. */
    CHECK_OK(set_link(top, OTHER, next));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    check_walks(OTHER, ITS_OWN, next);
    CHECK_OK(set_link(top, OTHER, NULL));
    CHECK_OK(set_link(top, OWN, NULL));
    free_other(next);
    free_other(other);
}

/* With page-table isolation there is room for one other. Either there is more, and it is seen, or that is said. */
TEST(two_others)
{
    const void *top = current_top();
    void *others[2] = { new_other(), new_other() };

    REQUIRE_OK(set_link(top, OWN, top));
    REQUIRE_OK(set_link(top, OTHER, others[0]));
    CHECK_OK(set_link(top, THIRD, others[0]));
    check_walks(THIRD, ITS_OWN, others[0]);
    CHECK_OK(set_link(top, THIRD, NULL));
    if (set_link(top, THIRD, others[1]) == 0) {
        CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
        check_walks(THIRD, ITS_OWN, others[1]);
        CHECK_OK(set_link(top, THIRD, NULL));
    }
    check_walks(OTHER, ITS_OWN, others[0]);
    CHECK_OK(set_link(top, OTHER, NULL));
    CHECK_OK(set_link(top, OWN, NULL));
    free_other(others[0]);
    free_other(others[1]);
}

/* A table that becomes a root with such entries in it, and is left again. */
TEST(new_root_with_links)
{
    word was = current_base();
    void *other = new_other(), *top = copy_top();

    make_writable(top);
    ((volatile u64 *)top)[OWN] = pte_make(virt_to_mfn(top), LINK);
    ((volatile u64 *)top)[OTHER] = pte_make(virt_to_mfn(other), LINK);
    make_readonly(top);
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0));
        mm_set_base(virt_to_mfn(top));
        check_walks(OWN, OWN, top);
        check_walks(OTHER, ITS_OWN, other);
        REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, was, 0));
        mm_set_base(was);
        CHECK_FAULT(VECTOR_PF, (void)*(const volatile u64 *)seen_at(OWN, OWN, OWN, OWN));
    }
    free_top(top);
    free_other(other);
}

/* Links in both roots. */
static void link_all(void *other)
{
    const void *top = current_top();
    void *user_top = copy_top();

    if (set_link(top, OWN, top) || set_link(top, OTHER, other) || pin(user_top, 4) || set_link(user_top, OWN, user_top) ||
        set_link(user_top, OTHER, other))
        panic("links are refused");
    user_init();
    if (mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(user_top), 0))
        panic("no user root");
    check_walks(OWN, OWN, top);
    check_walks(OTHER, ITS_OWN, other);
}

TEST(stay)
{
    static const u8 loop[] = { 0xeb, 0xfe };

    if (!cmdline_value("stay"))
        return;
    link_all(new_other());
    printf("linear: stays\n");
    if (cmdline_is("stay", "user"))
        (void)user_run(loop, sizeof(loop));
    for (;;)
        __asm__ volatile("pause");
}

#else

TEST(top_level_names_top_level)
{
    SKIP("pagetables.c has what there is of it in other formats");
}

#endif
