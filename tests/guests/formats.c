/*
 * pvisor_op: the change from PAE to non-PAE tables. Here it is refused, and the kernel must go on as if nothing had been;
 * the loader (tools/loader) shows that it works.
 */
#include <public/errno.h>
#include <public/pvisor.h>
#include "events.h"
#include "hypercall.h"
#include "log.h"
#include "mm.h"
#include "preempt.h"
#include "string.h"
#include "test.h"
#include "vcpus.h"

static struct pvisor_switch_format request;

static long switch_format(void) { return HYPERCALL(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, P(&request)); }

/* Tables, segments and events work. */
static void check_alive(void)
{
    u32 *page = page_alloc();

    page[1] = 4711;
    CHECK_OK(map_at(window(3), virt_to_mfn(page), PTE_READ));
    CHECK_EQ(*(volatile u32 *)((u8 *)window(3) + 4), 4711);
    CHECK_OK(unmap_at(window(3)));
    page_free(page);
}

static void set_request(void)
{
    request = (struct pvisor_switch_format){ PVISOR_FORMAT_NONPAE, (u32)foreign_frame(0), 0xc0100000, 0xc0200000, 0 };
}

/* However the kernel was started: a new domain's events. */
TEST(first_shared_info_is_new)
{
    const GUEST(vcpu_info) *v = first_shared_info.vcpu_info;

    for (unsigned i = 0; i < sizeof(word) * 8; i++) {
        CHECK_EQ(first_shared_info.evtchn_pending.word[i], 0);
        CHECK_EQ(first_shared_info.evtchn_mask.word[i], 0);
    }
    CHECK_EQ(v[0].evtchn_upcall_mask, 1);
    for (unsigned i = 0; i < XEN_LEGACY_MAX_VCPUS; i++) {
        CHECK_EQ(v[i].evtchn_upcall_pending, 0);
        CHECK_EQ(v[i].evtchn_pending_sel, 0);
    }
}

TEST(unknown_commands)
{
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, 0, P(&request)), -ENOSYS);
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, 77, P(&request)), -ENOSYS);
    CHECK_EQ(HYPERCALL(__HYPERVISOR_pvisor_op, PVISOROP_switch_format, format.hv_start), -EFAULT);
}

TEST(bad_arguments)
{
    set_request();
    request.format = 3;
    CHECK_EQ(switch_format(), -EINVAL);
    set_request();
    request.eip = 0xfc000000;
    CHECK_EQ(switch_format(), -EINVAL);
    set_request();
    request.esp = 0xfc001000;
    CHECK_EQ(switch_format(), -EINVAL);
    check_alive();
}

/* The builder pinned our root. Formats that cannot be left are refused for that. */
TEST(tables_pinned)
{
    set_request();
    if (format.levels == 3)
        CHECK_SAYS(EBUSY, "page tables are pinned", switch_format());
    else
        CHECK_SAYS(EINVAL, "only PAE to non-PAE is possible", switch_format());
    check_alive();
}

TEST(bad_root)
{
#ifdef FORMAT_PT32P
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    for (unsigned i = 0; i < 3; i++) {
        set_request();
        request.root_mfn = i == 0 ? (u32)foreign_frame(0) : i == 1 ? 0xfffff : 0xffffffff;
        CHECK_SAYS(EINVAL, "cannot be the root of a 32-bit non-PAE guest", switch_format());
        check_alive();
    }
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
#endif
    check_alive();
}

/* A half-made table is one of the old format: it must neither outlive the change nor become the root of the new. */
TEST(half_made_table)
{
#ifdef FORMAT_PT32P
    void *l1 = table_alloc(), *table;
    u64 entry = pte_make(virt_to_mfn(l1), format.level[2].table_flags);

    /* The checks stop at the entry, before it counts for anything. */
    REQUIRE((table = half_made_table(&entry, 5, 1)) != NULL);
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    set_request();
    request.root_mfn = (u32)virt_to_mfn(table);
    CHECK_EQ(switch_format(), -EBUSY);
    check_alive();
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
    CHECK_OK(pin(table, 2));
    CHECK_OK(unpin(table));
    table_free(table);
    table_free(l1);
#endif
    check_alive();
}

