/*
 * Grant tables: what we share with ourselves, mapped and copied, and every way of doing it wrong. Tests of IN_BOTH_VERSIONS run
 * with each version of entries.
 */
#include "events.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"
#include <public/errno.h>

#define FIRST_REF 32 /* clear of the reserved ones */
#define NO_DOMAIN 0x1234

static volatile struct grant_entry_v1 *table;
static volatile union grant_entry_v2 *table2;
static volatile grant_status_t *status_;
static u32 version = 1;
static domid_t self;

/* NAME with version 1, and NAME_v2. */
#define IN_BOTH_VERSIONS(name)                                  \
    static void name##_in_version(void);                        \
    TEST(name) { if (use_version(1)) name##_in_version(); }     \
    TEST(name##_v2) { if (use_version(2)) name##_in_version(); } \
    static void name##_in_version(void)

/* Our own number, as an event channel between two of our ports shows it. */
static domid_t own_domid(void)
{
    struct evtchn_status status;
    long a = alloc_unbound(DOMID_SELF, DOMID_SELF), b = bind_interdomain(DOMID_SELF, (unsigned)a);

    port_status((unsigned)a, &status);
    close_port((unsigned)a);
    close_port((unsigned)b);
    return b > 0 ? status.u.interdomain.dom : 0;
}

static s16 setup_table(domid_t dom, u32 frames, word list)
{
    GUEST(gnttab_setup_table) op = { .dom = dom, .nr_frames = frames, .frame_list = list, .status = 99 };
    long rc = grant_table_op(GNTTABOP_setup_table, &op, 1);

    return rc < 0 ? (s16)rc : op.status;
}

static bool init(void)
{
    word frame;

    if (table)
        return true;
    self = own_domid();
    if (!CHECK_EQ(setup_table(DOMID_SELF, 1, P(&frame)), GNTST_okay))
        return false;
    if (!CHECK_OK(map_at(window(200), frame, PTE_DATA)))
        return false;
    table = window(200);
    table2 = window(200);
    return true;
}

static long set_version(u32 to)
{
    struct gnttab_set_version op = { .version = to };
    long rc = grant_table_op(GNTTABOP_set_version, &op, 1);

    CHECK(rc < 0 || op.version == to);
    CHECK(rc >= 0 || op.version == version);
    if (rc >= 0)
        version = to;
    return rc;
}

static GUEST(gnttab_get_status_frames) get_status_frames(domid_t dom, u32 nr, u64 *list)
{
    GUEST(gnttab_get_status_frames) op = { .dom = dom, .nr_frames = nr, .frame_list = P(list), .status = 99 };

    if (grant_table_op(GNTTABOP_get_status_frames, &op, 1) < 0)
        op.status = GNTST_general_error;
    return op;
}

/* Status frames stay mapped as long as the version is 2. */
static bool use_version(u32 to)
{
    u64 frame = 0;

    if (!init() || to == version)
        return to == version;
    if (to == 1)
        return CHECK_OK(unmap_at(window(202))) && CHECK_OK(set_version(1));
    status_ = window(202);
    return CHECK_OK(set_version(2)) && CHECK_EQ(get_status_frames(DOMID_SELF, 1, &frame).status, GNTST_okay) &&
           CHECK_OK(map_at(window(202), (word)frame, PTE_DATA));
}

static volatile struct grant_entry_header *header(unsigned ref)
{
    return version == 1 ? (volatile struct grant_entry_header *)&table[ref] : &table2[ref].hdr;
}

/* The entry's flags, with what is known of its use. */
static u16 flags(unsigned ref) { return header(ref)->flags | (version == 2 ? status_[ref] : 0); }
static u16 uses(unsigned ref) { return flags(ref) & (GTF_reading | GTF_writing); }
static u64 frame_of(unsigned ref) { return version == 1 ? table[ref].frame : table2[ref].full_page.frame; }
static void end_grant(unsigned ref) { header(ref)->flags = 0; }

static void grant(unsigned ref, domid_t to, word mfn, u16 flags)
{
    if (version == 1)
        table[ref].frame = (u32)mfn;
    else
        table2[ref].full_page.frame = mfn;
    header(ref)->domid = to;
    barrier();
    header(ref)->flags = GTF_permit_access | flags;
}

static struct gnttab_map_grant_ref map_op(unsigned ref, domid_t dom, u64 address, u32 flags)
{
    struct gnttab_map_grant_ref op = { .host_addr = address, .flags = flags, .ref = ref, .dom = dom, .status = 99 };

    if (grant_table_op(GNTTABOP_map_grant_ref, &op, 1) < 0)
        op.status = GNTST_general_error;
    return op;
}

static struct gnttab_map_grant_ref map_self(unsigned ref, const volatile void *va, u32 flags)
{
    return map_op(ref, self, P(va), GNTMAP_host_map | flags);
}

static s16 unmap_op(u64 address, u32 handle)
{
    struct gnttab_unmap_grant_ref op = { .host_addr = address, .handle = handle, .status = 99 };

    return grant_table_op(GNTTABOP_unmap_grant_ref, &op, 1) < 0 ? GNTST_general_error : op.status;
}

static s16 unmap_self(const volatile void *va, u32 handle) { return unmap_op(P(va), handle); }

TEST(query_size)
{
    struct gnttab_query_size op = { .dom = DOMID_SELF };

    CHECK_OK(grant_table_op(GNTTABOP_query_size, &op, 1));
    CHECK_EQ(op.status, GNTST_okay);
    CHECK(op.max_nr_frames >= 1);
    CHECK(op.nr_frames <= op.max_nr_frames);
    op.dom = NO_DOMAIN;
    CHECK_OK(grant_table_op(GNTTABOP_query_size, &op, 1));
    CHECK(op.status < 0);
}

TEST(setup_bad)
{
    word frames[4];

    CHECK(setup_table(DOMID_SELF, 100000, P(frames)) < 0);
    CHECK(setup_table(DOMID_SELF, ~0u, P(frames)) < 0);
    CHECK(setup_table(NO_DOMAIN, 1, P(frames)) < 0);
    CHECK(setup_table(DOMID_SELF, 1, format.hv_start + 0x2000000) < 0);
    CHECK(setup_table(DOMID_SELF, 1, P(window(0))) < 0);
}

/* Elements of one call whose addresses are in several tables, in turns, and in none. */
IN_BOTH_VERSIONS(batch_over_tables)
{
    static const unsigned at[] = { 0, 600, 1, 0, 1200, 601 };    /* pages of the window: 512 or 1024 share a table */
    struct gnttab_map_grant_ref map[6];
    struct gnttab_unmap_grant_ref unmap[6];
    u32 *page[6];

    for (unsigned i = 0; i < 6; i++) {
        page[i] = page_alloc();
        *page[i] = 1000 + i;
        grant(FIRST_REF + i, self, virt_to_mfn(page[i]), 0);
        build_tables(window(at[i]));
        map[i] = (struct gnttab_map_grant_ref){ .host_addr = i == 3 ? format.hv_start : P(window(at[i])),
                                                .flags = GNTMAP_host_map, .ref = FIRST_REF + i, .dom = self };
    }
    CHECK_OK(grant_table_op(GNTTABOP_map_grant_ref, map, 6));
    for (unsigned i = 0; i < 6; i++) {
        if (i == 3) {
            CHECK(map[i].status < 0);
            CHECK_EQ(flags(FIRST_REF + i), GTF_permit_access);
        } else if (CHECK_EQ(map[i].status, GNTST_okay)) {
            CHECK_EQ(*(u32 *)window(at[i]), 1000 + i);
        }
        unmap[i] = (struct gnttab_unmap_grant_ref){ .host_addr = map[i].host_addr, .handle = i == 3 ? ~0u : map[i].handle };
    }
    CHECK_OK(grant_table_op(GNTTABOP_unmap_grant_ref, unmap, 6));
    for (unsigned i = 0; i < 6; i++) {
        if (i == 3)
            CHECK(unmap[i].status < 0);
        else if (CHECK_EQ(unmap[i].status, GNTST_okay))
            CHECK_FAULT(VECTOR_PF, (void)*(volatile u32 *)window(at[i]));
        CHECK_EQ(flags(FIRST_REF + i), GTF_permit_access);
        end_grant(FIRST_REF + i);
    }
}

/* The address in the middle leads through a linear entry to the top level: what follows must not be written there. */
IN_BOTH_VERSIONS(batch_with_linear_address)
{
    void *base = mfn_to_virt(current_base());
    unsigned slot = free_top_slot();
    struct gnttab_map_grant_ref map[3];
    word linear = 0;
    u64 before;

    if (top_level() == 3)
        SKIP("no linear top level in PAE");
    for (unsigned level = format.levels; level; level--)
        linear |= (word)slot << format.level[level].shift;
    before = pte_get(base, pte_index(window(2), 1));
    REQUIRE_OK(pte_set(pte_at(base, slot), pte_make(virt_to_mfn(base), PTE_P | PTE_US | PTE_A | PTE_D)));
    for (unsigned i = 0; i < 3; i++) {
        grant(FIRST_REF + i, self, virt_to_mfn(page_alloc()), 0);
        map[i] = (struct gnttab_map_grant_ref){ .host_addr = i == 1 ? linear : P(window(i)), .flags = GNTMAP_host_map,
                                                .ref = FIRST_REF + i, .dom = self };
    }
    CHECK_OK(grant_table_op(GNTTABOP_map_grant_ref, map, 3));
    CHECK_EQ(pte_get(base, pte_index(window(2), 1)), before);
    CHECK(map[1].status < 0);
    for (unsigned i = 0; i < 3; i += 2) {
        if (CHECK_EQ(map[i].status, GNTST_okay))
            CHECK_EQ(unmap_self(window(i), map[i].handle), GNTST_okay);
        end_grant(FIRST_REF + i);
    }
    end_grant(FIRST_REF + 1);
    CHECK_OK(pte_set(pte_at(base, slot), 0));
}

/* Removals of one call are made in turn: what one does not remove is there for the next, and then for none. */
IN_BOTH_VERSIONS(batch_on_one_handle)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref op;
    struct gnttab_unmap_grant_ref unmap[4];

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_self(FIRST_REF, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    for (unsigned i = 0; i < 4; i++)
        unmap[i] = (struct gnttab_unmap_grant_ref){ .host_addr = P(window(i == 0)), .handle = op.handle, .status = 99 };
    CHECK_OK(grant_table_op(GNTTABOP_unmap_grant_ref, unmap, 4));
    CHECK(unmap[0].status < 0);     /* another address */
    CHECK_EQ(unmap[1].status, GNTST_okay);
    CHECK_EQ(unmap[2].status, GNTST_bad_handle);
    CHECK_EQ(unmap[3].status, GNTST_bad_handle);
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    end_grant(FIRST_REF);
    make_readonly(page); /* no reference stays, and none too many went */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
}

/* Mappings of every kind in one call, with failures in between: each has a handle of its own, and what it asked for. */
IN_BOTH_VERSIONS(batch_of_kinds)
{
    u64 entry = virt_to_maddr(pte_at(table_of(window(1), 1), pte_index(window(1), 1)));
    u32 *page = page_alloc();
    const struct { u64 at; u32 ref, flags; s16 status; } want[] = {
        { P(window(0)), FIRST_REF, GNTMAP_host_map, GNTST_okay },
        { P(window(1)), FIRST_REF + 1, GNTMAP_host_map, GNTST_general_error },   /* to be read only */
        { entry, FIRST_REF + 1, GNTMAP_host_map | GNTMAP_contains_pte | GNTMAP_readonly, GNTST_okay },
        { P(window(2)), FIRST_REF + 2, GNTMAP_host_map, GNTST_general_error },   /* not granted */
        { P(window(2)), FIRST_REF, GNTMAP_host_map | GNTMAP_device_map | GNTMAP_readonly, GNTST_okay },
    };
    struct gnttab_map_grant_ref map[5];
    struct gnttab_unmap_grant_ref unmap[5];

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    grant(FIRST_REF + 1, self, virt_to_mfn(page), GTF_readonly);
    end_grant(FIRST_REF + 2);
    for (unsigned i = 0; i < 5; i++)
        map[i] = (struct gnttab_map_grant_ref){ .host_addr = want[i].at, .flags = want[i].flags, .ref = want[i].ref, .dom = self,
                                                .handle = ~0u };
    CHECK_OK(grant_table_op(GNTTABOP_map_grant_ref, map, 5));
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(map[i].status, want[i].status);
        for (unsigned k = 0; k < i; k++)
            CHECK(map[i].handle != map[k].handle || map[i].handle == ~0u);
        unmap[i] = (struct gnttab_unmap_grant_ref){ .host_addr = map[i].host_addr, .handle = map[i].handle,
                                                    .dev_bus_addr = want[i].flags & GNTMAP_device_map ? map[i].dev_bus_addr : 0 };
    }
    *(volatile u32 *)window(0) = 5;
    CHECK_EQ(*(volatile u32 *)window(1), 5);
    CHECK_EQ(*(volatile u32 *)window(2), 5);
    CHECK_FAULT(VECTOR_PF, *(volatile u32 *)window(1) = 1);
    CHECK_FAULT(VECTOR_PF, *(volatile u32 *)window(2) = 1);
    CHECK_OK(grant_table_op(GNTTABOP_unmap_grant_ref, unmap, 5));
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(unmap[i].status, want[i].status == GNTST_okay ? GNTST_okay : GNTST_bad_handle);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(entry_of(window(i), 1) & PTE_P, 0);
        CHECK_EQ(uses(FIRST_REF + i), 0);
        end_grant(FIRST_REF + i);
    }
    make_readonly(page); /* no reference stays, and none too many went */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
}

