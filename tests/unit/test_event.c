/* Event channels: states, rights, limits, two-level delivery, for both word sizes. */
// SOURCES: tests/unit/fake/machine.c common/abi.c tests/unit/fake/clause.c common/event/invariant.c
// SOURCES: common/event/port.c common/event/channel.c common/event/call.c common/event/virq.c common/domain/rights.c
// SOURCES: common/event/deliver.c common/event/pending.c common/event/two_level.c common/event/fifo.c
#include "fake/event_rig.h"

static bool pending_bit(struct domain *d, u32 port)
{
    return test_bit(port, (u8 *)d->shared_info + 2048); /* after 32 vcpu_infos of 64 bytes */
}

static u8 *mask_map(struct domain *d)
{
    return (u8 *)d->shared_info + 2048 + (d->arch.word == ABI_64 ? 512 : 128);
}

static void connects_two_domains(void **state)
{
    struct evtchn_status st;
    u32 near, far;

    (void)state;
    near = connect(&far);
    assert_int_equal(near, 1);
    assert_int_equal(far, 1);
    st = status_of(DOMID_SELF, near);
    assert_int_equal(st.status, EVTCHNSTAT_interdomain);
    assert_int_equal(st.u.interdomain.dom, 2);
    assert_int_equal(st.u.interdomain.port, far);
    /* Binding marked the binder's own end, in case something was sent before. */
    assert_true(pending_bit(two, far));
    assert_false(pending_bit(one, near));

    quiet(two->vcpu[0]);
    clear_bit(far, (u8 *)two->shared_info + 2048);
    assert_int_equal(CALL(send, near), 0);
    assert_true(pending_bit(two, far));
    assert_int_equal(*upcall_pending(two->vcpu[0]), 1);
    assert_int_equal(selector(two->vcpu[0]), 1);
    assert_int_equal(fake_kicks[2][0], 1);

    /* Pending already: nothing more happens. */
    assert_int_equal(CALL(send, near), 0);
    assert_int_equal(fake_kicks[2][0], 1);
}

static void closing_an_end_offers_the_other(void **state)
{
    struct evtchn_status st;
    u32 far, near = connect(&far);

    (void)state;
    assert_int_equal(CALL(close, near), 0);
    assert_int_equal(CALL(close, near), -EINVAL);
    assert_int_equal(CALL(send, near), -EINVAL);
    assert_int_equal(status_of(DOMID_SELF, near).status, EVTCHNSTAT_closed);

    fake_run(two, 0);
    st = status_of(DOMID_SELF, far);
    assert_int_equal(st.status, EVTCHNSTAT_unbound);
    assert_int_equal(st.u.unbound.dom, 1);
    assert_int_equal(CALL(send, far), 0); /* nobody listens: no error */

    /* Only the domain it was connected to may take it up again. */
    fake_run(ctl, 0);
    assert_int_equal(bind_interdomain(2, far), -EINVAL);
    fake_run(one, 0);
    assert_int_equal(bind_interdomain(2, far), near);
}

static void closing_clears_the_pending_bit(void **state)
{
    u32 far, near = connect(&far);

    (void)state;
    assert_int_equal(CALL(send, near), 0);
    fake_run(two, 0);
    assert_int_equal(CALL(close, far), 0);
    assert_false(pending_bit(two, far));
}

static void connects_a_domain_to_itself(void **state)
{
    s64 a, b;

    (void)state;
    a = alloc_unbound(DOMID_SELF, DOMID_SELF);
    b = bind_interdomain(DOMID_SELF, (u32)a);
    assert_true(a > 0 && b > 0 && a != b);
    assert_int_equal(CALL(send, (u32)b), 0);
    assert_true(pending_bit(one, (u32)a));
    assert_int_equal(CALL(close, (u32)a), 0);
    assert_int_equal(status_of(1, (u32)b).status, EVTCHNSTAT_unbound);
    assert_int_equal(bind_interdomain(1, (u32)b), a);
}

