/*
 * tools/template/end.c and start.c: what tells the program to end is held until it looks, and what it has begun is taken back then, whoever
 * hears of it. At each step of a start there is nothing left afterwards, or there is a whole domain; and nobody fills the memory of one
 * that is not to be.
 */
// SOURCES: tools/template/end.c tools/template/start.c
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tools/save-helper/talk.h"
#include "../../tools/template/template.h"

static const int all[] = { SIGINT, SIGTERM, SIGHUP };
#define NR_ALL (sizeof(all) / sizeof(all[0]))
#define DONE     0
#define NOT_TOLD 7      /* it has looked, and nothing had come */

/* Of any process's. */
static struct {
    unsigned undone;

    /* A start: */
    unsigned steps, told_at;            /* told_at: the step before which it is told to end, from 1 on */
    int by;                             /* this */
    bool is_made, has_nodes, has_settings, runs, is_kept;
    pid_t loader, beginner;
    bool loader_hangs;                  /* after it has told who has begun it to end */
} *seen;

static char said[1000];                 /* of the last run, on standard error */

/* How fn() ends in a process of its own, as waitpid() says it. hears: somebody reads what it says. */
static int run(void (*fn)(void), bool hears)
{
    int out[2], status;
    ssize_t size;
    pid_t child;

    fflush(NULL);
    assert_int_equal(pipe(out), 0);
    child = fork();
    if (!child) {
        close(out[0]);
        dup2(out[1], STDERR_FILENO);
        dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        close(out[1]);
        fn();
        _exit(DONE);
    }
    close(out[1]);
    if (!hears)
        close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (hears) {
        size = read(out[0], said, sizeof(said) - 1);
        said[size > 0 ? size : 0] = 0;
        close(out[0]);
    }
    return status;
}

/* --- Signals --- */

static void take_back(void) { seen->undone++; }

static void begin_something(void)
{
    signals_hold();
    on_failure(take_back);
}

static void is_told_and_looks(void)
{
    begin_something();
    raise(seen->by);
    signals_look();
    _exit(NOT_TOLD);
}

static void is_told_while_it_waits(void)
{
    pid_t us = getpid();
    int never[2];

    begin_something();
    if (pipe(never) || !fork()) {
        usleep(20000);
        kill(us, seen->by);
        _exit(DONE);
    }
    signals_await(never[0], -1);
    _exit(NOT_TOLD);
}

static void what_was_begun_is_taken_back(void **state)
{
    static void (*const ways[])(void) = { is_told_and_looks, is_told_while_it_waits };

    (void)state;
    for (unsigned i = 0; i < NR_ALL * 4; i++) {
        bool hears = i / NR_ALL % 2;

        seen->undone = 0;
        seen->by = all[i % NR_ALL];
        assert_int_equal(run(ways[i / NR_ALL / 2], hears), EXIT_FAILURE << 8);
        assert_int_equal(seen->undone, 1);
        assert_true(!hears || strstr(said, strsignal(seen->by)));
    }
}

/* As nohup has it. */
static void ignores_it(void)
{
    signal(seen->by, SIG_IGN);
    is_told_and_looks();
}

static void is_told_later(void)
{
    begin_something();
    raise(seen->by);            /* meant for who goes on to be somebody else's */
    signals_release();
    if (seen->undone)
        raise(seen->by);
    _exit(NOT_TOLD);
}

static void who_goes_on_alone_hears_what_comes_then(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NR_ALL; i++) {
        seen->by = all[i];
        seen->undone = 0;
        assert_int_equal(run(ignores_it, true), NOT_TOLD << 8);
        assert_int_equal(run(is_told_later, true), NOT_TOLD << 8);
        seen->undone = 1;
        assert_int_equal(run(is_told_later, true), seen->by);
    }
}

static void input_and_time_are_awaited(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_false(signals_await(ends[0], 1));
    close(ends[1]);
    assert_true(signals_await(ends[0], -1));
    close(ends[0]);
}

/* --- What a start asks of others: each is a step --- */

static void step(void)
{
    if (__atomic_add_fetch(&seen->steps, 1, __ATOMIC_RELAXED) == seen->told_at)
        kill(seen->beginner, seen->by);
}

bool xen_open(uint32_t domid) { step(); return domid; }
void xen_destroy(void) { seen->is_made = seen->runs = false; }
uint32_t xen_new_port(uint16_t remote) { step(); return remote + 9u; }
int xen_shutdown_reason(void) { return IS_GONE; }

uint32_t xen_create(const struct xen_domctl_createdomain *config)
{
    step();
    seen->is_made = config->max_vcpus;
    return 5;
}

void xen_control(struct xen_domctl *op, uint32_t cmd, const char *what)
{
    (void)op, (void)what;
    step();
    if (cmd == XEN_DOMCTL_unpausedomain)
        seen->runs = true;
}

struct xen_domctl_getdomaininfo xen_domain_info(void) { return (struct xen_domctl_getdomaininfo){ .shared_info_frame = 1 }; }
void set_policy(const struct saved *s) { (void)s; step(); }
void set_tsc(const struct saved *s) { (void)s; }

