/*
 * Hypercalls. A wrapper exists where several tests use the call; HYPERCALL(number, ...) makes any of them, with up to
 * six words. All return what the hypervisor returned: 0 or more, or a negative errno.
 */
#ifndef GUEST_HYPERCALL_H
#define GUEST_HYPERCALL_H

#include "abi.h"

/* Through the hypercall page. args come back as the hypervisor left the registers. */
long hypercall_page_call(word number, word args[6]);
/* By the bare instruction: any number, also ones that the page has no room for. */
long hypercall_bare(word number, word args[6]);

#define HYPERCALL(number, ...) hypercall_page_call(number, (word[6]){ __VA_ARGS__ })
#define P(pointer) ((word)(pointer))

/* A 64-bit argument takes two registers in a 32-bit kernel. */
#ifdef FORMAT_PT64
#define ARG64(v) (word)(v)
#else
#define ARG64(v) (word)(u32)(v), (word)(u32)((u64)(v) >> 32)
#endif

static inline long mmu_update(const struct mmu_update *req, unsigned count, unsigned *done, word domain)
{
    return HYPERCALL(__HYPERVISOR_mmu_update, P(req), count, P(done), domain);
}

static inline long mmuext_op(const GUEST(mmuext_op) *op, unsigned count, unsigned *done, word domain)
{
    return HYPERCALL(__HYPERVISOR_mmuext_op, P(op), count, P(done), domain);
}

/* One operation on ourselves. */
static inline long mmuext(unsigned cmd, word arg1, word arg2)
{
    GUEST(mmuext_op) op = { .cmd = cmd, .arg1 = arg1, .arg2 = arg2 };
    return mmuext_op(&op, 1, NULL, DOMID_SELF);
}

static inline long update_va_mapping(const volatile void *va, u64 pte, word flags)
{
    return HYPERCALL(__HYPERVISOR_update_va_mapping, P(va), ARG64(pte), flags);
}

static inline long update_va_mapping_otherdomain(const void *va, u64 pte, word flags, word domain)
{
    return HYPERCALL(__HYPERVISOR_update_va_mapping_otherdomain, P(va), ARG64(pte), flags, domain);
}

static inline long update_descriptor(u64 maddr, u64 descriptor)
{
    return HYPERCALL(__HYPERVISOR_update_descriptor, ARG64(maddr), ARG64(descriptor));
}

static inline long set_timer_op(u64 system_time)
{
    return HYPERCALL(__HYPERVISOR_set_timer_op, ARG64(system_time));
}

static inline long set_gdt(const word *frames, unsigned entries)
{
    return HYPERCALL(__HYPERVISOR_set_gdt, P(frames), entries);
}

static inline long set_trap_table(const GUEST(trap_info) *table)
{
    return HYPERCALL(__HYPERVISOR_set_trap_table, P(table));
}

static inline long memory_op(unsigned cmd, void *arg) { return HYPERCALL(__HYPERVISOR_memory_op, cmd, P(arg)); }
static inline long sched_op(unsigned cmd, void *arg) { return HYPERCALL(__HYPERVISOR_sched_op, cmd, P(arg)); }
static inline long xen_version(unsigned cmd, void *arg) { return HYPERCALL(__HYPERVISOR_xen_version, cmd, P(arg)); }
static inline long physdev_op(unsigned cmd, void *arg) { return HYPERCALL(__HYPERVISOR_physdev_op, cmd, P(arg)); }
static inline long callback_op(unsigned cmd, void *arg) { return HYPERCALL(__HYPERVISOR_callback_op, cmd, P(arg)); }

static inline long event_channel_op(unsigned cmd, void *arg)
{
    return HYPERCALL(__HYPERVISOR_event_channel_op, cmd, P(arg));
}

static inline long grant_table_op(unsigned cmd, void *arg, unsigned count)
{
    return HYPERCALL(__HYPERVISOR_grant_table_op, cmd, P(arg), count);
}

static inline long vcpu_op(unsigned cmd, unsigned vcpu, void *arg)
{
    return HYPERCALL(__HYPERVISOR_vcpu_op, cmd, vcpu, P(arg));
}

static inline long console_io(unsigned cmd, unsigned count, void *buffer)
{
    return HYPERCALL(__HYPERVISOR_console_io, cmd, count, P(buffer));
}

static inline long multicall(GUEST(multicall_entry) *calls, unsigned count)
{
    return HYPERCALL(__HYPERVISOR_multicall, P(calls), count);
}

static inline long vm_assist(unsigned cmd, unsigned type) { return HYPERCALL(__HYPERVISOR_vm_assist, cmd, type); }
static inline long stack_switch(word ss, word sp) { return HYPERCALL(__HYPERVISOR_stack_switch, ss, sp); }
static inline long fpu_taskswitch(word set) { return HYPERCALL(__HYPERVISOR_fpu_taskswitch, set); }
static inline long set_debugreg(word reg, word value) { return HYPERCALL(__HYPERVISOR_set_debugreg, reg, value); }
static inline long get_debugreg(word reg) { return HYPERCALL(__HYPERVISOR_get_debugreg, reg); }
static inline long set_segment_base(word which, word base)
{
    return HYPERCALL(__HYPERVISOR_set_segment_base, which, base);
}

/* Does not return. reason: SHUTDOWN_*. */
noreturn_fn void shutdown(unsigned reason);

#endif
