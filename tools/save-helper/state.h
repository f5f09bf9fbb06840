/* What of a saved domain is not its memory becomes a new domain's: what the hypervisor keeps, and the two pages that it shares with who
 * makes domains. */
#ifndef SAVE_HELPER_STATE_H
#define SAVE_HELPER_STATE_H

#include "read.h"

/* Of a domain that has no memory yet. */
void set_policy(const struct saved *s);
void set_tsc(const struct saved *s);
/* All of a vCPU's state that there is; its context names frames by now. */
void set_vcpu(const struct saved *s, uint32_t id);

/* Where the two pages and a vCPU's context have what is written here: a layout for each size of a guest's words. */
struct layout {
    unsigned word;                                          /* bytes */
    unsigned selector, vcpu_info;                           /* of shared info: in each of the first vCPUs' parts, and their size */
    unsigned pending, mask, bits;                           /* event channels, and how many bytes each of the two takes */
    unsigned arch, arch_size, list, root;
    unsigned nr_pages, shared_info, flags, store, store_port, console, console_port;       /* of start info */
    unsigned vcpu_flags, third, gdt, nr_gdt, cr;            /* of a context; the third register has start info at the suspending call */
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

#define GDT_FRAMES(entries) (((entries) + 511) / 512)
#define MAX_GDT_ENTRIES     (14 * 512)

/* The guest's own numbers in a vCPU's context become frames; root_of() ends the program if that is no top-level table. */
void fill_context(void *context, const struct layout *l, uint32_t id, uint32_t (*frame_of)(uint64_t pfn, const char *what),
                  uint32_t (*root_of)(uint64_t pfn));
/* Start info's number, of vCPU 0's context as it was saved. */
uint64_t start_info_of(const void *context, const struct layout *l);

#endif
