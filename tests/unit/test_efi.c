/*
 * XENPF_firmware_info about UEFI and XENPF_efi_runtime_call, of 64-bit and 32-bit dom0s, over a firmware with one variable. What a guest
 * says is checked before the firmware hears of it, and the firmware's answers do not lead beyond what the guest has.
 */
// SOURCES: common/platform/efi.c common/abi.c common/lib/text.c tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <public/errno.h>
#include <public/platform.h>
#include <pvisor/efi.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <common/platform/internal.h>
#include "fake/fake.h"

#define BUFFER_TOO_SMALL (1UL << 63 | 5)
#define NOT_FOUND (1UL << 63 | 14)

/* --- The firmware ------------------------------------------------------------------------------------------- */

static struct efi_arena arena;
struct efi_arena *efi_arena = &arena;
struct efi_info efi_info;
static const struct efi_region region = { 0x1000, 0x5000, EFI_MEMORY_RUNTIME, EFI_RUNTIME_SERVICES_DATA };
static u32 revision;
static bool busy;
static unsigned calls;
static struct { u16 name[8]; u8 data[EFI_DATA_MAX + 16]; u64 size; u32 attributes; } variable;

const struct efi_region *efi_region_at(u64 a) { return a >= region.start && a < region.end ? &region : NULL; }
u32 efi_services_revision(void) { return revision; }
u64 efi_pointer(const void *p) { return (u64)p; }
bool spin_trylock(spinlock_t *l) { return !busy && (spin_lock(l), true); }

static efi_status firmware_get(const u16 *name, u32 *attributes, u64 *size, void *data)
{
    if (memcmp(name, variable.name, sizeof(variable.name)))
        return NOT_FOUND;
    *attributes = variable.attributes;
    if (*size < variable.size) {
        *size = variable.size;
        return BUFFER_TOO_SMALL;
    }
    *size = variable.size;
    memcpy(data, variable.data, variable.size);
    return 0;
}

static efi_status firmware_set(const u16 *name, u32 attributes, u64 size, const void *data)
{
    memcpy(variable.name, name, sizeof(variable.name));
    memcpy(variable.data, data, size);
    variable.size = size;
    variable.attributes = attributes;
    return 0;
}

static efi_status firmware_next(u64 *size, u16 *name)
{
    if (name[0])
        return NOT_FOUND;
    memcpy(name, variable.name, sizeof(variable.name));
    *size = sizeof(variable.name);
    return 0;
}

efi_status efi_call(enum efi_service s, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    (void)b;
    calls++;
    switch (s) {
    case EFI_GET_VARIABLE: return firmware_get((u16 *)a, (u32 *)c, (u64 *)d, (void *)e);
    case EFI_SET_VARIABLE: return firmware_set((u16 *)a, (u32)c, d, (void *)e);
    case EFI_GET_NEXT_VARIABLE_NAME: return firmware_next((u64 *)a, (u16 *)b);
    case EFI_QUERY_VARIABLE_INFO: *(u64 *)b = 1UL << 40; *(u64 *)c = 2; *(u64 *)d = 3; return 0;
    case EFI_GET_TIME: ((struct xenpf_efi_time *)a)->year = 2026; arena.args.capabilities.accuracy = 50; return 0;
    default: return NOT_FOUND;
    }
}

/* --- The guest ---------------------------------------------------------------------------------------------- */

static struct xen_platform_op op;
static gva_t name_at, data_at;
static const u16 boot_name[8] = { 'B', 'o', 'o', 't', '1', 0 };

static void fresh(enum abi_word word)
{
    fake_reset();
    fake_run(fake_domain(0, word, 1, true), 0);
    name_at = fake_guest_alloc(4096);
    data_at = fake_guest_alloc(2 * EFI_DATA_MAX);
    memcpy(fake_guest(name_at), boot_name, sizeof(boot_name));
    memset(&op, 0, sizeof(op));
    memset(&variable, 0, sizeof(variable));
    revision = 2 << 16;
    busy = false;
    calls = 0;
}

#define CALL(name, ...) ({                                                                                   \
    struct name in_ = { __VA_ARGS__ };                                                                       \
    assert_true(abi_encode(current_word(), &name##_desc, op.u.pad, &in_));                                   \
    platform_efi_call(&op); })
