/* Sysctls that walk over all domains: complete whatever number of times they give way, and whatever is in the registers. */
// SOURCES: common/control/sysctl.c common/control/versions.c common/control/machine.c common/abi.c tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/features.h>
#include <asm/smp.h>
#include <common/control/internal.h>
#include <public/errno.h>
#include <pvisor/console.h>
#include <pvisor/cpupool.h>
#include <pvisor/frame.h>
#include <pvisor/sched.h>
#include <pvisor/time.h>
#include "fake/fake.h"

/* --- Domains, and what other sysctls want -------------------------------------------------------------------- */

#define NR 300

static struct domain domains[NR];     /* numbers 0, 3, 6 ... */
static unsigned taken;                /* references that are out */

struct domain *domain_get_next(u32 domid)
{
    u32 n = DIV_ROUND_UP(domid, 3);

    if (n >= NR)
        return NULL;
    taken++;
    domains[n].id = (u16)(3 * n);
    return &domains[n];
}

void domain_put(struct domain *d) { (void)d; taken--; }
void fill_domaininfo(struct domain *d, struct xen_domctl_getdomaininfo *info)
{
    memset(info, 0, sizeof(*info));
    info->domain = d->id;
}

struct cpu_host cpu_host;
cpumask_t cpu_online_map;
unsigned nr_cpus = 1;
struct domain *idle_domain;
spinlock_t control_lock = SPINLOCK_INIT(RANK_CONTROL);
bool spin_trylock(spinlock_t *l) { spin_lock(l); return true; }
int bitmap_to_guest(const struct xenctl_bitmap *b, const void *bits, u32 nr) { (void)b, (void)bits, (void)nr; return 0; }
u64 vcpu_runtime(struct vcpu *v) { (void)v; return 0; }
u64 tsc_khz(void) { return 1; }
mfn_t max_ram_mfn(void) { return mfn(0); }
u64 heap_total_frames(void) { return 0; }
u64 heap_free_frames(void) { return 0; }
u64 claimed_frames(void) { return 0; }
int cpu_online(unsigned cpu) { (void)cpu; return 0; }
int cpu_offline(unsigned cpu) { (void)cpu; return 0; }
u32 console_ring_read(char *buf, u32 n, u32 *index, bool clear) { (void)buf, (void)n, (void)index, (void)clear; return 0; }
void debug_key_handle(char key, struct cpu_regs *regs) { (void)key, (void)regs; }
s64 sched_sysctl(struct xen_sysctl_scheduler_op *op) { (void)op; return 0; }
s64 sc_tbuf_op(struct xen_sysctl *op) { (void)op; return 0; }
s64 sc_get_pmstat(struct xen_sysctl *op) { (void)op; return 0; }
s64 sc_pm_op(struct xen_sysctl *op) { (void)op; return 0; }
s64 sc_cpu_policy(struct xen_sysctl *op) { (void)op; return 0; }
s64 sc_cpu_featureset(struct xen_sysctl *op) { (void)op; return 0; }
s64 sc_levelling_caps(struct xen_sysctl *op) { (void)op; return 0; }

/* --- Tests --------------------------------------------------------------------------------------------------- */

static gva_t op_at, list_at;

static int fresh(void **state)
{
    (void)state;
    fake_reset();
    taken = 0;
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    op_at = fake_guest_alloc(sizeof(struct xen_sysctl));
    list_at = fake_guest_alloc(NR * sizeof(struct xen_domctl_getdomaininfo));
    return 0;
}

static struct xen_sysctl *guest_op(void) { return fake_guest(op_at); }

static s64 list(u16 first, u32 max, u64 a1, u64 a2)
{
    *guest_op() = (struct xen_sysctl){ .cmd = XEN_SYSCTL_getdomaininfolist, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };
    guest_op()->u.getdomaininfolist = (struct xen_sysctl_getdomaininfolist){
        .first_domain = first, .max_domains = max, .buffer = list_at.v, .num_domains = 77 };
    return fake_hypercall(do_sysctl, op_at.v, a1, a2);
}

static void check_list(u32 first_index, u32 n)
{
    const struct xen_domctl_getdomaininfo *info = fake_guest(list_at);

    assert_int_equal(guest_op()->u.getdomaininfolist.num_domains, n);
    for (u32 i = 0; i < n; i++)
        assert_int_equal(info[i].domain, 3 * (first_index + i));
    assert_int_equal(taken, 0);
}

static void lists_all_however_often_it_gives_way(void **state)
{
    (void)state;
    for (int every = 0; every < 5; every++) {
        fake.preempt_every = every;
        assert_int_equal(list(0, NR, 0, 0), 0);
        check_list(0, NR);
        assert_int_equal(list(4, 10, 0, 0), 0);
        check_list(2, 10);
        assert_int_equal(list(0, 0, 0, 0), 0);
        check_list(0, 0);
    }
}

/* The interface has one argument: the other registers hold anything. */
static void garbage_in_other_registers_is_none_of_ours(void **state)
{
    (void)state;
    fake.preempt_every = 3;
    assert_int_equal(list(0, NR, 0xdeadbeef, ~0UL), 0);
    check_list(0, NR);
}

