/* The grant-table hypercall: the small operations, and the loop over a guest's array with its preemption. */
#include "grant.h"
#include <asm/nospec.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>

/* domain_target(), with a status. */
static struct domain *target(u16 domid, s16 *status)
{
    s64 err = 0;
    struct domain *d = domain_target(domid, &err);

    *status = !err ? GNTST_okay : err == -EPERM ? GNTST_permission_denied : GNTST_bad_domain;
    return d;
}

static s16 grow_to(struct domain *d, u32 nr_frames)
{
    s16 status;

    spin_lock(&d->gnttab->lock);
    status = grant_grow(d, nr_frames) ? GNTST_general_error : GNTST_okay;
    spin_unlock(&d->gnttab->lock);
    return status;
}

/* Frames are never taken away while the domain lives, so the list needs no lock. */
static int write_frame_list(const struct domain *d, gva_t list, u32 nr)
{
    for (u32 i = 0; i < nr; i++) {
        int rc = guest_write_word(list, i, d->gnttab->frame[i].mfn);

        if (rc)
            return rc;
    }
    return 0;
}

#define FRAMES_AT_ONCE 32

/* Frames that are there stay: when it gives way, the whole operation is made again. */
static int grow_giving_way(struct domain *d, u32 nr_frames, s16 *status)
{
    u32 nr = read_once(d->gnttab->nr_frames);

    for (;;) {
        /* Too many are refused before any is made. */
        nr = nr_frames > d->gnttab->max_frames ? nr_frames : min(nr_frames, nr + FRAMES_AT_ONCE);
        *status = grow_to(d, nr);
        if (*status != GNTST_okay || nr == nr_frames)
            return 0;
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    }
}

static s64 setup_table(gva_t uop, u32)
{
    struct gnttab_setup_table op;
    struct domain *d;
    int rc = 0;

    if (guest_read_abi(gnttab_setup_table, &op, uop))
        return -EFAULT;
    d = target(op.dom, &op.status);
    if (d) {
        rc = grow_giving_way(d, op.nr_frames, &op.status);
        if (!rc && op.status == GNTST_okay)
            rc = write_frame_list(d, gva(op.frame_list), op.nr_frames);
        domain_put(d);
    }
    if (rc == -ERESTART_HYPERCALL)
        return rc;
    if (copy_to_guest(gva_add(uop, abi_offset(current_word(), gnttab_setup_table, status)), &op.status,
                      sizeof(op.status)))
        rc = -EFAULT;
    return rc ? rc : 1;
}

static s64 query_size(gva_t uop, u32)
{
    struct gnttab_query_size op;
    struct domain *d;

    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    d = target(op.dom, &op.status);
    if (d) {
        (void)grow_to(d, 1);    /* a table has at least one frame, as guests know it */
        op.nr_frames = d->gnttab->nr_frames;
        op.max_nr_frames = d->gnttab->max_frames;
        domain_put(d);
    }
    return copy_to_guest(uop, &op, sizeof(op)) ? -EFAULT : 1;
}

static s64 dump_table(gva_t uop, u32)
{
    struct gnttab_dump_table op;
    struct domain *d;

    if (control_only())
        return -EPERM;
    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    d = target(op.dom, &op.status);
    if (d) {
        gnttab_dump(d);
        domain_put(d);
    }
    return copy_to_guest(uop, &op, sizeof(op)) ? -EFAULT : 1;
}

/* Not offered: the status that says so and leaves the frame with its owner. */
static s64 transfer(gva_t uop, u32)
{
    s16 status = refuse(GNTST_bad_page, "frames are not transferred by grant");

    uop = gva_add(uop, abi_offset(current_word(), gnttab_transfer, status));
    return copy_to_guest(uop, &status, sizeof(status)) ? -EFAULT : 1;
}

/* Are there nr status frames? */
static s16 check_status(const struct domain *d, u32 nr)
{
    struct grant_table *t = d->gnttab;
    u32 version, nr_status;

    spin_lock(&t->lock);
    version = t->version;
    nr_status = gnttab_status_frames(t->nr_frames);
    spin_unlock(&t->lock);
    if (version != 2)
        return refuse(GNTST_general_error, "d%u's grant table is of version 1, which has no status frames", d->id);
    if (nr > nr_status)
        return refuse(GNTST_general_error, "%u status frames, d%u's grant table has %u", nr, d->id, nr_status);
    return GNTST_okay;
}

