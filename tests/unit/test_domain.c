/*
 * Domains from creation to destruction: numbers, lookup, references, pausing, shutting down, a teardown that
 * gives way, frames that outlive everything else.
 */
// SOURCES: common/domain/create.c common/domain/end.c common/domain/lookup.c common/domain/pause.c
// SOURCES: common/domain/invariant.c tests/unit/fake/clause.c
// SOURCES: tests/unit/fake/cmdline.c common/domain/changed.c common/domain/vcpu.c common/abi.c tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <public/errno.h>
#include <public/sched.h>
#include <asm/pt_format.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/cpupool.h>
#include <pvisor/evtchn.h>
#include <pvisor/gnttab.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/irq.h>
#include <pvisor/power.h>
#include <pvisor/rangeset.h>
#include <pvisor/time.h>
#include "fake/fake.h"

/* --- Subsystems that only count ------------------------------------------------------------------- */

static int fail_part, parts_made, parts_left, vcpus_left, exceptions, suspend_events, relinquish_rounds;
static int relinquished_of;
static struct tasklet *queued;

static int make_part(void)
{
    if (++parts_made == fail_part)
        return -ENOMEM;
    parts_left++;
    return 0;
}

int evtchn_domain_init(struct domain *d, u32 max_port) { (void)d, (void)max_port; return make_part(); }
int evtchn_domain_destroy(struct domain *d) { (void)d; return 0; }
void evtchn_domain_free(struct domain *d) { (void)d; parts_left--; }
void evtchn_vcpu_init(struct vcpu *v) { (void)v; }
s64 evtchn_send(struct domain *d, u32 port) { (void)d, (void)port; suspend_events++; return 0; }
int gnttab_domain_init(struct domain *d, u32 f, u32 m) { (void)d, (void)f, (void)m; return make_part(); }
void gnttab_domain_destroy(struct domain *d) { (void)d; parts_left--; }
int gnttab_release_mappings(struct domain *d) { assert_int_equal(relinquished_of, d->id); return 0; }   /* no entries any more */
int pirq_domain_init(struct domain *d) { (void)d; return make_part(); }
void pirq_domain_destroy(struct domain *d) { (void)d; parts_left--; }
int cpu_policy_domain_init(struct domain *d) { (void)d; return make_part(); }
void cpu_policy_domain_free(struct domain *d) { (void)d; parts_left--; }
int arch_domain_create(struct domain *d)
{
    static const struct pt_format format = { .name = "64-bit", .pte_bytes = 8 };

    d->arch.fmt = &format;
    return make_part();
}
void arch_domain_destroy(struct domain *d) { (void)d; parts_left--; }
void dirty_log_free(struct domain *d) { assert_int_equal(d->tot_pages + d->shared_frames, 0); }    /* whoever marks has a frame */
int arch_vcpu_create(struct vcpu *v) { (void)v; vcpus_left++; return 0; }
void arch_vcpu_destroy(struct vcpu *v) { (void)v; vcpus_left--; }
int arch_domain_relinquish(struct domain *d)
{
    relinquished_of = d->id;
    return relinquish_rounds-- > 0 ? -ERESTART_HYPERCALL : 0;
}

int sched_init_vcpu(struct vcpu *v) { (void)v; return 0; }
#define NO_POOL 7
static struct cpupool first_pool = { .cpus = { { 1 } } };
int sched_init_domain(struct domain *d, u32 pool)
{
    d->sched.pool = &first_pool;
    return pool == NO_POOL ? -ENOENT : 0;
}
int cpupool_move_domain(struct domain *d, u32 id) { (void)d, (void)id; return 0; }
void sched_destroy_vcpu(struct vcpu *v) { (void)v; }
void sched_destroy_domain(struct domain *d) { (void)d; }
void vcpu_timers_init(struct vcpu *v) { (void)v; }
void vcpu_timers_kill(struct vcpu *v) { (void)v; }
void domain_watchdogs_init(struct domain *d) { (void)d; }
void domain_watchdogs_kill(struct domain *d) { (void)d; }
void vcpu_wake(struct vcpu *v) { (void)v; }
void vcpu_sleep_nowait(struct vcpu *v) { (void)v; }
void vcpu_sleep_sync(struct vcpu *v) { (void)v; }
static unsigned shown, shown_running;
void vcpu_show_registers(struct vcpu *v)
{
    shown++;
    shown_running += !(v->pause_flags & VPF_PAUSED);
}
struct rangeset *rangeset_new(void) { return make_part() ? NULL : xzalloc_bytes(8); }
void rangeset_free(struct rangeset *r) { parts_left -= r != NULL; xfree(r); }
u64 now_ns(void) { return 0; }
int console_domain_init(struct domain *d) { (void)d; return make_part(); }
void console_domain_end(struct domain *d) { (void)d; parts_left--; }
bool frame_accounts_hold(struct domain *d) { (void)d; return true; }
int domain_claim(struct domain *d, u64 pages) { (void)d, (void)pages; return 0; }
u64 claimed_frames(void) { return 0; }
void send_dom0_virq(u32 virq) { exceptions += virq == VIRQ_DOM_EXC; }
void hardware_shutdown(u8 reason) { (void)reason; __builtin_trap(); }


