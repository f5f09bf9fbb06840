/* DMAR and IVRS tables made up here, whole and broken: a broken one leaves no IOMMU, and a line says where it is broken and why. */
// SOURCES: tests/unit/fake/log.c drivers/iommu/firmware.c drivers/iommu/dmar.c drivers/iommu/ivrs.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pvisor/acpi.h>
#include <pvisor/iommu.h>
#include <pvisor/lib.h>
#include <pvisor/pci.h>
#include "fake/log.h"

void *malloc(size_t size);
void free(void *p);

static u8 table[4096], *exact;      /* exact: a copy with no byte more than the length says, so that the sanitizer sees a read behind */
static u32 length;

const void *acpi_find_table(const char *signature, unsigned nth)
{
    return exact && !nth && !memcmp(exact, signature, 4) ? exact : NULL;
}

/* 00:1c.0 is a bridge to buses 2 to 4, 02:00.0 one to bus 3; 00:1d.0 one without buses. */
u32 pci_read(u32 sbdf, unsigned reg, unsigned bytes)
{
    (void)bytes;
    if (sbdf != PCI_SBDF(0, 0, 0xe0) && sbdf != PCI_SBDF(0, 2, 0) && sbdf != PCI_SBDF(0, 0, 0xe8))
        return 0;
    if (reg == PCI_HEADER_TYPE)
        return 0x81;
    if (sbdf == PCI_SBDF(0, 0, 0xe8))
        return 0;
    return sbdf == PCI_SBDF(0, 2, 0) ? 3 : reg == 0x19 ? 2 : 4;
}

static void put(const void *bytes, u32 n)
{
    memcpy(table + length, bytes, n);
    length += n;
}
#define PUT(...) do { static const u8 bytes_[] = { __VA_ARGS__ }; put(bytes_, sizeof(bytes_)); } while (0)

static void start(const char *signature)
{
    memset(table, 0, sizeof(table));
    memcpy(table, signature, 4);
    length = 48;
    log_clear();
}

static void read_now(void)
{
    memcpy(table + 4, &length, 4);
    free(exact);
    exact = malloc(length);
    memcpy(exact, table, length);
    iommu_read_firmware();
}

static void refused(const char *why)
{
    read_now();
    assert_int_equal(iommu_info.maker, IOMMU_NONE);
    assert_int_equal(iommu_info.nr_units + iommu_info.nr_scopes + iommu_info.nr_regions, 0);
    assert_null(iommu_unit_of(0));
    if (!strstr(log_text, why))
        fail_msg("the log has no \"%s\", but: %s", why, log_text);
}

/* --- DMAR ---------------------------------------------------------------------------------------------------- */

#define DRHD(size, flags, page) 0, 0, size, 0, flags, 0, 0, 0, 0, page, 0xd9, 0xfe, 0, 0, 0, 0
#define RMRR(size, first, last) 1, 0, size, 0, 0, 0, 0, 0, 0, first, 0, 0x10, 0, 0, 0, 0, 0xff, last, 0, 0x10, 0, 0, 0, 0

static void reads_vtd_units(void **state)
{
    (void)state;
    start("DMAR");
    table[36] = 38;
    table[37] = 3;
    PUT(DRHD(24, 0, 0x00), 1, 8, 0, 0, 0, 0, 2, 0);
    PUT(DRHD(32, 1, 0x10), 3, 8, 0, 0, 7, 0xf0, 0x1f, 0, 4, 8, 0, 0, 1, 0xf0, 0x0f, 0);
    PUT(2, 0, 8, 0, 0, 0, 0, 0);                                /* a type that says nothing to us */
    PUT(RMRR(32, 0x00, 0x1f), 1, 8, 0, 0, 0, 0, 0x1d, 0);
    read_now();
    assert_int_equal(iommu_info.maker, IOMMU_VTD);
    assert_int_equal(iommu_info.address_bits, 39);
    assert_true(iommu_info.remaps_interrupts && iommu_info.x2apic_opt_out);
    assert_int_equal(iommu_info.nr_units, 2);
    assert_int_equal(iommu_info.nr_scopes, 3);
    assert_int_equal(iommu_unit_of(PCI_SBDF(0, 0, 0x10))->registers.v, 0xfed90000);
    assert_int_equal(iommu_unit_of(PCI_SBDF(0, 0, 0x18))->registers.v, 0xfed91000);
    assert_null(iommu_unit_of(PCI_SBDF(1, 0, 0x10)));
    assert_int_equal(iommu_info.scopes[1].kind, IOMMU_IOAPIC);
    assert_int_equal(iommu_info.scopes[1].id, 7);
    assert_int_equal(iommu_info.scopes[1].first, 0xf0f8);
    assert_int_equal(iommu_info.scopes[2].kind, IOMMU_HPET);
    assert_int_equal(iommu_info.nr_regions, 1);
    assert_int_equal(iommu_info.regions[0].start.v, 0x10000000);
    assert_int_equal(iommu_info.regions[0].end.v, 0x10002000);
    assert_int_equal(iommu_info.regions[0].first, 0xe8);
}

