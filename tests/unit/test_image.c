/* Parsing and loading of kernels: formats, notes, the old string, addresses, symbols, and files that lie. */
// SOURCES: common/image/elf.c common/image/notes.c common/image/parse.c
// SOURCES: common/image/symtab.c common/image/load.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include "image_maker.h"

static struct made file;
static struct notes_maker notes;
static struct kernel_image img;
static struct image_error err;

/* Parses the kernel in a block of exactly its size, which stays for image_load(). */
static int parse_bytes(const u8 *data, size_t size)
{
    static u8 *copy;

    free(copy);
    copy = exact_copy(data, size);
    memset(&err, 0, sizeof(err));
    return image_parse(copy, size, &img, &err);
}

static int parse(const struct kernel_spec *k)
{
    make_kernel(&file, k);
    return parse_bytes(file.data, file.size);
}

#define assert_says(words) do {                                                       \
        if (!strstr(err.text, words))                                                 \
            fail_msg("error says '%s', expected '%s'", err.text, words);              \
    } while (0)
#define assert_refused(spec, code, words) do {                                        \
        assert_int_equal(parse(spec), code);                                          \
        assert_says(words);                                                           \
    } while (0)

static struct kernel_spec linux_kernel(void)
{
    linux_notes(&notes);
    return LINUX_SPEC(&notes);
}

static struct kernel_spec old_kernel(const char *string)
{
    return (struct kernel_spec){ .paddr = 0xc0100000, .filesz = 0x1000, .memsz = 0x3000, .entry = 0xc0100000,
                                 .guest_string = string };
}

/* A 32-bit kernel with notes at virt_base 0. */
static struct kernel_spec kernel32(u64 paddr, const char *pae)
{
    notes.size = 0;
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0, 4);
    note_number(&notes, XEN_ELFNOTE_ENTRY, paddr, 4);
    if (pae)
        note_text(&notes, XEN_ELFNOTE_PAE_MODE, pae);
    return (struct kernel_spec){ .paddr = paddr, .filesz = 0x1000, .memsz = 0x1000, .notes = &notes };
}

static void reads_linux(void **state)
{
    struct kernel_spec k = linux_kernel();

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.format, PT64);
    assert_int_equal(img.source, IMAGE_NOTES);
    assert_true(img.virt_base == 0xffffffff80000000);
    assert_true(img.virt_kstart == 0xffffffff81000000);
    assert_true(img.virt_kend == 0xffffffff81003000);
    assert_true(img.virt_entry == 0xffffffff81000100);
    assert_true(img.has_hypercall_page && img.hypercall_page == 0xffffffff81001000);
    assert_true(img.has_p2m_base && img.p2m_base == 0x8000000000);
    assert_true(img.has_hv_start_low && img.hv_start_low == 0xffff800000000000);
    assert_true(img.unmapped_initrd && img.suspend_cancel && !img.has_phys32_entry);
    assert_int_equal(img.features_required, 1);
    assert_int_equal(img.features_supported, 0x8801 | 0x11);
    assert_string_equal(img.notes.guest_os, "linux");
    assert_string_equal(img.notes.loader, "generic");
    assert_int_equal(img.symtab.size, 0);
}

static void reads_notes_in_sections(void **state)
{
    struct kernel_spec k = linux_kernel();

    (void)state;
    k.notes_in_section = true;
    assert_int_equal(parse(&k), 0);
    assert_true(img.virt_entry == 0xffffffff81000100);
}

static void chooses_format_from_pae(void **state)
{
    static const struct { const char *pae; enum pt_format_id format; bool extended; } cases[] = {
        { NULL, PT32, false }, { "no", PT32, false }, { "yes", PT32P, true }, { "yes,bimodal", PT32P, true },
        { "bimodal", PT32P, true }, { "yes[extended-cr3]", PT32P, true },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kernel_spec k = kernel32(0x100000, cases[i].pae);

        assert_int_equal(parse(&k), 0);
        assert_int_equal(img.format, cases[i].format);
        assert_int_equal(img.extended_cr3, cases[i].extended);
    }
    struct kernel_spec odd = kernel32(0x100000, "perhaps");
    assert_refused(&odd, -EINVAL, "PAE=perhaps");
}

