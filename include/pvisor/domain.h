/*
 * Domains and virtual CPUs. Subsystems keep their own state behind a pointer or in an embedded structure
 * that their header defines; the machine's part is struct arch_domain / arch_vcpu (asm/domain.h).
 */
#ifndef PVISOR_DOMAIN_H
#define PVISOR_DOMAIN_H

#include <asm/domain.h>
#include <asm/nospec.h>
#include <asm/percpu.h>
#include <public/xen.h>
#include <pvisor/console.h>
#include <pvisor/cpumask.h>
#include <pvisor/fetch.h>
#include <pvisor/list.h>
#include <pvisor/sched.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include <pvisor/timer.h>

struct evtchn_domain;   /* common/event/ */
struct fifo_vcpu;       /* common/event/fifo.c */
struct grant_table;     /* common/grant/ */
struct pirq_table;      /* arch/x86/irq/ */
struct cpu_policy;      /* arch/x86/cpu/ */
struct rangeset;

#define MAX_VCPUS 128
#define DOMAIN_HASH 256

/*
 * Where a vCPU's runstate or time is written besides, by machine address: in a frame of its domain's that stays writable until then. It
 * is changed by the vCPU itself, or by others while there is none, under the domain's lock; who writes there is on the vCPU's CPU.
 */
struct vcpu_area {
    void guest_shared *at;          /* NULL: there is none */
    mfn_t mfn;
};

struct vcpu {
    struct domain *domain;
    u32 id;
    u32 cpu;                        /* where it runs or last ran */
    struct sched_vcpu sched;        /* pvisor/sched.h */

    u32 pause_flags;                /* VPF_*: runnable when 0 */
    u32 pause_count;                /* nested vcpu_pause() */
    bool is_initialised;            /* has a context */
    bool is_running;                /* on v->cpu now */
    bool poll_active;               /* in SCHEDOP_poll on poll_port (0: several) */
    u32 poll_port;

    /*
     * The vcpu_info: in shared_info, or where VCPUOP_register_vcpu_info put it; own_info for one that has neither. Never NULL.
     * The frame of a registered one is given back only when nobody writes there: no vCPU of the domain runs, no port is open.
     */
    void guest_shared *info;
    u64 own_info[8];                /* not shared with any other vCPU: what a guest must not see of others is written here */
    mfn_t info_mfn;                 /* INVALID_MFN unless registered */
    struct timer singleshot, periodic, poll_timer;
    u64 periodic_period;            /* ns, 0: off */

    /* Event channel ports bound to each virtual interrupt; 0: none. */
    u32 virq_port[NR_VIRQS];
    spinlock_t virq_lock;
    struct fifo_vcpu *fifo;         /* common/event/fifo.c: control block state */
    bool in_multicall;
    u64 bad_address;                /* last_bad_guest_address() */

    struct vcpu_runstate {
        u32 state;                  /* RUNSTATE_* */
        u64 entry_time;
        u64 time[4];
    } runstate;
    gva_t runstate_area;            /* guest address, 0: none */
    gva_t time_area;                /* secondary vcpu_time_info, 0: none */
    struct vcpu_area runstate_phys, time_phys;      /* written instead of these two */

    struct arch_vcpu arch;
};

#define VPF_BLOCKED  (1u << 0)   /* SCHEDOP_block or poll: an event wakes it */
#define VPF_DOWN     (1u << 1)   /* not started, or VCPUOP_down */
#define VPF_PAUSED   (1u << 2)   /* pause_count != 0 or the domain's */

#define WATCH_POLLERS 1u           /* one of its vCPUs has waited in SCHEDOP_poll, once */
#define WATCH_FORMAT  2u           /* its events change, or have changed, from two levels to FIFO */

enum domain_dying { DOMAIN_ALIVE, DOMAIN_DYING, DOMAIN_DEAD };

