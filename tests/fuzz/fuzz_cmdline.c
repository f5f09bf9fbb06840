/* The command line, with every word that the hypervisor has: any text is survived, and what dom0 gets by it can be had. */
// MAX: 2200
// AS: test_words
#define main the_unit_tests
#include "test_words.c"
#undef main
#include <asm/percpu.h>
#include <asm/time.h>
#include <pvisor/spinlock.h>
#include "fuzz.h"

/* What the log calls; its text goes into the ring. */
u64 spin_lock_irqsave(spinlock_t *l) { (void)l; return 0; }
bool spin_trylock(spinlock_t *l) { (void)l; return true; }
void spin_unlock_irqrestore(spinlock_t *l, u64 flags) { (void)l, (void)flags; }
u64 rdtsc_ordered(void) { return 1; }
struct cpu_info *cpu_info(void) { static struct cpu_info info; return &info; }
bool spin_is_held(const spinlock_t *l) { (void)l; return true; }

static void dom0_fits(u64 available)
{
    EXPECT(dom0_pages(available) <= available);
    EXPECT(dom0_most_pages(available) >= dom0_pages(available) || dom0_most_pages(available) > 0);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    char *line = malloc(size + 1);

    for (size_t i = 0; i < size; i++)
        line[i] = (char)data[i];
    line[size] = '\0';
    cmdline_parse(line);
    EXPECT(strnlen(cmdline_get(), CMDLINE_MAX) < CMDLINE_MAX);
    EXPECT(strlen(cmdline_get()) <= strlen(line));
    free(line);
    for (unsigned shift = 14; shift < 32; shift += 3)
        dom0_fits(1UL << shift);
    for (u32 cpus = 1; cpus <= 256; cpus *= 2)
        EXPECT(dom0_vcpus(cpus) >= 1 && dom0_vcpus(cpus) <= MAX_VCPUS);
    return 0;
}
