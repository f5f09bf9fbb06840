/* Page-table isolation: the copies of guests' roots. See asm/isolation.h. */
#include <asm/atomic.h>
#include <asm/desc.h>
#include <asm/isolation.h>
#include <asm/pt.h>
#include <asm/percpu.h>
#include <asm/smp.h>
#include <pvisor/cpumask.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>

#define SLOT(va) ((va) >> 39 & 511)
#define NODE_FLAGS (PTE_P | PTE_RW | PTE_A)

extern const char __text_start[], __entry_text_end[], syscall_entry_isolated[];
u64 isolation_copy_root(void);

/* What the linear entries of one copy lead to. */
#define VIEWS 2
struct views {
    unsigned nr;
    u64 of[VIEWS];                 /* machine addresses of the tables that are named */
    u64 *at[VIEWS][4];             /* by level, 1 to 3 */
};
struct cpu_views { struct views of_mode[2]; };      /* as guest_root[] */
STATIC_PERCPU(struct cpu_views, cpu_views);

static bool of_dom0, of_domus;
static bool is_on(void) { return of_dom0 || of_domus; }
static bool is_of(const struct domain *d) { return d->arch.word == ABI_64 && (d->is_hardware ? of_dom0 : of_domus); }

/* --- What a copy has of ours ------------------------------------------------------------------------------- */

static u64 *table_below(u64 *entry)
{
    if (!*entry) {
        u64 *t = alloc_pages(0);

        BUG_ON(!t);
        *entry = virt_to_maddr(t).v | NODE_FLAGS;
    }
    return maddr_to_virt(maddr(*entry & PTE_MFN_MASK));
}

/* Maps pages as they are mapped in our own tables. The root has no others than these in that slot. */
static void show(u64 *root, u64 va, size_t bytes)
{
    for (u64 a = va & PAGE_MASK; a < va + bytes; a += PAGE_SIZE) {
        u64 *t = root, e = hyp_lookup(a);

        BUG_ON(!e || e & PTE_PS);
        for (unsigned level = 4; level > 1; level--)
            t = table_below(&t[a >> (12 + 9 * (level - 1)) & 511]);
        t[a >> 12 & 511] = e;
    }
}

static void show_what_the_way_in_needs(u64 *root, unsigned cpu)
{
    show(root, (u64)__text_start, (size_t)(__entry_text_end - __text_start));
    desc_for_each_part(cpu, show, root);
}

static void alloc_views(struct views *v)
{
    for (unsigned i = 0; i < VIEWS; i++)
        for (unsigned level = 1; level < 4; level++) {
            v->at[i][level] = alloc_pages(0);
            BUG_ON(!v->at[i][level]);
        }
}

/* --- A CPU's copies ---------------------------------------------------------------------------------------- */

void isolation_prepare_cpu(unsigned cpu)
{
    struct guest_root *g = cpu_info_of(cpu)->guest_root;
    u64 *user, *kernel;

    if (!is_on() || g[0].cr3)
        return;
    user = alloc_pages(0);
    kernel = alloc_pages(0);
    BUG_ON(!user || !kernel);
    show_what_the_way_in_needs(user, cpu);
    kernel[SLOT(IMAGE_START)] = user[SLOT(IMAGE_START)];
    alloc_views(&cpu_var(cpu_views, cpu).of_mode[0]);
    alloc_views(&cpu_var(cpu_views, cpu).of_mode[1]);
    g[0].cr3 = virt_to_maddr(user).v;
    g[1].cr3 = virt_to_maddr(kernel).v;
    desc_set_syscall_entry(cpu, syscall_entry_isolated);
}

__init void isolation_init(bool dom0, bool domus)
{
    of_dom0 = dom0;
    of_domus = domus;
    isolation_prepare_cpu(0);
}

/* Each entry in one piece: another CPU may write it now. */
static void copy_slots(u64 *to, const u64 *from, unsigned first, unsigned last)
{
    const u64 *s = from + first;
    u64 *d = to + first, n = last - first + 1;

    __asm__ volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
}

static void copy_guests_slots(u64 *to, const u64 *from)
{
    copy_slots(to, from, 0, HYP_L4_FIRST - 1);
    copy_slots(to, from, HYP_L4_LAST + 1, 511);
}

