/* reduce.c: reductions.
 *
 * Operands are combined in the order of their ranks, always contiguous ranges of ranks, so that an
 * operation need not be commutative. The tree depends on the number of ranks and the length only:
 * floating-point results are the same in every run and at every placement. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* From here on, ranks reduce a slice each instead of the whole. */
enum { LARGE_BYTES = 1 << 16 };

/* What a reduction works on. */
struct job {
    MPI_Op op;
    MPI_Datatype type;
    int count;
    uint32_t len;
};

/* The value so far of a contiguous range of ranks. It starts as the caller's operand, which is
 * never written to, and lives in a buffer of our own after the first combination. */
struct accumulator {
    const struct job *job;
    const void *value;
    void *own;
    /* Where the next operand arrives. */
    void *spare;
};

static int reserve(void **buffer, uint32_t len) {
    if (!*buffer) *buffer = malloc(len ? len : 1);
    return *buffer ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

static void copy(void *to, const void *from, uint32_t len) {
    if (len > 0 && to != from) memcpy(to, from, len);
}

/* The operand in `spare` is of the ranks above the range. */
static void combine_above(struct accumulator *acc) {
    void *received = acc->spare;
    fold_items(acc->job->op, acc->value, received, acc->job->count, acc->job->type);
    acc->spare = acc->own;
    acc->own = received;
    acc->value = received;
}

/* The operand in `spare` is of the ranks below the range. */
static int combine_below(struct accumulator *acc) {
    if (!acc->own) {
        TRY(reserve(&acc->own, acc->job->len));
        copy(acc->own, acc->value, acc->job->len);
        acc->value = acc->own;
    }
    fold_items(acc->job->op, acc->spare, acc->own, acc->job->count, acc->job->type);
    return MPI_SUCCESS;
}

static void release(struct accumulator *acc) {
    free(acc->own);
    free(acc->spare);
}

static int receive(struct accumulator *acc, struct batch *batch, int source) {
    TRY(reserve(&acc->spare, acc->job->len));
    batch_recv(batch, source, acc->spare, acc->job->len);
    return batch_finish(batch);
}

/* Binomial tree to rank 0: rank r holds the range that starts with it, and gives it away at its
 * lowest bit. */
static int reduce_tree(struct accumulator *acc, struct batch *batch) {
    int rank = batch->comm->rank, size = batch->comm->size;
    for (int64_t bit = 1; bit < size; bit *= 2) {
        if (rank & bit) {
            batch_send(batch, rank - (int)bit, acc->value, acc->job->len);
            return batch_finish(batch);
        }
        if (rank + bit < size) {
            TRY(receive(acc, batch, rank + (int)bit));
            combine_above(acc);
        }
    }
    return MPI_SUCCESS;
}

/* Always through rank 0, so that the result does not depend on the root. */
static int reduce_small(const struct job *job, const void *input, void *recvbuf, int root,
                        struct batch *batch) {
    int rank = batch->comm->rank;
    struct accumulator acc = {.job = job, .value = input};
    int class = reduce_tree(&acc, batch);
    if (class == MPI_SUCCESS && rank == 0 && root != 0) {
        batch_send(batch, root, acc.value, job->len);
        class = batch_finish(batch);
    } else if (class == MPI_SUCCESS && rank == root) {
        if (root != 0) {
            batch_recv(batch, 0, recvbuf, job->len);
            class = batch_finish(batch);
        } else {
            copy(recvbuf, acc.value, job->len);
        }
    }
    release(&acc);
    return class;
}

/* The slice of the items that each rank reduces. */
struct slices {
    int *counts;
    int *displs;
};

static int slices_new(struct slices *slices, int size) {
    slices->counts = malloc(2 * (size_t)size * sizeof(int));
    slices->displs = slices->counts + size;
    return slices->counts ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

static int slices_even(struct slices *slices, int count, int size) {
    TRY(slices_new(slices, size));
    int displ = 0;
    for (int rank = 0; rank < size; rank++) {
        slices->counts[rank] = count / size + (rank < count % size);
        slices->displs[rank] = displ;
        displ += slices->counts[rank];
    }
    return MPI_SUCCESS;
}

/* Brings the operands for this rank's slice together and combines them. `*buffer` is allocated; the
 * caller frees it. The result lies at `*result`, in it. */
static int reduce_slice(const struct job *job, const void *input, const struct slices *slices,
                        struct batch *batch, void **buffer, void **result) {
    int rank = batch->comm->rank, size = batch->comm->size;
    int count = slices->counts[rank];
    size_t len = (size_t)count * job->type->extent;
    *buffer = malloc(len * (size_t)size + 1);
    if (!*buffer) return MPI_ERR_NO_MEM;
    struct side out = {.buf = (void *)input,
                       .counts = slices->counts,
                       .displs = slices->displs,
                       .type = job->type};
    struct side in = {.buf = *buffer, .count = count, .type = job->type};
    char *operands = *buffer;
    copy(operands + len * (size_t)rank, item(input, slices->displs[rank], job->type),
         (uint32_t)len);
    TRY(exchange_blocks(batch, &out, &in));
    for (int i = 1; i < size; i++) {
        char *higher = operands + len * (size_t)i;
        fold_items(job->op, higher - len, higher, count, job->type);
    }
    *result = operands + len * (size_t)(size - 1);
    return MPI_SUCCESS;
}

static int reduce_large(const struct job *job, const void *input, void *recvbuf, int root,
                        struct batch *batch) {
    int rank = batch->comm->rank, size = batch->comm->size;
    struct slices slices;
    TRY(slices_even(&slices, job->count, size));
    void *buffer = NULL, *result = NULL;
    int class = reduce_slice(job, input, &slices, batch, &buffer, &result);
    uint32_t len = (uint32_t)slices.counts[rank] * job->type->extent;
    if (class == MPI_SUCCESS && rank != root) {
        batch_send(batch, root, result, len);
        class = batch_finish(batch);
    } else if (class == MPI_SUCCESS) {
        for (int i = 0; i < size; i++) {
            void *at = item(recvbuf, slices.displs[i], job->type);
            uint32_t room = (uint32_t)slices.counts[i] * job->type->extent;
            if (i == rank) copy(at, result, room);
            if (i != rank) batch_recv(batch, i, at, room);
        }
        class = batch_finish(batch);
    }
    free(buffer);
    free(slices.counts);
    return class;
}

static int check_job(const void *buf, int count, MPI_Datatype type, MPI_Op op, struct job *job) {
    TRY(message_bytes(buf, count, type, &job->len));
    TRY(check_op(op, type));
    job->op = op;
    job->type = type;
    job->count = count;
    return MPI_SUCCESS;
}

static bool is_large(const struct job *job, MPI_Comm comm) {
    return job->len >= LARGE_BYTES && job->count >= comm->size && comm->size > 1;
}

static int reduce(const void *sendbuf, void *recvbuf, int count, MPI_Datatype type, MPI_Op op,
                  int root, MPI_Comm comm) {
    struct job job;
    struct batch batch;
    TRY(check_root(comm, root));
    if (comm->rank == root && sendbuf == MPI_IN_PLACE) sendbuf = recvbuf;
    TRY(check_job(sendbuf, count, type, op, &job));
    if (comm->rank == root) TRY(message_bytes(recvbuf, count, type, &job.len));
    batch_begin(&batch, comm, COLL_REDUCE);
    return is_large(&job, comm) ? reduce_large(&job, sendbuf, recvbuf, root, &batch)
                                : reduce_small(&job, sendbuf, recvbuf, root, &batch);
}

int MPI_Reduce(const void *sendbuf, void *recvbuf, int count, MPI_Datatype datatype, MPI_Op op,
               int root, MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = reduce(sendbuf, recvbuf, count, datatype, op, root, comm);
    return finish_collective(comm, __func__, COLL_REDUCE, class);
}

/* Swaps values with `partner` and combines them in the order of the ranks. Both sides combine the
 * same operands in the same order, so that they come to the same bits. */
static int combine_with(struct accumulator *acc, int partner, bool above, struct batch *batch) {
    TRY(reserve(&acc->spare, acc->job->len));
    batch_recv(batch, partner, acc->spare, acc->job->len);
    batch_send(batch, partner, acc->value, acc->job->len);
    TRY(batch_finish(batch));
    if (!above) return combine_below(acc);
    combine_above(acc);
    return MPI_SUCCESS;
}

/* Recursive doubling over a power of two of ranks. Of the others, each first merges with its upper
 * neighbour, which represents both and passes the result back. */
static int allreduce_doubling(struct accumulator *acc, struct batch *batch) {
    int rank = batch->comm->rank, size = batch->comm->size;
    int power = 1;
    while (power <= size / 2) power *= 2;
    int merged = 2 * (size - power);
    if (rank < merged && rank % 2 == 0) {
        batch_send(batch, rank + 1, acc->value, acc->job->len);
        TRY(batch_finish(batch));
        /* The own operand is gone now; the result takes its place. */
        TRY(receive(acc, batch, rank + 1));
        acc->value = acc->spare;
        return MPI_SUCCESS;
    }
    if (rank < merged) {
        TRY(receive(acc, batch, rank - 1));
        TRY(combine_below(acc));
    }
    int place = rank < merged ? rank / 2 : rank - merged / 2;
    for (int bit = 1; bit < power; bit *= 2) {
        int other = place ^ bit;
        int partner = other < merged / 2 ? 2 * other + 1 : other + merged / 2;
        TRY(combine_with(acc, partner, other > place, batch));
    }
    if (rank < merged) {
        batch_send(batch, rank - 1, acc->value, acc->job->len);
        return batch_finish(batch);
    }
    return MPI_SUCCESS;
}

static int allreduce_small(const struct job *job, const void *input, void *recvbuf,
                           struct batch *batch) {
    struct accumulator acc = {.job = job, .value = input};
    int class = allreduce_doubling(&acc, batch);
    if (class == MPI_SUCCESS) copy(recvbuf, acc.value, job->len);
    release(&acc);
    return class;
}

static int allreduce_large(const struct job *job, const void *input, void *recvbuf,
                           struct batch *batch) {
    int rank = batch->comm->rank;
    struct slices slices;
    TRY(slices_even(&slices, job->count, batch->comm->size));
    void *buffer = NULL, *result = NULL;
    int class = reduce_slice(job, input, &slices, batch, &buffer, &result);
    if (class == MPI_SUCCESS) {
        void *at = item(recvbuf, slices.displs[rank], job->type);
        copy(at, result, (uint32_t)slices.counts[rank] * job->type->extent);
        struct side out = {
            .buf = at, .count = slices.counts[rank], .type = job->type, .shared = true};
        struct side in = {.buf = recvbuf,
                          .counts = slices.counts,
                          .displs = slices.displs,
                          .type = job->type};
        class = exchange_blocks(batch, &out, &in);
    }
    free(buffer);
    free(slices.counts);
    return class;
}

static int allreduce(const void *sendbuf, void *recvbuf, int count, MPI_Datatype type, MPI_Op op,
                     MPI_Comm comm) {
    struct job job;
    struct batch batch;
    if (sendbuf == MPI_IN_PLACE) sendbuf = recvbuf;
    TRY(check_job(sendbuf, count, type, op, &job));
    TRY(message_bytes(recvbuf, count, type, &job.len));
    batch_begin(&batch, comm, COLL_ALLREDUCE);
    return is_large(&job, comm) ? allreduce_large(&job, sendbuf, recvbuf, &batch)
                                : allreduce_small(&job, sendbuf, recvbuf, &batch);
}

int MPI_Allreduce(const void *sendbuf, void *recvbuf, int count, MPI_Datatype datatype, MPI_Op op,
                  MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = allreduce(sendbuf, recvbuf, count, datatype, op, comm);
    return finish_collective(comm, __func__, COLL_ALLREDUCE, class);
}

static int reduce_scatter(const void *sendbuf, void *recvbuf, const struct slices *slices,
                          MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    struct job job;
    struct batch batch;
    int64_t total = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        if (slices->counts[rank] < 0) return MPI_ERR_COUNT;
        slices->displs[rank] = (int)total;
        total += slices->counts[rank];
        if (total > INT32_MAX) return MPI_ERR_COUNT;
    }
    if (sendbuf == MPI_IN_PLACE) sendbuf = recvbuf;
    TRY(check_job(sendbuf, (int)total, type, op, &job));
    TRY(message_bytes(recvbuf, slices->counts[comm->rank], type, &job.len));
    batch_begin(&batch, comm, COLL_REDUCE_SCATTER);
    void *buffer = NULL, *result = NULL;
    int class = reduce_slice(&job, sendbuf, slices, &batch, &buffer, &result);
    if (class == MPI_SUCCESS) copy(recvbuf, result, job.len);
    free(buffer);
    return class;
}

int MPI_Reduce_scatter(const void *sendbuf, void *recvbuf, const int recvcounts[],
                       MPI_Datatype datatype, MPI_Op op, MPI_Comm comm) {
    struct slices slices = {NULL, NULL};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !recvcounts) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = slices_new(&slices, comm->size);
    if (class == MPI_SUCCESS) {
        memcpy(slices.counts, recvcounts, (size_t)comm->size * sizeof(int));
        class = reduce_scatter(sendbuf, recvbuf, &slices, datatype, op, comm);
    }
    free(slices.counts);
    return finish_collective(comm, __func__, COLL_REDUCE_SCATTER, class);
}

