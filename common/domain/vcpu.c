/* Making and unmaking vCPUs, and where their vcpu_info lies. */
#include <public/vcpu.h>
#include <pvisor/evtchn.h>
#include <pvisor/frame.h>
#include <pvisor/guest.h>
#include <pvisor/printk.h>
#include <pvisor/time.h>
#include "internal.h"

_Static_assert(sizeof(struct vcpu_info_l64) <= sizeof(((struct vcpu *)0)->own_info), "a whole vcpu_info");

static void vcpu_reset_info(struct vcpu *v)
{
    enum abi_word w = domain_word(v->domain);
    char guest_shared *shared = v->domain->shared_info;
    const void guest_shared *registered = NULL;

    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        registered = v->info;
    if (shared && v->id < XEN_LEGACY_MAX_VCPUS)
        v->info = shared + abi_offset(w, shared_info, vcpu_info) + v->id * abi_sizeof(w, vcpu_info);
    else
        v->info = v->own_info;
    if (registered) {
        unmap_frame(registered);
        frame_put_writable(v->info_mfn);
        v->info_mfn = INVALID_MFN;
    }
}

void domain_reset_vcpu_info(struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        vcpu_reset_info(v);
}

bool domain_has_registered_info(const struct domain *d)
{
    struct vcpu *v;

    for_each_vcpu(d, v)
        if (!mfn_eq(v->info_mfn, INVALID_MFN) || v->runstate_phys.at || v->time_phys.at)
            return true;
    return false;
}

/* --- Areas by machine address --- */

static void area_drop(struct vcpu_area *a)
{
    const void guest_shared *at = a->at;

    if (!at)
        return;
    write_once(a->at, NULL);
    unmap_frame(at);
    frame_put_writable(a->mfn);
}

int vcpu_area_set(struct vcpu *v, struct vcpu_area *a, u64 maddr, size_t size)
{
    mfn_t m = mfn(maddr >> PAGE_SHIFT);
    u64 offset = maddr & (PAGE_SIZE - 1);
    char guest_shared *page;

    if (maddr == ~0UL) {
        area_drop(a);
        return 0;
    }
    if (offset > PAGE_SIZE - size || offset % abi_word_bytes(domain_word(v->domain)))
        return refuse(-ENXIO, "%zu bytes at %#lx: they must lie within one frame, aligned to a word", size, maddr);
    if (frame_get_writable(m, v->domain))
        return refuse(-EINVAL, "frame %#lx is not d%u's to write", m.v, v->domain->id);
    area_drop(a);
    page = map_frame(m);
    a->mfn = m;
    write_once(a->at, (void guest_shared *)(page + offset));
    return 0;
}

void vcpu_areas_drop(struct vcpu *v)
{
    area_drop(&v->runstate_phys);
    area_drop(&v->time_phys);
}

static void vcpu_init_fields(struct vcpu *v, struct domain *d, u32 id)
{
    v->domain = d;
    v->id = id;
    v->info_mfn = INVALID_MFN;
    v->info = v->own_info;
    v->pause_flags = VPF_DOWN;
    v->runstate.state = RUNSTATE_offline;
    v->runstate.entry_time = now_ns();
    spin_lock_init(&v->virq_lock, RANK_VIRQ);
    list_init(&v->sched.node);
}

struct vcpu *vcpu_create(struct domain *d, u32 id)
{
    struct vcpu *v;

    if (id >= d->max_vcpus || d->vcpu[id])
        return NULL;
    v = xzalloc(struct vcpu);
    if (!v)
        return NULL;
    vcpu_init_fields(v, d, id);
    if (arch_vcpu_create(v))
        goto free;
    if (sched_init_vcpu(v))
        goto destroy;
    vcpu_timers_init(v);
    vcpu_reset_info(v);
    evtchn_vcpu_init(v);
    domain_add_vcpu(v);
    return v;

destroy:
    arch_vcpu_destroy(v);
free:
    xfree(v);
    printk(LOG_WARNING "d%u: no memory for vCPU %u\n", d->id, id);
    return NULL;
}

void vcpus_destroy(struct domain *d)
{
    for (u32 i = 0; i < d->max_vcpus; i++) {
        struct vcpu *v = d->vcpu[i];

        if (!v)
            continue;
        sched_destroy_vcpu(v);
        vcpu_timers_kill(v);
        arch_vcpu_destroy(v);
        write_once(d->vcpu[i], NULL);
        xfree(v);
    }
}