/* In the loader's process. */
static void fill(void)
{
    seen->loader = getpid();
    step();
    if (!seen->loader_hangs)
        return;
    kill(seen->beginner, seen->by);
    sleep(20);
}

void load_begin(const struct template *t) { (void)t; step(); }
void load_memory(struct job *j) { (void)j; fill(); }
void load_kept(const struct template *t) { (void)t; fill(); }
void load_vcpus(const struct job *j) { (void)j; step(); }

void store_open(void) { step(); }
void store_check(const struct job *j) { (void)j; step(); }
uint32_t store_find_keeper(const struct template *t) { (void)t; return 0; }
void store_write_domain(const struct job *j, const struct template *t) { (void)j, (void)t; seen->has_nodes = true; step(); }
void store_write_keeper(const struct job *j, const struct template *t) { (void)j, (void)t; seen->is_kept = true; step(); }
void store_write_devices(const struct job *j) { (void)j; step(); }
void store_introduce(const struct job *j) { (void)j; step(); }
void store_await_backend(const char *path) { (void)path; step(); }
void store_connected(const char *path) { (void)path; step(); }
void store_watch_end(void) { }
bool store_await_end(const struct job *j) { return !j; }
void store_forget(const struct job *j) { (void)j; seen->has_nodes = false; }
void backend_path(char *path, size_t size, const struct job *j, const char *kind, uint32_t number)
{
    snprintf(path, size, "%s/%u/%u", kind, j->domid, number);
}
void card_join(const struct job *j, unsigned number) { (void)j, (void)number; step(); }
void settings_write(const struct job *j, const struct template *t) { (void)j, (void)t; seen->has_settings = true; step(); }
void settings_forget(const struct job *j) { (void)j; seen->has_settings = false; }

/* --- Starts --- */

static const struct format wide = { .pv = { .width = 8, .levels = 4 } };
static struct saved nothing;
static const uint8_t content[] = { DATA };
static const struct template template = { .head = { .nr_pfns = 1, .nr_vcpus = 1, .nr_data = 1 }, .content = content, .format = &wide,
                                          .saved = &nothing };
static bool keeps;

static void start(void)
{
    struct job j = { .name = "new", .nr_disks = keeps ? 0 : 1, .nr_cards = keeps ? 0 : 1, .is_alone = true };

    seen->beginner = getpid();
    (keeps ? template_keep : template_start)(&template, &j);
}

static void begin_start(unsigned told_at, int by, bool loader_hangs)
{
    memset(seen, 0, sizeof(*seen));
    seen->told_at = told_at;
    seen->by = by;
    seen->loader_hangs = loader_hangs;
}

static bool is_gone(pid_t process) { return !process || (kill(process, 0) && errno == ESRCH); }

static void expect_nothing(void)
{
    assert_false(seen->is_made || seen->has_nodes || seen->has_settings || seen->runs || seen->is_kept);
    assert_true(is_gone(seen->loader));
}

/* Killed it may be while there is nothing yet; then it is told, and else it is done. */
static void expect_all_or_nothing(int status)
{
    if (status == DONE)
        assert_true(seen->is_made && seen->has_nodes && (keeps ? seen->is_kept : seen->runs && seen->has_settings));
    else
        expect_nothing();
    assert_true(status == DONE || status == seen->by || (status == EXIT_FAILURE << 8 && strstr(said, "told to end")));
}

static void whenever_it_is_told_nothing_is_left_or_all_is_there(void **state)
{
    unsigned told = 0, steps;

    (void)state;
    for (keeps = false;; keeps = true) {
        begin_start(0, 0, false);
        assert_int_equal(run(start, true), DONE);
        steps = seen->steps;
        for (unsigned i = 0; i < steps * NR_ALL; i++) {
            int status;

            begin_start(1 + i / NR_ALL, all[i % NR_ALL], false);
            status = run(start, true);
            told += status == EXIT_FAILURE << 8;
            expect_all_or_nothing(status);
        }
        if (keeps)
            break;
    }
    assert_true(told > 30);
}

static void who_fills_memory_all_the_while_is_ended(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NR_ALL * 2; i++) {
        keeps = i / NR_ALL;
        begin_start(0, all[i % NR_ALL], true);
        assert_int_equal(run(start, true), EXIT_FAILURE << 8);
        expect_nothing();
    }
}

/* A process whose parent is gone is ours, which sees its end. */
static void who_fills_memory_ends_with_who_is_killed(void **state)
{
    int status = 0;

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    begin_start(0, SIGKILL, true);
    assert_int_equal(run(start, false), SIGKILL);
    assert_int_equal(waitpid(seen->loader, &status, 0), seen->loader);
    assert_int_equal(status, SIGKILL);
}

static int begin(void **state)
{
    (void)state;
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return (void *)seen == MAP_FAILED;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_begun_is_taken_back),
        cmocka_unit_test(who_goes_on_alone_hears_what_comes_then),
        cmocka_unit_test(input_and_time_are_awaited),
        cmocka_unit_test(whenever_it_is_told_nothing_is_left_or_all_is_there),
        cmocka_unit_test(who_fills_memory_all_the_while_is_ended),
        cmocka_unit_test(who_fills_memory_ends_with_who_is_killed),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
