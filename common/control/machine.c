/* Control calls on the machine: its CPUs, its memory, its log. It is one NUMA node, its CPUs are one pool. */
#include <asm/features.h>
#include <asm/smp.h>
#include <pvisor/console.h>
#include <pvisor/cpupool.h>
#include <pvisor/devices.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/sched.h>
#include <pvisor/time.h>
#include "internal.h"

s64 sc_physinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_physinfo *p = &op->u.physinfo;

    memset(p, 0, sizeof(*p));
    p->threads_per_core = 1;
    p->cores_per_socket = nr_cpus;
    p->nr_cpus = cpumask_weight(&cpu_online_map);
    p->max_cpu_id = nr_cpus - 1;
    p->nr_nodes = 1;
    p->cpu_khz = (u32)tsc_khz();
    p->capabilities = XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_gnttab_v1 | XEN_SYSCTL_PHYSCAP_gnttab_v2 |
                      (devices_can_be_given() ? XEN_SYSCTL_PHYSCAP_directio : 0);
    p->total_pages = heap_total_frames();
    p->free_pages = heap_free_frames();
    p->outstanding_pages = claimed_frames();
    p->max_mfn = max_ram_mfn().v;
    memcpy(p->hw_cap, cpu_host.feat, sizeof(p->hw_cap));
    return 0;
}

/* --- Domains --- */

/* A walk over all domains, which gives way. Its progress: the next number in the upper half, how many there were in the lower. */
struct walk { u32 next, n; };

static struct walk walk_begin(u32 first)
{
    if (sysctl_progress)
        return (struct walk){ sysctl_progress >> 16, sysctl_progress & 0xffff };
    return (struct walk){ first, 0 };
}

/* Referenced; NULL: that was all. */
static struct domain *walk_next(struct walk *w)
{
    struct domain *d = w->next < DOMID_FIRST_RESERVED ? domain_get_next(w->next) : NULL;

    if (d) {
        w->next = d->id + 1u;
        w->n++;
    }
    return d;
}

static bool walk_gives_way(const struct walk *w)
{
    if (!preempt_needed())
        return false;
    sysctl_progress = w->next << 16 | w->n;
    return true;
}

s64 sc_getdomaininfolist(struct xen_sysctl *op)
{
    struct xen_sysctl_getdomaininfolist *l = &op->u.getdomaininfolist;
    struct walk w = walk_begin(l->first_domain);
    struct xen_domctl_getdomaininfo info;
    struct domain *d;

    while (w.n < l->max_domains && (d = walk_next(&w))) {
        fill_domaininfo(d, &info);
        domain_put(d);
        if (copy_to_guest(gva(l->buffer + (w.n - 1) * sizeof(info)), &info, sizeof(info)))
            return -EFAULT;
        if (walk_gives_way(&w))
            return -ERESTART_HYPERCALL;
    }
    l->num_domains = w.n;
    return 0;
}

/* --- CPUs --- */

s64 sc_getcpuinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_getcpuinfo *g = &op->u.getcpuinfo;

    g->nr_cpus = min(g->max_cpus, nr_cpus);
    for (u32 cpu = 0; cpu < g->nr_cpus; cpu++) {
        struct vcpu *idle = idle_domain->vcpu[cpu];
        struct xen_sysctl_cpuinfo i = { .idletime = idle ? vcpu_runtime(idle) : 0 };

        if (copy_to_guest(gva(g->info + cpu * sizeof(i)), &i, sizeof(i)))
            return -EFAULT;
    }
    return 0;
}

/* Threads of one core are not told apart: there is no SMT to switch. */
s64 sc_cpu_hotplug(struct xen_sysctl *op)
{
    const struct xen_sysctl_cpu_hotplug *h = &op->u.cpu_hotplug;

    switch (h->op) {
    case XEN_SYSCTL_CPU_HOTPLUG_ONLINE:
        return cpu_online(h->cpu);
    case XEN_SYSCTL_CPU_HOTPLUG_OFFLINE:
        return cpu_offline(h->cpu);
    }
    return refuse(-EOPNOTSUPP, "operation %u, expected online (%u) or offline (%u)", h->op, XEN_SYSCTL_CPU_HOTPLUG_ONLINE,
                  XEN_SYSCTL_CPU_HOTPLUG_OFFLINE);
}

s64 sc_availheap(struct xen_sysctl *op)
{
    struct xen_sysctl_availheap *a = &op->u.availheap;

    if (a->node > 0)
        return refuse(-EINVAL, "node %d; there is node 0 only", a->node);
    a->avail_bytes = heap_free_frames() << PAGE_SHIFT;
    return 0;
}

/* --- Topology --- */

s64 sc_numainfo(struct xen_sysctl *op)
{
    struct xen_sysctl_numainfo *n = &op->u.numainfo;
    struct xen_sysctl_meminfo mem = {
        .memsize = heap_total_frames() << PAGE_SHIFT,
        .memfree = heap_free_frames() << PAGE_SHIFT,
    };
    u32 distance = 10;      /* of a node to itself, by ACPI's convention */

    if (n->meminfo || n->distance)
        n->num_nodes = min(n->num_nodes, 1u);
    else
        n->num_nodes = 1;
    if (!n->num_nodes)
        return 0;
    if ((n->meminfo && copy_to_guest(gva(n->meminfo), &mem, sizeof(mem))) ||
        (n->distance && copy_to_guest(gva(n->distance), &distance, sizeof(distance))))
        return -EFAULT;
    return 0;
}

