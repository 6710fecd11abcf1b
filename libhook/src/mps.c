#define _GNU_SOURCE
#include "mps.h"

#include "config.h"
#include "driver.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void ph_mps_hand_share(void) {
    char control[sizeof ph_config.mps_pipe + 16], percentage[16];
    if (ph_config.mode != PH_MODE_MPS) return;
    snprintf(control, sizeof control, "%s/control", ph_config.mps_pipe);
    if (access(control, F_OK) != 0) {
        ph_warn("no MPS daemon at %s: the hook holds the share by waiting", ph_config.mps_pipe);
        ph_config.mode = PH_MODE_FIXED;
        return;
    }
    uint64_t least = 100; /* MPS knows one percentage for all GPUs of a program */
    for (int i = 0; i < PH_MAX_DEVICES; i++)
        if (ph_config.core_limit[i] && ph_config.core_limit[i] < least) least = ph_config.core_limit[i];
    snprintf(percentage, sizeof percentage, "%d", (int)least);
    long given;
    if (!ph_parse_number(getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"), 1, (long)least, &given))
        setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percentage, 1);
    setenv("CUDA_MPS_PIPE_DIRECTORY", ph_config.mps_pipe, 1);
}

/* A daemon that died leaves its files, and without one the driver goes on without MPS. Drivers that do not know the
 * question are believed to have found it. */
static bool mps_serves_every_gpu(void) {
    int count = 0, shared = 1;
    if (!ph_driver.cuDeviceGetCount || PH_ASK(cuDeviceGetCount)(&count) != CUDA_SUCCESS) return true;
    for (int i = 0; i < count && shared; i++) {
        CUdevice device;
        if (PH_ASK(cuDeviceGet)(&device, i) != CUDA_SUCCESS || !ph_driver.cuDeviceGetAttribute ||
            PH_ASK(cuDeviceGetAttribute)(&shared, CU_DEVICE_ATTRIBUTE_MPS_ENABLED, device) != CUDA_SUCCESS)
            shared = 1;
    }
    return shared != 0;
}

bool ph_mps_take_share_back(void) {
    if (ph_config.mode != PH_MODE_MPS || mps_serves_every_gpu()) return false;
    ph_warn("the driver does not use the MPS daemon at %s: the hook holds the share by waiting", ph_config.mps_pipe);
    ph_config.mode = PH_MODE_FIXED;
    return true;
}
