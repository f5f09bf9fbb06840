#include "state.h"

#include <errno.h>
#include <string.h>
#include <xen/foreign/x86_32.h>

#include "talk.h"

/* --- What the hypervisor keeps --- */

/* Memory that calls may name, with a copy of it. */
static void *shown(const struct blob *b, size_t at_least)
{
    void *p = xen_buffer(b->size > at_least ? b->size : at_least);

    if (b->size)
        memcpy(p, b->bytes, b->size);
    return p;
}

void set_policy(const struct saved *s)
{
    struct xen_domctl op = {
        .u.cpu_policy.nr_leaves = (uint32_t)(s->leaves.size / sizeof(xen_cpuid_leaf_t)),
        .u.cpu_policy.nr_msrs = (uint32_t)(s->msrs.size / sizeof(xen_msr_entry_t)),
    };

    if (!s->leaves.size && !s->msrs.size)
        return;
    set_xen_guest_handle(op.u.cpu_policy.leaves, shown(&s->leaves, 1));
    set_xen_guest_handle(op.u.cpu_policy.msrs, shown(&s->msrs, 1));
    xen_control(&op, XEN_DOMCTL_set_cpu_policy, "take its CPU policy (xl dmesg says why)");
}

void set_tsc(const struct saved *s)
{
    const struct tsc_info *t = s->tsc.bytes;
    struct xen_domctl op = { 0 };

    if (!t)
        return;
    op.u.tsc_info.tsc_mode = t->mode;
    op.u.tsc_info.gtsc_khz = t->khz;
    op.u.tsc_info.elapsed_nsec = t->nsec;
    op.u.tsc_info.incarnation = t->incarnation;
    xen_control(&op, XEN_DOMCTL_settscinfo, "take its time stamp counter");
}

static void set_context(uint32_t id, const struct blob *b)
{
    struct xen_domctl op = { .u.vcpucontext.vcpu = id };

    set_xen_guest_handle(op.u.vcpucontext.ctxt, shown(b, sizeof(vcpu_guest_context_t)));    /* as much as is read of a 64-bit one's */
    xen_control(&op, XEN_DOMCTL_setvcpucontext, "take a vCPU's context");
}

static void set_extended(uint32_t id, const struct blob *b)
{
    struct xen_domctl op = { 0 };

    memcpy(&op.u, b->bytes, b->size);
    op.u.ext_vcpucontext.vcpu = id;
    op.u.ext_vcpucontext.size = b->size;
    xen_control(&op, XEN_DOMCTL_set_ext_vcpucontext, "take a vCPU's callbacks");
}

static void set_xsave(uint32_t id, const struct blob *b)
{
    struct xen_domctl op = { .u.vcpuextstate = { .vcpu = id, .size = b->size } };

    set_xen_guest_handle(op.u.vcpuextstate.buffer, shown(b, 1));
    xen_control(&op, XEN_DOMCTL_setvcpuextstate, "take a vCPU's FPU state");
}

static void set_msrs(uint32_t id, const struct blob *b)
{
    struct xen_domctl op = { .u.vcpu_msrs = { .vcpu = id, .msr_count = (uint32_t)(b->size / sizeof(xen_domctl_vcpu_msr_t)) } };

    set_xen_guest_handle(op.u.vcpu_msrs.msrs, shown(b, 1));
    xen_control(&op, XEN_DOMCTL_set_vcpu_msrs, "take a vCPU's MSRs");
}

void set_vcpu(const struct saved *s, uint32_t id)
{
    const struct saved_vcpu *v = &s->vcpu[id];
    const struct {
        const struct blob *blob;
        void (*set)(uint32_t id, const struct blob *b);
    } parts[] = { { &v->context, set_context }, { &v->extended, set_extended }, { &v->xsave, set_xsave }, { &v->msrs, set_msrs } };

    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (parts[i].blob->size)
            parts[i].set(id, parts[i].blob);
}

/* --- The two pages --- */

#define LAYOUT(size, shared, vcpu, arch_part, start, context, reg)                                                                      \
    {                                                                                                                                   \
        .word = size, .selector = offsetof(struct vcpu, evtchn_pending_sel), .vcpu_info = sizeof(struct vcpu),                          \
        .pending = offsetof(struct shared, evtchn_pending), .mask = offsetof(struct shared, evtchn_mask), .bits = (size) * (size) * 8,  \
        .arch = offsetof(struct shared, arch), .arch_size = sizeof(struct arch_part),                                                   \
        .list = offsetof(struct shared, arch.pfn_to_mfn_frame_list_list), .root = offsetof(struct shared, arch.p2m_cr3),                \
        .nr_pages = offsetof(struct start, nr_pages), .shared_info = offsetof(struct start, shared_info),                               \
        .flags = offsetof(struct start, flags), .store = offsetof(struct start, store_mfn),                                             \
        .store_port = offsetof(struct start, store_evtchn), .console = offsetof(struct start, console.domU.mfn),                        \
        .console_port = offsetof(struct start, console.domU.evtchn),                                                                    \
        .vcpu_flags = offsetof(struct context, flags), .third = offsetof(struct context, user_regs.reg),                                \
        .gdt = offsetof(struct context, gdt_frames), .nr_gdt = offsetof(struct context, gdt_ents),                                      \
        .cr = offsetof(struct context, ctrlreg),                                                                                        \
    }

