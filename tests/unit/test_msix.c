/* MSI-X: the table is where and as large as the device said when dom0 reported it, whatever it says later. */
// SOURCES: arch/x86/irq/msi.c arch/x86/irq/msi_message.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <arch/x86/irq/internal.h>
#include <public/errno.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/hwdom.h>
#include <pvisor/rangeset.h>

#define CAP     0x70
#define BAR     0xfe000000UL
#define ENTRY   16
#define ENTRIES 4

#define DEVICE PCI_SBDF(0, 0, 3 << 3)
#define PARENT PCI_SBDF(0, 0, 2 << 3)      /* of the device, if it is a virtual function */
#define SRIOV  0x160
static struct pci_dev device = { .sbdf = DEVICE, .parent = DEVICE, .msi_cap = 0x50, .msix_cap = CAP, .msix_entries = ENTRIES };
static struct irq_desc descs[8];
struct irq_desc *irq_descs = descs;
u32 nr_irqs = 8, nr_gsis;
u32 cpu_apic_ids[NR_CPUS];

static u32 said = ENTRIES;          /* how many entries the device says now that its table has */
static u32 offset;                  /* where in its BAR it says now that its table is */
static u16 control;                 /* bits of its control word besides; all ones: it does not answer */
static u8 table[ENTRIES * ENTRY];
static size_t mapped;               /* bytes */
static unsigned unmapped;           /* how often */

struct pci_dev *pci_find(u32 sbdf) { return sbdf == device.sbdf ? &device : NULL; }
static unsigned control_writes;
void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value)
{
    (void)sbdf, (void)bytes, (void)value;
    control_writes += reg == CAP + MSIX_CONTROL;
}

u64 pci_bar_address(u32 sbdf, unsigned n) { return (void)sbdf, n ? 0 : BAR; }
static bool virtual_answer;         /* its parent has its virtual functions answer to memory accesses */
u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    (void)bytes;
    if (sbdf == PARENT)
        return reg == SRIOV + SRIOV_CONTROL && virtual_answer ? SRIOV_CONTROL_MEMORY : 0;
    if (reg == PCI_COMMAND)
        return device.parent == PARENT ? 0 : PCI_COMMAND_MEMORY;
    return reg == CAP + MSIX_CONTROL ? control | (said - 1) : reg == CAP + MSIX_TABLE ? offset : 0;
}

/* dom0 may map all frames up to here but one, and write all but another. */
#define FRAMES  (BAR / 4096 + 0x100)
#define KEPT    (BAR / 4096 + 0x20)
#define ONLY_READ (BAR / 4096 + 0x30)
static struct domain hardware = { .is_hardware = true, .iomem = (struct rangeset *)1 };
struct domain *dom0 = &hardware;
struct rangeset *mmio_ro_ranges = (struct rangeset *)2;

bool rangeset_contains(const struct rangeset *r, u64 first, u64 last)
{
    return r == mmio_ro_ranges ? first == ONLY_READ && last == ONLY_READ : last < FRAMES && (last < KEPT || first > KEPT);
}

static unsigned places;             /* that were reserved */

void *ioremap_at(struct io_place *place, maddr_t a, size_t size)
{
    assert_int_equal(a.v, BAR);
    places += !place->va;
    place->va = 1;
    mapped = size;
    return table;
}

void iounmap_at(const struct io_place *place)
{
    assert_ptr_equal(place, &device.msix_place);
    assert_non_null(device.msix_table);
    unmapped++;
}

/* Where interrupts are remapped, a message names an entry of a table, and the entry says the rest. */
const struct irq_remapper *irq_remapper;
static struct irq_route routed;
static struct irq_source claimed_for;
static unsigned nr_claimed;
static int no_entry;                /* the error of the next claim */
static int claim(u32 irq, struct irq_source from)
{
    (void)irq;
    claimed_for = from;
    nr_claimed += !no_entry;
    return no_entry;
}

static void unclaim(u32 irq) { (void)irq, nr_claimed--; }

static bool is_open;                /* the table lets it through */
static struct msi_message route(struct irq_route r)
{
    routed = r;
    is_open = true;
    return (struct msi_message){ 0xfee00010UL | r.irq << 5, 0 };
}

