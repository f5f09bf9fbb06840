/*
 * HYPERVISOR_mca: what dom0's driver for machine checks asks. A machine check of ours stops the machine, so there is never one to
 * fetch; who the CPUs are is told. Interface: public/mca.h.
 */
#include <asm/features.h>
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

#define MSR_MCG_CAP 0x179

struct mc_request {
    u32 cmd, interface_version;
    u8 rest[24];   /* of the largest command taken */
};

#define DECODE(name, internal, op) abi_decode(current_word(), &name##_desc, (internal), (op)->rest)
#define ENCODE(name, op, internal) (abi_encode(current_word(), &name##_desc, (op)->rest, (internal)) ? 0 : -EFAULT)

static s64 fetch(struct mc_request *op)
{
    struct xen_mc_fetch f;

    DECODE(xen_mc_fetch, &f, op);
    f.flags = XEN_MC_NODATA;
    return ENCODE(xen_mc_fetch, op, &f);
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
    switch (op.cmd) {
    case XEN_MC_fetch:
        rc = fetch(&op);
        break;
    case XEN_MC_physcpuinfo:
        rc = physical_cpus(&op);
        break;
    default:
        return refuse(-ENOSYS, "command %u is not offered", op.cmd);
    }
    return rc ? rc : copy_to_guest(gva(arg), &op, sizeof(op));
}