#ifdef FORMAT_PT32P
/* Tables as the new format would have them: plain data of ours until they are taken. */
static u32 *new_root, *new_l1;

static u32 new_entry(const void *page, u32 flags) { return (u32)virt_to_mfn(page) << 12 | flags; }

struct bad_tables {
    const char *what;
    u32 *table;
    u32 slot, entry;
};

static void check_switch_refused(const struct bad_tables *b)
{
    memset(new_root, 0, 4096);
    memset(new_l1, 0, 4096);
    new_root[768] = new_entry(new_l1, PTE_TABLE);
    new_l1[0] = new_entry(new_l1, PTE_P);
    b->table[b->slot] = b->entry;
    set_request();
    request.root_mfn = (u32)virt_to_mfn(new_root);
    if (!CHECK_EQ(switch_format(), -EINVAL))
        printf("     %s\n", b->what);
    check_alive();
    *(volatile u32 *)new_root = *(volatile u32 *)new_l1 = 0; /* still plain memory */
}
#endif

TEST(bad_new_tables)
{
#ifdef FORMAT_PT32P
    new_root = page_alloc();
    new_l1 = page_alloc();
    const struct bad_tables bad[] = {
        { "a frame that is not ours", new_l1, 1, (u32)foreign_frame(0) << 12 | PTE_P },
        { "another, from the memory's end", new_l1, 1, (u32)foreign_frame(1) << 12 | PTE_P },
        { "the hypervisor's table", new_l1, 1, (u32)(pte_get(hypervisor_entry(), 0) & 0xfffff000) | PTE_P },
        { "the local APIC", new_l1, 1, 0xfee00000u | PTE_P },
        { "the level-1 table, writable", new_l1, 1, new_entry(new_l1, PTE_P | PTE_RW) },
        { "the root, writable", new_l1, 1023, new_entry(new_root, PTE_P | PTE_RW) },
        { "a recursive entry that is writable", new_root, 767, new_entry(new_root, PTE_TABLE) },
        { "a 4 MiB page", new_root, 5, new_entry(new_l1, PTE_TABLE | PTE_PSE) & 0xffc00fff },
        { "a table that is not ours", new_root, 5, (u32)foreign_frame(0) << 12 | PTE_TABLE },
        { "a page of something else as a table", new_root, 5, new_entry(check_alive, PTE_TABLE) },
    };

    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        check_switch_refused(&bad[i]);
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
    page_free(new_root);
    page_free(new_l1);
#else
    SKIP("only PAE guests can change");
#endif
}

/* A table besides the root's is pinned. */
TEST(other_table_pinned)
{
#ifdef FORMAT_PT32P
    void *l1 = table_alloc();

    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    REQUIRE_OK(pin(l1, 1));
    set_request();
    request.root_mfn = (u32)virt_to_mfn(page_alloc());
    CHECK_SAYS(EBUSY, "page tables are pinned", switch_format());
    check_alive();
    CHECK_REFUSED(map_writable(l1));
    CHECK_OK(unpin(l1));
    table_free(l1);
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
#else
    SKIP("only PAE guests can change");
#endif
}

#ifdef FORMAT_PT32P
#define MANY 70u
static const u8 *many_at(unsigned i) { return (const u8 *)0x40000000 + i * 0x200000UL; }

/* A tree that needs many tables: entries that are not what they should be come last, after all the work. */
static void make_large_tree(void)
{
    memset(new_root, 0, 4096);
    for (unsigned i = 0; i < 40; i++) {
        u32 *l1 = page_alloc();

        memset(l1, 0, 4096);
        if (i == 39)
            l1[1023] = (u32)foreign_frame(0) << 12 | PTE_P;
        new_root[i] = new_entry(l1, PTE_TABLE);
    }
}
#endif

/*
 * Large trees are refused before anything is done to them, since between the old tables and the new nothing gives way. First the new
 * ones are too many, then the old.
 */
