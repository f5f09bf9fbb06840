/*
 * The machine's memory map: what the boot loader tells, in any order and with overlaps, made into sorted pieces that neither overlap
 * nor touch one of their own kind.
 */
#include <asm/e820.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

struct e820_entry host_e820[E820_MAX];
unsigned host_e820_nr;
static unsigned lost_pieces __initdata;
static u64 lost_bytes __initdata;

/* RAM gives way to all else; of two other kinds the higher number wins. */
static __init u32 stronger(u32 a, u32 b) { return a == E820_RAM || (b != E820_RAM && b > a) ? b : a; }

static __init u64 end_of(const struct e820_entry *e) { return e->start + e->size < e->start ? ~0UL : e->start + e->size; }

/* The entry at p; where the next one begins. */
static __init const char *read_entry(const struct e820_source *s, const char *p, struct e820_entry *e)
{
    const char *body = s->stride ? p : p + 4;
    u32 step = s->stride;

    if (!step) {
        memcpy(&step, p, 4);
        step += 4;
    }
    memcpy(e, body, 20);      /* start, size, type: packed there, and at any address */
    e->type = e->type ? e->type : E820_RESERVED;
    return p + max(step, 20u);
}

/* What is at `at`, 0: nothing, and in *next where that may change. */
static __init u32 type_at(const struct e820_source *s, u64 at, u64 *next)
{
    u32 type = 0;
    struct e820_entry e;

    *next = ~0UL;
    for (const char *p = s->at; s->end - p >= 24;) {
        p = read_entry(s, p, &e);
        if (!e.size || end_of(&e) <= at)
            continue;
        *next = min(*next, e.start > at ? e.start : end_of(&e));
        if (e.start <= at)
            type = type ? stronger(type, e.type) : e.type;
    }
    return type;
}

/* Makes room by giving up the smallest piece of RAM. What is not in the map is device memory: nothing is lost but its use. */
static __init void drop_smallest(void)
{
    struct e820_entry *least = NULL;

    for (struct e820_entry *e = host_e820; e < host_e820 + host_e820_nr; e++)
        if (e->type == E820_RAM && (!least || e->size < least->size))
            least = e;
    if (!least)
        least = host_e820;
    lost_pieces++;
    lost_bytes += least->type == E820_RAM ? least->size : 0;
    memmove(least, least + 1, (size_t)((char *)(host_e820 + --host_e820_nr) - (char *)least));
}

static __init void append(u64 start, u64 end, u32 type)
{
    struct e820_entry *last = host_e820_nr ? &host_e820[host_e820_nr - 1] : NULL;

    if (last && last->type == type && last->start + last->size == start) {
        last->size += end - start;
        return;
    }
    if (host_e820_nr == E820_MAX)
        drop_smallest();
    host_e820[host_e820_nr++] = (struct e820_entry){ start, end - start, type };
}

/* What our own address space has no place for is nobody's. */
static __init void append_below_limit(u64 start, u64 end, u32 type)
{
    if (type != E820_RAM || end <= E820_RAM_LIMIT) {
        append(start, end, type);
        return;
    }
    if (start < E820_RAM_LIMIT)
        append(start, E820_RAM_LIMIT, type);
    append(max(start, E820_RAM_LIMIT), end, E820_UNUSABLE);
}

__init void e820_read(const struct e820_source *s)
{
    u64 next;

    host_e820_nr = 0;
    for (u64 at = 0; at != ~0UL; at = next) {
        u32 type = type_at(s, at, &next);

        if (type)
            append_below_limit(at, next, type);
    }
}

/* --- What the command line keeps from being used --- */

#define BAD_MAX 32

static u64 mem_end = ~0UL, mem_amount = ~0UL;       /* bytes */
static struct bad_pages { unsigned n; struct { u64 start, end; } range[BAD_MAX]; } bad;

static int parse_limit(const char *value, u64 *limit)
{
    const char *end;
    u64 size = cmdline_size(value, &end);

    if (end == value || *end || !size)
        return -EINVAL;
    *limit = size;
    return 0;
}
static int parse_mem(const char *value) { return parse_limit(value, &mem_end); }
CMDLINE_OPTION("mem", parse_mem);
static int parse_availmem(const char *value) { return parse_limit(value, &mem_amount); }
CMDLINE_OPTION("availmem", parse_availmem);