static void reads_old_string(void **state)
{
    struct kernel_spec k = old_kernel(NETBSD_STRING);

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.format, PT32);
    assert_int_equal(img.source, IMAGE_STRING);
    assert_true(img.virt_base == 0xc0000000);
    assert_true(img.virt_kstart == 0xc0100000 && img.virt_entry == 0xc0100000);
    assert_true(img.has_hypercall_page && img.hypercall_page == 0xc0101000);
    assert_string_equal(img.notes.guest_version, "4.99");

    k = old_kernel(NETBSD_STRING ",PAE=yes[extended-cr3],FEATURES=pae_pgdir_above_4gb|!writable_page_tables");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.format, PT32P);
    assert_true(img.extended_cr3);
    assert_int_equal(img.features_supported, 0x11);
    assert_int_equal(img.features_required, 1);
    k = old_kernel(NETBSD_STRING ",PAE=yes");
    assert_int_equal(parse(&k), 0);
    assert_false(img.extended_cr3);
}

/* Without ELF_PADDR_OFFSET, the string's default is VIRT_BASE; without VIRT_ENTRY, the ELF's own entry. */
static void old_string_defaults(void **state)
{
    struct kernel_spec k = old_kernel("XEN_VER=2.0,VIRT_BASE=0xC0000000,UNKNOWN=1,,PAE");

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.format, PT32);
    assert_true(img.elf_paddr_offset == 0xc0000000 && img.virt_kstart == 0xc0100000);
    assert_true(img.virt_entry == 0xc0100000);
    assert_false(img.has_hypercall_page);
    k = old_kernel("VIRT_BASE=zebra");
    assert_refused(&k, -EINVAL, "VIRT_BASE=zebra is not a number");
    k = old_kernel("VIRT_BASE=");
    assert_refused(&k, -EINVAL, "is not a number");
    k = old_kernel("VIRT_BASE=0x00000000000000000000000000001");
    assert_refused(&k, -EINVAL, "is not a number");
    k = old_kernel("GUEST_OS=a name that is much longer than any operating system's name,VIRT_BASE=0xC0000000");
    assert_int_equal(parse(&k), 0);
    assert_string_equal(img.notes.guest_os, "a name that is much longer than");
}

/* Xen 3.0's builder: no VIRT_BASE, and virtual addresses for physical ones. Later builders' base 0 counts where it can. */
static void old_string_without_a_base(void **state)
{
    struct kernel_spec k = old_kernel("XEN_VER=xen-3.0,LOADER=generic,HYPERCALL_PAGE=1");

    (void)state;
    k.paddr = 0xc0010800;
    k.entry = 0xc0010810;
    assert_int_equal(parse(&k), 0);
    assert_true(img.virt_base == 0xc0010000 && img.virt_kstart == 0xc0010800 && img.virt_entry == 0xc0010810);
    assert_true(img.has_hypercall_page && img.hypercall_page == 0xc0011000);
    assert_int_equal(image_check_toolstack(&img, &err), -EOPNOTSUPP);
    assert_says("names no VIRT_BASE");
    k = old_kernel("XEN_VER=xen-3.0,LOADER=generic,ELF_PADDR_OFFSET=0xc0000000");
    assert_refused(&k, -EINVAL, "but no VIRT_BASE");
    k = old_kernel("XEN_VER=xen-3.0,LOADER=generic");
    k.paddr = k.entry = 0x100000;
    assert_int_equal(parse(&k), 0);
    assert_true(img.virt_base == 0 && img.virt_kstart == 0x100000);
    assert_int_equal(image_check_toolstack(&img, NULL), 0);
    k.is64 = true;
    k.paddr = k.entry = 0xffffffff80100000;
    assert_int_equal(parse(&k), 0);
    assert_true(img.virt_base == 0xffffffff80100000);
    k.memsz = ~0ULL;
    assert_refused(&k, -EINVAL, "outside a 64-bit");
}

