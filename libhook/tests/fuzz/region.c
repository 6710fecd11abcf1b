/* A region that another process of the container writes to while we use it. Input: pieces of
 * {offset: 4 bytes, length: 1 byte, bytes}, written over a good region; then it is judged, and used if it is accepted,
 * and written over once more: checks at the door do not bind who writes later. */
#include "account.h"
#include "bucket.h"
#include "config.h"
#include "slots.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

static void scribble(uint8_t *region, const uint8_t *data, size_t size) {
    while (size > 5) {
        uint32_t offset;
        memcpy(&offset, data, 4);
        size_t length = data[4], room = size - 5;
        if (length > room) length = room;
        offset %= PH_REGION_SIZE - 256;
        memcpy(region + offset, data + 5, length);
        data += 5 + length;
        size -= 5 + length;
    }
}

static void use(void) {
    for (int device = 0; device < PH_MAX_DEVICES; device++) {
        uint64_t limit = ph_memory_limit(device), before = ph_usage(device);
        if (ph_reserve(device, 1 << 20)) {
            if (limit && before <= limit && ph_usage(device) > limit) abort();
            ph_release(device, 1 << 20);
        }
        int64_t now = 4000000000000;
        struct ph_bucket *bucket = &ph_region.extension->buckets[device];
        ph_bucket_charge(&bucket->paid_until_ns, now, 10000000, 1000000, 30);
        if (ph_bucket_wait(&bucket->paid_until_ns, now) > 3600 * (int64_t)1000000000 + 4000000) abort();
        ph_ring_total(&ph_region.extension->activity[device], now - 20000000, now);
    }
    static struct ph_coverage coverage;
    ph_coverage_add(&coverage, ph_region.extension->activity, 4000000000000, 4000001000000, true);
    ph_region_reap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint64_t memory[PH_MAX_DEVICES] = { 1 << 30, 1 << 30 }, cores[PH_MAX_DEVICES] = { 30 };
    static bool opened;
    ph_log_level = -1;
    if (!opened) {
        struct ph_region_defaults defaults = { .device_count = 2, .memory_limit = memory, .core_limit = cores };
        ph_region_open("/proc/none", &defaults); /* refused: a private region */
        opened = ph_region_claim_slot();
    }
    static struct ph_hami_region *good_hami;
    static struct ph_extension *good_extension;
    if (!good_hami) {
        good_hami = malloc(sizeof *good_hami);
        good_extension = malloc(sizeof *good_extension);
        memcpy(good_hami, ph_region.hami, sizeof *good_hami);
        memcpy(good_extension, ph_region.extension, sizeof *good_extension);
    }
    memcpy(ph_region.hami, good_hami, offsetof(struct ph_hami_region, slots) + 4 * sizeof(struct ph_slot));
    memcpy(&ph_region.hami->slot_high_water, &good_hami->slot_high_water, PH_HAMI_SIZE - offsetof(struct ph_hami_region, slot_high_water));
    memcpy(ph_region.extension, good_extension, offsetof(struct ph_extension, identities));
    scribble((uint8_t *)ph_region.hami, data, size);
    if (ph_region_refusal(ph_region.hami, PH_REGION_SIZE) == NULL) use();
    scribble((uint8_t *)ph_region.hami, data, size);
    use();
    return 0;
}
