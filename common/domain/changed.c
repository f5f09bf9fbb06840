/*
 * Which domains have come, shut down or gone since somebody asked last: XEN_DOMCTL_get_domain_state. VIRQ_DOM_EXC says that there are such.
 * Nobody waits here and no lock is held: a bit for each number.
 */
#include <asm/atomic.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>

static u64 changed[DIV_ROUND_UP(DOMID_FIRST_RESERVED, 64)];

void domain_mark_changed(u16 domid)
{
    __atomic_fetch_or(&changed[domid / 64], 1UL << domid % 64, __ATOMIC_SEQ_CST);
}

void domain_changed(u16 domid)
{
    domain_mark_changed(domid);
    send_dom0_virq(VIRQ_DOM_EXC);
}

void domains_all_changed(void)
{
    struct domain *d;

    spin_lock(&domlist_lock);
    list_for_each(d, &domain_list, node)
        domain_mark_changed(d->id);
    spin_unlock(&domlist_lock);
}

u16 domain_next_changed(void)
{
    for (u16 i = 0; i < ARRAY_SIZE(changed); i++) {
        u64 word = read_once(changed[i]), bit = word & -word;

        if (word && __atomic_fetch_and(&changed[i], ~bit, __ATOMIC_SEQ_CST) & bit)
            return (u16)(i * 64 + __builtin_ctzl(bit));
    }
    return DOMID_INVALID;
}
