/*
 * Defences against reading others' memory by speculative execution: which this CPU needs, which it has, and their switch
 * on the command line. What is missing altogether: docs/supported.md.
 */
#ifndef ASM_SPEC_H
#define ASM_SPEC_H

#include <pvisor/types.h>

struct cpu_host;
struct domain;
struct vcpu;

/* How an indirect call goes. */
enum spec_thunk { THUNK_RETPOLINE, THUNK_LFENCE, THUNK_JMP };

struct spec {
    enum spec_thunk thunk;
    bool ibrs;      /* the mode in which predictions of less privileged code do not count for ours; set once */
    bool bhi;       /* and in which the history of its branches does not choose among ours' */
    bool rrsba;     /* and in which returns, which retpolines are, are not predicted as indirect branches */
    bool ibpb;      /* a barrier for branch predictions when a CPU goes from one domain to another */
    bool rsb;       /* then, too: no predicted return address is left from the other */
    bool div;       /* and the divider, then, does not keep the other's last result */
    bool lock;      /* nothing goes on behind a lock by speculation before it is had */
    bool verw;      /* buffers are overwritten on every way out to a guest */
    bool isolate_dom0, isolate_domus;   /* 64-bit guests run on page tables that have next to nothing of ours: asm/isolation.h */
    bool l1tf_dom0, l1tf_domus;         /* entries that are not present may not name memory: l1tf_exposes() */
};

/* What the command line says of each; SPEC_AUTO: what the CPU needs. */
enum spec_wish { SPEC_AUTO, SPEC_ON, SPEC_OFF };
struct guest_wishes { enum spec_wish dom0, domus; };
struct spec_wishes { enum spec_wish thunk, ibrs, bhi, ibpb, rsb, div, lock, verw; enum spec_thunk which; struct guest_wishes xpti, l1tf; };

/* The decision, as a function of the CPU and the wishes alone. */
struct spec spec_choose(const struct cpu_host *h, const struct spec_wishes *w);
/*
 * What this CPU is known for and nothing here stops: the first from number *next on, which becomes the one to ask for next; NULL: no
 * more. By what its maker lists and what the CPU says of itself.
 */
const char *spec_left_open(const struct cpu_host *h, unsigned *next);
/*
 * Bits of IA32_ARCH_CAPABILITIES that say that an Intel CPU is spared something, and that it may lack since it is older than they are:
 * by Intel's lists of models, and where Xen says it to guests, which bring it with them. gds_mended: microcode keeps gathers from what is
 * others', where it can (GDS_CTRL). What the CPU itself says is not among them.
 */
u64 spec_spared(const struct cpu_host *h, bool gds_mended);
/* Changes the wishes by one word of spec-ctrl=; -EINVAL: not one. len: of the word. */
int spec_parse_word(struct spec_wishes *w, const char *word, size_t len);
/* By one word of xpti= or pv-l1tf=, as Xen has them: "default", a boolean, "dom0=" or "domu=" and a boolean. -EINVAL: not one. */
int guests_parse_word(struct guest_wishes *w, const char *word, size_t len);
/* What the command line says, all its options together. */
struct spec_wishes spec_wished(void);

/* Makes the code what s says, and what SMAP needs; what the CPU does not need costs nothing. Boot CPU, once. */
void spec_patch(const struct spec *s, bool smap);

/* Boot CPU, after cpu_detect(): decides, tells the log, and patches the code. */
void spec_init(void);

/*
 * L1TF (CVE-2018-3620): a CPU speculates with an entry that is not present as if it were, and finds what its first-level cache has of
 * that address, whoever's it is. So a guest that is not trusted may write none that names memory. Linux since 4.19 writes none: it
 * inverts the addresses of what it has swapped out or closed. Tables of 32-bit non-PAE guests are not walked (pt/mirror.c).
 *
 * A PAE kernel clears and fills entries by halves, the lower one first or last, so entries come by that are not present and have an
 * upper half, of frames below 16 GiB. These may be, and the three frames that they name are given to nobody (mm/boot_alloc.c).
 *
 * l1tf_addresses: an entry's bits that a cache can look at. span: of the addresses from the first page's end that are somebody's
 * memory; 0: d may write what it likes.
 */
#define L1TF_HALF_STEP (1UL << 32)
#define L1TF_HALVES    (3 * L1TF_HALF_STEP)
extern u64 l1tf_addresses;
u64 spec_l1tf_span(const struct domain *d);
/* Our bits of MSR_SPEC_CTRL, beside those of the guest that runs. */
u32 spec_ctrl_ours(void);
/* Interrupts off: this CPU is about to run v, not idle. */
void spec_switch_to(const struct vcpu *v);
/* d goes away; another domain may get its memory. */
void spec_forget(const struct domain *d);

#endif
