/*
 * Direct paging. A frame has one type at a time: no frame is ever writable by us and a page table, or a descriptor
 * table, at once; and no table names a frame that is not ours. Each test tries one way round that.
 */
#include "hypercall.h"
#include "mm.h"
#include "string.h"
#include "test.h"

/* A level 1 table with one entry that maps page with these flags. */
static pte_raw *l1_with(word mfn, u64 flags)
{
    pte_raw *l1 = page_alloc();

    l1[0] = (pte_raw)pte_make(mfn, flags);
    make_readonly(l1);
    return l1;
}

/* A table of the level with entry 0 pointing at below, and whatever else such a table must have. */
static void *table_over(unsigned level, const void *below)
{
    pte_raw *t;

    if (level == top_level()) {
        t = copy_top();
        make_writable(t);
        t[free_top_slot()] = (pte_raw)pte_make(virt_to_mfn(below), format.level[level].table_flags);
    } else {
        t = page_alloc();
        t[0] = (pte_raw)pte_make(virt_to_mfn(below), format.level[level].table_flags);
    }
    make_readonly(t);
    return t;
}

static void drop_table(unsigned level, void *table)
{
    if (level == top_level())
        free_top(table);
    else
        table_free(table);
}

/* pin(bad table) fails, and leaves no type behind: the table can be made writable again. */
static void check_unpinnable(unsigned level, void *table)
{
    if (!CHECK_REFUSED(pin(table, level)))
        (void)unpin(table);
    CHECK_OK(map_writable(table));
    make_readonly(table);
}

/* ---- Pinning ---- */

TEST(pin_each_level)
{
    void *table[5];

    for (unsigned level = 1; level <= top_level(); level++) {
        table[level] = level == 1 ? table_alloc() : table_over(level, table[level - 1]);
        CHECK_OK(pin(table[level], level));
        CHECK_REFUSED(map_writable(table[level]));
        CHECK_REFUSED(pin(table[level], level));
    }
    for (unsigned level = top_level(); level; level--) {
        CHECK_OK(unpin(table[level]));
        CHECK_REFUSED(unpin(table[level]));
        CHECK_OK(map_writable(table[level]));
        make_readonly(table[level]);
        drop_table(level, table[level]);
    }
}

TEST(pin_level_beyond_format)
{
    void *page = table_alloc();

    for (unsigned level = top_level() + 1; level <= 4; level++) {
        (void)pin(page, level); /* refused, or nothing: the frame must have no type after it */
        CHECK_OK(map_writable(page));
        make_readonly(page);
    }
    table_free(page);
}

TEST(pin_writable_frame)
{
    void *page = page_alloc();

    for (unsigned level = 1; level <= top_level(); level++)
        CHECK_REFUSED(pin(page, level));
    *(volatile word *)page = 1;
    page_free(page);
}

TEST(pin_wrong_level)
{
    void *l1 = l1_with(virt_to_mfn(l1_with), PTE_READ);

    REQUIRE_OK(pin(l1, 1));
    CHECK_REFUSED(pin(l1, 2));
    CHECK_OK(unpin(l1));
    table_free(l1);
}

TEST(pin_frame_not_ours)
{
    for (unsigned n = 0; n < 8; n++) {
        word mfn = foreign_frame(n);

        if (mfn == BAD_FRAME)
            break;
        for (unsigned level = 1; level <= top_level(); level++)
            CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE + level - 1, mfn, 0));
        CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0));
    }
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, ~0UL >> 12, 0));
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, ~0UL, 0));
    CHECK_REFUSED(mmuext(MMUEXT_UNPIN_TABLE, ~0UL, 0));
}

TEST(pin_for_another_domain)
{
    void *l1 = table_alloc();
    GUEST(mmuext_op) op = { .cmd = MMUEXT_PIN_L1_TABLE, .arg1 = virt_to_mfn(l1) };

    CHECK_REFUSED(mmuext_op(&op, 1, NULL, 0x1234));
    CHECK_REFUSED(mmuext_op(&op, 1, NULL, DOMID_XEN));
    CHECK_REFUSED(mmuext_op(&op, 1, NULL, DOMID_INVALID));
    CHECK_OK(map_writable(l1));
    page_free(l1);
}

TEST(unpin_in_use)
{
    const void *base = mfn_to_virt(current_base());

    if (unpin(base)) /* the builder need not have pinned it */
        REQUIRE_OK(pin(base, top_level()));
    else
        CHECK_OK(pin(base, top_level()));
    REQUIRE_OK(unpin(base));
    CHECK_REFUSED(map_writable(base)); /* in use, so still a table */
    CHECK_OK(pin(base, top_level()));
}

/* Half-made types must be undone: entry 0 is fine, the last one is not. */
TEST(pin_undone_on_failure)
{
    void *page = page_alloc(), *good = l1_with(virt_to_mfn(page), PTE_READ);
    word bad = foreign_frame(0);
    pte_raw *l1 = page_alloc(), *l2 = page_alloc();

    REQUIRE(bad != BAD_FRAME);
    l1[0] = (pte_raw)pte_make(virt_to_mfn(page), PTE_DATA);
    l1[pte_count(1) - 1] = (pte_raw)pte_make(bad, PTE_READ);
    make_readonly(l1);
    check_unpinnable(1, l1);
    l2[0] = (pte_raw)pte_make(virt_to_mfn(good), PTE_TABLE);
    l2[1] = (pte_raw)pte_make(virt_to_mfn(l1), PTE_TABLE);
    make_readonly(l2);
    check_unpinnable(2, l2);
    CHECK_OK(map_writable(good));
    CHECK_OK(map_writable(l1));
    make_readonly(page); /* no writable reference may be left over */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
    page_free(good);
    page_free(l1);
    table_free(l2);
}

/* ---- Entries ---- */

static void check_entry_refused(word mfn, u64 flags)
{
    void *page = page_alloc(), *l1;

    if (!CHECK_REFUSED(map_at(window(0), mfn, flags)))
        printf("     frame %lx\n", mfn);
    CHECK_EQ(entry_of(window(0), 1), 0);
    CHECK_REFUSED(pte_set(pte_at(table_of(window(0), 1), pte_index(window(0), 1)), pte_make(mfn, flags)));
    CHECK_EQ(entry_of(window(0), 1), 0);
    (void)unmap_at(window(0));
    l1 = l1_with(mfn, flags);
    check_unpinnable(1, l1);
    table_free(l1);
    page_free(page);
}

TEST(map_table_writable)
{
    void *l1 = table_alloc();

    REQUIRE_OK(pin(l1, 1));
    check_entry_refused(virt_to_mfn(l1), PTE_DATA);
    CHECK_OK(map_at(window(0), virt_to_mfn(l1), PTE_READ));
    CHECK_FAULT(VECTOR_PF, *(volatile pte_raw *)window(0) = (pte_raw)pte_make(foreign_frame(0), PTE_READ));
    CHECK_EQ(pte_get(l1, 0), 0);
    CHECK_OK(unmap_at(window(0)));
    CHECK_OK(unpin(l1));
    table_free(l1);
}

