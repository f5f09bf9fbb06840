/* The codec between guests' layouts and ours: widths, alignment, nesting, values that do not fit. */
// SOURCES: common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <public/callback.h>
#include <public/grant_table.h>
#include <public/memory.h>
#include <public/physdev.h>
#include <public/vcpu.h>
#include <pvisor/guest.h>

static void words_are_zero_extended(void **state)
{
    struct xen_memory_reservation_l32 raw = {
        .extent_start = 0xc0001000, .nr_extents = 0xffffffff, .extent_order = 9, .mem_flags = 32, .domid = 7,
    };
    struct xen_memory_reservation in;

    (void)state;
    assert_int_equal(abi_size(ABI_32, &xen_memory_reservation_desc), 20);
    assert_int_equal(abi_size(ABI_64, &xen_memory_reservation_desc), 32);
    abi_decode(ABI_32, &xen_memory_reservation_desc, &in, &raw);
    assert_true(in.extent_start == 0xc0001000UL && in.nr_extents == 0xffffffffUL);
    assert_true(in.extent_order == 9 && in.mem_flags == 32 && in.domid == 7);
}

static void too_large_a_word_is_told(void **state)
{
    struct xen_machphys_mapping in = { .v_start = 0xf5800000, .v_end = 0xf6800000, .max_mfn = 0xffffffff };
    struct xen_machphys_mapping_l32 raw;
    struct xen_machphys_mapping_l64 raw64;

    (void)state;
    assert_true(abi_encode(ABI_32, &xen_machphys_mapping_desc, &raw, &in));
    assert_int_equal(raw.v_start, 0xf5800000);
    in.max_mfn = 0x100000000;
    assert_false(abi_encode(ABI_32, &xen_machphys_mapping_desc, &raw, &in));
    assert_true(abi_encode(ABI_64, &xen_machphys_mapping_desc, &raw64, &in));
    assert_true(raw64.max_mfn == 0x100000000);
}

/* A u64 after an odd number of words: at 32 in one layout and at 28 in the other. */
static void u64_follows_the_abi_alignment(void **state)
{
    struct physdev_map_pirq in = {
        .domid = DOMID_SELF, .index = -1, .entry_nr = 5, .table_base = 0xfebf0000123,
    };
    struct physdev_map_pirq_l32 raw32;
    struct physdev_map_pirq_l64 raw64;
    struct physdev_map_pirq back;

    (void)state;
    assert_int_equal(abi_offset(ABI_64, physdev_map_pirq, table_base), 32);
    assert_int_equal(abi_offset(ABI_32, physdev_map_pirq, table_base), 28);
    assert_true(abi_encode(ABI_32, &physdev_map_pirq_desc, &raw32, &in));
    assert_true(abi_encode(ABI_64, &physdev_map_pirq_desc, &raw64, &in));
    assert_true(raw32.table_base == in.table_base && raw32.entry_nr == 5 && raw32.index == -1);
    assert_true(raw64.table_base == in.table_base && raw64.entry_nr == 5 && raw64.index == -1);
    abi_decode(ABI_32, &physdev_map_pirq_desc, &back, &raw32);
    assert_true(back.index == -1 && back.table_base == in.table_base);
}

static void structures_nest(void **state)
{
    struct gnttab_copy_l32 raw = {
        .source = { .u = 0x11, .domid = 1, .offset = 2 }, .dest = { .u = 0x22, .domid = 3, .offset = 4 },
        .len = 5, .flags = GNTCOPY_source_gref, .status = -10,
    };
    struct gnttab_copy_l32 out;
    struct gnttab_copy in;

    (void)state;
    abi_decode(ABI_32, &gnttab_copy_desc, &in, &raw);
    assert_true(in.source.u == 0x11 && in.source.domid == 1 && in.source.offset == 2);
    assert_true(in.dest.u == 0x22 && in.dest.domid == 3 && in.dest.offset == 4);
    assert_true(in.len == 5 && in.flags == GNTCOPY_source_gref && in.status == GNTST_bad_copy_arg);
    assert_true(abi_encode(ABI_32, &gnttab_copy_desc, &out, &in));
    assert_memory_equal(&out, &raw, sizeof(raw));
    in.dest.u = 0x100000000;
    assert_false(abi_encode(ABI_32, &gnttab_copy_desc, &out, &in));
}

static void arrays_keep_their_order(void **state)
{
    struct multicall_entry in = { .op = 1, .result = 2, .args = { 3, 4, 5, 6, 7, 8 } }, back;
    u32 raw[8];

    (void)state;
    assert_int_equal(abi_size(ABI_32, &multicall_entry_desc), sizeof(raw));
    assert_true(abi_encode(ABI_32, &multicall_entry_desc, raw, &in));
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(raw[i], i + 1);
    abi_decode(ABI_32, &multicall_entry_desc, &back, raw);
    assert_memory_equal(&back, &in, sizeof(in));
}

static void a_field_of_one_layout_is_zero_in_the_other(void **state)
{
    struct callback_register_l64 raw64 = { .type = 1, .flags = 2, .eip = 0xffffffff81000000 };
    struct callback_register_l32 raw32 = { .type = 1, .flags = 2, .cs = FLAT_RING1_CS, .eip = 0xc0100000 };
    struct callback_register in;

    (void)state;
    memset(&in, 0xff, sizeof(in));
    abi_decode(ABI_64, &callback_register_desc, &in, &raw64);
    assert_true(in.cs == 0 && in.eip == 0xffffffff81000000);
    abi_decode(ABI_32, &callback_register_desc, &in, &raw32);
    assert_true(in.cs == FLAT_RING1_CS && in.eip == 0xc0100000);
    /* On the way out such a field is dropped, and is no reason to fail. */
    assert_true(abi_encode(ABI_64, &callback_register_desc, &raw64, &in));
    assert_true(raw64.eip == 0xc0100000);
}

