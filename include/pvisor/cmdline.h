/*
 * The hypervisor's command line. Each subsystem declares its words:
 *     CMDLINE_OPTION("dom0_mem", parse_dom0_mem);
 * where the function gets the text after '=' ("" for a bare word, "no" for no-word) and returns 0 or -EINVAL;
 * a word that nobody declared, or that is refused, is named in the log. A function that refuses has stored nothing: it
 * works on copies until all is read.
 */
#ifndef PVISOR_CMDLINE_H
#define PVISOR_CMDLINE_H

#include <pvisor/types.h>

struct cmdline_option {
    const char *name;
    int (*parse)(const char *value);
    void (*show)(char *buf, size_t size);   /* what it is now; NULL: it is read at boot alone */
};

extern const struct cmdline_option __cmdline_start[], __cmdline_end[];

#define CMDLINE_OPTION(opt_name, fn)                                                            \
    static const struct cmdline_option cmdline_opt_##fn                                         \
    __attribute__((section(".cmdline"), used, aligned(8))) = { (opt_name), (fn), NULL }
/* One that can be changed at any time, by one CPU at a time: what show says parse understands, and that changes nothing. */
#define CMDLINE_RUNTIME(opt_name, fn, show_fn)                                                  \
    static const struct cmdline_option cmdline_opt_##fn                                         \
    __attribute__((section(".cmdline"), used, aligned(8))) = { (opt_name), (fn), (show_fn) }

/* Defines a parser for a boolean (word, no-word, word=yes/no/on/off/true/false/1/0) or an unsigned number. */
#define CMDLINE_BOOL(opt_name, var)                                                             \
    static int parse_##var(const char *v) { return cmdline_bool(v, &(var)); }                   \
    CMDLINE_OPTION(opt_name, parse_##var)
#define CMDLINE_UINT(opt_name, var)                                                             \
    static int parse_##var(const char *v) { return cmdline_uint(v, &(var)); }                   \
    CMDLINE_OPTION(opt_name, parse_##var)

int cmdline_bool(const char *value, bool *var);
int cmdline_uint(const char *value, u32 *var);
/* A size with suffix B K M G T; without one in KiB. *end is where parsing stopped. Bytes. */
u64 cmdline_size(const char *value, const char **end);
/*
 * A list with commas between its words: parse() gets each, of len characters, and enters it at `to`, a copy of the caller's, who takes
 * it over if this returns 0. -EINVAL: a word was refused, which the log will name; those after it are not looked at.
 */
int cmdline_list(const char *value, int (*parse)(void *to, const char *word, size_t len), void *to);
/* Why a word of Xen's does nothing here: "": it is not worth a line; NULL: it is no such word. value and "no-" taken off. */
const char *cmdline_why_idle(const char *word);
/* The word that somebody knows and that is most like this one, *len characters; NULL: none is. */
const char *cmdline_nearest(const char *word, size_t *len);
void cmdline_parse(const char *line);
/* The nth of the words that can be changed at any time, from 0; NULL: there are not so many. */
const struct cmdline_option *cmdline_runtime(unsigned n);
const char *cmdline_get(void);      /* the whole line, for XENVER_commandline */

#endif
