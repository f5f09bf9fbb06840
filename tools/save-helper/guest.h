/* What is known of the guest that is saved or restored, and what both directions need of it. */
#ifndef SAVE_HELPER_GUEST_H
#define SAVE_HELPER_GUEST_H

#include "read.h"

#include <xen/foreign/x86_32.h>

/* Command line, as libxl 4.17 gives it. */
struct job {
    bool is_restore;
    int fd;                 /* the stream */
    uint32_t domid, flags, messages, stream_type;
    uint32_t store_port, store_domid, console_port, console_domid;      /* restoring */
};

struct guest {
    uint32_t nr_pfns;       /* its own numbers of frames are 0 to nr_pfns - 1 */
    uint32_t *frame;        /* by these: the frame, or NO_FRAME */
    uint32_t *kind;         /* XEN_DOMCTL_PFINFO_* */
    uint32_t *pfn;          /* by frame: its own number of it, or NO_FRAME. Saving only */
};

#define ENTRIES          1024u      /* of a table, and of a page of the list of frames */
#define OURS             1008u      /* entries of a level-2 table from this on are the hypervisor's */
#define ENTRY_PRESENT    1u
#define ENTRY_FRAME(e)   ((e) >> 12)
#define ENTRY_AS(e, nr)  (((e) & 0xfffu) | (nr) << 12)

#define LIST_PAGES(nr)   (((nr) + ENTRIES - 1) / ENTRIES)       /* of nr frames' list */
typedef struct vcpu_guest_context_x86_32 context_t;

/* nr times this number. */
uint32_t *numbers(uint32_t nr, uint32_t value);
/* Room for nr of its numbers, no frame having one yet. */
struct guest guest_with(uint32_t nr);

/* fn is given up to MAX_BATCH at a time of the numbers that are such ones when it is their turn. */
void in_batches(const struct guest *g, bool (*is_one)(uint32_t pfn), void (*fn)(const uint32_t *pfns, unsigned nr));

void save(const struct job *j) __attribute__((noreturn));
void restore(const struct job *j) __attribute__((noreturn));

#endif
