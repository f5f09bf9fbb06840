#include "xen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/version.h>
#include <xencall.h>
#include <xenforeignmemory.h>

#include "read.h"
#include "talk.h"
#include <public/pvisor.h>

static xencall_handle *calls;
static xenforeignmemory_handle *memory;
static uint32_t domid;
static struct xen_domctl *shared_op;
static void *shared_list;           /* MAX_BATCH words, or as many of what is smaller */

bool xen_open(uint32_t domain)
{
    domid = domain;
    calls = xencall_open(NULL, 0);
    memory = calls ? xenforeignmemory_open(NULL, 0) : NULL;
    if (!memory)
        return false;
    shared_op = xencall_alloc_buffer(calls, sizeof(*shared_op));
    shared_list = xencall_alloc_buffer(calls, MAX_BATCH * sizeof(uint64_t));
    return shared_op && shared_list;
}

int xen_version(void) { return xencall2(calls, __HYPERVISOR_xen_version, XENVER_version, 0); }

void *xen_buffer(size_t size)
{
    void *p = xencall_alloc_buffer(calls, size);

    if (!p)
        fail(ENOMEM, "no memory for %zu bytes that the hypervisor is to read or write", size);
    memset(p, 0, size);
    return p;
}

static int control(struct xen_domctl *op, uint32_t cmd)
{
    int rc;

    op->cmd = cmd;
    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op->domain = (domid_t)domid;
    *shared_op = *op;
    rc = xencall1(calls, __HYPERVISOR_domctl, (uintptr_t)shared_op);
    *op = *shared_op;
    return rc;
}

void xen_control(struct xen_domctl *op, uint32_t cmd, const char *what)
{
    if (control(op, cmd))
        fail(errno, "domain %u: the hypervisor refuses to %s", domid, what);
}

struct xen_domctl_getdomaininfo xen_domain_info(void)
{
    struct xen_domctl op = { 0 };

    xen_control(&op, XEN_DOMCTL_getdomaininfo, "describe the domain");
    if (op.u.getdomaininfo.domain != domid)     /* up to 4.18 the next is described if there is none */
        fail(ESRCH, "domain %u is not there", domid);
    return op.u.getdomaininfo;
}

/* Another hypervisor takes this for a number of frames that is too large. A 64-bit domain is not even asked for. */
bool xen_is_non_pae(void)
{
    struct xen_domctl op = { 0 };

    if (control(&op, XEN_DOMCTL_get_address_size) || op.u.address_size.size != 32)
        return false;
    op = (struct xen_domctl){ .u.getpageframeinfo3.num = PVISOR_PFINFO_NONPAE };
    set_xen_guest_handle(op.u.getpageframeinfo3.array, shared_list);
    return control(&op, XEN_DOMCTL_getpageframeinfo3) == 0;
}

void xen_kinds(const uint32_t *frames, uint32_t *kinds, unsigned nr)
{
    struct xen_domctl op = { .u.getpageframeinfo3.num = nr | PVISOR_PFINFO_NONPAE };
    uint64_t *list = shared_list;

    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i] == NO_FRAME ? ~0ULL : frames[i];
    set_xen_guest_handle(op.u.getpageframeinfo3.array, shared_list);
    xen_control(&op, XEN_DOMCTL_getpageframeinfo3, "say what its frames are");
    for (unsigned i = 0; i < nr; i++)
        kinds[i] = (uint32_t)list[i];
}

/* errors: one for each frame, or NULL, and none may be missing. */
static void *map(const uint32_t *frames, unsigned nr, int prot, int *errors, const char *what)
{
    xen_pfn_t *list = malloc(nr * sizeof(*list));
    void *p;

    if (!list)
        fail(ENOMEM, "no memory for %u frames' numbers", nr);
    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    p = xenforeignmemory_map(memory, domid, prot, nr, list, errors);
    if (!p)
        fail(errno, "cannot map %u frames of domain %u, the first of them %#x: %s", nr, domid, frames[0], what);
    free(list);
    return p;
}

void *xen_map(const uint32_t *frames, unsigned nr, int prot, const char *what) { return map(frames, nr, prot, NULL, what); }

void *xen_map_there(const uint32_t *frames, unsigned nr, bool *there, const char *what)
{
    int *errors = calloc(nr, sizeof(*errors));
    void *p;

    if (!errors)
        fail(ENOMEM, "no memory for %u frames' errors", nr);
    p = map(frames, nr, PROT_READ, errors, what);
    for (unsigned i = 0; i < nr; i++)
        there[i] = !errors[i];
    free(errors);
    return p;
}

void xen_unmap(void *pages, unsigned nr)
{
    if (xenforeignmemory_unmap(memory, pages, nr))
        fail(errno, "cannot unmap %u frames of domain %u", nr, domid);
}