/* A domain's last reference may go more than once, on any CPU: what unmakes it must not run on two at once. */
void tasklet_schedule_on(unsigned cpu, struct tasklet *t)
{
    assert_int_equal(cpu, 0);
    if (t->queued)
        return;
    t->queued = true;
    t->next = queued;
    queued = t;
}

static void run_tasklets(void)
{
    while (queued) {
        struct tasklet *t = queued;

        queued = t->next;
        t->queued = false;
        t->fn(t->data);
    }
}

/* Frames count towards their owner, as in the frame table. */
mfn_t domain_alloc_shared_frame(struct domain *d)
{
    mfn_t m = domain_alloc_frames(d, 0, MEMF_NO_COUNT);

    d->shared_frames += !mfn_eq(m, INVALID_MFN);
    return m;
}

static void final_put(u16 owner)
{
    struct domain *d = domain_get_owner(owner);

    assert_non_null(d);
    d->shared_frames--;
    domain_put(d);
}

static bool frames_are_mapped;

bool domain_release_frame(struct domain *d, mfn_t m)
{
    struct fake_frame *f = fake_frame(m);

    if (!f->allocated || f->owner != d->id)
        return false;
    f->allocated = false;
    if (!frames_are_mapped) {
        f->used = false;
        if (d->hidden)
            final_put(d->id);
    }
    return true;
}

/* --- Tests ------------------------------------------------------------------------------------------ */

static struct domain *control;

static const struct domain_config config = {
    .max_vcpus = 2, .max_evtchn_port = 100, .max_grant_frames = -1, .max_maptrack_frames = 7, .grant_opts = 1,
};

static int setup(void **state)
{
    (void)state;
    fake_reset();
    parts_made = parts_left = vcpus_left = exceptions = fail_part = suspend_events = relinquish_rounds = 0;
    frames_are_mapped = false;
    control = fake_domain(0, ABI_64, 1, true);
    fake_run(control, 0);
    return 0;
}

static struct domain *create(u16 id)
{
    int err = 1;
    struct domain *d = domain_create(id, &config, false, &err);

    assert_non_null(d);
    assert_int_equal(err, 0);
    return d;
}

static void destroy(struct domain *d)
{
    assert_int_equal(domain_kill(d), 0);
    run_tasklets();
}

static void makes_and_unmakes(void **state)
{
    struct domain *d = create(DOMID_ANY);
    u16 id = d->id;

    (void)state;
    assert_int_equal(d->max_grant_frames, 64);
    assert_int_equal(d->max_maptrack_frames, 7);
    assert_int_equal(d->pause_count, 1);
    assert_non_null(vcpu_create(d, 0));
    assert_null(vcpu_create(d, 0));
    assert_null(vcpu_create(d, 2));
    assert_ptr_equal(d->vcpu[0]->info, d->shared_info);
    assert_int_equal(d->vcpu[0]->pause_flags, VPF_DOWN | VPF_PAUSED);
    destroy(d);
    assert_null(domain_get(id));
    assert_int_equal(parts_left, 0);
    assert_int_equal(vcpus_left, 0);
    assert_int_equal(exceptions, 2);
    assert_int_equal(fake_usage().blocks, 0);
}

