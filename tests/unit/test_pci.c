/* The list of PCI functions: what is asked of a function, and when. */
// SOURCES: tests/unit/fake/log.c drivers/pci/devices.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <public/errno.h>
#include <public/xen.h>
#include <pvisor/console.h>
#include <pvisor/frame.h>
#include <pvisor/pci.h>
#include <pvisor/spinlock.h>
#include "fake/log.h"

void *calloc(size_t n, size_t size);

#define CARD     PCI_SBDF(0, 2, 3 << 3)
#define ON_BUS_0 PCI_SBDF(0, 0, 3 << 3)

/* --- The machine: functions that are all alike, or, absent, all ones --- */

static bool absent, express;
static u32 can_do;          /* by that capability, at 0x90 */
static u32 msix_said = 0x2001;      /* where its MSI-X table is, and how large, by its own word */

/* A function that CARD makes; it answers while it is switched on. */
#define VIRTUAL  PCI_SBDF(0, 2, 0x10 << 3)
#define SRIOV_AT 0x160

static bool switched_on;

u16 pci_find_extended_capability(u32 sbdf, u16 id) { return sbdf == CARD && id == PCI_EXT_SRIOV ? SRIOV_AT : 0; }

u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    u32 ones = ~0u >> (32 - 8 * bytes);

    if (sbdf == VIRTUAL && (!switched_on || reg == PCI_VENDOR_ID))
        return ones;
    if (sbdf == CARD && reg == SRIOV_AT + SRIOV_DEVICE)
        return 0x10ca;
    if (reg == 0x90 + EXPRESS_DEVICE && !absent)
        return can_do;
    if (!absent && (reg == 0x70 + MSIX_TABLE || reg == 0x70 + MSIX_CONTROL))
        return msix_said & ones;
    return absent ? ones : reg == PCI_VENDOR_ID ? 0x12348086 & ones : reg == PCI_CLASS_REVISION ? 0x02000000 : 0;
}

u8 pci_find_capability(u32 sbdf, u8 id)
{
    (void)sbdf;
    return absent ? 0 : id == PCI_CAP_MSI ? 0x50 : id == PCI_CAP_MSIX ? 0x70 : express ? 0x90 : 0;
}

void pci_map_bus(u32 sbdf) { (void)sbdf; }
void spin_lock(spinlock_t *l) { (void)l; }
void spin_unlock(spinlock_t *l) { (void)l; }
void *xzalloc_bytes(size_t size) { return calloc(1, size); }
void guest_log(const char *fmt, ...) { (void)fmt; }
void debug_key_register(char key, void (*fn)(char key, struct cpu_regs *regs), const char *what) { (void)key, (void)fn, (void)what; }
u64 strtoull(const char *s, const char **end, unsigned base) { return *end = s, base; }
char *strchr(const char *s, int c) { return *s == c ? (char *)s : NULL; }

static const struct pci_dev *add(u32 sbdf)
{
    assert_int_equal(pci_add_device(sbdf, sbdf, false), 0);
    return pci_find(sbdf);
}

/* --- Tests --- */

/* A domain has it reset when dom0 looks for functions: what its messages and its place in the IOMMU are built upon stays. */
static void what_others_have_is_not_asked_again(void **state)
{
    struct pci_dev *dev;

    (void)state;
    express = true;
    add(CARD);
    dev = pci_find(CARD);
    for (unsigned i = 0; i < 3; i++) {
        dev->owner = i ? 0 : 7;
        dev->nr_msi = i == 1;
        dev->nr_msix = i == 2;
        absent = true;
        msix_said = 0x5003;
        add(CARD);
        assert_int_equal(dev->msix_where, 0x2001);
        assert_int_equal(dev->msix_entries, 2);
        assert_int_equal(dev->class_code, 0x020000);
        assert_int_equal(dev->msi_cap, 0x50);
        assert_int_equal(dev->msix_cap, 0x70);
        assert_false(dev->named_by_bridge);
        absent = false;
        add(CARD);
        assert_int_equal(dev->msix_where, 0x2001);
    }
    dev->nr_msix = 0;
    add(CARD);
    assert_int_equal(dev->msix_where, 0x5003);
    assert_int_equal(dev->msix_entries, 4);
}

/* Another card is in the slot. */
static void what_is_dom0s_is_asked_again(void **state)
{
    (void)state;
    express = true;
    assert_false(add(CARD)->named_by_bridge);
    express = false;
    assert_true(add(CARD)->named_by_bridge);
    assert_false(add(ON_BUS_0)->named_by_bridge);
    assert_int_equal(pci_remove_device(CARD), 0);
    assert_null(pci_find(CARD));
    express = true;
    assert_false(add(CARD)->named_by_bridge);
}

/* Bits 3 and 4: one, two or three bits of their number can be varied. In another's hands it may say what it likes. */
static void who_can_take_more_numbers_is_known(void **state)
{
    (void)state;
    express = true;
    for (u32 phantoms = 0; phantoms < 4; phantoms++) {
        can_do = ~0x18u | phantoms << 3;
        assert_int_equal(add(CARD)->has_phantoms, phantoms > 0);
    }
    can_do = 0;
    pci_find(CARD)->owner = 7;
    assert_true(add(CARD)->has_phantoms);
    pci_find(CARD)->owner = 0;
    assert_false(add(CARD)->has_phantoms);
    can_do = 0x18;
    express = false;
    assert_false(add(CARD)->has_phantoms);
    can_do = 0;
}

