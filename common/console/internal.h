/* What the files of the console share. */
#ifndef CONSOLE_INTERNAL_H
#define CONSOLE_INTERNAL_H

#include <pvisor/console.h>
#include <pvisor/domain.h>
#include <pvisor/txring.h>

extern struct console_dev *console_devices;

/* So much waits that who can come again later should. Without the lock. */
static inline bool console_is_crowded(void)
{
    for (struct console_dev *dev = console_devices; dev; dev = dev->next)
        if (dev->queue && txring_used(dev->queue) > TXRING_CROWDED && dev->waiting(dev) > TXRING_CROWDED)
            return true;
    return false;
}

/* With the lock held: text of the log, into the ring and to the devices; to the devices alone. */
void console_emit_log(const char *s, size_t len);
void console_emit(const char *s, size_t len);

/* Ring. */
void ring_put(const char *s, size_t len);
void ring_resize(void);

/* A finished line of a domU's text, at LOG_DEBUG of guest_loglvl=; with no lock held that is not below the console's. */
void guest_text_log(struct domain *d, const char *s, size_t len);
/* How many lines of d's were suppressed since the last that was not, if any. */
void guest_log_end(struct domain *d);

#endif
