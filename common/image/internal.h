/* What the files of common/image/ share: error texts, the ELF reader, the notes' reader. */
#ifndef COMMON_IMAGE_INTERNAL_H
#define COMMON_IMAGE_INTERNAL_H

#include <public/errno.h>
#include <pvisor/image.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

/* What %llu prints: u64 is some other type where long has 64 bits. */
typedef unsigned long long ull;

/* Fills err, if there is one, and has the value code. */
#define image_fail(err, code, ...) \
    ({ if (err) snprintf((err)->text, sizeof((err)->text), __VA_ARGS__); (code); })

/* True if [offset, offset + len) lies within size bytes. */
static inline bool range_within(u64 offset, u64 len, u64 size)
{
    return offset <= size && len <= size - offset;
}

static inline u64 align_up(u64 x, u64 power_of_two)
{
    return (x + power_of_two - 1) & ~(power_of_two - 1);
}

/* Little-endian numbers at any alignment. */
static inline u64 get_le(const u8 *p, unsigned bytes)
{
    u64 v = 0;

    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}

static inline void put_le(u8 *p, unsigned bytes, u64 v)
{
    for (; bytes--; v >>= 8)
        *p++ = (u8)v;
}

/* ---- elf.c ---- */

/* Where a field lies in its header, and how wide it is. */
struct elf_field { u8 at, bytes; };

/* The two word sizes' headers. */
struct elf_layout {
    u8 ehdr_size, phdr_size, shdr_size, word;
    struct elf_field e_entry, e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
    struct elf_field p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
    struct elf_field sh_name, sh_type, sh_offset, sh_size, sh_link, sh_info, sh_addralign, sh_entsize;
};

struct elf {
    const u8 *data;
    u64 size;
    const struct elf_layout *l;
    u64 phoff, shoff;
    unsigned phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment { u32 type; u64 offset, vaddr, paddr, filesz, memsz; };
struct elf_section { u32 name, type, link, info; u64 offset, size, entsize; };

#define PT_LOAD 1
#define PT_NOTE 4
#define SHT_SYMTAB 2
#define SHT_STRTAB 3
#define SHT_NOTE   7
#define SHT_NOBITS 8

int elf_open(struct elf *e, const u8 *data, u64 size, struct image_error *err);
/* i < e->phnum. The file range is checked. */
int elf_segment(const struct elf *e, unsigned i, struct elf_segment *s, struct image_error *err);
/* i < e->shnum. The file range is checked, except that of SHT_NOBITS. */
int elf_section(const struct elf *e, unsigned i, struct elf_section *s, struct image_error *err);
/* 1: found, 0: no section of that name, or a negative error. */
int elf_find_section(const struct elf *e, const char *name, struct elf_section *s, struct image_error *err);

static inline u64 elf_get(const u8 *header, struct elf_field f) { return get_le(header + f.at, f.bytes); }
static inline const u8 *elf_section_header(const struct elf *e, unsigned i)
{
    return e->data + e->shoff + (u64)i * e->shentsize;
}
static inline u32 elf_section_type(const struct elf *e, unsigned i)
{
    return (u32)elf_get(elf_section_header(e, i), e->l->sh_type);
}
static inline void elf_put(u8 *header, struct elf_field f, u64 v) { put_le(header + f.at, f.bytes, v); }

/* ---- notes.c ---- */

/* Fills img->source, img->notes and, from the two feature notes, img->features_*. */
int image_read_notes(const struct elf *e, struct kernel_image *img, struct image_error *err);

/* ---- symtab.c ---- */

/* Finds the symbol table and lays it out from virtual address end on. */
int image_plan_symtab(const struct elf *e, u64 end, struct image_symtab *t, struct image_error *err);
int image_load_symtab(const struct kernel_image *img, image_put_fn *put, void *ctx);

/* ---- decompress.c ---- */

/* Bytes of scratch memory for unpacking to unpacked_size bytes. */
u64 image_scratch_size(enum image_packing packing, u64 unpacked_size);

#endif
