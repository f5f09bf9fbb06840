/*
 * The ABI's structures in the layout of the format that is being built: GUEST(mmuext_op) is struct mmuext_op_l64
 * in a 64-bit kernel and struct mmuext_op_l32 in a 32-bit one. FORMAT_PT64, FORMAT_PT32P or FORMAT_PT32 is defined
 * by the makefile.
 */
#ifndef GUEST_ABI_H
#define GUEST_ABI_H

#include <public/callback.h>
#include <public/errno.h>
#include <public/event_channel.h>
#include <public/grant_table.h>
#include <public/memory.h>
#include <public/physdev.h>
#include <public/sched.h>
#include <public/vcpu.h>
#include <public/version.h>
#include <public/xen.h>

typedef unsigned long word;

#ifdef FORMAT_PT64
#define GUEST(name)   struct name##_l64
#define KERNEL_CS     (FLAT_RING3_CS64 & ~3) /* selectors as frames show them: ring 0 stands for the kernel */
#define KERNEL_SS     FLAT_RING3_SS64
#define USER_CS       FLAT_RING3_CS64
#define USER_SS       FLAT_RING3_SS64
#define FORMAT_NAME   "pt64"
typedef struct cpu_user_regs_64 cpu_user_regs;
typedef struct vcpu_guest_context_64 vcpu_guest_context;
#else
#define GUEST(name)   struct name##_l32
#define KERNEL_CS     FLAT_RING1_CS
#define KERNEL_SS     FLAT_RING1_SS
#define USER_CS       FLAT_RING3_CS
#define USER_SS       FLAT_RING3_SS
#ifdef FORMAT_PT32P
#define FORMAT_NAME   "pt32p"
#else
#define FORMAT_NAME   "pt32"
#endif
typedef struct cpu_user_regs_32 cpu_user_regs;
typedef struct vcpu_guest_context_32 vcpu_guest_context;
#endif

#define VECTOR_DE 0
#define VECTOR_DB 1
#define VECTOR_BP 3
#define VECTOR_OF 4
#define VECTOR_BR 5
#define VECTOR_UD 6
#define VECTOR_NM 7
#define VECTOR_NP 11
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_MF 16
#define VECTOR_AC 17
#define VECTOR_XM 19

#define EFLAGS_CF (1UL << 0)
#define EFLAGS_TF (1UL << 8)
#define EFLAGS_IF (1UL << 9)
#define EFLAGS_DF (1UL << 10)
#define EFLAGS_NT (1UL << 14)
#define EFLAGS_AC (1UL << 18)

#endif
