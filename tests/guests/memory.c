/* memory_op: giving frames back and taking new ones, exchanging them, and what the tables say of them. */
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"
#include "test.h"

#define NO_DOMAIN 0x1234
#define N 32

static word extents[N];

static GUEST(xen_memory_reservation) reservation(word *list, word count, unsigned order)
{
    return (GUEST(xen_memory_reservation)){ .extent_start = P(list), .nr_extents = count, .extent_order = order,
                                            .domid = DOMID_SELF };
}

static long reserve(unsigned cmd, word *list, word count, unsigned order)
{
    GUEST(xen_memory_reservation) r = reservation(list, count, order);

    return memory_op(cmd, &r);
}

static long current_pages(void)
{
    struct xen_memory_domain op = { .domid = DOMID_SELF };

    return memory_op(XENMEM_current_reservation, &op);
}

static long maximum_pages(void)
{
    struct xen_memory_domain op = { .domid = DOMID_SELF };

    return memory_op(XENMEM_maximum_reservation, &op);
}

/* Gives back the last n frames of our memory. */
static bool balloon_down(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        extents[i] = p2m[spare_pfn(i)];
    return CHECK_EQ(reserve(XENMEM_decrease_reservation, extents, n, 0), n);
}

static bool balloon_up(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        extents[i] = spare_pfn(i);
    if (!CHECK_EQ(reserve(XENMEM_populate_physmap, extents, n, 0), n))
        return false;
    for (unsigned i = 0; i < n; i++)
        p2m[spare_pfn(i)] = extents[i];
    return true;
}

/* m2p and p2m are each other's inverse over all our memory. */
TEST(tables_agree)
{
    unsigned wrong = 0;

    for (word pfn = 0; pfn < start_info->nr_pages; pfn++)
        wrong += m2p_raw(p2m[pfn]) != pfn;
    CHECK_EQ(wrong, 0);
}

TEST(reservation_size)
{
    struct xen_memory_domain op = { .domid = NO_DOMAIN };

    CHECK(current_pages() >= (long)start_info->nr_pages);
    CHECK(maximum_pages() >= current_pages());
    CHECK_REFUSED(memory_op(XENMEM_current_reservation, &op));
    CHECK_REFUSED(memory_op(XENMEM_maximum_reservation, &op));
    CHECK(memory_op(XENMEM_maximum_ram_page, NULL) > 0);
    CHECK_EQ(memory_op(XENMEM_get_sharing_freed_pages, NULL), 0);
    CHECK_EQ(memory_op(XENMEM_get_sharing_shared_pages, NULL), 0);
}

TEST(balloon)
{
    long before = current_pages();
    volatile word *va = window(0);

    REQUIRE(balloon_down(N));
    CHECK_EQ(current_pages(), before - N);
    CHECK_REFUSED(map_at(va, extents[0], PTE_READ));
    REQUIRE(balloon_up(N));
    CHECK_EQ(current_pages(), before);
    for (unsigned i = 0; i < N; i++) {
        CHECK_EQ(m2p_raw(extents[i]), spare_pfn(i));
        CHECK_OK(map_at(va, extents[i], PTE_DATA));
        CHECK_EQ(va[0] | va[100] | va[511], 0); /* nobody's old data; we never wrote to these */
    }
    CHECK_OK(unmap_at(va));
}

TEST(decrease_bad)
{
    long before = current_pages();

    extents[0] = foreign_frame(0);
    CHECK(reserve(XENMEM_decrease_reservation, extents, 1, 0) <= 0);
    extents[0] = ~0UL;
    CHECK(reserve(XENMEM_decrease_reservation, extents, 1, 0) <= 0);
    extents[0] = p2m[spare_pfn(0)];
    extents[1] = foreign_frame(1);
    CHECK_EQ(reserve(XENMEM_decrease_reservation, extents, 2, 0), 1); /* as far as it went */
    CHECK_EQ(current_pages(), before - 1);
    REQUIRE(balloon_up(1));
    CHECK(reserve(XENMEM_decrease_reservation, extents, 1, 40) <= 0);
    CHECK(reserve(XENMEM_decrease_reservation, extents, 1, 64) <= 0);
    CHECK(reserve(XENMEM_decrease_reservation, extents, 1, ~0u) <= 0);
    CHECK(reserve(XENMEM_decrease_reservation, (word *)format.hv_start, 1, 0) <= 0);
    CHECK(reserve(XENMEM_decrease_reservation, window(0), 1, 0) <= 0);
    CHECK(reserve(XENMEM_decrease_reservation, window(0), ~0UL, 0) <= 0);
    CHECK_EQ(current_pages(), before);
}

