/*
 * 8250/16450/16550 serial lines.
 *
 * Output: while the machine boots, after a panic, and always with sync_console, each character waits for room in the transmitter's
 * FIFO, so that what was printed before a crash is on the wire. Otherwise what the FIFO does not take at once goes into a ring, and
 * from there to the FIFO whenever that is empty: by whoever writes, by the transmitter's interrupt, and by a timer, which is all
 * there is without an interrupt, and makes up for one that got lost.
 *
 * Input comes by interrupt, or is polled by the timer with irq 0.
 */
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/acpi.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/frame.h>
#include <pvisor/irq.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/serial.h>
#include <pvisor/softirq.h>
#include <pvisor/time.h>
#include <pvisor/timer.h>
#include <pvisor/txring.h>

/* Registers (National Semiconductor PC16550D data sheet), and their bits that are used here. */
enum { REG_DATA = 0, REG_IER = 1, REG_DLL = 0, REG_DLM = 1, REG_IIR = 2, REG_FCR = 2, REG_LCR = 3, REG_MCR = 4,
       REG_LSR = 5, REG_SCRATCH = 7 };
#define IER_RX 0x01
#define IER_TX 0x02
#define FCR_ENABLE_CLEAR 0x07
#define FCR_TRIGGER_1 0x00
#define IIR_NONE 0x01
#define IIR_FIFO 0xc0
#define LCR_DLAB 0x80
#define MCR_DTR_RTS 0x03
#define MCR_OUT2 0x08      /* gates the interrupt line on a PC */
#define LSR_RX 0x01
#define LSR_TX_EMPTY 0x20
#define BASE_CLOCK 115200u
#define POLL_PERIOD MILLISECS(20)     /* for input */
#define SEND_PERIOD MILLISECS(2)      /* for output, while some waits: a FIFO is empty after 1.4 ms at 115200 baud */
#define LOST_PERIOD MILLISECS(50)     /* the same where there is an interrupt */
#define DEAD_AFTER SECONDS(2)         /* a line that has not taken a character for so long is not waited for */
#define MAX_SPINS 1000000u

struct uart {
    struct console_dev dev;
    u16 port;
    u8 irq;                /* ISA interrupt; 0: polled */
    u32 baud;              /* 0: leave as the firmware set it */
    u8 lcr;
    bool configured;       /* com1= was given */
    bool present;
    u8 fifo_depth, room;

    /* Under the console's lock. */
    struct txring tx;
    u64 moved_at;          /* when it last took a character, or had none to take */
    bool dead;             /* it did not get ready in all the time that it was given */
    u8 ier;

    struct timer timer;
    struct tasklet start_timer;   /* which cannot be done with the console's lock held */
};

static void uart_write(struct console_dev *dev, const char *s, size_t n);
static u32 uart_waiting(struct console_dev *dev);
static void uart_drain(struct console_dev *dev, u32 leave);
static void uart_sync(struct console_dev *dev);

static struct uart uarts[2];
#define UART(n, line, io, isa)                                                                                  \
    [n] = { .dev = { line, uart_write, &uarts[n].tx, uart_waiting, uart_drain, uart_sync, NULL, NULL }, .port = (io), \
            .irq = (isa), .baud = 115200, .lcr = 3 }
static struct uart uarts[2] = { UART(0, "com1", 0x3f8, 4), UART(1, "com2", 0x2f8, 3) };

static bool buffered, sync_console;
CMDLINE_BOOL("sync_console", sync_console);

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

/* --- Output ----------------------------------------------------------------------------------------------- */

static bool is_ready(struct uart *u)
{
    if (!u->room && get(u, REG_LSR) & LSR_TX_EMPTY)
        u->room = u->fifo_depth;
    return u->room;
}

/* Waits for the transmitter, but not for ever, and only once: a line that never gets ready must not stop the machine. */
static bool wait_until_ready(struct uart *u)
{
    for (unsigned spins = 0; !is_ready(u) && spins < (u->dead ? 1 : MAX_SPINS); spins++)
        cpu_relax();
    u->dead = !u->room;
    return u->room;
}

static void send(struct uart *u, char c)
{
    u->room--;
    set(u, REG_DATA, c);
}

static void put_and_wait(struct uart *u, char c)
{
    if (wait_until_ready(u))
        send(u, c);
}

static void set_interrupts(struct uart *u, u8 ier)
{
    if (ier == u->ier)
        return;
    u->ier = ier;
    set(u, REG_IER, ier);
}

/* A transmitter that is always ready would take all that there is. */
static unsigned most_at_once(const struct uart *u)
{
    return 2 * u->fifo_depth;
}

/* Hands the transmitter what it takes now. */
static void pump(struct uart *u)
{
    char c;

    for (unsigned n = most_at_once(u); n && is_ready(u) && txring_get(&u->tx, &c); n--) {
        send(u, c);
        write_once(u->moved_at, now_ns());
    }
    if (u->irq)
        set_interrupts(u, txring_is_empty(&u->tx) ? IER_RX : IER_RX | IER_TX);
    if (!txring_is_empty(&u->tx) && !timer_armed(&u->timer))
        tasklet_schedule(&u->start_timer);
}

/*
 * While nothing waits, text can go straight to the transmitter. Returns how much of it did. The ring need not hear of it: where lines
 * begin matters to it only when it is short of room.
 */
static size_t send_past_ring(struct uart *u, const char *s, size_t n)
{
    size_t sent = 0;

    if (!txring_is_empty(&u->tx))
        return 0;
    for (n = min(n, (size_t)most_at_once(u)); sent < n && is_ready(u); sent++) {
        if (s[sent] == '\n') {
            if (u->room < 2)
                break;
            send(u, '\r');
        }
        send(u, s[sent]);
    }
    return sent;
}

