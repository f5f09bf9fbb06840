/*
 * The log's front: levels, thresholds and the limit on what guests can make us say. A threshold pair
 * lower/upper means: up to lower a line is always printed, up to upper it is printed at a limited rate, above
 * it is dropped. Each domain has a limit of its own, so that none silences another, and what it has too much costs no lock.
 */
#include <asm/atomic.h>
#include <asm/percpu.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include "internal.h"

#define PREFIX "(XEN) "   /* people and tools search the serial log for it */
#define LEVEL_MARK '\001'
#define BURST 30
#define REFILL_NS MILLISECS(250)

/* Number of levels let through: 0 none ... 4 all. */
struct thresholds { u8 always, limited; };

enum { LEVEL_ERR, LEVEL_WARNING, LEVEL_INFO, LEVEL_DEBUG, NR_LEVELS };

#ifdef DEBUG
static struct thresholds host_level = { NR_LEVELS, NR_LEVELS };
static struct thresholds guest_level = { NR_LEVELS, NR_LEVELS };
#else
static struct thresholds host_level = { LEVEL_INFO + 1, LEVEL_INFO + 1 };
static struct thresholds guest_level = { 0, LEVEL_WARNING + 1 };
#endif

static struct ratelimit host_limit, early_limit;
static char text[1024];           /* under the console lock */
static bool mid_line, line_shown; /* likewise: the last text had no newline; whether it was let through */

/* By the number of levels let through; "debug" is another word for all. */
static const char *const level_names[] = { "none", "error", "warning", "info", "all", "debug" };

static bool parse_one_level(const char **p, u8 *level)
{
    for (unsigned i = 0; i < ARRAY_SIZE(level_names); i++) {
        size_t n = strlen(level_names[i]);

        if (!strncmp(*p, level_names[i], n) && ((*p)[n] == '\0' || (*p)[n] == '/')) {
            *level = (u8)min(i, (unsigned)NR_LEVELS);
            *p += n;
            return true;
        }
    }
    return false;
}

static int parse_levels(const char *v, struct thresholds *t)
{
    struct thresholds new;

    if (!parse_one_level(&v, &new.always))
        return -EINVAL;
    new.limited = new.always;
    if (*v == '/') {
        v++;
        if (!parse_one_level(&v, &new.limited))
            return -EINVAL;
    }
    if (*v || new.limited < new.always)
        return -EINVAL;
    *t = new;
    return 0;
}

static void show_levels(char *buf, size_t size, const struct thresholds *t)
{
    snprintf(buf, size, "%s/%s", level_names[t->always], level_names[t->limited]);
}

static int parse_loglvl(const char *v) { return parse_levels(v, &host_level); }
static void show_loglvl(char *buf, size_t size) { show_levels(buf, size, &host_level); }
CMDLINE_RUNTIME("loglvl", parse_loglvl, show_loglvl);
static int parse_guest_loglvl(const char *v) { return parse_levels(v, &guest_level); }
static void show_guest_loglvl(char *buf, size_t size) { show_levels(buf, size, &guest_level); }
CMDLINE_RUNTIME("guest_loglvl", parse_guest_loglvl, show_guest_loglvl);

/* Up to BURST at once, then one every REFILL_NS. */
static bool ratelimit_allow(struct ratelimit *r)
{
    u64 now = now_ns(), due = read_once(r->due), from;

    do {
        from = max(due, now);
        if (from - now > (BURST - 1) * REFILL_NS) {
            atomic_inc(&r->suppressed);
            return false;
        }
    } while (!try_cmpxchg(&r->due, &due, from + REFILL_NS));
    return true;
}

/* Whether a line of this level is printed. */
static bool level_passes(const struct thresholds *t, struct ratelimit *limit, unsigned level)
{
    if (level < t->always)
        return true;
    return level < t->limited && ratelimit_allow(limit);
}

bool guest_console_allowed(void)
{
    return guest_level.limited > LEVEL_DEBUG;
}

