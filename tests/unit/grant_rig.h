/*
 * Four domains with grant tables of one version, for the unit tests of grants: who calls is the grantee. Page tables are a
 * small array, whose entries own their references. Whatever a test does, in the end all domains die and nothing may be left.
 */
#ifndef GRANT_RIG_H
#define GRANT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <common/grant/pin.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "fake/fake.h"

/* What all domains of a test are, but for the control domain's word size. */
static const struct kind {
    enum abi_word word;
    u16 version;            /* of grant tables */
} OF_64_V1 = { ABI_64, 1 }, OF_32_V1 = { ABI_32, 1 }, OF_64_V2 = { ABI_64, 2 }, OF_32_V2 = { ABI_32, 2 };
static struct domain *ctl, *granter, *grantee, *other;
static struct fake_usage at_start;
static gva_t call_buffer;

/* --- Page tables: one entry per page of a small address space, which owns its reference ----------- */

#define NR_PTES 1024
static struct pte {
    bool present, readonly;
    mfn_t mfn;
} ptes[NR_PTES];
static unsigned nr_flushes;

/* Frames whose entries went since the last flush: they must keep their references until then. */
static struct { mfn_t m; u32 refs; } stale[64];
static unsigned nr_stale;

static void pte_clear(struct pte *e)
{
    if (e->present)
        grant_frame_put(e->mfn, e->readonly);
    e->present = false;
}

/* Guest memory is not to be touched and nothing flushed while the page tables are locked. */
static bool tables_locked;

void pv_grant_begin(struct pv_grant_walk *walk, u64 first)
{
    (void)walk, (void)first;
    assert_false(tables_locked);
    tables_locked = true;
}

void pv_grant_end(void)
{
    assert_true(tables_locked);
    tables_locked = false;
}

int pv_grant_map(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u32 flags)
{
    struct pte *e = &ptes[host_addr / PAGE_SIZE % NR_PTES];

    (void)walk;
    assert_true(tables_locked);
    if (host_addr >= NR_PTES * PAGE_SIZE)
        return GNTST_bad_virt_addr;
    pte_clear(e);
    *e = (struct pte){ .present = true, .readonly = flags & GNTMAP_readonly, .mfn = m };
    return 0;
}

int pv_grant_unmap(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u64 new_addr, u32 flags)
{
    struct pte *e = &ptes[host_addr / PAGE_SIZE % NR_PTES], *from = &ptes[new_addr / PAGE_SIZE % NR_PTES];

    (void)walk;
    assert_true(tables_locked);
    if (host_addr >= NR_PTES * PAGE_SIZE || !e->present || !mfn_eq(e->mfn, m) ||
        e->readonly != !!(flags & GNTMAP_readonly))
        return GNTST_general_error;
    if (new_addr) {
        *e = *from;
        from->present = false;
    } else {
        e->present = false;
    }
    stale[nr_stale].m = m;
    stale[nr_stale++].refs = fake_frame(m)->refs;
    return 0;
}

void pv_grant_flush(struct domain *d)
{
    assert_ptr_equal(d, current->domain);
    assert_false(tables_locked);
    for (unsigned i = 0; i < nr_stale; i++)
        assert_true(fake_frame(stale[i].m)->refs >= stale[i].refs);
    nr_stale = 0;
    nr_flushes++;
}

/* --- The rig -------------------------------------------------------------------------------------- */

static struct domain *grant_domain(u16 id, struct kind kind, bool control)
{
    struct domain *d = fake_domain(id, control ? ABI_64 : kind.word, 1, control);

    assert_int_equal(gnttab_domain_init(d, 4, 4), 0);
    d->grant_max_version = 2;
    assert_int_equal(grant_set_version(d, kind.version), 0);
    return d;
}

static int setup(void **state)
{
    struct kind kind = **(struct kind **)state;

    fake_reset();
    call_buffer = fake_guest_alloc(256);
    memset(ptes, 0, sizeof(ptes));
    nr_stale = nr_flushes = 0;
    at_start = fake_usage();
    ctl = grant_domain(0, kind, true);
    granter = grant_domain(1, kind, false);
    grantee = grant_domain(2, kind, false);
    other = grant_domain(3, kind, false);
    fake_run(grantee, 0);
    return 0;
}

