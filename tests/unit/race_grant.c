/*
 * Grants from several CPUs at once: two domains map, unmap and copy the same few grants, while the granter withdraws and
 * gives them anew, and changes the version of its table. No data race, no lock out of order; a frame that is withdrawn is out
 * of use until it is given again, and in the end every frame has its first reference and nothing more.
 */
// SOURCES: tests/unit/fake/machine.c tests/unit/fake/threads.c common/abi.c tests/unit/fake/clause.c common/grant/invariant.c
// SOURCES: common/grant/table.c common/grant/maptrack.c
// SOURCES: common/grant/map.c common/grant/copy.c common/grant/call.c common/grant/version.c common/spinlock.c common/domain/rights.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <common/grant/grant.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include "fake/fake.h"
#include "fake/threads.h"

#define ROUNDS 3000
#define FIRST_REF 4         /* half of them are kept when the version changes */
#define REFS 8
#define SLOTS 16

static struct domain *ctl, *granter, *mapper[2];
static mfn_t granted[REFS];
static unsigned versions;       /* how often one was chosen */
static gva_t buffers[RACE_CPUS], copy_frames[RACE_CPUS];

/* Page-table entries: each CPU has a range of its own, since one domain's lock would guard them. */
static struct pte {
    bool present, readonly;
    mfn_t mfn;
    u32 handle;
} ptes[RACE_CPUS][SLOTS];

static struct pte *pte_of(u64 host_addr) { return &ptes[host_addr >> 20][host_addr >> PAGE_SHIFT & (SLOTS - 1)]; }

/* The domain's page-table lock: it comes before a table's, as debug builds see. */
void pv_grant_begin(struct pv_grant_walk *walk, u64 first)
{
    (void)walk, (void)first;
    spin_lock(&current->domain->arch.pt_lock);
}

void pv_grant_end(void)
{
    spin_unlock(&current->domain->arch.pt_lock);
}

int pv_grant_map(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u32 flags)
{
    (void)walk;
    *pte_of(host_addr) = (struct pte){ .present = true, .readonly = flags & GNTMAP_readonly, .mfn = m };
    return 0;
}

int pv_grant_unmap(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u64 new_addr, u32 flags)
{
    struct pte *e = pte_of(host_addr);

    (void)walk;
    assert_int_equal(new_addr, 0);
    assert_true(e->present && mfn_eq(e->mfn, m) && e->readonly == !!(flags & GNTMAP_readonly));
    e->present = false;
    return 0;
}

void pv_grant_flush(struct domain *d) { assert_ptr_equal(d, current->domain); }

static s64 call(u32 cmd, void *arg, size_t size)
{
    gva_t a = buffers[this_cpu_id()];
    s64 rc;

    memcpy(fake_guest(a), arg, size);
    rc = fake_hypercall(do_grant_table_op, cmd, a.v, 1);
    memcpy(arg, fake_guest(a), size);
    return rc;
}

/* The granter alone changes its version, so it knows it. */
static u32 *entry_word(u32 i)
{
    unsigned words = granter->gnttab->version == 2 ? sizeof(union grant_entry_v2) / 4 : sizeof(struct grant_entry_v1) / 4;
    mfn_t m;

    assert_int_equal(gnttab_get_frame(granter, 0, &m), 0);
    return (u32 *)fake_frame_data(m) + (FIRST_REF + i) * words;
}

/* Whether the entry is in use, by what its granter can see. */
static bool seen_in_use(u32 i)
{
    mfn_t m;

    if (granter->gnttab->version == 1)
        return read_once(*entry_word(i)) & (GTF_reading | GTF_writing);
    assert_int_equal(gnttab_get_status_frame(granter, 0, &m), 0);
    return read_once(((grant_status_t *)fake_frame_data(m))[FIRST_REF + i]);
}

static void map_or_unmap(void)
{
    unsigned cpu = this_cpu_id(), slot = (unsigned)race_random(SLOTS);
    u64 addr = (u64)cpu << 20 | (u64)slot << PAGE_SHIFT;
    struct pte *e = pte_of(addr);

    if (e->present) {
        struct gnttab_unmap_grant_ref op = { .host_addr = addr, .handle = e->handle, .status = 99 };

        assert_int_equal(call(GNTTABOP_unmap_grant_ref, &op, sizeof(op)), 0);
        assert_int_equal(op.status, GNTST_okay);
    } else {
        struct gnttab_map_grant_ref op = { .host_addr = addr, .ref = FIRST_REF + (u32)race_random(REFS), .dom = granter->id,
                                           .flags = GNTMAP_host_map | (race_random(2) ? GNTMAP_readonly : 0) };

        assert_int_equal(call(GNTTABOP_map_grant_ref, &op, sizeof(op)), 0);
        assert_true(op.status == GNTST_okay || op.status == GNTST_general_error);
        if (op.status == GNTST_okay)
            e->handle = op.handle;
    }
}

