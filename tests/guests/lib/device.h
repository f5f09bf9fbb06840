/* A split device's frontend half in the store (public/io/xenbus.h): where both halves are described, and their states. */
#ifndef GUEST_DEVICE_H
#define GUEST_DEVICE_H

#include "abi.h"

enum device_state {
    DEVICE_UNKNOWN, DEVICE_INITIALISING, DEVICE_INIT_WAIT, DEVICE_INITIALISED, DEVICE_CONNECTED, DEVICE_CLOSING,
    DEVICE_CLOSED
};

struct device {
    char front[64], back[128];   /* directories */
    domid_t back_domain;
    unsigned watch;              /* on the backend's state */
};

/* The first device of a kind, "vbd" or "vif". False if there is none. watch: a number for its watch. */
bool device_find(struct device *d, const char *kind, unsigned watch);
const char *device_read(const struct device *d, const char *name);        /* of the frontend's directory */
const char *device_back_read(const struct device *d, const char *name);   /* of the backend's */
u64 device_back_number(const struct device *d, const char *name, u64 otherwise);
void device_write(const struct device *d, const char *name, const char *value);
void device_write_number(const struct device *d, const char *name, u32 value);
void device_set_state(const struct device *d, enum device_state state);
/* Waits for a state of the backend. False if it closes instead. */
bool device_wait(const struct device *d, enum device_state state);
/* A ring's page, granted under this name; and a port for the backend, published as event-channel. */
void *device_ring(const struct device *d, const char *name);
unsigned device_port(const struct device *d);

#endif
