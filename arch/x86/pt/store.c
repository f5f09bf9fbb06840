/*
 * Which store a domain's hardware walks, its own tables in place or their mirrors (mirror.c), for formats that can be walked both ways.
 *
 *      IN_PLACE --> ALLOCATING --> FILLING --> READY --> MIRRORED
 *         ^             |             |          |          |
 *         +-------------+-- ENDING <--+----------+----------+
 *
 *   ALLOCATING  all stores reach mirrors where there are some; new tables get theirs. A walk over the domain's frames gives the others one.
 *   FILLING     each table has a mirror. A second walk stores all entries' twins.
 *   READY       each twin says what its entry does. The hardware still walks the guest's tables, and sets accessed and dirty bits of which
 *               twins hear by the fault that their lack makes.
 *   MIRRORED    the vCPUs' roots are the mirrors'. All of them were held while that was changed, and for nothing else.
 *   ENDING      the roots are the guest's own again. A third walk gives up the mirrors.
 *
 * A mirror that cannot be had ends it: at once while the hardware walks in place. Later the table that wants one waits, and with it the
 * guest's request, which is made again and again, until a tasklet has found all vCPUs at rest.
 *
 * The walks give way, and whoever controls the domain calls again. It may be anybody: all there is to know is in the domain.
 *
 * For good. An entry that is not present and names memory, which some CPUs read through all the same (L1TF: asm/spec.h), may be in a table
 * that no hardware walks. The first such entry of a domain's waits, and whoever wants it goes through the above, a part each time that the
 * request is made again; so the work is its own. Nothing tells when the last of these entries is gone: the domain stays mirrored.
 */
#include <asm/atomic.h>
#include <asm/isolation.h>
#include <asm/pt.h>
#include <asm/pv.h>
#include <public/errno.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include <pvisor/steps.h>
#include "internal.h"

/* --- The walk --- */

static bool says_table(mfn_t m)
{
    u32 w = read_once(frame_types[m.v]);

    return pt_live_level(w) || w & FW_PARTIAL;
}

/*
 * Held for the look: a frame that nobody holds goes from domain to domain, and its word may have said so when it was another's, or was
 * nobody's and a note (asm/pt.h). A table of d's stays one while the lock is held.
 */
static bool is_table(const struct domain *d, mfn_t m)
{
    bool is;

    if (likely(!says_table(m)) || !frame_hold(m, d))
        return false;
    is = says_table(m);
    frame_drop(m);
    return is;
}

/* The last frame before the next table, or of m's region: most are no tables. */
static u64 pass_over(u64 m)
{
    const u64 tables = FW_TYPE(FT_L1 | FT_L3) * (1UL << 32 | 1);     /* all types from FT_L1 on have one of these bits */
    u64 last = min(m | 511, nr_frames - 1);

    for (;; m++) {
        m = pass_lines(frame_types, sizeof(*frame_types), m, last, tables);
        if (m >= last || says_table(mfn_kept(m + 1)))
            return m;
    }
}

int for_each_table(struct domain *d, int (*look)(struct domain *d, mfn_t m))
{
    u64 m = d->arch.store_at;
    int rc = 0;

    for (; !rc && m < nr_frames; d->arch.store_at = ++m) {
        steps_add(64);
        if (!d->regions || !domain_has_region(d, m)) {
            m |= 511;
        } else if (!is_table(d, mfn_kept(m))) {
            m = pass_over(m);
        } else {
            rc = look(d, mfn_kept(m));
            if (rc)
                break;
        }
        if (preempt_needed())
            rc = -RESTART;
    }
    if (!rc)
        d->arch.store_at = 0;
    return rc;
}

static int give_mirror(struct domain *d, mfn_t m) { return mirror_alloc(d, m, table_level(frame_types[m.v])); }

/* Of a table half way, what has been checked; the rest is when it is. */
static int fill_mirror(struct domain *d, mfn_t m)
{
    const struct pt_format *f = d->arch.fmt;
    u32 w = frame_types[m.v];
    unsigned level = table_level(w), nr = table_checked(f, w);

    for (unsigned i = 0; i < nr; i++)
        if (!is_hv_slot(f, level, w, i))
            mirror_twins(d, m, level, i, pt_load(f, mfn_to_virt(m), i));
    /* Half way these slots are still the guest's, unchecked; the mirror has had ours from the start. */
    if (level == 4 && !(w & FW_PARTIAL))
        mirror_show_m2p(d, m, pt_load(f, mfn_to_virt(m), M2P_RO_START >> 39 & 511));
    steps_add(nr);
    return 0;
}