static void refuses_bad_partners(void **state)
{
    s64 offer;

    (void)state;
    assert_int_equal(bind_interdomain(7, 1), -ESRCH);
    assert_int_equal(bind_interdomain(2, 1), -EINVAL);
    assert_int_equal(bind_interdomain(2, 0), -EINVAL);
    assert_int_equal(bind_interdomain(2, 0xffffffff), -EINVAL);
    offer = alloc_unbound(DOMID_SELF, 0);
    fake_run(two, 0);
    assert_int_equal(bind_interdomain(1, (u32)offer), -EINVAL);
    offer = alloc_unbound(DOMID_SELF, one->id);
    two->evtchn->dying = true;
    fake_run(one, 0);
    assert_int_equal(bind_interdomain(two->id, (u32)offer), -EINVAL);
    two->evtchn->dying = false;
    fake_run(two, 0);
    /* The refusals took no ports. */
    assert_int_equal(alloc_unbound(DOMID_SELF, 0), 2);
}

static void keeps_guests_off_each_other(void **state)
{
    struct evtchn_status st = { .dom = 2, .port = 1 };

    (void)state;
    assert_int_equal(alloc_unbound(2, 1), -EPERM);
    assert_int_equal(alloc_unbound(9, 1), -ESRCH);
    assert_string_equal(fake_said, "op_alloc_unbound: no domain 9");
    assert_int_equal(event_call(EVTCHNOP_status, &st, sizeof(st)), -EPERM);
    assert_string_equal(fake_said, "op_status: only the control domain may act on d2");
    assert_int_equal(CALL(reset, 2), -EPERM);

    fake_run(ctl, 0);
    assert_int_equal(alloc_unbound(1, 0), 1);
    assert_int_equal(status_of(1, 1).u.unbound.dom, 0);
    assert_int_equal(bind_interdomain(1, 1), 1);
}

static void refuses_ports_that_are_none(void **state)
{
    static const u32 bad[] = { 0, 1, 5, 4095, 4096, 131072, 0x7fffffff, 0xffffffff };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct evtchn_status st = { .dom = DOMID_SELF, .port = bad[i] };

        assert_int_equal(CALL(send, bad[i]), -EINVAL);
        assert_int_equal(CALL(close, bad[i]), -EINVAL);
        assert_int_equal(CALL(bind_vcpu, bad[i], 0), -EINVAL);
        assert_int_equal(event_call(EVTCHNOP_status, &st, sizeof(st)), -EINVAL);
        assert_int_equal(CALL(unmask, bad[i]), -EINVAL);
    }
    assert_int_equal(bind_ipi(1), 1);
    assert_int_equal(CALL(send, 0), -EINVAL);
    assert_int_equal(CALL(close, 0), -EINVAL);
    assert_int_equal(event_call(15, &(u64){ 0 }, 8), -ENOSYS);
    assert_int_equal(event_call(0xffffffff, &(u64){ 0 }, 8), -ENOSYS);
    assert_int_equal(do_event_channel_op(EVTCHNOP_close, 0xfffffffffffffff0, 0, 0, 0, 0), -EFAULT);
    assert_int_equal(do_event_channel_op(EVTCHNOP_send, 8, 0, 0, 0, 0), -EFAULT);
}

static void keeps_to_the_port_limit(void **state)
{
    u32 limit = one->arch.word == ABI_64 ? 4096 : 1024;

    (void)state;
    for (u32 port = 1; port < limit; port++)
        assert_int_equal(alloc_unbound(DOMID_SELF, 2), port);
    assert_int_equal(alloc_unbound(DOMID_SELF, 2), -ENOSPC);
    assert_int_equal(bind_ipi(0), -ENOSPC);
    assert_int_equal(CALL(close, 500), 0);
    assert_int_equal(CALL(close, 3), 0);
    assert_int_equal(bind_ipi(0), 3);
    assert_int_equal(bind_ipi(0), 500);
    assert_int_equal(bind_ipi(0), -ENOSPC);
    /* The last port's bits are where they belong. */
    assert_int_equal(CALL(close, limit - 1), 0);
    assert_int_equal(bind_ipi(1), limit - 1);
    assert_int_equal(CALL(send, limit - 1), 0);
    assert_true(pending_bit(one, limit - 1));
    assert_int_equal(selector(one->vcpu[1]), 1UL << (one->arch.word == ABI_64 ? 63 : 31));
}

static void keeps_to_the_domains_own_limit(void **state)
{
    (void)state;
    one->evtchn->max_port = 5;
    for (u32 port = 1; port <= 5; port++)
        assert_int_equal(bind_ipi(0), port);
    assert_int_equal(bind_ipi(0), -ENOSPC);
}

