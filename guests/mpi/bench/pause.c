/*
 * Ranks with memory in use that talk all the time, to measure how long they stand still when they move.
 *
 *     pause [iterations] [kilobytes]
 *
 * Each rank fills its memory with noise. In an iteration it passes a number round the ring, adds up over all, and
 * changes one word of its memory. Check: at the end all words are what they must be.
 */
#include "../proofs/proof.h"

enum { RING = 1 };

static uint64_t word(int rank, size_t i)
{
    return noise(rank, (int)(i >> 20), (int)(i & 0xfffff));
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int iterations = argument(argc, argv, 1, 1000), kilobytes = argument(argc, argv, 2, 16384);

    size_t words = (size_t)kilobytes * (1024 / sizeof(uint64_t));
    uint64_t *memory = allocate(words, sizeof *memory);
    for (size_t i = 0; i < words; i++)
        memory[i] = word(rank, i);

    int right = (rank + 1) % ranks, left = (rank + ranks - 1) % ranks;
    for (int iteration = 0; iteration < iterations; iteration++) {
        int sent = iteration + rank, received, sum;
        MPI_Sendrecv(&sent, 1, MPI_INT, right, RING, &received, 1, MPI_INT, left, RING, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        MPI_Allreduce(&received, &sum, 1, MPI_INT, MPI_BXOR, MPI_COMM_WORLD);
        int expected = 0;
        for (int r = 0; r < ranks; r++)
            expected ^= iteration + r;
        if (received != iteration + left || sum != expected)
            fail("iteration %d got %d and %d", iteration, received, sum);
        memory[(size_t)iteration % words] ^= (uint64_t)iteration;
    }

    for (size_t i = 0; i < words; i++) {
        uint64_t expected = word(rank, i);
        for (size_t iteration = i; iteration < (size_t)iterations; iteration += words)
            expected ^= iteration;
        if (memory[i] != expected)
            fail("word %zu is not what it must be", i);
    }
    free(memory);
    MPI_Finalize();
    return 0;
}