static int give_up_mirror(struct domain *d, mfn_t m)
{
    mirror_free(d, m, table_level(frame_types[m.v]));
    return 0;
}

/* --- The change of roots --- */

/* No vCPU of d's runs. */
static void walk(struct domain *d, bool mirrors)
{
    struct vcpu *v;

    d->arch.mirror_walked = mirrors;
    d->arch.own_faults_64 = d->arch.word == ABI_64 && !mirrors;
    for_each_vcpu(d, v) {
        if (mfn_eq(v->arch.root_kernel, INVALID_MFN))
            continue;
        if (v->arch.monitor_l4)
            mirror_set_root(v);
        pv_make_cr3(v);
    }
}

static void stop(struct domain *d, bool no_memory)
{
    if (d->arch.mirror_walked) {
        walk(d, false);
        d->arch.log_gap = true;     /* whoever mirrors it next, a log that was begun before does not hold */
    }
    d->arch.mirrored = false;
    d->arch.store = STORE_ENDING;
    d->arch.store_short = no_memory;
    d->arch.store_at = 0;
}

/* --- What is left of mirrors --- */

static int give_up(struct domain *d)
{
    int rc;

    if (d->arch.store != STORE_ENDING)
        return 0;
    rc = for_each_table(d, give_up_mirror);
    if (rc)
        return rc;
    domain_flush_stale(d);
    mirror_free_domain(d);
    d->arch.store = STORE_IN_PLACE;
    return 0;
}

/* --- Begin --- */

static int start(struct domain *d)
{
    d->arch.mirrored = true;
    if (d->arch.store_stops || mirror_init_domain(d)) {
        d->arch.mirrored = false;
        return -ENOMEM;
    }
    pt_know_none(d);
    d->arch.store_at = 0;
    d->arch.store = STORE_ALLOCATING;
    return 0;
}

static int prepare(struct domain *d)
{
    int rc = 0;

    if (d->arch.store == STORE_IN_PLACE)
        rc = start(d);
    if (!rc && d->arch.store == STORE_ALLOCATING) {
        rc = for_each_table(d, give_mirror);
        if (!rc)
            d->arch.store = STORE_FILLING;
        else if (rc != -RESTART)
            stop(d, true);
    }
    if (!rc && d->arch.store == STORE_FILLING) {
        rc = for_each_table(d, fill_mirror);
        if (!rc)
            d->arch.store = STORE_READY;
    }
    return rc;
}

/* No vCPU of d's runs. */
static void finish(struct domain *d)
{
    if (d->arch.store != STORE_READY)
        return;
    walk(d, true);
    d->arch.store = STORE_MIRRORED;
}

/* An end that was asked for and gave way is no fault of ours: what begins goes on with it, and begins then. */
static int after_end(struct domain *d)
{
    int rc;

    pt_lock(d);
    rc = give_up(d);
    pt_unlock(d);
    if (rc)
        return rc;
    return d->arch.store_short ? refuse(-ENOMEM, "d%u: no memory for mirrors of all its page tables", d->id) : -RESTART;
}

/* The format is asked for under the lock, under which the guest changes it. Entries of 4 bytes are always mirrored: IN_PLACE, here. */
int pt_mirror_begin(struct domain *d)
{
    int rc;

    if (d->arch.store == STORE_MIRRORED)
        return 0;
    if (d->arch.store != STORE_ENDING) {
        pt_lock(d);
        rc = d->arch.fmt->pte_bytes == 4 ? 0 : prepare(d);
        pt_unlock(d);
        if (rc == -RESTART || d->arch.store == STORE_IN_PLACE)
            return rc;
    }
    if (d->arch.store == STORE_ENDING)
        return after_end(d);
    domain_pause(d);
    pt_lock(d);
    finish(d);
    pt_unlock(d);
    domain_unpause(d);
    return d->arch.store == STORE_MIRRORED ? 0 : -RESTART;
}

/* --- End --- */

/* What the guest wants, too, or has, stays: it would begin again after each end that gave way, and so hold up whoever wants that. */
static bool is_guests(const struct domain *d) { return d->arch.for_good == FOR_GOOD_WANTED || d->arch.for_good == FOR_GOOD_TAKEN; }

