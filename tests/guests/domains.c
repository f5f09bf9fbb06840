/*
 * Domains that dom0 makes by control calls, from the first frame on, with a few instructions as their kernel: what only the
 * toolstack can do to a vCPU, and vCPUs of high numbers.
 */
#include <public/domctl.h>
#include <public/errno.h>
#include <public/pvisor.h>
#include <public/sysctl.h>
#include "clock.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"

#define PATIENCE (20000 * MS)
#define NEEDS_DOM0() do { if (!is_dom0()) SKIP("dom0's"); } while (0)

/* ---- Control calls on the domain ---- */

static domid_t domid;
static struct xen_domctl op;

static long domctl(u32 cmd)
{
    op.cmd = cmd;
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op.domain = domid;
    return HYPERCALL(__HYPERVISOR_domctl, P(&op));
}

#define DOMCTL(cmd, field, ...) ({                              \
    memset(&op, 0, sizeof(op));                                 \
    op.u.field = (__typeof__(op.u.field)){ __VA_ARGS__ };       \
    domctl(XEN_DOMCTL_##cmd); })
#define DOMCTL_BARE(cmd) ({ memset(&op, 0, sizeof(op)); domctl(XEN_DOMCTL_##cmd); })

/* ---- Its memory: one page each ---- */

enum page { TOP, TABLE_3, TABLE_2, TABLE_1, HIGH, CODE, LDT, DATA, NR_PAGES };
static word frame[NR_PAGES];

#define CODE_VA USER_BASE
#define LDT_VA  (USER_BASE + 0x1000)
#define DATA_VA (USER_BASE + 0x2000)

static long borrow(enum page p, u64 flags)
{
    return update_va_mapping_otherdomain(window(p), pte_make(frame[p], flags), UVMF_INVLPG | UVMF_ALL, domid);
}

static void *page_of(enum page p) { return window(p); }

static void give_back(enum page p) { CHECK_OK(unmap_at(page_of(p))); }

static enum page table_at(unsigned level) { return level == format.levels ? TOP : level == 3 ? TABLE_3 : level == 2 ? TABLE_2 : TABLE_1; }

static void set_entry(enum page table, const void *va, unsigned level, enum page to, u64 flags)
{
    ((pte_raw *)page_of(table))[pte_index(va, level)] = (pte_raw)pte_make(frame[to], flags);
}

static void fill_tables(void)
{
    for (unsigned level = format.levels; level > 1; level--)
        set_entry(table_at(level), (void *)CODE_VA, level, table_at(level - 1), format.level[level].table_flags);
    if (format.levels == 3)
        ((pte_raw *)page_of(TOP))[3] = (pte_raw)pte_make(frame[HIGH], PTE_P);
    set_entry(TABLE_1, (void *)CODE_VA, 1, CODE, PTE_READ | PTE_US);
    set_entry(TABLE_1, (void *)LDT_VA, 1, LDT, PTE_READ | PTE_US);
    set_entry(TABLE_1, (void *)DATA_VA, 1, DATA, PTE_DATA | PTE_US);
}

/* The kernel's entry points, the same bytes in 32 and 64 bits. Each ends in a jump to itself. */
#define TO_DATA 0xbf, 0x00, 0x20, 0x40, 0x00                  /* mov edi, DATA_VA */
#define STAY    0xeb, 0xfe
enum entry { LOADS_LDT = 0, FAULTS = 0x100, HANDLER = 0x180, READS_CR2 = 0x200, COUNTS = 0x280 };
#define FAULT_VA 0x7f0000
#define AT_CR2    0   /* words of the data page */
#define AT_READ   4
#define AT_FAULT  6

static void fill_code(void)
{
    static const u8 loads_ldt[] = { 0x66, 0xb8, 0x07, 0x00, 0x8e, 0xd8, STAY };            /* mov ax, 7; mov ds, ax */
    static const u8 faults[] = { 0xbf, 0x00, 0x00, 0x7f, 0x00, 0x8b, 0x07, STAY };         /* mov edi, FAULT_VA; mov eax, [di] */
    static const u8 handler[] = { TO_DATA, 0xc7, 0x47, 0x18, 0x01, 0x00, 0x00, 0x00, STAY }; /* mov dword [di + 24], 1 */
    static const u8 reads_cr2[] = { TO_DATA, 0x0f, 0x20, 0xd0, 0x89, 0x07,                 /* mov eax, cr2; mov [di], eax */
                                    0xc7, 0x47, 0x10, 0x01, 0x00, 0x00, 0x00, STAY };      /* mov dword [di + 16], 1 */
    static const u8 counts[] = { TO_DATA, 0xff, 0x07, 0xeb, 0xfc };                         /* inc dword [di], again and again */
    u8 *code = page_of(CODE);

    memcpy(code + LOADS_LDT, loads_ldt, sizeof(loads_ldt));
    memcpy(code + FAULTS, faults, sizeof(faults));
    memcpy(code + HANDLER, handler, sizeof(handler));
    memcpy(code + READS_CR2, reads_cr2, sizeof(reads_cr2));
    memcpy(code + COUNTS, counts, sizeof(counts));
}

static long create(unsigned vcpus)
{
    return DOMCTL(createdomain, createdomain, .max_vcpus = vcpus, .max_evtchn_port = 100, .max_grant_frames = 1, .grant_opts = 1);
}

static bool make_domain(unsigned vcpus)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(frame), .nr_extents = NR_PAGES };

    domid = DOMID_ANY;
    if (!CHECK_OK(create(vcpus)))
        return false;
    domid = r.domid = op.domain;
    if (format.levels < 4)
        CHECK_OK(DOMCTL(set_address_size, address_size, .size = format.levels == 3 ? 32 : PVISOR_ADDRESS_SIZE_NONPAE));
    CHECK_OK(DOMCTL(max_mem, max_mem, .max_memkb = 4 * NR_PAGES));
    CHECK_OK(DOMCTL(max_vcpus, max_vcpus, .max = vcpus));
    for (unsigned i = 0; i < NR_PAGES; i++)
        frame[i] = i;
    if (!CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), NR_PAGES))
        return false;
    for (unsigned i = 0; i < NR_PAGES; i++) {
        CHECK_OK(borrow(i, PTE_DATA));
        memset(page_of(i), 0, 4096);
    }
    fill_tables();
    fill_code();
    *(u64 *)page_of(LDT) = 0x00cff2000000ffffULL;   /* flat data of ring 3, not accessed yet */
    for (unsigned i = 0; i < NR_PAGES; i++)
        give_back(i);
    return true;
}