/* All domains die: nothing may be left but the frames that the tests gave them. */
static int teardown(void **state)
{
    struct domain *all[] = { ctl, granter, grantee, other };

    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake_run(ctl, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        assert_int_equal(gnttab_release_mappings(all[i]), 0);
        assert_int_equal(gnttab_release_mappings(all[i]), 0);
    }
    for (unsigned i = 0; i < NR_PTES; i++)
        pte_clear(&ptes[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        gnttab_domain_destroy(all[i]);
        gnttab_domain_destroy(all[i]);
        assert_int_equal(all[i]->refs, 1);
    }
    for (u32 i = 0; i < FAKE_NR_FRAMES; i++)
        assert_true(!fake_frames[i].used || (fake_frames[i].refs == 1 && !fake_frames[i].writers));
    assert_int_equal(fake_usage().blocks, at_start.blocks);
    fake_reset();
    return 0;
}

static gva_t buffer(void) { return call_buffer; }

/* A test pins a grant by itself. */
static bool pins_of_the_test;

static void look_at_all(void)
{
    struct domain *all[] = { ctl, granter, grantee, other };

    if (pins_of_the_test)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        grants_count(all[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        grants_compare(all[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        grants_put_back(all[i]);
}

static s64 call(u32 cmd, void *arg, size_t size, u32 count)
{
    gva_t a = buffer();
    s64 rc;

    memcpy(fake_guest(a), arg, size);
    rc = fake_hypercall(do_grant_table_op, cmd, a.v, count);
    memcpy(arg, fake_guest(a), size);
    look_at_all();
    return rc;
}
#define CALL1(cmd, op) call(GNTTABOP_##cmd, &(op), sizeof(op), 1)

/* For structures of either width: in and out through the descriptor, as the guest's compiler would. */
static s64 call_abi(u32 cmd, const struct abi_desc *d, void *op)
{
    enum abi_word w = current_word();
    u8 raw[128];
    s64 rc;

    assert_true(abi_encode(w, d, raw, op));
    rc = call(cmd, raw, abi_size(w, d), 1);
    abi_decode(w, d, op, raw);
    return rc;
}

/* The place of an entry in d's table, of whichever version it is. */
static void *entry(struct domain *d, u32 ref)
{
    u32 size = d->gnttab->version == 2 ? sizeof(union grant_entry_v2) : sizeof(struct grant_entry_v1);
    u32 per_frame = PAGE_SIZE / size;
    mfn_t m;

    assert_int_equal(gnttab_get_frame(d, ref / per_frame, &m), 0);
    return fake_frame_data(m) + ref % per_frame * size;
}
static struct grant_entry_header *header(struct domain *d, u32 ref) { return entry(d, ref); }

static grant_status_t *status(struct domain *d, u32 ref)
{
    mfn_t m;

    assert_int_equal(gnttab_get_status_frame(d, ref / 2048, &m), 0);
    return (grant_status_t *)fake_frame_data(m) + ref % 2048;
}

/* The entry's flags, with what a guest of version 2 finds in the status. */
static u16 flags(struct domain *d, u32 ref)
{
    return header(d, ref)->flags | (d->gnttab->version == 2 ? *status(d, ref) : 0);
}

static void set_frame(struct domain *d, u32 ref, u64 frame)
{
    if (d->gnttab->version == 2)
        ((union grant_entry_v2 *)entry(d, ref))->full_page.frame = frame;
    else
        ((struct grant_entry_v1 *)entry(d, ref))->frame = (u32)frame;
}

static mfn_t grant(struct domain *d, u32 ref, struct domain *to, u16 flags)
{
    mfn_t m = fake_frame_of(d);

    set_frame(d, ref, m.v);
    *header(d, ref) = (struct grant_entry_header){ GTF_permit_access | flags, to->id };
    return m;
}

static inline struct gnttab_map_grant_ref map(u64 host_addr, u32 flags, u32 ref)
{
    struct gnttab_map_grant_ref op = { .host_addr = host_addr, .flags = flags, .ref = ref, .dom = granter->id,
                                       .status = 99 };

    assert_int_equal(CALL1(map_grant_ref, op), 0);
    return op;
}

static inline s16 unmap(u64 host_addr, u64 dev_bus_addr, u32 handle)
{
    struct gnttab_unmap_grant_ref op = { .host_addr = host_addr, .dev_bus_addr = dev_bus_addr,
                                         .handle = handle, .status = 99 };

    assert_int_equal(CALL1(unmap_grant_ref, op), 0);
    return op.status;
}

struct copy_end {
    u64 what;
    u16 dom, offset;
};

static inline s16 copy(struct copy_end from, struct copy_end to, u16 len, u16 flags)
{
    struct gnttab_copy op = { .source = { .u = from.what, .domid = from.dom, .offset = from.offset },
                              .dest = { .u = to.what, .domid = to.dom, .offset = to.offset },
                              .len = len, .flags = flags, .status = 99 };

    assert_int_equal(call_abi(GNTTABOP_copy, &gnttab_copy_desc, &op), 0);
    return op.status;
}
#define END(what, dom, offset) (struct copy_end){ what, dom, offset }

#define OF_BOTH_WORDS(f, version) \
    { #f " (64, " #version ")", f, setup, teardown, (void *)&OF_64_##version }, \
    { #f " (32, " #version ")", f, setup, teardown, (void *)&OF_32_##version }

#endif
