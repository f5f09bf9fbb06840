/* HYPERVISOR_physdev_op and its old form: one table from command to function. Interface: public/physdev.h. */
#include <asm/nospec.h>
#include <asm/percpu.h>
#include <public/errno.h>
#include <public/physdev.h>
#include <pvisor/acpi.h>
#include <pvisor/devices.h>
#include <pvisor/domain.h>
#include <pvisor/evtchn.h>
#include <pvisor/guest.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include "internal.h"
#include "pirq.h"

/* Arguments that have one layout for both word sizes. */
#define READ(arg, op) do { if (copy_from_guest(&(op), (arg), sizeof(op))) return -EFAULT; } while (0)
#define WRITE(arg, op) do { if (copy_to_guest((arg), &(op), sizeof(op))) return -EFAULT; } while (0)

/* --- Interrupts ----------------------------------------------------------------------------------------------- */

static s64 op_eoi(struct domain *d, gva_t arg)
{
    struct physdev_eoi op;
    u32 port;

    READ(arg, op);
    if (op.irq >= max(pirq_limit(d), nr_gsis))
        return refuse(-EINVAL, "EOI of pirq %u, expected below %u", op.irq, max(pirq_limit(d), nr_gsis));
    if (d->arch.auto_unmask && (port = pirq_port(d, op.irq)) != 0)
        (void)evtchn_unmask(d, port);
    pirq_unmasked(d, op.irq);
    return 0;
}

static s64 share_eoi_map(struct domain *d, gva_t arg, bool auto_unmask)
{
    struct physdev_pirq_eoi_gmfn op;

    if (guest_read_abi(physdev_pirq_eoi_gmfn, &op, arg))
        return -EFAULT;
    return pirq_share_eoi_map(d, op.gmfn, auto_unmask);
}

static s64 op_eoi_gmfn_v1(struct domain *d, gva_t arg) { return share_eoi_map(d, arg, true); }
static s64 op_eoi_gmfn_v2(struct domain *d, gva_t arg) { return share_eoi_map(d, arg, false); }

static s64 op_irq_status(struct domain *d, gva_t arg)
{
    struct physdev_irq_status_query op;
    bool needs_eoi, shared;

    READ(arg, op);
    if (pirq_needs_eoi(d, op.irq, &needs_eoi, &shared))
        return refuse(-EINVAL, "there is no pirq %u", op.irq);
    op.flags = (needs_eoi ? XENIRQSTAT_needs_eoi : 0) | (shared ? XENIRQSTAT_shared : 0);
    WRITE(arg, op);
    return 0;
}

/* Guests think in vectors here; ours are none of their business, so the irq's number stands for one. */
static s64 op_alloc_vector(struct domain *, gva_t arg)
{
    struct physdev_irq op;

    READ(arg, op);
    if (op.irq >= nr_gsis)
        return refuse(-EINVAL, "GSI %u, there are %u", op.irq, nr_gsis);
    op.vector = op.irq;
    WRITE(arg, op);
    return 0;
}

static s64 op_free_vector(struct domain *, gva_t arg)
{
    struct physdev_irq op;

    READ(arg, op);
    return 0;
}

/* dom0 gives the segment in the upper half of bus with all types but the oldest. */
static s64 map_message(struct domain *d, const struct physdev_map_pirq *op, s32 *pirq)
{
    u32 seg = op->type == MAP_PIRQ_TYPE_MSI ? 0 : (u32)op->bus >> 16;
    u32 sbdf = PCI_SBDF(seg, op->bus & 0xff, op->devfn & 0xff);
    bool msix = op->table_base != 0;

    if (op->type == MAP_PIRQ_TYPE_MULTI_MSI) {
        if (msix || op->entry_nr < 1 || op->entry_nr > 32)
            return refuse(-EINVAL, "%d messages, 1 to 32 are possible", op->entry_nr);
        /* Their vectors would have to be neighbours; as without interrupt remapping in Xen, one at a time. */
        if (op->entry_nr != 1)
            return -EOPNOTSUPP;
        return pirq_map_msi(d, sbdf, false, 0, 0, pirq);
    }
    if (msix && (op->entry_nr < 0 || op->entry_nr > 2047))
        return refuse(-EINVAL, "MSI-X entry %d, 0 to 2047 are possible", op->entry_nr);
    return pirq_map_msi(d, sbdf, msix, msix ? op->entry_nr : 0, op->table_base, pirq);
}

