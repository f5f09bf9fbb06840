/* What the command line says of defences against speculative execution: spec-ctrl=, xpti=, pv-l1tf= (docs/command-line.md). */
#include <asm/spec.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

static const struct { const char *name; size_t field; } switches[] = {
    { "bti-thunk", offsetof(struct spec_wishes, thunk) }, { "ibrs", offsetof(struct spec_wishes, ibrs) },
    { "bhi-dis-s", offsetof(struct spec_wishes, bhi) }, { "ibpb", offsetof(struct spec_wishes, ibpb) },
    { "rsb", offsetof(struct spec_wishes, rsb) }, { "div-scrub", offsetof(struct spec_wishes, div) },
    { "lock-harden", offsetof(struct spec_wishes, lock) },
    { "md-clear", offsetof(struct spec_wishes, verw) }, { "verw", offsetof(struct spec_wishes, verw) },
};

/* What Xen's list has besides: a setting for what is not done here, or not told apart. */
static const char *const idle[] = {
    "xen", "hvm", "pv", "msr-sc", "ibpb-entry", "bhb-entry", "bhb-seq", "ssbd", "psfd", "eager-fpu", "l1d-flush", "branch-harden",
    "srb-lock", "unpriv-mmio", "gds-mit", "bp-spec-reduce",
};

static enum spec_wish *wish_of(struct spec_wishes *w, unsigned i) { return (enum spec_wish *)((char *)w + switches[i].field); }

static bool is_word(const char *word, size_t len, const char *name) { return len == strlen(name) && !strncmp(word, name, len); }

static int all_wishes(struct spec_wishes *w, enum spec_wish wish)
{
    for (unsigned i = 0; i < ARRAY_SIZE(switches); i++)
        *wish_of(w, i) = wish;
    w->xpti = w->l1tf = (struct guest_wishes){ wish, wish };    /* which have options of their own besides */
    return 0;
}

static int choose_thunk(struct spec_wishes *w, enum spec_thunk which)
{
    w->thunk = SPEC_ON;
    w->which = which;
    return 0;
}

static bool is_true(const char *word, size_t len)
{
    return is_word(word, len, "yes") || is_word(word, len, "on") || is_word(word, len, "true") || is_word(word, len, "1");
}

static bool is_false(const char *word, size_t len)
{
    return is_word(word, len, "no") || is_word(word, len, "off") || is_word(word, len, "false") || is_word(word, len, "0");
}

static int say_idle(const char *word, size_t len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(idle); i++)
        if (is_word(word, len, idle[i])) {
            printk(LOG_WARNING "Command line: 'spec-ctrl=%.*s' has no effect: there is no such setting\n", (int)len, word);
            return 0;
        }
    return -EINVAL;
}

static size_t name_length(const char *word, size_t len)
{
    size_t n = 0;

    while (n < len && word[n] != '=')
        n++;
    return n;
}

/* NAME, no-NAME and NAME=BOOLEAN, besides the words for all together and the kinds of thunk. */
int spec_parse_word(struct spec_wishes *w, const char *word, size_t len)
{
    bool no = len > 3 && !strncmp(word, "no-", 3), on = !no;
    size_t name;

    if (is_false(word, len))
        return all_wishes(w, SPEC_OFF);
    if (is_true(word, len))
        return all_wishes(w, SPEC_AUTO);
    if (is_word(word, len, "bti-thunk=retpoline"))
        return choose_thunk(w, THUNK_RETPOLINE);
    if (is_word(word, len, "bti-thunk=lfence"))
        return choose_thunk(w, THUNK_LFENCE);
    if (is_word(word, len, "bti-thunk=jmp"))
        return choose_thunk(w, THUNK_JMP);
    word += no ? 3 : 0;
    len -= no ? 3 : 0;
    name = name_length(word, len);
    if (!say_idle(word, name))
        return 0;
    if (name < len) {
        on = is_true(word + name + 1, len - name - 1);
        if (no || (!on && !is_false(word + name + 1, len - name - 1)))
            return -EINVAL;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(switches); i++)
        if (is_word(word, name, switches[i].name)) {
            *wish_of(w, i) = on ? SPEC_ON : SPEC_OFF;
            return 0;
        }
    return -EINVAL;
}

int guests_parse_word(struct guest_wishes *w, const char *word, size_t len)
{
    bool dom0 = len > 5 && !strncmp(word, "dom0=", 5), domus = len > 5 && !strncmp(word, "domu=", 5);
    size_t prefix = dom0 || domus ? 5 : 0;
    enum spec_wish wish = is_true(word + prefix, len - prefix) ? SPEC_ON : SPEC_OFF;

    if (is_word(word, len, "default"))
        wish = SPEC_AUTO;
    else if (wish == SPEC_OFF && !is_false(word + prefix, len - prefix))
        return -EINVAL;
    if (!domus)
        w->dom0 = wish;
    if (!dom0)
        w->domus = wish;
    return 0;
}

static struct spec_wishes wishes;
static struct guest_wishes xpti, l1tf;      /* whatever spec-ctrl= says, before it or after */

static int parse_spec_word(void *to, const char *word, size_t len) { return spec_parse_word(to, word, len); }
static int parse_guests_word(void *to, const char *word, size_t len) { return guests_parse_word(to, word, len); }

/* Without a word: "on". */
static int parse_spec_ctrl(const char *value)
{
    struct spec_wishes new = wishes;
    int rc = cmdline_list(*value ? value : "on", parse_spec_word, &new);

    if (!rc)
        wishes = new;
    return rc;
}
CMDLINE_OPTION("spec-ctrl", parse_spec_ctrl);

static int parse_guests(const char *value, struct guest_wishes *to)
{
    struct guest_wishes new = *to;
    int rc = cmdline_list(*value ? value : "on", parse_guests_word, &new);

    if (!rc)
        *to = new;
    return rc;
}

static int parse_xpti(const char *value) { return parse_guests(value, &xpti); }
CMDLINE_OPTION("xpti", parse_xpti);
static int parse_l1tf(const char *value) { return parse_guests(value, &l1tf); }
CMDLINE_OPTION("pv-l1tf", parse_l1tf);

static void override(struct guest_wishes *w, const struct guest_wishes *by)
{
    if (by->dom0 != SPEC_AUTO)
        w->dom0 = by->dom0;
    if (by->domus != SPEC_AUTO)
        w->domus = by->domus;
}

struct spec_wishes spec_wished(void)
{
    struct spec_wishes w = wishes;

    override(&w.xpti, &xpti);
    override(&w.l1tf, &l1tf);
    return w;
}