TEST(map_live_tables_writable)
{
    for (unsigned level = 1; level <= top_level(); level++)
        check_entry_refused(virt_to_mfn(table_of(window(0), level)), PTE_DATA);
}

TEST(map_frame_not_ours)
{
    for (unsigned n = 0; n < 8; n++) {
        word mfn = foreign_frame(n);

        if (mfn == BAD_FRAME)
            break;
        check_entry_refused(mfn, PTE_DATA);
        check_entry_refused(mfn, PTE_READ);
    }
}

/* Frames that the hypervisor itself uses for page tables: our own tables name them in its slots. */
TEST(map_hypervisor_tables)
{
    u64 entry = 0;

    for (unsigned i = 0; i < 16 && !(entry & PTE_P); i++)
        entry = pte_get(hypervisor_entry(), i);
    if (!(entry & PTE_P))
        SKIP("our tables show none");
    check_entry_refused(pte_mfn(entry), PTE_READ);
    check_entry_refused(pte_mfn(entry), PTE_DATA);
}

TEST(map_out_of_range)
{
#ifdef FORMAT_PT32
    if (is_dom0())
        SKIP("all that an entry can name is the machine's, and dom0 may map devices");
    check_entry_refused(0xfffff, PTE_READ);
#else
    check_entry_refused(1UL << (sizeof(word) == 8 ? 38 : 30), PTE_READ); /* beyond any address of the machine */
    CHECK_REFUSED(update_va_mapping(window(0), format.frame_mask | PTE_READ, UVMF_NONE));
    CHECK_EQ(entry_of(window(0), 1), 0);
#endif
}

TEST(map_local_apic)
{
    check_entry_refused(0xfee00, PTE_READ);
    check_entry_refused(0xfee00, PTE_DATA);
}

TEST(map_device_memory)
{
    if (is_dom0()) { /* it owns the machine's devices: the VGA text buffer, say */
        CHECK_OK(map_at(window(0), 0xb8, PTE_DATA));
        CHECK_OK(unmap_at(window(0)));
        return;
    }
    for (word mfn = 0xa0; mfn < 0xc0; mfn += 8)
        check_entry_refused(mfn, PTE_READ);
    check_entry_refused(0xfec00, PTE_READ);
    check_entry_refused(0xfed00, PTE_READ);
}

TEST(large_page)
{
    void *l2 = table_of(window(0), 2);
    pte_raw *mine = page_alloc();
    unsigned free_slot = pte_index(window(0), 2) + 4;
    u64 large = pte_make(virt_to_mfn(mine) & ~0x3ffUL, PTE_DATA | PTE_US | PTE_PSE);

    CHECK_REFUSED(pte_set(pte_at(l2, free_slot), large));
    CHECK_EQ(pte_get(l2, free_slot), 0);
    mine[0] = (pte_raw)large;
    make_readonly(mine);
    check_unpinnable(2, mine);
    table_free(mine);
}

/* Every level above 1 refuses flags that have no meaning there. */
TEST(upper_level_flags)
{
    void *l1 = table_alloc(), *l2 = table_of(window(0), 2);
    unsigned free_slot = pte_index(window(0), 2) + 4;

    CHECK_REFUSED(pte_set(pte_at(l2, free_slot), pte_make(virt_to_mfn(l1), PTE_TABLE | PTE_PSE)));
    CHECK_EQ(pte_get(l2, free_slot), 0);
    CHECK_OK(pte_set(pte_at(l2, free_slot), pte_make(virt_to_mfn(l1), PTE_TABLE)));
    CHECK_REFUSED(pte_set(pte_at(l2, free_slot), pte_make(virt_to_mfn(l1), PTE_TABLE | PTE_PSE)));
    CHECK_EQ(pte_mfn(pte_get(l2, free_slot)), virt_to_mfn(l1));
    CHECK_OK(pte_set(pte_at(l2, free_slot), 0));
    table_free(l1);
}

/* An entry may point at a table only if the table can have the level below. */
TEST(entry_skips_a_level)
{
    void *l1 = table_alloc(), *page = page_alloc();

    REQUIRE_OK(pin(l1, 1));
    for (unsigned level = 3; level <= top_level(); level++) {
        void *t = table_of(window(0), level);
        unsigned slot = level == top_level() ? free_top_slot() : 3;

        CHECK_REFUSED(pte_set(pte_at(t, slot), pte_make(virt_to_mfn(l1), format.level[level].table_flags)));
        CHECK_EQ(pte_get(t, slot), 0);
    }
    CHECK_REFUSED(pte_set(pte_at(table_of(window(0), 2), pte_index(window(0), 2) + 4),
                          pte_make(virt_to_mfn(page), PTE_TABLE)));
    CHECK_OK(unpin(l1));
    table_free(l1);
    page_free(page);
}

TEST(hypervisor_slots)
{
    char *entry = hypervisor_entry();
    void *page = table_alloc();

    for (unsigned i = 0; i < 16; i++) {
        char *slot = entry + i * format.pte_bytes;
        u64 before = pte_get(slot, 0);

        CHECK_REFUSED(pte_set(slot, pte_make(virt_to_mfn(page), PTE_TABLE)));
        CHECK_REFUSED(pte_set(slot, 0));
        CHECK_EQ(pte_get(slot, 0) & ~(PTE_A | PTE_D), before & ~(PTE_A | PTE_D));
    }
    CHECK_OK(map_writable(page));
    page_free(page);
}

TEST(hypervisor_addresses)
{
    void *page = page_alloc();
    u64 pte = pte_make(virt_to_mfn(page), PTE_READ);

    CHECK_REFUSED(update_va_mapping((void *)format.hv_start, pte, UVMF_INVLPG));
    CHECK_REFUSED(update_va_mapping((void *)(format.hv_start + 0x200000), 0, UVMF_INVLPG));
#ifdef FORMAT_PT64
    CHECK_REFUSED(update_va_mapping((void *)(HYPERVISOR_VIRT_END_64 - 4096), pte, UVMF_NONE));
    CHECK_REFUSED(update_va_mapping((void *)0x0000800000000000, pte, UVMF_NONE));
    CHECK_REFUSED(update_va_mapping((void *)0xffff7ffffffff000, pte, UVMF_NONE));
#else
    CHECK_REFUSED(update_va_mapping((void *)0xfffff000, pte, UVMF_NONE));
#endif
    page_free(page);
}

/* Where a table shows up that names itself in this slot: each level of the walk goes through the slot again. */
static const char *linear_image(unsigned slot)
{
    word va = 0;

#ifdef FORMAT_PT32P
    va = VIRT_BASE; /* only levels 2 and 1 are the table's */
#endif
    for (unsigned level = format.levels == 3 ? 2 : format.levels; level; level--)
        va |= (word)slot << format.level[level].shift;
    return (const char *)va;
}

