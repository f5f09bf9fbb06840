/*
 * The rule of what is a paravirtual kernel, against the one who makes domUs: every subset of the notes, and of the keys
 * of the __xen_guest string, is given to libxenguest as xl gives it a kernel, and to our reader. What the toolstack
 * takes we take, at the same addresses; what it does not take, image_check_toolstack() says.
 *
 * Where it takes more: it does not look where the kernel lies before it has a domain. So a kernel far above its base,
 * or with its hypercall page there, fails there later for want of memory, here at once.
 */
// SOURCES: common/image/elf.c common/image/notes.c common/image/parse.c
// SOURCES: common/image/symtab.c common/image/load.c
// LIBS: -lxenguest -lxenctrl -lxentoollog
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <xenctrl.h>
#include <xenguest.h>
#undef INVALID_MFN     /* xenctrl.h has one, too */
#include "image_maker.h"

#define CAPS "xen-3.0-x86_64 xen-3.0-x86_32p xen-3.0-x86_32 "

static struct made file;
static struct notes_maker notes;
static struct kernel_image img;
static struct image_error err;
static xc_interface *xch;

static int open_toolstack(void **state)
{
    xentoollog_logger *log = (xentoollog_logger *)xtl_createlogger_stdiostream(stderr, XTL_CRITICAL, 0);

    (void)state;
    xch = xc_interface_open(log, log, XC_OPENFLAG_DUMMY);
    return xch ? 0 : -1;
}

struct answer { bool taken; u64 start, end; enum pt_format_id format; };

static struct answer ask_toolstack(void)
{
    struct xc_dom_image *dom = xc_dom_allocate(xch, "", NULL);
    struct answer a = { 0 };

    assert_non_null(dom);
    dom->container_type = XC_DOM_PV_CONTAINER;
    strcpy(dom->xen_caps, CAPS);
    if (!xc_dom_kernel_mem(dom, file.data, file.size) && !xc_dom_parse_image(dom)) {
        a = (struct answer){ true, dom->kernel_seg.vstart, dom->kernel_seg.vend, PT32 };
        if (!strcmp(dom->guest_type, "xen-3.0-x86_64"))
            a.format = PT64;
        else if (!strcmp(dom->guest_type, "xen-3.0-x86_32p"))
            a.format = PT32P;
    }
    xc_dom_release(dom);
    return a;
}

/* The toolstack's kernel is out of reach of its base, or its hypercall page is. */
static bool fails_later(int rc)
{
    return rc == -E2BIG || (rc == -EINVAL && strstr(err.text, "hypercall page"));
}

static u64 nr_taken;

static void compare(const struct kernel_spec *k, const char *what, unsigned set)
{
    struct answer theirs;
    u64 end;
    int rc, check;

    make_kernel(&file, k);
    theirs = ask_toolstack();
    rc = image_parse(file.data, file.size, &img, &err);
    check = rc ? rc : image_check_toolstack(&img, &err);
    if (theirs.taken && fails_later(rc))
        return;
    if (check && img.virt_base && !image_has(&img, XEN_ELFNOTE_VIRT_BASE))
        return;                 /* far above base 0 too, and ours alone for that */
    if (theirs.taken != !check)
        fail_msg("%s set %#x at %#llx, entry %#llx: the toolstack %s it; here %d, %s", what, set, (unsigned long long)k->paddr,
                 (unsigned long long)k->entry, theirs.taken ? "takes" : "refuses", check, check ? err.text : "taken");
    nr_taken += theirs.taken;
    end = img.segments[0].vaddr + img.segments[0].memsz;    /* symbols come behind */
    if (theirs.taken && (img.virt_kstart != theirs.start || end != theirs.end || img.format != theirs.format))
        fail_msg("%s set %#x: here %#llx-%#llx, format %d, there %#llx-%#llx, format %d", what, set,
                 (unsigned long long)img.virt_kstart, (unsigned long long)end, img.format,
                 (unsigned long long)theirs.start, (unsigned long long)theirs.end, theirs.format);
}

/* Each choice twice: a kernel linked low or high, its ELF entry a physical or a virtual address. */
static void compare_layouts(struct kernel_spec k, u64 base, const char *what, unsigned set)
{
    for (unsigned i = 0; i < 4; i++) {
        k.paddr = (i & 1 ? base : 0) + 0x100000;
        k.entry = (i & 2 ? base : 0) + 0x100000;
        compare(&k, what, set);
    }
}

#define NR_NOTES 14