/* More than 255 characters: cut, it could lack a feature that is required. */
#define LONG_FEATURES \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" \
    "01234567890123456789012345678901234567890123456789|!dom0"

static void string_counts_if_notes_cannot_be_parsed(void **state)
{
    struct kernel_spec k = old_kernel(NETBSD_STRING);
    u32 bad[3] = { 0x7fffffff, 4, XEN_ELFNOTE_ENTRY };

    (void)state;
    notes.size = 0;
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0x12345000, 4);
    memcpy(notes.data + notes.size, bad, sizeof(bad));
    notes.size += 32;
    k.notes = &notes;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.source, IMAGE_STRING);
    assert_true(img.virt_base == 0xc0000000);

    k.guest_string = NULL;
    assert_refused(&k, -EINVAL, "ELF notes are malformed");
    notes.size = 0;
    note_text(&notes, XEN_ELFNOTE_FEATURES, LONG_FEATURES);
    assert_refused(&k, -EINVAL, "ELF note 10 is malformed");

    /* GNU Mach's: notes of another name. */
    notes.size = 0;
    note_raw(&notes, "name", XEN_ELFNOTE_VIRT_BASE, "\0\0\0\1", 4, 4);
    k.guest_string = NETBSD_STRING;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.source, IMAGE_STRING);
}

/* GRUB's last note claims 12 bytes where 4 are left. */
static void last_note_may_overrun(void **state)
{
    struct kernel_spec k = kernel32(0x100000, NULL);

    (void)state;
    note_raw(&notes, "Xen", XEN_ELFNOTE_PAE_MODE, "yes", 12, 4);
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.format, PT32P);
}

static void reads_l1_mfn_valid(void **state)
{
    struct kernel_spec k = kernel32(0x100000, "yes");
    u64 wide[2] = { 1, 0x8000000000000001 };
    u32 narrow[2] = { 3, 1 };

    (void)state;
    note_raw(&notes, "Xen", XEN_ELFNOTE_L1_MFN_VALID, wide, 16, 16);
    assert_int_equal(parse(&k), 0);
    assert_true(img.has_l1_mfn_valid && img.notes.l1_mfn_mask == 1 && img.notes.l1_mfn_value == wide[1]);
    k = kernel32(0x100000, "no");
    note_raw(&notes, "Xen", XEN_ELFNOTE_L1_MFN_VALID, narrow, 8, 8);
    assert_int_equal(parse(&k), 0);
    assert_true(img.notes.l1_mfn_mask == 3 && img.notes.l1_mfn_value == 1);
}

