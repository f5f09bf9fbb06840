#include "pcifront.h"
#include "clock.h"
#include "device.h"
#include "events.h"
#include "mm.h"
#include "traps.h"

/* Layout and numbers: public/io/pciif.h. */
#define MAGIC        "7"
#define MAX_MESSAGES 128
#define WE_ASK       (1u << 0)   /* set by us, cleared by the backend when it has answered */

enum { CONF_READ, CONF_WRITE, ENABLE_MSI, DISABLE_MSI };

struct pci_op {
    u32 cmd;
    s32 err;
    u32 domain, bus, devfn;
    s32 offset, size;
    u32 value, info;
    struct { u16 vector, entry; } messages[MAX_MESSAGES];
};

struct shared {
    u32 flags;
    struct pci_op op;
};

_Static_assert(sizeof(struct pci_op) == 548 && sizeof(struct shared) <= 4096, "public/io/pciif.h");

static struct device device;
static struct shared *shared;
static unsigned port;
static u32 root_bus;

/* DOMAIN:BUS in hexadecimal digits; the domain is the first one, 0, since pciback makes up a bus of its own. */
static u32 bus_of(const char *root)
{
    u32 bus = 0;

    for (; root && *root; root++)
        bus = *root == ':' ? 0 : bus << 4 | (u32)(*root >= 'a' ? *root - 'a' + 10 : *root - '0');
    return bus;
}

bool pcifront_init(unsigned watch)
{
    if (!device_find(&device, "pci", watch))
        return false;
    shared = device_ring(&device, "pci-op-ref");
    port = device_port(&device);
    device_write(&device, "magic", MAGIC);
    device_set_state(&device, DEVICE_INITIALISED);
    if (!device_wait(&device, DEVICE_CONNECTED))
        panic("the PCI backend does not connect");
    root_bus = bus_of(device_back_read(&device, "root-0"));
    device_set_state(&device, DEVICE_CONNECTED);
    return true;
}

/* The operation comes back as the backend left it. */
static bool request(struct pci_op *op)
{
    op->bus = root_bus;
    shared->op = *op;
    __atomic_fetch_or(&shared->flags, WE_ASK, __ATOMIC_SEQ_CST);
    send_port(port);
    for (u32 seen = upcall_count; read_once(shared->flags) & WE_ASK; seen = upcall_count)
        wait_event(seen, FOREVER);
    *op = shared->op;
    return !op->err;
}

u32 pcifront_read(unsigned devfn, unsigned offset, unsigned bytes)
{
    struct pci_op op = { .cmd = CONF_READ, .devfn = devfn, .offset = (s32)offset, .size = (s32)bytes };

    return request(&op) ? op.value : ~0u >> (32 - 8 * bytes);
}

bool pcifront_write(unsigned devfn, unsigned offset, unsigned bytes, u32 value)
{
    struct pci_op op = { .cmd = CONF_WRITE, .devfn = devfn, .offset = (s32)offset, .size = (s32)bytes, .value = value };

    return request(&op);
}

unsigned pcifront_find(u16 vendor, u16 kind)
{
    for (unsigned devfn = 0; devfn < 256; devfn++)
        if (pcifront_read(devfn, 0, 4) == ((u32)kind << 16 | vendor))
            return devfn;
    return PCI_NOBODY;
}

long pcifront_enable_msi(unsigned devfn)
{
    struct pci_op op = { .cmd = ENABLE_MSI, .devfn = devfn };

    return request(&op) ? (long)op.value : op.err;
}

bool pcifront_disable_msi(unsigned devfn)
{
    struct pci_op op = { .cmd = DISABLE_MSI, .devfn = devfn };

    return request(&op);
}