IN_BOTH_VERSIONS(map_and_unmap)
{
    u32 *page = page_alloc();
    volatile u32 *va = window(0);
    struct gnttab_map_grant_ref op;

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_self(FIRST_REF, va, 0);
    REQUIRE(op.status == GNTST_okay);
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access | GTF_reading | GTF_writing);
    CHECK_EQ(frame_at(va), virt_to_mfn(page));
    *va = 99;
    CHECK_EQ(page[0], 99);
    CHECK_EQ(unmap_self(va, op.handle), GNTST_okay);
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    CHECK_EQ(entry_of(va, 1) & PTE_P, 0);
    CHECK_FAULT(VECTOR_PF, (void)*va);
    CHECK(unmap_self(va, op.handle) < 0); /* twice */
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    end_grant(FIRST_REF);
    page[0] = 0;
    make_readonly(page); /* no reference stays */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
}

IN_BOTH_VERSIONS(map_readonly)
{
    u32 *page = page_alloc();
    volatile u32 *va = window(0);
    struct gnttab_map_grant_ref op;

    grant(FIRST_REF, self, virt_to_mfn(page), GTF_readonly);
    CHECK(map_self(FIRST_REF, va, 0).status < 0);
    CHECK_EQ(entry_of(va, 1) & PTE_P, 0);
    CHECK_EQ(uses(FIRST_REF), 0);
    op = map_self(FIRST_REF, va, GNTMAP_readonly);
    REQUIRE(op.status == GNTST_okay);
    CHECK_EQ(uses(FIRST_REF), GTF_reading);
    CHECK_FAULT(VECTOR_PF, *va = 1);
    CHECK_EQ(unmap_self(va, op.handle), GNTST_okay);
    end_grant(FIRST_REF);
    page_free(page);
}