TEST(linear_table)
{
    void *base = mfn_to_virt(current_base());
    unsigned slot = free_top_slot();
#ifdef FORMAT_PT32P
    /* The top level has no linear form in PAE: level 2 tables name each other. */
    void *top = base;

    base = table_of(window(0), 2);
    CHECK_REFUSED(pte_set(pte_at(top, slot), pte_make(current_base(), PTE_P)));
    slot = pte_index(window(0), 2) + 4;
#endif
    const char *image;
    u64 entry = pte_make(virt_to_mfn(base), PTE_P | PTE_US | PTE_A | PTE_D);

    CHECK_REFUSED(pte_set(pte_at(base, slot), entry | PTE_RW));
    CHECK_EQ(pte_get(base, slot), 0);
    REQUIRE_OK(pte_set(pte_at(base, slot), entry));
    image = linear_image(slot);
    CHECK_NO_FAULT(CHECK_EQ(pte_mfn(pte_get(image, slot)), virt_to_mfn(base)));
    CHECK_FAULT(VECTOR_PF, *(volatile word *)(image + slot * format.pte_bytes) = 0);
    CHECK_OK(pte_set(pte_at(base, slot), 0));
}

TEST(linear_to_unfinished_table)
{
    void *other = copy_top(), *base = mfn_to_virt(current_base());
    unsigned slot = free_top_slot();

    if (top_level() == 3)
        SKIP("no linear top level in PAE");
    /* Not a table yet: it becomes one through the linear entry, or is refused. Never writable afterwards. */
    if (pte_set(pte_at(base, slot), pte_make(virt_to_mfn(other), PTE_P | PTE_US | PTE_A)) == 0) {
        CHECK_REFUSED(map_writable(other));
        CHECK_OK(pte_set(pte_at(base, slot), 0));
    }
    free_top(other);
}

/* ---- mmu_update ---- */

