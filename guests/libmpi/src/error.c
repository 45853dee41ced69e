/* error.c: error classes, their texts, and what happens after an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

struct cloudskin_errhandler cloudskin_errors_are_fatal = {HANDLER_FATAL, NULL, 1};
struct cloudskin_errhandler cloudskin_errors_return = {HANDLER_RETURN, NULL, 1};

struct text {
    const char *name;
    const char *text;
};

#define TEXT(class, text) [class] = {#class, text}
static const struct text TEXTS[] = {
    TEXT(MPI_SUCCESS, "no error"),
    TEXT(MPI_ERR_BUFFER, "invalid buffer"),
    TEXT(MPI_ERR_COUNT, "invalid count"),
    TEXT(MPI_ERR_TYPE, "invalid datatype"),
    TEXT(MPI_ERR_TAG, "invalid tag"),
    TEXT(MPI_ERR_COMM, "invalid communicator"),
    TEXT(MPI_ERR_RANK, "invalid rank"),
    TEXT(MPI_ERR_REQUEST, "invalid request"),
    TEXT(MPI_ERR_ROOT, "invalid root"),
    TEXT(MPI_ERR_GROUP, "invalid group"),
    TEXT(MPI_ERR_OP, "invalid reduction operation"),
    TEXT(MPI_ERR_TOPOLOGY, "invalid topology"),
    TEXT(MPI_ERR_DIMS, "invalid dimension"),
    TEXT(MPI_ERR_ARG, "invalid argument"),
    TEXT(MPI_ERR_UNKNOWN, "unknown error"),
    TEXT(MPI_ERR_TRUNCATE, "message truncated"),
    TEXT(MPI_ERR_OTHER, "other error"),
    TEXT(MPI_ERR_INTERN, "internal error"),
    TEXT(MPI_ERR_IN_STATUS, "the error is in the status"),
    TEXT(MPI_ERR_PENDING, "pending request"),
    TEXT(MPI_ERR_KEYVAL, "invalid attribute key"),
    TEXT(MPI_ERR_NO_MEM, "out of memory"),
    TEXT(MPI_ERR_BASE, "invalid base address"),
    TEXT(MPI_ERR_INFO_KEY, "info key too long"),
    TEXT(MPI_ERR_INFO_VALUE, "info value too long"),
    TEXT(MPI_ERR_INFO_NOKEY, "no such info key"),
    TEXT(MPI_ERR_SPAWN, "cannot start processes"),
    TEXT(MPI_ERR_PORT, "invalid port name"),
    TEXT(MPI_ERR_SERVICE, "invalid service name"),
    TEXT(MPI_ERR_NAME, "unknown service name"),
    TEXT(MPI_ERR_WIN, "invalid window"),
    TEXT(MPI_ERR_SIZE, "invalid size"),
    TEXT(MPI_ERR_DISP, "invalid displacement"),
    TEXT(MPI_ERR_INFO, "invalid info object"),
    TEXT(MPI_ERR_LOCKTYPE, "invalid lock type"),
    TEXT(MPI_ERR_ASSERT, "invalid assertion"),
    TEXT(MPI_ERR_RMA_CONFLICT, "conflicting accesses to a window"),
    TEXT(MPI_ERR_RMA_SYNC, "wrong synchronisation of a window"),
    TEXT(MPI_ERR_RMA_RANGE, "access outside of a window"),
    TEXT(MPI_ERR_RMA_ATTACH, "memory cannot be attached"),
    TEXT(MPI_ERR_RMA_SHARED, "memory cannot be shared"),
    TEXT(MPI_ERR_RMA_FLAVOR, "wrong kind of window"),
    TEXT(MPI_ERR_FILE, "invalid file handle"),
    TEXT(MPI_ERR_NOT_SAME, "arguments differ between ranks"),
    TEXT(MPI_ERR_AMODE, "invalid access mode"),
    TEXT(MPI_ERR_UNSUPPORTED_DATAREP, "unsupported data representation"),
    TEXT(MPI_ERR_UNSUPPORTED_OPERATION, "unsupported operation"),
    TEXT(MPI_ERR_NO_SUCH_FILE, "no such file"),
    TEXT(MPI_ERR_FILE_EXISTS, "file exists"),
    TEXT(MPI_ERR_BAD_FILE, "invalid file name"),
    TEXT(MPI_ERR_ACCESS, "permission denied"),
    TEXT(MPI_ERR_NO_SPACE, "no space left"),
    TEXT(MPI_ERR_QUOTA, "quota exceeded"),
    TEXT(MPI_ERR_READ_ONLY, "read-only file system"),
    TEXT(MPI_ERR_FILE_IN_USE, "file in use"),
    TEXT(MPI_ERR_DUP_DATAREP, "data representation defined twice"),
    TEXT(MPI_ERR_CONVERSION, "data conversion failed"),
    TEXT(MPI_ERR_IO, "input or output failed"),
};

static const struct text *text_of(int class) {
    int n = (int)(sizeof TEXTS / sizeof TEXTS[0]);
    return &TEXTS[class >= 0 && class < n ? class : MPI_ERR_UNKNOWN];
}

/* One write for the whole line, so that lines of several ranks do not mix. */
static void print_fatal(const char *function, int class) {
    char line[512];
    int rank = (int)(host_world() & 0xffffffff);
    const struct text *text = text_of(class);
    int len = snprintf(line, sizeof line, "rank %d: %s: %s (%s)\n", rank, function, text->text,
                       text->name);
    if (len > (int)sizeof line) len = (int)sizeof line;
    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0) return;
}

