/*
 * Keeps a file open while it passes messages, and reads on at the end.
 *
 *     reading FILE [rounds]
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int rank, ranks, word = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
    if (file == NULL)
        return 2;
    printf("open %c\n", fgetc(file));
    fflush(stdout);
    int rounds = argc > 2 ? atoi(argv[2]) : 1000;
    for (int round = 0; round < rounds; round++) {
        for (volatile int i = 0; i < 10000; i++) {
        }
        MPI_Sendrecv_replace(&word, 1, MPI_INT, (rank + 1) % ranks, 0, (rank + ranks - 1) % ranks, 0,
                             MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    printf("then %c\n", fgetc(file));
    fclose(file);
    MPI_Finalize();
    return 0;
}
