/* vcpu_op (public/vcpu.h): a domain's own vCPUs, one by number. */
#include <asm/atomic.h>
#include <asm/nospec.h>
#include <public/errno.h>
#include <public/sched.h>
#include <public/vcpu.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>

/* --- Life ------------------------------------------------------------------------------------------ */

static s64 initialise(struct vcpu *v, gva_t arg)
{
    struct domain *d = v->domain;
    size_t size = arch_context_size(d);
    void *context = xzalloc_bytes(size);
    s64 rc;

    if (!context)
        return refuse(-ENOMEM, "no memory for the context of vCPU %u", v->id);
    if (copy_from_guest(context, arg, size)) {
        xfree(context);
        return refuse(-EFAULT, "context of %zu bytes at %#lx cannot be read", size, arg.v);
    }
    spin_lock(&d->lock);
    rc = v->is_initialised ? refuse(-EEXIST, "vCPU %u is initialised already", v->id)
                           : arch_vcpu_set_context(v, context);
    spin_unlock(&d->lock);
    xfree(context);
    return rc;
}

static s64 up(struct vcpu *v, gva_t)
{
    bool was_down;

    spin_lock(&v->domain->lock);
    was_down = v->is_initialised &&
               (__atomic_fetch_and(&v->pause_flags, ~VPF_DOWN, __ATOMIC_SEQ_CST) & VPF_DOWN);
    spin_unlock(&v->domain->lock);
    if (!v->is_initialised)
        return refuse(-EINVAL, "vCPU %u has no context yet", v->id);
    if (was_down)
        vcpu_wake(v);
    return 0;
}

static bool others_up(const struct vcpu *v)
{
    struct vcpu *other;

    for_each_vcpu(v->domain, other)
        if (other != v && !(read_once(other->pause_flags) & VPF_DOWN))
            return true;
    return false;
}

/* The last one to go takes the domain with it. */
static s64 down(struct vcpu *v, gva_t)
{
    bool last;

    spin_lock(&v->domain->lock);
    last = !others_up(v);
    if (!last)
        atomic_or(&v->pause_flags, VPF_DOWN);
    spin_unlock(&v->domain->lock);
    if (last)
        domain_shutdown(v->domain, SHUTDOWN_poweroff);
    else
        vcpu_sleep_nowait(v);
    return 0;
}

static s64 is_up(struct vcpu *v, gva_t)
{
    return !(read_once(v->pause_flags) & VPF_DOWN);
}

static s64 send_nmi(struct vcpu *v, gva_t arg)
{
    if (arg.v)
        return refuse(-EINVAL, "argument %#lx, expected 0", arg.v);
    vcpu_send_nmi(v);
    return 0;
}

/* Only a vCPU bound to one physical CPU has such a number; ours are not bound. Linux asks and carries on. */
static s64 get_physid(struct vcpu *, gva_t)
{
    return -EINVAL;
}

/* --- Areas in guest memory ------------------------------------------------------------------------- */

static s64 write_runstate(struct vcpu *v, gva_t to)
{
    struct vcpu_runstate_info r;
    u64 time[4];
    u32 state;

    vcpu_runstate_get(v, time, &state, &r.state_entry_time);
    r.state = (s32)state;
    memcpy(r.time, time, sizeof(time));
    return guest_write_abi(vcpu_runstate_info, to, &r);
}

static s64 get_runstate_info(struct vcpu *v, gva_t arg)
{
    return write_runstate(v, arg) ? refuse(-EFAULT, "runstate cannot be written to %#lx", arg.v) : 0;
}

/* Kept up to date from now on whenever v begins to run. 0: no longer. */
static s64 register_runstate_area(struct vcpu *v, gva_t arg)
{
    struct vcpu_register_runstate_memory_area area;

    if (guest_read_abi(vcpu_register_runstate_memory_area, &area, arg))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if (area.addr && write_runstate(v, gva(area.addr)))
        return refuse(-EFAULT, "runstate area at %#lx cannot be written", area.addr);
    write_once(v->runstate_area.v, area.addr);
    return 0;
}

static s64 register_time_area(struct vcpu *v, gva_t arg)
{
    struct vcpu_register_time_memory_area area;

    if (guest_read_abi(vcpu_register_time_memory_area, &area, arg))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if (area.addr && clear_guest(gva(area.addr), sizeof(struct vcpu_time_info)))
        return refuse(-EFAULT, "time area at %#lx cannot be written", area.addr);
    write_once(v->time_area.v, area.addr);
    write_once(v->arch.time_area_tsc, 0);       /* last: vcpu_time_area_update() */
    if (v == current)
        vcpu_time_area_update(v);
    return 0;
}