static void refuses_what_is_not_paravirtual(void **state)
{
    struct kernel_spec k = { .is64 = true, .paddr = 0x1000000, .filesz = 0x1000, .memsz = 0x1000 };

    (void)state;
    assert_refused(&k, -EOPNOTSUPP, "neither Xen ELF notes nor a __xen_guest");
    notes.size = 0;
    note_text(&notes, XEN_ELFNOTE_GUEST_OS, "linux");
    note_number(&notes, XEN_ELFNOTE_PHYS32_ENTRY, 0x1000000, 4);
    k.notes = &notes;
    assert_refused(&k, -EOPNOTSUPP, "PVH and HVM guests only");
    assert_string_equal(img.notes.guest_os, "linux");
    note_text(&notes, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    assert_refused(&k, -EOPNOTSUPP, "PVH and HVM guests only");     /* its ELF entry, 0, is not in it */
    k.entry = k.paddr;
    assert_int_equal(parse(&k), 0);
    assert_true(img.has_phys32_entry && img.virt_entry == k.paddr);
}

/* Nothing but what makes it a Xen kernel, and a hypercall page: base 0, and the ELF's own entry. */
static void notes_without_addresses(void **state)
{
    struct kernel_spec k = { .is64 = true, .paddr = 0x100000, .filesz = 0x1000, .memsz = 0x3000, .entry = 0x100010,
                             .notes = &notes };

    (void)state;
    notes.size = 0;
    note_text(&notes, XEN_ELFNOTE_LOADER, "generic");
    assert_refused(&k, -EOPNOTSUPP, "no paravirtual entry point");
    note_text(&notes, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    note_number(&notes, XEN_ELFNOTE_HYPERCALL_PAGE, 0x1000, 8);     /* below the kernel's first byte */
    note_text(&notes, XEN_ELFNOTE_FEATURES, "writable_page_tables");
    for (unsigned is64 = 0; is64 < 2; is64++) {
        k.is64 = is64;
        assert_int_equal(parse(&k), 0);
        assert_int_equal(img.format, is64 ? PT64 : PT32);
        assert_true(img.virt_base == 0 && img.virt_kstart == 0x100000 && img.virt_entry == 0x100010);
        assert_true(img.has_hypercall_page && img.hypercall_page == 0x1000);
        assert_int_equal(image_check_toolstack(&img, NULL), 0);
    }
}

/* What we take and xl does not. */
static void toolstack_takes_less(void **state)
{
    struct kernel_spec k = kernel32(0x100000, "yes");

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(image_check_toolstack(&img, &err), -EOPNOTSUPP);
    assert_says("this one says nothing (XEN_VERSION)");
    note_text(&notes, XEN_ELFNOTE_XEN_VERSION, "xen-2.0");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(image_check_toolstack(&img, &err), -EOPNOTSUPP);
    assert_says("this one says xen-2.0");
    note_text(&notes, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(image_check_toolstack(&img, &err), -EOPNOTSUPP);
    assert_says("generic loader");
    note_text(&notes, XEN_ELFNOTE_GUEST_OS, "linux");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(image_check_toolstack(&img, &err), 0);
}

static void checks_features(void **state)
{
    struct kernel_spec k = linux_kernel();

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(image_check_features(&img, 1, &err), 0);
    assert_int_equal(image_check_features(&img, 0, &err), -EOPNOTSUPP);
    assert_says("writable_page_tables (0)");
    assert_int_equal(image_check_features(&img, 0, NULL), -EOPNOTSUPP);
    note_text(&notes, XEN_ELFNOTE_FEATURES, "time_travel|!flux_capacitor|dom0");
    assert_refused(&k, -EOPNOTSUPP, "requires feature flux_capacitor");
    note_text(&notes, XEN_ELFNOTE_FEATURES, "time_travel||dom0");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.features_supported, 0x8801);
    assert_null(image_feature_name(31));
    assert_null(image_feature_name(1000));
}

static void keeps_out_of_the_hole(void **state)
{
    static const struct { const char *pae; u64 end; } cases[] = {
        { "yes", 0xf5800000 }, { NULL, 0xfc000000 },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kernel_spec k = kernel32(cases[i].end - 0x1000, cases[i].pae);

        /* The last page below the hole fits, were it not so far from virt_base. */
        assert_refused(&k, -E2BIG, "more than 1024 MiB");
        note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0xf0000000, 4);
        note_number(&notes, XEN_ELFNOTE_PADDR_OFFSET, 0xf0000000, 4);
        assert_int_equal(parse(&k), 0);
        k.memsz++;
        assert_refused(&k, -EINVAL, "outside a 32-bit");
    }
    struct kernel_spec k = linux_kernel();
    k.paddr = 0;
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0xffff800000000000, 8);
    assert_refused(&k, -EINVAL, "outside a 64-bit");
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0xffff87fffffff000, 8);
    assert_refused(&k, -EINVAL, "outside a 64-bit");
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0x00007ffffffff000, 8);
    assert_refused(&k, -EINVAL, "outside a 64-bit");
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0xffffffffffffe000, 8);
    assert_refused(&k, -EINVAL, "outside a 64-bit");
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0xffff880000000000, 8);
    note_number(&notes, XEN_ELFNOTE_ENTRY, 0xffff880000000000, 8);
    note_number(&notes, XEN_ELFNOTE_HYPERCALL_PAGE, 0xffff880000000000, 8);
    assert_int_equal(parse(&k), 0);
}

