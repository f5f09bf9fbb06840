/*
 * 8250/16450/16550 serial lines. Output is polled: each character waits for room in the transmitter's FIFO,
 * so that what was printed before a crash is on the wire. Input comes by interrupt, or is polled by a timer with irq 0.
 */
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/serial.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>

/* Registers (National Semiconductor PC16550D data sheet), and their bits that are used here. */
enum { REG_DATA = 0, REG_IER = 1, REG_DLL = 0, REG_DLM = 1, REG_IIR = 2, REG_FCR = 2, REG_LCR = 3, REG_MCR = 4,
       REG_LSR = 5, REG_SCRATCH = 7 };
#define IER_RX 0x01
#define FCR_ENABLE_CLEAR 0x07
#define FCR_TRIGGER_1 0x00
#define IIR_FIFO 0xc0
#define LCR_DLAB 0x80
#define MCR_DTR_RTS 0x03
#define MCR_OUT2 0x08      /* gates the interrupt line on a PC */
#define LSR_RX 0x01
#define LSR_TX_EMPTY 0x20
#define BASE_CLOCK 115200u
#define POLL_PERIOD MILLISECS(20)

struct uart {
    struct console_dev dev;
    u16 port;
    u8 irq;                /* ISA interrupt; 0: polled */
    u32 gsi;
    u32 baud;              /* 0: leave as the firmware set it */
    u8 lcr;
    bool configured;       /* com1= was given */
    bool present;
    u8 fifo_depth, room;
    struct timer poll;
};

static void com1_write(const char *s, size_t n);
static void com2_write(const char *s, size_t n);

static struct uart uarts[2] = {
    { .dev = { "com1", com1_write, NULL }, .port = 0x3f8, .irq = 4, .baud = 115200, .lcr = 3 },
    { .dev = { "com2", com2_write, NULL }, .port = 0x2f8, .irq = 3, .baud = 115200, .lcr = 3 },
};

/* "8n1": data bits, parity (n o e m s), stop bits. Returns what follows, or NULL. */
static const char *parse_frame_format(const char *p, u8 *lcr)
{
    static const char parity[] = "no.e.m.s"; /* index: the LCR's three parity bits */
    const char *kind;

    if (p[0] < '5' || p[0] > '8' || !p[1] || p[1] == '.' || !(kind = strchr(parity, p[1])) ||
        (p[2] != '1' && p[2] != '2'))
        return NULL;
    *lcr = (p[0] - '5') | (p[2] == '2' ? 4 : 0) | (kind == parity ? 0 : (kind - parity) << 3);
    return p + 3;
}

static const char *parse_field(const char *p, u64 limit, u64 *v)
{
    const char *end;
    u64 n = strtoull(p, &end, 0);

    if (end == p || (*end && *end != ',') || n > limit)
        return NULL;
    *v = n;
    return end;
}

/* com1=[baud|auto][,[DPS][,[ioport][,[irq]]]] */
static int parse_uart(const char *p, struct uart *u)
{
    struct uart new = *u;
    u64 v;

    if (!strncmp(p, "auto", 4)) {
        new.baud = 0;
        p += 4;
    } else if (*p && *p != ',') {
        if (!(p = parse_field(p, BASE_CLOCK, &v)) || !v || BASE_CLOCK / v > 0xffff)
            return -EINVAL;
        new.baud = v;
    }
    if (*p == ',' && *++p && *p != ',' && !(p = parse_frame_format(p, &new.lcr)))
        return -EINVAL;
    if (*p == ',' && *++p && *p != ',') {
        if (!(p = parse_field(p, 0xfff8, &v)) || !v)
            return -EINVAL;
        new.port = v;
    }
    if (*p == ',' && *++p) {
        if (!(p = parse_field(p, 15, &v)))
            return -EINVAL;
        new.irq = v;
    }
    if (*p)
        return -EINVAL;
    new.configured = true;
    *u = new;
    return 0;
}

static int parse_com1(const char *v) { return parse_uart(v, &uarts[0]); }
CMDLINE_OPTION("com1", parse_com1);
static int parse_com2(const char *v) { return parse_uart(v, &uarts[1]); }
CMDLINE_OPTION("com2", parse_com2);

