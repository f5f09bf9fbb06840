/* One step after the other: calls, alone or eight at once as a multicall, direct writes and instructions. Counts by command and error. */
#include "fuzz.h"
#include "console.h"
#include "events.h"
#include "string.h"
#include "test.h"
#include "traps.h"
#include "user.h"

#define MAX_COMMANDS 400
#define NR_ERRORS    128
#define ALONE        (1ULL << 63)   /* beside the numbers of steps: what a batch is */

/*
 * A vCPU's arguments: of each call of a batch a page, and one behind it, for what is read and written across its end; of the first, which
 * is also that of calls alone, more (a list of 1,000 grant operations is 40 KB, and each gets its status). Each is fenced by a page that is
 * not mapped: what is written in a row ends there, before other calls' arguments, which have been looked at (half of a number
 * written over half of another can name what neither does), and before what the kernel lives in.
 */
struct place { u64 page[512], behind[512], fence[512]; };
struct first_place { u64 page[512], behind[10][512], fence[512]; };
struct area {
    struct first_place first[2];
    struct place place[2][BATCH - 1];       /* [true]: that nobody else writes to */
    u64 scratch[512], room[7][512], scratch_fence[512], state[512], fence[512];     /* scratch: the one that calls may replace */
};
static struct area areas[MAX_FUZZERS] __attribute__((aligned(4096)));
static GUEST(multicall_entry) batch[MAX_FUZZERS][BATCH];
static u64 seed;
static bool tells;              /* each call, before and after it */

struct count counts[MAX_COMMANDS];
static u32 errors[MAX_COMMANDS][NR_ERRORS];
static u64 nr_calls;
volatile bool fuzz_stops;
volatile u32 fuzzers_stopped;

u64 *arguments_of(struct fuzz *z, unsigned place, bool alone)
{
    struct area *a = &areas[z->who];

    return place ? a->place[alone][place - 1].page : a->first[alone].page;
}

void *state_of(struct fuzz *z) { return areas[z->who].state; }

static void fence(u64 *page)
{
    if (unmap_at(page))
        panic("no fence at %p", (void *)page);
}

static void area_fence(struct area *a)
{
    fence(a->fence);
    fence(a->scratch_fence);
    for (unsigned alone = 0; alone < 2; alone++) {
        fence(a->first[alone].fence);
        for (unsigned i = 0; i < BATCH - 1; i++)
            fence(a->place[alone][i].fence);
    }
}

static void arguments_fence(void)
{
    for (unsigned i = 0; i < MAX_FUZZERS; i++)
        area_fence(&areas[i]);
}

/* ---- Counts ---- */

unsigned nr_commands(void) { return groups[nr_groups - 1].first + groups[nr_groups - 1].nr; }
u64 calls_made(void) { return nr_calls; }

static void number_commands(void)
{
    for (unsigned i = 1; i < nr_groups; i++)
        groups[i].first = groups[i - 1].first + groups[i - 1].nr;
    if (nr_commands() >= MAX_COMMANDS)
        panic("%u commands are too many", nr_commands());
}

static void count(const struct call *c, long rc)
{
    unsigned n = c->group->first + (unsigned)(c->command - c->group->command);

    nr_calls++;
    counts[n].made++;
    counts[n].accepted += rc >= 0;
    if (rc < 0 && rc > -NR_ERRORS)
        errors[n][-rc]++;
}

/* Behind what a child counts is their sum: others' calls may have written to its page, or we look while it does. */
static u32 sum_of(const struct count *c)
{
    u32 sum = 0;

    for (unsigned i = 0; i < nr_commands(); i++)
        sum = sum * 31 + c[i].made;
    return sum;
}

void counts_add(const volatile struct count *theirs)
{
    static struct count more[MAX_COMMANDS];

    memcpy(more, (const void *)theirs, (nr_commands() + 1) * sizeof(*more));
    if (!more[0].made || more[nr_commands()].made != sum_of(more))
        return;
    for (unsigned i = 0; i < nr_commands(); i++) {
        counts[i].made += more[i].made;
        counts[i].accepted += more[i].accepted;
        nr_calls += more[i].made;
    }
}

