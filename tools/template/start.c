/*
 * A domain from a template. Its memory is filled by a process of its own: when that ends, the kernel gives up what it has mapped of the
 * domain, which costs less than to unmap it, and nothing of it is mapped when frames become tables: now, or when the domain runs.
 */
#define _GNU_SOURCE
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

#include "template.h"

#include "../save-helper/talk.h"

#define SLACK_KIB  1024u        /* beyond its target, as the tools give */
#define LAST_PORT  1023u        /* as theirs */
#define GRANT_VERSION 2u
#define GRANTS_OF_FRAME 512u

static struct job *made;
static pid_t loader;            /* the process that fills its memory */
static int loader_end;          /* a pipe's, whose other end it has: there is something to read when it has ended */

static void undo(void)
{
    if (loader > 0) {
        kill(loader, SIGKILL);  /* or it would say what goes wrong with a domain that is no more */
        waitpid(loader, NULL, 0);
    }
    xen_destroy();
    store_forget(made);
    settings_forget(made);
}

/* grants: entries of its grant table, or 0 for as many as there are by default. */
static void create(struct job *j, uint32_t nr_vcpus, uint32_t grants)
{
    struct xen_domctl_createdomain config = {
        .max_vcpus = nr_vcpus, .max_evtchn_port = LAST_PORT, .max_maptrack_frames = -1,
        .max_grant_frames = grants ? (int32_t)(grants / GRANTS_OF_FRAME + 1) : -1,
        .grant_opts = XEN_DOMCTL_GRANT_version(GRANT_VERSION),
    };

    memcpy(config.handle, j->uuid, sizeof(config.handle));
    j->domid = xen_create(&config);
    made = j;
    on_failure(undo);
}

static void allow_memory(uint64_t kib)
{
    struct xen_domctl op = { .u.max_mem.max_memkb = kib + SLACK_KIB };

    xen_control(&op, XEN_DOMCTL_max_mem, "have so much memory");
}

static void prepare(const struct template *t, struct job *j)
{
    struct xen_domctl op = { .u.max_vcpus.max = t->head.nr_vcpus };
    uint64_t kib = 0;

    xen_control(&op, XEN_DOMCTL_max_vcpus, "have so many vCPUs");
    for (uint32_t pfn = 0; pfn < t->head.nr_pfns; pfn++)
        kib += CONTENT(t->content[pfn]) != ABSENT ? PAGE / 1024 : 0;
    allow_memory(kib > t->head.target_kib ? kib : t->head.target_kib);
    if (t->format->pv.width == 4) {
        op = (struct xen_domctl){ .u.address_size.size = 32 };
        xen_control(&op, XEN_DOMCTL_set_address_size, "become a 32-bit one");
    }
    set_policy(t->saved);
    set_tsc(t->saved);
    j->store_port = xen_new_port(0);
    j->console_port = xen_new_port(0);
    j->shared_info = xen_domain_info().shared_info_frame * PAGE;
}

/* Nobody fills the memory of a domain that nobody makes any more. */
static void end_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(EXIT_FAILURE);
}

static void __attribute__((noreturn)) load(const struct template *t, struct job *j)
{
    on_failure(NULL);
    if (!xen_open(made->domid))
        fail(errno, "no way to the hypervisor");
    if (j)
        load_memory(j);
    else
        load_kept(t);
    _exit(EXIT_SUCCESS);
}

/* In a process of its own; j: as load_memory() wants it, or NULL for load_kept(). */
static void begin_to_load(const struct template *t, struct job *j)
{
    pid_t us = getpid();
    int ends[2];

    load_begin(t);
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC))
        fail(errno, "cannot make a pipe");
    loader_end = ends[0];
    loader = fork();
    if (loader < 0)
        fail(errno, "cannot begin a process");
    if (!loader) {
        end_with(us);
        load(t, j);
    }
    close(ends[1]);
}

static void await_loaded(void)
{
    int status;

    signals_await(loader_end, -1);
    close(loader_end);
    while (waitpid(loader, &status, 0) < 0)
        if (errno != EINTR)
            fail(errno, "cannot wait for a process");
    loader = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail(0, "the domain's memory could not be filled");
}