static u8 get(const struct uart *u, unsigned reg) { return inb(u->port + reg); }
static void set(const struct uart *u, unsigned reg, u8 v) { outb(u->port + reg, v); }

/* Waits for the transmitter, but not for ever: a line that never gets ready must not stop the machine. */
static void wait_for_room(struct uart *u)
{
    for (unsigned spins = 0; !u->room && spins < 1000000; spins++)
        if (get(u, REG_LSR) & LSR_TX_EMPTY)
            u->room = u->fifo_depth;
}

static void put_byte(struct uart *u, u8 c)
{
    wait_for_room(u);
    if (!u->room)
        return;
    u->room--;
    set(u, REG_DATA, c);
}

static void uart_write(struct uart *u, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            put_byte(u, '\r');
        put_byte(u, s[i]);
    }
}

static void com1_write(const char *s, size_t n) { uart_write(&uarts[0], s, n); }
static void com2_write(const char *s, size_t n) { uart_write(&uarts[1], s, n); }

static bool probe(const struct uart *u)
{
    set(u, REG_SCRATCH, 0x5a);
    if (get(u, REG_SCRATCH) != 0x5a)
        return false;
    set(u, REG_SCRATCH, 0xa5);
    return get(u, REG_SCRATCH) == 0xa5;
}

static void configure(struct uart *u)
{
    unsigned divisor = u->baud ? BASE_CLOCK / u->baud : 0;

    set(u, REG_IER, 0);
    if (divisor) {
        set(u, REG_LCR, u->lcr | LCR_DLAB);
        set(u, REG_DLL, divisor & 0xff);
        set(u, REG_DLM, divisor >> 8);
    }
    set(u, REG_LCR, u->lcr);
    set(u, REG_FCR, FCR_ENABLE_CLEAR | FCR_TRIGGER_1);
    set(u, REG_MCR, MCR_DTR_RTS);
    u->fifo_depth = (get(u, REG_IIR) & IIR_FIFO) == IIR_FIFO ? 16 : 1;
}

void serial_init(void)
{
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++) {
        if (!u->configured)
            continue;
        u->present = probe(u);
        if (!u->present) {
            printk(LOG_WARNING "%s: no serial line at port %#x\n", u->dev.name, u->port);
            continue;
        }
        configure(u);
        console_register(&u->dev);
    }
}

static void drain_input(struct uart *u, struct cpu_regs *regs)
{
    /* 64 at once: a device that always claims to have data must not hold the CPU. */
    for (unsigned i = 0; i < 64 && (get(u, REG_LSR) & LSR_RX); i++)
        console_input(get(u, REG_DATA), regs);
}

static void uart_interrupt(void *data, struct cpu_regs *regs)
{
    struct uart *u = data;

    drain_input(u, regs);
    (void)get(u, REG_IIR);
}

static void poll_input(void *data)
{
    struct uart *u = data;

    drain_input(u, NULL);
    timer_set(&u->poll, now_ns() + POLL_PERIOD);
}

static void start_polling(struct uart *u)
{
    timer_init(&u->poll, poll_input, u, 0);
    timer_set(&u->poll, now_ns() + POLL_PERIOD);
}

void serial_init_irq(void)
{
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++) {
        if (!u->present)
            continue;
        u->gsi = acpi_isa_irq_to_gsi(u->irq);
        if (!u->irq || irq_request(u->gsi, uart_interrupt, u)) {
            printk(LOG_INFO "%s: input is polled\n", u->dev.name);
            u->irq = 0;
            start_polling(u);
            continue;
        }
        set(u, REG_MCR, MCR_DTR_RTS | MCR_OUT2);
        set(u, REG_IER, IER_RX);
        drain_input(u, NULL);
    }
}

void serial_start_sync(void)
{
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++)
        u->room = 0;
}

bool serial_in_use(unsigned n, u16 *port, u32 *gsi)
{
    if (n >= ARRAY_SIZE(uarts) || !uarts[n].present)
        return false;
    *port = uarts[n].port;
    *gsi = uarts[n].irq ? uarts[n].gsi : 0;
    return true;
}
