/*
 * The log: a ring that XEN_SYSCTL_readconsole reads, and the consoles named by console=.
 * A line starts with one of the levels; without one it counts as LOG_INFO. Guests' doings are
 * logged through guest_log() and refuse(), which obey guest_loglvl= and are rate-limited for each domain, so that
 * no guest can flood the console or keep others' lines out of it.
 */
#ifndef PVISOR_PRINTK_H
#define PVISOR_PRINTK_H

#include <stdarg.h>
#include <pvisor/types.h>

#define LOG_ERR     "\0010"
#define LOG_WARNING "\0011"
#define LOG_INFO    "\0012"
#define LOG_DEBUG   "\0013"

/* printf subset: flags 0 - # +, width, precision, * ; d i u x X p s c % ; h hh l ll z. */
void printk(const char *fmt, ...) printf_like(1, 2);
void vprintk(const char *fmt, va_list args);
int snprintf(char *buf, size_t size, const char *fmt, ...) printf_like(3, 4);
int vsnprintf(char *buf, size_t size, const char *fmt, va_list args);

/* One line about what the current domain did, prefixed with "d<domid>v<vcpu>: ". Without a level it is a LOG_WARNING: it was wrong. */
void guest_log(const char *fmt, ...) printf_like(1, 2);

struct domain;

/* One line about what d did, where it shows while another domain runs: out of d's allowance, prefixed with "d<domid>: ". */
void domain_log(struct domain *d, const char *fmt, ...) printf_like(2, 3);

/*
 * The refusal verb. Logs which check failed, on what and what was expected, and has the value err,
 * a negative errno:   return refuse(-EINVAL, "mfn %#lx is not yours", m);
 */
#define refuse(err, fmt, ...) (guest_log("%s: " fmt, __func__, ##__VA_ARGS__), (err))
/* A refusal where nothing is wrong: callers ask in order to learn that there is no such thing here. */
#define decline(err, fmt, ...) (guest_log(LOG_INFO "%s: " fmt, __func__, ##__VA_ARGS__), (err))

/* For tables that firmware or a boot loader fills: whether nr of max entries are all. Then one is left out, which the log says. */
static inline bool table_full(const char *what, unsigned nr, unsigned max)
{
    if (nr >= max)
        printk(LOG_WARNING "There are more %s than the %u that pvisor has room for: one is left out\n", what, max);
    return nr >= max;
}

/* A bug of ours: print registers and a symbolic stack, and stop the machine. */
void panic(const char *fmt, ...) printf_like(1, 2) noreturn_fn;
/* The machine or its configuration is at fault, not we: says what is wrong and what was expected, and stops. */
void boot_failure(const char *fmt, ...) printf_like(1, 2) noreturn_fn;
#define BUG() panic("BUG at %s:%d", __FILE__, __LINE__)
#define BUG_ON(x) do { if (unlikely(x)) panic("BUG at %s:%d: %s", __FILE__, __LINE__, #x); } while (0)
#ifdef DEBUG
#define ASSERT(x) BUG_ON(!(x))
#else
#define ASSERT(x) do { if (0 && (x)) {} } while (0)
#endif

#endif
