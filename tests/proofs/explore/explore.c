/*
 * explore SIZE FORMAT [long]: every state that a machine of that size can come to, from the one in which nothing is a table, and what is
 * asked of each state and of each step. long: by the long ways alone.
 *
 * Breadth first: so the path to a state that is wrong is one of the shortest.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <public/errno.h>
#include "explore.h"

char *getenv(const char *name);

#define PATH_MAX_STEPS 1000
#define MOST_STATES (1UL << 26)
#define SECONDS_A_STATE 60

/* --- Sizes: docs/verification.md says what is in them --------------------------------------------------------------------------------- */

static const struct size sizes[] = {
    { "tables",    { 2, 0 }, 0, 1, TABLES, .most = 500000 },
    { "two",       { 2, 0 }, 0, 1, TABLES | ROOTS | WAYS, .most = 5000000 },
    { "accesses",  { 2, 0 }, 0, 1, TABLES | ROOTS | KIND(ACCESS), .most = 2000000 },
    { "uses",      { 2, 0 }, 0, 1, TABLES | USES | BALLOON, .most = 2000000 },
    { "others",    { 1, 1 }, 0, 1, TABLES | OTHERS, .most = 5000000 },
    { "mirrors",   { 2, 0 }, 0, 1, TABLES | ROOTS | WAYS, .most = 5000000, .mirrored = true },
    { "faults",    { 2, 0 }, 0, 1, TABLES | ROOTS | KIND(ACCESS), .most = 5000000, .mirrored = true },
    { "store",     { 2, 0 }, 0, 1, (TABLES | STORE) & ~KIND(TEARDOWN), .most = 20000000, .changes = true },
    { "chain_store", { FRAMES_MAX, 0 }, 0, 1, (TABLES | KIND(ROOT) | STORE) & ~KIND(TEARDOWN), .most = 20000000, .chain = true,
      .changes = true },
    { "shortage",  { 1, 0 }, 1, 1, TABLES | KIND(ROOT) | STORE | KIND(SHORTAGE), .most = 20000000, .changes = true },
    { "for_good",  { 1, 0 }, 1, 1, TABLES | KIND(ROOT) | STORE | KIND(SHORTAGE), .most = 20000000, .changes = true, .for_good = true },
    { "two_slots", { 2, 0 }, 0, 2, TABLES & ~KIND(TEARDOWN), .most = 20000000 },
    { "chain",     { FRAMES_MAX, 0 }, 0, 1, (TABLES | ROOTS) & ~KIND(TEARDOWN) & ~KIND(USER_ROOT), .most = 5000000, .chain = true },
    { "three",     { 3, 0 }, 0, 1, TABLES & ~KIND(TEARDOWN), .most = 20000000 },
};

/* --- Where we are, and how we came there ---------------------------------------------------------------------------------------------- */

static struct { u32 from; u16 depth; struct op op; } *came;      /* by state: the first step that led to it */
static u32 here;                        /* the state from which steps are made */
static struct op op_now;
static bool in_step, by_long_ways, verbose;
static u64 nr_steps;

static s64 run(struct op op, char names[FRAMES_MAX])
{
    char was[FRAMES_MAX];
    u8 to[FRAMES_MAX];

    op_prepare(op, to);
    if (names) {
        memcpy(was, names, sizeof(was));
        for (unsigned n = 0; n < nr_all; n++)
            names[to[n]] = was[n];
    }
    decisions = op.decisions;
    step_begins();
    return op_run(op);
}

static void replay(struct op op, char names[FRAMES_MAX])
{
    char was[FRAMES_MAX];
    u8 to[FRAMES_MAX];

    op_print(op, names);
    (void)run(op, names);
    (void)step_ends();
    canonicalise(to);
    memcpy(was, names, sizeof(was));
    for (unsigned n = 0; n < nr_all; n++)
        names[to[n]] = was[n];
}

