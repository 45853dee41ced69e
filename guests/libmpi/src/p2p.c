/* p2p.c: sends, receives and probes. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* A checked message: what the host calls need. */
struct message {
    uint32_t len;
    /* Rank in the world, MPI_ANY_SOURCE or MPI_PROC_NULL. */
    int peer;
};

static int check_send(const void *buf, int count, MPI_Datatype type, int dest, int tag,
                      MPI_Comm comm, struct message *message) {
    if (tag < 0) return MPI_ERR_TAG;
    if (dest == MPI_PROC_NULL) {
        *message = (struct message){0, MPI_PROC_NULL};
        return count < 0 ? MPI_ERR_COUNT : MPI_SUCCESS;
    }
    if (dest < 0 || dest >= comm->size) return MPI_ERR_RANK;
    message->peer = world_rank(comm, dest);
    return message_bytes(buf, count, type, &message->len);
}

static int check_source(int source, int tag, MPI_Comm comm, int *peer) {
    if (tag < 0 && tag != MPI_ANY_TAG) return MPI_ERR_TAG;
    if (source == MPI_PROC_NULL || source == MPI_ANY_SOURCE) {
        *peer = source;
        return MPI_SUCCESS;
    }
    if (source < 0 || source >= comm->size) return MPI_ERR_RANK;
    *peer = world_rank(comm, source);
    return MPI_SUCCESS;
}

static int check_recv(const void *buf, int count, MPI_Datatype type, int source, int tag,
                      MPI_Comm comm, struct message *message) {
    TRY(check_source(source, tag, comm, &message->peer));
    if (source != MPI_PROC_NULL) return message_bytes(buf, count, type, &message->len);
    message->len = 0;
    return count < 0 ? MPI_ERR_COUNT : MPI_SUCCESS;
}

static int wait_one(int req, struct host_status *status) {
    host_wait(&req, 1, 1, status);
    return status->error;
}

static int send(const void *buf, int count, MPI_Datatype type, int dest, int tag, MPI_Comm comm,
                int mode) {
    struct message message;
    TRY(check_send(buf, count, type, dest, tag, comm, &message));
    if (message.peer == MPI_PROC_NULL) return MPI_SUCCESS;
    struct host_status status;
    return wait_one(host_send(comm->ctx, message.peer, tag, buf, message.len, mode), &status);
}

int MPI_Send(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = send(buf, count, datatype, dest, tag, comm, HOST_SEND_STANDARD);
    }
    return report(comm, __func__, class);
}

int MPI_Ssend(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = send(buf, count, datatype, dest, tag, comm, HOST_SEND_SYNCHRONOUS);
    }
    return report(comm, __func__, class);
}

/* The receive is there already, so that a standard send does what is asked. */
int MPI_Rsend(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = send(buf, count, datatype, dest, tag, comm, HOST_SEND_STANDARD);
    }
    return report(comm, __func__, class);
}

static int recv(void *buf, int count, MPI_Datatype type, int source, int tag, MPI_Comm comm,
                MPI_Status *status) {
    struct message message;
    TRY(check_recv(buf, count, type, source, tag, comm, &message));
    if (message.peer == MPI_PROC_NULL) {
        if (status != MPI_STATUS_IGNORE) empty_status(status, MPI_PROC_NULL);
        return MPI_SUCCESS;
    }
    struct host_status done;
    int class = wait_one(host_recv(comm->ctx, message.peer, tag, buf, message.len), &done);
    host_completed(HOST_CALL_RECV, comm->ctx, done.tag);
    if (status != MPI_STATUS_IGNORE) fill_status(comm, &done, status);
    return class;
}

int MPI_Recv(void *buf, int count, MPI_Datatype datatype, int source, int tag, MPI_Comm comm,
             MPI_Status *status) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = recv(buf, count, datatype, source, tag, comm, status);
    return report(comm, __func__, class);
}

static int isend(const void *buf, int count, MPI_Datatype type, int dest, int tag, MPI_Comm comm,
                 int mode, MPI_Request *result) {
    struct message message;
    if (!result) return MPI_ERR_REQUEST;
    TRY(check_send(buf, count, type, dest, tag, comm, &message));
    MPI_Request request = new_request(comm, false);
    if (!request) return MPI_ERR_NO_MEM;
    if (message.peer == MPI_PROC_NULL) {
        complete_empty(request);
    } else {
        request->host = host_send(comm->ctx, message.peer, tag, buf, message.len, mode);
    }
    *result = request;
    return MPI_SUCCESS;
}

int MPI_Isend(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm,
              MPI_Request *request) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = isend(buf, count, datatype, dest, tag, comm, HOST_SEND_STANDARD, request);
    }
    return report(comm, __func__, class);
}

int MPI_Issend(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm,
               MPI_Request *request) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = isend(buf, count, datatype, dest, tag, comm, HOST_SEND_SYNCHRONOUS, request);
    }
    return report(comm, __func__, class);
}

int MPI_Irsend(const void *buf, int count, MPI_Datatype datatype, int dest, int tag, MPI_Comm comm,
               MPI_Request *request) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = isend(buf, count, datatype, dest, tag, comm, HOST_SEND_STANDARD, request);
    }
    return report(comm, __func__, class);
}

