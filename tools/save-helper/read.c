#include "read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "talk.h"

#define MAX_STATE 65536u    /* bytes of one kind of a vCPU's state: what is kept of it until the end has a bound */

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

static struct blob blob_from(const void *from, uint32_t size, const char *what)
{
    struct blob b = { size, malloc(size) };

    if (!size)
        fail(EINVAL, "the stream has %s without anything in it", what);
    if (!b.bytes)
        fail(ENOMEM, "no memory for %u bytes of %s", size, what);
    memcpy(b.bytes, from, size);
    return b;
}

/* --- Records --- */

static void take_info(struct reader *r, const struct record *record)
{
    const struct pv_info *pv = (const void *)record->data;

    want(!r->saved.has_info, "X86_PV_INFO");
    want_size(record, sizeof(*pv), "X86_PV_INFO");
    r->info(pv);
    if (pv->width != r->format.width || pv->levels != r->format.levels)
        fail(EINVAL, "words of %u bytes and %u levels of page tables: expected %u and %u", pv->width, pv->levels, r->format.width,
             r->format.levels);
    r->saved.has_info = true;
}

/* One of the two lists of what CPUID and MSRs say to the domain. */
static void take_policy(struct reader *r, const struct record *record)
{
    bool is_leaves = record->type == REC_CPUID_POLICY;
    struct blob *b = is_leaves ? &r->saved.leaves : &r->saved.msrs;
    const char *what = is_leaves ? "X86_CPUID_POLICY" : "X86_MSR_POLICY";

    want(r->saved.has_info && !r->saved.has_static_data && !b->size, what);
    want_times(record->length, is_leaves ? sizeof(xen_cpuid_leaf_t) : sizeof(xen_msr_entry_t), what);
    *b = blob_from(record->data, record->length, what);
}

static void take_static_data_end(struct reader *r, const struct record *record)
{
    want(r->saved.has_info && !r->saved.has_static_data, "STATIC_DATA_END");
    want_size(record, 0, "STATIC_DATA_END");
    r->static_data(&r->saved);
    r->saved.has_static_data = true;
}

static void take_list(struct reader *r, const struct record *record)
{
    const struct p2m_frames *p = (const void *)record->data;

    want(r->saved.has_static_data && !r->saved.list.size, "X86_PV_P2M_FRAMES");
    if (record->length < sizeof(*p))
        fail(EINVAL, "the stream has X86_PV_P2M_FRAMES of %u bytes, expected at least %zu", record->length, sizeof(*p));
    if (p->start || p->end >= r->max_pfns)
        fail(ERANGE, "the guest's frames are %#x to %#x, expected 0 to less than %#x", p->start, p->end, r->max_pfns);
    want_size(record, sizeof(*p) + list_pages(r, p->end + 1) * sizeof(*p->pfn), "X86_PV_P2M_FRAMES");
    r->saved.nr_pfns = p->end + 1;
    r->saved.list = blob_from(p->pfn, record->length - (uint32_t)sizeof(*p), "X86_PV_P2M_FRAMES");
    r->frames(&r->saved);
}

static void take_tsc(struct reader *r, const struct record *record)
{
    want(r->saved.has_static_data && !r->saved.tsc.size, "X86_TSC_INFO");
    want_size(record, sizeof(struct tsc_info), "X86_TSC_INFO");
    r->saved.tsc = blob_from(record->data, record->length, "X86_TSC_INFO");
}

static void take_shared_info(struct reader *r, const struct record *record)
{
    want(r->saved.has_static_data && !r->saved.shared.size, "SHARED_INFO");
    want_size(record, PAGE, "SHARED_INFO");
    r->saved.shared = blob_from(record->data, record->length, "SHARED_INFO");
}

static struct blob *vcpu_blob(struct saved_vcpu *v, uint32_t type)
{
    return type == REC_VCPU_BASIC ? &v->context : type == REC_VCPU_EXTENDED ? &v->extended : type == REC_VCPU_XSAVE ? &v->xsave : &v->msrs;
}

