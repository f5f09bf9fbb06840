/* What the loader's files share: the machine below it (pv.c, memory.c), and the start of the kernel (start.c). */
#ifndef LOADER_PV_H
#define LOADER_PV_H

#include <public/arch-x86.h>
#include <public/errno.h>
#include <public/event_channel.h>
#include <public/sched.h>
#include <public/xen.h>
#include <pvisor/image.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

typedef unsigned long word_t;       /* a number as wide as an address; the p2m's entries are such */

/*
 * The loader is built for both word sizes, since a domain keeps the one that it was built with. BASE: where it lies itself, out of the
 * way of kernels. ARENA: from here on it maps what it unpacks.
 */
#ifdef __x86_64__
#define NATIVE(type) struct type##_l64
#define OWN_FORMAT   PT64
#define BASE         0xffffffffc0000000UL
#define ARENA        0x10000000000UL
#define ARENA_END    0x10200000000UL
#else
#define NATIVE(type) struct type##_l32
#define OWN_FORMAT   PT32P
#define BASE         0xe0000000UL
#define ARENA        0x40000000UL
#define ARENA_END    0xc0000000UL
#endif

extern NATIVE(start_info) *start_info;      /* what the toolstack gave us */

/* ---- pv.c: hypercalls and words ---- */

long hypercall(unsigned nr, word_t a, word_t b, word_t c, word_t d);
NATIVE(shared_info) *shared_info(void);

/*
 * Words for the domain's console. Its other end answers them by an event, whenever it comes to it, and a kernel that waits for all events
 * to go must find the console as new: so nothing is said before a kernel out of the ramdisk starts.
 */
void say(const char *fmt, ...) printf_like(1, 2);
/* Words for the hypervisor's log. */
void say_to_log(const char *fmt, ...) printf_like(1, 2);
/* A character that was typed, or -1. */
int console_in(void);
/* Says on the console and in the log why no kernel starts, and ends the domain. */
void fail(const char *fmt, ...) printf_like(1, 2) noreturn_fn;

u64 now_ns(void);
/* Waits until the port has an event, which is then forgotten, or until the time (now_ns()) is there. */
void wait_for(u32 port, u64 until_ns);
/* Events as in a new domain: a kernel may open its ears before it knows a port, and wait for all pending bits to go. */
void forget_events(void);

/* ---- memory.c: frames and what is mapped ---- */

void memory_init(word_t stack_end);
/* Frames that the domain has, those that were ours from the start, and those among the former that nobody has taken. */
extern word_t nr_pages, used, nr_free;

/* The machine frame that is the new kernel's pfn. */
word_t new_mfn(word_t pfn);
/* Has the frame m, one of ours, be the new kernel's pfn. slot: 0 or 1. */
void trade_places(unsigned slot, word_t m, word_t pfn);
/* Tells the machine-to-physical table of new_mfn(). */
void renumber_m2p(void);

/* One page of our address space each: a frame looked at. W_LEVEL(n): one for page tables of each level. */
enum window { W_DATA, W_RING, W_TABLE, NR_WINDOWS = W_TABLE + 5 };
#define W_LEVEL(n) ((enum window)(W_TABLE + (n)))
#define PTE_DATA  0x63u     /* present, writable, accessed, dirty */
#define PTE_READ  0x61u
#define PTE_TABLE 0x67u     /* user, too */
char *map_frame(enum window w, word_t m, unsigned flags);
void unmap_windows(void);
/* The frame behind an address of a static object of ours. */
word_t mfn_of(const void *p);
/* Maps a machine frame at any address, which may be of the new kernel's. */
void map_at(word_t va, word_t m);

/* A page of a static object of ours. */
void set_writable(const void *page, bool writable);

/* Memory for what is unpacked, zeroed; it all goes at once. Fails for want of memory, naming what. */
void *arena_alloc(u64 bytes, const char *what);
void arena_release(void);

/* ---- thread_area.c, or packed.c where nothing unpacks: around image_unwrap() ---- */

void make_thread_area(void);
void drop_thread_area(void);

/* ---- start.c: the kernel's start ---- */

/* Writes len bytes that lie within the new kernel's first mapping, or zeroes (src NULL). */
int put(void *ctx, u64 va, const void *src, u64 len);
/* Lays the kernel out, and puts it there. Afterwards its ELF is not needed any more. */
void start_prepare(const struct kernel_image *k, u64 initrd_size);
void start_put_initrd(u64 offset, const void *src, u64 len);
void start_kernel(const char *cmdline) noreturn_fn;

#endif
