/*
 * MPI calls below library code: in the comparisons of qsort and bsearch, and behind tables of functions.
 *
 *     callback [rounds] [items]
 *
 * All ranks sort the same items by weight, but each knows only its share of every weight: a comparison
 * has to ask all. The ranks run the same code on the same answers, so they make the same comparisons.
 * Check: the order found agrees with the weights as recomputed from all shares.
 */
#include "proof.h"

enum { RIGHTWARDS = 1, SHARE_MAX = 1000 };

static int rank, ranks, current_round;

static int64_t share(int of_rank, int item)
{
    return (int64_t)(noise(current_round, of_rank, item) % SHARE_MAX);
}

static int64_t weight(int item)
{
    int64_t sum = 0;
    for (int r = 0; r < ranks; r++)
        sum += share(r, item);
    return sum;
}

/* The sign of the difference in weight; equal weights are ordered by item. */
static int sign(int64_t difference, int a, int b)
{
    return difference != 0 ? (difference > 0) - (difference < 0) : (a > b) - (a < b);
}

static int compare_by_allreduce(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right;
    int64_t mine = share(rank, a) - share(rank, b), all;
    MPI_Allreduce(&mine, &all, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return sign(all, a, b);
}

static int compare_around_the_ring(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right;
    int64_t passing = share(rank, a) - share(rank, b), all = passing;
    for (int hop = 1; hop < ranks; hop++) {
        int64_t incoming;
        MPI_Sendrecv(&passing, 1, MPI_INT64_T, (rank + 1) % ranks, RIGHTWARDS, &incoming, 1, MPI_INT64_T,
                     (rank + ranks - 1) % ranks, RIGHTWARDS, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        passing = incoming;
        all += passing;
    }
    return sign(all, a, b);
}

static int compare_at_a_judge(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right, judge = (a + b) % ranks, verdict = 0;
    int64_t mine = share(rank, a) - share(rank, b), all = 0;
    MPI_Reduce(&mine, &all, 1, MPI_INT64_T, MPI_SUM, judge, MPI_COMM_WORLD);
    if (rank == judge)
        verdict = sign(all, a, b);
    MPI_Bcast(&verdict, 1, MPI_INT, judge, MPI_COMM_WORLD);
    return verdict;
}

/* Never talks to anybody, though it is called through the same pointers as the others. */
static int compare_alone(const void *left, const void *right)
{
    int a = *(const int *)left, b = *(const int *)right;
    return sign(weight(a) - weight(b), a, b);
}

static int (*const comparisons[])(const void *, const void *) = {
    compare_by_allreduce, compare_around_the_ring, compare_at_a_judge, compare_alone,
};

static uint64_t sort_and_search(int count, int (*compare)(const void *, const void *))
{
    int *items = allocate((size_t)count, sizeof *items);
    uint64_t hash = 0;
    for (int i = 0; i < count; i++)
        items[i] = i;
    qsort(items, (size_t)count, sizeof *items, compare);
    for (int i = 0; i < count; i++) {
        if (i > 0 && compare_alone(&items[i - 1], &items[i]) >= 0)
            fail("round %d: items %d and %d are in the wrong order", current_round, items[i - 1], items[i]);
        hash = mix(hash, (uint64_t)items[i]);
    }
    int wanted = current_round % count;
    const int *found = bsearch(&wanted, items, (size_t)count, sizeof *items, compare);
    if (found == NULL || *found != wanted)
        fail("round %d: item %d is not found", current_round, wanted);
    hash = mix(hash, (uint64_t)(found - items));
    free(items);
    return hash;
}

/* Operations of several types, so that indirect calls of several types can meet an MPI call. */
static void meet(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

static uint64_t shift(uint64_t word)
{
    uint64_t incoming;
    MPI_Sendrecv(&word, 1, MPI_UINT64_T, (rank + 1) % ranks, RIGHTWARDS, &incoming, 1, MPI_UINT64_T,
                 (rank + ranks - 1) % ranks, RIGHTWARDS, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return incoming;
}

static double largest(double own, int scale)
{
    double all;
    own *= scale;
    MPI_Allreduce(&own, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return all;
}

static int64_t announce(const void *word, float offset, int64_t from)
{
    int64_t value = *(const int64_t *)word + (int64_t)offset;
    MPI_Bcast(&value, 1, MPI_INT64_T, (int)from, MPI_COMM_WORLD);
    return value;
}

struct operation {
    enum { NOTHING, WORD, REAL, POINTER } type;
    union {
        void (*of_nothing)(void);
        uint64_t (*of_word)(uint64_t);
        double (*of_real)(double, int);
        int64_t (*of_pointer)(const void *, float, int64_t);
    } call;
};

static const struct operation operations[] = {
    {NOTHING, {.of_nothing = meet}}, {WORD, {.of_word = shift}},
    {REAL, {.of_real = largest}}, {POINTER, {.of_pointer = announce}},
};

static void expect(bool holds, const char *what)
{
    if (!holds)
        fail("round %d: %s is wrong", current_round, what);
}

static uint64_t perform(const struct operation *operation, int step)
{
    int64_t own = share(rank, step), root = (int64_t)(noise(current_round, step, -1) % (uint64_t)ranks);
    if (operation->type == WORD) {
        uint64_t word = operation->call.of_word((uint64_t)own);
        expect(word == (uint64_t)share((rank + ranks - 1) % ranks, step), "the shift");
        return word;
    }
    if (operation->type == REAL) {
        int64_t expected = 0;
        for (int r = 0; r < ranks; r++)
            expected = share(r, step) > expected ? share(r, step) : expected;
        double real = operation->call.of_real((double)own, 3);
        expect(real == 3.0 * (double)expected, "the maximum");
        return bits_of(real);
    }
    if (operation->type == POINTER) {
        int64_t value = operation->call.of_pointer(&own, 7.0f, root);
        expect(value == share((int)root, step) + 7, "the announcement");
        return (uint64_t)value;
    }
    operation->call.of_nothing();
    return 0;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int rounds = argument(argc, argv, 1, 12), count = argument(argc, argv, 2, 150);

    uint64_t hash = 0;
    for (current_round = 0; current_round < rounds; current_round++) {
        hash = mix(hash, sort_and_search(count, comparisons[current_round % 4]));
        for (int step = 0; step < count; step++)
            hash = mix(hash, perform(&operations[noise(current_round, step, -2) % 4], step));
    }
    print_hash("result", "callback", hash);
    MPI_Finalize();
    return 0;
}