/* Frames have the names in it that they had in the beginning. */
static void print_path(void)
{
    static struct op path[PATH_MAX_STEPS];
    char names[FRAMES_MAX + 1] = "ABCDE";
    unsigned n = 0;

    for (u32 s = here; s && n < PATH_MAX_STEPS; s = came[s].from)
        path[n++] = came[s].op;
    state_enter(0);
    while (n--)
        replay(path[n], names);
    if (in_step)
        op_print(op_now, names);
}

void failed(const char *fmt, ...)
{
    static bool again;
    char text[512];
    va_list args;

    va_start(args, fmt);
    (vsnprintf)(text, sizeof(text), fmt, args);
    va_end(args);
    if (!again) {
        again = true;
        printf("FAILED: %s\n", text);
        print_path();
    }
    fflush(stdout);
    _exit(1);
}

static void on_signal(int number)
{
    failed(number == SIGALRM ? "an operation does not end" : "an operation reads or writes where there is nothing");
}

bool clause_broken(const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    (vsnprintf)(text, sizeof(text), fmt, args);
    va_end(args);
    failed("%s", text);
}

/* --- What is asked of a state --------------------------------------------------------------------------------------------------------- */

static void look_at_state(void)
{
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        frames_count(&guests.d[i]);
        vcpus_look(&guests.d[i]);
    }
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        frames_compare(&guests.d[i]);
        mirrors_look(&guests.d[i]);
    }
    frames_look();
}

/* --- What is asked of a step ---------------------------------------------------------------------------------------------------------- */

/*
 * What two ways of doing the same must agree in, and what a refusal leaves alone: not a type that nobody counts, nor what is remembered or
 * noted as stale, nor whether a table was named by others of its level some time, nor what there is of mirrors while these come and go.
 */
struct essence {
    struct { u64 refs, type, slot[SLOTS_MAX]; } frame[FRAMES_MAX];
    struct {
        u64 tables, mirrors, frames, orphans, root_kernel, root_user, info, descriptors, dying, top[4];
        mfn_t orphan[16];
    } d[NR_DOMAINS];
};

static void take_essence(struct essence *e)
{
    memset(e, 0, sizeof(*e));
    for (unsigned n = 0; n < nr_all; n++) {
        u32 w = fake_types[FRAME_FIRST + n];

        e->frame[n].refs = fake_refs[FRAME_FIRST + n];
        e->frame[n].type = w & (FW_COUNT_MASK | FW_PARTIAL | FW_PINNED) ? w & ~FW_LINEAR : 0;
        for (unsigned s = 0; s < size->slots; s++)
            e->frame[n].slot[s] = entry_at(n, slot_index[s]);
    }
    for (unsigned i = 0; i < NR_DOMAINS; i++) {
        const struct domain *d = &guests.d[i];
        const struct vcpu *v = d->vcpu[0];

        e->d[i].tables = d->arch.nr_tables;
        e->d[i].mirrors = size->changes ? 0 : d->arch.nr_mirror_frames;
        e->d[i].frames = d->tot_pages;
        e->d[i].orphans = d->arch.nr_orphans;
        memcpy(e->d[i].orphan, d->arch.orphans, d->arch.nr_orphans * sizeof(mfn_t));
        e->d[i].root_kernel = v->arch.root_kernel.v;
        e->d[i].root_user = v->arch.root_user.v;
        e->d[i].info = v->info_mfn.v;
        e->d[i].descriptors = v->arch.perdomain_l1[0];
        e->d[i].dying = d->dying;
        if (v->arch.monitor_l4 && !d->arch.mirrored)
            memcpy(e->d[i].top, v->arch.monitor_l3, sizeof(e->d[i].top));
    }
}

static bool same_essence(const struct essence *a, const struct essence *b) { return !memcmp(a, b, sizeof(*a)); }

static struct essence before;           /* of the state from which steps are made */
/* In it: whoever is refused may have taken a partial table apart; and long ways take apart what is left over first, short ones later. */
static bool any_partial, any_orphan, any_waits;     /* any_waits: for all vCPUs to rest, which they do meanwhile */