static void checks_addresses(void **state)
{
    static const struct { u32 note; u64 value; const char *words; } cases[] = {
        { XEN_ELFNOTE_ENTRY, 0xffffffff80ffffff, "entry point" },
        { XEN_ELFNOTE_ENTRY, 0xffffffff81003000, "entry point" },
        { XEN_ELFNOTE_HYPERCALL_PAGE, 0xffffffff81001004, "hypercall page" },
        { XEN_ELFNOTE_HYPERCALL_PAGE, 0xffffffff81003000, "hypercall page" },
        { XEN_ELFNOTE_HYPERCALL_PAGE, 0, "hypercall page" },
        { XEN_ELFNOTE_HYPERCALL_PAGE, 0xffffffff7ffff000, "hypercall page" },
        { XEN_ELFNOTE_HV_START_LOW, 0xffff800000001000, "lets the hypervisor start" },
        { XEN_ELFNOTE_INIT_P2M, 0xffffffff81001000, "INIT_P2M" },
        { XEN_ELFNOTE_INIT_P2M, 0xffff800000000000, "INIT_P2M" },
        { XEN_ELFNOTE_INIT_P2M, 0x8000000001, "INIT_P2M" },
        { XEN_ELFNOTE_VIRT_BASE, 0xffffffff80000800, "not a page's address" },
        { XEN_ELFNOTE_PADDR_OFFSET, 0x2000000, "below VIRT_BASE" },
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct kernel_spec k = linux_kernel();

        note_number(&notes, cases[i].note, cases[i].value, 8);
        assert_refused(&k, -EINVAL, cases[i].words);
    }
}

static void checks_segments(void **state)
{
    struct kernel_spec k = linux_kernel();
    Elf64_Ehdr *h = (Elf64_Ehdr *)file.data;

    (void)state;
    k.memsz = k.filesz - 1;
    assert_refused(&k, -EINVAL, "4096 bytes in the file but 4095 in memory");
    k.memsz = ~0ULL;
    assert_refused(&k, -EINVAL, "outside a 64-bit");
    k.memsz = 0;
    assert_refused(&k, -EINVAL, "no segments to load");
    k.memsz = 0x40000001;
    note_number(&notes, XEN_ELFNOTE_VIRT_BASE, 0, 8);
    note_number(&notes, XEN_ELFNOTE_ENTRY, 0x1000000, 8);
    note_number(&notes, XEN_ELFNOTE_HYPERCALL_PAGE, 0x1000000, 8);
    assert_refused(&k, -E2BIG, "more than 1024 MiB");

    k = linux_kernel();
    k.filesz = file.size;
    k.memsz = 0x100000;
    assert_refused(&k, -EINVAL, "kernel is truncated: segment 0 at byte 4096");
    k = linux_kernel();
    make_kernel(&file, &k);
    for (unsigned i = 1; i <= IMAGE_MAX_SEGMENTS; i++)
        memcpy(file.data + sizeof(*h) + i * sizeof(Elf64_Phdr), file.data + sizeof(*h), sizeof(Elf64_Phdr));
    h->e_phnum = IMAGE_MAX_SEGMENTS + 1;
    assert_int_equal(parse_bytes(file.data, file.size), -E2BIG);
    assert_says("more than 32 segments");
}

