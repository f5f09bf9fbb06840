/* ELF headers of both word sizes, read field by field through a layout table. Nothing is trusted. */
#include "internal.h"

#define EM_386    3
#define EM_X86_64 62
#define ET_EXEC   2
#define ET_DYN    3

static const struct elf_layout layout32 = {
    .ehdr_size = 52, .phdr_size = 32, .shdr_size = 40, .word = 4,
    .e_entry = { 24, 4 }, .e_phoff = { 28, 4 }, .e_shoff = { 32, 4 }, .e_phentsize = { 42, 2 },
    .e_phnum = { 44, 2 }, .e_shentsize = { 46, 2 }, .e_shnum = { 48, 2 }, .e_shstrndx = { 50, 2 },
    .p_type = { 0, 4 }, .p_offset = { 4, 4 }, .p_vaddr = { 8, 4 }, .p_paddr = { 12, 4 },
    .p_filesz = { 16, 4 }, .p_memsz = { 20, 4 },
    .sh_name = { 0, 4 }, .sh_type = { 4, 4 }, .sh_offset = { 16, 4 }, .sh_size = { 20, 4 },
    .sh_link = { 24, 4 }, .sh_info = { 28, 4 }, .sh_addralign = { 32, 4 }, .sh_entsize = { 36, 4 },
};

static const struct elf_layout layout64 = {
    .ehdr_size = 64, .phdr_size = 56, .shdr_size = 64, .word = 8,
    .e_entry = { 24, 8 }, .e_phoff = { 32, 8 }, .e_shoff = { 40, 8 }, .e_phentsize = { 54, 2 },
    .e_phnum = { 56, 2 }, .e_shentsize = { 58, 2 }, .e_shnum = { 60, 2 }, .e_shstrndx = { 62, 2 },
    .p_type = { 0, 4 }, .p_offset = { 8, 8 }, .p_vaddr = { 16, 8 }, .p_paddr = { 24, 8 },
    .p_filesz = { 32, 8 }, .p_memsz = { 40, 8 },
    .sh_name = { 0, 4 }, .sh_type = { 4, 4 }, .sh_offset = { 24, 8 }, .sh_size = { 32, 8 },
    .sh_link = { 40, 4 }, .sh_info = { 44, 4 }, .sh_addralign = { 48, 8 }, .sh_entsize = { 56, 8 },
};

/* Class, byte order, type and machine must fit each other; on success e->l is set. */
static int check_kind(struct elf *e, struct image_error *err)
{
    const u8 *h = e->data;
    unsigned class, type, machine;

    if (e->size < 20 || memcmp(h, "\177ELF", 4))
        return image_fail(err, -ENOEXEC, "not an ELF file");
    class = h[4];
    type = (unsigned)get_le(h + 16, 2);
    machine = (unsigned)get_le(h + 18, 2);
    if (h[5] != 1)
        return image_fail(err, -ENOEXEC, "the ELF file is not little-endian");
    if (class == 1 && machine == EM_386)
        e->l = &layout32;
    else if (class == 2 && machine == EM_X86_64)
        e->l = &layout64;
    else
        return image_fail(err, -ENOEXEC, "the ELF file is for another machine (class %u, machine %u), "
                          "expected i386 or x86-64", class, machine);
    if (type != ET_EXEC && type != ET_DYN)
        return image_fail(err, -ENOEXEC, "the ELF file is not an executable (type %u)", type);
    return 0;
}

static int check_table(const struct elf *e, const char *what, u64 offset, unsigned count, unsigned entsize,
                       unsigned least, struct image_error *err)
{
    u64 len = (u64)count * entsize;

    if (!count)
        return 0;
    if (entsize < least)
        return image_fail(err, -EINVAL, "%s are %u bytes each, expected %u", what, entsize, least);
    if (!range_within(offset, len, e->size))
        return image_fail(err, -EINVAL, "kernel is truncated: %s at byte %llu take %llu bytes, file has %llu",
                          what, (ull)offset, (ull)len,
                          (ull)e->size);
    return 0;
}

