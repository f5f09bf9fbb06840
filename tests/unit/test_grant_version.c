/*
 * Grant tables of version 2, and the change from one version to the other: what is kept, what is refused, and that nothing
 * which the guest writes meanwhile opens more than was granted.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c tests/unit/fake/clause.c common/grant/invariant.c
// SOURCES: common/grant/table.c common/grant/maptrack.c
// SOURCES: common/grant/map.c common/grant/copy.c common/grant/call.c common/grant/version.c common/domain/rights.c
#include <signal.h>
#include <sys/mman.h>

#include "grant_rig.h"

static s64 set_version(struct domain *d, u32 version)
{
    struct gnttab_set_version op = { version };
    s64 rc;

    fake_run(d, 0);
    rc = CALL1(set_version, op);
    assert_int_equal(op.version, d->gnttab->version);
    assert_true(rc || op.version == version);
    fake_run(grantee, 0);
    return rc;
}

static u16 other_version(struct domain *d) { return 3 - d->gnttab->version; }

/* --- The change ----------------------------------------------------------------------------------- */

static void chooses_a_version(void **state)
{
    struct gnttab_get_version get = { .dom = DOMID_SELF, .version = 9 };
    u16 first = granter->gnttab->version;

    (void)state;
    assert_int_equal(set_version(granter, first), 0);
    assert_int_equal(set_version(granter, 0), -EINVAL);
    assert_int_equal(set_version(granter, 3), -EINVAL);
    assert_int_equal(set_version(granter, 3 - first), 0);
    assert_int_equal(CALL1(get_version, get), 0);
    assert_int_equal(get.version, first);
    get.dom = granter->id;
    assert_int_equal(CALL1(get_version, get), -EPERM);
    fake_run(ctl, 0);
    assert_int_equal(CALL1(get_version, get), 0);
    assert_int_equal(get.version, 3 - first);
    get.dom = 13;
    assert_int_equal(CALL1(get_version, get), -ESRCH);
}

/* What the toolstack allows at most. */
static void has_the_version_it_may(void **state)
{
    (void)state;
    granter->grant_max_version = 1;
    assert_int_equal(set_version(granter, 2), -ENOSYS);
    assert_int_equal(set_version(granter, 1), 0);
}

static void keeps_the_first_entries(void **state)
{
    mfn_t m[2];

    (void)state;
    m[0] = grant(granter, 0, grantee, 0);
    m[1] = grant(granter, 7, other, GTF_readonly);
    grant(granter, 8, grantee, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(set_version(granter, other_version(granter)), 0);
        assert_int_equal(flags(granter, 0), GTF_permit_access);
        assert_int_equal(header(granter, 7)->domid, other->id);
        assert_int_equal(flags(granter, 7), GTF_permit_access | GTF_readonly);
        for (u32 ref = 8; ref < 256; ref++)
            assert_int_equal(flags(granter, ref), 0);
    }
    assert_int_equal(map(0x1000, GNTMAP_host_map, 0).dev_bus_addr, m[0].v << PAGE_SHIFT);
    fake_run(other, 0);
    assert_int_equal(map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 7).dev_bus_addr, m[1].v << PAGE_SHIFT);
}

/* The toolstack has the console's and the store's pages mapped all the time: the new entries say so, the old handles end it. */
static void first_entries_may_be_in_use(void **state)
{
    struct gnttab_map_grant_ref rw, ro;

    (void)state;
    grant(granter, 1, grantee, 0);
    grant(granter, 2, grantee, 0);
    rw = map(0x1000, GNTMAP_host_map, 1);
    ro = map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 2);
    header(granter, 2)->flags |= GTF_writing;     /* the guest's word, which counts for nothing */
    assert_int_equal(set_version(granter, other_version(granter)), 0);
    assert_int_equal(flags(granter, 1), GTF_permit_access | GTF_reading | GTF_writing);
    assert_int_equal(flags(granter, 2), GTF_permit_access | GTF_reading);
    assert_int_equal(unmap(0x1000, 0, rw.handle), GNTST_okay);
    assert_int_equal(unmap(0x2000, 0, ro.handle), GNTST_okay);
    assert_int_equal(flags(granter, 1), GTF_permit_access);
    assert_int_equal(flags(granter, 2), GTF_permit_access);
}

