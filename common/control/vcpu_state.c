/* State of a vCPU that its basic context has no room for: 32-bit system calls' callbacks, XSAVE, MSRs. */
#include <asm/emulate.h>
#include <asm/fpu.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include "internal.h"

s64 dc_get_ext_vcpucontext(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_ext_vcpucontext *e = &op->u.ext_vcpucontext;
    const struct vcpu *v = control_vcpu(d, e->vcpu);
    const struct guest_callback *sys, *enter;

    if (!v)
        return -ESRCH;
    sys = &v->arch.callback[CB_SYSCALL32];
    enter = &v->arch.callback[CB_SYSENTER];
    *e = (struct xen_domctl_ext_vcpucontext){
        .vcpu = v->id,
        .size = sizeof(*e),
        .syscall32_callback_eip = sys->address,
        .syscall32_callback_cs = sys->cs,
        .syscall32_disables_events = sys->disables_events,
        .sysenter_callback_eip = enter->address,
        .sysenter_callback_cs = enter->cs,
        .sysenter_disables_events = enter->disables_events,
    };
    return 0;
}

static struct guest_callback callback(const struct domain *d, u64 address, u16 cs, u8 disables_events)
{
    return (struct guest_callback){
        .address = address,
        .cs = fixup_selector(d, cs),
        .registered = address != 0,
        .disables_events = disables_events != 0,
    };
}

s64 dc_set_ext_vcpucontext(struct domain *d, struct xen_domctl *op, gva_t)
{
    const struct xen_domctl_ext_vcpucontext *e = &op->u.ext_vcpucontext;
    struct vcpu *v = control_vcpu(d, e->vcpu);

    if (!v)
        return -ESRCH;
    /* Machine-check state may be missing, and is ignored: guests have none. */
    if (e->size < offsetof(struct xen_domctl_ext_vcpucontext, mcg_cap))
        return refuse(-EINVAL, "a context of %u bytes, expected at least %zu", e->size,
                      offsetof(struct xen_domctl_ext_vcpucontext, mcg_cap));
    if (!is_canonical(e->syscall32_callback_eip) || !is_canonical(e->sysenter_callback_eip))
        return refuse(-EINVAL, "callbacks %#lx and %#lx: one is not canonical", e->syscall32_callback_eip,
                      e->sysenter_callback_eip);
    domain_pause(d);
    v->arch.callback[CB_SYSCALL32] = callback(d, e->syscall32_callback_eip, e->syscall32_callback_cs,
                                              e->syscall32_disables_events);
    v->arch.callback[CB_SYSENTER] = callback(d, e->sysenter_callback_eip, e->sysenter_callback_cs,
                                             e->sysenter_disables_events);
    domain_unpause(d);
    return 0;
}

/* --- XSAVE state --- */

s64 dc_getvcpuextstate(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = control_vcpu(d, e->vcpu);
    size_t size;
    void *buf;
    u64 mask;
    s64 rc;

    if (!v)
        return -ESRCH;
    vcpu_pause(v);
    mask = fpu_ext_mask(v);
    size = fpu_ext_size(v);
    buf = e->buffer && size ? xzalloc_bytes(size) : NULL;
    if (buf)
        fpu_ext_get(v, buf);
    vcpu_unpause(v);
    if (!e->buffer || (!e->size && !e->xfeature_mask)) {
        e->xfeature_mask = mask;
        e->size = size;
        rc = 0;
    } else if (e->size != size || e->xfeature_mask != mask) {
        rc = refuse(-EINVAL, "%lu bytes, features %#lx; expected %zu and %#lx", e->size, e->xfeature_mask,
                    size, mask);
    } else {
        rc = !size ? 0 : !buf ? -ENOMEM : copy_to_guest(gva(e->buffer), buf, size);
    }
    xfree(buf);
    return rc;
}

#define MAX_EXT_STATE (64u << 10)

s64 dc_setvcpuextstate(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpuextstate *e = &op->u.vcpuextstate;
    struct vcpu *v = control_vcpu(d, e->vcpu);
    void *buf;
    s64 rc;

    if (!v)
        return -ESRCH;
    if (e->size < 2 * sizeof(u64) || e->size > MAX_EXT_STATE)
        return refuse(-EINVAL, "%lu bytes of state, expected %zu to %u", e->size, 2 * sizeof(u64), MAX_EXT_STATE);
    buf = xzalloc_bytes(e->size);
    if (!buf)
        return -ENOMEM;
    rc = copy_from_guest(buf, gva(e->buffer), e->size);
    if (!rc) {
        vcpu_pause(v);
        rc = fpu_ext_set(v, buf, e->size);
        vcpu_unpause(v);
    }
    xfree(buf);
    return rc;
}

/* --- MSRs --- */

s64 dc_get_vcpu_msrs(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = control_vcpu(d, m->vcpu);
    struct vcpu_msr msrs[PV_VCPU_MSRS];
    u32 room = m->msr_count;

    if (!v)
        return -EINVAL;
    if (!m->msrs) {
        m->msr_count = PV_VCPU_MSRS;
        return 0;
    }
    vcpu_pause(v);
    m->msr_count = pv_vcpu_msrs_get(v, msrs);
    vcpu_unpause(v);
    if (m->msr_count > room)
        return refuse(-ENOBUFS, "room for %u MSRs, there are %u", room, m->msr_count);
    for (u32 i = 0; i < m->msr_count; i++) {
        struct xen_domctl_vcpu_msr out = { .index = msrs[i].index, .value = msrs[i].value };

        if (copy_to_guest(gva(m->msrs + i * sizeof(out)), &out, sizeof(out)))
            return -EFAULT;
    }
    return 0;
}

s64 dc_set_vcpu_msrs(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_vcpu_msrs *m = &op->u.vcpu_msrs;
    struct vcpu *v = control_vcpu(d, m->vcpu);
    s64 rc = 0;
    u32 i;

    if (!v)
        return -EINVAL;
    if (m->msr_count > PV_VCPU_MSRS)
        return refuse(-EINVAL, "%u MSRs, there are at most %u", m->msr_count, PV_VCPU_MSRS);
    vcpu_pause(v);
    for (i = 0; i < m->msr_count && !rc; i++) {
        struct xen_domctl_vcpu_msr in;

        if (copy_from_guest(&in, gva(m->msrs + i * sizeof(in)), sizeof(in)))
            rc = -EFAULT;
        else if (in.reserved || pv_vcpu_msr_set(v, in.index, in.value))
            rc = refuse(-EINVAL, "MSR %#x cannot be %#lx, or %#x is not 0", in.index, in.value, in.reserved);
    }
    vcpu_unpause(v);
    m->msr_count = rc ? i - 1 : i;
    return rc;
}
