/* SPDX-License-Identifier: MIT */
/*
 * CPU feature sets, as XEN_SYSCTL_get_cpu_featureset returns them: one word per CPUID register. Facts from
 * Xen 4.17's public/arch-x86/cpufeatureset.h (which tells the words' order in comments).
 *
 * XEN_X86_FEATURES(F) lists F(word, bit, name); each gives XEN_X86_FEATURE_name = word * 32 + bit.
 */
#ifndef PUBLIC_CPUFEATURESET_H
#define PUBLIC_CPUFEATURESET_H

#define FEATURESET_1d     0 /* 1, edx */
#define FEATURESET_1c     1 /* 1, ecx */
#define FEATURESET_e1d    2 /* 0x80000001, edx */
#define FEATURESET_e1c    3 /* 0x80000001, ecx */
#define FEATURESET_Da1    4 /* 0xd:1, eax */
#define FEATURESET_7b0    5 /* 7:0, ebx */
#define FEATURESET_7c0    6 /* 7:0, ecx */
#define FEATURESET_e7d    7 /* 0x80000007, edx */
#define FEATURESET_e8b    8 /* 0x80000008, ebx */
#define FEATURESET_7d0    9 /* 7:0, edx */
#define FEATURESET_7a1   10 /* 7:1, eax */
#define FEATURESET_e21a  11 /* 0x80000021, eax */
#define FEATURESET_7b1   12 /* 7:1, ebx */
#define FEATURESET_7d2   13 /* 7:2, edx */
#define FEATURESET_7c1   14 /* 7:1, ecx */
#define FEATURESET_7d1   15 /* 7:1, edx */
#define FEATURESET_m10Al 16 /* MSR 0x10a, low */
#define FEATURESET_m10Ah 17 /* MSR 0x10a, high */
#define FEATURESET_e21c  18 /* 0x80000021, ecx */
#define FEATURESET_NR_WORDS 19