IN_BOTH_VERSIONS(map_twice)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref a, b;

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    a = map_self(FIRST_REF, window(0), 0);
    b = map_self(FIRST_REF, window(1), GNTMAP_readonly);
    REQUIRE(a.status == GNTST_okay && b.status == GNTST_okay);
    CHECK(a.handle != b.handle);
    CHECK_EQ(unmap_self(window(0), a.handle), GNTST_okay);
    CHECK_EQ(uses(FIRST_REF), GTF_reading);
    CHECK_EQ(unmap_self(window(1), b.handle), GNTST_okay);
    CHECK_EQ(uses(FIRST_REF), 0);
    end_grant(FIRST_REF);
    page_free(page);
}

IN_BOTH_VERSIONS(map_into_entry)
{
    u32 *page = page_alloc();
    u64 entry = virt_to_maddr(pte_at(table_of(window(0), 1), pte_index(window(0), 1)));
    struct gnttab_map_grant_ref op;

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_op(FIRST_REF, self, entry, GNTMAP_host_map | GNTMAP_contains_pte);
    REQUIRE(op.status == GNTST_okay);
    *(volatile u32 *)window(0) = 7;
    CHECK_EQ(page[0], 7);
    CHECK_EQ(unmap_op(entry, op.handle), GNTST_okay);
    CHECK_EQ(entry_of(window(0), 1) & PTE_P, 0);
    CHECK(map_op(FIRST_REF, self, virt_to_maddr(page), GNTMAP_host_map | GNTMAP_contains_pte).status < 0);
    CHECK(map_op(FIRST_REF, self, (u64)foreign_frame(0) << 12, GNTMAP_host_map | GNTMAP_contains_pte).status < 0);
    CHECK(map_op(FIRST_REF, self, 1ULL << 51, GNTMAP_host_map | GNTMAP_contains_pte).status < 0);
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    end_grant(FIRST_REF);
    page_free(page);
}

IN_BOTH_VERSIONS(map_bad)
{
    u32 *page = page_alloc();
    volatile void *va = window(0);

    CHECK(map_self(FIRST_REF, va, 0).status < 0); /* not granted */
    CHECK(map_self(100000000, va, 0).status < 0);
    CHECK(map_self(~0u, va, 0).status < 0);
    grant(FIRST_REF, NO_DOMAIN, virt_to_mfn(page), 0);
    CHECK(map_self(FIRST_REF, va, 0).status < 0); /* to somebody else */
    grant(FIRST_REF, self, foreign_frame(0), 0);
    CHECK(map_self(FIRST_REF, va, 0).status < 0);
    grant(FIRST_REF, self, 0xffffffff, 0);
    CHECK(map_self(FIRST_REF, va, 0).status < 0);
    grant(FIRST_REF, self, virt_to_mfn(table_of(va, 1)), 0);
    CHECK(map_self(FIRST_REF, va, 0).status < 0); /* a page table, writable */
    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    CHECK(map_op(FIRST_REF, NO_DOMAIN, P(va), GNTMAP_host_map).status < 0);
    CHECK(map_op(FIRST_REF, self, P(va), 0).status < 0); /* map where? */
    CHECK(map_self(FIRST_REF, (void *)format.hv_start, 0).status < 0);
    CHECK(map_self(FIRST_REF, (void *)(VIRT_BASE + 0x20000000), 0).status < 0); /* no table there */
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    CHECK_EQ(entry_of(va, 1) & PTE_P, 0);
    end_grant(FIRST_REF);
    page_free(page);
}

