/*
 * FPU and extended state of vCPUs (Intel SDM vol. 1 chapters 10.5 and 13).
 *
 * Every vCPU has an image in XSAVE's standard format, or FXSAVE's where the CPU has no more. All components
 * that the hypervisor keeps are saved and loaded together, under the full XCR0, so no vCPU ever meets
 * another's register contents, not even in components that it enables later. The guest's own XCR0 is put
 * back for it to run with; where it uses all components, as today's kernels do, XCR0 never changes.
 */
#include <asm/features.h>
#include <asm/fpu.h>
#include <asm/loaded.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cpu_policy.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/hypercall.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define XCR0_FP  1UL
#define XCR0_SSE 2UL
#define XCR0_AVX 4UL
#define XCR0_AVX512 0xe0UL

#define IMAGE_FCW        0      /* offsets in the image */
#define IMAGE_MXCSR      24
#define IMAGE_MXCSR_MASK 28
#define IMAGE_ST         32
#define IMAGE_XMM        160
#define IMAGE_XMM_END    416
#define IMAGE_ALIGN      64
#define FCW_DEFAULT      0x37f
#define MXCSR_DEFAULT    0x1f80
#define NO_CPU           ~0u

struct xsave_header {
    u64 xstate_bv, xcomp_bv, reserved[6];
};
#define XSAVE_MIN_SIZE (FPU_LEGACY_SIZE + sizeof(struct xsave_header))

struct fpu_state {
    void *alloc;
    u8 *image;              /* in alloc, aligned */
    u64 xcr0, xcr0_accum;   /* what the guest enabled last, and ever */
    u32 cpu;                /* that CPU's registers may still hold the image */
};

/* Whose state this CPU's registers hold. */
STATIC_PERCPU(struct vcpu *, owner);

static u32 mxcsr_mask = 0xffbf;
static u32 component_end[63];

static struct xsave_header *header(const struct fpu_state *f)
{
    return (struct xsave_header *)(f->image + FPU_LEGACY_SIZE);
}

/* --- Moving state ------------------------------------------------------------------------------- */

#define FPU_INSN(name, image) \
    __asm__ volatile(name " %0" : "+m"(*(u8(*)[PAGE_SIZE])(image)) : "a"(~0u), "d"(~0u) : "memory")

/* The 64-bit forms keep whole x87 pointers; the others the selectors that a 32-bit guest may look at. */
static void save_image(const struct vcpu *v)
{
    void *image = v->arch.fpu->image;
    bool wide = v->domain->arch.word == ABI_64;

    if (!cpu_host.xcr0) {
        if (wide)
            FPU_INSN("fxsave64", image);
        else
            FPU_INSN("fxsave", image);
        return;
    }
    load_xcr0(cpu_host.xcr0);
    if (cpu_has(X86_FEATURE_XSAVEOPT)) {
        if (wide)
            FPU_INSN("xsaveopt64", image);
        else
            FPU_INSN("xsaveopt", image);
    } else if (wide) {
        FPU_INSN("xsave64", image);
    } else {
        FPU_INSN("xsave", image);
    }
}

/*
 * AMD's processors load the x87 pointers only with a pending exception: overwrite them, or the next vCPU
 * would read the last one's addresses (AMD APM vol. 2, 11.4.4).
 */
static void forget_x87_pointers(void)
{
    static const u32 zero;

    if (cpu_host.vendor == VENDOR_AMD && !cpu_has(X86_FEATURE_RSTR_FP_ERR_PTRS))
        __asm__ volatile("fnclex; emms; fildl %0" :: "m"(zero));
}

static void load_image(const struct vcpu *v)
{
    void *image = v->arch.fpu->image;
    bool wide = v->domain->arch.word == ABI_64;

    forget_x87_pointers();
    if (!cpu_host.xcr0) {
        if (wide)
            FPU_INSN("fxrstor64", image);
        else
            FPU_INSN("fxrstor", image);
        return;
    }
    load_xcr0(cpu_host.xcr0);
    if (wide)
        FPU_INSN("xrstor64", image);
    else
        FPU_INSN("xrstor", image);
}

