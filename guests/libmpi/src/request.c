/* request.c: request objects and their completion.
 *
 * The host consumes every complete request that a wait names, so that a test of many may learn of
 * more completions than it delivers. The object keeps the status until the program asks for it. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Objects that were freed, for the next request. */
static struct cloudskin_request *free_list;
/* Freed by the program while active. The host still writes to or reads from their buffers. */
static struct cloudskin_request *orphans;

MPI_Request new_request(MPI_Comm comm, bool receives) {
    if (!free_list) {
        enum { CHUNK = 64 };
        struct cloudskin_request *chunk = calloc(CHUNK, sizeof *chunk);
        if (!chunk) return MPI_REQUEST_NULL;
        for (int i = 0; i < CHUNK; i++) {
            chunk[i].next = free_list;
            free_list = &chunk[i];
        }
    }
    MPI_Request request = free_list;
    free_list = request->next;
    *request = (struct cloudskin_request){.comm = comm, .receives = receives};
    hold_comm(comm);
    return request;
}

static void recycle(MPI_Request request) {
    drop_comm(request->comm);
    request->next = free_list;
    free_list = request;
}

void empty_status(MPI_Status *status, int source) {
    *status = (MPI_Status){.MPI_SOURCE = source, .MPI_TAG = MPI_ANY_TAG};
}

void complete_empty(MPI_Request request) {
    request->complete = true;
    empty_status(&request->status, request->receives ? MPI_PROC_NULL : MPI_ANY_SOURCE);
}

void fill_status(MPI_Comm comm, const struct host_status *from, MPI_Status *to) {
    *to = (MPI_Status){
        .MPI_SOURCE = local_rank(comm, from->source),
        .MPI_TAG = from->tag,
        .MPI_ERROR = from->error,
        .cloudskin_bytes = (MPI_Count)from->len,
    };
}

/* Notes what the host reported of a request. */
static void absorb(MPI_Request request, const struct host_status *from) {
    if (!from->done) return;
    request->complete = true;
    if (request->receives) {
        fill_status(request->comm, from, &request->status);
    } else {
        empty_status(&request->status, MPI_ANY_SOURCE);
        request->status.MPI_ERROR = from->error;
    }
}

static bool pending(MPI_Request request) {
    return request != MPI_REQUEST_NULL && !request->complete;
}

/* How far a wait has to get. */
enum until { NOW, ONE, ALL };

static void wait_pending(int n, MPI_Request requests[], enum until until, int reqs[],
                         struct host_status statuses[]) {
    int n_pending = 0;
    for (int i = 0; i < n; i++) {
        if (pending(requests[i])) reqs[n_pending++] = requests[i]->host;
    }
    host_wait(reqs, n_pending, until == ALL ? n_pending : until == ONE, statuses);
    int at = 0;
    for (int i = 0; i < n && at < n_pending; i++) {
        if (pending(requests[i])) absorb(requests[i], &statuses[at++]);
    }
}

/* Brings the requests up to date with the host, waiting until now, one or all are complete. A
 * request that is complete already counts as the one. */
static int progress(int n, MPI_Request requests[], enum until until) {
    int n_pending = 0;
    bool any_complete = false;
    for (int i = 0; i < n; i++) {
        n_pending += pending(requests[i]);
        any_complete = any_complete || (requests[i] && requests[i]->complete);
    }
    if (n_pending == 0) return MPI_SUCCESS;
    if (until == ONE && any_complete) until = NOW;
    if (n_pending <= BATCH) {
        int reqs[BATCH];
        struct host_status statuses[BATCH];
        wait_pending(n, requests, until, reqs, statuses);
        return MPI_SUCCESS;
    }
    struct host_status *statuses = malloc((size_t)n_pending * (sizeof *statuses + sizeof(int)));
    if (!statuses) return MPI_ERR_NO_MEM;
    wait_pending(n, requests, until, (int *)(statuses + n_pending), statuses);
    free(statuses);
    return MPI_SUCCESS;
}

/* Hands a complete request over: its status to the program, the object to the free list. */
static int deliver(MPI_Request *request, MPI_Status *status) {
    int class = (*request)->status.MPI_ERROR;
    /* Only a message that was received has a source. */
    if ((*request)->status.MPI_SOURCE >= 0) {
        host_completed(HOST_CALL_WAIT, (*request)->comm->ctx, (*request)->status.MPI_TAG);
    }
    if (status != MPI_STATUS_IGNORE) *status = (*request)->status;
    recycle(*request);
    *request = MPI_REQUEST_NULL;
    return class;
}

void finish_orphans(void) {
    while (orphans) {
        MPI_Request request = orphans;
        orphans = request->next;
        struct host_status status;
        host_wait(&request->host, 1, 1, &status);
        recycle(request);
    }
}

