/*
 * Grant tables: mapping, unmapping, copying; what is refused; and that no reference is lost or dropped
 * early. All of it in both versions; what is different in version 2, and the change, is in test_grant_version.c.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c tests/unit/fake/clause.c common/grant/invariant.c
// SOURCES: common/grant/table.c common/grant/maptrack.c
// SOURCES: common/grant/map.c common/grant/copy.c common/grant/call.c common/grant/version.c common/domain/rights.c
#include "grant_rig.h"

/* --- Mapping -------------------------------------------------------------------------------------- */

static void maps_and_unmaps(void **state)
{
    mfn_t m = grant(granter, 9, grantee, 0);
    struct gnttab_map_grant_ref op = map(0x5000, GNTMAP_host_map, 9);

    (void)state;
    assert_int_equal(op.status, GNTST_okay);
    assert_int_equal(op.dev_bus_addr, m.v << PAGE_SHIFT);
    assert_true(ptes[5].present && mfn_eq(ptes[5].mfn, m));
    assert_int_equal(flags(granter, 9), GTF_permit_access | GTF_reading | GTF_writing);
    assert_int_equal(fake_frame(m)->refs, 2);
    assert_int_equal(fake_frame(m)->writers, 1);

    assert_int_equal(unmap(0x5000, 0, op.handle), GNTST_okay);
    assert_int_equal(nr_flushes, 1);
    assert_false(ptes[5].present);
    assert_int_equal(flags(granter, 9), GTF_permit_access);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(unmap(0x5000, 0, op.handle), GNTST_bad_handle);
    assert_int_equal(grantee->gnttab->nr_mapped, 0);
}

static void readonly_uses_are_counted_apart(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0);
    struct gnttab_map_grant_ref ro = map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 1), rw;

    (void)state;
    assert_int_equal(flags(granter, 1), GTF_permit_access | GTF_reading);
    assert_int_equal(fake_frame(m)->writers, 0);
    rw = map(0x2000, GNTMAP_host_map, 1);
    assert_int_equal(flags(granter, 1), GTF_permit_access | GTF_reading | GTF_writing);
    assert_int_not_equal(ro.handle, rw.handle);
    assert_int_equal(unmap(0x2000, 0, rw.handle), GNTST_okay);
    assert_int_equal(flags(granter, 1), GTF_permit_access | GTF_reading);
    assert_int_equal(unmap(0x1000, 0, ro.handle), GNTST_okay);
    assert_int_equal(flags(granter, 1), GTF_permit_access);
}

static void device_part_goes_by_itself(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0);
    struct gnttab_map_grant_ref op = map(0x1000, GNTMAP_host_map | GNTMAP_device_map, 1);
    u64 bus = m.v << PAGE_SHIFT;

    (void)state;
    assert_int_equal(fake_frame(m)->refs, 3);
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay);
    assert_int_equal(fake_frame(m)->refs, 2);
    assert_int_not_equal(flags(granter, 1) & GTF_writing, 0);
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay); /* no such part any more: nothing to do */
    assert_int_equal(unmap(0, bus + PAGE_SIZE, op.handle), GNTST_general_error);
    assert_int_equal(unmap(0, bus, op.handle), GNTST_okay);
    assert_int_equal(flags(granter, 1), GTF_permit_access);
    assert_int_equal(unmap(0, bus, op.handle), GNTST_bad_handle);

    op = map(0x1000, GNTMAP_host_map | GNTMAP_device_map, 1);
    assert_int_equal(unmap(0x1000, bus, op.handle), GNTST_okay);
    assert_int_equal(fake_frame(m)->refs, 1);
    op = map(0, GNTMAP_device_map | GNTMAP_readonly, 1);
    assert_int_equal(op.status, GNTST_okay);
    assert_int_equal(fake_frame(m)->refs, 2);
    assert_int_equal(unmap(0, bus, op.handle), GNTST_okay);
}