/* abi_decode() follows the tables, abi_decode_inline() is compiled from them. */
static void the_straight_line_reads_the_same(void **state)
{
    u8 raw[64];

    (void)state;
    for (unsigned i = 0; i < sizeof(raw); i++)
        raw[i] = (u8)(0x80 + i);
#define SAME(name, w) do {                                          \
        struct name table = { 0 }, line = { 0 };                    \
        assert_true(abi_size(w, &name##_desc) <= sizeof(raw));      \
        abi_decode(w, &name##_desc, &table, raw);                   \
        abi_decode_inline(w, &name##_desc, &line, raw);             \
        assert_memory_equal(&line, &table, sizeof(line));           \
    } while (0)
    SAME(gnttab_copy, ABI_32);              /* structures in it */
    SAME(gnttab_copy, ABI_64);
    SAME(multicall_entry, ABI_32);          /* an array */
    SAME(physdev_map_pirq, ABI_32);         /* 8 bytes, aligned to 4 */
    SAME(physdev_map_pirq, ABI_64);
    SAME(callback_register, ABI_32);        /* fields of one layout only */
    SAME(callback_register, ABI_64);
#undef SAME
}

static void padding_is_cleared_both_ways(void **state)
{
    struct xen_memory_map in;
    struct xen_memory_map_l64 raw;

    (void)state;
    memset(&raw, 0xff, sizeof(raw));
    memset(&in, 0xff, sizeof(in));
    abi_decode(ABI_64, &xen_memory_map_desc, &in, &raw);
    assert_int_equal(((u32 *)&in)[1], 0);
    memset(&in, 0xff, sizeof(in));
    assert_true(abi_encode(ABI_64, &xen_memory_map_desc, &raw, &in));
    assert_int_equal(((u32 *)&raw)[1], 0);
}

static void shared_pages_have_both_offsets(void **state)
{
    (void)state;
    assert_int_equal(abi_sizeof(ABI_64, vcpu_info), 64);
    assert_int_equal(abi_sizeof(ABI_32, vcpu_info), 64);
    assert_int_equal(abi_offset(ABI_64, vcpu_info, arch.cr2), 16);
    assert_int_equal(abi_offset(ABI_32, vcpu_info, arch.cr2), 8);
    assert_int_equal(abi_offset(ABI_64, shared_info, evtchn_mask), 2048 + 512);
    assert_int_equal(abi_offset(ABI_32, shared_info, evtchn_mask), 2048 + 128);
    assert_int_equal(abi_sizeof(ABI_32, vcpu_runstate_info), 44);
    assert_int_equal(abi_sizeof(ABI_64, vcpu_runstate_info), 48);
}

/* Random bytes in a layout, in and out again: what is not padding must come back. */
static void round_trip(enum abi_word w, const struct abi_desc *d)
{
    /* In the heap at their exact sizes, so that the sanitizer sees a byte too many. */
    u8 *raw = malloc(abi_size(w, d)), *once = malloc(abi_size(w, d)), *twice = malloc(abi_size(w, d));
    void *in = malloc(d->internal_size);

    for (size_t i = 0; i < abi_size(w, d); i++)
        raw[i] = (u8)rand();
    abi_decode(w, d, in, raw);
    assert_true(abi_encode(w, d, once, in));
    abi_decode(w, d, in, once);
    assert_true(abi_encode(w, d, twice, in));
    assert_memory_equal(once, twice, abi_size(w, d));
    for (size_t i = 0; i < abi_size(w, d); i++)
        assert_true(once[i] == raw[i] || once[i] == 0);
    free(raw);
    free(once);
    free(twice);
    free(in);
}

static void every_kind_makes_the_round_trip(void **state)
{
    static const struct abi_desc *const all[] = {
        &mmuext_op_desc, &multicall_entry_desc, &vcpu_info_desc, &shared_info_desc, &start_info_desc,
        &trap_info_desc, &xen_memory_reservation_desc, &xen_memory_exchange_desc, &xen_pod_target_desc,
        &xen_mem_acquire_resource_desc, &xen_vnuma_topology_info_desc, &xen_foreign_memory_map_desc,
        &xen_reserved_device_memory_map_desc, &gnttab_copy_desc, &gnttab_transfer_desc,
        &gnttab_setup_table_desc, &physdev_map_pirq_desc, &callback_register_desc, &vcpu_runstate_info_desc,
        &vcpu_set_singleshot_timer_desc, &vcpu_register_runstate_memory_area_desc,
    };

    (void)state;
    srand(1);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        for (unsigned n = 0; n < 20; n++) {
            round_trip(ABI_64, all[i]);
            round_trip(ABI_32, all[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_zero_extended),
        cmocka_unit_test(too_large_a_word_is_told),
        cmocka_unit_test(u64_follows_the_abi_alignment),
        cmocka_unit_test(structures_nest),
        cmocka_unit_test(arrays_keep_their_order),
        cmocka_unit_test(a_field_of_one_layout_is_zero_in_the_other),
        cmocka_unit_test(the_straight_line_reads_the_same),
        cmocka_unit_test(padding_is_cleared_both_ways),
        cmocka_unit_test(shared_pages_have_both_offsets),
        cmocka_unit_test(every_kind_makes_the_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
