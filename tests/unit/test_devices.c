/* Whose PCI functions are: what is given and taken back, in which order, and what is refused. */
// SOURCES: tests/unit/fake/guest_log.c tests/unit/fake/log.c common/domain/devices.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <asm/dma.h>
#include <public/domctl.h>
#include <public/errno.h>
#include <pvisor/devices.h>
#include <pvisor/domain.h>
#include <pvisor/hypercall.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include <pvisor/printk.h>
#include <pvisor/spinlock.h>
#include "fake/log.h"

void abort(void) noreturn_fn;

/* --- The machine: two functions, the first of which has made another, and a bridge; what is done to them is said in a line --- */

#define CARD   PCI_SBDF(0, 0, 3 << 3)
#define OTHER  PCI_SBDF(0, 0, 4 << 3)
#define BRIDGE PCI_SBDF(0, 0, 0)
#define MADE   PCI_SBDF(0, 0, 16 << 3)

static struct pci_dev devs[5];
static bool ari;                    /* all functions of the bus are one device's */
static unsigned looks;              /* for the card's capability of these */
static u16 acs;                     /* what functions that have the capability switch on; 0: none has it */
static u32 unsafe;
static const char *cannot;          /* what iommu_why_not() says */
static u16 command;
static int space_answer;
static char done[512];
static bool give_way;
bool preempt_needed(void) { return give_way; }
bool iommu_on;
static struct domain hardware = { .id = 0, .is_hardware = true }, taker, second;
struct domain *dom0 = &hardware;

static void tell(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(done + strlen(done), sizeof(done) - strlen(done), fmt, args);
    va_end(args);
}

void panic(const char *fmt, ...)
{
    fail_msg("%s", fmt);
    abort();
}

struct pci_dev *pci_find(u32 sbdf)
{
    for (unsigned i = 0; i < ARRAY_SIZE(devs); i++)
        if (devs[i].sbdf == sbdf)
            return &devs[i];
    return NULL;
}

struct pci_dev *pci_find_owned(u16 domid)
{
    for (unsigned i = 0; i < ARRAY_SIZE(devs); i++)
        if (devs[i].owner == domid)
            return &devs[i];
    return NULL;
}

struct pci_dev *pci_find_others_virtual(u32 parent, u16 domid)
{
    return parent == CARD && devs[3].owner != domid && devs[3].owner != DOMID_IO ? &devs[3] : NULL;
}

int pci_add_device(u32 sbdf, u32 parent, bool nobodys) { return (void)sbdf, (void)parent, (void)nobodys, -ENODEV; }
int pci_remove_device(u32 sbdf) { return (void)sbdf, -ENODEV; }
void spin_lock(spinlock_t *l) { (void)l; }
void spin_unlock(spinlock_t *l) { (void)l; }
unsigned pci_nr_virtual(u32 parent) { return parent == CARD; }
bool pci_is_unsafe(u32 sbdf) { return unsafe && sbdf == unsafe; }
bool pci_any_unsafe(void) { return unsafe; }

u16 pci_find_extended_capability(u32 sbdf, u16 id)
{
    looks += id == PCI_EXT_ACS && sbdf == CARD;
    return (acs && id == PCI_EXT_ACS) || (ari && id == PCI_EXT_ARI && !(sbdf & 0xff)) ? 0x200 : 0;
}

u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    (void)sbdf, (void)bytes;
    return reg == PCI_COMMAND ? command : reg == 0x200 + ACS_CONTROL ? acs : 0;
}

void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value)
{
    assert_true(reg == PCI_COMMAND && bytes == 2 && sbdf);
    command = (u16)value;
    tell("command %x ", value);
}

const char *iommu_why_not(u32 sbdf) { return (void)sbdf, iommu_on ? cannot : "no IOMMU is used"; }
bool iommu_remaps(void) { return true; }
struct domain *domain_get(u32 id) { return id == taker.id ? &taker : NULL; }
void domain_put(struct domain *d) { assert_ptr_equal(d, &taker); }
int iommu_move(u32 sbdf, unsigned space) { return tell("move %x to %u ", sbdf, space), 0; }
int dma_space(const struct domain *d) { return tell("space of %u ", d->id), space_answer; }
int dma_space_drop(const struct domain *d) { return tell("drop %u ", d->id), 0; }