IN_BOTH_VERSIONS(unmap_bad)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref op;

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_self(FIRST_REF, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    CHECK(unmap_self(window(1), op.handle) < 0); /* another address */
    CHECK(unmap_self(window(0), op.handle + 1000) < 0);
    CHECK(unmap_self(window(0), ~0u) < 0);
    CHECK_EQ(*(volatile u32 *)window(0), 0); /* still there */
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    end_grant(FIRST_REF);
    page_free(page);
}

/* While it is mapped writable through a grant, a frame cannot become a page table. */
IN_BOTH_VERSIONS(mapped_frame_is_no_table)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref op;

    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_self(FIRST_REF, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    make_readonly(page);
    CHECK_REFUSED(pin(page, 1));
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    end_grant(FIRST_REF);
    table_free(page);
}

IN_BOTH_VERSIONS(unmap_and_replace)
{
    u32 *page = page_alloc(), *other = page_alloc();
    struct gnttab_map_grant_ref map;
    struct gnttab_unmap_and_replace op;

    other[0] = 55;
    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    map = map_self(FIRST_REF, window(0), 0);
    REQUIRE(map.status == GNTST_okay);
    REQUIRE_OK(map_at(window(1), virt_to_mfn(other), PTE_DATA));
    op = (struct gnttab_unmap_and_replace){ .host_addr = P(window(0)), .new_addr = P(window(1)),
                                            .handle = map.handle, .status = 99 };
    CHECK_OK(grant_table_op(GNTTABOP_unmap_and_replace, &op, 1));
    CHECK_EQ(op.status, GNTST_okay);
    CHECK_EQ(*(volatile u32 *)window(0), 55);
    CHECK_EQ(entry_of(window(1), 1) & PTE_P, 0);
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    CHECK_OK(unmap_at(window(0)));
    end_grant(FIRST_REF);
    page_free(page);
    page_free(other);
}

/* ---- Copying ---- */

static s16 copy(GUEST(gnttab_copy) op)
{
    op.status = 99;
    return grant_table_op(GNTTABOP_copy, &op, 1) < 0 ? GNTST_general_error : op.status;
}

static GUEST(gnttab_copy) copy_frames(word from, unsigned from_offset, word to, unsigned to_offset, unsigned len)
{
    return (GUEST(gnttab_copy)){ .source = { .u = from, .domid = DOMID_SELF, .offset = (u16)from_offset },
                                 .dest = { .u = to, .domid = DOMID_SELF, .offset = (u16)to_offset },
                                 .len = (u16)len };
}

TEST(copy_own_frames)
{
    u8 *a = page_alloc(), *b = page_alloc();

    memset(a, 0x11, 4096);
    CHECK_EQ(copy(copy_frames(virt_to_mfn(a), 100, virt_to_mfn(b), 200, 50)), GNTST_okay);
    CHECK_EQ(b[199], 0);
    CHECK_EQ(b[200], 0x11);
    CHECK_EQ(b[249], 0x11);
    CHECK_EQ(b[250], 0);
    CHECK_EQ(copy(copy_frames(virt_to_mfn(a), 0, virt_to_mfn(b), 0, 4096)), GNTST_okay);
    CHECK_EQ(b[4095], 0x11);
    CHECK_EQ(copy(copy_frames(virt_to_mfn(a), 0, virt_to_mfn(b), 0, 0)), GNTST_okay);
    page_free(a);
    page_free(b);
}

IN_BOTH_VERSIONS(copy_by_reference)
{
    u8 *a = page_alloc(), *b = page_alloc();
    GUEST(gnttab_copy) op = copy_frames(FIRST_REF, 0, FIRST_REF + 1, 0, 64);

    a[10] = 0x22;
    grant(FIRST_REF, self, virt_to_mfn(a), GTF_readonly);
    grant(FIRST_REF + 1, self, virt_to_mfn(b), 0);
    op.source.domid = op.dest.domid = self;
    op.flags = GNTCOPY_source_gref | GNTCOPY_dest_gref;
    CHECK_EQ(copy(op), GNTST_okay);
    CHECK_EQ(b[10], 0x22);
    CHECK_EQ(uses(FIRST_REF), 0);
    CHECK_EQ(uses(FIRST_REF + 1), 0);
    op.dest.u = FIRST_REF; /* granted read-only */
    CHECK(copy(op) < 0);
    op.dest.u = FIRST_REF + 2; /* not granted */
    CHECK(copy(op) < 0);
    op.dest.u = 0x7fffffff;
    CHECK(copy(op) < 0);
    op.dest.u = FIRST_REF + 1;
    op.dest.domid = NO_DOMAIN;
    CHECK(copy(op) < 0);
    CHECK_EQ(uses(FIRST_REF), 0);
    end_grant(FIRST_REF);
    end_grant(FIRST_REF + 1);
    page_free(a);
    page_free(b);
}

TEST(copy_bounds)
{
    u8 *a = page_alloc(), *b = page_alloc();
    word from = virt_to_mfn(a), to = virt_to_mfn(b);

    memset(a, 0x33, 4096);
    CHECK(copy(copy_frames(from, 1, to, 0, 4096)) < 0);
    CHECK(copy(copy_frames(from, 0, to, 1, 4096)) < 0);
    CHECK(copy(copy_frames(from, 4095, to, 0, 2)) < 0);
    CHECK(copy(copy_frames(from, 4096, to, 0, 1)) < 0);
    CHECK(copy(copy_frames(from, 0, to, 65535, 1)) < 0);
    CHECK(copy(copy_frames(from, 65535, to, 0, 65535)) < 0);
    CHECK(copy(copy_frames(from, 0, to, 0, 65535)) < 0);
    CHECK_EQ(b[0] | b[1] | b[4095], 0);
    page_free(a);
    page_free(b);
}

