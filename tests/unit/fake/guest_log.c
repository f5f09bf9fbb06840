/* What is said of a guest comes by printk(), a line each. */
#include <stdarg.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

void guest_log(const char *fmt, ...)
{
    char line[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    printk("%s\n", line);
}