/* XCR0 and TS as the guest has them. */
static void guest_controls(const struct vcpu *v)
{
    if (cpu_host.xcr0)
        load_xcr0(v->arch.fpu->xcr0);
    load_ts(v->arch.ts);
}

void fpu_ctxt_switch_from(struct vcpu *v)
{
    if (!v->arch.fpu_dirty)
        return;
    load_ts(false);
    save_image(v);
    v->arch.fpu->cpu = this_cpu_id();
    v->arch.fpu_dirty = false;
}

void fpu_ctxt_switch_to(struct vcpu *v)
{
    struct fpu_state *f = v->arch.fpu;

    if (!f)
        return;
    if (this_cpu(owner) != v || f->cpu != this_cpu_id()) {
        load_ts(false);
        load_image(v);
        this_cpu(owner) = v;
    }
    v->arch.fpu_dirty = true;
    guest_controls(v);
}

void fpu_lend(void)
{
    static const u32 mxcsr = MXCSR_DEFAULT;

    fpu_ctxt_switch_from(current);
    this_cpu(owner) = NULL;
    load_ts(false);
    __asm__ volatile("fninit; ldmxcsr %0" :: "m"(mxcsr));
}

void fpu_take_back(void)
{
    fpu_ctxt_switch_to(current);
}

/* Brings the image up to date while v goes on running. */
static void sync_image(struct vcpu *v)
{
    u64 flags;

    if (!v->arch.fpu_dirty)
        return;
    flags = irq_save();
    load_ts(false);
    save_image(v);
    guest_controls(v);
    irq_restore(flags);
}

/* --- Life cycle --------------------------------------------------------------------------------- */

static void reset_image(struct fpu_state *f)
{
    memset(f->image, 0, cpu_host.xsave_size);
    *(u16 *)(f->image + IMAGE_FCW) = FCW_DEFAULT;
    *(u32 *)(f->image + IMAGE_MXCSR) = MXCSR_DEFAULT;
    if (cpu_host.xcr0)
        header(f)->xstate_bv = XCR0_FP | XCR0_SSE;
    f->cpu = NO_CPU;
}

int fpu_vcpu_init(struct vcpu *v)
{
    struct fpu_state *f = xzalloc(struct fpu_state);

    if (!f)
        return -ENOMEM;
    f->alloc = xzalloc_bytes(cpu_host.xsave_size + IMAGE_ALIGN);
    if (!f->alloc) {
        xfree(f);
        return -ENOMEM;
    }
    f->image = (u8 *)ROUND_UP((u64)f->alloc, IMAGE_ALIGN);
    f->xcr0 = XCR0_FP;
    f->xcr0_accum = XCR0_FP | XCR0_SSE; /* SSE needs no leave */
    reset_image(f);
    v->arch.fpu = f;
    return 0;
}

void fpu_vcpu_free(struct vcpu *v)
{
    struct vcpu *was;

    if (!v->arch.fpu)
        return;
    for (unsigned c = 0; c < NR_CPUS; c++) {
        was = v;
        if (read_once(cpu_var(owner, c)) == v)
            try_cmpxchg(&cpu_var(owner, c), &was, NULL);
    }
    xfree(v->arch.fpu->alloc);
    xfree(v->arch.fpu);
    v->arch.fpu = NULL;
    v->arch.fpu_dirty = false;
}

static void find_mxcsr_mask(void)
{
    u8 image[FPU_LEGACY_SIZE] __attribute__((aligned(16))) = { 0 };
    u32 mask;

    __asm__ volatile("fxsave %0" : "+m"(image));
    mask = *(u32 *)(image + IMAGE_MXCSR_MASK);
    if (mask)
        mxcsr_mask = mask;
}

