/*
 * A non-PAE domain from the stream. The stream may be anything: each number in it is looked at before it is used. What it makes of the
 * domain the hypervisor looks at, as it does at all guests' doing.
 *
 * Pages of tables are written as they come, and made what they were when all frames are known; then tables are pinned, which makes them
 * tables, and nobody may write them any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "talk.h"

#include <xen/grant_table.h>

#define MISSING_CPUID 1u        /* as libxl is told of what the stream does not have */
#define MISSING_MSR   2u
#define MAX_VCPUS     128u      /* of any domain of pvisor's */
#define MAX_STATE     65536u    /* bytes of one kind of a vCPU's state: what is kept of it until the end has a bound */

struct blob {
    uint32_t size;
    void *bytes;
};

static struct guest guest;
static bool has_info, has_static_data;
static struct xen_domctl_getdomaininfo info;    /* once has_info */
static struct blob leaves, msrs, shared, list;      /* list: u64 each, the numbers of the frames that the list of frames lies in */
static struct { struct blob context, extended, xsave, msrs; } vcpu[MAX_VCPUS];
static uint32_t start_info;     /* the guest's number of it, and then of what start info names */

/* --- Checks --- */

static void want(bool ok, const char *what)
{
    if (!ok)
        fail(EINVAL, "the stream has %s in a wrong place, or twice", what);
}

static void want_size(const struct record *r, size_t size, const char *what)
{
    if (r->length != size)
        fail(EINVAL, "the stream has %s of %u bytes, expected %zu", what, r->length, size);
}

static void want_times(uint32_t size, size_t unit, const char *what)
{
    if (!size || size % unit)
        fail(EINVAL, "the stream has %s of %u bytes, expected a multiple of %zu", what, size, unit);
}

/* The frame of a page of data. */
static uint32_t data_frame(uint64_t pfn, const char *what)
{
    if (pfn >= guest.nr_pfns || guest.frame[pfn] == NO_FRAME)
        fail(ERANGE, "%s: %#llx is none of the guest's %u frames", what, (unsigned long long)pfn, guest.nr_pfns);
    if (guest.kind[pfn] != XEN_DOMCTL_PFINFO_NOTAB)
        fail(EINVAL, "%s: the guest's frame %#llx is of kind %#x, expected data", what, (unsigned long long)pfn, guest.kind[pfn]);
    return guest.frame[pfn];
}

/* --- Records --- */

static struct blob blob_from(const void *from, uint32_t size, const char *what)
{
    struct blob b = { size, xen_buffer(size ? size : 1) };

    if (!size)
        fail(EINVAL, "the stream has %s without anything in it", what);
    memcpy(b.bytes, from, size);
    return b;
}

static void take_info(const struct record *r)
{
    const struct pv_info *pv = (const void *)r->data;

    want(!has_info, "X86_PV_INFO");
    want_size(r, sizeof(*pv), "X86_PV_INFO");
    if (pv->width != NONPAE_WIDTH || pv->levels != NONPAE_LEVELS)
        fail(EINVAL, "words of %u bytes and %u levels of page tables: expected %u and %u", pv->width, pv->levels, NONPAE_WIDTH,
             NONPAE_LEVELS);
    xen_become_non_pae();
    info = xen_domain_info();
    if (info.max_vcpu_id >= MAX_VCPUS)
        fail(ERANGE, "the domain has %u vCPUs, expected at most %u", info.max_vcpu_id + 1, MAX_VCPUS);
    has_info = true;
}

static void take_leaves(const struct record *r)
{
    want(has_info && !has_static_data && !leaves.size, "X86_CPUID_POLICY");
    want_times(r->length, sizeof(xen_cpuid_leaf_t), "X86_CPUID_POLICY");
    leaves = blob_from(r->data, r->length, "X86_CPUID_POLICY");
}

static void take_msr_policy(const struct record *r)
{
    want(has_info && !has_static_data && !msrs.size, "X86_MSR_POLICY");
    want_times(r->length, sizeof(xen_msr_entry_t), "X86_MSR_POLICY");
    msrs = blob_from(r->data, r->length, "X86_MSR_POLICY");
}

