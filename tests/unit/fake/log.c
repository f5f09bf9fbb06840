#include <stdarg.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "log.h"

char log_text[128 << 10];

void printk(const char *fmt, ...)
{
    size_t n = strlen(log_text);
    va_list args;

    va_start(args, fmt);
    vsnprintf(log_text + n, sizeof(log_text) - n, fmt, args);
    va_end(args);
}