/* A page's number, or FIRST-LAST. */
static int parse_bad_range(void *to, const char *word, size_t len)
{
    struct bad_pages *b = to;
    const char *p;
    u64 first = strtoull(word, &p, 0), last = first;

    if (p == word || b->n == BAD_MAX)
        return -EINVAL;
    if (*p == '-' && p < word + len) {
        word = p + 1;
        last = strtoull(word, &p, 0);
    }
    if (p == word || (*p && *p != ',') || last < first || last >= ~0UL >> PAGE_SHIFT)
        return -EINVAL;
    b->range[b->n].start = first << PAGE_SHIFT;
    b->range[b->n++].end = (last + 1) << PAGE_SHIFT;
    return 0;
}

static int parse_badpage(const char *value)
{
    struct bad_pages b = bad;
    int rc = cmdline_list(value, parse_bad_range, &b);

    if (!rc)
        bad = b;
    return rc;
}
CMDLINE_OPTION("badpage", parse_badpage);

static __init void append_some(u64 start, u64 end, u32 type)
{
    if (start < end)
        append(start, end, type);
}

/* RAM from start to end becomes something of another type. How much that was, in bytes. */
static __init u64 convert(u64 start, u64 end, u32 type)
{
    static struct e820_entry map[E820_MAX] __initdata;
    unsigned n = host_e820_nr;
    u64 converted = 0;

    memcpy(map, host_e820, sizeof(map));
    host_e820_nr = 0;
    for (const struct e820_entry *e = map; e < map + n; e++) {
        u64 from = min(max(start, e->start), end_of(e)), to = max(min(end, end_of(e)), from);

        if (e->type != E820_RAM) {
            append(e->start, end_of(e), e->type);
            continue;
        }
        append_some(e->start, from, E820_RAM);
        append_some(from, to, type);
        append_some(to, end_of(e), E820_RAM);
        converted += to - from;
    }
    return converted;
}

/* RAM from start to end is not to be used. */
static __init u64 withhold(u64 start, u64 end) { return convert(start, end, E820_UNUSABLE); }

__init void e820_reserve(u64 start, u64 end) { convert(start, end, E820_RESERVED); }

/* The address below which there is so much RAM. */
static __init u64 end_of_amount(u64 amount)
{
    for (const struct e820_entry *e = host_e820; e < host_e820 + host_e820_nr; e++) {
        if (e->type != E820_RAM)
            continue;
        if (e->size >= amount)
            return e->start + amount;
        amount -= e->size;
    }
    return ~0UL;
}

#define HLE_START (1UL << 30)
#define HLE_BYTES (1UL << 20)

static __init void withhold_for_hle(void)
{
    u64 withheld = withhold(HLE_START, HLE_START + HLE_BYTES);

    if (withheld)
        printk(LOG_INFO "%lu KiB of RAM at 1 GiB are left unused: there a guest could hang this CPU by HLE\n", withheld >> 10);
}

__init void e820_withhold(bool hle_hangs)
{
    u64 withheld = 0;

    if (hle_hangs)
        withhold_for_hle();
    for (unsigned i = 0; i < bad.n; i++)
        withheld += withhold(bad.range[i].start, bad.range[i].end);
    if (mem_end != ~0UL)
        withheld += withhold(mem_end & PAGE_MASK, ~0UL);
    if (mem_amount != ~0UL)
        withheld += withhold(end_of_amount(mem_amount) & PAGE_MASK, ~0UL);
    if (withheld)
        printk(LOG_INFO "By the command line %lu KiB of RAM are left unused\n", withheld >> 10);
}

__init void e820_log(void)
{
    static const char *const names[] = { "?", "RAM", "reserved", "ACPI data", "ACPI NVS", "unusable" };

    printk(LOG_INFO "Memory map from the firmware:\n");
    for (unsigned i = 0; i < host_e820_nr; i++) {
        const struct e820_entry *e = &host_e820[i];

        printk(LOG_INFO " [%016lx, %016lx] (%s)\n", e->start, e->start + e->size - 1,
               e->type < ARRAY_SIZE(names) ? names[e->type] : "reserved");
        if (e->type == E820_UNUSABLE && e->start >= E820_RAM_LIMIT)
            printk(LOG_WARNING "Memory from %#lx on (%lu MiB) is left unused: pvisor reaches %lu GiB\n", e->start, e->size >> 20,
                   E820_RAM_LIMIT >> 30);
    }
    if (lost_pieces)
        printk(LOG_WARNING "The memory map is in more than %u pieces: the smallest %u, of %lu KiB, are left unused\n", E820_MAX,
               lost_pieces, lost_bytes >> 10);
}