/* Entries of 64 bits for all. Status frames are never taken away while the domain lives, so the list needs no lock. */
static int write_status_list(const struct domain *d, gva_t list, u32 nr)
{
    for (u32 i = 0; i < nr; i++)
        if (copy_to_guest(gva_add(list, i * sizeof(u64)), &d->gnttab->status[i].mfn.v, sizeof(u64)))
            return -EFAULT;
    return 0;
}

static s64 get_status_frames(gva_t uop, u32)
{
    struct gnttab_get_status_frames op;
    struct domain *d;
    int rc = 0;

    if (guest_read_abi(gnttab_get_status_frames, &op, uop))
        return -EFAULT;
    d = target(op.dom, &op.status);
    if (d) {
        op.status = check_status(d, op.nr_frames);
        if (op.status == GNTST_okay)
            rc = write_status_list(d, gva(op.frame_list), op.nr_frames);
        domain_put(d);
    }
    if (copy_to_guest(gva_add(uop, abi_offset(current_word(), gnttab_get_status_frames, status)), &op.status,
                      sizeof(op.status)))
        rc = -EFAULT;
    return rc ? rc : 1;
}

static s64 set_version(gva_t uop, u32)
{
    struct gnttab_set_version op;
    s64 rc;

    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    rc = grant_set_version(current->domain, op.version);
    op.version = read_once(current->domain->gnttab->version);
    if (copy_to_guest(uop, &op, sizeof(op)))
        return -EFAULT;
    return rc ? rc : 1;
}

static s64 get_version(gva_t uop, u32)
{
    struct gnttab_get_version op;
    struct domain *d;
    s16 status;

    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    d = target(op.dom, &status);
    if (!d)
        return status == GNTST_bad_domain ? -ESRCH : -EPERM;
    op.version = read_once(d->gnttab->version);
    domain_put(d);
    return copy_to_guest(uop, &op, sizeof(op)) ? -EFAULT : 1;
}

static s64 swap_grant_ref(gva_t uop, u32)
{
    struct grant_table *t = current->domain->gnttab;
    struct gnttab_swap_grant_ref op;

    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    spin_lock(&t->lock);
    op.status = grant_swap(t, op.ref_a, op.ref_b);
    spin_unlock(&t->lock);
    return copy_to_guest(uop, &op, sizeof(op)) ? -EFAULT : 1;
}

/* The caller's own frame, or one of another's that it has mapped by a grant. searched: as grant_maps() has it. */
static int may_flush(mfn_t m, u32 *searched)
{
    int mapped;

    if (frame_owner_id(m) == current->domain->id)
        return 0;
    mapped = grant_maps(current->domain->gnttab, m, searched);
    if (!mapped)
        return refuse(-EPERM, "frame %#lx is neither the caller's nor mapped by a grant", m.v);
    return mapped < 0 ? mapped : 0;
}

/*
 * Devices of x86 see what the caches hold; the lines are written back for who wants them in memory all the same. To
 * throw them away instead (INVAL alone), which would bring back what the memory held, no CPU offers.
 */
static int cache_flush(gva_t uop, u32 *searched)
{
    struct gnttab_cache_flush op;
    char guest_shared *page;
    mfn_t m;
    int rc;

    if (copy_from_guest(&op, uop, sizeof(op)))
        return -EFAULT;
    if (op.offset >= PAGE_SIZE || (u32)op.offset + op.length > PAGE_SIZE ||
        (op.op & ~(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL | GNTTAB_CACHE_SOURCE_GREF)))
        return refuse(-EINVAL, "%u bytes from offset %u on leave the page, or operation %#x is unknown", op.length, op.offset, op.op);
    if (!op.length || !op.op)
        return 0;
    if (op.op & GNTTAB_CACHE_SOURCE_GREF || op.op == GNTTAB_CACHE_INVAL)
        return refuse(-EOPNOTSUPP, "operation %#x is not offered", op.op);
    m = maddr_to_mfn(maddr(op.a.dev_bus_addr));
    if (!mfn_valid(m))
        return refuse(-EINVAL, "address %#lx is not in RAM", op.a.dev_bus_addr);
    rc = may_flush(m, searched);
    if (rc)
        return rc;
    page = map_frame(m);
    clflush_range(shared_raw(page + op.offset), op.length);
    unmap_frame(page);
    return 0;
}