static void look_at_dead(const struct domain *d)
{
    if (d->arch.nr_tables || d->arch.nr_orphans || d->arch.nr_mirror_frames)
        failed("d%u is dead, and something is left: %lu tables, %u orphans, %lu frames of mirrors", d->id, d->arch.nr_tables,
               d->arch.nr_orphans, d->arch.nr_mirror_frames);
    for (unsigned n = 0; n < nr_all; n++)
        if (owns(d, n) && (fake_refs[FRAME_FIRST + n] & FR_ALLOCATED || !size->frames[!(d->id - 1)]))
            failed("d%u is dead, and a frame of its is left", d->id);
}

static s64 step(struct op op)
{
    const char *wrong;
    s64 rc;

    op_now = op;
    nr_steps++;
    rc = run(op, NULL);
    wrong = step_ends();
    if (wrong)
        failed("%s", wrong);
    if (op.kind == TEARDOWN && !rc)
        look_at_dead(&guests.d[op.domain]);
    return rc;
}

static void note_state(struct op op)
{
    bool is_new;
    u8 to[FRAMES_MAX];
    u32 s;

    canonicalise(to);
    s = state_here(&is_new);
    if (!is_new)
        return;
    if (states_count() > size->most)
        failed("there are more states than the %lu that this size is said to have", size->most);
    came[s].from = here;
    came[s].depth = (u16)(came[here].depth + 1);
    came[s].op = op;
    look_at_state();
}

/* To the end of what was asked for, interrupted as decisions say; an error may leave something to be taken apart, to whoever comes next. */
static s64 finish(s64 rc)
{
    const char *wrong = NULL;

    for (unsigned n = 0, looks = nr_decisions; rc == -ERESTART_HYPERCALL && !wrong; n++, looks = nr_decisions) {
        step_begins();
        nr_decisions = looks;
        machine_rest();
        rc = op_resume();
        wrong = n == 100 ? "it is never done" : step_ends();
    }
    if (wrong)
        failed("it goes on, and %s", wrong);
    decisions = 0;
    for (unsigned i = 0; i < NR_DOMAINS; i++)
        if (guests.d[i].arch.nr_orphans && pt_drain_orphans(&guests.d[i]))
            failed("what is left over does not go");
    wrong = step_ends();
    if (wrong)
        failed("what is left over goes, and %s", wrong);
    return rc;
}

/* op, which gives way as op.decisions says, to its end; looks: in itself, and in all. */
static void look_at_interrupted(struct op op, s64 rc, const struct essence *after, unsigned looks[2])
{
    struct essence at_last;
    s64 at_last_rc = step(op);

    looks[0] = nr_decisions;
    at_last_rc = finish(at_last_rc);
    looks[1] = nr_decisions;
    take_essence(&at_last);
    if (!any_partial && !any_waits && (at_last_rc != rc || !same_essence(&at_last, after)))
        failed("interrupted and resumed, it comes to another end: %ld, not %ld", (long)at_last_rc, (long)rc);
    state_back();
}

/*
 * Each sequence of answers of which the last yes is the nth or a later one. Each ends in a state of its own, from which anything may
 * follow; and the operation goes on from there, interrupted once more at most.
 */
static void interrupt(struct op op, unsigned n, unsigned nr_looks, s64 rc, const struct essence *after)
{
    const u32 so_far = op.decisions;

    for (; n < nr_looks; n++) {
        unsigned looks[2];

        if (n >= 31)
            failed("it looks more often than there are bits whether it should give way");
        op.decisions = so_far | 1u << n;
        look_at_interrupted(op, rc, after, looks);
        (void)step(op);
        note_state(op);
        state_back();
        interrupt(op, n + 1, looks[0], rc, after);
        for (unsigned again = looks[0]; !any_partial && again < looks[1]; again++) {
            struct op twice = op;

            twice.decisions |= 1u << again;
            look_at_interrupted(twice, rc, after, (unsigned[2]){ 0 });
        }
    }
}