static void masks_hold_the_upcall_back(void **state)
{
    struct vcpu *v = one->vcpu[1];
    u32 port = (u32)bind_ipi(1);

    (void)state;
    set_bit(port, mask_map(one));
    assert_int_equal(CALL(send, port), 0);
    assert_true(pending_bit(one, port));
    assert_int_equal(*upcall_pending(v), 0);
    assert_false(vcpu_event_pending(v));

    assert_int_equal(CALL(unmask, port), 0);
    assert_int_equal(*upcall_pending(v), 1);
    assert_true(vcpu_event_pending(v));
    assert_int_equal(fake_kicks[1][1], 1);
    assert_false(test_bit(port, mask_map(one)));
    /* Not masked: unmasking again does nothing. */
    quiet(v);
    assert_int_equal(CALL(unmask, port), 0);
    assert_int_equal(*upcall_pending(v), 0);
}

static void wakes_only_whom_it_should(void **state)
{
    struct vcpu *v = one->vcpu[1];
    u32 port = (u32)bind_ipi(1), own = (u32)bind_ipi(0);

    (void)state;
    v->pause_flags = VPF_BLOCKED;
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(fake_unblocks[1][1], 1);
    assert_int_equal(v->pause_flags, 0);

    /* A vCPU that holds all upcalls off is not woken. It is interrupted: if it runs, it may just be opening its mask. */
    clear_bit(port, (u8 *)one->shared_info + 2048);
    quiet(v);
    *upcall_mask(v) = 1;
    v->pause_flags = VPF_BLOCKED;
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(*upcall_pending(v), 1);
    assert_int_equal(fake_unblocks[1][1], 0);
    assert_int_equal(fake_kicks[1][1], 1);
    assert_false(vcpu_event_pending(v));

    /* The current one needs none. */
    assert_int_equal(CALL(send, own), 0);
    assert_int_equal(fake_kicks[1][0], 0);
    assert_true(vcpu_event_pending(one->vcpu[0]));
}

static void wakes_pollers(void **state)
{
    struct vcpu *v = one->vcpu[2], *any = one->vcpu[3];
    u32 port = (u32)bind_ipi(0), other = (u32)bind_ipi(0);

    (void)state;
    set_bit(port, mask_map(one)); /* polled ports are masked, as a rule */
    set_bit(other, mask_map(one));
    one->event_watch = WATCH_POLLERS;
    v->poll_active = any->poll_active = true;
    v->poll_port = port;
    any->poll_port = 0;
    assert_int_equal(CALL(send, other), 0);
    assert_int_equal(fake_unblocks[1][2], 0);
    assert_int_equal(fake_unblocks[1][3], 1);
    assert_false(any->poll_active);
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(fake_unblocks[1][2], 1);
    assert_false(v->poll_active);
    assert_int_equal(evtchn_port_pending(one, port), 1);
    assert_int_equal(evtchn_port_pending(one, 77), 0);
    assert_int_equal(evtchn_port_pending(one, 0x10000), -EINVAL);
}

static void ipis_stay_on_their_vcpu(void **state)
{
    u32 port = (u32)bind_ipi(2);

    (void)state;
    assert_int_equal(bind_ipi(4), -ENOENT);
    assert_int_equal(bind_ipi(0xffffffff), -ENOENT);
    assert_int_equal(CALL(bind_vcpu, port, 1), -EINVAL);
    assert_int_equal(CALL(send, port), 0);
    assert_int_equal(*upcall_pending(one->vcpu[2]), 1);
    assert_int_equal(status_of(DOMID_SELF, port).status, EVTCHNSTAT_ipi);
    assert_int_equal(status_of(DOMID_SELF, port).vcpu, 2);
}

static void channels_move_between_vcpus(void **state)
{
    u32 far, near = connect(&far);

    (void)state;
    fake_run(two, 0);
    assert_int_equal(CALL(bind_vcpu, far, 4), -ENOENT);
    assert_int_equal(CALL(bind_vcpu, far, 3), 0);
    clear_bit(far, (u8 *)two->shared_info + 2048);
    fake_run(one, 0);
    assert_int_equal(CALL(send, near), 0);
    assert_int_equal(*upcall_pending(two->vcpu[3]), 1);
    /* A port that is opened anew starts on vCPU 0. */
    fake_run(two, 0);
    assert_int_equal(CALL(close, far), 0);
    assert_int_equal(alloc_unbound(DOMID_SELF, 1), far);
    assert_int_equal(status_of(2, far).vcpu, 0);
}