/* Takes back the objects of orphans that are complete meanwhile. */
static void reap_orphans(void) {
    struct cloudskin_request **link = &orphans;
    while (*link) {
        MPI_Request request = *link;
        struct host_status status;
        if (host_wait(&request->host, 1, 0, &status) == 1) {
            *link = request->next;
            recycle(request);
        } else {
            link = &request->next;
        }
    }
}

static int check_list(int n, MPI_Request requests[], const char *function) {
    require_running(function);
    if (n < 0) return MPI_ERR_COUNT;
    return n > 0 && !requests ? MPI_ERR_REQUEST : MPI_SUCCESS;
}

int MPI_Wait(MPI_Request *request, MPI_Status *status) {
    int class = check_list(1, request, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    if (*request == MPI_REQUEST_NULL) {
        if (status != MPI_STATUS_IGNORE) empty_status(status, MPI_ANY_SOURCE);
        return MPI_SUCCESS;
    }
    /* The communicator may go with its last request; the error handler is called before. */
    MPI_Comm comm = (*request)->comm;
    hold_comm(comm);
    class = progress(1, request, ALL);
    if (class == MPI_SUCCESS) class = deliver(request, status);
    class = report(comm, __func__, class);
    drop_comm(comm);
    return class;
}

int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status) {
    int class = check_list(1, request, __func__);
    if (class == MPI_SUCCESS && !flag) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    class = progress(1, request, NOW);
    *flag = class == MPI_SUCCESS && !pending(*request);
    return *flag ? MPI_Wait(request, status) : report(MPI_COMM_NULL, __func__, class);
}

/* What to report of a list with an error in it. A program that goes on finds the error in the
 * statuses; one that ends here is told. */
static int list_error(MPI_Comm comm, int class) {
    bool goes_on = comm->handler->kind != HANDLER_FATAL;
    return class != MPI_SUCCESS && goes_on ? MPI_ERR_IN_STATUS : class;
}

/* Delivers all of a list whose requests are complete; returns the first error among them. */
static int deliver_all(int n, MPI_Request requests[], MPI_Status statuses[]) {
    int first = MPI_SUCCESS;
    for (int i = 0; i < n; i++) {
        MPI_Status *status = statuses != MPI_STATUSES_IGNORE ? &statuses[i] : MPI_STATUS_IGNORE;
        if (requests[i] != MPI_REQUEST_NULL) {
            int class = deliver(&requests[i], status);
            if (first == MPI_SUCCESS) first = class;
        } else if (status != MPI_STATUS_IGNORE) {
            empty_status(status, MPI_ANY_SOURCE);
        }
    }
    return first;
}

/* The communicator whose handler hears of an error among many requests: that of the first one that
 * failed. */
static MPI_Comm blamed_comm(int n, MPI_Request requests[]) {
    for (int i = 0; i < n; i++) {
        MPI_Request request = requests[i];
        if (request && request->complete && request->status.MPI_ERROR != MPI_SUCCESS) {
            return request->comm;
        }
    }
    return MPI_COMM_WORLD;
}

int MPI_Waitall(int count, MPI_Request array_of_requests[], MPI_Status *array_of_statuses) {
    int class = check_list(count, array_of_requests, __func__);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    class = progress(count, array_of_requests, ALL);
    MPI_Comm comm = blamed_comm(count, array_of_requests);
    hold_comm(comm);
    if (class == MPI_SUCCESS) {
        class = list_error(comm, deliver_all(count, array_of_requests, array_of_statuses));
    }
    class = report(comm, __func__, class);
    drop_comm(comm);
    return class;
}

int MPI_Testall(int count, MPI_Request array_of_requests[], int *flag,
                MPI_Status array_of_statuses[]) {
    int class = check_list(count, array_of_requests, __func__);
    if (class == MPI_SUCCESS && !flag) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = progress(count, array_of_requests, NOW);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *flag = 1;
    for (int i = 0; i < count; i++) *flag = *flag && !pending(array_of_requests[i]);
    /* Statuses stay with the requests until all are complete. */
    return *flag ? MPI_Waitall(count, array_of_requests, array_of_statuses) : MPI_SUCCESS;
}

/* The first complete request, or -1. */
static int find_complete(int n, MPI_Request requests[]) {
    for (int i = 0; i < n; i++) {
        if (requests[i] != MPI_REQUEST_NULL && requests[i]->complete) return i;
    }
    return -1;
}

static bool all_null(int n, MPI_Request requests[]) {
    for (int i = 0; i < n; i++) {
        if (requests[i] != MPI_REQUEST_NULL) return false;
    }
    return true;
}

int MPI_Waitany(int count, MPI_Request array_of_requests[], int *index, MPI_Status *status) {
    int class = check_list(count, array_of_requests, __func__);
    if (class == MPI_SUCCESS && !index) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = progress(count, array_of_requests, ONE);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    int at = find_complete(count, array_of_requests);
    *index = at < 0 ? MPI_UNDEFINED : at;
    if (at >= 0) return MPI_Wait(&array_of_requests[at], status);
    if (status != MPI_STATUS_IGNORE) empty_status(status, MPI_ANY_SOURCE);
    return MPI_SUCCESS;
}