static void await_devices(const struct job *j)
{
    char path[128];

    for (unsigned i = 0; i < j->nr_cards; i++) {
        backend_path(path, sizeof(path), j, "vif", i);
        store_await_backend(path);
        card_join(j, i);
        store_connected(path);
    }
    for (unsigned i = 0; i < j->nr_disks; i++) {
        backend_path(path, sizeof(path), j, "vbd", j->disks[i].number);
        store_await_backend(path);
    }
}

static void say_nobody_waits(void)
{
    say(XTL_WARN, "%s, domain %u, is there, but nobody waits for its end to clear up behind it: after it has ended, xl destroy %u does",
        made->name, made->domid, made->domid);
}

static void leave_standard_files(void)
{
    if (chdir("/") || !freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout))
        fail(errno, "cannot go into the background");
    if (!freopen("/dev/null", "w", stderr))
        _exit(EXIT_FAILURE);
}

/* Who waits for the domain's end, in the background, has xl clear up behind it. The template may go meanwhile. */
static void leave_somebody(const struct template *t, const struct job *j)
{
    char number[16];
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0) {
        say(XTL_WARN, "cannot begin a process: %s", strerror(errno));
        say_nobody_waits();
    }
    if (child)
        return;
    on_failure(say_nobody_waits);
    close(t->fd);
    setsid();
    signals_release();
    if (!xen_open(j->domid))
        fail(errno, "no way to the hypervisor");
    store_watch_end();
    leave_standard_files();
    if (!store_await_end(j))
        _exit(EXIT_SUCCESS);
    snprintf(number, sizeof(number), "%u", j->domid);
    execlp("xl", "xl", "destroy", number, NULL);
    _exit(EXIT_FAILURE);
}

static void begin(const struct job *j)
{
    store_open();
    store_check(j);
    if (!xen_open(NO_DOMAIN))
        fail(errno, "no way to the hypervisor: only dom0's root has one");
    signals_hold();
}

void template_keep(const struct template *t, struct job *j)
{
    struct template kept = { .fd = t->fd, .head = { .nr_pfns = t->head.nr_data, .nr_data = t->head.nr_data }, .format = t->format };
    uint8_t *content = malloc(t->head.nr_data + 1);

    if (j->nr_disks || j->nr_cards)
        fail(EINVAL, "who keeps a template has no devices");
    if (!content)
        fail(ENOMEM, "no memory for the kinds of %u frames", t->head.nr_data);
    kept.content = memset(content, DATA, t->head.nr_data);
    kept.saved = &(struct saved){ 0 };
    begin(j);
    create(j, 1, FREE_GRANT + t->head.nr_data);
    allow_memory((uint64_t)t->head.nr_data * (PAGE / 1024));
    begin_to_load(&kept, NULL);
    await_loaded();
    store_write_domain(j, &kept);
    signals_look();             /* the last time: others may copy from it once that is written */
    store_write_keeper(j, t);
    on_failure(NULL);
    say(XTL_INFO, "%s, domain %u, keeps %u pages until it is destroyed", j->name, j->domid, t->head.nr_data);
}

void template_start(const struct template *t, struct job *settings)
{
    struct job *j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);     /* the other process sets some */
    struct xen_domctl op = { 0 };

    if (j == MAP_FAILED)
        fail(errno, "no memory");
    *j = *settings;
    begin(j);
    j->keeper = store_find_keeper(t);
    create(j, t->head.nr_vcpus, 0);
    prepare(t, j);
    begin_to_load(t, j);
    store_write_domain(j, t);
    store_write_devices(j);
    settings_write(j, t);
    await_loaded();
    load_vcpus(j);
    store_introduce(j);
    await_devices(j);
    signals_look();             /* the last time: the guest lives then */
    if (!j->stays_paused)
        xen_control(&op, XEN_DOMCTL_unpausedomain, "run");
    on_failure(NULL);
    if (!j->is_alone)
        leave_somebody(t, j);
    say(XTL_INFO, "%s is domain %u", j->name, j->domid);
}