static void follows_bridges(void **state)
{
    (void)state;
    start("DMAR");
    PUT(DRHD(54, 0, 0x00), 1, 12, 0, 0, 0, 0, 0x1c, 0, 0, 0, 5, 1, 2, 8, 0, 0, 0, 0, 0x1c, 0,   /* 00:1c.0 > 02:00.0 > 03:05.1; a bridge */
        1, 10, 0, 0, 0, 0, 0x1e, 0, 1, 0, 5, 8, 0, 0, 0, 0, 9, 0);                              /* behind no bridge; a kind unknown */
    read_now();
    assert_int_equal(iommu_info.maker, IOMMU_VTD);
    assert_int_equal(iommu_info.nr_scopes, 3);
    assert_int_equal(iommu_info.scopes[0].first, 0x0329);
    assert_int_equal(iommu_info.scopes[1].first, 0x00e0);
    assert_int_equal(iommu_info.scopes[2].first, 0x0200);
    assert_int_equal(iommu_info.scopes[2].last, 0x04ff);
    assert_non_null(strstr(log_text, "behind 0000:00:1e.0, which is no bridge with buses"));
}

/* Such a bridge names itself alone, and not all of bus 0, which another unit has. */
static void takes_no_bus_of_a_bridge_without(void **state)
{
    (void)state;
    start("DMAR");
    PUT(DRHD(34, 0, 0x00), 2, 8, 0, 0, 0, 0, 0x1d, 0, 1, 10, 0, 0, 0, 0, 0x1d, 0, 3, 0);
    PUT(DRHD(24, 0, 0x10), 1, 8, 0, 0, 0, 0, 2, 0);
    read_now();
    assert_int_equal(iommu_info.nr_units, 2);
    assert_int_equal(iommu_info.nr_scopes, 2);
    assert_int_equal(iommu_info.scopes[0].last, 0x00e8);
    assert_int_equal(iommu_unit_of(0x10)->registers.v, 0xfed91000);
}

static void refuses_broken_dmar(void **state)
{
    (void)state;
    start("DMAR");
    refused("offset 0: it names no unit");
    start("DMAR");
    length = 40;
    refused("shorter than its header");
    start("DMAR");
    PUT(0, 0, 0, 0);
    refused("offset 48: a block's length makes no sense");
    start("DMAR");
    PUT(DRHD(16, 1, 0), 0, 0);
    refused("offset 64: a block's length makes no sense");
    start("DMAR");
    PUT(DRHD(17, 1, 0));
    refused("offset 48: a block's length makes no sense");
    start("DMAR");
    PUT(0, 0, 8, 0, 0, 0, 0, 0);
    refused("a block is shorter than its type");
    start("DMAR");
    PUT(DRHD(16, 0, 0x01));
    refused("at no proper address");
    start("DMAR");
    PUT(DRHD(16, 0, 0x00), DRHD(16, 1, 0x00));
    refused("offset 64: two units have the same registers");
    start("DMAR");
    PUT(DRHD(16, 1, 0x00), DRHD(16, 1, 0x10));
    refused("two units are for all other functions");
    start("DMAR");
    PUT(DRHD(24, 0, 0x00), 1, 8, 0, 0, 0, 0, 2, 0, DRHD(24, 0, 0x10), 1, 8, 0, 0, 0, 0, 2, 0);
    refused("a function is behind two units");
}

static void refuses_broken_scopes(void **state)
{
    (void)state;
    start("DMAR");
    PUT(DRHD(24, 0, 0x00), 1, 6, 0, 0, 0, 0, 2, 0);
    refused("offset 64: a device scope's length makes no sense");
    start("DMAR");
    PUT(DRHD(24, 0, 0x00), 1, 10, 0, 0, 0, 0, 2, 0);
    refused("a device scope's length makes no sense");
    start("DMAR");
    PUT(DRHD(25, 0, 0x00), 1, 9, 0, 0, 0, 0, 2, 0, 0);
    refused("a device scope's length makes no sense");
    start("DMAR");
    PUT(DRHD(16, 1, 0x00), RMRR(32, 0x00, 0x0e), 1, 8, 0, 0, 0, 0, 2, 0);
    refused("no whole number of pages");
    start("DMAR");
    PUT(DRHD(16, 1, 0x00), RMRR(32, 0x20, 0x0f), 1, 8, 0, 0, 0, 0, 2, 0);
    refused("no whole number of pages");
}

static void refuses_too_many_units(void **state)
{
    (void)state;
    start("DMAR");
    for (u8 n = 0; n <= IOMMU_MAX_UNITS; n++) {
        u8 unit[] = { DRHD(16, 0, 0x00) };

        unit[9] = (u8)(n << 4);
        unit[10] = (u8)(0xd0 + (n >> 4));
        put(unit, sizeof(unit));
    }
    refused("more units than there is room for");
}

