/* The hypervisor filesystem: its tree as a tool walks it, what is refused, and words that are changed. */
// SOURCES: common/control/hypfs.c common/abi.c common/lib/format.c common/lib/text.c tests/unit/fake/machine.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <string.h>

#include <common/control/internal.h>
#include <public/hypfs.h>
#include <pvisor/cmdline.h>
#include <pvisor/version.h>
#include "fake/fake.h"

const char version_extra[] = "-extra", version_changeset[] = "pvisor 1", version_compile_by[] = "us", version_compile_date[] = "some time";
const char version_compiler[] = "gcc";
u32 version_number = 4 << 16 | 17;
spinlock_t control_lock = SPINLOCK_INIT(RANK_CONTROL);
static bool busy;
bool spin_trylock(spinlock_t *l) { if (!busy) spin_lock(l); return !busy; }

static char level[2][16];
static int parse(unsigned n, const char *v) { return strcmp(v, "bad") ? (void)strlcpy(level[n], v, sizeof(level[n])), 0 : -EINVAL; }
static int parse_one(const char *v) { return parse(0, v); }
static int parse_two(const char *v) { return parse(1, v); }
static void show_one(char *buf, size_t size) { strlcpy(buf, level[0], size); }
static void show_two(char *buf, size_t size) { strlcpy(buf, level[1], size); }
static const struct cmdline_option words[] = { { "one", parse_one, show_one }, { "two", parse_two, show_two } };
const struct cmdline_option *cmdline_runtime(unsigned n) { return n < ARRAY_SIZE(words) ? &words[n] : NULL; }

#define ROOM 1024
static gva_t path_at, buf_at;

static int fresh(void **state)
{
    (void)state;
    fake_reset();
    fake_run(fake_domain(0, ABI_64, 1, true), 0);
    path_at = fake_guest_alloc(XEN_HYPFS_MAX_PATHLEN + 8);
    buf_at = fake_guest_alloc(ROOM);
    strcpy(level[0], "all");
    strcpy(level[1], "none");
    busy = false;
    return 0;
}

static s64 call(u32 cmd, const char *path, u64 size)
{
    strcpy(fake_guest(path_at), path);
    return fake_hypercall5(do_hypfs_op, cmd, path_at.v, strlen(path) + 1, buf_at.v, size);
}

static const struct xen_hypfs_direntry *entry(void) { return fake_guest(buf_at); }
static const char *contents(void) { return (const char *)(entry() + 1); }

static s64 put(const char *path, const char *text)
{
    strcpy(fake_guest(buf_at), text);
    return call(XEN_HYPFS_OP_write_contents, path, strlen(text) + 1);
}

/* Adds what lies at path and below to out, as "path value" lines; a tool's way of reading. */
static void walk(const char *path, char *out)
{
    char copy[ROOM], below[256];
    const struct xen_hypfs_dirlistentry *e = (void *)(copy + sizeof(struct xen_hypfs_direntry));
    u32 len;

    assert_int_equal(call(XEN_HYPFS_OP_read, path, ROOM), 0);
    memcpy(copy, entry(), sizeof(copy));
    len = entry()->content_len;
    if (entry()->type == XEN_HYPFS_TYPE_STRING)
        sprintf(out + strlen(out), "%s '%s'\n", path, contents());
    else if (entry()->type == XEN_HYPFS_TYPE_UINT)
        sprintf(out + strlen(out), "%s %u\n", path, *(const u32 *)contents());
    if (entry()->type != XEN_HYPFS_TYPE_DIR)
        return;
    for (;;) {
        assert_true((u32)((const char *)e->name + strlen(e->name) + 1 - copy) <= sizeof(struct xen_hypfs_direntry) + len);
        assert_int_equal((uintptr_t)e % 4, (uintptr_t)copy % 4);
        snprintf(below, sizeof(below), "%s/%s", strcmp(path, "/") ? path : "", e->name);
        walk(below, out);
        if (!e->off_next)
            return;
        e = (const void *)((const char *)e + e->off_next);
    }
}

static void the_tree_is_as_a_tool_walks_it(void **state)
{
    char out[2048] = "";

    (void)state;
    walk("/", out);
    assert_string_equal(out, "/buildinfo/changeset 'pvisor 1'\n"
                             "/buildinfo/compileinfo/compile_by 'us'\n"
                             "/buildinfo/compileinfo/compile_date 'some time'\n"
                             "/buildinfo/compileinfo/compile_domain ''\n"
                             "/buildinfo/compileinfo/compiler 'gcc'\n"
                             "/buildinfo/version/extra '-extra'\n"
                             "/buildinfo/version/major 4\n"
                             "/buildinfo/version/minor 17\n"
                             "/params/one 'all'\n"
                             "/params/two 'none'\n");
}

