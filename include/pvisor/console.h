/*
 * Consoles. Output goes to the ring that `xl dmesg` reads and to every device named by console=. Input
 * comes from the serial line and is given to dom0 (VIRQ_CONSOLE, CONSOLEIO_read) or, after Ctrl-A three
 * times, to the hypervisor's debug keys.
 */
#ifndef PVISOR_CONSOLE_H
#define PVISOR_CONSOLE_H

#include <asm/regs.h>
#include <pvisor/spinlock.h>
#include <pvisor/types.h>

struct domain;

/*
 * A device. Its functions are called with the console's lock held. write() keeps nobody waiting once the machine is up: what a
 * slow device cannot take at once it keeps, and says how much that is (waiting()); drain() waits until no more than leave bytes are left.
 * sync() is for a panic, without the lock: what waits is written out, and write() waits for the device from then on. A device that takes
 * everything at once has none of these. take_back() is for a panic, too: what dom0 was given is ours again.
 */
struct console_dev {
    const char *name;                    /* as in console=: "com1", "vga" */
    void (*write)(struct console_dev *dev, const char *s, size_t len);
    const struct txring *queue;          /* of what it keeps; a look at it saves asking waiting() */
    u32 (*waiting)(struct console_dev *dev);
    void (*drain)(struct console_dev *dev, u32 leave);
    void (*sync)(struct console_dev *dev);
    void (*take_back)(struct console_dev *dev);
    struct console_dev *next;
};

/* A device that console= names gets all that was logged so far, and from now on what is logged. */
void console_register(struct console_dev *dev);
void console_init(void);                 /* after the command line is parsed and serial lines are there. Needs no memory */
void console_init_late(void);            /* once alloc_frames() works: a larger ring */
/* dom0 is about to start: input goes to it, character by character in interrupts, by to_dom0(). */
void console_endboot(void (*to_dom0)(char c));
void console_input_to_dom0(char c);
void console_input(char c, struct cpu_regs *regs);   /* from a device's interrupt */
void console_write(const char *s, size_t len);       /* devices only, no ring prefix; used by panic too */
void console_start_sync(void);           /* panic: break locks, wait for the device from now on */
void console_take_back(void);            /* panic: after console_start_sync(), the screen from dom0 */
void console_flush(void);                /* waits until the devices have what was written so far */
/* Between the two, what this CPU prints waits for room where it would be dropped else: reports that somebody asked for. */
void console_begin_patience(void);
void console_end_patience(void);
/* Serialises output, and what devices do with it later. Does nothing once console_start_sync() was called. */
u64 console_lock(void);
void console_unlock(u64 flags);

/*
 * Ring access for XEN_SYSCTL_readconsole. Copies up to n bytes from *index on (0: from the oldest that is kept and not
 * cleared); returns the count, *index advances. clear: forgets what was read.
 */
u32 console_ring_read(char *buf, u32 n, u32 *index, bool clear);

/* What a domain has of the console: lines of a domU's text in the making, and how much of the log it may still fill. */
#define GUEST_LINE 160
struct ratelimit {
    u64 due;                            /* when one event after the other would be over, ns */
    u32 suppressed;                     /* since the last that was let through */
};
struct guest_console {
    spinlock_t lock;                    /* of the text */
    u32 len;
    char text[GUEST_LINE];
    struct ratelimit limit;
};
int console_domain_init(struct domain *d);
void console_domain_end(struct domain *d);

/* What guest_loglvl= lets through at LOG_DEBUG: the text of domUs' CONSOLEIO_write. False: refuse it. */
bool guest_console_allowed(void);

/*
 * Debug keys: `xl debug-keys c`, or the console's hypervisor side. Functions run outside interrupts, with
 * regs NULL; those registered with _irq run at once in the console's interrupt, with the interrupted registers when
 * the key came from there.
 */
void debug_key_register(char key, void (*fn)(char key, struct cpu_regs *regs), const char *help);
void debug_key_register_irq(char key, void (*fn)(char key, struct cpu_regs *regs), const char *help);
void debug_key_handle(char key, struct cpu_regs *regs);
void debug_keys_init(void);              /* by console_init: the keys of no one else */

#endif
