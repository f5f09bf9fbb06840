/* Translations of a domain's that CPUs may hold from before, and what waits for them to be gone. */
#include <asm/atomic.h>
#include <asm/pt.h>
#include <pvisor/domain.h>

void domain_flush_stale(struct domain *d)
{
    u64 now = read_once(d->arch.stale), done = read_once(d->arch.flushed), dead;

    if (done >= now)
        return;
    dead = mirror_take_dead(d);
    flush_tlb_mask(&d->arch.dirty_cpus);
    mirror_free_dead(dead);
    while (done < now && !try_cmpxchg(&d->arch.flushed, &done, now))
        ;
}