static s64 map_for(struct domain *d, struct physdev_map_pirq *op)
{
    switch (op->type) {
    case MAP_PIRQ_TYPE_GSI:
        return pirq_map_gsi(d, op->index, &op->pirq);
    case MAP_PIRQ_TYPE_MSI:
    case MAP_PIRQ_TYPE_MSI_SEG:
    case MAP_PIRQ_TYPE_MULTI_MSI:
        return map_message(d, op, &op->pirq);
    default:
        return refuse(-EINVAL, "unknown type %d", op->type);
    }
}

/* Only the domain that has the hardware gets here. */
static s64 op_map_pirq(struct domain *, gva_t arg)
{
    struct physdev_map_pirq op;
    struct domain *d;
    s64 ret;

    if (guest_read_abi(physdev_map_pirq, &op, arg))
        return -EFAULT;
    d = domain_target(op.domid, &ret);
    if (!d)
        return ret;
    ret = d->dying ? -EINVAL : map_for(d, &op);
    if (!ret && guest_write_abi(physdev_map_pirq, arg, &op)) {
        (void)pirq_unmap(d, op.pirq);
        ret = -EFAULT;
    }
    domain_put(d);
    return ret;
}

static s64 op_unmap_pirq(struct domain *, gva_t arg)
{
    struct physdev_unmap_pirq op;
    struct domain *d;
    s64 ret;

    READ(arg, op);
    d = domain_target(op.domid, &ret);
    if (!d)
        return ret;
    ret = pirq_unmap(d, op.pirq);
    domain_put(d);
    return ret;
}

static s64 op_get_free_pirq(struct domain *d, gva_t arg)
{
    struct physdev_get_free_pirq op;
    s64 pirq;

    READ(arg, op);
    if (op.type != MAP_PIRQ_TYPE_MSI && op.type != MAP_PIRQ_TYPE_GSI)
        return refuse(-EINVAL, "unknown type %d", op.type);
    pirq = pirq_reserve(d, op.type == MAP_PIRQ_TYPE_MSI);
    if (pirq < 0)
        return pirq;
    op.pirq = pirq;
    WRITE(arg, op);
    return 0;
}

static s64 op_setup_gsi(struct domain *, gva_t arg)
{
    struct physdev_setup_gsi op;

    READ(arg, op);
    if (op.gsi < 0 || (u32)op.gsi >= nr_gsis)
        return refuse(-EINVAL, "GSI %d, there are %u", op.gsi, nr_gsis);
    if (irq_is_host(op.gsi))
        return -EEXIST;     /* a serial line's, set up when it was opened */
    return gsi_setup(op.gsi, op.triggering & 1, op.polarity & 1);
}

/* --- The IO-APICs as dom0 sees them --------------------------------------------------------------------------- */

#define RTE_LOW_ACTIVE (1u << 13)
#define RTE_LEVEL (1u << 15)
#define RTE_MASKED (1u << 16)

static s64 op_apic_read(struct domain *, gva_t arg)
{
    struct physdev_apic op;
    int err;

    if (guest_read_abi(physdev_apic, &op, arg))
        return -EFAULT;
    err = ioapic_read_guest(maddr(op.apic_physbase), op.reg, &op.value);
    if (err)
        return refuse(err, "there is no IO-APIC at %#lx", op.apic_physbase);
    return guest_write_abi(physdev_apic, arg, &op);
}

/* From a redirection entry that an old kernel writes we take trigger mode and polarity; the rest is ours to choose. */
static s64 op_apic_write(struct domain *d, gva_t arg)
{
    struct physdev_apic op;
    s64 gsi;
    s32 pirq;

    if (guest_read_abi(physdev_apic, &op, arg))
        return -EFAULT;
    gsi = ioapic_reg_to_gsi(maddr(op.apic_physbase), op.reg);
    if (gsi < 0 || op.value & RTE_MASKED || irq_is_host(gsi) || !rangeset_contains(d->irqs, gsi, gsi))
        return 0;
    pirq = gsi;
    if (gsi_setup(gsi, op.value & RTE_LEVEL, op.value & RTE_LOW_ACTIVE))
        return 0;
    return pirq_map_gsi(d, gsi, &pirq);
}

/* --- I/O privilege ---------------------------------------------------------------------------------------------- */

static s64 op_set_iopl(struct domain *, gva_t arg)
{
    struct physdev_set_iopl op;

    READ(arg, op);
    if (op.iopl > 3)
        return refuse(-EINVAL, "I/O privilege level %u, 0 to 3 are possible", op.iopl);
    current->arch.iopl = op.iopl;
    return 0;
}