/* Offsets so large that offset + size wraps around to a small number. */
static void ranges_that_wrap(void **state)
{
    Elf64_Ehdr *h = (Elf64_Ehdr *)file.data;
    Elf64_Phdr *p = (Elf64_Phdr *)(h + 1);
    struct kernel_spec k = linux_kernel();

    (void)state;
    make_kernel(&file, &k);
    p[0].p_offset = -0x800ULL;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("segment 0");
    make_kernel(&file, &k);
    p[1].p_offset = -(u64)notes.size / 2;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("segment 1");
    make_kernel(&file, &k);
    h->e_shoff = -64ULL;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("section headers");
    make_kernel(&file, &k);
    h->e_phoff = -56ULL;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("program headers");
}

static void refuses_foreign_files(void **state)
{
    static const struct { u8 at, value; const char *words; } cases[] = {
        { 0, 'X', "not an ELF file" }, { EI_CLASS, 1, "another machine" }, { EI_CLASS, 0, "another machine" },
        { EI_DATA, 2, "not little-endian" }, { 16, ET_REL, "not an executable" },
        { 18, EM_ARM, "another machine" },
    };
    struct kernel_spec k = linux_kernel();

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        make_kernel(&file, &k);
        file.data[cases[i].at] = cases[i].value;
        assert_int_equal(parse_bytes(file.data, file.size), -ENOEXEC);
        assert_says(cases[i].words);
    }
}

/* Memory for loading, filled with a pattern, and what was put where. */
static u8 memory[0x8000];

struct image_flat { void *dst; u64 vaddr, size; };

static int image_put_flat(void *ctx, u64 vaddr, const void *src, u64 len)
{
    const struct image_flat *flat = ctx;
    u64 offset = vaddr - flat->vaddr;

    if (offset > flat->size || len > flat->size - offset)
        return -EFAULT;
    if (src)
        memcpy((u8 *)flat->dst + offset, src, (size_t)len);
    else
        memset((u8 *)flat->dst + offset, 0, (size_t)len);
    return 0;
}

static int load(void)
{
    struct image_flat flat = { memory, img.virt_kstart, img.virt_kend - img.virt_kstart };

    memset(memory, 0xee, sizeof(memory));
    assert_true(flat.size <= sizeof(memory));
    return image_load(&img, image_put_flat, &flat);
}

static void loads_segments(void **state)
{
    struct kernel_spec k = linux_kernel();
    struct image_flat small = { memory, 0xffffffff81000000, 0x2fff };

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(load(), 0);
    assert_int_equal(memory[0], 0xcc);
    assert_int_equal(memory[0xfff], 0xcc);
    assert_int_equal(memory[0x1000], 0);
    assert_int_equal(memory[0x2fff], 0);
    assert_int_equal(memory[0x3000], 0xee);
    assert_int_equal(image_load(&img, image_put_flat, &small), -EFAULT);
}

static void loads_symbols_32(void **state)
{
    struct kernel_spec k = old_kernel(NETBSD_STRING ",BSD_SYMTAB=yes");
    u8 *base = memory + 0x3002 + 2;   /* memsz is 0x3002 */
    Elf32_Ehdr *h = (Elf32_Ehdr *)(base + 4);
    Elf32_Shdr *s = (Elf32_Shdr *)(h + 1);

    (void)state;
    k.symbols = true;
    k.memsz = 0x3002;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(load(), 0);
    assert_true(img.symtab.vaddr == 0xc0103004);
    assert_true(img.virt_kend == img.symtab.vaddr + img.symtab.size);
    assert_int_equal(*(u32 *)base, img.symtab.size - 4);
    assert_memory_equal(h->e_ident, ELFMAG, 4);
    assert_int_equal(h->e_shoff, sizeof(*h));
    assert_int_equal(h->e_shnum, 3);
    assert_int_equal(h->e_phnum, 0);
    assert_int_equal(s[1].sh_type, SHT_SYMTAB);
    assert_int_equal(s[1].sh_link, 2);
    assert_int_equal(s[1].sh_info, 7);
    assert_int_equal(s[1].sh_entsize, 16);
    assert_int_equal(s[1].sh_size, 48);
    assert_int_equal(((u8 *)h)[s[1].sh_offset], 0x5a);
    assert_int_equal(s[2].sh_type, SHT_STRTAB);
    assert_string_equal((char *)h + s[2].sh_offset + 1, "start");
    assert_true((4 + s[1].sh_offset) % 4 == 0);
}