static void states_that_changed_are_told_once_each(void **state)
{
    struct domain *a, *b;
    u64 first;

    (void)state;
    while (domain_next_changed() != DOMID_INVALID)
        ;
    a = create(70);
    b = create(3);
    first = b->unique_id;
    assert_int_not_equal(a->unique_id, first);
    assert_int_equal(domain_next_changed(), 3);
    assert_int_equal(domain_next_changed(), 70);
    assert_int_equal(domain_next_changed(), DOMID_INVALID);
    domain_shutdown(a, SHUTDOWN_poweroff);
    assert_int_equal(domain_next_changed(), 70);
    assert_int_equal(domain_next_changed(), DOMID_INVALID);
    destroy(b);
    assert_int_equal(domain_next_changed(), 3);
    assert_int_equal(domain_next_changed(), DOMID_INVALID);
    b = create(3);
    assert_int_not_equal(b->unique_id, first);
    domains_all_changed();
    assert_int_equal(domain_next_changed(), 3);
    assert_int_equal(domain_next_changed(), 70);
    assert_int_equal(domain_next_changed(), DOMID_INVALID);
    destroy(a);
    destroy(b);
}

static void a_failed_creation_leaves_nothing(void **state)
{
    struct fake_usage before = fake_usage(), after;
    int err;

    (void)state;
    for (fail_part = 1; fail_part <= 8; fail_part++) {
        parts_made = 0;
        assert_null(domain_create(5, &config, false, &err));
        assert_int_equal(err, -ENOMEM);
        assert_null(domain_get(5));
        run_tasklets();
        assert_int_equal(parts_left, 0);
        after = fake_usage();
        assert_memory_equal(&before, &after, sizeof(before));
    }
    fail_part = 0;
    destroy(create(5));
}

/* The toolstack named it: it learns so before memory is taken, and cleared, for all the rest. */
static void a_pool_that_is_not_there_is_found_first(void **state)
{
    struct domain_config elsewhere = config;
    int err;

    (void)state;
    elsewhere.cpupool = NO_POOL;
    parts_made = 0;
    assert_null(domain_create(5, &elsewhere, false, &err));
    assert_int_equal(err, -ENOENT);
    assert_int_equal(parts_made, 0);
    run_tasklets();
    destroy(create(5));
}

static void numbers_are_not_reused_at_once(void **state)
{
    struct domain *a = create(DOMID_ANY), *b;
    u16 id = a->id;
    int err;

    (void)state;
    assert_null(domain_create(id, &config, false, &err));
    assert_int_equal(err, -EEXIST);
    destroy(a);
    b = create(DOMID_ANY);
    assert_int_not_equal(b->id, id);
    destroy(b);
    destroy(create(id));
}

static void refuses_silly_configurations(void **state)
{
    struct domain_config c = config;
    int err;

    (void)state;
    c.max_vcpus = 0;
    assert_null(domain_create(3, &c, false, &err));
    assert_int_equal(err, -EINVAL);
    c.max_vcpus = MAX_VCPUS + 1;
    assert_null(domain_create(3, &c, false, &err));
    assert_null(domain_create(DOMID_IDLE, &config, false, &err));
}

static void iterates_by_rising_number(void **state)
{
    static const u16 ids[] = { 300, 7, 44, 263 };
    static const u16 sorted[] = { 7, 44, 263, 300 };
    struct domain *d[4];
    u32 n = 0;

    (void)state;
    for (int i = 0; i < 4; i++)
        d[i] = create(ids[i]);
    for (struct domain *p = domain_get_next(1); p; p = domain_get_next(p->id + 1u)) {
        assert_int_equal(p->id, sorted[n++]);
        domain_put(p);
    }
    assert_int_equal(n, 4);
    for (int i = 0; i < 4; i++)
        destroy(d[i]);
}

static void a_reference_keeps_a_dead_domain(void **state)
{
    struct domain *d = create(9), *ref = domain_get(9);

    (void)state;
    assert_ptr_equal(ref, d);
    destroy(d);
    assert_int_equal(d->dying, DOMAIN_DEAD);
    assert_ptr_equal(domain_get(9), d);
    domain_put(d);
    assert_true(parts_left > 0);
    domain_put(ref);
    run_tasklets();
    assert_null(domain_get(9));
    assert_int_equal(parts_left, 0);
    assert_int_equal(fake_usage().blocks, 0);
}

/* A CPU may stand still for a look after the last reference is gone, and before the tasklet on the first CPU has hidden the domain. */
static void a_look_may_come_before_the_tasklet(void **state)
{
    struct domain *d = create(9);

    (void)state;
    assert_int_equal(domain_kill(d), 0);
    assert_true(d->destroy.queued);
    domains_look();
    run_tasklets();
    domains_look();
    assert_null(domain_get(9));
}

