/* Control calls on the log of what is written to a domain's memory: docs/migration.md. */
#include <asm/dirty.h>
#include <pvisor/evtchn.h>
#include <pvisor/gnttab.h>
#include <pvisor/guest.h>
#include <pvisor/lib.h>
#include <pvisor/preempt.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>
#include "internal.h"

/* 64 words at a time: a bitmap's part, and whether it is taken out of the log. */
#define WORD_BITS  64u
#define PART_WORDS 64u
#define PART_BITS  (PART_WORDS * WORD_BITS)
#define MOST_PAGES (1UL << 36)      /* 256 TiB: what any guest can have; a caller who only counts allocates nothing for more */

static int report_part(struct dirty_log *log, const struct dirty_report *r)
{
    u64 part[PART_WORDS], bits = min(r->pages - log->at, (u64)PART_BITS), words = DIV_ROUND_UP(bits, WORD_BITS);

    for (u64 i = 0; i < words; i++) {
        part[i] = dirty_log_take(log, log->at + i * WORD_BITS, min(bits - i * WORD_BITS, (u64)WORD_BITS), r->clean);
        log->dirty += popcount64(part[i]);
    }
    if (r->bitmap.v && copy_to_guest(gva_add(r->bitmap, log->at / 8), part, DIV_ROUND_UP(bits, 8)))
        return -EFAULT;
    log->at += bits;
    steps_add(words);
    return 0;
}

/*
 * What is written without a word while d runs, by us or by others who have it mapped: 0 or -ERESTART_HYPERCALL. All of it comes before the
 * first bit is taken, so whoever maps a frame meanwhile, and says so then, is in the report too.
 */
static int note_held(struct domain *d)
{
    struct dirty_log *log = d->arch.log;

    if (!log->granted_at) {
        dirty_log_mark_vcpus(d);
        evtchn_for_frames(d, dirty_log_mark);
    }
    while (gnttab_for_writable(d, log->granted_at, dirty_log_mark)) {
        log->granted_at++;
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return dirty_log_mark_viewed(d);
}

static bool is_same(const struct dirty_report *a, const struct dirty_report *b)
{
    return a->op == b->op && a->final == b->final && a->pages == b->pages && a->bitmap.v == b->bitmap.v;
}

static int begin_report(struct domain *d, const struct dirty_report *r)
{
    struct dirty_log *log = d->arch.log;

    if (!d->arch.log_ready)
        return refuse(-EINVAL, "d%u's writes are not logged", d->id);
    if (r->pages > MOST_PAGES)
        return refuse(-EINVAL, "a report of %#lx pages, at most %#lx are possible", r->pages, MOST_PAGES);
    if (!dirty_log_holds(d))
        return refuse(-ENOMEM, "d%u's writes are logged no more: there was no memory for mirrors of its page tables", d->id);
    if (log->under_way.op && !is_same(&log->under_way, r))
        return refuse(-EBUSY, "another report of d%u's log is under way", d->id);
    if (log->under_way.op)
        return 0;
    log->under_way = *r;
    log->granted_at = log->viewer = 0;
    log->viewer_at = 0;
    log->at = log->dirty = 0;
    d->arch.log_taken |= r->clean;
    return 0;
}

static int make_report(struct domain *d, struct dirty_report *r)
{
    struct dirty_log *log = d->arch.log;
    int rc = begin_report(d, r);

    if (!rc && r->final && !log->at)
        rc = note_held(d);
    if (rc)
        return rc;
    while (!rc && log->at < r->pages) {
        rc = report_part(log, r);
        if (!rc && preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    if (!rc && r->clean)
        rc = dirty_log_withdraw(d);
    if (rc == -ERESTART_HYPERCALL)
        return rc;
    if (r->clean)
        log->lost = rc != 0;
    r->dirty = log->dirty;
    r->faults = log->nr_faults;
    log->under_way.op = 0;
    if (r->clean)
        log->nr_faults = 0;
    return rc;
}

/*
 * The guest says how many numbers it has, and may have said so wrongly: more than the machine has frames, or than the domain may have, cost
 * nobody any memory.
 */
static u64 room_wanted(const struct domain *d)
{
    return min(max(d->max_pages, domain_nr_gpfns(d)), max(nr_frames, d->max_pages));
}

static s64 report(struct domain *d, struct xen_domctl_shadow_op *s)
{
    bool final = s->mode & XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL;
    struct dirty_report r = { .op = s->op, .clean = s->op == XEN_DOMCTL_SHADOW_OP_CLEAN, .final = final,
                              .bitmap = gva(s->dirty_bitmap), .pages = s->pages };
    s64 rc = s->mode & ~XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL ? refuse(-EINVAL, "mode %#x", s->mode) : make_report(d, &r);

    if (rc)
        return rc;
    s->stats.dirty_count = (u32)r.dirty;
    s->stats.fault_count = (u32)r.faults;
    return 0;
}

s64 dc_shadow_op(struct domain *d, struct xen_domctl *op, gva_t)
{
    struct xen_domctl_shadow_op *s = &op->u.shadow_op;

    if (d == current->domain)
        return refuse(-EINVAL, "the caller cannot be held while its own tables are mirrored");
    if (d->dying)
        return refuse(-EINVAL, "d%u is being destroyed", d->id);
    switch (s->op) {
    case XEN_DOMCTL_SHADOW_OP_OFF:
        return dirty_log_stop(d);
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
        return dirty_log_start(d, room_wanted(d));
    case XEN_DOMCTL_SHADOW_OP_CLEAN:
    case XEN_DOMCTL_SHADOW_OP_PEEK:
        return report(d, s);
    default:
        return refuse(-EOPNOTSUPP, "operation %u, mode %#x: there is no shadow paging, but for a log of what is written", s->op, s->mode);
    }
}
