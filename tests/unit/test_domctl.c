/* Control calls of every version of their interface: in which layout, with which meaning, and what is none of them. */
// SOURCES: common/control/domctl.c common/control/versions.c common/control/life.c common/control/access.c common/abi.c
// SOURCES: tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <asm/features.h>
#include <common/control/internal.h>
#include <pvisor/evtchn.h>
#include <pvisor/rangeset.h>
#include <pvisor/sched.h>
#include <pvisor/time.h>
#include "fake/fake.h"

/* --- What is not looked at here ---------------------------------------------------------------------------------- */

#define OTHERS(X) X(setvcpucontext) X(getvcpucontext) X(getvcpuinfo) X(setvcpuaffinity) X(getvcpuaffinity) X(sendtrigger)       \
    X(setnodeaffinity) X(getnodeaffinity) X(scheduler_op) X(set_ext_vcpucontext) X(get_ext_vcpucontext) X(setvcpuextstate)     \
    X(getvcpuextstate) X(set_vcpu_msrs) X(get_vcpu_msrs) X(max_mem) X(getpageframeinfo3) X(shadow_op) X(hypercall_init)        \
    X(set_address_size) X(get_address_size) X(get_cpu_policy) X(set_cpu_policy) X(settscinfo) X(gettscinfo)
#define OTHER(name) s64 dc_##name(struct domain *, struct xen_domctl *, gva_t) { return 0; }
OTHERS(OTHER)

struct cpu_host cpu_host;
bool spin_trylock(spinlock_t *l) { spin_lock(l); return true; }
u64 vcpu_runtime(struct vcpu *) { return 0; }
void domain_wallclock_update(struct domain *) { }
int virq_set_handler(struct domain *, u32) { return 0; }
int domain_kill(struct domain *) { return 0; }
int domain_resume(struct domain *) { return 0; }
int domain_pause_by_controller(struct domain *) { return 0; }
int domain_unpause_by_controller(struct domain *) { return 0; }
struct vcpu *vcpu_create(struct domain *, u32) { return NULL; }

static u64 given;          /* the one interrupt that dom0 gave away, and what became of it */
bool rangeset_contains(const struct rangeset *, u64 first, u64 last) { return first == last && first < 16; }
int rangeset_add(struct rangeset *, u64 first, u64) { given = first; return 0; }
int rangeset_remove(struct rangeset *, u64, u64) { given = 0; return 0; }

static u16 changed;
u16 domain_next_changed(void) { return changed; }

static struct domain_config made;
static u16 asked;          /* the number that a domain was asked for with */
static struct domain *two, *five;

struct domain *domain_create(u16 domid, const struct domain_config *cfg, bool, int *)
{
    asked = domid;
    made = *cfg;
    return two;
}

struct domain *domain_get_next(u32 domid) { return domid <= 2 ? domain_get(2) : domid <= 5 ? domain_get(5) : NULL; }

static bool can_give;
bool devices_can_be_given(void) { return can_give; }

static struct { const struct domain *d; u32 sbdf; unsigned calls; } assigned;
int device_assign(struct domain *d, u32 sbdf)
{
    assigned.d = d;
    assigned.sbdf = sbdf;
    assigned.calls++;
    return 0;
}

/* --- Tests --------------------------------------------------------------------------------------------------- */

static const u32 versions[] = { XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_18, XEN_DOMCTL_INTERFACE_VERSION_4_19,
                                XEN_DOMCTL_INTERFACE_VERSION_4_22 };
static gva_t op_at;
static struct xen_domctl *op;

static int fresh(void **state)
{
    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    two = fake_domain(2, ABI_64, 1, false);
    five = fake_domain(5, ABI_64, 1, false);
    changed = DOMID_INVALID;
    op_at = fake_guest_alloc(sizeof(struct xen_domctl));
    op = fake_guest(op_at);
    return 0;
}

static s64 call(u32 cmd, u32 version, u16 domid)
{
    op->cmd = cmd;
    op->interface_version = version;
    op->domain = domid;
    return fake_hypercall(do_domctl, op_at.v, 0, 0);
}

/* Each field another number, at the place that the version's tools have it at. */
#define FILL(c) do {                                                                                            \
    *(c) = (__typeof__(*(c))){ .ssidref = 1, .flags = XEN_DOMCTL_CDF_s3_integrity, .max_vcpus = 3, .max_evtchn_port = 4, \
        .max_grant_frames = -1, .max_maptrack_frames = 6, .grant_opts = 2, .arch = { XEN_X86_EMU_PIT, XEN_X86_MSR_RELAXED } }; \
    memset((c)->handle, 0x77, sizeof((c)->handle)); } while (0)

