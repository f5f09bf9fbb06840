/*
 * Output to the console devices, and input from them: to dom0, or after three times Ctrl-A to the debug keys.
 */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include <pvisor/txring.h>
#include "internal.h"

#define SWITCH_COUNT 3
#define BREAK_SPINS (1u << 20)   /* whoever holds the lock when a panic begins may finish its line */
#define FLUSH_STEP 128u

static char console_names[64] = "com1,vga";
struct console_dev *console_devices;
static spinlock_t lock = SPINLOCK_INIT(RANK_CONSOLE);
static bool sync_mode;
static unsigned patient = NR_CPUS;   /* the CPU that waits for room */

static char switch_char = 'a' & 0x1f;
static bool switch_at_boot = true;
static bool input_to_dom0;
static unsigned switch_seen;
static void (*dom0_input)(char c);

static int parse_console_name(void *, const char *word, size_t len)
{
    /* What there is, and what Xen has besides: nothing is written there. */
    static const char *const names[] = { "com1", "com2", "vga", "none", "pv", "dbgp", "ehci", "xhci" };

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (len == strlen(names[i]) && !strncmp(word, names[i], len))
            return 0;
    return -EINVAL;
}

static int parse_console(const char *v)
{
    if (strlen(v) >= sizeof(console_names) || cmdline_list(v, parse_console_name, NULL))
        return -EINVAL;
    strlcpy(console_names, v, sizeof(console_names));
    return 0;
}
CMDLINE_OPTION("console", parse_console);

/* conswitch=a[x]: the letter whose Ctrl form switches; x: input stays with the hypervisor when dom0 starts. */
static int parse_conswitch(const char *v)
{
    if ((v[0] | 0x20) < 'a' || (v[0] | 0x20) > 'z' || (v[1] && strcmp(v + 1, "x")))
        return -EINVAL;
    switch_char = v[0] & 0x1f;
    switch_at_boot = !v[1];
    return 0;
}
CMDLINE_OPTION("conswitch", parse_conswitch);

u64 console_lock(void)
{
    return sync_mode ? irq_save() : spin_lock_irqsave(&lock);
}

void console_unlock(u64 flags)
{
    if (sync_mode)
        irq_restore(flags);
    else
        spin_unlock_irqrestore(&lock, flags);
}

void console_start_sync(void)
{
    for (unsigned spins = 0; !sync_mode && spins < BREAK_SPINS && !spin_trylock(&lock); spins++)
        cpu_relax();
    sync_mode = true;
    spin_lock_init(&lock, RANK_CONSOLE);
    for (struct console_dev *dev = console_devices; dev; dev = dev->next)
        if (dev->sync)
            dev->sync(dev);
}

void console_take_back(void)
{
    for (struct console_dev *dev = console_devices; dev; dev = dev->next)
        if (dev->take_back)
            dev->take_back(dev);
}

void console_begin_patience(void) { write_once(patient, this_cpu_id()); }
void console_end_patience(void) { write_once(patient, (unsigned)NR_CPUS); }

void console_emit(const char *s, size_t len)
{
    bool wait = read_once(patient) == this_cpu_id();

    for (struct console_dev *dev = console_devices; dev; dev = dev->next) {
        if (wait && dev->drain)
            dev->drain(dev, TXRING_CROWDED);
        dev->write(dev, s, len);
    }
}

/* In steps, between which others may print and this CPU takes interrupts. */
static void flush(struct console_dev *dev)
{
    u32 left;

    do {
        u64 flags = console_lock();

        left = dev->waiting(dev);
        left -= min(left, FLUSH_STEP);
        dev->drain(dev, left);
        console_unlock(flags);
    } while (left);
}

void console_flush(void)
{
    for (struct console_dev *dev = console_devices; dev; dev = dev->next)
        if (dev->drain)
            flush(dev);
}

void console_emit_log(const char *s, size_t len)
{
    ring_put(s, len);
    console_emit(s, len);
}

void console_write(const char *s, size_t len)
{
    u64 flags = console_lock();

    console_emit(s, len);
    console_unlock(flags);
}

/* True if name is one of the words of console=, where "tty0" and the like are simply never a device's name. */
static bool is_named(const char *name)
{
    size_t n = strlen(name);

    for (const char *p = console_names; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (!strncmp(p, name, n) && (p[n] == '\0' || p[n] == ','))
            return true;
    }
    return false;
}

static void replay(struct console_dev *dev)
{
    char chunk[256];
    u32 index = 0, n;

    while ((n = console_ring_read(chunk, sizeof(chunk), &index, false)) != 0)
        dev->write(dev, chunk, n);
}

void console_register(struct console_dev *dev)
{
    if (!is_named(dev->name))
        return;
    replay(dev);
    dev->next = console_devices;
    console_devices = dev;
}

static void report_unknown_names(void)
{
    char names[sizeof(console_names)];
    char *p = names;

    strlcpy(names, console_names, sizeof(names));
    while (p) {
        char *comma = strchr(p, ',');

        if (comma)
            *comma = '\0';
        if (strcmp(p, "com1") && strcmp(p, "com2") && strcmp(p, "vga") && strcmp(p, "none"))
            printk(LOG_WARNING "console=: there is no console '%s', only com1, com2, vga and none\n", p);
        p = comma ? comma + 1 : NULL;
    }
}

void console_init(void)
{
    debug_keys_init();
    report_unknown_names();
}

void console_init_late(void)
{
    u64 flags = console_lock();

    ring_resize();
    console_unlock(flags);
}

static void report_input(void)
{
    printk("*** Serial input to %s (type 'CTRL-%c' three times to switch input)\n",
           input_to_dom0 ? "DOM0" : "Xen", switch_char | 0x60);
}

void console_endboot(void (*to_dom0)(char c))
{
    dom0_input = to_dom0;
    input_to_dom0 = switch_at_boot;
    report_input();
}

/* --- Input ---------------------------------------------------------------------------------------------- */

static void deliver_input(char c, struct cpu_regs *regs)
{
    if (input_to_dom0)
        dom0_input(c);
    else
        debug_key_handle(c, regs);
}

void console_input(char c, struct cpu_regs *regs)
{
    if (c == switch_char) {
        if (++switch_seen < SWITCH_COUNT)
            return;
        switch_seen = 0;
        input_to_dom0 = dom0_input && !input_to_dom0;
        report_input();
        return;
    }
    /* A lone switch character was meant for the receiver. */
    for (; switch_seen; switch_seen--)
        deliver_input(switch_char, regs);
    deliver_input(c, regs);
}
