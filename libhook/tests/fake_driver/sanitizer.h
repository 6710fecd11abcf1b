/* What the machine's own locks put in order by chance must not hide races from ThreadSanitizer: a real driver puts
 * nothing in order for those who call it. Without a sanitizer in the program these are plain locks. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

extern void AnnotateIgnoreSyncBegin(const char *file, int line) __attribute__((weak));
extern void AnnotateIgnoreSyncEnd(const char *file, int line) __attribute__((weak));

/* ThreadSanitizer's runtime is in the program. */
static inline bool fg_sanitizer_watches(void) { return AnnotateIgnoreSyncBegin && AnnotateIgnoreSyncEnd; }

static inline int fg_mutex_lock(pthread_mutex_t *mutex) {
    if (!fg_sanitizer_watches()) return pthread_mutex_lock(mutex);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    int result = pthread_mutex_lock(mutex);
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    return result;
}

static inline void fg_mutex_unlock(pthread_mutex_t *mutex) {
    if (fg_sanitizer_watches()) AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    pthread_mutex_unlock(mutex);
    if (fg_sanitizer_watches()) AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
}