static void a_forged_progress_harms_its_maker_only(void **state)
{
    u64 mark;

    (void)state;
    fake.preempt_every = 1;
    assert_int_equal(list(0, NR, 0, 0), 0);
    assert_int_equal(fake_restart.nr_args, 3);
    mark = fake_restart.arg[1];
    assert_int_equal(list(0, NR, mark, ~0UL), 0);       /* beyond all */
    (void)list(0, ~0u, mark, 0x0000ffff);               /* writes beyond the list, to the caller's own memory */
    assert_int_equal(taken, 0);
}

/* --- CPU pools: numbers 0 and 4 ------------------------------------------------------------------------------- */

static struct cpupool pool = { .nr_domains = 5, .exists = true };
static unsigned moves;

struct cpupool *cpupool_get(u32 id) { return id == 0 || id == 4 ? &pool : NULL; }
u32 cpupool_next(u32 id) { return !id ? 0 : id <= 4 ? 4 : CPUPOOL_ANY; }
int cpupool_create(u32 *id) { *id = *id == CPUPOOL_ANY ? 1 : *id; return 0; }
int cpupool_destroy(u32 id) { return id == 4 ? 0 : -EBUSY; }
int cpupool_add_cpu(u32 id, u32 cpu) { (void)id; return -(int)cpu; }
int cpupool_remove_cpu(u32 id, u32 cpu) { (void)id; return -100 - (int)cpu; }
cpumask_t cpupool_free_cpus(void) { return cpumask_of(1); }
int cpupool_move_domain(struct domain *d, u32 id) { (void)d, (void)id; moves++; return 0; }
struct domain *domain_get(u32 id) { return id == 0 ? current->domain : id == 3 ? (taken++, &domains[1]) : NULL; }

static s64 pool_op(u32 op, struct xen_sysctl_cpupool_op c)
{
    c.op = op;
    *guest_op() = (struct xen_sysctl){ .cmd = XEN_SYSCTL_cpupool_op, .interface_version = XEN_SYSCTL_INTERFACE_VERSION, .u.cpupool_op = c };
    return fake_hypercall(do_sysctl, op_at.v, 0, 0);
}

static void finds_the_next_pool(void **state)
{
    static const struct { u32 from, found; } cases[] = { { 0, 0 }, { XEN_SYSCTL_CPUPOOL_PAR_ANY, 0 }, { 1, 4 }, { 4, 4 } };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_INFO, (struct xen_sysctl_cpupool_op){ .cpupool_id = cases[i].from }), 0);
        assert_int_equal(guest_op()->u.cpupool_op.cpupool_id, cases[i].found);
        assert_int_equal(guest_op()->u.cpupool_op.sched_id, XEN_SCHEDULER_CREDIT2);
        assert_int_equal(guest_op()->u.cpupool_op.n_dom, 5);
    }
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_INFO, (struct xen_sysctl_cpupool_op){ .cpupool_id = 5 }), -ENOENT);
}

static void pools_are_told_what_is_asked(void **state)
{
    struct xen_sysctl_cpupool_op any = { .cpupool_id = CPUPOOL_ANY, .sched_id = XEN_SCHEDULER_CREDIT2 };

    (void)state;
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_CREATE, any), 0);
    assert_int_equal(guest_op()->u.cpupool_op.cpupool_id, 1);
    any.sched_id = XEN_SCHEDULER_CREDIT;
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_CREATE, any), -EINVAL);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_DESTROY, any), -EBUSY);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_ADDCPU, (struct xen_sysctl_cpupool_op){ .cpu = 7 }), -7);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_RMCPU, (struct xen_sysctl_cpupool_op){ .cpu = 7 }), -107);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_FREEINFO, any), 0);
    assert_int_equal(pool_op(0, any), -EOPNOTSUPP);
    assert_int_equal(pool_op(8, any), -EOPNOTSUPP);
}

static void domains_are_moved_but_not_the_caller(void **state)
{
    (void)state;
    moves = 0;
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, (struct xen_sysctl_cpupool_op){ .domid = 3 }), 0);
    assert_int_equal(moves, 1);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, (struct xen_sysctl_cpupool_op){ .domid = 4 }), -ESRCH);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, (struct xen_sysctl_cpupool_op){ .domid = 0x10003 }), -ESRCH);
    assert_int_equal(taken, 0);
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, (struct xen_sysctl_cpupool_op){ .domid = 0 }), -EPERM);
    /* One that dies would keep its new pool until its last frame goes. */
    domains[1].dying = DOMAIN_DYING;
    assert_int_equal(pool_op(XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, (struct xen_sysctl_cpupool_op){ .domid = 3 }), -ESRCH);
    domains[1].dying = 0;
    assert_int_equal(moves, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lists_all_however_often_it_gives_way, fresh),
        cmocka_unit_test_setup(garbage_in_other_registers_is_none_of_ours, fresh),
        cmocka_unit_test_setup(a_forged_progress_harms_its_maker_only, fresh),
        cmocka_unit_test_setup(finds_the_next_pool, fresh),
        cmocka_unit_test_setup(pools_are_told_what_is_asked, fresh),
        cmocka_unit_test_setup(domains_are_moved_but_not_the_caller, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
