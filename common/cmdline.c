/*
 * The command line: words separated by spaces, each `name`, `name=value` or `no-name`. A value may be quoted.
 * "--" ends our part (what follows is for dom0's kernel, as boot menus for Xen write it).
 */
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define CMDLINE_MAX 2048

static char line_copy[CMDLINE_MAX];

const char *cmdline_get(void)
{
    return line_copy;
}

int cmdline_bool(const char *value, bool *var)
{
    static const char *const words[2][5] = { { "no", "off", "false", "0", "disable" },
                                             { "", "yes", "on", "true", "1" } };

    for (unsigned v = 0; v < 2; v++)
        for (unsigned i = 0; i < ARRAY_SIZE(words[v]); i++)
            if (!strcmp(value, words[v][i])) {
                *var = v;
                return 0;
            }
    if (!strcmp(value, "enable")) {
        *var = true;
        return 0;
    }
    return -EINVAL;
}

int cmdline_uint(const char *value, u32 *var)
{
    const char *end;
    u64 v = strtoull(value, &end, 0);

    if (end == value || *end || v > UINT32_MAX)
        return -EINVAL;
    *var = v;
    return 0;
}

u64 cmdline_size(const char *value, const char **end)
{
    static const struct { char suffix; u8 shift; } units[] = {
        { 'b', 0 }, { 'k', 10 }, { 'm', 20 }, { 'g', 30 }, { 't', 40 },
    };
    const char *p;
    u64 v = strtoull(value, &p, 0);
    unsigned shift = 10;

    for (unsigned i = 0; p != value && i < ARRAY_SIZE(units); i++)
        if ((*p | 0x20) == units[i].suffix) {
            shift = units[i].shift;
            p++;
            break;
        }
    if (end)
        *end = p;
    return v > UINT64_MAX >> shift ? UINT64_MAX : v << shift;
}

static const char *refused;         /* the word of a list that is malformed */
static size_t refused_len;

int cmdline_list(const char *value, int (*parse)(void *to, const char *word, size_t len), void *to)
{
    for (const char *end = value;; value = ++end) {
        while (*end && *end != ',')
            end++;
        if (parse(to, value, (size_t)(end - value))) {
            refused = value;
            refused_len = (size_t)(end - value);
            return -EINVAL;
        }
        if (!*end)
            return 0;
    }
}

static void say_malformed(const char *word, const char *value)
{
    if (refused && (refused_len < strlen(value)))
        printk(LOG_WARNING "Command line: '%s=%s' is malformed and has no effect: '%.*s' is not understood\n", word, value,
               (int)refused_len, refused);
    else
        printk(LOG_WARNING "Command line: '%s=%s' is malformed and has no effect\n", word, value);
}

static const struct cmdline_option *find_option(const char *name)
{
    for (const struct cmdline_option *o = __cmdline_start; o < __cmdline_end; o++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

const struct cmdline_option *cmdline_runtime(unsigned n)
{
    for (const struct cmdline_option *o = __cmdline_start; o < __cmdline_end; o++)
        if (o->show && !n--)
            return o;
    return NULL;
}

/* Nobody declared it. value: NULL if it has none. */
static void say_without_effect(const char *word, const char *value)
{
    const char *equals = value ? "=" : "", *text = value ? value : "", *name = word, *why = cmdline_why_idle(name), *near;
    size_t len;

    if (!why && !value && !strncmp(word, "no-", 3))
        why = cmdline_why_idle(name += 3);
    if (why && *why)
        printk(LOG_WARNING "Command line: '%s%s%s' has no effect: %s\n", word, equals, text, why);
    if (why)
        return;
    near = cmdline_nearest(name, &len);
    if (near)
        printk(LOG_WARNING "Command line: unknown word '%s%s%s', did you mean '%.*s'?\n", word, equals, text, (int)len, near);
    else
        printk(LOG_WARNING "Command line: unknown word '%s%s%s'\n", word, equals, text);
}

static void parse_word(char *word)
{
    char *value = strchr(word, '=');
    const struct cmdline_option *o;
    const char *text = "";

    if (value) {
        *value++ = '\0';
        text = value;
    }
    o = find_option(word);
    if (!o && !value && !strncmp(word, "no-", 3)) {
        o = find_option(word + 3);
        text = "no";
    }
    refused = NULL;
    if (!o)
        say_without_effect(word, value);
    else if (o->parse(text))
        say_malformed(word, text);
}

/* The next word of *line, unquoted, into word; false at the end. Advances *line. */
static bool next_word(const char **line, char *word, size_t size)
{
    const char *p = *line;
    size_t n = 0;
    bool quoted = false;

    while (*p == ' ' || *p == '\t' || *p == '\n')
        p++;
    for (; *p && (quoted || (*p != ' ' && *p != '\t' && *p != '\n')); p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (n + 1 < size)
            word[n++] = *p;
    }
    word[n] = '\0';
    *line = p;
    return n != 0;
}

/* Some loaders put our file's name first. */
static bool is_file_name(const char *word)
{
    size_t n = strlen(word);

    return !strchr(word, '=') && (strchr(word, '/') || (n > 3 && !strcmp(word + n - 3, ".gz")));
}

void cmdline_parse(const char *line)
{
    static char word[CMDLINE_MAX];   /* early: the stack is small */
    const char *rest = line;

    if (next_word(&rest, word, sizeof(word)) && is_file_name(word))
        line = rest;
    while (*line == ' ')
        line++;
    if (strlcpy(line_copy, line, sizeof(line_copy)) >= sizeof(line_copy))
        printk(LOG_WARNING "Command line: longer than %u bytes, the rest is lost\n", CMDLINE_MAX - 1);
    rest = line_copy;
    while (next_word(&rest, word, sizeof(word)) && strcmp(word, "--"))
        parse_word(word);
}