TEST(update_commands)
{
    void *l1 = table_of(window(0), 1), *page = page_alloc();
    const void *slot = pte_at(l1, pte_index(window(0), 1));
    u64 pte = pte_make(virt_to_mfn(page), PTE_P | PTE_RW);

    CHECK_OK(pte_update(slot, pte, MMU_NORMAL_PT_UPDATE));
    *(volatile word *)window(0) = 1; /* sets accessed and dirty */
    CHECK_EQ(entry_of(window(0), 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_OK(pte_update(slot, pte, MMU_PT_UPDATE_PRESERVE_AD));
    CHECK_EQ(entry_of(window(0), 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_OK(pte_update(slot, pte, MMU_NORMAL_PT_UPDATE));
    CHECK_EQ(entry_of(window(0), 1) & (PTE_A | PTE_D), 0);
    if (format.pte_bytes == 8) { /* unaligned, or unknown commands */
        CHECK_REFUSED(pte_update(slot, 0, 4 | MMU_NORMAL_PT_UPDATE));
        CHECK_REFUSED(pte_update(slot, 0, 4 | MMU_PT_UPDATE_PRESERVE_AD));
        CHECK_REFUSED(pte_update(slot, 0, 4 | MMU_PT_UPDATE_NO_TRANSLATE));
    }
    CHECK_EQ(pte_mfn(entry_of(window(0), 1)), virt_to_mfn(page));
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

TEST(update_counts)
{
    void *l1 = table_of(window(0), 1), *page = page_alloc();
    struct mmu_update req[3];
    unsigned done = 99;

    for (unsigned i = 0; i < 3; i++) {
        req[i].ptr = virt_to_maddr(pte_at(l1, pte_index(window(i), 1)));
        req[i].val = pte_make(virt_to_mfn(page), PTE_READ);
    }
    CHECK_OK(mmu_update(req, 0, &done, DOMID_SELF));
    CHECK_EQ(done, 0);
    CHECK_OK(mmu_update(req, 3, &done, DOMID_SELF));
    CHECK_EQ(done, 3);
    req[0].val = req[2].val = 0;
    req[1].val = pte_make(foreign_frame(0), PTE_READ);
    CHECK_REFUSED(mmu_update(req, 3, &done, DOMID_SELF));
    CHECK_EQ(done, 1); /* how far it came */
    CHECK_EQ(entry_of(window(0), 1), 0);
    CHECK_EQ(pte_mfn(entry_of(window(1), 1)), virt_to_mfn(page));
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(unmap_at(window(i)));
    page_free(page);
}

TEST(update_bad_pointers)
{
    struct mmu_update req = { .ptr = virt_to_maddr(table_of(window(0), 1)), .val = 0 };
    unsigned done;

    CHECK_REFUSED(mmu_update((void *)format.hv_start, 1, &done, DOMID_SELF));
    CHECK_REFUSED(mmu_update(window(0), 1, &done, DOMID_SELF));
    CHECK_REFUSED(mmu_update(window(0), 0x7fffffff, NULL, DOMID_SELF));
    CHECK_REFUSED(mmu_update(&req, 1, NULL, 0x1234));
    CHECK_REFUSED(mmu_update(&req, 1, NULL, 0x12340000UL | DOMID_SELF));
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_INVALID));
}

/* The frame that an entry lies in must be a page table, or a writable page of ours. */
TEST(update_entry_elsewhere)
{
    struct mmu_update req = { .val = 0 };

    for (unsigned n = 0; n < 4; n++) {
        req.ptr = (u64)foreign_frame(n) << 12;
        CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
    }
    req.ptr = 1ULL << 51;
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
    req.ptr = ~0ULL << 12;
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
    req.ptr = (u64)0xfee00 << 12;
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
}

TEST(machphys_update)
{
    void *page = page_alloc();
    word mfn = virt_to_mfn(page), pfn = virt_to_pfn(page);
    struct mmu_update req = { .ptr = (u64)mfn << 12 | MMU_MACHPHYS_UPDATE, .val = pfn + 1 };

    CHECK_OK(mmu_update(&req, 1, NULL, DOMID_SELF));
    CHECK_EQ(m2p_raw(mfn), pfn + 1);
    req.val = pfn;
    CHECK_OK(mmu_update(&req, 1, NULL, DOMID_SELF));
    CHECK_EQ(m2p_raw(mfn), pfn);
    req.ptr = (u64)foreign_frame(0) << 12 | MMU_MACHPHYS_UPDATE;
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
    req.ptr = 1ULL << 51 | MMU_MACHPHYS_UPDATE;
    CHECK_REFUSED(mmu_update(&req, 1, NULL, DOMID_SELF));
    page_free(page);
}

/*
 * The M2P has no holes: what is not RAM is no domain's, and nobody may write that. Each of the pages about the first 4 GiB, and one of
 * each 2 MiB after them.
 */
TEST(m2p_has_no_holes)
{
    GUEST(xen_machphys_mapping) m;
    long last = memory_op(XENMEM_maximum_ram_page, NULL);
    const word invalid = (word)0x5555555555555555ULL;
    const volatile word *entry;
    unsigned long others = 0;

    CHECK_OK(memory_op(XENMEM_machphys_mapping, &m));
    for (u64 va = m.v_start; va < m.v_end; va += (va - m.v_start) / sizeof(word) < 1 << 20 ? 4096 : 2 << 20) {
        entry = (const volatile word *)(word)va;
        others += (s64)((va - m.v_start) / sizeof(word)) > last && *entry != invalid;
    }
    CHECK_EQ(others, 0);
    CHECK_EQ(((const volatile word *)(word)m.v_start)[m.max_mfn], invalid);
    CHECK_FAULT(VECTOR_PF, write_once(((word *)(word)m.v_start)[m.max_mfn], 0));
}

TEST(m2p_is_readonly)
{
    word *m2p_entry = (word *)format.m2p_start + virt_to_mfn(table_of(window(0), 1));

    CHECK_FAULT(VECTOR_PF, write_once(*m2p_entry, 1));
}

TEST(va_mapping_flags)
{
    u32 *a = page_alloc(), *b = page_alloc();
    volatile u32 *va = window(0);
    word vcpus = 1;
    word flags[] = { UVMF_INVLPG | UVMF_LOCAL, UVMF_INVLPG | UVMF_ALL, UVMF_TLB_FLUSH | UVMF_LOCAL,
                     UVMF_TLB_FLUSH | UVMF_ALL, UVMF_INVLPG | P(&vcpus), UVMF_TLB_FLUSH | P(&vcpus) };

    a[0] = 1;
    b[0] = 2;
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        CHECK_OK(update_va_mapping(va, pte_make(virt_to_mfn(i % 2 ? a : b), PTE_READ), flags[i]));
        CHECK_EQ(*va, i % 2 ? 1 : 2);
    }
    CHECK_REFUSED(update_va_mapping(va, pte_make(foreign_frame(0), PTE_READ), UVMF_INVLPG | UVMF_ALL));
    (void)update_va_mapping(va, 0, UVMF_FLUSHTYPE_MASK); /* an unknown flush */
    (void)update_va_mapping(va, 0, UVMF_INVLPG | (format.hv_start & ~7UL));
    CHECK_OK(unmap_at(va));
    page_free(a);
    page_free(b);
}

TEST(va_mapping_otherdomain)
{
    void *page = page_alloc();
    u64 pte = pte_make(virt_to_mfn(page), PTE_READ);

    CHECK_REFUSED(update_va_mapping_otherdomain(window(0), pte, UVMF_INVLPG, 0x1234));
    CHECK_REFUSED(update_va_mapping_otherdomain(window(0), pte, UVMF_INVLPG, DOMID_INVALID));
    CHECK_EQ(entry_of(window(0), 1), 0);
    page_free(page);
}

TEST(va_without_table)
{
    CHECK_REFUSED(update_va_mapping((void *)(VIRT_BASE + 0x20000000), 0, UVMF_NONE));
}

/* ---- Direct writes ---- */

static volatile pte_raw *assisted_slot(void)
{
    CHECK_OK(vm_assist(VMASST_CMD_enable, VMASST_TYPE_writable_pagetables));
    return pte_at(table_of(window(0), 1), pte_index(window(0), 1));
}

TEST(direct_write_mov)
{
    volatile pte_raw *slot = assisted_slot();
    u32 *page = page_alloc();

    page[0] = 42;
    CHECK_NO_FAULT(*slot = (pte_raw)pte_make(virt_to_mfn(page), PTE_READ));
    CHECK_EQ(pte_mfn(*slot), virt_to_mfn(page));
    CHECK_EQ(*(volatile u32 *)window(0), 42);
    CHECK_NO_FAULT(*slot = 0);
    mmuext(MMUEXT_INVLPG_LOCAL, P(window(0)), 0);
    CHECK_FAULT(VECTOR_PF, (void)*(volatile u32 *)window(0));
    make_readonly(page); /* the mapping's reference is gone */
    CHECK_OK(pin(page, 1));
    CHECK_OK(unpin(page));
    table_free(page);
}

/* 4-byte stores to 8-byte entries: the entry is never seen half-made. */
TEST(direct_write_halves)
{
    volatile u32 *slot = (volatile u32 *)assisted_slot();
    u32 *page = page_alloc();
    u64 pte = pte_make(virt_to_mfn(page), PTE_READ);

    page[0] = 43;
    if (format.pte_bytes == 8)
        CHECK_NO_FAULT(slot[1] = (u32)(pte >> 32));
    CHECK_NO_FAULT(slot[0] = (u32)pte);
    CHECK_EQ(*(volatile u32 *)window(0), 43);
    CHECK_NO_FAULT(slot[0] = 0);
    CHECK_EQ(pte_get((const void *)slot, 0) & (format.frame_mask | PTE_P), 0);
    CHECK_NO_FAULT(*(volatile pte_raw *)slot = 0);
    mmuext(MMUEXT_INVLPG_LOCAL, P(window(0)), 0);
    page_free(page);
}

#ifdef FORMAT_PT32P
/* CMPXCHG8B says by ZF whether it found what it expected; if not, it gives what there is and writes nothing. */
static void compare_with_another(volatile pte_raw *slot)
{
    pte_raw before = *slot, seen = before ^ PTE_NX;
    u8 equal = 1;

    CHECK_NO_FAULT(__asm__ volatile("cmpxchg8b %0; setz %1" : "+m"(*slot), "+m"(equal), "+A"(seen) : "b"(0), "c"(0) : "cc"));
    CHECK_EQ(equal, 0);
    CHECK_EQ(seen, before);
    CHECK_EQ(*slot, before);
    CHECK_NO_FAULT(__asm__ volatile("cmpxchg8b %0; setz %1" : "+m"(*slot), "+m"(equal), "+A"(seen)
                                    : "b"((u32)before), "c"((u32)(before >> 32)) : "cc"));
    CHECK_EQ(equal, 1);
    CHECK_EQ(*slot, before);
}
#endif

TEST(direct_write_locked)
{
    volatile pte_raw *slot = assisted_slot();
    pte_raw pte = (pte_raw)pte_make(virt_to_mfn(table_of(window(0), 1)), PTE_P), seen = 0;

#ifdef FORMAT_PT32P
    CHECK_NO_FAULT(__asm__ volatile("lock; cmpxchg8b %0" : "+m"(*slot), "+A"(seen)
                                    : "b"((u32)pte), "c"((u32)((u64)pte >> 32)) : "cc"));
#else
    CHECK_NO_FAULT(__asm__ volatile("lock; cmpxchg %2, %0" : "+m"(*slot), "+a"(seen) : "r"(pte) : "cc"));
#endif
    CHECK_EQ(seen, 0);
    CHECK_EQ(pte_mfn(*slot), pte_mfn(pte));
#ifdef FORMAT_PT32P
    compare_with_another(slot);
#endif
    CHECK_NO_FAULT(__asm__ volatile("lock; orl %1, %0" : "+m"(*(volatile u32 *)slot) : "ri"((u32)PTE_NX | 0x20u)));
    CHECK_EQ(*slot & PTE_A, PTE_A);
    CHECK_NO_FAULT(__asm__ volatile("lock; andl %1, %0" : "+m"(*(volatile u32 *)slot) : "ri"(~0x20u)));
    CHECK_EQ(*slot & PTE_A, 0);
    CHECK_NO_FAULT(__asm__ volatile("lock; btsl $5, %0" : "+m"(*(volatile u32 *)slot) : : "cc"));
    CHECK_EQ(*slot & PTE_A, PTE_A);
    CHECK_NO_FAULT(*slot = 0);
}

TEST(direct_write_xchg)
{
    volatile pte_raw *slot = assisted_slot();
    pte_raw pte = (pte_raw)pte_make(virt_to_mfn(table_of(window(0), 1)), PTE_READ), mine = pte;

#ifndef FORMAT_PT32P
    CHECK_NO_FAULT(__asm__ volatile("xchg %0, %1" : "+m"(*slot), "+r"(mine)));
    CHECK_EQ(mine, 0);
    CHECK_EQ(pte_mfn(*slot), pte_mfn(pte));
    mine = 0;
    CHECK_NO_FAULT(__asm__ volatile("xchg %0, %1" : "+m"(*slot), "+r"(mine)));
    CHECK_EQ(pte_mfn(mine), pte_mfn(pte));
#else
    (void)mine;
    CHECK_NO_FAULT(*slot = pte);
    u32 low = 0;
    CHECK_NO_FAULT(__asm__ volatile("xchg %0, %1" : "+m"(*(volatile u32 *)slot), "+r"(low)));
    CHECK_EQ(low & 1, 1);
    CHECK_NO_FAULT(*slot = 0);
#endif
    CHECK_EQ(*slot, 0);
}

TEST(direct_write_refused)
{
    volatile pte_raw *slot = assisted_slot();

    CHECK_FAULT(VECTOR_PF, *slot = (pte_raw)pte_make(foreign_frame(0), PTE_READ));
    CHECK_EQ(*slot, 0);
    CHECK_FAULT(VECTOR_PF, *slot = (pte_raw)pte_make(virt_to_mfn(table_of(window(0), 1)), PTE_DATA));
    CHECK_EQ(*slot, 0);
}

TEST(direct_write_crossing)
{
    volatile pte_raw *slot = assisted_slot();

    /* Unaligned: refused as a fault. The entries on both sides stay. */
    CHECK_FAULT(VECTOR_PF, *(volatile word *)((volatile char *)slot + format.pte_bytes - 1) = 0x1000);
    CHECK_EQ(*slot, 0);
    CHECK_EQ(slot[1], 0);
}

/* Level 2 is written so too, by 32-bit kernels; the same checks hold. */
TEST(direct_write_upper)
{
    u32 *page = page_alloc();
    pte_raw *l1 = l1_with(virt_to_mfn(page), PTE_READ), pte = (pte_raw)pte_make(virt_to_mfn(l1), PTE_TABLE);
    volatile pte_raw *slot = pte_at(table_of(window(0), 2), pte_index(window(0), 2) + 4);
    volatile u32 *va = (void *)((word)window(0) + (4UL << format.level[2].shift));

    assisted_slot();
    page[0] = 44;
#ifdef FORMAT_PT64
    CHECK_FAULT(VECTOR_PF, *slot = pte);
    CHECK_EQ(*slot, 0);
    (void)va;
#else
    CHECK_NO_FAULT(*slot = pte);
    CHECK_EQ(*va, 44);
    CHECK_REFUSED(map_writable(l1));
    CHECK_FAULT(VECTOR_PF, *slot = (pte_raw)pte_make(foreign_frame(0), PTE_TABLE));
    CHECK_FAULT(VECTOR_PF, *slot = (pte_raw)pte_make(virt_to_mfn(page), PTE_DATA | PTE_US | PTE_PSE));
    CHECK_EQ(pte_mfn(*slot), pte_mfn(pte));
    CHECK_FAULT(VECTOR_PF, *(volatile pte_raw *)hypervisor_entry() = pte);
    CHECK_NO_FAULT(*slot = 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    CHECK_FAULT(VECTOR_PF, (void)*va);
#endif
    CHECK_OK(map_writable(l1));
    page_free(l1);
    page_free(page);
}

/* Single-stepped over: the trap's frame goes to a page of the stack that was never written, hence never marked as such. */
TEST(direct_write_single_step)
{
    volatile pte_raw *slot = assisted_slot();
    word *low = page_alloc(), *high = page_alloc();

    REQUIRE_OK(map_at(window(2), virt_to_mfn(high), PTE_DATA));
    for (unsigned n = 0; n < 2; n++) {
        high[0] = EFLAGS_TF | EFLAGS_IF;
        REQUIRE_OK(map_at(window(1), virt_to_mfn(low), PTE_P | PTE_RW));
#ifdef FORMAT_PT64
        CHECK_FAULT(VECTOR_DB, __asm__ volatile("mov %0, %%rsp; popfq; movq $0, (%1)" : : "r"(window(2)), "r"(slot) : "memory"));
#else
        CHECK_FAULT(VECTOR_DB, __asm__ volatile("mov %0, %%esp; popf; movl $0, (%1)" : : "r"(window(2)), "r"(slot) : "memory"));
#endif
        CHECK_EQ(entry_of(window(1), 1) & PTE_D, PTE_D);
    }
    CHECK_OK(unmap_at(window(1)));
    CHECK_OK(unmap_at(window(2)));
    page_free(low);
    page_free(high);
}

/* A table that nothing uses as one is plain memory: writes go through without emulation. */
TEST(direct_write_after_unpin)
{
    pte_raw *l1 = table_alloc();

    assisted_slot();
    REQUIRE_OK(pin(l1, 1));
    CHECK_NO_FAULT(write_once(l1[3], (pte_raw)pte_make(virt_to_mfn(l1), PTE_READ)));
    CHECK_EQ(pte_mfn(l1[3]), virt_to_mfn(l1));
    CHECK_NO_FAULT(write_once(l1[3], 0));
    CHECK_OK(unpin(l1));
    CHECK_FAULT(VECTOR_PF, write_once(l1[3], 1));
    CHECK_OK(map_writable(l1));
    CHECK_NO_FAULT(write_once(l1[3], 1));
    page_free(l1);
}

/* ---- Accessed and dirty ---- */

TEST(accessed_and_dirty)
{
    void *page = page_alloc();
    volatile u32 *va = window(0);

    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_P | PTE_RW));
    CHECK_EQ(entry_of(va, 1) & (PTE_A | PTE_D), 0);
    (void)*va;
    CHECK_EQ(entry_of(va, 1) & (PTE_A | PTE_D), PTE_A);
    *va = 1;
    CHECK_EQ(entry_of(va, 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_EQ(entry_of(va, 2) & PTE_A, PTE_A);
    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_P | PTE_RW));
    *va = 2;
    CHECK_EQ(entry_of(va, 1) & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_OK(unmap_at(va));
    page_free(page);
}

TEST(access_rights)
{
    void *page = page_alloc();
    volatile u32 *va = window(0);

    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_READ));
    CHECK_FAULT(VECTOR_PF, *va = 1);
    CHECK_EQ(last_fault.error & 3, 3);
    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_DATA));
    CHECK_NO_FAULT(*va = 1);
    REQUIRE_OK(map_at(va, virt_to_mfn(page), PTE_READ));
    CHECK_FAULT(VECTOR_PF, *va = 1);
    REQUIRE_OK(unmap_at(va));
    CHECK_FAULT(VECTOR_PF, (void)*va);
    CHECK_EQ(last_fault.error & 3, 0);
    page_free(page);
}