s64 sc_cputopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_cputopoinfo *t = &op->u.cputopoinfo;

    if (!t->cputopo) {
        t->num_cpus = nr_cpus;
        return 0;
    }
    t->num_cpus = min(t->num_cpus, nr_cpus);
    for (u32 cpu = 0; cpu < t->num_cpus; cpu++) {
        struct xen_sysctl_cputopo c = { XEN_INVALID_CORE_ID, XEN_INVALID_SOCKET_ID, XEN_INVALID_NODE_ID };

        if (cpumask_test(&cpu_online_map, cpu))
            c = (struct xen_sysctl_cputopo){ .core = cpu };
        if (copy_to_guest(gva(t->cputopo + cpu * sizeof(c)), &c, sizeof(c)))
            return -EFAULT;
    }
    return 0;
}

#define MAX_PCI_QUERY 65536

s64 sc_pcitopoinfo(struct xen_sysctl *op)
{
    struct xen_sysctl_pcitopoinfo *t = &op->u.pcitopoinfo;

    if (!t->devs || !t->nodes || t->num_devs > MAX_PCI_QUERY)
        return refuse(-EINVAL, "%u devices at %#lx, nodes to %#lx; at most %u, and both addresses, are expected", t->num_devs, t->devs,
                      t->nodes, MAX_PCI_QUERY);
    return clear_guest(gva(t->nodes), t->num_devs * sizeof(u32));    /* all at node 0 */
}

/* --- The log --- */

#define MAX_CONSOLE_READ (64u << 10)

s64 sc_readconsole(struct xen_sysctl *op)
{
    struct xen_sysctl_readconsole *r = &op->u.readconsole;
    u32 room = min(r->count, MAX_CONSOLE_READ), index = r->incremental ? r->index : 0;
    char *buf = xzalloc_bytes(room ? room : 1);
    s64 rc;

    if (!buf)
        return -ENOMEM;
    r->count = console_ring_read(buf, room, &index, r->clear);
    r->index = index;
    rc = copy_to_guest(gva(r->buffer), buf, r->count);
    xfree(buf);
    return rc;
}

s64 sc_debug_keys(struct xen_sysctl *op)
{
    struct xen_sysctl_debug_keys *k = &op->u.debug_keys;

    for (u32 i = 0; i < min(k->nr_keys, 32u); i++) {
        char key;

        if (copy_from_guest(&key, gva(k->keys + i), 1))
            return -EFAULT;
        debug_key_handle(key, guest_regs());
    }
    return 0;
}

/* --- Scheduling --- */

s64 sc_sched_id(struct xen_sysctl *op)
{
    op->u.sched_id.sched_id = XEN_SCHEDULER_CREDIT2;
    return 0;
}

s64 sc_scheduler_op(struct xen_sysctl *op)
{
    return sched_sysctl(&op->u.scheduler_op);
}

/* Of the first pool from this number on: a tool that has seen the last is told that there is no other. */
static s64 pool_info(struct xen_sysctl_cpupool_op *c)
{
    u32 id = cpupool_next(c->cpupool_id == XEN_SYSCTL_CPUPOOL_PAR_ANY ? 0 : c->cpupool_id);
    const struct cpupool *p = cpupool_get(id);

    if (!p)
        return -ENOENT;
    c->cpupool_id = id;
    c->sched_id = XEN_SCHEDULER_CREDIT2;
    c->n_dom = read_once(p->nr_domains);
    return bitmap_to_guest(&c->cpumap, &p->cpus, NR_CPUS);
}

static s64 pool_create(struct xen_sysctl_cpupool_op *c)
{
    if (c->sched_id != XEN_SCHEDULER_CREDIT2)
        return refuse(-EINVAL, "a CPU pool with scheduler %u; there is one, which is called credit2 (%u)", c->sched_id,
                      XEN_SCHEDULER_CREDIT2);
    return cpupool_create(&c->cpupool_id);
}

static s64 pool_move_domain(const struct xen_sysctl_cpupool_op *c)
{
    struct domain *d = domain_get(c->domid);
    s64 rc;

    if (!d)
        return -ESRCH;
    if (d == current->domain)
        rc = refuse(-EPERM, "the domain that has the toolstack stays in CPU pool %u", d->cpupool);
    else if (d->dying)      /* it has left for pool 0, so that no other is held up by its last frame: domain_kill() */
        rc = refuse(-ESRCH, "d%u is being destroyed", d->id);
    else
        rc = cpupool_move_domain(d, c->cpupool_id);
    domain_put(d);
    return rc;
}

s64 sc_cpupool_op(struct xen_sysctl *op)
{
    struct xen_sysctl_cpupool_op *c = &op->u.cpupool_op;
    cpumask_t unused;

    switch (c->op) {
    case XEN_SYSCTL_CPUPOOL_OP_CREATE:
        return pool_create(c);
    case XEN_SYSCTL_CPUPOOL_OP_DESTROY:
        return cpupool_destroy(c->cpupool_id);
    case XEN_SYSCTL_CPUPOOL_OP_INFO:
        return pool_info(c);
    case XEN_SYSCTL_CPUPOOL_OP_ADDCPU:
        return cpupool_add_cpu(c->cpupool_id, c->cpu);
    case XEN_SYSCTL_CPUPOOL_OP_RMCPU:
        return cpupool_remove_cpu(c->cpupool_id, c->cpu);
    case XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN:
        return pool_move_domain(c);
    case XEN_SYSCTL_CPUPOOL_OP_FREEINFO:
        unused = cpupool_free_cpus();
        return bitmap_to_guest(&c->cpumap, &unused, NR_CPUS);
    }
    return refuse(-EOPNOTSUPP, "CPU pool operation %u, expected 1 to 7", c->op);
}

/* --- What there is none of --- */

s64 sc_absent(struct xen_sysctl *)
{
    return -ENODEV;
}
