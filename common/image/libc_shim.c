/*
 * What the compression libraries' archives want to be linked with, besides lib.h's mem* functions. All
 * their memory comes from allocators that decompress.c gives, so the general ones are there for the linker
 * alone and always fail.
 */
#ifndef HOST_TEST
#include <pvisor/lib.h>
#include <pvisor/printk.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void free(void *p);
void __stack_chk_fail(void) noreturn_fn;
u64 ZSTD_trace_decompress_begin(const void *dctx);
void ZSTD_trace_decompress_end(u64 id, const void *trace);

void *malloc(size_t)
{
    return NULL;
}

void *calloc(size_t, size_t)
{
    return NULL;
}

void free(void *)
{
}

/* Only the libraries' code carries the check: ours is built without it. */
void __stack_chk_fail(void)
{
    panic("stack overrun while unpacking a kernel");
}

/* libzstd's weak hooks: undefined, they are address 0, out of reach of relative calls. 0: no tracing. */
u64 ZSTD_trace_decompress_begin(const void *)
{
    return 0;
}

void ZSTD_trace_decompress_end(u64, const void *)
{
}
#endif