TEST(no_execute)
{
    u8 *page = page_alloc();
    void (*code)(void) = (void (*)(void))window(0);

    page[0] = 0xc3; /* ret */
    REQUIRE_OK(map_at(window(0), virt_to_mfn(page), PTE_READ));
    CHECK_NO_FAULT(code());
    if (format.pte_bytes == 8) {
        REQUIRE_OK(map_at(window(0), virt_to_mfn(page), PTE_READ | PTE_NX));
        CHECK_FAULT(VECTOR_PF, code());
        CHECK_EQ(last_fault.error & 0x11, 0x11);
    }
    CHECK_OK(unmap_at(window(0)));
    page_free(page);
}

/* ---- Address spaces ---- */

TEST(new_base)
{
    void *top = copy_top();
    word old = current_base();
    u32 *page = page_alloc();

    page[0] = 5;
    REQUIRE_OK(pin(top, top_level()));
    REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(top), 0));
    mm_set_base(virt_to_mfn(top));
    CHECK_REFUSED(map_writable(top));
    CHECK_OK(map_at(window(0), virt_to_mfn(page), PTE_READ));
    CHECK_EQ(*(volatile u32 *)window(0), 5);
    CHECK_OK(unpin(top));
    CHECK_REFUSED(map_writable(top)); /* the vCPU runs on it */
    REQUIRE_OK(mmuext(MMUEXT_NEW_BASEPTR, old, 0));
    mm_set_base(old);
    CHECK_OK(unmap_at(window(0)));
    free_top(top);
    page_free(page);
}

