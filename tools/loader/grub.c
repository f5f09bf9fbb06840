/*
 * GRUB's script language ("Shell-like scripting" in its manual), as much as configurations need that grub-mkconfig, distributions or people
 * write for one kernel: words with quotes and variables; if, elif, else, fi; [ ]; commands. Functions and loops are passed over, and so are
 * commands that we do not know: they are about screens, sounds and modules.
 */
#include "grub.h"

#define WORDS_MOST 48u
#define TEXT_MOST  2048u        /* of a statement, when its variables are replaced */
#define DEPTH_MOST 8u
#define STEPS_MOST 20000u       /* statements */

struct statement {
    const char *word[WORDS_MOST];
    unsigned nr;
    char text[TEXT_MOST];
};

/* Where we are among the ifs: whether a branch of it was taken already, and whether statements count. */
struct branches { struct { bool taken, on; } at[DEPTH_MOST]; unsigned depth; };

static int run(struct grub *g, const char *p, const char *end, const struct grub_entry *menu, unsigned depth);

#define grub_fail(g, code, ...) ({ if (!*(g)->err.text) (void)image_fail(&(g)->err, code, __VA_ARGS__); (code); })

/* ---- Variables ---- */

const char *grub_get(const struct grub *g, const char *name)
{
    for (unsigned i = 0; i < g->nr_vars; i++)
        if (!strcmp(g->vars[i].name, name))
            return g->vars[i].value;
    return "";
}