static void refuses_what_is_not_granted(void **state)
{
    mfn_t table, foreign = fake_frame_of(other);

    (void)state;
    grant(granter, 1, other, 0);
    grant(granter, 2, grantee, GTF_readonly);
    grant(granter, 3, grantee, GTF_sub_page);
    table = grant(granter, 4, grantee, 0);
    fake_frame(table)->is_table = true;
    grant(granter, 5, grantee, 0);
    set_frame(granter, 5, foreign.v);
    grant(granter, 6, grantee, 0);
    set_frame(granter, 6, 0xffffffff);
    grant(granter, 7, grantee, 0);
    header(granter, 7)->flags = GTF_accept_transfer;

    assert_int_equal(map(0x1000, GNTMAP_host_map, 0).status, GNTST_general_error);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 1).status, GNTST_general_error);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 2).status, GNTST_general_error);
    for (u32 ref = 3; ref <= 7; ref++)
        assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_device_map, ref).status, GNTST_general_error);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 512).status, GNTST_bad_gntref);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 0xffffffff).status, GNTST_bad_gntref);
    assert_int_equal(map(0x1000, GNTMAP_readonly, 2).status, GNTST_bad_gntref);
    assert_int_equal(map(1UL << 40, GNTMAP_host_map, 2).status, GNTST_general_error);
    assert_int_equal(map(1UL << 40, GNTMAP_host_map | GNTMAP_readonly, 2).status, GNTST_bad_virt_addr);
    assert_int_equal(flags(granter, 2), GTF_permit_access | GTF_readonly);
    assert_int_equal(flags(granter, 4), GTF_permit_access);
    assert_int_equal(flags(granter, 5), GTF_permit_access);
    assert_int_equal(fake_frame(foreign)->refs, 1);
    assert_int_equal(grantee->gnttab->nr_mapped, 0);
    /* A table may be read. */
    assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 4).status, GNTST_okay);
}

static void refuses_bad_domains_and_handles(void **state)
{
    struct gnttab_map_grant_ref op = { .flags = GNTMAP_host_map, .dom = 14 };

    (void)state;
    assert_int_equal(CALL1(map_grant_ref, op), 0);
    assert_int_equal(op.status, GNTST_bad_domain);
    op.dom = 0xffff;
    assert_int_equal(CALL1(map_grant_ref, op), 0);
    assert_int_equal(op.status, GNTST_bad_domain);
    assert_int_equal(unmap(0x1000, 0, 0), GNTST_bad_handle);
    assert_int_equal(unmap(0x1000, 0, 0xffffffff), GNTST_bad_handle);
    grant(granter, 1, grantee, 0);
    map(0x1000, GNTMAP_host_map, 1);
    assert_int_equal(unmap(0x1000, 0, 1), GNTST_bad_handle);
    assert_int_equal(unmap(0x1000, 0, 255), GNTST_bad_handle);
    assert_int_equal(unmap(0x1000, 0, 256), GNTST_bad_handle);
}

static void one_grantee_at_a_time(void **state)
{
    (void)state;
    grant(granter, 1, grantee, 0);
    assert_int_equal(map(0x1000, GNTMAP_host_map | GNTMAP_readonly, 1).status, GNTST_okay);
    header(granter, 1)->domid = other->id;
    fake_run(other, 0);
    assert_int_equal(map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 1).status, GNTST_general_error);
    /* More rights, or any in version 2, are asked of the entry as it is now. */
    fake_run(grantee, 0);
    assert_int_equal(map(0x2000, GNTMAP_host_map | GNTMAP_readonly, 1).status,
                     granter->gnttab->version == 1 ? GNTST_okay : GNTST_general_error);
    assert_int_equal(map(0x3000, GNTMAP_host_map, 1).status, GNTST_general_error);
}

static void what_is_mapped_stays_the_same(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0), decoy = fake_frame_of(granter);
    struct gnttab_map_grant_ref a = map(0x1000, GNTMAP_host_map, 1), b;

    (void)state;
    set_frame(granter, 1, decoy.v);
    b = map(0x2000, GNTMAP_host_map, 1);
    assert_int_equal(b.dev_bus_addr, m.v << PAGE_SHIFT);
    memset(entry(granter, 1), 0, granter->gnttab->version * sizeof(struct grant_entry_v1));
    assert_int_equal(unmap(0x1000, 0, a.handle), GNTST_okay);
    assert_int_equal(unmap(0x2000, 0, b.handle), GNTST_okay);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(fake_frame(decoy)->refs, 1);
}

/* The guest overwrote the entry itself: its reference went with it, the handle can only wait for the end. */
static void removed_entries_are_not_unmapped_twice(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0);
    struct gnttab_map_grant_ref op = map(0x1000, GNTMAP_host_map, 1);

    (void)state;
    pte_clear(&ptes[1]);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_general_error);
    assert_int_equal(unmap(0x7000, 0, op.handle), GNTST_general_error);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(nr_flushes, 0);
    assert_int_equal(grantee->gnttab->nr_mapped, 1);
    assert_int_equal(gnttab_release_mappings(grantee), 0);
    assert_int_equal(flags(granter, 1), GTF_permit_access);
}

static void replaces_while_unmapping(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0), own = fake_frame_of(grantee);
    struct gnttab_unmap_and_replace op = { .host_addr = 0x1000, .new_addr = 0x2000, .status = 99 };

    (void)state;
    op.handle = map(0x1000, GNTMAP_host_map, 1).handle;
    assert_int_equal(frame_get_writable(own, grantee), 0);
    ptes[2] = (struct pte){ .present = true, .mfn = own };
    assert_int_equal(CALL1(unmap_and_replace, op), 0);
    assert_int_equal(op.status, GNTST_okay);
    assert_true(ptes[1].present && mfn_eq(ptes[1].mfn, own));
    assert_false(ptes[2].present);
    assert_int_equal(fake_frame(m)->refs, 1);
}

