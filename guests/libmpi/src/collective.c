/* collective.c: the messages below every collective operation, and those that only move data from
 * or to a root.
 *
 * Who sends what to whom depends on ranks, sizes and the root alone, never on timing or on where a
 * rank runs. */
#include <string.h>

#include "internal.h"

void batch_begin(struct batch *batch, MPI_Comm comm, enum collective op) {
    batch->comm = comm;
    batch->tag = (int)((uint32_t)op << 24 | (comm->sequence++ & 0xffffff));
    batch->n = 0;
    batch->error = MPI_SUCCESS;
    /* A rank that is alone sends nothing and waits for nothing, and has to pass a control point. */
    if (comm->size == 1) host_wait(NULL, 0, 0, NULL);
}

int batch_finish(struct batch *batch) {
    if (batch->n > 0) host_wait(batch->reqs, batch->n, batch->n, batch->statuses);
    for (int i = 0; i < batch->n; i++) {
        if (batch->error == MPI_SUCCESS) batch->error = batch->statuses[i].error;
    }
    batch->n = 0;
    return batch->error;
}

static void batch_add(struct batch *batch, int req) {
    batch->reqs[batch->n++] = req;
    if (batch->n == BATCH) batch_finish(batch);
}

void batch_send(struct batch *batch, int dest, const void *buf, uint32_t len) {
    batch_add(batch, host_send(batch->comm->ctx + 1, world_rank(batch->comm, dest), batch->tag, buf,
                               len, HOST_SEND_STANDARD));
}

void batch_recv(struct batch *batch, int source, void *buf, uint32_t len) {
    batch_add(batch, host_recv(batch->comm->ctx + 1, world_rank(batch->comm, source), batch->tag,
                               buf, len));
}

int finish_collective(MPI_Comm comm, const char *function, enum collective op, int class) {
    if (class == MPI_SUCCESS) host_completed((int)op, comm->ctx, 0);
    return report(comm, function, class);
}

int check_root(MPI_Comm comm, int root) {
    return root >= 0 && root < comm->size ? MPI_SUCCESS : MPI_ERR_ROOT;
}

/* In round k every rank hears, through others, from 2^k more. */
static int barrier(MPI_Comm comm) {
    struct batch batch;
    batch_begin(&batch, comm, COLL_BARRIER);
    for (int64_t distance = 1; distance < comm->size; distance *= 2) {
        int step = (int)distance;
        batch_recv(&batch, (comm->rank + comm->size - step) % comm->size, NULL, 0);
        batch_send(&batch, (comm->rank + step) % comm->size, NULL, 0);
        TRY(batch_finish(&batch));
    }
    return MPI_SUCCESS;
}

int MPI_Barrier(MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = barrier(comm);
    return finish_collective(comm, __func__, COLL_BARRIER, class);
}

/* Binomial tree: counted from the root, a rank hears from the one without its lowest bit, and
 * passes on to those with one more bit below that. */
int bcast_bytes(struct batch *batch, void *buf, uint32_t len, int root) {
    int size = batch->comm->size;
    int place = (batch->comm->rank + size - root) % size;
    int64_t bit = 1;
    while (bit < size && !(place & bit)) bit *= 2;
    if (place != 0) {
        batch_recv(batch, (place - (int)bit + root) % size, buf, len);
        TRY(batch_finish(batch));
    }
    for (bit /= 2; bit > 0; bit /= 2) {
        if (place + bit < size) batch_send(batch, (int)((place + bit + root) % size), buf, len);
    }
    return batch_finish(batch);
}

static int bcast(void *buf, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    uint32_t len;
    struct batch batch;
    TRY(check_root(comm, root));
    TRY(message_bytes(buf, count, type, &len));
    batch_begin(&batch, comm, COLL_BCAST);
    return bcast_bytes(&batch, buf, len, root);
}

int MPI_Bcast(void *buffer, int count, MPI_Datatype datatype, int root, MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = bcast(buffer, count, datatype, root, comm);
    return finish_collective(comm, __func__, COLL_BCAST, class);
}

/* Blocks that lie in one buffer, one for each rank: `counts` and `displs` for the -v operations,
 * else NULL and the same `count` for all, one after the other. */
struct blocks {
    void *buf;
    const int *counts;
    const int *displs;
    int count;
    MPI_Datatype type;
};

static int block_bytes(const struct blocks *blocks, int rank, void **at, uint32_t *len) {
    int count = blocks->counts ? blocks->counts[rank] : blocks->count;
    if (count < 0) return MPI_ERR_COUNT;
    if (!blocks->type) return MPI_ERR_TYPE;
    int64_t first = blocks->displs ? blocks->displs[rank] : (int64_t)rank * count;
    if (blocks->buf == MPI_IN_PLACE) return MPI_ERR_BUFFER;
    *at = item(blocks->buf, first, blocks->type);
    return message_bytes(blocks->buf, count, blocks->type, len);
}