TEST(copy_frames_not_ours)
{
    u8 *a = page_alloc();
    word mine = virt_to_mfn(a), other = foreign_frame(0), l1 = virt_to_mfn(table_of(window(0), 1));
    GUEST(gnttab_copy) op = copy_frames(mine, 0, mine, 0, 8);

    CHECK(copy(copy_frames(other, 0, mine, 0, 8)) < 0);
    CHECK(copy(copy_frames(mine, 0, other, 0, 8)) < 0);
    CHECK(copy(copy_frames(mine, 0, ~0UL, 0, 8)) < 0);
    CHECK(copy(copy_frames(mine, 0, l1, 0, 8)) < 0); /* never into a page table */
    op.dest.domid = NO_DOMAIN; /* a frame number, not a grant */
    CHECK(copy(op) < 0);
    page_free(a);
}

TEST(copy_batch)
{
    u8 *a = page_alloc(), *b = page_alloc();
    static GUEST(gnttab_copy) ops[64];

    memset(a, 0x44, 4096);
    for (unsigned i = 0; i < 64; i++)
        ops[i] = copy_frames(virt_to_mfn(a), i * 64, virt_to_mfn(b), i * 64, i == 30 ? 5000 : 64);
    CHECK_OK(grant_table_op(GNTTABOP_copy, ops, 64)); /* a bad one stops no other */
    CHECK_EQ(ops[29].status, GNTST_okay);
    CHECK(ops[30].status < 0);
    CHECK_EQ(ops[63].status, GNTST_okay);
    CHECK_EQ(b[63 * 64], 0x44);
    CHECK_EQ(b[30 * 64], 0);
    page_free(a);
    page_free(b);
}

/*
 * One number in turns as a reference and as a frame's, on either side: what the last operation had says nothing of this one, and a frame by
 * its number is the caller's own alone.
 */
IN_BOTH_VERSIONS(numbers_and_references_in_a_batch)
{
    u8 *theirs = page_alloc(), *mine = page_alloc();
    word frame = virt_to_mfn(mine);
    static GUEST(gnttab_copy) ops[8];
    /* Is the number a reference, a frame of self's (our own id), or one of ours (DOMID_SELF)? */
    enum { REF, OF_SELF, OURS };
    static const u8 kinds[8] = { REF, OF_SELF, REF, OURS, REF, OURS, OF_SELF, REF };

    grant(FIRST_REF, self, virt_to_mfn(theirs), 0);
    for (unsigned side = 0; side < 2; side++) {
        memset(theirs, side ? 0 : 0x61, 4096);
        memset(mine, side ? 0x61 : 0, 4096);
        for (unsigned i = 0; i < 8; i++) {
            struct { typeof(ops->source) *p; u16 flag; } at = { side ? &ops[i].dest : &ops[i].source,
                                                                side ? GNTCOPY_dest_gref : GNTCOPY_source_gref };

            ops[i] = copy_frames(frame, i * 16, frame, i * 16, 16);
            at.p->u = FIRST_REF;
            at.p->domid = kinds[i] == OURS ? DOMID_SELF : self;
            ops[i].flags = kinds[i] == REF ? at.flag : 0;
            ops[i].status = 99;
        }
        CHECK_OK(grant_table_op(GNTTABOP_copy, ops, 8));
        for (unsigned i = 0; i < 8; i++) {
            CHECK_EQ(ops[i].status == GNTST_okay, kinds[i] == REF);
            CHECK_EQ((side ? theirs : mine)[i * 16], kinds[i] == REF ? 0x61 : 0);
        }
        CHECK_EQ(uses(FIRST_REF), 0);
    }
    /* The other way round: our frame's number is no reference, though it was just a frame's. */
    ops[0] = copy_frames(frame, 0, frame, 64, 16);
    ops[1] = ops[2] = ops[0];
    ops[1].flags = GNTCOPY_source_gref;
    ops[1].source.domid = self;
    ops[2].flags = GNTCOPY_dest_gref;
    CHECK_OK(grant_table_op(GNTTABOP_copy, ops, 3));
    CHECK_EQ(ops[0].status, GNTST_okay);
    CHECK(ops[1].status < 0 && ops[2].status < 0);
    end_grant(FIRST_REF);
    page_free(theirs);
    page_free(mine);
}

/* ---- Versions ---- */

static u32 version_of(domid_t dom)
{
    struct gnttab_get_version op = { .dom = dom };

    return CHECK_OK(grant_table_op(GNTTABOP_get_version, &op, 1)) ? op.version : 0;
}

TEST(versions)
{
    struct gnttab_get_version get = { .dom = NO_DOMAIN };

    REQUIRE(use_version(1));
    CHECK_OK(set_version(1));
    CHECK_EQ(version_of(DOMID_SELF), 1);
    CHECK_SAYS(EINVAL, "expected 1 or 2", set_version(0));
    CHECK_SAYS(EINVAL, "expected 1 or 2", set_version(3));
    CHECK_SAYS(EINVAL, "expected 1 or 2", set_version(~0u));
    CHECK_REFUSED(grant_table_op(GNTTABOP_get_version, &get, 1));
    CHECK_REFUSED(grant_table_op(GNTTABOP_set_version, (void *)format.hv_start, 1));
    REQUIRE(use_version(2));
    CHECK_EQ(version_of(DOMID_SELF), 2);
    CHECK_OK(set_version(2));
}

/* There and back: what the toolstack put into the first entries is kept, all others are empty. */
TEST(version_keeps_first_entries)
{
    u32 *page = page_alloc();
    u16 of_console = 0;

    for (u32 i = 0; i < 4; i++) {
        REQUIRE(use_version(1 + i % 2));
        if (i == 0)
            of_console = flags(GNTTAB_RESERVED_CONSOLE);
        CHECK_EQ(flags(GNTTAB_RESERVED_CONSOLE), of_console);
        if (i == 0)
            grant(7, NO_DOMAIN, virt_to_mfn(page), GTF_readonly);
        CHECK_EQ(flags(7), GTF_permit_access | GTF_readonly);
        CHECK_EQ(header(7)->domid, NO_DOMAIN);
        CHECK_EQ(frame_of(7), virt_to_mfn(page));
        for (u32 ref = 8; ref < 256; ref++)
            CHECK_EQ(flags(ref), 0);
        grant(8, self, virt_to_mfn(page), 0);
        grant(255, self, virt_to_mfn(page), 0);
    }
    end_grant(7);
    end_grant(8);
    end_grant(255);
    page_free(page);
}