static void handles_are_bounded(void **state)
{
    u32 n = 0, last = 0;

    (void)state;
    grant(granter, 1, grantee, 0);
    for (;; n++) {
        struct gnttab_map_grant_ref op = map((u64)(n % NR_PTES) << PAGE_SHIFT, GNTMAP_host_map, 1);

        if (op.status != GNTST_okay) {
            assert_int_equal(op.status, GNTST_no_device_space);
            break;
        }
        last = op.handle;
    }
    assert_int_equal(n, 4 * 256);
    assert_true(last < n);
    assert_int_equal(unmap(0, 0, last), GNTST_okay);
    assert_int_equal(unmap((n - 1UL) << PAGE_SHIFT, 0, last), GNTST_okay);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 1).handle, last);
}

static void lack_of_memory_is_no_space(void **state)
{
    (void)state;
    grant(granter, 1, grantee, 0);
    for (int i = 0; i < 2; i++) {
        fake.allocs_before_failure = i ? 2 : 1;
        assert_int_equal(map(0x1000, GNTMAP_host_map, 1).status, GNTST_no_device_space);
    }
    fake.allocs_before_failure = 0;
    assert_int_equal(map(0x1000, GNTMAP_host_map, 1).status, GNTST_okay);
}

static void unwritable_results_leave_no_mapping(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0);
    struct gnttab_map_grant_ref op = { .host_addr = 0x1000, .ref = 1, .dom = 1,
                                       .flags = GNTMAP_host_map | GNTMAP_device_map };
    struct gnttab_unmap_grant_ref un = { .host_addr = 0x1000 };

    (void)state;
    fake.writes_before_fault = 1;
    assert_int_equal(CALL1(map_grant_ref, op), -EFAULT);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(flags(granter, 1), GTF_permit_access);
    assert_int_equal(grantee->gnttab->nr_mapped, 0);
    assert_false(ptes[1].present);
    assert_int_equal(nr_flushes, 1);

    op.flags = GNTMAP_host_map;
    assert_int_equal(CALL1(map_grant_ref, op), 0);
    un.handle = op.handle;
    fake.writes_before_fault = 1;
    assert_int_equal(CALL1(unmap_grant_ref, un), -EFAULT);
    assert_int_equal(fake_frame(m)->refs, 1); /* it was unmapped all the same */
    assert_int_equal(nr_flushes, 2);
    assert_int_equal(do_grant_table_op(GNTTABOP_map_grant_ref, 0x40, 1, 0, 0, 0), -EFAULT);
    assert_int_equal(do_grant_table_op(GNTTABOP_unmap_grant_ref, 0x40, 1, 0, 0, 0), -EFAULT);
}

static void long_arrays_give_way(void **state)
{
    gva_t maps = fake_guest_alloc(200 * sizeof(struct gnttab_map_grant_ref));
    gva_t unmaps = fake_guest_alloc(200 * sizeof(struct gnttab_unmap_grant_ref));
    struct gnttab_map_grant_ref *op = fake_guest(maps);
    struct gnttab_unmap_grant_ref *un = fake_guest(unmaps);

    (void)state;
    for (u32 i = 0; i < 200; i++) {
        grant(granter, i, grantee, 0);
        op[i] = (struct gnttab_map_grant_ref){ .host_addr = (u64)i << PAGE_SHIFT, .flags = GNTMAP_host_map,
                                               .ref = i, .dom = 1, .status = 99 };
    }
    op[100].ref = 255; /* one that fails does not stop the others */
    fake.preempt_every = 3;
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_map_grant_ref, maps.v, 200), 0);
    assert_int_equal(fake_restart.nr_args, 3);
    for (u32 i = 0; i < 200; i++) {
        assert_int_equal(op[i].status, i == 100 ? GNTST_general_error : GNTST_okay);
        un[i] = (struct gnttab_unmap_grant_ref){ .host_addr = op[i].host_addr, .handle = op[i].handle,
                                                 .status = 99 };
    }
    un[100].handle = 1000;
    fake.preempt_every = 1;
    un[0].host_addr = PAGE_SIZE; /* address 0 stands for none */
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_unmap_grant_ref, unmaps.v, 200), 0);
    for (u32 i = 1; i < 200; i++)
        assert_int_equal(un[i].status, i == 100 ? GNTST_bad_handle : GNTST_okay);
    assert_int_equal(un[0].status, GNTST_general_error);
    assert_int_equal(nr_flushes, 7);
    assert_int_equal(grantee->gnttab->nr_mapped, 1);
}

