/*
 * Bytes that the libraries which unpack want to have: their check of the stack takes a word of what a C library would have for each thread,
 * at %fs:0x28 in 64-bit code, at %gs:0x14 in 32-bit code. Nothing of it is left for the kernel that is started.
 */
#include "pv.h"

#ifdef __x86_64__

void make_thread_area(void)
{
    static u64 area[8] = { [5] = 0x6c6f61646572ULL };

    hypercall(__HYPERVISOR_set_segment_base, 0, (word_t)area, 0, 0);    /* 0: the base of %fs */
}

void drop_thread_area(void) { hypercall(__HYPERVISOR_set_segment_base, 0, 0, 0, 0); }

#else

/* What the libraries' 32-bit code calls instead of __stack_chk_fail(). */
void __stack_chk_fail_local(void) noreturn_fn;
void __stack_chk_fail_local(void) { fail("stack overrun while unpacking a kernel"); }

#define SELECTOR (1 << 3 | 1)       /* the second of the table's descriptors, in ring 1 */
#define DATA_RING_1 0x0040b3000000001fULL       /* of 32 bytes: present, writable, accessed (SDM volume 3, 3.4.5) */

static u64 table[PAGE_SIZE / 8] __attribute__((aligned(4096)));

static u64 data_at(word_t base) { return DATA_RING_1 | (u64)(base & 0xffffff) << 16 | (u64)(base >> 24) << 56; }

void make_thread_area(void)
{
    static u32 area[8] = { [5] = 0x6c6f6164 };
    word_t frame = mfn_of(table);

    table[1] = data_at((word_t)area);
    set_writable(table, false);         /* the hypervisor takes no other page for a table of descriptors */
    if (hypercall(__HYPERVISOR_set_gdt, (word_t)&frame, ARRAY_SIZE(table), 0, 0))
        fail("the hypervisor refuses a table of descriptors");
    asm volatile("mov %0, %%gs" : : "r"(SELECTOR));
}

void drop_thread_area(void)
{
    asm volatile("mov %0, %%gs" : : "r"(0));
    hypercall(__HYPERVISOR_set_gdt, 0, 0, 0, 0);
    set_writable(table, true);
}

#endif
