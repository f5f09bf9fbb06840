/*
 * Page-table isolation, against Meltdown (CVE-2017-5754): a CPU that lets a program speculate with what it may not read shows it
 * all that its page tables map. So the CPU runs a 64-bit guest not on the guest's own root, which maps the hypervisor, but on a copy
 * of that root in which the hypervisor's slots have only what the hardware needs to get in: this CPU's entry code, descriptor tables
 * and stacks' ends, and what the guest may read anyway.
 *
 *   way in    load_full_root(), syscall_entry_isolated: CR3 becomes cpu_info's full_cr3, the guest's own root
 *   way out   load_guest_root(): CR3 becomes the copy's, which is made first if there is none of this root
 *
 * Each CPU has two copies, one of a user's and one of a kernel's root, so that going to and fro between them copies nothing. A copy is
 * up to date while its "of" names the root. A CPU that makes one says so first and reads the entries then; who changes a root stores
 * the entry first and looks for copies then: one of the two sees the other. A vCPU that runs on a copy which has become out of date
 * is in the same position as one with a translation in its TLB: it goes on until something brings it into the hypervisor, such as the
 * flush before what the old entry named is used otherwise; and an entry that is new to it makes a fault, on which
 * load_full_root() makes it try again.
 *
 * A root may name level-4 tables, itself or another, by linear entries: walked through one, a table of level 4 is taken for one of level
 * 3, then of 2, then of 1, and what it says last is read as data. The tables themselves have the hypervisor's slots, so a copy's entry
 * leads to views of them, one for each such level, with the guest's entries only. The last view's linear entries name the tables
 * themselves, as data, so that the guest reads its own entries, as they are at any moment.
 *
 *   copy --> the table's view at 3 --> 2 --> 1 --> the table itself, read-only
 *
 * A CPU has room for VIEWS tables of each copy's: the root and one other. More cannot be named while isolation is on.
 *
 * 32-bit guests cannot name an address of ours, and need none of this.
 */
#ifndef ASM_ISOLATION_H
#define ASM_ISOLATION_H

#include <asm/mm.h>
#include <pvisor/types.h>

struct domain;
struct vcpu;

/* Boot CPU: switches it on for some, before the code is patched. */
void isolation_init(bool dom0, bool domus);
/* Memory for a CPU that is about to start, and its way in. Nothing if isolation is off. */
void isolation_prepare_cpu(unsigned cpu);
/* Interrupts off: this CPU is about to run v, not idle. */
void isolation_switch_to(const struct vcpu *v);
/* Interrupts off: this CPU leaves a domain, and before it leaves dirty_cpus. */
void isolation_leave(void);
/*
 * A level-4 table of d's is about to name one (a linear entry), and d's pt_lock is held: true if that may be any number of others, false
 * if one.
 */
bool isolation_any_linear(struct domain *d);
/* An entry of d's root (a table of the top level) has changed, or is no root any more; d's pt_lock is held. */
void isolation_forget(const struct domain *d, mfn_t root);

#endif
