/* ACPI tables made up here, whole and broken, in a small machine memory of our own. */
// SOURCES: tests/unit/fake/log.c drivers/acpi/tables.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <pvisor/acpi.h>
#include <pvisor/lib.h>
#include "fake/log.h"

#define MEMORY 0x100000UL
#define RSDP_AT 0xe4560UL
#define XSDT_AT 0xf0000UL
#define MADT_AT 0xf1000UL
#define FADT_AT 0xf2000UL
#define HPET_AT 0xf3000UL
#define MCFG_AT 0xf4000UL

static u8 memory[MEMORY];

void *acpi_map(maddr_t a, size_t len)
{
    return a.v < MEMORY && len <= MEMORY - a.v ? memory + a.v : NULL;
}

static void put(u64 at, u64 v, unsigned n) { memcpy(memory + at, &v, n); }

/* Makes the bytes sum to zero by the byte at `where`. */
static void fix_sum(u64 start, unsigned len, u64 where)
{
    u8 sum = 0;

    memory[where] = 0;
    for (unsigned i = 0; i < len; i++)
        sum += memory[start + i];
    memory[where] = -sum;
}

static void finish(u64 at, const char *signature, u32 length)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, length, 4);
    fix_sum(at, length, at + 9);
}

static void put_rsdp(void)
{
    memcpy(memory + RSDP_AT, "RSD PTR ", 8);
    put(RSDP_AT + 15, 2, 1);
    put(RSDP_AT + 20, 36, 4);
    put(RSDP_AT + 24, XSDT_AT, 8);
    fix_sum(RSDP_AT, 20, RSDP_AT + 8);
    fix_sum(RSDP_AT, 36, RSDP_AT + 32);
}

static void put_madt(void)
{
    static const u8 entries[] = {
        0, 8, 0, 0, 1, 0, 0, 0,                       /* CPU 0 */
        0, 8, 1, 1, 1, 0, 0, 0,                       /* CPU 1 */
        0, 8, 2, 2, 0, 0, 0, 0,                       /* placeholder */
        1, 12, 7, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0,
        2, 10, 0, 0, 2, 0, 0, 0, 0, 0,                /* PIT on GSI 2 */
        2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0,             /* SCI level, low */
        4, 6, 0xff, 5, 0, 1,
        9, 16, 0, 0, 0x34, 0x12, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0,
        0x55, 4, 1, 2,                                /* unknown type */
    };

    put(MADT_AT + 36, 0xfee00000, 4);
    memcpy(memory + MADT_AT + 44, entries, sizeof(entries));
    finish(MADT_AT, "APIC", 44 + sizeof(entries));
}

static void put_fadt(void)
{
    put(FADT_AT + 46, 9, 2);
    put(FADT_AT + 64, 0x604, 4);
    put(FADT_AT + 76, 0x608, 4);
    put(FADT_AT + 91, 4, 1);
    put(FADT_AT + 112, 1u << 10 | 1u << 8, 4);
    put(FADT_AT + 116, ACPI_SPACE_IO | 8 << 8, 4);
    put(FADT_AT + 120, 0xcf9, 8);
    put(FADT_AT + 128, 0x0f, 1);
    finish(FADT_AT, "FACP", 244);
}

static int machine(void **state)
{
    (void)state;
    memset(memory, 0, sizeof(memory));
    log_clear();
    put_rsdp();
    put_madt();
    put_fadt();
    put(HPET_AT + 44, 0xfed00000, 8);
    finish(HPET_AT, "HPET", 56);
    put(MCFG_AT + 44, 0xb0000000, 8);
    put(MCFG_AT + 55, 0xff, 1);
    finish(MCFG_AT, "MCFG", 60);
    put(XSDT_AT + 36, MADT_AT, 8);
    put(XSDT_AT + 44, FADT_AT, 8);
    put(XSDT_AT + 52, HPET_AT, 8);
    put(XSDT_AT + 60, MCFG_AT, 8);
    put(XSDT_AT + 68, 0x7fffffff0000, 8);   /* not in memory at all */
    finish(XSDT_AT, "XSDT", 76);
    return 0;
}

static void reads_all_tables(void **state)
{
    bool level, low;

    (void)state;
    acpi_init(maddr(0));
    assert_true(acpi_info.present);
    assert_int_equal(acpi_info.rsdp.v, RSDP_AT);
    assert_int_equal(acpi_info.nr_cpus, 3);
    assert_int_equal(acpi_info.cpu[2].apic_id, 0x1234);
    assert_int_equal(acpi_info.cpu[2].acpi_uid, 9);
    assert_int_equal(acpi_info.nr_ioapics, 1);
    assert_int_equal(acpi_info.ioapic[0].address.v, 0xfec00000);
    assert_int_equal(acpi_isa_irq_to_gsi(0), 2);
    assert_int_equal(acpi_isa_irq_to_gsi(4), 4);
    acpi_gsi_trigger(9, &level, &low);
    assert_true(level && low);
    acpi_gsi_trigger(4, &level, &low);
    assert_false(level || low);
    acpi_gsi_trigger(20, &level, &low);
    assert_true(level && low);
    assert_int_equal(acpi_info.nr_nmis, 1);
    assert_int_equal(acpi_info.nmi[0].acpi_uid, ~0u);
    assert_int_equal(acpi_info.pm_timer_port, 0x608);
    assert_true(acpi_info.pm_timer_32bit);
    assert_int_equal(acpi_info.pm1a_cnt_port, 0x604);
    assert_true(acpi_info.has_reset);
    assert_int_equal(acpi_info.reset_reg.address, 0xcf9);
    assert_int_equal(acpi_info.hpet_address.v, 0xfed00000);
    assert_int_equal(acpi_info.nr_mcfg, 1);
    assert_int_equal(acpi_info.mcfg[0].last_bus, 0xff);
}

