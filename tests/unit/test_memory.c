/*
 * memory_op: what the commands do to a domain's frames, the limits on what a guest can ask for, giving way
 * and going on. Runs for both word sizes.
 */
// SOURCES: common/memory/op.c common/memory/claim.c common/memory/reservation.c common/memory/exchange.c common/domain/rights.c
// SOURCES: common/memory/query.c common/memory/resource.c common/abi.c arch/x86/pt/format.c
// SOURCES: tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <asm/mm.h>
#include <public/memory.h>
#include <public/errno.h>
#include <pvisor/gnttab.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include "fake/fake.h"

/* --- What the fake machine lacks ------------------------------------------------------------------ */

struct e820_entry host_e820[E820_MAX] = { { 0, 0x9f000, 1 }, { 0x100000, 0x1f00000, 1 } };
unsigned host_e820_nr = 2;
static u64 m2p[FAKE_NR_FRAMES];
static u64 heap_limit = FAKE_NR_FRAMES, claimed;
static unsigned nr_allocations = ~0u;   /* before memory runs out */

/* What a frame is to its owner is said while nobody can give it up. */
void m2p_set(mfn_t m, u64 gpfn)
{
    assert_true(fake_frame(m)->used && !fake_frame(m)->refs);
    m2p[m.v - FAKE_FIRST_MFN] = gpfn;
}

u64 heap_free_frames(void)
{
    u64 used = 0;

    for (unsigned i = 0; i < FAKE_NR_FRAMES; i++)
        used += fake_frames[i].used;
    return heap_limit - used;
}

bool heap_claim(u64 *claim, u64 nr)
{
    if (nr && nr + claimed - *claim > heap_free_frames())
        return false;
    claimed += nr - *claim;
    *claim = nr;
    return true;
}

u64 claimed_frames(void) { return claimed; }

/* Runs of any order, aligned to their size, and accounted; d's claim plays no role here. */
mfn_t domain_alloc_frames(struct domain *d, unsigned order, unsigned flags)
{
    u64 n = 1UL << order, i, j;
    bool withdrawn = flags & MEMF_WITHDRAWN;

    if (!(flags & (MEMF_NO_COUNT | MEMF_REPLACES)) && d->tot_pages + n > d->max_pages)
        return INVALID_MFN;
    if (!nr_allocations)
        return INVALID_MFN;
    nr_allocations--;
    for (i = 0; i + n <= FAKE_NR_FRAMES; i += n) {
        for (j = 0; j < n && !fake_frames[i + j].used; j++)
            ;
        if (j < n)
            continue;
        for (j = 0; j < n; j++)
            fake_frames[i + j] = (struct fake_frame){ .owner = d->id, .used = true, .allocated = !withdrawn,
                                                      .refs = !withdrawn, .shared = flags & MEMF_NO_COUNT };
        if (!(flags & MEMF_NO_COUNT))
            d->tot_pages += n;
        return mfn(FAKE_FIRST_MFN + i);
    }
    return INVALID_MFN;
}

bool domain_give_up_frame(struct domain *d, mfn_t m)
{
    if (!mfn_valid(m) || fake_frame(m)->shared || !domain_release_frame(d, m))
        return false;
    d->tot_pages--;
    return true;
}

void domain_free_withdrawn(const struct domain *d, mfn_t m)
{
    struct fake_frame *f = fake_frame(m);

    assert_true(f->used && f->owner == d->id && !f->refs && !f->allocated);
    f->used = false;
    ((struct domain *)d)->tot_pages--;
}

int gnttab_get_frame(struct domain *d, u32 idx, mfn_t *m)
{
    (void)d;
    *m = mfn(0x4000 + idx);
    return 0;
}

int gnttab_get_status_frame(struct domain *d, u32 idx, mfn_t *m)
{
    (void)d;
    *m = mfn(0x5000 + idx);
    return 0;
}

/* --- Fixtures --------------------------------------------------------------------------------------- */

static enum abi_word word;
static struct domain *dom, *other;

static int setup_word(enum abi_word w)
{
    word = w;
    fake_reset();
    memset(m2p, 0, sizeof(m2p));
    dom = fake_domain(1, w, 1, false);
    other = fake_domain(2, w, 1, false);
    dom->arch.fmt = other->arch.fmt = &pt_formats[w == ABI_64 ? PT64 : PT32P];
    dom->max_pages = other->max_pages = 2000;
    fake_run(dom, 0);
    return 0;
}