static void fill(u32 version)
{
    memset(&op->u, 0, sizeof(op->u));
    if (version < XEN_DOMCTL_INTERFACE_VERSION_4_19)
        FILL((struct xen_domctl_createdomain_4_17 *)&op->u);
    else
        FILL((struct xen_domctl_createdomain_4_19 *)&op->u);
}

static void a_domain_is_made_by_each_versions_tools(void **state)
{
    static const u8 handle[16] = { [0 ... 15] = 0x77 };
    struct xen_domctl before;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        fill(versions[i]);
        before = *op;
        assert_int_equal(call(XEN_DOMCTL_createdomain, versions[i], 7), 0);
        assert_int_equal(asked, 7);
        assert_int_equal(op->domain, 2);
        assert_memory_equal(&op->u, &before.u, sizeof(op->u));
        assert_int_equal(made.ssidref, 1);
        assert_int_equal(made.max_vcpus, 3);
        assert_int_equal(made.max_evtchn_port, 4);
        assert_int_equal(made.max_grant_frames, -1);
        assert_int_equal(made.max_maptrack_frames, 6);
        assert_int_equal(made.grant_opts, 2);
        assert_memory_equal(made.handle, handle, sizeof(handle));
        assert_int_equal(two->arch_config.emulation_flags, XEN_X86_EMU_PIT);
        assert_int_equal(two->arch_config.misc_flags, XEN_X86_MSR_RELAXED);
        /* 4 bytes further on in the newer layout. */
        fill(versions[i]);
        ((u32 *)&op->u)[versions[i] < XEN_DOMCTL_INTERFACE_VERSION_4_19 ? 12 : 13] = 1;
        assert_int_equal(call(XEN_DOMCTL_createdomain, versions[i], 7), -EINVAL);    /* vmtrace_size */
    }
    fill(XEN_DOMCTL_INTERFACE_VERSION_4_19);
    op->u.createdomain.altp2m_opts = 1;
    assert_int_equal(call(XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_19, 7), -EINVAL);
}

static void what_asks_for_any_number_is_each_versions_own(void **state)
{
    static const struct { u32 version; u16 domid, asked; } cases[] = {
        { XEN_DOMCTL_INTERFACE_VERSION_4_17, 0, DOMID_ANY }, { XEN_DOMCTL_INTERFACE_VERSION_4_19, 0, DOMID_ANY },
        { XEN_DOMCTL_INTERFACE_VERSION_4_17, 0xffff, DOMID_ANY }, { XEN_DOMCTL_INTERFACE_VERSION_4_19, DOMID_INVALID, DOMID_ANY },
        { XEN_DOMCTL_INTERFACE_VERSION_4_22, DOMID_ANY, DOMID_ANY }, { XEN_DOMCTL_INTERFACE_VERSION_4_22, 0, 0 },
        { XEN_DOMCTL_INTERFACE_VERSION_4_22, DOMID_INVALID, DOMID_INVALID }, { XEN_DOMCTL_INTERFACE_VERSION_4_22, 9, 9 },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        fill(cases[i].version);
        assert_int_equal(call(XEN_DOMCTL_createdomain, cases[i].version, cases[i].domid), 0);
        assert_int_equal(asked, cases[i].asked);
    }
}

static void only_the_oldest_tools_are_told_of_the_next_domain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        bool next = versions[i] == XEN_DOMCTL_INTERFACE_VERSION_4_17;

        assert_int_equal(call(XEN_DOMCTL_getdomaininfo, versions[i], 2), 0);
        assert_int_equal(op->u.getdomaininfo.domain, 2);
        assert_int_equal(call(XEN_DOMCTL_getdomaininfo, versions[i], 3), next ? 0 : -ESRCH);
        if (next) {
            assert_int_equal(op->domain, 5);
            assert_int_equal(op->u.getdomaininfo.domain, 5);
        }
        assert_int_equal(call(XEN_DOMCTL_getdomaininfo, versions[i], 6), -ESRCH);
        assert_int_equal(call(XEN_DOMCTL_getdomaininfo, versions[i], DOMID_SELF), -ESRCH);
    }
    assert_int_equal(two->refs, 1);
    assert_int_equal(five->refs, 1);
}

