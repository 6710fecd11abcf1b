/* The parts that need no driver: sizes, the node's file, combining, the bucket, coverage, the layout. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "activity.h"
#include "billing.h"
#include "bucket.h"
#include "calibration.h"
#include "config.h"
#include "unbilled.h"
#include "futex_lock.h"
#include "slots.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void sizes_are_read_as_hami_writes_them(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = { { "0", 0 }, { "3000m", 3000ull << 20 }, { "1g", 1ull << 30 }, { "3Gi", 3ull << 30 }, { "2GiB", 2ull << 30 },
                 { "512K", 512 << 10 }, { "0x10m", 16 << 20 }, { "1T", 1ull << 40 }, { "123", 123 } };
    static const char *const bad[] = { "", "-1", " 1", "1.5G", "1 g", "g", "99999999999999999999", "17179869184g", "1gg", "1e9" };
    uint64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(ph_parse_size(good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(ph_parse_size(bad[i], &bytes));
    assert_false(ph_parse_size(NULL, &bytes));
}

static void the_nodes_file_is_read_whole_or_not_at_all(void **unused) {
    (void)unused;
    struct ph_config config;
    static const char good[] = "# the node's word\nmemory_limit = 3Gi\nmemory_limit.1 = 1Gi\ncore_limit=30\n\ncompute_mode = burst # gives away\nburst_ms = 2";
    ph_config_defaults(&config);
    assert_null(ph_config_from_text(&config, good, sizeof good - 1));
    assert_int_equal(config.memory_limit[0], 3ull << 30);
    assert_int_equal(config.memory_limit[1], 1ull << 30);
    assert_int_equal(config.core_limit[15], 30);
    assert_int_equal(config.mode, PH_MODE_BURST);
    assert_int_equal(config.burst_ns, 2000000);
    static const char *const bad[] = { "memory_limit", "memory_limit = lots", "core_limit = 101", "core_limit.16 = 1", "colour = red",
                                       "compute_mode.1 = fixed", "region = relative", "on_error = maybe" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *complaint = ph_config_from_text(&config, bad[i], strlen(bad[i]));
        assert_non_null(complaint);
        assert_memory_equal(complaint, "line 1: ", 8);
    }
    assert_non_null(ph_config_from_text(&config, "a\0b", 3));
}

static void the_hash_of_a_containers_name_is_the_agents(void **unused) {
    (void)unused; /* FNV-1a's published value; the agent's tests have it too */
    assert_true(ph_hash("foobar") == 0x85944171f73967e8u);
}

static void the_lower_limit_wins(void **unused) {
    (void)unused;
    struct ph_config file, environment;
    ph_config_defaults(&file);
    ph_config_defaults(&environment);
    file.memory_limit[0] = 100;
    environment.memory_limit[0] = 200;
    environment.memory_limit[1] = 50;
    file.core_limit[0] = 30;
    environment.core_limit[0] = 20;
    environment.mode = PH_MODE_MPS;
    ph_config_combine(&file, &environment);
    assert_int_equal(file.memory_limit[0], 100);
    assert_int_equal(file.memory_limit[1], 50);
    assert_int_equal(file.core_limit[0], 20);
    assert_int_equal(file.mode, PH_MODE_FIXED);
    assert_true(file.trusted);
}

static void bucket_gives_exactly_the_share_in_the_long_run(void **unused) {
    (void)unused;
    for (uint64_t percent = 5; percent <= 95; percent += 5) {
        int64_t paid = 0, now = 1000000000000, start = now, busy = 0, kernel = 700000;
        while (now - start < 10000000000) {
            now += ph_bucket_wait(&paid, now);
            now += kernel;
            busy += kernel;
            ph_bucket_charge(&paid, now, 10000000, kernel, percent);
        }
        double share = 100.0 * (double)busy / (double)(now - start);
        assert_true(share > (double)percent - 0.2 && share < (double)percent + 0.3);
    }
}

static void a_hostile_bucket_neither_blocks_for_ever_nor_pays_for_ever(void **unused) {
    (void)unused;
    int64_t now = 1000000000000, paid = INT64_MAX;
    assert_int_equal(ph_bucket_wait(&paid, now), 0);
    ph_bucket_charge(&paid, now, 1000, 500, 50);
    assert_int_equal(paid, now - 1000 + 1000);
    paid = INT64_MIN;
    ph_bucket_charge(&paid, now, 1000, 500, 50);
    assert_int_equal(paid, now);
}

