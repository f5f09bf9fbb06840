/* MSI messages, and what dom0 may write to the capabilities that the hypervisor programs. */
// SOURCES: arch/x86/irq/msi_message.c drivers/pci/guest.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <arch/x86/irq/internal.h>
#include <pvisor/domain.h>
#include <pvisor/lib.h>

static u8 config[4096];
static struct pci_dev device = { .sbdf = PCI_SBDF(0, 0, 3 << 3), .msi_cap = 0x50, .msix_cap = 0x70 };
static u32 hidden_sbdf;
static struct domain dom = { .is_hardware = true };

struct pci_dev *pci_find(u32 sbdf) { return sbdf == device.sbdf ? &device : NULL; }
bool pci_is_hidden(u32 sbdf) { return sbdf == hidden_sbdf; }

u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    u32 v = ~0u;

    assert_true(reg + bytes <= sizeof(config));
    if (sbdf == device.sbdf) {
        v = 0;
        memcpy(&v, config + reg, bytes);
    }
    return v;
}

void pci_write(u32 sbdf, unsigned reg, unsigned bytes, u32 value)
{
    assert_true(reg + bytes <= sizeof(config));
    if (sbdf == device.sbdf)
        memcpy(config + reg, &value, bytes);
}

static int reset(void **state)
{
    (void)state;
    memset(config, 0, sizeof(config));
    device.nr_msi = device.nr_msix = 0;
    hidden_sbdf = ~0u;
    dom.is_hardware = true;
    pci_conf_port_write(&dom, 0xcf8, 4, 1u << 31 | 3 << 11);
    return 0;
}

static void select_reg(unsigned reg)
{
    pci_conf_port_write(&dom, 0xcf8, 4, 1u << 31 | 3 << 11 | (reg & 0xfc) | (reg & 0xf00) << 16);
}

static void composes_messages(void **state)
{
    struct msi_message m = msi_compose(5, 0x41);

    (void)state;
    assert_int_equal(m.address, 0xfee05000);
    assert_int_equal(m.data, 0x41);
}

static void latch_reads_back(void **state)
{
    (void)state;
    select_reg(0x40);
    assert_int_equal(pci_conf_port_read(&dom, 0xcf8, 4), 1u << 31 | 3 << 11 | 0x40);
    pci_conf_port_write(&dom, 0xcfc, 4, 0x12345678);
    assert_int_equal(pci_conf_port_read(&dom, 0xcfe, 2), 0x1234);
    assert_int_equal(pci_conf_port_read(&dom, 0xcfd, 1), 0x56);
    assert_int_equal(pci_conf_port_read(&dom, 0xcfe, 4), 0xffffffff);   /* crosses the register's end */
    select_reg(0x140);
    pci_conf_port_write(&dom, 0xcfc, 1, 0x77);
    assert_int_equal(config[0x140], 0x77);
}

static void shows_nothing_to_others(void **state)
{
    (void)state;
    select_reg(0);
    hidden_sbdf = device.sbdf;
    assert_int_equal(pci_conf_port_read(&dom, 0xcfc, 2), 0xffff);
    pci_conf_port_write(&dom, 0xcfc, 2, 1);
    assert_int_equal(config[0], 0);
    hidden_sbdf = ~0u;
    dom.is_hardware = false;
    assert_int_equal(pci_conf_port_read(&dom, 0xcfc, 4), 0xffffffff);
}

static void passes_what_we_do_not_use(void **state)
{
    (void)state;
    select_reg(0x54);
    pci_conf_port_write(&dom, 0xcfc, 4, 0xfee00000);
    assert_int_equal(pci_read(device.sbdf, 0x54, 4), 0xfee00000);
}

static void keeps_messages_of_ours(void **state)
{
    (void)state;
    device.nr_msi = 1;
    config[0x52] = 0x80;
    select_reg(0x54);
    pci_conf_port_write(&dom, 0xcfc, 4, 0xdeadbeef);
    assert_int_equal(pci_read(device.sbdf, 0x54, 4), 0);
    select_reg(0x50);
    pci_conf_port_write(&dom, 0xcfe, 2, 0xff71);
    assert_int_equal(pci_read(device.sbdf, 0x52, 2), 0x81);      /* the enable bit alone */
    pci_conf_port_write(&dom, 0xcfc, 4, 0);
    assert_int_equal(pci_read(device.sbdf, 0x50, 4), 0x800000);
    pci_conf_port_write(&dom, 0xcfe, 1, 1);
    assert_int_equal(pci_read(device.sbdf, 0x52, 2), 0x81);
    select_reg(0x68);
    pci_conf_port_write(&dom, 0xcfc, 1, 9);                      /* behind the capability */
    assert_int_equal(config[0x68], 9);
}

static void leaves_msix_enable_bits(void **state)
{
    (void)state;
    device.nr_msix = 3;
    config[0x72] = 0x1f;
    select_reg(0x70);
    pci_conf_port_write(&dom, 0xcfe, 2, 0xc000);
    assert_int_equal(pci_read(device.sbdf, 0x72, 2), 0xc01f);
    pci_conf_port_write(&dom, 0xcff, 1, 0x80);
    assert_int_equal(pci_read(device.sbdf, 0x72, 2), 0x801f);
    select_reg(0x74);
    pci_conf_port_write(&dom, 0xcfc, 4, 3);
    assert_int_equal(config[0x74], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(composes_messages),
        cmocka_unit_test_setup(latch_reads_back, reset),
        cmocka_unit_test_setup(shows_nothing_to_others, reset),
        cmocka_unit_test_setup(passes_what_we_do_not_use, reset),
        cmocka_unit_test_setup(keeps_messages_of_ours, reset),
        cmocka_unit_test_setup(leaves_msix_enable_bits, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