static void delivers_virtual_interrupts(void **state)
{
    s64 timer, argo;

    (void)state;
    timer = bind_virq(VIRQ_TIMER, 1);
    assert_int_equal(timer, 1);
    assert_int_equal(bind_virq(VIRQ_TIMER, 1), -EEXIST);
    assert_int_equal(bind_virq(VIRQ_TIMER, 4), -ENOENT);
    assert_int_equal(bind_virq(NR_VIRQS, 0), -EINVAL);
    assert_int_equal(bind_virq(0xffffffff, 0), -EINVAL);
    assert_int_equal(bind_virq(VIRQ_ARGO, 1), -EINVAL);
    assert_int_equal(CALL(bind_vcpu, (u32)timer, 0), -EINVAL);
    assert_int_equal(CALL(send, (u32)timer), -EINVAL);
    send_guest_vcpu_virq(one->vcpu[0], VIRQ_TIMER);
    assert_false(pending_bit(one, (u32)timer));
    send_guest_vcpu_virq(one->vcpu[1], VIRQ_TIMER);
    assert_true(pending_bit(one, (u32)timer));
    assert_int_equal(*upcall_pending(one->vcpu[1]), 1);

    argo = bind_virq(VIRQ_ARGO, 0);
    assert_int_equal(CALL(bind_vcpu, (u32)argo, 3), 0);
    send_guest_global_virq(one, VIRQ_ARGO);
    assert_int_equal(*upcall_pending(one->vcpu[3]), 1);

    assert_int_equal(CALL(close, (u32)timer), 0);
    send_guest_vcpu_virq(one->vcpu[1], VIRQ_TIMER);
    assert_false(pending_bit(one, (u32)timer));
    assert_int_equal(bind_virq(VIRQ_TIMER, 1), timer);
    assert_int_equal(status_of(1, (u32)timer).u.virq, VIRQ_TIMER);
}

static void machine_virqs_belong_to_the_control_domain(void **state)
{
    static const u32 machine[] = { VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_DEBUGGER, VIRQ_CON_RING, VIRQ_ARCH_0,
                                   VIRQ_ENOMEM };
    s64 port;

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(machine); i++)
        assert_int_equal(bind_virq(machine[i], 0), -EPERM);
    fake_run(ctl, 0);
    port = bind_virq(VIRQ_DOM_EXC, 0);
    assert_int_equal(port, 1);
    send_dom0_virq(VIRQ_DOM_EXC);
    assert_true(pending_bit(ctl, 1));

    /* ... or to the domain that it names. */
    assert_int_equal(virq_set_handler(one, VIRQ_TIMER), -EINVAL);
    assert_int_equal(virq_set_handler(one, NR_VIRQS), -EINVAL);
    assert_int_equal(virq_set_handler(one, VIRQ_DOM_EXC), 0);
    assert_int_equal(virq_set_handler(one, VIRQ_DOM_EXC), 0);
    assert_int_equal(one->refs, 2);
    fake_run(one, 0);
    port = bind_virq(VIRQ_DOM_EXC, 0);
    assert_int_equal(port, 1);
    assert_int_equal(bind_virq(VIRQ_CONSOLE, 0), -EPERM);
    send_dom0_virq(VIRQ_DOM_EXC);
    assert_true(pending_bit(one, 1));
}

/* --- Physical interrupts ---- */
static u32 bound_pirq, bound_port, unbound_pirq;
static int bind_result;

int pirq_bind(struct vcpu *v, u32 pirq, u32 port, bool shareable)
{
    (void)shareable;
    assert_int_equal(v->id, 0);
    /* Its lock comes before ours: none of ours may be held. */
    assert_false(spin_is_held(&v->domain->evtchn->lock));
    bound_pirq = pirq;
    bound_port = port;
    fake_pirq_port[v->domain->id][pirq] = bind_result ? 0 : port;
    return bind_result;
}

void pirq_unbind(struct domain *d, u32 pirq, u32 port)
{
    assert_false(spin_is_held(&d->evtchn->lock));
    unbound_pirq = pirq;
    if (fake_pirq_port[d->id][pirq] == port)
        fake_pirq_port[d->id][pirq] = 0;
    /* Another vCPU that closes the port meanwhile finds it closed. */
    assert_int_equal(evtchn_close(d, port), -EINVAL);
}