/* What is in use stays, in the version that it is in, whatever its granter writes. */
IN_BOTH_VERSIONS(version_while_mapped)
{
    u32 *page = page_alloc(), was = version;
    struct gnttab_map_grant_ref op;

    grant(8, self, virt_to_mfn(page), 0);
    op = map_self(8, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    end_grant(8);
    if (was == 2)
        status_[8] = 0;
    CHECK_SAYS(EBUSY, "are in use", set_version(3 - was));
    CHECK_EQ(version_of(DOMID_SELF), was);
    *(volatile u32 *)window(0) = 1;
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    REQUIRE(use_version(3 - was));
    page_free(page);
}

/* But for the first ones, whose handles go on. */
IN_BOTH_VERSIONS(version_while_first_is_mapped)
{
    u32 *page = page_alloc(), was = version;
    struct gnttab_map_grant_ref op;

    grant(7, self, virt_to_mfn(page), 0);
    op = map_self(7, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    REQUIRE(use_version(3 - was));
    CHECK_EQ(flags(7), GTF_permit_access | GTF_reading | GTF_writing);
    *(volatile u32 *)window(0) = 7;
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    CHECK_EQ(flags(7), GTF_permit_access);
    CHECK_FAULT(VECTOR_PF, (void)*(volatile u32 *)window(0));
    end_grant(7);
    make_readonly(page); /* no reference stays, and none too many went */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
}

TEST(status_frames)
{
    u64 frames[4] = { 0 };
    word frame;
    GUEST(xen_memory_reservation) give_up = { .extent_start = P(&frame), .nr_extents = 1, .domid = DOMID_SELF };

    REQUIRE(use_version(1));
    CHECK_EQ(get_status_frames(DOMID_SELF, 1, frames).status, GNTST_general_error);
    REQUIRE(use_version(2));
    CHECK_EQ(get_status_frames(DOMID_SELF, 1, frames).status, GNTST_okay);
    CHECK_EQ(frames[0], frame_at(window(202)));
    CHECK_EQ(frames[1], 0);
    frame = (word)frames[0];
    CHECK(get_status_frames(DOMID_SELF, 1000, frames).status < 0);
    CHECK(get_status_frames(DOMID_SELF, ~0u, frames).status < 0);
    CHECK(get_status_frames(NO_DOMAIN, 1, frames).status < 0);
    CHECK(get_status_frames(DOMID_SELF, 1, (u64 *)format.hv_start).status < 0);
    CHECK_SAYS(EBUSY, "still mapped", set_version(1));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, frame, 0)); /* never a page table, and not ours to give away */
    CHECK_REFUSED(set_gdt(&frame, 512));
    CHECK_EQ(memory_op(XENMEM_decrease_reservation, &give_up), 0);
    CHECK_OK(unmap_at(window(202)));
    CHECK_OK(set_version(1));
    REQUIRE_OK(map_at(window(202), frame, PTE_DATA));     /* it is still there, and nobody else's */
    CHECK_OK(set_version(2));
    status_[300] = 5;
    CHECK_EQ(status_[300], 5);
}

/* The guest can write its status: it fools nobody but itself. */
TEST(status_decides_nothing)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref op;

    REQUIRE(use_version(2));
    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    status_[FIRST_REF] = 0xffff;
    op = map_self(FIRST_REF, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    status_[FIRST_REF] = 0;
    make_readonly(page);
    CHECK_REFUSED(pin(page, 1));    /* it is mapped writable */
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    end_grant(FIRST_REF);
    table_free(page);
}

TEST(withdrawn_while_mapped)
{
    u32 *page = page_alloc();
    struct gnttab_map_grant_ref op;

    REQUIRE(use_version(2));
    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    op = map_self(FIRST_REF, window(0), 0);
    REQUIRE(op.status == GNTST_okay);
    end_grant(FIRST_REF);
    CHECK_EQ(status_[FIRST_REF], GTF_reading | GTF_writing);
    CHECK(map_self(FIRST_REF, window(1), GNTMAP_readonly).status < 0);
    CHECK_EQ(unmap_self(window(0), op.handle), GNTST_okay);
    CHECK_EQ(status_[FIRST_REF], 0);
    page_free(page);
}

/* A frame's number has 64 bits: none of the upper ones may get lost. */
TEST(frames_of_64_bits)
{
    u32 *page = page_alloc();

    REQUIRE(use_version(2));
    grant(FIRST_REF, self, virt_to_mfn(page), 0);
    for (unsigned bit = 31; bit < 64; bit++) {
        table2[FIRST_REF].full_page.frame = virt_to_mfn(page) | 1ULL << bit;
        CHECK(map_self(FIRST_REF, window(0), GNTMAP_readonly).status < 0);
        CHECK(map_self(FIRST_REF, window(0), 0).status < 0);
    }
    CHECK_EQ(flags(FIRST_REF), GTF_permit_access);
    end_grant(FIRST_REF);
    page_free(page);
}

/* Bytes of the grant and of the copy: what begins before, ends behind, or only seems to fit as its sum wraps. */
TEST(parts_of_pages)
{
    static const struct { u16 first, bytes, at, nr; bool fits; } tries[] = {
        { 100, 50, 100, 50, true }, { 100, 50, 149, 1, true }, { 100, 50, 99, 2, false }, { 100, 50, 149, 2, false },
        { 100, 50, 0, 4096, false }, { 0, 0, 0, 1, false }, { 0, 4096, 0, 4096, true }, { 65535, 65535, 0, 1, false },
        { 65535, 2, 0, 1, false }, { 1, 65535, 0, 4096, false }, { 1, 65535, 1, 4095, true },
    };
    u8 *theirs = page_alloc(), *mine = page_alloc();

    REQUIRE(use_version(2));
    grant(FIRST_REF, self, virt_to_mfn(theirs), GTF_sub_page);
    for (unsigned i = 0; i < ARRAY_SIZE(tries); i++) {
        GUEST(gnttab_copy) from = copy_frames(FIRST_REF, tries[i].at, virt_to_mfn(mine), 0, tries[i].nr);
        GUEST(gnttab_copy) to = copy_frames(virt_to_mfn(mine), 0, FIRST_REF, tries[i].at, tries[i].nr);

        table2[FIRST_REF].sub_page.page_off = tries[i].first;
        table2[FIRST_REF].sub_page.length = tries[i].bytes;
        from.source.domid = to.dest.domid = self;
        from.flags = GNTCOPY_source_gref;
        to.flags = GNTCOPY_dest_gref;
        memset(theirs, 0x55, 4096);
        memset(mine, 0xaa, 4096);
        CHECK_EQ(copy(from), tries[i].fits ? GNTST_okay : GNTST_general_error);
        CHECK_EQ(mine[0], tries[i].fits ? 0x55 : 0xaa);
        mine[0] = 0xaa;
        CHECK_EQ(copy(to), tries[i].fits ? GNTST_okay : GNTST_general_error);
        CHECK_EQ(theirs[tries[i].at], tries[i].fits ? 0xaa : 0x55);
        CHECK_EQ(flags(FIRST_REF), GTF_permit_access | GTF_sub_page);
    }
    CHECK(map_self(FIRST_REF, window(0), GNTMAP_readonly).status < 0);
    CHECK(map_self(FIRST_REF, window(0), 0).status < 0);
    end_grant(FIRST_REF);
    page_free(theirs);
    page_free(mine);
}