#define ANSWER(name) ({                                                                                      \
    struct name out_;                                                                                        \
    abi_decode(current_word(), &name##_desc, &out_, op.u.pad);                                               \
    out_; })

static s64 variable_call(u32 function, u64 size, u32 misc)
{
    return CALL(xenpf_efi_variable, .function = function, .misc = misc, .name = name_at.v, .size = size, .data = data_at.v);
}

static void variables_come_and_go(void **state)
{
    (void)state;
    for (enum abi_word w = ABI_64; w <= ABI_32; w++) {
        fresh(w);
        memcpy(fake_guest(data_at), "a boot entry", 12);
        assert_int_equal(variable_call(XEN_EFI_set_variable, 12, 7), 0);
        assert_memory_equal(variable.data, "a boot entry", 12);
        memset(fake_guest(data_at), 0, 16);
        assert_int_equal(variable_call(XEN_EFI_get_variable, 100, 0), 0);
        assert_int_equal(ANSWER(xenpf_efi_variable).status, 0);
        assert_int_equal(ANSWER(xenpf_efi_variable).size, 12);
        assert_int_equal(ANSWER(xenpf_efi_variable).misc, 7);
        assert_memory_equal(fake_guest(data_at), "a boot entry", 13);
        ((u16 *)fake_guest(name_at))[0] = 'X';
        assert_int_equal(variable_call(XEN_EFI_get_variable, 100, 0), 0);
        assert_int_equal(ANSWER(xenpf_efi_variable).status, w == ABI_64 ? NOT_FOUND : (1u << 31 | 14));
    }
}

static void a_short_buffer_is_told_the_size_and_not_written(void **state)
{
    (void)state;
    fresh(ABI_64);
    assert_int_equal(variable_call(XEN_EFI_set_variable, 1000, 7), 0);
    memset(fake_guest(data_at), 0x5a, 1000);
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 0), 0);
    assert_int_equal(ANSWER(xenpf_efi_variable).status, BUFFER_TOO_SMALL);
    assert_int_equal(ANSWER(xenpf_efi_variable).size, 1000);
    assert_int_equal(*(u8 *)fake_guest(data_at), 0x5a);
}

static void names_go_one_after_the_other(void **state)
{
    (void)state;
    for (enum abi_word w = ABI_64; w <= ABI_32; w++) {
        fresh(w);
        assert_int_equal(variable_call(XEN_EFI_set_variable, 4, 7), 0);
        memset(fake_guest(name_at), 0, 64);
        assert_int_equal(CALL(xenpf_efi_next_variable, .function = XEN_EFI_get_next_variable_name, .size = 512, .name = name_at.v), 0);
        assert_int_equal(ANSWER(xenpf_efi_next_variable).size, sizeof(boot_name));
        assert_memory_equal(fake_guest(name_at), boot_name, sizeof(boot_name));
    }
}

static void sizes_and_times_fit_both_word_sizes(void **state)
{
    (void)state;
    for (enum abi_word w = ABI_64; w <= ABI_32; w++) {
        fresh(w);
        assert_int_equal(CALL(xenpf_efi_variable_info, .function = XEN_EFI_query_variable_info, .attr = 7), 0);
        assert_true(ANSWER(xenpf_efi_variable_info).max_store_size == 1UL << 40 && ANSWER(xenpf_efi_variable_info).max_size == 3);
        assert_int_equal(CALL(xenpf_efi_get_time, .function = XEN_EFI_get_time), 0);
        assert_int_equal(ANSWER(xenpf_efi_get_time).time.year, 2026);
        assert_int_equal(ANSWER(xenpf_efi_get_time).accuracy, 50);
    }
}