static void print_count(const struct group *g, unsigned i)
{
    unsigned n = g->first + i;

    if (!counts[n].made)
        return;
    printf("COUNT %s %s %u %u", g->name, g->command[i].name, counts[n].made, counts[n].accepted);
    for (unsigned e = 0; e < NR_ERRORS; e++)
        if (errors[n][e])
            printf(" %u:%u", e, errors[n][e]);
    printf("\n");
}

void counts_print(void)
{
    for (const struct group *g = groups; g < groups + nr_groups; g++)
        for (unsigned i = 0; i < g->nr; i++)
            print_count(g, i);
    printf("CALLS %llu\n", (unsigned long long)nr_calls);
}

/* ---- Calls ---- */

static void tell(const struct fuzz *z, const struct call *c)
{
    const word *b = (const word *)c->buffer;

    if (!tells)
        return;
    printf("STEP %llu %s %s(%lx, %lx, %lx, %lx)", (unsigned long long)z->step, c->group->name, c->command->name, c->args[0], c->args[1],
           c->args[2], c->args[3]);
    printf(" at %p: %lx %lx %lx %lx %lx %lx\n", (void *)b, b[0], b[1], b[2], b[3], b[4], b[5]);
}

static void tell_other(const struct fuzz *z, const char *what)
{
    if (tells)
        printf("STEP %llu %s\n", (unsigned long long)z->step, what);
}

static void done(struct fuzz *z, struct call *c, long rc)
{
    if (tells)
        printf("STEP %llu = %ld\n", (unsigned long long)z->step, rc);
    count(c, rc);
    if (c->command->learn)
        c->command->learn(z, c, rc);
}

/* With an event at hand when it begins a call may give way at its first look, and is made again. */
static void call_alone(struct fuzz *z)
{
    struct call c;
    long rc;

    make_call(z, &c, 0);
    tell(z, &c);
    if (once_in(z, 3))
        write_once(vcpu_info(z->who)->evtchn_upcall_pending, 1);
    rc = c.group->number < 64 && !once_in(z, 16) ? hypercall_page_call(c.group->number, c.args) : hypercall_bare(c.group->number, c.args);
    done(z, &c, rc);
}

static void make_batch(struct fuzz *z, u64 first, struct call *call, unsigned *n)
{
    for (u64 step = first; step < first + BATCH; step++) {
        seed_step(z, seed, step);
        if (!step_is_wanted(z))
            continue;
        make_call(z, &call[*n], (unsigned)(step - first));
        tell(z, &call[*n]);
        batch[z->who][*n] = (GUEST(multicall_entry)){ .op = call[*n].group->number };
        for (unsigned i = 0; i < 6; i++)
            batch[z->who][*n].args[i] = call[*n].args[i];
        ++*n;
    }
}

static void call_batch(struct fuzz *z, u64 first)
{
    struct call call[BATCH];
    unsigned n = 0;
    long rc;

    z->batched = true;
    make_batch(z, first, call, &n);
    z->batched = false;
    if (!n)
        return;
    rc = multicall(batch[z->who], n);
    for (unsigned i = 0; i < n; i++) {
        z->buffer = call[i].buffer;
        done(z, &call[i], rc ?: (long)batch[z->who][i].result);
    }
}

/* ---- Writes ---- */

/* A direct write to what may be a page table just now. */
static void write_entry(struct fuzz *z)
{
    volatile pte_raw *at = (volatile pte_raw *)some_victim(z) + below(z, 8);
    pte_raw e = (pte_raw)(once_in(z, 2) ? 0 : some_pte(z));

    switch (below(z, 4)) {
    case 0: (void)FAULT_IN(*at = e); break;
    case 1: (void)FAULT_IN((void)__atomic_exchange_n((volatile word *)at, (word)e, __ATOMIC_SEQ_CST)); break;
    case 2: (void)FAULT_IN((void)__atomic_fetch_or((volatile word *)at, PTE_A, __ATOMIC_SEQ_CST)); break;
    default: (void)FAULT_IN(*(volatile u8 *)at = (u8)e); break;
    }
}

/* Whatever is mapped there just now. */
static void touch_window(struct fuzz *z)
{
    volatile word *p = slot(z);

    (void)FAULT_IN(p[below(z, 512)] = 0; (void)p[0]);
}

