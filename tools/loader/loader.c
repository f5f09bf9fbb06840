/*
 * A boot loader in a paravirtualized domain: the toolstack starts it as the kernel, and it starts the real one, which it has from its
 * ramdisk or from the domain's first disk (docs/boot-loader.md). That takes formats that toolstacks do not: payloads that
 * they cannot unpack, kernels without PAE.
 */
#include "boot.h"

NATIVE(start_info) *start_info;

/* ---- The kernel file ---- */

/* What is in the wrap, in the arena; *size: bytes. */
static const u8 *unpack(const struct image_wrap *w, u64 *size)
{
    struct image_error err = { "" };
    u8 *out, *scratch;

    *size = w->unpacked_size;
    if (w->packing == PACKED_NOT)
        return w->payload;
    out = arena_alloc(w->unpacked_size, "the unpacked kernel");
    scratch = arena_alloc(w->scratch_size, "unpacking");
    make_thread_area();
    if (image_unwrap(w, out, w->unpacked_size, scratch, w->scratch_size, &err))
        fail("%s", err.text);
    drop_thread_area();
    return out;
}

static const u8 *unwrap(const u8 *file, u64 *size)
{
    struct image_error err = { "" };
    struct image_wrap w;

    if (image_identify(file, *size, &w, &err))
        fail("%s", err.text);
    return unpack(&w, size);
}

/* Where the ELF ends: the last byte that a header of it speaks of. */
static u64 elf_end(const u8 *file, u64 size)
{
    struct elf e;
    struct elf_segment seg;
    struct elf_section sec;
    u64 end;

    if (elf_open(&e, file, size, NULL))
        return size;
    end = max(e.phoff + (u64)e.phentsize * e.phnum, e.shoff + (u64)e.shentsize * e.shnum);
    for (unsigned i = 0; i < e.phnum; i++)
        if (!elf_segment(&e, i, &seg, NULL))
            end = max(end, seg.offset + seg.filesz);
    for (unsigned i = 0; i < e.shnum; i++)
        if (elf_section_type(&e, i) != SHT_NOBITS && !elf_section(&e, i, &sec, NULL))
            end = max(end, sec.offset + sec.size);
    return min(end, size);
}

static bool startable(const struct kernel_image *k)
{
    return k->format == OWN_FORMAT || (OWN_FORMAT == PT32P && k->format == PT32);
}

static const struct kernel_image *parse_kernel(const u8 *elf, u64 size)
{
    static struct kernel_image k;
    struct image_error err = { "" };

    if (image_parse(elf, size, &k, &err))
        fail("%s", err.text);
    if (!startable(&k))
        fail("the kernel is a %s one, this loader is for %s ones: give the other, pv-loader-%s, as kernel=",
             image_format_name(k.format), OWN_FORMAT == PT64 ? "64-bit" : "32-bit", OWN_FORMAT == PT64 ? "i386" : "x86_64");
    return &k;
}

/* ---- What is to be started ---- */

static void put_initrd_file(struct file *f, u64 to)
{
    static u8 buffer[128 << 10];
    struct image_error err = { "" };

    for (u64 at = 0, n; at < f->size; at += n) {
        n = min(f->size - at, (u64)sizeof(buffer));
        if (file_read(f, at, buffer, n, &err))
            fail("the kernel's ramdisk cannot be read: %s", err.text);
        start_put_initrd(to + at, buffer, n);
    }
}

/* In the arena, but for what is in memory already: archives' files lie there in one piece. */
static const u8 *read_whole(struct file *f, const char *what)
{
    struct image_error err = { "" };
    u8 *p;

    if (f->size > IMAGE_MAX_UNPACKED)
        fail("%s has %llu bytes, expected up to %llu", what, (unsigned long long)f->size, IMAGE_MAX_UNPACKED);
    if (f->volume->disk->memory)
        return (const u8 *)f->volume->disk->memory + f->volume->start + f->at;
    p = arena_alloc(f->size, what);
    if (file_read(f, 0, p, f->size, &err))
        fail("%s cannot be read: %s", what, err.text);
    return p;
}

static void describe(const struct kernel_image *k, u64 initrd_size)
{
    say_to_log("pvisor loader: %s kernel %s %s, entry %#llx, ramdisk %llu bytes\n", image_format_name(k->format), k->notes.guest_os,
               k->notes.guest_version, (unsigned long long)k->virt_entry, (unsigned long long)initrd_size);
}

/* Ramdisks begin at multiples of four bytes, as Linux wants it. */
static void put_initrds(struct boot *b)
{
    u64 at = 0;

    for (unsigned i = 0; i < b->nr_initrds; i++) {
        put_initrd_file(&b->initrd[i], at);
        at += align_up(b->initrd[i].size, 4);
    }
}