static int64_t charged;
static void count(int device, int64_t used_at, int64_t busy) {
    (void)device, (void)used_at;
    charged += busy;
}

/* A GPU's clock that is `ppm` faster, an event each `every` ns that is seen up to `lag` ns later. Returns the worst error. */
static int64_t worst_placing(int64_t ppm, int64_t every, int64_t lag, int64_t seconds) {
    struct ph_calibration calibration = { .known = false };
    int64_t worst = 0, base = 0, n = 0;
    for (int64_t host = 0; host < seconds * 1000000000; host += every, n++) {
        int64_t gpu = host + host / 1000000 * ppm - base, before = host + n * 7919 % (lag + 1);
        ph_calibration_learn(&calibration, gpu, host - n * 104729 % (lag + 1), before);
        int64_t off = ph_calibration_place(&calibration, gpu, host - lag, before) - host;
        if (host > 1000000000 && (off > worst || -off > worst)) worst = off < 0 ? -off : off;
        if (gpu > 2000000000) {
            base += gpu;
            ph_calibration_move(&calibration, gpu);
        }
    }
    return worst;
}

static void clocks_that_drift_are_followed_in_both_directions(void **unused) {
    (void)unused;
    static const int64_t ppms[] = { -200, -20, 0, 20, 200 };
    for (size_t i = 0; i < sizeof ppms / sizeof *ppms; i++) assert_in_range(worst_placing(ppms[i], 1000000, 1000000, 3600), 0, 100000);
}

static void a_clock_that_leaps_is_found_again_at_once(void **unused) {
    (void)unused;
    struct ph_calibration c = { .known = false };
    ph_calibration_learn(&c, 0, 1000000000, 1000001000);
    ph_calibration_learn(&c, 5000, 1000005000, 1000006000);
    ph_calibration_learn(&c, 7200000000000, 1000007000, 1000008000); /* two hours ahead */
    assert_in_range(ph_calibration_place(&c, 7200000000000, 0, INT64_MAX), 998000000, 1002000000); /* as far as a float tells */
    ph_calibration_learn(&c, 9000, 1000010000, 1000011000); /* and back */
    assert_in_range(ph_calibration_place(&c, 9000, 0, INT64_MAX), 1000009000, 1000012000);
}

static void idle_time_that_events_span_is_nobodys_bill(void **unused) {
    (void)unused;
    struct ph_facts one = { .busy = 1000000, .expected = 10000, .launches = 1, .believed = true }, late = one, many = one;
    late.late = true;
    many.launches = 64;
    assert_int_equal(ph_bill(&one), 1000000);   /* a kernel may take longer than ever before */
    assert_int_equal(ph_bill(&late), 10500);    /* nobody looked when it ended */
    assert_int_equal(ph_bill(&many), 10500);    /* gaps between launches */
    late.believed = many.contended = false;
    assert_int_equal(ph_bill(&late), 1000000);
    many.posted = true;
    assert_int_equal(ph_bill(&many), 1000000);
}

static void overlapping_streams_are_charged_once_and_late_news_is_not_lost(void **unused) {
    (void)unused;
    static struct ph_coverage coverage;
    static struct ph_activity_ring ring;
    int64_t base = 4000000000000;
    charged = 0;
    assert_int_equal(ph_coverage_add(&coverage, &ring, base, base + 1000000, true), 1000000);
    assert_int_equal(ph_coverage_add(&coverage, &ring, base + 500000, base + 1500000, true), 500000);
    assert_int_equal(ph_coverage_add(&coverage, &ring, base + 100, base + 200, true), 0);
    ph_coverage_settle(&coverage, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 1500000);
    ph_coverage_add(&coverage, &ring, base + 2000000, base + 2100000, true);
    ph_coverage_settle(&coverage, &ring, NULL, base + 200000000, count, 0);
    assert_int_equal(charged, 1600000);
}

static void contexts_that_take_turns_are_each_charged_their_part(void **unused) {
    (void)unused;
    static struct ph_coverage first, second;
    static struct ph_activity_ring ring;
    int64_t base = 4000000000000;
    ph_coverage_add(&first, &ring, base, base + 10000000, true);
    ph_coverage_add(&second, &ring, base, base + 10000000, true);
    charged = 0;
    ph_coverage_settle(&first, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 5000000);
    ph_coverage_settle(&second, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 10000000);
}