static void others_may_not(void **state)
{
    u16 version = granter->gnttab->version;
    struct gnttab_map_grant_ref op;

    (void)state;
    grant(granter, 1, grantee, 0);
    for (u32 ref = 8; ref < 1000; ref += 247) {
        grant(granter, ref, grantee, 0);
        op = map(0x1000, GNTMAP_host_map | GNTMAP_readonly, ref);
        assert_int_equal(op.status, GNTST_okay);
        header(granter, ref)->flags = 0;
        if (version == 2)
            *status(granter, ref) = 0;
        assert_int_equal(set_version(granter, 3 - version), -EBUSY);
        assert_int_equal(flags(granter, 1), GTF_permit_access);
        assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay);
    }
    assert_int_equal(set_version(granter, 3 - version), 0);
}

static void a_change_needs_memory(void **state)
{
    (void)state;
    grant(granter, 9, grantee, 0);
    for (int n = 1; n <= 2; n++) {
        fake.allocs_before_failure = n;
        assert_int_equal(set_version(granter, 2), -ENOMEM);
        fake.allocs_before_failure = 0;
        assert_int_equal(granter->gnttab->version, 1);
        assert_int_equal(flags(granter, 9), GTF_permit_access);
    }
    assert_int_equal(set_version(granter, 2), 0);
    fake.allocs_before_failure = 1;
    assert_int_equal(set_version(granter, 1), 0);
}

/* A table that is too large to be changed at once stays what it is. */
static void a_change_is_bounded(void **state)
{
    mfn_t m;

    (void)state;
    gnttab_domain_destroy(other);
    assert_int_equal(gnttab_domain_init(other, 1100, 4), 0);
    assert_int_equal(gnttab_get_frame(other, 1024, &m), 0);
    assert_int_equal(set_version(other, 2), -E2BIG);
    gnttab_domain_destroy(other);
    assert_int_equal(gnttab_domain_init(other, 1100, 4), 0);
    assert_int_equal(gnttab_get_frame(other, 1023, &m), 0);
    assert_int_equal(set_version(other, 2), 0);
    assert_int_equal(other->gnttab->nr_status, 128);
}

static void what_version_1_cannot_say_stays(void **state)
{
    static const u16 bad[] = { GTF_permit_access | GTF_sub_page, GTF_transitive, GTF_permit_access, GTF_accept_transfer };
    union grant_entry_v2 *e = entry(granter, 5);

    (void)state;
    grant(granter, 9, grantee, 0);
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        e->full_page.frame = i >= 2 ? 0x100001000UL : 0x1000;
        e->hdr.flags = bad[i];
        assert_int_equal(set_version(granter, 1), -ERANGE);
        assert_int_equal(e->hdr.flags, bad[i]);
        assert_int_equal(flags(granter, 9), GTF_permit_access);
    }
    e->hdr.flags = 0;
    assert_int_equal(set_version(granter, 1), 0);
}

/* --- Status frames -------------------------------------------------------------------------------- */

static struct gnttab_get_status_frames get_status_frames(u16 dom, u32 nr, gva_t list, s64 expected)
{
    struct gnttab_get_status_frames op = { .nr_frames = nr, .dom = dom, .frame_list = list.v, .status = 99 };

    assert_int_equal(call_abi(GNTTABOP_get_status_frames, &gnttab_get_status_frames_desc, &op), expected);
    return op;
}

