/* Addresses of our code: their names, and which of them a stack holds. */
#include <asm/percpu.h>
#include <asm/symbols.h>

extern const u64 syms_count;
extern const u32 syms_addr[], syms_name[];
extern const char syms_text[];
extern char __text_start[], __text_end[];

static bool is_code(u64 a)
{
    return a >= (u64)__text_start && a < (u64)__text_end;
}

const char *symbol_lookup(u64 a, u64 *start, u64 *size)
{
    u64 lo = 0, hi = syms_count;
    u32 off = (u32)a;

    if (!is_code(a) || !syms_count)
        return NULL;
    while (hi - lo > 1) {
        u64 mid = (lo + hi) / 2;
        if (syms_addr[mid] <= off)
            lo = mid;
        else
            hi = mid;
    }
    *start = (a & ~0xffffffffUL) | syms_addr[lo];
    *size = lo + 1 < syms_count ? syms_addr[lo + 1] - syms_addr[lo] : 0;
    return syms_text + syms_name[lo];
}

static bool on_this_stack(u64 a)
{
    u64 sp = (u64)__builtin_frame_address(0);
    return a >= sp && a < ((sp & ~(STACK_SIZE - 1)) + STACK_SIZE - sizeof(struct cpu_info)) && !(a & 7);
}

/* Frame pointers lead the way (we are built with them). The first may be a guest's, whatever that is: see hypercalls' entry. */
unsigned stack_trace(u64 bp, u64 *trace, unsigned max)
{
    unsigned n = 0;

    while (n < max && on_this_stack(bp) && on_this_stack(bp + 8)) {
        u64 next = ((u64 *)bp)[0];
        trace[n++] = ((u64 *)bp)[1];
        if (next <= bp)
            break;
        bp = next;
    }
    return n;
}
