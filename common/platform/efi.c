/*
 * What dom0 asks of UEFI firmware: XENPF_firmware_info's XEN_FW_EFI_INFO, and XENPF_efi_runtime_call. Linux (drivers/xen/efi.c) makes of
 * them what its EFI code works on: the configuration tables, the RSDP among them, and the variables.
 */
#include <asm/nospec.h>
#include <pvisor/efi.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/spinlock.h>
#include "internal.h"

#define FW_DECODE(name, internal, op) abi_decode(current_word(), &name##_desc, (internal), (op)->u.pad + XENPF_FIRMWARE_INFO_U)
#define FW_ENCODE(name, op, internal) abi_encode(current_word(), &name##_desc, (op)->u.pad + XENPF_FIRMWARE_INFO_U, (internal))
#define ENCODED(done) ((done) ? 0 : -EOVERFLOW)

/* --- What the firmware says of itself --- */

static s64 config_tables(struct xen_platform_op *op)
{
    struct xenpf_fw_efi_cfg c = { .addr = efi_info.config_tables, .nent = efi_info.nr_config_tables };

    return ENCODED(FW_ENCODE(xenpf_fw_efi_cfg, op, &c));
}

/* As much of the name as there is room for. */
static s64 vendor(struct xen_platform_op *op)
{
    struct xenpf_fw_efi_vendor v;
    u32 bytes = sizeof(u16);

    FW_DECODE(xenpf_fw_efi_vendor, &v, op);
    while (efi_info.vendor[bytes / sizeof(u16) - 1])
        bytes += sizeof(u16);
    if (v.name && copy_to_guest(gva(v.name), efi_info.vendor, min(bytes, v.bufsz & ~1u)))
        return -EFAULT;
    v.revision = efi_info.vendor_revision;
    return ENCODED(FW_ENCODE(xenpf_fw_efi_vendor, op, &v));
}

/* What there is from an address on, at most as much as was asked for. */
static s64 memory_at(struct xen_platform_op *op)
{
    struct xenpf_fw_efi_mem m;
    const struct efi_region *r;

    FW_DECODE(xenpf_fw_efi_mem, &m, op);
    r = efi_region_at(m.addr);
    if (!r)
        return -ESRCH;
    m.size = min(m.size, r->end - m.addr);
    m.attr = r->attributes;
    m.type = r->type;
    return ENCODED(FW_ENCODE(xenpf_fw_efi_mem, op, &m));
}

s64 platform_efi_info(struct xen_platform_op *op)
{
    if (!efi_info.present)
        return -ENOSYS;
    switch (op->u.firmware_info.index) {
    case XEN_FW_EFI_VERSION:
        op->u.firmware_info.u.efi_info.version = efi_info.revision;
        return 0;
    case XEN_FW_EFI_CONFIG_TABLE:
        return config_tables(op);
    case XEN_FW_EFI_VENDOR:
        return vendor(op);
    case XEN_FW_EFI_MEM_INFO:
        return memory_at(op);
    case XEN_FW_EFI_RT_VERSION:
        op->u.firmware_info.u.efi_info.version = efi_services_revision();
        return efi_services_revision() ? 0 : -EOPNOTSUPP;
    case XEN_FW_EFI_PCI_ROM:
    case XEN_FW_EFI_APPLE_PROPERTIES:
        return -ESRCH;          /* boot services have them, which are over */
    default:
        return refuse(-EINVAL, "unknown information about UEFI %u", op->u.firmware_info.index);
    }
}

/* --- Runtime services --- */

/* One call of the firmware's at a time: its arena is one. */
static spinlock_t efi_lock = SPINLOCK_INIT(RANK_CONTROL);

#define ARG(field) efi_pointer(&efi_arena->args.field)
#define NAME efi_pointer(efi_arena->name)
#define DATA efi_pointer(efi_arena->data)

/* Each service gets the flags that came with the call, and takes what else it needs out of op. */
typedef s64 efi_fn(struct xen_platform_op *op, u32 misc);

/* As the guest's words have it: an error has the highest bit. */
static u64 guest_status(efi_status s)
{
    return current_word() == ABI_64 ? s : (s & 0x7fffffff) | s >> 63 << 31;
}

