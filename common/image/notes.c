/*
 * What a kernel says about itself: ELF notes named "Xen" in PT_NOTE segments or, failing that, in note
 * sections; else the string in a section __xen_guest, which kernels of the Xen 3 era carry:
 * KEY=value,KEY=value. The string counts too where the notes cannot be parsed. One table says what each
 * note holds, another which note a key of the string stands for. Note numbers and formats are those of
 * Xen's public elfnote.h.
 */
#include <public/features.h>
#include "internal.h"

enum note_kind { NOTE_IGNORED, NOTE_NUMBER, NOTE_TEXT, NOTE_MFN_VALID };

struct note_rule { u8 kind; u16 at, size; };

#define TEXT(field) \
    { NOTE_TEXT, offsetof(struct image_notes, field), sizeof(((struct image_notes *)0)->field) }
#define NUMBER { NOTE_NUMBER, 0, 0 }

static const struct note_rule rules[ELFNOTE_MAX + 1] = {
    [XEN_ELFNOTE_ENTRY]              = NUMBER,
    [XEN_ELFNOTE_HYPERCALL_PAGE]     = NUMBER,
    [XEN_ELFNOTE_VIRT_BASE]          = NUMBER,
    [XEN_ELFNOTE_PADDR_OFFSET]       = NUMBER,
    [XEN_ELFNOTE_XEN_VERSION]        = TEXT(xen_version),
    [XEN_ELFNOTE_GUEST_OS]           = TEXT(guest_os),
    [XEN_ELFNOTE_GUEST_VERSION]      = TEXT(guest_version),
    [XEN_ELFNOTE_LOADER]             = TEXT(loader),
    [XEN_ELFNOTE_PAE_MODE]           = TEXT(pae_mode),
    [XEN_ELFNOTE_FEATURES]           = TEXT(features),
    [XEN_ELFNOTE_BSD_SYMTAB]         = TEXT(bsd_symtab),
    [XEN_ELFNOTE_HV_START_LOW]       = NUMBER,
    [XEN_ELFNOTE_L1_MFN_VALID]       = { NOTE_MFN_VALID, 0, 0 },
    [XEN_ELFNOTE_SUSPEND_CANCEL]     = NUMBER,
    [XEN_ELFNOTE_INIT_P2M]           = NUMBER,
    [XEN_ELFNOTE_MOD_START_PFN]      = NUMBER,
    [XEN_ELFNOTE_SUPPORTED_FEATURES] = NUMBER,
    [XEN_ELFNOTE_PHYS32_ENTRY]       = NUMBER,
};

static const struct { const char *key; u8 note; } keys[] = {
    { "GUEST_OS", XEN_ELFNOTE_GUEST_OS },
    { "GUEST_VER", XEN_ELFNOTE_GUEST_VERSION },
    { "GUEST_VERSION", XEN_ELFNOTE_GUEST_VERSION },
    { "XEN_VER", XEN_ELFNOTE_XEN_VERSION },
    { "VIRT_BASE", XEN_ELFNOTE_VIRT_BASE },
    { "VIRT_ENTRY", XEN_ELFNOTE_ENTRY },
    { "ELF_PADDR_OFFSET", XEN_ELFNOTE_PADDR_OFFSET },
    { "HYPERCALL_PAGE", XEN_ELFNOTE_HYPERCALL_PAGE },
    { "LOADER", XEN_ELFNOTE_LOADER },
    { "PAE", XEN_ELFNOTE_PAE_MODE },
    { "FEATURES", XEN_ELFNOTE_FEATURES },
    { "BSD_SYMTAB", XEN_ELFNOTE_BSD_SYMTAB },
};

static const char *const feature_names[] = {
    [XENFEAT_writable_page_tables]       = "writable_page_tables",
    [XENFEAT_writable_descriptor_tables] = "writable_descriptor_tables",
    [XENFEAT_auto_translated_physmap]    = "auto_translated_physmap",
    [XENFEAT_supervisor_mode_kernel]     = "supervisor_mode_kernel",
    [XENFEAT_pae_pgdir_above_4gb]        = "pae_pgdir_above_4gb",
    [XENFEAT_mmu_pt_update_preserve_ad]  = "mmu_pt_update_preserve_ad",
    [XENFEAT_highmem_assist]             = "highmem_assist",
    [XENFEAT_gnttab_map_avail_bits]      = "gnttab_map_avail_bits",
    [XENFEAT_hvm_callback_vector]        = "hvm_callback_vector",
    [XENFEAT_hvm_safe_pvclock]           = "hvm_safe_pvclock",
    [XENFEAT_hvm_pirqs]                  = "hvm_pirqs",
    [XENFEAT_dom0]                       = "dom0",
    [XENFEAT_memory_op_vnode_supported]  = "memory_op_vnode_supported",
    [XENFEAT_linux_rsdp_unrestricted]    = "linux_rsdp_unrestricted",
};