void fpu_init_cpu(void)
{
    struct cpuid_regs r;

    __asm__ volatile("fninit");
    this_cpu(owner) = NULL;
    if (this_cpu_id() == 0)
        find_mxcsr_mask();
    for (unsigned n = 2; n < ARRAY_SIZE(component_end) && this_cpu_id() == 0; n++)
        if (cpu_host.xcr0 >> n & 1) {
            r = cpuid(0xd, n);
            component_end[n] = r.a + r.b;
        }
}

/* --- TS and XCR0 -------------------------------------------------------------------------------- */

void fpu_set_ts(bool on)
{
    current->arch.ts = on;
    load_ts(on);
}

bool fpu_handle_nm(void)
{
    bool guests = current->arch.ts;

    fpu_set_ts(false);
    return !guests;
}

/*
 * Who clears TS is about to use the FPU: to leave it set on the CPU until an instruction traps would save a write of CR0 that is
 * nearly always made later, and cost the trap.
 */
s64 do_fpu_taskswitch(u64 set, u64, u64, u64, u64, u64)
{
    fpu_set_ts((u32)set != 0);
    return 0;
}

static bool xcr0_valid(u64 v, u64 allowed)
{
    if (!(v & XCR0_FP) || (v & ~allowed))
        return false;
    if ((v & XCR0_AVX) && !(v & XCR0_SSE))
        return false;
    return !(v & XCR0_AVX512) || ((v & XCR0_AVX512) == XCR0_AVX512 && (v & XCR0_AVX));
}

u64 fpu_xcr0(const struct vcpu *v)
{
    return v->arch.fpu && cpu_host.xcr0 ? v->arch.fpu->xcr0 : 0;
}

int fpu_xsetbv(u32 index, u64 value)
{
    struct vcpu *v = current;
    u64 allowed = v->domain->cpuid->xcr0, flags;

    if (index != 0 || !xcr0_valid(value, allowed))
        return refuse(-EINVAL, "XSETBV of register %u to %#lx, allowed %#lx", index, value, allowed);
    flags = irq_save();
    v->arch.fpu->xcr0 = value;
    v->arch.fpu->xcr0_accum |= value;
    load_xcr0(value);
    irq_restore(flags);
    return 0;
}

/* --- For the toolstack -------------------------------------------------------------------------- */

void fpu_get_legacy(struct vcpu *v, void *image)
{
    u8 *out = image;
    struct fpu_state *f = v->arch.fpu;
    u64 in_use = ~0UL;

    sync_image(v);
    memcpy(out, f->image, FPU_LEGACY_SIZE);
    if (cpu_host.xcr0)
        in_use = header(f)->xstate_bv;
    /* XSAVE leaves the parts alone that are in their initial state. */
    if (!(in_use & XCR0_FP)) {
        memset(out, 0, IMAGE_MXCSR);
        memset(out + IMAGE_ST, 0, IMAGE_XMM - IMAGE_ST);
        *(u16 *)(out + IMAGE_FCW) = FCW_DEFAULT;
    }
    if (!(in_use & XCR0_SSE))
        memset(out + IMAGE_XMM, 0, IMAGE_XMM_END - IMAGE_XMM);
}

static void accept_mxcsr(struct fpu_state *f)
{
    *(u32 *)(f->image + IMAGE_MXCSR) &= mxcsr_mask;
}

void fpu_set_legacy(struct vcpu *v, const void *image)
{
    struct fpu_state *f = v->arch.fpu;

    reset_image(f);
    if (!image)
        return;
    memcpy(f->image, image, FPU_LEGACY_SIZE);
    accept_mxcsr(f);
}

/* Bytes of the standard format for these components. */
static u32 area_size(u64 components)
{
    u32 size = XSAVE_MIN_SIZE;

    for (unsigned n = 2; n < ARRAY_SIZE(component_end); n++)
        if (components >> n & 1)
            size = max(size, component_end[n]);
    return size;
}

