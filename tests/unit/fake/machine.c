/* See fake.h. */
#include <execinfo.h>
#include <stdio.h>
#define strtoull libc_strtoull /* pvisor/lib.h has its own */
#include <stdlib.h>
#undef strtoull
#include <string.h>

#include <asm/dirty.h>
#include <asm/atomic.h>
#include <public/errno.h>
#include <pvisor/devices.h>
#include <pvisor/trace.h>
#include <pvisor/fetch.h>
#include <pvisor/guest.h>
#include <pvisor/hypercall.h>
#include <pvisor/invariant.h>
#include <pvisor/irq.h>
#include <pvisor/printk.h>
#include <pvisor/softirq.h>
#include "fake.h"

#define FAKE __attribute__((weak))

struct fake_frame fake_frames[FAKE_NR_FRAMES];
struct fake_faults fake;
struct fake_restart fake_restart;
unsigned fake_unblocks[FAKE_MAX_DOMAINS][MAX_VCPUS];
unsigned fake_kicks[FAKE_MAX_DOMAINS][MAX_VCPUS];
unsigned fake_crashes;

static u8 *frame_memory;
static u8 *guest_memory;
static size_t guest_used;
static struct domain *domains[FAKE_MAX_DOMAINS];
static u64 nr_blocks;

FAKE struct domain *dom0;
FAKE struct domain *idle_domain;
FAKE cpumask_t cpu_online_map = { { 1 } };
FAKE unsigned nr_cpus = 1;
FAKE u64 nr_frames = ~0UL;

/* --- This CPU ------------------------------------------------------------------------------------- */

FAKE struct cpu_info *cpu_info(void)
{
    static __thread struct cpu_info info;

    return &info;
}

void fake_run(struct domain *d, u32 id) { cpu_info()->current_vcpu = d->vcpu[id]; }
void fake_set_cpu(u32 cpu) { cpu_info()->cpu = cpu; }

/* --- The log -------------------------------------------------------------------------------------- */

static bool verbose(void) { return getenv("VERBOSE") != NULL; }

FAKE void vprintk(const char *fmt, va_list args)
{
    if (!verbose())
        return;
    if (*fmt == '\001')
        fmt += 2;
    vfprintf(stderr, fmt, args);
}

FAKE void printk(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintk(fmt, args);
    va_end(args);
}

__thread char fake_said[160];

