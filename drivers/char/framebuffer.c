/*
 * Text on pixels, in light grey on black, with a font of 8 by 16. Reading a screen's memory is slow, so what stands where is kept here,
 * and scrolling draws what has changed of it. It goes up by a quarter of the screen at once: a line costs some four lines' cells, whatever
 * the size.
 */
#include <pvisor/frame.h>
#include <pvisor/lib.h>
#include <pvisor/printk.h>
#include "screen.h"

#define FONT_WIDTH 8u
#define FONT_HEIGHT 16u
#define FONT_HEADER 4u
#define MAX_COLUMNS 256u
#define MAX_ROWS 128u
#define MAX_SIDE 16384u         /* pixels */
#define MAX_BYTES (256UL << 20)

/* PSF, version 1: "36 04", flags, the height; then the glyphs, by the number of their character as far as ASCII goes. Made by the build. */
extern const u8 font[];

static void put(unsigned column, unsigned row, u8 c);
static unsigned scroll(void);
static struct screen screen = { .put = put, .scroll = scroll };
static u8 cells[MAX_ROWS][MAX_COLUMNS];
static volatile u8 *pixels;
static u32 pitch, light;
static unsigned bytes, scale;   /* of a pixel; pixels of the screen for one of the font, each way */

static void put_pixel(volatile u8 *at, u32 v)
{
    switch (bytes) {
    case 2:
        *(volatile u16 *)at = (u16)v;
        break;
    case 3:
        for (unsigned i = 0; i < 3; i++)
            at[i] = (u8)(v >> 8 * i);
        break;
    default:
        *(volatile u32 *)at = v;
    }
}

static void draw_line(volatile u8 *at, u8 bits)
{
    for (unsigned x = 0; x < FONT_WIDTH * scale; x++, at += bytes)
        put_pixel(at, bits & 0x80 >> x / scale ? light : 0);
}

static void draw(unsigned column, unsigned row, u8 c)
{
    const u8 *glyph = font + FONT_HEADER + (c < 0x7f ? c : '?') * FONT_HEIGHT;
    volatile u8 *at = pixels + (u64)row * FONT_HEIGHT * scale * pitch + (u64)column * FONT_WIDTH * scale * bytes;

    for (unsigned y = 0; y < FONT_HEIGHT * scale; y++, at += pitch)
        draw_line(at, glyph[y / scale]);
}

static void put(unsigned column, unsigned row, u8 c)
{
    if (cells[row][column] == c && !screen.shared)
        return;
    cells[row][column] = c;
    draw(column, row, c);
}

static unsigned scroll(void)
{
    unsigned lines = max(screen.rows / 4, 1u);

    for (unsigned row = 0; row < screen.rows; row++)
        for (unsigned column = 0; column < screen.columns; column++)
            put(column, row, row + lines < screen.rows ? cells[row + lines][column] : ' ');
    return lines;
}

static void clear(const struct framebuffer *fb)
{
    for (u64 y = 0; y < fb->height; y++)
        for (u64 x = 0; x < fb->width; x++)
            put_pixel(pixels + y * pitch + x * bytes, 0);
    memset(cells, ' ', sizeof(cells));
}

/* Two thirds of what a colour can be. */
static u32 part(u8 at, u8 size) { return ((1u << size) - 1) * 2 / 3 << at; }

static bool fits(u8 at, u8 size, u8 bits) { return size <= 16 && at + size <= bits && at < 32; }

static bool is_usable(const struct framebuffer *fb)
{
    u32 n = (fb->bits + 7u) / 8;

    return n >= 2 && n <= 4 && fb->width && fb->width <= MAX_SIDE && fb->height && fb->height <= MAX_SIDE && fb->pitch >= fb->width * n &&
           (u64)fb->pitch * fb->height <= MAX_BYTES && fits(fb->red.at, fb->red.size, fb->bits) &&
           fits(fb->green.at, fb->green.size, fb->bits) && fits(fb->blue.at, fb->blue.size, fb->bits);
}

struct screen *framebuffer_screen(const struct framebuffer *fb)
{
    if (!fb->address)
        return NULL;
    if (!is_usable(fb)) {
        printk(LOG_WARNING "VGA: no text can be drawn in a graphics mode of %ux%u, %u bits, %u bytes a line\n", fb->width, fb->height,
               fb->bits, fb->pitch);
        return NULL;
    }
    pixels = ioremap_wc(maddr(fb->address), (size_t)fb->pitch * fb->height);
    if (!pixels)
        return NULL;
    pitch = fb->pitch;
    bytes = (fb->bits + 7u) / 8;
    scale = max(fb->height / 1000, 1u);
    light = part(fb->red.at, fb->red.size) | part(fb->green.at, fb->green.size) | part(fb->blue.at, fb->blue.size);
    screen.columns = min(fb->width / (FONT_WIDTH * scale), MAX_COLUMNS);
    screen.rows = min(fb->height / (FONT_HEIGHT * scale), MAX_ROWS);
    if (screen.columns < 2 || screen.rows < 2)
        return NULL;
    clear(fb);
    return &screen;
}
