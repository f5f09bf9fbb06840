/* From the guest's own disk: finds file systems, the configuration there, and lets people choose. */
#include "blkfront.h"
#include "boot.h"

#define VOLUMES_MOST 24u
#define TEXT_MOST    (1u << 20)     /* of a configuration */

static const char *const configs[] = { "/boot/grub/grub.cfg", "/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub2/grub.cfg" };
static const char *const bls_directories[] = { "/loader/entries", "/boot/loader/entries" };

static struct disk disk;
static struct volume volumes[VOLUMES_MOST];
static unsigned nr_volumes;
static struct grub grub;

/* ---- Devices ---- */

static int add_volume(void *ctx, unsigned number, u64 start, u64 size)
{
    struct volume *v = &volumes[nr_volumes];
    struct image_error err = { "" };

    (void)ctx;
    if (nr_volumes == VOLUMES_MOST)
        return 0;
    *v = (struct volume){ .disk = &disk, .start = start, .size = size, .number = number };
    snprintf(v->name, sizeof(v->name), number ? "%s%u" : "%s", disk.name, number);
    if (!volume_open(v, &err))
        nr_volumes++;
    else if (*err.text)
        say("pvisor loader: %s\n", err.text);
    return 0;
}

/* "hd0,gpt2", "xen/xvda,msdos1", "hd0", or a name of ours, "xvda2"; of this disk. */
static struct volume *find_device(const char *device, size_t len)
{
    char name[64];
    const char *comma;
    u64 number;

    strlcpy(name, device, min(len + 1, sizeof(name)));
    for (unsigned i = 0; i < nr_volumes; i++)
        if (!strcmp(volumes[i].name, name))
            return &volumes[i];
    comma = strchr(name, ',');
    for (comma = comma ? comma + 1 : ""; *comma && (*comma < '0' || *comma > '9'); comma++)
        ;
    number = strtoull(comma, NULL, 10);
    for (unsigned i = 0; i < nr_volumes; i++)
        if (volumes[i].number == number)
            return &volumes[i];
    return NULL;
}

/* "(device)/path", or of the root where no device stands before it. */
static int open_path(const char *root, const char *path, struct file *f, struct image_error *err)
{
    const char *stop = *path == '(' ? strchr(path, ')') : NULL;
    const char *device = stop ? path + 1 : root;
    size_t len = stop ? (size_t)(stop - device) : strlen(root);
    struct volume *v = find_device(device, len);

    if (!v)
        return image_fail(err, -ENODEV, "%s has no file system for (%.*s), which %.64s is on", disk.name, (int)min(len, (size_t)48), device,
                          stop ? stop + 1 : path);
    return file_open(v, stop ? stop + 1 : path, f, err);
}

/* ---- What GRUB's commands ask ---- */

static bool host_is_file(void *ctx, const char *root, const char *path)
{
    struct file f;

    (void)ctx;
    return !open_path(root, path, &f, NULL);
}

static int host_read_text(void *ctx, const char *root, const char *path, char *text, unsigned room)
{
    struct file f;
    u64 len;
    int rc = open_path(root, path, &f, ctx);

    if (rc)
        return rc;
    len = min(f.size, (u64)room - 1);
    rc = file_read(&f, 0, text, len, ctx);
    text[len] = 0;
    return rc ? rc : (int)len;
}

static bool host_search(void *ctx, char kind, const char *value, char *device, unsigned room)
{
    struct file f;

    (void)ctx;
    for (unsigned i = 0; i < nr_volumes; i++) {
        struct volume *v = &volumes[i];

        if (kind == 'u' ? strcmp(v->uuid, value) : kind == 'l' ? strcmp(v->label, value) : file_open(v, value, &f, NULL))
            continue;
        strlcpy(device, v->name, room);
        return true;
    }
    return false;
}

static const struct grub_host host = { host_is_file, host_read_text, host_search, NULL };

/* ---- Configurations ---- */

/* In the arena, which has room for it before a kernel is there. */
static char *read_text(struct volume *v, const char *path)
{
    struct image_error err = { "" };
    struct file f;
    char *text;

    if (file_open(v, path, &f, &err))
        fail("%s", err.text);
    if (f.size > TEXT_MOST)
        fail("%s: %s has %llu bytes, expected up to %u", v->name, path, (unsigned long long)f.size, TEXT_MOST);
    text = arena_alloc(f.size + 1, path);
    if (file_read(&f, 0, text, f.size, &err))
        fail("%s cannot be read: %s", path, err.text);
    return text;
}

static void set_start(struct volume *v, const char *path)
{
    size_t len = strlen(path);
    char prefix[80];

    memset(&grub, 0, sizeof(grub));
    grub.host = &host;
    strlcpy(prefix, path, sizeof(prefix));
    while (len && prefix[--len] != '/')
        ;
    prefix[len] = 0;
    grub_set(&grub, "prefix", prefix);
    grub_set(&grub, "config_directory", prefix);
    grub_set(&grub, "root", v->name);
    grub_set(&grub, "grub_platform", "xen");
    grub_set(&grub, "grub_cpu", OWN_FORMAT == PT64 ? "x86_64" : "i386");
    grub_set(&grub, "feature_menuentry_id", "y");
}

static struct { struct volume *v; const char *path; } bls;

static int add_bls(void *ctx, const char *name)
{
    size_t len = strlen(name);
    char path[320];

    (void)ctx;
    if (len < 6 || strcmp(name + len - 5, ".conf"))
        return 0;
    snprintf(path, sizeof(path), "%s/%s", bls.path, name);
    return grub_add_bls(&grub, name, read_text(bls.v, path));
}

