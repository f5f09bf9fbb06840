/* 8250-compatible serial lines com1 and com2, as consoles. */
#ifndef PVISOR_SERIAL_H
#define PVISOR_SERIAL_H

#include <pvisor/types.h>

void serial_init(void);          /* after the command line; polled output works from then on */
void serial_init_irq(void);      /* after irq_init(): input by interrupt */
/* Once timers work. From now on output waits in a ring, but with sync_console on the command line; lines without interrupt are polled. */
void serial_start_buffered(void);
/* The first of line n's (0, 1) 8 I/O ports, if it is in use by us. */
bool serial_in_use(unsigned n, u16 *port);

#endif
