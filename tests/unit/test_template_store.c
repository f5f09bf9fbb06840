/*
 * tools/template/store.c over a xenstore of arrays: a name, a UUID and a disk are found to be free and taken in one step, so that of two
 * domains that begin at once one has them; and what is forgotten of one that is refused is nothing of the other's.
 */
// SOURCES: tools/template/store.c tests/unit/fake/tools.c
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#undef fail         /* the program has one of its own */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "../../tools/template/template.h"
#include "fake/tools.h"

/* --- xenstore --- */

#define MAX_NODES 200

struct nodes {
    unsigned nr;
    struct { char path[128], value[64]; } node[MAX_NODES];
};
static struct nodes now, before;        /* before: when the transaction that is under way began */
static void (*meanwhile)(void);         /* what another does before the first transaction ends */
static unsigned nr_ends;

static void put(const char *path, const char *value)
{
    unsigned i = 0;

    while (i < now.nr && strcmp(now.node[i].path, path))
        i++;
    EXPECT(i < MAX_NODES);
    if (i == now.nr)
        now.nr++;
    strcpy(now.node[i].path, path);
    strcpy(now.node[i].value, value);
}

struct xs_handle *xs_open(unsigned long flags) { return flags ? NULL : (void *)&now; }

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data, unsigned size)
{
    char value[64] = "";

    EXPECT(h && t && size < sizeof(value));
    memcpy(value, data, size);
    put(path, value);
    return true;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    EXPECT(h && t);
    put(path, "");
    return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t, const char *path, struct xs_permissions *perms, unsigned nr)
{
    return h && t && path && perms && nr;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned *size)
{
    (void)h, (void)t;
    for (unsigned i = 0; i < now.nr; i++)
        if (!strcmp(now.node[i].path, path)) {
            *size = (unsigned)strlen(now.node[i].value);
            return strdup(now.node[i].value);
        }
    return NULL;
}

/* The names of nodes below: as often as there is something below these. */
char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned *nr)
{
    char **names = calloc(MAX_NODES, sizeof(*names) + 64), *room = (char *)(names + MAX_NODES);
    size_t length = strlen(path);

    (void)h, (void)t;
    *nr = 0;
    for (unsigned i = 0; i < now.nr; i++)
        if (!strncmp(now.node[i].path, path, length) && now.node[i].path[length] == '/') {
            names[*nr] = room + *nr * 64;
            snprintf(names[*nr], 64, "%.*s", (int)strcspn(now.node[i].path + length + 1, "/"), now.node[i].path + length + 1);
            ++*nr;
        }
    return names;
}

/* With what lies below. */
bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    size_t length = strlen(path);
    unsigned left = 0;

    EXPECT(h && !t);
    for (unsigned i = 0; i < now.nr; i++)
        if (strncmp(now.node[i].path, path, length) || (now.node[i].path[length] && now.node[i].path[length] != '/'))
            now.node[left++] = now.node[i];
    now.nr = left;
    return true;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    EXPECT(h);
    before = now;
    return 1;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abort)
{
    EXPECT(h && t);
    if (!abort && (nr_ends++ || !meanwhile))
        return true;
    now = before;
    if (abort)
        return true;
    meanwhile();
    errno = EAGAIN;
    return false;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token) { return h && path && token; }
bool xs_unwatch(struct xs_handle *h, const char *path, const char *token) { return h && path && token; }
char **xs_read_watch(struct xs_handle *h, unsigned *nr) { return h && nr ? NULL : NULL; }
int xs_fileno(struct xs_handle *h) { return h ? 0 : -1; }
bool xs_introduce_domain(struct xs_handle *h, unsigned domid, unsigned long frame, unsigned port) { return h && domid && frame && port; }

int xen_shutdown_reason(void) { return IS_GONE; }
void describe(struct xen_domctl *op, uint32_t cmd) { (void)op, (void)cmd; }

/* --- A domain that begins --- */

static struct saved nothing;
static const struct template template = { .saved = &nothing };

static const struct job job = { .name = "new", .domid = 5, .uuid_text = "0-1", .nr_disks = 1,
                                .disks = { { .path = "/dev/x", .vdev = "xvda", .is_writable = true, .number = 51712, .device = "fe:1" } } };

static bool has(const char *path)
{
    for (unsigned i = 0; i < now.nr; i++)
        if (!strncmp(now.node[i].path, path, strlen(path)))
            return true;
    return false;
}

/* What the other has stays whoever fails: its names, and what lies under its UUID. */
static void forget(void)
{
    bool taken = has("/local/domain/4/vm");

    if (has("/local/domain/0/backend/vbd/5"))
        put("/local/domain/0/backend/vbd/5/51712/state", "2");      /* it has begun */
    store_forget(&job);
    EXPECT(!has("/local/domain/5") && !has("/libxl/5") && !has("/local/domain/0/backend/vbd/5"));
    EXPECT(has("/vm/0-1") == taken && has("/vm/0-3") && has("/local/domain/3/name"));
}

static void begin(int argument)
{
    (void)argument;
    store_open();
    store_check(&job);
    at_end(forget);
    store_write_domain(&job, &template);
    store_write_devices(&job);
    EXPECT(nr_ends >= 2);
    put_right();
    _exit(DONE);
}

static void another_is_there(void)
{
    now.nr = 0;
    put("/local/domain/0/name", "Domain-0");
    put("/local/domain/3/name", "old");
    put("/local/domain/3/vm", "/vm/0-3");
    put("/vm/0-3/name", "old");
    put("/local/domain/0/backend/vbd/3/51712/physical-device", "fe:2");
}

static int begun(void (*fn)(void))
{
    another_is_there();
    meanwhile = fn;
    return run_apart(begin, 0);
}

static void nothing_happens(void) { put("/local/domain/4/name", "another"); }
static void takes_the_name(void) { put("/local/domain/4/name", "new"); }
static void is_renamed(void) { put("/local/domain/3/name", "new"); }

static void takes_the_uuid(void)
{
    put("/local/domain/4/name", "another");
    put("/local/domain/4/vm", "/vm/0-1");
    put("/vm/0-1/name", "another");
}

/* In the transaction that writes the name: it is seen by the next one, which has the disk. */
static void takes_the_disk(void) { put("/local/domain/0/backend/vbd/4/51712/physical-device", "fe:1"); }

static void what_another_takes_meanwhile_is_refused(void **state)
{
    (void)state;
    assert_int_equal(begun(NULL), DONE);
    assert_int_equal(begun(nothing_happens), DONE);
    assert_int_equal(begun(takes_the_name), REFUSED);
    assert_int_equal(begun(is_renamed), REFUSED);
    assert_int_equal(begun(takes_the_uuid), REFUSED);
    assert_int_equal(begun(takes_the_disk), REFUSED);
}

static void what_another_has_is_refused(void **state)
{
    static void (*const takes[])(void) = { takes_the_name, is_renamed, takes_the_uuid, takes_the_disk };

    (void)state;
    meanwhile = NULL;
    for (unsigned i = 0; i < sizeof(takes) / sizeof(takes[0]); i++) {
        another_is_there();
        takes[i]();
        assert_int_equal(run_apart(begin, 0), REFUSED);
    }
}

static int make(void **state)
{
    (void)state;
    make_memory();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_takes_meanwhile_is_refused),
        cmocka_unit_test(what_another_has_is_refused),
    };

    return cmocka_run_group_tests(tests, make, NULL);
}