/* The toolstack maps a domain's frame beyond the domain's death. */
static void a_mapped_frame_keeps_the_number(void **state)
{
    struct domain *d = create(9);
    int err;

    (void)state;
    frames_are_mapped = true;
    destroy(d);
    domains_look();
    assert_null(domain_get(9));
    assert_int_equal(parts_left, 0);
    assert_int_equal(exceptions, 1);
    assert_null(domain_create(9, &config, false, &err));
    assert_int_equal(err, -EEXIST);
    final_put(9);
    run_tasklets();
    assert_int_equal(exceptions, 2);
    assert_null(domain_get_owner(9));
    assert_int_equal(fake_usage().blocks, 0);
}

static void teardown_gives_way_and_goes_on(void **state)
{
    struct domain *d = create(9);

    (void)state;
    relinquish_rounds = 3;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(domain_kill(d), -ERESTART_HYPERCALL);
        assert_int_equal(d->dying, DOMAIN_DYING);
    }
    assert_int_equal(d->pause_count, 2);
    destroy(d);
    assert_int_equal(fake_usage().blocks, 0);
}

static void pauses_nest(void **state)
{
    struct domain *d = create(9);
    struct vcpu *v = vcpu_create(d, 1);

    (void)state;
    v->pause_flags &= ~VPF_DOWN;
    assert_int_equal(v->pause_flags, VPF_PAUSED);
    assert_int_equal(domain_pause_by_controller(d), 0);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    assert_int_equal(v->pause_flags, VPF_PAUSED);
    vcpu_pause(v);
    assert_int_equal(domain_unpause_by_controller(d), 0);
    assert_int_equal(v->pause_flags, VPF_PAUSED);
    vcpu_unpause(v);
    assert_int_equal(v->pause_flags, 0);
    assert_int_equal(domain_unpause_by_controller(d), -EINVAL);
    destroy(d);
}

static void shuts_down_once_and_resumes(void **state)
{
    struct domain *d = create(9);
    struct vcpu *v = vcpu_create(d, 0);

    (void)state;
    domain_unpause_by_controller(d);
    v->pause_flags &= ~VPF_DOWN;
    domain_shutdown(d, SHUTDOWN_reboot);
    domain_shutdown(d, SHUTDOWN_crash);
    assert_true(d->is_shut_down);
    assert_int_equal(d->shutdown_code, SHUTDOWN_reboot);
    assert_int_equal(d->pause_count, 1);
    assert_int_equal(exceptions, 1);
    assert_int_equal(domain_resume(d), 0);
    assert_int_equal(v->pause_flags, 0);
    assert_int_equal(d->shutdown_code, 0xff);
    d->suspend_port = 5;
    domain_shutdown(d, SHUTDOWN_suspend);
    assert_int_equal(suspend_events, 1);
    assert_int_equal(exceptions, 1);
    destroy(d);
}

/* What its vCPUs would try for ever meanwhile they do not try, and after a resume a crash is one again. */
static void stands_still_before_a_crash_is_told(void **state)
{
    struct domain *d = create(9);
    struct vcpu *v = vcpu_create(d, 0), *was = current;

    (void)state;
    domain_unpause_by_controller(d);
    v->pause_flags &= ~VPF_DOWN;
    shown = shown_running = 0;
    for (unsigned lives = 1; lives < 3; lives++) {
        cpu_info()->current_vcpu = v;
        domain_crash(d, "first");
        domain_crash(d, "second, from another vCPU");
        cpu_info()->current_vcpu = was;
        assert_int_equal(shown, lives);
        assert_int_equal(shown_running, 0);
        assert_int_equal(d->pause_count, 1);
        assert_int_equal(d->shutdown_code, SHUTDOWN_crash);
        assert_int_equal(exceptions, lives);
        assert_int_equal(domain_resume(d), 0);
        assert_int_equal(v->pause_flags, 0);
    }
    destroy(d);
}

#define TEST(t) cmocka_unit_test_setup(t, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(makes_and_unmakes),
        TEST(states_that_changed_are_told_once_each),
        TEST(a_failed_creation_leaves_nothing),
        TEST(a_pool_that_is_not_there_is_found_first),
        TEST(numbers_are_not_reused_at_once),
        TEST(refuses_silly_configurations),
        TEST(iterates_by_rising_number),
        TEST(a_reference_keeps_a_dead_domain),
        TEST(a_look_may_come_before_the_tasklet),
        TEST(a_mapped_frame_keeps_the_number),
        TEST(teardown_gives_way_and_goes_on),
        TEST(pauses_nest),
        TEST(shuts_down_once_and_resumes),
        TEST(stands_still_before_a_crash_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
