/* Functions that dom0 finds and loses, while others change hands on another CPU: whose they are then. test_devices.c has how they do. */
// SOURCES: tests/unit/fake/guest_log.c tests/unit/fake/log.c common/domain/devices.c drivers/pci/devices.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <asm/dma.h>
#include <public/domctl.h>
#include <public/errno.h>
#include <pvisor/console.h>
#include <pvisor/devices.h>
#include <pvisor/domain.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "fake/log.h"

void *calloc(size_t n, size_t size);
void abort(void) noreturn_fn;

/* --- The machine: a card and a function that it makes, which answer; the other CPU, which waits for locks as it must --- */

#define CARD    PCI_SBDF(0, 1, 0)
#define VIRTUAL PCI_SBDF(0, 1, 16 << 3)
#define SRIOV   0x160

static struct domain hardware = { .id = 0, .is_hardware = true }, taker;
struct domain *dom0 = &hardware;
bool iommu_on = true;
static int space_of_virtual;
static bool no_memory, is_locked;
static u16 has_made;                /* so many functions the card has, by its own word, while that is not 0 */
static void (*other_cpu)(void);     /* what it does as soon as it can, once */

static void let_other_cpu(void)
{
    void (*does)(void) = other_cpu;

    if (is_locked || !does)
        return;
    other_cpu = NULL;
    does();
}

void spin_lock(spinlock_t *l)
{
    assert_false(is_locked && l->rank == RANK_DEVICES);
    is_locked |= l->rank == RANK_DEVICES;
}

void spin_unlock(spinlock_t *l)
{
    is_locked &= l->rank != RANK_DEVICES;
    let_other_cpu();
}

u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    let_other_cpu();
    if (sbdf == CARD && has_made && reg >= SRIOV)
        return reg == SRIOV + SRIOV_CONTROL ? SRIOV_CONTROL_ON : reg == SRIOV + SRIOV_NUMBER ? has_made : 0;
    return sbdf == VIRTUAL && reg == PCI_VENDOR_ID ? ~0u >> (32 - 8 * bytes) : reg == PCI_CLASS_REVISION ? 0x02000000 : 0;
}

int dma_space(const struct domain *d)
{
    (void)d;
    let_other_cpu();
    return SPACE_FIRST_DOMU;
}

int iommu_move(u32 sbdf, unsigned space)
{
    if (no_memory)
        return -ENOMEM;
    if (sbdf == VIRTUAL)
        space_of_virtual = (int)space;
    return 0;
}

void pirq_unmap_device(struct domain *d, u32 sbdf)
{
    struct pci_dev *dev;

    list_for_each(dev, &pci_devices, link)
        if (dev->sbdf == sbdf && d == dom0)
            dev->nr_msi = 0;
}

void panic(const char *fmt, ...)
{
    fail_msg("%s", fmt);
    abort();
}

void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value) { (void)sbdf, (void)reg, (void)bytes, (void)value; }
u8 pci_find_capability(u32 sbdf, u8 id) { return (void)sbdf, id == PCI_CAP_EXPRESS ? 0x40 : 0; }
u16 pci_find_extended_capability(u32 sbdf, u16 id) { return sbdf == CARD && id == PCI_EXT_SRIOV ? SRIOV : 0; }
void pci_map_bus(u32 sbdf) { (void)sbdf; }
bool preempt_needed(void) { return false; }
const char *iommu_why_not(u32 sbdf) { return pci_find(sbdf) ? NULL : "it is not there"; }
bool iommu_remaps(void) { return true; }
struct domain *domain_get(u32 id) { return (void)id, NULL; }
void domain_put(struct domain *d) { (void)d; }
int dma_space_drop(const struct domain *d) { return (void)d, 0; }
void *xzalloc_bytes(size_t size) { return calloc(1, size); }
void debug_key_register(char key, void (*fn)(char key, struct cpu_regs *regs), const char *what) { (void)key, (void)fn, (void)what; }
u64 strtoull(const char *s, const char **end, unsigned base) { return *end = s, base; }
char *strchr(const char *s, int c) { return *s == c ? (char *)s : NULL; }

static int setup(void **state)
{
    (void)state;
    list_init(&pci_devices);
    taker = (struct domain){ .id = 5, .createflags = XEN_DOMCTL_CDF_iommu };
    no_memory = false;
    has_made = 0;
    other_cpu = NULL;
    space_of_virtual = SPACE_DOM0;
    assert_int_equal(device_found(CARD, CARD), 0);
    log_clear();
    return 0;
}

static u16 owner(u32 sbdf) { return pci_find(sbdf)->owner; }

