/*
 * A stencil on a ring: every cell becomes a weighted sum of itself and its two neighbours.
 *
 *     halo [steps] [cells of each rank]
 *
 * The border cells travel while the inner cells are computed. Check: in arithmetic modulo 2^64 each
 * step multiplies the sum of all cells by the sum of the weights, whatever the cells are.
 */
#include "proof.h"

enum { LEFT_WEIGHT = 3, OWN_WEIGHT = 5, RIGHT_WEIGHT = 7, LEFTWARDS = 1, RIGHTWARDS = 2 };

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int steps = argument(argc, argv, 1, 3000), cells = argument(argc, argv, 2, 30000);
    int left = (rank + ranks - 1) % ranks, right = (rank + 1) % ranks;

    /* Cells 1 to `cells` are our own, 0 and `cells` + 1 those of the neighbours. */
    uint64_t *now = allocate((size_t)cells + 2, sizeof *now);
    uint64_t *next = allocate((size_t)cells + 2, sizeof *next);
    uint64_t sum = 0, expected = 0, total = 0;
    for (int i = 1; i <= cells; i++) {
        now[i] = noise(rank, i, 0);
        sum += now[i];
    }
    MPI_Allreduce(&sum, &expected, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);

    for (int step = 0; step < steps; step++) {
        MPI_Request requests[4];
        MPI_Irecv(&now[0], 1, MPI_UINT64_T, left, RIGHTWARDS, MPI_COMM_WORLD, &requests[0]);
        MPI_Irecv(&now[cells + 1], 1, MPI_UINT64_T, right, LEFTWARDS, MPI_COMM_WORLD, &requests[1]);
        MPI_Isend(&now[1], 1, MPI_UINT64_T, left, LEFTWARDS, MPI_COMM_WORLD, &requests[2]);
        MPI_Isend(&now[cells], 1, MPI_UINT64_T, right, RIGHTWARDS, MPI_COMM_WORLD, &requests[3]);
        for (int i = 2; i < cells; i++)
            next[i] = LEFT_WEIGHT * now[i - 1] + OWN_WEIGHT * now[i] + RIGHT_WEIGHT * now[i + 1];
        MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
        next[1] = LEFT_WEIGHT * now[0] + OWN_WEIGHT * now[1] + RIGHT_WEIGHT * now[2];
        next[cells] = LEFT_WEIGHT * now[cells - 1] + OWN_WEIGHT * now[cells] + RIGHT_WEIGHT * now[cells + 1];
        uint64_t *swap = now;
        now = next;
        next = swap;
        expected *= LEFT_WEIGHT + OWN_WEIGHT + RIGHT_WEIGHT;
    }

    uint64_t hash = 0;
    sum = 0;
    for (int i = 1; i <= cells; i++) {
        sum += now[i];
        hash = mix(hash, now[i]);
    }
    MPI_Allreduce(&sum, &total, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    if (total != expected)
        fail("the cells sum up to %016" PRIx64 " instead of %016" PRIx64, total, expected);
    print_hash("result", "halo", hash);
    MPI_Finalize();
    return 0;
}