/* A name up to its 0, in at most so many bytes of the guest's. */
static s64 take_name(u64 from, u64 bytes)
{
    u64 most = min(bytes / sizeof(u16), (u64)EFI_NAME_MAX);

    for (u64 i = 0; i < most; i++) {
        if (copy_from_guest(&efi_arena->name[i], gva(from + i * sizeof(u16)), sizeof(u16)))
            return -EFAULT;
        if (!efi_arena->name[i])
            return 0;
    }
    return refuse(-EINVAL, "a variable's name does not end within %lu characters", most);
}

static s64 no_flags(u32 misc)
{
    return misc ? refuse(-EINVAL, "flags %#x, this service has none", misc) : 0;
}

static s64 get_time(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_get_time t;
    s64 rc = no_flags(misc);

    if (rc)
        return rc;
    DECODE(xenpf_efi_get_time, &t, op);
    t.status = guest_status(efi_call(EFI_GET_TIME, ARG(time), ARG(capabilities), 0, 0, 0));
    t.time = efi_arena->args.time;
    t.resolution = efi_arena->args.capabilities.resolution;
    t.accuracy = efi_arena->args.capabilities.accuracy;
    t.misc = efi_arena->args.capabilities.sets_to_zero ? XEN_EFI_GET_TIME_SET_CLEARS_NS : 0;
    return ENCODED(ENCODE(xenpf_efi_get_time, op, &t));
}

static s64 set_time(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_set_time t;
    s64 rc = no_flags(misc);

    if (rc)
        return rc;
    DECODE(xenpf_efi_set_time, &t, op);
    efi_arena->args.time = t.time;
    t.status = guest_status(efi_call(EFI_SET_TIME, ARG(time), 0, 0, 0, 0));
    return ENCODED(ENCODE(xenpf_efi_set_time, op, &t));
}

static s64 get_wakeup_time(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_set_time t;
    s64 rc = no_flags(misc);

    if (rc)
        return rc;
    DECODE(xenpf_efi_set_time, &t, op);
    t.status = guest_status(efi_call(EFI_GET_WAKEUP_TIME, ARG(enabled), ARG(pending), ARG(time), 0, 0));
    t.misc = (efi_arena->args.enabled ? XEN_EFI_GET_WAKEUP_TIME_ENABLED : 0) |
             (efi_arena->args.pending ? XEN_EFI_GET_WAKEUP_TIME_PENDING : 0);
    t.time = efi_arena->args.time;
    return ENCODED(ENCODE(xenpf_efi_set_time, op, &t));
}

static s64 set_wakeup_time(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_set_time t;

    if (misc & ~(XEN_EFI_SET_WAKEUP_TIME_ENABLE | XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY))
        return refuse(-EINVAL, "unknown flags %#x", misc);
    DECODE(xenpf_efi_set_time, &t, op);
    efi_arena->args.time = t.time;
    t.status = guest_status(efi_call(EFI_SET_WAKEUP_TIME, !!(misc & XEN_EFI_SET_WAKEUP_TIME_ENABLE),
                                     misc & XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY ? 0 : ARG(time), 0, 0, 0));
    return ENCODED(ENCODE(xenpf_efi_set_time, op, &t));
}

static s64 next_count(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_runtime_call c;
    s64 rc = no_flags(misc);

    if (rc)
        return rc;
    DECODE(xenpf_efi_runtime_call, &c, op);
    c.status = guest_status(efi_call(EFI_GET_NEXT_HIGH_MONOTONIC_COUNT, ARG(count), 0, 0, 0, 0));
    c.misc = efi_arena->args.count;
    return ENCODED(ENCODE(xenpf_efi_runtime_call, op, &c));
}

/* The firmware says how large the variable is where that is more than there is room for, and writes nothing then. */
static s64 get_variable(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_variable v;
    u64 room;
    efi_status status;
    s64 rc = no_flags(misc);

    DECODE(xenpf_efi_variable, &v, op);
    if (rc || (rc = take_name(v.name, ~0UL)))
        return rc;
    room = v.data ? min(v.size, (u64)EFI_DATA_MAX) : 0;
    efi_arena->args.guid = v.vendor_guid;
    efi_arena->args.size = room;
    efi_arena->args.attributes = 0;
    status = efi_call(EFI_GET_VARIABLE, NAME, ARG(guid), ARG(attributes), ARG(size), room ? DATA : 0);
    v.size = min(efi_arena->args.size, (u64)~0u);
    if (!status && copy_to_guest(gva(v.data), efi_arena->data, min(v.size, room)))
        return -EFAULT;
    v.status = guest_status(status);
    v.misc = efi_arena->args.attributes;
    return ENCODED(ENCODE(xenpf_efi_variable, op, &v));
}

