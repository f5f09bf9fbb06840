/*
 * Kernel files. Whatever the file is: no byte beyond it is read, and what is taken as a kernel lies within the addresses that it says,
 * entry point and all. A first byte that is odd is followed by a file, an even one by what a small kernel is made of, notes or a string.
 */
// MAX: 600
// AS: test_image
#define strtoull libc_strtoull /* pvisor/lib.h has its own */
#include "image_maker.h"
#undef strtoull
#include "fuzz.h"

/* Reads all that is put, so that the sanitizer sees it. */
static int put(void *ctx, u64 vaddr, const void *src, u64 len)
{
    const struct kernel_image *img = ctx;
    const volatile u8 *p = src;

    EXPECT(len && vaddr >= img->virt_kstart && vaddr < img->virt_kend && len <= img->virt_kend - vaddr);
    for (u64 i = 0; p && i < len; i++)
        (void)p[i];
    return 0;
}

static bool inside(const struct kernel_image *img, u64 va) { return va >= img->virt_base && va < img->virt_kend; }

static void is_sound(const struct kernel_image *img)
{
    struct image_error err;

    EXPECT(img->nr_segments && img->nr_segments <= IMAGE_MAX_SEGMENTS);
    EXPECT(img->virt_base <= img->virt_kstart && img->virt_kstart < img->virt_kend);
    EXPECT(img->virt_kend - img->virt_base <= IMAGE_MAX_SPAN && img->virt_base % PAGE_SIZE == 0);
    EXPECT(inside(img, img->virt_entry));
    EXPECT(!img->has_hypercall_page || (inside(img, img->hypercall_page) && img->hypercall_page % PAGE_SIZE == 0));
    EXPECT(!img->has_p2m_base || (!inside(img, img->p2m_base) && img->p2m_base % PAGE_SIZE == 0));
    EXPECT(!(img->features_required & ~img->features_supported));
    EXPECT(image_check_features(img, ~0u, &err) == 0);
    (void)image_check_features(img, 0, &err);
    (void)image_check_toolstack(img, &err);
    EXPECT(image_load(img, put, (void *)img) == 0);
}

static void texts_end(const struct image_notes *n)
{
#define ENDS(field) EXPECT(memchr(n->field, 0, sizeof(n->field)))
    ENDS(guest_os); ENDS(guest_version); ENDS(xen_version); ENDS(loader); ENDS(pae_mode); ENDS(bsd_symtab); ENDS(features);
#undef ENDS
}

static void look_at(const u8 *file, size_t size)
{
    struct image_error err = { "" };
    struct kernel_image img;
    int rc = image_parse(file, size, &img, &err);

    texts_end(&img.notes);
    EXPECT(!rc || (*err.text && memchr(err.text, 0, sizeof(err.text))));
    EXPECT(image_parse(file, size, &img, NULL) == rc);
    if (!rc)
        is_sound(&img);
}

/* A few bytes of the headers, of the file, its segments or its sections, are others. */
static void spoil_headers(struct made *file, struct fuzz_input *in, unsigned nr)
{
    while (nr--) {
        u32 where = (u32)take(in, 2), at = where & 0x8000 ? (u32)file->shoff + (where & 0x1ff) : where & 0xff;

        if (at < file->size)
            file->data[at] = (u8)take(in, 1);
    }
}

static void look_at_made(struct fuzz_input *in)
{
    static struct notes_maker notes;
    static struct made file;
    u8 how = (u8)take(in, 1);
    struct kernel_spec k = { .is64 = how & 1, .notes_in_section = how & 2, .symbols = how & 4, .notes = how & 8 ? &notes : NULL,
                             .paddr = how & 16 ? 0x1000000 : take(in, 8), .filesz = take(in, 2) & 0xfff, .memsz = take(in, 4),
                             .entry = take(in, 8) };
    unsigned spoilt = (unsigned)take(in, 1) & 3;
    struct fuzz_input spoils = *in;
    char string[256] = "";
    u8 *copy;

    in->at += min((size_t)(in->end - in->at), (size_t)spoilt * 3);
    if (how & 32) {
        memcpy(string, in->at, min((size_t)(in->end - in->at), sizeof(string) - 1));
        k.guest_string = string;
    }
    notes.size = min((size_t)(in->end - in->at), sizeof(notes.data));
    memcpy(notes.data, in->at, notes.size);
    make_kernel(&file, &k);
    spoil_headers(&file, &spoils, spoilt);
    copy = exact_copy(file.data, file.size);
    look_at(copy, file.size);
    free(copy);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };

    if (take(&in, 1) & 1)
        look_at(in.at, (size_t)(in.end - in.at));
    else
        look_at_made(&in);
    return 0;
}
