/*
 * A kernel that means harm and has no plan: both its vCPUs make calls at random, on the same few frames and windows, while one
 * sets the other's event flag, so that calls give way at any point. The arguments are such that most are nearly right. What
 * would stop ourselves is left out. It is dom0, so it also makes domains, gives them memory and nonsense to run, maps what is
 * theirs, and destroys them. The sequence is the same in every run as far as two CPUs allow; rounds=N and seed=N change it.
 */
#include "clock.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"
#include <public/domctl.h>
#include <public/errno.h>
#include <public/sysctl.h>

#define NR_VICTIMS 24   /* frames that become anything; mapped read-only */
#define NR_LOOSE   64   /* frames that come and go; mapped nowhere */
#define NR_OTHERS  2    /* domains */
#define NR_SLOTS   16   /* window pages */
#define FIRST_REF  32

struct fuzz {
    u64 state;
    u64 *buffer;            /* arguments: a page */
    u64 *scratch;           /* the page after it, the only one of ours that a call may replace: arguments name its address */
    unsigned first_slot;
};

static struct fuzz fuzz[2];
static void *victim[NR_VICTIMS];
static word loose[NR_LOOSE];
static word foreign[8]; /* frames of others, at first; some of them come to us */
static volatile struct grant_entry_v1 *grants;
static volatile union grant_entry_v2 *grants2;  /* the same page: the version changes at random */
static word status_frame;
static domid_t others[NR_OTHERS];
static volatile bool second_stops;
static volatile u32 second_rounds, second_stopped;

/*
 * What we live in: our code, stacks, arguments and page tables. No call may name such a frame, or we would shoot ourselves sooner or
 * later (a number of 17 bits is one of ours as often as not), and an end of ours could not be told from a fault of the hypervisor's.
 */
#define VITAL_LIMIT (1u << 20)      /* frames: 4 GiB */
static u64 vital[VITAL_LIMIT / 64];
/*
 * For each vCPU a page of arguments, one that calls may replace, and room for what is written behind them: a list of 1,000 grant
 * operations is 40 KB, and each gets its status. Without it that went into the other vCPU's arguments after it had looked at them.
 */
#define ARGUMENT_PAGES 16
static u64 arguments[2][ARGUMENT_PAGES * 512] __attribute__((aligned(4096)));

/* From before the random calls, which write to the shared page too, in which the present one is. */
static struct vcpu_time_info first_clock;

static u64 now(void) { return scale_tsc(&first_clock, rdtsc()); }

/* ---- Numbers ---- */

static bool is_vital(u64 m) { return m < VITAL_LIMIT && vital[m / 64] >> (m % 64) & 1; }

/* v, in whatever field it ends up: a frame, an address of machine memory, or either in one half of it. */
static bool names_vital(u64 v)
{
    return is_vital(v) || is_vital((u32)v) || is_vital(v >> 32) || is_vital(v >> 12) || is_vital((u32)v >> 12);
}

static void vital_mark(word m, bool on)
{
    if (m < VITAL_LIMIT)
        vital[m / 64] = (vital[m / 64] & ~(1ULL << m % 64)) | (u64)on << m % 64;
}

static u64 next(struct fuzz *z)
{
    z->state ^= z->state << 13;
    z->state ^= z->state >> 7;
    z->state ^= z->state << 17;
    return z->state;
}

static unsigned below(struct fuzz *z, unsigned n) { return (unsigned)((next(z) >> 20) % n); }
static bool once_in(struct fuzz *z, unsigned n) { return !below(z, n); }
static void *some_victim(struct fuzz *z) { return victim[below(z, NR_VICTIMS)]; }
static void *slot(struct fuzz *z) { return window(z->first_slot + below(z, NR_SLOTS)); }

static word harmless(struct fuzz *z, word m) { return names_vital(m) ? virt_to_mfn(some_victim(z)) : m; }

static word some_mfn(struct fuzz *z)
{
    switch (below(z, 16)) {
    case 0: return foreign[below(z, ARRAY_SIZE(foreign))];
    case 1: return harmless(z, (word)next(z) >> below(z, sizeof(word) * 8));
    case 2 ... 4: return loose[below(z, NR_LOOSE)];
    case 5: return once_in(z, 2) ? (word)start_info->shared_info >> 12 : status_frame;
    default: return virt_to_mfn(some_victim(z));
    }
}

static u64 some_pte(struct fuzz *z)
{
    static const u64 flags[] = { PTE_READ, PTE_DATA, PTE_TABLE, PTE_READ | PTE_US, PTE_P, 0, PTE_DATA | PTE_US, PTE_TABLE };
    u64 e = pte_make(some_mfn(z), flags[below(z, ARRAY_SIZE(flags))]);

    if (once_in(z, 8))
        e ^= 1ULL << below(z, 64);
    if (is_vital(pte_mfn(e)))
        return 0;
    return format.pte_bytes == 4 && !once_in(z, 50) ? (u32)e : e;
}

