/*
 * For tests of event channels: two or three domains with channels, calls by structure, a guest's view of
 * its bits.
 */
#ifndef EVENT_RIG_H
#define EVENT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <common/event/event.h>
#include <public/errno.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/lib.h>
#include "fake.h"

static enum abi_word WORD_64 = ABI_64, WORD_32 = ABI_32;

static struct domain *ctl, *one, *two; /* the control domain and two guests with 4 vCPUs each */
static gva_t op_buffer;

static struct domain *event_domain(u16 id, enum abi_word word, bool control)
{
    struct domain *d = fake_domain(id, word, 4, control);

    assert_int_equal(evtchn_domain_init(d, 0xffffffff), 0);
    for (u32 i = 0; i < d->max_vcpus; i++)
        evtchn_vcpu_init(d->vcpu[i]);
    return d;
}

static int event_setup(void **state)
{
    enum abi_word word = **(enum abi_word **)state;

    fake_reset();
    op_buffer = fake_guest_alloc(64);
    ctl = event_domain(0, ABI_64, true);
    one = event_domain(1, word, false);
    two = event_domain(2, word, false);
    fake_run(one, 0);
    return 0;
}

static void look_at_all(void)
{
    struct domain *all[] = { ctl, one, two };

    for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
        events_look(all[i]);
}

/* Everything is closed, and nothing is left of it. */
static int event_teardown(void **state)
{
    struct domain *all[] = { ctl, one, two };

    (void)state;
    look_at_all();
    fake_run(ctl, 0);
    for (unsigned i = 0; i < 3; i++) {
        evtchn_domain_destroy(all[i]);
        evtchn_domain_destroy(all[i]);
        assert_int_equal(all[i]->evtchn->nr_active, 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        evtchn_domain_free(all[i]);
        assert_int_equal(all[i]->refs, 1);
    }
    assert_int_equal(fake_usage().writers, 0);
    assert_int_equal(fake_usage().blocks, 0);
    fake_reset();
    return 0;
}

static s64 event_call(u32 cmd, void *arg, size_t size)
{
    gva_t a = op_buffer;
    s64 rc;

    memcpy(fake_guest(a), arg, size);
    rc = fake_hypercall(do_event_channel_op, cmd, a.v, 0);
    memcpy(arg, fake_guest(a), size);
    look_at_all();
    return rc;
}
#define CALL(name, ...) \
    event_call(EVTCHNOP_##name, &(struct evtchn_##name){ __VA_ARGS__ }, sizeof(struct evtchn_##name))

/* These return the new port or the error. */
static s64 __attribute__((unused)) alloc_unbound(u16 dom, u16 remote)
{
    struct evtchn_alloc_unbound a = { .dom = dom, .remote_dom = remote };
    s64 rc = event_call(EVTCHNOP_alloc_unbound, &a, sizeof(a));

    return rc ? rc : (s64)a.port;
}

static s64 __attribute__((unused)) bind_interdomain(u16 remote, u32 port)
{
    struct evtchn_bind_interdomain a = { .remote_dom = remote, .remote_port = port };
    s64 rc = event_call(EVTCHNOP_bind_interdomain, &a, sizeof(a));

    return rc ? rc : (s64)a.local_port;
}

static s64 __attribute__((unused)) bind_virq(u32 virq, u32 vcpu)
{
    struct evtchn_bind_virq a = { .virq = virq, .vcpu = vcpu };
    s64 rc = event_call(EVTCHNOP_bind_virq, &a, sizeof(a));

    return rc ? rc : (s64)a.port;
}

static s64 __attribute__((unused)) bind_ipi(u32 vcpu)
{
    struct evtchn_bind_ipi a = { .vcpu = vcpu };
    s64 rc = event_call(EVTCHNOP_bind_ipi, &a, sizeof(a));

    return rc ? rc : (s64)a.port;
}

static s64 __attribute__((unused)) bind_pirq(u32 pirq)
{
    struct evtchn_bind_pirq a = { .pirq = pirq };
    s64 rc = event_call(EVTCHNOP_bind_pirq, &a, sizeof(a));

    return rc ? rc : (s64)a.port;
}

static struct evtchn_status __attribute__((unused)) status_of(u16 dom, u32 port)
{
    struct evtchn_status a = { .dom = dom, .port = port };

    assert_int_equal(event_call(EVTCHNOP_status, &a, sizeof(a)), 0);
    return a;
}

/* A connected pair: returns one's port, *far is two's. Leaves one current. */
static u32 __attribute__((unused)) connect(u32 *far)
{
    s64 near;

    fake_run(one, 0);
    near = alloc_unbound(DOMID_SELF, two->id);
    assert_true(near > 0);
    fake_run(two, 0);
    *far = (u32)bind_interdomain(one->id, (u32)near);
    assert_true((s32)*far > 0);
    fake_run(one, 0);
    return (u32)near;
}

/* vcpu_info as a guest of either width knows it. */
static u8 *upcall_pending(struct vcpu *v) { return v->info; }
static u8 __attribute__((unused)) *upcall_mask(struct vcpu *v) { return (u8 *)v->info + 1; }

static u64 __attribute__((unused)) selector(struct vcpu *v)
{
    u32 word = v->domain->arch.word == ABI_64 ? 8 : 4;
    u64 sel = 0;

    memcpy(&sel, (u8 *)v->info + word, word);
    return sel;
}

/* Forgets that anything happened to v. */
static void __attribute__((unused)) quiet(struct vcpu *v)
{
    u32 word = v->domain->arch.word == ABI_64 ? 8 : 4;

    *upcall_pending(v) = 0;
    memset((u8 *)v->info + word, 0, word);
    fake_unblocks[v->domain->id][v->id] = fake_kicks[v->domain->id][v->id] = 0;
}

#endif
