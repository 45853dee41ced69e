/*
 * A pipelined wavefront: each point of a grid depends on its left, upper and upper left neighbours.
 *
 *     wavefront [iterations] [columns] [rows] [--time]
 *
 * The columns are divided among the ranks. A rank can start a row once its left neighbour has finished
 * it, so that the ranks work in a pipeline with one small message for every row. At the end of an
 * iteration the last corner goes back, negated, to the first, which makes the iterations depend on each
 * other. Check: all points have a closed form. A wrong message would disturb just its own row, and that
 * only until the next iteration; so the result also covers all that came in. --time prints the time of
 * all iterations but the first.
 */
#include "proof.h"

enum { PIPELINE = 1, CORNER = 2 };

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    bool print_time = last_argument_is(&argc, argv, "--time");
    int iterations = argument(argc, argv, 1, 40);
    int columns = argument(argc, argv, 2, 2000), rows = argument(argc, argv, 3, 1000);
    if (columns - 1 < ranks || rows < 2)
        fail("the grid must have two rows, and a column for each rank besides the first column");

    /* Column 0 of the band is the last of the left neighbour, or the fixed first column of the grid. */
    int first = (int)((long long)(columns - 1) * rank / ranks);
    int width = (int)((long long)(columns - 1) * (rank + 1) / ranks) - first;
    size_t stride = (size_t)width + 1;
    double *grid = allocate((size_t)rows * stride, sizeof *grid);
    for (int i = 0; i <= width; i++)
        grid[i] = first + i;
    for (int j = 0; j < rows && rank == 0; j++)
        grid[(size_t)j * stride] = j;

    double start = 0.0, corner = 0.0;
    uint64_t hash = 0;
    for (int iteration = 0; iteration <= iterations; iteration++) {
        if (iteration == 1) {
            MPI_Barrier(MPI_COMM_WORLD);
            start = MPI_Wtime();
        }
        for (int j = 1; j < rows; j++) {
            double *row = grid + (size_t)j * stride, *upper = row - stride;
            if (rank > 0) {
                MPI_Recv(row, 1, MPI_DOUBLE, rank - 1, PIPELINE, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                hash = mix(hash, bits_of(*row));
            }
            for (int i = 1; i <= width; i++)
                row[i] = row[i - 1] + upper[i] - upper[i - 1];
            if (rank < ranks - 1)
                MPI_Send(&row[width], 1, MPI_DOUBLE, rank + 1, PIPELINE, MPI_COMM_WORLD);
        }
        corner = -grid[(size_t)rows * stride - 1];
        if (rank == ranks - 1 && ranks > 1)
            MPI_Send(&corner, 1, MPI_DOUBLE, 0, CORNER, MPI_COMM_WORLD);
        if (rank == 0 && ranks > 1)
            MPI_Recv(&corner, 1, MPI_DOUBLE, ranks - 1, CORNER, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 0)
            grid[0] = corner;
    }
    double seconds = MPI_Wtime() - start, slowest;
    MPI_Reduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);

    double gain = columns + rows - 2.0;
    if (rank == 0 && corner != -(iterations + 1.0) * gain)
        fail("the corner is %.17g instead of %.17g", corner, -(iterations + 1.0) * gain);
    for (int j = 1; j < rows; j++) {
        for (int i = 1; i <= width; i++) {
            double value = grid[(size_t)j * stride + (size_t)i], expected = first + i + j + iterations * gain;
            if (value != expected)
                fail("point %d of row %d is %.17g instead of %.17g", first + i, j, value, expected);
            hash = mix(hash, bits_of(value));
        }
    }
    print_hash("result", "wavefront", hash);
    if (print_time && rank == 0) {
        double operations = 2.0 * (columns - 1) * (rows - 1) * iterations;
        printf("time %.6f s, %.1f MFlop/s\n", slowest, operations / slowest * 1e-6);
    }
    MPI_Finalize();
    return 0;
}
