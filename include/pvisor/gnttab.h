/* Grant tables (include/public/grant_table.h). */
#ifndef PVISOR_GNTTAB_H
#define PVISOR_GNTTAB_H

#include <pvisor/types.h>

struct domain;

/* max_maptrack is in frames of 256 handles, as the toolstack counts. 0 or -ENOMEM. */
int gnttab_domain_init(struct domain *d, u32 max_frames, u32 max_maptrack);
/*
 * Ends all use that d makes of others' grants; d does not run any more. References of entries that are
 * still in its page tables are not touched: taking the tables down drops them. Preemptible:
 * -ERESTART_HYPERCALL.
 */
int gnttab_release_mappings(struct domain *d);
/*
 * After the last reference to d is gone: gives back its table's frames. Others may still have its grants
 * mapped: what is needed for that lives on until they let go. Idempotent.
 */
void gnttab_domain_destroy(struct domain *d);
/*
 * Frame idx of d's grant table (XENMEM_acquire_resource, XENMAPSPACE_grant_table, setup by the toolstack);
 * grows the table. -EINVAL: beyond d's limit; -ENOMEM.
 */
int gnttab_get_frame(struct domain *d, u32 idx, mfn_t *m);
/* Frame idx of d's status frames, likewise, of which a table of nr frames has so many. -EINVAL in version 1, too. */
int gnttab_get_status_frame(struct domain *d, u32 idx, mfn_t *m);
static inline u32 gnttab_status_frames(u32 nr) { return DIV_ROUND_UP(nr, 8u); }
void gnttab_dump(struct domain *d);              /* debug key 'g' */

/*
 * Provided by the page-table layer, for the current vCPU's address space. pv_grant_begin() locks its page
 * tables for a batch of the two calls that follow it, until pv_grant_end(); in between no guest memory is
 * accessed through them. It expects linear addresses near first. host_addr is a linear address or, with
 * GNTMAP_contains_pte, the machine address of an entry. The frame is another domain's (or the caller's own), and a
 * reference stands for each entry: frame_get() for one that is read-only, frame_get_writable() for others.
 *
 * pv_grant_map: writes a leaf entry for m. The caller has taken the reference; on success it belongs to the
 * entry, and whoever removes the entry by other means than pv_grant_unmap() (page-table update or teardown)
 * drops it as for any entry. 0, or a GNTST_* error with nothing changed.
 *
 * pv_grant_unmap: replaces the entry at host_addr, which must be present, map m, and be as writable as
 * flags (GNTMAP_readonly) say, by the entry that maps the linear address new_addr, which becomes empty (0:
 * by nothing). On success the reference is the caller's again. 0, or a GNTST_* error with nothing changed.
 * The TLB is flushed later:
 *
 * pv_grant_flush: no CPU keeps a translation from before that d's unmaps took away. Only then are
 * references dropped.
 */
struct pv_grant_walk {
    u64 region;     /* upper bits of the addresses that table maps; ~0: none was looked up */
    mfn_t table;
    u64 *plain;     /* the entries of the region in the table, if they are what the hardware walks; or NULL */
    u64 pte_flags;  /* of every entry */
};
void pv_grant_begin(struct pv_grant_walk *walk, u64 first);
void pv_grant_end(void);
int pv_grant_map(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u32 flags /* GNTMAP_* */) must_check;
int pv_grant_unmap(struct pv_grant_walk *walk, u64 host_addr, mfn_t m, u64 new_addr, u32 flags) must_check;
void pv_grant_flush(struct domain *d);

/* Calls fn(d, m) for each frame of d's that somebody may write now by a grant of the table's i-th frame. False: there is no such frame. */
bool gnttab_for_writable(struct domain *d, u32 i, void (*fn)(struct domain *d, mfn_t m));

#endif
