/*
 * From ELF headers and notes to addresses. A segment goes to p_paddr - elf_paddr_offset + virt_base:
 * p_vaddr is not used, since kernels put other things there. Everything must lie where the format leaves
 * room to guests.
 *
 * What is a paravirtual kernel, and what counts where it does not say, is the ABI's rule (elfnote.h), for
 * dom0 and domUs: what libxenguest takes as a domU we take, and some that it does not
 * (image_check_toolstack()).
 */
#include "internal.h"

/* The addresses a guest of each format may have: below low_end, and from high_start on. */
static const struct address_room {
    const char *name;
    u64 low_end, high_start, last;
} rooms[] = {
    [PT64]  = { "64-bit", 0x800000000000ULL, 0xffff880000000000ULL, ~0ULL },
    [PT32P] = { "32-bit PAE", 0xf5800000, ~0ULL, 0xffffffff },
    [PT32]  = { "32-bit non-PAE", 0xfc000000, ~0ULL, 0xffffffff },
};

const char *image_format_name(enum pt_format_id format)
{
    return rooms[format].name;
}

/* Is [first, last] one piece of a guest's address space? */
static bool in_room(const struct address_room *r, u64 first, u64 last)
{
    return first <= last && (last < r->low_end || (first >= r->high_start && last < r->last));
}

static int read_segments(const struct elf *e, struct kernel_image *img, struct image_error *err)
{
    struct elf_segment s;

    for (unsigned i = 0; i < e->phnum; i++) {
        int rc = elf_segment(e, i, &s, err);

        if (rc)
            return rc;
        if (s.type != PT_LOAD || !s.memsz)
            continue;
        if (s.filesz > s.memsz)
            return image_fail(err, -EINVAL, "segment %u holds %llu bytes in the file but %llu in memory", i,
                              (ull)s.filesz, (ull)s.memsz);
        if (img->nr_segments == IMAGE_MAX_SEGMENTS)
            return image_fail(err, -E2BIG, "kernel has more than %u segments to load", IMAGE_MAX_SEGMENTS);
        img->segments[img->nr_segments++] = (struct image_segment){
            .vaddr = s.paddr, .offset = s.offset, .filesz = s.filesz, .memsz = s.memsz };
    }
    if (!img->nr_segments)
        return image_fail(err, -EINVAL, "kernel has no segments to load");
    return 0;
}

/*
 * A 32-bit kernel that does not mention PAE is non-PAE. A PAE kernel new enough for notes copes with an L3
 * above 4 GiB; one with a string says so in brackets.
 */
static int choose_format(struct kernel_image *img, struct image_error *err)
{
    const char *mode = img->notes.pae_mode;

    if (img->is64) {
        img->format = PT64;
        return 0;
    }
    if (strstr(mode, "bimodal"))
        img->pae = PAE_BIMODAL;
    else if (!strncmp(mode, "yes", 3))
        img->pae = PAE_YES;
    else if (*mode && strncmp(mode, "no", 2))
        return image_fail(err, -EINVAL, "kernel says PAE=%s, expected yes, no or bimodal", mode);
    img->format = img->pae == PAE_NO ? PT32 : PT32P;
    img->extended_cr3 = img->pae != PAE_NO &&
                        (img->source == IMAGE_NOTES || strstr(mode, "[extended-cr3]"));
    return 0;
}

/*
 * Builders up to Xen 3.0.2 put pseudo-physical 0 at the lowest segment where the string names no base, later ones at
 * virtual 0. A kernel of the former kind, with virtual addresses for physical ones, is out of reach of 0.
 */
static u64 unnamed_base(const struct kernel_image *img)
{
    u64 first = ~0ULL, end = 0;

    for (unsigned i = 0; i < img->nr_segments; i++) {
        const struct image_segment *s = &img->segments[i];

        first = min(first, s->vaddr);
        end = max(end, s->vaddr + min(s->memsz, ~s->vaddr));
    }
    return img->source == IMAGE_STRING && end > IMAGE_MAX_SPAN ? first & ~(u64)(PAGE_SIZE - 1) : 0;
}

static void set_optional(const struct kernel_image *img, unsigned note, u64 *value, bool *has)
{
    *value = img->notes.number[note];
    *has = image_has(img, note);
}