static s64 op_set_iobitmap(struct domain *, gva_t arg)
{
    struct physdev_set_iobitmap op;

    if (guest_read_abi(physdev_set_iobitmap, &op, arg))
        return -EFAULT;
    if (op.nr_ports > 65536)
        return refuse(-EINVAL, "%u ports, there are 65536", op.nr_ports);
    current->arch.iobitmap = gva(op.bitmap);
    current->arch.iobitmap_ports = op.nr_ports;
    return 0;
}

/* --- PCI devices -------------------------------------------------------------------------------------------------- */

/* Calls fn with the device that a command names, in what all such structures begin with: in the older ones the segment is left out. */
static s64 for_device(gva_t arg, bool has_segment, int (*fn)(u32 sbdf))
{
    struct physdev_pci_device dev;
    struct physdev_manage_pci old;

    if (has_segment) {
        READ(arg, dev);
        return fn(PCI_SBDF(dev.seg, dev.bus, dev.devfn));
    }
    READ(arg, old);
    return fn(PCI_SBDF(0, old.bus, old.devfn));
}

/* A device is about to be given away, or is back: nothing to prepare, its table is ours whenever it is in use. */
static int msix_owner(u32 sbdf)
{
    const struct pci_dev *dev = pci_find(sbdf);

    return dev && dev->msix_cap ? 0 : -ENODEV;
}

static int add_plain(u32 sbdf) { return device_found(sbdf, sbdf); }

static int add_any(u32 sbdf, bool is_virtual, u32 maker)
{
    if (is_virtual && maker == sbdf)
        return refuse(-EINVAL, "a virtual function " PCI_FMT " that makes itself", PCI_ARGS(sbdf));
    return device_found(sbdf, is_virtual ? maker : sbdf);
}

static s64 op_pci_add(struct domain *, gva_t arg)
{
    struct physdev_pci_device_add add;

    READ(arg, add);
    return add_any(PCI_SBDF(add.seg, add.bus, add.devfn), add.flags & XEN_PCI_DEV_VIRTFN,
                   PCI_SBDF(add.seg, add.physfn.bus, add.physfn.devfn));
}

static s64 op_manage_pci_add_ext(struct domain *, gva_t arg)
{
    struct physdev_manage_pci_ext add;

    READ(arg, add);
    return add_any(PCI_SBDF(0, add.bus, add.devfn), add.is_virtfn, PCI_SBDF(0, add.physfn.bus, add.physfn.devfn));
}

static s64 op_pci_remove(struct domain *, gva_t arg) { return for_device(arg, true, device_lost); }
static s64 op_manage_pci_add(struct domain *, gva_t arg) { return for_device(arg, false, add_plain); }
static s64 op_manage_pci_remove(struct domain *, gva_t arg) { return for_device(arg, false, device_lost); }
static s64 op_restore_msi(struct domain *, gva_t arg) { return for_device(arg, false, msi_restore); }
static s64 op_restore_msi_ext(struct domain *, gva_t arg) { return for_device(arg, true, msi_restore); }
static s64 op_msix_owner(struct domain *, gva_t arg) { return for_device(arg, true, msix_owner); }

/* dom0 has reset a device. What it was told before is asked for again by restore_msi_ext; nothing else of it is kept. */
static s64 op_pci_reset(struct domain *, gva_t arg)
{
    struct pci_device_reset op;

    READ(arg, op);
    if (op.flags & ~PCI_DEVICE_RESET_MASK)
        return refuse(-EINVAL, "flags %#x, possible are %#x", op.flags, PCI_DEVICE_RESET_MASK);
    return pci_find(PCI_SBDF(op.dev.seg, op.dev.bus, op.dev.devfn)) ? 0 : -ENODEV;
}

/* dom0 says that a window of MCFG is (not) reserved in the firmware's own description. We go by the table. */
static s64 op_mmcfg_reserved(struct domain *, gva_t arg)
{
    struct physdev_pci_mmcfg_reserved op;

    READ(arg, op);
    for (unsigned i = 0; i < acpi_info.nr_mcfg; i++) {
        const struct acpi_mcfg *m = &acpi_info.mcfg[i];

        if (m->address.v == op.address && m->segment == op.segment)
            return 0;
    }
    return -ENODEV;
}

/* The hypervisor never uses a debug port, so its reset needs no care. */
static s64 op_dbgp(struct domain *, gva_t arg)
{
    struct physdev_dbgp_op op;

    READ(arg, op);
    if (op.op != PHYSDEVOP_DBGP_RESET_PREPARE && op.op != PHYSDEVOP_DBGP_RESET_DONE)
        return refuse(-EINVAL, "unknown operation %u", op.op);
    return -ENODEV;
}

