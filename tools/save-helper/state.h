/* What of a saved domain is not its memory becomes a new domain's: what the hypervisor keeps, and the two pages that have words of its. */
#ifndef SAVE_HELPER_STATE_H
#define SAVE_HELPER_STATE_H

#include "read.h"

/* Of a domain that has no memory yet. */
void set_policy(const struct saved *s);
void set_tsc(const struct saved *s);
/* All of a vCPU's state that there is; its context names frames by now. */
void set_vcpu(const struct saved *s, uint32_t id);

/* Where the two pages have what is written here: a layout for each size of a guest's words. */
struct layout {
    unsigned word;                                          /* bytes */
    unsigned selector, vcpu_info;                           /* of shared info: in each of the first vCPUs' parts, and their size */
    unsigned pending, mask, bits;                           /* event channels, and how many bytes each of the two takes */
    unsigned arch, arch_size, list, root;
    unsigned nr_pages, shared_info, flags, store, store_port, console, console_port;       /* of start info */
};
extern const struct layout layout32, layout64;

/* Shared info of a new domain: what the guest has in it, and no events but all of them masked. from: the page as it was saved. */
void fill_shared_info(void *page, const void *from, const struct layout *l);

struct rings { uint32_t store, console; };      /* frames */
/*
 * Start info as a kernel finds it that begins a life: the guest has put its own numbers of the two rings there, and frame_of() says which
 * frames these are, or ends the program.
 */
struct rings fill_start_info(void *page, const struct layout *l, uint32_t nr_pages, uint64_t shared_info, uint32_t store_port,
                             uint32_t console_port, uint32_t (*frame_of)(uint64_t pfn, const char *what));

#endif
