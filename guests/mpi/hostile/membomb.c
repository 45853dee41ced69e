/*
 * Takes and touches memory until there is none.
 *
 *     membomb [--stay]
 *
 * Then it says how much it got, and exits with 3; with --stay it keeps all of it, meets the other ranks
 * in a barrier, and ends well. Run natively only under a limit of memory.
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 20 };

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    int stay = argc > 1 && strcmp(argv[1], "--stay") == 0, rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);

    unsigned blocks = 0;
    for (volatile char *block; (block = malloc(BLOCK)) != NULL; blocks++)
        for (int i = 0; i < BLOCK; i += 4096)
            block[i] = (char)(blocks + 1);
    printf("rank %d got %u MiB\n", rank, blocks);
    fflush(stdout);
    if (!stay)
        exit(3);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
