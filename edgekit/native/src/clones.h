/* EK_CLONES before a function: compiled once for each of these instruction sets, chosen when the library is loaded. What it
 * calls must be inlined into it: a call that is not runs the baseline's code. */
#ifndef EDGEKIT_SRC_CLONES_H
#define EDGEKIT_SRC_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__) && !defined(EK_NO_CLONES)
#define EK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EK_CLONES
#endif

#if defined(__GNUC__)
#define EK_INLINE inline __attribute__((always_inline))
#else
#define EK_INLINE inline
#endif

#endif