static bool find_bls(struct volume *v)
{
    struct image_error err = { "" };
    struct file dir;

    for (unsigned i = 0; i < ARRAY_SIZE(bls_directories) && v->type->list; i++) {
        if (file_open(v, bls_directories[i], &dir, NULL) || !dir.directory)
            continue;
        bls.v = v;
        bls.path = bls_directories[i];
        if (v->type->list(&dir, add_bls, NULL, &err) < 0)
            fail("%s", err.text);
        grub_sort_bls(&grub);
        return true;
    }
    return false;
}

static bool find_grub(struct volume *v)
{
    struct file f;

    for (unsigned i = 0; i < ARRAY_SIZE(configs); i++) {
        if (file_open(v, configs[i], &f, NULL))
            continue;
        say("pvisor loader: %s%s%s of %s\n", configs[i], *v->label ? ", on " : "", v->label, v->name);
        set_start(v, configs[i]);
        if (grub_read(&grub, read_text(v, configs[i])))
            fail("%s of %s: %s", configs[i], v->name, grub.err.text);
        for (unsigned j = 0; grub.wants_bls && j < nr_volumes && !find_bls(&volumes[j]); j++)
            ;
        if (!grub.nr_entries)
            fail("%s of %s has no menuentry with a kernel", configs[i], v->name);
        return true;
    }
    set_start(v, "");
    return find_bls(v) && grub.nr_entries;
}

/* ---- People ---- */

static void show_menu(unsigned chosen, int seconds)
{
    say("\n");
    for (unsigned i = 0; i < grub.nr_entries; i++)
        say("  %c %2u  %s\n", i == chosen ? '*' : ' ', i + 1, grub.entries[i].title);
    say("\nA number and Enter choose another%s", seconds < 0 ? ": " : " than *, Enter takes it: ");
}

/* A number, in as many digits as are typed before Enter; what is no entry is asked for anew. Once somebody types, time has no end. */
static unsigned ask(unsigned chosen, int seconds)
{
    u64 until = now_ns() + (u64)(unsigned)max(seconds, 0) * 1000000000;
    unsigned typed = 0;

    show_menu(chosen, seconds);
    while (seconds < 0 || now_ns() < until) {
        int c = console_in();

        if (c < 0)
            wait_for(start_info->console_evtchn, now_ns() + 100000000);
        else
            seconds = -1;
        if (c >= '0' && c <= '9') {
            typed = typed * 10 % 1000 + (unsigned)(c - '0');
            say("%c", c);
        } else if (c == '\r' || c == '\n') {
            if (!typed || typed <= grub.nr_entries)
                return typed ? typed - 1 : chosen;
            say("\nThere is no %u: ", typed);
            typed = 0;
        }
    }
    return chosen;
}

static unsigned choose(void)
{
    unsigned chosen = grub_default(&grub);
    int seconds = grub_timeout(&grub);

    if (grub.nr_entries > 1 && seconds)
        chosen = ask(chosen, seconds);
    say("\npvisor loader: starting '%s'\n", grub.entries[chosen].title);
    return chosen;
}

/* ---- Start ---- */

static void close_disk(void) { blkfront_close(&disk); }

static noreturn_fn void boot_entry(unsigned entry)
{
    static struct boot b = { .done = close_disk };
    struct image_error err = { "" };
    const char *text = NULL;

    if (*grub.entries[entry].bls) {
        char path[320];

        snprintf(path, sizeof(path), "%s/%s", bls.path, grub.entries[entry].bls);
        text = read_text(bls.v, path);
        grub_set(&grub, "root", bls.v->name);
    }
    if (grub_choose(&grub, entry, text))
        fail("%s", grub.err.text);
    if (open_path(grub.root, grub.kernel, &b.kernel, &err))
        fail("the kernel is not there: %s", err.text);
    for (; b.nr_initrds < grub.nr_initrds; b.nr_initrds++)
        if (open_path(grub.root, grub.initrd[b.nr_initrds], &b.initrd[b.nr_initrds], &err))
            fail("the kernel's ramdisk is not there: %s", err.text);
    b.cmdline = with_extra(grub.cmdline);
    arena_release();
    boot_files(&b);
}

static void look_for_volumes(void)
{
    struct image_error err = { "" };

    nr_volumes = 0;
    if (each_partition(&disk, add_volume, NULL, &err) && *err.text)
        say("pvisor loader: %s\n", err.text);
    if (!nr_volumes)
        say("pvisor loader: %s has no partition with ext2, ext3 or ext4\n", disk.name);
}

void boot_disk(void)
{
    static char ids[DISKS_MOST][16];
    struct image_error err = { "" };
    unsigned nr = blkfront_list(ids);

    if (!nr)
        fail("no kernel: give the real kernel as ramdisk= in the domain's configuration, or a disk that has it");
    for (unsigned i = 0; i < nr; i++) {
        if (blkfront_open(ids[i], &disk, &err)) {
            say("pvisor loader: %s\n", err.text);
            continue;
        }
        look_for_volumes();
        for (unsigned v = 0; v < nr_volumes; v++)
            if (find_grub(&volumes[v]))
                boot_entry(choose());
        blkfront_close(&disk);
    }
    fail("no kernel: none of the %u disks has %s or %s", nr, configs[0], bls_directories[0]);
}