int elf_open(struct elf *e, const u8 *data, u64 size, struct image_error *err)
{
    const struct elf_layout *l;
    int rc;

    memset(e, 0, sizeof(*e));
    e->data = data;
    e->size = size;
    rc = check_kind(e, err);
    if (rc)
        return rc;
    l = e->l;
    if (size < l->ehdr_size)
        return image_fail(err, -EINVAL, "kernel is truncated: the ELF header takes %u bytes, file has %llu",
                          l->ehdr_size, (ull)size);
    e->phoff = elf_get(data, l->e_phoff);
    e->phnum = (unsigned)elf_get(data, l->e_phnum);
    e->phentsize = (unsigned)elf_get(data, l->e_phentsize);
    e->shoff = elf_get(data, l->e_shoff);
    e->shnum = e->shoff ? (unsigned)elf_get(data, l->e_shnum) : 0;
    e->shentsize = (unsigned)elf_get(data, l->e_shentsize);
    e->shstrndx = (unsigned)elf_get(data, l->e_shstrndx);
    rc = check_table(e, "program headers", e->phoff, e->phnum, e->phentsize, l->phdr_size, err);
    if (!rc)
        rc = check_table(e, "section headers", e->shoff, e->shnum, e->shentsize, l->shdr_size, err);
    return rc;
}

int elf_segment(const struct elf *e, unsigned i, struct elf_segment *s, struct image_error *err)
{
    const struct elf_layout *l = e->l;
    const u8 *h = e->data + e->phoff + (u64)i * e->phentsize;

    s->type = (u32)elf_get(h, l->p_type);
    s->offset = elf_get(h, l->p_offset);
    s->vaddr = elf_get(h, l->p_vaddr);
    s->paddr = elf_get(h, l->p_paddr);
    s->filesz = elf_get(h, l->p_filesz);
    s->memsz = elf_get(h, l->p_memsz);
    if (s->type != PT_LOAD && s->type != PT_NOTE)
        return 0;
    if (!range_within(s->offset, s->filesz, e->size))
        return image_fail(err, -EINVAL, "kernel is truncated: segment %u at byte %llu takes %llu bytes, "
                          "file has %llu", i, (ull)s->offset, (ull)s->filesz, (ull)e->size);
    return 0;
}

/* The name for messages and comparison: "" unless it is a string that ends within the table of names. */
static const char *section_name(const struct elf *e, u32 name)
{
    const u8 *h;
    u64 offset, size;

    if (e->shstrndx >= e->shnum)
        return "";
    h = elf_section_header(e, e->shstrndx);
    offset = elf_get(h, e->l->sh_offset);
    size = elf_get(h, e->l->sh_size);
    if (!range_within(offset, size, e->size) || name >= size)
        return "";
    if (!memchr(e->data + offset + name, 0, (size_t)(size - name)))
        return "";
    return (const char *)e->data + offset + name;
}

int elf_section(const struct elf *e, unsigned i, struct elf_section *s, struct image_error *err)
{
    const struct elf_layout *l = e->l;
    const u8 *h = elf_section_header(e, i);

    s->name = (u32)elf_get(h, l->sh_name);
    s->type = (u32)elf_get(h, l->sh_type);
    s->offset = elf_get(h, l->sh_offset);
    s->size = elf_get(h, l->sh_size);
    s->link = (u32)elf_get(h, l->sh_link);
    s->info = (u32)elf_get(h, l->sh_info);
    s->entsize = elf_get(h, l->sh_entsize);
    if (s->type != SHT_NOBITS && !range_within(s->offset, s->size, e->size))
        return image_fail(err, -EINVAL, "kernel is truncated: section %u (%.32s) at byte %llu takes "
                          "%llu bytes, file has %llu", i, section_name(e, s->name), (ull)s->offset,
                          (ull)s->size, (ull)e->size);
    return 0;
}

int elf_find_section(const struct elf *e, const char *name, struct elf_section *s, struct image_error *err)
{
    for (unsigned i = 1; i < e->shnum; i++) {
        const u8 *h = elf_section_header(e, i);
        int rc;

        if (strcmp(section_name(e, (u32)elf_get(h, e->l->sh_name)), name))
            continue;
        rc = elf_section(e, i, s, err);
        return rc ? rc : s->type != SHT_NOBITS;
    }
    return 0;
}