const char *image_feature_name(unsigned bit)
{
    return bit < ARRAY_SIZE(feature_names) ? feature_names[bit] : NULL;
}

/*
 * len bytes of text, up to a zero byte, into field `note`. What is too long is cut, as the toolstack does: names are
 * for people, and of the others the beginning counts. False for a list of features that does not fit.
 */
static bool set_text(struct image_notes *n, unsigned note, const char *text, u64 len)
{
    char *dst = (char *)n + rules[note].at;
    size_t used = strnlen(text, (size_t)len), room = rules[note].size - 1u;

    memcpy(dst, text, min(used, room));
    dst[min(used, room)] = 0;
    n->present |= 1U << note;
    return used <= room || note != XEN_ELFNOTE_FEATURES;
}

/* Toolstacks pass this note over, so one that cannot be read counts as none. */
static bool set_mfn_valid(struct image_notes *n, const u8 *desc, u64 len)
{
    unsigned width = len == 8 ? 4 : 8;

    if (len < 2 * width)
        return true;
    n->l1_mfn_mask = get_le(desc, width);
    n->l1_mfn_value = get_le(desc + width, width);
    n->present |= 1U << XEN_ELFNOTE_L1_MFN_VALID;
    return true;
}

/* A number of another width than 1, 2, 4 or 8 bytes is 0, as in libxenguest. */
static bool set_number(struct image_notes *n, u32 note, const u8 *desc, u64 len)
{
    n->number[note] = len == 1 || len == 2 || len == 4 || len == 8 ? get_le(desc, (unsigned)len) : 0;
    n->present |= 1U << note;
    return true;
}

static bool set_note(struct image_notes *n, u32 note, const u8 *desc, u64 len)
{
    switch (note <= ELFNOTE_MAX ? rules[note].kind : NOTE_IGNORED) {
    case NOTE_TEXT:
        return set_text(n, note, (const char *)desc, len);
    case NOTE_MFN_VALID:
        return set_mfn_valid(n, desc, len);
    case NOTE_NUMBER:
        return set_number(n, note, desc, len);
    }
    return true;
}

/*
 * Notes of other names are passed over. The last note's contents may claim more than the segment holds
 * (GRUB's do); what is there then counts.
 */
static int walk_notes(struct image_notes *n, const u8 *p, u64 len, struct image_error *err)
{
    u64 at = 0;

    while (len - at >= 12) {
        u64 name_size = get_le(p + at, 4), desc_size = get_le(p + at + 4, 4);
        u64 name = at + 12, desc = name + align_up(name_size, 4);
        u32 type = (u32)get_le(p + at + 8, 4);

        if (desc > len)
            return image_fail(err, -EINVAL, "ELF notes are malformed: the name at byte %llu of %llu "
                              "takes %llu", (ull)name, (ull)len, (ull)name_size);
        if (name_size == 4 && !memcmp(p + name, "Xen", 4) &&
            !set_note(n, type, p + desc, min(desc_size, len - desc)))
            return image_fail(err, -EINVAL, "ELF note %u is malformed (%llu bytes)", type,
                              (ull)desc_size);
        at = desc + align_up(desc_size, 4);
        if (at > len)
            break;
    }
    return 0;
}

