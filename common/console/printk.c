/*
 * The log's front: levels, thresholds and the limit on what guests can make us say. A threshold pair
 * lower/upper means: up to lower a line is always printed, up to upper it is printed at a limited rate, above
 * it is dropped.
 */
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

static struct ratelimit host_limit, guest_limit;
static char text[1024];           /* under the console lock */
static bool mid_line, line_shown; /* likewise: the last text had no newline; whether it was let through */

static bool parse_one_level(const char **p, u8 *level)
{
    static const struct { const char *name; u8 count; } names[] = {
        { "none", 0 }, { "error", 1 }, { "warning", 2 }, { "info", 3 }, { "debug", 4 }, { "all", 4 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        size_t n = strlen(names[i].name);

        if (!strncmp(*p, names[i].name, n) && ((*p)[n] == '\0' || (*p)[n] == '/')) {
            *level = names[i].count;
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

static int parse_loglvl(const char *v) { return parse_levels(v, &host_level); }
CMDLINE_OPTION("loglvl", parse_loglvl);
static int parse_guest_loglvl(const char *v) { return parse_levels(v, &guest_level); }
CMDLINE_OPTION("guest_loglvl", parse_guest_loglvl);

bool ratelimit_allow(struct ratelimit *r)
{
    u64 now = now_ns();
    u64 refill = now > r->last ? (now - r->last) / REFILL_NS : 0;

    if (refill) {
        r->used -= min((u64)r->used, refill);
        r->last += refill * REFILL_NS;
    }
    if (r->used >= BURST) {
        r->suppressed++;
        return false;
    }
    r->used++;
    return true;
}

/* Whether a line of this level is printed. Under the console lock. */
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

void console_log(const char *s, size_t len)
{
    u64 flags = console_lock();

    strlcpy(text, s, min(len + 1, sizeof(text)));
    emit_lines(text);
    console_unlock(flags);
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

static void emit_suppressed(struct ratelimit *limit)
{
    char line[64];

    if (!limit->suppressed)
        return;
    snprintf(line, sizeof(line), "%u lines about guests were suppressed\n", limit->suppressed);
    limit->suppressed = 0;
    emit_lines(line);
}

void guest_log(const char *fmt, ...)
{
    const struct vcpu *v = current;
    unsigned level = take_level(&fmt, LEVEL_WARNING);
    u64 flags = console_lock();
    va_list args;
    int n;

    if (level_passes(&guest_level, &guest_limit, level)) {
        if (mid_line)
            emit_lines("\n");
        emit_suppressed(&guest_limit);
        n = v ? snprintf(text, sizeof(text), "d%uv%u: ", v->domain->id, v->id) : 0;
        va_start(args, fmt);
        n += vsnprintf(text + n, sizeof(text) - n, fmt, args);
        va_end(args);
        n = min(n, (int)sizeof(text) - 2);
        if (text[n - 1] != '\n')
            strlcpy(text + n, "\n", sizeof(text) - n);
        emit_lines(text);
    }
    console_unlock(flags);
}
