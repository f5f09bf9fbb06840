/* The screen: VGA's text mode, or pixels where the boot loader left a graphics mode. */
#ifndef PVISOR_VGA_H
#define PVISOR_VGA_H

#include <pvisor/types.h>

/* A graphics mode of direct colours. A colour: the place of its lowest bit in a pixel, and how many bits it has. */
struct framebuffer {
    u64 address;                 /* 0: there is none */
    u32 pitch, width, height;    /* bytes from line to line; pixels */
    u8 bits;                     /* of a pixel */
    struct { u8 at, size; } red, green, blue;
};

/* Needs ioremap(); does nothing if the adapter is in neither. */
void vga_init(const struct framebuffer *fb);
void vga_endboot(void);          /* dom0 takes the screen over, unless vga=keep */

/* What the screen is, for dom0's start_info. */
enum vga_mode { VGA_NONE, VGA_TEXT, VGA_GRAPHICS };
struct vga_text_state { u8 columns, rows, cursor_x, cursor_y; u16 font_height; };
enum vga_mode vga_mode(void);
struct vga_text_state vga_text_state(void);
const struct framebuffer *vga_framebuffer(void);        /* as it was given to vga_init(), whether we can draw on it or not */

/* As dom0 is told of it: how many bytes of *v say something, 0 if there is no screen. */
struct dom0_vga_console_info;
u32 vga_describe(struct dom0_vga_console_info *v);

#endif