static int notes_in_segments(const struct elf *e, struct image_notes *n, struct image_error *err)
{
    struct elf_segment s;

    for (unsigned i = 0; i < e->phnum; i++) {
        int rc = elf_segment(e, i, &s, err);

        if (!rc && s.type == PT_NOTE)
            rc = walk_notes(n, e->data + s.offset, s.filesz, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int notes_in_sections(const struct elf *e, struct image_notes *n, struct image_error *err)
{
    struct elf_section s;

    for (unsigned i = 1; i < e->shnum; i++) {
        int rc;

        if (elf_section_type(e, i) != SHT_NOTE)
            continue;
        rc = elf_section(e, i, &s, err);
        if (!rc)
            rc = walk_notes(n, e->data + s.offset, s.size, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* One KEY=value, or a bare KEY, of the string. Keys we do not know are passed over. */
static int read_pair(struct image_notes *n, const char *pair, u64 len, struct image_error *err)
{
    const char *value = memchr(pair, '=', (size_t)len), *end;
    u64 key_len = value ? (u64)(value - pair) : len;
    u64 value_len = value ? len - key_len - 1 : 0;
    char number[24];
    unsigned i, note;

    for (i = 0; i < ARRAY_SIZE(keys); i++)
        if (strlen(keys[i].key) == key_len && !memcmp(keys[i].key, pair, (size_t)key_len))
            break;
    if (i == ARRAY_SIZE(keys))
        return 0;
    note = keys[i].note;
    if (rules[note].kind == NOTE_TEXT) {
        if (set_text(n, note, value ? value + 1 : "", value_len))
            return 0;
        return image_fail(err, -EINVAL, "__xen_guest: %s is too long (%llu bytes)", keys[i].key,
                          (ull)value_len);
    }
    if (value_len && value_len < sizeof(number)) {
        memcpy(number, value + 1, (size_t)value_len);
        number[value_len] = 0;
        n->number[note] = strtoull(number, &end, 0);
        n->present |= 1U << note;
        if (!*end)
            return 0;
    }
    return image_fail(err, -EINVAL, "__xen_guest: %.*s is not a number", (int)min(len, (u64)64), pair);
}

/* The string ends at a zero byte or with its section. */
static int read_string(struct image_notes *n, const char *s, u64 size, struct image_error *err)
{
    u64 len = strnlen(s, (size_t)size);

    for (u64 at = 0, end; at < len; at = end + 1) {
        const char *comma = memchr(s + at, ',', (size_t)(len - at));
        int rc;

        end = comma ? (u64)(comma - s) : len;
        rc = read_pair(n, s + at, end - at, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int feature_bit(const char *name, u64 len)
{
    for (unsigned i = 0; i < ARRAY_SIZE(feature_names); i++) {
        const char *known = feature_names[i];

        if (known && strlen(known) == len && !memcmp(known, name, (size_t)len))
            return (int)i;
    }
    return -ENOENT;
}

/* "a|!b": a is supported, b required. What is unknown matters only if required. */
static int read_features(struct kernel_image *img, struct image_error *err)
{
    const char *s = img->notes.features;

    while (*s) {
        const char *bar = strchr(s, '|');
        u64 len = bar ? (u64)(bar - s) : strlen(s);
        bool required = *s == '!';
        int bit = feature_bit(s + required, len - required);

        if (bit >= 0) {
            img->features_supported |= 1U << bit;
            img->features_required |= (u32)required << bit;
        } else if (required) {
            return image_fail(err, -EOPNOTSUPP, "kernel requires feature %.*s, which is unknown",
                              (int)min(len - 1, (u64)64), s + 1);
        }
        s += len + (bar != NULL);
    }
    img->features_supported |= (u32)img->notes.number[XEN_ELFNOTE_SUPPORTED_FEATURES];
    return 0;
}

static int no_information(bool malformed, struct image_error *err)
{
    if (malformed)
        return -EINVAL;   /* err already says what is wrong with the notes */
    return image_fail(err, -EOPNOTSUPP, "kernel has neither Xen ELF notes nor a __xen_guest section: "
                      "it is not built as a paravirtualized guest");
}

int image_read_notes(const struct elf *e, struct kernel_image *img, struct image_error *err)
{
    struct image_notes *n = &img->notes;
    struct elf_section s;
    int rc, found;

    rc = notes_in_segments(e, n, err);
    if (!rc && !n->present)
        rc = notes_in_sections(e, n, err);
    if (!rc && n->present) {
        img->source = IMAGE_NOTES;
        return read_features(img, err);
    }
    found = elf_find_section(e, "__xen_guest", &s, rc ? NULL : err);
    if (found < 0)
        return found;
    if (!found)
        return no_information(rc != 0, err);
    memset(n, 0, sizeof(*n));
    img->source = IMAGE_STRING;
    rc = read_string(n, (const char *)e->data + s.offset, s.size, err);
    return rc ? rc : read_features(img, err);
}