static void loads_symbols_64(void **state)
{
    struct kernel_spec k = linux_kernel();
    u8 *base = memory + 0x3000;
    Elf64_Ehdr h;
    Elf64_Shdr s[3];

    (void)state;
    note_text(&notes, XEN_ELFNOTE_BSD_SYMTAB, "yes");
    k.symbols = true;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(load(), 0);
    memcpy(&h, base + 4, sizeof(h));
    memcpy(s, base + 4 + h.e_shoff, sizeof(s));
    assert_int_equal(h.e_shnum, 3);
    assert_int_equal(s[1].sh_type, SHT_SYMTAB);
    assert_int_equal((4 + s[1].sh_offset) % 8, 0);
    assert_int_equal(base[4 + s[1].sh_offset + 47], 0x5a);
    assert_string_equal((char *)base + 4 + s[2].sh_offset + 7, "end");

    linux_notes(&notes);
    note_text(&notes, XEN_ELFNOTE_BSD_SYMTAB, "no");
    assert_int_equal(parse(&k), 0);
    assert_int_equal(img.symtab.size, 0);
}

static void symbols_that_are_missing_or_wrong(void **state)
{
    struct kernel_spec k = old_kernel(NETBSD_STRING ",BSD_SYMTAB");
    Elf32_Shdr *s;

    (void)state;
    assert_int_equal(parse(&k), 0);
    assert_int_equal(load(), 0);
    assert_int_equal(img.symtab.size, 4);
    assert_int_equal(*(u32 *)(memory + 0x3000), 0);

    k.symbols = true;
    make_kernel(&file, &k);
    s = (Elf32_Shdr *)(file.data + file.shoff);
    s[3].sh_link = 6;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("strings are section 6 of 6");
    s[3].sh_link = 2;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("section 2 holds no strings");
    s[3].sh_size = 0xfffffff0;
    assert_int_equal(parse_bytes(file.data, file.size), -EINVAL);
    assert_says("section 3 (.symtab)");
}

/* ---- Hostile files: never a byte out of bounds, never a put outside the kernel's own range ---- */

static int check_put(void *ctx, u64 vaddr, const void *src, u64 len)
{
    volatile u8 sink = 0;

    (void)ctx;
    assert_true(len > 0);
    assert_true(vaddr >= img.virt_kstart && vaddr <= img.virt_kend && len <= img.virt_kend - vaddr);
    for (u64 i = 0; src && i < len; i++)
        sink ^= ((const u8 *)src)[i];
    return 0;
}

/* Either a refusal with words, or a kernel that loads within its bounds. */
static void try_hostile(const u8 *data, size_t size)
{
    if (parse_bytes(data, size)) {
        assert_true(err.text[0] && memchr(err.text, 0, sizeof(err.text)));
        return;
    }
    assert_true(img.virt_kend - img.virt_base <= IMAGE_MAX_SPAN);
    assert_true(img.virt_entry >= img.virt_kstart && img.virt_entry < img.virt_kend);
    assert_int_equal(image_load(&img, check_put, NULL), 0);
}

static void specs_for_hostility(struct kernel_spec specs[3])
{
    specs[0] = linux_kernel();
    note_text(&notes, XEN_ELFNOTE_BSD_SYMTAB, "yes");
    specs[0].symbols = true;
    specs[1] = old_kernel(NETBSD_STRING ",BSD_SYMTAB=yes,PAE=yes,FEATURES=dom0");
    specs[1].symbols = true;
    specs[2] = specs[0];
    specs[2].notes_in_section = true;
    specs[2].guest_string = NETBSD_STRING;
}