/* What is in memory may be in the arena, too; from a disk it comes when the arena's memory can be the kernel's. */
void boot_files(struct boot *b)
{
    u64 size = b->kernel.size, initrd_size = 0;
    const u8 *file = read_whole(&b->kernel, "the kernel");
    bool in_memory = b->kernel.volume->disk->memory;
    const struct kernel_image *k;

    for (unsigned i = 0; i < b->nr_initrds; i++)
        initrd_size = align_up(initrd_size, 4) + b->initrd[i].size;
    file = unwrap(file, &size);
    k = parse_kernel(file, size);
    describe(k, initrd_size);
    start_prepare(k, initrd_size);
    if (in_memory)
        put_initrds(b);
    arena_release();
    if (!in_memory)
        put_initrds(b);
    if (b->done)
        b->done();
    start_kernel(b->cmdline);
}

/* An ELF, and behind it its own ramdisk, or a boot image. */
static noreturn_fn void boot_memory(const u8 *file, u64 size)
{
    u64 end, initrd_size;
    const struct kernel_image *k;

    file = unwrap(file, &size);
    k = parse_kernel(file, size);
    end = elf_end(file, size);
    initrd_size = size - end;
    /* xl rounds up the size of what it unpacks: nothing but zeroes is no ramdisk. */
    while (initrd_size && !file[end + initrd_size - 1])
        initrd_size--;
    initrd_size = initrd_size ? size - end : 0;
    describe(k, initrd_size);
    start_prepare(k, initrd_size);
    start_put_initrd(0, file + end, initrd_size);
    arena_release();
    start_kernel((const char *)start_info->cmd_line);
}

static struct volume *archive_of(const u8 *blob, u64 size)
{
    static struct disk d = { .read = disk_memory, .name = "ramdisk" };
    static struct volume v = { .disk = &d, .name = "the ramdisk" };

    d.memory = blob;
    d.size = v.size = size;
    return cpio_probe(&v, NULL) ? NULL : &v;
}

/* A packed archive. Toolstacks before Xen 4.20 unpack it themselves. */
static bool is_gzip(const u8 *blob, u64 size) { return size > 24 && blob[0] == 0x1f && blob[1] == 0x8b; }

const char *with_extra(const char *cmdline)
{
    static char line[MAX_GUEST_CMDLINE * 2];

    snprintf(line, sizeof(line), "%s%s%s", cmdline, *cmdline && start_info->cmd_line[0] ? " " : "", (const char *)start_info->cmd_line);
    return line;
}

/* A line of the archive's, or none. */
static const char *archive_cmdline(struct volume *v)
{
    static char line[MAX_GUEST_CMDLINE];
    struct image_error err = { "" };
    struct file f;
    size_t n = 0;

    if (file_open(v, "cmdline", &f, NULL))
        return "";
    if (file_read(&f, 0, line, min(f.size, (u64)sizeof(line) - 1), &err))
        fail("%s", err.text);
    while (line[n] && line[n] != '\n')
        n++;
    line[n] = 0;
    return line;
}

/* The ramdisks are one behind the other, as a boot loader puts them that was given several. */
static void find_initrds(struct volume *v, struct boot *b)
{
    struct image_error err = { "" };
    char name[] = "initrd+++";
    int rc = 0;

    _Static_assert(sizeof(name) == sizeof("initrd") + GRUB_INITRDS - 1, "a name for each");
    for (; b->nr_initrds < GRUB_INITRDS && !rc; b->nr_initrds += !rc) {
        strlcpy(name, "initrd+++", sizeof("initrd") + b->nr_initrds);
        rc = file_open(v, name, &b->initrd[b->nr_initrds], &err);
        if (rc && rc != -ENOENT)
            fail("%s", err.text);
    }
}

static noreturn_fn void boot_archive(struct volume *v)
{
    static struct boot b;
    struct image_error err = { "" };

    if (file_open(v, "kernel", &b.kernel, &err))
        fail("%s: an archive given as ramdisk= has the members kernel and, if wanted, initrd and cmdline", err.text);
    find_initrds(v, &b);
    b.cmdline = with_extra(archive_cmdline(v));
    boot_files(&b);
}

static noreturn_fn void boot_ramdisk(const u8 *blob, u64 size)
{
    struct volume *v;

    if (is_gzip(blob, size))
        blob = unwrap(blob, &size);
    v = archive_of(blob, size);
    if (v)
        boot_archive(v);
    boot_memory(blob, size);
}

void load(NATIVE(start_info) *si, word_t stack_end);
void load(NATIVE(start_info) *si, word_t stack_end)
{
    start_info = si;
    memory_init(stack_end);
    if (si->mod_len)
        boot_ramdisk((const u8 *)(word_t)si->mod_start, si->mod_len);
    boot_disk();
}