/* A part that was copied just now opens no other to the next operation. */
TEST(parts_of_pages_in_a_batch)
{
    u8 *theirs = page_alloc(), *mine = page_alloc();
    GUEST(gnttab_copy) ops[3];

    REQUIRE(use_version(2));
    grant(FIRST_REF, self, virt_to_mfn(theirs), GTF_sub_page);
    table2[FIRST_REF].sub_page.page_off = 100;
    table2[FIRST_REF].sub_page.length = 50;
    memset(theirs, 0x55, 4096);
    for (unsigned i = 0; i < 3; i++) {
        ops[i] = copy_frames(FIRST_REF, i == 1 ? 0 : 100, virt_to_mfn(mine), i == 1 ? 0 : 100, i == 1 ? 4096 : 50);
        ops[i].source.domid = self;
        ops[i].flags = GNTCOPY_source_gref;
        ops[i].status = 99;
    }
    CHECK_OK(grant_table_op(GNTTABOP_copy, ops, 3));
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(ops[i].status, i == 1 ? GNTST_general_error : GNTST_okay);
    CHECK_EQ(mine[0], 0);
    CHECK_EQ(mine[100], 0x55);
    end_grant(FIRST_REF);
    page_free(theirs);
    page_free(mine);
}

/* A grant that leads to another, to itself, or in a circle. */
TEST(transitive)
{
    u8 *mine = page_alloc(), *theirs = page_alloc();
    GUEST(gnttab_copy) op = copy_frames(FIRST_REF, 0, virt_to_mfn(mine), 0, 16);
    static const unsigned leads_to[] = { FIRST_REF + 2, FIRST_REF, FIRST_REF + 1 };

    REQUIRE(use_version(2));
    grant(FIRST_REF + 2, self, virt_to_mfn(theirs), 0);
    op.source.domid = self;
    op.flags = GNTCOPY_source_gref;
    for (unsigned i = 0; i < ARRAY_SIZE(leads_to); i++) {
        for (unsigned k = 0; k < 2; k++) {
            table2[FIRST_REF + k].transitive.trans_domid = i ? DOMID_SELF : self;
            table2[FIRST_REF + k].transitive.gref = k ? FIRST_REF : leads_to[i];
            table2[FIRST_REF + k].hdr.domid = self;
            table2[FIRST_REF + k].hdr.flags = GTF_transitive;
        }
        CHECK_SAYS(-GNTST_general_error, "transitive grants are not offered", copy(op));
        CHECK(map_self(FIRST_REF, window(0), GNTMAP_readonly).status < 0);
        CHECK_EQ(flags(FIRST_REF), GTF_transitive);
    }
    for (unsigned k = 0; k < 3; k++)
        end_grant(FIRST_REF + k);
    page_free(mine);
    page_free(theirs);
}

/* What version 1 has no words for, in an entry that would have to be kept. */
TEST(version_cannot_be_said)
{
    static const u16 bad[] = { GTF_permit_access | GTF_sub_page, GTF_transitive, GTF_permit_access };

    REQUIRE(use_version(2));
    CHECK_OK(unmap_at(window(202)));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        table2[7].full_page.frame = 1ULL << (i == 2 ? 32 : 0);
        table2[7].hdr.flags = bad[i];
        CHECK_SAYS(ERANGE, "cannot be said in version 1", set_version(1));
        CHECK_EQ(table2[7].hdr.flags, bad[i]);
    }
    table2[7].hdr.flags = 0;
    CHECK_OK(set_version(1));
    REQUIRE(use_version(2));
}

/* ---- Two CPUs ---- */

static volatile bool changer_stops;
static volatile u32 changes;

/* The other vCPU: changes the version all the time. */
static void change_versions(void)
{
    for (u32 to = 1; !changer_stops; to = 3 - to) {
        struct gnttab_set_version op = { .version = to };
        long rc = grant_table_op(GNTTABOP_set_version, &op, 1);

        if (rc == 0)
            changes++;
        else if (rc != -EBUSY)
            changes = ~0u;
    }
    changer_stops = false;
    for (;;)
        sched_op(SCHEDOP_yield, NULL);
}

/*
 * Grants are mapped and copied while another CPU changes the version under them, so that entries come and go: what succeeded
 * is undone by its handle, and in the end no reference is left or missing.
 */
