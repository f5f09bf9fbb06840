/* Where the libraries that unpack are not: Debian has them for the machine's own word size alone. */
#include "../../common/image/internal.h"

u64 image_scratch_size(enum image_packing packing, u64 unpacked_size)
{
    (void)packing;
    (void)unpacked_size;
    return 0;
}

int image_unwrap(const struct image_wrap *w, void *out, u64 out_size, void *scratch, u64 scratch_size, struct image_error *err)
{
    (void)out;
    (void)out_size;
    (void)scratch;
    (void)scratch_size;
    return image_fail(err, -EOPNOTSUPP, "the 32-bit loader unpacks nothing, and this is packed with %s: unpack it first",
                      image_packing_name(w->packing));
}