static domid_t some_domain(struct fuzz *z)
{
    static const domid_t special[] = { 0, DOMID_IO, DOMID_XEN, DOMID_INVALID, 0x7fff, 0x8000, 77, 0xffff };

    if (once_in(z, 16))
        return special[below(z, ARRAY_SIZE(special))];
    return once_in(z, 4) ? others[below(z, NR_OTHERS)] : DOMID_SELF;
}

static word some_pointer(struct fuzz *z)
{
    static const word bad[] = { 0, 0x1000, ~(word)0, ~(word)0xfff, (word)1 << (sizeof(word) * 8 - 1) };

    if (once_in(z, 40))
        return once_in(z, 2) ? format.hv_start : bad[below(z, ARRAY_SIZE(bad))];
    return P(z->buffer) + (once_in(z, 30) ? 4096 - below(z, 64) : 0);
}

static u64 any_value(struct fuzz *z)
{
    switch (below(z, 8)) {
    case 0 ... 2: return below(z, 12);
    case 3: return some_mfn(z);
    case 4: return P(z->scratch) + 2048;
    case 5: return some_domain(z);
    case 6: return next(z) >> below(z, 64);
    default: return 0;
    }
}

static u64 some_value(struct fuzz *z)
{
    u64 v = any_value(z);

    return names_vital(v) ? 0 : v;
}

/* A structure of whatever layout. */
static void scribble(struct fuzz *z, unsigned bytes)
{
    if (once_in(z, 2))
        for (unsigned i = 0; i < bytes / 8; i++)
            z->buffer[i] = some_value(z);
    else
        for (unsigned i = 0; i < bytes / 4; i++)
            ((u32 *)z->buffer)[i] = (u32)some_value(z);
    for (unsigned i = 0; i < 16; i++)
        ((word *)(z->buffer + 256))[i] = some_mfn(z);
}

/* ---- Calls ---- */

struct call { word number; word args[6]; };

static struct call mmu(struct fuzz *z)
{
    struct mmu_update *u = (void *)z->buffer;
    unsigned n = below(z, 5);

    for (unsigned i = 0; i < n; i++) {
        unsigned offset = below(z, 4096 / format.pte_bytes) * (once_in(z, 2) ? 1 : 0) * format.pte_bytes;

        u[i].ptr = ((u64)some_mfn(z) << 12 | offset) + (once_in(z, 8) ? below(z, 8) : 0);
        u[i].val = once_in(z, 3) ? 0 : some_pte(z);
    }
    return (struct call){ __HYPERVISOR_mmu_update, { some_pointer(z), n, once_in(z, 4) ? P(z->buffer + 500) : 0,
                          some_domain(z) | (once_in(z, 20) ? (word)(some_domain(z) + 1) << 16 : 0) } };
}

/* Our root stays as it is: only a frame that can never be one is proposed. */
static struct call ext(struct fuzz *z)
{
    static const u8 commands[] = { 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17,
                                   18, 19, 21 };
    GUEST(mmuext_op) *op = (void *)z->buffer;
    unsigned n = 1 + below(z, 3);

    for (unsigned i = 0; i < n; i++) {
        op[i] = (GUEST(mmuext_op)){ .cmd = commands[below(z, sizeof(commands))], .arg1 = some_mfn(z), .arg2 = some_mfn(z) };
        if (op[i].cmd == MMUEXT_SET_LDT) {
            op[i].arg1 = P(once_in(z, 3) ? slot(z) : some_victim(z));
            op[i].arg2 = below(z, 8300);
        } else if (op[i].cmd >= MMUEXT_TLB_FLUSH_LOCAL && op[i].cmd <= MMUEXT_INVLPG_ALL) {
            op[i].arg1 = P(slot(z));
            op[i].arg2 = some_pointer(z);
        } else if (once_in(z, 60)) {
            op[i] = (GUEST(mmuext_op)){ .cmd = MMUEXT_NEW_BASEPTR, .arg1 = (word)start_info->shared_info >> 12 };
        }
    }
    return (struct call){ __HYPERVISOR_mmuext_op, { some_pointer(z), n, 0, some_domain(z) } };
}

static struct call va_mapping(struct fuzz *z)
{
    word va = P(once_in(z, 30) ? (void *)some_pointer(z) : slot(z));
    word flags = below(z, 4) | (once_in(z, 2) ? (word)UVMF_ALL : once_in(z, 2) ? some_pointer(z) & ~(word)7 : 0);
    u64 e = once_in(z, 4) ? 0 : some_pte(z);
    struct call c = { __HYPERVISOR_update_va_mapping, { va, ARG64(e), flags, 0 } };

