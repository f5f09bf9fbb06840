/* Where the libraries that unpack are not: see the Makefile. */
#include "../../common/image/internal.h"
#include "pv.h"

void make_thread_area(void) { }
void drop_thread_area(void) { }

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
    return image_fail(err, -EOPNOTSUPP, "this 32-bit loader was built without what unpacks, and this is packed with %s: unpack it first",
                      image_packing_name(w->packing));
}