/* The needed size is there in any case; more than what was asked for is not touched. */
static void says_how_much_room_it_wants(void **state)
{
    static const char *const paths[] = { "/", "/params", "/params/one", "/buildinfo/version/major" };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
        u32 want;

        memset(fake_guest(buf_at), 0x5a, ROOM);
        assert_int_equal(call(XEN_HYPFS_OP_read, paths[i], sizeof(struct xen_hypfs_direntry)), -ENOBUFS);
        want = entry()->content_len;
        assert_int_equal(contents()[0], 0x5a);
        assert_int_equal(call(XEN_HYPFS_OP_read, paths[i], sizeof(struct xen_hypfs_direntry) + want - 1), -ENOBUFS);
        assert_int_equal(contents()[0], 0x5a);
        assert_int_equal(call(XEN_HYPFS_OP_read, paths[i], sizeof(struct xen_hypfs_direntry) + want), 0);
        assert_int_equal(contents()[want], 0x5a);
        assert_int_equal(call(XEN_HYPFS_OP_read, paths[i], sizeof(struct xen_hypfs_direntry) - 1), -EINVAL);
    }
}

static void words_are_changed(void **state)
{
    (void)state;
    assert_int_equal(put("/params/two", "warning"), 0);
    assert_string_equal(level[1], "warning");
    assert_string_equal(level[0], "all");
    assert_int_equal(put("/params/two", "bad"), -EINVAL);
    assert_string_equal(level[1], "warning");
    assert_int_equal(call(XEN_HYPFS_OP_read, "/params/two", ROOM), 0);
    assert_string_equal(contents(), "warning");
    assert_true(entry()->max_write_len > 0);
}

static void what_cannot_be_written_is_refused(void **state)
{
    char text[ROOM];

    (void)state;
    assert_int_equal(put("/buildinfo/version/major", "1234"), -EACCES);
    assert_int_equal(put("/params", "x"), -EACCES);
    assert_int_equal(put("/", "x"), -EACCES);
    assert_int_equal(put("/params/three", "x"), -ENOENT);
    memset(text, 'a', sizeof(text));
    text[64] = '\0';
    assert_int_equal(put("/params/one", text), -ENOSPC);
    strcpy(fake_guest(buf_at), "abc");
    assert_int_equal(call(XEN_HYPFS_OP_write_contents, "/params/one", 3), -EINVAL);
    assert_int_equal(call(XEN_HYPFS_OP_write_contents, "/params/one", 5), -EINVAL);
    assert_int_equal(call(XEN_HYPFS_OP_write_contents, "/params/one", 0), -EINVAL);
    assert_int_equal(call(XEN_HYPFS_OP_write_contents, "/params/one", ~0UL), -ENOSPC);
    assert_string_equal(level[0], "all");
}

static void paths_are_checked(void **state)
{
    static const struct { const char *path; s64 rc; } cases[] = {
        { "/", 0 }, { "/params", 0 }, { "/params/", -ENOENT }, { "//", -ENOENT }, { "/param", -ENOENT }, { "/params/on", -ENOENT },
        { "/params/one/x", -ENOENT }, { "params", -EINVAL }, { "", -EINVAL },
    };
    char *p = fake_guest(path_at);

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(call(XEN_HYPFS_OP_read, cases[i].path, ROOM), cases[i].rc);
    memset(p, 'a', XEN_HYPFS_MAX_PATHLEN + 1);
    p[0] = '/';
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_read, path_at.v, XEN_HYPFS_MAX_PATHLEN, buf_at.v, ROOM), -EINVAL);
    p[XEN_HYPFS_MAX_PATHLEN - 1] = '\0';
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_read, path_at.v, XEN_HYPFS_MAX_PATHLEN, buf_at.v, ROOM), -ENOENT);
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_read, path_at.v, XEN_HYPFS_MAX_PATHLEN + 1, buf_at.v, ROOM), -EINVAL);
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_read, path_at.v, ~0UL, buf_at.v, ROOM), -EINVAL);
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_read, ~0UL, 8, buf_at.v, ROOM), -EFAULT);
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_get_version, 0, 0, 0, 0), XEN_HYPFS_VERSION);
    assert_int_equal(fake_hypercall5(do_hypfs_op, XEN_HYPFS_OP_get_version, 0, 0, 0, 1), -EINVAL);
    assert_int_equal(fake_hypercall5(do_hypfs_op, 3, path_at.v, 2, buf_at.v, ROOM), -EOPNOTSUPP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_tree_is_as_a_tool_walks_it, fresh),
        cmocka_unit_test_setup(says_how_much_room_it_wants, fresh),
        cmocka_unit_test_setup(words_are_changed, fresh),
        cmocka_unit_test_setup(what_cannot_be_written_is_refused, fresh),
        cmocka_unit_test_setup(paths_are_checked, fresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
