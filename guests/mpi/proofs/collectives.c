/*
 * All the collectives in a random order that every rank computes alike.
 *
 *     collectives [rounds] [largest count]
 *
 * All data are a pure function of round, rank and index, so that each rank can recompute serially what
 * it must get. The user operation composes affine maps modulo a prime: it is associative but does not
 * commute, so it tells the order of the ranks. The sums of floating-point numbers are rounded, so their
 * bits tell in which order they were added.
 *
 * `exact` covers what every MPI library must get alike; `result` covers the rounded sums, too.
 */
#include "proof.h"

#include <math.h>

enum { LARGE_EVERY = 16, LARGE_FACTOR = 32 };
static const uint64_t prime = 2147483647u;

static int rank, ranks;
static uint64_t exact, rounded;
static MPI_Op compose_op, gcd_op;
static uint64_t *sent, *received;
static int *counts, *starts;

/* An affine map x -> ax + b in one word, a in the upper half. */
static uint64_t affine(int round, int of_rank, int i)
{
    uint64_t bits = noise(round, of_rank, i);
    return (bits >> 32) % prime << 32 | (bits & 0xffffffffu) % prime;
}

static uint64_t compose(uint64_t first, uint64_t second)
{
    uint64_t a1 = first >> 32, b1 = first & 0xffffffffu, a2 = second >> 32, b2 = second & 0xffffffffu;
    return a1 * a2 % prime << 32 | (a2 * b1 + b2) % prime;
}

