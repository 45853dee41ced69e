/*
 * Edge-preserving smoothing of a photograph: anisotropic diffusion after Perona and Malik (1990).
 *
 *     diffuse -i in.ppm -o out.ppm [-n iterations] [-k kappa] [--size WIDTH] [--residual-every ITERATIONS]
 *             [--drop-halo ITERATION]
 *
 * Brightness flows between neighbouring pixels like heat, but hardly across differences larger than
 * kappa. So noise and texture melt away while the edges stay. The picture is cut into bands of rows,
 * one a rank; in each iteration neighbours exchange the rows at their borders.
 *
 * The result does not depend on the number of ranks: each pixel is computed in the same way wherever
 * it lives, and the residual is a maximum, which has no rounding. Compile with -ffp-contract=off to
 * get the same bits on every machine.
 *
 * --size scales the picture first, to make the run as large as wanted. --residual-every says how often all
 * ranks agree on the residual, which makes them keep step; the result does not depend on it. --drop-halo leaves
 * out the exchange of one iteration: what a lost message would do, to show that the checksum tells.
 */
#include <mpi.h>

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

enum { TAG_UP = 1, TAG_DOWN = 2 };

/* The value that follows `name` among the arguments; counts them, so that a misspelt name is noticed. */
static const char *option(int argc, char **argv, const char *name, const char *otherwise, int *used)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], name) == 0) {
            *used += 2;
            return argv[i + 1];
        }
    }
    return otherwise;
}

static inline float flow(float from, float to, float sharpness)
{
    float difference = from - to;
    return difference / (1.0f + difference * difference * sharpness);
}

static void smooth_row(float *restrict next, const float *restrict above, const float *restrict row,
                       const float *restrict below, int values, int channels, float sharpness)
{
    for (int x = 0; x < values; x++) {
        float here = row[x];
        next[x] = here + 0.2f * (flow(above[x], here, sharpness) + flow(below[x], here, sharpness) +
                                 flow(row[x - channels], here, sharpness) +
                                 flow(row[x + channels], here, sharpness));
    }
}

static float largest_change(const float *next, const float *row, int values)
{
    float largest = 0.0f;
    for (int x = 0; x < values; x++) {
        float change = fabsf(next[x] - row[x]);
        largest = change > largest ? change : largest;
    }
    return largest;
}

/* FNV-1a over the bits of a row. Starting from its number makes the sum over rows tell their order. */
static uint64_t hash_row(const float *row, int values, int y)
{
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)y;
    for (int x = 0; x < values; x++) {
        uint32_t bits;
        memcpy(&bits, &row[x], sizeof bits);
        hash = (hash ^ bits) * 0x100000001b3u;
    }
    return hash;
}

/* The first of the rows that a rank computes; the ranks differ by at most one row. */
static int first_row(int rank, int ranks, int height)
{
    return (int)((long long)height * rank / ranks);
}