static void set_policy(void)
{
    struct xen_domctl op = {
        .u.cpu_policy.nr_leaves = (uint32_t)(leaves.size / sizeof(xen_cpuid_leaf_t)),
        .u.cpu_policy.nr_msrs = (uint32_t)(msrs.size / sizeof(xen_msr_entry_t)),
    };

    set_xen_guest_handle(op.u.cpu_policy.leaves, leaves.bytes);
    set_xen_guest_handle(op.u.cpu_policy.msrs, msrs.bytes);
    xen_control(&op, XEN_DOMCTL_set_cpu_policy, "take its CPU policy");
}

static void take_static_data_end(const struct record *r)
{
    want(has_info && !has_static_data, "STATIC_DATA_END");
    want_size(r, 0, "STATIC_DATA_END");
    if (leaves.size || msrs.size)
        set_policy();
    if (!say_static_data_done((leaves.size ? 0 : MISSING_CPUID) | (msrs.size ? 0 : MISSING_MSR)))
        fail(0, "libxl could not do its part after the static data");
    has_static_data = true;
}

static void take_list(const struct record *r)
{
    const struct p2m_frames *p = (const void *)r->data;

    want(has_static_data && !list.size, "X86_PV_P2M_FRAMES");
    if (r->length < sizeof(*p))
        fail(EINVAL, "the stream has X86_PV_P2M_FRAMES of %u bytes, expected at least %zu", r->length, sizeof(*p));
    if (p->start || p->end >= MAX_FRAMES)
        fail(ERANGE, "the guest's frames are %#x to %#x, expected 0 to less than %#x", p->start, p->end, MAX_FRAMES);
    guest = guest_with(p->end + 1);
    want_size(r, sizeof(*p) + LIST_PAGES(guest.nr_pfns) * sizeof(*p->pfn), "X86_PV_P2M_FRAMES");
    list = blob_from(p->pfn, r->length - (uint32_t)sizeof(*p), "X86_PV_P2M_FRAMES");
}

static void take_tsc(const struct record *r)
{
    const struct tsc_info *t = (const void *)r->data;
    struct xen_domctl op = { 0 };

    want(has_static_data, "X86_TSC_INFO");
    want_size(r, sizeof(*t), "X86_TSC_INFO");
    op.u.tsc_info.tsc_mode = t->mode;
    op.u.tsc_info.gtsc_khz = t->khz;
    op.u.tsc_info.elapsed_nsec = t->nsec;
    op.u.tsc_info.incarnation = t->incarnation;
    xen_control(&op, XEN_DOMCTL_settscinfo, "take its time stamp counter");
}

static void take_shared_info(const struct record *r)
{
    want(has_static_data && !shared.size, "SHARED_INFO");
    want_size(r, PAGE, "SHARED_INFO");
    shared = blob_from(r->data, r->length, "SHARED_INFO");
}

static struct blob *vcpu_blob(uint32_t type, uint32_t id)
{
    return type == REC_VCPU_BASIC ? &vcpu[id].context : type == REC_VCPU_EXTENDED ? &vcpu[id].extended :
           type == REC_VCPU_XSAVE ? &vcpu[id].xsave : &vcpu[id].msrs;
}

static void want_vcpu_size(uint32_t type, uint32_t size)
{
    struct xen_domctl *op = NULL;

    if (type == REC_VCPU_BASIC && size != sizeof(context_t))
        fail(EINVAL, "the stream has a vCPU's context of %u bytes, expected %zu", size, sizeof(context_t));
    if (type == REC_VCPU_EXTENDED && (size < 2 * sizeof(uint32_t) || size > sizeof(op->u)))
        fail(EINVAL, "the stream has a vCPU's callbacks of %u bytes, expected at most %zu", size, sizeof(op->u));
    if (type == REC_VCPU_MSRS)
        want_times(size, sizeof(xen_domctl_vcpu_msr_t), "a vCPU's MSRs");
}

