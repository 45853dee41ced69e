/* collectives.c: every collective operation, from every root, on several communicators. Each rank
 * computes the expected result for itself. Runs with any number of ranks. */
#include <stdint.h>
#include <string.h>

#include "check.h"

/* The communicator under test. */
static MPI_Comm comm;
static int me, n;

/* Around the length from which reductions work in slices, and unequal slices. */
static const int LENGTHS[] = {0, 1, 7, 1000, 8191, 20011};
enum { N_LENGTHS = sizeof LENGTHS / sizeof LENGTHS[0] };

static int value_of(int r, int i) {
    return r * 1000003 + i * 7 + 1;
}

static void fill(int *buf, int r, int len) {
    for (int i = 0; i < len; i++) buf[i] = value_of(r, i);
}

/* Different for each rank, none for some. */
static int length_of(int r) {
    return (r * 5) % 4 * 3;
}

static void barriers(void) {
    /* Nobody leaves before all have come: rank 0 hears from all while they wait. */
    if (me == 0) {
        for (int i = 1; i < n; i++) {
            int hello;
            MPI_Recv(&hello, 1, MPI_INT, MPI_ANY_SOURCE, 4, comm, MPI_STATUS_IGNORE);
        }
    } else {
        MPI_Request request;
        MPI_Isend(&me, 1, MPI_INT, 0, 4, comm, &request);
        MPI_Barrier(comm);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    }
    if (me == 0) {
        MPI_Barrier(comm);
        int flag;
        MPI_Iprobe(MPI_ANY_SOURCE, 4, comm, &flag, MPI_STATUS_IGNORE);
        CHECK(!flag);
    }
    MPI_Barrier(comm);
}

static void bcasts(void) {
    for (int root = 0; root < n; root++) {
        for (int k = 0; k < N_LENGTHS; k++) {
            int len = LENGTHS[k], *buf = room((size_t)len * sizeof(int));
            fill(buf, me, len);
            MPI_Bcast(buf, len, MPI_INT, root, comm);
            for (int i = 0; i < len; i++) CHECK(buf[i] == value_of(root, i));
            free(buf);
        }
    }
}

static void gathers(void) {
    enum { LEN = 5 };
    int out[LEN], *all = room((size_t)n * LEN * sizeof(int));
    for (int root = 0; root < n; root++) {
        for (int in_place = 0; in_place < 2; in_place++) {
            fill(out, me, LEN);
            memset(all, 0, (size_t)n * LEN * sizeof(int));
            fill(all + me * LEN, me, LEN);
            const void *from = in_place && me == root ? MPI_IN_PLACE : (void *)out;
            MPI_Gather(from, LEN, MPI_INT, all, LEN, MPI_INT, root, comm);
            for (int r = 0; me == root && r < n; r++) {
                for (int i = 0; i < LEN; i++) CHECK(all[r * LEN + i] == value_of(r, i));
            }
            /* And back. */
            memset(out, 0, sizeof out);
            void *to = in_place && me == root ? MPI_IN_PLACE : (void *)out;
            MPI_Scatter(all, LEN, MPI_INT, to, LEN, MPI_INT, root, comm);
            for (int i = 0; i < LEN && to == out; i++) CHECK(out[i] == value_of(me, i));
        }
    }
    free(all);
}

/* Blocks of different lengths, with a gap after each. */
static int layout(int counts[], int displs[]) {
    int at = 0;
    for (int r = 0; r < n; r++) {
        counts[r] = length_of(r);
        displs[r] = at;
        at += counts[r] + 2;
    }
    return at;
}

static void gathervs(void) {
    int *counts = room((size_t)n * sizeof(int)), *displs = room((size_t)n * sizeof(int));
    int total = layout(counts, displs), mine = length_of(me);
    int *all = room((size_t)total * sizeof(int)), *out = room((size_t)mine * sizeof(int));
    for (int root = 0; root < n; root++) {
        fill(out, me, mine);
        for (int i = 0; i < total; i++) all[i] = -1;
        MPI_Gatherv(out, mine, MPI_INT, all, counts, displs, MPI_INT, root, comm);
        if (me == root) {
            for (int r = 0; r < n; r++) {
                for (int i = 0; i < counts[r]; i++) CHECK(all[displs[r] + i] == value_of(r, i));
                CHECK(all[displs[r] + counts[r]] == -1);
            }
        }
        memset(out, 0, (size_t)mine * sizeof(int));
        MPI_Scatterv(all, counts, displs, MPI_INT, out, mine, MPI_INT, root, comm);
        for (int i = 0; i < mine; i++) CHECK(out[i] == value_of(me, i));
    }
    for (int in_place = 0; in_place < 2; in_place++) {
        for (int i = 0; i < total; i++) all[i] = -1;
        fill(all + displs[me], me, mine);
        MPI_Allgatherv(in_place ? MPI_IN_PLACE : (void *)out, mine, MPI_INT, all, counts, displs,
                       MPI_INT, comm);
        for (int r = 0; r < n; r++) {
            for (int i = 0; i < counts[r]; i++) CHECK(all[displs[r] + i] == value_of(r, i));
            CHECK(all[displs[r] + counts[r]] == -1);
        }
    }
    free(all);
    free(out);
    free(counts);
    free(displs);
}