TEST(new_base_bad)
{
    void *page = page_alloc(), *l1 = table_alloc();

    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(page), 0));
    REQUIRE_OK(pin(l1, 1));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, virt_to_mfn(l1), 0));
    CHECK_OK(unpin(l1));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, foreign_frame(0), 0));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, ~0UL, 0));
    CHECK_REFUSED(mmuext(MMUEXT_NEW_BASEPTR, 1UL << 20, 0));
    if (top_level() == 4) {
        CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, virt_to_mfn(page), 0));
        CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, foreign_frame(0), 0));
        CHECK_OK(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0));
    } else {
        CHECK_REFUSED(mmuext(MMUEXT_NEW_USER_BASEPTR, current_base(), 0));
    }
    CHECK_OK(map_writable(page));
    page_free(page);
    table_free(l1);
}

/* Tables below the top level that map page at the start of a top-level slot; table[1] to table[top - 1]. */
static void build_branch(void *table[5], const void *page)
{
    table[1] = l1_with(virt_to_mfn(page), PTE_READ | PTE_US);
    for (unsigned level = 2; level < top_level(); level++)
        table[level] = table_over(level, table[level - 1]);
}

/* A process switch as PAE kernels of the Xen 3 era do it: a top-level entry changes, and a flush; the base stays. */
TEST(switch_by_top_entry)
{
    u32 *page[2] = { page_alloc(), page_alloc() };
    void *table[2][5], *entry = pte_at(mfn_to_virt(current_base()), free_top_slot());
    unsigned top = top_level();
    volatile u32 *va = (void *)((word)free_top_slot() << format.level[top].shift);

    for (unsigned i = 0; i < 2; i++) {
        page[i][0] = 100 + i;
        build_branch(table[i], page[i]);
    }
    for (unsigned n = 0; n < 6; n++) {
        word below = virt_to_mfn(table[n % 2][top - 1]);

        CHECK_OK(pte_set(entry, pte_make(below, format.level[top].table_flags)));
        CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
        CHECK_EQ(*va, 100 + n % 2);
        CHECK_REFUSED(map_writable(table[n % 2][top - 1]));
    }
    CHECK_OK(pte_set(entry, 0));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    CHECK_FAULT(VECTOR_PF, (void)*va);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned level = top - 1; level; level--)
            table_free(table[i][level]);
        page_free(page[i]);
    }
}

#ifdef FORMAT_PT32P
/* The fourth entry of a PAE top level must lead to a level 2 table of its own, which holds the hypervisor's part. */
TEST(pae_top_level)
{
    pte_raw *top = copy_top();
    pte_raw kernel = top[3];

    make_writable(top);
    top[3] = 0;
    make_readonly(top);
    check_unpinnable(3, top);
    make_writable(top);
    top[3] = kernel;
    top[1] = (pte_raw)pte_make(virt_to_mfn(top), PTE_P); /* itself */
    make_readonly(top);
    check_unpinnable(3, top);
    make_writable(top);
    top[1] = (pte_raw)pte_make(current_base(), PTE_P); /* another */
    make_readonly(top);
    check_unpinnable(3, top);
    make_writable(top);
    top[1] = kernel; /* the hypervisor's part in two places */
    make_readonly(top);
    check_unpinnable(3, top);
    make_writable(top);
    top[1] = 0;
    make_readonly(top);
    CHECK_OK(pin(top, 3));
    for (unsigned i = 0; i < 3; i++) {
        CHECK_REFUSED(pte_set(&top[i], pte_make(virt_to_mfn(top), PTE_P)));
        CHECK_REFUSED(pte_set(&top[i], pte_make(current_base(), PTE_P)));
    }
    CHECK_REFUSED(pte_set(&top[3], 0)); /* of a table in use, the kernel's part stays */
    CHECK_OK(unpin(top));
    free_top(top);
}
#endif

/* ---- mmuext_op ---- */

