/*
 * A domU that was given a PCI function: edu, a device of QEMU's for teaching, which computes factorials, copies between 4 KiB of its own
 * and any machine address that it is told, and interrupts when it is done. It is driven by what the ABI offers alone, in any page-table
 * format; and it is told to reach for what is not ours. On the command line is target=, the machine address of something that nobody but
 * the hypervisor may reach, at which the tests in dom0 look.
 */
#include "clock.h"
#include "console.h"
#include "data.h"
#include "events.h"
#include "hypercall.h"
#include "mm.h"
#include "pcifront.h"
#include "string.h"
#include "test.h"
#include "xenstore.h"

#define VENDOR 0x1234
#define KIND   0x11e8

/* Configuration space. */
#define COMMAND        0x04
#define COMMAND_ALL    6u       /* memory, and bus mastering */
#define BAR0           0x10
#define INTERRUPT_LINE 0x3c

/* The device's registers, and what they hold. */
enum {
    ID = 0, INVERSE = 4, FACTORIAL = 8, STATUS = 0x20, CAUSES = 0x24, RAISE = 0x60, ACKNOWLEDGE = 0x64,
    SOURCE = 0x80, TARGET = 0x88, COUNT = 0x90, COPY = 0x98
};
#define COMPUTING    1u
#define SAY_COMPUTED 0x80u      /* by an interrupt */
#define COPY_BEGIN   1u
#define COPY_OUT     2u
#define COPY_SAYS    4u         /* by an interrupt, when it is done */
#define BUFFER       0x40000u   /* the device's name for its own memory, of a page */
#define SKIPPED      16u        /* of a page that is copied, in front: QEMU 7.2 ends when asked for the last byte of that memory */
#define PIECE        (4096u - SKIPPED)

#define PATIENCE (5000 * MS)    /* until an interrupt counts as lost */
#define ROUNDS   10

static unsigned devfn = PCI_NOBODY;
static u8 *registers;
static long port;               /* of the interrupt in use */
static bool is_line;            /* which has to be told when it has been seen to */
static unsigned line;

static u32 get(unsigned at) { return *(volatile u32 *)(registers + at); }
static void set(unsigned at, u32 value) { *(volatile u32 *)(registers + at) = value; }

/* --- Its interrupts ----------------------------------------------------------------------------------------------------------------- */

static void end_interrupt(void)
{
    struct physdev_irq op = { .irq = line };

    set(ACKNOWLEDGE, get(CAUSES));
    if (is_line)
        CHECK_OK(physdev_op(PHYSDEVOP_eoi, &op));
}

/* Waits for the interrupt after the first `before`, and no more of them. Then the device is told that it was seen. */
static bool interrupted(u32 before)
{
    u64 end = system_time() + PATIENCE;

    for (u32 seen = upcall_count; event_count[port] == before && system_time() < end; seen = upcall_count)
        if (event_count[port] == before)
            wait_event(seen, end);
    end_interrupt();
    return event_count[port] == before + 1;
}

/* So many causes, so many interrupts. */
static void raise_and_count(void)
{
    u32 first = event_count[port];

    for (u32 i = 0; i < ROUNDS; i++) {
        set(RAISE, i + 1);
        CHECK(interrupted(first + i));
        CHECK_EQ(get(CAUSES), 0);
    }
    CHECK_EQ(event_count[port], first + ROUNDS);
}

static bool take_line(void)
{
    line = pcifront_read(devfn, INTERRUPT_LINE, 1);
    port = bind_pirq(line, BIND_PIRQ__WILL_SHARE);
    is_line = true;
    return CHECK(port > 0);
}

/* --- Its copies --------------------------------------------------------------------------------------------------------------------- */

/* 32-bit kernels write half a register: what they can name is below 4 GiB, as are their frames on the machines of these tests. */
static bool copy(u64 source, u64 target, u32 count, u32 direction)
{
    u32 before = event_count[port];

    set(SOURCE, (u32)source);
    set(TARGET, (u32)target);
    set(COUNT, count);
    set(COPY, COPY_BEGIN | COPY_SAYS | direction);
    return CHECK(interrupted(before)) && CHECK(!(get(COPY) & COPY_BEGIN));
}

static bool copy_in(u64 from, u32 count) { return copy(from, BUFFER, count, 0); }
static bool copy_out(u64 to, u32 count) { return copy(BUFFER, to, count, COPY_OUT); }

static u32 sum_of(const u8 *page) { return crc32(0, page + SKIPPED, PIECE); }

/* What the device has of a page when it is told to read there. */
static u32 sum_as_read(const u8 *from)
{
    u8 *page = page_alloc();
    u32 sum;

    copy_in(virt_to_maddr(from + SKIPPED), PIECE);
    copy_out(virt_to_maddr(page + SKIPPED), PIECE);
    sum = sum_of(page);
    page_free(page);
    return sum;
}

