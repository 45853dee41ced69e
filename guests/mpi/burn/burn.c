/*
 * Keeps processors busy: the columns of a bifurcation diagram of the logistic map, x' = r x (1 - x).
 *
 *     burn [columns]
 *
 * For each column, which is a value of r, a long orbit is counted into bins. The ranks compute one column each, and
 * add their checksums up over all before the next. 0 columns: the diagram is computed over and over, until the
 * program is stopped from outside.
 *
 * The result does not depend on the number of ranks, and with -ffp-contract=off not on the machine.
 */
#include <mpi.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { DIAGRAM = 1024, BINS = 256, STEPS = 1 << 20 };

/* FNV-1a over the number of a column and its bins. */
static uint64_t column(int64_t number)
{
    uint32_t bins[BINS] = {0};
    double r = 3.5 + 0.5 * (double)(number % DIAGRAM) / DIAGRAM, x = 0.5;
    for (int step = 0; step < STEPS; step++) {
        x = r * x * (1.0 - x);
        bins[(int)(x * BINS)]++;
    }
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)number;
    for (int bin = 0; bin < BINS; bin++)
        hash = (hash ^ bins[bin]) * 0x100000001b3u;
    return hash;
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    char *end = "";
    int64_t columns = argc > 1 ? strtoll(argv[1], &end, 10) : DIAGRAM;
    if (argc > 2 || *end != '\0' || columns < 0) {
        if (rank == 0)
            fprintf(stderr, "usage: burn [columns], 0 for no end\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }

    uint64_t checksum = 0;
    for (int64_t first = 0; columns == 0 || first < columns; first += ranks) {
        int64_t number = first + rank;
        uint64_t hash = columns == 0 || number < columns ? column(number) : 0, sum;
        MPI_Allreduce(&hash, &sum, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
        checksum += sum;
    }
    if (rank == 0)
        printf("columns %" PRId64 " checksum %016" PRIx64 "\n", columns, checksum);
    MPI_Finalize();
    return 0;
}
