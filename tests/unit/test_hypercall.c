/*
 * What belongs to hypercalls as such: multicall, arguments that a 32-bit guest passes in halves, and the
 * answers of xen_version and vm_assist. Handlers here are the test's own.
 */
// SOURCES: common/hypercall_log.c common/multicall.c common/version.c arch/x86/pv/assist.c common/abi.c common/lib/text.c
// SOURCES: common/domain/rights.c common/lib/xen_version.c
// SOURCES: arch/x86/pt/format.c tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <asm/pt_format.h>
#include <public/errno.h>
#include <public/version.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include "fake/fake.h"

/* --- A hypercall table for the test ----------------------------------------------------------------- */

static u64 seen[6];
static int restarts;

static s64 record(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    u64 a[6] = { a0, a1, a2, a3, a4, a5 };

    memcpy(seen, a, sizeof(seen));
    return (s64)a0 + 1;
}

/* Gives way until its second argument has come down to 0. */
static s64 slow(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    (void)a2, (void)a3, (void)a4, (void)a5;
    if (a1) {
        restarts++;
        return hypercall_restart(2, a0, a1 - 1);
    }
    return (s64)a0;
}

static s64 absent(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    (void)a0, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return -ENOSYS;
}

static s64 leave(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    (void)a0, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5;
    return 77;
}

#define RECORD 1
#define SLOW   2
#define WIDE   3

hypercall_fn *const hypercall_handlers[] = {
    [0] = absent, [RECORD] = record, [SLOW] = slow, [WIDE] = record,
    [__HYPERVISOR_multicall] = do_multicall, [__HYPERVISOR_iret] = leave,
};
const struct hypercall_desc hypercall_table[] = {
    [RECORD] = { "record", 6, 0 },
    [SLOW] = { "slow", 2, 0 },
    [WIDE] = { "wide", 3, 1 << 1 },
    [__HYPERVISOR_multicall] = { "multicall", 2, 0 },
    [__HYPERVISOR_iret] = { "iret", 0, 0 },
};
const u64 nr_hypercalls = ARRAY_SIZE(hypercall_table);

bool hypercall_restart_asked(void) { return fake_restart.nr_args; }

unsigned hypercall_restart_args(u64 args[6])
{
    memcpy(args, fake_restart.arg, fake_restart.nr_args * sizeof(*args));
    return fake_restart.nr_args;
}

static char logged[200];

void guest_log(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(logged, sizeof(logged), fmt, args);
    va_end(args);
}

u64 last_bad_guest_address(void) { return 0x1234; }

const char *cmdline_get(void) { return "console=com1"; }

/* --- Fixtures --------------------------------------------------------------------------------------- */

static struct domain *dom;

static int setup_word(enum abi_word w)
{
    fake_reset();
    memset(seen, 0, sizeof(seen));
    restarts = 0;
    dom = fake_domain(1, w, 1, false);
    dom->arch.fmt = &pt_formats[w == ABI_64 ? PT64 : PT32];
    fake_run(dom, 0);
    return 0;
}

static int setup_64(void **state) { (void)state; return setup_word(ABI_64); }
static int setup_32(void **state) { (void)state; return setup_word(ABI_32); }

static gva_t list_of(const struct multicall_entry *e, unsigned n)
{
    gva_t list = fake_guest_alloc(n * sizeof(*e));

    for (unsigned i = 0; i < n; i++)
        assert_int_equal(guest_write_abi(multicall_entry, guest_abi_elem(multicall_entry, list, i), e + i),
                         0);
    return list;
}

/* As many bits as a word of the guest has. */
static s64 result(gva_t list, unsigned i)
{
    struct multicall_entry e;

    assert_int_equal(guest_read_abi(multicall_entry, &e, guest_abi_elem(multicall_entry, list, i)), 0);
    return current_word() == ABI_64 ? (s64)e.result : (s64)(s32)e.result;
}

/* --- multicall -------------------------------------------------------------------------------------- */