    /* Not our own arguments and code. */
    if (va < P(window(0)) || va >= P(window(WINDOW_PAGES)))
        c.args[0] = format.hv_start;
    if (once_in(z, 4)) {
        c.number = __HYPERVISOR_update_va_mapping_otherdomain;
        c.args[sizeof(word) == 8 ? 3 : 4] = some_domain(z);
    }
    return c;
}

static void offer(struct fuzz *z)
{
    static const u16 types[] = { GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly, 0, 2, 3, 0x100 | 1 };
    unsigned ref = FIRST_REF + below(z, 8);
    domid_t to = once_in(z, 8) ? some_domain(z) : 0;
    u16 flags = types[below(z, ARRAY_SIZE(types))];

    if (once_in(z, 2)) {
        grants[ref].domid = to;
        grants[ref].frame = (u32)some_mfn(z);
        grants[ref].flags = flags;
    } else {
        grants2[ref].hdr.domid = to;
        grants2[ref].sub_page.page_off = (u16)below(z, 4100);
        grants2[ref].sub_page.length = (u16)next(z);
        grants2[ref].full_page.frame = once_in(z, 10) ? next(z) : some_mfn(z);
        grants2[ref].hdr.flags = flags;
    }
}

/* The calls on the table as a whole, which take one element. */
static void table_op(struct fuzz *z, unsigned cmd)
{
    if (cmd == GNTTABOP_setup_table)
        *(GUEST(gnttab_setup_table) *)z->buffer = (GUEST(gnttab_setup_table)){
            .dom = some_domain(z), .nr_frames = below(z, 70), .frame_list = P(z->buffer + 300) };
    else if (cmd == GNTTABOP_get_status_frames)
        *(GUEST(gnttab_get_status_frames) *)z->buffer = (GUEST(gnttab_get_status_frames)){
            .dom = some_domain(z), .nr_frames = below(z, 12), .frame_list = P(z->buffer + 300) };
    else if (cmd == GNTTABOP_set_version)
        *(struct gnttab_set_version *)z->buffer = (struct gnttab_set_version){ below(z, 12) ? 1 + below(z, 2) : below(z, 5) };
    else if (cmd == GNTTABOP_swap_grant_ref)
        *(struct gnttab_swap_grant_ref *)z->buffer = (struct gnttab_swap_grant_ref){
            .ref_a = FIRST_REF + below(z, 8), .ref_b = FIRST_REF + below(z, once_in(z, 8) ? 4096 : 8) };
}

static u64 host_address(struct fuzz *z, u32 *flags)
{
    if (!once_in(z, 3))
        return P(slot(z));
    *flags |= GNTMAP_contains_pte;
    return virt_to_maddr(some_victim(z)) + below(z, 8) * format.pte_bytes + once_in(z, 20);
}

static void map_op(struct fuzz *z, struct gnttab_map_grant_ref *op)
{
    *op = (struct gnttab_map_grant_ref){ .ref = FIRST_REF + below(z, 8), .dom = some_domain(z),
                                         .flags = below(z, 8) | (once_in(z, 4) ? (u32)next(z) : 0) };
    op->flags &= ~(u32)GNTMAP_contains_pte;
    op->host_addr = host_address(z, &op->flags);
}

static void copy_op(struct fuzz *z, GUEST(gnttab_copy) *op)
{
    memset(op, 0, sizeof(*op));
    op->flags = (u16)below(z, 4);
    op->source.domid = some_domain(z);
    op->dest.domid = some_domain(z);
    op->source.u = op->flags & GNTCOPY_source_gref ? FIRST_REF + below(z, 8) : some_mfn(z);
    op->dest.u = op->flags & GNTCOPY_dest_gref ? FIRST_REF + below(z, 8) : some_mfn(z);
    op->source.offset = (u16)below(z, 4100);
    op->dest.offset = (u16)below(z, 4100);
    op->len = (u16)below(z, 4100);
}

static struct call grant_call(struct fuzz *z)
{
    unsigned cmd = below(z, 16), n = 1 + below(z, 3);
    u32 unused = 0;