/* That the device neither reads nor writes a page, which we can read. */
static void check_out_of_reach(const u8 *page)
{
    u32 before = sum_of(page);

    CHECK(sum_as_read(page) != before);
    copy_out(virt_to_maddr(page + 0x7e0), 16);
    CHECK_EQ(sum_of(page), before);
}

static void check_in_reach(u8 *page)
{
    static u32 seed = 100;

    data_fill(++seed, 0, page + SKIPPED, PIECE);
    CHECK_EQ(sum_as_read(page), data_crc(seed, PIECE));
}

/* --- Tests -------------------------------------------------------------------------------------------------------------------------- */

TEST(found)
{
    u32 bar;

    store_init();
    REQUIRE(pcifront_init(0));
    devfn = pcifront_find(VENDOR, KIND);
    REQUIRE(devfn != PCI_NOBODY);
    CHECK_EQ(pcifront_read(devfn, 0, 2), VENDOR);
    CHECK_EQ(pcifront_read(devfn, 2, 2), KIND);
    CHECK(pcifront_write(devfn, COMMAND, 2, COMMAND_ALL));
    CHECK_EQ(pcifront_read(devfn, COMMAND, 2) & COMMAND_ALL, COMMAND_ALL);
    bar = pcifront_read(devfn, BAR0, 4);
    REQUIRE(bar && !(bar & 0xfff));
    printf("edu: function %x, registers at %x\n", devfn, bar);
    REQUIRE_OK(map_at(window(0), bar >> 12, PTE_DATA | PTE_PCD | PTE_PWT));
    registers = window(0);
}

TEST(registers)
{
    REQUIRE(registers);
    CHECK_EQ(get(ID) & 0xffff, 0xed);
    for (u32 i = 0; i < ROUNDS; i++) {
        set(INVERSE, i * 0x01234567);
        CHECK_EQ(get(INVERSE), ~(i * 0x01234567));
    }
}

TEST(line)
{
    REQUIRE(registers && take_line());
    raise_and_count();
}

TEST(factorial)
{
    u32 before = event_count[port];

    REQUIRE(registers && port > 0);
    set(STATUS, SAY_COMPUTED);
    set(FACTORIAL, 10);
    CHECK(interrupted(before));
    CHECK_EQ(get(STATUS) & COMPUTING, 0);
    CHECK_EQ(get(FACTORIAL), 3628800);
    set(STATUS, 0);
}

/* From one frame of ours to others, at odd places: what is beside it stays. */
TEST(copies)
{
    u8 *from = page_alloc(), *to = page_alloc();

    REQUIRE(registers && port > 0);
    data_fill(1, 0, from, 4096);
    data_fill(2, 0, to, 4096);
    copy_in(virt_to_maddr(from), PIECE);
    copy_out(virt_to_maddr(to) + 9, 1234);
    CHECK_EQ(crc32(0, from, 4096), data_crc(1, 4096));
    CHECK_EQ(crc32(0, to + 9, 1234), data_crc(1, 1234));
    data_fill(2, 9, to + 9, 1234);
    CHECK_EQ(crc32(0, to, 4096), data_crc(2, 4096));
    check_in_reach(from);
    check_in_reach(pfn_to_virt(arena_end - 1));
}

TEST(messages)
{
    long pirq;

    REQUIRE(registers && port > 0);
    CHECK_OK(close_port((unsigned)port));
    pirq = pcifront_enable_msi(devfn);
    REQUIRE(CHECK(pirq > 0) && CHECK(pirq != (long)line));
    is_line = false;
    port = bind_pirq((unsigned)pirq, 0);
    REQUIRE(port > 0);
    raise_and_count();
    check_in_reach(page_alloc());
    CHECK_OK(close_port((unsigned)port));
    CHECK(pcifront_disable_msi(devfn));
    REQUIRE(take_line());
    raise_and_count();
}

/* The tables that are in use, one that a page becomes and is no more, and what is the hypervisor's. */
TEST(what_is_not_ours)
{
    const char *target = cmdline_value("target");
    u8 *page = page_alloc();

    REQUIRE(registers && port > 0);
    check_out_of_reach(mfn_to_virt(current_base()));
    check_in_reach(page);
    memset(page, 0, 4096);
    ((pte_raw *)page)[100] = pte_make(virt_to_mfn(page_alloc()), PTE_READ);
    make_readonly(page);
    REQUIRE_OK(pin(page, 1));
    check_out_of_reach(page);
    CHECK_OK(unpin(page));
    make_writable(page);
    check_in_reach(page);
    if (target)
        copy_out(parse_number(target), 16);
}
