/*
 * Machine frames: allocation, references and types.
 *
 * Each 4 KiB frame of RAM has a 64-bit reference word (owner, flags, reference count) and a 32-bit
 * type word (type, state, count of typed references), in two arrays: 12 bytes a frame.
 *
 * A frame owned by a domain lives while its reference count is not 0; it has one reference for being
 * allocated (FR_ALLOCATED) and one for each mapping or other use. It has one type at a time,
 * which can change only while its count of typed references is 0. A frame is therefore never
 * writable by a guest and a page table at once: the invariant that all isolation rests on.
 */
#ifndef PVISOR_FRAME_H
#define PVISOR_FRAME_H

#include <asm/layout.h>
#include <pvisor/fetch.h>
#include <pvisor/types.h>

struct domain;

enum frame_type {
    FT_NONE = 0,
    FT_WRITABLE,
    FT_L1, FT_L2, FT_L3, FT_L4,   /* page tables, in the owner's format */
    FT_SEGDESC,                   /* holds only descriptors that a guest may have */
};

/* Allocation flags. */
#define MEMF_BITS(n)   ((n) & 0x3f)   /* frames below 2^n bytes; 0: anywhere */
#define MEMF_NO_ZERO   (1u << 8)      /* contents need not be zero */
#define MEMF_NO_COUNT  (1u << 9)      /* a domain's frame that is not in its tot_pages (shared info, grant frames) */
#define MEMF_REPLACES  (1u << 10)     /* for as many withdrawn frames, whatever the domain's limit */
#define MEMF_WITHDRAWN (1u << 11)     /* not in the domain's hands before domain_return_frames() */
#define MEMF_LOW       MEMF_BITS(32)

/* The heap has memory. Before that there is only boot_alloc(). */
extern bool heap_ready;

/* Hypervisor-owned 2^order frames, zeroed unless MEMF_NO_ZERO; INVALID_MFN when there are none. */
mfn_t alloc_frames(unsigned order, unsigned flags);
void free_frames(mfn_t m, unsigned order);
/*
 * Claims: frames set aside before they are allocated, so that two domains which are built at once do not both run out half-way.
 * *claim is how many its owner may still count on; only the heap changes it, under its lock. alloc: out of the caller's claim, and none
 * of what others have claimed. heap_claim: sets it anew; false if not so many are free that nobody else claimed.
 */
mfn_t alloc_claimed_frames(u64 *claim, unsigned order, unsigned flags);
bool heap_claim(u64 *claim, u64 nr) must_check;
u64 claimed_frames(void);                       /* all claims together */
/* Zeroed frames as a pointer into the direct map; NULL when there are none. */
void *alloc_pages(unsigned order);
void free_pages(void *p, unsigned order);

/*
 * 2^order frames for d: owner d, one reference each (the allocation's), no type, counted in d->tot_pages unless
 * MEMF_NO_COUNT. INVALID_MFN if d->max_pages would be passed, d is dying, or memory is short or others' by their claims.
 */
mfn_t domain_alloc_frames(struct domain *d, unsigned order, unsigned flags);

/*
 * Drops the allocation's reference of a frame of d: the frame goes back to the heap as soon as no other reference is
 * left. False if the frame is not d's or was already given up.
 */
bool domain_release_frame(struct domain *d, mfn_t m) must_check;

/* domain_release_frame() on the guest's own word: false for frames that we share with d (its shared info, grant table). */
bool domain_give_up_frame(struct domain *d, mfn_t m) must_check;

/* So many frames wait on this CPU for its way out of the hypervisor, which frees them, that a call should give way. */
bool frames_drain_due(void);

/*
 * Withdrawn: a frame out of d's hands. Nobody can take a reference, so d can neither use it nor give it up, and still has it in its count,
 * until the caller says which way it goes: (back) to d, or to the heap, as it does if d has begun to die. For an exchange
 * domain_withdraw_frame() takes one away, in one step, if nothing but its allocation holds it: it is mapped nowhere, no table, and
 * d's to give up. New ones are withdrawn (MEMF_WITHDRAWN) until all is written of them that would be wrong of the next owner's.
 */
bool domain_withdraw_frame(struct domain *d, mfn_t m) must_check;
void domain_return_frames(struct domain *d, mfn_t m, u64 nr);
static inline void domain_return_frame(struct domain *d, mfn_t m) { domain_return_frames(d, m, 1); }
void domain_free_withdrawn(const struct domain *d, mfn_t m);