/* By machine address: of a whole structure of `size` bytes within one frame of the domain's, aligned as it is; ~0: none any more. */
static s64 register_phys(struct vcpu *v, struct vcpu_area *area, gva_t arg, size_t size)
{
    u64 maddr;
    s64 rc;

    if (copy_from_guest(&maddr, arg, sizeof(maddr)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    spin_lock(&v->domain->lock);
    rc = v != current && area->at ? refuse(-EBUSY, "vCPU %u has such an area, which it alone may move", v->id)
                                  : vcpu_area_set(v, area, maddr, size);
    spin_unlock(&v->domain->lock);
    return rc;
}

static s64 register_runstate_phys(struct vcpu *v, gva_t arg)
{
    s64 rc = register_phys(v, &v->runstate_phys, arg, abi_sizeof(domain_word(v->domain), vcpu_runstate_info));

    if (!rc && v == current)
        vcpu_runstate_area_update(v);
    return rc;
}

static s64 register_time_phys(struct vcpu *v, gva_t arg)
{
    s64 rc = register_phys(v, &v->time_phys, arg, sizeof(struct vcpu_time_info));

    write_once(v->arch.time_area_tsc, 0);       /* last: vcpu_time_area_update() */
    if (!rc && v == current)
        vcpu_time_area_update(v);
    return rc;
}

static s64 register_info(struct vcpu *v, gva_t arg)
{
    struct vcpu_register_vcpu_info r;
    s64 rc;

    if (copy_from_guest(&r, arg, sizeof(r)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    spin_lock(&v->domain->lock);
    rc = arch_vcpu_register_info(v, r.mfn, r.offset);
    spin_unlock(&v->domain->lock);
    if (rc)
        return rc;
    write_once(v->arch.time_version_tsc, 0);    /* last: vcpu_time_update() */
    if (v == current)
        vcpu_time_update(v);
    return 0;
}

/* --- Timers: only of the calling vCPU itself ------------------------------------------------------- */

static s64 only_self(const struct vcpu *v)
{
    return v == current ? 0 : refuse(-EINVAL, "timer of vCPU %u, expected the caller's own", v->id);
}

static s64 set_periodic(struct vcpu *v, gva_t arg)
{
    struct vcpu_set_periodic_timer p;

    if (only_self(v))
        return -EINVAL;
    if (copy_from_guest(&p, arg, sizeof(p)))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if (p.period_ns < MILLISECS(1) || p.period_ns > SECONDS(3600UL * 24 * 365))
        return refuse(-EINVAL, "period %lu ns, expected 1 ms to a year", p.period_ns);
    write_once(v->periodic_period, p.period_ns);
    timer_migrate(&v->periodic, v->cpu);
    timer_set(&v->periodic, now_ns() + p.period_ns);
    return 0;
}

static s64 stop_periodic(struct vcpu *v, gva_t)
{
    write_once(v->periodic_period, 0);
    timer_stop(&v->periodic);
    return 0;
}

static s64 set_singleshot(struct vcpu *v, gva_t arg)
{
    struct vcpu_set_singleshot_timer s;

    if (only_self(v))
        return -EINVAL;
    if (guest_read_abi(vcpu_set_singleshot_timer, &s, arg))
        return refuse(-EFAULT, "arguments at %#lx cannot be read", arg.v);
    if ((s.flags & VCPU_SSHOTTMR_future) && s.timeout_abs_ns < now_ns())
        return -ETIME;    /* the answer that the flag asks for, nothing to log */
    timer_migrate(&v->singleshot, v->cpu);
    timer_set(&v->singleshot, s.timeout_abs_ns);
    return 0;
}

static s64 stop_singleshot(struct vcpu *v, gva_t)
{
    if (only_self(v))
        return -EINVAL;
    timer_stop(&v->singleshot);
    return 0;
}

s64 do_vcpu_op(u64 cmd, u64 vcpu_id, u64 arg, u64, u64, u64)
{
    static s64 (*const ops[])(struct vcpu *, gva_t) = {
        [VCPUOP_initialise] = initialise,
        [VCPUOP_up] = up,
        [VCPUOP_down] = down,
        [VCPUOP_is_up] = is_up,
        [VCPUOP_get_runstate_info] = get_runstate_info,
        [VCPUOP_register_runstate_memory_area] = register_runstate_area,
        [VCPUOP_set_periodic_timer] = set_periodic,
        [VCPUOP_stop_periodic_timer] = stop_periodic,
        [VCPUOP_set_singleshot_timer] = set_singleshot,
        [VCPUOP_stop_singleshot_timer] = stop_singleshot,
        [VCPUOP_register_vcpu_info] = register_info,
        [VCPUOP_send_nmi] = send_nmi,
        [VCPUOP_get_physid] = get_physid,
        [VCPUOP_register_vcpu_time_memory_area] = register_time_area,
        [VCPUOP_register_runstate_phys_area] = register_runstate_phys,
        [VCPUOP_register_vcpu_time_phys_area] = register_time_phys,
    };
    struct vcpu *v = domain_vcpu(current->domain, (u32)vcpu_id);
    s64 rc;

    if ((u32)cmd >= ARRAY_SIZE(ops))
        return refuse(-ENOSYS, "command %u, expected at most %zu", (u32)cmd, ARRAY_SIZE(ops) - 1);
    if (!v)
        return -ENOENT;   /* how kernels count their vCPUs: nothing to log */
    rc = array_nospec(ops, (u32)cmd)(v, gva(arg));
    return rc == -ERESTART_HYPERCALL ? hypercall_restart(3, cmd, vcpu_id, arg) : rc;
}
