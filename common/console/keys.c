/*
 * Debug keys: one letter, one report. Pressed on the console's hypervisor side or sent by `xl debug-keys`.
 */
#include <asm/atomic.h>
#include <pvisor/console.h>
#include <pvisor/power.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>

struct debug_key {
    void (*fn)(char key, struct cpu_regs *regs);
    const char *help;
    bool in_irq;
};

static struct debug_key keys[128];

/* Keys waiting for the tasklet. One at a time per key: a bit each. */
static u32 waiting[4];
static void run_waiting(void *unused);
static struct tasklet key_tasklet = { .fn = run_waiting };

static void register_key(char key, void (*fn)(char, struct cpu_regs *), const char *help, bool in_irq)
{
    if ((u8)key < ARRAY_SIZE(keys))
        keys[(u8)key] = (struct debug_key){ fn, help, in_irq };
}

void debug_key_register(char key, void (*fn)(char, struct cpu_regs *), const char *help)
{
    register_key(key, fn, help, false);
}

void debug_key_register_irq(char key, void (*fn)(char, struct cpu_regs *), const char *help)
{
    register_key(key, fn, help, true);
}

static void run_key(char key, struct cpu_regs *regs)
{
    console_begin_patience();
    printk("'%c' pressed -> %s\n", key, keys[(u8)key].help);
    keys[(u8)key].fn(key, regs);
    console_end_patience();
}

static void run_waiting(void *)
{
    for (unsigned k = 0; k < ARRAY_SIZE(keys); k++)
        if (test_and_clear_bit(k, waiting) && keys[k].fn)
            run_key(k, NULL);
}

void debug_key_handle(char key, struct cpu_regs *regs)
{
    if ((u8)key >= ARRAY_SIZE(keys) || !keys[(u8)key].fn)
        return;
    if (keys[(u8)key].in_irq) {
        run_key(key, regs);
        return;
    }
    set_bit((u8)key, waiting);
    tasklet_schedule(&key_tasklet);
}

static void key_help(char, struct cpu_regs *)
{
    for (unsigned k = 0; k < ARRAY_SIZE(keys); k++)
        if (keys[k].fn)
            printk(" key '%c' => %s\n", k, keys[k].help);
}

/* All reports, but not the keys that end something. */
static void key_all(char key, struct cpu_regs *regs)
{
    for (unsigned k = 0; k < ARRAY_SIZE(keys); k++)
        if (keys[k].fn && k != (u8)key && k != 'R' && k != 'C' && k != 'h' && k != 'w')
            run_key(k, regs);
}

static void key_reboot(char, struct cpu_regs *)
{
    machine_restart(0);
}

/* For a machine that no longer does what it should: all CPUs stop, and the log says where each was. */
static void key_crash(char, struct cpu_regs *)
{
    panic("stopped by debug key");
}

void debug_keys_init(void)
{
    debug_key_register('h', key_help, "show this message");
    debug_key_register('*', key_all, "print all diagnostics");
    debug_key_register_irq('C', key_crash, "stop the machine, with registers and a call trace");
    debug_key_register_irq('R', key_reboot, "reboot machine");
}