int MPI_Testany(int count, MPI_Request array_of_requests[], int *index, int *flag,
                MPI_Status *status) {
    int class = check_list(count, array_of_requests, __func__);
    if (class == MPI_SUCCESS && (!index || !flag)) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = progress(count, array_of_requests, NOW);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    int at = find_complete(count, array_of_requests);
    *index = at < 0 ? MPI_UNDEFINED : at;
    *flag = at >= 0 || all_null(count, array_of_requests);
    if (at >= 0) return MPI_Wait(&array_of_requests[at], status);
    if (*flag && status != MPI_STATUS_IGNORE) empty_status(status, MPI_ANY_SOURCE);
    return MPI_SUCCESS;
}

/* Delivers those of a list that are complete, packed at the front of the results; returns the first
 * error among them. */
static int deliver_some(int n, MPI_Request requests[], int *outcount, int indices[],
                        MPI_Status statuses[]) {
    int first = MPI_SUCCESS;
    *outcount = 0;
    for (int i = 0; i < n; i++) {
        if (requests[i] == MPI_REQUEST_NULL || !requests[i]->complete) continue;
        int at = (*outcount)++;
        MPI_Status *status = statuses != MPI_STATUSES_IGNORE ? &statuses[at] : MPI_STATUS_IGNORE;
        indices[at] = i;
        int class = deliver(&requests[i], status);
        if (first == MPI_SUCCESS) first = class;
    }
    return first;
}

static int some(const char *function, int n, MPI_Request requests[], enum until until,
                int *outcount, int indices[], MPI_Status statuses[]) {
    int class = check_list(n, requests, function);
    if (class == MPI_SUCCESS && (!outcount || (n > 0 && !indices))) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = progress(n, requests, until);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, function, class);
    if (all_null(n, requests)) {
        *outcount = MPI_UNDEFINED;
        return MPI_SUCCESS;
    }
    MPI_Comm comm = blamed_comm(n, requests);
    hold_comm(comm);
    class = list_error(comm, deliver_some(n, requests, outcount, indices, statuses));
    class = report(comm, function, class);
    drop_comm(comm);
    return class;
}

int MPI_Waitsome(int incount, MPI_Request array_of_requests[], int *outcount,
                 int array_of_indices[], MPI_Status array_of_statuses[]) {
    return some(__func__, incount, array_of_requests, ONE, outcount, array_of_indices,
                array_of_statuses);
}

int MPI_Testsome(int incount, MPI_Request array_of_requests[], int *outcount,
                 int array_of_indices[], MPI_Status array_of_statuses[]) {
    return some(__func__, incount, array_of_requests, NOW, outcount, array_of_indices,
                array_of_statuses);
}

int MPI_Request_get_status(MPI_Request request, int *flag, MPI_Status *status) {
    int class = check_list(1, &request, __func__);
    if (class == MPI_SUCCESS && !flag) class = MPI_ERR_ARG;
    if (class == MPI_SUCCESS) class = progress(1, &request, NOW);
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    *flag = !pending(request);
    if (*flag && status != MPI_STATUS_IGNORE) {
        if (request == MPI_REQUEST_NULL) {
            empty_status(status, MPI_ANY_SOURCE);
        } else {
            *status = request->status;
        }
    }
    return MPI_SUCCESS;
}

int MPI_Request_free(MPI_Request *request) {
    int class = check_list(1, request, __func__);
    if (class == MPI_SUCCESS && *request == MPI_REQUEST_NULL) class = MPI_ERR_REQUEST;
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    reap_orphans();
    if (pending(*request)) {
        (*request)->next = orphans;
        orphans = *request;
    } else {
        recycle(*request);
    }
    *request = MPI_REQUEST_NULL;
    return MPI_SUCCESS;
}

int MPI_Cancel(MPI_Request *request) {
    int class = check_list(1, request, __func__);
    if (class == MPI_SUCCESS && *request == MPI_REQUEST_NULL) class = MPI_ERR_REQUEST;
    if (class != MPI_SUCCESS) return report(MPI_COMM_NULL, __func__, class);
    if (pending(*request) && (*request)->receives && host_cancel((*request)->host)) {
        (*request)->complete = true;
        empty_status(&(*request)->status, MPI_ANY_SOURCE);
        (*request)->status.cloudskin_cancelled = 1;
    }
    return MPI_SUCCESS;
}

int MPI_Test_cancelled(const MPI_Status *status, int *flag) {
    if (!status || !flag) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    *flag = status->cloudskin_cancelled;
    return MPI_SUCCESS;
}

int MPI_Status_set_cancelled(MPI_Status *status, int flag) {
    if (!status) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    status->cloudskin_cancelled = flag != 0;
    return MPI_SUCCESS;
}
