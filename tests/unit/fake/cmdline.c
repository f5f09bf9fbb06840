/* For tests of sources that declare words: no command line is ever read. */
#include <public/errno.h>
#include <pvisor/cmdline.h>

int cmdline_bool(const char *value, bool *var) { (void)value, (void)var; return -EINVAL; }
int cmdline_uint(const char *value, u32 *var) { (void)value, (void)var; return -EINVAL; }
u64 cmdline_size(const char *value, const char **end) { *end = value; return 0; }
int cmdline_list(const char *value, int (*parse)(void *to, const char *word, size_t len), void *to)
{
    (void)value, (void)parse, (void)to;
    return -EINVAL;
}
