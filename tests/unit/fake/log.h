/* What the log says, as a text that tests look into. They name tests/unit/fake/log.c, which has printk(), in their SOURCES. */
#ifndef FAKE_LOG_H
#define FAKE_LOG_H

#include <stdarg.h>

extern char log_text[128 << 10];
void log_append(const char *fmt, va_list args);      /* for tests with a guest_log() of their own */

static inline void log_clear(void) { log_text[0] = '\0'; }

#endif
