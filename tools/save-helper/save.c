/* A non-PAE domain into the stream. It stands still while its memory is sent: even if it is to be a migration, it is sent once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "state.h"
#include "talk.h"

#include <xen/sched.h>

#define FLAG_LIVE 1u

static struct guest guest;
static struct shared_info_x86_32 shared;
static struct xen_domctl_getdomaininfo info;

/* --- Standing still --- */

static void suspend(void)
{
    if (!ask_to_suspend())
        fail(0, "the guest has not suspended itself");
    info = xen_domain_info();
    if (!(info.flags & XEN_DOMINF_shutdown) ||
        (info.flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask) != SHUTDOWN_suspend)
        fail(EINVAL, "the domain has not suspended itself: its flags are %#x", info.flags);
    say(XTL_INFO, "the domain is suspended");
}

/* --- Its frames --- */

static uint32_t pfn_of(uint64_t frame, const char *what)
{
    if (frame >= MAX_FRAMES || guest.pfn[frame] == NO_FRAME)
        fail(ERANGE, "%s: frame %#llx is not in the guest's list of its frames", what, (unsigned long long)frame);
    return guest.pfn[frame];
}

static void read_shared_info(void)
{
    uint32_t frame = (uint32_t)info.shared_info_frame;
    void *page = xen_map(&frame, 1, PROT_READ, "shared info");

    memcpy(&shared, page, sizeof(shared));
    xen_unmap(page, 1);
}

/* The list's own pages are named by a page, and that by another, which has one such as there can be no more frames. */
static void find_list(uint32_t list[ENTRIES])
{
    uint32_t top = shared.arch.pfn_to_mfn_frame_list_list, *page;

    if (!shared.arch.max_pfn || shared.arch.max_pfn > MAX_FRAMES)
        fail(ERANGE, "the guest says that it has %u frames, expected 1 to %u", shared.arch.max_pfn, MAX_FRAMES);
    if (!top || top >= MAX_FRAMES)
        fail(ERANGE, "the guest says that frame %#x names the list of its frames (shared info, pfn_to_mfn_frame_list_list)", top);
    page = xen_map(&top, 1, PROT_READ, "list of the lists of its frames");
    top = page[0];
    xen_unmap(page, 1);
    page = xen_map(&top, 1, PROT_READ, "list of the pages of the list of its frames");
    memcpy(list, page, PAGE);
    xen_unmap(page, 1);
}

static void read_list(const uint32_t *list)
{
    unsigned nr = LIST_PAGES(guest.nr_pfns);
    void *pages = xen_map(list, nr, PROT_READ, "list of its frames");

    memcpy(guest.frame, pages, guest.nr_pfns * sizeof(*guest.frame));
    xen_unmap(pages, nr);
}

/* What is not the domain's is none of its frames: what it has ballooned out, or mapped of others. */
static void learn(uint32_t pfn)
{
    uint32_t *frame = &guest.frame[pfn], kind = guest.kind[pfn];

    if (!is_known(kind, NONPAE_LEVELS))
        fail(EINVAL, "frame %#x, the guest's number %#x, is of a kind that a non-PAE guest's cannot be: %#x", *frame, pfn, kind);
    if (kind == XEN_DOMCTL_PFINFO_XTAB) {
        *frame = NO_FRAME;
        return;
    }
    if (guest.pfn[*frame] != NO_FRAME)
        fail(EINVAL, "the guest's list has frame %#x twice, as %#x and %#x", *frame, guest.pfn[*frame], pfn);
    guest.pfn[*frame] = pfn;
}

static void find_frames(uint32_t list[ENTRIES])
{
    find_list(list);
    guest = guest_with(shared.arch.max_pfn);
    guest.pfn = numbers(MAX_FRAMES, NO_FRAME);
    read_list(list);
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++)
        if (guest.frame[pfn] >= MAX_FRAMES)
            guest.frame[pfn] = NO_FRAME;
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn += MAX_BATCH) {
        uint32_t left = guest.nr_pfns - pfn;

        xen_kinds(guest.frame + pfn, guest.kind + pfn, left < MAX_BATCH ? left : MAX_BATCH);
    }
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn++)
        learn(pfn);
}

/* --- What the new domain is made with --- */

