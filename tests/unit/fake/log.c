#include <stdarg.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "log.h"

char log_text[128 << 10];

void log_append(const char *fmt, va_list args)
{
    size_t n = strlen(log_text);

    vsnprintf(log_text + n, sizeof(log_text) - n, fmt, args);
}

void printk(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    log_append(fmt, args);
    va_end(args);
}