static void whoever_comes_late_all_together_never_pay_for_more_than_was_used(void **unused) {
    (void)unused;
    static struct ph_coverage first, second;
    static struct ph_activity_ring ring;
    int64_t base = 4000000000000;
    ph_coverage_add(&first, &ring, base, base + 10000000, true);
    charged = 0;
    ph_coverage_settle(&first, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 10000000);
    ph_coverage_add(&second, &ring, base, base + 12000000, true);
    ph_coverage_settle(&second, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 12000000);
}

static void idle_parts_of_a_quarter_are_not_charged(void **unused) {
    (void)unused;
    static struct ph_coverage first, second;
    static struct ph_activity_ring ring;
    int64_t base = 4000000000000;
    /* Two contexts share the first half of every quarter; the GPU rests in the second. */
    for (int64_t at = base; at < base + 10000000; at += PH_BIN_NS) {
        ph_coverage_add(&first, &ring, at, at + PH_BIN_NS / 2, true);
        ph_coverage_add(&second, &ring, at, at + PH_BIN_NS / 2, true);
    }
    charged = 0;
    ph_coverage_settle(&first, &ring, NULL, base + 100000000, count, 0);
    ph_coverage_settle(&second, &ring, NULL, base + 100000000, count, 0);
    assert_int_equal(charged, 5000000);
}

static void a_bin_of_an_earlier_turn_of_the_ring_counts_for_nothing(void **unused) {
    (void)unused;
    static struct ph_coverage coverage;
    static struct ph_activity_ring ring;
    int64_t base = 4000000000000, turn = (int64_t)PH_BINS * PH_BIN_NS;
    ph_coverage_add(&coverage, &ring, base, base + 1000000, true);
    assert_int_equal(ph_ring_total(&ring, base, base + 1000000), 1000000);
    assert_int_equal(ph_ring_total(&ring, base + turn, base + turn + 1000000), 0);
}

static void the_dead_leave_what_they_used_and_never_more_than_a_second(void **unused) {
    (void)unused;
    const int64_t ms = 1000000, now = 1000 * ms;
    struct ph_unbilled nothing = { .seen = now - ms }, measured = { .unpaid_ns = 4 * ms, .seen = now - ms };
    struct ph_unbilled running = { .since = now - 50 * ms, .seen = now - 40 * ms };
    struct ph_unbilled rested = { .since = now - 50 * ms, .seen = now - 500 * ms };
    assert_int_equal(ph_unbilled_total(&nothing, now), 0);
    assert_int_equal(ph_unbilled_total(&measured, now), 4 * ms);
    assert_int_equal(ph_unbilled_total(&running, now), 12 * ms); /* it was seen alive for 10 and may have lived until the next look */
    assert_int_equal(ph_unbilled_total(&rested, now), 22 * ms);
    assert_int_equal(ph_unbilled_total(&running, now - 49 * ms), ms); /* no more than the time since */
    assert_true(ph_unbilled_fresh(&measured, now));
    assert_false(ph_unbilled_fresh(&running, now));
    static const int64_t hostile[] = { INT64_MIN, -1, 0, 1, 1000, INT64_MAX };
    for (int i = 0; i < 6 * 6 * 6; i++) {
        struct ph_unbilled unbilled = { .unpaid_ns = hostile[i % 6], .since = hostile[i / 6 % 6], .seen = hostile[i / 36] };
        int64_t owed = ph_unbilled_total(&unbilled, now);
        assert_true(owed >= 0 && owed <= 1000 * ms);
        (void)ph_unbilled_fresh(&unbilled, now);
    }
}

static struct {
    struct ph_futex_lock lock;
    long counted; /* torn unless one thread at a time is inside */
} shared_counter;

static void *count_under_lock(void *unused) {
    for (int i = 0; i < 200000; i++) {
        ph_futex_lock_acquire(&shared_counter.lock);
        long seen = *(volatile long *)&shared_counter.counted;
        if (i % 1000 == 0) usleep(50); /* long enough for the others to fall asleep */
        *(volatile long *)&shared_counter.counted = seen + 1;
        ph_futex_lock_release(&shared_counter.lock);
    }
    return unused;
}

static void a_futex_lock_lets_one_thread_in_and_nobody_waits_for_ever(void **unused) {
    (void)unused;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, count_under_lock, NULL), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(shared_counter.counted, 4 * 200000);
    assert_true(ph_futex_lock_try(&shared_counter.lock));
    assert_false(ph_futex_lock_try(&shared_counter.lock));
}