static void put_policy(void)
{
    struct xen_domctl op = { 0 };
    xen_cpuid_leaf_t *leaves;
    xen_msr_entry_t *msrs;

    xen_control(&op, XEN_DOMCTL_get_cpu_policy, "say how large its CPU policy can be");
    leaves = xen_buffer(op.u.cpu_policy.nr_leaves * sizeof(*leaves));
    msrs = xen_buffer(op.u.cpu_policy.nr_msrs * sizeof(*msrs));
    set_xen_guest_handle(op.u.cpu_policy.leaves, leaves);
    set_xen_guest_handle(op.u.cpu_policy.msrs, msrs);
    xen_control(&op, XEN_DOMCTL_get_cpu_policy, "tell its CPU policy");
    if (op.u.cpu_policy.nr_leaves)
        stream_put(REC_CPUID_POLICY, leaves, op.u.cpu_policy.nr_leaves * sizeof(*leaves), NULL, 0);
    if (op.u.cpu_policy.nr_msrs)
        stream_put(REC_MSR_POLICY, msrs, op.u.cpu_policy.nr_msrs * sizeof(*msrs), NULL, 0);
}

static void put_static_data(void)
{
    struct pv_info pv = { .width = NONPAE_WIDTH, .levels = NONPAE_LEVELS };

    stream_put(REC_PV_INFO, &pv, sizeof(pv), NULL, 0);
    put_policy();
    stream_put(REC_STATIC_DATA_END, NULL, 0, NULL, 0);
}

/* --- Memory --- */

static void put_list(const uint32_t *list)
{
    struct p2m_frames head = { .end = guest.nr_pfns - 1 };
    uint64_t pfns[ENTRIES];

    for (unsigned i = 0; i < LIST_PAGES(guest.nr_pfns); i++)
        pfns[i] = pfn_of(list[i], "the list of frames lies in one that is");
    stream_put(REC_P2M_FRAMES, &head, sizeof(head), pfns, LIST_PAGES(guest.nr_pfns) * sizeof(*pfns));
}

/* Entries with the guest's own numbers in place of frames. */
static void copy_table(uint32_t *to, const uint32_t *from, unsigned level)
{
    for (unsigned i = 0; i < ENTRIES; i++) {
        uint32_t e = level == 2 && i >= OURS ? 0 : from[i];

        to[i] = e & ENTRY_PRESENT ? ENTRY_AS(e, pfn_of(ENTRY_FRAME(e), "a page table's entry")) : e;
    }
}

static void copy_page(uint8_t *to, const uint8_t *from, uint32_t kind)
{
    if (table_level(kind))
        copy_table((uint32_t *)to, (const uint32_t *)from, table_level(kind));
    else
        memcpy(to, from, PAGE);
}

static void put_pages(uint32_t first, unsigned count)
{
    static struct { struct page_data head; uint64_t word[MAX_BATCH]; } names;
    static uint8_t copies[MAX_BATCH][PAGE];
    uint32_t frames[MAX_BATCH], kinds[MAX_BATCH];
    unsigned nr = 0;
    uint8_t *pages;

    names.head.count = count;
    for (unsigned i = 0; i < count; i++) {
        uint32_t kind = guest.kind[first + i];

        names.word[i] = PAGE_WORD(first + i, kind);
        if (has_page(kind)) {
            frames[nr] = guest.frame[first + i];
            kinds[nr++] = kind;
        }
    }
    if (nr) {
        pages = xen_map(frames, nr, PROT_READ, "its memory");
        for (unsigned i = 0; i < nr; i++)
            copy_page(copies[i], pages + (size_t)i * PAGE, kinds[i]);
        xen_unmap(pages, nr);
    }
    stream_put(REC_PAGE_DATA, &names, sizeof(names.head) + count * sizeof(*names.word), copies, (size_t)nr * PAGE);
}

static void put_memory(void)
{
    for (uint32_t pfn = 0; pfn < guest.nr_pfns; pfn += MAX_BATCH) {
        uint32_t left = guest.nr_pfns - pfn;

        say_progress("Frames", pfn, guest.nr_pfns);
        put_pages(pfn, left < MAX_BATCH ? left : MAX_BATCH);
    }
    say_progress("Frames", guest.nr_pfns, guest.nr_pfns);
}

/* --- What is not memory --- */

static void put_tsc(void)
{
    struct xen_domctl op = { 0 };
    struct tsc_info t;

    xen_control(&op, XEN_DOMCTL_gettscinfo, "tell of its time stamp counter");
    t = (struct tsc_info){ op.u.tsc_info.tsc_mode, op.u.tsc_info.gtsc_khz, op.u.tsc_info.elapsed_nsec, op.u.tsc_info.incarnation, 0 };
    stream_put(REC_TSC_INFO, &t, sizeof(t), NULL, 0);
}

static void put_shared_info(void)
{
    static uint8_t page[PAGE];

    memcpy(page, &shared, sizeof(shared));
    stream_put(REC_SHARED_INFO, page, PAGE, NULL, 0);
}