static void compose_all(void *in, void *inout, int *count, MPI_Datatype *type)
{
    const uint64_t *lower = in;
    uint64_t *upper = inout;
    for (int i = 0; i < *count && *type == MPI_UINT64_T; i++)
        upper[i] = compose(lower[i], upper[i]);
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void gcd_all(void *in, void *inout, int *count, MPI_Datatype *type)
{
    const uint64_t *left = in;
    uint64_t *right = inout;
    for (int i = 0; i < *count && *type == MPI_UINT64_T; i++)
        right[i] = gcd(left[i], right[i]);
}

static int smooth_number(int round, int of_rank, int i)
{
    return (int)(noise(round, of_rank, i) % 5000 + 1) * 720;
}

static double fraction(int round, int of_rank, int i)
{
    return (double)(int64_t)noise(round, of_rank, i) * 0x1p-60;
}

static void expect(bool holds, const char *what, int round)
{
    if (!holds)
        fail("%s of round %d is wrong", what, round);
}

static void expect_word(uint64_t value, uint64_t expected, const char *what, int round)
{
    expect(value == expected, what, round);
    exact = mix(exact, value);
}

static void barrier(int round, int count, int root)
{
    MPI_Barrier(MPI_COMM_WORLD);
    exact = mix(exact, (uint64_t)(round + count + root));
}

static void bcast(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = rank == root ? noise(round, root, i) : 0;
    MPI_Bcast(sent, count, MPI_UINT64_T, root, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++)
        expect_word(sent[i], noise(round, root, i), "bcast", round);
}

static void reduce_integers(int round, int count, int root)
{
    int *out = (int *)sent, *in = (int *)received;
    bool largest = round % 2 == 0;
    for (int i = 0; i < count; i++)
        out[i] = (int)(noise(round, rank, i) % 2000001) - 1000000;
    MPI_Reduce(out, in, count, MPI_INT, largest ? MPI_MAX : MPI_SUM, root, MPI_COMM_WORLD);
    for (int i = 0; i < count && rank == root; i++) {
        int expected = largest ? -1000000 : 0;
        for (int r = 0; r < ranks; r++) {
            int value = (int)(noise(round, r, i) % 2000001) - 1000000;
            expected = !largest ? expected + value : value > expected ? value : expected;
        }
        expect_word((uint64_t)in[i], (uint64_t)expected, "reduce of integers", round);
    }
}

/* Folds the maps of the ranks below `end`, in their order. */
static uint64_t composed(int round, int end, int i)
{
    uint64_t map = affine(round, 0, i);
    for (int r = 1; r < end; r++)
        map = compose(map, affine(round, r, i));
    return map;
}

static void reduce_maps(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = affine(round, rank, i);
    if (round % 2 == 0)
        MPI_Reduce(sent, received, count, MPI_UINT64_T, compose_op, root, MPI_COMM_WORLD);
    else
        MPI_Allreduce(sent, received, count, MPI_UINT64_T, compose_op, MPI_COMM_WORLD);
    for (int i = 0; i < count && (rank == root || round % 2 == 1); i++)
        expect_word(received[i], composed(round, ranks, i), "reduce of maps", round);
}

static void allreduce_divisors(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = (uint64_t)smooth_number(round, rank, i);
    MPI_Allreduce(sent, received, count, MPI_UINT64_T, gcd_op, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++) {
        uint64_t expected = (uint64_t)smooth_number(round, root, i);
        for (int r = 0; r < ranks; r++)
            expected = gcd(expected, (uint64_t)smooth_number(round, r, i));
        expect_word(received[i], expected, "allreduce of divisors", round);
    }
}

static void allreduce_doubles(int round, int count, int root)
{
    double *out = (double *)sent, *in = (double *)received;
    for (int i = 0; i < count; i++)
        out[i] = fraction(round, rank, i);
    if (round % 2 == 0)
        MPI_Allreduce(out, in, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    else
        MPI_Reduce(out, in, count, MPI_DOUBLE, MPI_SUM, root, MPI_COMM_WORLD);
    for (int i = 0; i < count && (rank == root || round % 2 == 0); i++) {
        double expected = 0.0;
        for (int r = 0; r < ranks; r++)
            expected += fraction(round, r, i);
        expect(fabs(in[i] - expected) <= 1e-12 * ranks, "sum of doubles", round);
        rounded = mix(rounded, bits_of(in[i]));
    }
}

static void allreduce_floats(int round, int count, int root)
{
    float *out = (float *)sent, *in = (float *)received;
    for (int i = 0; i < count; i++)
        out[i] = (float)fraction(round + root, rank, i);
    MPI_Allreduce(out, in, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++) {
        double expected = 0.0;
        for (int r = 0; r < ranks; r++)
            expected += fraction(round + root, r, i);
        expect(fabs((double)in[i] - expected) <= 1e-4 * ranks, "sum of floats", round);
        rounded = mix(rounded, bits_of((double)in[i]));
    }
}

static void gather(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = noise(round, rank, i);
    MPI_Gather(sent, count, MPI_UINT64_T, received, count, MPI_UINT64_T, root, MPI_COMM_WORLD);
    for (int i = 0; i < count * ranks && rank == root; i++)
        expect_word(received[i], noise(round, i / count, i % count), "gather", round);
}

static void allgather(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = noise(round, rank, i + root);
    MPI_Allgather(sent, count, MPI_UINT64_T, received, count, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int i = 0; i < count * ranks; i++)
        expect_word(received[i], noise(round, i / count, i % count + root), "allgather", round);
}

/* Uneven pieces, some of them empty. */
static void divide(int round, int count)
{
    for (int r = 0, start = 0; r < ranks; r++) {
        counts[r] = (int)(noise(round, r, -1) % (uint64_t)(count + 1)) * (r % 3 != round % 3);
        starts[r] = start;
        start += counts[r];
    }
}

static void gatherv(int round, int count, int root)
{
    divide(round, count);
    for (int i = 0; i < counts[rank]; i++)
        sent[i] = noise(round, rank, i);
    MPI_Gatherv(sent, counts[rank], MPI_UINT64_T, received, counts, starts, MPI_UINT64_T, root, MPI_COMM_WORLD);
    for (int r = 0; r < ranks && rank == root; r++)
        for (int i = 0; i < counts[r]; i++)
            expect_word(received[starts[r] + i], noise(round, r, i), "gatherv", round);
}

static void scatter(int round, int count, int root)
{
    for (int i = 0; i < count * ranks && rank == root; i++)
        sent[i] = noise(round, root, i);
    MPI_Scatter(sent, count, MPI_UINT64_T, received, count, MPI_UINT64_T, root, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++)
        expect_word(received[i], noise(round, root, rank * count + i), "scatter", round);
}

static void scatterv(int round, int count, int root)
{
    divide(round, count);
    for (int i = 0; i < starts[ranks - 1] + counts[ranks - 1] && rank == root; i++)
        sent[i] = noise(round, root, i);
    MPI_Scatterv(sent, counts, starts, MPI_UINT64_T, received, counts[rank], MPI_UINT64_T, root, MPI_COMM_WORLD);
    for (int i = 0; i < counts[rank]; i++)
        expect_word(received[i], noise(round, root, starts[rank] + i), "scatterv", round);
}

static void alltoall(int round, int count, int root)
{
    for (int i = 0; i < count * ranks; i++)
        sent[i] = noise(round + root, rank, i);
    MPI_Alltoall(sent, count, MPI_UINT64_T, received, count, MPI_UINT64_T, MPI_COMM_WORLD);
    for (int i = 0; i < count * ranks; i++)
        expect_word(received[i], noise(round + root, i / count, rank * count + i % count), "alltoall", round);
}

static void scan(int round, int count, int root)
{
    for (int i = 0; i < count; i++)
        sent[i] = affine(round + root, rank, i);
    MPI_Scan(sent, received, count, MPI_UINT64_T, compose_op, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++)
        expect_word(received[i], composed(round + root, rank + 1, i), "scan", round);
}

static void (*const collectives[])(int round, int count, int root) = {
    barrier, bcast, reduce_integers, reduce_maps, allreduce_divisors, allreduce_doubles, allreduce_floats,
    gather, allgather, gatherv, scatter, scatterv, alltoall, scan,
};

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int rounds = argument(argc, argv, 1, 6000), largest = argument(argc, argv, 2, 64);
    if (largest > 1 << 20)
        fail("the largest count must be at most %d", 1 << 20);
    MPI_Op_create(compose_all, 0, &compose_op);
    MPI_Op_create(gcd_all, 1, &gcd_op);
    sent = allocate((size_t)largest * LARGE_FACTOR * (size_t)ranks, sizeof *sent);
    received = allocate((size_t)largest * LARGE_FACTOR * (size_t)ranks, sizeof *received);
    counts = allocate((size_t)ranks, sizeof *counts);
    starts = allocate((size_t)ranks, sizeof *starts);

    for (int round = 0; round < rounds; round++) {
        uint64_t dice = noise(round, -1, 0);
        int count = (int)(dice % (uint64_t)largest) + 1, root = (int)((dice >> 20) % (uint64_t)ranks);
        if (round % LARGE_EVERY == LARGE_EVERY - 1)
            count *= LARGE_FACTOR;
        collectives[(dice >> 40) % (sizeof collectives / sizeof collectives[0])](round, count, root);
    }

    MPI_Op_free(&compose_op);
    MPI_Op_free(&gcd_op);
    print_hash("exact", "collectives", exact);
    print_hash("result", "collectives", mix(exact, rounded));
    MPI_Finalize();
    return 0;
}
