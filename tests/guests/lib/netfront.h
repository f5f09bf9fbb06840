/* An Ethernet card, by the split network device (public/io/netif.h). A frame is one page, sums are always in it. */
#ifndef GUEST_NETFRONT_H
#define GUEST_NETFRONT_H

#include "abi.h"

bool netfront_init(void);              /* connects the first card; false if there is none */
extern u8 netfront_mac[6];
extern unsigned netfront_errors;       /* frames that the backend refused, pages that it kept too long */

/* Room for a frame, or NULL while all is in use; netfront_send() must follow. */
u8 *netfront_buffer(void);
void netfront_send(unsigned length);   /* sends what netfront_buffer() gave last */
/* Gives each frame that came to take(), and takes back what has been sent. */
void netfront_poll(void (*take)(const u8 *frame, unsigned length));

#endif
