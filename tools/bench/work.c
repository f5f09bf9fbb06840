/*
 * What Linux costs: one program for native Linux, dom0 and domUs, static so that a ramdisk needs no library for it.
 *
 *     work NAME...          measure, and print "WORK name figure n" for each: ns per operation, or operations or MB per
 *                           second; n is how many operations a round has
 *     work serve SECONDS    answer work tcp, tcp_back and udp for so long (0: until killed)
 *     work mark NUMBER      pass a mark (see count.c) and end
 *
 * From the environment: WORK_DISK, a block device whose content may go, and WORK_PEER, the address of a server.
 * Each figure is the best of some rounds, so that a timer tick in one does not count. A mark is passed before and after the
 * timed part of a round, for tools/bench/count.c: BEFORE + n and AFTER + n for the n-th name of the table below.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "mark.h"

#define KIB 1024UL
#define MIB (1024 * KIB)
#define PAGE 4096UL
#define PORT 7777

/* --- Marks --- */

#define BEFORE 0x100
#define AFTER 0x200

/* The number is part of the instruction, so there is one of each. */
#define MARK_1(n) if (number == (n)) MARK_NOP(n);
#define MARK_4(n) MARK_1(n) MARK_1((n) + 1) MARK_1((n) + 2) MARK_1((n) + 3)
#define MARK_16(n) MARK_4(n) MARK_4((n) + 4) MARK_4((n) + 8) MARK_4((n) + 12)
#define MARK_64(n) MARK_16(n) MARK_16((n) + 16) MARK_16((n) + 32) MARK_16((n) + 48)

static __attribute__((noinline)) void mark(unsigned number)
{
    MARK_64(0) MARK_64(BEFORE) MARK_64(AFTER)
}

/* --- Odds and ends --- */

static void die(const char *what)
{
    fprintf(stderr, "work: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *check(void *p, const char *what) { return p == MAP_FAILED ? die(what), p : p; }
static long must(long result, const char *what) { return result < 0 ? die(what), result : result; }

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *map(size_t size)
{
    return check(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), "mmap");
}

static unsigned measured;       /* whose marks to pass */

/* A round's timed part lies between these two. The clock stops outside the marks, so that a mark's own work does not count. */
static uint64_t start(void)
{
    mark(BEFORE + measured);
    return now();
}

static uint64_t stop(uint64_t started)
{
    uint64_t t = now() - started;

    mark(AFTER + measured);
    return t;
}

/* Memory with small pages only, whatever the kernel would like. */
static char *map_small(size_t size)
{
    char *p = map(size);

    madvise(p, size, MADV_NOHUGEPAGE);
    return p;
}

static void touch(char *p, size_t size)
{
    for (size_t i = 0; i < size; i += PAGE)
        p[i] = 1;
}

/* --- Work without devices. Each returns the ns that one round took; per is how many operations that were. --- */

static uint64_t do_getppid(void)
{
    uint64_t t = start();

    for (int i = 0; i < 2000; i++)
        syscall(SYS_getppid);
    return stop(t);
}

static uint64_t do_clock_gettime(void)
{
    uint64_t t = start();

    for (int i = 0; i < 2000; i++)
        now();
    return stop(t);
}

static uint64_t do_rdtsc(void)
{
    uint64_t t = start();

    for (int i = 0; i < 2000; i++)
        __builtin_ia32_rdtsc();
    return stop(t);
}

#define FAULT_SIZE (4 * MIB)

static uint64_t do_fault(void)
{
    char *p = map_small(FAULT_SIZE);
    uint64_t t = start();

    touch(p, FAULT_SIZE);
    t = stop(t);
    munmap(p, FAULT_SIZE);
    return t;
}

static uint64_t do_munmap(void)
{
    char *p = map_small(FAULT_SIZE);
    uint64_t t;

    touch(p, FAULT_SIZE);
    t = start();
    munmap(p, FAULT_SIZE);
    return stop(t);
}

static uint64_t do_mprotect(void)
{
    char *p = map_small(32 * MIB);
    uint64_t t;

    touch(p, 32 * MIB);
    t = start();
    must(mprotect(p, 32 * MIB, PROT_READ), "mprotect");
    must(mprotect(p, 32 * MIB, PROT_READ | PROT_WRITE), "mprotect");
    t = stop(t);
    munmap(p, 32 * MIB);
    return t;
}

static uint64_t children(const char *const *argv)
{
    uint64_t t = start();

    for (int i = 0; i < 10; i++) {
        pid_t pid = (pid_t)must(fork(), "fork");
        if (!pid) {
            if (argv)
                execv(argv[0], (char *const *)argv);
            _exit(!!argv);
        }
        int status;
        must(waitpid(pid, &status, 0), "waitpid");
        if (status)
            die("a child failed");
    }
    return stop(t);
}

static uint64_t do_fork(void) { return children(NULL); }

static uint64_t do_exec(void)
{
    static const char *const argv[] = { "/proc/self/exe", "nothing", NULL };

    return children(argv);
}

static uint64_t do_pipe(void)
{
    int to[2], from[2];
    char c = 0;
    pid_t pid;
    uint64_t t;

    must(pipe(to), "pipe");
    must(pipe(from), "pipe");
    pid = (pid_t)must(fork(), "fork");
    if (!pid) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1 && write(from[1], &c, 1) == 1)
            ;
        _exit(0);
    }
    for (int i = 0; i < 10; i++)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            die("pipe");
    t = start();
    for (int i = 0; i < 200; i++)
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            die("pipe");
    t = stop(t);
    close(to[0]), close(to[1]), close(from[0]), close(from[1]);
    waitpid(pid, NULL, 0);
    return t;
}

