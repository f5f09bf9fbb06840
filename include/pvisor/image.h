/*
 * Kernel files: from the bytes of a file (bzImage, gzipped ELF, ELF) to a description of the
 * paravirtualized kernel in it and of what to put where. Pure code: buffers in, description out, no state
 * of its own, so that the dom0 builder, the host's inspector and the boot loader in domUs share it. Files are
 * hostile: every offset and length in them is checked.
 *
 *     image_identify(file, size, &wrap, &err)            what wraps the ELF, memory needed to unwrap it
 *     image_unwrap(&wrap, elf, size, scratch, n, &err)   unless wrap.packing is PACKED_NOT
 *     image_parse(elf, size, &img, &err)
 *     image_check_features(&img, offered, &err)
 *     image_load(&img, put, ctx)                         calls put() for each run of bytes
 *
 * Errors are negative errno values, with a sentence for people in err: -ENOEXEC (not a kernel), -EINVAL
 * (malformed), -EOPNOTSUPP (well formed, but nothing we can run), -E2BIG, -ENOMEM (buffers too small),
 * -EILSEQ (corrupt packing). Any err may be NULL.
 */
#ifndef PVISOR_IMAGE_H
#define PVISOR_IMAGE_H

#include <public/elfnote.h>
#include <public/features.h>
#include <pvisor/pt_format_id.h>
#include <pvisor/types.h>

struct image_error { char text[160]; };

#define IMAGE_MAX_SEGMENTS 32u
#define IMAGE_MAX_UNPACKED (1ULL << 30)   /* bytes of ELF after unpacking */
#define IMAGE_MAX_SPAN     (1ULL << 30)   /* bytes from virt_base to virt_kend */

/* ---- What wraps the ELF ---- */

enum image_packing { PACKED_NOT, PACKED_GZIP, PACKED_XZ, PACKED_LZMA, PACKED_ZSTD, PACKED_LZ4 };

struct image_wrap {
    enum image_packing packing;
    bool bzimage;           /* a Linux boot image around it, else the file itself */
    u16 boot_protocol;      /* of the bzImage: 0x20f is 2.15 */
    const u8 *payload;      /* in the caller's file: packed bytes, or the ELF itself */
    u64 payload_size;
    u64 unpacked_size;      /* bytes that image_unwrap() writes, as the file claims */
    u64 scratch_size;       /* working memory that image_unwrap() wants, bytes */
};

int must_check image_identify(const void *file, u64 size, struct image_wrap *wrap, struct image_error *err);
const char *image_packing_name(enum image_packing packing);

/*
 * Unpacks into out, exactly wrap->unpacked_size bytes of out_size. scratch: wrap->scratch_size bytes,
 * 16-byte aligned. Calls the compression libraries, which use SSE registers and the stack protector's slot
 * at %fs:0x28: in the hypervisor only during boot, with CR4.OSFXSR set and a valid FS base.
 */
int must_check image_unwrap(const struct image_wrap *wrap, void *out, u64 out_size, void *scratch,
                            u64 scratch_size, struct image_error *err);

/* ---- The kernel ---- */

enum image_source { IMAGE_NO_INFO, IMAGE_NOTES, IMAGE_STRING };   /* ELF notes, or the __xen_guest string */
enum image_pae { PAE_NO, PAE_YES, PAE_BIMODAL };

#define ELFNOTE_MAX XEN_ELFNOTE_PHYS32_ENTRY       /* the last that is looked at */

/* What the kernel says about itself, before any interpretation; keys of the string count as notes. */
struct image_notes {
    u32 present;                           /* bit n: note number n was there */
    u64 number[ELFNOTE_MAX + 1];           /* numeric notes by note number */
    u64 l1_mfn_mask, l1_mfn_value;         /* first pair of L1_MFN_VALID */
    char guest_os[32], guest_version[32], xen_version[32], loader[32];
    char pae_mode[32], bsd_symtab[8], features[256];
};

struct image_segment { u64 vaddr, offset, filesz, memsz; };   /* vaddr: where it goes; offset: in the ELF */

/* The symbol table that BSD kernels want behind themselves; empty (size 4) when the file has none. */
struct image_symtab {
    u64 vaddr, size;                       /* of the whole, size word included; size 0: not wanted */
    u64 sym_offset, sym_size, sym_vaddr;   /* offset: in the ELF */
    u64 str_offset, str_size, str_vaddr;
    u64 sym_entsize;
    u32 sym_info;
};

struct kernel_image {
    const u8 *elf;                         /* the caller's buffer, needed until image_load() is done */
    u64 elf_size;
    bool is64;                             /* word size: 64 or 32 bits */

    enum image_source source;
    struct image_notes notes;

    enum pt_format_id format;
    enum image_pae pae;                    /* meaningful in 32-bit kernels */
    bool extended_cr3;                     /* a PAE kernel whose L3 may lie above 4 GiB */