static vcpu_guest_context *make_context(enum entry entry, unsigned ldt_entries)
{
    vcpu_guest_context *c = vcpu_context(1, (void (*)(void))(word)(CODE_VA + entry));

    c->flags |= VGCF_online;
    c->trap_ctxt[VECTOR_PF].address = CODE_VA + HANDLER;
    c->ldt_base = LDT_VA;
    c->ldt_ents = ldt_entries;
    c->kernel_sp = DATA_VA + 0x1000;
#ifdef FORMAT_PT64
    c->user_regs.rsp = DATA_VA + 0x800;
    c->ctrlreg[3] = (u64)frame[TOP] << 12;
#else
    c->user_regs.esp = DATA_VA + 0x800;
    c->ctrlreg[3] = XEN_PFN_TO_CR3_32(frame[TOP]);
#endif
    return c;
}

static long give_context(unsigned vcpu, enum entry entry, unsigned ldt_entries)
{
    return DOMCTL(setvcpucontext, vcpucontext, .vcpu = vcpu, .ctxt = P(make_context(entry, ldt_entries)));
}

/* Its number is free again when nothing of the domain is left. */
static void end_domain(void)
{
    u64 end = system_time() + PATIENCE;
    long rc;

    CHECK_OK(DOMCTL_BARE(destroydomain));
    while ((rc = create(1)) == -EEXIST && system_time() < end)
        sched_op(SCHEDOP_yield, NULL);
    if (CHECK_OK(rc))
        CHECK_OK(DOMCTL_BARE(destroydomain));
}

