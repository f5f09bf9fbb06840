/*
 * pvisor-inspect FILE...: what a kernel file is, what it asks for, whether pvisor runs it, and the xl
 * configuration that starts it. Reads with the same code as the hypervisor's dom0 builder.
 *
 * Exit status: 0 if pvisor runs every file, 1 if not, 2 if a file could not be read.
 */
#define _GNU_SOURCE     /* memmem() */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <public/features.h>
#include <pvisor/image.h>

#define RUNS   0
#define NOT_US 1
#define UNREAD 2

#define LOADER "/usr/lib/pvisor/pv-loader-i386"

struct buffer { void *data; size_t size; };

static int read_file(const char *path, struct buffer *b)
{
    FILE *f = fopen(path, "rb");
    size_t got, room = 0;

    if (!f)
        return -errno;
    do {
        if (b->size == room) {
            void *bigger = realloc(b->data, room = room ? 2 * room : 1 << 20);

            if (!bigger)
                break;
            b->data = bigger;
        }
        got = fread((char *)b->data + b->size, 1, room - b->size, f);
        b->size += got;
    } while (got);
    if (ferror(f) || !feof(f)) {
        int error = errno;

        free(b->data);
        fclose(f);
        return error ? -error : -EIO;
    }
    fclose(f);
    return 0;
}

static void line(const char *label, const char *value)
{
    if (*value)
        printf("  %-18s %s\n", label, value);
}

static void address(const char *label, bool has, u64 value)
{
    if (has)
        printf("  %-18s %#llx\n", label, (unsigned long long)value);
}

static void print_features(const char *label, u32 bits)
{
    if (!bits)
        return;
    printf("  %-18s", label);
    for (unsigned bit = 0; bit < 32; bit++) {
        const char *name = image_feature_name(bit);

        if (!(bits >> bit & 1))
            continue;
        if (name)
            printf(" %s", name);
        else
            printf(" bit-%u", bit);
    }
    printf("\n");
}

static void print_wrap(const struct image_wrap *w)
{
    if (w->bzimage)
        printf("  %-18s Linux boot image, boot protocol %u.%02u\n", "File", w->boot_protocol >> 8,
               w->boot_protocol & 0xff);
    else
        line("File", w->packing == PACKED_NOT ? "ELF" : "packed file");
    if (w->packing != PACKED_NOT)
        printf("  %-18s %s, %llu bytes, %llu unpacked\n", "Packing", image_packing_name(w->packing),
               (unsigned long long)w->payload_size, (unsigned long long)w->unpacked_size);
}

static void print_notes(const struct kernel_image *img)
{
    static const char *const sources[] = {
        [IMAGE_NO_INFO] = "nothing about Xen in it",
        [IMAGE_NOTES]   = "ELF notes",
        [IMAGE_STRING]  = "the __xen_guest string",
    };
    const struct image_notes *n = &img->notes;

    line("Described by", sources[img->source]);
    line("Guest OS", n->guest_os);
    line("Guest version", n->guest_version);
    line("Made for", n->xen_version);
    line("Loader", n->loader);
    line("PAE", img->is64 ? "" : *n->pae_mode ? n->pae_mode : "not mentioned, which means non-PAE");
    print_features("Supports", img->features_supported);
    print_features("Requires", img->features_required);
}

static void print_layout(const struct kernel_image *img)
{
    line("Page tables", image_format_name(img->format));
    address("Base", true, img->virt_base);
    address("Kernel from", true, img->virt_kstart);
    address("Kernel to", true, img->virt_kend);
    address("Entry", true, img->virt_entry);
    address("Hypercall page", img->has_hypercall_page, img->hypercall_page);
    address("Physical offset", img->elf_paddr_offset != 0, img->elf_paddr_offset);
    address("P2M wanted at", img->has_p2m_base, img->p2m_base);
    address("Hypervisor from", img->has_hv_start_low, img->hv_start_low);
    line("Initrd", img->unmapped_initrd ? "need not be mapped" : "");
    if (img->symtab.size)
        printf("  %-18s %llu bytes behind the kernel\n", "Symbol table",
               (unsigned long long)img->symtab.size);
    for (unsigned i = 0; i < img->nr_segments; i++)
        printf("  %-18s %#llx, %llu bytes, %llu of them in the file\n", i ? "" : "Segments",
               (unsigned long long)img->segments[i].vaddr, (unsigned long long)img->segments[i].memsz,
               (unsigned long long)img->segments[i].filesz);
}

