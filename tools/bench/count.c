/*
 * A plugin for QEMU that counts instructions: those of the hypervisor's own addresses (the ABI's hole in a 64-bit address
 * space, where Xen and pvisor keep all their code) apart from all others. Nothing in the machine notices.
 *
 *   -plugin file=count.so,out=FILE
 *   -plugin file=count.so,out=FILE,from=ID,to=ID
 *
 * FILE is shared memory: struct counts below, then one struct mark for each mark that was passed, in order, then one struct
 * block for each block of the hypervisor's code, for a profile by function (tools/bench/profile): with its count when the mark
 * "from" was passed last, and the mark "to". A mark is an
 * instruction that does nothing, nopl MARK + n(%rax, %rax), and may stand in any program of any guest (tools/bench/work.c).
 * Two marks come by themselves: MARK_KERNEL when the first instruction runs in Linux's part of the address space, and
 * MARK_USER when the first then runs in a lower half, that is in user space.
 *
 * A block of code that a fault leaves early counts in full: an error well below 1 %.
 *
 * QEMU's packages bring no header for plugins. The declarations are version 1 of the interface as QEMU's manual ("TCG
 * plugins", API) describes it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mark.h"

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 };
enum { CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*cb)(plugin_id id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned cpu, void *data), int flags,
                                            void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t n);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#define EXPORT __attribute__((visibility("default")))

#define HYPERVISOR_START 0xffff800000000000u
#define HYPERVISOR_END   0xffff880000000000u
#define LINUX_START      0xffffffff80000000u
#define LOWER_HALF_END   0x0000800000000000u

#define MARK_MASK 0xffff0000u
#define MARK_KERNEL 0xfffe
#define MARK_USER 0xffff
#define MAX_MARKS 65536
#define MAX_BLOCKS 262144

struct counts { uint64_t hypervisor, other, marks, blocks; };
struct mark { uint64_t id, hypervisor, other; };
struct block { uint64_t address, instructions, from, to; };

static struct shared {
    struct counts counts;
    struct mark mark[MAX_MARKS];
    struct block block[MAX_BLOCKS];
} *shared;

static uint64_t profile_from, profile_to;

static void pass(unsigned cpu, void *data)
{
    struct counts *c = &shared->counts;
    uint64_t id = (uint64_t)(uintptr_t)data;

    (void)cpu;
    for (uint64_t i = 0; i < c->blocks && (id == profile_from || id == profile_to); i++)
        *(id == profile_from ? &shared->block[i].from : &shared->block[i].to) = shared->block[i].instructions;
    if (c->marks < MAX_MARKS)
        shared->mark[c->marks] = (struct mark){ id, c->hypervisor, c->other };
    __atomic_fetch_add(&c->marks, 1, __ATOMIC_SEQ_CST);
}

/* A block is translated right before it runs for the first time. */
static void look_for_start(uint64_t va)
{
    static bool kernel, user;

    if (!kernel && va >= LINUX_START) {
        kernel = true;
        pass(0, (void *)MARK_KERNEL);
    } else if (kernel && !user && va < LOWER_HALF_END) {
        user = true;
        pass(0, (void *)MARK_USER);
    }
}

static void look_for_mark(struct qemu_plugin_insn *insn)
{
    static const uint8_t nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
    const uint8_t *bytes = qemu_plugin_insn_data(insn);
    uint32_t value;

    if (qemu_plugin_insn_size(insn) != 8 || memcmp(bytes, nop, sizeof(nop)))
        return;
    memcpy(&value, bytes + 4, 4);
    if ((value & MARK_MASK) == MARK)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, pass, CB_NO_REGS, (void *)(uintptr_t)(value & ~MARK_MASK));
}

static void profile(struct qemu_plugin_tb *tb, uint64_t va, size_t n)
{
    struct block *b = &shared->block[shared->counts.blocks];

    if (shared->counts.blocks == MAX_BLOCKS)
        return;
    shared->counts.blocks++;
    b->address = va;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->instructions, n);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    uint64_t va = qemu_plugin_tb_vaddr(tb);
    size_t n = qemu_plugin_tb_n_insns(tb);
    bool ours = va >= HYPERVISOR_START && va < HYPERVISOR_END;

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, ours ? &shared->counts.hypervisor : &shared->counts.other, n);
    if (ours)
        profile(tb, va, n);
    look_for_start(va);
    for (size_t i = 0; i < n && !ours; i++)
        look_for_mark(qemu_plugin_tb_get_insn(tb, i));
}

EXPORT int qemu_plugin_version = 1;

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    int fd = argc && !strncmp(argv[0], "out=", 4) ? open(argv[0] + 4, O_RDWR | O_CREAT, 0644) : -1;

    (void)info;
    if (argc == 3 && (sscanf(argv[1], "from=%" SCNu64, &profile_from) != 1 || sscanf(argv[2], "to=%" SCNu64, &profile_to) != 1))
        return -1;
    if (fd < 0 || ftruncate(fd, sizeof(*shared))) {
        fprintf(stderr, "count: cannot write out=FILE\n");
        return -1;
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