static void allgathers(void) {
    for (int k = 0; k < N_LENGTHS; k++) {
        int len = LENGTHS[k];
        size_t bytes = (size_t)len * sizeof(int);
        int *out = room(bytes), *all = room(bytes * (size_t)n);
        for (int in_place = 0; in_place < 2; in_place++) {
            fill(out, me, len);
            memset(all, 0, bytes * (size_t)n);
            if (in_place) fill(all + me * len, me, len);
            MPI_Allgather(in_place ? MPI_IN_PLACE : (void *)out, len, MPI_INT, all, len, MPI_INT,
                          comm);
            for (int r = 0; r < n; r++) {
                for (int i = 0; i < len; i++) CHECK(all[r * len + i] == value_of(r, i));
            }
        }
        free(out);
        free(all);
    }
}

static void alltoalls(void) {
    for (int len = 0; len <= 3000; len = len * 10 + 3) {
        size_t items = (size_t)len * (size_t)n;
        int *out = room(items * sizeof(int)), *in = room(items * sizeof(int));
        for (int r = 0; r < n; r++) fill(out + r * len, me * n + r, len);
        for (int in_place = 0; in_place < 2; in_place++) {
            memcpy(in, out, items * sizeof(int));
            MPI_Alltoall(in_place ? MPI_IN_PLACE : (void *)out, len, MPI_INT, in, len, MPI_INT,
                         comm);
            for (int r = 0; r < n; r++) {
                for (int i = 0; i < len; i++) CHECK(in[r * len + i] == value_of(r * n + me, i));
            }
        }
        free(out);
        free(in);
    }
}

/* Rank a sends (a + b) % 3 * 4 items to rank b: the same both ways, as in-place needs it. */
static void alltoallvs(void) {
    int *counts = room((size_t)n * sizeof(int)), *displs = room((size_t)n * sizeof(int));
    int *bytes = room((size_t)n * sizeof(int)), total = 0;
    MPI_Datatype *types = room((size_t)n * sizeof *types);
    for (int r = 0; r < n; r++) {
        counts[r] = (me + r) % 3 * 4;
        displs[r] = total;
        bytes[r] = total * (int)sizeof(int);
        types[r] = MPI_INT;
        total += counts[r] + 1;
    }
    int *out = room((size_t)total * sizeof(int)), *in = room((size_t)total * sizeof(int));
    for (int way = 0; way < 4; way++) {
        for (int i = 0; i < total; i++) out[i] = in[i] = -1;
        for (int r = 0; r < n; r++) fill(out + displs[r], me * n + r, counts[r]);
        for (int r = 0; r < n; r++) fill(in + displs[r], me * n + r, counts[r]);
        const void *from = way % 2 ? MPI_IN_PLACE : (void *)out;
        if (way < 2) {
            MPI_Alltoallv(from, counts, displs, MPI_INT, in, counts, displs, MPI_INT, comm);
        } else {
            MPI_Alltoallw(from, counts, bytes, types, in, counts, bytes, types, comm);
        }
        for (int r = 0; r < n; r++) {
            for (int i = 0; i < counts[r]; i++) {
                CHECK(in[displs[r] + i] == value_of(r * n + me, i));
            }
            CHECK(in[displs[r] + counts[r]] == -1);
        }
    }
    free(out);
    free(in);
    free(counts);
    free(displs);
    free(bytes);
    free(types);
}

/* Maps x -> a*x + b modulo a prime, packed into one item, under composition: associative, and
 * commutes for hardly any two of them. */
enum { PRIME = 65521 };

static uint64_t map_of(int r, int i) {
    return (uint64_t)(2 + (r * 31 + i) % 1000) << 32 | (uint64_t)(1 + (r * 17 + i * 3) % 1000);
}

static uint64_t compose(uint64_t first, uint64_t second) {
    uint64_t a = (first >> 32) * (second >> 32) % PRIME;
    uint64_t b = ((first & 0xffffffff) * (second >> 32) + (second & 0xffffffff)) % PRIME;
    return a << 32 | b;
}