static void a_region_is_checked_before_it_is_believed(void **unused) {
    (void)unused;
    char path[] = "/tmp/ph-unit-XXXXXX";
    close(mkstemp(path));
    static uint64_t memory[PH_MAX_DEVICES] = { 1 << 20 }, cores[PH_MAX_DEVICES] = { 30 };
    struct ph_region_defaults defaults = { .device_count = 1, .memory_limit = memory, .core_limit = cores };
    ph_region_open(path, &defaults);
    assert_int_equal(ph_region.state, PH_REGION_SHARED);
    assert_true(ph_region_claim_slot());
    assert_int_equal(ph_region.slot, 0);
    assert_int_equal(ph_region.hami->sm_limit[0], 30);
    assert_int_equal(ph_region.hami->slots[0].pid, getpid());
    assert_null(ph_region_refusal(ph_region.hami, PH_REGION_SIZE));
    int32_t *fields[] = { &ph_region.hami->magic, (int32_t *)&ph_region.hami->major, &ph_region.hami->slot_high_water,
                          (int32_t *)&ph_region.extension->version, (int32_t *)&ph_region.extension->magic };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int32_t saved = *fields[i];
        *fields[i] = -7;
        assert_non_null(ph_region_refusal(ph_region.hami, PH_REGION_SIZE));
        *fields[i] = saved;
    }
    ph_region_close();
    unlink(path);
}

static void other_containers_turns_are_not_ours_to_pay(void **unused) {
    (void)unused;
    static struct ph_activity_ring ring, others;
    static struct ph_coverage own, theirs;
    int64_t base = 40 * PH_BIN_NS;
    charged = 0;
    ph_coverage_add(&own, &ring, base, base + 8 * PH_BIN_NS, true);
    ph_coverage_add(&theirs, &others, base, base + 8 * PH_BIN_NS, true);
    ph_coverage_settle(&own, &ring, &others, base + 100000000, count, 0);
    assert_int_equal(charged, 4 * PH_BIN_NS);
}

static void a_ring_of_another_turn_adds_nothing(void **unused) {
    (void)unused;
    static struct ph_activity_ring ring;
    static struct ph_coverage coverage;
    ph_coverage_add(&coverage, &ring, 0, PH_BIN_NS, true);
    uint64_t word = ring.bins[0].posted;
    assert_int_equal(ph_posted_together(word, word, 0) & 0xffffff, 2 * PH_BIN_NS);
    assert_int_equal(ph_posted_together(word, word, PH_BINS) & 0xffffffffff, 0);
    for (int i = 0; i < 200; i++) word = ph_posted_together(word, ring.bins[0].posted, 0);
    assert_int_equal(word & 0xffffff, 0xffffff); /* as many as can be told */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_as_hami_writes_them),
        cmocka_unit_test(the_nodes_file_is_read_whole_or_not_at_all),
        cmocka_unit_test(the_hash_of_a_containers_name_is_the_agents), cmocka_unit_test(other_containers_turns_are_not_ours_to_pay), cmocka_unit_test(a_ring_of_another_turn_adds_nothing), cmocka_unit_test(the_lower_limit_wins),
        cmocka_unit_test(bucket_gives_exactly_the_share_in_the_long_run),
        cmocka_unit_test(a_hostile_bucket_neither_blocks_for_ever_nor_pays_for_ever),
        cmocka_unit_test(clocks_that_drift_are_followed_in_both_directions),
        cmocka_unit_test(a_clock_that_leaps_is_found_again_at_once),
        cmocka_unit_test(idle_time_that_events_span_is_nobodys_bill),
        cmocka_unit_test(overlapping_streams_are_charged_once_and_late_news_is_not_lost),
        cmocka_unit_test(contexts_that_take_turns_are_each_charged_their_part),
        cmocka_unit_test(whoever_comes_late_all_together_never_pay_for_more_than_was_used),
        cmocka_unit_test(idle_parts_of_a_quarter_are_not_charged),
        cmocka_unit_test(a_bin_of_an_earlier_turn_of_the_ring_counts_for_nothing),
        cmocka_unit_test(the_dead_leave_what_they_used_and_never_more_than_a_second),
        cmocka_unit_test(a_futex_lock_lets_one_thread_in_and_nobody_waits_for_ever),
        cmocka_unit_test(a_region_is_checked_before_it_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