static void what_is_not_there_is_not_added(void **state)
{
    (void)state;
    absent = true;
    assert_int_equal(pci_add_device(PCI_SBDF(0, 5, 0), PCI_SBDF(0, 5, 0), false), -ENODEV);
    absent = false;
}

/* It has no name of its own, and says nothing before its parent has made it. */
static void a_virtual_function_is_known_by_its_parent(void **state)
{
    struct pci_dev *dev;

    (void)state;
    express = true;
    add(CARD);
    switched_on = false;
    assert_int_equal(pci_add_device(VIRTUAL, CARD, false), -ENODEV);
    switched_on = true;
    assert_int_equal(pci_add_device(VIRTUAL, VIRTUAL, false), -ENODEV);
    assert_int_equal(pci_add_device(VIRTUAL, PCI_SBDF(0, 3, 0), false), -ENODEV);
    assert_int_equal(pci_add_device(VIRTUAL, CARD, false), 0);
    dev = pci_find(VIRTUAL);
    assert_int_equal(dev->parent, CARD);
    assert_int_equal(dev->vendor, 0x8086);
    assert_int_equal(dev->device, 0x10ca);
    assert_int_equal(dev->class_code, 0x020000);
    assert_int_equal(pci_remove_device(VIRTUAL), 0);
    assert_null(pci_find(VIRTUAL));
}

/* Whoever looks at a function's parent has seen all that can take it away. And what is dom0's may not be said to be another's anew. */
static void families_have_two_generations(void **state)
{
    const u32 child = PCI_SBDF(0, 2, 0x11 << 3), second = PCI_SBDF(0, 2, 4 << 3);
    struct pci_dev *dev;

    (void)state;
    switched_on = true;
    add(CARD);
    add(second);
    assert_int_equal(pci_add_device(VIRTUAL, CARD, false), 0);
    assert_int_equal(pci_add_device(child, VIRTUAL, false), -EINVAL);
    assert_null(pci_find(child));
    assert_int_equal(pci_add_device(CARD, second, false), -EINVAL);
    assert_int_equal(pci_find(CARD)->parent, CARD);
    dev = pci_find(VIRTUAL);
    assert_int_equal(pci_add_device(VIRTUAL, VIRTUAL, false), -ENODEV);
    assert_int_equal(pci_add_device(VIRTUAL, PCI_SBDF(0, 3, 0), false), -ENODEV);
    assert_int_equal(dev->parent, CARD);
    dev->owner = 7;
    assert_int_equal(pci_add_device(VIRTUAL, second, false), -EBUSY);
    assert_int_equal(dev->parent, CARD);
    dev->owner = 0;
    assert_int_equal(pci_add_device(VIRTUAL, second, false), 0);
    assert_int_equal(dev->parent, second);
    assert_int_equal(pci_remove_device(VIRTUAL), 0);
    assert_int_equal(pci_remove_device(second), 0);
}

/* Another card is in the slot, and the domain that had the one before may have told it what to do. */
static void what_was_nobodys_is_asked_again_and_nobodys(void **state)
{
    struct pci_dev *dev;

    (void)state;
    express = true;
    add(CARD);
    dev = pci_find(CARD);
    dev->owner = 7;
    assert_int_equal(pci_remove_device(CARD), -EBUSY);
    dev->owner = DOMID_IO;
    assert_int_equal(pci_remove_device(CARD), 0);
    assert_null(pci_find(CARD));
    express = false;
    assert_ptr_equal(add(CARD), dev);
    assert_int_equal(dev->owner, DOMID_IO);
    assert_true(dev->named_by_bridge);
    dev->owner = 0;
    express = true;
    assert_int_equal(pci_add_device(CARD, CARD, true), 0);
    assert_int_equal(dev->owner, DOMID_IO);
    dev->owner = 0;
}

static void whose_the_virtual_functions_of_a_card_are(void **state)
{
    struct pci_dev *dev;

    (void)state;
    switched_on = true;
    add(CARD);
    assert_null(pci_find_others_virtual(CARD, 7));
    assert_int_equal(pci_add_device(VIRTUAL, CARD, false), 0);
    dev = pci_find(VIRTUAL);
    assert_ptr_equal(pci_find_others_virtual(CARD, 7), dev);
    assert_null(pci_find_others_virtual(CARD, 0));
    assert_null(pci_find_others_virtual(ON_BUS_0, 7));
    dev->owner = DOMID_IO;
    assert_null(pci_find_others_virtual(CARD, 7));
    dev->owner = 0;
    assert_int_equal(pci_remove_device(VIRTUAL), 0);
    assert_null(pci_find_others_virtual(CARD, 7));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_others_have_is_not_asked_again), cmocka_unit_test(what_is_dom0s_is_asked_again),
        cmocka_unit_test(who_can_take_more_numbers_is_known), cmocka_unit_test(what_is_not_there_is_not_added),
        cmocka_unit_test(a_virtual_function_is_known_by_its_parent),
        cmocka_unit_test(families_have_two_generations), cmocka_unit_test(what_was_nobodys_is_asked_again_and_nobodys),
        cmocka_unit_test(whose_the_virtual_functions_of_a_card_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