static int log_control(struct xen_domctl *op, uint32_t what)
{
    op->u.shadow_op.op = what;
    return control(op, XEN_DOMCTL_shadow_op);
}

void xen_begin_log(void)
{
    struct xen_domctl op = { 0 };

    if (!log_control(&op, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY))
        return;
    if (errno == EBUSY) {
        xen_end_log();
        op = (struct xen_domctl){ 0 };
        if (!log_control(&op, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY))
            return;
    }
    fail(errno, "domain %u: the hypervisor refuses to log what is written to its memory (xl dmesg says why)", domid);
}

void xen_take_log(uint64_t *bits, uint32_t nr, bool is_last)
{
    struct xen_domctl op = { .u.shadow_op = { .mode = is_last ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0, .pages = nr } };

    set_xen_guest_handle(op.u.shadow_op.dirty_bitmap, (uint8_t *)bits);
    if (log_control(&op, XEN_DOMCTL_SHADOW_OP_CLEAN))
        fail(errno, "domain %u: the hypervisor refuses to say what was written to its memory (xl dmesg says why)", domid);
}

void xen_end_log(void)
{
    struct xen_domctl op = { 0 };

    (void)log_control(&op, XEN_DOMCTL_SHADOW_OP_OFF);
}

void xen_become_non_pae(void)
{
    struct xen_domctl op = { .u.address_size.size = PVISOR_ADDRESS_SIZE_NONPAE };

    if (control(&op, XEN_DOMCTL_set_address_size))
        fail(errno, "domain %u cannot become a 32-bit non-PAE one; is the hypervisor pvisor?", domid);
}

unsigned xen_try_populate(uint64_t *frames, unsigned nr, unsigned order)
{
    struct xen_memory_reservation *r = xen_buffer(sizeof(*r));
    uint64_t *list = xen_buffer(nr * sizeof(*list));
    long done;

    memcpy(list, frames, nr * sizeof(*list));
    *r = (struct xen_memory_reservation){ .nr_extents = nr, .extent_order = order, .domid = (domid_t)domid };
    set_xen_guest_handle(r->extent_start, list);
    done = xencall2L(calls, __HYPERVISOR_memory_op, XENMEM_populate_physmap, (uintptr_t)r);
    memcpy(frames, list, nr * sizeof(*list));
    xencall_free_buffer(calls, list);
    xencall_free_buffer(calls, r);
    return done < 0 ? 0 : (unsigned)done;
}

void xen_give_up(const uint32_t *frames, unsigned nr)
{
    struct xen_memory_reservation *r = xen_buffer(sizeof(*r));
    xen_pfn_t *list = xen_buffer(nr * sizeof(*list));
    long done;

    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    *r = (struct xen_memory_reservation){ .nr_extents = nr, .domid = (domid_t)domid };
    set_xen_guest_handle(r->extent_start, list);
    done = xencall2L(calls, __HYPERVISOR_memory_op, XENMEM_decrease_reservation, (uintptr_t)r);
    if (done != (long)nr)
        fail(done < 0 ? errno : EINVAL, "domain %u cannot give up %u frames, the first of them %#x", domid, nr, frames[0]);
    xencall_free_buffer(calls, list);
    xencall_free_buffer(calls, r);
}

void xen_populate(uint32_t *frames, unsigned nr)
{
    uint64_t list[MAX_BATCH];
    unsigned done;

    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    done = xen_try_populate(list, nr, 0);
    if (done != nr)
        fail(ENOMEM, "the hypervisor gives domain %u only %u of %u frames; they must lie below 4 GiB", domid, done, nr);
    for (unsigned i = 0; i < nr; i++) {
        if (list[i] >= MAX_FRAMES)
            fail(ERANGE, "domain %u has got frame %#llx, which lies above 4 GiB", domid, (unsigned long long)list[i]);
        frames[i] = (uint32_t)list[i];
    }
}

void xen_pin(const uint32_t *frames, const uint32_t *kinds, unsigned nr)
{
    struct mmuext_op *list = xen_buffer(nr * sizeof(*list));

    for (unsigned i = 0; i < nr; i++) {
        list[i].cmd = MMUEXT_PIN_L1_TABLE + table_level(kinds[i]) - 1;
        list[i].arg1.mfn = frames[i];
    }
    if (xencall4(calls, __HYPERVISOR_mmuext_op, (uintptr_t)list, nr, 0, domid) < 0)
        fail(errno, "the hypervisor refuses to pin some of %u page tables of domain %u", nr, domid);
    xencall_free_buffer(calls, list);
}

#define GRANTS_OF_PAGE (PAGE / sizeof(grant_entry_v1_t))

struct grants {
    xenforeignmemory_resource_handle *resource;
    grant_entry_v1_t *entry;
};