/* Sends the first and the last row of a band to the neighbours, and gets theirs into the halo. */
static void exchange_halo(float *first, float *last, size_t stride, int values, int above, int below)
{
    MPI_Request requests[4];
    MPI_Irecv(first - stride, values, MPI_FLOAT, above, TAG_DOWN, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(last + stride, values, MPI_FLOAT, below, TAG_UP, MPI_COMM_WORLD, &requests[1]);
    MPI_Isend(first, values, MPI_FLOAT, above, TAG_UP, MPI_COMM_WORLD, &requests[2]);
    MPI_Isend(last, values, MPI_FLOAT, below, TAG_DOWN, MPI_COMM_WORLD, &requests[3]);
    MPI_Waitall(4, requests, MPI_STATUSES_IGNORE);
}

/* Rank 0 gets the bands of all as 8-bit pixels and writes them. */
static void gather_picture(const char *path, struct picture picture, const float *band, size_t stride)
{
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int values = picture.width * picture.channels;
    int *counts = allocate((size_t)ranks, sizeof *counts), *starts = allocate((size_t)ranks, sizeof *starts);
    for (int r = 0; r < ranks; r++) {
        starts[r] = first_row(r, ranks, picture.height) * values;
        counts[r] = first_row(r + 1, ranks, picture.height) * values - starts[r];
    }
    unsigned char *bytes = allocate((size_t)counts[rank], 1);
    for (int y = 0; y < counts[rank] / values; y++)
        for (int x = 0; x < values; x++)
            bytes[(size_t)y * values + x] = (unsigned char)(band[(size_t)y * stride + x] + 0.5f);
    picture.pixels = rank == 0 ? allocate(size_of(picture), 1) : NULL;
    MPI_Gatherv(bytes, counts[rank], MPI_UNSIGNED_CHAR, picture.pixels, counts, starts, MPI_UNSIGNED_CHAR, 0,
                MPI_COMM_WORLD);
    if (rank == 0)
        write_picture(path, picture);
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int used = 1;
    const char *input = option(argc, argv, "-i", NULL, &used);
    const char *output = option(argc, argv, "-o", NULL, &used);
    int iterations = atoi(option(argc, argv, "-n", "100", &used));
    float kappa = (float)atof(option(argc, argv, "-k", "8", &used));
    int width = atoi(option(argc, argv, "--size", "0", &used));
    int residual_every = atoi(option(argc, argv, "--residual-every", "10", &used));
    int drop_halo = atoi(option(argc, argv, "--drop-halo", "0", &used));
    if (input == NULL || output == NULL || used != argc)
        die("usage: diffuse -i in.ppm -o out.ppm [-n iterations] [-k kappa] [--size WIDTH] [--residual-every N]"
            " [--drop-halo N]");
    if (iterations < 0 || !(kappa > 0.0f) || width < 0 || width > SIDE_MAX || residual_every < 1)
        die("an option is out of range");

    /* Rank 0 reads. All get the photograph as it is, and each scales the rows of its own band: so
       nobody holds the whole of a large picture. */
    struct picture photo = {0};
    if (rank == 0)
        photo = read_picture(input);
    MPI_Bcast(&photo.width, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Bcast(&photo.height, 1, MPI_INT, 0, MPI_COMM_WORLD);
    MPI_Bcast(&photo.channels, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (rank != 0)
        photo.pixels = allocate(size_of(photo), 1);
    MPI_Bcast(photo.pixels, (int)size_of(photo), MPI_UNSIGNED_CHAR, 0, MPI_COMM_WORLD);

    struct picture picture = photo;
    if (width > 0) {
        picture.width = width;
        picture.height = (int)((long long)photo.height * width / photo.width);
    }
    if (picture.height < ranks || picture.height > SIDE_MAX || size_of(picture) > INT_MAX)
        die("the picture has fewer rows than ranks, or is too large");

    /* The band has a row of halo above and below, and a pixel of margin left and right. */
    int first = first_row(rank, ranks, picture.height);
    int rows = first_row(rank + 1, ranks, picture.height) - first;
    int channels = picture.channels, values = picture.width * channels;
    size_t stride = (size_t)values + 2 * (size_t)channels;
    size_t last = (size_t)(rows - 1) * stride;
    float *now = (float *)allocate((size_t)rows + 2, stride * sizeof *now) + stride + channels;
    float *next = (float *)allocate((size_t)rows + 2, stride * sizeof *next) + stride + channels;
    for (int y = 0; y < rows; y++)
        scale_row(now + y * stride, first + y, picture, photo);
    free(photo.pixels);

    /* A scaled picture has smaller differences from pixel to pixel, for the same edges. */
    kappa *= (float)photo.width / (float)picture.width;
    float sharpness = 1.0f / (kappa * kappa), residual = 0.0f;
    int above = rank > 0 ? rank - 1 : MPI_PROC_NULL;
    int below = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;

    for (int iteration = 1; iteration <= iterations; iteration++) {
        if (iteration != drop_halo)
            exchange_halo(now, now + last, stride, values, above, below);

        /* Nothing flows through the rim of the picture: outside of it is what is just inside. */
        if (rank == 0)
            memcpy(now - stride, now, (size_t)values * sizeof *now);
        if (rank == ranks - 1)
            memcpy(now + last + stride, now + last, (size_t)values * sizeof *now);
        for (int y = 0; y < rows; y++) {
            float *row = now + y * stride;
            memcpy(row - channels, row, (size_t)channels * sizeof *row);
            memcpy(row + values, row + values - channels, (size_t)channels * sizeof *row);
            smooth_row(next + y * stride, row - stride, row, row + stride, values, channels, sharpness);
        }

        bool report = 10LL * iteration / iterations > 10LL * (iteration - 1) / iterations;
        if (report || iteration % residual_every == 0) {
            float change = 0.0f;
            for (int y = 0; y < rows; y++) {
                float of_row = largest_change(next + y * stride, now + y * stride, values);
                change = of_row > change ? of_row : change;
            }
            MPI_Allreduce(&change, &residual, 1, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
        }
        if (report && rank == 0) {
            printf("iteration %d residual %.9g\n", iteration, (double)residual);
            fflush(stdout);
        }
        float *swap = now;
        now = next;
        next = swap;
    }

    uint64_t hash = 0, checksum = 0;
    for (int y = 0; y < rows; y++)
        hash += hash_row(now + y * stride, values, first + y);
    MPI_Reduce(&hash, &checksum, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    gather_picture(output, picture, now, stride);
    if (rank == 0)
        printf("checksum %016" PRIx64 "\nresidual %.9g\n", checksum, (double)residual);
    MPI_Finalize();
    return 0;
}