/* The section headers come last, so a file cut anywhere is truncated. */
static void truncated_anywhere(void **state)
{
    struct kernel_spec specs[3];

    (void)state;
    specs_for_hostility(specs);
    for (unsigned i = 0; i < 3; i++) {
        make_kernel(&file, &specs[i]);
        for (size_t size = 0; size < file.size; size++) {
            assert_true(parse_bytes(file.data, size) < 0);
            assert_true(err.text[0] != 0);
        }
        assert_says("kernel is truncated");
    }
}

static void corrupted_anywhere(void **state)
{
    static const u8 values[] = { 0, 1, 4, 0x3f, 0x7f, 0x80, 0xf0, 0xff };
    struct kernel_spec specs[3];

    (void)state;
    specs_for_hostility(specs);
    for (unsigned i = 0; i < 3; i++) {
        make_kernel(&file, &specs[i]);
        for (size_t at = 0; at < file.size; at++) {
            u8 old = file.data[at];

            if (at == 0x100)
                at = TEXT_AT + TEXT_AT;   /* nothing is read from the text */
            old = file.data[at];
            for (unsigned v = 0; v < ARRAY_SIZE(values); v++) {
                file.data[at] = values[v];
                try_hostile(file.data, file.size);
            }
            file.data[at] = old;
        }
    }
}

static u32 seed = 20061;
static u32 rnd(void) { return (seed = seed * 1664525 + 1013904223) >> 8; }

static void fuzzed(void **state)
{
    static struct made mutant;
    struct kernel_spec specs[3];

    (void)state;
    specs_for_hostility(specs);
    for (unsigned round = 0; round < 20000; round++) {
        size_t size;

        if (round % 1000 == 0)
            make_kernel(&file, &specs[round / 1000 % 3]);
        memcpy(mutant.data, file.data, file.size);
        for (unsigned n = 1 + rnd() % 6; n; n--) {
            size_t at = rnd() % 2 ? rnd() % 0x100 : 2 * TEXT_AT + rnd() % (file.size - 2 * TEXT_AT);

            mutant.data[at] = rnd() % 3 ? (u8)rnd() : (u8)(mutant.data[at] ^ 1U << rnd() % 8);
        }
        size = rnd() % 8 ? file.size : rnd() % file.size;
        try_hostile(mutant.data, size);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_linux),
        cmocka_unit_test(reads_notes_in_sections),
        cmocka_unit_test(chooses_format_from_pae),
        cmocka_unit_test(reads_old_string),
        cmocka_unit_test(old_string_defaults),
        cmocka_unit_test(old_string_without_a_base),
        cmocka_unit_test(string_counts_if_notes_cannot_be_parsed),
        cmocka_unit_test(last_note_may_overrun),
        cmocka_unit_test(reads_l1_mfn_valid),
        cmocka_unit_test(refuses_what_is_not_paravirtual),
        cmocka_unit_test(notes_without_addresses),
        cmocka_unit_test(toolstack_takes_less),
        cmocka_unit_test(checks_features),
        cmocka_unit_test(keeps_out_of_the_hole),
        cmocka_unit_test(checks_addresses),
        cmocka_unit_test(checks_segments),
        cmocka_unit_test(ranges_that_wrap),
        cmocka_unit_test(refuses_foreign_files),
        cmocka_unit_test(loads_segments),
        cmocka_unit_test(loads_symbols_32),
        cmocka_unit_test(loads_symbols_64),
        cmocka_unit_test(symbols_that_are_missing_or_wrong),
        cmocka_unit_test(truncated_anywhere),
        cmocka_unit_test(corrupted_anywhere),
        cmocka_unit_test(fuzzed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