TEST(mmuext_unknown)
{
    for (unsigned cmd = MMUEXT_MARK_SUPER; cmd < 40; cmd++)
        CHECK_REFUSED(mmuext(cmd, 0, 0));
    CHECK_REFUSED(mmuext(~0u, 0, 0));
    CHECK_REFUSED(mmuext(14, 0, 0));
    CHECK_REFUSED(mmuext_op((void *)format.hv_start, 1, NULL, DOMID_SELF));
    CHECK_REFUSED(mmuext_op(window(0), 1, NULL, DOMID_SELF));
    CHECK_OK(mmuext_op(NULL, 0, NULL, DOMID_SELF));
}

TEST(mmuext_flushes)
{
    word vcpus = 1;

    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0));
    CHECK_OK(mmuext(MMUEXT_INVLPG_LOCAL, P(window(0)), 0));
    CHECK_OK(mmuext(MMUEXT_INVLPG_ALL, P(window(0)), 0));
    CHECK_OK(mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, P(&vcpus)));
    CHECK_OK(mmuext(MMUEXT_INVLPG_MULTI, P(window(0)), P(&vcpus)));
    if (format.levels == 4)     /* addresses that are none */
        for (unsigned bit = 47; bit < 64; bit++) {
            CHECK_OK(mmuext(MMUEXT_INVLPG_LOCAL, 1UL << bit, 0));
            CHECK_OK(mmuext(MMUEXT_INVLPG_ALL, 1UL << bit, 0));
        }
    CHECK_REFUSED(mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, P(window(0))));
    CHECK_REFUSED(mmuext(MMUEXT_INVLPG_MULTI, 0, format.hv_start));
}

TEST(clear_and_copy_page)
{
    word *a = page_alloc(), *b = page_alloc();
    void *table = table_of(window(0), 1);

    a[0] = a[511] = 7;
    CHECK_OK(mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(b), virt_to_mfn(a)));
    CHECK_EQ(b[511], 7);
    CHECK_OK(mmuext(MMUEXT_CLEAR_PAGE, virt_to_mfn(b), 0));
    CHECK_EQ(b[0] | b[511], 0);
    CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, virt_to_mfn(table), 0));
    CHECK_REFUSED(mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(table), virt_to_mfn(a)));
    CHECK_REFUSED(mmuext(MMUEXT_CLEAR_PAGE, foreign_frame(0), 0));
    CHECK_REFUSED(mmuext(MMUEXT_COPY_PAGE, foreign_frame(0), virt_to_mfn(a)));
    CHECK_REFUSED(mmuext(MMUEXT_COPY_PAGE, virt_to_mfn(b), foreign_frame(0)));
    CHECK_EQ(b[0] | b[511], 0);
    page_free(a);
    page_free(b);
}

/* ---- Giving memory back while it is in use ---- */

static long release(word mfn)
{
    GUEST(xen_memory_reservation) r = { .extent_start = P(&mfn), .nr_extents = 1, .domid = DOMID_SELF };

    return memory_op(XENMEM_decrease_reservation, &r);
}

/* A fresh frame in place of one that was released; its number goes into the p2m. */
static void refill(word pfn)
{
    word extent = pfn;
    GUEST(xen_memory_reservation) r = { .extent_start = P(&extent), .nr_extents = 1, .domid = DOMID_SELF };

    CHECK_EQ(memory_op(XENMEM_populate_physmap, &r), 1);
    p2m[pfn] = extent;
    CHECK_EQ(m2p_raw(extent), pfn);
}

TEST(release_mapped_page)
{
    word pfn = spare_pfn(0), mfn = p2m[pfn];
    volatile u32 *va = window(0);
    struct xen_memory_domain self = { .domid = DOMID_SELF };
    long pages = memory_op(XENMEM_current_reservation, &self);

    REQUIRE_OK(map_at(va, mfn, PTE_DATA));
    *va = 1234;
    REQUIRE(release(mfn) == 1);
    CHECK_EQ(*va, 1234); /* our mapping keeps it alive */
    *va = 4321;
    (void)release(mfn); /* must not drop the mapping's reference */
    CHECK_EQ(*va, 4321);
    CHECK_REFUSED(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0));
    CHECK_OK(unmap_at(va));
    CHECK_REFUSED(map_at(va, mfn, PTE_READ));
    refill(pfn);
    CHECK_EQ(memory_op(XENMEM_current_reservation, &self), pages);
}

TEST(release_pinned_table)
{
    word pfn = spare_pfn(0), mfn = p2m[pfn];

    REQUIRE_OK(map_at(window(0), mfn, PTE_DATA));
    memset(window(0), 0, 4096);
    REQUIRE_OK(map_at(window(0), mfn, PTE_READ));
    REQUIRE_OK(mmuext(MMUEXT_PIN_L1_TABLE, mfn, 0));
    if (release(mfn) != 1) { /* it may be refused while pinned */
        CHECK_OK(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0));
        CHECK_OK(unmap_at(window(0)));
        return;
    }
    CHECK_REFUSED(map_at(window(1), mfn, PTE_DATA));
    CHECK_OK(mmuext(MMUEXT_UNPIN_TABLE, mfn, 0));
    CHECK_OK(unmap_at(window(0)));
    CHECK_REFUSED(map_at(window(0), mfn, PTE_READ));
    refill(pfn);
}

TEST(release_not_ours)
{
    CHECK(release(foreign_frame(0)) != 1);
    CHECK(release(foreign_frame(1)) != 1);
    CHECK(release(~0UL) != 1);
    CHECK(release(1UL << 27) != 1);
}

/* ---- Descriptor tables ---- */

#define DESC_DATA(dpl)  (0x00c092000000ffffULL | (u64)(dpl) << 45)
#define DESC_CODE(dpl)  (0x00c09a000000ffffULL | (u64)(dpl) << 45)
#define DESC_TSS        0x0000e90000000067ULL
#define DESC_LDT        0x0000e20000000067ULL
#define DESC_INT_GATE   0x0000ee0000080000ULL
#define DESC_TASK_GATE  0x0000e50000080000ULL
#define DESC_CALL_GATE(sel) (0x0000ec0000000000ULL | (u64)(sel) << 16)
#define HYPERVISOR_CS   0xe008 /* in the part of the GDT that is the hypervisor's */
#define KERNEL_DPL      (sizeof(word) == 8 ? 3 : 1)

static const u64 bad_descriptors[] = {
    DESC_TSS, DESC_LDT, DESC_INT_GATE, DESC_TASK_GATE, DESC_CALL_GATE(HYPERVISOR_CS),
    DESC_CALL_GATE(HYPERVISOR_CS | 3), DESC_CALL_GATE(HYPERVISOR_CS & ~7),
};

static u64 *gdt_page(void)
{
    u64 *gdt = page_alloc();

    gdt[1] = DESC_DATA(3);
    gdt[2] = DESC_CODE(3);
    return gdt;
}