struct ext_prefix {
    u64 xcr0, xcr0_accum;
};

/* A domain whose policy has no XSAVE has none of this, whatever the machine can do: all its state is in its vCPUs' contexts. */
u64 fpu_ext_mask(const struct vcpu *v) { return v->domain->cpuid->xcr0 ? cpu_host.xcr0 : 0; }

size_t fpu_ext_size(const struct vcpu *v)
{
    if (!fpu_ext_mask(v) || !v->arch.fpu)
        return 0;
    return sizeof(struct ext_prefix) + area_size(v->arch.fpu->xcr0_accum);
}

void fpu_ext_get(struct vcpu *v, void *buf)
{
    struct fpu_state *f = v->arch.fpu;
    struct ext_prefix *p = buf;

    sync_image(v);
    p->xcr0 = f->xcr0;
    p->xcr0_accum = f->xcr0_accum;
    memcpy(p + 1, f->image, area_size(f->xcr0_accum));
    /* Components that were never enabled are not in there. */
    ((struct xsave_header *)((u8 *)(p + 1) + FPU_LEGACY_SIZE))->xstate_bv &= f->xcr0_accum;
}

/* The header of an image of so many bytes: what XRSTOR would take without a fault. */
static int check_header(const struct xsave_header *h, u64 accum, size_t size)
{
    if (h->xstate_bv & ~accum)
        return refuse(-EINVAL, "state of components %#lx, enabled are %#lx", h->xstate_bv, accum);
    if (h->xcomp_bv)
        return refuse(-EINVAL, "compacted state (%#lx), expected the standard format", h->xcomp_bv);
    for (unsigned i = 0; i < ARRAY_SIZE(h->reserved); i++)
        if (h->reserved[i])
            return refuse(-EINVAL, "reserved bytes of the state's header are not zero");
    if (area_size(h->xstate_bv) > size)
        return refuse(-EINVAL, "%zu bytes of state, components %#lx take %u", size, h->xstate_bv, area_size(h->xstate_bv));
    return 0;
}

int fpu_ext_set(struct vcpu *v, const void *buf, size_t size)
{
    struct fpu_state *f = v->arch.fpu;
    const struct ext_prefix *p = buf;
    const u8 *area = (const u8 *)(p + 1);
    u64 allowed = v->domain->cpuid->xcr0, accum;
    int err;

    /* Xen's way to say that the guest has never enabled any. */
    if (size >= sizeof(*p) && !p->xcr0 && !p->xcr0_accum)
        return 0;
    if (!cpu_host.xcr0)
        return refuse(-EOPNOTSUPP, "extended state on a processor without XSAVE");
    if (size < sizeof(*p) || size > sizeof(*p) + cpu_host.xsave_size)
        return refuse(-EINVAL, "%zu bytes of extended state, expected %zu to %zu", size, sizeof(*p), sizeof(*p) + cpu_host.xsave_size);
    if (!xcr0_valid(p->xcr0, allowed) || (p->xcr0_accum & ~allowed) || (p->xcr0 & ~p->xcr0_accum))
        return refuse(-EINVAL, "XCR0 %#lx of %#lx, allowed %#lx", p->xcr0, p->xcr0_accum, allowed);
    accum = p->xcr0_accum | XCR0_SSE;
    size -= sizeof(*p);
    if (size != 0) {
        if (size < XSAVE_MIN_SIZE)
            return refuse(-EINVAL, "%zu bytes of state behind XCR0, expected none or at least %zu", size, XSAVE_MIN_SIZE);
        err = check_header((const struct xsave_header *)(area + FPU_LEGACY_SIZE), accum, size);
        if (err)
            return err;
        reset_image(f);
        memcpy(f->image, area, size);
        accept_mxcsr(f);
    }
    f->xcr0 = p->xcr0;
    f->xcr0_accum = accum;
    f->cpu = NO_CPU;
    return 0;
}