static void take_vcpu(const struct record *r)
{
    const struct vcpu_head *h = (const void *)r->data;
    struct blob *b;
    uint32_t size;

    want(has_static_data, "a vCPU");
    if (r->length <= sizeof(*h) || r->length > MAX_STATE || h->vcpu > info.max_vcpu_id)
        fail(EINVAL, "the stream has %u bytes of a vCPU; expected more than %zu, at most %u, and a vCPU of 0 to %u", r->length, sizeof(*h),
             MAX_STATE, info.max_vcpu_id);
    size = r->length - (uint32_t)sizeof(*h);
    want_vcpu_size(r->type, size);
    b = vcpu_blob(r->type, h->vcpu);
    want(!b->size, "a vCPU's state");
    *b = blob_from(h + 1, size, "a vCPU");
}

/* --- Memory --- */

/* Numbers, kinds, and how many of them have pages behind; all fit into the record. */
static unsigned check_pages(const struct record *r)
{
    const struct page_data *p = (const void *)r->data;
    unsigned nr = 0;

    want(list.size, "PAGE_DATA");
    if (r->length < sizeof(*p) || !p->count || p->count > MAX_BATCH || r->length < sizeof(*p) + p->count * sizeof(*p->word))
        fail(EINVAL, "the stream has %u bytes of memory, or more or less than 1 to %u pages", r->length, MAX_BATCH);
    for (unsigned i = 0; i < p->count; i++) {
        if (PAGE_PFN(p->word[i]) >= guest.nr_pfns || !is_known(PAGE_KIND(p->word[i])))
            fail(EINVAL, "page %#llx of kind %#x: expected less than %#x, and data or a table of level 1 or 2",
                 (unsigned long long)PAGE_PFN(p->word[i]), PAGE_KIND(p->word[i]), guest.nr_pfns);
        nr += has_page(PAGE_KIND(p->word[i]));
    }
    want_size(r, sizeof(*p) + p->count * sizeof(*p->word) + (size_t)nr * PAGE, "memory");
    return nr;
}

/* Gives each of these numbers a frame. One that is there twice, now or before, is nothing that we write. */
static void populate(const uint32_t *pfns, unsigned nr)
{
    uint32_t frames[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++) {
        if (guest.frame[pfns[i]] != NO_FRAME)
            fail(EINVAL, "the stream has the guest's frame %#x twice", pfns[i]);
        guest.frame[pfns[i]] = 0;
    }
    memcpy(frames, pfns, nr * sizeof(*frames));
    xen_populate(frames, nr);
    for (unsigned i = 0; i < nr; i++)
        guest.frame[pfns[i]] = frames[i];
}

static void *map_pfns(const uint32_t *pfns, unsigned nr, const char *what)
{
    uint32_t frames[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++)
        frames[i] = guest.frame[pfns[i]];
    return xen_map(frames, nr, PROT_READ | PROT_WRITE, what);
}

static void take_pages(const struct record *r)
{
    const struct page_data *p = (const void *)r->data;
    unsigned nr = check_pages(r), have = 0;
    uint32_t pfns[MAX_BATCH];
    void *pages;

    for (unsigned i = 0; i < p->count; i++) {
        uint32_t pfn = (uint32_t)PAGE_PFN(p->word[i]);

        guest.kind[pfn] = PAGE_KIND(p->word[i]);
        if (has_page(guest.kind[pfn]))
            pfns[have++] = pfn;
    }
    if (!nr)
        return;
    populate(pfns, nr);
    pages = map_pfns(pfns, nr, "its memory");
    memcpy(pages, p->word + p->count, (size_t)nr * PAGE);
    xen_unmap(pages, nr);
}

static const struct {
    uint32_t type;
    void (*take)(const struct record *r);
} kinds[] = {
    { REC_PV_INFO, take_info }, { REC_CPUID_POLICY, take_leaves }, { REC_MSR_POLICY, take_msr_policy },
    { REC_STATIC_DATA_END, take_static_data_end }, { REC_P2M_FRAMES, take_list }, { REC_PAGE_DATA, take_pages },
    { REC_TSC_INFO, take_tsc }, { REC_SHARED_INFO, take_shared_info }, { REC_VCPU_BASIC, take_vcpu },
    { REC_VCPU_EXTENDED, take_vcpu }, { REC_VCPU_XSAVE, take_vcpu }, { REC_VCPU_MSRS, take_vcpu },
};

