/* Sets of physical CPUs. One that others change meanwhile is read word by word, each once. */
#ifndef PVISOR_CPUMASK_H
#define PVISOR_CPUMASK_H

#include <asm/atomic.h>
#include <asm/layout.h>
#include <pvisor/lib.h>

typedef struct { u64 w[NR_CPUS / 64]; } cpumask_t;

extern cpumask_t cpu_online_map;   /* CPUs that run guests */
extern unsigned nr_cpus;           /* highest online CPU number + 1 */

static inline bool cpumask_test(const cpumask_t *m, unsigned c) { return test_bit(c, m->w); }
static inline void cpumask_set(cpumask_t *m, unsigned c) { set_bit(c, m->w); }
static inline void cpumask_clear(cpumask_t *m, unsigned c) { clear_bit(c, m->w); }
static inline void cpumask_fill(cpumask_t *m) { memset(m, 0xff, sizeof(*m)); }
static inline void cpumask_zero(cpumask_t *m) { memset(m, 0, sizeof(*m)); }
static inline cpumask_t cpumask_of(unsigned c) { cpumask_t m = { { 0 } }; m.w[c / 64] = 1UL << (c % 64); return m; }

/* Any number, also one that is no CPU's. */
static inline bool cpu_is_online(u32 cpu) { return cpu < nr_cpus && cpumask_test(&cpu_online_map, cpu); }

static inline bool cpumask_empty(const cpumask_t *m)
{
    u64 any = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(m->w); i++)
        any |= read_once(m->w[i]);
    return !any;
}

static inline cpumask_t cpumask_and(const cpumask_t *a, const cpumask_t *b)
{
    cpumask_t r;
    for (unsigned i = 0; i < ARRAY_SIZE(r.w); i++)
        r.w[i] = read_once(a->w[i]) & read_once(b->w[i]);
    return r;
}

static inline cpumask_t cpumask_read(const cpumask_t *m) { return cpumask_and(m, m); }

static inline unsigned cpumask_weight(const cpumask_t *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(m->w); i++)
        n += popcount64(read_once(m->w[i]));
    return n;
}

/* First CPU >= from in the set, or NR_CPUS. */
static inline unsigned cpumask_next(const cpumask_t *m, unsigned from)
{
    while (from < NR_CPUS) {
        u64 w = read_once(m->w[from / 64]) >> (from % 64);
        if (w)
            return from + find_first_set(w);
        from = (from / 64 + 1) * 64;
    }
    return NR_CPUS;
}

#define for_each_cpu(c, m) for ((c) = cpumask_next((m), 0); (c) < NR_CPUS; (c) = cpumask_next((m), (c) + 1))
#define for_each_online_cpu(c) for_each_cpu(c, &cpu_online_map)

#endif