static int setup_64(void **state) { (void)state; return setup_word(ABI_64); }
static int setup_32(void **state) { (void)state; return setup_word(ABI_32); }

static gva_t words(const u64 *v, unsigned n)
{
    gva_t a = fake_guest_alloc(n * 8);

    for (unsigned i = 0; i < n; i++)
        assert_int_equal(guest_write_word(a, i, v ? v[i] : 0x900 + i), 0);
    return a;
}

static u64 word_at(gva_t a, u64 i)
{
    u64 v;

    assert_int_equal(guest_read_word(&v, a, i), 0);
    return v;
}

static s64 reservation(u32 op, gva_t list, u64 nr, u32 order, u32 flags, u16 domid)
{
    struct xen_memory_reservation r = { list.v, nr, order, flags, domid };
    gva_t a = fake_guest_alloc(sizeof(r));

    assert_int_equal(guest_write_abi(xen_memory_reservation, a, &r), 0);
    return fake_hypercall(do_memory_op, op, a.v, 0);
}

/* --- Tests ------------------------------------------------------------------------------------------ */

static void populates_and_gives_back(void **state)
{
    struct fake_usage before = fake_usage(), after;
    gva_t list = words(NULL, 10);

    (void)state;
    fake.preempt_every = 3;
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 10, 0, 0, DOMID_SELF), 10);
    assert_int_equal(dom->tot_pages, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(m2p[word_at(list, i) - FAKE_FIRST_MFN], 0x900 + i);
    assert_int_equal(reservation(XENMEM_decrease_reservation, list, 10, 0, 0, DOMID_SELF), 10);
    assert_int_equal(dom->tot_pages, 0);
    after = fake_usage();
    assert_memory_equal(&before, &after, sizeof(before));
}

static void large_extents_number_every_frame(void **state)
{
    u64 pfn = 0x400;
    gva_t list = words(&pfn, 1);

    (void)state;
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 1, 9, 0, DOMID_SELF), 1);
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(m2p[word_at(list, 0) - FAKE_FIRST_MFN + i], 0x400 + i);
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 1, 10, 0, DOMID_SELF), 0);
}

static void stops_at_the_limit(void **state)
{
    gva_t list = words(NULL, 10);

    (void)state;
    dom->max_pages = 7;
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 10, 0, 0, DOMID_SELF), 7);
    assert_int_equal(word_at(list, 7), 0x907);
    dom->max_pages = 2000;
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 10, 0, 12, DOMID_SELF), 0);
    assert_int_equal(reservation(XENMEM_populate_physmap, gva(8), 1, 0, 0, DOMID_SELF), 0);
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 1ul << 27, 0, 0, DOMID_SELF), 0);
}

static void takes_back_what_the_guest_cannot_be_told(void **state)
{
    gva_t list = words(NULL, 2);

    (void)state;
    fake.writes_before_fault = 2;  /* the first writes the argument */
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 2, 0, 0, DOMID_SELF), 0);
    assert_int_equal(dom->tot_pages, 0);
}

static void only_ones_own(void **state)
{
    u64 foreign = fake_frame_of(other).v, shared = dom->shared_info_mfn.v, none = 0xfffffff0;
    gva_t list = words(NULL, 1);

    (void)state;
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 1, 0, 0, 2), -EPERM);
    assert_int_equal(reservation(XENMEM_populate_physmap, list, 1, 0, 0, 9), 0);
    assert_int_equal(reservation(XENMEM_decrease_reservation, words(&foreign, 1), 1, 0, 0, DOMID_SELF), 0);
    assert_int_equal(reservation(XENMEM_decrease_reservation, words(&shared, 1), 1, 0, 0, DOMID_SELF), 0);
    assert_int_equal(reservation(XENMEM_decrease_reservation, words(&none, 1), 1, 0, 0, DOMID_SELF), 0);
}

static void each_frame_goes_once(void **state)
{
    u64 m = domain_alloc_frames(dom, 0, 0).v, twice[2] = { m, m };

    (void)state;
    assert_int_equal(reservation(XENMEM_decrease_reservation, words(twice, 2), 2, 0, 0, DOMID_SELF), 1);
}

