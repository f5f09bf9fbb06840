/*
 * The control calls: domctl, sysctl and platform_op of a toolstack that makes domains, asks and ends them, with any bytes in their
 * structures, of which some are made addresses of memory that it has. What domains are made of is the unit test's, which only counts; CPU
 * policies, rights and bitmaps are real. When all domains have died nothing is left.
 */
// MAX: 961
// AS: test_domain
// SOURCES: common/control/access.c common/control/bitmap.c common/control/domctl.c common/control/life.c common/control/machine.c
// SOURCES: common/control/versions.c common/lib/xen_version.c common/lib/text.c
// SOURCES: common/control/dirty_log.c
// SOURCES: common/control/memory.c common/control/policy.c common/control/sysctl.c common/control/vcpu.c common/control/vcpu_state.c
// SOURCES: common/platform/platform.c common/platform/resource.c common/platform/processor.c common/rangeset.c common/domain/rights.c
// SOURCES: common/platform/microcode.c common/control/pm.c arch/x86/cpu/policy.c arch/x86/cpu/policy_check.c arch/x86/cpu/cpuid.c
// SOURCES: arch/x86/cpu/spec_choose.c tests/unit/fake/cpuid.c
#include <pvisor/cpu_policy.h>
#include <pvisor/rangeset.h>

/* The real ones are here. */
#define cpu_policy_domain_init no_policy_init
#define cpu_policy_domain_free no_policy_free
#define rangeset_new no_rangeset_new
#define rangeset_free no_rangeset_free
#define main the_unit_tests
#include "test_domain.c"
#undef cpu_policy_domain_init
#undef cpu_policy_domain_free
#undef rangeset_new
#undef rangeset_free
#undef main

#include <asm/dirty.h>
#include <asm/emulate.h>
#include <asm/features.h>
#include <asm/fpu.h>
#include <asm/idle.h>
#include <asm/pv.h>
#include <asm/smp.h>
#include <common/control/internal.h>
#include <public/platform.h>
#include <pvisor/acpi.h>
#include <pvisor/console.h>
#include <pvisor/cpupool.h>
#include <pvisor/microcode.h>
#include <pvisor/sched.h>
#define MOVE_BYTES 48u
#include "moves.h"

/* No log can be kept, and so none be reported: unit test_store.c has that. */
int dirty_log_start(struct domain *d, u64 nr) { (void)d, (void)nr; return -ENOMEM; }
int dirty_log_stop(struct domain *d) { (void)d; return 0; }
u64 dirty_log_take(struct dirty_log *log, u64 pfn, u64 nr, bool clean) { (void)log, (void)pfn, (void)nr, (void)clean; return 0; }
int dirty_log_withdraw(struct domain *d) { (void)d; return 0; }
bool dirty_log_holds(const struct domain *d) { (void)d; return false; }
void dirty_log_mark_vcpus(struct domain *d) { (void)d; }
int dirty_log_mark_viewed(struct domain *d) { (void)d; return 0; }
bool gnttab_for_writable(struct domain *d, u32 i, void (*fn)(struct domain *d, mfn_t m)) { (void)d, (void)i, (void)fn; return false; }
void evtchn_for_frames(struct domain *d, void (*fn)(struct domain *d, mfn_t m)) { (void)d, (void)fn; }
u64 domain_nr_gpfns(const struct domain *d) { (void)d; return 0; }

/* --- What the calls ask of the machine ------------------------------------------------------------------------- */

#define CONTEXT_BYTES 5168u     /* struct vcpu_guest_context of a 64-bit guest */
#define EXT_BYTES 600u

struct cpu_host cpu_host;
struct acpi_info acpi_info;
u32 cpu_apic_ids[NR_CPUS];