static void takes_the_loaders_rsdp(void **state)
{
    (void)state;
    memmove(memory + 0x1230, memory + RSDP_AT, 36);
    memset(memory + RSDP_AT, 0, 36);
    acpi_init(maddr(0x1230));
    assert_true(acpi_info.present);
    assert_int_equal(acpi_info.nr_cpus, 3);
}

static void carries_on_without(void **state)
{
    (void)state;
    memory[RSDP_AT] = 'X';
    acpi_init(maddr(0));
    assert_false(acpi_info.present);
    assert_int_equal(acpi_info.nr_cpus, 0);
    assert_non_null(strstr(log_text, "no tables found"));
}

static void ignores_a_bad_checksum(void **state)
{
    (void)state;
    memory[MADT_AT + 50] ^= 1;
    acpi_init(maddr(0));
    assert_int_equal(acpi_info.nr_cpus, 0);
    assert_int_equal(acpi_info.pm_timer_port, 0x608);
    assert_non_null(strstr(log_text, "APIC at 0xf1000 has a bad checksum"));
}

static void stops_at_a_broken_entry(void **state)
{
    (void)state;
    memory[MADT_AT + 44 + 8 + 1] = 0;
    finish(MADT_AT, "APIC", 44 + 80);
    acpi_init(maddr(0));
    assert_int_equal(acpi_info.nr_cpus, 1);
    assert_non_null(strstr(log_text, "has length 0"));
}

static void refuses_absurd_lengths(void **state)
{
    (void)state;
    put(MADT_AT + 4, 0xffffffff, 4);
    put(FADT_AT + 4, 3, 4);
    put(HPET_AT + 4, MEMORY, 4);            /* runs out of memory */
    finish(MCFG_AT, "MCFG", 50);            /* ends within its only entry */
    acpi_init(maddr(0));
    assert_int_equal(acpi_info.nr_cpus, 0);
    assert_false(acpi_info.has_fadt);
    assert_int_equal(acpi_info.hpet_address.v, 0);
    assert_int_equal(acpi_info.nr_mcfg, 0);
}

static void reads_short_old_fadt(void **state)
{
    (void)state;
    finish(FADT_AT, "FACP", 116);
    acpi_init(maddr(0));
    assert_true(acpi_info.has_fadt);
    assert_false(acpi_info.has_reset);
    assert_int_equal(acpi_info.pm_timer_port, 0x608);
}

static unsigned lines_with(const char *what)
{
    unsigned n = 0;

    for (const char *p = log_text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

/* n entries of a kind behind those there are, each of which begins with its type and length. */
static void more_entries(const u8 *entry, unsigned n)
{
    u32 length;

    memcpy(&length, memory + MADT_AT + 4, 4);
    for (; n--; length += entry[1])
        memcpy(memory + MADT_AT + length, entry, entry[1]);
    finish(MADT_AT, "APIC", length);
}

static void says_when_a_table_of_ours_is_full(void **state)
{
    static const u8 cpu[8] = { 0, 8, 3, 3, 1 }, ioapic[12] = { 1, 12, 8, 0, 0, 0, 0xd0, 0xfe }, override[10] = { 2, 10, 0, 5 },
                    nmi[6] = { 4, 6, 1 };

    (void)state;
    more_entries(cpu, ACPI_MAX_CPUS - 3 + 2);
    more_entries(ioapic, ACPI_MAX_IOAPICS - 1 + 2);
    more_entries(override, ACPI_MAX_OVERRIDES - 2 + 1);
    more_entries(nmi, ACPI_MAX_NMI - 1 + 1);
    for (unsigned i = 0; i <= ACPI_MAX_MCFG; i++) {
        put(MCFG_AT + 44 + i * 16, 0xb0000000, 8);
        put(MCFG_AT + 44 + i * 16 + 8, i, 2);
    }
    finish(MCFG_AT, "MCFG", 44 + 16 * (ACPI_MAX_MCFG + 1));
    for (unsigned i = 0; i < 100; i++)
        put(XSDT_AT + 36 + 4 * 8 + i * 8, HPET_AT, 8);
    finish(XSDT_AT, "XSDT", 36 + 104 * 8);
    acpi_init(maddr(0));
    assert_int_equal(lines_with("more CPUs than the 256"), 2);
    assert_int_equal(lines_with("more IO-APICs than the 16"), 2);
    assert_int_equal(lines_with("more interrupt overrides than the 24"), 1);
    assert_int_equal(lines_with("more NMI lines of CPUs than the 16"), 1);
    assert_int_equal(lines_with("more PCI segments than the 8"), 1);
    assert_int_equal(lines_with("more ACPI tables than the 96"), 104 - 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reads_all_tables, machine),
        cmocka_unit_test_setup(takes_the_loaders_rsdp, machine),
        cmocka_unit_test_setup(carries_on_without, machine),
        cmocka_unit_test_setup(ignores_a_bad_checksum, machine),
        cmocka_unit_test_setup(stops_at_a_broken_entry, machine),
        cmocka_unit_test_setup(refuses_absurd_lengths, machine),
        cmocka_unit_test_setup(reads_short_old_fadt, machine),
        cmocka_unit_test_setup(says_when_a_table_of_ours_is_full, machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