static void compose_all(void *in, void *inout, int *len, MPI_Datatype *type) {
    uint64_t *first = in, *second = inout;
    CHECK(*type == MPI_UINT64_T);
    for (int i = 0; i < *len; i++) second[i] = compose(first[i], second[i]);
}

/* Of the ranks first..last, in their order. */
static uint64_t composed(int first, int last, int i) {
    uint64_t map = map_of(first, i);
    for (int r = first + 1; r <= last; r++) map = compose(map, map_of(r, i));
    return map;
}

static void maps(uint64_t *buf, int len) {
    for (int i = 0; i < len; i++) buf[i] = map_of(me, i);
}

static void reduces(MPI_Op op, int len) {
    size_t bytes = (size_t)len * sizeof(uint64_t);
    uint64_t *out = room(bytes), *in = room(bytes);
    for (int in_place = 0; in_place < 2; in_place++) {
        for (int root = 0; root < n; root++) {
            maps(out, len);
            maps(in, len);
            const void *from = in_place && me == root ? MPI_IN_PLACE : (void *)out;
            MPI_Reduce(from, me == root ? in : NULL, len, MPI_UINT64_T, op, root, comm);
            for (int i = 0; me == root && i < len; i++) CHECK(in[i] == composed(0, n - 1, i));
            for (int i = 0; i < len; i++) CHECK(out[i] == map_of(me, i));
        }
        maps(in, len);
        void *from = in_place ? MPI_IN_PLACE : (void *)out;
        MPI_Allreduce(from, in, len, MPI_UINT64_T, op, comm);
        for (int i = 0; i < len; i++) CHECK(in[i] == composed(0, n - 1, i));
        maps(in, len);
        MPI_Scan(from, in, len, MPI_UINT64_T, op, comm);
        for (int i = 0; i < len; i++) CHECK(in[i] == composed(0, me, i));
        maps(in, len);
        MPI_Exscan(from, in, len, MPI_UINT64_T, op, comm);
        for (int i = 0; me > 0 && i < len; i++) CHECK(in[i] == composed(0, me - 1, i));
        for (int i = 0; i < len; i++) CHECK(out[i] == map_of(me, i));
    }
    free(out);
    free(in);
}

static void reduce_scatters(MPI_Op op, int len) {
    size_t items = (size_t)len * (size_t)n;
    uint64_t *out = room(items * sizeof(uint64_t)), *in = room(items * sizeof(uint64_t));
    int *counts = room((size_t)n * sizeof(int)), mine = len > 2 ? len - me % 2 : len, first = 0;
    for (int r = 0; r < n; r++) {
        counts[r] = len > 2 ? len - r % 2 : len;
        if (r < me) first += counts[r];
    }
    for (int in_place = 0; in_place < 2; in_place++) {
        void *from = in_place ? MPI_IN_PLACE : (void *)out;
        maps(out, (int)items);
        maps(in, (int)items);
        MPI_Reduce_scatter_block(from, in, len, MPI_UINT64_T, op, comm);
        for (int i = 0; i < len; i++) CHECK(in[i] == composed(0, n - 1, me * len + i));
        maps(in, (int)items);
        MPI_Reduce_scatter(from, in, counts, MPI_UINT64_T, op, comm);
        for (int i = 0; i < mine; i++) CHECK(in[i] == composed(0, n - 1, first + i));
    }
    free(out);
    free(in);
    free(counts);
}

static void user_operations(void) {
    MPI_Op op;
    int commutes;
    MPI_Op_create(compose_all, 0, &op);
    MPI_Op_commutative(op, &commutes);
    CHECK(!commutes);
    for (int k = 0; k < N_LENGTHS; k++) reduces(op, LENGTHS[k]);
    for (int len = 0; len <= 3000; len = len * 10 + 3) reduce_scatters(op, len);
    MPI_Op_free(&op);
    CHECK(op == MPI_OP_NULL);
}

/* Sums whose value depends on the order: all ranks must have the same bits. */
static void same_bits(void) {
    for (int k = 0; k < N_LENGTHS; k++) {
        int len = LENGTHS[k];
        size_t bytes = (size_t)len * sizeof(double);
        double *out = room(bytes), *in = room(bytes), *first = room(bytes);
        for (int i = 0; i < len; i++) out[i] = 1.0 / (3 + i + 7 * me) * (me % 2 ? 1e9 : 1e-9);
        MPI_Allreduce(out, in, len, MPI_DOUBLE, MPI_SUM, comm);
        memcpy(first, in, bytes);
        MPI_Bcast(first, len, MPI_DOUBLE, 0, comm);
        CHECK(memcmp(first, in, bytes) == 0);
        MPI_Allreduce(out, first, len, MPI_DOUBLE, MPI_SUM, comm);
        CHECK(memcmp(first, in, bytes) == 0);
        free(out);
        free(in);
        free(first);
    }
}