bool spin_trylock(spinlock_t *l) { spin_lock(l); return true; }
u64 vcpu_runtime(struct vcpu *v) { return v->id; }
void vcpu_unblock(struct vcpu *v) { v->pause_flags &= ~VPF_BLOCKED; }
size_t arch_context_size(const struct domain *d) { (void)d; return CONTEXT_BYTES; }
int arch_vcpu_set_context(struct vcpu *v, const void *raw) { v->is_initialised = true; return *(const u8 *)raw & 1 ? -EINVAL : 0; }
void arch_vcpu_get_context(struct vcpu *v, void *raw) { memset(raw, (int)v->id, CONTEXT_BYTES); }
int arch_vcpu_reset(struct vcpu *v) { (void)v; return 0; }
void arch_init_hypercall_page(struct domain *d, void *page) { (void)d; memset(page, 0, PAGE_SIZE); }
int arch_domain_set_address_size(struct domain *d, u32 bits)
{
    d->arch.word = bits == 64 ? ABI_64 : ABI_32;
    return bits & 31 ? -EINVAL : 0;
}
int virq_set_handler(struct domain *d, u32 virq) { (void)d; return virq < NR_VIRQS ? 0 : -EINVAL; }
void vcpu_set_soft_affinity(struct vcpu *v, const cpumask_t *m) { v->sched.soft_affinity = *m; }
int vcpu_set_hard_affinity(struct vcpu *v, const cpumask_t *m)
{
    v->sched.hard_affinity = *m;
    return cpumask_test(m, 0) ? 0 : -EINVAL;
}
void vcpu_send_nmi(struct vcpu *v) { (void)v; }
s64 sc_tbuf_op(struct xen_sysctl *op) { (void)op; return 0; }     /* tests/unit/test_trace.c has what is behind it */
struct idle_stat idle_stat(unsigned cpu) { return (struct idle_stat){ .waits = cpu }; }
void *alloc_pages(unsigned order) { return xzalloc_bytes(PAGE_SIZE << order); }
void free_pages(void *p, unsigned order) { (void)order, xfree(p); }
int ucode_load(const u8 *file, size_t len, bool force) { return force || (len && file[0]) ? 0 : -EINVAL; }   /* fuzz_microcode.c */
struct ucode_cpu ucode_this_cpu(void) { return (struct ucode_cpu){ .revision = 1 }; }
int rdmsr_safe(u32 msr, u64 *v) { *v = msr; return 0; }
int wrmsr_safe(u32 msr, u64 v) { (void)msr, (void)v; return 0; }
void smp_call(const cpumask_t *cpus, void (*fn)(void *data), void *data) { (void)cpus, fn(data); }
int tsc_set_info(struct domain *d, u32 mode, u64 elapsed, u32 khz, u32 incarnation)
{
    (void)d, (void)elapsed, (void)khz, (void)incarnation;
    return mode > 3 ? -EINVAL : 0;
}
void tsc_get_info(const struct domain *d, u32 *mode, u64 *elapsed, u32 *khz, u32 *incarnation)
{
    (void)d;
    *mode = *khz = *incarnation = 0, *elapsed = 0;
}
bool cpu_is_zen_1(const struct cpu_host *h) { (void)h; return false; }
bool cpu_is_zen_2(const struct cpu_host *h) { (void)h; return false; }
bool amd_lfence_waits(const struct cpu_host *h) { (void)h; return true; }
u64 tsc_khz(void) { return 2500000; }
s64 sched_sysctl(struct xen_sysctl_scheduler_op *op) { return op->cmd; }
s64 sched_domctl(struct domain *d, struct xen_domctl_scheduler_op *op) { (void)d; return op->cmd; }
u32 pv_vcpu_msrs_get(const struct vcpu *v, struct vcpu_msr *out)
{
    (void)v;
    memset(out, 0, PV_VCPU_MSRS * sizeof(*out));
    return PV_VCPU_MSRS;
}
int pv_vcpu_msr_set(struct vcpu *v, u32 index, u64 value) { (void)v, (void)value; return index & 1 ? -EINVAL : 0; }
size_t fpu_ext_size(const struct vcpu *v) { (void)v; return EXT_BYTES; }
u64 fpu_ext_mask(const struct vcpu *v) { (void)v; return 7; }
u64 fpu_xcr0(const struct vcpu *v) { (void)v; return 7; }
void fpu_ext_get(struct vcpu *v, void *buf) { (void)v; memset(buf, 1, EXT_BYTES); }
int fpu_ext_set(struct vcpu *v, const void *buf, size_t size) { (void)v; return ((const u8 *)buf)[size - 1] & 1 ? -EINVAL : 0; }
int machine_poweroff(u16 a, u16 b) { (void)a, (void)b; return -ENODEV; }
int acpi_write_reg(const struct acpi_gas *reg, u32 value) { (void)reg, (void)value; return 0; }
void wallclock_set(u64 secs, u32 nsecs, u64 system_ns) { (void)secs, (void)system_ns; EXPECT(nsecs < 1000000000); }
void domain_wallclock_update(struct domain *d) { (void)d; }
void debug_key_handle(char key, struct cpu_regs *regs) { (void)key, (void)regs; }
int cpu_online(unsigned cpu) { return cpu ? -EINVAL : 0; }
int cpu_offline(unsigned cpu) { return cpu ? -EINVAL : -EBUSY; }
u32 console_ring_read(char *buf, u32 n, u32 *index, bool clear)
{
    (void)clear;
    memset(buf, 'x', n);
    *index += n;
    return n;
}
void console_flush(void) { }
static struct cpupool pool = { .exists = true };
struct cpupool *cpupool_get(u32 id) { return id ? NULL : &pool; }
u32 cpupool_next(u32 id) { return id ? CPUPOOL_ANY : 0; }
int cpupool_create(u32 *id) { (void)id; return -ENOSPC; }
int cpupool_destroy(u32 id) { return id ? -ENOENT : -EBUSY; }
int cpupool_add_cpu(u32 id, u32 cpu) { (void)cpu; return id ? -ENOENT : -EBUSY; }
int cpupool_remove_cpu(u32 id, u32 cpu) { (void)cpu; return id ? -ENOENT : -EBUSY; }
cpumask_t cpupool_free_cpus(void) { return (cpumask_t){ { 0 } }; }
s64 platform_efi_info(struct xen_platform_op *op) { (void)op; return -ENOSYS; }
s64 platform_efi_call(struct xen_platform_op *op) { (void)op; return -ENOSYS; }
s64 op_console(struct xen_platform_op *op) { (void)op; return -ENODEV; }
u64 heap_free_frames(void) { return 1; }
u64 heap_total_frames(void) { return 2; }
unsigned frame_type_get(mfn_t m, bool *pinned) { *pinned = m.v & 1; return m.v % (FT_SEGDESC + 1); }