    offer(z);
    scribble(z, 256);
    for (unsigned i = 0; i < n; i++) {
        if (cmd >= 13 || cmd == GNTTABOP_map_grant_ref) {
            cmd = GNTTABOP_map_grant_ref;
            map_op(z, (struct gnttab_map_grant_ref *)z->buffer + i);
        } else if (cmd == GNTTABOP_unmap_grant_ref) {
            ((struct gnttab_unmap_grant_ref *)z->buffer)[i] = (struct gnttab_unmap_grant_ref){
                .host_addr = once_in(z, 4) ? 0 : host_address(z, &unused), .handle = below(z, 20),
                .dev_bus_addr = once_in(z, 2) ? 0 : (u64)some_mfn(z) << 12 };
        } else if (cmd == GNTTABOP_unmap_and_replace) {
            ((struct gnttab_unmap_and_replace *)z->buffer)[i] = (struct gnttab_unmap_and_replace){
                .host_addr = host_address(z, &unused), .new_addr = P(slot(z)), .handle = below(z, 20) };
        } else if (cmd == GNTTABOP_copy) {
            copy_op(z, (GUEST(gnttab_copy) *)z->buffer + i);
        } else {
            table_op(z, cmd);
            n = 1;
        }
    }
    return (struct call){ __HYPERVISOR_grant_table_op, { cmd, some_pointer(z), once_in(z, 40) ? below(z, 1000) : n } };
}

/* Extents lie at buffer + 256 (in) and + 384 (out), in words. */
static GUEST(xen_memory_reservation) reservation(struct fuzz *z, unsigned at, unsigned order, unsigned n)
{
    return (GUEST(xen_memory_reservation)){ .extent_start = P(z->buffer + at), .nr_extents = n, .extent_order = order,
                                            .mem_flags = once_in(z, 8) ? below(z, 64) : 0, .domid = some_domain(z) };
}

static struct call memory_call(struct fuzz *z)
{
    unsigned cmd = below(z, 29), n = 1 + below(z, 8);

    scribble(z, 256);
    for (unsigned i = 0; i < 128; i++)
        ((word *)(z->buffer + 384))[i] = below(z, 1000);
    for (unsigned i = 0; i < 8; i++)
        ((word *)(z->buffer + 256))[i] = loose[below(z, NR_LOOSE)];
    if (cmd >= 24)
        cmd = XENMEM_exchange;
    if (cmd == XENMEM_increase_reservation || cmd == XENMEM_decrease_reservation || cmd == XENMEM_populate_physmap) {
        *(GUEST(xen_memory_reservation) *)z->buffer = reservation(z, 256, once_in(z, 20) ? below(z, 15) : 0, n);
    } else if (cmd == XENMEM_exchange) {
        GUEST(xen_memory_exchange) *x = (void *)z->buffer;
        unsigned in = once_in(z, 3) ? below(z, 3) : 0, out = once_in(z, 3) ? below(z, 3) : 0;

        memset(x, 0, sizeof(*x));
        x->in = reservation(z, 256, in, 4 >> in);
        x->out = reservation(z, 384, out, 4 >> out);
        x->out.domid = once_in(z, 20) ? some_domain(z) : x->in.domid;
        x->nr_exchanged = once_in(z, 20) ? below(z, 6) : 0;
    }
    return (struct call){ __HYPERVISOR_memory_op, { cmd | (once_in(z, 50) ? (word)next(z) << 6 : 0), some_pointer(z) } };
}

/* What the hypervisor wrote where the extents were is ours now, or not: it is tried in either case. */
static void take_frames(struct fuzz *z, const struct call *c)
{
    unsigned cmd = c->args[0] & 63, at = cmd == XENMEM_exchange ? 384 : 256;

    if (c->number == __HYPERVISOR_memory_op && (cmd == XENMEM_exchange || cmd <= XENMEM_populate_physmap) && cmd != 1)
        for (unsigned i = 0; i < 4; i++)
            loose[below(z, NR_LOOSE)] = harmless(z, ((word *)(z->buffer + at))[i]);
}

static struct call event_call(struct fuzz *z)
{
    static const u8 commands[] = { 0, 1, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9, 12, 12, 13, 14, 15 };
    unsigned cmd = once_in(z, 60) ? EVTCHNOP_reset : once_in(z, 60) ? EVTCHNOP_init_control : commands[below(z, sizeof(commands))];
    u32 *p = (u32 *)z->buffer;

    scribble(z, 64);
    for (unsigned i = 0; i < 4 && !once_in(z, 4); i++)
        p[i] = below(z, 24);
    if (cmd == EVTCHNOP_alloc_unbound || cmd == EVTCHNOP_status || cmd == EVTCHNOP_reset)
        *(domid_t *)p = some_domain(z);
    if (cmd == EVTCHNOP_expand_array)
        z->buffer[0] = some_mfn(z);
    if (cmd == EVTCHNOP_init_control)
        *(struct evtchn_init_control *)p = (struct evtchn_init_control){ some_mfn(z), below(z, 600) * 8, below(z, 3), 0, { 0 } };
    /* A domU speaks by its first ports: the arguments must be those that were looked at. */
    if (!is_dom0() && (cmd == EVTCHNOP_reset || cmd == EVTCHNOP_close)) {
        if (cmd == EVTCHNOP_reset || p[0] < 4)
            cmd = EVTCHNOP_unmask;
        return (struct call){ __HYPERVISOR_event_channel_op, { cmd, P(z->buffer) } };
    }
    return (struct call){ __HYPERVISOR_event_channel_op, { cmd, some_pointer(z) } };
}