int MPI_Reduce_scatter_block(const void *sendbuf, void *recvbuf, int recvcount,
                             MPI_Datatype datatype, MPI_Op op, MPI_Comm comm) {
    struct slices slices = {NULL, NULL};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = slices_new(&slices, comm->size);
    if (class == MPI_SUCCESS) {
        for (int rank = 0; rank < comm->size; rank++) slices.counts[rank] = recvcount;
        class = reduce_scatter(sendbuf, recvbuf, &slices, datatype, op, comm);
    }
    free(slices.counts);
    return finish_collective(comm, __func__, COLL_REDUCE_SCATTER, class);
}

/* In each step the range below the own one doubles. `before` is NULL for an inclusive scan, else it
 * gets the value of all lower ranks. */
static int scan_doubling(struct accumulator *acc, void *before, struct batch *batch) {
    int rank = batch->comm->rank, size = batch->comm->size;
    const struct job *job = acc->job;
    for (int64_t distance = 1; distance < size; distance *= 2) {
        bool receives = rank >= distance;
        if (receives) {
            TRY(reserve(&acc->spare, job->len));
            batch_recv(batch, rank - (int)distance, acc->spare, job->len);
        }
        if (rank + distance < size) {
            batch_send(batch, rank + (int)distance, acc->value, job->len);
        }
        TRY(batch_finish(batch));
        if (!receives) continue;
        /* First, because `before` may be the operand that the accumulator still reads. */
        TRY(combine_below(acc));
        if (before && distance == 1) copy(before, acc->spare, job->len);
        if (before && distance > 1) fold_items(job->op, acc->spare, before, job->count, job->type);
    }
    return MPI_SUCCESS;
}