static s64 exchange(struct xen_memory_exchange *x)
{
    gva_t a = fake_guest_alloc(sizeof(*x));
    s64 rc;

    assert_int_equal(guest_write_abi(xen_memory_exchange, a, x), 0);
    rc = fake_hypercall(do_memory_op, XENMEM_exchange, a.v, 0);
    assert_int_equal(guest_read_abi(xen_memory_exchange, x, a), 0);
    return rc;
}

/* New frames of dom's, to be exchanged for two runs of 8. twice: one of the second chunk's is named twice. */
static struct xen_memory_exchange singles_for_runs(const u64 *pfn, bool twice)
{
    u64 in[16];

    for (unsigned i = 0; i < 16; i++)
        in[i] = domain_alloc_frames(dom, 0, 0).v;
    if (twice)
        in[13] = in[12];
    return (struct xen_memory_exchange){
        .in = { words(in, 16).v, 16, 0, 0, DOMID_SELF },
        .out = { words(pfn, 2).v, 2, 3, 0, DOMID_SELF },
    };
}

static void exchanges_singles_for_a_run(void **state)
{
    u64 pfn[2] = { 0x100, 0x200 };
    struct xen_memory_exchange x;

    (void)state;
    x = singles_for_runs(pfn, false);
    dom->max_pages = dom->tot_pages;
    fake.preempt_every = 2;
    assert_int_equal(exchange(&x), 0);
    assert_int_equal(x.nr_exchanged, 16);
    assert_int_equal(dom->tot_pages, 16);
    assert_int_equal(dom->max_pages, 16);
    for (unsigned i = 0; i < 2; i++) {
        u64 m = word_at(gva(x.out.extent_start), i);
        assert_int_equal(m % 8, 0);
        for (unsigned j = 0; j < 8; j++)
            assert_int_equal(m2p[m - FAKE_FIRST_MFN + j], pfn[i] + j);
    }
}

static void a_chunk_is_exchanged_whole_or_not(void **state)
{
    u64 pfn[2] = { 0x100, 0x200 };
    struct xen_memory_exchange x;
    struct fake_usage before, after;

    (void)state;
    x = singles_for_runs(pfn, true);
    before = fake_usage();
    assert_int_equal(exchange(&x), -EINVAL);
    assert_int_equal(x.nr_exchanged, 8);
    assert_int_equal(word_at(gva(x.out.extent_start), 1), 0x200);
    assert_int_equal(dom->tot_pages, 16);
    after = fake_usage();
    assert_memory_equal(&before, &after, sizeof(before));
}

/* Its old frames are gone: it counts, and the call made again goes on behind it. */
static void an_exchange_that_cannot_be_told_is_counted(void **state)
{
    u64 pfn[2] = { 0x100, 0x200 };
    struct xen_memory_exchange x;

    (void)state;
    x = singles_for_runs(pfn, false);
    fake.writes_before_fault = 3;       /* the argument, the list as a trial, the list */
    assert_int_equal(exchange(&x), -EFAULT);
    assert_int_equal(x.nr_exchanged, 8);
    assert_int_equal(exchange(&x), 0);
    assert_int_equal(x.nr_exchanged, 16);
    assert_int_equal(dom->tot_pages, 16);
}

/* Nothing is exchanged, and what was allocated before the heap had no more goes back. */
static void an_exchange_without_memory_changes_nothing(void **state)
{
    u64 in[8], pfn[8];
    struct xen_memory_exchange x;
    struct fake_usage before, after;

    (void)state;
    in[0] = domain_alloc_frames(dom, 3, 0).v;
    before = fake_usage();
    for (unsigned i = 0; i < 8; i++)
        pfn[i] = 0x100 + i;
    x = (struct xen_memory_exchange){
        .in = { words(in, 1).v, 1, 3, 0, DOMID_SELF },
        .out = { words(pfn, 8).v, 8, 0, 0, DOMID_SELF },
    };
    nr_allocations = 5;
    assert_int_equal(exchange(&x), -ENOMEM);
    nr_allocations = ~0u;
    assert_int_equal(x.nr_exchanged, 0);
    assert_int_equal(dom->tot_pages, 8);
    after = fake_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(exchange(&x), 0);
}

static void refuses_unequal_exchanges(void **state)
{
    struct xen_memory_exchange x = {
        .in = { words(NULL, 4).v, 4, 0, 0, DOMID_SELF },
        .out = { words(NULL, 1).v, 1, 3, 0, DOMID_SELF },
    };

    (void)state;
    assert_int_equal(exchange(&x), -EINVAL);
    x.out.extent_order = 40;
    assert_int_equal(exchange(&x), -EPERM);
    x.out.extent_order = 2;
    x.out.domid = 2;
    assert_int_equal(exchange(&x), -EINVAL);
    x.in.domid = 2;
    assert_int_equal(exchange(&x), -EPERM);
}

