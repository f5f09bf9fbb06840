/* What the invariant's files (pvisor/invariant.h) want of a test: a clause that does not hold fails it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/invariant.h>
#include <pvisor/printk.h>

bool clause_broken(const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fail_msg("%s", text);
    return false;
}