    u64 virt_base;                         /* virtual address of pseudo-physical 0 */
    u64 elf_paddr_offset;                  /* what to take off p_paddr to get a pseudo-physical address */
    u64 virt_kstart, virt_kend;            /* first byte, and first after all that is loaded (symbols too) */
    u64 virt_entry;
    u64 hypercall_page;                    /* virtual address, if has_hypercall_page */
    u64 p2m_base;                          /* INIT_P2M, if has_p2m_base */
    u64 hv_start_low;                      /* lowest start of the hypervisor hole, if has_hv_start_low */
    u64 phys32_entry;                      /* entry of a PVH guest, if has_phys32_entry */
    bool has_hypercall_page, has_p2m_base, has_hv_start_low, has_phys32_entry;
    bool has_l1_mfn_valid;                 /* notes.l1_mfn_mask and l1_mfn_value hold */
    bool unmapped_initrd;                  /* MOD_START_PFN: initrd not mapped, mod_start is a pfn */
    bool suspend_cancel;

    u32 features_supported, features_required;   /* bit n: XENFEAT n; what is required is also supported */

    unsigned nr_segments;
    struct image_segment segments[IMAGE_MAX_SEGMENTS];
    struct image_symtab symtab;
};

static inline bool image_has(const struct kernel_image *img, unsigned note)
{
    return img->notes.present >> note & 1;
}

/*
 * Describes the ELF. After an error, what was found until then stays in *img (for a tool that explains),
 * but only a return of 0 means that the kernel can be built and loaded.
 */
int must_check image_parse(const void *elf, u64 size, struct kernel_image *img, struct image_error *err);

/* What pvisor offers to paravirtualized guests; dom0 alone is offered XENFEAT_dom0. */
#define IMAGE_OFFERED_DOMU (1U << XENFEAT_writable_page_tables | 1U << XENFEAT_pae_pgdir_above_4gb | \
                            1U << XENFEAT_mmu_pt_update_preserve_ad | 1U << XENFEAT_highmem_assist | \
                            1U << XENFEAT_gnttab_map_avail_bits | 1U << XENFEAT_memory_op_vnode_supported)
#define IMAGE_OFFERED_DOM0 (IMAGE_OFFERED_DOMU | 1U << XENFEAT_dom0)

/* -EOPNOTSUPP, naming the feature, if the kernel requires one that is not in offered (bit n: XENFEAT n). */
int must_check image_check_features(const struct kernel_image *img, u32 offered, struct image_error *err);

/*
 * A parsed kernel: does the toolstack (libxenguest of Xen 4.17) take it as a domU's and build it as we do? -EOPNOTSUPP
 * if not. Our dom0 builder and the boot loader need less: kernels of before there were such rules.
 */
int must_check image_check_toolstack(const struct kernel_image *img, struct image_error *err);

const char *image_format_name(enum pt_format_id format);   /* "64-bit", "32-bit PAE", "32-bit non-PAE" */
const char *image_feature_name(unsigned bit);   /* as in features.h without XENFEAT_; NULL if unknown */

/* ---- Loading ---- */

/*
 * Puts len > 0 bytes at the kernel's virtual address vaddr, within virt_kstart and virt_kend: from src, or
 * zeroes where src is NULL. A negative return ends image_load() with it.
 */
typedef int image_put_fn(void *ctx, u64 vaddr, const void *src, u64 len);

/* What no segment covers is left alone: memory is expected to be zero before. */
int must_check image_load(const struct kernel_image *img, image_put_fn *put, void *ctx);

/* ---- What a builder adds ---- */

/* A page-table format, as far as a builder needs it. */
struct image_shape { u8 levels, index_bits, entry_bytes, word_bytes; };

extern const struct image_shape image_shapes[NR_PT_FORMATS];

/* Of a linear address: what a table of the level (1: of pages) decides begins at this bit. */
static inline unsigned image_shift(const struct image_shape *f, unsigned level) { return PAGE_SHIFT + (level - 1) * f->index_bits; }

struct image_layout {
    u64 v_start, v_end;                    /* the first mapping: v_start is pfn 0 */
    u64 v_initrd, v_p2m, v_start_info, v_pt, v_stack;
    u64 nr_pt;                             /* page tables, from v_pt on */
    bool extra_l2;                         /* PAE: the fourth L2 holds the hypervisor's hole, and must exist, also if nothing is there */
    u64 initrd_pfn, p2m_pfn;
    u64 p2m_frames;                        /* INIT_P2M: the list and its tables, from p2m_pfn on, else 0 */
    u64 first_free_pfn;                    /* first behind all that is laid out: the domain has at least so many frames */
};

/* info_pages: start_info's page and those with it: a domU's xenstore and console rings, in this order. */
void image_lay_out(const struct kernel_image *img, u64 nr_pages, u64 initrd_size, unsigned info_pages, struct image_layout *l);

#endif