/* --- The toolstack -------------------------------------------------------------------------------------------------- */

#define DATA_BYTES 8192u
static gva_t op_at, data_at;

/* A structure that names itself is read twice, as its caller wants it: no double fetch that is to be found. */
static bool names_itself(u64 v) { return v >= op_at.v - PAGE_SIZE && v < data_at.v; }

/* Any bytes for a structure, whose 8-byte words that `places` names are addresses of the data. */
static void draw_bytes(u8 *to, size_t size)
{
    u16 places = (u16)take(&move, 2);

    for (size_t i = 0; i < size && move.at < move.end; i++)
        to[i] = (u8)take(&move, 1);
    for (size_t i = 0; i * 8 + 8 <= size; i++)
        if ((i < 16 && places >> i & 1) || names_itself(*(u64 *)(to + i * 8)))
            *(u64 *)(to + i * 8) = data_at.v + to[i * 8] * 16u;
}

/* One of the first numbers, which are those that are made, or any. */
static u16 some_domain(void)
{
    u8 b = (u8)take(&move, 1);

    return b < 0xf0 ? b % 4 + 1 : (u16)take(&move, 2);
}

/* For a new one: not dom0's, which is in no table here. */
static u16 some_new_domain(void)
{
    u16 domid = some_domain();

    return domid ? domid : DOMID_ANY;
}

/* Of the newest tools, of those with another layout, of those between; and what is of none. */
static void domctl(void)
{
    static const u32 versions[] = { XEN_DOMCTL_INTERFACE_VERSION, XEN_DOMCTL_INTERFACE_VERSION_4_17, XEN_DOMCTL_INTERFACE_VERSION_4_19 };
    u8 which = (u8)take(&move, 1);
    struct xen_domctl op = { .cmd = which % 96u, .interface_version = versions[which / 96u] };

    if (op.cmd == XEN_DOMCTL_get_domain_state)
        op.interface_version = XEN_DOMCTL_INTERFACE_STABLE;
    op.domain = op.cmd == XEN_DOMCTL_createdomain ? some_new_domain() : some_domain();
    draw_bytes((u8 *)&op.u, sizeof(op.u));
    memcpy(fake_guest(op_at), &op, sizeof(op));
    note_seen(1, op.cmd & 31, op.cmd >> 5, fake_hypercall(do_domctl, op_at.v, 0, 0) ? 0 : 1);
}

/* Nearly right: such as a domain can be made with. */
static void create_one(void)
{
    struct xen_domctl op = { .cmd = XEN_DOMCTL_createdomain, .interface_version = XEN_DOMCTL_INTERFACE_VERSION,
                             .domain = some_new_domain() };

    op.u.createdomain = (struct xen_domctl_createdomain){ .max_vcpus = 1 + (u32)take(&move, 1) % 4, .max_evtchn_port = 100,
                                                          .max_grant_frames = 4, .max_maptrack_frames = 4, .grant_opts = 1 };
    memcpy(fake_guest(op_at), &op, sizeof(op));
    if (fake_hypercall(do_domctl, op_at.v, 0, 0))
        return;
    op = *(struct xen_domctl *)fake_guest(op_at);
    op.cmd = XEN_DOMCTL_max_vcpus;
    op.u.max_vcpus.max = op.u.createdomain.max_vcpus;
    memcpy(fake_guest(op_at), &op, sizeof(op));
    (void)fake_hypercall(do_domctl, op_at.v, 0, 0);
}