/* Prints s, which may hold several lines or a part of one, with a prefix at each line's start. */
static void emit_lines(const char *s)
{
    while (*s) {
        const char *newline = strchr(s, '\n');
        size_t len = newline ? (size_t)(newline - s) + 1 : strlen(s);

        if (!mid_line)
            console_emit_log(PREFIX, sizeof(PREFIX) - 1);
        console_emit_log(s, len);
        mid_line = !newline;
        s += len;
    }
}

/* The level that a format begins with, which is taken off, or else the one given. */
static unsigned take_level(const char **fmt, unsigned level)
{
    if ((*fmt)[0] != LEVEL_MARK || (*fmt)[1] < '0' || (*fmt)[1] > '3')
        return level;
    level = (*fmt)[1] - '0';
    *fmt += 2;
    return level;
}

void vprintk(const char *fmt, va_list args)
{
    unsigned level = take_level(&fmt, LEVEL_INFO);
    u64 flags = console_lock();

    if (!mid_line)
        line_shown = level_passes(&host_level, &host_limit, level);
    if (line_shown) {
        vsnprintf(text, sizeof(text), fmt, args);
        emit_lines(text);
    }
    console_unlock(flags);
}

void printk(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintk(fmt, args);
    va_end(args);
}

/* With the console lock: begins a line about a guest, after what was kept back before it. */
static void begin_guest_line(const char *who, struct ratelimit *limit)
{
    u32 n = read_once(limit->suppressed) ? xchg(&limit->suppressed, 0) : 0;

    if (mid_line)
        emit_lines("\n");
    if (!n)
        return;
    snprintf(text, sizeof(text), "%s%u lines before this were suppressed (guest_loglvl=)\n", who, n);
    emit_lines(text);
}

static void say(const char *who, struct ratelimit *limit, const char *fmt, va_list args)
{
    u64 flags = console_lock();
    int n;

    begin_guest_line(who, limit);
    n = snprintf(text, sizeof(text), "%s", who);
    n += vsnprintf(text + n, sizeof(text) - n, fmt, args);
    n = min(n, (int)sizeof(text) - 2);
    if (text[n - 1] != '\n')
        strlcpy(text + n, "\n", sizeof(text) - n);
    emit_lines(text);
    console_unlock(flags);
}

void guest_log(const char *fmt, ...)
{
    const struct vcpu *v = current;
    struct ratelimit *limit = v ? &v->domain->console.limit : &early_limit;
    unsigned level = take_level(&fmt, LEVEL_WARNING);
    char who[24] = "";
    va_list args;

    if (!level_passes(&guest_level, limit, level))
        return;
    if (v)
        snprintf(who, sizeof(who), "d%uv%u: ", v->domain->id, v->id);
    va_start(args, fmt);
    say(who, limit, fmt, args);
    va_end(args);
}

void domain_log(struct domain *d, const char *fmt, ...)
{
    unsigned level = take_level(&fmt, LEVEL_WARNING);
    char who[16];
    va_list args;

    if (!level_passes(&guest_level, &d->console.limit, level))
        return;
    snprintf(who, sizeof(who), "d%u: ", d->id);
    va_start(args, fmt);
    say(who, &d->console.limit, fmt, args);
    va_end(args);
}

void guest_text_log(struct domain *d, const char *s, size_t len)
{
    char who[16];
    u64 flags;

    if (!level_passes(&guest_level, &d->console.limit, LEVEL_DEBUG))
        return;
    snprintf(who, sizeof(who), "(d%u) ", d->id);
    flags = console_lock();
    begin_guest_line(who, &d->console.limit);
    snprintf(text, sizeof(text), "%s%.*s\n", who, (int)len, s);
    emit_lines(text);
    console_unlock(flags);
}

void guest_log_end(struct domain *d)
{
    u32 n = xchg(&d->console.limit.suppressed, 0);

    if (n)
        printk("d%u: its last %u lines were suppressed (guest_loglvl=)\n", d->id, n);
}