/* Addresses as declared, or by default. In the string, the hypercall page is a page number. */
static int resolve_addresses(const struct elf *e, struct kernel_image *img, struct image_error *err)
{
    const u64 *number = img->notes.number;

    if (!image_has(img, XEN_ELFNOTE_VIRT_BASE) && number[XEN_ELFNOTE_PADDR_OFFSET])
        return image_fail(err, -EINVAL, "kernel gives a physical offset (%#llx) but no VIRT_BASE",
                          (ull)number[XEN_ELFNOTE_PADDR_OFFSET]);
    img->virt_base = image_has(img, XEN_ELFNOTE_VIRT_BASE) ? number[XEN_ELFNOTE_VIRT_BASE] : unnamed_base(img);
    if (image_has(img, XEN_ELFNOTE_PADDR_OFFSET))
        img->elf_paddr_offset = number[XEN_ELFNOTE_PADDR_OFFSET];
    else if (img->source == IMAGE_STRING)
        img->elf_paddr_offset = img->virt_base;
    img->virt_entry = image_has(img, XEN_ELFNOTE_ENTRY) ? number[XEN_ELFNOTE_ENTRY]
                                                        : elf_get(e->data, e->l->e_entry);
    set_optional(img, XEN_ELFNOTE_HYPERCALL_PAGE, &img->hypercall_page, &img->has_hypercall_page);
    if (img->has_hypercall_page && img->source == IMAGE_STRING)
        img->hypercall_page = img->virt_base + (img->hypercall_page << PAGE_SHIFT);
    set_optional(img, XEN_ELFNOTE_HV_START_LOW, &img->hv_start_low, &img->has_hv_start_low);
    set_optional(img, XEN_ELFNOTE_INIT_P2M, &img->p2m_base, &img->has_p2m_base);
    set_optional(img, XEN_ELFNOTE_PHYS32_ENTRY, &img->phys32_entry, &img->has_phys32_entry);
    img->has_p2m_base &= img->is64;
    img->has_l1_mfn_valid = image_has(img, XEN_ELFNOTE_L1_MFN_VALID);
    img->unmapped_initrd = number[XEN_ELFNOTE_MOD_START_PFN] != 0;
    img->suspend_cancel = number[XEN_ELFNOTE_SUSPEND_CANCEL] != 0;
    return 0;
}

/* Turns the segments' physical addresses into virtual ones, and finds the kernel's bounds. */
static int place_segments(struct kernel_image *img, struct image_error *err)
{
    const struct address_room *r = &rooms[img->format];

    img->virt_kstart = ~0ULL;
    for (unsigned i = 0; i < img->nr_segments; i++) {
        struct image_segment *s = &img->segments[i];
        u64 first = s->vaddr - img->elf_paddr_offset + img->virt_base, last = first + s->memsz - 1;

        if (!in_room(r, first, last))
            return image_fail(err, -EINVAL, "segment %u at %#llx, %#llx bytes, is outside a %s guest's "
                              "addresses", i, (ull)first, (ull)s->memsz, r->name);
        if (first < img->virt_base)
            return image_fail(err, -EINVAL, "segment %u at %#llx is below VIRT_BASE %#llx", i,
                              (ull)first, (ull)img->virt_base);
        s->vaddr = first;
        img->virt_kstart = min(img->virt_kstart, first);
        img->virt_kend = max(img->virt_kend, last + 1);
    }
    return 0;
}

/* BSD_SYMTAB: in the string its presence counts, in a note what it says. */
static int place_symtab(const struct elf *e, struct kernel_image *img, struct image_error *err)
{
    const char *word = img->notes.bsd_symtab;
    int rc;

    if (!image_has(img, XEN_ELFNOTE_BSD_SYMTAB) ||
        (img->source == IMAGE_NOTES ? strcmp(word, "yes") : !strcmp(word, "no")))
        return 0;
    rc = image_plan_symtab(e, img->virt_kend, &img->symtab, err);
    if (!rc)
        img->virt_kend = img->symtab.vaddr + img->symtab.size;
    return rc;
}

