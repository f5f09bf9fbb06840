#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/foreign/x86_32.h>

#include "../save-helper/talk.h"

static const struct format formats[] = {
    { { .width = 8, .levels = 4 }, &layout64, sizeof(struct vcpu_guest_context) },
    { { .width = 4, .levels = 3 }, &layout32, sizeof(struct vcpu_guest_context_x86_32) },
};

const struct format *format_of(const struct pv_info *pv)
{
    for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (formats[i].pv.width == pv->width && formats[i].pv.levels == pv->levels)
            return &formats[i];
    return NULL;
}

/* --- The head --- */

static void check_head(const struct template_head *h, uint64_t size)
{
    if (memcmp(h->magic, TEMPLATE_MAGIC, sizeof(h->magic)))
        fail(EINVAL, "this is no template");
    if (h->version != TEMPLATE_VERSION)
        fail(EINVAL, "a template of version %u, expected %u: make it again", h->version, TEMPLATE_VERSION);
    if (!h->nr_pfns || h->nr_pfns > MAX_PFNS || !h->nr_vcpus || h->nr_vcpus > MAX_VCPUS)
        fail(ERANGE, "a template of %u frames and %u vCPUs, expected at most %u and %u", h->nr_pfns, h->nr_vcpus, MAX_PFNS, MAX_VCPUS);
    if (h->target_kib > MAX_KIB || h->max_kib > MAX_KIB)
        fail(ERANGE, "a template of a domain with more than %llu KiB of memory", MAX_KIB);
    if (records_at(h) + h->records != size)
        fail(EINVAL, "the template has %llu bytes, but %u frames, %u bytes of records, %u pages and %u tables", (unsigned long long)size,
             h->nr_pfns, h->records, h->nr_data, h->nr_tables);
}

static void check_content(const struct template *t)
{
    uint32_t nr_data = 0, nr_tables = 0;

    for (uint32_t pfn = 0; pfn < t->head.nr_pfns; pfn++) {
        unsigned c = CONTENT(t->content[pfn]);

        if (c > TABLE_4 || (t->content[pfn] & PINNED && c < TABLE))
            fail(EINVAL, "the template has a frame %#x of kind %#x", pfn, t->content[pfn]);
        nr_data += c == DATA;
        nr_tables += c >= TABLE;
    }
    if (nr_data != t->head.nr_data || nr_tables != t->head.nr_tables)
        fail(EINVAL, "the template has %u pages of data and %u tables, but says %u and %u", nr_data, nr_tables, t->head.nr_data,
             t->head.nr_tables);
}

/* --- The records --- */

static void take_info(const struct pv_info *pv);
static void take_static_data(const struct saved *s) { (void)s; }
static void take_frames(const struct saved *s) { (void)s; }

static void take_pages(const struct page_data *p, const uint8_t *pages)
{
    (void)p, (void)pages;
    fail(EINVAL, "the template has memory among its records");
}

static const struct format *format;
static struct reader reader = {
    .max_pfns = MAX_PFNS, .info = take_info, .static_data = take_static_data, .frames = take_frames, .pages = take_pages,
};

static void take_info(const struct pv_info *pv)
{
    format = format_of(pv);
    if (!format)
        fail(EINVAL, "the template is of a domain with words of %u bytes and %u levels of page tables", pv->width, pv->levels);
    reader.format = format->pv;
    reader.context_size = format->context_size;
}

/* One of left bytes; how many it takes. */
static size_t read_one(const uint8_t *at, size_t left)
{
    struct record_head h;
    struct record r;
    size_t padded;

    if (left < sizeof(h))
        fail(EINVAL, "the template's records end in the middle of one");
    memcpy(&h, at, sizeof(h));
    padded = sizeof(h) + ((size_t)h.length + 7) / 8 * 8;
    if (padded > left || h.type == REC_END)
        fail(EINVAL, "the template has a record of type %#x and %u bytes, where %zu are left", h.type, h.length, left);
    r = (struct record){ h.type, h.length, (uint8_t *)at + sizeof(h) };
    read_record(&reader, &r);
    return padded;
}

static void read_records(struct template *t, const uint8_t *records)
{
    reader.nr_vcpus = t->head.nr_vcpus;
    for (size_t at = 0; at < t->head.records;)
        at += read_one(records + at, t->head.records - at);
    read_end(&reader);
    if (reader.saved.nr_pfns != t->head.nr_pfns)
        fail(EINVAL, "the template has %u frames, and a list of %u", t->head.nr_pfns, reader.saved.nr_pfns);
    t->format = format;
    t->saved = &reader.saved;
}

void template_read(const struct template *t, void *to, size_t size, uint64_t at)
{
    for (uint8_t *p = to; size;) {
        ssize_t n = pread(t->fd, p, size, (off_t)at);

        if (n <= 0)
            fail(n ? errno : EPIPE, "cannot read the template");
        p += n;
        at += (size_t)n;
        size -= (size_t)n;
    }
}

/* What follows the pages. */
static const uint8_t *read_rest(const struct template *t, size_t size)
{
    uint8_t *rest = malloc(size);

    if (!rest)
        fail(ENOMEM, "no memory for %zu bytes of the template", size);
    template_read(t, rest, size, content_at(&t->head));
    return rest;
}

void template_open(struct template *t, const char *path)
{
    struct stat s;

    t->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0 || fstat(t->fd, &s))
        fail(errno, "cannot open the template");
    if (!S_ISREG(s.st_mode) || pread(t->fd, &t->head, sizeof(t->head), 0) != sizeof(t->head))
        fail(EINVAL, "this is no template");
    check_head(&t->head, (uint64_t)s.st_size);
    t->content = read_rest(t, (size_t)((uint64_t)s.st_size - content_at(&t->head)));
    check_content(t);
    read_records(t, t->content + records_at(&t->head) - content_at(&t->head));
}