static bool wait_for(volatile u32 *word_, u32 bits)
{
    u64 end = system_time() + PATIENCE;

    while (!(*word_ & bits) && system_time() < end)
        sched_op(SCHEDOP_yield, NULL);
    return CHECK(*word_ & bits);
}

static bool wait_until_not(volatile u32 *word_, u32 was)
{
    u64 end = system_time() + PATIENCE;

    while (*word_ == was && system_time() < end)
        sched_op(SCHEDOP_yield, NULL);
    return *word_ != was;
}

/* ---- Tests ---- */

/* A domain's size of address, and with it its page tables, as its tools choose them, and say what they are. */
TEST(page_tables_are_chosen_while_there_is_no_memory)
{
    static const u32 sizes[] = { 32, PVISOR_ADDRESS_SIZE_NONPAE, 64, PVISOR_ADDRESS_SIZE_NONPAE, PVISOR_ADDRESS_SIZE_NONPAE, 32, 64, 32 };
    static const u32 none[] = { 0, 16, 33, 128, 32 | 1 << 8, 32 | 3 << 8, 64 | 2 << 8, PVISOR_ADDRESS_SIZE_NONPAE | 1 << 16 };

    NEEDS_DOM0();
    domid = DOMID_ANY;
    REQUIRE_OK(create(2));
    domid = op.domain;
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        bool is_non_pae = sizes[i] == PVISOR_ADDRESS_SIZE_NONPAE;

        CHECK_OK(DOMCTL(set_address_size, address_size, .size = sizes[i]));
        if (i == 1)
            CHECK_OK(DOMCTL(max_vcpus, max_vcpus, .max = 2));
        CHECK_OK(DOMCTL_BARE(get_address_size));
        CHECK_EQ(op.u.address_size.size, is_non_pae ? 32 : sizes[i]);
        CHECK_EQ(DOMCTL(getpageframeinfo3, getpageframeinfo3, .num = PVISOR_PFINFO_NONPAE), is_non_pae ? 0 : -EOPNOTSUPP);
        CHECK_EQ(DOMCTL(getpageframeinfo3, getpageframeinfo3, .num = 0), is_non_pae ? -EOPNOTSUPP : 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++)
        CHECK_EQ(DOMCTL(set_address_size, address_size, .size = none[i]), -EINVAL);
    end_domain();
    REQUIRE(make_domain(1));
    CHECK_EQ(DOMCTL(set_address_size, address_size, .size = PVISOR_ADDRESS_SIZE_NONPAE), -EACCES);
    end_domain();
}

/* A reset vCPU holds nothing: no table, no page of a descriptor table, nothing that its next context would forget. */
TEST(reset_gives_up_what_is_held)
{
    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    REQUIRE_OK(give_context(0, LOADS_LDT, 512));
    CHECK_OK(DOMCTL_BARE(unpausedomain));
    REQUIRE_OK(borrow(LDT, PTE_READ));
    CHECK(wait_for((volatile u32 *)page_of(LDT) + 1, 1 << 8));    /* the CPU has marked it as accessed */
    CHECK_REFUSED(borrow(LDT, PTE_DATA));
    CHECK_REFUSED(borrow(TOP, PTE_DATA));
    CHECK_OK(DOMCTL(setvcpucontext, vcpucontext, .vcpu = 0, .ctxt = 0));
    CHECK_OK(borrow(LDT, PTE_DATA));
    CHECK_OK(borrow(TOP, PTE_DATA));
    give_back(LDT);
    give_back(TOP);
    CHECK_OK(give_context(0, HANDLER, 0));
    REQUIRE_OK(borrow(DATA, PTE_READ));
    CHECK(wait_for((volatile u32 *)page_of(DATA) + AT_FAULT, 1));
    give_back(DATA);
    end_domain();
}

