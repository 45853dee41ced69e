/*
 * Recurses without end.
 *
 *     deep [--array]
 *
 * Without arguments a level keeps only numbers, which overflows the stack of the machine first; with
 * --array each level has 8 KiB on the C stack, which in WebAssembly overflows that one first.
 */
#include <mpi.h>

#include <stdio.h>
#include <string.h>

enum { WORDS = 1024 };

/* What follows the call keeps it from becoming a loop. */
static unsigned long long numbers(unsigned long long level, unsigned long long last)
{
    if (level == last)
        return 1;
    unsigned long long below = numbers(level + 1, last);
    return (below ^ below >> 7) * (level | 1);
}

static unsigned long long arrays(unsigned long long level, unsigned long long last)
{
    volatile unsigned long long words[WORDS];
    for (int i = 0; i < WORDS; i++)
        words[i] = level + (unsigned)i;
    if (level == last)
        return words[level % WORDS];
    unsigned long long below = arrays(level + 1, last);
    return (below ^ below >> 7) * words[below % WORDS];
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    unsigned long long last = ~(unsigned long long)argc;
    int with_arrays = argc > 1 && strcmp(argv[1], "--array") == 0;
    printf("%llu\n", with_arrays ? arrays(0, last) : numbers(0, last));
    MPI_Finalize();
    return 0;
}
