/*
 * CPU pools. A pool is a set of CPUs, and a domain points to its own: allowed_cpus() asks it where it used to ask which CPUs are online.
 * There is one scheduler for all pools: CPUs look at all queues, and find in those of other pools nothing that they may run.
 *
 * Where a vCPU may run is asked with its queue locked. Who changes that takes each vCPU's queue's lock afterwards: for the vCPUs of a
 * domain that moves (sched_place_anew()), and for all that wait on a CPU of the pool (sched_clear_cpu()). So nobody goes by an old
 * answer then, and the old pool may lose its CPUs and its number. Only a CPU that is just taking over work may run for a slice what has
 * left its pool.
 */
#include <asm/atomic.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/cpupool.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "internal.h"

#define RATELIMIT_DEFAULT_US 200

/* Not more of them can have CPUs. */
static struct cpupool pools[NR_CPUS] = { [0] = { .exists = true, .ratelimit_us = RATELIMIT_DEFAULT_US } };

/* Of the first pool, before it has CPUs, and of those that are made. */
static u32 default_ratelimit_us = RATELIMIT_DEFAULT_US;

static int parse_ratelimit(const char *value)
{
    u32 us;

    if (cmdline_uint(value, &us) || !is_ratelimit(us))
        return -EINVAL;
    default_ratelimit_us = pools[0].ratelimit_us = us;
    return 0;
}
CMDLINE_OPTION("sched_ratelimit_us", parse_ratelimit);

struct cpupool *cpupool_get(u32 id)
{
    return id < ARRAY_SIZE(pools) && pools[id].exists ? &pools[id] : NULL;
}

u32 cpupool_next(u32 id)
{
    for (; id < ARRAY_SIZE(pools); id++)
        if (pools[id].exists)
            return id;
    return CPUPOOL_ANY;
}

static struct cpupool *existing(u32 id)
{
    struct cpupool *p = cpupool_get(id);

    return p ? p : refuse(NULL, "there is no CPU pool %u", id);
}

static struct cpupool *pool_of_cpu(unsigned cpu)
{
    for (u32 id = 0; (id = cpupool_next(id)) != CPUPOOL_ANY; id++)
        if (cpumask_test(&pools[id].cpus, cpu))
            return &pools[id];
    return NULL;
}

/* --- Pools ----------------------------------------------------------------------------------------- */

static u32 free_number(void)
{
    for (u32 id = 0; id < ARRAY_SIZE(pools); id++)
        if (!pools[id].exists)
            return id;
    return CPUPOOL_ANY;
}

int cpupool_create(u32 *id)
{
    u32 n = *id == CPUPOOL_ANY ? free_number() : *id;

    if (n >= ARRAY_SIZE(pools))
        return refuse(-ENOSPC, "CPU pool %u; possible are %u pools, from 0", *id, (u32)ARRAY_SIZE(pools));
    if (pools[n].exists)
        return refuse(-EEXIST, "CPU pool %u exists already", n);
    pools[n] = (struct cpupool){ .exists = true, .ratelimit_us = default_ratelimit_us };
    *id = n;
    return 0;
}

int cpupool_destroy(u32 id)
{
    struct cpupool *p = existing(id);

    if (!p)
        return -ENOENT;
    if (!id || read_once(p->nr_domains) || !cpumask_empty(&p->cpus))
        return refuse(-EBUSY, "CPU pool %u has %u domains and %u CPUs; pool 0 stays", id, p->nr_domains, cpumask_weight(&p->cpus));
    p->exists = false;
    return 0;
}

/* --- CPUs ------------------------------------------------------------------------------------------ */

/* It looks at once for what waits for it; and who may run nowhere else, but had to while it was not there, comes. */
static void give_cpu(struct cpupool *p, unsigned cpu)
{
    unsigned each;

    write_once(rq_of(cpu)->ratelimit_us, p->ratelimit_us);
    cpumask_set(&p->cpus, cpu);
    for_each_cpu(each, &p->cpus)
        sched_clear_cpu(each);
    raise_softirq_on(cpu, SOFTIRQ_SCHEDULE);
}

