/*
 * The hypervisor filesystem (xenhypfs, xl set-parameters): what the hypervisor was built as, and those words of its command line that
 * can be changed while it runs. Files are numbered, and know their whole path; a directory is whatever paths begin with. Those of one
 * directory are next to each other.
 */
#include <public/hypfs.h>
#include <public/version.h>
#include <pvisor/cmdline.h>
#include <pvisor/lib.h>
#include <pvisor/version.h>
#include "internal.h"

#define PATH_MAX  64            /* of ours */
#define VALUE_MAX 64            /* bytes; also of what is written */

struct file {
    char path[PATH_MAX];        /* from the root, without its slash */
    u8 type;                    /* XEN_HYPFS_TYPE_* */
    char value[VALUE_MAX];
    u32 len;
    const struct cmdline_option *word;      /* that writing changes; NULL: only to be read */
};

/* Its value is there. */
static void end_text(struct file *f)
{
    f->type = XEN_HYPFS_TYPE_STRING;
    f->len = (u32)strlen(f->value) + 1;
}

static void set_text(struct file *f, const char *path, const char *text)
{
    strlcpy(f->path, path, sizeof(f->path));
    strlcpy(f->value, text, sizeof(f->value));
    end_text(f);
}

static void set_number(struct file *f, const char *path, u32 n)
{
    f->type = XEN_HYPFS_TYPE_UINT;
    strlcpy(f->path, path, sizeof(f->path));
    memcpy(f->value, &n, sizeof(n));
    f->len = sizeof(n);
}

static const struct { const char *path, *text; } build_info[] = {
    { "buildinfo/changeset",                  version_changeset },
    { "buildinfo/compileinfo/compile_by",     version_compile_by },
    { "buildinfo/compileinfo/compile_date",   version_compile_date },
    { "buildinfo/compileinfo/compile_domain", "" },
    { "buildinfo/compileinfo/compiler",       version_compiler },
    { "buildinfo/version/extra",              version_extra },
};
#define NR_NUMBERS 2            /* the ABI's version */

static bool get_word(struct file *f, u32 n)
{
    f->word = cmdline_runtime(n);
    if (!f->word)
        return false;
    snprintf(f->path, sizeof(f->path), "params/%s", f->word->name);
    f->word->show(f->value, sizeof(f->value));
    end_text(f);
    return true;
}

/* File n, or false: there are no more. */
static bool get_file(struct file *f, u32 n)
{
    memset(f, 0, sizeof(*f));
    if (n < ARRAY_SIZE(build_info))
        set_text(f, build_info[n].path, build_info[n].text);
    else if (n == ARRAY_SIZE(build_info))
        set_number(f, "buildinfo/version/major", version_major());
    else if (n == ARRAY_SIZE(build_info) + 1)
        set_number(f, "buildinfo/version/minor", version_minor());
    else
        return get_word(f, n - ARRAY_SIZE(build_info) - NR_NUMBERS);
    return true;
}

/* What of path lies below directory dir ("": the root), or NULL. */
static const char *below(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    if (!n)
        return path;
    return !strncmp(path, dir, n) && path[n] == '/' ? path + n + 1 : NULL;
}

/* --- Directories ----------------------------------------------------------------------------------- */

/* An entry of a directory, and where the search for the next begins. */
struct child {
    char name[PATH_MAX];
    struct xen_hypfs_direntry e;
    u32 next;
};

static struct xen_hypfs_direntry describe(const struct file *f)
{
    return (struct xen_hypfs_direntry){ .type = f->type, .content_len = f->len, .max_write_len = f->word ? VALUE_MAX : 0 };
}

static u32 entry_size(const char *name)
{
    return (u32)ROUND_UP(offsetof(struct xen_hypfs_dirlistentry, name) + strlen(name) + 1, 4);
}

static u32 directory_size(const char *dir);

/* Without contents: there is none. */
static struct xen_hypfs_direntry describe_directory(const char *dir)
{
    return (struct xen_hypfs_direntry){ .type = XEN_HYPFS_TYPE_DIR, .content_len = directory_size(dir) };
}

/* The first child of dir at or behind c->next; false: there is none. */
static bool next_child(struct child *c, const char *dir)
{
    struct file f;

    for (; get_file(&f, c->next); c->next++) {
        const char *rest = below(f.path, dir), *slash = rest ? strchr(rest, '/') : NULL;

        if (slash)
            f.path[slash - f.path] = '\0';      /* the child is a directory */
        if (!rest || !strcmp(rest, c->name))
            continue;                           /* elsewhere, or the directory that we have just had */
        strlcpy(c->name, rest, sizeof(c->name));
        c->e = slash ? describe_directory(f.path) : describe(&f);
        return true;
    }
    return false;
}

/* As deep as paths have slashes. */
static u32 directory_size(const char *dir)
{
    struct child c = { .next = 0 };
    u32 size = 0;

    while (next_child(&c, dir))
        size += entry_size(c.name);
    return size;
}