static struct call vcpu_call(struct fuzz *z)
{
    static const u8 commands[] = { 3, 4, 6, 7, 8, 9, 11, 12, 5, 13 };
    unsigned cmd = commands[below(z, sizeof(commands))];

    scribble(z, 64);
    if (cmd == 5 || cmd == 13)      /* areas: at the buffer's end, or nowhere */
        z->buffer[0] = once_in(z, 2) ? 0 : some_pointer(z) + 3000;
    return (struct call){ __HYPERVISOR_vcpu_op, { cmd, below(z, 4), some_pointer(z) } };
}

static struct call sched_call(struct fuzz *z)
{
    GUEST(sched_poll) *p = (void *)z->buffer;

    if (once_in(z, 2))
        return (struct call){ __HYPERVISOR_sched_op, { SCHEDOP_yield, 0 } };
    scribble(z, 128);
    *p = (GUEST(sched_poll)){ .ports = some_pointer(z), .nr_ports = below(z, 140), .timeout = 1 };
    return (struct call){ __HYPERVISOR_sched_op, { SCHEDOP_poll, P(p) } };
}

static struct call descriptor_call(struct fuzz *z)
{
    static const u64 kinds[] = { 0x00cff3000000ffffULL, 0x00cffb000000ffffULL, 0x00af9b000000ffffULL, 0x00008900000000ffULL,
                                 0x0000ec0000080000ULL, 0x00cf93000000ffffULL, 0 };
    u64 at = ((u64)some_mfn(z) << 12) + below(z, 512) * 8 + once_in(z, 20);
    u64 e = kinds[below(z, ARRAY_SIZE(kinds))] ^ (once_in(z, 8) ? 1ULL << below(z, 64) : 0);

    if (once_in(z, 3)) {
        for (unsigned i = 0; i < 16; i++)
            ((word *)z->buffer)[i] = some_mfn(z);
        return (struct call){ __HYPERVISOR_set_gdt, { some_pointer(z), below(z, 8000) } };
    }
    return (struct call){ __HYPERVISOR_update_descriptor, { ARG64(at), ARG64(e) } };
}

/* Calls whose structure is not known here; those that act on ourselves for good are left out. */
static struct call other_call(struct fuzz *z)
{
    static const struct { u8 number, commands; } calls[] = {
        { __HYPERVISOR_physdev_op, 33 }, { __HYPERVISOR_xen_version, 12 }, { __HYPERVISOR_vm_assist, 3 },
        { __HYPERVISOR_fpu_taskswitch, 2 }, { __HYPERVISOR_get_debugreg, 9 }, { __HYPERVISOR_hvm_op, 30 },
        { __HYPERVISOR_xenpmu_op, 8 }, { __HYPERVISOR_argo_op, 8 }, { __HYPERVISOR_nmi_op, 3 },
        { __HYPERVISOR_event_channel_op_compat, 1 }, { __HYPERVISOR_set_segment_base, 5 }, { 55, 3 }, { 63, 1 },
    };
    unsigned i = below(z, ARRAY_SIZE(calls));

    /* The old form of event_channel_op would close the ports by which a domU speaks. */
    if (!is_dom0() && calls[i].number == __HYPERVISOR_event_channel_op_compat)
        i = 0;
    scribble(z, 128);
    if (calls[i].number == __HYPERVISOR_vm_assist || calls[i].number == __HYPERVISOR_set_segment_base)
        return (struct call){ calls[i].number, { below(z, calls[i].commands), below(z, 40) } };
    if (calls[i].number == __HYPERVISOR_event_channel_op_compat)
        return (struct call){ calls[i].number, { some_pointer(z) } };
    return (struct call){ calls[i].number, { below(z, calls[i].commands), some_pointer(z), below(z, 3), below(z, 3) } };
}

/* ---- Other domains ---- */

static long domctl(struct xen_domctl *op)
{
    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    return HYPERCALL(__HYPERVISOR_domctl, P(op));
}