static void binds_physical_interrupts(void **state)
{
    (void)state;
    bind_result = -EPERM;
    assert_int_equal(bind_pirq(9), -EPERM);
    assert_int_equal(status_of(1, 1).status, EVTCHNSTAT_closed);
    bind_result = 0;
    assert_int_equal(bind_pirq(9), 1);
    assert_int_equal(bound_pirq, 9);
    assert_int_equal(bound_port, 1);
    assert_int_equal(status_of(1, 1).status, EVTCHNSTAT_pirq);
    assert_int_equal(status_of(1, 1).u.pirq, 9);
    evtchn_set_pending(one, 1);
    assert_true(pending_bit(one, 1));
    assert_int_equal(CALL(bind_vcpu, 1, 2), 0);
    assert_int_equal(CALL(close, 1), 0);
    assert_int_equal(unbound_pirq, 9);
    assert_int_equal(status_of(1, 1).status, EVTCHNSTAT_closed);
    assert_int_equal(bind_pirq(10), 1); /* the domain's end closes this one */
    assert_int_equal(bind_pirq(9), 2);
    fake_pirq_port[1][9] = 0;           /* unmapped; its port stays */
    assert_int_equal(bind_pirq(9), 3);  /* mapped again, and bound to another */
    assert_int_equal(CALL(close, 2), 0);
    assert_int_equal(fake_pirq_port[1][9], 3);
}

/* A port whose number the guest cannot be told is not kept. */
static void unwritable_results_leave_no_port(void **state)
{
    u32 offer;

    (void)state;
    fake_run(ctl, 0);
    offer = (u32)alloc_unbound(DOMID_SELF, 1);
    fake_run(one, 0);
    bind_result = 0;
    for (unsigned i = 0; i < 5; i++) {
        fake.writes_before_fault = 1;
        switch (i) {
        case 0: assert_int_equal(alloc_unbound(DOMID_SELF, 2), -EFAULT); break;
        case 1: assert_int_equal(bind_interdomain(0, offer), -EFAULT); break;
        case 2: assert_int_equal(bind_virq(VIRQ_TIMER, 0), -EFAULT); break;
        case 3: assert_int_equal(bind_ipi(0), -EFAULT); break;
        case 4: assert_int_equal(bind_pirq(3), -EFAULT); break;
        }
        assert_int_equal(one->evtchn->nr_active, 0);
    }
    assert_int_equal(ctl->evtchn->nr_active, 1);
    assert_int_equal(bind_interdomain(0, offer), 1);
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    fake.allocs_before_failure = 1;
    assert_int_equal(bind_ipi(0), -ENOMEM);
    assert_int_equal(evtchn_domain_init(one, 100), -ENOMEM);
    fake.allocs_before_failure = 0;
    assert_int_equal(bind_ipi(0), 1);
}

static void old_call_has_its_command_inside(void **state)
{
    gva_t a = fake_guest_alloc(sizeof(struct evtchn_op));
    struct evtchn_op *op = fake_guest(a);

    (void)state;
    op->cmd = EVTCHNOP_bind_ipi;
    op->u.bind_ipi.vcpu = 1;
    assert_int_equal(do_event_channel_op_compat(a.v, 0, 0, 0, 0, 0), 0);
    assert_int_equal(op->u.bind_ipi.port, 1);
    op->cmd = EVTCHNOP_send;
    op->u.send.port = 1;
    assert_int_equal(do_event_channel_op_compat(a.v, 0, 0, 0, 0, 0), 0);
    assert_true(pending_bit(one, 1));
    op->cmd = EVTCHNOP_init_control;
    assert_int_equal(do_event_channel_op_compat(a.v, 0, 0, 0, 0, 0), -ENOSYS);
    op->cmd = 0xffffffff;
    assert_int_equal(do_event_channel_op_compat(a.v, 0, 0, 0, 0, 0), -ENOSYS);
    assert_int_equal(do_event_channel_op_compat(0x20, 0, 0, 0, 0, 0), -EFAULT);
}