static void by_the_other_ways(struct op op, s64 rc, const struct essence *after)
{
    struct essence other;

    explore_short_ways = 0;
    if (finish(step(op)) != rc)
        failed("by the long way the answer is another");
    take_essence(&other);
    if (!same_essence(&other, after))
        failed("the long way and the short one do not agree");
    explore_short_ways = 1;
    state_back();
}

static void attempt(struct op op)
{
    struct essence after;
    unsigned looks;
    s64 rc = step(op);
    /* For all vCPUs to rest, or for mirrors. */
    bool waits = guests.d[op.domain].arch.store_holds || (size->for_good && op.value == ABSENT);

    looks = nr_decisions;
    if (rc != -ERESTART_HYPERCALL)
        take_essence(&after);
    note_state(op);
    state_back();
    if (rc == -ERESTART_HYPERCALL) {
        if (!any_partial && !waits)
            failed("it gives way, though nobody asks for that");
        rc = finish(step(op));
        take_essence(&after);
        state_back();
    }
    if (rc < 0 && !any_partial && !op_renames(op) && !same_essence(&after, &before))
        failed("it is refused (%ld), and yet changes something", (long)rc);
    if (!by_long_ways && !any_orphan)
        by_the_other_ways(op, rc, &after);
    interrupt(op, 0, looks, rc, &after);
}

/* --- The search ----------------------------------------------------------------------------------------------------------------------- */

static void explore(void)
{
    bool is_new;
    u8 to[FRAMES_MAX];

    canonicalise(to);
    states_init();
    (void)state_here(&is_new);
    look_at_state();
    for (here = 0; here < states_count(); here++) {
        alarm(SECONDS_A_STATE);
        state_enter(here);
        take_essence(&before);
        any_partial = false;
        any_waits = guests.d[0].arch.store_holds || guests.d[1].arch.store_holds;
        any_orphan = guests.d[0].arch.nr_orphans || guests.d[1].arch.nr_orphans;
        for (unsigned n = 0; n < nr_all; n++)
            any_partial |= !!(fake_types[FRAME_FIRST + n] & FW_PARTIAL);
        in_step = true;
        for_each_op(attempt);
        in_step = false;
        if (verbose && here % 10000 == 0)
            fprintf(stderr, "%u of %lu states, %lu steps\n", here, (unsigned long)states_count(), (unsigned long)nr_steps);
        if (here % 1000 == 0 && !machine_rest_holds())
            failed("something is written that no state has, by a step from here or from one of 1000 states before");
    }
    here--;
    if (!machine_rest_holds())
        failed("something is written that no state has, by a step from one of the last 1000 states");
}

int main(int argc, char **argv)
{
    static const char *const formats[] = { [PT64] = "pt64", [PT32P] = "pt32p", [PT32] = "pt32" };
    enum pt_format_id format = NR_PT_FORMATS;

    for (unsigned i = 0; argc > 2 && i < ARRAY_SIZE(sizes); i++)
        if (!strcmp(sizes[i].name, argv[1]))
            size = &sizes[i];
    for (unsigned i = 0; argc > 2 && i < ARRAY_SIZE(formats); i++)
        if (!strcmp(formats[i], argv[2]))
            format = (enum pt_format_id)i;
    if (!size || format == NR_PT_FORMATS || (size->changes && format == PT32)) {
        fprintf(stderr, "usage: explore SIZE pt64|pt32p|pt32 [long]\n");
        return 2;
    }
    by_long_ways = argc > 3 && !strcmp(argv[3], "long");
    explore_short_ways = !by_long_ways;
    verbose = getenv("VERBOSE");
    came = states_room(sizeof(*came) * MOST_STATES);
    signal(SIGSEGV, on_signal);
    signal(SIGALRM, on_signal);
    machine_init(format);
    explore();
    printf("%lu states, %lu steps, the farthest %u from the first, %lu MiB\n", (unsigned long)states_count(), (unsigned long)nr_steps,
           came[here].depth, (unsigned long)(states_bytes() >> 20));
    return 0;
}