/* What a call has searched for its first element, when it is made again, stands above the command, as in Xen. */
#define CMD_BITS 12
#define CMD_MASK ((1u << CMD_BITS) - 1)

static s64 flush_caches(u32 searched, gva_t uop, u32 count)
{
    while (count) {
        int rc = cache_flush(uop, &searched);

        if (rc && rc != -ERESTART_HYPERCALL)
            return rc;
        if (!rc) {
            uop = gva_add(uop, sizeof(struct gnttab_cache_flush));
            count--;
            searched = 0;
        }
        if (rc || (count && preempt_needed()))
            return hypercall_restart(3, (u64)(searched << CMD_BITS | GNTTABOP_cache_flush), uop.v, (u64)count);
    }
    return 0;
}

/* count is of no interest to ALONE, must be 1 for ONE, and is what it says for MANY. */
enum counted { ALONE, ONE, MANY };

static const struct grant_call {
    s64 (*some)(gva_t uop, u32 count);
    u8 counted;
    u16 size[ABI_NR];
} calls[] = {
#define PLAIN_CALL(name, fn, counted) \
    { fn, counted, { sizeof(struct gnttab_##name), sizeof(struct gnttab_##name) } }
#define ABI_CALL(name, fn, counted) \
    { fn, counted, { sizeof(struct gnttab_##name##_l64), sizeof(struct gnttab_##name##_l32) } }
    [GNTTABOP_map_grant_ref] = PLAIN_CALL(map_grant_ref, gnttab_map, MANY),
    [GNTTABOP_unmap_grant_ref] = PLAIN_CALL(unmap_grant_ref, gnttab_unmap, MANY),
    [GNTTABOP_setup_table] = ABI_CALL(setup_table, setup_table, ONE),
    [GNTTABOP_dump_table] = PLAIN_CALL(dump_table, dump_table, ONE),
    [GNTTABOP_transfer] = ABI_CALL(transfer, transfer, MANY),
    [GNTTABOP_copy] = ABI_CALL(copy, gnttab_copy, MANY),
    [GNTTABOP_query_size] = PLAIN_CALL(query_size, query_size, ONE),
    [GNTTABOP_unmap_and_replace] = PLAIN_CALL(unmap_and_replace, gnttab_unmap_and_replace, MANY),
    [GNTTABOP_set_version] = PLAIN_CALL(set_version, set_version, ALONE),
    [GNTTABOP_get_status_frames] = ABI_CALL(get_status_frames, get_status_frames, ONE),
    [GNTTABOP_get_version] = PLAIN_CALL(get_version, get_version, ALONE),
    [GNTTABOP_swap_grant_ref] = PLAIN_CALL(swap_grant_ref, swap_grant_ref, MANY),
};

s64 do_grant_table_op(u64 a0, u64 a1, u64 a2, u64, u64, u64)
{
    u32 cmd = (u32)a0, count = (u32)a2, size, mark = fetch_mark();
    const struct grant_call *c;
    gva_t uop = gva(a1);

    if ((s32)count < 0)
        return refuse(-EINVAL, "count %u, at most %u is possible", count, ~0u >> 1);
    if (cmd >= ARRAY_SIZE(calls))
        return (cmd & CMD_MASK) == GNTTABOP_cache_flush ? flush_caches(cmd >> CMD_BITS, uop, count)
                                                        : refuse(-ENOSYS, "unknown command %u", cmd);
    c = &array_nospec(calls, cmd);
    if (c->counted == ONE && count != 1)
        return refuse(-EINVAL, "count %u for command %u, expected 1", count, cmd);
    if (c->counted == ALONE)
        count = 1;
    size = c->size[current_word()];
    while (count) {
        s64 n = c->some(uop, count);

        fetch_forget(mark);
        if (n == -ERESTART_HYPERCALL)
            return hypercall_restart(3, (u64)cmd, uop.v, (u64)count);
        if (n < 0)
            return n;
        uop = gva_add(uop, (u64)n * size);
        count -= (u32)n;
        if (count && preempt_needed())
            return hypercall_restart(3, (u64)cmd, uop.v, (u64)count);
    }
    return 0;
}
