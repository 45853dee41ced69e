/* What the proof programs share: arguments, test data, failing, and the line that tells the result. */
#ifndef PROOF_H
#define PROOF_H

#include <mpi.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says what is wrong and ends all ranks. */
static inline void fail(const char *format, ...)
{
    int rank;
    va_list values;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    va_start(values, format);
    fprintf(stderr, "rank %d: ", rank);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

/* The positive number at place `index` of the arguments, or `otherwise` if there are fewer. */
static inline int argument(int argc, char **argv, int index, int otherwise)
{
    if (index >= argc)
        return otherwise;
    char *end;
    long value = strtol(argv[index], &end, 10);
    if (end == argv[index] || *end != '\0' || value < 1 || value > 1000000000)
        fail("argument %d must be a positive number, not %s", index, argv[index]);
    return (int)value;
}

/* Whether the last argument is this word; if so, it is taken away. */
static inline bool last_argument_is(int *argc, char **argv, const char *word)
{
    if (*argc < 2 || strcmp(argv[*argc - 1], word) != 0)
        return false;
    *argc -= 1;
    return true;
}

static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

/* A hash that depends on the order of the values mixed in. */
static inline uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

/* Test data that every rank can recompute for every other: noise without state. */
static inline uint64_t noise(int a, int b, int c)
{
    return mix(mix(mix(0x5bd1e995u, (uint64_t)a), (uint64_t)b), (uint64_t)c);
}

static inline uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Rank 0 prints one hash made of those of all ranks, in their order. */
static inline void print_hash(const char *kind, const char *name, uint64_t hash)
{
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    uint64_t *hashes = allocate((size_t)ranks, sizeof *hashes), all = 0;
    MPI_Gather(&hash, 1, MPI_UINT64_T, hashes, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    for (int r = 0; r < ranks; r++)
        all = mix(all, hashes[r]);
    if (rank == 0)
        printf("%s %s %016" PRIx64 "\n", kind, name, all);
    free(hashes);
}

#endif