static void take(const struct record *r)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].type == r->type) {
            kinds[i].take(r);
            return;
        }
    if (!(r->type & REC_OPTIONAL))
        fail(EINVAL, "the stream has a record of type %#x, which is unknown for such a domain", r->type);
}

static void read_stream(void)
{
    struct record r;

    stream_get_head();
    while ((r = stream_get()).type != REC_END) {
        take(&r);
        free(r.data);
    }
    free(r.data);
    if (!list.size || !shared.size || !vcpu[0].context.size)
        fail(EINVAL, "the stream ends without X86_PV_P2M_FRAMES, SHARED_INFO or the context of vCPU 0");
}

/* --- What names frames --- */

static void localise(uint32_t *table, uint32_t pfn)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint32_t e = table[i], to = ENTRY_FRAME(e);

        if (!(e & ENTRY_PRESENT))
            continue;
        if (to >= guest.nr_pfns || guest.frame[to] == NO_FRAME)
            fail(ERANGE, "entry %u of the page table in the guest's frame %#x is %#x, which names none of its frames", i, pfn, e);
        table[i] = ENTRY_AS(e, guest.frame[to]);
    }
}

/* fn is given up to MAX_BATCH numbers at a time of those whose kind has all of these bits and is a table's. */
static void for_tables(uint32_t bits, void (*fn)(const uint32_t *pfns, unsigned nr))
{
    uint32_t pfns[MAX_BATCH];
    unsigned nr = 0;

    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++) {
        if (!has_page(guest.kind[pfn]) || !table_level(guest.kind[pfn]) || (guest.kind[pfn] & bits) != bits)
            continue;
        pfns[nr++] = pfn;
        if (nr == MAX_BATCH) {
            fn(pfns, nr);
            nr = 0;
        }
    }
    if (nr)
        fn(pfns, nr);
}

static void localise_some(const uint32_t *pfns, unsigned nr)
{
    uint8_t *pages = map_pfns(pfns, nr, "its page tables");

    for (unsigned i = 0; i < nr; i++)
        localise((uint32_t *)(pages + (size_t)i * PAGE), pfns[i]);
    xen_unmap(pages, nr);
}

static void pin_some(const uint32_t *pfns, unsigned nr)
{
    uint32_t frames[MAX_BATCH], levels[MAX_BATCH];

    for (unsigned i = 0; i < nr; i++) {
        frames[i] = guest.frame[pfns[i]];
        levels[i] = guest.kind[pfns[i]] & XEN_DOMCTL_PFINFO_LTABTYPE_MASK;
    }
    xen_pin(frames, levels, nr);
}

static void write_shared_info(uint32_t frame)
{
    struct shared_info_x86_32 *to = xen_map(&frame, 1, PROT_READ | PROT_WRITE, "shared info");
    const struct shared_info_x86_32 *from = shared.bytes;

    memcpy(to->vcpu_info, from->vcpu_info, sizeof(to->vcpu_info));
    to->arch = from->arch;
    to->arch.pfn_to_mfn_frame_list_list = 0;        /* frames that were; the guest says it anew */
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS_X86_32; i++)
        to->vcpu_info[i].evtchn_pending_sel = 0;
    memset(to->evtchn_pending, 0, sizeof(to->evtchn_pending));
    memset(to->evtchn_mask, 0xff, sizeof(to->evtchn_mask));
    xen_unmap(to, 1);
}

static void write_list(void)
{
    unsigned nr = LIST_PAGES(guest.nr_pfns);
    const uint64_t *pfns = list.bytes;
    uint32_t frames[ENTRIES];
    void *pages;

    for (unsigned i = 0; i < nr; i++)
        frames[i] = data_frame(pfns[i], "the list of frames");
    pages = xen_map(frames, nr, PROT_READ | PROT_WRITE, "list of its frames");
    memcpy(pages, guest.frame, guest.nr_pfns * sizeof(*guest.frame));
    xen_unmap(pages, nr);
}