#define XEN_X86_FEATURES(F) \
    F(0, 0, FPU) F(0, 1, VME) F(0, 2, DE) F(0, 3, PSE) F(0, 4, TSC) F(0, 5, MSR) F(0, 6, PAE) F(0, 7, MCE) \
    F(0, 8, CX8) F(0, 9, APIC) F(0, 11, SEP) F(0, 12, MTRR) F(0, 13, PGE) F(0, 14, MCA) F(0, 15, CMOV) \
    F(0, 16, PAT) F(0, 17, PSE36) F(0, 19, CLFLUSH) F(0, 21, DS) F(0, 22, ACPI) F(0, 23, MMX) \
    F(0, 24, FXSR) F(0, 25, SSE) F(0, 26, SSE2) F(0, 27, SS) F(0, 28, HTT) F(0, 29, TM1) F(0, 31, PBE) \
    F(1, 0, SSE3) F(1, 1, PCLMULQDQ) F(1, 2, DTES64) F(1, 3, MONITOR) F(1, 4, DSCPL) F(1, 5, VMX) \
    F(1, 6, SMX) F(1, 7, EIST) F(1, 8, TM2) F(1, 9, SSSE3) F(1, 12, FMA) F(1, 13, CX16) F(1, 14, XTPR) \
    F(1, 15, PDCM) F(1, 17, PCID) F(1, 18, DCA) F(1, 19, SSE4_1) F(1, 20, SSE4_2) F(1, 21, X2APIC) \
    F(1, 22, MOVBE) F(1, 23, POPCNT) F(1, 24, TSC_DEADLINE) F(1, 25, AESNI) F(1, 26, XSAVE) \
    F(1, 27, OSXSAVE) F(1, 28, AVX) F(1, 29, F16C) F(1, 30, RDRAND) F(1, 31, HYPERVISOR) \
    F(2, 11, SYSCALL) F(2, 20, NX) F(2, 22, MMXEXT) F(2, 25, FFXSR) F(2, 26, PAGE1GB) F(2, 27, RDTSCP) \
    F(2, 29, LM) F(2, 30, 3DNOWEXT) F(2, 31, 3DNOW) \
    F(3, 0, LAHF_LM) F(3, 1, CMP_LEGACY) F(3, 2, SVM) F(3, 3, EXTAPIC) F(3, 4, CR8_LEGACY) F(3, 5, ABM) \
    F(3, 6, SSE4A) F(3, 7, MISALIGNSSE) F(3, 8, 3DNOWPREFETCH) F(3, 9, OSVW) F(3, 10, IBS) F(3, 11, XOP) \
    F(3, 12, SKINIT) F(3, 13, WDT) F(3, 15, LWP) F(3, 16, FMA4) F(3, 19, NODEID_MSR) F(3, 21, TBM) \
    F(3, 22, TOPOEXT) F(3, 26, DBEXT) F(3, 29, MONITORX) F(3, 30, ADDR_MSK_EXT) \
    F(4, 0, XSAVEOPT) F(4, 1, XSAVEC) F(4, 2, XGETBV1) F(4, 3, XSAVES) \
    F(5, 0, FSGSBASE) F(5, 1, TSC_ADJUST) F(5, 2, SGX) F(5, 3, BMI1) F(5, 4, HLE) F(5, 5, AVX2) \
    F(5, 6, FDP_EXCP_ONLY) F(5, 7, SMEP) F(5, 8, BMI2) F(5, 9, ERMS) F(5, 10, INVPCID) F(5, 11, RTM) \
    F(5, 12, PQM) F(5, 13, NO_FPU_SEL) F(5, 14, MPX) F(5, 15, PQE) F(5, 16, AVX512F) F(5, 17, AVX512DQ) \
    F(5, 18, RDSEED) F(5, 19, ADX) F(5, 20, SMAP) F(5, 21, AVX512_IFMA) F(5, 23, CLFLUSHOPT) \
    F(5, 24, CLWB) F(5, 25, PROC_TRACE) F(5, 26, AVX512PF) F(5, 27, AVX512ER) F(5, 28, AVX512CD) \
    F(5, 29, SHA) F(5, 30, AVX512BW) F(5, 31, AVX512VL) \
    F(6, 0, PREFETCHWT1) F(6, 1, AVX512_VBMI) F(6, 2, UMIP) F(6, 3, PKU) F(6, 4, OSPKE) \
    F(6, 6, AVX512_VBMI2) F(6, 7, CET_SS) F(6, 8, GFNI) F(6, 9, VAES) F(6, 10, VPCLMULQDQ) \
    F(6, 11, AVX512_VNNI) F(6, 12, AVX512_BITALG) F(6, 14, AVX512_VPOPCNTDQ) F(6, 22, RDPID) \
    F(6, 25, CLDEMOTE) F(6, 27, MOVDIRI) F(6, 28, MOVDIR64B) F(6, 29, ENQCMD) \
    F(7, 7, HW_PSTATE) F(7, 8, ITSC) F(7, 9, CPB) F(7, 10, EFRO) \
    F(8, 0, CLZERO) F(8, 2, RSTR_FP_ERR_PTRS) F(8, 9, WBNOINVD) F(8, 12, IBPB) F(8, 14, IBRS) \
    F(8, 15, AMD_STIBP) F(8, 16, IBRS_ALWAYS) F(8, 17, STIBP_ALWAYS) F(8, 18, IBRS_FAST) \
    F(8, 19, IBRS_SAME_MODE) F(8, 20, NO_LMSL) F(8, 23, AMD_PPIN) F(8, 24, AMD_SSBD) F(8, 25, VIRT_SSBD) \
    F(8, 26, SSB_NO) F(8, 28, PSFD) F(8, 29, BTC_NO) F(8, 30, IBPB_RET) \
    F(9, 2, AVX512_4VNNIW) F(9, 3, AVX512_4FMAPS) F(9, 4, FSRM) F(9, 8, AVX512_VP2INTERSECT) \
    F(9, 9, SRBDS_CTRL) F(9, 10, MD_CLEAR) F(9, 11, RTM_ALWAYS_ABORT) F(9, 13, TSX_FORCE_ABORT) \
    F(9, 14, SERIALIZE) F(9, 15, HYBRID) F(9, 16, TSXLDTRK) F(9, 20, CET_IBT) F(9, 23, AVX512_FP16) \
    F(9, 26, IBRSB) F(9, 27, STIBP) F(9, 28, L1D_FLUSH) F(9, 29, ARCH_CAPS) F(9, 30, CORE_CAPS) \
    F(9, 31, SSBD) \
    F(10, 0, SHA512) F(10, 1, SM3) F(10, 2, SM4) F(10, 4, AVX_VNNI) F(10, 5, AVX512_BF16) F(10, 7, CMPCCXADD) \
    F(10, 10, FZRM) F(10, 11, FSRS) F(10, 12, FSRCS) F(10, 23, AVX_IFMA) \
    F(11, 0, NO_NEST_BP) F(11, 2, LFENCE_DISPATCH) F(11, 5, VERW_CLEAR) F(11, 6, NSCB) F(11, 8, AUTO_IBRS) \
    F(11, 10, AMD_FSRS) F(11, 11, AMD_FSRC) F(11, 18, EPSF) F(11, 19, FSRSC) F(11, 20, AMD_PREFETCHI) F(11, 27, SBPB) \
    F(11, 28, IBPB_BRTYPE) F(11, 29, SRSO_NO) F(11, 30, SRSO_US_NO) F(11, 31, SRSO_MSR_FIX) \
    F(12, 0, INTEL_PPIN) \
    F(13, 0, INTEL_PSFD) F(13, 1, IPRED_CTRL) F(13, 2, RRSBA_CTRL) F(13, 4, BHI_CTRL) F(13, 5, MCDT_NO) \
    F(15, 4, AVX_VNNI_INT8) F(15, 5, AVX_NE_CONVERT) F(15, 10, AVX_VNNI_INT16) F(15, 14, PREFETCHI) F(15, 18, CET_SSS) \
    F(16, 0, RDCL_NO) F(16, 1, EIBRS) F(16, 2, RSBA) F(16, 3, SKIP_L1DFL) F(16, 4, INTEL_SSB_NO) \
    F(16, 5, MDS_NO) F(16, 6, IF_PSCHANGE_MC_NO) F(16, 7, TSX_CTRL) F(16, 8, TAA_NO) F(16, 9, MCU_CTRL) \
    F(16, 10, MISC_PKG_CTRL) F(16, 11, ENERGY_FILTERING) F(16, 12, DOITM) F(16, 13, SBDR_SSDP_NO) \
    F(16, 14, FBSDP_NO) F(16, 15, PSDP_NO) F(16, 17, FB_CLEAR) F(16, 18, FB_CLEAR_CTRL) F(16, 19, RRSBA) \
    F(16, 20, BHI_NO) F(16, 21, XAPIC_STATUS) F(16, 23, OVRCLK_STATUS) F(16, 24, PBRSB_NO) \
    F(16, 25, GDS_CTRL) F(16, 26, GDS_NO) F(16, 27, RFDS_NO) F(16, 28, RFDS_CLEAR) \
    F(17, 30, ITS_NO) \
    F(18, 1, TSA_SQ_NO) F(18, 2, TSA_L1_NO)

#define XEN_X86_FEATURE_ENUM(word, bit, name) XEN_X86_FEATURE_##name = (word) * 32 + (bit),
enum xen_x86_feature { XEN_X86_FEATURES(XEN_X86_FEATURE_ENUM) };

#endif
