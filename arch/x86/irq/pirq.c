/*
 * Domains' physical interrupts (pirqs). A domain's table says which irq each of its pirqs stands for. dom0 has its table
 * from the start, with room for every irq; another domain gets a small one when the first device is given to it.
 *
 * Locking: map_lock guards all tables and the making of irqs for messages. The words of an entry are
 * written under it and read without; what must be exact (who is bound to an irq) is kept in the irq_desc, under its lock.
 */
#include <asm/atomic.h>
#include <asm/nospec.h>
#include <asm/percpu.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/domain.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include "internal.h"
#include "pirq.h"

#define DOMU_PIRQS 256
#define EOI_MAP_BITS (PAGE_SIZE * 8)

enum pirq_state { PIRQ_FREE = 0, PIRQ_RESERVED, PIRQ_GSI, PIRQ_MSI };

struct pirq { u8 state; u32 irq; u32 port; };

struct pirq_table {
    u32 nr;
    struct pirq pirq[];
};

static spinlock_t map_lock = SPINLOCK_INIT(RANK_PIRQ);

static int make_table(struct domain *d, u32 nr)
{
    struct pirq_table *t = xzalloc_bytes(sizeof(*t) + nr * sizeof(t->pirq[0]));

    if (!t)
        return -ENOMEM;
    t->nr = nr;
    d->pirqs = t;
    return 0;
}

int pirq_domain_init(struct domain *d)
{
    return d->is_hardware ? make_table(d, nr_irqs) : 0;
}

u32 pirq_limit(const struct domain *d)
{
    return d->pirqs ? d->pirqs->nr : 0;
}

/* The entry if it stands for an irq. */
static struct pirq *mapped(const struct domain *d, u64 pirq)
{
    struct pirq *p;

    if (pirq >= pirq_limit(d))
        return NULL;
    p = &d->pirqs->pirq[index_nospec(pirq, pirq_limit(d))];
    return read_once(p->state) >= PIRQ_GSI ? p : NULL;
}

/* --- Mapping ------------------------------------------------------------------------------------------------- */

static bool is_free(const struct domain *d, u32 pirq)
{
    return d->pirqs->pirq[pirq].state == PIRQ_FREE;
}

/* Messages from the top downwards, so that pirqs of GSIs can have the GSI's number. */
static s64 find_free(const struct domain *d, bool msi)
{
    u32 n = d->pirqs->nr;

    if (msi) {
        while (n-- > 16)
            if (is_free(d, n))
                return n;
    } else {
        for (u32 i = d->is_hardware ? nr_gsis : 16; i < n; i++)
            if (is_free(d, i))
                return i;
    }
    return refuse(-ENOSPC, "all %u pirqs of domain %u are in use", d->pirqs->nr, d->id);
}

/* The pirq to use for a mapping that asks for `wanted` (negative: any). */
static s64 choose(struct domain *d, s32 wanted, bool msi)
{
    int err;

    if (!d->pirqs && (err = make_table(d, DOMU_PIRQS)) != 0)
        return err;
    if (wanted < 0)
        return find_free(d, msi);
    if ((u32)wanted >= d->pirqs->nr)
        return refuse(-EINVAL, "pirq %d, domain %u has %u", wanted, d->id, d->pirqs->nr);
    if (d->pirqs->pirq[wanted].state >= PIRQ_GSI)
        return refuse(-EEXIST, "pirq %d of domain %u is mapped already", wanted, d->id);
    return wanted;
}

static void enter(struct domain *d, u32 pirq, enum pirq_state state, u32 irq)
{
    d->pirqs->pirq[pirq].irq = irq;
    d->pirqs->pirq[pirq].port = 0;
    barrier();
    write_once(d->pirqs->pirq[pirq].state, state);
}

/* map_lock is held. */
static int map_gsi(struct domain *d, s32 gsi, s32 *pirq)
{
    s64 n;

    if (gsi < 0 || (u32)gsi >= nr_gsis)
        return refuse(-EINVAL, "GSI %d, there are %u", gsi, nr_gsis);
    if (!rangeset_contains(current->domain->irqs, gsi, gsi))
        return refuse(-EPERM, "GSI %d is not the caller's to give", gsi);
    n = *pirq < 0 && (u32)gsi < pirq_limit(d) && is_free(d, gsi) ? gsi : *pirq;
    if (n >= 0 && mapped(d, n) && d->pirqs->pirq[n].irq == (u32)gsi) {
        *pirq = n;
        return 0;       /* as it is: dom0 kernels repeat themselves */
    }
    n = choose(d, n, false);
    if (n < 0)
        return n;
    enter(d, n, PIRQ_GSI, (u32)gsi);
    *pirq = n;
    return 0;
}