/* --- Dispatch ------------------------------------------------------------------------------------------------------ */

static const struct physdev_command {
    s64 (*fn)(struct domain *d, gva_t arg);
    bool hardware_only;
    bool in_old_call;
} commands[] = {
    [PHYSDEVOP_irq_status_query] = { op_irq_status, false, true },
    [PHYSDEVOP_set_iopl] = { op_set_iopl, false, true },
    [PHYSDEVOP_set_iobitmap] = { op_set_iobitmap, false, true },
    [PHYSDEVOP_apic_read] = { op_apic_read, true, true },
    [PHYSDEVOP_apic_write] = { op_apic_write, true, true },
    [PHYSDEVOP_alloc_irq_vector] = { op_alloc_vector, true, true },
    [PHYSDEVOP_free_irq_vector] = { op_free_vector, true, true },
    [PHYSDEVOP_eoi] = { op_eoi, false, false },
    [PHYSDEVOP_map_pirq] = { op_map_pirq, true, false },
    [PHYSDEVOP_unmap_pirq] = { op_unmap_pirq, true, false },
    [PHYSDEVOP_manage_pci_add] = { op_manage_pci_add, true, false },
    [PHYSDEVOP_manage_pci_remove] = { op_manage_pci_remove, true, false },
    [PHYSDEVOP_pirq_eoi_gmfn_v1] = { op_eoi_gmfn_v1, false, false },
    [PHYSDEVOP_restore_msi] = { op_restore_msi, true, false },
    [PHYSDEVOP_manage_pci_add_ext] = { op_manage_pci_add_ext, true, false },
    [PHYSDEVOP_setup_gsi] = { op_setup_gsi, true, false },
    [PHYSDEVOP_get_free_pirq] = { op_get_free_pirq, true, false },
    [PHYSDEVOP_pci_mmcfg_reserved] = { op_mmcfg_reserved, true, false },
    [PHYSDEVOP_pci_device_add] = { op_pci_add, true, false },
    [PHYSDEVOP_pci_device_remove] = { op_pci_remove, true, false },
    [PHYSDEVOP_restore_msi_ext] = { op_restore_msi_ext, true, false },
    [PHYSDEVOP_pirq_eoi_gmfn_v2] = { op_eoi_gmfn_v2, false, false },
    [PHYSDEVOP_dbgp_op] = { op_dbgp, true, false },
    [PHYSDEVOP_prepare_msix] = { op_msix_owner, true, false },
    [PHYSDEVOP_release_msix] = { op_msix_owner, true, false },
    [PHYSDEVOP_pci_device_reset] = { op_pci_reset, true, false },
};

static const struct physdev_command *find_command(u32 cmd)
{
    return cmd < ARRAY_SIZE(commands) && commands[cmd].fn ? &array_nospec(commands, cmd) : NULL;
}

s64 do_physdev_op(u64 cmd, u64 arg, u64, u64, u64, u64)
{
    const struct physdev_command *c = find_command((u32)cmd);
    struct domain *d = current->domain;

    if (!c)
        return refuse(-ENOSYS, "unknown command %u", (u32)cmd);
    if (c->hardware_only && !d->is_hardware)
        return refuse(-EPERM, "command %u is for dom0 alone", (u32)cmd);
    return c->fn(d, gva(arg));
}

/* PHYSDEVOP_IRQ_UNMASK_NOTIFY: everything that came was handled. */
static s64 eoi_all(struct domain *d)
{
    for (u32 i = 0; i < pirq_limit(d); i++)
        pirq_unmasked(d, i);
    return 0;
}

/* Call 19: one structure with the command in front of its argument. */
s64 do_physdev_op_compat(u64 uop, u64, u64 a2, u64 a3, u64 a4, u64 a5)
{
    const struct physdev_command *c;
    u32 cmd;

    if (copy_from_guest(&cmd, gva(uop), sizeof(cmd)))
        return -EFAULT;
    if (cmd == PHYSDEVOP_IRQ_UNMASK_NOTIFY)
        return eoi_all(current->domain);
    c = find_command(cmd);
    if (!c || !c->in_old_call)
        return refuse(-ENOSYS, "the old call has no command %u", cmd);
    return do_physdev_op(cmd, uop + abi_offset(current_word(), physdev_op, apic_op), a2, a3, a4, a5);
}
