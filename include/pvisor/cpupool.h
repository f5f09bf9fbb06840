/*
 * CPU pools: sets of CPUs that have nothing in common, each with domains whose vCPUs run nowhere else (docs/scheduler.md). Pool 0 is there
 * from the beginning, with all CPUs and dom0. A CPU may be in no pool, and then runs nothing. The toolstack's calls on pools and on
 * domains' and CPUs' coming and going come one at a time (control_lock); the scheduler reads meanwhile, without a lock.
 */
#ifndef PVISOR_CPUPOOL_H
#define PVISOR_CPUPOOL_H

#include <pvisor/cpumask.h>
#include <pvisor/types.h>

struct domain;

#define CPUPOOL_ANY 0xffffffffu     /* as XEN_SYSCTL_CPUPOOL_PAR_ANY */

struct cpupool {
    cpumask_t cpus;                 /* online all of them; never empty while there are domains */
    u32 nr_domains;
    u32 ratelimit_us;               /* of its CPUs; read by each from its own queue */
    bool exists;
};

/* Pool id, or NULL. */
struct cpupool *cpupool_get(u32 id);
/* The number of the first pool from id on; CPUPOOL_ANY: there is none. */
u32 cpupool_next(u32 id);

/*
 * An empty one: *id is its number, or CPUPOOL_ANY for the lowest that is free, which is written there. -EEXIST: there is one of this
 * number. -ENOSPC: numbers go up to NR_CPUS - 1.
 */
int cpupool_create(u32 *id);
int cpupool_destroy(u32 id);        /* -ENOENT; -EBUSY: it has domains or CPUs, or is pool 0 */
/* cpu may be CPUPOOL_ANY. -ENOENT: no such pool; -EINVAL: no such CPU, or none is free; -EBUSY: it is not free. */
int cpupool_add_cpu(u32 id, u32 cpu);
/* -ENOENT; -EADDRNOTAVAIL: the CPU is not in the pool; -EBUSY: the last, and there are domains. What runs there leaves at once. */
int cpupool_remove_cpu(u32 id, u32 cpu);
cpumask_t cpupool_free_cpus(void);  /* online, and in no pool */

/* d, which has none yet, gets this pool. -ENOENT: there is no such; -ENODEV: it has no CPU. */
int cpupool_enter(struct domain *d, u32 id);
void cpupool_leave(struct domain *d);                 /* at its end */
int cpupool_move_domain(struct domain *d, u32 id);    /* as cpupool_enter(); its vCPUs go there at once */

/* CPU cpu is in cpu_online_map from now on: it comes to pool 0. */
void cpupool_cpu_online(unsigned cpu);
/* It is to leave cpu_online_map, and leaves its pool, if it has one. -EINVAL: it is the last one of a pool that has domains. */
int cpupool_cpu_leaves(unsigned cpu);

#endif