/* The frames in vCPU id's context become the guest's own numbers. */
static void normalise_context(uint32_t id, context_t *c)
{
    if (!id)
        c->user_regs.edx = pfn_of(c->user_regs.edx, "start info, in edx");
    if (c->gdt_ents > MAX_GDT_ENTRIES)
        fail(ERANGE, "vCPU %u has a GDT of %u entries, expected at most %u", id, c->gdt_ents, MAX_GDT_ENTRIES);
    for (unsigned i = 0; i < GDT_FRAMES(c->gdt_ents); i++)
        c->gdt_frames[i] = pfn_of(c->gdt_frames[i], "a vCPU's GDT");
    c->ctrlreg[3] = xen_pfn_to_cr3_x86_32(pfn_of(xen_cr3_to_pfn_x86_32(c->ctrlreg[3]), "a vCPU's CR3"));
}

static void put_context(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpucontext.vcpu = id };
    static context_t *c;

    if (!c)
        c = xen_buffer(sizeof(vcpu_guest_context_t));
    set_xen_guest_handle(op.u.vcpucontext.ctxt, (void *)c);
    xen_control(&op, XEN_DOMCTL_getvcpucontext, "give a vCPU's context");
    normalise_context(id, c);
    stream_put(REC_VCPU_BASIC, &head, sizeof(head), c, sizeof(*c));
}

static void put_extended(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.ext_vcpucontext.vcpu = id };
    uint32_t size;

    xen_control(&op, XEN_DOMCTL_get_ext_vcpucontext, "give a vCPU's callbacks");
    size = op.u.ext_vcpucontext.size;
    if (size > sizeof(op.u))
        fail(ERANGE, "the callbacks of vCPU %u have %u bytes, expected at most %zu", id, size, sizeof(op.u));
    if (size)
        stream_put(REC_VCPU_EXTENDED, &head, sizeof(head), &op.u, size);
}

static void put_xsave(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpuextstate.vcpu = id };
    void *state;

    xen_control(&op, XEN_DOMCTL_getvcpuextstate, "say how large a vCPU's FPU state is");
    if (!op.u.vcpuextstate.xfeature_mask || !op.u.vcpuextstate.size)
        return;
    state = xen_buffer(op.u.vcpuextstate.size);
    set_xen_guest_handle(op.u.vcpuextstate.buffer, state);
    xen_control(&op, XEN_DOMCTL_getvcpuextstate, "give a vCPU's FPU state");
    stream_put(REC_VCPU_XSAVE, &head, sizeof(head), state, op.u.vcpuextstate.size);
}

static void put_msrs(uint32_t id)
{
    struct vcpu_head head = { .vcpu = id };
    struct xen_domctl op = { .u.vcpu_msrs.vcpu = id };
    xen_domctl_vcpu_msr_t *msrs;

    xen_control(&op, XEN_DOMCTL_get_vcpu_msrs, "say how many MSRs a vCPU has");
    if (!op.u.vcpu_msrs.msr_count)
        return;
    msrs = xen_buffer(op.u.vcpu_msrs.msr_count * sizeof(*msrs));
    set_xen_guest_handle(op.u.vcpu_msrs.msrs, msrs);
    xen_control(&op, XEN_DOMCTL_get_vcpu_msrs, "give a vCPU's MSRs");
    if (op.u.vcpu_msrs.msr_count)
        stream_put(REC_VCPU_MSRS, &head, sizeof(head), msrs, op.u.vcpu_msrs.msr_count * sizeof(*msrs));
}

static void put_vcpus(void)
{
    for (uint32_t id = 0; id <= info.max_vcpu_id; id++) {
        struct xen_domctl op = { .u.getvcpuinfo.vcpu = id };

        xen_control(&op, XEN_DOMCTL_getvcpuinfo, "say whether a vCPU is up");
        if (!op.u.getvcpuinfo.online)
            continue;
        put_context(id);
        put_extended(id);
        put_xsave(id);
        put_msrs(id);
    }
}

void save(const struct job *j)
{
    static uint32_t list[ENTRIES];

    if (j->flags & FLAG_LIVE)
        say(XTL_WARN, "a non-PAE guest's memory is copied while it stands still");
    /* First, so that the other end knows at once what comes, however long the guest takes. */
    stream_begin(j->fd);
    stream_put_head((uint32_t)xen_version());
    put_static_data();
    suspend();
    read_shared_info();
    find_frames(list);
    put_list(list);
    put_memory();
    put_tsc();
    put_shared_info();
    put_vcpus();
    stream_put(REC_END, NULL, 0, NULL, 0);
    say_complete();
}
