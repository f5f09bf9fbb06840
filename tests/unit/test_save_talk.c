/* tools/save-helper/talk.c: what is to be put right before the end is, however that comes, once, and before libxl hears of the end. */
// SOURCES: tools/save-helper/talk.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../tools/save-helper/talk.h"

#define MARK "put right"

/* Among what is said to libxl, so that its place can be seen; and to a file, since libxl may be gone. */
static int told;

static void put_right(void)
{
    (void)!write(STDOUT_FILENO, MARK, sizeof(MARK) - 1);
    (void)!write(told, MARK, sizeof(MARK) - 1);
}

static void say_and_complete(void) { say_complete(); }
static void say_and_fail(void) { fail(5, "no luck"); }
static void say_and_ask(void) { (void)ask_to_suspend(); }
static void take_it_back_and_complete(void)
{
    at_end(NULL);
    say_complete();
}

static struct run {
    char said[1000];
    ssize_t size;
    unsigned times;         /* that it was put right */
    int status;
} run;

/* libxl: none, or one that answers (all that is asked) or ends before it does. */
enum libxl { GONE, ANSWERS, DOES_NOT };

static void in_child(void (*fn)(void), int from, int to)
{
    signal(SIGPIPE, SIG_IGN);
    dup2(from, STDIN_FILENO);
    dup2(to, STDOUT_FILENO);
    for (int fd = 3; fd < 64; fd++)
        if (fd != told)
            close(fd);
    at_end(put_right);
    fn();
    _exit(77);
}

static void try(void (*fn)(void), enum libxl libxl)
{
    int answers[2], said[2], file[2];
    char marks[400];
    pid_t child;

    assert_int_equal(pipe(answers) | pipe(said) | pipe(file), 0);
    told = file[1];
    if (libxl == ANSWERS)
        assert_int_equal(write(answers[1], &(int){ 0 }, sizeof(int)), sizeof(int));
    child = fork();
    if (!child)
        in_child(fn, answers[0], libxl == GONE ? open("/dev/full", O_WRONLY) : said[1]);
    close(answers[1]);
    close(said[1]);
    close(file[1]);
    assert_int_equal(waitpid(child, &run.status, 0), child);
    run.size = read(said[0], run.said, sizeof(run.said));
    run.times = (unsigned)read(file[0], marks, sizeof(marks)) / (sizeof(MARK) - 1);
    close(answers[0]);
    close(said[0]);
    close(file[0]);
}

static size_t place_of(const char *what, size_t size)
{
    for (size_t at = 0; at + size <= (size_t)run.size; at++)
        if (!memcmp(run.said + at, what, size))
            return at;
    return sizeof(run.said);
}

static void libxl_hears_of_the_end_afterwards(void **state)
{
    static const uint16_t complete = MSG_COMPLETE;
    static void (*const ends[])(void) = { say_and_complete, say_and_fail };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        try(ends[i], ANSWERS);
        assert_int_equal(run.times, 1);
        assert_int_equal(run.status, 0);
        assert_true(place_of(MARK, sizeof(MARK) - 1) < place_of((const char *)&complete, sizeof(complete)));
    }
}

static void an_end_without_libxl_is_one(void **state)
{
    static void (*const ends[])(void) = { say_and_complete, say_and_fail, say_and_ask };

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        try(ends[i / 2], i % 2 ? GONE : DOES_NOT);
        assert_int_equal(run.times, 1);
        assert_int_equal(WEXITSTATUS(run.status), 1);
    }
}

static void nothing_is_left_to_put_right(void **state)
{
    (void)state;
    try(take_it_back_and_complete, ANSWERS);
    assert_int_equal(run.times, 0);
    assert_int_equal(run.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libxl_hears_of_the_end_afterwards),
        cmocka_unit_test(an_end_without_libxl_is_one),
        cmocka_unit_test(nothing_is_left_to_put_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