void grub_set(struct grub *g, const char *name, const char *value)
{
    unsigned i = 0;

    while (i < g->nr_vars && strcmp(g->vars[i].name, name))
        i++;
    if (i == GRUB_VARS)
        return;
    strlcpy(g->vars[i].name, name, sizeof(g->vars[i].name));
    strlcpy(g->vars[i].value, value, sizeof(g->vars[i].value));
    g->nr_vars = max(g->nr_vars, i + 1);
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void assign(struct grub *g, const char *word)
{
    const char *equals = strchr(word, '=');
    char name[32];

    if (!equals || (size_t)(equals - word) >= sizeof(name))
        return;
    memcpy(name, word, (size_t)(equals - word));
    name[equals - word] = 0;
    grub_set(g, name, equals + 1);
}

/* ---- Words ---- */

static bool ends_statement(char c) { return c == '\n' || c == ';'; }
static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* p at '$': the variable's value goes to the text, if there is room; where the name ends. */
static const char *expand(const struct grub *g, const char *p, const char *end, char *to, unsigned *len)
{
    bool braces = ++p < end && *p == '{';
    char name[32];
    unsigned n = 0;
    const char *value;

    for (p += braces; p < end && is_name(*p); p++)
        if (n < sizeof(name) - 1)
            name[n++] = *p;
    name[n] = 0;
    p += braces && p < end && *p == '}';
    for (value = grub_get(g, name); *value && *len < TEXT_MOST - 1; value++)
        to[(*len)++] = *value;
    return p;
}

/* One word, from p on, quotes taken away. */
static const char *read_word(const struct grub *g, const char *p, const char *end, char *to, unsigned *len)
{
    char quote = 0;

    while (p < end && (quote || (!is_blank(*p) && !ends_statement(*p)))) {
        char c = *p;

        if (c == '\\' && quote != '\'' && p + 1 < end) {
            if (p[1] != '\n' && *len < TEXT_MOST - 1)
                to[(*len)++] = p[1];
            p += 2;
        } else if (quote ? c == quote : c == '\'' || c == '"') {
            quote = quote ? 0 : c;
            p++;
        } else if (c == '$' && quote != '\'') {
            p = expand(g, p, end, to, len);
        } else {
            if (*len < TEXT_MOST - 1)
                to[(*len)++] = c;
            p++;
        }
    }
    to[*len] = 0;
    return p;
}

/* The words up to the statement's end or a brace that opens a block; where that is. */
static const char *read_statement(const struct grub *g, const char *p, const char *end, struct statement *s)
{
    unsigned len = 0;

    for (s->nr = 0; p < end;) {
        if (is_blank(*p) || (*p == '\\' && p + 1 < end && p[1] == '\n')) {
            p += is_blank(*p) ? 1 : 2;
        } else if (*p == '#') {
            while (p < end && *p != '\n')
                p++;
        } else if (ends_statement(*p)) {
            p++;
            if (s->nr)
                break;
        } else if (*p == '{' && s->nr) {
            break;
        } else {
            char *word = s->text + min(len, TEXT_MOST - 1);

            p = read_word(g, p, end, s->text, &len);
            if (s->nr < WORDS_MOST)
                s->word[s->nr++] = word;
            len += len < TEXT_MOST - 1;
        }
    }
    return p;
}

/* p at '{': where the brace that closes it is; end if none does. */
static const char *block_end(const char *p, const char *end)
{
    unsigned depth = 0;
    char quote = 0;

    for (; p < end; p++) {
        if (*p == '\\' && quote != '\'') {
            p++;
        } else if (quote) {
            quote = *p == quote ? 0 : quote;
        } else if (*p == '\'' || *p == '"') {
            quote = *p;
        } else if (*p == '$' && p + 1 < end && p[1] == '{') {
            while (p < end && *p != '}')
                p++;
        } else if (*p == '{') {
            depth++;
        } else if (*p == '}' && !--depth) {
            return p;
        }
    }
    return end;
}

/* ---- Conditions ---- */

static bool file_test(struct grub *g, const char *path) { return g->host->is_file(g->host->ctx, grub_get(g, "root"), path); }

static bool test(struct grub *g, const char *const *word, unsigned nr)
{
    if (nr && !strcmp(word[0], "!"))
        return !test(g, word + 1, nr - 1);
    if (nr == 1)
        return *word[0] != 0;
    if (nr == 2 && word[0][0] == '-' && word[0][1])
        return strchr("nz", word[0][1]) ? (*word[1] != 0) == (word[0][1] == 'n') : file_test(g, word[1]);
    if (nr == 3 && (!strcmp(word[1], "=") || !strcmp(word[1], "==")))
        return !strcmp(word[0], word[2]);
    return nr == 3 && !strcmp(word[1], "!=") && strcmp(word[0], word[2]);
}

static bool condition(struct grub *g, const struct statement *s, unsigned first)
{
    const char *const *word = s->word + first;
    unsigned nr = s->nr - first;

    if (nr && !strcmp(word[0], "["))
        return test(g, word + 1, nr - 1 - !strcmp(word[nr - 1], "]"));
    if (nr && !strcmp(word[0], "test"))
        return test(g, word + 1, nr - 1);
    return nr && !strcmp(word[0], "true");
}

static bool counts(const struct branches *b) { return !b->depth || b->at[b->depth - 1].on; }

/* True if the statement was about branches. What follows "then" and "else" on their line stays, from *first on. */
static bool branch(struct grub *g, struct branches *b, const struct statement *s, unsigned *first)
{
    const char *word = s->word[0];
    bool outer = b->depth < 2 || b->at[b->depth - 2].on;

    if (!strcmp(word, "if")) {
        bool on = counts(b);

        if (b->depth == DEPTH_MOST)
            return grub_fail(g, -EINVAL, "the configuration has more than %u ifs in each other", DEPTH_MOST), true;
        b->depth++;
        b->at[b->depth - 1].on = b->at[b->depth - 1].taken = on && condition(g, s, 1);
        return true;
    }
    if (!b->depth)
        return false;
    if (!strcmp(word, "fi")) {
        b->depth--;
        return true;
    }
    if (!strcmp(word, "elif") || !strcmp(word, "else")) {
        bool is_else = word[2] == 's';

        b->at[b->depth - 1].on = outer && !b->at[b->depth - 1].taken && (is_else || condition(g, s, 1));
        b->at[b->depth - 1].taken |= b->at[b->depth - 1].on;
        *first = 1;
        return !is_else;
    }
    *first = !strcmp(word, "then");
    return false;
}

/* ---- Commands ---- */

static void join(char *to, size_t size, const struct statement *s, unsigned first)
{
    *to = 0;
    for (unsigned i = first; i < s->nr; i++) {
        if (i > first)
            strlcat(to, " ", size);
        strlcat(to, s->word[i], size);
    }
}

/* A path with its device before it, as at the time of the command. */
static void whole_path(struct grub *g, char *to, size_t size, const char *path)
{
    if (*path == '(')
        strlcpy(to, path, size);
    else
        snprintf(to, size, "(%s)%s", grub_get(g, "root"), path);
}

static void cmd_linux(struct grub *g, const struct statement *s)
{
    if (s->nr < 2)
        return;
    whole_path(g, g->kernel, sizeof(g->kernel), s->word[1]);
    join(g->cmdline, sizeof(g->cmdline), s, 2);
}

static void cmd_initrd(struct grub *g, const struct statement *s)
{
    g->nr_initrds = 0;
    for (unsigned i = 1; i < s->nr; i++) {
        if (g->nr_initrds == GRUB_INITRDS)
            grub_fail(g, -E2BIG, "the entry has more than %u ramdisks", GRUB_INITRDS);
        else
            whole_path(g, g->initrd[g->nr_initrds++], sizeof(g->initrd[0]), s->word[i]);
    }
}

/* search [--fs-uuid|--label|--file] [--set[=VARIABLE]] ... VALUE */
static void cmd_search(struct grub *g, const struct statement *s)
{
    const char *var = "root", *value = "";
    char kind = 'f', device[64];

    for (unsigned i = 1; i < s->nr; i++) {
        const char *w = s->word[i];

        if (!strcmp(w, "--fs-uuid") || !strcmp(w, "-u"))
            kind = 'u';
        else if (!strcmp(w, "--label") || !strcmp(w, "-l") || !strcmp(w, "--fs-label"))
            kind = 'l';
        else if (!strncmp(w, "--set=", 6))
            var = w + 6;
        else if ((!strcmp(w, "-s") || !strcmp(w, "--set")) && i + 2 < s->nr && s->word[i + 1][0] != '-')
            var = s->word[++i];
        else if ((!strcmp(w, "--hint") || !strcmp(w, "-h")) && i + 2 < s->nr)
            i++;
        else if (w[0] != '-')
            value = w;
    }
    if (g->host->search(g->host->ctx, kind, value, device, sizeof(device)))
        grub_set(g, var, device);
}

static void cmd_load_env(struct grub *g)
{
    char path[300], text[1025];
    const char *line = text;

    snprintf(path, sizeof(path), "%s/grubenv", grub_get(g, "prefix"));
    if (g->host->read_text(g->host->ctx, grub_get(g, "root"), path, text, sizeof(text)) < 0)
        return;
    while (*line) {
        const char *stop = strchr(line, '\n');
        size_t len = stop ? (size_t)(stop - line) : strlen(line);
        char word[300];

        strlcpy(word, line, min(len + 1, sizeof(word)));
        if (*word != '#')
            assign(g, word);
        line += len + (stop != NULL);
    }
}

static void command(struct grub *g, const struct statement *s, unsigned first)
{
    struct statement rest = { .nr = s->nr - first };
    const char *name;

    memcpy(rest.word, s->word + first, rest.nr * sizeof(rest.word[0]));
    if (!rest.nr)
        return;
    name = rest.word[0];
    if (!strcmp(name, "set") && rest.nr > 1)
        assign(g, rest.word[1]);
    else if (!strncmp(name, "linux", 5))
        cmd_linux(g, &rest);
    else if (!strncmp(name, "initrd", 6))
        cmd_initrd(g, &rest);
    else if (!strncmp(name, "search", 6))
        cmd_search(g, &rest);
    else if (!strcmp(name, "load_env"))
        cmd_load_env(g);
    else if (!strcmp(name, "blscfg"))
        g->wants_bls = true;
    else if (rest.nr == 1 && strchr(name, '=') && is_name(*name))
        assign(g, name);
}

/* ---- Entries ---- */

/* Title and id; options that take a word have it behind them or behind "=". */
static void name_entry(const struct statement *s, unsigned first, struct grub_entry *e)
{
    const char *title = "", *id = NULL;

    for (unsigned i = first + 1; i < s->nr; i++) {
        const char *w = s->word[i];

        if (!strncmp(w, "--id=", 5))
            id = w + 5;
        else if ((!strcmp(w, "--id") || !strcmp(w, "$menuentry_id_option")) && i + 1 < s->nr)
            id = s->word[++i];
        else if ((!strcmp(w, "--class") || !strcmp(w, "--users") || !strcmp(w, "--hotkey") || !strcmp(w, "--source")) && i + 1 < s->nr)
            i++;
        else if (*w && *w != '-' && !*title)
            title = w;
    }
    strlcpy(e->title, title, sizeof(e->title));
    strlcpy(e->id, id ?: title, sizeof(e->id));
}

static void put_below(const struct grub_entry *menu, char *name, size_t size, const char *above)
{
    char below[128];

    if (!menu)
        return;
    strlcpy(below, name, sizeof(below));
    snprintf(name, size, "%s>%s", above, below);
}

static int block(struct grub *g, const struct statement *s, unsigned first, const char *p, const char *stop, const struct grub_entry *menu,
                 unsigned number, unsigned depth)
{
    struct grub_entry e = { .body = p + 1, .end = stop };

    name_entry(s, first, &e);
    snprintf(e.index, sizeof(e.index), "%u", number);
    if (menu) {
        put_below(menu, e.title, sizeof(e.title), menu->title);
        put_below(menu, e.id, sizeof(e.id), menu->id);
        put_below(menu, e.index, sizeof(e.index), menu->index);
    }
    if (!strcmp(s->word[first], "submenu"))
        return run(g, p + 1, stop, &e, depth + 1);
    if (g->nr_entries == GRUB_ENTRIES)
        return 0;
    g->entries[g->nr_entries++] = e;
    return 0;
}

static bool is_loop(const char *word) { return !strcmp(word, "for") || !strcmp(word, "while") || !strcmp(word, "until"); }

/* Statements from p to end. menu: the submenu whose they are, or NULL. */
static int run(struct grub *g, const char *p, const char *end, const struct grub_entry *menu, unsigned depth)
{
    struct branches b = { .depth = 0 };
    struct statement s;
    unsigned items = 0, loops = 0;

    if (depth > 3)
        return grub_fail(g, -EINVAL, "the configuration has submenus in submenus in submenus");
    while (p < end && !*g->err.text) {
        unsigned first = 0;
        bool menus;

        if (++g->steps > STEPS_MOST)
            return grub_fail(g, -E2BIG, "the configuration has more than %u statements", STEPS_MOST);
        p = read_statement(g, p, end, &s);
        if (!s.nr)
            continue;
        loops += is_loop(s.word[0]);
        if (!strcmp(s.word[0], "done") && loops) {
            loops--;
            continue;
        }
        if (!loops && branch(g, &b, &s, &first))
            continue;
        menus = first < s.nr && (!strcmp(s.word[first], "menuentry") || !strcmp(s.word[first], "submenu"));
        if (p < end && *p == '{') {
            const char *stop = block_end(p, end);

            if (stop == end)
                return grub_fail(g, -EINVAL, "a block of the configuration (%.64s) is not closed by }", s.word[first < s.nr ? first : 0]);
            if (menus && !loops && counts(&b) && block(g, &s, first, p, stop, menu, items++, depth))
                return -EINVAL;
            p = stop + 1;
        } else if (!loops && counts(&b)) {
            command(g, &s, first);
        }
    }
    if (b.depth && !*g->err.text)
        return grub_fail(g, -EINVAL, "an if of the configuration has no fi");
    return *g->err.text ? -EINVAL : 0;
}

int grub_read(struct grub *g, const char *text) { return run(g, text, text + strlen(text), NULL, 0); }

unsigned grub_default(const struct grub *g)
{
    const char *wanted = grub_get(g, "default");

    for (unsigned i = 0; *wanted && i < g->nr_entries; i++) {
        const struct grub_entry *e = &g->entries[i];

        if (!strcmp(wanted, e->index) || !strcmp(wanted, e->title) || !strcmp(wanted, e->id) || (*e->bls && !strcmp(wanted, e->bls)))
            return i;
    }
    /* What is a submenu stands for its first entry. */
    for (unsigned i = 0; *wanted && i < g->nr_entries; i++)
        if (!strncmp(wanted, g->entries[i].index, strlen(wanted)) && g->entries[i].index[strlen(wanted)] == '>')
            return i;
    return 0;
}

int grub_timeout(const struct grub *g)
{
    const char *t = grub_get(g, "timeout");

    return *t == '-' ? -1 : (int)min(strtoull(t, NULL, 10), (u64)3600);
}

/* ---- The Boot Loader Specification ---- */

/* The value of the key's line, variables replaced, behind what is there already. */
static void bls_value(const struct grub *g, const char *text, const char *key, char *to, size_t size)
{
    size_t len = strlen(key);

    *to = 0;
    while (*text) {
        const char *stop = strchr(text, '\n');
        size_t n = stop ? (size_t)(stop - text) : strlen(text);

        if (n > len && !strncmp(text, key, len) && is_blank(text[len])) {
            struct statement s;

            text += len;
            read_statement(g, text, text + (n - len), &s);
            if (*to)
                strlcat(to, " ", size);
            join(to + strlen(to), size - strlen(to), &s, 0);
            n -= len;
        }
        text += n + (stop != NULL);
    }
}

int grub_add_bls(struct grub *g, const char *file, const char *text)
{
    struct grub_entry *e = &g->entries[g->nr_entries];
    char version[64];

    if (g->nr_entries == GRUB_ENTRIES)
        return 0;
    *e = (struct grub_entry){ .body = NULL };
    bls_value(g, text, "title", e->title, sizeof(e->title));
    bls_value(g, text, "version", version, sizeof(version));
    if (*version && !strstr(e->title, version)) {
        strlcat(e->title, " ", sizeof(e->title));
        strlcat(e->title, version, sizeof(e->title));
    }
    strlcpy(e->bls, file, sizeof(e->bls));
    strlcpy(e->id, file, sizeof(e->id));
    if (strlen(e->id) > 5)
        e->id[strlen(e->id) - 5] = 0;       /* .conf */
    g->nr_entries++;
    return 0;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* As versions are compared: runs of digits by their numbers, the rest by characters. */
static int compare_versions(const char *a, const char *b)
{
    while (*a && *b) {
        if (is_digit(*a) && is_digit(*b)) {
            u64 x = strtoull(a, &a, 10), y = strtoull(b, &b, 10);

            if (x != y)
                return x < y ? -1 : 1;
        } else if (*a++ != *b++) {
            return a[-1] < b[-1] ? -1 : 1;
        }
    }
    return (*a != 0) - (*b != 0);
}

void grub_sort_bls(struct grub *g)
{
    for (unsigned i = 1; i < g->nr_entries; i++) {
        struct grub_entry e = g->entries[i];
        unsigned at = i;

        for (; at && *e.bls && *g->entries[at - 1].bls && compare_versions(g->entries[at - 1].bls, e.bls) < 0; at--)
            g->entries[at] = g->entries[at - 1];
        g->entries[at] = e;
    }
    for (unsigned i = 0; i < g->nr_entries; i++)
        if (*g->entries[i].bls)
            snprintf(g->entries[i].index, sizeof(g->entries[i].index), "%u", i);
}

static int choose_bls(struct grub *g, const char *text)
{
    struct statement s;
    char line[512];

    bls_value(g, text, "linux", line, sizeof(line));
    if (*line)
        whole_path(g, g->kernel, sizeof(g->kernel), line);
    bls_value(g, text, "options", g->cmdline, sizeof(g->cmdline));
    bls_value(g, text, "initrd", line + 7, sizeof(line) - 7);
    memcpy(line, "initrd ", 7);
    read_statement(g, line, line + strlen(line), &s);
    if (s.nr)
        cmd_initrd(g, &s);
    return *g->err.text ? -EINVAL : 0;
}

int grub_choose(struct grub *g, unsigned entry, const char *text)
{
    const struct grub_entry e = g->entries[entry];
    int rc = *e.bls ? choose_bls(g, text) : run(g, e.body, e.end, NULL, 1);

    strlcpy(g->root, grub_get(g, "root"), sizeof(g->root));
    if (!rc && !*g->kernel)
        return grub_fail(g, -ENOENT, "the entry '%.80s' has no command linux", e.title);
    return rc;
}
