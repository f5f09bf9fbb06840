/*
 * A watchdog: every CPU counts the runs of a timer, and looks at the count of the next CPU. One that has not
 * counted for long is named, with what it is doing. Not in interrupts, so that a CPU which only takes those counts as stuck.
 */
#include <asm/percpu.h>
#include <asm/smp.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/cpumask.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

#define PERIOD SECONDS(1)

static bool enabled = true, looking;
static u32 patience = 10;       /* seconds */

/* Xen's "force" is for machines whose NMIs lie; here none are counted. */
static int parse_watchdog(const char *value)
{
    return cmdline_bool(strcmp(value, "force") ? value : "yes", &enabled);
}
CMDLINE_OPTION("watchdog", parse_watchdog);

/* 0: no watchdog. */
static int parse_timeout(const char *value)
{
    int rc = cmdline_uint(value, &patience);

    if (!rc)
        enabled = patience != 0;
    return rc;
}
CMDLINE_OPTION("watchdog_timeout", parse_timeout);

struct watch {
    struct timer timer;
    u64 beats;
    /* The neighbour: which, its count when it last changed, and when that was. */
    unsigned other;
    u64 other_beats, since;
    bool reported;
};
STATIC_PERCPU(struct watch, watches);

static unsigned neighbour(unsigned cpu)
{
    unsigned next = cpumask_next(&cpu_online_map, cpu + 1);

    return next < NR_CPUS ? next : cpumask_next(&cpu_online_map, 0);
}

static void look_at(struct watch *w, unsigned other, u64 now)
{
    u64 beats = read_once(cpu_var(watches, other).beats);

    if (other != w->other || beats != w->other_beats) {
        if (w->reported && other == w->other)
            printk(LOG_WARNING "Watchdog: CPU%u goes on after %lu s\n", other, (now - w->since) / SECONDS(1));
        w->other = other;
        w->other_beats = beats;
        w->since = now;
        w->reported = false;
    } else if (now - w->since > SECONDS(patience) && !w->reported) {
        printk(LOG_ERR "Watchdog: CPU%u has been stuck for %lu s\n", other, (now - w->since) / SECONDS(1));
        w->reported = true;
        nmi_show_cpu(other);
        console_flush();    /* it may be the one that the line's interrupts go to */
    }
}

static void tick(void *data)
{
    struct watch *w = data;
    u64 now = now_ns();
    unsigned other = neighbour(this_cpu_id());

    write_once(w->beats, w->beats + 1);
    if (read_once(looking) && other != this_cpu_id())
        look_at(w, other, now);
    else
        w->other = NR_CPUS;     /* who comes back later is somebody new */
    timer_set(&w->timer, now + PERIOD);
}

void watchdog_init_cpu(void)
{
    struct watch *w = &this_cpu(watches);

    if (!enabled)
        return;
    w->other = NR_CPUS;
    timer_init(&w->timer, tick, w, this_cpu_id());
    timer_set(&w->timer, now_ns() + PERIOD);
}

/* Unpacking dom0's kernel may take its time, with interrupts off. */
void watchdog_start(void) { write_once(looking, true); }

void watchdog_fini_cpu(void)
{
    if (enabled)
        timer_kill(&this_cpu(watches).timer);
}