struct domain {
    u16 id;
    u64 unique_id;                  /* no other's, before or after */
    bool is_control;                /* dom0: may make control calls */
    bool is_hardware;               /* owns the physical devices */
    bool is_shut_down;
    u8 shutdown_code;               /* SHUTDOWN_*; 0xff: none yet */
    bool crash_logged;
    bool hidden;                    /* not found by domain_get(): being made or unmade */
    bool creation_finished;         /* unpaused by the toolstack once */
    bool debugger_attached;         /* XEN_DOMCTL_setdebugging: no meaning beyond being reported */
    enum domain_dying dying;
    u32 refs;                       /* domain_get/put */
    u32 pause_count;
    u32 controller_pause_count;     /* XEN_DOMCTL_pausedomain; 1 when created */
    u32 max_vcpus;
    struct vcpu **vcpu;             /* max_vcpus entries */
    struct sched_domain sched;      /* pvisor/sched.h */
    struct list node;               /* in the list of all domains, by rising id */
    struct domain *hash_next;
    spinlock_t lock;                /* RANK_DOMAIN */

    /* Memory (RANK_PAGES lock). A set bit in regions: d may own frames in that 2 MiB of RAM. */
    spinlock_t page_lock;
    u64 tot_pages, max_pages;       /* frames that it owns and that count, at any moment */
    u64 shared_frames;              /* not in tot_pages */
    u64 outstanding_pages;          /* its claim: the heap's */
    u64 *regions;

    struct evtchn_domain *evtchn;
    struct grant_table *gnttab;
    struct pirq_table *pirqs;
    struct cpu_policy *cpuid;
    struct rangeset *iomem, *ioports, *irqs;   /* what it may use */
    bool iomem_withdrawn;           /* some of iomem was taken back; what of it the domain had mapped it keeps, as in Xen */

    void guest_shared *shared_info; /* one frame; layout by word size */
    mfn_t shared_info_mfn;
    s64 time_offset_secs;
    u64 vm_assist;                  /* bit n: VMASST_TYPE n */
    u8 handle[16];
    u32 ssidref, createflags;
    struct xen_arch_domainconfig arch_config;
    u32 max_evtchn_port, max_grant_frames, max_maptrack_frames, grant_max_version;
    u64 node_affinity;
    u32 suspend_port;               /* XEN_DOMCTL_subscribe: told when it suspends; 0: none */
    u8 event_watch;                 /* WATCH_*: what whoever sends it an event must look for besides */
    struct guest_console console;
    u32 cpupool;                    /* cpupool.h */
    u32 teardown;                   /* progress of domain_kill() */
    u32 parts_ready;                /* progress of domain_create() */
    struct tasklet destroy;         /* runs when the last reference is gone */

    struct arch_domain arch;
};

/* d may own frames in the 2 MiB of RAM that this one is in; d has its map of regions. */
static inline bool domain_has_region(const struct domain *d, u64 frame) { return d->regions[frame >> 15] >> (frame >> 9 & 63) & 1; }

extern struct domain *dom0;
extern struct list domain_list;     /* under domlist_lock; the idle domain is not in it */
extern spinlock_t domlist_lock;
extern struct domain *idle_domain;  /* owns one idle vCPU per CPU */

#define is_idle_vcpu(v) ((v)->domain == idle_domain)
static inline bool is_control_domain(const struct domain *d) { return d->is_control; }

/*
 * Who may act on whom: change its memory, events, interrupts and grants, end it, ask for what is its own. Each domain on itself, and the
 * control domain on any. domain_target: the domain with this id, referenced, if the caller may; else NULL, with *err -ESRCH or -EPERM.
 * control_only, for calls that are its own: 0, or -EPERM.
 */
#define domain_target(domid, err) domain_target_of(__func__, domid, err)
#define control_only() (likely(is_control_domain(current->domain)) ? 0 : refuse(-EPERM, "for the control domain"))
struct domain *domain_target_of(const char *call, u32 domid, s64 *err);

/* A reference to the domain with this id (DOMID_SELF: the caller's), or NULL. Dying domains are found too. */
struct domain *domain_get(u32 domid);
void domain_ref(struct domain *d);
void domain_put(struct domain *d);
/*
 * For the frame table only: a reference to the owner of a frame. Frames keep their owner's structure alive,
 * so this finds a domain that domain_get() does not find any more. NULL for the system's ids.
 */
struct domain *domain_get_owner(u32 domid);
/* Next domain with id >= domid, referenced; NULL at the end. For iteration by id. */
struct domain *domain_get_next(u32 domid);

