/*
 * What stands in xenstore of a domain is what the tools write for one of theirs, so that they find it and can end it; but nothing that
 * nobody reads, and no permissions that a node has from the one above it, since each word here is a message to xenstored and back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenstore.h>

#include "template.h"

#include <xen/sched.h>

#include "../save-helper/talk.h"

#define INITIALISING  "1"
#define INIT_WAIT     '2'
#define BACKEND_SECONDS 20
#define SETTLE_TENTHS 50u       /* of a second */
#define CONSOLE_LIMIT "1048576"

static struct xs_handle *store;
static xs_transaction_t transaction;

void store_open(void)
{
    store = xs_open(0);
    if (!store)
        fail(errno, "no way to xenstore");
}

/* --- Nodes --- */

static void put(const char *directory, const char *name, const char *value)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (!xs_write(store, transaction, path, value, (unsigned)strlen(value)))
        fail(errno, "xenstore does not take %s", path);
}

static void __attribute__((format(printf, 3, 4))) putf(const char *directory, const char *name, const char *format, ...)
{
    char value[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(value, sizeof(value), format, arguments);
    va_end(arguments);
    put(directory, name, value);
}

/* A node of the owner's that another domain may read; what is put below it is so, too. */
static void make_node(const char *directory, const char *name, uint32_t owner, uint32_t reader)
{
    struct xs_permissions p[] = { { owner, XS_PERM_NONE }, { reader, XS_PERM_READ } };
    char path[256];

    snprintf(path, sizeof(path), "%s%s%s", directory, *name ? "/" : "", name);
    if (!xs_mkdir(store, transaction, path) || !xs_set_permissions(store, transaction, path, p, owner == reader ? 1 : 2))
        fail(errno, "xenstore does not take %s", path);
}

/* All that fn puts, at once; again if somebody else has changed meanwhile what it has seen. */
static void at_once(void (*fn)(const void *argument), const void *argument)
{
    do {
        transaction = xs_transaction_start(store);
        if (!transaction)
            fail(errno, "xenstore begins no transaction");
        fn(argument);
        if (xs_transaction_end(store, transaction, false)) {
            transaction = XBT_NULL;
            return;
        }
    } while (errno == EAGAIN);
    transaction = XBT_NULL;
    fail(errno, "xenstore does not take the domain");
}

/* NULL if it is not there; to be freed. */
static char *get(const char *directory, const char *name)
{
    char path[256];
    unsigned size;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return xs_read(store, transaction, path, &size);
}

static bool is(const char *directory, const char *name, const char *value)
{
    char *there = get(directory, name);
    bool same = there && !strcmp(there, value);

    free(there);
    return same;
}

/* fn is called for each node below. */
static void for_each(const char *directory, void (*fn)(const struct job *j, const char *path), const struct job *j)
{
    unsigned nr = 0;
    char path[256], **names = xs_directory(store, transaction, directory, &nr);

    for (unsigned i = 0; names && i < nr; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        fn(j, path);
    }
    free(names);
}

/* --- Who is there --- */

static void vm_path(char *path, size_t size, const struct job *j) { snprintf(path, size, "/vm/%s", j->uuid_text); }

/* Who has its UUID has its node below /vm, too, which the end of either takes away. */
static void check_names_of(const struct job *j, const char *path)
{
    char vm[64];

    if (is(path, "name", j->name))
        fail(EEXIST, "there is a domain %s, %s", j->name, path);
    vm_path(vm, sizeof(vm), j);
    if (is(path, "vm", vm))
        fail(EEXIST, "there is a domain with the UUID %s, %s", j->uuid_text, path);
}

static void check_disk(const struct job *j, const char *path)
{
    for (unsigned i = 0; i < j->nr_disks; i++)
        if (is(path, "physical-device", j->disks[i].device) && (j->disks[i].is_writable || is(path, "mode", "w")))
            fail(EBUSY, "%s is another domain's, %s", j->disks[i].path, path);
}

static void check_disks_of(const struct job *j, const char *path) { for_each(path, check_disk, j); }

static void check_names(const struct job *j) { for_each("/local/domain", check_names_of, j); }

static void check_disks(const struct job *j)
{
    if (j->nr_disks)
        for_each("/local/domain/0/backend/vbd", check_disks_of, j);
}

/* Before a domain is made in vain. What is found to be free is claimed later, where it is looked at once more, in the same transaction. */
void store_check(const struct job *j)
{
    check_names(j);
    check_disks(j);
}

/* --- The domain --- */

static void domain_path(char *path, size_t size, const struct job *j) { snprintf(path, size, "/local/domain/%u", j->domid); }
static void libxl_path(char *path, size_t size, const struct job *j) { snprintf(path, size, "/libxl/%u", j->domid); }

struct description {
    const struct job *job;
    const struct template *template;
};

static void put_names(const struct job *j, const char *home)
{
    char vm[64], libxl[64];

    vm_path(vm, sizeof(vm), j);
    libxl_path(libxl, sizeof(libxl), j);
    make_node(vm, "", 0, j->domid);
    make_node(libxl, "", 0, 0);
    put(home, "vm", vm);
    put(home, "name", j->name);
    putf(home, "domid", "%u", j->domid);
    put(vm, "uuid", j->uuid_text);
    put(vm, "name", j->name);
    put(libxl, "type", "pv");
    put(libxl, "dm-version", "qemu_xen");
}

/* Where the guest may write itself, of what one that runs already writes. */
static void put_own(const struct job *j, const char *home)
{
    static const char *const nodes[] = { "control/shutdown", "control/sysrq", "data", "error" };

    for (unsigned i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
        make_node(home, nodes[i], j->domid, j->domid);
    put(home, "control/platform-feature-multiprocessor-suspend", "1");
    put(home, "control/platform-feature-xs_reset_watches", "1");
}

static void put_sizes(const struct template *t, const char *home)
{
    char name[32];

    putf(home, "memory/static-max", "%llu", (unsigned long long)t->head.max_kib);
    putf(home, "memory/target", "%llu", (unsigned long long)t->head.target_kib);
    put(home, "memory/videoram", "0");
    for (uint32_t id = 0; id < t->head.nr_vcpus; id++) {
        snprintf(name, sizeof(name), "cpu/%u/availability", id);
        put(home, name, t->saved->vcpu[id].context.size ? "online" : "offline");
    }
}

static void put_domain(const void *argument)
{
    const struct description *d = argument;
    char home[64];

    check_names(d->job);
    domain_path(home, sizeof(home), d->job);
    make_node(home, "", 0, d->job->domid);
    put_names(d->job, home);
    put_own(d->job, home);
    put_sizes(d->template, home);
}

void store_write_domain(const struct job *j, const struct template *t) { at_once(put_domain, &(struct description){ j, t }); }

/* --- Who keeps it --- */

#define KEEPERS "/tool/pvisor-template"

static void print_id(char *text, const struct template *t)
{
    for (unsigned i = 0; i < sizeof(t->head.id); i++)
        text += sprintf(text, "%02x", t->head.id[i]);
}

void store_write_keeper(const struct job *j, const struct template *t)
{
    char home[64], id[33];

    domain_path(home, sizeof(home), j);
    print_id(id, t);
    put(home, "keeps", id);
    putf(KEEPERS, id, "%u", j->domid);
}

/* The domain has ended if its node has: what stands in KEEPERS stays. */
uint32_t store_find_keeper(const struct template *t)
{
    struct job keeper = { 0 };
    char home[64], id[33], *number;

    print_id(id, t);
    number = get(KEEPERS, id);
    if (!number)
        return 0;
    keeper.domid = (uint32_t)strtoul(number, NULL, 10);
    free(number);
    domain_path(home, sizeof(home), &keeper);
    return is(home, "keeps", id) ? keeper.domid : 0;
}

/* --- Devices --- */

struct device {
    const char *kind;
    uint32_t number;
    char front[96], back[96], libxl[96];
};

void backend_path(char *path, size_t size, const struct job *j, const char *kind, uint32_t number)
{
    snprintf(path, size, "/local/domain/0/backend/%s/%u/%u", kind, j->domid, number);
}

/* The three places that a device has: the guest's, its backend's, and what the tools believe, where no guest can write. */
static struct device begin_device(const struct job *j, const char *kind, uint32_t number, uint32_t front_owner)
{
    struct device d = { .kind = kind, .number = number };
    char home[64], libxl[64];

    domain_path(home, sizeof(home), j);
    libxl_path(libxl, sizeof(libxl), j);
    if (strcmp(kind, "console"))
        snprintf(d.front, sizeof(d.front), "%s/device/%s/%u", home, kind, number);
    else
        snprintf(d.front, sizeof(d.front), "%s/console", home);
    snprintf(d.libxl, sizeof(d.libxl), "%s/device/%s/%u", libxl, kind, number);
    backend_path(d.back, sizeof(d.back), j, kind, number);
    make_node(d.front, "", front_owner, front_owner ? 0 : j->domid);
    make_node(d.back, "", 0, j->domid);
    put(d.front, "backend", d.back);
    put(d.front, "backend-id", "0");
    put(d.back, "frontend", d.front);
    putf(d.back, "frontend-id", "%u", j->domid);
    put(d.back, "online", "1");
    put(d.libxl, "frontend", d.front);
    put(d.libxl, "backend", d.back);
    return d;
}

/* Of the backend's, and as the tools keep it. */
static void put_back(const struct device *d, const char *name, const char *value)
{
    put(d->back, name, value);
    put(d->libxl, name, value);
}

/* The last that is written of a device, since it begins then. */
static void end_device(const struct device *d)
{
    put(d->front, "state", INITIALISING);
    put(d->back, "state", INITIALISING);
}

static void put_disk(const struct job *j, const struct disk *disk)
{
    struct device d = begin_device(j, "vbd", disk->number, j->domid);

    putf(d.front, "virtual-device", "%u", disk->number);
    put(d.front, "device-type", "disk");
    put_back(&d, "params", disk->path);
    put_back(&d, "type", "phy");
    put_back(&d, "mode", disk->is_writable ? "w" : "r");
    put_back(&d, "dev", disk->vdev);        /* blkback's thread has it in its name */
    put(d.libxl, "device-type", "disk");
    put(d.libxl, "removable", "0");
    put(d.back, "script", DISK_SCRIPT);
    put(d.back, "physical-device", disk->device);
    end_device(&d);
}

static void put_card(const struct job *j, unsigned number)
{
    const struct card *card = &j->cards[number];
    char handle[8];
    struct device d = begin_device(j, "vif", number, j->domid);

    put(d.front, "mac", card->mac);
    snprintf(handle, sizeof(handle), "%u", number);
    put(d.front, "handle", handle);
    put_back(&d, "handle", handle);
    put_back(&d, "mac", card->mac);
    put_back(&d, "bridge", card->bridge);
    put_back(&d, "type", "vif");
    put(d.back, "script", VIF_SCRIPT);
    put(d.back, "hotplug-status", "");      /* the backend waits until somebody says that the card is at its bridge */
    end_device(&d);
}

static void put_devices(const void *argument)
{
    const struct job *j = argument;

    check_disks(j);
    for (unsigned i = 0; i < j->nr_disks; i++)
        put_disk(j, &j->disks[i]);
    for (unsigned i = 0; i < j->nr_cards; i++)
        put_card(j, i);
}

void store_write_devices(const struct job *j)
{
    if (j->nr_disks || j->nr_cards)
        at_once(put_devices, j);
}

/* The guest reads what stands there, and may not write it: xenconsoled opens what "output" says. */
static void put_console(const void *argument)
{
    const struct job *j = argument;
    struct device d = begin_device(j, "console", 0, 0);
    char home[64];

    put(d.back, "protocol", "vt100");
    put(d.back, "state", INITIALISING);
    put(d.front, "limit", CONSOLE_LIMIT);
    put(d.front, "type", "xenconsoled");
    put(d.front, "output", "pty");
    put(d.front, "tty", "");
    putf(d.front, "port", "%u", j->console_port);
    putf(d.front, "ring-ref", "%u", j->rings.console);
    domain_path(home, sizeof(home), j);
    putf(home, "store/port", "%u", j->store_port);
    putf(home, "store/ring-ref", "%u", j->rings.store);
}

void store_introduce(const struct job *j)
{
    at_once(put_console, j);
    if (!xs_introduce_domain(store, j->domid, j->rings.store, j->store_port))
        fail(errno, "xenstore does not begin to serve domain %u", j->domid);
}

/* --- Waiting --- */

static bool is_ready(const char *path)
{
    char *state = get(path, "state");
    bool ready = state && state[0] >= INIT_WAIT;

    free(state);
    return ready;
}

/* Until something that is watched has changed, or false when the time, if there is one, is up. */
static bool await_change(time_t end)
{
    time_t left = end - time(NULL);
    unsigned nr;

    if (end && (left < 0 || !signals_await(xs_fileno(store), (int)left * 1000 + 1)))
        return false;
    free(xs_read_watch(store, &nr));
    return true;
}

void store_await_backend(const char *path)
{
    time_t end = time(NULL) + BACKEND_SECONDS;
    char node[256];

    if (is_ready(path))
        return;
    snprintf(node, sizeof(node), "%s/state", path);
    if (!xs_watch(store, node, "state"))
        fail(errno, "xenstore does not tell of %s", node);
    while (!is_ready(path))
        if (!await_change(end))
            fail(ETIMEDOUT, "the backend of a device does not begin within %u seconds: %s", BACKEND_SECONDS, path);
    xs_unwatch(store, node, "state");
}

void store_connected(const char *path) { put(path, "hotplug-status", "connected"); }

/* Of a domain that another has replaced meanwhile it is the end, too. */
static bool is_forgotten(const struct job *j)
{
    char home[64], vm[64];

    domain_path(home, sizeof(home), j);
    vm_path(vm, sizeof(vm), j);
    return !is(home, "vm", vm);
}

void store_watch_end(void)
{
    store_open();           /* a connection of this process */
    if (!xs_watch(store, "@releaseDomain", "end"))
        fail(errno, "xenstore does not tell of domains' ends");
}

/* Who suspends itself is being saved, and its end is up to who saves it. */
bool store_await_end(const struct job *j)
{
    int reason;

    while ((reason = xen_shutdown_reason()) == RUNS_ON || reason == SHUTDOWN_suspend)
        await_change(0);
    return reason != IS_GONE && !is_forgotten(j);
}

/* What is under way is not to be, and is not to be looked at. */
static void abandon(void)
{
    if (transaction)
        xs_transaction_end(store, transaction, true);
    transaction = XBT_NULL;
}

/* A backend that begins writes nodes, which would be there anew after they were taken away: it is awaited, if it comes to that. */
static void settle(const struct job *j, const char *path)
{
    (void)j;
    for (unsigned i = 0; i < SETTLE_TENTHS && is(path, "state", INITIALISING); i++)
        usleep(100000);
}

/* What lies under its UUID is its own only if its own node says so: it may not have got so far, since another has that UUID. */
void store_forget(const struct job *j)
{
    static const char *const kinds[] = { "vbd", "vif", "console" };
    char path[96];

    abandon();
    if (!is_forgotten(j)) {
        vm_path(path, sizeof(path), j);
        xs_rm(store, XBT_NULL, path);
    }
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        snprintf(path, sizeof(path), "/local/domain/0/backend/%s/%u", kinds[i], j->domid);
        if (strcmp(kinds[i], "console"))        /* whose backend says nothing there */
            for_each(path, settle, j);
        xs_rm(store, XBT_NULL, path);
    }
    domain_path(path, sizeof(path), j);
    xs_rm(store, XBT_NULL, path);
    libxl_path(path, sizeof(path), j);
    xs_rm(store, XBT_NULL, path);
}