/* vCPUs that have no place in shared_info and registered none: what one's fault left is not there for another. */
TEST(vcpu_infos_are_apart)
{
    volatile u32 *data = page_of(DATA);

    NEEDS_DOM0();
    REQUIRE(make_domain(XEN_LEGACY_MAX_VCPUS + 2));
    REQUIRE_OK(give_context(XEN_LEGACY_MAX_VCPUS, FAULTS, 0));
    REQUIRE_OK(borrow(DATA, PTE_READ));
    CHECK_OK(DOMCTL_BARE(unpausedomain));
    CHECK(wait_for(&data[AT_FAULT], 1));
    CHECK_OK(give_context(XEN_LEGACY_MAX_VCPUS + 1, READS_CR2, 0));
    CHECK(wait_for(&data[AT_READ], 1));
    CHECK_EQ(data[AT_CR2], 0);
    CHECK_OK(give_context(XEN_LEGACY_MAX_VCPUS, READS_CR2, 0));
    CHECK(wait_for(&data[AT_CR2], ~0u));
    CHECK_EQ(data[AT_CR2], FAULT_VA);    /* it was there for whose it is */
    give_back(DATA);
    end_domain();
}

/* A breakpoint on I/O is legal by CR4.DE alone, which is in the same context. */
/* ---- CPU policies: a domain of a machine with fewer features ---- */

#define LEAF_1C_XSAVE (1u << 26)

static struct xen_cpuid_leaf leaf[200];

static u32 get_leaves(void)
{
    CHECK_OK(DOMCTL(get_cpu_policy, cpu_policy, .nr_leaves = ARRAY_SIZE(leaf), .leaves = P(leaf)));
    return op.u.cpu_policy.nr_leaves;
}

static long set_leaves(u32 nr) { return DOMCTL(set_cpu_policy, cpu_policy, .nr_leaves = nr, .leaves = P(leaf)); }

/* Leaf 1 is the second one. */
TEST(features_that_guests_do_not_have_are_refused)
{
    u32 nr;

    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    nr = get_leaves();
    CHECK_OK(set_leaves(nr));
    leaf[1].c |= 1 << 5;    /* VMX */
    CHECK_SAYS(EINVAL, "1 features of the domain's, which guests do not have on this machine: VMX", set_leaves(nr));
    CHECK_EQ(op.u.cpu_policy.err_leaf, 1);
    get_leaves();
    CHECK_EQ(leaf[1].c & 1 << 5, 0);
    end_domain();
}

TEST(without_xsave_there_is_no_extended_state)
{
    static u64 none[2];
    u32 nr;

    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    nr = get_leaves();
    leaf[1].c &= ~LEAF_1C_XSAVE;
    CHECK_OK(set_leaves(nr));
    CHECK_OK(DOMCTL(getvcpuextstate, vcpuextstate, .vcpu = 0));
    CHECK_EQ(op.u.vcpuextstate.xfeature_mask, 0);
    CHECK_EQ(op.u.vcpuextstate.size, 0);
    CHECK_OK(DOMCTL(setvcpuextstate, vcpuextstate, .vcpu = 0, .size = sizeof(none), .buffer = P(none)));
    none[0] = 1;
    CHECK_REFUSED(DOMCTL(setvcpuextstate, vcpuextstate, .vcpu = 0, .size = sizeof(none), .buffer = P(none)));
    end_domain();
}

