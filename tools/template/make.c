/*
 * A template from the file that `xl save` has written. That file may be anything: each number in it is looked at before it is used.
 *
 * Pages of data go to the template as they come, in the order of the guest's numbers, in which they are saved while a guest stands still;
 * the tables, which are few, when all have come.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "template.h"

#include "../save-helper/talk.h"

/* --- What stands before the domain: xl's header and settings, libxl's header --- */

struct xl_head {
    char magic[32];
    uint32_t byte_order, mandatory, optional, size;     /* size: of what follows, the domain's settings among it */
};
#define XL_MAGIC      "Xen saved domain, xl format\n"
#define XL_BYTE_ORDER 0x01020304u
#define XL_STREAM     2u            /* of mandatory: libxl's stream, of Xen 4.6 and later, follows */
#define MAX_SETTINGS  (1u << 20)

struct libxl_head { uint64_t id; uint32_t version, options; };      /* big endian */
#define LIBXL_ID      0x4c6962786c466d74ull
#define LIBXL_VERSION 2u
#define LIBXL_DOMAIN  1u            /* the record that the domain follows */

/* The domain's settings, JSON after their length; "" if there are none. */
static char *read_settings(void)
{
    struct xl_head h;
    char *text;

    stream_get_bytes(&h, sizeof(h), "xl's header");
    if (memcmp(h.magic, XL_MAGIC, sizeof(XL_MAGIC) - 1) || h.byte_order != XL_BYTE_ORDER || !(h.mandatory & XL_STREAM))
        fail(EINVAL, "this is no file that xl save of Xen 4.6 or later has written");
    if (h.size > MAX_SETTINGS)
        fail(EINVAL, "the domain's settings have %u bytes, expected at most %u", h.size, MAX_SETTINGS);
    text = calloc(1, h.size + 1);
    if (!text)
        fail(ENOMEM, "no memory for %u bytes of settings", h.size);
    stream_get_bytes(text, h.size, "the domain's settings");
    return h.size > sizeof(uint32_t) ? text + sizeof(uint32_t) : text + h.size;
}