/* Whoever maps one looks at the owner first. */
void pirq_unmap_device(struct domain *d, u32 sbdf)
{
    assert_int_not_equal(pci_find(sbdf)->owner, d->id);
    tell("unmap %u ", d->id);
}

static int setup(void **state)
{
    (void)state;
    devs[0] = (struct pci_dev){ .sbdf = CARD, .parent = CARD, .class_code = 0x020000 };
    devs[1] = (struct pci_dev){ .sbdf = OTHER, .parent = OTHER, .class_code = 0x010802 };
    devs[2] = (struct pci_dev){ .sbdf = BRIDGE, .parent = BRIDGE, .class_code = 0x060000 };
    devs[3] = (struct pci_dev){ .sbdf = MADE, .parent = CARD, .class_code = 0x020000, .owner = DOMID_IO };
    devs[4] = (struct pci_dev){ .sbdf = ~0u, .owner = DOMID_IO };
    acs = 0;
    ari = false;
    taker = (struct domain){ .id = 5, .createflags = XEN_DOMCTL_CDF_iommu };
    second = (struct domain){ .id = 6, .createflags = XEN_DOMCTL_CDF_iommu };
    iommu_on = true;
    unsafe = 0;
    cannot = NULL;
    command = 7;
    space_answer = 2;
    done[0] = '\0';
    log_clear();
    return 0;
}

static void did(const char *what)
{
    assert_string_equal(done, what);
    done[0] = '\0';
}

/* --- Tests --- */

static void a_function_goes_from_hand_to_hand(void **state)
{
    (void)state;
    assert_int_equal(device_assign(NULL, CARD), 0);
    did("move 18 to 1 unmap 0 ");
    assert_int_equal(devs[0].owner, DOMID_IO);
    assert_int_equal(device_assign(&taker, CARD), 0);
    did("space of 5 move 18 to 2 unmap 0 ");
    assert_int_equal(devs[0].owner, 5);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    did("command 3 move 18 to 1 unmap 5 ");
    assert_int_equal(device_deassign(NULL, CARD), 0);
    did("move 18 to 0 ");
    assert_int_equal(devs[0].owner, 0);
}

static void what_one_has_no_other_gets(void **state)
{
    (void)state;
    assert_int_equal(device_test(CARD), 0);
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_test(CARD), -EBUSY);
    assert_int_equal(device_assign(&second, CARD), -EBUSY);
    assert_int_equal(device_assign(NULL, CARD), -EBUSY);
    assert_int_equal(device_deassign(&second, CARD), -ENODEV);
    assert_int_equal(device_deassign(NULL, CARD), -ENODEV);
    assert_int_equal(devs[0].owner, 5);
}

static void some_are_not_given(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, BRIDGE), -EOPNOTSUPP);
    assert_int_equal(device_assign(&taker, PCI_SBDF(0, 9, 0)), -ENODEV);
    cannot = "for a reason";
    assert_int_equal(device_assign(&taker, CARD), -EOPNOTSUPP);
    assert_non_null(strstr(log_text, "cannot be given away: for a reason"));
    cannot = NULL;
    devs[0].hidden = true;
    assert_int_equal(device_assign(&taker, CARD), -EOPNOTSUPP);
    devs[0].hidden = false;
    taker.arch.logging = true;      /* a device's writes would be missed: asm/dirty.h */
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    taker.arch.logging = false;
    devs[0].nr_msix = 1;
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    did("");
}

static void some_do_not_get_any(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&hardware, CARD), -EINVAL);
    taker.createflags = 0;
    assert_int_equal(device_assign(&taker, CARD), -EINVAL);
    second.dying = DOMAIN_DYING;
    assert_int_equal(device_assign(&second, CARD), -EINVAL);
    assert_int_equal(device_deassign(&hardware, CARD), -EINVAL);
    did("");
    assert_int_equal(devs[0].owner, 0);
}

/* The call is made again, or fails, and the function is where it was. */
static void a_space_may_take_time_or_not_be_had(void **state)
{
    (void)state;
    space_answer = -ERESTART_HYPERCALL;
    assert_int_equal(device_assign(&taker, CARD), -ERESTART_HYPERCALL);
    space_answer = -ENOMEM;
    assert_int_equal(device_assign(&taker, CARD), -ENOMEM);
    did("space of 5 space of 5 ");
    assert_int_equal(devs[0].owner, 0);
}