static void make_domain(struct fuzz *z, unsigned n)
{
    struct xen_domctl *op = (void *)z->buffer;
    u32 vcpus = 1 + below(z, 3);
    word pfn[16];
    GUEST(xen_memory_reservation) r = { .extent_start = P(pfn), .nr_extents = 16 };

    memset(op, 0, sizeof(*op));
    op->cmd = XEN_DOMCTL_createdomain;
    op->domain = DOMID_ANY;
    op->u.createdomain = (struct xen_domctl_createdomain){ .max_vcpus = vcpus, .max_evtchn_port = below(z, 2000),
        .max_grant_frames = (s32)below(z, 70) - 1, .max_maptrack_frames = (s32)below(z, 8) - 1, .grant_opts = 1 + below(z, 2) };
    if (domctl(op))
        return;
    others[n] = r.domid = op->domain;
    memset(&op->u, 0, sizeof(op->u));
    op->cmd = XEN_DOMCTL_max_mem;
    op->u.max_mem.max_memkb = 4 * (8 + below(z, 64));
    (void)domctl(op);
    if (once_in(z, 2)) {
        op->cmd = XEN_DOMCTL_set_address_size;
        op->u.address_size.size = 32;
        (void)domctl(op);
    }
    op->cmd = XEN_DOMCTL_max_vcpus;
    op->u.max_vcpus.max = vcpus;
    (void)domctl(op);
    for (unsigned i = 0; i < 16; i++)
        pfn[i] = i;
    (void)memory_op(XENMEM_populate_physmap, &r);
    for (unsigned i = 0; i < 16; i++)
        loose[below(z, NR_LOOSE)] = pfn[i];
}

/* It may be gone already: the random calls have destroyed it. */
static void end_domain(struct fuzz *z, unsigned n)
{
    struct xen_domctl *op = (void *)z->buffer;
    long rc;

    if (others[n] == DOMID_INVALID)
        return;
    memset(op, 0, sizeof(*op));
    op->cmd = XEN_DOMCTL_destroydomain;
    op->domain = others[n];
    rc = domctl(op);
    CHECK(rc == 0 || rc == -ESRCH);
    others[n] = DOMID_INVALID;
}

static void set_context(struct fuzz *z, struct xen_domctl *op)
{
    static u8 context[6000] __attribute__((aligned(16)));

    for (unsigned i = 0; i < sizeof(context) / 8; i++)
        ((u64 *)context)[i] = once_in(z, 3) ? some_value(z) : 0;
    for (unsigned i = 0; i < 8; i++)
        ((u64 *)context)[below(z, sizeof(context) / 8)] = (u64)loose[below(z, NR_LOOSE)] << 12;
    op->cmd = XEN_DOMCTL_setvcpucontext;
    op->u.vcpucontext.vcpu = below(z, 3);
    op->u.vcpucontext.ctxt = once_in(z, 8) ? 0 : P(context);
}

/* Never ourselves, whom some of these would stop. */
static void domain_call(struct fuzz *z)
{
    unsigned n = below(z, NR_OTHERS);
    struct xen_domctl *op = (void *)z->buffer;

    if (others[n] == DOMID_INVALID) {
        make_domain(z, n);
        return;
    }
    if (once_in(z, 12)) {
        end_domain(z, n);
        return;
    }
    scribble(z, sizeof(*op));
    op->cmd = 2 + below(z, 90);
    op->domain = once_in(z, 10) ? 4000 : others[n];
    if (once_in(z, 4))
        set_context(z, op);
    (void)domctl(op);
}

/* ---- The two vCPUs ---- */

static struct call some_call(struct fuzz *z)
{
    switch (below(z, 20)) {
    case 0 ... 3: return mmu(z);
    case 4 ... 7: return ext(z);
    case 8 ... 9: return va_mapping(z);
    case 10 ... 12: return grant_call(z);
    case 13 ... 14: return memory_call(z);
    case 15 ... 16: return event_call(z);
    case 17: return once_in(z, 2) ? vcpu_call(z) : sched_call(z);
    case 18: return descriptor_call(z);
    default: return other_call(z);
    }
}

static u32 made[64], accepted[64];      /* by the first vCPU */

static void do_call(struct fuzz *z, struct call c)
{
    long rc;

    if (once_in(z, 8)) {
        GUEST(multicall_entry) entry = { .op = c.number };

        for (unsigned i = 0; i < 6; i++)
            entry.args[i] = c.args[i];
        rc = multicall(&entry, 1);
        rc = rc ? rc : (long)entry.result;
    } else {
        rc = hypercall_page_call(c.number, c.args);
    }
    made[c.number & 63]++;
    accepted[c.number & 63] += rc >= 0;
    take_frames(z, &c);
}

/* A direct write to what may be a page table just now. */
static void write_entry(struct fuzz *z)
{
    volatile pte_raw *at = (volatile pte_raw *)some_victim(z) + below(z, 8);
    pte_raw e = (pte_raw)(once_in(z, 2) ? 0 : some_pte(z));

    switch (below(z, 4)) {
    case 0: (void)FAULT_IN(*at = e); break;
    case 1: (void)FAULT_IN((void)__atomic_exchange_n((volatile word *)at, (word)e, __ATOMIC_SEQ_CST)); break;
    case 2: (void)FAULT_IN((void)__atomic_fetch_or((volatile word *)at, PTE_A, __ATOMIC_SEQ_CST)); break;
    default: (void)FAULT_IN(*(volatile u8 *)at = (u8)e); break;
    }
}