/*
 * Frames of ours become such as the control domain may map, as DOMID_XEN's: 2^order, for reading or for writing too. They stay that for
 * ever.
 */
void show_frames(mfn_t m, unsigned order, bool writable);

/* True if anybody else than its owner for being its owner holds the frame: a moment's answer, nothing to free it by. */
bool frame_held(mfn_t m);

/* A frame of the hypervisor's made visible to d: owner d, not in tot_pages, of type writable for as long as it is ours. */
mfn_t domain_alloc_shared_frame(struct domain *d);

/*
 * The invariant of d's accounts: as many frames are d's by the frame table as tot_pages and shared_frames say. It holds at any moment; the
 * look walks over d's memory with its page_lock held, so it is for tests and debug builds.
 */
bool frame_accounts_hold(struct domain *d);

/* True for frames of RAM that the frame table covers. */
bool mfn_valid(mfn_t m);
/* Id of a frame's owner: no domain's for free frames, the hypervisor's own and non-RAM. Only meaningful with a reference held. */
u16 frame_owner_id(mfn_t m);

/* What a frame is now, and whether its guest pinned it. Only meaningful with a reference held. */
unsigned frame_type_get(mfn_t m, bool *pinned);   /* enum frame_type */

/* A general reference, if the frame belongs to owner. */
bool frame_get(mfn_t m, const struct domain *owner) must_check;
void frame_put(mfn_t m);
/*
 * A general and a writable-type reference: what a writable mapping holds. -EINVAL: not owner's frame;
 * -EBUSY: the frame is in use as a page table or descriptor table now.
 */
int frame_get_writable(mfn_t m, const struct domain *owner) must_check;
void frame_put_writable(mfn_t m);

u64 heap_free_frames(void);
bool heap_holds(void);                /* for tests and debug builds, at rest: free blocks are free, linked and counted */
u64 heap_free_below(unsigned bits);   /* of them, those below 2^bits bytes */
u64 heap_total_frames(void);
mfn_t max_ram_mfn(void);   /* highest frame of RAM */

/* A hypervisor address for a frame's contents; unmap when done. Never fails for a valid frame. */
#ifdef HOST_TEST
void guest_shared *map_frame(mfn_t m);
void unmap_frame(const void guest_shared *p);
#else
static inline void guest_shared *map_frame(mfn_t m) { return (void guest_shared *)(DIRECTMAP_START + mfn_to_maddr(m).v); }
static inline void unmap_frame(const void guest_shared *p) { (void)p; }
#endif
mfn_t virt_to_mfn(const void *p);   /* direct-map pointers only */

/* Machine frame where the M2P's i-th 2 MiB begin; INVALID_MFN where it has a hole or ends. */
mfn_t m2p_chunk(u64 i);
extern struct domain xen_domain;   /* DOMID_XEN, as an owner of frames */

/* The machine-to-physical table, which all guests can read. */
void m2p_set(mfn_t m, u64 gpfn);
u64 m2p_get(mfn_t m);
#define M2P_INVALID 0x5555555555555555UL

/* Small allocations, zeroed; NULL when memory is short. Any size up to a few MiB. */
void *xzalloc_bytes(size_t size);
void xfree(void *p);
#define xzalloc(type) ((type *)xzalloc_bytes(sizeof(type)))
#define xzalloc_array(type, n) ((type *)((n) > (1u << 22) / sizeof(type) ? NULL : xzalloc_bytes(sizeof(type) * (n))))

/* Maps device memory uncached for the hypervisor's own use (IO-APIC, HPET, MCFG...); NULL if space ran out. */
void *ioremap(maddr_t a, size_t size);
void *ioremap_wc(maddr_t a, size_t size);        /* write-combining: a screen's memory */
void iounmap(void *p, size_t size);               /* nothing else is ever mapped there */

/*
 * A place in the hypervisor's address space for what is mapped again and again, now here, now there: reserved when it is first used, and
 * kept. All zero: not reserved yet. Who has it sees to it that one maps there at a time.
 */
struct io_place { u64 va; };
#define IO_PLACE_PAGES 9                          /* the largest MSI-X table, of 32 KiB, wherever it begins */
/* As ioremap(); of at most IO_PLACE_PAGES, and nothing is mapped there now. */
void *ioremap_at(struct io_place *place, maddr_t a, size_t size);
/* When this returns no CPU has a translation of it. Not in interrupts. */
void iounmap_at(const struct io_place *place);

#endif
