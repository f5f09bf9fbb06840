/* The machine's part of a domain and of a vCPU: page-table format, PV trap state, segment and FPU state. */
#ifndef ASM_DOMAIN_H
#define ASM_DOMAIN_H

#include <asm/regs.h>
#include <pvisor/abi.h>
#include <pvisor/cpumask.h>
#include <pvisor/fetch.h>
#include <pvisor/softirq.h>
#include <pvisor/spinlock.h>
#include <pvisor/types.h>

struct pt_format;
struct domain;

/* Where a guest wants control for a vector. A 64-bit guest has no selector of its own choice to speak of. */
struct trap_entry {
    u64 address;
    u16 cs;            /* 0: no handler */
    u8 dpl;
    bool disables_events;
};

struct guest_callback {
    u64 address;
    u16 cs;            /* 32-bit guests */
    bool registered;
    bool disables_events;
};

enum callback_id { CB_EVENT, CB_FAILSAFE, CB_SYSCALL, CB_SYSCALL32, CB_SYSENTER, CB_NMI, NR_CALLBACKS };

struct e820entry;   /* public/memory.h */
struct fpu_state;   /* arch/x86/cpu/fpu.c */

/* Why a trap is to be delivered on the way back to the guest. */
struct arch_vcpu {
    struct cpu_regs regs;          /* while descheduled; cpu_info()->guest_regs while it runs */
    bool kernel_mode;              /* 64-bit: which of the two page-table roots and GS bases is in use */
    bool ts;                       /* the guest's CR0.TS (fpu_taskswitch) */
    bool nmi_pending, nmi_masked;
    u8 iopl;
    u64 kernel_sp;
    u16 kernel_ss;
    u64 fs_base, gs_base_kernel, gs_base_user;
    u64 cr[8];                     /* the guest's view: [0], [4]; [2] lives in vcpu_info */
    u64 debugreg[8];
    u32 tsc_aux, spec_ctrl;        /* MSRs */
    struct trap_entry *traps;      /* 256 */
    struct guest_callback callback[NR_CALLBACKS];

    mfn_t gdt_frames[16];
    u32 gdt_entries;
    u64 ldt_base;
    u32 ldt_entries;
    u64 *perdomain_l1;             /* this vCPU's 32 entries of the per-domain slot: GDT, LDT */

    mfn_t root_kernel, root_user;  /* typed references held; INVALID_MFN when none */
    u64 cr3;                       /* what the CPU loads now */
    u64 walked[2];                 /* 64-bit: what it loads for the user's and the kernel's root: these or their mirrors */
    u64 *monitor_l4;               /* 32-bit formats: hypervisor-owned top levels, else NULL */
    u64 *monitor_l3;

    struct fpu_state *fpu;
    bool fpu_dirty;                /* the CPU's FPU registers hold this vCPU's state */

    u64 time_version_tsc;          /* last calibration written to its vcpu_time_info; 0: write again */
    u64 time_area_tsc;             /* the same for the secondary time area */
    gva_t iobitmap;                /* PHYSDEVOP_set_iobitmap */
    u32 iobitmap_ports;
};

