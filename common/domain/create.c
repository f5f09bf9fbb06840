/*
 * Making and unmaking domains. A domain consists of parts, made in the order of the table below and
 * unmade in the opposite one, whether it lived or its creation failed half-way.
 */
#include <asm/dirty.h>
#include <public/domctl.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/gnttab.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/rangeset.h>
#include <pvisor/trace.h>
#include "internal.h"

/* Of a domain that is made without a word of them. */
#define FRAMES_MAX 65536u
static u32 default_grant_frames = 64, default_maptrack_frames = 1024;

static int parse_frames(const char *value, u32 *frames)
{
    u32 n;

    if (cmdline_uint(value, &n) || !n || n > FRAMES_MAX)
        return -EINVAL;
    *frames = n;
    return 0;
}
static int parse_grant_frames(const char *value) { return parse_frames(value, &default_grant_frames); }
CMDLINE_OPTION("gnttab_max_frames", parse_grant_frames);
static int parse_maptrack_frames(const char *value) { return parse_frames(value, &default_maptrack_frames); }
CMDLINE_OPTION("gnttab_max_maptrack_frames", parse_maptrack_frames);

/* First: the toolstack may have named a pool that there is not. */
static int pool_init(struct domain *d)
{
    int rc = sched_init_domain(d, d->cpupool);

    if (!rc)
        trace(TRC_SCHED_DOM_ADD, d->id);
    return rc;
}

static void pool_fini(struct domain *d)
{
    trace(TRC_SCHED_DOM_REM, d->id);
    sched_destroy_domain(d);
}

static int tables_init(struct domain *d)
{
    u64 chunks = (max_ram_mfn().v >> 9) + 1;

    d->regions = xzalloc_array(u64, DIV_ROUND_UP(chunks, 64));
    return d->regions ? 0 : -ENOMEM;
}

static void tables_fini(struct domain *d)
{
    xfree(d->regions);
    d->regions = NULL;
}

static int shared_info_init(struct domain *d)
{
    d->shared_info_mfn = domain_alloc_shared_frame(d);
    if (mfn_eq(d->shared_info_mfn, INVALID_MFN))
        return -ENOMEM;
    d->shared_info = map_frame(d->shared_info_mfn);
    return 0;
}

static void shared_info_fini(struct domain *d)
{
    unmap_frame(d->shared_info);
    d->shared_info = NULL;
    if (!domain_release_frame(d, d->shared_info_mfn))
        BUG();
}

static void rights_fini(struct domain *d)
{
    rangeset_free(d->iomem);
    rangeset_free(d->ioports);
    rangeset_free(d->irqs);
    d->iomem = d->ioports = d->irqs = NULL;
}

static int rights_init(struct domain *d)
{
    d->iomem = rangeset_new();
    d->ioports = rangeset_new();
    d->irqs = rangeset_new();
    if (d->iomem && d->ioports && d->irqs)
        return 0;
    rights_fini(d);
    return -ENOMEM;
}

static int events_init(struct domain *d) { return evtchn_domain_init(d, d->max_evtchn_port); }

static void events_fini(struct domain *d)
{
    while (evtchn_domain_destroy(d))
        ;
    evtchn_domain_free(d);
}

static int grants_init(struct domain *d)
{
    return gnttab_domain_init(d, d->max_grant_frames, d->max_maptrack_frames);
}

static int vcpus_init(struct domain *d)
{
    domain_watchdogs_init(d);
    d->vcpu = xzalloc_array(struct vcpu *, d->max_vcpus);
    return d->vcpu ? 0 : -ENOMEM;
}

static void vcpus_fini(struct domain *d)
{
    vcpus_destroy(d);
    domain_watchdogs_kill(d);
    xfree(d->vcpu);
    d->max_vcpus = 0;
    d->vcpu = NULL;
}

static const struct part {
    const char *name;
    int (*init)(struct domain *d);
    void (*fini)(struct domain *d);
} parts[] = {
    { "place to run",     pool_init,              pool_fini },
    { "console",          console_domain_init,    console_domain_end },
    { "region map",       tables_init,            tables_fini },
    { "shared info",      shared_info_init,       shared_info_fini },
    { "machine part",     arch_domain_create,     arch_domain_destroy },
    { "access rights",    rights_init,            rights_fini },
    { "CPU policy",       cpu_policy_domain_init, cpu_policy_domain_free },
    { "event channels",   events_init,            events_fini },
    { "grant table",      grants_init,            gnttab_domain_destroy },
    { "interrupts",       pirq_domain_init,       pirq_domain_destroy },
    { "vCPU table",       vcpus_init,             vcpus_fini },
};