static int scan(const void *sendbuf, void *recvbuf, int count, MPI_Datatype type, MPI_Op op,
                MPI_Comm comm, bool inclusive) {
    struct job job;
    struct batch batch;
    if (sendbuf == MPI_IN_PLACE) sendbuf = recvbuf;
    TRY(check_job(sendbuf, count, type, op, &job));
    /* The first rank's result is undefined: it need not have a buffer. */
    if (inclusive || comm->rank > 0) TRY(message_bytes(recvbuf, count, type, &job.len));
    batch_begin(&batch, comm, inclusive ? COLL_SCAN : COLL_EXSCAN);
    struct accumulator acc = {.job = &job, .value = sendbuf};
    int class = scan_doubling(&acc, inclusive ? NULL : recvbuf, &batch);
    if (class == MPI_SUCCESS && inclusive) copy(recvbuf, acc.value, job.len);
    release(&acc);
    return class;
}

int MPI_Scan(const void *sendbuf, void *recvbuf, int count, MPI_Datatype datatype, MPI_Op op,
             MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = scan(sendbuf, recvbuf, count, datatype, op, comm, true);
    return finish_collective(comm, __func__, COLL_SCAN, class);
}

int MPI_Exscan(const void *sendbuf, void *recvbuf, int count, MPI_Datatype datatype, MPI_Op op,
               MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = scan(sendbuf, recvbuf, count, datatype, op, comm, false);
    return finish_collective(comm, __func__, COLL_EXSCAN, class);
}