static int irecv(void *buf, int count, MPI_Datatype type, int source, int tag, MPI_Comm comm,
                 MPI_Request *result) {
    struct message message;
    if (!result) return MPI_ERR_REQUEST;
    TRY(check_recv(buf, count, type, source, tag, comm, &message));
    MPI_Request request = new_request(comm, true);
    if (!request) return MPI_ERR_NO_MEM;
    if (message.peer == MPI_PROC_NULL) {
        complete_empty(request);
    } else {
        request->host = host_recv(comm->ctx, message.peer, tag, buf, message.len);
    }
    *result = request;
    return MPI_SUCCESS;
}

int MPI_Irecv(void *buf, int count, MPI_Datatype datatype, int source, int tag, MPI_Comm comm,
              MPI_Request *request) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = irecv(buf, count, datatype, source, tag, comm, request);
    return report(comm, __func__, class);
}

/* Both directions of a sendrecv; each may have MPI_PROC_NULL as its peer. */
static int exchange(const void *sendbuf, struct message out, int sendtag, void *recvbuf,
                    struct message in, int recvtag, MPI_Comm comm, MPI_Status *status) {
    int reqs[2];
    struct host_status statuses[2];
    int n = 0;
    if (in.peer != MPI_PROC_NULL) {
        reqs[n++] = host_recv(comm->ctx, in.peer, recvtag, recvbuf, in.len);
    }
    if (out.peer != MPI_PROC_NULL) {
        reqs[n++] = host_send(comm->ctx, out.peer, sendtag, sendbuf, out.len, HOST_SEND_STANDARD);
    }
    if (n > 0) host_wait(reqs, n, n, statuses);
    if (in.peer != MPI_PROC_NULL) {
        host_completed(HOST_CALL_SENDRECV, comm->ctx, statuses[0].tag);
    }
    if (status != MPI_STATUS_IGNORE) {
        if (in.peer != MPI_PROC_NULL) {
            fill_status(comm, &statuses[0], status);
        } else {
            empty_status(status, MPI_PROC_NULL);
        }
    }
    for (int i = 0; i < n; i++) {
        if (statuses[i].error != MPI_SUCCESS) return statuses[i].error;
    }
    return MPI_SUCCESS;
}

int MPI_Sendrecv(const void *sendbuf, int sendcount, MPI_Datatype sendtype, int dest, int sendtag,
                 void *recvbuf, int recvcount, MPI_Datatype recvtype, int source, int recvtag,
                 MPI_Comm comm, MPI_Status *status) {
    struct message out, in;
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = check_send(sendbuf, sendcount, sendtype, dest, sendtag, comm, &out);
    }
    if (class == MPI_SUCCESS) {
        class = check_recv(recvbuf, recvcount, recvtype, source, recvtag, comm, &in);
    }
    if (class == MPI_SUCCESS) {
        class = exchange(sendbuf, out, sendtag, recvbuf, in, recvtag, comm, status);
    }
    return report(comm, __func__, class);
}

static int replace(void *buf, int count, MPI_Datatype type, int dest, int sendtag, int source,
                   int recvtag, MPI_Comm comm, MPI_Status *status) {
    struct message out, in;
    TRY(check_send(buf, count, type, dest, sendtag, comm, &out));
    TRY(check_recv(buf, count, type, source, recvtag, comm, &in));
    void *copy = malloc(out.len ? out.len : 1);
    if (!copy) return MPI_ERR_NO_MEM;
    if (out.len > 0) memcpy(copy, buf, out.len);
    int class = exchange(copy, out, sendtag, buf, in, recvtag, comm, status);
    free(copy);
    return class;
}

int MPI_Sendrecv_replace(void *buf, int count, MPI_Datatype datatype, int dest, int sendtag,
                         int source, int recvtag, MPI_Comm comm, MPI_Status *status) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) {
        class = replace(buf, count, datatype, dest, sendtag, source, recvtag, comm, status);
    }
    return report(comm, __func__, class);
}

static int probe(int source, int tag, MPI_Comm comm, int block, int *flag, MPI_Status *status) {
    int peer;
    if (!flag) return MPI_ERR_ARG;
    TRY(check_source(source, tag, comm, &peer));
    *flag = 1;
    if (peer == MPI_PROC_NULL) {
        if (status != MPI_STATUS_IGNORE) empty_status(status, MPI_PROC_NULL);
        return MPI_SUCCESS;
    }
    struct host_status found;
    *flag = host_probe(comm->ctx, peer, tag, block, &found);
    if (*flag && status != MPI_STATUS_IGNORE) fill_status(comm, &found, status);
    return MPI_SUCCESS;
}

int MPI_Probe(int source, int tag, MPI_Comm comm, MPI_Status *status) {
    int flag;
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = probe(source, tag, comm, 1, &flag, status);
    return report(comm, __func__, class);
}

int MPI_Iprobe(int source, int tag, MPI_Comm comm, int *flag, MPI_Status *status) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS) class = probe(source, tag, comm, 0, flag, status);
    return report(comm, __func__, class);
}