int report(MPI_Comm comm, const char *function, int class) {
    if (class == MPI_SUCCESS) return MPI_SUCCESS;
    /* An error without a communicator belongs to the world. */
    if (comm == MPI_COMM_NULL) comm = MPI_COMM_WORLD;
    MPI_Errhandler handler = comm->handler;
    switch (handler->kind) {
    case HANDLER_RETURN: break;
    case HANDLER_USER: handler->function(&comm, &class); break;
    case HANDLER_FATAL:
        print_fatal(function, class);
        host_abort(class);
    }
    return class;
}

void hold_handler(MPI_Errhandler handler) {
    if (handler->kind == HANDLER_USER) handler->holders++;
}

void drop_handler(MPI_Errhandler handler) {
    if (handler->kind == HANDLER_USER && --handler->holders == 0) free(handler);
}

int MPI_Error_class(int errorcode, int *errorclass) {
    *errorclass = errorcode;
    return MPI_SUCCESS;
}

int MPI_Error_string(int errorcode, char *string, int *resultlen) {
    const struct text *text = text_of(errorcode);
    *resultlen = snprintf(string, MPI_MAX_ERROR_STRING, "%s: %s", text->name, text->text);
    return MPI_SUCCESS;
}

int MPI_Comm_create_errhandler(MPI_Comm_errhandler_function *function, MPI_Errhandler *errhandler) {
    require_running(__func__);
    if (!function || !errhandler) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    MPI_Errhandler handler = malloc(sizeof *handler);
    if (!handler) return report(MPI_COMM_NULL, __func__, MPI_ERR_NO_MEM);
    *handler = (struct cloudskin_errhandler){HANDLER_USER, function, 1};
    *errhandler = handler;
    return MPI_SUCCESS;
}

int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler errhandler) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !errhandler) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    hold_handler(errhandler);
    drop_handler(comm->handler);
    comm->handler = errhandler;
    return MPI_SUCCESS;
}

int MPI_Comm_get_errhandler(MPI_Comm comm, MPI_Errhandler *errhandler) {
    int class = check_comm(comm, __func__);
    if (class == MPI_SUCCESS && !errhandler) class = MPI_ERR_ARG;
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    hold_handler(comm->handler);
    *errhandler = comm->handler;
    return MPI_SUCCESS;
}

int MPI_Comm_call_errhandler(MPI_Comm comm, int errorcode) {
    int class = check_comm(comm, __func__);
    if (class != MPI_SUCCESS) return report(comm, __func__, class);
    report(comm, __func__, errorcode);
    return MPI_SUCCESS;
}

int MPI_Errhandler_free(MPI_Errhandler *errhandler) {
    require_running(__func__);
    if (!errhandler || !*errhandler) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    drop_handler(*errhandler);
    *errhandler = MPI_ERRHANDLER_NULL;
    return MPI_SUCCESS;
}