TEST(gdt_set_and_use)
{
    u64 *gdt = gdt_page();
    word frame = virt_to_mfn(gdt);

    CHECK_REFUSED(set_gdt(&frame, 512)); /* mapped writable */
    make_readonly(gdt);
    REQUIRE_OK(set_gdt(&frame, 512));
    CHECK_REFUSED(map_writable(gdt));
    CHECK_NO_FAULT(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 3)));
    CHECK_FAULT(VECTOR_GP, __asm__ volatile("mov %0, %%fs" : : "r"(5 << 3 | 3))); /* empty */
    CHECK_EQ(last_fault.error & 0xfffc, 5 << 3);
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    CHECK_OK(set_gdt(&frame, 0));
    CHECK_OK(map_writable(gdt));
    page_free(gdt);
}

TEST(gdt_bad_frames)
{
    u64 *gdt = gdt_page();
    word frames[2] = { virt_to_mfn(gdt), foreign_frame(0) };

    make_readonly(gdt);
    CHECK_REFUSED(set_gdt(&frames[1], 512));
    CHECK_REFUSED(set_gdt(frames, 1024));
    CHECK_REFUSED(set_gdt(frames, FIRST_RESERVED_GDT_ENTRY + 1));
    CHECK_REFUSED(set_gdt(frames, ~0u));
    CHECK_REFUSED(set_gdt((void *)format.hv_start, 512));
    CHECK_REFUSED(set_gdt(window(0), 512));
    frames[0] = virt_to_mfn(table_of(window(0), 1));
    CHECK_REFUSED(set_gdt(frames, 512));
    frames[0] = ~0UL;
    CHECK_REFUSED(set_gdt(frames, 512));
    CHECK_OK(map_writable(gdt));
    page_free(gdt);
}

TEST(gdt_bad_descriptors)
{
    for (unsigned i = 0; i < ARRAY_SIZE(bad_descriptors); i++) {
        u64 *gdt = gdt_page();
        word frame = virt_to_mfn(gdt);

        gdt[3] = bad_descriptors[i];
        make_readonly(gdt);
        if (!CHECK_REFUSED(set_gdt(&frame, 512)))
            set_gdt(&frame, 0);
        CHECK_OK(map_writable(gdt));
        page_free(gdt);
    }
}

/* Ring 0 descriptors are refused, or lowered to the kernel's ring. */
TEST(gdt_privilege)
{
    u64 *gdt = gdt_page();
    word frame = virt_to_mfn(gdt);

    gdt[3] = DESC_CODE(0);
    gdt[4] = DESC_DATA(0);
    make_readonly(gdt);
    if (set_gdt(&frame, 512) == 0) {
        CHECK((gdt[3] >> 45 & 3) >= KERNEL_DPL || !(gdt[3] >> 47 & 1));
        CHECK((gdt[4] >> 45 & 3) >= KERNEL_DPL || !(gdt[4] >> 47 & 1));
        CHECK_OK(set_gdt(&frame, 0));
    }
    CHECK_OK(map_writable(gdt));
    page_free(gdt);
}

TEST(descriptor_update)
{
    u64 *gdt = gdt_page();
    word frame = virt_to_mfn(gdt);

    make_readonly(gdt);
    REQUIRE_OK(set_gdt(&frame, 512));
    CHECK_OK(update_descriptor(virt_to_maddr(&gdt[5]), DESC_DATA(3)));
    CHECK_EQ(gdt[5] & ~(1ULL << 40), DESC_DATA(3) & ~(1ULL << 40));
    CHECK_NO_FAULT(__asm__ volatile("mov %0, %%fs" : : "r"(5 << 3 | 3)));
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    for (unsigned i = 0; i < ARRAY_SIZE(bad_descriptors); i++)
        CHECK_REFUSED(update_descriptor(virt_to_maddr(&gdt[6]), bad_descriptors[i]));
    CHECK_EQ(gdt[6], 0);
    CHECK_REFUSED(update_descriptor(virt_to_maddr(&gdt[6]) + 4, DESC_DATA(3)));
    CHECK_REFUSED(update_descriptor((u64)foreign_frame(0) << 12, DESC_DATA(3)));
    CHECK_REFUSED(update_descriptor(virt_to_maddr(table_of(window(0), 1)), DESC_DATA(3)));
    CHECK_REFUSED(update_descriptor(1ULL << 51, DESC_DATA(3)));
    CHECK_OK(set_gdt(&frame, 0));
    table_free(gdt);
}

TEST(map_descriptors_writable)
{
    u64 *gdt = gdt_page();
    word frame = virt_to_mfn(gdt);

    make_readonly(gdt);
    REQUIRE_OK(set_gdt(&frame, 512));
    check_entry_refused(frame, PTE_DATA);
    CHECK_FAULT(VECTOR_PF, *(volatile u64 *)&gdt[3] = DESC_DATA(0));
    CHECK_OK(set_gdt(&frame, 0));
    table_free(gdt);
}

/* A descriptor table never becomes a page table while it is in use, nor the other way. */
TEST(gdt_is_no_page_table)
{
    u64 *gdt = page_alloc();
    word frame = virt_to_mfn(gdt);

    make_readonly(gdt);
    REQUIRE_OK(set_gdt(&frame, 512));
    CHECK_REFUSED(pin(gdt, 1));
    CHECK_OK(set_gdt(&frame, 0));
    REQUIRE_OK(pin(gdt, 1));
    CHECK_REFUSED(set_gdt(&frame, 512));
    CHECK_OK(unpin(gdt));
    table_free(gdt);
}

TEST(ldt)
{
    u64 *page = gdt_page();

    make_readonly(page);
    CHECK_REFUSED(mmuext(MMUEXT_SET_LDT, P(page) + 8, 512));
    CHECK_REFUSED(mmuext(MMUEXT_SET_LDT, P(page), 8193));
    CHECK_REFUSED(mmuext(MMUEXT_SET_LDT, format.hv_start, 512));
    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(page), 512));
    CHECK_NO_FAULT(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3)));
    CHECK_REFUSED(map_writable(page));
    __asm__ volatile("mov %0, %%fs" : : "r"(0));
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    CHECK_FAULT(VECTOR_GP, __asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3)));
    table_free(page);
}

/* The pages of an LDT are looked at when they are first used: what is wrong with them shows as a fault then. */
TEST(ldt_bad_pages)
{
    u64 *page = gdt_page();

    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(page), 512)); /* still mapped writable */
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3))).hit);
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    page[3] = DESC_INT_GATE;
    make_readonly(page);
    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(page), 512));
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3))).hit);
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    REQUIRE_OK(mmuext(MMUEXT_SET_LDT, P(window(0)), 512));
    CHECK(FAULT_IN(__asm__ volatile("mov %0, %%fs" : : "r"(1 << 3 | 4 | 3))).hit);
    CHECK_OK(mmuext(MMUEXT_SET_LDT, 0, 0));
    table_free(page);
}
