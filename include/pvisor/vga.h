/* The VGA text console. */
#ifndef PVISOR_VGA_H
#define PVISOR_VGA_H

#include <pvisor/types.h>

void vga_init(void);             /* needs ioremap(); does nothing if the adapter is not in text mode */
void vga_endboot(void);          /* dom0 takes the screen over, unless vga=keep */

/* State of the text screen for dom0's start_info; false if there is none. */
struct vga_text_state { u8 columns, rows, cursor_x, cursor_y; u16 font_height; };
bool vga_text_state(struct vga_text_state *s);

#endif