int pirq_map_gsi(struct domain *d, s32 gsi, s32 *pirq)
{
    int err;

    spin_lock(&map_lock);
    err = map_gsi(d, gsi, pirq);
    spin_unlock(&map_lock);
    return err;
}

/* map_lock is held. */
static int map_msi(struct domain *d, u32 sbdf, bool msix, u32 index, u64 table_base, s32 *pirq)
{
    const struct pci_dev *dev = pci_find(sbdf);
    s64 n, irq;

    if (dev && read_once(dev->owner) != d->id)
        return refuse(-ENODEV, PCI_FMT " is not domain %u's", PCI_ARGS(sbdf), d->id);
    n = choose(d, *pirq, true);
    if (n < 0)
        return n;
    irq = msi_create(d, sbdf, msix, index, table_base);
    if (irq < 0)
        return irq;
    enter(d, n, PIRQ_MSI, irq);
    *pirq = n;
    return 0;
}

int pirq_map_msi(struct domain *d, u32 sbdf, bool msix, u32 index, u64 table_base, s32 *pirq)
{
    int err;

    spin_lock(&map_lock);
    err = map_msi(d, sbdf, msix, index, table_base, pirq);
    spin_unlock(&map_lock);
    return err;
}

s64 pirq_reserve(struct domain *d, bool msi)
{
    s64 n;

    spin_lock(&map_lock);
    n = choose(d, -1, msi);
    if (n >= 0)
        write_once(d->pirqs->pirq[n].state, PIRQ_RESERVED);
    spin_unlock(&map_lock);
    return n;
}

/* map_lock is held. */
static void drop(struct domain *d, struct pirq *p)
{
    bool msi = p->state == PIRQ_MSI;

    write_once(p->state, PIRQ_FREE);
    if (p->port)
        irq_unbind_guest(&irq_descs[p->irq], d);
    if (msi)
        irq_destroy(p->irq);
}

int pirq_unmap(struct domain *d, s32 pirq)
{
    int err = 0;

    spin_lock(&map_lock);
    /* -ESRCH: another's went with its function. Linux's dom0 frees its own part then, and keeps it for ever at any other error. */
    if (pirq < 0 || !mapped(d, pirq))
        err = refuse(d == current->domain ? -EINVAL : -ESRCH, "pirq %d of domain %u is not mapped", pirq, d->id);
    else
        drop(d, &d->pirqs->pirq[pirq]);
    spin_unlock(&map_lock);
    return err;
}

/* Whoever maps one looks whose the function is under the lock: so none comes afterwards. */
void pirq_unmap_device(struct domain *d, u32 sbdf)
{
    spin_lock(&map_lock);
    for (u32 i = 0; i < pirq_limit(d); i++) {
        struct pirq *p = &d->pirqs->pirq[i];

        if (p->state == PIRQ_MSI && irq_descs[p->irq].msi.dev->sbdf == sbdf)
            drop(d, p);
    }
    spin_unlock(&map_lock);
}

void pirq_unshare_eoi_map(struct domain *d)
{
    void guest_shared *map;

    spin_lock(&map_lock);
    map = d->arch.pirq_eoi_map;
    d->arch.pirq_eoi_map = NULL;
    spin_unlock(&map_lock);
    if (!map)
        return;
    unmap_frame(map);
    frame_put_writable(d->arch.pirq_eoi_mfn);
}

void pirq_domain_destroy(struct domain *d)
{
    spin_lock(&map_lock);
    for (u32 i = 0; i < pirq_limit(d); i++)
        if (mapped(d, i))
            drop(d, &d->pirqs->pirq[i]);
    xfree(d->pirqs);
    d->pirqs = NULL;
    spin_unlock(&map_lock);
    pirq_unshare_eoi_map(d);
}

/* --- Use ------------------------------------------------------------------------------------------------------ */