TEST(populate_bad)
{
    static const unsigned orders[] = { 20, 30, 31, 32, 52, 63, 64, ~0u };
    long before = current_pages();

    extents[0] = spare_pfn(0);
    for (unsigned i = 0; i < ARRAY_SIZE(orders); i++) {
        CHECK(reserve(XENMEM_populate_physmap, extents, 1, orders[i]) <= 0);
        CHECK(reserve(XENMEM_increase_reservation, extents, 1, orders[i]) <= 0);
    }
    CHECK(reserve(XENMEM_populate_physmap, (word *)format.hv_start, 1, 0) <= 0);
    CHECK(reserve(XENMEM_populate_physmap, window(0), 1, 0) <= 0);
    CHECK(reserve(XENMEM_populate_physmap, window(0), ~0UL, 0) <= 0);
    CHECK(reserve(XENMEM_increase_reservation, (word *)format.hv_start, 1, 0) <= 0);
    for (unsigned bit = 0; bit < 32; bit++) {   /* flags and nodes that are none, widths that are too small */
        GUEST(xen_memory_reservation) r = reservation((word *)format.hv_start, 1, 0);

        r.mem_flags = 1U << bit;
        CHECK(memory_op(XENMEM_populate_physmap, &r) <= 0);
        CHECK(memory_op(XENMEM_increase_reservation, &r) <= 0);
        CHECK(memory_op(XENMEM_decrease_reservation, &r) <= 0);
    }
    CHECK_EQ(reserve(XENMEM_populate_physmap, NULL, 0, 0), 0);
    CHECK_EQ(current_pages(), before);
}

TEST(other_domain)
{
    GUEST(xen_memory_reservation) r = reservation(extents, 1, 0);

    extents[0] = p2m[spare_pfn(0)];
    r.domid = NO_DOMAIN;
    CHECK(memory_op(XENMEM_decrease_reservation, &r) <= 0);
    CHECK(memory_op(XENMEM_increase_reservation, &r) <= 0);
    CHECK(memory_op(XENMEM_populate_physmap, &r) <= 0);
    r.domid = DOMID_XEN;
    CHECK(memory_op(XENMEM_decrease_reservation, &r) <= 0);
}

TEST(beyond_maximum)
{
    long room = maximum_pages() - current_pages();

    if (room > 4096)
        SKIP("no maximum near");
    while (room-- > 0) {
        extents[0] = spare_pfn(0);
        if (reserve(XENMEM_increase_reservation, extents, 1, 0) != 1)
            SKIP("memory is short");
    }
    CHECK(reserve(XENMEM_increase_reservation, extents, 1, 0) <= 0);
    CHECK_EQ(current_pages(), maximum_pages());
}

TEST(increase)
{
    long before = current_pages();

    REQUIRE(balloon_down(1));
    extents[0] = 0;
    REQUIRE(reserve(XENMEM_increase_reservation, extents, 1, 0) == 1);
    CHECK(extents[0] != 0);
    CHECK_EQ(current_pages(), before);
    CHECK_OK(map_at(window(0), extents[0], PTE_DATA));
    CHECK_OK(unmap_at(window(0)));
    CHECK_EQ(reserve(XENMEM_decrease_reservation, extents, 1, 0), 1);
    REQUIRE(balloon_up(1));
}

TEST(address_bits)
{
    GUEST(xen_memory_reservation) r = reservation(extents, 1, 0);

    REQUIRE(balloon_down(1));
    extents[0] = spare_pfn(0);
    r.mem_flags = XENMEMF_address_bits(13); /* the first two frames */
    CHECK(memory_op(XENMEM_populate_physmap, &r) <= 0);
    extents[0] = spare_pfn(0);
    r.mem_flags = XENMEMF_address_bits(32);
    REQUIRE(memory_op(XENMEM_populate_physmap, &r) == 1);
    CHECK(extents[0] < 1UL << 20);
    p2m[spare_pfn(0)] = extents[0];
}

