/* Where a guest's kernel wants control: trap table, callbacks, kernel stack, segment bases. */
#include <asm/guest_mem.h>
#include <asm/mm.h>
#include <asm/nospec.h>
#include <asm/pv.h>
#include <asm/x86.h>
#include <public/callback.h>
#include <public/errno.h>
#include <pvisor/guest.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define UNUSED2(a, b) do { (void)(a); (void)(b); } while (0)

static bool address_ok(const struct domain *d, u64 a)
{
    return d->arch.word == ABI_32 ? a < d->arch.fmt->hv_start : is_canonical(a);
}

static struct trap_entry to_entry(const struct domain *d, const struct trap_info *t)
{
    return (struct trap_entry){
        .address = t->address, .cs = fixup_selector(d, t->cs), .dpl = t->flags & TI_DPL_MASK,
        .disables_events = t->flags & TI_IF,
    };
}

s64 do_set_trap_table(u64 table, u64 a1, u64 a2, u64 a3, u64 a4, u64)
{
    struct vcpu *v = current;
    struct trap_info t;

    UNUSED2(a1, a2);
    UNUSED2(a3, a4);
    if (!table) {
        memset(v->arch.traps, 0, 256 * sizeof(*v->arch.traps));
        return 0;
    }
    /* At most 256 different vectors exist: a longer table says the same things again. */
    for (unsigned i = 0; i <= 256; i++) {
        if (guest_read_abi(trap_info, &t, guest_abi_elem(trap_info, gva(table), i)))
            return -EFAULT;
        if (!t.address)
            return 0;
        if (!address_ok(v->domain, t.address))
            return refuse(-EINVAL, "handler %#lx of vector %u is no guest address", t.address, t.vector);
        v->arch.traps[t.vector] = to_entry(v->domain, &t);
    }
    return 0;
}

static int set_callback(struct vcpu *v, unsigned type, u64 cs, u64 eip, bool masks_events)
{
    static const s8 id_of[] = {
        [CALLBACKTYPE_event] = CB_EVENT, [CALLBACKTYPE_failsafe] = CB_FAILSAFE, [CALLBACKTYPE_syscall] = CB_SYSCALL,
        [CALLBACKTYPE_sysenter_deprecated] = CB_SYSENTER, [CALLBACKTYPE_nmi] = CB_NMI,
        [CALLBACKTYPE_sysenter] = CB_SYSENTER, [6] = -1, [CALLBACKTYPE_syscall32] = CB_SYSCALL32,
    };
    struct domain *d = v->domain;
    s8 id = type < ARRAY_SIZE(id_of) ? array_nospec(id_of, type) : -1;

    if (id < 0)
        return refuse(-ENOSYS, "no callback of type %u", type);
    if (type == CALLBACKTYPE_syscall && d->arch.word == ABI_32)
        return refuse(-ENOSYS, "SYSCALL callback of a 32-bit guest");
    if (!address_ok(d, eip))
        return refuse(-EINVAL, "callback address %#lx is no guest address", eip);
    v->arch.callback[id] = (struct guest_callback){
        .address = eip, .cs = fixup_selector(d, (u16)cs), .registered = true, .disables_events = masks_events,
    };
    return 0;
}

s64 do_set_callbacks(u64 a0, u64 a1, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct vcpu *v = current;
    bool narrow = v->domain->arch.word == ABI_32;

    UNUSED2(a4, a5);
    /* 64-bit: event, failsafe, syscall addresses. 32-bit: event cs and address, failsafe cs and address. */
    if (narrow) {
        int rc = set_callback(v, CALLBACKTYPE_event, a0, a1, true);
        return rc ? rc : set_callback(v, CALLBACKTYPE_failsafe, a2, a3, false);
    }
    if (!address_ok(v->domain, a0) || !address_ok(v->domain, a1) || !address_ok(v->domain, a2))
        return refuse(-EINVAL, "one of the callback addresses %#lx, %#lx and %#lx is no guest address", a0, a1, a2);
    set_callback(v, CALLBACKTYPE_event, 0, a0, true);
    set_callback(v, CALLBACKTYPE_failsafe, 0, a1, false);
    return set_callback(v, CALLBACKTYPE_syscall, 0, a2, false);
}

static s64 callback_unregister(struct vcpu *v, gva_t arg)
{
    struct callback_unregister u;

    if (copy_from_guest(&u, arg, sizeof(u)))
        return -EFAULT;
    switch (u.type) {
    case CALLBACKTYPE_event: case CALLBACKTYPE_failsafe: case CALLBACKTYPE_syscall:
        return refuse(-EINVAL, "callback type %u cannot be taken back", u.type);
    case CALLBACKTYPE_nmi:
        v->arch.callback[CB_NMI] = (struct guest_callback){ 0 };
        return 0;
    default:
        return refuse(-ENOSYS, "no callback of type %u", u.type);
    }
}

s64 do_callback_op(u64 cmd, u64 arg, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct callback_register r;

    UNUSED2(a2, a3);
    UNUSED2(a4, a5);
    if (cmd == CALLBACKOP_unregister)
        return callback_unregister(current, gva(arg));
    if (cmd != CALLBACKOP_register)
        return refuse(-ENOSYS, "unknown command %lu", cmd);
    if (guest_read_abi(callback_register, &r, gva(arg)))
        return -EFAULT;
    return set_callback(current, r.type, r.cs, r.eip, r.flags & CALLBACKF_mask_events);
}

s64 do_stack_switch(u64 ss, u64 esp, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct vcpu *v = current;

    UNUSED2(a2, a3);
    UNUSED2(a4, a5);
    v->arch.kernel_ss = fixup_selector(v->domain, (u16)ss);
    v->arch.kernel_sp = esp;
    return 0;
}

s64 do_set_segment_base(u64 which, u64 base, u64 a2, u64 a3, u64 a4, u64 a5)
{
    struct vcpu *v = current;

    UNUSED2(a2, a3);
    UNUSED2(a4, a5);
    if (v->domain->arch.word == ABI_32)
        return refuse(-ENOSYS, "called by a 32-bit guest");
    if (which != SEGBASE_GS_USER_SEL && !is_canonical(base))
        return refuse(-EINVAL, "base %#lx is not canonical", base);
    switch (which) {
    case SEGBASE_FS:
        wrmsr(MSR_FS_BASE, base);
        return 0;
    case SEGBASE_GS_USER:
        v->arch.gs_base_user = base;
        wrmsr(MSR_KERNEL_GS_BASE, base);    /* the caller is in kernel mode */
        return 0;
    case SEGBASE_GS_KERNEL:
        v->arch.gs_base_kernel = base;
        wrmsr(MSR_GS_BASE, base);
        return 0;
    case SEGBASE_GS_USER_SEL: {
        u16 sel = fixup_selector(v->domain, (u16)base);
        /* Loading %gs changes the active base; do it where user's is active, and take the new base with us. */
        __asm__ goto("swapgs\n1: movl %0, %%gs\n swapgs\n" EX_TABLE("1b", "%l[bad]") :: "r"((u32)sel) : "memory" : bad);
        v->arch.gs_base_user = rdmsr(MSR_KERNEL_GS_BASE);
        return 0;
bad:
        __asm__ volatile("movl %0, %%gs\n swapgs\n" :: "r"(0) : "memory");
        return refuse(-EFAULT, "selector %#x cannot be loaded", sel);
    }
    default:
        return refuse(-EINVAL, "segment %lu, expected at most %u", which, SEGBASE_GS_USER_SEL);
    }
}