/* Numbers of 64 bits, whatever the guest's word. */
static void lists_status_frames(void **state)
{
    gva_t list = fake_guest_alloc(64);
    u64 *frames = fake_guest(list);
    mfn_t m;

    (void)state;
    gnttab_domain_destroy(other);
    assert_int_equal(gnttab_domain_init(other, 20, 4), 0);
    fake_run(other, 0);
    assert_int_equal(get_status_frames(DOMID_SELF, 0, list, 0).status, GNTST_general_error);
    assert_int_equal(gnttab_get_status_frame(other, 0, &m), -EINVAL);
    assert_int_equal(set_version(other, 2), 0);
    fake_run(other, 0);
    assert_int_equal(get_status_frames(DOMID_SELF, 1, list, 0).status, GNTST_general_error);
    assert_int_equal(gnttab_get_frame(other, 8, &m), 0);
    assert_int_equal(get_status_frames(DOMID_SELF, 2, list, 0).status, GNTST_okay);
    for (u32 i = 0; i < 2; i++) {
        assert_int_equal(gnttab_get_status_frame(other, i, &m), 0);
        assert_int_equal(frames[i], m.v);
        assert_int_equal(frame_owner_id(m), other->id);
    }
    assert_int_equal(frames[2], 0);
    assert_int_equal(get_status_frames(DOMID_SELF, 3, list, 0).status, GNTST_general_error);
    assert_int_equal(get_status_frames(DOMID_SELF, 2, gva(0x30), -EFAULT).status, GNTST_okay);
    assert_int_equal(get_status_frames(granter->id, 1, list, 0).status, GNTST_permission_denied);
    assert_int_equal(get_status_frames(13, 1, list, 0).status, GNTST_bad_domain);
    /* The toolstack may ask for one that is not there yet. */
    assert_int_equal(gnttab_get_status_frame(other, 2, &m), 0);
    assert_int_equal(other->gnttab->nr_frames, 17);
    assert_int_equal(gnttab_get_status_frame(other, 3, &m), -EINVAL);
    assert_int_equal(gnttab_get_status_frame(other, 0xffffffff, &m), -EINVAL);
    fake_run(ctl, 0);
    assert_int_equal(get_status_frames(other->id, 3, list, 0).status, GNTST_okay);
}

/* They stay the domain's, and the same, through every change. */
static void status_frames_outlast_the_version(void **state)
{
    mfn_t first, again;

    (void)state;
    assert_int_equal(gnttab_get_status_frame(granter, 0, &first), 0);
    *status(granter, 300) = 0xffff;
    assert_true(frame_get(first, granter));     /* mapped by somebody */
    assert_int_equal(set_version(granter, 1), -EBUSY);
    assert_int_equal(granter->gnttab->version, 2);
    frame_put(first);
    assert_int_equal(set_version(granter, 1), 0);
    assert_int_equal(fake_frame(first)->refs, 1);
    assert_true(frame_get(first, granter));
    assert_int_equal(set_version(granter, 2), 0);
    assert_int_equal(gnttab_get_status_frame(granter, 0, &again), 0);
    assert_true(mfn_eq(first, again));
    assert_int_equal(*status(granter, 300), 0);
    gnttab_domain_destroy(granter);
    assert_int_equal(fake_frame(first)->refs, 1);
    frame_put(first);
    assert_int_equal(gnttab_domain_init(granter, 4, 4), 0);
}

/* The guest can write them. It fools itself alone. */
static void status_decides_nothing(void **state)
{
    mfn_t m = grant(granter, 9, grantee, 0);
    struct gnttab_map_grant_ref op;

    (void)state;
    *status(granter, 9) = 0xffff;
    op = map(0x1000, GNTMAP_host_map, 9);
    assert_int_equal(op.status, GNTST_okay);
    *status(granter, 9) = 0;
    assert_int_equal(map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 9).status, GNTST_okay);
    assert_int_equal(fake_frame(m)->refs, 3);
    *status(granter, 9) = 0xffff;
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay);
    assert_int_equal(*status(granter, 9), (u16)~GTF_writing);
    assert_int_equal(set_version(granter, 1), -EBUSY);
}

/* --- Entries of version 2 ------------------------------------------------------------------------- */

static void withdrawn_grants_are_not_used_anew(void **state)
{
    struct gnttab_map_grant_ref op;

    (void)state;
    grant(granter, 9, grantee, 0);
    op = map(0x1000, GNTMAP_host_map, 9);
    header(granter, 9)->flags = 0;
    assert_int_equal(*status(granter, 9), GTF_reading | GTF_writing);
    assert_int_equal(map(0x2000, GNTMAP_host_map, 9).status, GNTST_general_error);
    assert_int_equal(map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 9).status, GNTST_general_error);
    assert_int_equal(*status(granter, 9), GTF_reading | GTF_writing);
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay);
    assert_int_equal(*status(granter, 9), 0);
}

