/* Putting a parsed kernel into memory, through a callback that knows where a virtual address lies. */
#include "internal.h"

int image_load(const struct kernel_image *img, image_put_fn *put, void *ctx)
{
    for (unsigned i = 0; i < img->nr_segments; i++) {
        const struct image_segment *s = &img->segments[i];
        int rc = s->filesz ? put(ctx, s->vaddr, img->elf + s->offset, s->filesz) : 0;

        if (rc >= 0 && s->memsz > s->filesz)
            rc = put(ctx, s->vaddr + s->filesz, NULL, s->memsz - s->filesz);
        if (rc < 0)
            return rc;
    }
    return image_load_symtab(img, put, ctx);
}

int image_put_flat(void *ctx, u64 vaddr, const void *src, u64 len)
{
    const struct image_flat *flat = ctx;
    u64 offset = vaddr - flat->vaddr;

    if (!range_within(offset, len, flat->size))
        return -EFAULT;
    if (src)
        memcpy((u8 *)flat->dst + offset, src, (size_t)len);
    else
        memset((u8 *)flat->dst + offset, 0, (size_t)len);
    return 0;
}