TEST(version_changes_under_users)
{
    u8 *page = page_alloc(), *mine = page_alloc();
    GUEST(gnttab_copy) op = copy_frames(8, 0, virt_to_mfn(mine), 0, 16);
    unsigned mapped = 0, copied = 0;

    if (vcpu_op(VCPUOP_is_up, 1, NULL) < 0)
        SKIP("one vCPU is all");
    REQUIRE(use_version(2));
    CHECK_OK(unmap_at(window(202)));
    op.source.domid = self;
    op.flags = GNTCOPY_source_gref;
    REQUIRE_OK(vcpu_op(VCPUOP_initialise, 1, vcpu_context(1, change_versions)));
    REQUIRE_OK(vcpu_op(VCPUOP_up, 1, NULL));
    for (unsigned i = 0; i < 1000 || (changes < 100 && i < 1000000); i++) {
        struct gnttab_map_grant_ref map;
        u32 ref = 7 + i % 2;

        /* Whichever of the two it is now, one of these makes it an entry that grants the page. */
        table[ref].frame = (u32)virt_to_mfn(page);
        table[ref].domid = self;
        table[ref].flags = GTF_permit_access;
        table2[ref].full_page.frame = virt_to_mfn(page);
        table2[ref].hdr.domid = self;
        table2[ref].hdr.flags = GTF_permit_access;
        op.source.u = ref;
        copied += copy(op) == GNTST_okay;
        map = map_self(ref, window(0), i % 3 ? GNTMAP_readonly : 0);
        if (map.status != GNTST_okay)
            continue;
        mapped++;
        CHECK_EQ(unmap_self(window(0), map.handle), GNTST_okay);
    }
    changer_stops = true;
    while (read_once(changer_stops))
        sched_op(SCHEDOP_yield, NULL);
    CHECK_OK(vcpu_op(VCPUOP_down, 1, NULL));
    printf("     %u changes, %u mapped, %u copied\n", changes, mapped, copied);
    CHECK(changes >= 100 && changes != ~0u);
    CHECK(mapped && copied);
    version = version_of(DOMID_SELF);
    if (version == 2)
        CHECK_OK(set_version(1));
    for (u32 ref = 7; ref <= 8; ref++)
        end_grant(ref);
    make_readonly(page); /* no reference stays, and none too many went */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
    page_free(mine);
}

/* ---- The rest ---- */

TEST(transfer_bad)
{
    void *page = page_alloc();
    GUEST(gnttab_transfer) op = { .mfn = virt_to_mfn(page), .domid = NO_DOMAIN, .ref = FIRST_REF, .status = 99 };

    (void)grant_table_op(GNTTABOP_transfer, &op, 1);
    CHECK(op.status != GNTST_okay);
    *(volatile word *)page = 1; /* still ours */
    CHECK_EQ(m2p_raw(virt_to_mfn(page)), virt_to_pfn(page));
    op = (GUEST(gnttab_transfer)){ .mfn = foreign_frame(0), .domid = NO_DOMAIN, .status = 99 };
    (void)grant_table_op(GNTTABOP_transfer, &op, 1);
    CHECK(op.status != GNTST_okay);
    page_free(page);
}

IN_BOTH_VERSIONS(swap)
{
    struct gnttab_swap_grant_ref op = { .ref_a = FIRST_REF, .ref_b = FIRST_REF + 1, .status = 99 };

    grant(FIRST_REF, self, 111, 0);
    grant(FIRST_REF + 1, self, 222, GTF_readonly);
    CHECK_OK(grant_table_op(GNTTABOP_swap_grant_ref, &op, 1));
    if (op.status == GNTST_okay) {
        CHECK_EQ(frame_of(FIRST_REF), 222);
        CHECK_EQ(frame_of(FIRST_REF + 1), 111);
    }
    op.ref_b = 0x7fffffff;
    (void)grant_table_op(GNTTABOP_swap_grant_ref, &op, 1);
    CHECK(op.status < 0);
    end_grant(FIRST_REF);
    end_grant(FIRST_REF + 1);
}

TEST(bad_counts)
{
    struct gnttab_query_size op = { .dom = DOMID_SELF };

    CHECK_REFUSED(grant_table_op(GNTTABOP_query_size, &op, 0x80000000));
    CHECK_REFUSED(grant_table_op(GNTTABOP_copy, window(0), 1));
    CHECK_REFUSED(grant_table_op(GNTTABOP_map_grant_ref, window(0), 1000));
    CHECK_OK(grant_table_op(GNTTABOP_copy, NULL, 0));
    CHECK_REFUSED(grant_table_op(55, &op, 1));
}

IN_BOTH_VERSIONS(grow)
{
    struct gnttab_query_size size = { .dom = DOMID_SELF };
    static word frames[64];

    CHECK_OK(grant_table_op(GNTTABOP_query_size, &size, 1));
    if (size.max_nr_frames < 2)
        SKIP("one frame is all");
    REQUIRE(setup_table(DOMID_SELF, 2, P(frames)) == GNTST_okay);
    REQUIRE_OK(map_at(window(201), frames[1], PTE_DATA));
    CHECK_EQ(*(volatile word *)window(201), 0);
    CHECK_OK(grant_table_op(GNTTABOP_query_size, &size, 1));
    CHECK(size.nr_frames >= 2);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, frames[1], 0)); /* never a page table */
    CHECK_OK(unmap_at(window(201)));
}

/* ---- Cache lines ---- */

static long cache_flush(u64 address, u16 offset, u16 length, u32 what)
{
    struct gnttab_cache_flush op = { .a.dev_bus_addr = address, .offset = offset, .length = length, .op = what };

    return grant_table_op(GNTTABOP_cache_flush, &op, 1);
}

/* Our own frames, and others' that we have mapped; ours is what it was. */
TEST(cache_flush)
{
    u32 *page = page_alloc();
    u64 address = (u64)virt_to_mfn(page) << 12;

    page[1023] = 4711;
    CHECK_OK(cache_flush(address, 0, 4096, GNTTAB_CACHE_CLEAN));
    CHECK_OK(cache_flush(address, 4092, 4, GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL));
    CHECK_EQ(page[1023], 4711);
    CHECK_OK(cache_flush(address, 0, 0, GNTTAB_CACHE_CLEAN));
    CHECK_OK(cache_flush(address, 0, 64, 0));
    CHECK_EQ(cache_flush(address, 0, 64, GNTTAB_CACHE_INVAL), -EOPNOTSUPP);
    CHECK_EQ(cache_flush(address, 0, 64, GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_SOURCE_GREF), -EOPNOTSUPP);
    CHECK_EQ(cache_flush(address, 4090, 64, GNTTAB_CACHE_CLEAN), -EINVAL);
    CHECK_EQ(cache_flush(address, 4096, 0, GNTTAB_CACHE_CLEAN), -EINVAL);
    CHECK_EQ(cache_flush(address, 0, 64, 4), -EINVAL);
    CHECK_EQ(cache_flush((u64)foreign_frame(0) << 12, 0, 64, GNTTAB_CACHE_CLEAN), -EPERM);
    CHECK_EQ(cache_flush(~0ULL, 0, 64, GNTTAB_CACHE_CLEAN), -EINVAL);
    page_free(page);
}