/* --- The disk, past the page cache --- */

#define DISK_AREA (16 * MIB)

static int disk(void)
{
    static int fd = -1;
    const char *path = getenv("WORK_DISK");

    if (fd < 0 && path)
        fd = open(path, O_RDWR | O_DIRECT);
    if (fd < 0)
        die(path ? path : "WORK_DISK is not set");
    return fd;
}

static uint64_t disk_run(ssize_t (*transfer)(int, void *, size_t, off_t), size_t block, unsigned times, int at_random)
{
    static char *buffer;
    uint32_t seed = 1;
    uint64_t t;

    if (!buffer)
        touch(buffer = map(MIB), MIB);
    disk();
    t = start();
    for (unsigned i = 0; i < times; i++) {
        seed = seed * 1664525 + 1013904223;
        off_t at = (off_t)((at_random ? seed >> 8 : i) % (DISK_AREA / block) * block);
        if (transfer(disk(), buffer, block, at) != (ssize_t)block)
            die("disk");
    }
    return stop(t);
}

static ssize_t disk_write(int fd, void *buffer, size_t size, off_t at) { return pwrite(fd, buffer, size, at); }

static uint64_t do_read4k(void) { return disk_run(pread, 4 * KIB, 500, 0); }
static uint64_t do_write4k(void) { return disk_run(disk_write, 4 * KIB, 500, 0); }
static uint64_t do_read1m(void) { return disk_run(pread, MIB, 32, 0); }
static uint64_t do_write1m(void) { return disk_run(disk_write, MIB, 32, 0); }
static uint64_t do_random(void) { return disk_run(pread, 4 * KIB, 500, 1); }

/* --- The network --- */

static struct sockaddr_in address(const char *host)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

    if (!host || !inet_aton(host, &a.sin_addr))
        die("WORK_PEER is no address");
    return a;
}

static int connected(int type)
{
    struct sockaddr_in a = address(getenv("WORK_PEER"));
    int s = (int)must(socket(AF_INET, type, 0), "socket");

    must(connect(s, (struct sockaddr *)&a, sizeof(a)), "connect");
    return s;
}

static void read_all(int s, void *to, size_t size)
{
    for (size_t done = 0; done < size; ) {
        ssize_t n = read(s, (char *)to + done, size - done);
        if (n <= 0)
            die("the peer went away");
        done += (size_t)n;
    }
}

static void write_all(int s, const void *from, size_t size)
{
    for (size_t done = 0; done < size; )
        done += (size_t)must(write(s, (const char *)from + done, size - done), "write");
}

/* A conversation: the client names what it wants, and how much; who receives it all says so with one byte. */
#define CHUNK (64 * KIB)
#define TCP_SIZE (16 * MIB)
enum wish { SEND_TO_ME, TAKE };
static char chunk[CHUNK];

static void stream_out(int s, size_t size)
{
    char done;

    for (; size; size -= CHUNK)
        write_all(s, chunk, CHUNK);
    read_all(s, &done, 1);
}

static void stream_in(int s, size_t size)
{
    for (; size; size -= CHUNK)
        read_all(s, chunk, CHUNK);
    write_all(s, chunk, 1);
}

static uint64_t tcp(enum wish wish)
{
    int s = connected(SOCK_STREAM);
    char word = (char)wish;
    uint64_t t = start();

    write_all(s, &word, 1);
    if (wish == TAKE)
        stream_out(s, TCP_SIZE);
    else
        stream_in(s, TCP_SIZE);
    t = stop(t);
    close(s);
    return t;
}

static uint64_t do_tcp(void) { return tcp(TAKE); }
static uint64_t do_tcp_back(void) { return tcp(SEND_TO_ME); }

