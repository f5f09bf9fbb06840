/* Domains that dom0 makes by control calls, with little in them and nonsense to run. Never ourselves, whom some of these would stop. */
#include "fuzz.h"
#include "string.h"
#include "test.h"
#include <public/domctl.h>
#include <public/pvisor.h>

long fuzz_domctl(struct xen_domctl *op)
{
    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    return HYPERCALL(__HYPERVISOR_domctl, P(op));
}

static struct xen_domctl_createdomain some_creation(struct fuzz *z)
{
    return (struct xen_domctl_createdomain){ .max_vcpus = 1 + below(z, 3), .max_evtchn_port = below(z, 2000),
        .max_grant_frames = (s32)below(z, 70) - 1, .max_maptrack_frames = (s32)below(z, 8) - 1, .grant_opts = 1 + below(z, 2) };
}

static u8 context[MAX_FUZZERS][6000] __attribute__((aligned(16)));

/* A 64-bit domain's context, wherever we are: vcpu_guest_context there. */
#define CONTEXT_64_FLAGS 512
#define CONTEXT_64_CR3   5008
#ifdef FORMAT_PT64
_Static_assert(offsetof(vcpu_guest_context, flags) == CONTEXT_64_FLAGS && offsetof(vcpu_guest_context, ctrlreg[3]) == CONTEXT_64_CR3);
#endif

/* What may be run at any time, and faults at once: its root is an empty page. Refused for a 32-bit domain, which has no such roots. */
static void other_begin(struct fuzz *z, domid_t domain, word root)
{
    struct xen_domctl *op = (void *)z->buffer;
    u8 *at = context[z->who];

    memset(at, 0, sizeof(context[0]));
    *(u64 *)(at + CONTEXT_64_FLAGS) = VGCF_in_kernel | VGCF_online;
    *(u64 *)(at + CONTEXT_64_CR3) = (u64)root << 12;
    memset(op, 0, sizeof(*op));
    op->cmd = XEN_DOMCTL_setvcpucontext;
    op->domain = domain;
    op->u.vcpucontext.ctxt = P(at);
    (void)fuzz_domctl(op);
}

static void other_feed(struct fuzz *z, domid_t domain)
{
    word pfn[16];
    GUEST(xen_memory_reservation) r = { .extent_start = P(pfn), .nr_extents = 16, .domid = domain };

    for (unsigned i = 0; i < 16; i++)
        pfn[i] = i;
    if (memory_op(XENMEM_populate_physmap, &r) == 16 && once_in(z, 2))
        other_begin(z, domain, pfn[0]);
    for (unsigned i = 0; i < 16; i++)
        model.loose[below(z, NR_LOOSE)] = harmless_frame(z, pfn[i]);
}

void other_make(struct fuzz *z, unsigned n)
{
    struct xen_domctl *op = (void *)z->buffer;
    u32 vcpus;

    memset(op, 0, sizeof(*op));
    op->cmd = XEN_DOMCTL_createdomain;
    op->domain = DOMID_ANY;
    op->u.createdomain = some_creation(z);
    vcpus = op->u.createdomain.max_vcpus;
    if (fuzz_domctl(op))
        return;
    model.other[n] = op->domain;
    memset(&op->u, 0, sizeof(op->u));
    op->cmd = XEN_DOMCTL_max_mem;
    op->u.max_mem.max_memkb = 4 * (8 + below(z, 64));
    (void)fuzz_domctl(op);
    if (once_in(z, 2)) {
        op->cmd = XEN_DOMCTL_set_address_size;
        op->u.address_size.size = once_in(z, 2) ? 32 : PVISOR_ADDRESS_SIZE_NONPAE;
        (void)fuzz_domctl(op);
    }
    op->cmd = XEN_DOMCTL_max_vcpus;
    op->u.max_vcpus.max = vcpus;
    (void)fuzz_domctl(op);
    other_feed(z, op->domain);
}

/* It may be gone already: the random calls have destroyed it. */
void other_end(struct fuzz *z, unsigned n)
{
    struct xen_domctl *op = (void *)z->buffer;
    long rc;

    if (model.other[n] == DOMID_INVALID)
        return;
    memset(op, 0, sizeof(*op));
    op->cmd = XEN_DOMCTL_destroydomain;
    op->domain = model.other[n];
    rc = fuzz_domctl(op);
    CHECK(rc == 0 || rc == -ESRCH);
    model.other[n] = DOMID_INVALID;
}