/* The domain's grant table, which has nr entries at least by then. */
static struct grants map_grants(unsigned nr)
{
    void *at = NULL;
    struct grants g = {
        .resource = xenforeignmemory_map_resource(memory, (domid_t)domid, XENMEM_resource_grant_table,
                                                  XENMEM_resource_grant_table_id_shared, 0, (nr + GRANTS_OF_PAGE - 1) / GRANTS_OF_PAGE,
                                                  &at, PROT_READ | PROT_WRITE, 0),
    };

    if (!g.resource)
        fail(errno, "cannot map the grant table of domain %u, with %u entries", domid, nr);
    g.entry = at;
    return g;
}

static void unmap_grants(const struct grants *g) { xenforeignmemory_unmap_resource(memory, g->resource); }

void xen_grant(unsigned entry, uint16_t to, uint32_t frame)
{
    struct grants g = map_grants(entry + 1);

    g.entry[entry] = (grant_entry_v1_t){ .flags = GTF_permit_access, .domid = to, .frame = frame };
    unmap_grants(&g);
}

void xen_grant_to_read(unsigned entry, const uint32_t *frames, unsigned nr)
{
    struct grants g = map_grants(entry + nr);

    for (unsigned i = 0; i < nr; i++)
        g.entry[entry + i] = (grant_entry_v1_t){ .flags = GTF_permit_access | GTF_readonly, .frame = frames[i] };
    unmap_grants(&g);
}

#define COPIES (GRANTS_OF_PAGE - FREE_GRANT)    /* at once: the domain's entries of one page are used again and again */

static void copy_some(struct gnttab_copy *list, grant_entry_v1_t *ours, uint16_t from, unsigned entry, const uint32_t *frames, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        ours[i] = (grant_entry_v1_t){ .flags = GTF_permit_access, .frame = frames[i] };
        list[i] = (struct gnttab_copy){
            .source = { .u.ref = entry + i, .domid = from }, .dest = { .u.ref = FREE_GRANT + i, .domid = (domid_t)domid }, .len = PAGE,
            .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref,
        };
    }
    if (xencall3(calls, __HYPERVISOR_grant_table_op, GNTTABOP_copy, (uintptr_t)list, nr))
        fail(errno, "the hypervisor refuses to copy %u frames of domain %u", nr, from);
    for (unsigned i = 0; i < nr; i++)
        if (list[i].status != GNTST_okay)
            fail(EIO, "frame %u that domain %u keeps cannot be copied (%d)", entry + i, from, list[i].status);
}

void xen_copy_granted(uint16_t from, unsigned entry, const uint32_t *frames, unsigned nr)
{
    struct gnttab_copy *list = xen_buffer(COPIES * sizeof(*list));
    struct grants g = map_grants(1);

    for (unsigned at = 0; at < nr; at += COPIES)
        copy_some(list, g.entry + FREE_GRANT, from, entry + at, frames + at, nr - at < COPIES ? nr - at : COPIES);
    memset(g.entry + FREE_GRANT, 0, COPIES * sizeof(*g.entry));
    unmap_grants(&g);
    xencall_free_buffer(calls, list);
}

uint32_t xen_create(const struct xen_domctl_createdomain *config)
{
    struct xen_domctl op = { .u.createdomain = *config };

    if (control(&op, XEN_DOMCTL_createdomain))
        fail(errno, "the hypervisor makes no domain (xl dmesg says why%s)",
             config->max_grant_frames < 0 ? "" : "; under Xen gnttab_max_frames= is the most that a grant table may have");
    domid = op.domain;
    return domid;
}

uint32_t xen_new_port(uint16_t remote)
{
    struct evtchn_alloc_unbound *op = xen_buffer(sizeof(*op));
    uint32_t port;

    *op = (struct evtchn_alloc_unbound){ .dom = (domid_t)domid, .remote_dom = remote };
    if (xencall2(calls, __HYPERVISOR_event_channel_op, EVTCHNOP_alloc_unbound, (uintptr_t)op))
        fail(errno, "domain %u gets no event channel", domid);
    port = op->port;
    xencall_free_buffer(calls, op);
    return port;
}

void xen_destroy(void)
{
    struct xen_domctl op = { 0 };

    while (control(&op, XEN_DOMCTL_destroydomain) && errno == EAGAIN)
        ;
}

int xen_shutdown_reason(void)
{
    struct xen_domctl op = { 0 };
    const struct xen_domctl_getdomaininfo *info = &op.u.getdomaininfo;

    if (control(&op, XEN_DOMCTL_getdomaininfo) || info->domain != domid || info->flags & XEN_DOMINF_dying)
        return IS_GONE;
    return info->flags & XEN_DOMINF_shutdown ? (int)(info->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) : RUNS_ON;
}
