/*
 * A saved PV domain, record by record: what is not memory is checked and kept as it came; what a reader does with the rest it says itself.
 * The records may come from a stream (read_stream()) or from anywhere (read_record()), and may be anything: each number in them is looked
 * at before it is used. What is wrong ends the program, by fail().
 */
#ifndef SAVE_HELPER_READ_H
#define SAVE_HELPER_READ_H

#include "stream.h"
#include "xen.h"

#define MAX_VCPUS 128u      /* of any domain of pvisor's */

struct blob {
    uint32_t size;          /* 0: the stream has none */
    void *bytes;
};

struct saved_vcpu { struct blob context, extended, xsave, msrs; };

struct saved {
    bool has_info, has_static_data;
    struct blob leaves, msrs, tsc, shared;
    struct blob list;       /* u64 each: the guest's numbers of the frames that the list of its frames lies in */
    uint32_t nr_pfns;       /* its own numbers of frames are 0 to nr_pfns - 1; 0 until the list is known */
    struct saved_vcpu vcpu[MAX_VCPUS];
};

struct reader {
    /* What is expected of the domain; info(), which is called with the format that it has, may set it. */
    struct pv_info format;
    size_t context_size;    /* of a vCPU */
    uint32_t max_pfns;
    uint32_t nr_vcpus;
    void (*info)(const struct pv_info *pv);

    /* These are called when all that the domain is made with, and the number of its frames, are known. */
    void (*static_data)(const struct saved *s);
    void (*frames)(const struct saved *s);
    /* Pages: numbers below nr_pfns and kinds that such a domain's frames may have; one page for each kind that has one. */
    void (*pages)(const struct page_data *p, const uint8_t *pages);
    /* From now on pages are those that there should be. NULL: no stream of this kind says so. */
    void (*verify)(void);

    struct saved saved;
};

/* nr frames' list takes so many pages. */
static inline uint32_t list_pages(const struct reader *r, uint32_t nr)
{
    return (uint32_t)(((uint64_t)nr * r->format.width + PAGE - 1) / PAGE);
}


static inline uint32_t table_level(uint32_t kind) { return (kind & XEN_DOMCTL_PFINFO_LTABTYPE_MASK) >> XEN_DOMCTL_PFINFO_LTAB_SHIFT; }
static inline bool has_page(uint32_t kind) { return kind < XEN_DOMCTL_PFINFO_BROKEN; }
/* Kinds that a guest's frames may have: data, tables of so many levels, pinned or not, and none at all. */
static inline bool is_known(uint32_t kind, unsigned levels)
{
    return kind == XEN_DOMCTL_PFINFO_XTAB || kind == XEN_DOMCTL_PFINFO_NOTAB || (table_level(kind) >= 1 && table_level(kind) <= levels);
}

/* One record that is not END. */
void read_record(struct reader *r, const struct record *record);
/* None must be missing. */
void read_end(const struct reader *r);
/* From the domain's headers to its END. */
void read_stream(struct reader *r);

#endif
