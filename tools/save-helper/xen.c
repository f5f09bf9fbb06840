#include "xen.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/version.h>
#include <xencall.h>
#include <xenforeignmemory.h>

#include "stream.h"
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

void *xen_map(const uint32_t *frames, unsigned nr, int prot, const char *what)
{
    xen_pfn_t list[MAX_BATCH];
    void *p;

    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    p = xenforeignmemory_map(memory, domid, prot, nr, list, NULL);
    if (!p)
        fail(errno, "cannot map %u frames of domain %u, the first of them %#x: %s", nr, domid, frames[0], what);
    return p;
}

void xen_unmap(void *pages, unsigned nr)
{
    if (xenforeignmemory_unmap(memory, pages, nr))
        fail(errno, "cannot unmap %u frames of domain %u", nr, domid);
}

void xen_become_non_pae(void)
{
    struct xen_domctl op = { .u.address_size.size = PVISOR_ADDRESS_SIZE_NONPAE };

    if (control(&op, XEN_DOMCTL_set_address_size))
        fail(errno, "domain %u cannot become a 32-bit non-PAE one; is the hypervisor pvisor?", domid);
}

void xen_populate(uint32_t *frames, unsigned nr)
{
    struct xen_memory_reservation *r = xencall_alloc_buffer(calls, sizeof(*r));
    uint64_t *list = shared_list;
    long done;

    if (!r)
        fail(ENOMEM, "no memory for a call to the hypervisor");
    for (unsigned i = 0; i < nr; i++)
        list[i] = frames[i];
    *r = (struct xen_memory_reservation){ .nr_extents = nr, .domid = (domid_t)domid };
    set_xen_guest_handle(r->extent_start, shared_list);
    done = xencall2L(calls, __HYPERVISOR_memory_op, XENMEM_populate_physmap, (uintptr_t)r);
    xencall_free_buffer(calls, r);
    if (done != (long)nr)
        fail(done < 0 ? errno : ENOMEM, "the hypervisor gives domain %u only %ld of %u frames; they must lie below 4 GiB", domid,
             done < 0 ? 0 : done, nr);
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
        list[i].cmd = kinds[i] == XEN_DOMCTL_PFINFO_L1TAB ? MMUEXT_PIN_L1_TABLE : MMUEXT_PIN_L2_TABLE;
        list[i].arg1.mfn = frames[i];
    }
    if (xencall4(calls, __HYPERVISOR_mmuext_op, (uintptr_t)list, nr, 0, domid) < 0)
        fail(errno, "the hypervisor refuses to pin some of %u page tables of domain %u", nr, domid);
    xencall_free_buffer(calls, list);
}

void xen_grant(unsigned entry, uint16_t to, uint32_t frame)
{
    void *at = NULL;
    xenforeignmemory_resource_handle *resource;
    grant_entry_v1_t *table;

    resource = xenforeignmemory_map_resource(memory, (domid_t)domid, XENMEM_resource_grant_table, XENMEM_resource_grant_table_id_shared,
                                             0, 1, &at, PROT_READ | PROT_WRITE, 0);
    if (!resource)
        fail(errno, "cannot map the grant table of domain %u", domid);
    table = at;
    table[entry] = (grant_entry_v1_t){ .flags = GTF_permit_access, .domid = to, .frame = frame };
    xenforeignmemory_unmap_resource(memory, resource);
}
