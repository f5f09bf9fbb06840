/* SPDX-License-Identifier: MIT */
/* xenpmu_op: the performance counters' call. Facts from Xen 4.17's public/pmu.h. */
#ifndef PUBLIC_PMU_H
#define PUBLIC_PMU_H

#include <pvisor/types.h>

#define XENPMU_VER_MAJ     0
#define XENPMU_VER_MIN     1
#define XENPMU_mode_get    0
#define XENPMU_mode_set    1
#define XENPMU_feature_get 2
#define XENPMU_feature_set 3
#define XENPMU_init        4
#define XENPMU_finish      5
#define XENPMU_lvtpc_set   6
#define XENPMU_flush       7

struct xen_pmu_params {
    struct {
        u32 maj;
        u32 min;
    } version;
    u64 val;
    u32 vcpu;
    u32 pad;
};

#endif