static void both_parts_in_one_batch(void **state)
{
    mfn_t m = grant(granter, 1, grantee, 0);
    struct gnttab_map_grant_ref op = map(0x1000, GNTMAP_host_map | GNTMAP_device_map, 1);
    struct gnttab_unmap_grant_ref un[3] = {
        { .host_addr = 0x1000, .handle = op.handle },
        { .dev_bus_addr = m.v << PAGE_SHIFT, .handle = op.handle },
        { .host_addr = 0x1000, .handle = op.handle } };

    (void)state;
    assert_int_equal(call(GNTTABOP_unmap_grant_ref, un, sizeof(un), 3), 0);
    assert_int_equal(un[0].status, GNTST_okay);
    assert_int_equal(un[1].status, GNTST_okay);
    assert_int_equal(un[2].status, GNTST_bad_handle);
    assert_int_equal(fake_frame(m)->refs, 1);
    assert_int_equal(grantee->gnttab->nr_mapped, 0);
}

/* Domains in one array take turns, and some do not exist: each element goes by its own, and no reference stays. */
static void elements_name_several_domains(void **state)
{
    struct domain *of[] = { granter, other, granter, NULL, other, other };
    gva_t array = fake_guest_alloc(sizeof(struct gnttab_map_grant_ref) * 6);
    struct gnttab_map_grant_ref *op = fake_guest(array);
    mfn_t frame[6];

    (void)state;
    for (u32 i = 0; i < 6; i++) {
        if (of[i])
            frame[i] = grant(of[i], i, grantee, 0);
        op[i] = (struct gnttab_map_grant_ref){ .host_addr = (i + 1) * PAGE_SIZE, .ref = i, .flags = GNTMAP_host_map,
                                               .dom = of[i] ? of[i]->id : 77 };
    }
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_map_grant_ref, array.v, 6), 0);
    for (u32 i = 0; i < 6; i++) {
        assert_int_equal(op[i].status, of[i] ? GNTST_okay : GNTST_bad_domain);
        if (!of[i])
            continue;
        assert_true(ptes[i + 1].present && mfn_eq(ptes[i + 1].mfn, frame[i]));
        assert_int_equal(unmap((i + 1) * PAGE_SIZE, 0, op[i].handle), GNTST_okay);
        assert_int_equal(flags(of[i], i), GTF_permit_access);
    }
    assert_int_equal(granter->refs, 1);
    assert_int_equal(other->refs, 1);
}

static void grantee_dies(void **state)
{
    mfn_t m[40];

    (void)state;
    for (u32 i = 0; i < 40; i++) {
        m[i] = grant(granter, i, grantee, 0);
        map((u64)i << PAGE_SHIFT,
            GNTMAP_host_map | (i % 2 ? GNTMAP_device_map : 0) | (i % 3 ? GNTMAP_readonly : 0), i);
    }
    fake_run(ctl, 0);
    fake.preempt_every = 1;
    while (gnttab_release_mappings(grantee))
        ;
    /* The entries that are still in its page tables hold theirs. */
    for (u32 i = 0; i < 40; i++) {
        assert_int_equal(flags(granter, i), GTF_permit_access);
        assert_int_equal(fake_frame(m[i])->refs, 2);
    }
}

static void granter_dies_first(void **state)
{
    struct gnttab_map_grant_ref a, b;

    (void)state;
    grant(granter, 1, grantee, 0);
    grant(granter, 2, grantee, 0);
    a = map(0x1000, GNTMAP_host_map, 1);
    b = map(0x2000, GNTMAP_host_map | GNTMAP_device_map, 2);
    gnttab_domain_destroy(granter);
    assert_int_equal(unmap(0x1000, 0, a.handle), GNTST_okay);
    assert_int_equal(unmap(0x2000, b.dev_bus_addr, b.handle), GNTST_okay);
    assert_int_equal(gnttab_domain_init(granter, 4, 4), 0);
}

static void maps_its_own_grants(void **state)
{
    struct gnttab_map_grant_ref op;

    (void)state;
    fake_run(granter, 0);
    grant(granter, 1, granter, 0);
    op = map(0x1000, GNTMAP_host_map, 1);
    assert_int_equal(op.status, GNTST_okay);
    assert_int_equal(unmap(0x1000, 0, op.handle), GNTST_okay);
}

/* --- Copying -------------------------------------------------------------------------------------- */

