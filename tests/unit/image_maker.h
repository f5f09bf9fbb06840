/*
 * Makes small kernels for the tests of common/image: an ELF of either word size with one loaded segment,
 * notes in a segment or a section, a __xen_guest string, symbols. Everything is written with <elf.h>'s
 * structures, so that the reader's own tables are not used to check themselves.
 */
#ifndef TESTS_IMAGE_MAKER_H
#define TESTS_IMAGE_MAKER_H

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include <pvisor/image.h>

#define MAKER_MAX 65536
#define TEXT_AT   0x1000

struct notes_maker { u8 data[2048]; size_t size; };

struct kernel_spec {
    bool is64;
    u64 paddr, filesz, memsz, entry;      /* of the one segment; filesz <= 0x1000 */
    const struct notes_maker *notes;
    bool notes_in_section;                /* else in a PT_NOTE segment */
    const char *guest_string;             /* contents of __xen_guest */
    bool symbols;
};

struct made { u8 data[MAKER_MAX]; size_t size; unsigned phnum; size_t shoff; };

static inline void note_raw(struct notes_maker *n, const char *name, u32 type, const void *desc, u32 claimed,
                            u32 real)
{
    u32 head[3] = { (u32)strlen(name) + 1, claimed, type };

    memcpy(n->data + n->size, head, sizeof(head));
    memcpy(n->data + n->size + 12, name, head[0]);
    n->size += 12 + ROUND_UP(head[0], 4);
    memcpy(n->data + n->size, desc, real);
    n->size += ROUND_UP(real, 4);
}

static inline void note_number(struct notes_maker *n, u32 type, u64 value, u32 bytes)
{
    note_raw(n, "Xen", type, &value, bytes, bytes);
}

static inline void note_text(struct notes_maker *n, u32 type, const char *text)
{
    note_raw(n, "Xen", type, text, (u32)strlen(text) + 1, (u32)strlen(text) + 1);
}

static inline size_t append(struct made *m, const void *data, size_t len)
{
    size_t at = m->size;

    memcpy(m->data + at, data, len);
    m->size = ROUND_UP(at + len, 8);
    return at;
}

static inline void put_ehdr(struct made *m, const struct kernel_spec *k, unsigned shnum)
{
#define FILL(h, machine, bits) do {                                                             \
        memcpy(h.e_ident, ELFMAG, 4);                                                           \
        h.e_ident[EI_CLASS] = (bits) == 64 ? ELFCLASS64 : ELFCLASS32;                           \
        h.e_ident[EI_DATA] = ELFDATA2LSB;                                                       \
        h.e_type = ET_EXEC; h.e_machine = (machine); h.e_version = 1; h.e_entry = k->entry;     \
        h.e_phoff = h.e_ehsize = sizeof(h); h.e_phnum = m->phnum; h.e_shoff = m->shoff;         \
        h.e_phentsize = (bits) == 64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);                 \
        h.e_shentsize = (bits) == 64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);                 \
        h.e_shnum = shnum; h.e_shstrndx = shnum - 1;                                            \
        memcpy(m->data, &h, sizeof(h));                                                         \
    } while (0)
    Elf64_Ehdr h64 = { 0 };
    Elf32_Ehdr h32 = { 0 };

    if (k->is64)
        FILL(h64, EM_X86_64, 64);
    else
        FILL(h32, EM_386, 32);
#undef FILL
}

static inline void put_phdr(struct made *m, bool is64, u32 type, u64 offset, u64 paddr, u64 filesz, u64 memsz)
{
    Elf64_Phdr p64 = { .p_type = type, .p_offset = offset, .p_vaddr = 0x77000, .p_paddr = paddr,
                       .p_filesz = filesz, .p_memsz = memsz, .p_flags = PF_R };
    Elf32_Phdr p32 = { .p_type = type, .p_offset = (u32)offset, .p_vaddr = 0x77000, .p_paddr = (u32)paddr,
                       .p_filesz = (u32)filesz, .p_memsz = (u32)memsz, .p_flags = PF_R };

    if (is64)
        memcpy(m->data + sizeof(Elf64_Ehdr) + m->phnum++ * sizeof(p64), &p64, sizeof(p64));
    else
        memcpy(m->data + sizeof(Elf32_Ehdr) + m->phnum++ * sizeof(p32), &p32, sizeof(p32));
}

static inline void put_shdr(struct made *m, bool is64, u32 name, u32 type, u64 offset, u64 size, u32 link,
                            u64 entsize)
{
    Elf64_Shdr s64 = { .sh_name = name, .sh_type = type, .sh_offset = offset, .sh_size = size,
                       .sh_link = link, .sh_info = 7, .sh_entsize = entsize };
    Elf32_Shdr s32 = { .sh_name = name, .sh_type = type, .sh_offset = (u32)offset, .sh_size = (u32)size,
                       .sh_link = link, .sh_info = 7, .sh_entsize = (u32)entsize };

    memcpy(m->data + m->size, is64 ? (void *)&s64 : (void *)&s32, is64 ? sizeof(s64) : sizeof(s32));
    m->size += is64 ? sizeof(s64) : sizeof(s32);
}