FAKE void guest_log(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(fake_said, sizeof(fake_said), fmt, args);
    va_end(args);
    if (!verbose())
        return;
    va_start(args, fmt);
    fprintf(stderr, "d%uv%u: ", current->domain->id, current->id);
    vprintk(fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

FAKE void domain_log(struct domain *d, const char *fmt, ...)
{
    va_list args;

    if (!verbose())
        return;
    va_start(args, fmt);
    fprintf(stderr, "d%u: ", d->id);
    vprintk(fmt, args);
    fputc('\n', stderr);
    va_end(args);
}

FAKE void panic(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fputs("panic: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

/* --- Locks: real ones, for tests with threads, that check rank and release ------------------------ */

struct held_locks {
    unsigned nr;
    const spinlock_t *lock[16];
};
static __thread struct held_locks held;

static void check_rank(const spinlock_t *l, bool second)
{
    for (unsigned i = 0; i < held.nr; i++) {
        if (held.lock[i] == l)
            panic("lock of rank %u is held already", l->rank);
        if (second ? held.lock[i]->rank > l->rank : held.lock[i]->rank >= l->rank)
            panic("lock of rank %u taken under rank %u", l->rank, held.lock[i]->rank);
    }
    BUG_ON(held.nr == ARRAY_SIZE(held.lock));
}

static void take(spinlock_t *l)
{
    u16 mine = __atomic_fetch_add(&l->t.next, 1, __ATOMIC_SEQ_CST);

    while (__atomic_load_n(&l->t.serving, __ATOMIC_ACQUIRE) != mine)
        __builtin_ia32_pause();
    held.lock[held.nr++] = l;
}

void (*on_lock)(spinlock_t *l), (*on_unlock)(spinlock_t *l);

FAKE void spin_lock(spinlock_t *l)
{
    check_rank(l, false);
    take(l);
    if (on_lock)
        on_lock(l);
}

FAKE void spin_lock_second(spinlock_t *l)
{
    check_rank(l, true);
    take(l);
}

FAKE void spin_unlock(spinlock_t *l)
{
    unsigned i = held.nr;

    while (i && held.lock[i - 1] != l)
        i--;
    if (!i)
        panic("lock of rank %u released, but not held", l->rank);
    memmove(&held.lock[i - 1], &held.lock[i], (held.nr - i) * sizeof(held.lock[0]));
    held.nr--;
    __atomic_store_n(&l->t.serving, (u16)(l->t.serving + 1), __ATOMIC_RELEASE);
    if (on_unlock)
        on_unlock(l);
}

FAKE u64 spin_lock_irqsave(spinlock_t *l)
{
    spin_lock(l);
    return 0;
}

FAKE void spin_unlock_irqrestore(spinlock_t *l, u64 flags)
{
    (void)flags;
    spin_unlock(l);
}

FAKE bool spin_is_held(const spinlock_t *l)
{
    for (unsigned i = 0; i < held.nr; i++)
        if (held.lock[i] == l)
            return true;
    return false;
}

/* --- Memory --------------------------------------------------------------------------------------- */

static bool out_of_memory(void)
{
    if (fake.allocs_before_failure > 1) {
        fake.allocs_before_failure--;
        return false;
    }
    return fake.allocs_before_failure == 1;
}

FAKE void *xzalloc_bytes(size_t size)
{
    if (out_of_memory())
        return NULL;
    __atomic_add_fetch(&nr_blocks, 1, __ATOMIC_SEQ_CST);
    return calloc(1, size ? size : 1);
}

FAKE void xfree(void *p)
{
    if (p)
        __atomic_sub_fetch(&nr_blocks, 1, __ATOMIC_SEQ_CST);
    free(p);
}

static u64 frame_index(mfn_t m)
{
    if (m.v < FAKE_FIRST_MFN || m.v >= FAKE_FIRST_MFN + FAKE_NR_FRAMES)
        panic("frame %#lx is none", m.v);
    return m.v - FAKE_FIRST_MFN;
}

struct fake_frame *fake_frame(mfn_t m) { return &fake_frames[frame_index(m)]; }
u8 *fake_frame_data(mfn_t m) { return frame_memory + frame_index(m) * PAGE_SIZE; }

FAKE bool mfn_valid(mfn_t m) { return m.v >= FAKE_FIRST_MFN && m.v < FAKE_FIRST_MFN + FAKE_NR_FRAMES; }
FAKE u16 frame_owner_id(mfn_t m) { return mfn_valid(m) ? fake_frame(m)->owner : DOMID_IO; }
FAKE mfn_t m2p_chunk(u64 i) { (void)i; return INVALID_MFN; }
FAKE mfn_t compat_m2p_table(u64 nth) { return mfn(900 + nth); }
FAKE mfn_t max_ram_mfn(void) { return mfn(FAKE_FIRST_MFN + FAKE_NR_FRAMES - 1); }

FAKE mfn_t domain_alloc_frames(struct domain *d, unsigned order, unsigned flags)
{
    BUG_ON(order);
    for (u32 i = 0; i < FAKE_NR_FRAMES && !out_of_memory(); i++) {
        struct fake_frame *f = &fake_frames[i];

        if (f->used)
            continue;
        *f = (struct fake_frame){ .owner = d->id, .used = true, .allocated = true, .refs = 1,
                                  .shared = flags & MEMF_NO_COUNT };
        memset(frame_memory + i * PAGE_SIZE, 0, PAGE_SIZE);
        return mfn(FAKE_FIRST_MFN + i);
    }
    return INVALID_MFN;
}

FAKE mfn_t domain_alloc_shared_frame(struct domain *d)
{
    return domain_alloc_frames(d, 0, MEMF_NO_COUNT);
}

mfn_t fake_frame_of(struct domain *d) { return domain_alloc_frames(d, 0, 0); }

FAKE bool frame_get(mfn_t m, const struct domain *owner)
{
    if (!mfn_valid(m) || !fake_frame(m)->used || !read_once(fake_frame(m)->refs) || fake_frame(m)->owner != owner->id)
        return false;
    atomic_inc(&fake_frame(m)->refs);
    return true;
}

FAKE void frame_put(mfn_t m)
{
    struct fake_frame *f = fake_frame(m);

    if (!f->used || !read_once(f->refs))
        panic("reference to frame %#lx dropped twice", m.v);
    if (atomic_dec_and_test(&f->refs)) {
        if (f->writers)
            panic("frame %#lx is freed with %u writable references", m.v, f->writers);
        f->used = false;
    }
}

FAKE int frame_get_writable(mfn_t m, const struct domain *owner)
{
    if (!frame_get(m, owner))
        return -EINVAL;
    if (fake_frame(m)->is_table) {
        frame_put(m);
        return -EBUSY;
    }
    atomic_inc(&fake_frame(m)->writers);
    return 0;
}

FAKE void frame_put_writable(mfn_t m)
{
    if (!read_once(fake_frame(m)->writers))
        panic("writable reference to frame %#lx dropped twice", m.v);
    atomic_dec(&fake_frame(m)->writers);
    frame_put(m);
}

FAKE bool domain_release_frame(struct domain *d, mfn_t m)
{
    if (!mfn_valid(m) || fake_frame(m)->owner != d->id || !fake_frame(m)->allocated)
        return false;
    fake_frame(m)->allocated = false;
    frame_put(m);
    return true;
}

FAKE bool domain_withdraw_frame(struct domain *d, mfn_t m)
{
    struct fake_frame *f = mfn_valid(m) ? fake_frame(m) : NULL;

    if (!f || f->owner != d->id || f->refs != 1 || !f->allocated || f->shared)
        return false;
    f->refs = 0;
    f->allocated = false;
    return true;
}

FAKE void domain_return_frames(struct domain *d, mfn_t m, u64 nr)
{
    (void)d;
    for (u64 i = 0; i < nr; i++) {
        fake_frame(mfn_add(m, i))->refs = 1;
        fake_frame(mfn_add(m, i))->allocated = true;
    }
}

FAKE bool frame_held(mfn_t m) { return fake_frame(m)->refs > 1; }

FAKE void *map_frame(mfn_t m) { return fake_frame_data(m); }
FAKE void unmap_frame(const void *p) { (void)p; }

FAKE mfn_t virt_to_mfn(const void *p)
{
    return mfn(FAKE_FIRST_MFN + ((u64)((const u8 *)p - frame_memory) >> PAGE_SHIFT));
}

struct fake_usage fake_usage(void)
{
    struct fake_usage u = { .blocks = nr_blocks };

    for (u32 i = 0; i < FAKE_NR_FRAMES; i++) {
        u.frames += fake_frames[i].used;
        u.refs += fake_frames[i].used ? fake_frames[i].refs : 0;
        u.writers += fake_frames[i].writers;
    }
    for (u32 i = 0; i < FAKE_MAX_DOMAINS; i++)
        u.domain_refs += domains[i] ? domains[i]->refs : 0;
    return u;
}

/* --- Domains -------------------------------------------------------------------------------------- */

static void add_vcpu(struct domain *d, u32 id)
{
    struct vcpu *v = calloc(1, sizeof(*v));

    v->domain = d;
    v->id = id;
    v->info = (u8 *)d->shared_info + id * abi_sizeof(d->arch.word, vcpu_info);
    v->info_mfn = INVALID_MFN;
    spin_lock_init(&v->virq_lock, RANK_VIRQ);
    d->vcpu[id] = v;
}

struct domain *fake_domain(u16 id, enum abi_word word, u32 nr_vcpus, bool control)
{
    struct domain *d = calloc(1, sizeof(*d));

    d->id = id;
    d->refs = 1;
    d->is_control = control;
    d->arch.word = word;
    d->max_vcpus = nr_vcpus;
    d->vcpu = calloc(nr_vcpus, sizeof(*d->vcpu));
    spin_lock_init(&d->lock, RANK_DOMAIN);
    spin_lock_init(&d->page_lock, RANK_PAGES);
    d->shared_info_mfn = domain_alloc_shared_frame(d);
    d->shared_info = map_frame(d->shared_info_mfn);
    for (u32 i = 0; i < nr_vcpus; i++)
        add_vcpu(d, i);
    BUG_ON(id >= FAKE_MAX_DOMAINS || domains[id]);
    domains[id] = d;
    if (control)
        dom0 = d;
    return d;
}

void fake_domain_free(struct domain *d)
{
    if (d->refs != 1)
        panic("d%u still has %u references", d->id, d->refs - 1);
    for (u32 i = 0; i < d->max_vcpus; i++)
        free(d->vcpu[i]);
    free(d->vcpu);
    BUG_ON(!domain_release_frame(d, d->shared_info_mfn));
    domains[d->id] = NULL;
    if (dom0 == d)
        dom0 = NULL;
    free(d);
}

FAKE struct domain *domain_get(u32 domid)
{
    if (domid == DOMID_SELF)
        domid = current->domain->id;
    if (domid >= FAKE_MAX_DOMAINS || !domains[domid])
        return NULL;
    atomic_inc(&domains[domid]->refs);
    return domains[domid];
}

FAKE void domain_mark_changed(u16 domid) { (void)domid; }
FAKE void domain_changed(u16 domid) { (void)domid; }
FAKE void domains_all_changed(void) { }

FAKE void domain_ref(struct domain *d) { atomic_inc(&d->refs); }

FAKE void domain_put(struct domain *d)
{
    if (atomic_dec_and_test(&d->refs))
        panic("the last reference to d%u is dropped", d->id);
}

FAKE void domain_crash(struct domain *d, const char *fmt, ...)
{
    (void)d;
    (void)fmt;
    fake_crashes++;
}

FAKE void vcpu_unblock(struct vcpu *v)
{
    atomic_inc(&fake_unblocks[v->domain->id][v->id]);
    atomic_and(&v->pause_flags, ~VPF_BLOCKED);
}

FAKE void vcpu_kick(struct vcpu *v) { atomic_inc(&fake_kicks[v->domain->id][v->id]); }

u32 fake_pirq_port[FAKE_MAX_DOMAINS][FAKE_NR_PIRQS];

FAKE int pirq_bind(struct vcpu *v, u32 pirq, u32 port, bool shareable)
{
    (void)shareable;
    write_once(fake_pirq_port[v->domain->id][pirq], port);
    return 0;
}

FAKE void pirq_unbind(struct domain *d, u32 pirq, u32) { write_once(fake_pirq_port[d->id][pirq], 0); }
FAKE u32 pirq_limit(const struct domain *) { return FAKE_NR_PIRQS; }
FAKE u32 pirq_port(const struct domain *d, u32 pirq) { return fake_pirq_port[d->id][pirq]; }

/* --- The invariant: frames that others count -------------------------------------------------------- */

FAKE void holds(const char *, mfn_t, enum frame_type) { }

/* --- Guest memory --------------------------------------------------------------------------------- */

gva_t fake_guest_alloc(size_t size)
{
    gva_t a = gva(FAKE_GUEST_BASE + guest_used);

    guest_used = ROUND_UP(guest_used + size, 64);
    BUG_ON(guest_used > FAKE_GUEST_SIZE);
    return a;
}

void *fake_guest(gva_t a) { return guest_memory + (a.v - FAKE_GUEST_BASE); }

/* True also when the nth access from now on is to fault and this is the nth. */
static bool faults(gva_t a, size_t len, int *countdown)
{
    if (*countdown > 0 && --*countdown == 0)
        return true;
    return a.v < FAKE_GUEST_BASE || len > FAKE_GUEST_SIZE || a.v - FAKE_GUEST_BASE > FAKE_GUEST_SIZE - len;
}

FAKE int copy_from_guest(void *dst, gva_t src, size_t len)
{
    if (faults(src, len, &fake.reads_before_fault))
        return -EFAULT;
    fetch_note((u64)fake_guest(src), len);
    memcpy(dst, fake_guest(src), len);
    return 0;
}

FAKE int copy_to_guest(gva_t dst, const void *src, size_t len)
{
    if (faults(dst, len, &fake.writes_before_fault))
        return -EFAULT;
    memcpy(fake_guest(dst), src, len);
    return 0;
}

FAKE int clear_guest(gva_t dst, size_t len)
{
    if (faults(dst, len, &fake.writes_before_fault))
        return -EFAULT;
    memset(fake_guest(dst), 0, len);
    return 0;
}

FAKE u64 last_bad_guest_address(void) { return 0; }
FAKE void hypercall_wants_look(void) { }

FAKE enum abi_word current_word(void) { return current->domain->arch.word; }
FAKE enum abi_word domain_word(const struct domain *d) { return d->arch.word; }

FAKE int guest_read_abi_(const struct abi_desc *d, void *internal, gva_t src)
{
    u8 raw[8192];

    if (copy_from_guest(raw, src, abi_size(current_word(), d)))
        return -EFAULT;
    abi_decode(current_word(), d, internal, raw);
    return 0;
}

FAKE int guest_write_abi_(const struct abi_desc *d, gva_t dst, const void *internal)
{
    u8 raw[8192];

    if (!abi_encode(current_word(), d, raw, internal))
        return -EOVERFLOW;
    return copy_to_guest(dst, raw, abi_size(current_word(), d));
}

FAKE int guest_read_word(u64 *v, gva_t array, u64 i)
{
    u32 bytes = abi_word_bytes(current_word());

    *v = 0;
    return copy_from_guest(v, gva_add(array, i * bytes), bytes);
}

FAKE int guest_write_word(gva_t array, u64 i, u64 v)
{
    u32 bytes = abi_word_bytes(current_word());

    if (bytes == 4 && v >> 32)
        return -EOVERFLOW;
    return copy_to_guest(gva_add(array, i * bytes), &v, bytes);
}

/* --- Double fetches: the log is the hypervisor's own, of the host's addresses ------------------------ */

FAKE bool linear_to_maddr(u64 va, maddr_t *at)
{
    *at = maddr(va);
    return true;
}

FAKE const char *symbol_lookup(u64 a, u64 *start, u64 *size) { return (void)a, (void)start, (void)size, NULL; }

FAKE unsigned stack_trace(u64 bp, u64 *trace, unsigned max)
{
    void *all[16];
    unsigned own = 2, n = (unsigned)backtrace(all, (int)min(ARRAY_SIZE(all), max + own));   /* this, and who asks */

    (void)bp;
    for (unsigned i = own; i < n; i++)
        trace[i - own] = (u64)all[i];
    return n - own;
}

#include "common/fetch.c"

/* --- Hypercalls ----------------------------------------------------------------------------------- */

FAKE bool preempt_needed(void)
{
    static int calls;

    return fake.preempt_every > 0 && ++calls % fake.preempt_every == 0;
}

FAKE s64 hypercall_restart(unsigned nr_args, ...)
{
    va_list args;

    va_start(args, nr_args);
    fake_restart.nr_args = nr_args;
    for (unsigned i = 0; i < nr_args; i++)
        fake_restart.arg[i] = va_arg(args, u64);
    va_end(args);
    return -ERESTART_HYPERCALL;
}

s64 fake_hypercall(s64 (*fn)(u64, u64, u64, u64, u64, u64), u64 a0, u64 a1, u64 a2)
{
    return fake_hypercall5(fn, a0, a1, a2, 0, 0);
}

s64 fake_hypercall5(s64 (*fn)(u64, u64, u64, u64, u64, u64), u64 a0, u64 a1, u64 a2, u64 a3, u64 a4)
{
    u64 arg[6] = { a0, a1, a2, a3, a4 };

    for (;;) {
        s64 rc;

        fetch_begin();
        rc = fn(arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
        fetch_end();
        fetch_look();
        if (held.nr)
            panic("a handler returned with a lock of rank %u held", held.lock[0]->rank);
        if (rc != -ERESTART_HYPERCALL)
            return rc;
        for (unsigned i = 0; i < fake_restart.nr_args; i++)
            arg[i] = fake_restart.arg[i];
    }
}

FAKE u32 trace_events;
FAKE void trace_record(u32 event, unsigned nr, const u32 *words) { (void)event, (void)nr, (void)words; }
FAKE void trace_hypercall(u32 event, u32 nr, const u64 args[3]) { (void)event, (void)nr, (void)args; }

void fake_reset(void)
{
    if (!frame_memory) {
        frame_memory = aligned_alloc(PAGE_SIZE, FAKE_NR_FRAMES * PAGE_SIZE);
        guest_memory = malloc(FAKE_GUEST_SIZE);
    }
    for (u32 i = 0; i < FAKE_MAX_DOMAINS; i++)
        if (domains[i])
            fake_domain_free(domains[i]);
    memset(fake_frames, 0, sizeof(fake_frames));
    memset(guest_memory, 0, FAKE_GUEST_SIZE);
    memset(&fake, 0, sizeof(fake));
    memset(fake_unblocks, 0, sizeof(fake_unblocks));
    memset(fake_kicks, 0, sizeof(fake_kicks));
    memset(&fake_restart, 0, sizeof(fake_restart));
    fake_crashes = 0;
    guest_used = 0;
    nr_blocks = 0;
}

/* --- Devices: dom0's, all of them ----------------------------------------------------------------- */

FAKE bool devices_can_be_given(void) { return false; }
FAKE int device_test(u32 sbdf) { return (void)sbdf, -EOPNOTSUPP; }
FAKE int device_assign(struct domain *d, u32 sbdf) { return (void)d, (void)sbdf, -EOPNOTSUPP; }
FAKE int device_deassign(struct domain *d, u32 sbdf) { return (void)d, (void)sbdf, -ENODEV; }
FAKE int devices_release(struct domain *d) { return (void)d, 0; }

/* No domain's writes are logged, unless a test links pt/dirty.c. */
FAKE void dirty_log_mark(struct domain *d, mfn_t m) { (void)d, (void)m; }
