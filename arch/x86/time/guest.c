/*
 * Time as guests see it: per-vCPU time parameters, wall clock, runstate areas, and the TSC of domains that
 * may not read the real one. The structures are public/xen.h's and public/vcpu.h's.
 */
#include <asm/atomic.h>
#include <asm/domain.h>
#include <asm/time.h>
#include <asm/x86.h>
#include <public/errno.h>
#include <public/vcpu.h>
#include <pvisor/domain.h>
#include <pvisor/guest.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/short_way.h>
#include <pvisor/time.h>

/* --- The guest's TSC ------------------------------------------------------------------------------- */

/* Before its start a domain's TSC is negative: a CPU's point on the clock, which the guest is told of, may be from before that. */
static u64 guest_tsc_at(const struct domain *d, u64 ns)
{
    s64 elapsed = (s64)(ns - d->arch.tsc_offset);
    u64 ticks = mul_div((u64)(elapsed < 0 ? -elapsed : elapsed), d->arch.tsc_khz, 1000000);

    return elapsed < 0 ? -ticks : ticks;
}

u64 guest_rdtsc(const struct vcpu *v)
{
    return v->domain->arch.tsc_native ? rdtsc() : guest_tsc_at(v->domain, now_ns());
}

/* A guest that was told another rate (it came from another machine) keeps it, at the price of a trap. */
static bool may_read_tsc(u32 mode, u32 khz)
{
    u64 difference = khz > tsc_khz() ? khz - tsc_khz() : tsc_khz() - khz;

    if (mode != TSC_MODE_DEFAULT)
        return mode == TSC_MODE_NATIVE;
    return tsc_is_constant() && tsc_is_synchronous() && (!khz || difference <= tsc_khz() / 10000);
}

/* So that a domain's TSC has room in 64 bits, for 27 years more: the division by which it is computed must not overflow. */
#define MAX_ELAPSED (1UL << 58)     /* ns: nine years */
#define MIN_KHZ     10000UL
#define MAX_KHZ     16000000UL

int tsc_set_info(struct domain *d, u32 mode, u64 elapsed, u32 khz, u32 incarnation)
{
    if (mode > TSC_MODE_NATIVE)
        return refuse(-EINVAL, "d%u: TSC mode %u, expected 0 to 2", d->id, mode);
    if (elapsed > MAX_ELAPSED || (khz && (khz < MIN_KHZ || khz > MAX_KHZ)))
        return refuse(-EINVAL, "d%u: %lu ns at %u kHz, possible are %lu ns and %lu to %lu kHz", d->id, elapsed, khz,
                      MAX_ELAPSED, MIN_KHZ, MAX_KHZ);
    d->arch.tsc_mode = mode;
    d->arch.tsc_incarnation = incarnation;
    d->arch.tsc_native = may_read_tsc(mode, khz);
    d->arch.tsc_khz = d->arch.tsc_native || !khz ? tsc_khz() : khz;
    d->arch.tsc_offset = now_ns() - elapsed;
    return 0;
}

void tsc_domain_init(struct domain *d)
{
    (void)tsc_set_info(d, TSC_MODE_DEFAULT, 0, 0, 0);
}

void tsc_get_info(const struct domain *d, u32 *mode, u64 *elapsed, u32 *khz, u32 *incarnation)
{
    *mode = d->arch.tsc_mode;
    *elapsed = now_ns() - d->arch.tsc_offset;
    *khz = (u32)d->arch.tsc_khz;
    *incarnation = d->arch.tsc_incarnation;
}

/* --- vcpu_time_info -------------------------------------------------------------------------------- */

static struct vcpu_time_info time_info_of(const struct domain *d)
{
    struct clock_scale s = *cpu_clock_scale();
    bool stable = tsc_is_constant() && tsc_is_synchronous();

    if (!d->arch.tsc_native) {
        s.tsc = guest_tsc_at(d, s.ns);
        scale_set_hz(&s, d->arch.tsc_khz * 1000);
        stable = true;
    }
    return (struct vcpu_time_info){ .tsc_timestamp = s.tsc, .system_time = s.ns, .tsc_to_system_mul = s.mul,
                                    .tsc_shift = s.shift, .flags = stable ? XEN_PVCLOCK_TSC_STABLE_BIT : 0 };
}

