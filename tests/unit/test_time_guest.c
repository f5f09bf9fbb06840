/*
 * Time as guests are told of it: a TSC that is computed for them, from its first moment on; areas that another vCPU moves while they are
 * brought up to date.
 */
// SOURCES: tests/unit/fake/machine.c common/abi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "../../arch/x86/time/guest.c"
#include "fake/fake.h"

#define KHZ 3000000UL
#define TSC_MODE_ALWAYS_EMULATE 1

struct list domain_list = LIST_INIT(domain_list);
spinlock_t domlist_lock = SPINLOCK_INIT(RANK_DOMLIST);

static u64 now = SECONDS(100);
static struct clock_scale scale;            /* this CPU's point */
static void (*on_look)(struct vcpu *v);     /* another CPU's doing, while the time is computed */
static struct domain *d;
static struct vcpu *v;

u64 now_ns(void) { return now; }
u64 tsc_khz(void) { return KHZ; }
bool tsc_is_constant(void) { return true; }
bool tsc_is_synchronous(void)
{
    void (*act)(struct vcpu *) = on_look;

    on_look = NULL;
    if (act)
        act(v);
    return true;
}
const struct clock_scale *cpu_clock_scale(void) { return &scale; }
void time_on_rebase(void (*tell)(void)) { (void)tell; }
u64 rtc_read(void) { return 0; }

/* The CPU takes a new point of its clock, at the present. */
static void rebase(void)
{
    scale.tsc = now * 3;
    scale.ns = now;
    scale_set_hz(&scale, KHZ * 1000);
}

static int setup(void **state)
{
    (void)state;
    fake_reset();
    d = fake_domain(1, ABI_64, 2, false);
    v = d->vcpu[0];
    fake_run(d, 0);
    on_look = NULL;
    rebase();
    tsc_domain_init(d);
    return 0;
}

static const struct vcpu_time_info *told(void)
{
    return (const void *)((const char *)v->info + offsetof(struct vcpu_info_l64, time));
}

/* What a guest computes from its TSC of this moment. */
static u64 guests_ns(u64 guest_tsc)
{
    struct clock_scale s = { told()->tsc_timestamp, told()->system_time, told()->tsc_to_system_mul, told()->tsc_shift };

    return scale_to_ns(&s, guest_tsc);
}

/* A domain is made, and begins to run, between two points of the CPU's clock. */
static void a_computed_tsc_begins_behind_the_clocks_last_point(void **state)
{
    u64 tsc;

    (void)state;
    now += MILLISECS(300);
    assert_int_equal(tsc_set_info(d, TSC_MODE_ALWAYS_EMULATE, 0, 0, 0), 0);
    now += MILLISECS(200);
    vcpu_time_update(v);
    tsc = guest_rdtsc(v);
    assert_int_equal(tsc, MILLISECS(200) * 3);
    assert_in_range(guests_ns(tsc), now - 2, now + 2);
}

static void a_computed_tsc_goes_on_from_where_it_was_saved(void **state)
{
    (void)state;
    now += MILLISECS(300);
    assert_int_equal(tsc_set_info(d, TSC_MODE_ALWAYS_EMULATE, SECONDS(1000), 2000000, 0), 0);
    assert_int_equal(guest_rdtsc(v), SECONDS(1000) * 2);
    vcpu_time_update(v);
    assert_in_range(guests_ns(guest_rdtsc(v)), now - 2, now + 2);
}

static gva_t first, second;

static void move_area(struct vcpu *of)
{
    write_once(of->time_area.v, second.v);
    write_once(of->arch.time_area_tsc, 0);
}

static void take_area_away(struct vcpu *of)
{
    write_once(of->time_area.v, 0);
    write_once(of->arch.time_area_tsc, 0);
}

static u64 time_at(gva_t area) { return ((const struct vcpu_time_info *)fake_guest(area))->system_time; }

static void an_area_that_moves_meanwhile_gets_the_time_too(void **state)
{
    (void)state;
    first = fake_guest_alloc(sizeof(struct vcpu_time_info));
    second = fake_guest_alloc(sizeof(struct vcpu_time_info));
    v->time_area = first;
    on_look = move_area;
    vcpu_time_area_update(v);
    vcpu_time_area_update(v);
    assert_int_equal(time_at(second), scale.ns);
}

static void an_area_that_goes_meanwhile_is_not_at_address_0(void **state)
{
    (void)state;
    v->time_area = fake_guest_alloc(sizeof(struct vcpu_time_info));
    on_look = take_area_away;
    fake.reads_before_fault = 1;    /* where nothing is to be read any more */
    vcpu_time_area_update(v);
    assert_int_equal(fake.reads_before_fault, 1);
}

static void an_area_that_cannot_be_written_is_tried_again(void **state)
{
    gva_t area = fake_guest_alloc(sizeof(struct vcpu_time_info));

    (void)state;
    v->time_area = area;
    fake.writes_before_fault = 2;
    vcpu_time_area_update(v);
    assert_int_equal(time_at(area), 0);
    vcpu_time_area_update(v);
    assert_int_equal(time_at(area), scale.ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_computed_tsc_begins_behind_the_clocks_last_point, setup),
        cmocka_unit_test_setup(a_computed_tsc_goes_on_from_where_it_was_saved, setup),
        cmocka_unit_test_setup(an_area_that_moves_meanwhile_gets_the_time_too, setup),
        cmocka_unit_test_setup(an_area_that_goes_meanwhile_is_not_at_address_0, setup),
        cmocka_unit_test_setup(an_area_that_cannot_be_written_is_tried_again, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
