/*
 * What holds between domains: the list goes by rising numbers, and each in it is found by its own; who is made or dies is found by nobody;
 * pause counts and their flag agree; claims add up. One state is between: nobody refers to a domain, and the tasklet that hides it waits on
 * the first CPU, which may have come to a look from softirqs that it had read before.
 */
#include <asm/atomic.h>
#include <pvisor/invariant.h>
#include "internal.h"

static void look_at_vcpu(const struct vcpu *v)
{
    bool paused = v->pause_count || v->domain->pause_count;

    (void)CLAUSE("pauses", !(v->pause_flags & VPF_PAUSED) == !paused, "d%uv%u: flags %#x, counts %u and %u", v->domain->id, v->id,
                 v->pause_flags, v->pause_count, v->domain->pause_count);
}

static void look_at_domain(struct domain *d)
{
    struct domain *found = domain_get_owner(d->id);
    struct vcpu *v;

    (void)CLAUSE("numbers", found == d, "d%u is in the list, and another is found by its number", d->id);
    if (found)
        atomic_dec(&found->refs);       /* domain_put() would begin its end once more */
    (void)CLAUSE("users", d->hidden || d->refs || d->destroy.queued, "d%u can be found, and nobody refers to it or is about to hide it",
                 d->id);
    (void)CLAUSE("death", d->dying != DOMAIN_DEAD || !d->arch.nr_tables, "d%u is dead, and has %lu page tables", d->id, d->arch.nr_tables);
    if (d->vcpu)
        for_each_vcpu(d, v)
            look_at_vcpu(v);
}

void domains_look(void)
{
    struct domain *d;
    u64 claims = 0;
    s32 last = -1;

    list_for_each(d, &domain_list, node) {
        (void)CLAUSE("order", d->id > last, "d%u comes behind d%d", d->id, last);
        last = d->id;
        claims += d->outstanding_pages;
        look_at_domain(d);
    }
    (void)CLAUSE("claims", claims == claimed_frames(), "domains have %lu frames of them, counted are %lu", claims, claimed_frames());
}