/* The guest's other CPU, which runs just before our first write to its status. */
static struct grant_entry_header *to_withdraw;
static void *watched;

static void withdraw_meanwhile(int signal)
{
    if (mprotect(watched, PAGE_SIZE, PROT_READ | PROT_WRITE))
        panic("signal %d, and no way on", signal);
    to_withdraw->flags = 0;
}

static void withdrawn_between_look_and_mark(void **state)
{
    mfn_t m = grant(granter, 9, grantee, 0);
    void (*before)(int) = signal(SIGSEGV, withdraw_meanwhile);

    (void)state;
    to_withdraw = header(granter, 9);
    watched = status(granter, 0);
    assert_int_equal(mprotect(watched, PAGE_SIZE, PROT_READ), 0);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 9).status, GNTST_general_error);
    signal(SIGSEGV, before);
    assert_int_equal(header(granter, 9)->flags, 0);
    assert_int_equal(*status(granter, 9), 0);
    assert_int_equal(fake_frame(m)->refs, 1);
}

static void frame_numbers_have_64_bits(void **state)
{
    mfn_t m = grant(granter, 9, grantee, 0);

    (void)state;
    set_frame(granter, 9, m.v | 1UL << 32);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 9).status, GNTST_general_error);
    set_frame(granter, 9, m.v | 1UL << 63);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 9).status, GNTST_general_error);
    assert_int_equal(flags(granter, 9), GTF_permit_access);
    assert_int_equal(fake_frame(m)->refs, 1);
}

static s16 copy_part(u16 first, u16 bytes, bool to)
{
    struct copy_end mine = END(fake_frame_of(grantee).v, DOMID_SELF, first), theirs = END(9, 1, first);

    return to ? copy(mine, theirs, bytes, GNTCOPY_dest_gref) : copy(theirs, mine, bytes, GNTCOPY_source_gref);
}

static void set_part(u32 first, u32 bytes)
{
    union grant_entry_v2 *e = entry(granter, 9);

    e->sub_page.page_off = (u16)first;
    e->sub_page.length = (u16)bytes;
}

static void parts_of_a_page_are_copied_only(void **state)
{
    static const struct { u16 first, bytes, at, nr; bool fits; } tries[] = {
        { 100, 50, 100, 50, true }, { 100, 50, 149, 1, true }, { 100, 50, 150, 0, true }, { 100, 50, 100, 0, true },
        { 100, 50, 99, 1, false }, { 100, 50, 99, 51, false }, { 100, 50, 100, 51, false }, { 100, 50, 150, 1, false },
        { 100, 50, 0, 4096, false }, { 0, 0, 0, 1, false }, { 0, 4096, 0, 4096, true },
        { 65535, 65535, 0, 1, false }, { 4000, 65535, 4000, 96, true }, { 4000, 65535, 3999, 1, false },
        { 65535, 2, 0, 1, false }, { 65535, 2, 4095, 1, false },
    };

    (void)state;
    grant(granter, 9, grantee, GTF_sub_page);
    for (u32 i = 0; i < ARRAY_SIZE(tries); i++) {
        set_part(tries[i].first, tries[i].bytes);
        for (int to = 0; to < 2; to++)
            assert_int_equal(copy_part(tries[i].at, tries[i].nr, to), tries[i].fits ? GNTST_okay : GNTST_general_error);
        assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_sub_page);
    }
    set_part(0, 4096);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 9).status, GNTST_general_error);
    assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 9).status, GNTST_general_error);
    assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_sub_page);
    header(granter, 9)->flags |= GTF_readonly;
    assert_int_equal(copy_part(0, 1, true), GNTST_general_error);
    assert_int_equal(copy_part(0, 1, false), GNTST_okay);
}