static void unroute(u32 irq)
{
    assert_int_equal(irq, routed.irq);
    is_open = false;
}

void guest_log(const char *fmt, ...) { (void)fmt; }
u64 spin_lock_irqsave(spinlock_t *l) { return (void)l, 0; }
void spin_unlock_irqrestore(spinlock_t *l, u64 flags) { (void)l, (void)flags; }
static bool no_vectors, no_irqs;
int vector_alloc(struct irq_desc *desc) { return no_vectors ? -ENOSPC : (desc->vector = 0x40, 0); }
void vector_free(struct irq_desc *desc) { desc->vector = 0; }
struct irq_desc *irq_alloc_dynamic(bool domus)
{
    unsigned i = 0;

    assert_false(domus);
    if (no_irqs)
        return NULL;
    while (descs[i].chip)
        i++;
    descs[i].irq = i;
    return &descs[i];
}

static s64 create(u32 index) { return msi_create(dom0, device.sbdf, true, index, BAR); }

static void release(s64 irq)
{
    void (*fn)(struct irq_desc *) = descs[irq].chip->release;

    descs[irq].chip = NULL;
    vector_free(&descs[irq]);
    fn(&descs[irq]);
}

static void keeps_to_the_size_reported(void **state)
{
    s64 first;

    (void)state;
    assert_int_equal(create(ENTRIES), -EINVAL);
    said = 2048;
    assert_int_equal(create(ENTRIES), -EINVAL);
    assert_true((first = create(0)) >= 0);
    assert_int_equal(mapped, sizeof(table));
    assert_int_equal(create(ENTRIES), -EINVAL);
    said = 1;
    assert_true(create(ENTRIES - 1) > first);
    release(first + 1);
    assert_int_equal(unmapped, 0);
    release(first);
    assert_int_equal(unmapped, 1);
    said = ENTRIES;
}

/* The fake's ioremap_at() knows where it was. */
static void keeps_to_the_place_reported(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        s64 irq;

        offset = i & 1 ? 0x2000 | i : i;    /* another BAR, too */
        irq = create(0);
        assert_true(irq >= 0);
        release(irq);
    }
    offset = 0;
}

/* In the middle of a reset: what it has switched on afterwards would be whatever bits can. */
static void nothing_is_written_to_one_that_does_not_answer(void **state)
{
    s64 irq = create(0);

    (void)state;
    assert_true(irq >= 0);
    control_writes = 0;
    control = 0xffff;
    descs[irq].chip->unmask(&descs[irq]);
    release(irq);
    assert_int_equal(control_writes, 0);
    control = 0;
    irq = create(0);
    descs[irq].chip->unmask(&descs[irq]);
    assert_int_equal(control_writes, 1);
    release(irq);
}

/* A table that nobody uses is not kept: until dom0 tries again it may have moved. */
static void unmaps_what_a_failure_leaves(void **state)
{
    s64 first;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        *(i ? &no_irqs : &no_vectors) = true;
        mapped = unmapped = 0;
        assert_int_equal(create(0), -ENOSPC);
        assert_int_equal(mapped, sizeof(table));
        assert_int_equal(unmapped, 1);
        assert_null(device.msix_table);
        no_irqs = no_vectors = false;
    }
    /* One that is in use stays. */
    assert_true((first = create(0)) >= 0);
    unmapped = 0;
    no_vectors = true;
    assert_int_equal(create(1), -ENOSPC);
    no_vectors = false;
    assert_int_equal(unmapped, 0);
    release(first);
    assert_int_equal(unmapped, 1);
}

/* A domU that switches its function's MSI-X off and on again uses nothing up: there is one place for the table. */
static void a_table_that_comes_and_goes_has_one_place(void **state)
{
    (void)state;
    unmapped = 0;
    for (unsigned i = 0; i < 1000; i++) {
        s64 irq = create(i % ENTRIES);

        assert_true(irq >= 0);
        release(irq);
        assert_null(device.msix_table);
    }
    assert_int_equal(unmapped, 1000);
    assert_int_equal(places, 1);
}

