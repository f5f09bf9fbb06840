/* The screen as dom0 is told of it: in its start_info, and by XENPF_get_dom0_console. Interface: public/xen.h, dom0_vga_console_info. */
#include <pvisor/efi.h>
#include <pvisor/lib.h>
#include <pvisor/vga.h>
#include "internal.h"

static void describe_text_mode(struct dom0_vga_console_info *v)
{
    struct vga_text_state s = vga_text_state();

    v->video_type = XEN_VGATYPE_TEXT_MODE_3;
    v->u.text_mode_3.font_height = s.font_height;
    v->u.text_mode_3.cursor_x = s.cursor_x;
    v->u.text_mode_3.cursor_y = s.cursor_y;
    v->u.text_mode_3.rows = s.rows;
    v->u.text_mode_3.columns = s.columns;
}

/* What a pixel has beside its colours are its highest bits. */
static void describe_framebuffer(struct dom0_vga_console_info *v)
{
    const struct framebuffer *fb = vga_framebuffer();
    u8 used = max(fb->red.at + fb->red.size, max(fb->green.at + fb->green.size, fb->blue.at + fb->blue.size));

    v->video_type = efi_info.present ? XEN_VGATYPE_EFI_LFB : XEN_VGATYPE_VESA_LFB;
    v->u.vesa_lfb.width = fb->width;
    v->u.vesa_lfb.height = fb->height;
    v->u.vesa_lfb.bytes_per_line = fb->pitch;
    v->u.vesa_lfb.bits_per_pixel = fb->bits;
    v->u.vesa_lfb.lfb_base = (u32)fb->address;
    v->u.vesa_lfb.ext_lfb_base = (u32)(fb->address >> 32);
    v->u.vesa_lfb.lfb_size = (u32)DIV_ROUND_UP((u64)fb->pitch * fb->height, 0x10000);
    v->u.vesa_lfb.red_pos = fb->red.at;
    v->u.vesa_lfb.red_size = fb->red.size;
    v->u.vesa_lfb.green_pos = fb->green.at;
    v->u.vesa_lfb.green_size = fb->green.size;
    v->u.vesa_lfb.blue_pos = fb->blue.at;
    v->u.vesa_lfb.blue_size = fb->blue.size;
    v->u.vesa_lfb.rsvd_pos = used;
    v->u.vesa_lfb.rsvd_size = fb->bits > used ? fb->bits - used : 0;
}

u32 vga_describe(struct dom0_vga_console_info *v)
{
    memset(v, 0, sizeof(*v));
    switch (vga_mode()) {
    case VGA_TEXT:
        describe_text_mode(v);
        return sizeof(*v);
    case VGA_GRAPHICS:
        describe_framebuffer(v);
        return sizeof(*v);
    default:
        return 0;
    }
}

s64 op_console(struct xen_platform_op *op)
{
    u32 size = vga_describe(&op->u.dom0_console);

    return size ? (s64)size : decline(-ENODEV, "there is no screen");
}