/* The entry, at a level above 1, that stands for e, which names a root; 0: there is no room for its views. */
static u64 entry_to_view(struct views *v, u64 e, unsigned level)
{
    unsigned i = 0;

    while (i < v->nr && v->of[i] != (e & PTE_MFN_MASK))
        i++;
    if (i == VIEWS)
        return 0;
    if (i == v->nr)
        v->of[v->nr++] = e & PTE_MFN_MASK;
    return virt_to_maddr(v->at[i][level - 1]).v | (e & ~PTE_MFN_MASK);
}

/*
 * What a level above 1 has for e, a present entry of a level-4 table as it was read. The table that e names may have left the tree since
 * and lost its type; if its frame is to be freed, even before we are asked to flush. So what is not known to be a table of level 3 is not
 * there: the copy is out of date by then, and a new one is made on the fault.
 */
static u64 guests_way(struct views *v, u64 e, unsigned level)
{
    enum frame_type type = fw_type(read_once(frame_types[pte_held_mfn(e).v]));

    return type == FT_L3 ? e : type == FT_L4 ? entry_to_view(v, e, level) : 0;
}

static void lead_to_views(struct views *v, u64 *table, unsigned level)
{
    for (unsigned i = 0; i < 512; i++)
        if ((i < HYP_L4_FIRST || i > HYP_L4_LAST) && table[i] & PTE_P)
            table[i] = guests_way(v, table[i], level);
}

static void make_views(struct views *v, u64 *copy)
{
    v->nr = 0;
    lead_to_views(v, copy, 4);
    for (unsigned i = 0; i < v->nr; i++)
        for (unsigned level = 3; level; level--) {
            copy_guests_slots(v->at[i][level], maddr_to_virt(maddr(v->of[i])));
            if (level > 1)
                lead_to_views(v, v->at[i][level], level);
        }
}

/*
 * Of our slots a copy has two from the root: the table of machine frames for guests, which is the first of them, and the domain's
 * descriptor tables.
 *
 * From load_guest_root, which loads CR3 with the result. The vCPU that is current has a root of which there is no copy.
 */
u64 isolation_copy_root(void)
{
    struct cpu_info *info = cpu_info();
    const struct vcpu *v = info->current_vcpu;
    struct guest_root *g = &info->guest_root[v->arch.kernel_mode];
    const u64 *from = maddr_to_virt(maddr(v->arch.cr3));
    u64 *to = maddr_to_virt(maddr(g->cr3));

    write_once(g->of, v->arch.cr3);
    smp_mb();
    copy_guests_slots(to, from);
    to[SLOT(M2P_RO_START)] = read_once(from[SLOT(M2P_RO_START)]);
    to[SLOT(PERDOMAIN_START)] = read_once(from[SLOT(PERDOMAIN_START)]);
    /* A mirror has views of its own. */
    if (unlikely(v->domain->arch.names_roots && !v->domain->arch.mirror_walked))
        make_views(&this_cpu(cpu_views).of_mode[v->arch.kernel_mode], to);
    info->full_cr3 = v->arch.cr3;
    return g->cr3;
}

/* --- Keeping them right ------------------------------------------------------------------------------------ */

void isolation_switch_to(const struct vcpu *v)
{
    cpu_info()->isolated = is_of(v->domain);
}

void isolation_leave(void)
{
    struct guest_root *g = cpu_info()->guest_root;

    write_once(g[0].of, 0);
    write_once(g[1].of, 0);
}

/* Should the CPU begin a copy of another root between our look and our store, it makes one more. */
static void forget_on(unsigned cpu, u64 root)
{
    struct guest_root *g = cpu_info_of(cpu)->guest_root;

    for (unsigned i = 0; i < 2; i++)
        if (!root || read_once(g[i].of) == root)
            write_once(g[i].of, 0);
}

/* Noted before the entry is stored, so who copies the entry finds it noted. */
bool isolation_any_linear(struct domain *d)
{
    write_once(d->arch.names_roots, true);
    return !is_of(d);
}

void isolation_forget(const struct domain *d, mfn_t root)
{
    if (!is_on())
        return;
    smp_mb();
    /* A table that others name may be in any copy's views; and of a mirrored one the mirror is copied. */
    for (unsigned cpu = 0; cpu < nr_cpus; cpu++)
        if (cpumask_test(&d->arch.dirty_cpus, cpu))
            forget_on(cpu, d->arch.names_roots || d->arch.mirrored ? 0 : mfn_to_maddr(root).v);
}