static void copies_all_four_ways(void **state)
{
    mfn_t theirs = grant(granter, 1, grantee, 0), theirs2 = grant(granter, 2, grantee, 0);
    mfn_t mine = fake_frame_of(grantee), mine2 = fake_frame_of(grantee);

    (void)state;
    memcpy(fake_frame_data(theirs) + 100, "from the grant", 15);
    assert_int_equal(copy(END(1, 1, 100), END(mine.v, DOMID_SELF, 7), 15, GNTCOPY_source_gref), GNTST_okay);
    assert_string_equal((char *)fake_frame_data(mine) + 7, "from the grant");
    assert_int_equal(copy(END(mine.v, DOMID_SELF, 7), END(mine2.v, DOMID_SELF, 4081), 15, 0), GNTST_okay);
    assert_string_equal((char *)fake_frame_data(mine2) + 4081, "from the grant");
    assert_int_equal(copy(END(mine2.v, DOMID_SELF, 4081), END(2, 1, 0), 15, GNTCOPY_dest_gref), GNTST_okay);
    assert_string_equal((char *)fake_frame_data(theirs2), "from the grant");
    assert_int_equal(copy(END(2, 1, 5), END(1, 1, 0), 10, GNTCOPY_source_gref | GNTCOPY_dest_gref),
                     GNTST_okay);
    assert_string_equal((char *)fake_frame_data(theirs), "the grant");
    assert_int_equal(flags(granter, 1), GTF_permit_access);
    assert_int_equal(fake_frame(theirs)->refs, 1);
    assert_int_equal(fake_frame(mine)->refs, 1);
}

static void copies_only_what_is_allowed(void **state)
{
    mfn_t theirs = grant(granter, 1, grantee, GTF_readonly), mine = fake_frame_of(grantee);
    mfn_t table = fake_frame_of(grantee);
    struct copy_end self = END(mine.v, DOMID_SELF, 0);

    (void)state;
    fake_frame(table)->is_table = true;
    grant(granter, 2, other, 0);
    assert_int_equal(copy(self, END(1, 1, 0), 8, GNTCOPY_dest_gref), GNTST_general_error);
    assert_int_equal(copy(END(1, 1, 0), self, 8, GNTCOPY_source_gref), GNTST_okay);
    assert_int_equal(copy(END(2, 1, 0), self, 8, GNTCOPY_source_gref), GNTST_general_error);
    assert_int_equal(copy(END(9999, 1, 0), self, 8, GNTCOPY_source_gref), GNTST_bad_gntref);
    assert_int_equal(copy(END(1, 12, 0), self, 8, GNTCOPY_source_gref), GNTST_bad_domain);
    assert_int_equal(copy(END(theirs.v, 1, 0), self, 8, 0), GNTST_permission_denied);
    assert_int_equal(copy(END(theirs.v, DOMID_SELF, 0), self, 8, 0), GNTST_bad_page);
    assert_int_equal(copy(END(0xffffffff, DOMID_SELF, 0), self, 8, 0), GNTST_bad_page);
    assert_int_equal(copy(self, END(theirs.v, DOMID_SELF, 0), 8, 0), GNTST_bad_page);
    assert_int_equal(copy(self, END(table.v, DOMID_SELF, 0), 8, 0), GNTST_general_error);
    assert_int_equal(copy(END(table.v, DOMID_SELF, 0), self, 8, 0), GNTST_okay);
    assert_int_equal(copy(END(mine.v, DOMID_SELF, 4090), self, 8, 0), GNTST_bad_copy_arg);
    assert_int_equal(copy(self, END(mine.v, DOMID_SELF, 65535), 65535, 0), GNTST_bad_copy_arg);
    assert_int_equal(copy(self, self, 4096, 0), GNTST_okay);
    assert_int_equal(copy(self, END(mine.v, DOMID_SELF, 4096), 0, 0), GNTST_okay);
    assert_int_equal(fake_usage().writers, 0);
    assert_int_equal(flags(granter, 1), GTF_permit_access | GTF_readonly);
}