static void copy(void)
{
    struct gnttab_copy op = {
        .source.u = FIRST_REF + (u32)race_random(REFS), .source.domid = granter->id, .source.offset = (u16)this_cpu_id() * 64,
        .dest.u = copy_frames[this_cpu_id()].v, .dest.domid = DOMID_SELF, .len = 64,
        .flags = GNTCOPY_source_gref,
    };

    assert_int_equal(call(GNTTABOP_copy, &op, sizeof(op)), 0);
    assert_true(op.status == GNTST_okay || op.status == GNTST_general_error);
}

/* What a granter's kernel does: true if nobody can use the grant any more. */
static bool withdraw(u32 i)
{
    u32 *word = entry_word(i), w = read_once(*word);

    if (granter->gnttab->version == 1)
        return !(w & (GTF_reading | GTF_writing)) && try_cmpxchg(word, &w, 0);
    (void)xchg(word, 0);    /* a full barrier */
    return !seen_in_use(i);
}

static void give(u32 i)
{
    u32 *word = entry_word(i);

    if (granter->gnttab->version == 1)
        write_once(word[1], (u32)granted[i].v);
    else
        write_once(*(u64 *)(word + 2), granted[i].v);
    write_once(*word, (u32)mapper[race_random(2)]->id << 16 | GTF_permit_access);
}

static void change_grant(void)
{
    u32 i = (u32)race_random(REFS);

    if (!withdraw(i))
        return;
    for (unsigned k = 0; k < 20; k++)
        assert_int_equal(read_once(fake_frame(granted[i])->refs), 1);
    if (race_random(4))
        give(i);
}

static void change_version(void)
{
    int rc = grant_set_version(granter, 1 + (u32)race_random(2));

    assert_true(rc == 0 || rc == -EBUSY);
    versions += rc == 0;
}

static void live(unsigned cpu)
{
    fake_run(cpu ? mapper[cpu % 2] : granter, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!cpu && !race_random(8))
            change_version();
        else if (!cpu)
            change_grant();
        else if (race_random(4))
            map_or_unmap();
        else
            copy();
    }
}

static struct domain *grant_domain(u16 id, bool control)
{
    struct domain *d = fake_domain(id, ABI_64, 1, control);

    spin_lock_init(&d->arch.pt_lock, RANK_PT);
    assert_int_equal(gnttab_domain_init(d, 4, 4), 0);
    d->grant_max_version = 2;
    return d;
}

static void grants_are_counted_exactly(void **state)
{
    struct fake_usage before;
    struct domain *all[4];

    (void)state;
    fake_reset();
    all[0] = ctl = grant_domain(0, true);
    all[1] = granter = grant_domain(1, false);
    all[2] = mapper[0] = grant_domain(2, false);
    all[3] = mapper[1] = grant_domain(3, false);
    fake_run(ctl, 0);
    for (u32 i = 0; i < RACE_CPUS; i++) {
        buffers[i] = fake_guest_alloc(256);
        copy_frames[i] = gva(fake_frame_of(mapper[i % 2]).v);
    }
    for (u32 i = 0; i < REFS; i++)
        granted[i] = fake_frame_of(granter);
    assert_int_equal(grant_set_version(granter, 2), 0);     /* status frames are there from now on */
    assert_int_equal(grant_set_version(granter, 1), 0);
    for (u32 i = 0; i < REFS; i++)
        give(i);
    before = fake_usage();
    race(live);
    assert_true(versions > ROUNDS / 50);
    for (unsigned i = 0; i < 4; i++)
        grants_count(all[i]);
    for (unsigned i = 0; i < 4; i++)
        grants_compare(all[i]);
    for (unsigned i = 0; i < 4; i++)
        grants_put_back(all[i]);
    for (unsigned i = 0; i < RACE_CPUS * SLOTS; i++)
        if (ptes[i / SLOTS][i % SLOTS].present)
            grant_frame_put(ptes[i / SLOTS][i % SLOTS].mfn, ptes[i / SLOTS][i % SLOTS].readonly);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(gnttab_release_mappings(all[i]), 0);
    for (u32 i = 0; i < REFS; i++) {
        assert_int_equal(fake_frame(granted[i])->refs, 1);
        assert_int_equal(fake_frame(granted[i])->writers, 0);
        assert_false(seen_in_use(i));
    }
    assert_int_equal(fake_usage().domain_refs, before.domain_refs);
    for (unsigned i = 0; i < 4; i++)
        gnttab_domain_destroy(all[i]);
    fake_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants_are_counted_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
