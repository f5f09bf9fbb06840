/*
 * Output to the console devices, and input from them: to dom0, or after three times Ctrl-A to the debug keys.
 */
#include <asm/percpu.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/sched.h>
#include <pvisor/serial.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include <pvisor/txring.h>
#include <pvisor/vga.h>
#include "internal.h"

#define INPUT_SIZE 4096u      /* dom0 may be slow to fetch what a program types */
#define SWITCH_COUNT 3
#define BREAK_SPINS (1u << 20)   /* whoever holds the lock when a panic begins may finish its line */
#define FLUSH_STEP 128u

static char console_names[64] = "com1,vga";
static struct console_dev *devices;
static spinlock_t lock = SPINLOCK_INIT(RANK_CONSOLE);
static bool sync_mode;
static unsigned patient = NR_CPUS;   /* the CPU that waits for room */

static char switch_char = 'a' & 0x1f;
static bool switch_at_boot = true;
static bool input_to_dom0;
static unsigned switch_seen;

/* Input for dom0, under input_lock. */
static spinlock_t input_lock = SPINLOCK_INIT(RANK_CONSOLE);
static char input[INPUT_SIZE];
static u32 input_in, input_out;

static int parse_console_name(void *to, const char *word, size_t len)
{
    static const char *const names[] = { "com1", "com2", "vga", "none" };

    (void)to;
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
    serial_start_sync();
}

void console_begin_patience(void) { write_once(patient, this_cpu_id()); }
void console_end_patience(void) { write_once(patient, (unsigned)NR_CPUS); }

void console_emit(const char *s, size_t len)
{
    bool wait = read_once(patient) == this_cpu_id();

    for (struct console_dev *dev = devices; dev; dev = dev->next) {
        if (wait && dev->drain)
            dev->drain(dev, TXRING_CROWDED);
        dev->write(dev, s, len);
    }
}

bool console_is_crowded(void)
{
    for (struct console_dev *dev = devices; dev; dev = dev->next)
        if (dev->waiting && dev->waiting(dev) > TXRING_CROWDED)
            return true;
    return false;
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
    for (struct console_dev *dev = devices; dev; dev = dev->next)
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
    dev->next = devices;
    devices = dev;
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
    serial_init();
    debug_keys_init();
    report_unknown_names();
}

void console_init_late(void)
{
    u64 flags = console_lock();

    ring_resize();
    console_unlock(flags);
    vga_init();
}

static void report_input(void)
{
    printk("*** Serial input to %s (type 'CTRL-%c' three times to switch input)\n",
           input_to_dom0 ? "DOM0" : "Xen", switch_char | 0x60);
}

void console_endboot(void)
{
    input_to_dom0 = switch_at_boot;
    report_input();
    vga_endboot();
    serial_start_buffered();
}

/* --- Input ---------------------------------------------------------------------------------------------- */

static void input_to_guest(char c)
{
    u64 flags = spin_lock_irqsave(&input_lock);

    if (input_in - input_out < INPUT_SIZE)
        input[input_in++ % INPUT_SIZE] = c;
    spin_unlock_irqrestore(&input_lock, flags);
    send_dom0_virq(VIRQ_CONSOLE);
}

static void deliver_input(char c, struct cpu_regs *regs)
{
    if (input_to_dom0)
        input_to_guest(c);
    else
        debug_key_handle(c, regs);
}

void console_input(char c, struct cpu_regs *regs)
{
    if (c == switch_char) {
        if (++switch_seen < SWITCH_COUNT)
            return;
        switch_seen = 0;
        input_to_dom0 = dom0 && !input_to_dom0;
        report_input();
        return;
    }
    /* A lone switch character was meant for the receiver. */
    for (; switch_seen; switch_seen--)
        deliver_input(switch_char, regs);
    deliver_input(c, regs);
}

static s64 console_read(gva_t buffer, u64 count)
{
    u64 done = 0;

    while (done < count) {
        char chunk[64];
        u64 flags = spin_lock_irqsave(&input_lock);
        u32 n = min(min((u64)sizeof(chunk), count - done), (u64)(input_in - input_out));

        for (u32 i = 0; i < n; i++)
            chunk[i] = input[input_out++ % INPUT_SIZE];
        spin_unlock_irqrestore(&input_lock, flags);
        if (!n)
            break;
        if (copy_to_guest(gva_add(buffer, done), chunk, n))
            return refuse(-EFAULT, "console input buffer %#lx+%lu is not writable", buffer.v, count);
        done += n;
    }
    return done;
}

/* --- Guests' output ------------------------------------------------------------------------------------- */

static void flush_guest_line(struct domain *d)
{
    if (d->console.len)
        guest_text_log(d, d->console.text, d->console.len);
    d->console.len = 0;
}

static void write_guest_line(struct domain *d, const char *s, size_t n)
{
    struct guest_console *line = &d->console;
    u64 flags = spin_lock_irqsave(&line->lock);

    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n' || line->len == sizeof(line->text))
            flush_guest_line(d);
        if (s[i] != '\n')
            line->text[line->len++] = s[i];
    }
    spin_unlock_irqrestore(&line->lock, flags);
}

int console_domain_init(struct domain *d)
{
    spin_lock_init(&d->console.lock, RANK_IRQ);
    return 0;
}

void console_domain_end(struct domain *d)
{
    flush_guest_line(d);
    guest_log_end(d);
}

/* Drops what could move the terminal's cursor about or switch its modes; a domU's text must not fake our log. */
static size_t keep_printable(char *s, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if ((u8)s[i] >= ' ' ? s[i] != 0x7f : s[i] == '\n' || s[i] == '\t')
            s[kept++] = s[i];
    return kept;
}

static s64 restart_write(gva_t buffer, u64 count, u64 done)
{
    return hypercall_restart(3, (u64)CONSOLEIO_write, count - done, buffer.v + done);
}

/* dom0's text is never dropped: its vCPU comes again, and takes its events meanwhile, until the line has room. */
static s64 console_write_guest(gva_t buffer, u64 count)
{
    struct domain *d = current->domain;
    char chunk[128];

    if (!d->is_hardware && !guest_console_allowed())
        return -EPERM;
    for (u64 done = 0; done < count; ) {
        size_t n = min((u64)sizeof(chunk), count - done);

        if (done && preempt_needed())
            return restart_write(buffer, count, done);
        if (d->is_hardware && console_is_crowded()) {
            vcpu_yield();
            return restart_write(buffer, count, done);
        }
        if (copy_from_guest(chunk, gva_add(buffer, done), n))
            return refuse(-EFAULT, "console text %#lx+%lu is not readable", buffer.v, count);
        done += n;
        if (d->is_hardware)
            console_write(chunk, n);
        else
            write_guest_line(d, chunk, keep_printable(chunk, n));
    }
    return 0;
}

/* HYPERVISOR_console_io(command, count, buffer). Count is a signed int in the interface. */
s64 do_console_io(u64 cmd, u64 count, u64 buffer, u64 a3, u64 a4, u64 a5)
{
    (void)a3, (void)a4, (void)a5;
    if ((s32)count < 0)
        return refuse(-EINVAL, "count %d is negative", (s32)count);
    count = (u32)count;
    switch ((u32)cmd) {
    case CONSOLEIO_write:
        return console_write_guest(gva(buffer), count);
    case CONSOLEIO_read:
        if (!current->domain->is_hardware)
            return refuse(-EPERM, "only dom0 reads the console");
        return console_read(gva(buffer), count);
    default:
        return refuse(-ENOSYS, "unknown command %u", (u32)cmd);
    }
}