static void sysctl(void)
{
    struct xen_sysctl op = { .cmd = (u32)take(&move, 1) % 32, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };
    u32 progress = (u32)take(&move, 1);

    draw_bytes((u8 *)&op.u, sizeof(op.u));
    memcpy(fake_guest(op_at), &op, sizeof(op));
    /* What a call that gave way finds in its registers is the caller's to forge. */
    note_seen(2, op.cmd, 0, fake_hypercall(do_sysctl, op_at.v, progress & 0x80 ? 0x70767363u : 0, progress << 16 | progress) ? 0 : 1);
}

static void platform_op(void)
{
    struct xen_platform_op op = { .cmd = (u32)take(&move, 1) % 67, .interface_version = XENPF_INTERFACE_VERSION };

    draw_bytes((u8 *)&op.u, sizeof(op.u));
    memcpy(fake_guest(op_at), &op, sizeof(op));
    note_seen(3, op.cmd & 31, op.cmd >> 5, fake_hypercall(do_platform_op, op_at.v, 0, 0) ? 0 : 1);
}

static void write_data(void)
{
    u8 *to = (u8 *)fake_guest(data_at) + take(&move, 1) * 16;

    for (unsigned i = 0; i < 40; i++)
        to[i] = (u8)take(&move, 1);
}

static void trouble(void)
{
    u8 how = (u8)take(&move, 1), n = (u8)take(&move, 1);

    fake = (struct fake_faults){ 0 };
    switch (how % 6) {
    case 0: fake.writes_before_fault = n % 8; break;
    case 1: fake.reads_before_fault = n % 8; break;
    case 2: fake.allocs_before_failure = n % 8; break;
    case 3: fake.preempt_every = n % 4; break;
    case 4: relinquish_rounds = n % 4; break;
    }
    control->arch.word = n & 0x80 ? ABI_32 : ABI_64;
}

static void play(void)
{
    static void (*const moves[])(void) = { create_one, domctl, domctl, domctl, domctl, sysctl, sysctl, platform_op, write_data, trouble };

    moves[take(&move, 1) % ARRAY_SIZE(moves)]();
    run_tasklets();
}

/* --- From nothing to nothing -------------------------------------------------------------------------------------------- */

static void kill_all(void)
{
    struct domain *d;

    fake = (struct fake_faults){ 0 };
    relinquish_rounds = 0;
    while ((d = domain_get_next(1))) {
        while (domain_kill(d) == -ERESTART_HYPERCALL)
            ;
        domain_put(d);
        run_tasklets();
    }
}

static void begin(void)
{
    static struct vcpu idle_vcpu, *idle_vcpus[NR_CPUS] = { &idle_vcpu };
    static struct domain idle = { .vcpu = idle_vcpus };
    static bool booted;

    idle_domain = &idle;
    if (!booted) {
        cpu_host = (struct cpu_host){ .vendor = VENDOR_INTEL, .phys_bits = 40, .xcr0 = 7, .max_basic = 13, .max_extended = 0x80000008 };
        cpu_policy_init();
    }
    booted = true;
    setup(NULL);
    op_at = fake_guest_alloc(sizeof(struct xen_domctl) + sizeof(struct xen_sysctl) + sizeof(struct xen_platform_op));
    data_at = fake_guest_alloc(DATA_BYTES);
    control->sched.pool = &pool;
    control->iomem = rangeset_new();
    control->ioports = rangeset_new();
    control->irqs = rangeset_new();
    EXPECT(!rangeset_add(control->iomem, 0, 1023) && !rangeset_add(control->ioports, 0, 0xffff) && !rangeset_add(control->irqs, 0, 63));
}

/* No lock is held between two moves, which the fake machine looks at. The place for whatever else is to hold. */
static void between_moves(void)
{
    struct domain *d;

    EXPECT(current->domain == control);
    for (u32 id = 1; (d = domain_get_next(id)); id++) {
        id = d->id;
        EXPECT(d->refs > 1 && (!d->controller_pause_count || d->pause_count));
        domain_put(d);
    }
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = { data, data + size };

    begin();
    (void)take(&in, 1);
    while (next_move(&in)) {
        play();
        between_moves();
    }
    kill_all();
    rangeset_free(control->iomem);
    rangeset_free(control->ioports);
    rangeset_free(control->irqs);
    EXPECT(parts_left == 0 && vcpus_left == 0 && fake_usage().blocks == 0 && control->refs == 1);
    return 0;
}