static void what_makes_no_sense_does_not_reach_the_firmware(void **state)
{
    (void)state;
    fresh(ABI_64);
    assert_int_equal(variable_call(XEN_EFI_set_variable, EFI_DATA_MAX + 1, 7), -E2BIG);
    assert_int_equal(variable_call(XEN_EFI_set_variable, ~0UL, 7), -E2BIG);
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 1), -EINVAL);
    assert_int_equal(variable_call(XEN_EFI_update_capsule, 10, 0), -EOPNOTSUPP);
    assert_int_equal(variable_call(XEN_EFI_update_capsule + 1, 10, 0), -EINVAL);
    assert_int_equal(variable_call(0, 10, 0), -EINVAL);
    assert_int_equal(CALL(xenpf_efi_next_variable, .function = XEN_EFI_get_next_variable_name, .size = 1, .name = name_at.v), -EINVAL);
    assert_int_equal(CALL(xenpf_efi_next_variable, .function = XEN_EFI_get_next_variable_name, .size = 8, .name = name_at.v), -EINVAL);
    for (unsigned i = 0; i < EFI_NAME_MAX; i++)
        ((u16 *)fake_guest(name_at))[i] = 'N';
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 0), -EINVAL);
    fake.reads_before_fault = 3;
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 0), -EFAULT);
    assert_int_equal(calls, 0);
}

static void a_busy_firmware_is_asked_again(void **state)
{
    (void)state;
    fresh(ABI_64);
    busy = true;
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 0), -ERESTART_HYPERCALL);
    revision = 0;
    assert_int_equal(variable_call(XEN_EFI_get_variable, 10, 0), -EOPNOTSUPP);
    assert_int_equal(calls, 0);
}

static s64 info(u32 index)
{
    op.u.firmware_info.type = XEN_FW_EFI_INFO;
    op.u.firmware_info.index = index;
    return platform_efi_info(&op);
}

static void the_firmware_says_what_it_is(void **state)
{
    struct xenpf_fw_efi_vendor v;
    struct xenpf_fw_efi_mem m = { .addr = 0x4800, .size = ~0UL };

    (void)state;
    for (enum abi_word w = ABI_64; w <= ABI_32; w++) {
        fresh(w);
        efi_info = (struct efi_info){ .present = true, .revision = 2 << 16 | 70, .vendor_revision = 9, .vendor = { 'E', 'D', 'K' },
                                      .config_tables = 0x123456000, .nr_config_tables = 11 };
        assert_int_equal(info(XEN_FW_EFI_VERSION), 0);
        assert_int_equal(op.u.firmware_info.u.efi_info.version, 2 << 16 | 70);
        assert_int_equal(info(XEN_FW_EFI_CONFIG_TABLE), 0);
        assert_int_equal(((struct xenpf_fw_efi_cfg_l32 *)(op.u.pad + XENPF_FIRMWARE_INFO_U))->addr, 0x123456000);
        v = (struct xenpf_fw_efi_vendor){ .bufsz = 7, .name = data_at.v };
        memset(fake_guest(data_at), 0x5a, 16);
        assert_true(abi_encode(w, &xenpf_fw_efi_vendor_desc, op.u.pad + XENPF_FIRMWARE_INFO_U, &v));
        assert_int_equal(info(XEN_FW_EFI_VENDOR), 0);
        assert_memory_equal(fake_guest(data_at), "E\0D\0K\0\x5a\x5a", 8);      /* no more than there is room for */
        assert_true(abi_encode(w, &xenpf_fw_efi_mem_desc, op.u.pad + XENPF_FIRMWARE_INFO_U, &m));
        assert_int_equal(info(XEN_FW_EFI_MEM_INFO), 0);
        abi_decode(w, &xenpf_fw_efi_mem_desc, &m, op.u.pad + XENPF_FIRMWARE_INFO_U);
        assert_true(m.size == 0x800 && m.type == EFI_RUNTIME_SERVICES_DATA);
        m.size = ~0UL;
        assert_int_equal(info(XEN_FW_EFI_PCI_ROM), -ESRCH);
        assert_int_equal(info(99), -EINVAL);
    }
    efi_info.present = false;
    assert_int_equal(info(XEN_FW_EFI_VERSION), -ENOSYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variables_come_and_go),
        cmocka_unit_test(a_short_buffer_is_told_the_size_and_not_written),
        cmocka_unit_test(names_go_one_after_the_other),
        cmocka_unit_test(sizes_and_times_fit_both_word_sizes),
        cmocka_unit_test(what_makes_no_sense_does_not_reach_the_firmware),
        cmocka_unit_test(a_busy_firmware_is_asked_again),
        cmocka_unit_test(the_firmware_says_what_it_is),
    };

    return cmocka_run_group_tests_name("UEFI", tests, NULL, NULL);
}
