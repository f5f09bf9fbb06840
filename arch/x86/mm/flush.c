/*
 * TLB flushing. We map nothing global and use no PCID, so loading CR3 drops every translation of this
 * CPU. A domain's dirty_cpus are the CPUs whose CR3 is one of its tables now: the only ones that may
 * hold its translations. A CPU enters the set before it loads CR3, and whoever flushes changed the entry before
 * looking at the set: one of the two sees the other.
 */
#include <asm/atomic.h>
#include <asm/smp.h>
#include <asm/x86.h>
#include <pvisor/steps.h>

void flush_tlb_local(void) { write_cr3(read_cr3()); }

static void flush_all(void *)
{
    flush_tlb_local();
}

static void flush_one(void *data) { invlpg((u64)data); }

static void flush_on(const cpumask_t *m, void (*fn)(void *), void *data)
{
    steps_add(50);
    smp_mb();
    if (cpumask_test(m, this_cpu_id()))
        fn(data);
    if (nr_cpus > 1)
        smp_call(m, fn, data);
}

void flush_tlb_mask(const cpumask_t *m) { flush_on(m, flush_all, NULL); }
void flush_va_mask(const cpumask_t *m, u64 va) { flush_on(m, flush_one, (void *)va); }