static void resets(void **state)
{
    u32 far, near = connect(&far);

    (void)state;
    bind_result = 0;
    assert_int_equal(bind_pirq(4), 2);
    for (u32 i = 0; i < 300; i++)
        bind_ipi(0);
    fake.preempt_every = 1;
    assert_int_equal(CALL(reset, DOMID_SELF), 0);
    assert_int_equal(one->evtchn->nr_active, 0);
    assert_int_equal(status_of(1, near).status, EVTCHNSTAT_closed);
    assert_int_equal(event_call(14, &(struct evtchn_reset){ DOMID_SELF }, 2), -EBUSY); /* none under way */

    /* Half-way through, a second one is refused; the first goes on. */
    for (u32 i = 0; i < 300; i++)
        bind_ipi(0);
    assert_int_equal(evtchn_reset(one), -ERESTART_HYPERCALL);
    fake.preempt_every = 0;
    assert_int_equal(CALL(reset, DOMID_SELF), -EBUSY);
    assert_int_equal(evtchn_reset(one), 0);

    fake_run(ctl, 0);
    assert_int_equal(CALL(reset, 1), -EINVAL); /* it may be running */
    one->controller_pause_count = 1;
    assert_int_equal(CALL(reset, 1), 0);
}

static void a_dying_domain_lets_go(void **state)
{
    u32 far, near = connect(&far);
    s64 offer;

    (void)state;
    offer = alloc_unbound(DOMID_SELF, 2);
    bind_virq(VIRQ_TIMER, 0);
    fake_run(two, 0);
    evtchn_domain_destroy(one);
    assert_int_equal(status_of(2, far).status, EVTCHNSTAT_unbound);
    assert_int_equal(CALL(send, far), 0);
    assert_int_equal(bind_interdomain(1, (u32)offer), -EINVAL);
    send_guest_vcpu_virq(one->vcpu[0], VIRQ_TIMER);
    fake_run(one, 0);
    assert_int_equal(bind_ipi(0), -EINVAL);
    assert_int_equal(CALL(send, near), -EINVAL);
}

/* Many ports: the end gives way now and then, and goes on where it was. */
static void a_dying_domain_gives_way(void **state)
{
    unsigned rounds = 1;

    (void)state;
    fake_run(one, 0);
    for (unsigned i = 0; i < 500; i++)
        assert_true(bind_ipi(0) > 0);
    fake_run(ctl, 0);
    fake.preempt_every = 1;
    for (; evtchn_domain_destroy(one) == -ERESTART_HYPERCALL; rounds++)
        assert_true(one->evtchn->nr_active > 0);
    fake.preempt_every = 0;
    assert_int_equal(one->evtchn->nr_active, 0);
    assert_true(rounds > 5);
}

static void moved_vcpu_info_loses_nothing(void **state)
{
    struct vcpu *v = one->vcpu[0];
    static u8 elsewhere[64];

    (void)state;
    memset(elsewhere, 0, sizeof(elsewhere));
    v->info = elsewhere;
    evtchn_vcpu_info_moved(v);
    assert_int_equal(*upcall_pending(v), 1);
    assert_int_equal(selector(v), one->arch.word == ABI_64 ? ~0UL : 0xffffffffUL);
}

static void no_vcpu_yet_is_no_crash(void **state)
{
    struct vcpu *saved = one->vcpu[0];
    s64 offer;

    (void)state;
    fake_run(ctl, 0);
    offer = alloc_unbound(1, 0);
    one->vcpu[0] = NULL;
    offer = bind_interdomain(1, (u32)offer);
    assert_int_equal(CALL(send, (u32)offer), 0);
    send_guest_global_virq(one, VIRQ_ARGO);
    one->vcpu[0] = saved;
}

#define T(f) \
    { #f " (64)", f, event_setup, event_teardown, &WORD_64 }, \
    { #f " (32)", f, event_setup, event_teardown, &WORD_32 }

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(connects_two_domains), T(closing_an_end_offers_the_other), T(closing_clears_the_pending_bit),
        T(connects_a_domain_to_itself), T(refuses_bad_partners), T(keeps_guests_off_each_other),
        T(refuses_ports_that_are_none), T(keeps_to_the_port_limit), T(keeps_to_the_domains_own_limit),
        T(masks_hold_the_upcall_back), T(wakes_only_whom_it_should), T(wakes_pollers),
        T(ipis_stay_on_their_vcpu),
        T(channels_move_between_vcpus), T(delivers_virtual_interrupts),
        T(machine_virqs_belong_to_the_control_domain), T(binds_physical_interrupts),
        T(unwritable_results_leave_no_port), T(survives_lack_of_memory), T(old_call_has_its_command_inside),
        T(resets), T(a_dying_domain_lets_go), T(a_dying_domain_gives_way), T(moved_vcpu_info_loses_nothing), T(no_vcpu_yet_is_no_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