int pirq_needs_eoi(const struct domain *d, u32 pirq, bool *needs, bool *shared)
{
    const struct pirq *p = mapped(d, pirq);

    if (pirq >= max(pirq_limit(d), nr_gsis))
        return -EINVAL;
    *needs = p && irq_descs[p->irq].level;
    *shared = p && irq_descs[p->irq].nr_guests > 1;
    return 0;
}

u32 pirq_port(const struct domain *d, u32 pirq)
{
    const struct pirq *p = mapped(d, pirq);

    return p ? read_once(p->port) : 0;
}

static void mark_eoi(struct domain *d, u32 pirq)
{
    const struct pirq *p = mapped(d, pirq);

    if (!d->arch.pirq_eoi_map || pirq >= EOI_MAP_BITS)
        return;
    if (p && irq_descs[p->irq].level)
        set_bit(pirq, shared_raw(d->arch.pirq_eoi_map));
    else
        clear_bit(pirq, shared_raw(d->arch.pirq_eoi_map));
}

/* Kernels of the Xen 3 era bind GSIs of dom0 without mapping them first. */
static struct pirq *mapped_or_gsi(struct domain *d, u32 pirq)
{
    struct pirq *p = mapped(d, pirq);
    s32 same = pirq;
    bool level, low;

    if (p || !d->is_hardware || pirq >= nr_gsis)
        return p;
    if (!irq_descs[pirq].chip) {
        acpi_gsi_trigger(pirq, &level, &low);
        if (gsi_setup(pirq, level, low))
            return NULL;
    }
    return map_gsi(d, (s32)pirq, &same) ? NULL : mapped(d, pirq);
}

static int bind(struct domain *d, u32 pirq, u32 port, bool shareable)
{
    struct pirq *p = mapped_or_gsi(d, pirq);
    int err;

    if (!p)
        return refuse(-EINVAL, "pirq %u is not mapped", pirq);
    err = irq_bind_guest(&irq_descs[p->irq], d, pirq, port, shareable);
    if (err)
        return refuse(err, "pirq %u (irq %u) cannot be bound: %s", pirq, p->irq,
                      err == -EBUSY ? "it is in use" : "it was never set up");
    write_once(p->port, port);
    mark_eoi(d, pirq);
    return 0;
}

/* Under map_lock from the look to the deed: an irq that is bound after its pirq was unmapped would never be unbound. */
int pirq_bind(struct vcpu *v, u32 pirq, u32 port, bool shareable)
{
    int err;

    spin_lock(&map_lock);
    err = bind(v->domain, pirq, port, shareable);
    spin_unlock(&map_lock);
    return err;
}

/* Nothing to do if the pirq was unmapped, and perhaps mapped and bound anew, meanwhile. */
void pirq_unbind(struct domain *d, u32 pirq, u32 port)
{
    struct pirq *p;

    spin_lock(&map_lock);
    p = mapped(d, pirq);
    if (p && p->port == port) {
        irq_unbind_guest(&irq_descs[p->irq], d);
        write_once(p->port, 0);
    }
    spin_unlock(&map_lock);
}

void pirq_unmasked(struct domain *d, u32 pirq)
{
    const struct pirq *p = mapped(d, pirq);

    if (p)
        irq_guest_eoi(&irq_descs[p->irq], d);
}

int pirq_share_eoi_map(struct domain *d, u64 gmfn, bool auto_unmask)
{
    int err;

    if (d->arch.pirq_eoi_map)
        return -EBUSY;
    err = frame_get_writable(mfn(gmfn), d);
    if (err)
        return refuse(err, "frame %#lx cannot hold the EOI map: it is not a writable frame of the caller", gmfn);
    spin_lock(&map_lock);
    if (!d->arch.pirq_eoi_map) {
        d->arch.pirq_eoi_mfn = mfn(gmfn);
        d->arch.auto_unmask = auto_unmask;
        d->arch.pirq_eoi_map = map_frame(mfn(gmfn));
    } else {
        err = -EBUSY;
    }
    spin_unlock(&map_lock);
    if (err)
        frame_put_writable(mfn(gmfn));
    for (u32 i = 0; !err && i < pirq_limit(d); i++)
        mark_eoi(d, i);
    return err;
}