/* Whatever is mapped there just now. */
static void touch_window(struct fuzz *z)
{
    volatile word *p = slot(z);

    (void)FAULT_IN(p[below(z, 512)] = 0; (void)p[0]);
}

/* Faults are caught for one vCPU at a time: the first. */
static bool second_trapped(struct trap_regs *r)
{
    if (this_vcpu())
        panic("vCPU 1: trap %u at %lx, error %lx", (unsigned)r->vector, (unsigned long)r->ip, (unsigned long)r->error);
    return false;
}

static void second_main(void)
{
    struct fuzz *z = &fuzz[1];
    GUEST(vcpu_info) *first = vcpu_info(0);

    while (!second_stops) {
        write_once(first->evtchn_upcall_pending, 1);
        for (unsigned i = below(z, 200); i--; )
            barrier();
        write_once(first->evtchn_upcall_pending, 0);
        for (unsigned i = below(z, 2000); i--; )
            barrier();
        if (once_in(z, 4)) {
            struct call c = once_in(z, 2) ? mmu(z) : once_in(z, 2) ? ext(z) : once_in(z, 2) ? grant_call(z) : memory_call(z);

            (void)hypercall_page_call(c.number, c.args);
        }
        second_rounds++;
    }
    second_stopped = 1;
    for (;;)
        sched_op(SCHEDOP_yield, NULL);
}

static bool prepare(u64 seed)
{
    word frame;
    GUEST(gnttab_setup_table) op = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = P(&frame) };
    u64 first_status;
    GUEST(gnttab_get_status_frames) status = { .dom = DOMID_SELF, .nr_frames = 1, .frame_list = P(&first_status) };

    first_clock = time_info(0);
    if (!CHECK_OK(grant_table_op(GNTTABOP_setup_table, &op, 1)) || !CHECK_OK(map_at(window(200), frame, PTE_DATA)))
        return false;
    grants = window(200);
    grants2 = window(200);
    if (!CHECK_OK(grant_table_op(GNTTABOP_set_version, &(struct gnttab_set_version){ 2 }, 1)) ||
        !CHECK_OK(grant_table_op(GNTTABOP_get_status_frames, &status, 1)))
        return false;
    status_frame = (word)first_status;
    for (unsigned i = 0; i < 2; i++)
        fuzz[i] = (struct fuzz){ .state = seed * 2 + i + 1, .buffer = arguments[i], .scratch = arguments[i] + 512,
                                 .first_slot = i * NR_SLOTS };
    for (unsigned i = 0; i < NR_VICTIMS; i++)
        victim[i] = table_alloc();
    for (word pfn = 0; pfn < start_info->nr_pages; pfn++)
        vital_mark(p2m[pfn], true);
    for (unsigned i = 0; i < NR_VICTIMS; i++)
        vital_mark(virt_to_mfn(victim[i]), false);
    for (unsigned i = 0; i < NR_LOOSE; i++) {
        loose[i] = p2m[spare_pfn(i)];
        vital_mark(loose[i], false);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(foreign); i++)
        foreign[i] = foreign_frame(i);
    for (unsigned i = 0; i < NR_OTHERS; i++)
        others[i] = DOMID_INVALID;
    return true;
}

static u64 number(const char *word_, u64 otherwise)
{
    const char *s = cmdline_value(word_);
    u64 n = 0;

    for (; s && *s >= '0' && *s <= '9'; s++)
        n = n * 10 + (u64)(*s - '0');
    return n ? n : otherwise;
}

static bool second_ends(void)
{
    u64 end = now() + 100000 * MS;

    second_stops = true;
    while (!second_stopped && now() < end)
        sched_op(SCHEDOP_yield, NULL);
    return second_stopped;
}