/* What a claim keeps from others: test_heap.c. */
static void claims_what_there_is(void **state)
{
    (void)state;
    heap_limit = 100;
    assert_false(mfn_eq(domain_alloc_frames(other, 4, 0), INVALID_MFN));
    assert_int_equal(domain_claim(other, 90), 0);
    assert_int_equal(other->outstanding_pages, 74);
    assert_int_equal(domain_claim(dom, 90), -ENOMEM);
    assert_int_equal(domain_claim(other, 10), -EINVAL);
    assert_int_equal(domain_claim(other, 2001), -EINVAL);
    assert_int_equal(domain_claim(other, 0), 0);
    other->dying = DOMAIN_DYING;
    assert_int_equal(domain_claim(other, 90), -EINVAL);
    assert_int_equal(claimed_frames(), 0);
    heap_limit = FAKE_NR_FRAMES;
}

static void answers_questions(void **state)
{
    struct xen_memory_domain self = { DOMID_SELF }, two = { 2 };
    gva_t a = fake_guest_alloc(64);
    struct xen_machphys_mapping m;
    struct xen_machphys_mfn_list pieces = { .max_extents = 2, .extent_start = fake_guest_alloc(64).v };
    u64 piece;

    (void)state;
    memcpy(fake_guest(a), &self, sizeof(self));
    assert_int_equal(do_memory_op(XENMEM_maximum_reservation, a.v, 0, 0, 0, 0), 2000);
    assert_int_equal(do_memory_op(XENMEM_maximum_ram_page, 0, 0, 0, 0, 0), FAKE_FIRST_MFN + FAKE_NR_FRAMES);
    memcpy(fake_guest(a), &two, sizeof(two));
    assert_int_equal(do_memory_op(XENMEM_current_reservation, a.v, 0, 0, 0, 0), -EPERM);
    assert_int_equal(do_memory_op(XENMEM_current_reservation, 8, 0, 0, 0, 0), -EFAULT);
    assert_int_equal(do_memory_op(XENMEM_current_reservation | 5 << 6, a.v, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(do_memory_op(XENMEM_machine_memory_map, a.v, 0, 0, 0, 0), -EPERM);
    assert_int_equal(do_memory_op(63, a.v, 0, 0, 0, 0), -ENOSYS);
    assert_int_equal(do_memory_op(XENMEM_machphys_mapping, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(guest_read_abi(xen_machphys_mapping, &m, a), 0);
    assert_int_equal(m.v_start, word == ABI_64 ? MACH2PHYS_VIRT_START_64 : MACH2PHYS_VIRT_START_PAE);
    assert_int_equal(guest_write_abi(xen_machphys_mfn_list, a, &pieces), 0);
    assert_int_equal(do_memory_op(XENMEM_machphys_compat_mfn_list, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(guest_read_abi(xen_machphys_mfn_list, &pieces, a), 0);
    assert_int_equal(pieces.nr_extents, 2);
    assert_int_equal(guest_read_word(&piece, gva(pieces.extent_start), 1), 0);
    assert_int_equal(piece, compat_m2p_table(1).v);
}

static void keeps_a_domains_memory_map(void **state)
{
    struct e820entry e[2] = { { 0, 0x100000, 1 }, { 0x100000, 0x2000, 2 } }, back[4];
    struct xen_foreign_memory_map fm = { .domid = DOMID_SELF };
    struct xen_memory_map map;
    gva_t a = fake_guest_alloc(64), buf = fake_guest_alloc(sizeof(back));

    (void)state;
    assert_int_equal(guest_write_abi(xen_memory_map, a, (&(struct xen_memory_map){ 4, buf.v })), 0);
    assert_int_equal(do_memory_op(XENMEM_memory_map, a.v, 0, 0, 0, 0), -ENOSYS);
    fm.map = (struct xen_memory_map){ 2, buf.v };
    memcpy(fake_guest(buf), e, sizeof(e));
    assert_int_equal(guest_write_abi(xen_foreign_memory_map, a, &fm), 0);
    assert_int_equal(do_memory_op(XENMEM_set_memory_map, a.v, 0, 0, 0, 0), 0);
    memset(fake_guest(buf), 0, sizeof(e));
    assert_int_equal(guest_write_abi(xen_memory_map, a, (&(struct xen_memory_map){ 4, buf.v })), 0);
    assert_int_equal(do_memory_op(XENMEM_memory_map, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(guest_read_abi(xen_memory_map, &map, a), 0);
    assert_int_equal(map.nr_entries, 2);
    assert_memory_equal(fake_guest(buf), e, sizeof(e));
    fm.map.nr_entries = 129;
    assert_int_equal(guest_write_abi(xen_foreign_memory_map, a, &fm), 0);
    assert_int_equal(do_memory_op(XENMEM_set_memory_map, a.v, 0, 0, 0, 0), -E2BIG);
    xfree(dom->arch.e820);
}

static void gives_grant_frames_to_the_toolstack(void **state)
{
    struct xen_mem_acquire_resource r = {
        .domid = 2, .type = XENMEM_resource_grant_table, .nr_frames = 2,
        .frame = 1, .frame_list = words(NULL, 2).v,
    };
    gva_t a = fake_guest_alloc(sizeof(r));

    (void)state;
    other->max_grant_frames = 3;
    assert_int_equal(guest_write_abi(xen_mem_acquire_resource, a, &r), 0);
    assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), -EPERM);
    dom->is_control = true;
    assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(word_at(gva(r.frame_list), 1), 0x4002);
    memset(fake_guest(gva(r.frame_list)), 0, 16);
    fake.preempt_every = 1;
    assert_int_equal(fake_hypercall(do_memory_op, XENMEM_acquire_resource, a.v, 0), 0);
    assert_int_equal(fake_restart.nr_args, 2);
    assert_int_equal(word_at(gva(r.frame_list), 0), 0x4001);
    assert_int_equal(word_at(gva(r.frame_list), 1), 0x4002);
    r.frame = ~0UL;
    assert_int_equal(guest_write_abi(xen_mem_acquire_resource, a, &r), 0);
    assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), -EINVAL);
}

/* Of 17 frames of entries, 3 of status. */
static void gives_status_frames_to_the_toolstack(void **state)
{
    struct xen_mem_acquire_resource r = {
        .domid = 2, .type = XENMEM_resource_grant_table, .id = XENMEM_resource_grant_table_id_status,
    };
    gva_t a = fake_guest_alloc(sizeof(r)), list = words(NULL, 2);

    (void)state;
    dom->is_control = true;
    other->max_grant_frames = 17;
    assert_int_equal(guest_write_abi(xen_mem_acquire_resource, a, &r), 0);
    assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(guest_read_abi(xen_mem_acquire_resource, &r, a), 0);
    assert_int_equal(r.nr_frames, 3);
    r.frame_list = list.v;
    for (r.frame = 0; r.frame < 4; r.frame++) {
        r.nr_frames = 2;
        assert_int_equal(guest_write_abi(xen_mem_acquire_resource, a, &r), 0);
        assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), r.frame < 2 ? 0 : -EINVAL);
    }
    assert_int_equal(word_at(list, 1), 0x5002);
    r.frame = 0;
    r.id = 2;
    assert_int_equal(guest_write_abi(xen_mem_acquire_resource, a, &r), 0);
    assert_int_equal(do_memory_op(XENMEM_acquire_resource, a.v, 0, 0, 0, 0), -EINVAL);
}

#define BOTH(t) { #t " (64)", t, setup_64, NULL, NULL }, { #t " (32)", t, setup_32, NULL, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(populates_and_gives_back),
        BOTH(large_extents_number_every_frame),
        BOTH(stops_at_the_limit),
        BOTH(takes_back_what_the_guest_cannot_be_told),
        BOTH(only_ones_own),
        BOTH(each_frame_goes_once),
        BOTH(exchanges_singles_for_a_run),
        BOTH(a_chunk_is_exchanged_whole_or_not),
        BOTH(an_exchange_that_cannot_be_told_is_counted),
        BOTH(an_exchange_without_memory_changes_nothing),
        BOTH(refuses_unequal_exchanges),
        BOTH(claims_what_there_is),
        BOTH(answers_questions),
        BOTH(keeps_a_domains_memory_map),
        BOTH(gives_grant_frames_to_the_toolstack),
        BOTH(gives_status_frames_to_the_toolstack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
