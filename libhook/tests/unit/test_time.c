/* Costs, holds, limits and timelines, without a driver: the timeline's few questions to it are answered here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bucket.h"
#include "costs.h"
#include "driver.h"
#include "throttling.h"
#include "limits.h"
#include "timeline.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct ph_driver ph_driver;

/* An event is its time on the GPU's clock, in ns. */
static CUevent at(int64_t gpu_ns) { return (CUevent)(intptr_t)gpu_ns; }
static CUresult elapsed(float *milliseconds, CUevent from, CUevent to) {
    *milliseconds = (float)((double)((intptr_t)to - (intptr_t)from) / 1e6);
    return CUDA_SUCCESS;
}
static int created;
static CUresult create(CUevent *event, unsigned int flags) {
    (void)flags;
    *event = at(1000000 + created++);
    return CUDA_SUCCESS;
}
static CUresult record_result;
static CUresult record(CUevent event, CUstream stream) {
    (void)event, (void)stream;
    return record_result;
}

static int set_up(void **unused) {
    (void)unused;
    ph_driver = (struct ph_driver){ .cuEventElapsedTime = elapsed, .cuEventCreate = create, .cuEventRecord = record };
    created = 0;
    record_result = CUDA_SUCCESS;
    ph_timeline_after_fork();
    ph_costs_after_fork();
    return 0;
}

static void events_are_placed_on_the_hosts_clock_by_the_first_that_was_over(void **unused) {
    (void)unused;
    const int64_t host = 5000000000, gpu = 70000000;
    struct ph_timeline *timeline = ph_timeline_of((CUcontext)1);
    assert_ptr_equal(timeline, ph_timeline_of((CUcontext)1));
    assert_int_equal(ph_timeline_host(timeline, at(gpu), host, host + 1000), host); /* no base yet: as early as can be */
    ph_timeline_passed(timeline, at(gpu), host, host + 1000);
    int64_t placed = ph_timeline_host(timeline, at(gpu + 3000000), host, host + 9000000);
    assert_in_range(placed, host + 3000000 - 20000, host + 3000000); /* 1500 ppm of the 9 ms that may have passed */
    assert_int_equal(ph_timeline_host(timeline, at(gpu + 3000000), host + 8000000, host + 9000000), host + 8000000); /* never before what was seen */
}

static void events_are_used_again_and_end_with_their_context(void **unused) {
    (void)unused;
    struct ph_timeline *timeline = ph_timeline_of((CUcontext)1);
    CUevent first = ph_timeline_record(timeline, NULL, NULL);
    ph_timeline_give_back(timeline, first);
    assert_ptr_equal(ph_timeline_record(timeline, NULL, NULL), first);
    record_result = CUDA_ERROR_INVALID_VALUE;
    assert_null(ph_timeline_record(timeline, NULL, NULL)); /* refused: kept for the next */
    record_result = CUDA_SUCCESS;
    assert_non_null(ph_timeline_record(timeline, NULL, NULL));
    assert_int_equal(created, 2);
    ph_timeline_forget((CUcontext)1);
    assert_false(ph_timeline_belongs(timeline, (CUcontext)1));
    assert_ptr_equal(ph_timeline_of((CUcontext)2), timeline); /* its place is taken again */
    ph_timeline_record(timeline, NULL, NULL);
    assert_int_equal(created, 3);
}

static void a_cost_is_believed_after_four_samples_and_follows_what_changes(void **unused) {
    (void)unused;
    struct ph_cost *cost = ph_cost_of("kernel", 64);
    assert_true(ph_cost_unmeasured(cost) && ph_cost_wants_sample(cost));
    for (int i = 0; i < PH_COST_LEARNING; i++) {
        assert_false(ph_cost_believed(cost));
        ph_cost_learn(cost, 20000 + 1000 * (i % 2), false);
    }
    assert_true(ph_cost_believed(cost));
    assert_int_equal(ph_cost_ns(cost), 20500);
    for (int i = 0; i < 200; i++) ph_cost_learn(cost, 40000, false);
    assert_in_range(ph_cost_ns(cost), 39900, 40000);
    ph_cost_count_launch(cost);
    assert_false(ph_cost_wants_sample(cost));
    for (int i = 1; i < PH_COST_RESAMPLE; i++) ph_cost_count_launch(cost);
    assert_true(ph_cost_wants_sample(cost));
    assert_ptr_not_equal(ph_cost_of("kernel", 65), cost);
}

static void a_launch_that_may_have_waited_for_a_rank_is_no_sample(void **unused) {
    (void)unused;
    struct ph_cost *cost = ph_cost_of("kernel", 64);
    ph_cost_learn(cost, 900000, true);
    assert_int_equal(ph_cost_ns(cost), 900000); /* a bound from above */
    assert_false(ph_cost_unmeasured(cost));
    ph_cost_learn(cost, 2000000, true);
    assert_int_equal(ph_cost_ns(cost), 900000);
    assert_false(ph_cost_believed(cost));
    ph_cost_learn(cost, 300000, false);
    assert_int_equal(ph_cost_ns(cost), 300000);
}

