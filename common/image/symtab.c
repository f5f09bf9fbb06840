/*
 * The symbol table that BSD kernels ask for (BSD_SYMTAB). It stands right after the kernel, aligned to a
 * word:
 *
 *     u32 size of what follows | ELF header | 3 section headers: null, symbols, strings | symbols | strings
 *
 * The headers' file offsets count from the ELF header. A kernel without symbols finds a size of 0.
 */
#include "internal.h"

#define SIZE_WORD 4
#define NR_HEADERS 3
#define MAX_HEADER (SIZE_WORD + 64 + NR_HEADERS * 64)

static unsigned header_size(const struct elf_layout *l)
{
    return SIZE_WORD + l->ehdr_size + NR_HEADERS * l->shdr_size;
}

/* The first symbol section and its strings; sym->size is 0 if there is none. */
static int find_symbols(const struct elf *e, struct elf_section *sym, struct elf_section *str,
                        struct image_error *err)
{
    int rc;

    for (unsigned i = 1; i < e->shnum; i++) {
        if (elf_section_type(e, i) != SHT_SYMTAB)
            continue;
        rc = elf_section(e, i, sym, err);
        if (rc)
            return rc;
        if (!sym->size)
            continue;
        if (sym->link >= e->shnum)
            return image_fail(err, -EINVAL, "the symbols' strings are section %u of %u", sym->link, e->shnum);
        rc = elf_section(e, sym->link, str, err);
        if (!rc && str->type != SHT_STRTAB)
            rc = image_fail(err, -EINVAL, "section %u holds no strings (type %u)", sym->link, str->type);
        return rc;
    }
    sym->size = 0;
    return 0;
}

int image_plan_symtab(const struct elf *e, u64 end, struct image_symtab *t, struct image_error *err)
{
    struct elf_section sym = { 0 }, str = { 0 };
    unsigned word = e->l->word;
    int rc = find_symbols(e, &sym, &str, err);

    if (rc)
        return rc;
    *t = (struct image_symtab){ .vaddr = align_up(end, word), .size = SIZE_WORD };
    if (!sym.size)
        return 0;
    t->sym_offset = sym.offset;
    t->sym_size = sym.size;
    t->sym_entsize = sym.entsize;
    t->sym_info = sym.info;
    t->sym_vaddr = align_up(t->vaddr + header_size(e->l), word);
    t->str_offset = str.offset;
    t->str_size = str.size;
    t->str_vaddr = align_up(t->sym_vaddr + t->sym_size, word);
    t->size = align_up(t->str_vaddr + t->str_size, word) - t->vaddr;
    return 0;
}

static void fill_section(const struct elf_layout *l, u8 *h, u32 type, u64 offset, u64 size)
{
    elf_put(h, l->sh_type, type);
    elf_put(h, l->sh_offset, offset);
    elf_put(h, l->sh_size, size);
}

static void fill_headers(const struct elf *e, const struct image_symtab *t, u8 *buf)
{
    const struct elf_layout *l = e->l;
    u64 origin = t->vaddr + SIZE_WORD;
    u8 *h = buf + SIZE_WORD, *sym = h + l->ehdr_size + l->shdr_size, *str = sym + l->shdr_size;

    memset(buf, 0, MAX_HEADER);
    put_le(buf, SIZE_WORD, t->size - SIZE_WORD);
    memcpy(h, e->data, l->ehdr_size);
    elf_put(h, l->e_phoff, 0);
    elf_put(h, l->e_phnum, 0);
    elf_put(h, l->e_shoff, l->ehdr_size);
    elf_put(h, l->e_shentsize, l->shdr_size);
    elf_put(h, l->e_shnum, NR_HEADERS);
    elf_put(h, l->e_shstrndx, 0);
    fill_section(l, sym, SHT_SYMTAB, t->sym_vaddr - origin, t->sym_size);
    elf_put(sym, l->sh_link, 2);
    elf_put(sym, l->sh_info, t->sym_info);
    elf_put(sym, l->sh_addralign, l->word);
    elf_put(sym, l->sh_entsize, t->sym_entsize);
    fill_section(l, str, SHT_STRTAB, t->str_vaddr - origin, t->str_size);
    elf_put(str, l->sh_addralign, 1);
}

int image_load_symtab(const struct kernel_image *img, image_put_fn *put, void *ctx)
{
    const struct image_symtab *t = &img->symtab;
    u8 buf[MAX_HEADER];
    struct elf e;
    int rc;

    if (!t->size)
        return 0;
    if (!t->sym_size)
        return put(ctx, t->vaddr, NULL, SIZE_WORD);
    rc = elf_open(&e, img->elf, img->elf_size, NULL);
    if (rc)
        return rc;
    fill_headers(&e, t, buf);
    if ((rc = put(ctx, t->vaddr, buf, header_size(e.l))) < 0 ||
        (rc = put(ctx, t->sym_vaddr, e.data + t->sym_offset, t->sym_size)) < 0)
        return rc;
    return t->str_size ? put(ctx, t->str_vaddr, e.data + t->str_offset, t->str_size) : 0;
}