/* The number that the settings have under this name, or 0. */
static uint64_t setting(const char *settings, const char *name)
{
    char key[32];
    const char *at;

    snprintf(key, sizeof(key), "\"%s\":", name);
    at = strstr(settings, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void skip_libxl_head(void)
{
    struct libxl_head h;
    struct record_head r;

    stream_get_bytes(&h, sizeof(h), "libxl's header");
    if (be64toh(h.id) != LIBXL_ID || ntohl(h.version) != LIBXL_VERSION || h.options)
        fail(EINVAL, "libxl's header is %#llx, version %u, options %#x: expected version %u without options",
             (unsigned long long)be64toh(h.id), ntohl(h.version), ntohl(h.options), LIBXL_VERSION);
    stream_get_bytes(&r, sizeof(r), "libxl's first record");
    if (r.type != LIBXL_DOMAIN || r.length)
        fail(EINVAL, "libxl's first record is of type %u and has %u bytes: expected a domain", r.type, r.length);
}

/* --- What is written --- */

struct bytes {
    size_t size, room;
    uint8_t *at;
};

static int in, out;
static struct template_head head;
static struct bytes tables, records;
static uint8_t *content;
static uint32_t next_pfn;           /* those below have come */

static void append(struct bytes *b, const void *from, size_t size)
{
    if (b->room - b->size < size) {
        b->room = (b->room + size) * 2;
        b->at = realloc(b->at, b->room);
        if (!b->at)
            fail(ENOMEM, "no memory for %zu bytes of page tables or vCPUs", b->room);
    }
    memcpy(b->at + b->size, from, size);
    b->size += size;
}

static void write_at(uint64_t at, const void *bytes, size_t size)
{
    for (const uint8_t *p = bytes; size;) {
        ssize_t n = pwrite(out, p, size, (off_t)at);

        if (n <= 0)
            fail(n ? errno : EIO, "cannot write the template");
        p += n;
        at += (size_t)n;
        size -= (size_t)n;
    }
}

/* --- The domain --- */

static struct reader reader;

static void take_info(const struct pv_info *pv)
{
    const struct format *f = format_of(pv);

    if (!f)
        fail(EOPNOTSUPP, "a domain with words of %u bytes and %u levels of page tables can be no template: 64-bit and PAE ones can",
             pv->width, pv->levels);
    reader.format = f->pv;
    reader.context_size = f->context_size;
}

static void take_static_data(const struct saved *s) { (void)s; }

/* Pages of the list of frames are made anew for each domain, and are empty in the template. This stands for them until they come. */
#define LISTED 0x40u

static void take_frames(const struct saved *s)
{
    const uint64_t *list = s->list.bytes;

    head.nr_pfns = s->nr_pfns;
    content = calloc(1, ((size_t)s->nr_pfns + 7) / 8 * 8);
    if (!content)
        fail(ENOMEM, "no memory for the kinds of %u frames", s->nr_pfns);
    for (uint32_t i = 0; i < s->list.size / sizeof(*list); i++) {
        if (list[i] >= s->nr_pfns)
            fail(ERANGE, "the list of frames lies in %#llx, which is none of the guest's %u frames", (unsigned long long)list[i],
                 s->nr_pfns);
        content[list[i]] = LISTED;
    }
}

static bool is_empty(const uint8_t *page) { return !page[0] && !memcmp(page, page + 1, PAGE - 1); }

static void take_page(uint32_t pfn, uint32_t kind, const uint8_t *page)
{
    unsigned level = table_level(kind);

    if (level) {
        content[pfn] = (uint8_t)(TABLE + level - 1) | (kind & XEN_DOMCTL_PFINFO_LPINTAB ? PINNED : 0);
        append(&tables, page, PAGE);
        head.nr_tables++;
    } else if (content[pfn] == LISTED || is_empty(page)) {
        content[pfn] = EMPTY;
    } else {
        content[pfn] = DATA;
        write_at(DATA_AT + (uint64_t)head.nr_data * PAGE, page, PAGE);
        head.nr_data++;
    }
}

static void take_pages(const struct page_data *p, const uint8_t *pages)
{
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t pfn = (uint32_t)PAGE_PFN(p->word[i]), kind = PAGE_KIND(p->word[i]);

        if (pfn < next_pfn)
            fail(EINVAL, "the guest's frame %#x comes after %#x: was it saved while it ran?", pfn, next_pfn - 1);
        next_pfn = pfn + 1;
        if (!has_page(kind))
            continue;
        take_page(pfn, kind, pages);
        pages += PAGE;
    }
}

static struct reader reader = {
    .max_pfns = MAX_PFNS, .nr_vcpus = MAX_VCPUS, .info = take_info, .static_data = take_static_data, .frames = take_frames,
    .pages = take_pages,
};

/* What is not memory goes to the template as it is. */
static void keep(const struct record *r)
{
    const struct record_head h = { r->type, r->length };

    if (r->type == REC_PAGE_DATA || r->type & REC_OPTIONAL)
        return;
    append(&records, &h, sizeof(h));
    append(&records, r->data, ((size_t)r->length + 7) / 8 * 8);
}

/* Who sends may take his time. */
static struct record next_record(void)
{
    signals_await(in, -1);
    return stream_get();
}

static void read_domain(void)
{
    struct record r;

    stream_get_head();
    while ((r = next_record()).type != REC_END) {
        read_record(&reader, &r);
        keep(&r);
        free(r.data);
    }
    free(r.data);
    read_end(&reader);
}

/* What names a frame that has not come, or that is a table, would make no domain: none could be begun. */
static void check_list(void)
{
    const uint64_t *list = reader.saved.list.bytes;

    for (uint32_t i = 0; i < reader.saved.list.size / sizeof(*list); i++)
        if (content[list[i]] != EMPTY)
            fail(EINVAL, "page %u of the list of frames is the guest's frame %#llx: expected a page of data, %s has come; save it again",
                 i, (unsigned long long)list[i], content[list[i]] == LISTED ? "none" : "a page table");
}

/* Settings say how many vCPUs and how much memory there may be, the stream how many there are. */
static void fill_head(const char *settings)
{
    uint64_t most = setting(settings, "max_vcpus"), kib = (uint64_t)head.nr_pfns * (PAGE / 1024);

    memcpy(head.magic, TEMPLATE_MAGIC, sizeof(head.magic));
    if (getrandom(head.id, sizeof(head.id), 0) != sizeof(head.id))
        fail(errno, "no random numbers");
    head.version = TEMPLATE_VERSION;
    head.records = (uint32_t)records.size;
    for (uint32_t id = 0; id < MAX_VCPUS; id++)
        if (reader.saved.vcpu[id].context.size)
            head.nr_vcpus = id + 1;
    if (most > head.nr_vcpus && most <= MAX_VCPUS)
        head.nr_vcpus = (uint32_t)most;
    head.target_kib = setting(settings, "target_memkb");
    head.max_kib = setting(settings, "max_memkb");
    if (!head.target_kib || head.target_kib > MAX_KIB)
        head.target_kib = kib;
    if (head.max_kib < head.target_kib || head.max_kib > MAX_KIB)
        head.max_kib = head.target_kib;
}

/* The head comes last: what has none is no template. */
static void write_rest(void)
{
    write_at(tables_at(&head), tables.at, tables.size);
    write_at(content_at(&head), content, ((size_t)head.nr_pfns + 7) / 8 * 8);
    write_at(records_at(&head), records.at, records.size);
    write_at(0, &head, sizeof(head));
}

void template_make(int from, int to)
{
    char *settings;

    in = from;
    out = to;
    stream_begin(from);
    signals_await(in, -1);
    settings = read_settings();
    skip_libxl_head();
    read_domain();
    check_list();
    fill_head(settings);
    write_rest();
    say(XTL_INFO, "%u frames: %u of data, %u page tables, the others empty or absent", head.nr_pfns, head.nr_data, head.nr_tables);
}

/* --- Its file --- */

static char partial[PATH_MAX];

static void remove_partial(void) { unlink(partial); }

/* A file of ours alone, since others may make the same template, and for us alone to read: it is a guest's memory. */
static int begin_partial(const char *path)
{
    int fd;

    if (snprintf(partial, sizeof(partial), "%s.XXXXXX", path) >= (int)sizeof(partial))
        fail(ENAMETOOLONG, "%s", path);
    fd = mkostemp(partial, O_CLOEXEC);
    if (fd < 0)
        fail(errno, "cannot make a file beside %s", path);
    on_failure(remove_partial);
    return fd;
}

void template_make_file(const char *saved, const char *path)
{
    int from = open(saved, O_RDONLY | O_CLOEXEC), to;

    if (from < 0)
        fail(errno, "%s", saved);
    signals_hold();
    to = begin_partial(path);
    template_make(from, to);
    signals_look();
    if (fsync(to) || close(to) || rename(partial, path))
        fail(errno, "%s", path);
    on_failure(NULL);
}
