/*
 * pvisor-save-helper: what libxl starts, by the environment's LIBXL_SAVE_HELPER, to save or restore a domain. Does it for 32-bit non-PAE
 * domains, which the tools' own helper does not know; for all others that one is started in its place, with the same arguments.
 *
 * The arguments are those of libxl 4.17 to 4.20:
 *   --save-domain STREAM BACK DOMAIN FLAGS MESSAGES TYPE
 *   --restore-domain STREAM BACK DOMAIN STORE-PORT STORE-DOMAIN CONSOLE-PORT CONSOLE-DOMAIN MESSAGES TYPE
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "talk.h"

#define NAME         "pvisor-save-helper"
#define SAVE_WORDS    8        /* with the program's name */
#define RESTORE_WORDS 11
#define PLAIN         0u       /* type of stream: not Remus's, not COLO's */

/* Where the tools of the release that the hypervisor serves lie, as Debian has them, and then as their own makefiles have. */
static const char *const places[] = { "/usr/lib/xen-%u.%u/bin", "/usr/lib/xen/bin", "/usr/local/lib/xen/bin", "/usr/libexec/xen/bin" };
#define NR_PLACES (sizeof(places) / sizeof(places[0]))
#define MAX_PATH  128u

static void __attribute__((noreturn)) start_theirs(char **argv)
{
    unsigned version = (unsigned)xen_version();
    char path[MAX_PATH], tried[NR_PLACES * MAX_PATH] = "";
    int error = ENOENT;

    for (unsigned i = 0; i < NR_PLACES && (error == ENOENT || error == ENOTDIR); i++) {
        int n = snprintf(path, sizeof(path), places[i], version >> 16, version & 0xffff);

        snprintf(path + n, sizeof(path) - (size_t)n, "/libxl-save-helper");
        argv[0] = path;
        execv(path, argv);
        error = errno;
        strcat(strcat(tried, i ? ", " : ""), path);
    }
    fprintf(stderr, NAME ": cannot start the tools' own helper: %s; tried was %s\n", strerror(error), tried);
    exit(EXIT_FAILURE);
}

/* All words from the third on are numbers. */
static bool read_numbers(int argc, char **argv, uint32_t *numbers)
{
    for (int i = 2; i < argc; i++) {
        char *end;
        long long value = strtoll(argv[i], &end, 10);

        if (end == argv[i] || *end || value < -1 || value > UINT32_MAX)
            return false;
        numbers[i - 2] = (uint32_t)value;
    }
    return true;
}

/* False: not as libxl 4.17 says it. */
static bool read_job(int argc, char **argv, struct job *j)
{
    uint32_t n[RESTORE_WORDS];
    bool is_restore = argc > 1 && !strcmp(argv[1], "--restore-domain");

    if (argc != (is_restore ? RESTORE_WORDS : SAVE_WORDS) || (!is_restore && strcmp(argv[1], "--save-domain")) ||
        !read_numbers(argc, argv, n))
        return false;
    *j = is_restore ? (struct job){ .fd = (int)n[0], .domid = n[2], .store_port = n[3], .store_domid = n[4], .console_port = n[5],
                                    .console_domid = n[6], .messages = n[7], .stream_type = n[8] }
                    : (struct job){ .fd = (int)n[0], .domid = n[2], .flags = n[3], .messages = n[4], .stream_type = n[5] };
    j->is_restore = is_restore;
    return true;
}

/* libxl's messages could have other numbers if it has other messages: then this is said where it needs none. */
static void check_messages(const struct job *j)
{
    unsigned wanted = j->is_restore ? MSG_BIT(MSG_STATIC_DATA_DONE) | MSG_BIT(MSG_RESTORE_RESULTS) : MSG_BIT(MSG_SUSPEND);

    if (speaks_like_us(j->messages, wanted))
        return;
    fprintf(stderr, NAME ": libxl serves the messages %#x, expected %#x and none but those of Xen 4.17 to 4.20\n", j->messages, wanted);
    exit(EXIT_FAILURE);
}

/* libxl ends a save or a restore by SIGTERM; there is nothing to put right. A reader that is gone is an error as others, which is said. */
static void set_signals(void)
{
    sigset_t s;

    sigemptyset(&s);
    sigaddset(&s, SIGTERM);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &s, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static bool is_ours(const struct job *j) { return j->is_restore ? stream_is_non_pae(j->fd) : xen_is_non_pae(); }

int main(int argc, char **argv)
{
    struct job j = { 0 };
    bool is_understood = read_job(argc, argv, &j);

    if (!xen_open(j.domid)) {
        fprintf(stderr, NAME ": no way to the hypervisor: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    if (!is_understood || !is_ours(&j))
        start_theirs(argv);
    check_messages(&j);
    set_signals();
    if (j.stream_type != PLAIN)
        fail(EOPNOTSUPP, "a non-PAE domain can be saved and restored, but not be replicated (type of stream %u)", j.stream_type);
    if (j.is_restore)
        restore(&j);
    save(&j);
}