static bool is_to_stop(const struct domain *d)
{
    return d->arch.store != STORE_IN_PLACE && d->arch.store != STORE_ENDING && !is_guests(d);
}

int pt_mirror_end(struct domain *d)
{
    int rc;

    if (d->arch.store == STORE_IN_PLACE)
        return 0;
    if (d->arch.store != STORE_ENDING) {
        domain_pause(d);
        pt_lock(d);
        if (is_to_stop(d))
            stop(d, false);
        pt_unlock(d);
        domain_unpause(d);
    }
    pt_lock(d);
    d->arch.store_short = false;
    rc = give_up(d);
    pt_unlock(d);
    return rc;
}

/* --- Without a control domain --- */

static bool any_runs(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        if (read_once(v->is_running))
            return true;
    return false;
}

static void take_for_good(struct domain *d)
{
    d->arch.for_good = FOR_GOOD_TAKEN;
    d->arch.l1tf_span = 0;
    printk(LOG_INFO "d%u has entries that are not present and name memory: its page tables are mirrored from now on (pv-l1tf=)\n", d->id);
}

/* The vCPU that is current may be one of d's: so this waits for none, but comes again. Mirrors are given up as a whole later, by end. */
static void when_all_rest(void *data)
{
    struct domain *d = data;

    if (any_runs(d)) {
        tasklet_schedule(&d->arch.store_rest);
        return;
    }
    pt_lock(d);
    if (d->arch.store_stops && d->arch.store == STORE_MIRRORED && d->arch.for_good != FOR_GOOD_TAKEN)
        stop(d, true);
    else if (d->arch.for_good == FOR_GOOD_WANTED)
        finish(d);
    d->arch.store_stops = d->arch.store_holds = false;
    pt_unlock(d);
    domain_unpause(d);
    domain_put(d);
}

void pt_store_init(struct domain *d) { d->arch.store_rest = (struct tasklet){ .fn = when_all_rest, .data = d }; }

static void let_all_rest(struct domain *d)
{
    if (d->arch.store_holds)
        return;
    d->arch.store_holds = true;
    domain_ref(d);
    domain_pause_nowait(d);
    tasklet_schedule(&d->arch.store_rest);
}

/* --- What cannot be mirrored any more --- */

/* If it was the guest's wish, nobody else is to be told that memory was short. */
static void deny(struct domain *d)
{
    if (d->arch.for_good != FOR_GOOD_WANTED)
        return;
    d->arch.for_good = FOR_GOOD_DENIED;
    d->arch.store_short = false;
}

int mirror_wanted(struct domain *d, mfn_t m, unsigned level)
{
    int rc = mirror_alloc(d, m, level);

    if (likely(!rc) || d->arch.fmt->pte_bytes == 4 || d->arch.for_good == FOR_GOOD_TAKEN)
        return rc;
    if (!d->arch.mirror_walked) {
        stop(d, true);
        deny(d);
        return 0;
    }
    if (!d->arch.store_stops) {
        d->arch.store_stops = true;
        domain_log(d, "its page tables are mirrored no more: there is no memory for one more mirror");
        let_all_rest(d);
    }
    return -RESTART;
}

/* --- For good --- */

bool mirror_wanted_for_good(struct domain *d)
{
    if (d->arch.fmt->pte_bytes == 4 || d->arch.for_good == FOR_GOOD_DENIED || d->arch.table_limit)
        return false;
    if (d->arch.store == STORE_MIRRORED && !d->arch.store_stops)
        take_for_good(d);
    else
        d->arch.for_good = FOR_GOOD_WANTED;
    return true;
}

static int step(struct domain *d)
{
    int rc = d->arch.store == STORE_ENDING ? give_up(d) : d->arch.store == STORE_MIRRORED ? 0 : prepare(d);

    if (!rc && d->arch.store == STORE_READY)
        let_all_rest(d);
    return rc;
}

void pt_mirror_step(struct domain *d)
{
    int rc;

    if (likely(read_once(d->arch.for_good) != FOR_GOOD_WANTED))
        return;
    pt_lock(d);
    /* A guest may have changed its format since it wanted that; it does so under this lock. */
    if (d->arch.for_good == FOR_GOOD_WANTED && d->arch.fmt->pte_bytes == 8) {
        rc = step(d);
        if (rc && rc != -RESTART)
            deny(d);
    }
    pt_unlock(d);
}