TEST(large_trees)
{
#ifdef FORMAT_PT32P
    new_root = page_alloc();
    make_large_tree();
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    set_request();
    request.root_mfn = (u32)virt_to_mfn(new_root);
    CHECK_SAYS(E2BIG, "cannot be taken at once", switch_format());
    check_alive();
    for (unsigned i = 0; i < MANY; i++)
        build_tables(many_at(i));
    CHECK_SAYS(E2BIG, "cannot be taken apart at once", switch_format());
    check_alive();
    for (unsigned i = 0; i < MANY; i++)
        CHECK_OK(pte_set(pte_at(table_of(many_at(i), 2), pte_index(many_at(i), 2)), 0));
    set_request();
    CHECK_EQ(switch_format(), -EINVAL);
    check_alive();
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
#else
    SKIP("only PAE guests can change");
#endif
}

#ifdef FORMAT_PT32P
static void check_segment(word selector)
{
    CHECK_NO_FAULT(__asm__ volatile("mov %0, %%fs" : : "r"(selector)));
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
}
#endif

/* Descriptor tables are as they were after a refusal. */
TEST(segments_stay)
{
#ifdef FORMAT_PT32P
    const u64 data = 0x00cfb2000000ffffULL;     /* flat, ring 1 */
    u64 *gdt = page_alloc(), *ldt = page_alloc();
    word frame = virt_to_mfn(gdt);

    gdt[1] = ldt[1] = data;
    make_readonly(gdt);
    make_readonly(ldt);
    REQUIRE_OK(set_gdt(&frame, 512));
    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(ldt), 512));
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    for (unsigned i = 0; i < 2; i++) {
        check_segment(1 << 3 | 1);
        check_segment(1 << 3 | 4 | 1);
        set_request();
        CHECK_EQ(switch_format(), -EINVAL);
    }
    check_segment(1 << 3 | 1);
    check_segment(1 << 3 | 4 | 1);
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    CHECK_OK(set_gdt(NULL, 0));
    table_free(gdt);
    table_free(ldt);
#else
    SKIP("only PAE guests can change");
#endif
}

#ifndef FORMAT_PT64
static volatile u32 second_runs;
static void second_main(void)
{
    for (;;) {
        second_runs++;
        sched_op(SCHEDOP_yield, NULL);
    }
}
#endif

/* The hypervisor writes to the page whenever it likes, also in a change that is refused. */
TEST(registered_info)
{
#ifdef FORMAT_PT32P
    u8 *page = page_alloc();
    struct vcpu_register_vcpu_info op = { .mfn = virt_to_mfn(page) };

    if (vcpu_op(VCPUOP_is_up, 1, NULL) < 0)
        SKIP("one vCPU");
    REQUIRE_OK(vcpu_op(VCPUOP_register_vcpu_info, 1, &op));
    memset(page, 0, 4096);
    make_readonly(page);
    REQUIRE_OK(mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0));
    set_request();
    CHECK_SAYS(EBUSY, "a vcpu_info is registered", switch_format());
    check_alive();
    CHECK_OK(mmuext(MMUEXT_PIN_L3_TABLE, current_base(), 0));
    CHECK_REFUSED(pin(page, 1));
    make_writable(page);
#else
    SKIP("only PAE guests can change");
#endif
}

/* A second vCPU has its own root, of the old format. Last in this file: it runs from now on. */
TEST(second_vcpu_up)
{
#ifndef FORMAT_PT64
    if (vcpu_op(VCPUOP_is_up, 1, NULL) < 0)
        SKIP("one vCPU");
    REQUIRE_OK(vcpu_start(1, second_main));
    while (!second_runs)
        sched_op(SCHEDOP_yield, NULL);
    (void)mmuext(MMUEXT_UNPIN_TABLE, current_base(), 0);
    set_request();
    if (format.levels == 3)
        CHECK_SAYS(EBUSY, "vCPU 1 is up", switch_format());
    else
        CHECK_SAYS(EINVAL, "only PAE to non-PAE is possible", switch_format());
    check_alive();
    CHECK_OK(vcpu_op(VCPUOP_down, 1, NULL));
    set_request();
    CHECK_EQ(switch_format(), format.levels == 3 ? -EBUSY : -EINVAL); /* down, but its root is still in use */
    check_alive();
#else
    SKIP("only 32-bit guests can change");
#endif
}
