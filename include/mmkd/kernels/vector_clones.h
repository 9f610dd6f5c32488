#pragma once

// Functions whose loops have fixed trip counts and no branches, so that the compiler turns them into vector code; on
// x86-64 once for each instruction set, chosen when the program starts. What they call has to be inlined.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define MMKD_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MMKD_VECTOR_CLONES
#endif
#if defined(__GNUC__)
#define MMKD_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define MMKD_ALWAYS_INLINE inline
#endif