/* Sections: 0 null, 1 notes, 2 __xen_guest, 3 symbols, 4 strings, 5 names; what is not wanted is renamed. */
static inline void make_kernel(struct made *m, const struct kernel_spec *k)
{
    static const char names[] = "\0.note\0__xen_guest\0.symtab\0.strtab\0.shstrtab\0none";
    static const char strings[] = "\0start\0end";
    u8 symbols[48], text[TEXT_AT];
    size_t notes = 0, string = 0, sym, str, name;
    bool is64 = k->is64;

    memset(m, 0, sizeof(*m));
    memset(text, 0xcc, sizeof(text));
    memset(symbols, 0x5a, sizeof(symbols));
    m->size = TEXT_AT;
    append(m, text, sizeof(text));
    if (k->notes)
        notes = append(m, k->notes->data, k->notes->size);
    if (k->guest_string)
        string = append(m, k->guest_string, strlen(k->guest_string) + 1);
    sym = append(m, symbols, sizeof(symbols));
    str = append(m, strings, sizeof(strings));
    name = append(m, names, sizeof(names));
    put_phdr(m, is64, PT_LOAD, TEXT_AT, k->paddr, k->filesz, k->memsz);
    if (k->notes && !k->notes_in_section)
        put_phdr(m, is64, PT_NOTE, notes, 0, k->notes->size, 0);
    m->shoff = m->size;
    put_shdr(m, is64, 0, SHT_NULL, 0, 0, 0, 0);
    put_shdr(m, is64, 1, k->notes_in_section ? SHT_NOTE : SHT_PROGBITS, notes,
             k->notes ? k->notes->size : 0, 0, 0);
    put_shdr(m, is64, k->guest_string ? 7 : 45, SHT_PROGBITS, string,
             k->guest_string ? strlen(k->guest_string) + 1 : 0, 0, 0);
    put_shdr(m, is64, 19, k->symbols ? SHT_SYMTAB : SHT_PROGBITS, sym, sizeof(symbols), 4, is64 ? 24 : 16);
    put_shdr(m, is64, 27, SHT_STRTAB, str, sizeof(strings), 0, 0);
    put_shdr(m, is64, 35, SHT_STRTAB, name, sizeof(names), 0, 0);
    put_ehdr(m, k, 6);
}

/* A 64-bit kernel as Linux describes itself. */
static inline void linux_notes(struct notes_maker *n)
{
    n->size = 0;
    note_text(n, XEN_ELFNOTE_GUEST_OS, "linux");
    note_text(n, XEN_ELFNOTE_XEN_VERSION, "xen-3.0");
    note_number(n, XEN_ELFNOTE_VIRT_BASE, 0xffffffff80000000, 8);
    note_number(n, XEN_ELFNOTE_ENTRY, 0xffffffff81000100, 8);
    note_number(n, XEN_ELFNOTE_HYPERCALL_PAGE, 0xffffffff81001000, 8);
    note_number(n, XEN_ELFNOTE_INIT_P2M, 0x8000000000, 8);
    note_text(n, XEN_ELFNOTE_FEATURES, "!writable_page_tables|pae_pgdir_above_4gb");
    note_number(n, XEN_ELFNOTE_SUPPORTED_FEATURES, 0x8801, 4);
    note_text(n, XEN_ELFNOTE_PAE_MODE, "yes");
    note_text(n, XEN_ELFNOTE_LOADER, "generic");
    note_number(n, XEN_ELFNOTE_MOD_START_PFN, 1, 4);
    note_number(n, XEN_ELFNOTE_SUSPEND_CANCEL, 1, 4);
    note_number(n, XEN_ELFNOTE_HV_START_LOW, 0xffff800000000000, 8);
}

#define LINUX_SPEC(n) \
    (struct kernel_spec){ .is64 = true, .paddr = 0x1000000, .filesz = 0x1000, .memsz = 0x3000, \
                          .entry = 0x1000100, .notes = (n) }

#define NETBSD_STRING "GUEST_OS=NetBSD,GUEST_VER=4.99,XEN_VER=xen-3.0,LOADER=generic,VIRT_BASE=0xc0000000," \
                      "ELF_PADDR_OFFSET=0xc0000000,VIRT_ENTRY=0xc0100000,HYPERCALL_PAGE=0x00000101"

/* A copy in a heap block of exactly this size: one byte too far is a sanitizer's report. */
static inline u8 *exact_copy(const void *data, size_t size)
{
    u8 *copy = malloc(size ? size : 1);

    if (size)
        memcpy(copy, data, size);
    return size ? copy : (u8 *)realloc(copy, 1);
}

#endif
