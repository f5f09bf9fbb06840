#include "device.h"
#include "clock.h"
#include "console.h"
#include "events.h"
#include "grant.h"
#include "mm.h"
#include "string.h"
#include "traps.h"
#include "xenstore.h"

static const char *path_of(const char *directory, const char *name)
{
    static char path[192];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

const char *device_read(const struct device *d, const char *name) { return store_read(path_of(d->front, name)); }

const char *device_back_read(const struct device *d, const char *name) { return store_read(path_of(d->back, name)); }

u64 device_back_number(const struct device *d, const char *name, u64 otherwise)
{
    return store_number(path_of(d->back, name), otherwise);
}

void device_write(const struct device *d, const char *name, const char *value)
{
    if (!store_write(path_of(d->front, name), value))
        panic("%s/%s cannot be written: %s", d->front, name, store_error());
}

void device_write_number(const struct device *d, const char *name, u32 value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    device_write(d, name, text);
}

bool device_find(struct device *d, const char *kind, unsigned watch)
{
    const char *text = store_first(path_of("device", kind));

    if (!text)
        return false;
    snprintf(d->front, sizeof(d->front), "device/%s/%s", kind, text);
    text = device_read(d, "backend");
    if (!text)
        panic("%s has no backend: %s", d->front, store_error());
    snprintf(d->back, sizeof(d->back), "%s", text);
    d->back_domain = (domid_t)store_number(path_of(d->front, "backend-id"), 0);
    d->watch = watch;
    if (!store_watch(path_of(d->back, "state"), watch))
        panic("no watch on %s: %s", d->back, store_error());
    return true;
}

void device_set_state(const struct device *d, enum device_state state) { device_write_number(d, "state", state); }

bool device_wait(const struct device *d, enum device_state state)
{
    for (;;) {
        u32 seen = upcall_count;

        if (store_fired(d->watch)) {
            u64 now = device_back_number(d, "state", DEVICE_UNKNOWN);

            if (now == state)
                return true;
            if (now >= DEVICE_CLOSING)
                return false;
        } else {
            wait_event(seen, FOREVER);
        }
    }
}

void *device_ring(const struct device *d, const char *name)
{
    void *page = page_alloc();

    device_write_number(d, name, grant_page(d->back_domain, page));
    return page;
}

unsigned device_port(const struct device *d)
{
    long port = alloc_unbound(DOMID_SELF, d->back_domain);

    if (port < 0)
        panic("no event channel for %s: %ld", d->front, port);
    device_write_number(d, "event-channel", (u32)port);
    return (unsigned)port;
}