struct domain_config {              /* what XEN_DOMCTL_createdomain says */
    u32 ssidref, flags, max_vcpus, max_evtchn_port;
    s32 max_grant_frames, max_maptrack_frames;
    u32 grant_opts, cpupool;
    u8 handle[16];
};
/*
 * A new domain, paused by the controller, with no memory and no vCPUs allocated. *err is a negative errno
 * when it returns NULL: -EEXIST if the id is taken, -EINVAL, -ENOMEM. DOMID_ANY: the next free id.
 */
struct domain *domain_create(u16 domid, const struct domain_config *cfg, bool control, int *err);
struct vcpu *vcpu_create(struct domain *d, u32 id);     /* NULL: no memory or no such id */
/* Frees all that a dying domain holds; -ERESTART_HYPERCALL while there is more to do; 0 when done. */
int domain_kill(struct domain *d);
/* The guest shut down or crashed: stops its vCPUs, tells dom0 by VIRQ_DOM_EXC. */
void domain_shutdown(struct domain *d, u8 reason);
/* Ends the current domain (or v's) for a fault that it cannot handle. The reason is logged with registers. */
void domain_crash(struct domain *d, const char *fmt, ...) printf_like(2, 3);
int domain_resume(struct domain *d);

void domain_pause(struct domain *d);            /* waits until no vCPU of d runs; not for current's domain */
void domain_pause_nowait(struct domain *d);
void domain_unpause(struct domain *d);
int domain_pause_by_controller(struct domain *d);
int domain_unpause_by_controller(struct domain *d);
void vcpu_pause(struct vcpu *v);
void vcpu_pause_nowait(struct vcpu *v);
void vcpu_unpause(struct vcpu *v);

/* A vCPU of d by id, NULL if there is none. */
static inline struct vcpu *domain_vcpu(const struct domain *d, u32 id)
{
    return id < d->max_vcpus ? d->vcpu[index_nospec(id, d->max_vcpus)] : NULL;
}
#define for_each_vcpu(d, v) \
    for (u32 i_ = 0; i_ < (d)->max_vcpus; i_++) if (((v) = (d)->vcpu[i_]) != NULL)

/*
 * Every vCPU's vcpu_info back to its place in shared_info: the word size changed and none is registered, or the domain dies:
 * its vCPUs stand still and its ports are closed.
 */
void domain_reset_vcpu_info(struct domain *d);
bool domain_has_registered_info(const struct domain *d);
/*
 * Area a of v is from now on `size` bytes at machine address maddr, or nowhere (~0). The domain's lock is held. -ENXIO: not within a frame,
 * or not aligned; -EINVAL: not a frame that the domain may write to. vcpu_areas_drop: v does not run, and has none any more.
 */
int vcpu_area_set(struct vcpu *v, struct vcpu_area *a, u64 maddr, size_t size);
void vcpu_areas_drop(struct vcpu *v);
u64 domain_nr_gpfns(const struct domain *d);    /* what the guest says of itself in shared_info, whatever that is: one beyond its highest */
/*
 * Sets aside memory for pages frames in all, those that d has included (0: no claim); what d then allocates
 * comes out of it. -ENOMEM: not that much is free; -EINVAL: beyond its maximum, or it has more already.
 */
int domain_claim(struct domain *d, u64 pages);
/* The VMASST_TYPE bits that d may set. */
u64 vm_assist_valid(const struct domain *d);

/*
 * Domain domid has come (mark), shut down or gone: whoever bound VIRQ_DOM_EXC hears of it, and can ask for one of those that have, or
 * DOMID_INVALID; it is then no longer one. A binding of VIRQ_DOM_EXC makes all that there are such. Any context, but for the latter.
 */
void domain_mark_changed(u16 domid);
void domain_changed(u16 domid);
u16 domain_next_changed(void);
void domains_all_changed(void);

void domain_debug_keys_init(void);               /* boot */

/* Events: sends virtual interrupt VIRQ_* */
void send_guest_vcpu_virq(struct vcpu *v, u32 virq);
void send_guest_global_virq(struct domain *d, u32 virq);
void send_dom0_virq(u32 virq);                  /* to the domain that bound it; dom0 by default */

#endif