static void the_end_takes_all_back(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_assign(&taker, OTHER), 0);
    done[0] = '\0';
    give_way = true;
    assert_int_equal(devices_release(&taker), -ERESTART_HYPERCALL);
    did("command 3 move 18 to 1 unmap 5 ");
    give_way = false;
    assert_int_equal(devices_release(&taker), 0);
    did("command 3 move 20 to 1 unmap 5 drop 5 ");
    assert_true(devs[0].owner == DOMID_IO && devs[1].owner == DOMID_IO);
    assert_int_equal(devices_release(&second), 0);
    did("drop 6 ");
}

/* Without an IOMMU: off, but for what is named, and that is said. It can at least not write once it is taken back. */
static void without_an_iommu(void **state)
{
    (void)state;
    iommu_on = false;
    assert_false(devices_can_be_given());
    devices_say();
    assert_non_null(strstr(log_text, "PCI devices cannot be given to domains"));
    assert_int_equal(device_assign(&taker, CARD), -EOPNOTSUPP);
    unsafe = CARD;
    log_clear();
    assert_true(devices_can_be_given());
    devices_say();
    assert_non_null(strstr(log_text, "ALL memory of this machine"));
    assert_null(strstr(log_text, "cannot be given"));
    assert_int_equal(device_assign(&taker, OTHER), -EOPNOTSUPP);
    assert_int_equal(device_assign(&taker, CARD), 0);
    did("unmap 0 ");
    assert_non_null(strstr(log_text, "domain 5 can read and write ALL memory through it"));
    assert_int_equal(devices_release(&taker), 0);
    did("command 3 unmap 5 drop 5 ");
}

/* An IOMMU is in use that cannot keep this one: what is named stays in dom0's space, whose tables reach all. */
static void one_that_the_iommu_cannot_keep(void **state)
{
    (void)state;
    cannot = "its requests can have numbers that are no function's (phantom functions)";
    assert_int_equal(device_assign(NULL, CARD), -EOPNOTSUPP);
    assert_int_equal(device_assign(&taker, CARD), -EOPNOTSUPP);
    assert_int_equal(devs[0].owner, 0);
    assert_non_null(strstr(log_text, "0000:00:03.0 cannot be given away: its requests can have numbers"));
    unsafe = CARD;
    assert_int_equal(device_assign(&taker, CARD), 0);
    did("unmap 0 ");
    assert_non_null(strstr(log_text, "domain 5 can read and write ALL memory through it (pci-unsafe; its requests can have numbers"));
}

/* It was pulled, or powered off, and all that is read of it is ones: it must not stay where the domain's tables were. */
static void one_that_answers_no_more_is_taken_back(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    did("space of 5 move 18 to 2 unmap 0 ");
    cannot = "the IOMMU cannot tell it from others";
    command = 0xffff;
    assert_int_equal(devices_release(&taker), 0);
    did("command 0 move 18 to 1 unmap 5 drop 5 ");
    assert_int_equal(device_deassign(NULL, CARD), 0);
    did("move 18 to 0 ");
    /* In dom0's space it can be asked. */
    assert_int_equal(device_assign(&taker, CARD), -EOPNOTSUPP);
    did("");
}

/* The second domain could be reset by the first. */
static void a_card_and_what_it_makes_are_one_domains(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&second, MADE), 0);
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    assert_non_null(strstr(log_text, "0000:00:03.0 cannot be domain 5's: 0000:00:10.0, which it makes, is domain 6's"));
    assert_int_equal(devs[0].owner, 0);
    assert_int_equal(device_assign(&second, CARD), 0);
    assert_int_equal(device_deassign(&second, MADE), 0);
    log_clear();
    assert_int_equal(device_assign(&taker, MADE), -EBUSY);
    assert_non_null(strstr(log_text, "0000:00:10.0 cannot be domain 5's: 0000:00:03.0, which makes it, is domain 6's"));
    assert_int_equal(devs[3].owner, DOMID_IO);
    assert_int_equal(device_assign(&second, MADE), 0);
}

