/*
 * The console on the screen: in VGA's text mode 80 columns of 2-byte cells at 0xb8000, with a hardware cursor that follows; in the graphics
 * mode that a boot loader left, see framebuffer.c. When dom0 starts it owns the screen, and we stay off it unless vga=keep says otherwise,
 * until a panic.
 */
#include <asm/x86.h>
#include <public/errno.h>
#include <pvisor/cmdline.h>
#include <pvisor/console.h>
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include <pvisor/vga.h>
#include "screen.h"

#define TEXT_BASE 0xb8000UL
#define TEXT_SIZE 0x8000UL
#define COLUMNS 80
#define ATTRIBUTE 0x0700   /* light grey on black */
#define CRTC_INDEX 0x3d4
#define CRTC_DATA  0x3d5
#define CRTC_MAX_SCAN_LINE 0x09
#define CRTC_START_HIGH 0x0c
#define CRTC_START_LOW 0x0d
#define CRTC_CURSOR_HIGH 0x0e
#define CRTC_CURSOR_LOW  0x0f
#define CRTC_OVERFLOW 0x07
#define CRTC_VERTICAL_END 0x12
#define GRAPHICS_INDEX 0x3ce
#define GRAPHICS_DATA  0x3cf
#define GRAPHICS_MISC  0x06

static void vga_write(struct console_dev *dev, const char *s, size_t n);

static void vga_take_back(struct console_dev *dev);

static struct console_dev vga_dev = { .name = "vga", .write = vga_write, .take_back = vga_take_back };
static struct screen *screen;
static volatile u16 *text;
static unsigned font_height, x, y;
static struct framebuffer framebuffer;
static bool keep, off;

/* vga=[text-80x<rows>|current|...][,keep]: the mode is what the boot loader left; only keep matters. */
static int parse_vga_word(void *to, const char *word, size_t len)
{
    static const char *const modes[] = { "text", "current", "gfx-", "mode-", "ask" };

    if (len == 4 && !strncmp(word, "keep", 4)) {
        *(bool *)to = true;
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++)
        if (!strncmp(word, modes[i], strlen(modes[i])))
            return 0;
    return -EINVAL;
}

static int parse_vga(const char *v)
{
    bool kept = false;
    int rc = cmdline_list(v, parse_vga_word, &kept);

    keep = rc ? keep : kept;
    return rc;
}
CMDLINE_OPTION("vga", parse_vga);

static u8 crtc_read(u8 reg)
{
    outb(CRTC_INDEX, reg);
    return inb(CRTC_DATA);
}

static void crtc_write(u8 reg, u8 v)
{
    outb(CRTC_INDEX, reg);
    outb(CRTC_DATA, v);
}

/* Whoever scrolls by moving the start of what is shown has moved it. */
static void show_first_page(void)
{
    crtc_write(CRTC_START_HIGH, 0);
    crtc_write(CRTC_START_LOW, 0);
}

/* Colour text mode maps its memory at 0xb8000 (field 3) and has the graphics bit clear. 0xff: no adapter. */
static bool in_text_mode(void)
{
    u8 misc;

    outb(GRAPHICS_INDEX, GRAPHICS_MISC);
    misc = inb(GRAPHICS_DATA);
    return misc != 0xff && !(misc & 1) && (misc >> 2 & 3) == 3;
}

static void put_cell(unsigned column, unsigned row, u8 c)
{
    text[row * COLUMNS + column] = ATTRIBUTE | c;
}

static void move_cursor(unsigned column, unsigned row)
{
    unsigned cell = row * COLUMNS + column;

    crtc_write(CRTC_CURSOR_HIGH, cell >> 8);
    crtc_write(CRTC_CURSOR_LOW, cell & 0xff);
}

static unsigned scroll_text(void);
static struct screen text_screen = { .columns = COLUMNS, .put = put_cell, .scroll = scroll_text, .cursor = move_cursor };

static void clear_row(unsigned row)
{
    for (unsigned column = 0; column < COLUMNS; column++)
        put_cell(column, row, ' ');
}

static unsigned scroll_text(void)
{
    for (unsigned i = 0; i < (text_screen.rows - 1) * COLUMNS; i++)
        text[i] = text[i + COLUMNS];
    clear_row(text_screen.rows - 1);
    return 1;
}

static void new_line(void)
{
    x = 0;
    if (++y == screen->rows)
        y -= screen->scroll();
}

static void put_char(char c)
{
    if (c == '\n') {
        new_line();
    } else if (c == '\r') {
        x = 0;
    } else if (c == '\t') {
        do
            put_char(' ');
        while (x % 8);
    } else if ((u8)c >= ' ') {
        screen->put(x, y, (u8)c);
        if (++x == screen->columns)
            new_line();
    }
}

/*
 * Text goes to where dom0 was told that the screen is: it is seen if dom0 has left the mode as it was. Nothing tells whether it has, but
 * of text mode, whose memory is not touched in another.
 */
static void vga_take_back(struct console_dev *)
{
    if (!off || (!framebuffer.address && !in_text_mode()))
        return;
    off = false;
    screen->shared = true;
    if (!framebuffer.address)
        show_first_page();
    for (y = 0; y < screen->rows; y++)
        for (x = 0; x < screen->columns; x++)
            screen->put(x, y, ' ');
    x = y = 0;
}

static void vga_write(struct console_dev *, const char *s, size_t n)
{
    if (off)
        return;
    for (size_t i = 0; i < n; i++)
        put_char(s[i]);
    if (screen->cursor)
        screen->cursor(x, y);
}

static void read_geometry(void)
{
    u8 overflow = crtc_read(CRTC_OVERFLOW);
    unsigned lines = (crtc_read(CRTC_VERTICAL_END) | (overflow & 0x02) << 7 | (overflow & 0x40) << 3) + 1;

    font_height = (crtc_read(CRTC_MAX_SCAN_LINE) & 0x1f) + 1;
    lines /= font_height;
    text_screen.rows = lines < 2 || lines > 60 ? 25 : lines;
}

static struct screen *find_text_screen(void)
{
    if (!in_text_mode())
        return NULL;
    text = ioremap(maddr(TEXT_BASE), TEXT_SIZE);
    if (!text)
        return NULL;
    read_geometry();
    show_first_page();
    for (unsigned row = 0; row < text_screen.rows; row++)
        clear_row(row);
    return &text_screen;
}

void vga_init(const struct framebuffer *fb)
{
    framebuffer = *fb;
    screen = fb->address ? framebuffer_screen(fb) : find_text_screen();
    if (screen)
        console_register(&vga_dev);
}

void vga_endboot(void)
{
    if (!screen)
        return;
    screen->shared = keep;
    if (keep)
        return;
    printk("VGA: dom0 has the screen now (vga=keep would go on writing here)\n");
    off = true;
}

enum vga_mode vga_mode(void)
{
    return framebuffer.address ? VGA_GRAPHICS : screen ? VGA_TEXT : VGA_NONE;
}

struct vga_text_state vga_text_state(void)
{
    return (struct vga_text_state){ .columns = COLUMNS, .rows = text_screen.rows, .cursor_x = x, .cursor_y = y,
                                    .font_height = font_height };
}

const struct framebuffer *vga_framebuffer(void) { return &framebuffer; }
