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