TEST(random_calls)
{
    struct fuzz *z = &fuzz[0];
    u64 rounds = number("rounds", 30000);

    REQUIRE(prepare(number("seed", 4711)));
    trap_hook = second_trapped;
    REQUIRE_OK(vcpu_op(VCPUOP_initialise, 1, vcpu_context(1, second_main)));
    REQUIRE_OK(vcpu_op(VCPUOP_up, 1, NULL));
    write_once(vcpu_info(0)->evtchn_upcall_mask, 0);
    for (u64 i = 0; i < rounds; i++) {
        if (i % 1000 == 0)
            printf("round %llu, the other %u\n", (unsigned long long)i, second_rounds);
        do_call(z, some_call(z));
        if (once_in(z, 6))
            write_entry(z);
        if (once_in(z, 8))
            touch_window(z);
        if (once_in(z, 8))
            domain_call(z);
    }
    for (unsigned i = 0; i < 64; i++)
        if (made[i])
            printf("call %u: %u of %u accepted\n", i, accepted[i], made[i]);
    CHECK(second_ends());
    for (unsigned i = 0; i < NR_OTHERS; i++)
        end_domain(z, i);
    trap_hook = NULL;
    CHECK(second_rounds != 0);
    CHECK_FAULT(VECTOR_UD, __asm__ volatile("ud2"));
}

static u64 free_pages(void)
{
    struct xen_sysctl op = { .cmd = XEN_SYSCTL_physinfo, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };

    return HYPERCALL(__HYPERVISOR_sysctl, P(&op)) ? 0 : op.u.physinfo.free_pages;
}

/* A domain that gets as far as it can: ports, a grant table, a context, vCPUs that run what happens to lie in its memory. */
static void live_and_die(struct fuzz *z)
{
    struct xen_domctl *op = (void *)z->buffer;
    GUEST(gnttab_setup_table) table = { .nr_frames = 1 + below(z, 4), .frame_list = P(z->buffer + 300) };

    make_domain(z, 0);
    REQUIRE(others[0] != DOMID_INVALID);
    table.dom = others[0];
    (void)grant_table_op(GNTTABOP_setup_table, &table, 1);
    for (unsigned i = 0; i < 200; i++)
        (void)alloc_unbound(others[0], 0);
    for (unsigned i = 0; i < 4; i++) {
        memset(op, 0, sizeof(*op));
        op->domain = others[0];
        set_context(z, op);
        (void)domctl(op);
        (void)update_va_mapping_otherdomain(window(i), pte_make(loose[below(z, NR_LOOSE)], PTE_READ), UVMF_NONE, others[0]);
    }
    memset(op, 0, sizeof(*op));
    op->domain = others[0];
    op->cmd = XEN_DOMCTL_unpausedomain;
    CHECK_OK(domctl(op));
    for (unsigned i = 0; i < 4; i++)
        sched_op(SCHEDOP_yield, NULL);
    end_domain(z, 0);
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(unmap_at(window(i)));
}

/* Frames that wait for a flush on another CPU are free a little later. */
static u64 free_pages_at_rest(void)
{
    u64 pages, end;

    do {
        pages = free_pages();
        for (end = now() + 200 * MS; now() < end;)
            sched_op(SCHEDOP_yield, NULL);
    } while (free_pages() != pages);
    return pages;
}

/* Whatever a domain had, the machine has again when it is gone; and that is soon. */
TEST(domains_leave_nothing)
{
    struct fuzz *z = &fuzz[0];
    u64 before = 0, end;

    if (!is_dom0())
        SKIP("others are none of a domU's business");
    if (!z->buffer)
        REQUIRE(prepare(4711));
    for (unsigned round = 0; round < 30; round++) {
        live_and_die(z);
        if (round == 4)         /* what the hypervisor keeps after the first ones */
            before = free_pages_at_rest();
    }
    end = now() + 5000 * MS;
    while (free_pages() != before && now() < end)
        sched_op(SCHEDOP_yield, NULL);
    CHECK_EQ(free_pages(), before);
}

/* A saved domain's clock that does not fit: the hypervisor would divide by it each time the domain runs. */
TEST(absurd_clocks)
{
    static const struct { u64 elapsed; u32 khz; bool fine; } clocks[] = {
        { ~0ULL, ~0u, false }, { ~0ULL, 0, false }, { 1ULL << 63, 2000000, false }, { 0, ~0u, false }, { 0, 1, false },
        { 1ULL << 50, 2000000, true }, { 0, 0, true },
    };
    struct fuzz *z = &fuzz[0];
    struct xen_domctl *op;

    if (!is_dom0())
        SKIP("others are none of a domU's business");
    if (!z->buffer)
        REQUIRE(prepare(4711));
    make_domain(z, 0);
    REQUIRE(others[0] != DOMID_INVALID);
    op = (void *)z->buffer;
    for (unsigned i = 0; i < ARRAY_SIZE(clocks); i++) {
        memset(op, 0, sizeof(*op));
        op->cmd = XEN_DOMCTL_settscinfo;
        op->domain = others[0];
        op->u.tsc_info.tsc_mode = 1;
        op->u.tsc_info.elapsed_nsec = clocks[i].elapsed;
        op->u.tsc_info.gtsc_khz = clocks[i].khz;
        CHECK((domctl(op) == 0) == clocks[i].fine);
    }
    end_domain(z, 0);
}