static u64 fill_context(struct fuzz *z)
{
    u64 *at = (u64 *)context[z->who];

    for (unsigned i = 0; i < sizeof(context[0]) / 8; i++)
        at[i] = once_in(z, 3) ? some_value(z) : 0;
    for (unsigned i = 0; i < 8; i++)
        at[below(z, sizeof(context[0]) / 8)] = (u64)model.loose[below(z, NR_LOOSE)] << 12;
    return P(at);
}

void other_set_context(struct fuzz *z, struct xen_domctl *op)
{
    op->cmd = XEN_DOMCTL_setvcpucontext;
    op->u.vcpucontext.vcpu = below(z, 3);
    op->u.vcpucontext.ctxt = once_in(z, 8) ? 0 : fill_context(z);
}

void make_context(struct fuzz *z, struct call *c) { other_set_context(z, (void *)c->buffer); }

/* A context has no room in a page with other arguments. */
void make_got_context(struct fuzz *z, struct call *c)
{
    ((struct xen_domctl *)c->buffer)->u.vcpucontext.ctxt = once_in(z, 20) ? format.hv_start : P(context[z->who]);
}

/* Mostly what the domain has, as the hypervisor says, with a bit or none changed. */
void make_policy(struct fuzz *z, struct call *c)
{
    static struct { struct xen_cpuid_leaf leaf[200]; struct xen_msr_entry msr[8]; } room[MAX_FUZZERS];
    struct xen_domctl *op = (void *)c->buffer;
    u64 *words = (u64 *)&room[z->who];

    if (z->batched || once_in(z, 4))
        return;
    op->cmd = XEN_DOMCTL_get_cpu_policy;
    op->domain = some_other(z) ?: DOMID_INVALID;
    op->u.cpu_policy = (struct xen_domctl_cpu_policy){ .nr_leaves = ARRAY_SIZE(room[0].leaf), .leaves = P(room[z->who].leaf),
                                                      .nr_msrs = ARRAY_SIZE(room[0].msr), .msrs = P(room[z->who].msr) };
    if (fuzz_domctl(op))
        return;
    op->cmd = XEN_DOMCTL_set_cpu_policy;
    if (once_in(z, 2))
        words[below(z, op->u.cpu_policy.nr_leaves * sizeof(room[0].leaf[0]) / 8)] ^= 1ULL << below(z, 64);
}

unsigned other_place(void)
{
    for (unsigned n = 0; n < NR_OTHERS; n++)
        if (model.other[n] == DOMID_INVALID)
            return n;
    return NR_OTHERS;
}

void make_created(struct fuzz *z, struct call *c)
{
    struct xen_domctl *op = (void *)c->buffer;
    unsigned place = other_place();

    if (op->cmd != XEN_DOMCTL_createdomain) {       /* of ourselves it would change how much we may have and run */
        op->domain = some_other(z) ?: DOMID_INVALID;
        c->args[0] = P(op);
    } else if (place == NR_OTHERS) {
        op->u.createdomain = (struct xen_domctl_createdomain){ .max_vcpus = below(z, 2) ? 0 : 100000 };
        c->args[0] = P(op);
    } else if (once_in(z, 4)) {
        op->u.createdomain = some_creation(z);
        op->domain = 0;
        c->args[0] = P(op);
    } else {
        other_make(z, place);
        op->cmd = XEN_DOMCTL_getdomaininfo;
    }
}

void learn_created(struct fuzz *z, struct call *c, long rc)
{
    const struct xen_domctl *op = (const void *)c->buffer;
    unsigned place = other_place();

    (void)z;
    if (rc == 0 && op->cmd == XEN_DOMCTL_createdomain && place < NR_OTHERS)
        model.other[place] = op->domain;
}

void learn_destroyed(struct fuzz *z, struct call *c, long rc)
{
    (void)z;
    for (unsigned n = 0; rc == 0 && n < NR_OTHERS; n++)
        if (model.other[n] == ((const struct xen_domctl *)c->buffer)->domain)
            model.other[n] = DOMID_INVALID;
}