static s64 set_variable(struct xen_platform_op *op, u32 attributes)
{
    struct xenpf_efi_variable v;
    s64 rc;

    DECODE(xenpf_efi_variable, &v, op);
    if (v.size > EFI_DATA_MAX)
        return refuse(-E2BIG, "a variable of %lu bytes, %u at most", v.size, EFI_DATA_MAX);
    if ((rc = take_name(v.name, ~0UL)))
        return rc;
    if (copy_from_guest(efi_arena->data, gva(v.data), v.size))
        return -EFAULT;
    efi_arena->args.guid = v.vendor_guid;
    v.status = guest_status(efi_call(EFI_SET_VARIABLE, NAME, ARG(guid), attributes, v.size, DATA));
    return ENCODED(ENCODE(xenpf_efi_variable, op, &v));
}

static s64 next_variable(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_next_variable n;
    u64 room;
    efi_status status;
    s64 rc = no_flags(misc);

    DECODE(xenpf_efi_next_variable, &n, op);
    room = min(n.size, (u64)sizeof(efi_arena->name));
    if (rc || (rc = take_name(n.name, room)))
        return rc;
    efi_arena->args.guid = n.vendor_guid;
    efi_arena->args.size = room;
    status = efi_call(EFI_GET_NEXT_VARIABLE_NAME, ARG(size), NAME, ARG(guid), 0, 0);
    n.size = min(efi_arena->args.size, (u64)~0u);
    if (!status && copy_to_guest(gva(n.name), efi_arena->name, min(n.size, room)))
        return -EFAULT;
    n.vendor_guid = efi_arena->args.guid;
    n.status = guest_status(status);
    return ENCODED(ENCODE(xenpf_efi_next_variable, op, &n));
}

static s64 variable_info(struct xen_platform_op *op, u32 misc)
{
    struct xenpf_efi_variable_info i;

    if (misc)
        return refuse(-EOPNOTSUPP, "flags %#x: what there was at boot is not known", misc);
    DECODE(xenpf_efi_variable_info, &i, op);
    i.status = guest_status(efi_call(EFI_QUERY_VARIABLE_INFO, i.attr, ARG(numbers[0]), ARG(numbers[1]), ARG(numbers[2]), 0));
    i.max_store_size = efi_arena->args.numbers[0];
    i.remain_store_size = efi_arena->args.numbers[1];
    i.max_size = efi_arena->args.numbers[2];
    return ENCODED(ENCODE(xenpf_efi_variable_info, op, &i));
}

/* They hold machine addresses of memory that the firmware would write to. */
static s64 capsule(struct xen_platform_op *, u32)
{
    return refuse(-EOPNOTSUPP, "capsules are not handed to the firmware");
}

static efi_fn *const efi_services[] = {
    [XEN_EFI_get_time] = get_time,
    [XEN_EFI_set_time] = set_time,
    [XEN_EFI_get_wakeup_time] = get_wakeup_time,
    [XEN_EFI_set_wakeup_time] = set_wakeup_time,
    [XEN_EFI_get_next_high_monotonic_count] = next_count,
    [XEN_EFI_get_variable] = get_variable,
    [XEN_EFI_set_variable] = set_variable,
    [XEN_EFI_get_next_variable_name] = next_variable,
    [XEN_EFI_query_variable_info] = variable_info,
    [XEN_EFI_query_capsule_capabilities] = capsule,
    [XEN_EFI_update_capsule] = capsule,
};

s64 platform_efi_call(struct xen_platform_op *op)
{
    struct xenpf_efi_runtime_call c;
    s64 rc;

    if (!efi_services_revision())
        return decline(-EOPNOTSUPP, "this machine has no UEFI runtime services that can be called");
    DECODE(xenpf_efi_runtime_call, &c, op);
    if (c.function >= ARRAY_SIZE(efi_services) || !efi_services[c.function])
        return refuse(-EINVAL, "unknown UEFI runtime service %u", c.function);
    if (!spin_trylock(&efi_lock))
        return -ERESTART_HYPERCALL;
    memset(&efi_arena->args, 0, sizeof(efi_arena->args));
    rc = array_nospec(efi_services, c.function)(op, c.misc);
    spin_unlock(&efi_lock);
    return rc;
}