static int check_addresses(const struct kernel_image *img, struct image_error *err)
{
    const struct address_room *r = &rooms[img->format];
    u64 base = img->virt_base, start = img->virt_kstart, end = img->virt_kend;
    u64 p2m = img->p2m_base;
    u64 hole = img->is64 ? 0xffff800000000000ULL : r->low_end;

    if (base & (PAGE_SIZE - 1))
        return image_fail(err, -EINVAL, "VIRT_BASE %#llx is not a page's address", (ull)base);
    if (!in_room(r, base, end - 1) || end - base > IMAGE_MAX_SPAN)
        return image_fail(err, -E2BIG, "kernel spans %#llx to %#llx: more than %llu MiB, or past a %s "
                          "guest's addresses", (ull)base, (ull)end, IMAGE_MAX_SPAN >> 20, r->name);
    if (img->virt_entry < start || img->virt_entry >= end)
        return image_fail(err, -EINVAL, "entry point %#llx is outside the kernel (%#llx to %#llx)",
                          (ull)img->virt_entry, (ull)start, (ull)end);
    if (img->has_hypercall_page && (img->hypercall_page < base || img->hypercall_page >= end ||
                                    img->hypercall_page & (PAGE_SIZE - 1)))
        return image_fail(err, -EINVAL, "hypercall page %#llx is no page below the kernel's end (%#llx to %#llx)",
                          (ull)img->hypercall_page, (ull)base,
                          (ull)end);
    if (img->has_hv_start_low && img->hv_start_low > hole)
        return image_fail(err, -EINVAL, "kernel lets the hypervisor start at %#llx, which is above %#llx",
                          (ull)img->hv_start_low, (ull)hole);
    if (img->has_p2m_base && (!in_room(r, p2m, p2m + PAGE_SIZE - 1) || (p2m >= base && p2m < end) ||
                              p2m & (PAGE_SIZE - 1)))
        return image_fail(err, -EINVAL, "INIT_P2M %#llx is not a free page's address",
                          (ull)p2m);
    return 0;
}

int image_check_toolstack(const struct kernel_image *img, struct image_error *err)
{
    const struct image_notes *n = &img->notes;

    if (strncmp(n->xen_version, "xen-3.0", 7))
        return image_fail(err, -EOPNOTSUPP, "xl takes kernels made for xen-3.0, this one says %s",
                          *n->xen_version ? n->xen_version : "nothing (XEN_VERSION)");
    if (strncmp(n->loader, "generic", 7) && strncmp(n->guest_os, "linux", 5))
        return image_fail(err, -EOPNOTSUPP, "xl takes kernels for the generic loader (LOADER) and Linux");
    if (!image_has(img, XEN_ELFNOTE_VIRT_BASE) && image_has(img, XEN_ELFNOTE_PADDR_OFFSET))
        return image_fail(err, -EOPNOTSUPP, "xl takes no kernel with a physical offset but no VIRT_BASE");
    if (!image_has(img, XEN_ELFNOTE_VIRT_BASE) && img->virt_base)
        return image_fail(err, -EOPNOTSUPP, "the kernel names no VIRT_BASE, and xl takes 0");
    return 0;
}

/*
 * The ELF's own entry serves where no note names one. But kernels for PVH and HVM guests only have notes too, and their
 * own entry is for bare machines.
 */
static int check_paravirtual(const struct kernel_image *img, struct image_error *err)
{
    bool pvh = image_has(img, XEN_ELFNOTE_PHYS32_ENTRY), declared = !image_check_toolstack(img, NULL);
    bool inside = img->virt_entry >= img->virt_kstart && img->virt_entry < img->virt_kend;

    if (image_has(img, XEN_ELFNOTE_ENTRY) || img->source == IMAGE_STRING ||
        (pvh ? declared && inside : declared || image_has(img, XEN_ELFNOTE_VIRT_BASE)))
        return 0;
    return image_fail(err, -EOPNOTSUPP, "kernel has Xen notes but no paravirtual entry point%s",
                      pvh ? ": it is built for PVH and HVM guests only" : "");
}

int image_parse(const void *elf, u64 size, struct kernel_image *img, struct image_error *err)
{
    struct elf e;
    int rc;

    memset(img, 0, sizeof(*img));
    img->elf = elf;
    img->elf_size = size;
    rc = elf_open(&e, elf, size, err);
    if (rc)
        return rc;
    img->is64 = e.l->word == 8;
    if ((rc = read_segments(&e, img, err)) != 0 ||
        (rc = image_read_notes(&e, img, err)) != 0 ||
        (rc = choose_format(img, err)) != 0 ||
        (rc = resolve_addresses(&e, img, err)) != 0 ||
        (rc = place_segments(img, err)) != 0 ||
        (rc = check_paravirtual(img, err)) != 0 ||
        (rc = place_symtab(&e, img, err)) != 0)
        return rc;
    return check_addresses(img, err);
}

int image_check_features(const struct kernel_image *img, u32 offered, struct image_error *err)
{
    u32 missing = img->features_required & ~offered;
    unsigned bit;

    if (!missing)
        return 0;
    bit = find_first_set(missing);
    return image_fail(err, -EOPNOTSUPP, "kernel requires feature %s (%u), which is not offered",
                      image_feature_name(bit) ?: "?", bit);
}