/* Many pieces of the same pages: claimed once, and let go at every pause. */
static void copies_batches(void **state)
{
    enum abi_word w = current_word();
    size_t size = abi_size(w, &gnttab_copy_desc);
    gva_t array = fake_guest_alloc(100 * size);
    mfn_t theirs = grant(granter, 1, grantee, 0), mine = fake_frame_of(grantee);

    (void)state;
    for (u32 i = 0; i < 4096; i++)
        fake_frame_data(theirs)[i] = (u8)(i * 7);
    for (u32 i = 0; i < 100; i++) {
        struct gnttab_copy op = { .source = { .u = i == 50 ? 99 : 1, .domid = 1, .offset = (u16)(i * 40) },
                                  .dest = { .u = mine.v, .domid = DOMID_SELF, .offset = (u16)(i * 40) },
                                  .len = 40, .flags = GNTCOPY_source_gref };

        assert_true(abi_encode(w, &gnttab_copy_desc, (u8 *)fake_guest(array) + i * size, &op));
    }
    fake.preempt_every = 7;
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_copy, array.v, 100), 0);
    for (u32 i = 0; i < 100; i++) {
        struct gnttab_copy op;

        abi_decode(w, &gnttab_copy_desc, &op, (u8 *)fake_guest(array) + i * size);
        assert_int_equal(op.status, i == 50 ? GNTST_general_error : GNTST_okay);
        assert_int_equal(memcmp(fake_frame_data(mine) + i * 40, fake_frame_data(theirs) + i * 40, 40) == 0,
                         i != 50);
    }
    assert_int_equal(fake_frame(theirs)->refs, 1);
    fake.preempt_every = 0;
    fake.writes_before_fault = 5;
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_copy, array.v, 100), -EFAULT);
    fake.reads_before_fault = 5;
    assert_int_equal(fake_hypercall(do_grant_table_op, GNTTABOP_copy, array.v, 100), -EFAULT);
    assert_int_equal(fake_frame(theirs)->refs, 1);
    assert_int_equal(fake_frame(mine)->writers, 0);
    assert_int_equal(grantee->refs, 1);
}

/* --- The table itself ----------------------------------------------------------------------------- */

static struct gnttab_setup_table setup_table(u16 dom, u32 nr, gva_t list, s64 expected)
{
    struct gnttab_setup_table op = { .dom = dom, .nr_frames = nr, .frame_list = list.v, .status = 99 };

    assert_int_equal(call_abi(GNTTABOP_setup_table, &gnttab_setup_table_desc, &op), expected);
    return op;
}

static void sets_up_tables(void **state)
{
    gva_t list = fake_guest_alloc(64);
    struct gnttab_query_size q = { .dom = DOMID_SELF };
    u64 frame;
    mfn_t m;

    (void)state;
    assert_int_equal(CALL1(query_size, q), 0);
    assert_int_equal(q.status, GNTST_okay);
    assert_int_equal(q.nr_frames, 1);
    assert_int_equal(q.max_nr_frames, 4);
    assert_int_equal(setup_table(DOMID_SELF, 3, list, 0).status, GNTST_okay);
    for (u32 i = 0; i < 3; i++) {
        assert_int_equal(guest_read_word(&frame, list, i), 0);
        assert_int_equal(gnttab_get_frame(grantee, i, &m), 0);
        assert_int_equal(frame, m.v);
        assert_int_equal(frame_owner_id(m), grantee->id);
    }
    assert_int_equal(guest_read_word(&frame, list, 3), 0);
    assert_int_equal(frame, 0);
    assert_int_equal(setup_table(DOMID_SELF, 5, list, 0).status, GNTST_general_error);
    assert_int_equal(setup_table(DOMID_SELF, 0xffffffff, list, 0).status, GNTST_general_error);
    assert_int_equal(setup_table(1, 1, list, 0).status, GNTST_permission_denied);
    assert_int_equal(setup_table(13, 1, list, 0).status, GNTST_bad_domain);
    assert_int_equal(setup_table(DOMID_SELF, 4, gva(0x30), -EFAULT).status, GNTST_okay);
    assert_int_equal(gnttab_get_frame(grantee, 4, &m), -EINVAL);
    assert_int_equal(gnttab_get_frame(grantee, 0xffffffff, &m), -EINVAL);

    fake_run(ctl, 0);
    assert_int_equal(setup_table(1, 2, list, 0).status, GNTST_okay);
    assert_int_equal(granter->gnttab->nr_frames, 2);
}

static void table_growth_needs_memory(void **state)
{
    mfn_t m;

    (void)state;
    for (int n = 1; n <= 3; n++) {
        fake.allocs_before_failure = n == 1 ? 1 : n == 2 ? 2 : 2;
        assert_int_equal(gnttab_get_frame(grantee, 1, &m), -ENOMEM);
        assert_int_equal(grantee->gnttab->nr_frames, 0);
    }
    fake.allocs_before_failure = 0;
    assert_int_equal(gnttab_get_frame(grantee, 1, &m), 0);
    assert_int_equal(grantee->gnttab->nr_frames, 2);
}