static void one_step(struct fuzz *z, u64 step)
{
    seed_step(z, seed, step);
    z->buffer = arguments_of(z, 0, false);
    if (!step_is_wanted(z))
        return;
    switch (below(z, 12)) {
    case 0: tell_other(z, "a write to what may be a table"); write_entry(z); break;
    case 1: tell_other(z, "a write to a window"); touch_window(z); break;
    case 2: tell_other(z, "an instruction"); some_instruction(z); break;
    case 3: tell_other(z, "children"); children_step(z, seed); break;
    default: call_alone(z); break;
    }
}

static void batch_of_steps(struct fuzz *z, u64 first)
{
    seed_step(z, seed, first | ALONE);
    if (once_in(z, 2)) {
        call_batch(z, first);
        return;
    }
    for (u64 step = first; step < first + BATCH; step++)
        one_step(z, step);
}

static void report(const struct fuzz *z, u64 first)
{
    volatile struct count *to = child_report();
    const char *why = first % 32768 ? NULL : vital_changed();

    if (to && first % 64 == 0) {
        memcpy((void *)to, counts, nr_commands() * sizeof(*counts));
        to[nr_commands()].made = sum_of(counts);
    }
    if (why)
        panic("whose fault: the fuzzer's, before step %llu: %s", (unsigned long long)first, why);
    if (first % 2048 == 0 && !z->who && !to)
        printf("step %llu, %llu calls\n", (unsigned long long)first, (unsigned long long)nr_calls);
}

void steps_run(struct fuzz *z, u64 end)
{
    for (u64 first = 0; first < end && !(z->who && fuzz_stops); first += BATCH) {
        report(z, first);
        batch_of_steps(z, first);
    }
}

/* ---- Other vCPUs ---- */

void fuzzer_main(void)
{
    write_once(vcpu_info(this_vcpu())->evtchn_upcall_mask, 0);
    steps_run(&fuzz[this_vcpu()], ~0ULL);
    __atomic_fetch_add(&fuzzers_stopped, 1, __ATOMIC_SEQ_CST);
    for (;;)
        sched_op(SCHEDOP_yield, NULL);
}

/* Into arguments that others are using: harmless wherever it ends up, as all values are, but for a command that changes the root. */
static void scribble_on(struct fuzz *mine, struct fuzz *z)
{
    u64 *page = arguments_of(z, below(mine, BATCH), false), v = some_value(mine);

    if ((u32)v == MMUEXT_NEW_BASEPTR || v >> 32 == MMUEXT_NEW_BASEPTR)
        v = 0;
    if (once_in(mine, 2))
        write_once(page[below(mine, 40)], v);
    else
        write_once(((u32 *)page)[below(mine, 80)], (u32)v);
}

static void disturb(struct fuzz *mine, struct fuzz *z)
{
    write_once(vcpu_info(z->who)->evtchn_upcall_pending, 1);
    for (unsigned i = below(mine, 200); i--; )
        barrier();
    if (once_in(mine, 2))
        scribble_on(mine, z);
    write_once(vcpu_info(z->who)->evtchn_upcall_pending, 0);
}

void idler_main(void)
{
    struct fuzz mine = { .who = 0, .scratch = fuzz[0].scratch };

    for (u64 i = 0;; i++) {
        seed_step(&mine, seed + 99, i);
        disturb(&mine, &fuzz[i % max(model.fuzzers, 1u)]);
        for (unsigned n = below(&mine, 2000); n--; )
            barrier();
        if (fuzz_stops || once_in(&mine, 4))
            sched_op(SCHEDOP_yield, NULL);
    }
}

/* ---- Start ---- */

/* An upcall costs little and says nothing. */
static void no_upcall(unsigned vcpu)
{
    write_once(vcpu_info(vcpu)->evtchn_upcall_pending, 0);
    write_once(vcpu_info(vcpu)->evtchn_pending_sel, 0);
}

bool fuzz_prepare(u64 seed_)
{
    seed = seed_;
    tells = number_word("trace", 0);
    number_commands();
    user_init();
    if (!model_init())
        return false;
    model.fuzzers = (unsigned)min(number_word("fuzzers", 1), (u64)MAX_FUZZERS);
    for (unsigned i = 0; i < MAX_FUZZERS; i++)
        fuzz[i] = (struct fuzz){ .state = 1, .who = i, .buffer = areas[i].first[true].page, .scratch = areas[i].scratch };
    arguments_fence();
    vital_init();
    upcall = no_upcall;
    return true;
}
