/* HYPERVISOR_platform_op: what dom0 tells and asks about the machine. Interface: public/platform.h. */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <pvisor/acpi.h>
#include <pvisor/console.h>
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/power.h>
#include <pvisor/time.h>
#include "internal.h"

/* --- Clock ------------------------------------------------------------------------------------------------------ */

static s64 set_clock(u64 secs, u32 nsecs, u64 system_time)
{
    if (nsecs >= SECONDS(1))
        return refuse(-EINVAL, "%u ns, expected less than a second", nsecs);
    wallclock_set(secs, nsecs, system_time);
    return 0;
}

static s64 op_settime32(struct xen_platform_op *op)
{
    return set_clock(op->u.settime32.secs, op->u.settime32.nsecs, op->u.settime32.system_time);
}

static s64 op_settime64(struct xen_platform_op *op)
{
    if (op->u.settime64.mbz)
        return refuse(-EOPNOTSUPP, "the field that must be zero is %#x", op->u.settime64.mbz);
    return set_clock(op->u.settime64.secs, op->u.settime64.nsecs, op->u.settime64.system_time);
}

/* --- Firmware and power -------------------------------------------------------------------------------------------- */

/* Nothing was asked of the BIOS, which boot loaders of today hardly let one do: no disks, no monitor, no shift keys. */
static s64 op_firmware_info(struct xen_platform_op *op)
{
    switch (op->u.firmware_info.type) {
    case XEN_FW_DISK_INFO:
    case XEN_FW_DISK_MBR_SIGNATURE:
    case XEN_FW_VBEDDC_INFO:
        return -ESRCH;
    case XEN_FW_EFI_INFO:
        return platform_efi_info(op);
    case XEN_FW_KBD_SHIFT_FLAGS:
        op->u.firmware_info.u.kbd_shift_flags = 0;
        return 0;
    default:
        return refuse(-EINVAL, "unknown firmware information %u", op->u.firmware_info.type);
    }
}

static s64 op_enter_sleep(struct xen_platform_op *op)
{
    const struct xenpf_enter_acpi_sleep *s = &op->u.enter_acpi_sleep;

    if (s->flags & ~XENPF_ACPI_SLEEP_EXTENDED)
        return refuse(-EINVAL, "unknown flags %#x", s->flags);
    if (s->sleep_state != 5)
        return refuse(-EOPNOTSUPP, "sleep state S%u, only S5 is supported", s->sleep_state);
    if (!(s->flags & XENPF_ACPI_SLEEP_EXTENDED))
        return machine_poweroff(s->val_a, s->val_b);
    if (!acpi_info.sleep_control.address)
        return refuse(-ENODEV, "this machine has no sleep control register");
    printk("Entering ACPI S5\n");
    console_flush();
    return acpi_write_reg(&acpi_info.sleep_control, s->val_a);
}

/* --- Processors ------------------------------------------------------------------------------------------------------- */

static void cpu_ids(u32 cpu, u32 *apic_id, u32 *acpi_id)
{
    *apic_id = cpu_apic_ids[cpu];
    *acpi_id = ~0u;
    for (u32 i = 0; i < acpi_info.nr_cpus; i++)
        if (acpi_info.cpu[i].apic_id == *apic_id)
            *acpi_id = acpi_info.cpu[i].acpi_uid;
}

static s64 op_cpuinfo(struct xen_platform_op *op)
{
    struct xenpf_pcpuinfo *i = &op->u.pcpu_info;

    i->max_present = nr_cpus - 1;
    if (i->xen_cpuid >= NR_CPUS)
        return refuse(-EINVAL, "CPU %u, %u is the last possible", i->xen_cpuid, NR_CPUS - 1);
    if (!cpu_is_online(i->xen_cpuid)) {
        i->flags = XEN_PCPU_FLAGS_INVALID;
        return 0;
    }
    i->flags = XEN_PCPU_FLAGS_ONLINE;
    cpu_ids(i->xen_cpuid, &i->apic_id, &i->acpi_id);
    return 0;
}

/* All CPUs of a machine are of one model. Signature: Intel SDM 2A, CPUID leaf 1. */
static s64 op_cpu_version(struct xen_platform_op *op)
{
    struct xenpf_pcpu_version *v = &op->u.pcpu_version;
    struct cpuid_regs vendor = cpuid(0, 0);
    u32 signature = cpuid(1, 0).a;

    v->max_present = nr_cpus - 1;
    if (v->xen_cpuid >= nr_cpus)
        return refuse(-EINVAL, "CPU %u, there are %u", v->xen_cpuid, nr_cpus);
    memcpy(v->vendor_id, &vendor.b, 4);
    memcpy(v->vendor_id + 4, &vendor.d, 4);
    memcpy(v->vendor_id + 8, &vendor.c, 4);
    v->family = signature >> 8 & 0xf;
    v->model = signature >> 4 & 0xf;
    v->stepping = signature & 0xf;
    if (v->family == 6 || v->family == 15)
        v->model |= signature >> 12 & 0xf0;
    if (v->family == 15)
        v->family += signature >> 20 & 0xff;
    return 0;
}