struct arch_domain {
    const struct pt_format *fmt;
    enum abi_word word;
    bool mirrored;                 /* each of its tables has a mirror, which all stores keep in step: pt/mirror.c */
    bool mirror_walked;            /* ... and that is what the hardware walks */
    bool own_faults_64;            /* a 64-bit guest's whose faults are all its own: its tables are walked in place */
    u8 store;                      /* enum store: how far a change of it has come: pt/store.c */
    u64 store_at;                  /* frames done */
    u8 for_good;                   /* enum for_good: whether it stays mirrored, or is to */
    bool store_stops;              /* a mirror that was wanted could not be had: in place again once all vCPUs rest */
    bool store_short;              /* ENDING for want of memory, of which whoever began it is yet to be told */
    bool store_holds;              /* vCPUs are paused for store_rest, which has a reference */
    struct tasklet store_rest;
    bool logging, log_ready;       /* what is written is noted, and all mirrors permit only what is: asm/dirty.h */
    bool log_gap;                  /* since it was begun the guest's writes were not noted for a while: there was no memory for mirrors */
    bool log_taken;                /* a report has taken frames out of the log, and mirrors that still permit them are to follow */
    struct dirty_log *log;         /* from the first time on, until the domain's end: who notes takes no lock */
    spinlock_t pt_lock;            /* all changes of this domain's page tables and frame types */
    u64 *perdomain_l3;             /* shared by all page tables of the domain: slot 260 */
    mfn_t perdomain_l3_mfn;
    u64 stale, flushed;            /* see note_stale() */
    cpumask_t dirty_cpus;          /* union of its vCPUs' since the last full flush */
    u32 **mirror;                  /* guest frame -> first frame of its mirror, by rows of 1024; NULL: there are none */
    u64 mirror_rows;
    u32 mirror_dead;               /* list of mirrors that wait for a flush: pt/mirror.c */
    u32 nr_mirror_dead;            /* since the last flush on their account */
    u64 nr_mirror_frames;          /* of mirrors that are in use */
    u64 nr_tables, nr_outward;     /* of them, those with FR_OUTWARD (asm/pt.h) */
    struct known_table { mfn_t mfn; const char *page; } known_l1, known_mirrored_l1;    /* pt_in_known_l1(), no_known_table */
    bool names_roots;              /* a level-4 table of its has, or had, an entry for one: mm/isolation.c */
    u64 table_limit;               /* not 0: promotion and demotion do not give way, so there may be no more: pv/format_switch.c */
    mfn_t orphans[16];             /* tables whose demotion gave way: pt/table.c */
    unsigned nr_orphans;
    u64 relinquish_at;             /* progress of pt_relinquish() */
    u64 e820_nr;
    struct e820entry *e820;        /* XENMEM_set_memory_map */
    u32 pci_cf8;                   /* last write to port 0xcf8 */
    bool tsc_native;               /* guest reads the TSC without a trap */
    u32 tsc_mode, tsc_incarnation;
    u64 tsc_khz, tsc_offset;
    u64 physaddr_bits;             /* frames must lie below 2^n */
    u64 l1tf_span;                 /* addresses that its entries may not name without being present: asm/spec.h */
    mfn_t pirq_eoi_mfn;            /* PHYSDEVOP_pirq_eoi_gmfn: bitmap of pirqs that need EOI */
    u64 guest_shared *pirq_eoi_map;
    bool auto_unmask;
};

/*
 * Under pt_lock, before a reference goes: CPUs may keep a translation to or through the frame. Whoever gives it another
 * use calls domain_flush_stale() first. Counted, so that a flush under way does not cover what came after it began.
 */
static inline void note_stale(struct arch_domain *a) { a->stale++; }

/* Saved or running register frame of a vCPU (the current one's is on the stack). */
struct vcpu;
struct cpu_regs *vcpu_regs(struct vcpu *v);

/* arch/x86/pv/domain.c, context.c */
int arch_domain_create(struct domain *d);
void arch_domain_destroy(struct domain *d);
int arch_vcpu_create(struct vcpu *v);
void arch_vcpu_destroy(struct vcpu *v);
/* Page tables and frames of a dying domain; -ERESTART_HYPERCALL while there is more to do. */
int arch_domain_relinquish(struct domain *d);
/* XEN_DOMCTL_set_address_size: 32, 64 or PVISOR_ADDRESS_SIZE_NONPAE; only before the domain has memory. */
int arch_domain_set_address_size(struct domain *d, u32 size);
/*
 * vcpu_guest_context at raw (the domain's own layout: 64- or 32-bit). set: checks all, then takes; the vCPU becomes
 * initialised. get: fills raw.
 */
size_t arch_context_size(const struct domain *d);
int arch_vcpu_set_context(struct vcpu *v, const void *raw);
void arch_vcpu_get_context(struct vcpu *v, void *raw);
/*
 * Gives up the page and descriptor tables of v, which does not run, and its kernel's areas. -ERESTART_HYPERCALL while there is more to do;
 * then v has none, as before its first context.
 */
int arch_vcpu_reset(struct vcpu *v);
/* Fills a page with the 32-byte stubs by which the domain's kernel makes hypercalls. */
void arch_init_hypercall_page(struct domain *d, void *page);
/* VCPUOP_register_vcpu_info: moves v->info to gfn (a frame of its domain) + offset. */
int arch_vcpu_register_info(struct vcpu *v, u64 gfn, u32 offset);
/* Writes the runstate / secondary time areas of v, which must be current. */
void vcpu_runstate_area_update(struct vcpu *v);
void vcpu_time_area_update(struct vcpu *v);
void vcpu_show_registers(struct vcpu *v);       /* to the log, with a page walk of cr2 */

#endif