/* ---- Exchange ---- */

static GUEST(xen_memory_exchange) exchange_of(word *in, word n_in, unsigned order_in, word *out, word n_out,
                                              unsigned order_out)
{
    return (GUEST(xen_memory_exchange)){ .in = reservation(in, n_in, order_in),
                                         .out = reservation(out, n_out, order_out) };
}

/* Frames handed in, numbers wanted back: all of the spare end of memory. */
static void exchange_lists(word *in, word *out, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        in[i] = p2m[spare_pfn(i)];
        out[i] = spare_pfn(i);
    }
}

TEST(exchange_one)
{
    word in[4], out[4];
    GUEST(xen_memory_exchange) x = exchange_of(in, 4, 0, out, 4, 0);
    long before = current_pages();

    exchange_lists(in, out, 4);
    REQUIRE_OK(memory_op(XENMEM_exchange, &x));
    CHECK_EQ(x.nr_exchanged, 4);
    CHECK_EQ(current_pages(), before);
    for (unsigned i = 0; i < 4; i++) {
        p2m[spare_pfn(i)] = out[i];
        CHECK_EQ(m2p_raw(out[i]), spare_pfn(i));
        CHECK_OK(map_at(window(i), out[i], PTE_DATA));
        CHECK_OK(unmap_at(window(i)));
    }
}

TEST(exchange_for_contiguous)
{
    word in[4], out[1], base = spare_pfn(3);
    GUEST(xen_memory_exchange) x = exchange_of(in, 4, 0, out, 1, 2);

    for (unsigned i = 0; i < 4; i++)
        in[i] = p2m[base + i];
    out[0] = base;
    REQUIRE_OK(memory_op(XENMEM_exchange, &x));
    CHECK_EQ(x.nr_exchanged, 4);
    CHECK_EQ(out[0] & 3, 0);
    for (unsigned i = 0; i < 4; i++) {
        p2m[base + i] = out[0] + i;
        CHECK_EQ(m2p_raw(out[0] + i), base + i);
    }
}

TEST(exchange_bad)
{
    word in[2], out[2];
    GUEST(xen_memory_exchange) x;
    long before = current_pages();

    exchange_lists(in, out, 2);
    x = exchange_of(in, 2, 0, out, 2, 1); /* sizes differ */
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    x = exchange_of(in, 2, 0, out, 2, 0);
    x.out.domid = NO_DOMAIN;
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    x = exchange_of(in, 2, 0, out, 2, 0);
    x.nr_exchanged = 3; /* more than there are */
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    x = exchange_of(in, 1, 64, out, 1, 64);
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    x = exchange_of((word *)format.hv_start, 1, 0, out, 1, 0);
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    in[0] = foreign_frame(0);
    x = exchange_of(in, ~0UL, 0, out, ~0UL, 0);
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    x = exchange_of(in, 1, 0, out, 1, 0);
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    CHECK_EQ(x.nr_exchanged, 0);
    CHECK_EQ(current_pages(), before);
    x = exchange_of(in, 1, 0, out, (word)(~0ULL >> 15), 0);
    if (sizeof(word) == 8)
        CHECK_SAYS(EINVAL, "extents, at most", memory_op(XENMEM_exchange, &x));
}

