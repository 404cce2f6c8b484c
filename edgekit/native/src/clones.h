/* EK_CLONES before a function compiles it once for each of these instruction sets; the loader picks one. Functions that it
 * calls must be inlined (EK_INLINE), otherwise their baseline code runs. */
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