static void refuses_politely(void **state)
{
    struct gnttab_transfer t = { .mfn = 1, .domid = 1, .ref = 1, .status = 99 };
    struct gnttab_dump_table dump = { .dom = 1, .status = 99 };
    struct gnttab_query_size q = { .dom = DOMID_SELF };

    (void)state;
    assert_int_equal(call_abi(GNTTABOP_transfer, &gnttab_transfer_desc, &t), 0);
    assert_int_equal(t.status, GNTST_bad_page);
    assert_int_equal(CALL1(dump_table, dump), -EPERM);
    assert_int_equal(call(GNTTABOP_query_size, &q, sizeof(q), 2), -EINVAL);
    assert_int_equal(call(GNTTABOP_query_size, &q, sizeof(q), 0), -EINVAL);
    assert_int_equal(call(GNTTABOP_map_grant_ref, &q, sizeof(q), 0), 0);
    assert_int_equal(call(GNTTABOP_map_grant_ref, &q, sizeof(q), 0x80000000), -EINVAL);
    assert_int_equal(call(13, &q, sizeof(q), 1), -ENOSYS);
    assert_int_equal(call(0xffffffff, &q, sizeof(q), 1), -ENOSYS);
    fake_run(ctl, 0);
    grant(granter, 1, ctl, 0);
    map(0x1000, GNTMAP_host_map, 1);
    assert_int_equal(CALL1(dump_table, dump), 0);
    assert_int_equal(dump.status, GNTST_okay);
}

static void swaps_idle_entries(void **state)
{
    struct gnttab_swap_grant_ref op = { .ref_a = 1, .ref_b = 600, .status = 99 };
    size_t size = granter->gnttab->version == 1 ? sizeof(struct grant_entry_v1) : sizeof(union grant_entry_v2);
    union grant_entry_v2 was;

    (void)state;
    grant(granter, 1, grantee, 0);
    memcpy(&was, entry(granter, 1), size);
    fake_run(granter, 0);
    assert_int_equal(CALL1(swap_grant_ref, op), 0);
    assert_int_equal(op.status, GNTST_bad_gntref);
    op.ref_b = 200;
    assert_int_equal(CALL1(swap_grant_ref, op), 0);
    assert_int_equal(op.status, GNTST_okay);
    assert_memory_equal(&was, entry(granter, 200), size);
    assert_int_equal(flags(granter, 1), 0);
    fake_run(grantee, 0);
    assert_int_equal(map(0x1000, GNTMAP_host_map, 200).status, GNTST_okay);
    fake_run(granter, 0);
    assert_int_equal(CALL1(swap_grant_ref, op), 0);
    assert_int_equal(op.status, GNTST_eagain);
}

/* Another's frame: while a grant of it is mapped, no longer. */
static void flushes_caches_of_mapped_frames(void **state)
{
    mfn_t m = grant(granter, 9, grantee, 0);
    struct gnttab_cache_flush op = { .a.dev_bus_addr = m.v << PAGE_SHIFT, .length = 64, .op = GNTTAB_CACHE_CLEAN };
    struct gnttab_map_grant_ref mapped;

    (void)state;
    assert_int_equal(CALL1(cache_flush, op), -EPERM);
    mapped = map(0x5000, GNTMAP_host_map, 9);
    assert_int_equal(CALL1(cache_flush, op), 0);
    assert_int_equal(unmap(0x5000, 0, mapped.handle), GNTST_okay);
    assert_int_equal(CALL1(cache_flush, op), -EPERM);
}

/* The search of many handles gives way, and goes on where it was. Who lets it begin elsewhere has less found, and nothing else. */
static void searches_of_handles_give_way(void **state)
{
    struct gnttab_cache_flush op = { .length = 64, .op = GNTTAB_CACHE_CLEAN };

    (void)state;
    grantee->gnttab->max_maps = 4096;
    grant(granter, 8, grantee, 0);
    op.a.dev_bus_addr = grant(granter, 9, grantee, 0).v << PAGE_SHIFT;
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(map(0, GNTMAP_device_map, 8).status, GNTST_okay);
    fake.preempt_every = 1;
    memset(&fake_restart, 0, sizeof(fake_restart));
    assert_int_equal(CALL1(cache_flush, op), -EPERM);
    assert_int_equal(fake_restart.arg[0], 16 << 12 | GNTTABOP_cache_flush);
    assert_int_equal(map(0, GNTMAP_device_map, 9).status, GNTST_okay);
    assert_int_equal(CALL1(cache_flush, op), 0);
    assert_int_equal(call(GNTTABOP_cache_flush | 17 << 12, &op, sizeof(op), 1), 0);
    assert_int_equal(call(GNTTABOP_cache_flush | 18 << 12, &op, sizeof(op), 1), -EPERM);
    assert_int_equal(call(GNTTABOP_cache_flush | 0xfffff000, &op, sizeof(op), 1), -EPERM);
    assert_int_equal(call(GNTTABOP_unmap_grant_ref | 1 << 12, &op, sizeof(op), 0), -ENOSYS);
}