/* A frame that is mapped, or is a page table, stays with us. */
TEST(exchange_in_use)
{
    word in[1], out[1] = { spare_pfn(0) };
    GUEST(xen_memory_exchange) x = exchange_of(in, 1, 0, out, 1, 0);
    void *page = page_alloc();

    in[0] = virt_to_mfn(page);
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    *(volatile word *)page = 5;
    CHECK_EQ(*(volatile word *)page, 5);
    in[0] = virt_to_mfn(table_of(window(0), 1));
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    in[0] = current_base();
    CHECK_REFUSED(memory_op(XENMEM_exchange, &x));
    CHECK_OK(map_at(window(0), virt_to_mfn(page), PTE_READ));
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* ---- Maps ---- */

TEST(memory_maps)
{
    static struct e820entry map[E820MAX];
    GUEST(xen_memory_map) arg = { .nr_entries = E820MAX, .buffer = P(map) };

    if (is_dom0()) {
        CHECK_OK(memory_op(XENMEM_machine_memory_map, &arg));
        CHECK(arg.nr_entries > 1);
        CHECK_EQ(map[0].addr, 0);
        arg = (GUEST(xen_memory_map)){ .nr_entries = E820MAX, .buffer = format.hv_start + 0x2000000 };
        CHECK_REFUSED(memory_op(XENMEM_machine_memory_map, &arg));
        arg = (GUEST(xen_memory_map)){ .nr_entries = E820MAX, .buffer = P(window(0)) };
        CHECK_REFUSED(memory_op(XENMEM_machine_memory_map, &arg));
    } else {
        CHECK_REFUSED(memory_op(XENMEM_machine_memory_map, &arg));
        CHECK_OK(memory_op(XENMEM_memory_map, &arg));
        CHECK(arg.nr_entries >= 1);
    }
}

TEST(machphys)
{
    GUEST(xen_machphys_mapping) m;
    word list[2] = { 0 };
    GUEST(xen_machphys_mfn_list) frames = { .max_extents = 1, .extent_start = P(list) };

    CHECK_OK(memory_op(XENMEM_machphys_mapping, &m));
    CHECK_EQ(m.v_start, format.m2p_start);
    CHECK(m.v_end > m.v_start);
    if (memory_op(XENMEM_machphys_mfn_list, &frames) == 0) {
        CHECK(frames.nr_extents <= 1);
        CHECK_EQ(list[1], 0);
    }
}

/* By this the tools tell, of a level-2 table, our entries from the guest's when they save it. Any value says so for a guest of 64 bits. */
TEST(machphys_of_pae)
{
    word list[2] = { 0 };
    GUEST(xen_machphys_mfn_list) frames = { .max_extents = 1, .extent_start = P(list) };

    CHECK_OK(memory_op(XENMEM_machphys_compat_mfn_list, &frames));
    CHECK_EQ(frames.nr_extents, 1);
    CHECK_EQ(list[1], 0);
#ifdef FORMAT_PT32P
    CHECK_EQ(list[0], pte_mfn(*(u64 *)hypervisor_entry()));
#endif
}

/* Calls for translated guests mean nothing here. */
TEST(physmap_refused)
{
    GUEST(xen_add_to_physmap) add = { .domid = DOMID_SELF, .space = XENMAPSPACE_gmfn, .idx = p2m[spare_pfn(0)] };
    GUEST(xen_remove_from_physmap) remove = { .domid = DOMID_SELF, .gpfn = p2m[spare_pfn(0)] };
    struct xen_memory_domain top = { .domid = NO_DOMAIN };
    long before = current_pages();

    (void)memory_op(XENMEM_add_to_physmap, &add);
    (void)memory_op(XENMEM_remove_from_physmap, &remove);
    CHECK_REFUSED(memory_op(XENMEM_maximum_gpfn, &top));
    CHECK_REFUSED(memory_op(55, &top));
    CHECK(current_pages() <= before);
    if (current_pages() < before)
        CHECK(balloon_up(1));
}

/*
 * The first MiB is the machine's, RAM or not: dom0 finds firmware's data there, and an old kernel maps all of it at once. Only the page
 * where CPUs start is nobody's to write; a domU gets nothing of it.
 */
TEST(first_mib)
{
    volatile word *va = window(0);
    unsigned mapped = 0, writable = 0;

    for (word mfn = 0; mfn < 0x100; mfn++) {
        if (map_at(va, mfn, PTE_READ))
            continue;
        CHECK_NO_FAULT((void)va[0]);
        mapped++;
        CHECK_OK(map_at(va, mfn, PTE_DATA));
        writable += (entry_of(va, 1) & PTE_RW) != 0;
    }
    CHECK_EQ(mapped, is_dom0() ? 0x100 : 0);
    CHECK_EQ(writable, is_dom0() ? 0xff : 0);
    CHECK_OK(unmap_at(va));
}