/* The guest may read on another CPU at any time: the version is odd while the rest changes. */
static void publish(struct vcpu_time_info guest_shared *to, const struct vcpu_time_info *from)
{
    u32 version = (read_shared(to->version) + 1) | 1;

    write_shared(to->version, version);
    smp_wmb();
    write_shared(to->tsc_timestamp, from->tsc_timestamp);
    write_shared(to->system_time, from->system_time);
    write_shared(to->tsc_to_system_mul, from->tsc_to_system_mul);
    write_shared(to->tsc_shift, from->tsc_shift);
    write_shared(to->flags, from->flags);
    smp_wmb();
    write_shared(to->version, version + 1);
}

void vcpu_time_update(struct vcpu *v)
{
    struct vcpu_time_info t;
    u64 stamp = cpu_clock_scale()->tsc;

    if (v->arch.time_version_tsc == stamp || !v->info)
        return;
    (void)xchg(&v->arch.time_version_tsc, stamp);   /* as in vcpu_time_area_update() */
    t = time_info_of(v->domain);
    publish((void guest_shared *)((char guest_shared *)v->info + abi_offset(domain_word(v->domain), vcpu_info, time)), &t);
}

/* False: the guest's memory there cannot be written now. */
static bool put_time(gva_t area, struct vcpu_time_info *t)
{
    u32 version;

    if (copy_from_guest(&version, area, sizeof(version)))
        return false;
    t->version = (version + 1) | 1;
    if (copy_to_guest(area, &t->version, sizeof(t->version)))
        return false;
    smp_wmb();
    if (copy_to_guest(area, t, sizeof(*t)))
        return false;
    smp_wmb();
    t->version++;
    return !copy_to_guest(area, &t->version, sizeof(t->version));
}

/*
 * The copy that VCPUOP_register_vcpu_time_memory_area or _phys_area asked for (the guest maps it to its user space). Who gives v another
 * area, on any CPU, takes back afterwards that it is up to date: so that is said here before the look where the area is.
 */
void vcpu_time_area_update(struct vcpu *v)
{
    u64 stamp = cpu_clock_scale()->tsc;
    struct vcpu_time_info t;
    void guest_shared *phys;
    gva_t area;

    if (likely(!v->time_area.v && !read_once(v->time_phys.at)) || read_once(v->arch.time_area_tsc) == stamp)
        return;
    (void)xchg(&v->arch.time_area_tsc, stamp);
    t = time_info_of(v->domain);
    phys = read_once(v->time_phys.at);
    area = gva(read_once(v->time_area.v));
    if (phys)
        publish(phys, &t);
    else if (!area.v || !put_time(area, &t))
        write_once(v->arch.time_area_tsc, 0);
}

/* --- Runstate -------------------------------------------------------------------------------------- */

/* A 64-bit guest's layout is ours, but not the hole behind the state: that one shows what our stack held. */
static always_inline int put_runstate(enum abi_word w, gva_t area, const struct vcpu_runstate_info *r)
{
    const size_t at = offsetof(struct vcpu_runstate_info, state_entry_time);

    if (!short_way(vcpu_runstate_info_is_same_64()) || unlikely(w != ABI_64))
        return guest_write_abi(vcpu_runstate_info, area, r);
    if (copy_to_guest(area, &r->state, sizeof(r->state)))
        return -EFAULT;
    return copy_to_guest(gva_add(area, at), &r->state_entry_time, sizeof(*r) - at);
}

/* By machine address the flag is always there (public/vcpu.h). */
static void publish_runstate(enum abi_word w, char guest_shared *area, const struct vcpu_runstate_info *r)
{
    u64 guest_shared *entry_time = (u64 guest_shared *)(area + abi_offset(w, vcpu_runstate_info, state_entry_time));
    u64 guest_shared *time = (u64 guest_shared *)(area + abi_offset(w, vcpu_runstate_info, time));

    write_shared(*entry_time, r->state_entry_time | XEN_RUNSTATE_UPDATE);
    smp_wmb();
    write_shared(*(u32 guest_shared *)area, (u32)r->state);
    for (unsigned i = 0; i < ARRAY_SIZE(r->time); i++)
        write_shared(time[i], r->time[i]);
    smp_wmb();
    write_shared(*entry_time, r->state_entry_time);
}