static void make_notes(unsigned set, u64 base, u32 width)
{
    const struct { u32 type; u64 value; const char *text; } all[NR_NOTES] = {
        { XEN_ELFNOTE_ENTRY, base + 0x100010, NULL }, { XEN_ELFNOTE_VIRT_BASE, base, NULL },
        { XEN_ELFNOTE_PADDR_OFFSET, base, NULL }, { XEN_ELFNOTE_PADDR_OFFSET, 0, NULL },
        { XEN_ELFNOTE_PHYS32_ENTRY, 0x100000, NULL }, { XEN_ELFNOTE_XEN_VERSION, 0, "xen-3.0" },
        { XEN_ELFNOTE_LOADER, 0, "generic" }, { XEN_ELFNOTE_GUEST_OS, 0, "linux" },
        { XEN_ELFNOTE_HYPERCALL_PAGE, base + 0x101000, NULL }, { XEN_ELFNOTE_PAE_MODE, 0, "yes" },
        { XEN_ELFNOTE_FEATURES, 0, "pae_pgdir_above_4gb|!writable_page_tables" }, { XEN_ELFNOTE_GUEST_OS, 0, "plan9" },
        { XEN_ELFNOTE_XEN_VERSION, 0, "xen-2.0" }, { XEN_ELFNOTE_INIT_P2M, 0x8000000000, NULL },
    };

    notes.size = 0;
    for (unsigned i = 0; i < NR_NOTES; i++) {
        if (!(set >> i & 1))
            continue;
        if (all[i].text)
            note_text(&notes, all[i].type, all[i].text);
        else
            note_number(&notes, all[i].type, all[i].value, width);
    }
}

static void every_subset_of_notes(void **state)
{
    (void)state;
    nr_taken = 0;
    for (unsigned is64 = 0; is64 < 2; is64++) {
        u64 base = is64 ? 0xffffffff80000000 : 0xc0000000;
        struct kernel_spec k = { .is64 = is64, .filesz = 0x1000, .memsz = 0x3000, .notes = &notes };

        for (unsigned set = 0; set < 1u << NR_NOTES; set++) {
            make_notes(set, base, is64 ? 8 : 4);
            k.notes_in_section = set % 3 == 0;
            compare_layouts(k, base, is64 ? "64-bit notes" : "32-bit notes", set);
        }
    }
    assert_true(nr_taken > 3000);
}

static void every_subset_of_keys(void **state)
{
    static const char *const keys[] = {
        "XEN_VER=xen-3.0,", "LOADER=generic,", "GUEST_OS=linux,", "VIRT_BASE=0xc0000000,", "VIRT_ENTRY=0xc0100010,",
        "ELF_PADDR_OFFSET=0xc0000000,", "ELF_PADDR_OFFSET=0,", "HYPERCALL_PAGE=0x101,", "PAE=yes,", "FEATURES=dom0,",
        "XEN_VER=2.0,", "BSD_SYMTAB,",
    };

    (void)state;
    nr_taken = 0;
    for (unsigned set = 0; set < 1u << ARRAY_SIZE(keys); set++) {
        char string[512] = "";
        struct kernel_spec k = { .filesz = 0x1000, .memsz = 0x3000, .guest_string = string };

        for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
            if (set >> i & 1)
                strcat(string, keys[i]);
        compare_layouts(k, 0xc0000000, "string", set);
    }
    assert_true(nr_taken > 500);
}

/* Notes of odd widths and lengths: numbers of 0 to 9 bytes, texts longer than anybody keeps. */
static void odd_notes(void **state)
{
    static const u32 numbers[] = { XEN_ELFNOTE_SUSPEND_CANCEL, XEN_ELFNOTE_MOD_START_PFN, XEN_ELFNOTE_L1_MFN_VALID,
                                   XEN_ELFNOTE_SUPPORTED_FEATURES, XEN_ELFNOTE_ENTRY };
    static const u32 texts[] = { XEN_ELFNOTE_GUEST_OS, XEN_ELFNOTE_GUEST_VERSION, XEN_ELFNOTE_BSD_SYMTAB,
                                 XEN_ELFNOTE_XEN_VERSION, XEN_ELFNOTE_LOADER };
    static const u8 zero[16];
    char text[128];

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(numbers) * 10; i++) {
        make_notes(0x262, 0xc0000000, 4);
        note_raw(&notes, "Xen", numbers[i / 10], zero, i % 10, i % 10);
        compare_layouts((struct kernel_spec){ .filesz = 0x1000, .memsz = 0x3000, .notes = &notes }, 0xc0000000, "number", i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(texts) * 120; i++) {
        snprintf(text, sizeof(text), "%s%*s", i % 2 ? "xen-3.0" : "generic", (int)(i % 120), "x");
        make_notes(0x2e2, 0xc0000000, 4);
        note_text(&notes, texts[i / 120], text);
        compare_layouts((struct kernel_spec){ .filesz = 0x1000, .memsz = 0x3000, .notes = &notes }, 0xc0000000, "text", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_subset_of_notes), cmocka_unit_test(every_subset_of_keys), cmocka_unit_test(odd_notes),
    };

    return cmocka_run_group_tests(tests, open_toolstack, NULL);
}
