/* check.h: what the self-checking programs share. A program prints one line `PASS <part>` for each
 * part, from rank 0 and once every rank has passed it. The first failure prints the place and ends
 * the whole program. */
#ifndef CHECK_H
#define CHECK_H

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int rank, size;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "rank %d: %s:%d: %s\n", rank, __FILE__, __LINE__, #condition);         \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                          \
        }                                                                                          \
    } while (0)

static void begin(int *argc, char ***argv) {
    CHECK(MPI_Init(argc, argv) == MPI_SUCCESS);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
}

static void passed(const char *part) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        printf("PASS %s\n", part);
        fflush(stdout);
    }
}

/* Allocates or ends the program. */
static inline void *room(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    CHECK(memory != NULL);
    return memory;
}

#endif
