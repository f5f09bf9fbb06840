/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's CPUID leaves, from XEN_CPUID_FIRST_LEAF: 0 signature and last leaf, 1 version, 2 hypercall
 * page count and MSR, 3 time (subleaf 0 flags, 1 tsc offset and scale, 2 host kHz), 4 HVM, 5 PV. Facts from
 * Xen 4.17's public/arch-x86/cpuid.h.
 */
#ifndef PUBLIC_CPUID_H
#define PUBLIC_CPUID_H

#define XEN_CPUID_FIRST_LEAF    0x40000000
#define XEN_CPUID_SIGNATURE_EBX 0x566e6558 /* "XenVMMXenVMM" */
#define XEN_CPUID_SIGNATURE_ECX 0x65584d4d
#define XEN_CPUID_SIGNATURE_EDX 0x4d4d566e
#define _XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD 0
#define XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD  (1U << 0)
#define XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK       (0xffU << 0) /* leaf 5, ebx */
#define XEN_CPUID_MAX_NUM_LEAVES 5

#endif