static void what_is_awaited_is_known_once_it_is_measured(void **unused) {
    (void)unused;
    struct ph_cost *cost = ph_cost_of("kernel", 64);
    assert_false(ph_cost_awaited(cost));
    ph_cost_await(cost, 1);
    assert_true(ph_cost_awaited(cost));
    ph_cost_learn(cost, 1000, false);
    assert_false(ph_cost_awaited(cost));
    ph_cost_await(cost, -1);
}

static void a_rest_on_one_gpu_is_seen_from_the_others_in_its_own_time(void **unused) {
    (void)unused;
    static struct ph_throttle_ring rings[2];
    const int64_t from = 8 * PH_BIN_NS, turn = (int64_t)PH_BINS * PH_BIN_NS;
    ph_throttle_mark(&rings[0], from, from + 4 * PH_BIN_NS);
    assert_int_equal(ph_throttle_overlap(rings, 2, 1, 0, 20 * PH_BIN_NS), 4 * PH_BIN_NS);
    assert_int_equal(ph_throttle_overlap(rings, 2, 0, 0, 20 * PH_BIN_NS), 0);
    assert_int_equal(ph_throttle_overlap(rings, 2, 1, turn, turn + 20 * PH_BIN_NS), 0);
    assert_int_equal(ph_throttle_overlap(rings, 2, 1, from, from + 100), 100); /* no more than the time */
}

static void a_wait_is_excused_as_far_as_another_gpu_was_held(void **unused) {
    (void)unused;
    static struct ph_throttle_ring rings[2];
    const int64_t from = 5000 * PH_BIN_NS, held = 4 * PH_BIN_NS, later = from + 40 * PH_BIN_NS;
    ph_throttle_mark(&rings[0], from, from + held);
    assert_int_equal(ph_throttle_excuse(rings, 2, 0, later, held), 0); /* its own rest is no excuse */
    assert_int_equal(ph_throttle_excuse(rings, 2, 1, later, 100), 100);
    assert_int_equal(ph_throttle_excuse(rings, 2, 1, later, 10 * held), held - 100);
    assert_int_equal(ph_throttle_excuse(rings, 2, 1, later + held, held), 0);
    ph_throttle_mark(&rings[0], later + 2 * held, later + 3 * held);
    assert_int_equal(ph_throttle_excuse(rings, 2, 1, later + 4 * held, INT64_MAX), held);
}

static void no_word_in_the_file_excuses_more_than_half_a_ring(void **unused) {
    (void)unused;
    static struct ph_throttle_ring rings[2];
    const int64_t now = 5000 * PH_BIN_NS, words[] = { INT64_MIN, -1, 0, INT64_MAX };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (size_t j = 0; j < sizeof words / sizeof *words; j++) {
            rings[1] = (struct ph_throttle_ring){ .counted_to = words[i], .excuses_ns = words[j] };
            int64_t excused = ph_throttle_excuse(rings, 2, 1, now, INT64_MAX);
            assert_true(excused >= 0 && excused <= PH_EXCUSES_MOST_NS);
        }
}

static void the_region_lowers_a_trusted_limit_and_replaces_any_other(void **unused) {
    (void)unused;
    static const uint64_t cases[][4] = { /* configured, shared, of the node: in force, else */
        { 50, 30, 30, 30 }, { 50, 70, 50, 70 }, { 50, 0, 50, 0 }, { 0, 70, 70, 70 }, { 0, 0, 0, 0 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(ph_limit_in_force(cases[i][0], cases[i][1], true), cases[i][2]);
        assert_int_equal(ph_limit_in_force(cases[i][0], cases[i][1], false), cases[i][3]);
    }
}

static void a_share_that_is_none_is_an_error_of_ours(void **unused) {
    (void)unused;
    static const uint64_t percents[] = { 0, 101 };
    for (size_t i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGILL, SIG_DFL); /* CMocka would go on */
            signal(SIGTRAP, SIG_DFL);
            int64_t paid_until = 0;
            ph_bucket_charge(&paid_until, 1000, 0, 10, percents[i]);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(events_are_placed_on_the_hosts_clock_by_the_first_that_was_over, set_up),
        cmocka_unit_test_setup(events_are_used_again_and_end_with_their_context, set_up),
        cmocka_unit_test_setup(a_cost_is_believed_after_four_samples_and_follows_what_changes, set_up),
        cmocka_unit_test_setup(a_launch_that_may_have_waited_for_a_rank_is_no_sample, set_up),
        cmocka_unit_test_setup(what_is_awaited_is_known_once_it_is_measured, set_up),
        cmocka_unit_test(a_rest_on_one_gpu_is_seen_from_the_others_in_its_own_time),
        cmocka_unit_test(a_wait_is_excused_as_far_as_another_gpu_was_held),
        cmocka_unit_test(no_word_in_the_file_excuses_more_than_half_a_ring),
        cmocka_unit_test(the_region_lowers_a_trusted_limit_and_replaces_any_other),
        cmocka_unit_test(a_share_that_is_none_is_an_error_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
