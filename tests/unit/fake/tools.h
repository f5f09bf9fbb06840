/*
 * For programs of dom0's (tools/save-helper, tools/template): a hypervisor of arrays with one domain, in the place of save-helper/xen.c,
 * and what is said goes nowhere. Each run of the program is a process, as the program is, with memory of its own: it ends where that ends.
 */
#ifndef FAKE_TOOLS_H
#define FAKE_TOOLS_H

#include "../../../tools/save-helper/read.h"
#include "../../../tools/save-helper/talk.h"

#include <stdio.h>
#include <unistd.h>

enum { DONE = 0, WRONG = 1, REFUSED = 3 };      /* how a run ends; anything else is a crash */
#define EXPECT(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); _exit(WRONG); } } while (0)

#define SHARED_INFO 0x3f0u      /* a frame */
#define NR_FRAMES   0x400u

extern uint8_t (*memory)[PAGE];                 /* by frame, once make_memory() was called */
extern bool owned[NR_FRAMES], pinned[NR_FRAMES];
extern uint32_t pinned_as[NR_FRAMES];           /* kind */
extern struct granted { uint16_t domid; uint32_t frame; } granted[8];
extern bool has_policy, has_context;
extern union any_context { uint8_t bytes[sizeof(vcpu_guest_context_t)]; vcpu_guest_context_t c64; } context;
extern const uint8_t *kept;                     /* another domain's pages, which it lets us read by its entries from FREE_GRANT on */
extern uint32_t readable[NR_FRAMES];            /* by entry: frames that the domain lets us read */
extern unsigned extents[10];                    /* that the domain has got, by order */
extern unsigned largest;                        /* no extents of a higher order are there */
extern uint32_t next_frame;                     /* those below it are free; 0: it is too early for a domain to have memory */

/* Calls of the hypervisor: before each the test may do something, such as let the guest run; the one of this number, from 1 on, fails. */
extern void (*before_call)(unsigned nr);
extern unsigned nr_calls, failing_call;
void count_call(void);      /* by those that the test has itself */

/* The log of writes: whether it is on, of any process's; and by the guest's numbers what was written, which is the test's to say. */
extern bool *log_is_on;
extern bool written[NR_FRAMES], written_silently[NR_FRAMES];     /* silently: the last report has it */
extern unsigned nr_reports, errors_said;

void make_memory(void);
/* What the end of a process does. */
void forget_mappings(void);
bool is_mapped_for_writing(uint32_t frame);
/* The test's: what its domain says of itself if it is asked, and a look at what it is told. */
void describe(struct xen_domctl *op, uint32_t cmd);

/* Of tools/template/end.c: nobody tells the program to end. */
void on_failure(void (*fn)(void));
void signals_hold(void);
void signals_look(void);
bool signals_await(int fd, int ms);

/* What ends by fail() has put right what was to be. */
void put_right(void);

/* No domain: what a run begins with that makes one. */
void forget_domain(void);

/* How fn(argument) ends in a process of its own. */
int run_apart(void (*fn)(int argument), int argument);
/* A file with these bytes, at its beginning. */
int file_of(const uint8_t *bytes, size_t size);
/* How often of so many times run() ends how, with what is at from when some bytes of it have changed; where() says where. */
struct ends { unsigned done, refused, others; };
struct ends run_spoilt(int (*run)(const uint8_t *bytes, size_t size), const uint8_t *from, size_t size, size_t (*where)(size_t size),
                       unsigned times);

#endif