const struct layout layout32 = LAYOUT(4, shared_info_x86_32, vcpu_info_x86_32, arch_shared_info_x86_32, start_info_x86_32,
                                       vcpu_guest_context_x86_32, edx);
const struct layout layout64 = LAYOUT(8, shared_info, vcpu_info, arch_shared_info, start_info, vcpu_guest_context, rdx);

static void put_word(void *page, unsigned at, uint64_t value, unsigned size) { memcpy((char *)page + at, &value, size); }

static uint64_t get_word(const void *page, unsigned at, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, (const char *)page + at, size);
    return value;
}

void fill_shared_info(void *page, const void *from, const struct layout *l)
{
    memcpy(page, from, XEN_LEGACY_MAX_VCPUS * l->vcpu_info);
    memcpy((char *)page + l->arch, (const char *)from + l->arch, l->arch_size);
    put_word(page, l->list, 0, l->word);        /* frames that were; the guest says them anew */
    put_word(page, l->root, 0, l->word);
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++)
        put_word(page, i * l->vcpu_info + l->selector, 0, l->word);
    memset((char *)page + l->pending, 0, l->bits);
    memset((char *)page + l->mask, 0xff, l->bits);
}

struct rings fill_start_info(void *page, const struct layout *l, uint32_t nr_pages, uint64_t shared_info, uint32_t store_port,
                             uint32_t console_port, uint32_t (*frame_of)(uint64_t pfn, const char *what))
{
    struct rings r = {
        .store = frame_of(get_word(page, l->store, l->word), "the store's ring"),
        .console = frame_of(get_word(page, l->console, l->word), "the console's ring"),
    };

    put_word(page, l->store, r.store, l->word);
    put_word(page, l->store_port, store_port, sizeof(uint32_t));
    put_word(page, l->console, r.console, l->word);
    put_word(page, l->console_port, console_port, sizeof(uint32_t));
    put_word(page, l->nr_pages, nr_pages, l->word);
    put_word(page, l->shared_info, shared_info, l->word);
    put_word(page, l->flags, 0, sizeof(uint32_t));
    return r;
}

/* --- A vCPU's context --- */

uint64_t start_info_of(const void *context, const struct layout *l) { return get_word(context, l->third, l->word); }

static uint64_t root_in(uint64_t cr3, const struct layout *l) { return l->word == 4 ? xen_cr3_to_pfn_x86_32((uint32_t)cr3) : cr3 >> 12; }

static uint64_t cr3_for(uint32_t frame, const struct layout *l)
{
    return l->word == 4 ? xen_pfn_to_cr3_x86_32(frame) : (uint64_t)frame << 12;
}

/* A register of the context that names a frame by other names than frames have elsewhere. */
static void fill_root(void *context, const struct layout *l, unsigned number, uint32_t (*root_of)(uint64_t pfn))
{
    unsigned at = l->cr + number * l->word;

    put_word(context, at, cr3_for(root_of(root_in(get_word(context, at, l->word), l)), l), l->word);
}

void fill_context(void *context, const struct layout *l, uint32_t id, uint32_t (*frame_of)(uint64_t pfn, const char *what),
                  uint32_t (*root_of)(uint64_t pfn))
{
    uint64_t entries = get_word(context, l->nr_gdt, l->word);

    if (!id)
        put_word(context, l->third, frame_of(start_info_of(context, l), "start info, in a register"), l->word);
    if (entries > MAX_GDT_ENTRIES)
        fail(ERANGE, "vCPU %u has a GDT of %llu entries, expected at most %u", id, (unsigned long long)entries, MAX_GDT_ENTRIES);
    for (unsigned i = 0; i < GDT_FRAMES(entries); i++)
        put_word(context, l->gdt + i * l->word, frame_of(get_word(context, l->gdt + i * l->word, l->word), "a vCPU's GDT"), l->word);
    fill_root(context, l, 3, root_of);
    /* The root of user mode, of 64-bit guests. The stream has bit 0 set where there is one. */
    if (l->word == 8 && get_word(context, l->cr + 8, 8) & 1)
        fill_root(context, l, 1, root_of);
    put_word(context, l->vcpu_flags, get_word(context, l->vcpu_flags, l->word) | VGCF_online, l->word);
}
