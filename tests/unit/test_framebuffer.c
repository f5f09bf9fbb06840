/* Text on a screen of pixels: what is where, in each size of a pixel, and that nothing is written beside it (the sanitizer looks). */
// SOURCES: tests/unit/fake/log.c common/lib/text.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../drivers/char/framebuffer.c"
#include "fake/log.h"

void *malloc(size_t size);
void free(void *p);

/* Each line of a glyph is its character's number. */
const u8 font[FONT_HEADER + 128 * FONT_HEIGHT] = {
    [FONT_HEADER + 'A' * FONT_HEIGHT ... FONT_HEADER + 'A' * FONT_HEIGHT + FONT_HEIGHT - 1] = 'A',
    [FONT_HEADER + 'B' * FONT_HEIGHT ... FONT_HEADER + 'B' * FONT_HEIGHT + FONT_HEIGHT - 1] = 'B',
    [FONT_HEADER + '?' * FONT_HEIGHT ... FONT_HEADER + '?' * FONT_HEIGHT + FONT_HEIGHT - 1] = '?',
};

static u8 *memory;

void *ioremap_wc(maddr_t a, size_t size)
{
    assert_int_equal(a.v, 0xc0000000);
    free(memory);
    memory = malloc(size);
    memset(memory, 0xee, size);
    return memory;
}

static struct framebuffer mode(u32 width, u32 height, u8 bits)
{
    u32 n = (bits + 7u) / 8;

    return (struct framebuffer){ .address = 0xc0000000, .pitch = width * n + 5 * n, .width = width, .height = height, .bits = bits,
                                 .red = { bits == 16 ? 11 : 16, bits == 16 ? 5 : 8 }, .green = { bits == 16 ? 5 : 8, bits == 16 ? 6 : 8 },
                                 .blue = { 0, bits == 16 ? 5 : 8 } };
}

static u32 pixel_at(const struct framebuffer *fb, unsigned px, unsigned py)
{
    u32 v = 0, n = (fb->bits + 7u) / 8;

    memcpy(&v, memory + (size_t)py * fb->pitch + px * n, n);
    return v;
}

/* The character whose glyph stands there, in light grey on black; 0: none. */
static u8 character_at(const struct framebuffer *fb, unsigned column, unsigned row, unsigned size)
{
    static const u32 grey[] = { [16] = 20u << 11 | 42 << 5 | 20, [24] = 0xaaaaaa, [32] = 0xaaaaaa };
    u8 first = 0;

    for (unsigned py = 0; py < FONT_HEIGHT * size; py++) {
        u8 line = 0;

        for (unsigned px = 0; px < FONT_WIDTH * size; px++) {
            u32 v = pixel_at(fb, column * FONT_WIDTH * size + px, row * FONT_HEIGHT * size + py);

            assert_true(v == 0 || v == grey[fb->bits]);
            if (px % size == 0)
                line = (u8)(line << 1 | !!v);
            else
                assert_int_equal(line & 1, !!v);
        }
        first = py ? first : line;
        assert_int_equal(line, first);
    }
    return first;
}

static void draws_in_every_depth_and_size(void **state)
{
    static const struct { u32 width, height; u8 bits; unsigned size; } modes[] = {
        { 85, 50, 16, 1 }, { 85, 50, 24, 1 }, { 80, 48, 32, 1 }, { 100, 2000, 32, 2 } };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        struct framebuffer fb = mode(modes[i].width, modes[i].height, modes[i].bits);
        struct screen *s = framebuffer_screen(&fb);

        assert_non_null(s);
        assert_int_equal(s->columns, modes[i].width / 8 / modes[i].size);
        assert_int_equal(s->rows, modes[i].height / 16 / modes[i].size);
        assert_int_equal(character_at(&fb, 1, 1, modes[i].size), 0);
        s->put(1, 1, 'A');
        s->put(s->columns - 1, s->rows - 1, 'B');
        s->put(0, 0, 0xe4);             /* the font has no more than ASCII for us */
        assert_int_equal(character_at(&fb, 1, 1, modes[i].size), 'A');
        assert_int_equal(character_at(&fb, s->columns - 1, s->rows - 1, modes[i].size), 'B');
        assert_int_equal(character_at(&fb, 0, 0, modes[i].size), '?');
        assert_int_equal(memory[fb.width * ((fb.bits + 7u) / 8)], 0xee);       /* between two lines */
    }
}

static void draws_over_what_dom0_has_drawn(void **state)
{
    struct framebuffer fb = mode(80, 48, 32);
    struct screen *s = framebuffer_screen(&fb);

    (void)state;
    s->put(2, 1, 'A');
    s->shared = true;
    memset(memory, 0, 16 * 2 * fb.pitch);
    s->put(2, 1, 'A');
    assert_int_equal(character_at(&fb, 2, 1, 1), 'A');
    s->shared = false;
}

static void scrolls_by_a_quarter(void **state)
{
    struct framebuffer fb = mode(80, 16 * 9, 32);
    struct screen *s = framebuffer_screen(&fb);

    (void)state;
    for (unsigned row = 0; row < s->rows; row++)
        s->put(3, row, row % 2 ? 'A' : 'B');
    assert_int_equal(s->scroll(), 2);
    for (unsigned row = 0; row < s->rows; row++)
        assert_int_equal(character_at(&fb, 3, row, 1), row >= s->rows - 2 ? 0 : row % 2 ? 'A' : 'B');
    fb = mode(80, 48, 32);
    s = framebuffer_screen(&fb);
    assert_int_equal(s->scroll(), 1);
}

static void names_a_mode_that_it_cannot_draw_in(void **state)
{
    const struct framebuffer good = mode(640, 480, 32);
    struct framebuffer bad[] = { good, good, good, good, good, good, good };

    (void)state;
    bad[0].bits = 8;
    bad[1].bits = 40;
    bad[2].pitch = 640 * 4 - 1;
    bad[3].red.at = 25;
    bad[4].height = 0;
    bad[5].width = MAX_SIDE + 1;
    bad[6].pitch = 0xffffffff;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        log_clear();
        assert_null(framebuffer_screen(&bad[i]));
        assert_non_null(strstr(log_text, "no text can be drawn"));
    }
    bad[0].address = 0;
    log_clear();
    assert_null(framebuffer_screen(&bad[0]));
    assert_string_equal(log_text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_in_every_depth_and_size),
        cmocka_unit_test(draws_over_what_dom0_has_drawn),
        cmocka_unit_test(scrolls_by_a_quarter),
        cmocka_unit_test(names_a_mode_that_it_cannot_draw_in),
    };

    return cmocka_run_group_tests_name("framebuffer", tests, NULL, NULL);
}
