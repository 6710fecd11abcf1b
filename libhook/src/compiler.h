/* What the compiler is told: visibility, which branch is likely, and where sanitizers stay out. */
#pragma once

#define PH_EXPORT __attribute__((visibility("default")))
#define PH_LIKELY(x) __builtin_expect(!!(x), 1)
#define PH_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Code that may run before any library is initialised, because sanitizers' runtimes ask it. */
#if defined(__clang__) && __has_attribute(disable_sanitizer_instrumentation) /* clang's notes each call even without "thread" */
#define PH_BARE __attribute__((disable_sanitizer_instrumentation))
#else
#define PH_BARE __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

/* In builds with checks (meson's option, and what only tests use): ends the program where an invariant is broken. Nothing
 * that another process could have written is asserted. */
#ifdef PH_CHECKS
#define PH_ASSERT(invariant) ((invariant) ? (void)0 : __builtin_trap())
#else
#define PH_ASSERT(invariant) ((void)0)
#endif