static int make_parts(struct domain *d)
{
    for (; d->parts_ready < ARRAY_SIZE(parts); d->parts_ready++) {
        int rc = parts[d->parts_ready].init(d);
        if (rc)
            return refuse(rc, "cannot make the %s of d%u: error %d", parts[d->parts_ready].name, d->id, -rc);
    }
    return 0;
}

static void unmake_parts(struct domain *d)
{
    while (d->parts_ready)
        parts[--d->parts_ready].fini(d);
}

/*
 * The tasklet. The first run with no references left unmakes the parts, the last one, when no frame is left
 * either, the structure. Runs that come too early do nothing: whoever holds the reference brings another.
 */
void domain_destroy(void *data)
{
    struct domain *d = data;
    bool had_life = d->dying == DOMAIN_DEAD;
    u16 domid = d->id;
    u64 frames;

    if (!domain_hide(d))
        return;
    unmake_parts(d);
    spin_lock(&d->page_lock);
    frames = d->tot_pages + d->shared_frames;
    spin_unlock(&d->page_lock);
    if (frames || !domain_unpublish(d))
        return;
    dirty_log_free(d);
    xfree(d);
    if (had_life)
        domain_changed(domid);
}

static u32 or_default(s32 v, u32 def) { return v < 0 ? def : (u32)v; }

static struct domain *new_domain(u16 id, const struct domain_config *cfg, bool control)
{
    static u64 nr_made;
    struct domain *d = xzalloc(struct domain);

    if (!d)
        return NULL;
    d->id = id;
    d->unique_id = __atomic_add_fetch(&nr_made, 1, __ATOMIC_RELAXED);
    d->refs = 1;
    d->hidden = true;
    d->is_control = d->is_hardware = control;
    d->shutdown_code = 0xff;
    d->pause_count = d->controller_pause_count = 1;
    d->shared_info_mfn = INVALID_MFN;
    d->max_vcpus = cfg->max_vcpus;
    d->max_evtchn_port = cfg->max_evtchn_port;
    d->max_grant_frames = or_default(cfg->max_grant_frames, default_grant_frames);
    d->max_maptrack_frames = or_default(cfg->max_maptrack_frames, default_maptrack_frames);
    d->grant_max_version = cfg->grant_opts & XEN_DOMCTL_GRANT_version_mask;
    d->ssidref = cfg->ssidref;
    d->createflags = cfg->flags;
    d->cpupool = cfg->cpupool;
    d->node_affinity = 1;
    memcpy(d->handle, cfg->handle, sizeof(d->handle));
    spin_lock_init(&d->lock, RANK_DOMAIN);
    spin_lock_init(&d->page_lock, RANK_PAGES);
    list_init(&d->node);
    d->destroy = (struct tasklet){ .fn = domain_destroy, .data = d };
    return d;
}

struct domain *domain_create(u16 domid, const struct domain_config *cfg, bool control, int *err)
{
    struct domain *d;

    *err = -EINVAL;
    if (!cfg->max_vcpus || cfg->max_vcpus > MAX_VCPUS)
        return refuse(NULL, "%u vCPUs wanted, possible are 1 to %u", cfg->max_vcpus, MAX_VCPUS);
    if (domid == DOMID_ANY && (domid = domain_free_id()) == DOMID_INVALID)
        return refuse(NULL, "no domain number is free");
    if (domid >= DOMID_FIRST_RESERVED)
        return refuse(NULL, "%#x is no domain's number, expected one below %#x, or %#x: any", domid, DOMID_FIRST_RESERVED, DOMID_ANY);
    *err = -ENOMEM;
    d = new_domain(domid, cfg, control);
    if (!d)
        return refuse(NULL, "no memory for a domain");
    if (!domain_publish(d)) {
        xfree(d);
        *err = -EEXIST;
        return refuse(NULL, "domain %u exists already", domid);
    }
    *err = make_parts(d);
    if (*err) {
        domain_put(d);
        return NULL;
    }
    if (control)
        dom0 = d;
    domain_show(d);
    domain_mark_changed(domid);
    return d;
}