static void want_vcpu_size(const struct reader *r, uint32_t type, uint32_t size)
{
    struct xen_domctl *op = NULL;

    if (type == REC_VCPU_BASIC && size != r->context_size)
        fail(EINVAL, "the stream has a vCPU's context of %u bytes, expected %zu", size, r->context_size);
    if (type == REC_VCPU_EXTENDED && (size < 2 * sizeof(uint32_t) || size > sizeof(op->u)))
        fail(EINVAL, "the stream has a vCPU's callbacks of %u bytes, expected at most %zu", size, sizeof(op->u));
    if (type == REC_VCPU_MSRS)
        want_times(size, sizeof(xen_domctl_vcpu_msr_t), "a vCPU's MSRs");
}

static void take_vcpu(struct reader *r, const struct record *record)
{
    const struct vcpu_head *h = (const void *)record->data;
    struct blob *b;
    uint32_t size;

    want(r->saved.has_static_data, "a vCPU");
    if (record->length <= sizeof(*h) || record->length > MAX_STATE || h->vcpu >= r->nr_vcpus)
        fail(EINVAL, "the stream has %u bytes of a vCPU; expected more than %zu, at most %u, and less than %u vCPUs", record->length,
             sizeof(*h), MAX_STATE, r->nr_vcpus);
    size = record->length - (uint32_t)sizeof(*h);
    want_vcpu_size(r, record->type, size);
    b = vcpu_blob(&r->saved.vcpu[h->vcpu], record->type);
    want(!b->size, "a vCPU's state");
    *b = blob_from(h + 1, size, "a vCPU");
}

/* All that is said to be there fits into the record. */
static void take_pages(struct reader *r, const struct record *record)
{
    const struct page_data *p = (const void *)record->data;
    unsigned nr = 0;

    want(r->saved.list.size, "PAGE_DATA");
    if (record->length < sizeof(*p) || !p->count || p->count > MAX_BATCH || record->length < sizeof(*p) + p->count * sizeof(*p->word))
        fail(EINVAL, "the stream has %u bytes of memory, or more or less than 1 to %u pages", record->length, MAX_BATCH);
    for (unsigned i = 0; i < p->count; i++) {
        if (PAGE_PFN(p->word[i]) >= r->saved.nr_pfns || !is_known(PAGE_KIND(p->word[i]), r->format.levels))
            fail(EINVAL, "page %#llx of kind %#x: expected less than %#x, and data or a table of level 1 to %u",
                 (unsigned long long)PAGE_PFN(p->word[i]), PAGE_KIND(p->word[i]), r->saved.nr_pfns, r->format.levels);
        nr += has_page(PAGE_KIND(p->word[i]));
    }
    want_size(record, sizeof(*p) + p->count * sizeof(*p->word) + (size_t)nr * PAGE, "memory");
    r->pages(p, (const uint8_t *)(p->word + p->count));
}

static void take_verify(struct reader *r, const struct record *record)
{
    want(r->verify && r->saved.list.size, "VERIFY");
    want_size(record, 0, "VERIFY");
    r->verify();
}

static const struct {
    uint32_t type;
    void (*take)(struct reader *r, const struct record *record);
} kinds[] = {
    { REC_PV_INFO, take_info }, { REC_CPUID_POLICY, take_policy }, { REC_MSR_POLICY, take_policy },
    { REC_STATIC_DATA_END, take_static_data_end }, { REC_P2M_FRAMES, take_list }, { REC_PAGE_DATA, take_pages },
    { REC_TSC_INFO, take_tsc }, { REC_SHARED_INFO, take_shared_info }, { REC_VCPU_BASIC, take_vcpu },
    { REC_VCPU_EXTENDED, take_vcpu }, { REC_VCPU_XSAVE, take_vcpu }, { REC_VCPU_MSRS, take_vcpu },
    { REC_VERIFY, take_verify },
};

void read_record(struct reader *r, const struct record *record)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].type == record->type) {
            kinds[i].take(r, record);
            return;
        }
    if (!(record->type & REC_OPTIONAL))
        fail(EINVAL, "the stream has a record of type %#x, which is unknown for such a domain", record->type);
}

void read_end(const struct reader *r)
{
    if (!r->saved.list.size || !r->saved.shared.size || !r->saved.vcpu[0].context.size)
        fail(EINVAL, "the stream ends without X86_PV_P2M_FRAMES, SHARED_INFO or the context of vCPU 0");
}

void read_stream(struct reader *r)
{
    struct record record;

    stream_get_head();
    while ((record = stream_get()).type != REC_END) {
        read_record(r, &record);
        free(record.data);
    }
    free(record.data);
    read_end(r);
}
