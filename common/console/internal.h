/* What the files of the console share. */
#ifndef CONSOLE_INTERNAL_H
#define CONSOLE_INTERNAL_H

#include <pvisor/console.h>

/* With the lock held: text of the log, into the ring and to the devices; to the devices alone. */
void console_emit_log(const char *s, size_t len);
void console_emit(const char *s, size_t len);

/* Ring. */
void ring_put(const char *s, size_t len);
void ring_resize(void);

/* An all-purpose limiter: up to BURST events at once, then one every REFILL_NS. */
struct ratelimit {
    u64 last;        /* when tokens were last counted, ns */
    u32 used;
    u32 suppressed;  /* since the last one let through */
};
bool ratelimit_allow(struct ratelimit *r);

#endif