/* Point-to-point messages with every tag stay out of the collectives' way. */
static void mixed(void) {
    int in = -1, out = me, sum;
    MPI_Request request;
    MPI_Irecv(&in, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, comm, &request);
    for (int i = 0; i < 5; i++) {
        MPI_Allreduce(&out, &sum, 1, MPI_INT, MPI_SUM, comm);
        CHECK(sum == n * (n - 1) / 2);
    }
    CHECK(in == -1);
    MPI_Barrier(comm);
    MPI_Send(&out, 1, MPI_INT, (me + 1) % n, 3, comm);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in == (me + n - 1) % n);
}

static void all(const char *name) {
    MPI_Comm_rank(comm, &me);
    MPI_Comm_size(comm, &n);
    barriers();
    bcasts();
    gathers();
    gathervs();
    allgathers();
    alltoalls();
    alltoallvs();
    user_operations();
    same_bits();
    mixed();
    passed(name);
}

static void splits(void) {
    /* Evens and odds, in the opposite order. */
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &comm);
    int half = (size + 1 - rank % 2) / 2, result;
    MPI_Comm_rank(comm, &me);
    MPI_Comm_size(comm, &n);
    CHECK(n == half && me == half - 1 - rank / 2);
    MPI_Comm_compare(comm, MPI_COMM_WORLD, &result);
    CHECK(result == (size == 1 ? MPI_CONGRUENT : MPI_UNEQUAL));
    all("split");
    /* A part of a part. */
    MPI_Comm parent = comm;
    MPI_Comm_split(parent, me == 0 ? MPI_UNDEFINED : 1, 0, &comm);
    CHECK((comm == MPI_COMM_NULL) == (me == 0));
    if (comm != MPI_COMM_NULL) {
        int sum, one = 1;
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, comm);
        CHECK(sum == n - 1);
        MPI_Comm_free(&comm);
    }
    MPI_Comm_free(&parent);
    passed("undefined");
}

static void groups(void) {
    MPI_Group world, lower, upper, both, rest;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    int range[1][3] = {{0, (size - 1) / 2, 1}}, result, in_lower, n_lower, n_both;
    MPI_Group_range_incl(world, 1, range, &lower);
    MPI_Group_range_excl(world, 1, range, &upper);
    MPI_Group_union(upper, lower, &both);
    MPI_Group_difference(world, lower, &rest);
    MPI_Group_compare(rest, upper, &result);
    CHECK(result == MPI_IDENT);
    MPI_Group_compare(both, world, &result);
    CHECK(result == (size == 1 ? MPI_IDENT : MPI_SIMILAR));
    MPI_Group_size(lower, &n_lower);
    MPI_Group_size(both, &n_both);
    MPI_Group_rank(lower, &in_lower);
    CHECK(n_lower == (size + 1) / 2 && n_both == size);
    int zero = 0, there;
    MPI_Group_translate_ranks(world, 1, &zero, both, &there);
    CHECK(there == size - n_lower);
    MPI_Comm_create(MPI_COMM_WORLD, lower, &comm);
    CHECK((comm == MPI_COMM_NULL) == (in_lower == MPI_UNDEFINED));
    if (comm != MPI_COMM_NULL) {
        MPI_Comm_rank(comm, &me);
        CHECK(me == in_lower);
        MPI_Barrier(comm);
        MPI_Comm_free(&comm);
    }
    int last = size - 1;
    MPI_Group only;
    MPI_Group_incl(world, 1, &last, &only);
    MPI_Group_intersection(only, world, &rest);
    MPI_Group_compare(only, rest, &result);
    CHECK(result == MPI_IDENT);
    MPI_Group_excl(world, 0, NULL, &rest);
    MPI_Group_compare(world, rest, &result);
    CHECK(result == MPI_IDENT);
    passed("groups");
}

int main(int argc, char **argv) {
    begin(&argc, &argv);
    comm = MPI_COMM_WORLD;
    all("world");
    comm = MPI_COMM_SELF;
    all("self");
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    int result;
    MPI_Comm_compare(comm, MPI_COMM_WORLD, &result);
    CHECK(result == MPI_CONGRUENT);
    all("dup");
    MPI_Comm_free(&comm);
    splits();
    groups();
    MPI_Finalize();
    return 0;
}