/* --- Tests --- */

static void what_anothers_card_makes_is_nobodys(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(owner(VIRTUAL), DOMID_IO);
    assert_int_equal(space_of_virtual, SPACE_NOBODY);
    assert_non_null(strstr(log_text, "0000:01:10.0 cannot be domain 0's: 0000:01:00.0, which makes it, is domain 5's"));
    assert_non_null(strstr(log_text, "0000:01:10.0 is nobody's"));
    assert_int_equal(device_deassign(NULL, VIRTUAL), -EBUSY);
    assert_int_equal(device_assign(&taker, VIRTUAL), 0);
    assert_int_equal(devices_release(&taker), 0);
    assert_int_equal(device_deassign(NULL, VIRTUAL), 0);
    assert_int_equal(owner(VIRTUAL), 0);
    assert_int_equal(space_of_virtual, SPACE_DOM0);
}

/* dom0 lost it before it gave the card away, which that did not hinder. */
static void what_was_dom0s_before_is_no_exception(void **state)
{
    (void)state;
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(owner(VIRTUAL), 0);
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    assert_int_equal(device_lost(VIRTUAL), 0);
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(owner(VIRTUAL), DOMID_IO);
    assert_int_equal(space_of_virtual, SPACE_NOBODY);
}

static void what_dom0s_or_nobodys_card_makes_is_dom0s(void **state)
{
    (void)state;
    assert_int_equal(device_assign(NULL, CARD), 0);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(owner(VIRTUAL), 0);
}

static int assigned;
static void assign_card(void) { assigned = device_assign(&taker, CARD); }
static void find_virtual(void) { assert_int_equal(device_found(VIRTUAL, CARD), 0); }

/* Whichever came first, dom0 has no function of a domU's card. */
static void a_card_that_changes_hands_meanwhile(void **state)
{
    (void)state;
    other_cpu = assign_card;
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_null(other_cpu);
    assert_int_equal(owner(VIRTUAL), 0);
    assert_int_equal(assigned, -EBUSY);
    assert_int_equal(device_lost(VIRTUAL), 0);
    other_cpu = find_virtual;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_null(other_cpu);
    assert_int_equal(owner(VIRTUAL), DOMID_IO);
}

/* Such have dom0's tables, and who has the card might tell them what to do. */
static void a_card_with_functions_that_dom0_has_not_found(void **state)
{
    (void)state;
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(device_assign(NULL, VIRTUAL), 0);
    has_made = 2;
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    assert_non_null(strstr(log_text, "0000:01:00.0 cannot be domain 5's: it has made virtual functions that dom0 has not found"));
    has_made = 1;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    assert_int_equal(device_lost(VIRTUAL), 0);
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
}

/* It would be in dom0's space: so it is not there. */
static void without_memory_for_the_quarantine(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    no_memory = true;
    assert_int_equal(device_found(VIRTUAL, CARD), -ENOMEM);
    assert_null(pci_find(VIRTUAL));
    no_memory = false;
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(space_of_virtual, SPACE_NOBODY);
}

static void what_dom0_loses(void **state)
{
    struct pci_dev *dev;

    (void)state;
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    dev = pci_find(VIRTUAL);
    dev->nr_msi = 1;
    assert_int_equal(device_lost(VIRTUAL), 0);
    assert_int_equal(dev->nr_msi, 0);
    assert_int_equal(device_lost(VIRTUAL), -ENODEV);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(device_assign(&taker, VIRTUAL), 0);
    assert_int_equal(device_lost(VIRTUAL), -EBUSY);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);       /* dom0's look at all buses finds it where it is */
    assert_int_equal(owner(VIRTUAL), 5);
    assert_int_equal(devices_release(&taker), 0);
    assert_int_equal(device_lost(VIRTUAL), 0);
    assert_int_equal(device_found(VIRTUAL, CARD), 0);
    assert_int_equal(owner(VIRTUAL), DOMID_IO);
    assert_int_equal(device_deassign(NULL, VIRTUAL), 0);
    assert_int_equal(owner(VIRTUAL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_anothers_card_makes_is_nobodys, setup),
        cmocka_unit_test_setup(what_was_dom0s_before_is_no_exception, setup),
        cmocka_unit_test_setup(what_dom0s_or_nobodys_card_makes_is_dom0s, setup),
        cmocka_unit_test_setup(a_card_that_changes_hands_meanwhile, setup),
        cmocka_unit_test_setup(a_card_with_functions_that_dom0_has_not_found, setup),
        cmocka_unit_test_setup(without_memory_for_the_quarantine, setup), cmocka_unit_test_setup(what_dom0_loses, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
