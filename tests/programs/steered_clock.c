// Clocks that a test sets, for the processes that it starts with this in LD_PRELOAD; nobody else's
// clock moves.
//
//   STEERED_CLOCK=FILE LD_PRELOAD=.../steered_clock.so PROGRAM
//
// FILE has two 64-bit numbers, nanoseconds that are added to the wall clock and to CLOCK_MONOTONIC.
// They may change at any time. The processor's counter goes on as it does: a machine that slept for
// a minute is one whose CLOCK_MONOTONIC is a minute behind it. Waiting until a time of the steered
// CLOCK_MONOTONIC takes as long as it should.
#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int64_t* offsets(void) {
    static const int64_t* shared;
    const int64_t* known = __atomic_load_n(&shared, __ATOMIC_ACQUIRE);
    if (known != NULL) return known;
    const char* path = getenv("STEERED_CLOCK");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void* memory = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || memory == MAP_FAILED) abort();
    close(file);
    __atomic_store_n(&shared, (const int64_t*)memory, __ATOMIC_RELEASE);
    return memory;
}

static int64_t offset(clockid_t clock) {
    switch (clock) {
        case CLOCK_REALTIME:
        case CLOCK_REALTIME_COARSE: return __atomic_load_n(&offsets()[0], __ATOMIC_RELAXED);
        case CLOCK_MONOTONIC:
        case CLOCK_MONOTONIC_COARSE: return __atomic_load_n(&offsets()[1], __ATOMIC_RELAXED);
        default: return 0;
    }
}

static void add(struct timespec* time, int64_t ns) {
    const int64_t all = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + ns;
    time->tv_sec = all / 1000000000;
    time->tv_nsec = all % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec* now) {
    const long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0) add(now, offset(clock));
    return (int)result;
}

time_t time(time_t* out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) *out = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const struct timespec* until) {
    typedef int function(pthread_cond_t*, pthread_mutex_t*, clockid_t, const struct timespec*);
    function* next = (function*)dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec there = *until;
    add(&there, -offset(clock));
    return next(condition, mutex, clock, &there);
}
