/*
 * HYPERVISOR_mca: what dom0's driver for machine checks asks. Errors that the hardware corrected are found in the CPUs' banks
 * (asm/mcheck.h) and can be fetched; others stop the machine, so the queue of urgent ones is always empty. Interface: public/mca.h.
 */
#include <asm/features.h>
#include <asm/mcheck.h>
#include <asm/nospec.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <public/errno.h>
#include <public/mca.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct mc_request {
    u32 cmd, interface_version;
    u8 rest[24];   /* of the largest command taken */
};

#define DECODE(name, internal, op) abi_decode(current_word(), &name##_desc, (internal), (op)->rest)
#define ENCODE(name, op, internal) (abi_encode(current_word(), &name##_desc, (op)->rest, (internal)) ? 0 : -EFAULT)

static u32 flags_of(const struct machine_check *m)
{
    u32 how = m->was_there ? MC_FLAG_RESET : MC_FLAG_POLLED;

    return how | (m->status & MC_STATUS_UNCORRECTED ? MC_FLAG_UNCORRECTABLE : MC_FLAG_CORRECTABLE);
}

/* Whose memory it was, if any, is not looked up. */
static s64 give(gva_t to, const struct machine_check *m)
{
    struct {
        struct mcinfo_global global;
        struct mcinfo_bank bank;
    } entries = {
        .global = {
            .common = { MC_TYPE_GLOBAL, sizeof(entries.global) }, .mc_domid = DOMID_INVALID, .mc_vcpuid = XEN_MC_VCPUID_INVALID,
            .mc_coreid = (u16)m->cpu, .mc_apicid = cpu_apic_ids[m->cpu], .mc_flags = flags_of(m), .mc_gstatus = m->mcg_status,
        },
        .bank = {
            .common = { MC_TYPE_BANK, sizeof(entries.bank) }, .mc_bank = (u16)m->bank, .mc_domid = DOMID_INVALID,
            .mc_status = m->status, .mc_addr = m->addr, .mc_misc = m->misc, .mc_tsc = m->tsc,
        },
    };
    struct mc_info info = { .mi_nentries = 2, .flags = entries.global.mc_flags };

    _Static_assert(sizeof(entries) <= sizeof(info.mi_data), "both fit");
    memcpy(info.mi_data, &entries, sizeof(entries));
    return copy_to_guest(to, &info, sizeof(info));
}

/* The oldest, which stays until it is acknowledged by its id. */
static s64 fetch_oldest(struct xen_mc_fetch *f, bool urgent)
{
    struct machine_check m;

    if (urgent || !mcheck_oldest(&m)) {
        f->flags = XEN_MC_NODATA;
        return 0;
    }
    f->flags = XEN_MC_OK;
    f->fetch_id = m.id;
    return give(gva(f->data), &m);
}

static s64 acknowledge(struct xen_mc_fetch *f, bool urgent)
{
    if (urgent || !mcheck_taken(f->fetch_id))
        return refuse(-EINVAL, "%lu is not what was fetched last", f->fetch_id);
    f->flags = XEN_MC_OK;
    return 0;
}

static s64 fetch(struct mc_request *op)
{
    struct xen_mc_fetch f;
    u32 which;
    s64 rc;

    DECODE(xen_mc_fetch, &f, op);
    which = f.flags & ~XEN_MC_ACK;
    if (which != XEN_MC_NONURGENT && which != XEN_MC_URGENT)
        return refuse(-EINVAL, "flags %#x, expected one of both queues, and perhaps an acknowledgement", f.flags);
    rc = f.flags & XEN_MC_ACK ? acknowledge(&f, which == XEN_MC_URGENT) : fetch_oldest(&f, which == XEN_MC_URGENT);
    return rc ? rc : ENCODE(xen_mc_fetch, op, &f);
}

/* A CPU that has machine checks may still be emulated without the register. */
static u64 mcg_cap(void)
{
    u64 v;

    return cpu_has(X86_FEATURE_MCA) && !rdmsr_safe(MSR_MCG_CAP, &v) ? v : 0;
}