void vcpu_runstate_area_update(struct vcpu *v)
{
    void guest_shared *phys = read_once(v->runstate_phys.at);
    gva_t area = gva(read_once(v->runstate_area.v)), entry_time;    /* another vCPU may change it */
    enum abi_word w = domain_word(v->domain);
    struct vcpu_runstate_info r;

    if (likely(!area.v && !phys))
        return;
    r.state = (s32)v->runstate.state;
    r.state_entry_time = v->runstate.entry_time;
    memcpy(r.time, v->runstate.time, sizeof(r.time));
    if (phys) {
        publish_runstate(w, phys, &r);
        return;
    }
    if (!(read_once(v->domain->vm_assist) & 1u << VMASST_TYPE_runstate_update_flag)) {
        (void)!put_runstate(w, area, &r);
        return;
    }
    /* The flag goes up before and comes down after: a reader that sees it reads again. */
    entry_time = gva_add(area, abi_offset(w, vcpu_runstate_info, state_entry_time));
    r.state_entry_time |= XEN_RUNSTATE_UPDATE;
    if (copy_to_guest(entry_time, &r.state_entry_time, sizeof(u64)))
        return;
    smp_wmb();
    if (put_runstate(w, area, &r))
        return;
    smp_wmb();
    r.state_entry_time &= ~XEN_RUNSTATE_UPDATE;
    (void)!copy_to_guest(entry_time, &r.state_entry_time, sizeof(u64));
}

/* --- Wall clock ------------------------------------------------------------------------------------ */

static spinlock_t wallclock_lock = SPINLOCK_INIT(RANK_LEAF);
static u64 wallclock_base;   /* ns from 1970 to the start of system time */

static u32 guest_shared *shared_field(const struct domain *d, size_t offset)
{
    return (u32 guest_shared *)((char guest_shared *)d->shared_info + offset);
}

void domain_wallclock_update(struct domain *d)
{
    enum abi_word w = domain_word(d);
    u32 guest_shared *version, *sec, *nsec, *sec_hi;
    u64 flags, secs;
    u32 odd;

    if (!d->shared_info)
        return;
    version = shared_field(d, abi_offset(w, shared_info, wc_version));
    sec = shared_field(d, abi_offset(w, shared_info, wc_sec));
    nsec = shared_field(d, abi_offset(w, shared_info, wc_nsec));
    sec_hi = shared_field(d, w == ABI_64 ? offsetof(struct shared_info_l64, wc_sec_hi)
                                         : offsetof(struct shared_info_l32, arch.wc_sec_hi));
    flags = spin_lock_irqsave(&wallclock_lock);
    secs = wallclock_base / SECONDS(1) + (u64)d->time_offset_secs;
    odd = read_shared(*version) | 1;
    write_shared(*version, odd);
    smp_wmb();
    write_shared(*sec, (u32)secs);
    write_shared(*sec_hi, (u32)(secs >> 32));
    write_shared(*nsec, (u32)(wallclock_base % SECONDS(1)));
    smp_wmb();
    write_shared(*version, odd + 1);
    spin_unlock_irqrestore(&wallclock_lock, flags);
}

void wallclock_set(u64 secs, u32 nsecs, u64 system_ns)
{
    struct domain *d;
    u64 flags = spin_lock_irqsave(&wallclock_lock);

    wallclock_base = secs * SECONDS(1) + nsecs - system_ns;
    spin_unlock_irqrestore(&wallclock_lock, flags);
    spin_lock(&domlist_lock);
    list_for_each(d, &domain_list, node)
        domain_wallclock_update(d);
    spin_unlock(&domlist_lock);
}

static void tell_current(void)
{
    if (!is_idle_vcpu(current))
        vcpu_time_update(current);
}

void guest_time_init(void)
{
    wallclock_base = rtc_read() * SECONDS(1) - now_ns();
    time_on_rebase(tell_current);
}