static void calls_each_in_turn(void **state)
{
    struct multicall_entry e[] = {
        { RECORD, 0, { 10, 2, 3, 4, 5, 6 } },
        { RECORD, 0, { 20, 0, 0, 0, 0, 0xfffffffe } },
    };
    gva_t list = list_of(e, 2);

    (void)state;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 2, 0), 0);
    assert_int_equal(result(list, 0), 11);
    assert_int_equal(result(list, 1), 21);
    assert_int_equal(seen[5], 0xfffffffe);
    assert_false(dom->vcpu[0]->in_multicall);
}

static void each_has_its_own_error(void **state)
{
    struct multicall_entry e[] = {
        { 0xffff, 0, { 0 } }, { 0, 0, { 0 } }, { __HYPERVISOR_multicall, 0, { 0 } }, { RECORD, 0, { 1 } },
    };
    gva_t list = list_of(e, 4);

    (void)state;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 4, 0), 0);
    assert_int_equal(result(list, 0), -ENOSYS);
    assert_int_equal(result(list, 1), -ENOSYS);
    assert_int_equal(result(list, 2), -EINVAL);
    assert_int_equal(result(list, 3), 2);
}

static const char *log_of(u64 number, s64 rc)
{
    logged[0] = '\0';
    hypercall_log_failure(number, rc);
    return logged;
}

static void says_why_it_failed(void **state)
{
    (void)state;
    assert_string_equal(log_of(0, -ENOSYS), "there is no hypercall 0");
    assert_string_equal(log_of(0xffff, -ENOSYS), "there is no hypercall 65535");
    assert_non_null(strstr(log_of(RECORD, -EFAULT), "record: memory at 0x1234"));
    assert_string_equal(log_of(RECORD, -EINVAL), "");   /* the handler has said it */
}

static void an_inner_call_gives_way(void **state)
{
    struct multicall_entry e[] = { { RECORD, 0, { 1 } }, { SLOW, 99, { 5, 4, 9 } }, { RECORD, 0, { 2 } } };
    gva_t list = list_of(e, 3);

    (void)state;
    fake.preempt_every = 2;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 3, 0), 0);
    assert_int_equal(restarts, 4);
    assert_int_equal(result(list, 0), 2);
    assert_int_equal(result(list, 1), 5);
    assert_int_equal(result(list, 2), 3);
}

static void progress_is_in_the_entry(void **state)
{
    struct multicall_entry e[] = { { RECORD, 0, { 1 } }, { SLOW, 99, { 5, 4, 9 } } }, now;
    gva_t list = list_of(e, 2), second = guest_abi_elem(multicall_entry, list, 1);

    (void)state;
    assert_int_equal(do_multicall(list.v, 2, 0, 0, 0, 0), -ERESTART_HYPERCALL);
    assert_int_equal(fake_restart.arg[0], second.v);
    assert_int_equal(fake_restart.arg[1], 1);
    assert_int_equal(guest_read_abi(multicall_entry, &now, second), 0);
    assert_int_equal(now.op, SLOW);
    assert_int_equal(now.result, 99);
    assert_int_equal(now.args[1], 3);
    assert_int_equal(now.args[2], 9);
}

static void leaving_ends_it(void **state)
{
    struct multicall_entry e[] = { { __HYPERVISOR_iret, 5, { 0 } }, { RECORD, 6, { 1 } } };
    gva_t list = list_of(e, 2);

    (void)state;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 2, 0), 77);
    assert_int_equal(result(list, 0), 5);
    assert_int_equal(result(list, 1), 6);
}

static void joins_the_halves(void **state)
{
    struct multicall_entry e = { WIDE, 0, { 1, 0x11112222, 0x33334444, 7 } };
    gva_t list = list_of(&e, 1);

    (void)state;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 1, 0), 0);
    assert_int_equal(seen[1], current_word() == ABI_64 ? 0x11112222 : 0x3333444411112222);
    assert_int_equal(seen[2], current_word() == ABI_64 ? 0x33334444 : 7);
}

static void bad_lists(void **state)
{
    struct multicall_entry e = { RECORD, 0, { 1 } };
    gva_t list = list_of(&e, 1);

    (void)state;
    assert_int_equal(fake_hypercall(do_multicall, 8, 1, 0), -EFAULT);
    assert_int_equal(fake_hypercall(do_multicall, 8, 0, 0), 0);
    fake.writes_before_fault = 1;
    assert_int_equal(fake_hypercall(do_multicall, list.v, 1, 0), -EFAULT);
    assert_false(dom->vcpu[0]->in_multicall);
}