static void other_versions_are_refused(void **state)
{
    static const u32 others[] = { 0, 0x14, XEN_DOMCTL_INTERFACE_VERSION + 1, 0xffffffff };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        assert_int_equal(call(XEN_DOMCTL_getdomaininfo, others[i], 2), -EACCES);
        assert_int_equal(call(95, others[i], 2), -EACCES);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(versions); i++) {
        assert_int_equal(call(XEN_DOMCTL_get_domain_state, versions[i], 2), -EACCES);
        assert_int_equal(call(95, versions[i], 2), -ENOSYS);
    }
}

/* The errno decides whether xl goes on. */
static void there_are_no_cache_colours(void **state)
{
    (void)state;
    assert_int_equal(call(XEN_DOMCTL_set_llc_colors, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), -EOPNOTSUPP);
}

static void a_gsi_is_given_and_taken(void **state)
{
    (void)state;
    op->u.gsi_permission = (struct xen_domctl_gsi_permission){ 9, XEN_DOMCTL_GSI_GRANT };
    assert_int_equal(call(XEN_DOMCTL_gsi_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
    assert_int_equal(given, 9);
    op->u.gsi_permission.flags = XEN_DOMCTL_GSI_REVOKE;
    assert_int_equal(call(XEN_DOMCTL_gsi_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
    assert_int_equal(given, 0);
    op->u.gsi_permission.flags = 2;
    assert_int_equal(call(XEN_DOMCTL_gsi_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), -EINVAL);
    op->u.gsi_permission = (struct xen_domctl_gsi_permission){ 20, XEN_DOMCTL_GSI_GRANT };
    assert_int_equal(call(XEN_DOMCTL_gsi_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), -EPERM);
}

/* What it has mapped the domain keeps: who looks at its tables is to know. */
static void device_memory_that_is_taken_back_is_noted(void **state)
{
    (void)state;
    op->u.iomem_permission = (struct xen_domctl_iomem_permission){ .first_mfn = 9, .nr_mfns = 1, .allow_access = 1 };
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
    assert_false(two->iomem_withdrawn);
    op->u.iomem_permission = (struct xen_domctl_iomem_permission){ .first_mfn = 20, .nr_mfns = 1 };
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), -EPERM);
    assert_false(two->iomem_withdrawn);
    op->u.iomem_permission = (struct xen_domctl_iomem_permission){ .first_mfn = 9, .nr_mfns = 1 };
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
    assert_true(two->iomem_withdrawn);
}

/* As devices: nobody could log what they write. */
static void no_device_memory_for_a_domain_whose_writes_are_logged(void **state)
{
    (void)state;
    two->arch.logging = true;
    given = 0;
    op->u.iomem_permission = (struct xen_domctl_iomem_permission){ .first_mfn = 9, .nr_mfns = 1, .allow_access = 1 };
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), -EBUSY);
    assert_int_equal(given, 0);
    op->u.iomem_permission.allow_access = 0;
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
    two->arch.logging = false;
    assert_int_equal(call(XEN_DOMCTL_iomem_permission, XEN_DOMCTL_INTERFACE_VERSION_4_19, 2), 0);
}

static s64 state_of(u16 domid)
{
    memset(&op->u, 0, sizeof(op->u));
    return call(XEN_DOMCTL_get_domain_state, XEN_DOMCTL_INTERFACE_STABLE, domid);
}

static void states_are_told(void **state)
{
    (void)state;
    two->unique_id = 12;
    two->is_shut_down = true;
    two->createflags = XEN_DOMCTL_CDF_xs_domain;
    assert_int_equal(state_of(2), 0);
    assert_int_equal(op->u.get_domain_state.state, XEN_DOMCTL_GETDOMSTATE_STATE_EXIST | XEN_DOMCTL_GETDOMSTATE_STATE_SHUTDOWN);
    assert_int_equal(op->u.get_domain_state.caps, XEN_DOMCTL_GETDOMSTATE_CAP_XENSTORE);
    assert_int_equal(op->u.get_domain_state.unique_id, 12);
    two->dying = DOMAIN_DEAD;
    assert_int_equal(state_of(2), 0);
    assert_int_equal(op->u.get_domain_state.state, XEN_DOMCTL_GETDOMSTATE_STATE_EXIST | XEN_DOMCTL_GETDOMSTATE_STATE_SHUTDOWN |
                                                   XEN_DOMCTL_GETDOMSTATE_STATE_DEAD);
    assert_int_equal(state_of(3), -ESRCH);
    op->u.get_domain_state.pad0 = 1;
    assert_int_equal(call(XEN_DOMCTL_get_domain_state, XEN_DOMCTL_INTERFACE_STABLE, 2), -EINVAL);

    /* Of the next that changed; one that has gone since has no state. */
    assert_int_equal(state_of(DOMID_INVALID), -ENOENT);
    changed = 5;
    assert_int_equal(state_of(DOMID_INVALID), 0);
    assert_int_equal(op->domain, 5);
    assert_int_equal(op->u.get_domain_state.state, XEN_DOMCTL_GETDOMSTATE_STATE_EXIST);
    changed = 3;
    assert_int_equal(state_of(DOMID_INVALID), 0);
    assert_int_equal(op->domain, 3);
    assert_int_equal(op->u.get_domain_state.state, 0);
    assert_int_equal(two->refs, 1);
    assert_int_equal(five->refs, 1);
}