/* One word of 8 bits of the caller's bitmap; bits of CPUs that are not online are cleared, times of the others written. */
static s64 idle_times_of_byte(const struct xenpf_getidletime *t, u32 byte)
{
    u8 bits;

    if (copy_from_guest(&bits, gva(t->cpumap_bitmap + byte), 1))
        return -EFAULT;
    for (u32 cpu = byte * 8; cpu < byte * 8 + 8; cpu++) {
        struct vcpu *idle = cpu < nr_cpus && idle_domain ? domain_vcpu(idle_domain, cpu) : NULL;
        u64 ns;

        if (cpu >= t->cpumap_nr_cpus || !idle || !cpumask_test(&cpu_online_map, cpu))
            bits &= ~(1u << cpu % 8);
        if (!(bits >> cpu % 8 & 1))
            continue;
        ns = vcpu_runtime(idle);
        if (copy_to_guest(gva(t->idletime + 8 * (u64)cpu), &ns, sizeof(ns)))
            return -EFAULT;
    }
    return copy_to_guest(gva(t->cpumap_bitmap + byte), &bits, 1);
}

static s64 op_idle_time(struct xen_platform_op *op)
{
    struct xenpf_getidletime t;

    DECODE(xenpf_getidletime, &t, op);
    for (u32 byte = 0; byte < DIV_ROUND_UP(min(t.cpumap_nr_cpus, (u32)NR_CPUS), 8); byte++) {
        s64 err = idle_times_of_byte(&t, byte);

        if (err)
            return err;
    }
    t.now = now_ns();
    return ENCODE(xenpf_getidletime, op, &t) ? 0 : -EOVERFLOW;
}

static s64 op_quirk(struct xen_platform_op *op)
{
    u32 id = op->u.platform_quirk.quirk_id;

    if (id < QUIRK_NOIRQBALANCING || id > QUIRK_IOAPIC_GOOD_REGSEL)
        return refuse(-EINVAL, "unknown quirk %u", id);
    return 0;
}

static s64 op_no_hotplug(struct xen_platform_op *op)
{
    return refuse(-ENOSYS, "command %u: CPUs and memory cannot come and go", op->cmd);
}

static s64 op_unsupported(struct xen_platform_op *op)
{
    return refuse(-EOPNOTSUPP, "command %u is not supported", op->cmd);
}

/* Linux asks for one register after the other until it is told that there are no more. A guest's CPU has no MTRRs (pv/msr.c). */
static s64 op_read_memtype(struct xen_platform_op *)
{
    return decline(-EOPNOTSUPP, "memory types of the machine's are not shown");
}

/* --- Dispatch ----------------------------------------------------------------------------------------------------------- */

static platform_fn *const commands[] = {
    [XENPF_settime32] = op_settime32,
    [XENPF_settime64] = op_settime64,
    [XENPF_add_memtype] = op_unsupported,
    [XENPF_del_memtype] = op_unsupported,
    [XENPF_read_memtype] = op_read_memtype,
    [XENPF_microcode_update] = op_microcode,
    [XENPF_microcode_update2] = op_microcode2,
    [XENPF_get_ucode_revision] = op_microcode_revision,
    [XENPF_platform_quirk] = op_quirk,
    [XENPF_get_cpu_version] = op_cpu_version,
    [XENPF_efi_runtime_call] = platform_efi_call,
    [XENPF_firmware_info] = op_firmware_info,
    [XENPF_enter_acpi_sleep] = op_enter_sleep,
    [XENPF_change_freq] = op_unsupported,
    [XENPF_getidletime] = op_idle_time,
    [XENPF_set_processor_pminfo] = op_processor_info,
    [XENPF_get_cpuinfo] = op_cpuinfo,
    [XENPF_cpu_online] = op_no_hotplug,
    [XENPF_cpu_offline] = op_no_hotplug,
    [XENPF_cpu_hotadd] = op_no_hotplug,
    [XENPF_mem_hotadd] = op_no_hotplug,
    [XENPF_core_parking] = op_unsupported,
    [XENPF_resource_op] = op_resource,
    [XENPF_get_symbol] = op_unsupported,
    [XENPF_get_dom0_console] = op_console,
};

s64 do_platform_op(u64 uop, u64, u64, u64, u64, u64)
{
    struct xen_platform_op op;
    s64 ret;

    if (copy_from_guest(&op, gva(uop), sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XENPF_INTERFACE_VERSION)
        return refuse(-EACCES, "interface version %#x, expected %#x", op.interface_version, XENPF_INTERFACE_VERSION);
    if (op.cmd >= ARRAY_SIZE(commands) || !commands[op.cmd])
        return refuse(-ENOSYS, "unknown command %u", op.cmd);
    ret = commands[op.cmd](&op);
    if (ret == -ERESTART_HYPERCALL)
        return hypercall_restart(1, uop);
    if (ret >= 0 && copy_to_guest(gva(uop), &op, sizeof(op)))
        return -EFAULT;
    return ret;
}
