/*
 * Included before each file of the core: where its recursion is cut.
 *
 * A table's promotion and demotion take and drop references of the tables below it, by the same functions. Here these calls, get_node()'s
 * and put_node()'s, go to two functions that may do whatever the ones they stand for may: make of the state any that is legal, and
 * have any result. Those are looked at by themselves, with any arguments that are accepted here.
 */
#ifndef EVA_H
#define EVA_H

/* Frama-C knows no `asm inline (...)`: what stands so is asm alone. */
#define inline(...) (__VA_ARGS__)

#include <asm/pt.h>

/*@ requires bounded: m.v < nr_frames; */
int put_table_below(struct domain *d, mfn_t m);

/*@ requires bounded: m.v < nr_frames || m.v == 0xffffffffffffffff;
    requires level: 1 <= level <= 3;
    requires hv: hv == 0 || hv == 0x2000000; */
int get_table_below(struct domain *d, mfn_t m, unsigned level, u32 hv);

#define pt_put_table put_table_below
#include <arch/x86/pt/internal.h>
#undef pt_put_table

#endif
