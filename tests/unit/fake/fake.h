/*
 * A machine made of the test program's own memory, for unit tests of common/ on the host: frames with counted
 * references, domains and vCPUs, guest memory, locks that check their order. Every function of the hypervisor
 * that it stands in for is weak, so that a test can link the real one or bring its own.
 *
 *     // SOURCES: tests/unit/fake/machine.c ...
 *
 * VERBOSE=1 in the environment shows the log.
 */
#ifndef FAKE_H
#define FAKE_H

#include <pvisor/abi.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>

#define FAKE_FIRST_MFN  0x1000u
#ifndef FAKE_NR_FRAMES  /* the fuzzers have less of both, so that a fresh machine takes less time */
#define FAKE_NR_FRAMES  4096u
#define FAKE_GUEST_SIZE (8u << 20)
#endif
#define FAKE_MAX_DOMAINS 16
#define FAKE_GUEST_BASE 0x10000000u     /* guest addresses: below 4 GiB, for both word sizes */

struct fake_frame {
    u16 owner;
    bool used, allocated, shared, is_table;
    u32 refs, writers;                  /* writers: typed references; each also counts in refs */
};

/* What a hypercall_restart() asked for. */
struct fake_restart {
    unsigned nr_args;
    u64 arg[6];
};

/* Behaviour that tests choose; all zero is the normal machine. */
struct fake_faults {
    int writes_before_fault;            /* n > 0: the nth write to guest memory from now on faults, once */
    int reads_before_fault;
    int allocs_before_failure;          /* n > 0: xzalloc and frame allocation fail from the nth on */
    int preempt_every;                  /* n > 0: preempt_needed() says yes every nth time */
};

extern struct fake_frame fake_frames[FAKE_NR_FRAMES];
extern struct fake_faults fake;
extern struct fake_restart fake_restart;
extern unsigned fake_unblocks[FAKE_MAX_DOMAINS][MAX_VCPUS];
extern unsigned fake_kicks[FAKE_MAX_DOMAINS][MAX_VCPUS];
extern unsigned fake_crashes;
#define FAKE_NR_PIRQS 64
extern u32 fake_pirq_port[FAKE_MAX_DOMAINS][FAKE_NR_PIRQS];     /* pirq_port() */
extern __thread char fake_said[160];        /* the last line about a guest that this CPU wrote */
extern void (*on_lock)(spinlock_t *l);        /* once it is held, by spin_lock() */
extern void (*on_unlock)(spinlock_t *l);    /* once the lock is free again */

/* Forgets all frames, domains and guest memory. */
void fake_reset(void);
/* A live domain with shared_info and nr_vcpus vCPUs, without subsystems. The id is below FAKE_MAX_DOMAINS. */
struct domain *fake_domain(u16 id, enum abi_word word, u32 nr_vcpus, bool control);
void fake_domain_free(struct domain *d);
/* Makes vCPU id of d current on this thread. */
void fake_run(struct domain *d, u32 id);
void fake_set_cpu(u32 cpu);

/* A frame of d, with the allocation's reference. */
mfn_t fake_frame_of(struct domain *d);
struct fake_frame *fake_frame(mfn_t m);
u8 *fake_frame_data(mfn_t m);
/* Frames in use, references to them, and xzalloc blocks: equal before and after means nothing leaked. */
struct fake_usage {
    u64 frames, refs, writers, blocks, domain_refs;
};
struct fake_usage fake_usage(void);

/* Guest memory, shared by all domains; zeroed. */
gva_t fake_guest_alloc(size_t size);
void *fake_guest(gva_t a);

/*
 * Calls again as long as a handler gives way: the return value that the guest sees at the end. A call that reads something of the guest's
 * twice (pvisor/fetch.h) ends by panic().
 */
s64 fake_hypercall(s64 (*fn)(u64, u64, u64, u64, u64, u64), u64 a0, u64 a1, u64 a2);
s64 fake_hypercall5(s64 (*fn)(u64, u64, u64, u64, u64, u64), u64 a0, u64 a1, u64 a2, u64 a3, u64 a4);

#endif