/* What all CPUs have in common: they are of one model, and cores of one socket, as sysctls say. */
static void describe_model(struct mcinfo_logical_cpu *c)
{
    *c = (struct mcinfo_logical_cpu){
        .mc_ncores = nr_cpus, .mc_ncores_active = cpumask_weight(&cpu_online_map), .mc_nthreads = 1,
        .mc_cpuid_level = cpu_host.max_basic, .mc_family = cpu_host.family, .mc_model = cpu_host.model, .mc_step = cpu_host.stepping,
        .mc_cpu_caps = {
            [MC_CAPS_STD_EDX] = cpu_host.feat[FEATURESET_1d], [MC_CAPS_STD_ECX] = cpu_host.feat[FEATURESET_1c],
            [MC_CAPS_AMD_EDX] = cpu_host.feat[FEATURESET_e1d], [MC_CAPS_AMD_ECX] = cpu_host.feat[FEATURESET_e1c],
        },
        .mc_nmsrvals = 1, .mc_msrvalues = { { MSR_MCG_CAP, mcg_cap() } },
    };
    strlcpy(c->mc_vendorid, cpu_host.vendor_id, sizeof(c->mc_vendorid));
    for (u32 leaf = 0; leaf < 3 && cpu_host.max_extended >= 0x80000004; leaf++) {
        struct cpuid_regs r = cpuid(0x80000002 + leaf, 0);

        memcpy(c->mc_brandid + leaf * sizeof(r), &r, sizeof(r));
    }
}

static s64 describe_cpus(const struct xen_mc_physcpuinfo *p)
{
    struct mcinfo_logical_cpu c;
    u32 cpu, n = 0;

    describe_model(&c);
    for_each_online_cpu(cpu) {
        if (n == p->ncpus)
            break;
        c.mc_cpunr = c.mc_coreid = cpu;
        c.mc_apicid = cpu_apic_ids[cpu];
        if (guest_write_abi(mcinfo_logical_cpu, guest_abi_elem(mcinfo_logical_cpu, gva(p->info), n++), &c))
            return -EFAULT;
    }
    return 0;
}

static s64 physical_cpus(struct mc_request *op)
{
    struct xen_mc_physcpuinfo p;
    u32 online = cpumask_weight(&cpu_online_map);
    s64 rc;

    DECODE(xen_mc_physcpuinfo, &p, op);
    if (p.info && !p.ncpus)
        return refuse(-EINVAL, "room for no CPU");
    p.ncpus = p.info ? min(p.ncpus, online) : online;
    rc = p.info ? describe_cpus(&p) : 0;
    return rc ? rc : ENCODE(xen_mc_physcpuinfo, op, &p);
}

static s64 no_other_domain(struct mc_request *) { return refuse(-EOPNOTSUPP, "no other domain is told of machine checks"); }
static s64 no_injection(struct mc_request *) { return refuse(-EOPNOTSUPP, "machine checks are not made up"); }

static s64 (*const commands[])(struct mc_request *op) = {
    [XEN_MC_fetch]        = fetch,
    [XEN_MC_notifydomain] = no_other_domain,
    [XEN_MC_physcpuinfo]  = physical_cpus,
    [XEN_MC_msrinject]    = no_injection,
    [XEN_MC_mceinject]    = no_injection,
    [XEN_MC_inject_v2]    = no_injection,
};

s64 do_mca(u64 arg, u64, u64, u64, u64, u64)
{
    struct mc_request op;
    s64 rc;

    if (copy_from_guest(&op, gva(arg), sizeof(op)))
        return -EFAULT;
    if (op.interface_version != XEN_MCA_INTERFACE_VERSION)
        return refuse(-EACCES, "interface version %#x, expected %#x", op.interface_version,
                      XEN_MCA_INTERFACE_VERSION);
    if (!current->domain->is_hardware)
        return refuse(-EPERM, "machine checks are dom0's business");
    if (op.cmd >= ARRAY_SIZE(commands) || !commands[op.cmd])
        return refuse(-ENOSYS, "unknown command %u", op.cmd);
    rc = array_nospec(commands, op.cmd)(&op);
    return rc ? rc : copy_to_guest(gva(arg), &op, sizeof(op));
}