TEST(debug_registers_are_restored)
{
    static const word dr[] = { 0x80, 0x1000, 0, 0, 0, 0, 0xffff4ff1, 0xe060e };
    static vcpu_guest_context back;
    vcpu_guest_context *c;

    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    for (unsigned de = 0; de < 2; de++) {
        c = make_context(HANDLER, 0);
        c->ctrlreg[4] = de ? 1 << 3 : 0;   /* CR4.DE */
        for (unsigned i = 0; i < ARRAY_SIZE(dr); i++)
            c->debugreg[i] = dr[i];
        CHECK_OK(DOMCTL(setvcpucontext, vcpucontext, .vcpu = 0, .ctxt = P(c)));
        CHECK_OK(DOMCTL(getvcpucontext, vcpucontext, .vcpu = 0, .ctxt = P(&back)));
        CHECK_EQ(back.debugreg[0], dr[0]);
        CHECK_EQ(back.debugreg[1], dr[1]);
        CHECK_EQ(back.debugreg[6], dr[6]);
        CHECK_EQ(back.debugreg[7], de ? dr[7] | 0x400 : 0x400);
    }
    end_domain();
}

static u64 dirty;   /* a bit for each page, as the last report has them */

static long shadow_op(u32 operation, u32 mode)
{
    dirty = 0;
    return DOMCTL(shadow_op, shadow_op, .op = operation, .mode = mode, .dirty_bitmap = P(&dirty), .pages = NR_PAGES);
}

/*
 * The log of what a domain writes is begun and ended while it runs, by mirrors, and with page-table isolation by copies of their roots: it
 * goes on writing, and each report has what it has written since the one before.
 */
TEST(writes_of_a_domain_that_runs_are_logged)
{
    volatile u32 *data = page_of(DATA);

    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    REQUIRE_OK(give_context(0, COUNTS, 0));
    REQUIRE_OK(borrow(DATA, PTE_READ));
    CHECK_OK(DOMCTL_BARE(unpausedomain));
    for (unsigned time = 0; time < 5; time++) {
        u32 then = data[0];

        CHECK(wait_until_not(data, then));
        REQUIRE_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, 0));
        for (unsigned round = 0; round < 10; round++) {
            CHECK_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_CLEAN, 0));
            then = data[0];
            CHECK(wait_until_not(data, then));
            CHECK_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_PEEK, 0));
            CHECK(dirty & 1 << DATA);
            CHECK(!(dirty & 1 << CODE));
        }
        CHECK_OK(DOMCTL_BARE(pausedomain));
        CHECK_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_CLEAN, XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL));
        CHECK(dirty & 1 << DATA);
        CHECK_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_CLEAN, 0));
        CHECK_EQ(dirty, 0);
        CHECK_OK(DOMCTL_BARE(unpausedomain));
        CHECK_OK(shadow_op(XEN_DOMCTL_SHADOW_OP_OFF, 0));
    }
    give_back(DATA);
    end_domain();
}

static long bring_online(unsigned cpu)
{
    static struct xen_sysctl call;

    call = (struct xen_sysctl){ .cmd = XEN_SYSCTL_cpu_hotplug, .interface_version = XEN_SYSCTL_INTERFACE_VERSION };
    call.u.cpu_hotplug = (struct xen_sysctl_cpu_hotplug){ .cpu = cpu, .op = XEN_SYSCTL_CPU_HOTPLUG_ONLINE };
    return HYPERCALL(__HYPERVISOR_sysctl, P(&call));
}

/* Gives the domain all that is free. */
static void take_all_memory(void)
{
    static word pfns[512];
    GUEST(xen_memory_reservation) r = { .extent_start = P(pfns), .domid = domid };

    CHECK_OK(DOMCTL(max_mem, max_mem, .max_memkb = 64 << 20));
    for (unsigned order = 10; order--;) {
        r.extent_order = order;
        r.nr_extents = 512 >> order;
        do
            for (unsigned i = 0; i < r.nr_extents; i++)
                pfns[i] = NR_PAGES + i;
        while (memory_op(XENMEM_populate_physmap, &r) == (long)r.nr_extents);
    }
}

/* A CPU that has never run (maxcpus=) takes memory to start, of which there may be none. */
TEST(cpu_without_memory)
{
    NEEDS_DOM0();
    REQUIRE(make_domain(1));
    take_all_memory();
    CHECK_EQ(bring_online(2), -ENOMEM);
    end_domain();
    CHECK_OK(bring_online(2));
    CHECK_EQ(bring_online(2), -EEXIST);
}