/* Checks all blocks before the first message, so that an error leaves no message behind. */
static int check_blocks(const struct blocks *blocks, int size) {
    void *at;
    uint32_t len;
    if (blocks->displs && !blocks->counts) return MPI_ERR_ARG;
    for (int rank = 0; rank < size; rank++) TRY(block_bytes(blocks, rank, &at, &len));
    return MPI_SUCCESS;
}

static void copy_own(void *to, uint32_t room, const void *from, uint32_t len, int *error) {
    if (len > room) {
        *error = MPI_ERR_TRUNCATE;
        len = room;
    }
    if (len > 0) memmove(to, from, len);
}

static int gather(const void *sendbuf, int sendcount, MPI_Datatype sendtype,
                  const struct blocks *blocks, int root, MPI_Comm comm) {
    uint32_t len = 0;
    struct batch batch;
    TRY(check_root(comm, root));
    bool in_place = comm->rank == root && sendbuf == MPI_IN_PLACE;
    if (!in_place) TRY(message_bytes(sendbuf, sendcount, sendtype, &len));
    if (comm->rank == root) TRY(check_blocks(blocks, comm->size));
    batch_begin(&batch, comm, COLL_GATHER);
    if (comm->rank != root) {
        batch_send(&batch, root, sendbuf, len);
        return batch_finish(&batch);
    }
    for (int rank = 0; rank < comm->size; rank++) {
        void *at;
        uint32_t room;
        TRY(block_bytes(blocks, rank, &at, &room));
        if (rank != root) {
            batch_recv(&batch, rank, at, room);
        } else if (!in_place) {
            copy_own(at, room, sendbuf, len, &batch.error);
        }
    }
    return batch_finish(&batch);
}

int MPI_Gather(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
               int recvcount, MPI_Datatype recvtype, int root, MPI_Comm comm) {
    struct blocks blocks = {recvbuf, NULL, NULL, recvcount, recvtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = gather(sendbuf, sendcount, sendtype, &blocks, root, comm);
    return finish_collective(comm, __func__, COLL_GATHER, class);
}

int MPI_Gatherv(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
                const int recvcounts[], const int displs[], MPI_Datatype recvtype, int root,
                MPI_Comm comm) {
    struct blocks blocks = {recvbuf, recvcounts, displs, 0, recvtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && comm->rank == root && (!recvcounts || !displs)) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = gather(sendbuf, sendcount, sendtype, &blocks, root, comm);
    return finish_collective(comm, __func__, COLL_GATHER, class);
}

static int scatter(const struct blocks *blocks, void *recvbuf, int recvcount,
                   MPI_Datatype recvtype, int root, MPI_Comm comm) {
    uint32_t room = 0;
    struct batch batch;
    TRY(check_root(comm, root));
    bool in_place = comm->rank == root && recvbuf == MPI_IN_PLACE;
    if (!in_place) TRY(message_bytes(recvbuf, recvcount, recvtype, &room));
    if (comm->rank == root) TRY(check_blocks(blocks, comm->size));
    batch_begin(&batch, comm, COLL_SCATTER);
    if (comm->rank != root) {
        batch_recv(&batch, root, recvbuf, room);
        return batch_finish(&batch);
    }
    for (int rank = 0; rank < comm->size; rank++) {
        void *at;
        uint32_t len;
        TRY(block_bytes(blocks, rank, &at, &len));
        if (rank != root) {
            batch_send(&batch, rank, at, len);
        } else if (!in_place) {
            copy_own(recvbuf, room, at, len, &batch.error);
        }
    }
    return batch_finish(&batch);
}

int MPI_Scatter(const void *sendbuf, int sendcount, MPI_Datatype sendtype, void *recvbuf,
                int recvcount, MPI_Datatype recvtype, int root, MPI_Comm comm) {
    struct blocks blocks = {(void *)sendbuf, NULL, NULL, sendcount, sendtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = scatter(&blocks, recvbuf, recvcount, recvtype, root, comm);
    return finish_collective(comm, __func__, COLL_SCATTER, class);
}

int MPI_Scatterv(const void *sendbuf, const int sendcounts[], const int displs[],
                 MPI_Datatype sendtype, void *recvbuf, int recvcount, MPI_Datatype recvtype,
                 int root, MPI_Comm comm) {
    struct blocks blocks = {(void *)sendbuf, sendcounts, displs, 0, sendtype};
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && comm->rank == root && (!sendcounts || !displs)) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = scatter(&blocks, recvbuf, recvcount, recvtype, root, comm);
    return finish_collective(comm, __func__, COLL_SCATTER, class);
}
