#include "talk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "pvisor-save-helper"

/* A message that is being put together: its length, and then as many bytes. */
static struct {
    uint16_t length;
    uint8_t bytes[1024];
} __attribute__((packed)) message;

static bool owes_results;
static void (*to_put_right)(void);

void at_end(void (*fn)(void)) { to_put_right = fn; }

void talk_give_up(int fd)
{
    int error = errno;

    (void)dup2(fd, STDIN_FILENO);
    errno = error;
}

static void put_right(void)
{
    void (*fn)(void) = to_put_right;

    to_put_right = NULL;
    if (fn)
        fn();
}

static void __attribute__((noreturn)) leave(int status)
{
    put_right();
    exit(status);
}

static void begin(enum message type)
{
    uint16_t number = (uint16_t)type;

    memcpy(message.bytes, &number, sizeof(number));
    message.length = sizeof(number);
}

static void add(const void *value, size_t size)
{
    if (size > sizeof(message.bytes) - message.length)
        abort();
    memcpy(message.bytes + message.length, value, size);
    message.length = (uint16_t)(message.length + size);
}

static void add_u32(uint32_t value) { add(&value, sizeof(value)); }
static void add_long(unsigned long value) { add(&value, sizeof(value)); }

static void add_text(const char *text)
{
    uint32_t size = (uint32_t)strlen(text) + 1;

    add_u32(size);
    add(text, size);
}

/* There is nobody to tell if libxl is gone. */
static void send(void)
{
    const char *p = (const char *)&message;
    size_t left = sizeof(message.length) + message.length;

    while (left) {
        ssize_t n = write(STDOUT_FILENO, p, left);

        if (n <= 0)
            leave(EXIT_FAILURE);
        p += n;
        left -= (size_t)n;
    }
}

static int answer(void)
{
    int value;

    send();
    for (size_t have = 0; have < sizeof(value);) {
        ssize_t n = read(STDIN_FILENO, (char *)&value + have, sizeof(value) - have);

        if (n <= 0)
            leave(EXIT_FAILURE);
        have += (size_t)n;
    }
    return value;
}

bool speaks_like_us(unsigned bits, unsigned wanted)
{
    unsigned known = 0;

    for (unsigned m = MSG_SUSPEND; m <= MSG_RESTORE_RESULTS; m++)
        known |= MSG_BIT(m);
    return (bits & wanted) == wanted && !(bits & ~known);
}

static void log_text(xentoollog_level level, int error, const char *format, va_list arguments)
{
    char text[512];

    vsnprintf(text, sizeof(text), format, arguments);
    begin(MSG_LOG);
    add_u32(level);
    add_u32(error ? (uint32_t)error : ~0u);     /* none: or libxl would add "Success" */
    add_text(NAME);
    add_text(text);
    send();
}

void say(xentoollog_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_text(level, 0, format, arguments);
    va_end(arguments);
}

void say_progress(const char *what, unsigned long done, unsigned long total)
{
    begin(MSG_PROGRESS);
    add_text(NAME);
    add_text(what);
    add_long(done);
    add_long(total);
    send();
}

bool ask_to_suspend(void)
{
    begin(MSG_SUSPEND);
    return answer() != 0;
}

bool say_static_data_done(unsigned missing)
{
    begin(MSG_STATIC_DATA_DONE);
    add_u32(missing);
    return answer() == 0;
}

void say_restore_results(uint64_t store_frame, uint64_t console_frame)
{
    begin(MSG_RESTORE_RESULTS);
    add(&store_frame, sizeof(store_frame));
    add(&console_frame, sizeof(console_frame));
    send();
    owes_results = false;
}

void promise_restore_results(void) { owes_results = true; }

static void complete(int result, int error)
{
    put_right();
    if (owes_results)
        say_restore_results(0, 0);
    begin(MSG_COMPLETE);
    add_u32((uint32_t)result);
    add_u32((uint32_t)error);
    (void)answer();
    leave(EXIT_SUCCESS);    /* the result has been said */
}

void say_complete(void)
{
    complete(0, 0);
    abort();
}

void fail(int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_text(XTL_ERROR, error, format, arguments);
    va_end(arguments);
    complete(-1, error);
    abort();
}
