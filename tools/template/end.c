/*
 * What the program says, and how it ends. What has been begun is taken back when it fails. What tells it to end, which would kill it
 * anywhere, is held from when there is something to take back, and is a failure as others where it looks: while it waits, and before the
 * last step, behind which all is whole.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "template.h"

#include "../save-helper/talk.h"

static void (*undo)(void);

void on_failure(void (*fn)(void)) { undo = fn; }

static void say_text(FILE *to, const char *format, va_list arguments, int error)
{
    fputs(NAME ": ", to);
    vfprintf(to, format, arguments);
    fprintf(to, error ? ": %s\n" : "\n", strerror(error));
}

void say(xentoollog_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say_text(level >= XTL_WARN ? stderr : stdout, format, arguments, 0);
    va_end(arguments);
}

/* What is undone may fail itself: that is not said. */
void fail(int error, const char *format, ...)
{
    void (*fn)(void) = undo;
    static bool fails;
    va_list arguments;

    if (fails)
        exit(EXIT_FAILURE);
    va_start(arguments, format);
    say_text(stderr, format, arguments, error);
    va_end(arguments);
    fails = true;
    if (fn)
        fn();
    exit(EXIT_FAILURE);
}

/* --- Signals --- */

static int held = -1;           /* from which those that have come are read */
static sigset_t mask_before;
static void (*pipe_before)(int);

/* Who has us ignore one, as nohup does, does not tell us to end by it. */
static sigset_t those_that_end(void)
{
    static const int all[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action;
    sigset_t s;

    sigemptyset(&s);
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!sigaction(all[i], NULL, &action) && action.sa_handler != SIG_IGN)
            sigaddset(&s, all[i]);
    return s;
}

/* Who reads what we say may have been told to end, too: to say it must not be the end of us. */
void signals_hold(void)
{
    sigset_t s = those_that_end();

    held = signalfd(-1, &s, SFD_CLOEXEC | SFD_NONBLOCK);
    if (held < 0 || sigprocmask(SIG_BLOCK, &s, &mask_before))
        fail(errno, "cannot hold signals");
    pipe_before = signal(SIGPIPE, SIG_IGN);
}

void signals_release(void)
{
    struct signalfd_siginfo s;

    while (read(held, &s, sizeof(s)) > 0)
        ;
    close(held);
    held = -1;
    signal(SIGPIPE, pipe_before);
    sigprocmask(SIG_SETMASK, &mask_before, NULL);
}

bool signals_await(int fd, int ms)
{
    struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = held, .events = POLLIN } };
    struct signalfd_siginfo s = { 0 };
    int n;

    do
        n = poll(p, 2, ms);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        fail(errno, "cannot wait");
    if (p[1].revents && read(held, &s, sizeof(s)) == sizeof(s))
        fail(0, "told to end (%s): what was begun is taken back", strsignal((int)s.ssi_signo));
    return n > 0;
}

void signals_look(void) { signals_await(-1, 0); }