static s64 give_child(gva_t to, const struct child *c, bool last)
{
    struct xen_hypfs_dirlistentry head = { .e = c->e, .off_next = last ? 0 : (u16)entry_size(c->name) };
    u8 buf[sizeof(head) + PATH_MAX] = { 0 };
    u32 size = entry_size(c->name);

    memcpy(buf, &head, offsetof(struct xen_hypfs_dirlistentry, name));
    strlcpy((char *)buf + offsetof(struct xen_hypfs_dirlistentry, name), c->name, PATH_MAX);
    return copy_to_guest(to, buf, size) ? -EFAULT : 0;
}

static s64 give_directory(gva_t to, const char *dir, u32 size)
{
    struct child c = { .next = 0 };
    u32 at = 0;

    while (at < size && next_child(&c, dir)) {
        u32 n = entry_size(c.name);
        s64 rc = give_child(gva_add(to, at), &c, at + n == size);

        if (rc)
            return rc;
        at += n;
    }
    return 0;
}

/* --- The calls ------------------------------------------------------------------------------------- */

/* Without its first slash, to path. */
static s64 get_path(char path[XEN_HYPFS_MAX_PATHLEN], gva_t at, u64 len)
{
    if (len < 2 || len > XEN_HYPFS_MAX_PATHLEN)
        return refuse(-EINVAL, "a path of %lu bytes, expected 2 to %u with the zero byte", len, XEN_HYPFS_MAX_PATHLEN);
    if (copy_from_guest(path, at, len))
        return -EFAULT;
    if (path[0] != '/' || strnlen(path, len) != len - 1)
        return refuse(-EINVAL, "a path that does not begin with a slash, or has its zero byte elsewhere than at its end");
    memmove(path, path + 1, len - 1);
    return 0;
}

static bool find(struct file *f, const char *path)
{
    for (u32 n = 0; get_file(f, n); n++)
        if (!strcmp(f->path, path))
            return true;
    return false;
}

static s64 give(gva_t to, u64 room, const struct xen_hypfs_direntry *e)
{
    if (room < sizeof(*e))
        return refuse(-EINVAL, "%lu bytes of room, an entry has %zu", room, sizeof(*e));
    if (copy_to_guest(to, e, sizeof(*e)))
        return -EFAULT;
    return room - sizeof(*e) < e->content_len ? -ENOBUFS : 0;
}

static s64 read(const char *path, gva_t to, u64 room)
{
    struct xen_hypfs_direntry e;
    struct file f;
    bool is_file = find(&f, path);
    s64 rc;

    e = is_file ? describe(&f) : describe_directory(path);
    if (!e.content_len)
        return -ENOENT;
    rc = give(to, room, &e);
    if (rc)
        return rc;
    to = gva_add(to, sizeof(e));
    if (is_file)
        return copy_to_guest(to, f.value, f.len) ? -EFAULT : 0;
    return give_directory(to, path, e.content_len);
}

static s64 write(const char *path, gva_t from, u64 len)
{
    char value[VALUE_MAX];
    struct file f;

    if (!find(&f, path))
        return directory_size(path) ? refuse(-EACCES, "/%s is a directory", path) : -ENOENT;
    if (!f.word)
        return refuse(-EACCES, "/%s cannot be changed", path);
    if (len > sizeof(value))
        return refuse(-ENOSPC, "/%s: %lu bytes, possible are %zu", path, len, sizeof(value));
    if (copy_from_guest(value, from, len))
        return -EFAULT;
    if (!len || strnlen(value, len) != len - 1)
        return refuse(-EINVAL, "/%s: a text without a zero byte at its end", path);
    if (f.word->parse(value))
        return refuse(-EINVAL, "/%s: '%s' is not understood", path, value);
    printk("%s is %s now\n", f.word->name, value);
    return 0;
}

/* Control domain only. The version; 0; -EINVAL, -ENOENT, -EACCES, -ENOBUFS, -ENOSPC, -EFAULT, -EOPNOTSUPP. public/hypfs.h. */
s64 do_hypfs_op(u64 cmd, u64 path_at, u64 path_len, u64 buffer, u64 size, u64)
{
    char path[XEN_HYPFS_MAX_PATHLEN];
    s64 rc;

    cmd = (u32)cmd;
    if (cmd == XEN_HYPFS_OP_get_version) {
        if (path_at || path_len || buffer || size)
            return refuse(-EINVAL, "arguments, expected none");
        return XEN_HYPFS_VERSION;
    }
    if (cmd != XEN_HYPFS_OP_read && cmd != XEN_HYPFS_OP_write_contents)
        return refuse(-EOPNOTSUPP, "command %lu, expected 0 to 2", cmd);
    rc = get_path(path, gva(path_at), path_len);
    if (rc)
        return rc;
    if (!spin_trylock(&control_lock))
        return hypercall_restart(5, cmd, path_at, path_len, buffer, size);
    rc = cmd == XEN_HYPFS_OP_read ? read(path, gva(buffer), size) : write(path, gva(buffer), size);
    spin_unlock(&control_lock);
    return rc;
}
