/* test_heap.c - what was freed goes back to the system: large blocks at once, small ones when asked. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/limits.h"
#include "support/test.h"

#define LARGE (16 * PIL_MIB)
#define SMALL_BLOCKS 16384
#define SMALL_BYTES 1024

/* Bytes that this process has in memory. */
static size_t resident(void) {
    unsigned long long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f) return 0;
    int n = fscanf(f, "%llu %llu", &all, &here);
    fclose(f);
    return n == 2 ? (size_t)here * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Writes to every page, and not in a way that a compiler may leave out because the block is freed unread. */
static void use(volatile char *p, size_t n) {
    for (size_t i = 0; i < n; i += SMALL_BYTES) p[i] = 1;
}

static bool has_grown(size_t since, size_t by) { return resident() > since + by; }

/* A sanitizer has an allocator of its own, and an emulator may keep what it was told to take back. */
static void need_a_heap_that_can_be_seen(void) {
#if defined(PIL_INSTRUMENTED) || !defined(__GLIBC__)
    skip_with("another allocator than glibc's");
#endif
    size_t before = resident();
    char *p = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    use(p, LARGE);
    bool is_seen = has_grown(before, LARGE / 2);
    madvise(p, LARGE, MADV_DONTNEED);
    bool is_taken_back = !has_grown(before, LARGE / 2);
    munmap(p, LARGE);
    if (!is_seen || !is_taken_back) skip_with("the memory of this process cannot be seen");
}

static void large_blocks_go_back_however_many_there_were(void **state) {
    (void)state;
    need_a_heap_that_can_be_seen();
    pil_heap_return_large_blocks();
    size_t before = resident();
    for (int i = 0; i < 4; i++) {
        char *p = malloc(LARGE), *behind = malloc(PIL_MIB); /* which would keep a heap from shrinking */
        use(p, LARGE);
        assert_true(has_grown(before, LARGE / 2));
        free(p);
        assert_false(has_grown(before, LARGE / 2));
        free(behind);
    }
}

static void small_blocks_between_others_go_back_when_asked(void **state) {
    (void)state;
    need_a_heap_that_can_be_seen();
    char **blocks = calloc(SMALL_BLOCKS, sizeof *blocks);
    size_t before = resident(), all = (size_t)SMALL_BLOCKS * SMALL_BYTES;
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        blocks[i] = malloc(SMALL_BYTES);
        use(blocks[i], SMALL_BYTES);
    }
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        if (i % 64) free(blocks[i]);
    assert_true(has_grown(before, all / 2)); /* still, or there would be nothing to ask for */
    pil_heap_return_free_memory();
    assert_false(has_grown(before, all / 2));
    for (size_t i = 0; i < SMALL_BLOCKS; i += 64) free(blocks[i]);
    free(blocks);
}

/* Heaps of other threads begin at a multiple of 64 MiB, where the first one never lies beside them. */
static void *allocate(void *ud) { return *(void **)ud = malloc(SMALL_BYTES); }

static void another_thread_has_no_heap_of_its_own(void **state) {
    (void)state;
    need_a_heap_that_can_be_seen();
    pil_heap_keep_one();
    void *theirs = NULL, *ours = malloc(SMALL_BYTES);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, allocate, &theirs), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    uintptr_t a = (uintptr_t)ours, b = (uintptr_t)theirs;
    assert_true((a > b ? a - b : b - a) < 64 * PIL_MIB);
    free(theirs);
    free(ours);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_blocks_go_back_however_many_there_were),
        cmocka_unit_test(small_blocks_between_others_go_back_when_asked),
        cmocka_unit_test(another_thread_has_no_heap_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