static void flushes_caches_of_own_frames(void **state)
{
    mfn_t mine = fake_frame_of(grantee), theirs = fake_frame_of(granter);
    struct gnttab_cache_flush op = { .a.dev_bus_addr = mine.v << PAGE_SHIFT, .length = 64,
                                     .op = GNTTAB_CACHE_CLEAN };

    (void)state;
    assert_int_equal(CALL1(cache_flush, op), 0);
    op.op = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL;
    assert_int_equal(CALL1(cache_flush, op), 0);
    op.op = GNTTAB_CACHE_INVAL;
    assert_int_equal(CALL1(cache_flush, op), -EOPNOTSUPP);
    op.op = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_SOURCE_GREF;
    assert_int_equal(CALL1(cache_flush, op), -EOPNOTSUPP);
    op.op = 4;
    assert_int_equal(CALL1(cache_flush, op), -EINVAL);
    op.op = GNTTAB_CACHE_CLEAN;
    op.offset = 4090;
    assert_int_equal(CALL1(cache_flush, op), -EINVAL);
    op.offset = 0;
    op.a.dev_bus_addr = theirs.v << PAGE_SHIFT;
    assert_int_equal(CALL1(cache_flush, op), -EPERM);
    op.a.dev_bus_addr = ~0UL;
    assert_int_equal(CALL1(cache_flush, op), -EINVAL);
}

/* --- A long life of random calls ------------------------------------------------------------------ */

static void random_calls_lose_nothing(void **state)
{
    mfn_t own = fake_frame_of(grantee);
    u64 r = 99;

    (void)state;
    for (u32 i = 0; i < 16; i++)
        grant(granter, i, grantee, i % 4 == 3 ? GTF_readonly : 0);
    for (u32 i = 0; i < 60000; i++) {
        u32 ref, handle, flags;
        u64 addr;

        r = r * 6364136223846793005UL + 1442695040888963407UL;
        ref = (r >> 20) % 17;
        handle = (r >> 30) % 600;
        flags = (r >> 40) % 8;
        addr = ((r >> 45) % 64 + 1) << PAGE_SHIFT;
        if ((r >> 52) % 50 == 0)
            fake.writes_before_fault = 1;
        switch (r >> 61) {
        case 0: case 1: {
            struct gnttab_map_grant_ref op = { .host_addr = addr, .flags = flags, .ref = ref, .dom = 1 };
            (void)CALL1(map_grant_ref, op);
            break;
        }
        case 2: case 3: case 4: {
            struct map *m = handle < grantee->gnttab->nr_maps ?
                            &grantee->gnttab->chunk[handle / MAPS_PER_CHUNK][handle % MAPS_PER_CHUNK] : NULL;
            struct gnttab_unmap_grant_ref op = { .host_addr = flags & 1 ? addr : 0, .handle = handle };

            if (flags & 2 && m)
                op.dev_bus_addr = (u64)m->frame << PAGE_SHIFT;
            (void)CALL1(unmap_grant_ref, op);
            break;
        }
        case 5:
            header(granter, ref)->flags ^= (u16)(1u << (flags % 6));
            break;
        case 6:
            pte_clear(&ptes[addr >> PAGE_SHIFT]);
            if (addr == PAGE_SIZE)
                (void)grant_set_version(granter, ref % 2 + 1);
            break;
        default: {
            struct gnttab_copy op = { .source = { .u = ref, .domid = 1 },
                                      .dest = { .u = own.v, .domid = DOMID_SELF }, .len = 100,
                                      .flags = GNTCOPY_source_gref };
            u8 raw[64];

            assert_true(abi_encode(current_word(), &gnttab_copy_desc, raw, &op));
            (void)call(GNTTABOP_copy, raw, abi_size(current_word(), &gnttab_copy_desc), 1);
        }
        }
        fake.writes_before_fault = 0;
    }
}

#define T(f) OF_BOTH_WORDS(f, V1), OF_BOTH_WORDS(f, V2)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(maps_and_unmaps), T(readonly_uses_are_counted_apart), T(device_part_goes_by_itself),
        T(refuses_what_is_not_granted), T(refuses_bad_domains_and_handles), T(one_grantee_at_a_time),
        T(what_is_mapped_stays_the_same), T(removed_entries_are_not_unmapped_twice),
        T(replaces_while_unmapping),
        T(handles_are_bounded), T(lack_of_memory_is_no_space), T(unwritable_results_leave_no_mapping),
        T(long_arrays_give_way), T(both_parts_in_one_batch), T(grantee_dies), T(granter_dies_first),
        T(long_arrays_give_way), T(elements_name_several_domains), T(grantee_dies), T(granter_dies_first),
        T(maps_its_own_grants), T(copies_all_four_ways), T(copies_only_what_is_allowed), T(copies_batches),
        T(sets_up_tables), T(table_growth_needs_memory), T(refuses_politely),
        T(swaps_idle_entries), T(flushes_caches_of_own_frames), T(flushes_caches_of_mapped_frames),
        T(searches_of_handles_give_way),
        T(random_calls_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
