/*
 * The FPU and extended state of vCPUs. State is switched eagerly: a vCPU's registers are saved when it leaves a CPU and
 * loaded before it runs, unless the CPU still holds them (then nothing is done). CR0.TS on the CPU is the
 * guest's own TS, nothing else; the hypervisor never touches FPU registers.
 */
#ifndef ASM_FPU_H
#define ASM_FPU_H

#include <pvisor/types.h>

struct vcpu;

#define FPU_LEGACY_SIZE 512

/* 0 or -ENOMEM. The state is what a processor has after reset, with x87 control word and MXCSR at their defaults. */
int fpu_vcpu_init(struct vcpu *v);
void fpu_vcpu_free(struct vcpu *v);

/* On the CPU, interrupts off. Both do nothing for an idle vCPU. */
void fpu_ctxt_switch_from(struct vcpu *v);
void fpu_ctxt_switch_to(struct vcpu *v);

/* Interrupts off between the two: code that is not ours may use the FPU, which starts at its defaults. */
void fpu_lend(void);
void fpu_take_back(void);

/*
 * #NM from the current guest. False: the guest itself had TS set and must get #NM (TS is cleared for it now, as the
 * ABI promises). True: nothing to deliver, run on.
 */
bool fpu_handle_nm(void);
/* The current guest's CR0.TS. */
void fpu_set_ts(bool on);

/* XSETBV by the current guest's kernel: 0, or -EINVAL (#GP): an index other than 0, or bits that its policy does not give. */
int fpu_xsetbv(u32 index, u64 value);
u64 fpu_xcr0(const struct vcpu *v);

/*
 * For the toolstack and VCPUOP_initialise. v must not be running, unless it is current and the call reads.
 * Nothing that is set here can make the hypervisor fault: MXCSR bits that the CPU lacks are dropped.
 */
void fpu_get_legacy(struct vcpu *v, void *image /* FPU_LEGACY_SIZE */);
void fpu_set_legacy(struct vcpu *v, const void *image /* FPU_LEGACY_SIZE */);

/*
 * XEN_DOMCTL_{get,set}vcpuextstate buffers: u64 xcr0, u64 xcr0_accum, then the state in XSAVE's standard format.
 * fpu_ext_size: bytes that get writes (0: the CPU or v's policy has no XSAVE).
 * set: -EINVAL (size, xcr0 or header not acceptable to v's policy), -EOPNOTSUPP without XSAVE; buf is a private copy.
 */
size_t fpu_ext_size(const struct vcpu *v);
void fpu_ext_get(struct vcpu *v, void *buf);
int fpu_ext_set(struct vcpu *v, const void *buf, size_t size);
u64 fpu_ext_mask(const struct vcpu *v);         /* xfeature_mask of XEN_DOMCTL_getvcpuextstate */

/* Called by cpu_init_features(). */
void fpu_init_cpu(void);

#endif