/* The message is the table's entry, and the entry is for this function alone; an old bus has other names, too. */
static void names_an_entry_where_interrupts_are_remapped(void **state)
{
    struct { u32 low, high, data, control; } slot;
    s64 irq;

    (void)state;
    irq_remapper = &(struct irq_remapper){ .claim = claim, .route = route };
    cpu_apic_ids[0] = 3;
    assert_true((irq = create(1)) >= 0);
    memcpy(&slot, table + ENTRY, sizeof(slot));
    assert_int_equal(slot.low, 0xfee00010 | irq << 5);
    assert_int_equal(slot.high + slot.data, 0);
    assert_int_equal(routed.irq, irq);
    assert_int_equal(routed.apic_id, 3);
    assert_int_equal(routed.vector, 0x40);
    assert_int_equal(claimed_for.sbdf, 3 << 3);
    assert_false(claimed_for.any_of_bus || routed.line || routed.level);
    irq_remapper = NULL;
    release(irq);
}

/* Without an entry there is no irq, and nothing of it stays. */
static void has_no_irq_without_an_entry(void **state)
{
    (void)state;
    irq_remapper = &(struct irq_remapper){ .claim = claim, .release = unclaim, .route = route };
    nr_claimed = unmapped = 0;
    no_entry = -ENOMEM;
    assert_int_equal(create(0), -ENOMEM);
    assert_int_equal(unmapped, 1);
    assert_int_equal(device.nr_msix, 0);
    assert_int_equal(descs[0].vector, 0);
    assert_null(descs[0].chip);
    no_entry = 0;
    no_vectors = true;
    assert_int_equal(create(0), -ENOSPC);
    no_vectors = false;
    assert_int_equal(nr_claimed, 0);
    irq_remapper = NULL;
}

/* A device that sends what its masks forbid, or has none: it comes no further than the table. */
static void masks_in_the_table_too(void **state)
{
    (void)state;
    irq_remapper = &(struct irq_remapper){ .claim = claim, .route = route, .unroute = unroute };
    for (unsigned msix = 0; msix < 2; msix++) {
        s64 irq = msi_create(dom0, device.sbdf, msix, 0, msix ? BAR : 0);
        struct irq_desc *desc = &descs[irq];

        assert_true(irq >= 0);
        desc->chip->unmask(desc);
        assert_true(is_open);
        desc->chip->mask(desc);
        assert_false(is_open);
        assert_true(desc->masked);
        desc->chip->retarget(desc);     /* masked as it was */
        assert_false(is_open);
        desc->chip->unmask(desc);
        assert_true(is_open);
        desc->chip->retarget(desc);
        assert_true(is_open);
        release(irq);
    }
    irq_remapper = NULL;
}

/* A device that said that its table is where RAM or registers are would have the hypervisor write there. */
static void keeps_to_what_may_be_a_table(void **state)
{
    static const u32 wrong[] = { 0x20000, 0x20fc0, 0x1fff0, 0x2fff8, 0x30000, 0x100000, 0xfffffff8 };

    (void)state;
    mapped = 0;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        device.msix_where = wrong[i];
        assert_int_equal(create(0), -EINVAL);
    }
    assert_int_equal(mapped, 0);
    device.msix_where = 0;
}

static void a_virtual_function_answers_if_its_parent_says_so(void **state)
{
    s64 irq;

    (void)state;
    device.parent = PARENT;
    device.parents_sriov = SRIOV;
    assert_int_equal(create(0), -ENXIO);
    virtual_answer = true;
    assert_true((irq = create(0)) >= 0);
    release(irq);
    device.parent = DEVICE;
    device.parents_sriov = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_to_the_size_reported), cmocka_unit_test(keeps_to_the_place_reported),
        cmocka_unit_test(nothing_is_written_to_one_that_does_not_answer), cmocka_unit_test(unmaps_what_a_failure_leaves),
        cmocka_unit_test(a_table_that_comes_and_goes_has_one_place),
        cmocka_unit_test(names_an_entry_where_interrupts_are_remapped), cmocka_unit_test(keeps_to_what_may_be_a_table),
        cmocka_unit_test(masks_in_the_table_too), cmocka_unit_test(has_no_irq_without_an_entry),
        cmocka_unit_test(a_virtual_function_answers_if_its_parent_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