/* --- IVRS ---------------------------------------------------------------------------------------------------- */

#define IVHD(type, size, page) type, 0, size, 0, 2, 0, 0x40, 0, 0, page, 0xd8, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define MORE_OF_11 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
#define IVMD(type, from, to, page, bytes) \
    type, 0, 32, 0, from, 0, to, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, page, 0, 0x10, 0, 0, 0, 0, 0, bytes, 0, 0, 0, 0, 0, 0

static void reads_amd_units(void **state)
{
    (void)state;
    start("IVRS");
    table[37] = 52;
    PUT(IVHD(0x10, 28, 0x00), 1, 0, 0, 0);                      /* the same unit, told in the old way: everything */
    PUT(IVHD(0x11, 72, 0x00), MORE_OF_11, 2, 0x10, 0, 0, 3, 0x20, 0, 0, 4, 0x2f, 0, 0,
        66, 0x30, 0, 0, 0, 0x38, 0, 0, 72, 0, 0, 0xd7, 5, 0xa0, 0, 1, 0, 0, 0, 0);
    PUT(IVMD(0x22, 0x20, 0x27, 0x00, 0x20), IVMD(0x20, 0, 0, 0x40, 0x10));
    read_now();
    assert_int_equal(iommu_info.maker, IOMMU_AMD);
    assert_int_equal(iommu_info.address_bits, 52);
    assert_int_equal(iommu_info.nr_units, 1);
    assert_int_equal(iommu_info.nr_scopes, 4);
    assert_non_null(iommu_unit_of(0x25));
    assert_null(iommu_unit_of(0x11));
    assert_true(iommu_info.scopes[2].has_alias);
    assert_int_equal(iommu_info.scopes[2].alias, 0x38);
    assert_int_equal(iommu_info.scopes[3].kind, IOMMU_IOAPIC);
    assert_int_equal(iommu_info.scopes[3].id, 5);
    assert_int_equal(iommu_info.scopes[3].passes, 0xd7);
    assert_int_equal(iommu_info.scopes[3].first, 0xa0);
    assert_int_equal(iommu_info.nr_regions, 2);
    assert_int_equal(iommu_info.regions[0].last, 0x27);
    assert_int_equal(iommu_info.regions[0].end.v, 0x10002000);
    assert_int_equal(iommu_info.regions[1].last, 0xffff);
}

static void refuses_broken_ivrs(void **state)
{
    (void)state;
    start("IVRS");
    PUT(IVHD(0x10, 28, 0x00), 4, 0, 0, 0);
    refused("offset 72: a range of devices has no start");
    start("IVRS");
    PUT(IVHD(0x10, 28, 0x00), 3, 0, 0, 0);
    refused("a range of devices has no start, or no end");
    start("IVRS");
    PUT(IVHD(0x10, 32, 0x00), 3, 9, 0, 0, 4, 8, 0, 0);
    refused("a range of functions ends before it starts");
    start("IVRS");
    PUT(IVHD(0x10, 28, 0x00), 66, 9, 0, 0);
    refused("a device entry's length makes no sense");
    start("IVRS");
    PUT(IVHD(0x10, 28, 0x00), 240, 9, 0, 0);
    refused("a device entry's length makes no sense");
    start("IVRS");
    PUT(IVHD(0x11, 24, 0x00));
    refused("a block is shorter than its type");
    start("IVRS");
    PUT(IVHD(0x10, 24, 0x10));
    refused("at no proper address");
    start("IVRS");
    PUT(IVHD(0x10, 24, 0x00), IVMD(0x20, 0, 0, 0, 0));
    refused("no whole number of pages");
}

/* However a table is cut, nothing behind its end is read (the sanitizer looks), and what is left is whole or refused. */
static void survives_every_cut(void **state)
{
    (void)state;
    reads_amd_units(NULL);
    for (; length > 8; length--) {
        read_now();
        assert_int_equal(!iommu_info.nr_units, iommu_info.maker == IOMMU_NONE);
    }
    reads_vtd_units(NULL);
    for (; length > 8; length--) {
        read_now();
        assert_int_equal(!iommu_info.nr_units, iommu_info.maker == IOMMU_NONE);
    }
}

static void is_quiet_without(void **state)
{
    (void)state;
    start("APIC");
    read_now();
    assert_int_equal(iommu_info.maker, IOMMU_NONE);
    assert_string_equal(log_text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_vtd_units), cmocka_unit_test(follows_bridges),
        cmocka_unit_test(takes_no_bus_of_a_bridge_without), cmocka_unit_test(refuses_broken_dmar),
        cmocka_unit_test(refuses_broken_scopes), cmocka_unit_test(refuses_too_many_units), cmocka_unit_test(reads_amd_units),
        cmocka_unit_test(refuses_broken_ivrs), cmocka_unit_test(survives_every_cut), cmocka_unit_test(is_quiet_without),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
