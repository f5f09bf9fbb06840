/* How large dom0 is: dom0_mem= and dom0_max_vcpus=. */
#include <asm/boot.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>

/* An amount of memory: bytes and a share of what there is, together. minus: all that there is but that. */
struct amount { bool given, minus; u32 percent; u64 bytes; };
static struct dom0_mem { struct amount size, min, max; } opt_mem;
static struct { u32 min, max; } opt_vcpus;     /* max 0: as many as there are CPUs */

/* [-]<size>, [-]<frac>% or [-]<size>+<frac>%, up to end. */
static int parse_amount(const char *p, const char *end, struct amount *to)
{
    struct amount a = { .given = true, .minus = *p == '-' };
    const char *stop;
    u64 percent = strtoull(p += a.minus, &stop, 10);

    if (stop != p && *stop != '%') {
        a.bytes = cmdline_size(p, &stop);
        percent = 0;
        if (stop != end) {
            p = stop + 1;
            percent = *stop == '+' ? strtoull(p, &stop, 10) : 100;
        }
    }
    if (stop == p || percent >= 100 || (stop != end && (*stop != '%' || stop + 1 != end)) || (!a.bytes && !percent))
        return -EINVAL;
    a.percent = (u32)percent;
    *to = a;
    return 0;
}

static int parse_mem_word(void *mem, const char *word, size_t len)
{
    struct dom0_mem *m = mem;

    if (len > 4 && !strncmp(word, "min:", 4))
        return parse_amount(word + 4, word + len, &m->min);
    if (len > 4 && !strncmp(word, "max:", 4))
        return parse_amount(word + 4, word + len, &m->max);
    return parse_amount(word, word + len, &m->size);
}

static int parse_dom0_mem(const char *v)
{
    struct dom0_mem m = { 0 };
    int rc = cmdline_list(v, parse_mem_word, &m);

    if (!rc)
        opt_mem = m;
    return rc;
}
CMDLINE_OPTION("dom0_mem", parse_dom0_mem);

/* dom0_max_vcpus=<n>, or a range in which the number of CPUs is to be, one end of which may be left out. */
static int parse_dom0_vcpus(const char *v)
{
    const char *first, *last;
    u64 low = strtoull(v, &first, 0), high = low;

    if (*first == '-') {
        high = strtoull(first + 1, &last, 0);
        if (last == first + 1)
            high = first == v ? 0 : MAX_VCPUS;
        low = max(low, 1UL);
    } else {
        last = first;
    }
    if (*last || !low || low > high || low > MAX_VCPUS)
        return -EINVAL;
    opt_vcpus.min = (u32)low;
    opt_vcpus.max = (u32)min(high, (u64)MAX_VCPUS);
    return 0;
}
CMDLINE_OPTION("dom0_max_vcpus", parse_dom0_vcpus);

static bool pinned;
CMDLINE_BOOL("dom0_vcpus_pin", pinned);

bool dom0_is_pinned(void) { return pinned; }

static u64 pages_of(const struct amount *a, u64 available)
{
    u64 pages = min((a->bytes >> PAGE_SHIFT) + available * a->percent / 100, available);

    return a->minus ? available - pages : pages;
}

u64 dom0_pages(u64 available)
{
    u64 most = available - min(available / 16, 128UL << (20 - PAGE_SHIFT)), pages = most;

    if (opt_mem.size.given)
        pages = min(pages_of(&opt_mem.size, available), most);
    if (opt_mem.min.given)
        pages = max(pages, min(pages_of(&opt_mem.min, available), most));
    if (opt_mem.max.given)
        pages = min(pages, pages_of(&opt_mem.max, available));
    return pages;
}

u64 dom0_most_pages(u64 available) { return opt_mem.max.given ? pages_of(&opt_mem.max, available) : DOM0_UNLIMITED; }

u32 dom0_vcpus(u32 cpus) { return opt_vcpus.max ? min(max(cpus, opt_vcpus.min), opt_vcpus.max) : min(cpus, (u32)MAX_VCPUS); }
