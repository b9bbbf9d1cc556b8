/* peak.c: what this CPU's exact int8 instructions can do at most: loops on registers alone.
 *
 *     peak SCHEME SECONDS -> GOP/s (one multiply-add is two operations), one thread
 *
 * Schemes: avx512vnni and avxvnni (vpdpbusd), avx512 and avx2 (vpmaddwd and vpaddd on codes widened to 16 bits).  The accumulators
 * are enough to hide the latency, and nothing is loaded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 100000

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Twelve or 24 independent accumulators; in assembly, since a compiler may keep an array of them in memory. */
#define R12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define R24(X) R12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define CLEAR(i) "vpxor %%xmm" #i ",%%xmm" #i ",%%xmm" #i "\n\t"
#define CLEAR_Z(i) "vpxord %%zmm" #i ",%%zmm" #i ",%%zmm" #i "\n\t"
#define DOT_Z(i) "vpdpbusd %%zmm24,%%zmm25,%%zmm" #i "\n\t"
#define DOT_Y(i) "%{vex%} vpdpbusd %%ymm12,%%ymm13,%%ymm" #i "\n\t"
#define MADD(i) "vpmaddwd %%ymm12,%%ymm13,%%ymm14\n\tvpaddd %%ymm14,%%ymm" #i ",%%ymm" #i "\n\t"
#define MADD_Z(i) "vpmaddwd %%zmm24,%%zmm25,%%zmm26\n\tvpaddd %%zmm26,%%zmm" #i ",%%zmm" #i "\n\t"
#define NAME(i) "xmm" #i,
#define LOOP(clear, body, ...)                                                                                         \
    long rounds = ROUNDS;                                                                                              \
    __asm__ volatile(clear "1:\n\t" body "dec %0\n\tjnz 1b\n\tvzeroupper" : "+r"(rounds)::__VA_ARGS__ "cc")

__attribute__((target("avx512f"))) static double avx512vnni(void)
{
    LOOP(R24(CLEAR_Z) CLEAR_Z(24) CLEAR_Z(25), R24(DOT_Z), R24(NAME) "xmm24", "xmm25", );
    return 24.0 * 64;
}

__attribute__((target("avx512f"))) static double avx512(void)
{
    LOOP(R24(CLEAR_Z) CLEAR_Z(24) CLEAR_Z(25), R24(MADD_Z), R24(NAME) "xmm24", "xmm25", "xmm26", );
    return 24.0 * 32;
}

static double avxvnni(void)
{
    LOOP(R12(CLEAR) CLEAR(12) CLEAR(13), R12(DOT_Y), R12(NAME) "xmm12", "xmm13", );
    return 12.0 * 32;
}

static double avx2(void)
{
    LOOP(R12(CLEAR) CLEAR(12) CLEAR(13), R12(MADD), R12(NAME) "xmm12", "xmm13", "xmm14", );
    return 12.0 * 16;
}

int main(int argc, char **argv)
{
    double (*scheme)(void) = NULL;
    if (argc == 3 && !strcmp(argv[1], "avx512vnni")) scheme = avx512vnni;
    if (argc == 3 && !strcmp(argv[1], "avx512")) scheme = avx512;
    if (argc == 3 && !strcmp(argv[1], "avxvnni")) scheme = avxvnni;
    if (argc == 3 && !strcmp(argv[1], "avx2")) scheme = avx2;
    if (!scheme) return fprintf(stderr, "usage: peak avx512vnni|avx512|avxvnni|avx2 SECONDS\n"), 2;
    double best = 0, end = now() + atof(argv[2]);
    do {
        double start = now(), products = scheme(), seconds = now() - start;
        double gops = 2e-9 * products * ROUNDS / seconds;
        if (gops > best) best = gops;
    } while (now() < end);
    printf("%.1f\n", best);
    return 0;
}
