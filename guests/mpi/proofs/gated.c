/*
 * Ranks that pass numbers around and say at each step what they have, until they are told to end.
 *
 *     gated [steps] [work of each step]
 *
 * Without steps they go on until there is a file /gate/open: at least as many steps as it says, none if it is empty. What each rank writes
 * is a pure function of the number of steps that were made and the number of ranks.
 */
#include <mpi.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 4 };

/* Whether the gate is open for those who have made so many steps. */
static int is_open(int steps)
{
    char text[16] = "";
    FILE *gate = fopen("/gate/open", "r");
    if (!gate)
        return 0;
    int wanted = fgets(text, sizeof text, gate) ? atoi(text) : 0;
    fclose(gate);
    return steps >= wanted;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int steps = argc > 1 ? atoi(argv[1]) : 0, work = argc > 2 ? atoi(argv[2]) : 20000;
    uint64_t own = (uint64_t)rank + 1, incoming, all;
    int is_last = 0;
    for (int step = 0; !is_last; step++) {
        for (int round = 0; round < ROUNDS; round++) {
            for (int i = 0; i < work; i++)
                own = own * 6364136223846793005u + 1442695040888963407u;
            MPI_Sendrecv(&own, 1, MPI_UINT64_T, (rank + 1) % ranks, round, &incoming, 1, MPI_UINT64_T,
                         (rank + ranks - 1) % ranks, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            own ^= incoming >> 7;
        }
        MPI_Allreduce(&own, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
        printf("rank %d step %d own %" PRIx64 " all %" PRIx64 "\n", rank, step, own, all);
        fflush(stdout);
        if (rank == 0)
            is_last = steps > 0 ? step + 1 == steps : is_open(step + 1);
        MPI_Bcast(&is_last, 1, MPI_INT, 0, MPI_COMM_WORLD);
        if (steps == 0)
            usleep(1000);
    }
    MPI_Finalize();
    return 0;
}