/* What a kernel finds in it that begins a life; the guest has put its own numbers of the two rings there. */
static void write_start_info(const struct job *j, uint32_t shared_frame, uint32_t *store, uint32_t *console)
{
    uint32_t frame = data_frame(start_info, "start info");
    struct start_info_x86_32 *s = xen_map(&frame, 1, PROT_READ | PROT_WRITE, "start info");

    s->store_mfn = *store = data_frame(s->store_mfn, "the store's ring");
    s->store_evtchn = j->store_port;
    s->console.domU.mfn = *console = data_frame(s->console.domU.mfn, "the console's ring");
    s->console.domU.evtchn = j->console_port;
    s->nr_pages = guest.nr_pfns;
    s->shared_info = shared_frame << 12;
    s->flags = 0;
    xen_unmap(s, 1);
}

/* --- vCPUs --- */

static void localise_context(uint32_t id, context_t *c)
{
    uint32_t root = xen_cr3_to_pfn_x86_32(c->ctrlreg[3]);

    translate_context(id, c, data_frame);
    if (root >= guest.nr_pfns || guest.frame[root] == NO_FRAME || table_level(guest.kind[root]) != 2)
        fail(ERANGE, "the CR3 of vCPU %u names the guest's frame %#x, expected a table of level 2", id, root);
    c->ctrlreg[3] = xen_pfn_to_cr3_x86_32(guest.frame[root]);
    c->flags |= VGCF_online;
}

static void set_context(uint32_t id)
{
    struct xen_domctl op = { .u.vcpucontext.vcpu = id };
    void *room = xen_buffer(sizeof(vcpu_guest_context_t));      /* as much as is read of a 64-bit one's */

    localise_context(id, vcpu[id].context.bytes);
    memcpy(room, vcpu[id].context.bytes, vcpu[id].context.size);
    set_xen_guest_handle(op.u.vcpucontext.ctxt, room);
    xen_control(&op, XEN_DOMCTL_setvcpucontext, "take a vCPU's context");
}

static void set_extended(uint32_t id)
{
    struct xen_domctl op = { 0 };

    memcpy(&op.u, vcpu[id].extended.bytes, vcpu[id].extended.size);
    op.u.ext_vcpucontext.vcpu = id;
    op.u.ext_vcpucontext.size = vcpu[id].extended.size;
    xen_control(&op, XEN_DOMCTL_set_ext_vcpucontext, "take a vCPU's callbacks");
}

static void set_xsave(uint32_t id)
{
    struct xen_domctl op = { .u.vcpuextstate = { .vcpu = id, .size = vcpu[id].xsave.size } };

    set_xen_guest_handle(op.u.vcpuextstate.buffer, vcpu[id].xsave.bytes);
    xen_control(&op, XEN_DOMCTL_setvcpuextstate, "take a vCPU's FPU state");
}

static void set_msrs(uint32_t id)
{
    struct xen_domctl op = {
        .u.vcpu_msrs = { .vcpu = id, .msr_count = (uint32_t)(vcpu[id].msrs.size / sizeof(xen_domctl_vcpu_msr_t)) },
    };

    set_xen_guest_handle(op.u.vcpu_msrs.msrs, vcpu[id].msrs.bytes);
    xen_control(&op, XEN_DOMCTL_set_vcpu_msrs, "take a vCPU's MSRs");
}

static void set_vcpus(void)
{
    for (uint32_t id = 0; id < MAX_VCPUS; id++) {
        if (vcpu[id].context.size)
            set_context(id);
        if (vcpu[id].extended.size)
            set_extended(id);
        if (vcpu[id].xsave.size)
            set_xsave(id);
        if (vcpu[id].msrs.size)
            set_msrs(id);
    }
}

void restore(const struct job *j)
{
    uint32_t store, console;

    promise_restore_results();
    stream_begin(j->fd);
    read_stream();
    for_tables(0, localise_some);
    start_info = ((const context_t *)vcpu[0].context.bytes)->user_regs.edx;
    write_start_info(j, (uint32_t)info.shared_info_frame, &store, &console);
    write_list();
    write_shared_info((uint32_t)info.shared_info_frame);
    for_tables(XEN_DOMCTL_PFINFO_LPINTAB, pin_some);
    set_vcpus();
    xen_grant(GNTTAB_RESERVED_CONSOLE, (uint16_t)j->console_domid, console);
    xen_grant(GNTTAB_RESERVED_XENSTORE, (uint16_t)j->store_domid, store);
    say_restore_results(store, console);
    say_complete();
}