/* Operations of one call on the same part: none rides on the check of the one before. */
static void each_copy_is_held_to_the_part(void **state)
{
    static const struct { u16 at, nr; s16 status; } ops[] = {
        { 100, 50, GNTST_okay }, { 0, 50, GNTST_general_error }, { 120, 10, GNTST_okay }, { 0, 4096, GNTST_general_error },
    };
    enum abi_word w = current_word();
    size_t size = abi_size(w, &gnttab_copy_desc);
    gva_t array = fake_guest_alloc(4 * size);
    mfn_t m = grant(granter, 9, grantee, GTF_sub_page), mine = fake_frame_of(grantee);

    (void)state;
    set_part(100, 50);
    for (u32 to = 0; to < 2; to++) {
        for (u32 i = 0; i < 4; i++) {
            struct gnttab_copy_ptr theirs = { 9, 1, ops[i].at }, own = { mine.v, DOMID_SELF, ops[i].at };
            struct gnttab_copy op = { .source = to ? own : theirs, .dest = to ? theirs : own, .len = ops[i].nr,
                                      .flags = to ? GNTCOPY_dest_gref : GNTCOPY_source_gref };

            assert_true(abi_encode(w, &gnttab_copy_desc, (u8 *)fake_guest(array) + i * size, &op));
        }
        assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_copy, array.v, 4), 0);
        for (u32 i = 0; i < 4; i++) {
            struct gnttab_copy op;

            abi_decode(w, &gnttab_copy_desc, &op, (u8 *)fake_guest(array) + i * size);
            assert_int_equal(op.status, ops[i].status);
        }
        assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_sub_page);
        assert_int_equal(fake_frame(m)->refs, 1);
    }
}

/* While another CPU copies from the part, the grant is in use: that opens no more of it. */
static void a_part_in_use_is_still_a_part(void **state)
{
    struct pin pin = { .ref = 9, .uses = 1, .readonly = true };
    struct pinned pinned;

    (void)state;
    grant(granter, 9, grantee, GTF_sub_page);
    set_part(100, 50);
    pins_of_the_test = true;
    pinned = grant_pin(granter->gnttab, pin, grantee->id);
    assert_int_equal(pinned.status, PINNED_PART);
    assert_true(pinned.first == 100 && pinned.bytes == 50);
    assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 9).status, GNTST_general_error);
    assert_int_equal(copy_part(0, 4096, false), GNTST_general_error);
    assert_int_equal(copy_part(100, 1, false), GNTST_okay);
    assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_sub_page | GTF_reading);
    assert_int_equal(set_version(granter, 1), -EBUSY);
    grant_unpin(granter->gnttab, pin);
    pins_of_the_test = false;
    assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_sub_page);
}

/* Grants that lead to others' grants, or to themselves. */
static void transitive_grants_are_refused(void **state)
{
    union grant_entry_v2 *e = entry(granter, 9);

    (void)state;
    grant(other, 3, granter, 0);
    *e = (union grant_entry_v2){ .transitive = { .hdr = { GTF_transitive, grantee->id }, .trans_domid = other->id, .gref = 3 } };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(copy_part(0, 16, false), GNTST_general_error);
        assert_int_equal(copy_part(0, 16, true), GNTST_general_error);
        assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 9).status, GNTST_general_error);
        assert_int_equal(*status(granter, 9), 0);
        e->transitive.trans_domid = granter->id;
        e->transitive.gref = 9;
    }
}

#define IN_V1(f) OF_BOTH_WORDS(f, V1)
#define IN_V2(f) OF_BOTH_WORDS(f, V2)
#define IN_BOTH(f) IN_V1(f), IN_V2(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(chooses_a_version), IN_V1(has_the_version_it_may), IN_BOTH(keeps_the_first_entries),
        IN_BOTH(first_entries_may_be_in_use), IN_BOTH(others_may_not), IN_V1(a_change_needs_memory),
        IN_V1(a_change_is_bounded), IN_V2(what_version_1_cannot_say_stays),
        IN_V1(lists_status_frames), IN_V2(status_frames_outlast_the_version), IN_V2(status_decides_nothing),
        IN_V2(withdrawn_grants_are_not_used_anew), IN_V2(withdrawn_between_look_and_mark),
        IN_V2(frame_numbers_have_64_bits),
        IN_V2(parts_of_a_page_are_copied_only), IN_V2(each_copy_is_held_to_the_part),
        IN_V2(a_part_in_use_is_still_a_part), IN_V2(transitive_grants_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