static void print_config(const char *path, const struct kernel_image *img)
{
    printf("  As a domU, in its xl configuration:\n\n      type = \"pv\"\n");
    if (img->format == PT32)
        printf("      kernel = \"" LOADER "\"\n      ramdisk = \"%s\"\n\n", path);
    else
        printf("      kernel = \"%s\"\n\n", path);
    if (img->format == PT32)
        printf("  xl itself builds no non-PAE domain: the loader starts this kernel inside one.\n"
               "  The kernel's own ramdisk, if it has one, is appended to the file.\n");
}

static int verdict(const char *path, const struct kernel_image *img)
{
    struct image_error err = { "" };

    if (image_check_features(img, IMAGE_OFFERED_DOM0, &err)) {
        printf("  pvisor does not run it: %s.\n", err.text);
        return NOT_US;
    }
    if (image_check_features(img, IMAGE_OFFERED_DOMU, &err) || (img->format != PT32 && image_check_toolstack(img, &err))) {
        printf("  pvisor runs it as dom0 only. In a domU: %s.\n", err.text);
        return RUNS;
    }
    printf("  pvisor runs it: a %s paravirtualized kernel.\n", image_format_name(img->format));
    print_config(path, img);
    return RUNS;
}

static int refuse_file(const char *why)
{
    printf("  pvisor does not run it: %s.\n", why);
    return NOT_US;
}

/* A hypervisor's image is known by what it logs first: pvisor by a whole text, Xen by a format. */
static bool is_hypervisor(const void *data, u64 size)
{
    static const char ours[] = " build), speaking the Xen ", xens[] = "Xen version %d.%d%s (";
    const char *found = memmem(data, size, ours, sizeof(ours) - 1), *name = found;

    while (name && name > (const char *)data && strncmp(name, "pvisor ", 7))
        name--;
    if (found)
        printf("  %-18s %.*s build)\n", "Hypervisor", (int)(found - name), name);
    else if (memmem(data, size, xens, sizeof(xens) - 1))
        line("Hypervisor", "Xen");
    else
        return false;
    return true;
}

static int refuse_hypervisor(void)
{
    return refuse_file("it is a hypervisor, no kernel: GRUB starts it, and it starts dom0's kernel");
}

static int inspect_elf(const char *path, const void *elf, u64 size)
{
    struct image_error err = { "" };
    struct kernel_image img;
    int rc;

    if (is_hypervisor(elf, size))
        return refuse_hypervisor();
    rc = image_parse(elf, size, &img, &err);
    if (img.nr_segments) {
        line("Word size", img.is64 ? "64 bits" : "32 bits");
        print_notes(&img);
    }
    if (rc)
        return refuse_file(err.text);
    print_layout(&img);
    return verdict(path, &img);
}

static int inspect(const char *path, const struct buffer *file)
{
    struct image_error err = { "" };
    struct image_wrap w;
    void *elf, *scratch;
    int rc = image_identify(file->data, file->size, &w, &err);

    if (!rc || w.bzimage)
        print_wrap(&w);
    if (rc)
        return is_hypervisor(file->data, file->size) ? refuse_hypervisor() : refuse_file(err.text);
    if (w.packing == PACKED_NOT)
        return inspect_elf(path, w.payload, w.payload_size);
    elf = malloc(w.unpacked_size);
    scratch = malloc(w.scratch_size + 1);
    if (!elf || !scratch)
        rc = refuse_file("this machine has too little memory to unpack it");
    else if (image_unwrap(&w, elf, w.unpacked_size, scratch, w.scratch_size, &err))
        rc = refuse_file(err.text);
    else
        rc = inspect_elf(path, elf, w.unpacked_size);
    free(scratch);
    free(elf);
    return rc;
}

int main(int argc, char **argv)
{
    int status = RUNS;

    if (argc < 2 || argv[1][0] == '-') {
        fprintf(argc < 2 ? stderr : stdout, "usage: pvisor-inspect FILE...\n"
                "Says what a kernel file is, whether pvisor runs it, and how to start it with xl.\n");
        return argc < 2 || strcmp(argv[1], "--help") ? UNREAD : 0;
    }
    for (int i = 1; i < argc; i++) {
        struct buffer file = { 0 };
        int rc = read_file(argv[i], &file);

        printf("%s%s\n", i > 1 ? "\n" : "", argv[i]);
        if (rc < 0) {
            printf("  cannot be read: %s.\n", strerror(-rc));
            rc = UNREAD;
        } else {
            rc = inspect(argv[i], &file);
            free(file.data);
        }
        status = rc > status ? rc : status;
    }
    return status;
}