static uint64_t do_udp(void)
{
    int s = connected(SOCK_DGRAM);
    char c = 0;
    uint64_t t = start();

    for (int i = 0; i < 200; i++)
        if (write(s, &c, 1) != 1 || read(s, &c, 1) != 1)
            die("udp");
    t = stop(t);
    close(s);
    return t;
}

static void serve_stream(int s)
{
    char wish;

    read_all(s, &wish, 1);
    if (wish == TAKE)
        stream_in(s, TCP_SIZE);
    else
        stream_out(s, TCP_SIZE);
    _exit(0);
}

static void serve(unsigned seconds)
{
    struct sockaddr_in a = address("0.0.0.0"), from;
    int one = 1, udp = (int)must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    int stream = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");

    setsockopt(stream, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    must(bind(udp, (struct sockaddr *)&a, sizeof(a)), "bind");
    must(bind(stream, (struct sockaddr *)&a, sizeof(a)), "bind");
    must(listen(stream, 8), "listen");
    alarm(seconds);
    if (!must(fork(), "fork")) {
        alarm(seconds);
        for (;;) {
            socklen_t size = sizeof(from);
            ssize_t n = recvfrom(udp, chunk, CHUNK, 0, (struct sockaddr *)&from, &size);
            if (n > 0)
                sendto(udp, chunk, (size_t)n, 0, (struct sockaddr *)&from, size);
        }
    }
    for (;;) {
        int s = accept(stream, NULL, NULL);
        if (s >= 0 && !fork())
            serve_stream(s);
        close(s);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

/* --- The table --- */

enum unit { NS, MB_PER_SECOND, PER_SECOND };

static const struct work {
    const char *name;
    uint64_t (*round)(void);
    unsigned operations, rounds;
    enum unit unit;
    unsigned bytes;           /* of an operation */
} table[] = {
    { "getppid", do_getppid, 2000, 5, NS, 0 },
    { "clock_gettime", do_clock_gettime, 2000, 5, NS, 0 },
    { "rdtsc", do_rdtsc, 2000, 5, NS, 0 },
    { "fault", do_fault, FAULT_SIZE / PAGE, 5, NS, 0 },
    { "mprotect", do_mprotect, 1, 3, NS, 0 },
    { "munmap", do_munmap, FAULT_SIZE / PAGE, 5, NS, 0 },
    { "fork", do_fork, 10, 5, NS, 0 },
    { "exec", do_exec, 10, 3, NS, 0 },
    { "pipe", do_pipe, 200, 5, NS, 0 },
    { "read4k", do_read4k, 500, 3, MB_PER_SECOND, 4 * KIB },
    { "write4k", do_write4k, 500, 3, MB_PER_SECOND, 4 * KIB },
    { "read1m", do_read1m, 32, 3, MB_PER_SECOND, MIB },
    { "write1m", do_write1m, 32, 3, MB_PER_SECOND, MIB },
    { "random", do_random, 500, 3, PER_SECOND, 0 },
    { "tcp", do_tcp, TCP_SIZE / CHUNK, 3, MB_PER_SECOND, CHUNK },
    { "tcp_back", do_tcp_back, TCP_SIZE / CHUNK, 3, MB_PER_SECOND, CHUNK },
    { "udp", do_udp, 200, 5, NS, 0 },
};
#define WARM_UP 63
#define NR_WORK (sizeof(table) / sizeof(table[0]))

static double figure(const struct work *w, uint64_t ns)
{
    double each = (double)ns / w->operations;

    switch (w->unit) {
    case NS: return each;
    case MB_PER_SECOND: return w->bytes * 1000 / each;
    default: return 1e9 / each;
    }
}

static void measure(unsigned n)
{
    const struct work *w = &table[n];
    uint64_t best = ~0ull, t;

    measured = WARM_UP;
    (void)w->round();       /* what is done once only */
    measured = n;
    for (unsigned i = 0; i < w->rounds; i++) {
        t = w->round();
        best = t < best ? t : best;
    }
    printf("WORK %s %.3f %u\n", w->name, figure(w, best), w->operations);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 1;
    if (!strcmp(argv[1], "nothing"))
        return 0;
    if (argc > 2 && !strcmp(argv[1], "mark"))
        return mark((unsigned)atoi(argv[2])), 0;
    if (argc > 2 && !strcmp(argv[1], "serve"))
        serve((unsigned)atoi(argv[2]));
    for (int i = 1; i < argc; i++) {
        unsigned n = 0;
        while (n < NR_WORK && strcmp(table[n].name, argv[i]))
            n++;
        if (n == NR_WORK)
            return fprintf(stderr, "work: no %s\n", argv[i]), 1;
        measure(n);
    }
    return 0;
}
