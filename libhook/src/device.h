/* Which GPU is which. An ordinal is a position among the container's GPUs, the index of limits and of the region. */
#pragma once

#include "driver.h"
#include "region.h"

extern int ph_device_count;
extern char ph_device_uuids[PH_MAX_DEVICES][PH_UUID_SIZE];
void ph_devices_prepare(void); /* with no lock held: loads NVML where ph_devices_find will ask it */
void ph_devices_find(void);  /* with attach.c's mutex held, all three */
void ph_devices_adopt(const char (*uuids)[PH_UUID_SIZE], int count); /* the order of the region, which has those of every process */
void ph_devices_match(void); /* CUDA's devices with those found, once CUDA is initialised */
int ph_ordinal(CUdevice device);       /* 0 for an unknown one */
int ph_current_ordinal(void);          /* of the current context; 0 without one */
int ph_nvml_ordinal(nvmlDevice_t device); /* -1: not one of the container's */
