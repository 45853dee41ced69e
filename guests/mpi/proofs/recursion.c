/*
 * Deep recursion with messages on the way down, at the bottom and on the way up.
 *
 *     recursion [rounds] [depth]              each level has 4 KiB of arrays on the C stack (in memory)
 *     recursion [rounds] [depth] --frames     each level has eight live numbers, none in memory
 *
 * In the first mode, receives are posted into the arrays of levels far up the stack, and complete only
 * when the recursion comes back. In the second mode nothing has its address taken, so that in
 * WebAssembly all the state of a level is in the locals of its frame. Check: both modes recompute what
 * must come from the neighbour, the second one without recursion.
 */
#include "proof.h"

enum { WORDS = 512, POST_EVERY = 4, BOTTOM = 1, DOWN = 2, UP = 32767, UP_EVERY = 256 };

static int rank, ranks;

/* Tags: BOTTOM, DOWN plus the level, and UP, which is the largest that every MPI library allows. */

/* Sends a word to the right and returns the one from the left. Inlined, it would put its buffers into
   memory for every level. */
static __attribute__((noinline)) uint64_t pass_on(uint64_t word, int tag)
{
    uint64_t incoming;
    MPI_Sendrecv(&word, 1, MPI_UINT64_T, (rank + 1) % ranks, tag, &incoming, 1, MPI_UINT64_T,
                 (rank + ranks - 1) % ranks, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return incoming;
}

static uint64_t descend(int round, int level, int depth)
{
    uint64_t own[WORDS / 2], others[WORDS / 2];
    MPI_Request requests[2];
    int left = (rank + ranks - 1) % ranks, right = (rank + 1) % ranks;
    bool posts = level % POST_EVERY == 0;
    for (int i = 0; i < WORDS / 2; i++)
        own[i] = noise(round, rank, level * WORDS + i);
    if (posts) {
        MPI_Irecv(others, WORDS / 2, MPI_UINT64_T, left, DOWN + level, MPI_COMM_WORLD, &requests[0]);
        MPI_Isend(own, WORDS / 2, MPI_UINT64_T, right, DOWN + level, MPI_COMM_WORLD, &requests[1]);
    }

    uint64_t hash = level < depth ? descend(round, level + 1, depth) : pass_on(own[0], BOTTOM);

    if (posts)
        MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; i < WORDS / 2; i++) {
        if (own[i] != noise(round, rank, level * WORDS + i))
            fail("level %d has lost word %d", level, i);
        if (posts && others[i] != noise(round, left, level * WORDS + i))
            fail("level %d got a wrong word %d", level, i);
        hash = mix(hash, own[i]);
    }
    return hash;
}

/* What a level of the second mode knows. */
struct numbers {
    uint64_t a, b, c, d;
    double p, q, r, s;
};

static inline struct numbers deeper(struct numbers n)
{
    return (struct numbers){
        .a = mix(n.a, n.d), .b = n.b + (n.a >> 7), .c = n.c ^ (n.b << 9), .d = n.d * 25 + n.c,
        .p = n.p * 0.75 + n.q, .q = n.r - n.p * 0.5, .r = n.s * 0.5 + 1.0, .s = n.q - n.r * 0.25,
    };
}

/* Each number meets what came from below in a step of its own, so none can be combined beforehand. */
static inline uint64_t fold(struct numbers n, uint64_t below)
{
    below = mix(below ^ n.a, n.b);
    below = mix(below + n.c, n.d);
    double x = (double)(below >> 12) * 0x1p-52;
    x = x * n.p + n.q;
    x = x * n.r + n.s;
    return mix(below, bits_of(x));
}

static uint64_t descend_frames(int left_to_go, uint64_t a, uint64_t b, uint64_t c, uint64_t d, double p, double q,
                               double r, double s)
{
    if (left_to_go == 0)
        return pass_on(a ^ b ^ c ^ d, BOTTOM);
    struct numbers n = {a, b, c, d, p, q, r, s}, next = deeper(n);
    uint64_t below = descend_frames(left_to_go - 1, next.a, next.b, next.c, next.d, next.p, next.q, next.r, next.s);
    if (left_to_go % UP_EVERY == 0 && pass_on(below, UP) == 0)
        fail("level %d got nothing on the way up", left_to_go);
    return fold(n, below);
}

static struct numbers first_numbers(int round, int of_rank)
{
    double p = (double)of_rank + 0.125, q = (double)round / 3.0;
    return (struct numbers){
        .a = noise(round, of_rank, 1), .b = noise(round, of_rank, 2), .c = noise(round, of_rank, 3),
        .d = noise(round, of_rank, 4), .p = p, .q = q, .r = p - q, .s = p * q,
    };
}

/* The same as descend_frames, as two loops over an array. */
static uint64_t descend_serially(int round, struct numbers *levels, int depth)
{
    levels[0] = first_numbers(round, (rank + ranks - 1) % ranks);
    for (int i = 0; i < depth; i++)
        levels[i + 1] = deeper(levels[i]);
    uint64_t hash = levels[depth].a ^ levels[depth].b ^ levels[depth].c ^ levels[depth].d;
    levels[0] = first_numbers(round, rank);
    for (int i = 0; i < depth; i++)
        levels[i + 1] = deeper(levels[i]);
    for (int i = depth - 1; i >= 0; i--)
        hash = fold(levels[i], hash);
    return hash;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    bool frames = last_argument_is(&argc, argv, "--frames");
    int rounds = argument(argc, argv, 1, frames ? 500 : 200);
    int depth = argument(argc, argv, 2, frames ? 3200 : 100);
    if (depth > 100000 || (!frames && DOWN + depth >= UP))
        fail("the depth is too large");

    uint64_t hash = 0;
    struct numbers *levels = allocate((size_t)depth + 1, sizeof *levels);
    for (int round = 0; round < rounds; round++) {
        if (frames) {
            struct numbers n = first_numbers(round, rank);
            uint64_t found = descend_frames(depth, n.a, n.b, n.c, n.d, n.p, n.q, n.r, n.s);
            if (found != descend_serially(round, levels, depth))
                fail("round %d comes back with a wrong hash", round);
            hash = mix(hash, found);
        } else {
            hash = mix(hash, descend(round, 1, depth));
        }
    }
    free(levels);
    print_hash("result", "recursion", hash);
    MPI_Finalize();
    return 0;
}