/* A domain may be made for devices where some can be given, whatever it is told of tables, which are ours to keep. */
static void a_domain_is_made_for_devices_where_there_are_some(void **state)
{
    struct xen_domctl_createdomain *c;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        can_give = i;
        fill(XEN_DOMCTL_INTERFACE_VERSION_4_22);
        c = &op->u.createdomain;
        c->flags |= XEN_DOMCTL_CDF_iommu;
        c->iommu_opts = XEN_DOMCTL_IOMMU_no_sharept;
        assert_int_equal(call(XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_22, 7), i ? 0 : -EINVAL);
    }
    c->iommu_opts = ~0u;
    assert_int_equal(call(XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_22, 7), -EINVAL);
    c->flags &= ~XEN_DOMCTL_CDF_iommu;
    c->iommu_opts = XEN_DOMCTL_IOMMU_no_sharept;
    assert_int_equal(call(XEN_DOMCTL_createdomain, XEN_DOMCTL_INTERFACE_VERSION_4_22, 7), -EINVAL);
}

static s64 assign(u16 domid, u32 kind, u32 flags)
{
    op->u.assign_device = (struct xen_domctl_assign_device){ .dev = kind, .flags = flags, .u.pci.machine_sbdf = 0x123 };
    return call(XEN_DOMCTL_assign_device, XEN_DOMCTL_INTERFACE_VERSION_4_17, domid);
}

static void devices_go_to_a_domain_or_to_nobody(void **state)
{
    (void)state;
    assigned.calls = 0;
    assert_int_equal(assign(2, XEN_DOMCTL_DEV_PCI, 0), 0);
    assert_ptr_equal(assigned.d, two);
    assert_int_equal(assigned.sbdf, 0x123);
    assert_int_equal(assign(DOMID_IO, XEN_DOMCTL_DEV_PCI, XEN_DOMCTL_DEV_RDM_RELAXED), 0);
    assert_null(assigned.d);
    assert_int_equal(assign(77, XEN_DOMCTL_DEV_PCI, 0), -ESRCH);
    assert_int_equal(assign(DOMID_INVALID, XEN_DOMCTL_DEV_PCI, 0), -ESRCH);
    assert_int_equal(assign(2, XEN_DOMCTL_DEV_DT, 0), -EOPNOTSUPP);
    assert_int_equal(assign(2, XEN_DOMCTL_DEV_PCI, 2), -EINVAL);
    assert_int_equal(assigned.calls, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_domain_is_made_by_each_versions_tools, fresh),
        cmocka_unit_test_setup(what_asks_for_any_number_is_each_versions_own, fresh),
        cmocka_unit_test_setup(only_the_oldest_tools_are_told_of_the_next_domain, fresh),
        cmocka_unit_test_setup(other_versions_are_refused, fresh),
        cmocka_unit_test_setup(there_are_no_cache_colours, fresh),
        cmocka_unit_test_setup(a_gsi_is_given_and_taken, fresh),
        cmocka_unit_test_setup(device_memory_that_is_taken_back_is_noted, fresh),
        cmocka_unit_test_setup(no_device_memory_for_a_domain_whose_writes_are_logged, fresh),
        cmocka_unit_test_setup(states_are_told, fresh),
        cmocka_unit_test_setup(a_domain_is_made_for_devices_where_there_are_some, fresh),
        cmocka_unit_test_setup(devices_go_to_a_domain_or_to_nobody, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