/* It manages everybody's devices; and its own are not to be reset by others either. */
static void what_dom0_keeps_of_a_card(void **state)
{
    (void)state;
    devs[3].owner = 0;
    assert_int_equal(device_assign(&taker, CARD), -EBUSY);
    assert_non_null(strstr(log_text, "0000:00:10.0, which it makes, is domain 0's"));
    assert_int_equal(device_assign(&taker, MADE), 0);
    assert_int_equal(device_assign(NULL, CARD), 0);
    assert_int_equal(device_deassign(&taker, MADE), 0);
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_deassign(NULL, MADE), -EBUSY);
    assert_int_equal(devs[3].owner, DOMID_IO);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    assert_int_equal(device_deassign(NULL, MADE), 0);
}

/* The card has another function, which is dom0's, nobody's or the domain's. */
static void functions_of_one_device_may_reach_each_other(void **state)
{
    static const u16 owner[] = { 0, DOMID_IO, 5, 0, 0 }, redirected[] = { 0, 0, 0, ACS_REDIRECTS, 4 };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(owner); i++) {
        devs[4] = (struct pci_dev){ .sbdf = CARD | 1, .parent = CARD | 1, .owner = owner[i] };
        acs = redirected[i];
        log_clear();
        assert_int_equal(device_assign(&taker, CARD), 0);
        assert_int_equal(!strstr(log_text, "0000:00:03.0: domain 5 may reach 0000:00:03.1 by it, which is domain 0's"), i && i < 4);
        assert_int_equal(device_deassign(&taker, CARD), 0);
    }
    devs[4] = (struct pci_dev){ .sbdf = CARD | 1, .parent = CARD };
    acs = 0;
    log_clear();
    assert_int_equal(device_assign(&taker, CARD | 1), 0);
    assert_null(strstr(log_text, "may reach"));
}

/* Of 256 functions; what the bridge and the other card are here. Who has ACS is asked once. */
static void all_functions_of_a_bus_may_be_one_devices(void **state)
{
    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_null(strstr(log_text, "may reach"));
    assert_int_equal(device_deassign(&taker, CARD), 0);
    devs[4] = (struct pci_dev){ .sbdf = CARD | 1, .parent = CARD | 1 };
    ari = true;
    acs = ACS_REDIRECTS;
    looks = 0;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_null(strstr(log_text, "may reach"));
    assert_int_equal(looks, 1);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    acs = 0;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_non_null(strstr(log_text, "0000:00:03.0: domain 5 may reach 0000:00:03.1 by it, which is domain 0's"));
    assert_non_null(strstr(log_text, "0000:00:03.0: domain 5 may reach 0000:00:04.0 by it, which is domain 0's"));
}

/* A domain keeps what it has mapped; after its end nobody has it. */
static void who_had_one_may_still_reach_its_registers(void **state)
{
    const char *line = "0000:00:03.0: domain 5, which had it, keeps what it has mapped";

    (void)state;
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    assert_int_equal(device_assign(&taker, CARD), 0);
    assert_int_equal(device_deassign(&taker, CARD), 0);
    assert_null(strstr(log_text, "which had it"));
    assert_int_equal(device_deassign(NULL, CARD), 0);
    assert_non_null(strstr(log_text, line));
    log_clear();
    assert_int_equal(device_assign(&second, CARD), 0);
    assert_non_null(strstr(log_text, line));
    assert_int_equal(devices_release(&second), 0);
    log_clear();
    taker.dying = DOMAIN_DYING;
    assert_int_equal(device_deassign(NULL, CARD), 0);
    assert_null(strstr(log_text, "which had it"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_function_goes_from_hand_to_hand, setup), cmocka_unit_test_setup(what_one_has_no_other_gets, setup),
        cmocka_unit_test_setup(some_are_not_given, setup), cmocka_unit_test_setup(some_do_not_get_any, setup),
        cmocka_unit_test_setup(a_space_may_take_time_or_not_be_had, setup), cmocka_unit_test_setup(the_end_takes_all_back, setup),
        cmocka_unit_test_setup(without_an_iommu, setup),
        cmocka_unit_test_setup(one_that_the_iommu_cannot_keep, setup),
        cmocka_unit_test_setup(one_that_answers_no_more_is_taken_back, setup),
        cmocka_unit_test_setup(a_card_and_what_it_makes_are_one_domains, setup), cmocka_unit_test_setup(what_dom0_keeps_of_a_card, setup),
        cmocka_unit_test_setup(functions_of_one_device_may_reach_each_other, setup),
        cmocka_unit_test_setup(all_functions_of_a_bus_may_be_one_devices, setup),
        cmocka_unit_test_setup(who_had_one_may_still_reach_its_registers, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
