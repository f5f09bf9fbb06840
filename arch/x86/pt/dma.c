/* Which frames devices reach: asm/dma.h says. */
#include <asm/dma.h>
#include <asm/frame_ref.h>
#include <asm/mm.h>
#include <asm/smp.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/preempt.h>

/*
 * Exact spaces, by number. Written under the control lock, and looked for without: whoever finds one asks again under the spaces' lock
 * (may_reach()), so that one which has become another's meanwhile is right for that.
 */
static struct exact {
    u16 domid;              /* DOMID_INVALID: nobody's, or not exact */
    bool ending;            /* nothing is to be reached any more */
    u64 done;               /* frames below it have been looked at, or, ending, are gone; what changes since then the hooks see to */
} exact[IOMMU_SPACES] = { [0 ... IOMMU_SPACES - 1] = { .domid = DOMID_INVALID } };
bool dma_exact;

static bool is_writable_of(u16 domid, u64 m)
{
    u32 w = read_once(frame_types[m]);

    return frame_ref_owner(read_once(frame_refs[m])) == domid && fw_type(w) == FT_WRITABLE && w & FW_VALID;
}

static bool is_ours(u64 m)
{
    u16 owner = frame_ref_owner(read_once(frame_refs[m]));

    return owner == DOMID_XEN || owner == DOMID_IO;
}

/* Nobody's have no frames of type writable, so nothing is reached in a space that is not there. */
static bool may_reach(unsigned space, u64 frame)
{
    u16 domid = read_once(exact[space].domid);

    if (domid == DOMID_INVALID)
        return space == SPACE_DOM0 && !is_ours(frame);
    return !read_once(exact[space].ending) && is_writable_of(domid, frame);
}

bool dma_is_exact(unsigned space) { return read_once(exact[space].domid) != DOMID_INVALID; }

bool dma_is_right(unsigned space, u64 frame)
{
    bool reaches = iommu_reaches(space, frame);

    return reaches == may_reach(space, frame) || (reaches == exact[space].ending && frame >= exact[space].done);
}

/* Its number; -1: it has none. */
static int exact_of(u16 domid)
{
    for (unsigned n = 0; n < IOMMU_SPACES; n++)
        if (read_once(exact[n].domid) == domid)
            return (int)n;
    return -1;
}

/* --- Boot --- */

static bool open_run(u64 first, u64 end) { return first == end || !iommu_set(SPACE_DOM0, first, end, true); }

static bool open_dom0(void)
{
    u64 first = 0;

    for (u64 m = 0; m < nr_frames; m++) {
        if (may_reach(SPACE_DOM0, m))
            continue;
        if (!open_run(first, m))
            return false;
        first = m + 1;
    }
    return open_run(first, nr_frames);
}

void dma_start(bool (*may_write)(u64 first, u64 last))
{
    if (!iommu_wanted())
        return;
    if (iommu_strict())
        exact[SPACE_DOM0] = (struct exact){ .domid = dom0->id, .done = nr_frames };
    if (open_dom0())
        iommu_start(may_write);
    else
        printk(LOG_WARNING "IOMMU: no memory for its tables: it is not used, devices reach all memory\n");
    dma_exact = iommu_on && iommu_strict();
}

/* --- Domains that get devices --- */

static void nothing(void *data) { (void)data; }

static int make_space(u16 domid)
{
    unsigned n = SPACE_FIRST_DOMU, nr = iommu_nr_spaces();
    int rc;

    while (n < nr && dma_is_exact(n))
        n++;
    if (n >= nr)
        return refuse(-ENOSPC, "%u domains have devices, which is as many as the IOMMU can tell apart", n - SPACE_FIRST_DOMU);
    rc = iommu_space_make(n);
    if (rc)
        return rc;
    exact[n].done = 0;
    write_once(exact[n].domid, domid);
    write_once(dma_exact, true);
    /* Each CPU has been here: a word that it changes from now on it changes with the space in sight; earlier changes are seen below. */
    smp_call(&cpu_online_map, nothing, NULL);
    return (int)n;
}

#define REGION 512u     /* frames: domain_has_region() */

static int open_region(const struct domain *d, unsigned n)
{
    u64 first = exact[n].done, end = min(first + REGION, nr_frames);
    int rc = 0;

    for (u64 m = first; !rc && domain_has_region(d, first) && m < end; m++)
        if (is_writable_of(d->id, m))
            rc = iommu_follow(n, m, may_reach);
    if (!rc)
        exact[n].done = end;
    return rc;
}

static int open_more(const struct domain *d, unsigned n)
{
    while (exact[n].done < nr_frames) {
        int rc = open_region(d, n);

        if (rc)
            return rc;
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    }
    return 0;
}

int dma_space(const struct domain *d)
{
    int n = exact_of(d->id), rc;

    if (d->is_hardware)
        return SPACE_DOM0;
    if (n < 0)
        n = make_space(d->id);
    if (n < 0)
        return n;
    rc = open_more(d, (unsigned)n);
    return rc ? rc : n;
}

static bool any_exact(void)
{
    for (unsigned n = 0; n < IOMMU_SPACES; n++)
        if (dma_is_exact(n))
            return true;
    return false;
}

int dma_space_drop(const struct domain *d)
{
    int n = d->is_hardware ? -1 : exact_of(d->id);
    struct exact *e = &exact[max(n, 0)];

    if (n < 0)
        return 0;
    if (!e->ending)
        e->done = 0;
    write_once(e->ending, true);
    while (!iommu_space_end((unsigned)n, &e->done))
        if (preempt_needed())
            return -ERESTART_HYPERCALL;
    write_once(e->domid, DOMID_INVALID);
    write_once(e->ending, false);
    write_once(dma_exact, any_exact());
    return 0;
}

/* --- Frames that change --- */

/* A guest can have it happen again and again. */
static void failed(int rc, u64 frame)
{
    if (rc)
        guest_log(LOG_ERR "No memory for the IOMMU's tables: devices cannot reach frame %#lx\n", frame);
}

/* Tables of single frames can take one away without memory; so what fails is an addition. */
static void follow(u16 domid, u64 frame)
{
    int n = exact_of(domid);

    if (n >= 0)
        failed(iommu_follow((unsigned)n, frame, may_reach), frame);
}

void dma_frame_changed(u64 frame) { follow(frame_ref_owner(read_once(frame_refs[frame])), frame); }

/* It is no domain's now: whoever's the space has become meanwhile, it is right that nothing reaches the frame. */
u64 dma_frame_freed(const struct domain *d, u64 frame)
{
    int n = exact_of(d->id);

    return n >= 0 && iommu_forget((unsigned)n, frame) ? 1UL << n : 0;
}

/* Of those that are not shared nobody can say yet what type they have: who gives them one says so. */
void dma_frames_given(const struct domain *d, u64 first, u64 end, bool shared)
{
    if (!dma_is_exact(SPACE_DOM0))
        failed(iommu_set(SPACE_DOM0, first, end, true), first);
    for (u64 m = first; shared && dma_exact && m < end; m++)
        follow(d->id, m);
}