static int may_lose_cpu(const struct cpupool *p, unsigned cpu)
{
    if (read_once(p->nr_domains) && cpumask_weight(&p->cpus) == 1)
        return refuse(-EBUSY, "CPU %u is the last of CPU pool %u, which has %u domains", cpu, (u32)(p - pools), p->nr_domains);
    return 0;
}

cpumask_t cpupool_free_cpus(void)
{
    cpumask_t m = { { 0 } };
    unsigned cpu;

    for_each_online_cpu(cpu)
        if (!pool_of_cpu(cpu))
            cpumask_set(&m, cpu);
    return m;
}

int cpupool_add_cpu(u32 id, u32 cpu)
{
    struct cpupool *p = existing(id);
    cpumask_t unused = cpupool_free_cpus();

    if (!p)
        return -ENOENT;
    if (cpu == CPUPOOL_ANY)
        cpu = cpumask_next(&unused, 0);
    if (cpu >= NR_CPUS || !cpumask_test(&cpu_online_map, cpu))
        return refuse(-EINVAL, "no CPU for CPU pool %u: it is not online, or none is free", id);
    if (!cpumask_test(&unused, cpu))
        return refuse(-EBUSY, "CPU %u is in CPU pool %u", cpu, (u32)(pool_of_cpu(cpu) - pools));
    give_cpu(p, cpu);
    return 0;
}

static unsigned last_cpu(const cpumask_t *m)
{
    unsigned cpu, last = NR_CPUS;

    for_each_cpu(cpu, m)
        last = cpu;
    return last;
}

int cpupool_remove_cpu(u32 id, u32 cpu)
{
    struct cpupool *p = existing(id);
    int rc;

    if (!p)
        return -ENOENT;
    if (cpu == CPUPOOL_ANY)
        cpu = last_cpu(&p->cpus);
    if (cpu >= NR_CPUS || !cpumask_test(&p->cpus, cpu))
        return refuse(-EADDRNOTAVAIL, "CPU %u is not in CPU pool %u", cpu, id);
    rc = may_lose_cpu(p, cpu);
    if (rc)
        return rc;
    cpumask_clear(&p->cpus, cpu);
    sched_clear_cpu(cpu);
    return 0;
}

void cpupool_cpu_online(unsigned cpu)
{
    give_cpu(&pools[0], cpu);
}

/* Tools ask for ever again after -EBUSY. */
int cpupool_cpu_leaves(unsigned cpu)
{
    struct cpupool *p = pool_of_cpu(cpu);

    if (p && may_lose_cpu(p, cpu))
        return -EINVAL;
    if (p)
        cpumask_clear(&p->cpus, cpu);
    return 0;
}

/* --- Domains --------------------------------------------------------------------------------------- */

static void set_pool(struct domain *d, struct cpupool *p)
{
    d->cpupool = (u32)(p - pools);
    write_once(d->sched.pool, p);
}

static int may_enter(struct cpupool *p)
{
    if (!p)
        return -ENOENT;
    if (cpumask_empty(&p->cpus))
        return refuse(-ENODEV, "CPU pool %u has no CPUs", (u32)(p - pools));
    return 0;
}

int cpupool_enter(struct domain *d, u32 id)
{
    struct cpupool *p = existing(id);
    int rc = may_enter(p);

    if (rc)
        return rc;
    atomic_add_return(&p->nr_domains, 1);
    set_pool(d, p);
    return 0;
}

void cpupool_leave(struct domain *d)
{
    atomic_add_return(&d->sched.pool->nr_domains, -1);
}

int cpupool_move_domain(struct domain *d, u32 id)
{
    struct cpupool *from = d->sched.pool, *to = existing(id);
    int rc = may_enter(to);
    struct vcpu *v;

    if (rc || from == to)
        return rc;
    atomic_add_return(&to->nr_domains, 1);
    set_pool(d, to);
    for_each_vcpu(d, v)
        sched_place_anew(v);
    atomic_add_return(&from->nr_domains, -1);
    return 0;
}