/* --- Versions ----------------------------------------------------------------------------------------- */

static const char *text(u32 cmd)
{
    gva_t a = fake_guest_alloc(1024);

    assert_int_equal(do_xen_version(cmd, a.v, 0, 0, 0, 0), 0);
    return fake_guest(a);
}

static void tells_its_version(void **state)
{
    gva_t a = fake_guest_alloc(sizeof(struct xen_feature_info));
    struct xen_feature_info *f = fake_guest(a);

    (void)state;
    assert_int_equal(do_xen_version(XENVER_version, 0, 0, 0, 0, 0), 4 << 16 | 17);
    assert_int_equal(do_xen_version(XENVER_pagesize, 0, 0, 0, 0, 0), 4096);
    assert_string_equal(text(XENVER_extraversion), "-pvisor");
    assert_memory_equal(text(XENVER_capabilities), "xen-3.0-x86_64 ", 15);
    assert_string_equal(text(XENVER_commandline), "<denied>");
    dom->is_control = true;
    assert_string_equal(text(XENVER_commandline), "console=com1");
    assert_int_equal(do_xen_version(99, a.v, 0, 0, 0, 0), -ENOSYS);
    assert_int_equal(do_xen_version(XENVER_extraversion, 8, 0, 0, 0, 0), -EFAULT);
    assert_int_equal(do_xen_version(XENVER_get_features, a.v, 0, 0, 0, 0), 0);
    assert_true(f->submap & 1 << XENFEAT_mmu_pt_update_preserve_ad);
    assert_false(f->submap & (1 << XENFEAT_auto_translated_physmap | 1 << XENFEAT_dom0));
    f->submap_idx = 1;
    assert_int_equal(do_xen_version(XENVER_get_features, a.v, 0, 0, 0, 0), -EINVAL);
}

static void tells_where_its_hole_begins(void **state)
{
    gva_t a = fake_guest_alloc(8);
    u64 v;

    (void)state;
    assert_int_equal(do_xen_version(XENVER_platform_parameters, a.v, 0, 0, 0, 0), 0);
    assert_int_equal(guest_read_word(&v, a, 0), 0);
    assert_int_equal(v, current_word() == ABI_64 ? HYPERVISOR_VIRT_START_64 : HYPERVISOR_VIRT_START_NONPAE);
}

static s64 assist(u32 cmd, u32 type) { return do_vm_assist(cmd, type, 0, 0, 0, 0); }

static void assists_by_kind_of_guest(void **state)
{
    bool is_64 = current_word() == ABI_64;

    (void)state;
    assert_int_equal(assist(VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag), 0);
    assert_int_equal(dom->vm_assist, 1 << VMASST_TYPE_runstate_update_flag);
    assert_int_equal(assist(VMASST_CMD_disable, VMASST_TYPE_runstate_update_flag), 0);
    assert_int_equal(dom->vm_assist, 0);
    assert_int_equal(assist(VMASST_CMD_enable, VMASST_TYPE_m2p_strict), is_64 ? 0 : -EINVAL);
    assert_int_equal(assist(VMASST_CMD_enable, VMASST_TYPE_4gb_segments), 0);
    assert_int_equal(assist(VMASST_CMD_enable, 64), -EINVAL);
    assert_int_equal(assist(7, VMASST_TYPE_runstate_update_flag), -ENOSYS);
}

#define BOTH(t) { #t " (64)", t, setup_64, NULL, NULL }, { #t " (32)", t, setup_32, NULL, NULL }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(calls_each_in_turn),
        BOTH(each_has_its_own_error),
        BOTH(says_why_it_failed),
        BOTH(an_inner_call_gives_way),
        BOTH(progress_is_in_the_entry),
        BOTH(leaving_ends_it),
        BOTH(joins_the_halves),
        BOTH(bad_lists),
        BOTH(tells_its_version),
        BOTH(tells_where_its_hole_begins),
        BOTH(assists_by_kind_of_guest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