static void write_buffered(struct uart *u, const char *s, size_t n)
{
    size_t sent = send_past_ring(u, s, n);

    if (sent == n)
        return;
    if (!txring_used(&u->tx))
        write_once(u->moved_at, now_ns());
    txring_put(&u->tx, s + sent, n - sent);
    pump(u);
}

static void uart_write(struct console_dev *dev, const char *s, size_t n)
{
    struct uart *u = container_of(dev, struct uart, dev);

    if (buffered) {
        write_buffered(u, s, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            put_and_wait(u, '\r');
        put_and_wait(u, s[i]);
    }
}

/* Without the lock: the line may move, here by an interrupt or on another CPU, after the clock was read. */
static bool is_dead(const struct uart *u) { return (s64)(now_ns() - read_once(u->moved_at)) > (s64)DEAD_AFTER; }

/* For a dead line nobody should wait: what comes then is dropped, and counted. */
static u32 uart_waiting(struct console_dev *dev)
{
    struct uart *u = container_of(dev, struct uart, dev);
    u32 used = txring_used(&u->tx);

    return used && is_dead(u) ? 0 : used;
}

static void uart_drain(struct console_dev *dev, u32 leave)
{
    struct uart *u = container_of(dev, struct uart, dev);
    char c;

    while ((!leave || txring_used(&u->tx) > leave) && wait_until_ready(u) && txring_get(&u->tx, &c)) {
        send(u, c);
        write_once(u->moved_at, now_ns());
    }
}

static u64 timer_period(const struct uart *u)
{
    return txring_is_empty(&u->tx) ? POLL_PERIOD : u->irq ? LOST_PERIOD : SEND_PERIOD;
}

static void start_timer(void *data)
{
    struct uart *u = data;

    timer_set(&u->timer, now_ns() + timer_period(u));
}

static bool allocate_rings(void)
{
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++)
        if (u->present && !(u->tx.buf = alloc_pages(ilog2(TXRING_SIZE) - PAGE_SHIFT))) {
            printk(LOG_WARNING "%s: no memory for a ring, so output will wait for the line\n", u->dev.name);
            return false;
        }
    return true;
}

void serial_start_buffered(void)
{
    bool wanted = !sync_console && allocate_rings();
    u64 flags = console_lock();

    buffered = wanted;
    console_unlock(flags);
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++)
        if (u->present && !u->irq)
            start_timer(u);
}

static void uart_sync(struct console_dev *dev)
{
    struct uart *u = container_of(dev, struct uart, dev);

    buffered = false;
    set_interrupts(u, 0);
    u->room = 0;
    uart_drain(dev, 0);
}

/* --- Set-up ----------------------------------------------------------------------------------------------- */

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

/* --- Input and interrupts --------------------------------------------------------------------------------- */

/* A character, or -1: none. */
static int next_input(struct uart *u)
{
    u64 flags = console_lock();
    int c = get(u, REG_LSR) & LSR_RX ? get(u, REG_DATA) : -1;

    console_unlock(flags);
    return c;
}

static void drain_input(struct uart *u, struct cpu_regs *regs)
{
    int c;

    /* 64 at once: a device that always claims to have data must not hold the CPU. */
    for (unsigned i = 0; i < 64 && (c = next_input(u)) >= 0; i++)
        console_input((char)c, regs);
}

static void locked_pump(struct uart *u)
{
    u64 flags = console_lock();

    if (buffered)
        pump(u);
    console_unlock(flags);
}

/* The line is edge-triggered. Let go of and asserted anew, if there still is a reason, it makes the next interrupt. */
static void retrigger(struct uart *u)
{
    u64 flags = console_lock();

    set(u, REG_IER, 0);
    set(u, REG_IER, u->ier);
    console_unlock(flags);
}

/* All reasons are served, or, after a few rounds, the rest makes another interrupt. Input is taken in one place, for its order. */
static void uart_interrupt(void *data, struct cpu_regs *regs)
{
    struct uart *u = data;

    for (unsigned rounds = 0; rounds < 4; rounds++) {
        drain_input(u, regs);
        locked_pump(u);
        if (get(u, REG_IIR) & IIR_NONE)
            return;
    }
    retrigger(u);
}

/* For lines without interrupt all the time, else while output waits: an interrupt may have been lost. */
static void tick(void *data)
{
    struct uart *u = data;

    if (!u->irq)
        drain_input(u, NULL);
    locked_pump(u);
    if (u->irq)
        retrigger(u);
    if (!u->irq || !txring_is_empty(&u->tx))
        start_timer(u);
}

void serial_init_irq(void)
{
    for (struct uart *u = uarts; u < uarts + ARRAY_SIZE(uarts); u++) {
        if (!u->present)
            continue;
        timer_init(&u->timer, tick, u, 0);
        u->start_timer = (struct tasklet){ .fn = start_timer, .data = u };
        if (!u->irq || irq_request(acpi_isa_irq_to_gsi(u->irq), uart_interrupt, u)) {
            printk(LOG_INFO "%s: polled\n", u->dev.name);
            u->irq = 0;
            continue;
        }
        set(u, REG_MCR, MCR_DTR_RTS | MCR_OUT2);
        set_interrupts(u, IER_RX);
        drain_input(u, NULL);
    }
}

bool serial_in_use(unsigned n, u16 *port)
{
    if (n >= ARRAY_SIZE(uarts) || !uarts[n].present)
        return false;
    *port = uarts[n].port;
    return true;
}
