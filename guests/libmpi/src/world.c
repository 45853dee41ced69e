/* world.c: start, end and environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static enum { NOT_STARTED, RUNNING, FINALIZED } phase = NOT_STARTED;
static int thread_level = MPI_THREAD_SINGLE;

void require_running(const char *function) {
    if (phase == RUNNING) return;
    char line[256];
    int rank = (int)(host_world() & 0xffffffff);
    int len = snprintf(line, sizeof line, "rank %d: %s: called %s\n", rank, function,
                       phase == NOT_STARTED ? "before MPI_Init" : "after MPI_Finalize");
    if (len > (int)sizeof line) len = (int)sizeof line;
    /* The exit code says the same if the line cannot be written. */
    if (len > 0 && write(STDERR_FILENO, line, (size_t)len) < 0) host_abort(MPI_ERR_OTHER);
    host_abort(MPI_ERR_OTHER);
}

int check_comm(MPI_Comm comm, const char *function) {
    if (phase != RUNNING) require_running(function);
    return comm == MPI_COMM_NULL ? MPI_ERR_COMM : MPI_SUCCESS;
}

static int start(int level) {
    if (phase != NOT_STARTED) return MPI_ERR_OTHER;
    uint64_t world = host_world();
    TRY(start_comms((int)(world & 0xffffffff), (int)(world >> 32)));
    phase = RUNNING;
    thread_level = level;
    return MPI_SUCCESS;
}

int MPI_Init(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return report(MPI_COMM_NULL, __func__, start(MPI_THREAD_SINGLE));
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
    (void)argc;
    (void)argv;
    if (required < MPI_THREAD_SINGLE || required > MPI_THREAD_MULTIPLE || !provided) {
        return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    }
    /* Only the thread that runs main may call this library. */
    *provided = required < MPI_THREAD_FUNNELED ? required : MPI_THREAD_FUNNELED;
    return report(MPI_COMM_NULL, __func__, start(*provided));
}

int MPI_Initialized(int *flag) {
    *flag = phase != NOT_STARTED;
    return MPI_SUCCESS;
}

int MPI_Finalized(int *flag) {
    *flag = phase == FINALIZED;
    return MPI_SUCCESS;
}

int MPI_Finalize(void) {
    require_running(__func__);
    finish_orphans();
    host_finalize();
    phase = FINALIZED;
    return MPI_SUCCESS;
}

int MPI_Abort(MPI_Comm comm, int errorcode) {
    /* Also with an invalid communicator: nobody who calls this wants to go on. */
    (void)comm;
    host_abort(errorcode);
}

int MPI_Query_thread(int *provided) {
    require_running(__func__);
    *provided = thread_level;
    return MPI_SUCCESS;
}

int MPI_Is_thread_main(int *flag) {
    require_running(__func__);
    *flag = 1;
    return MPI_SUCCESS;
}

double MPI_Wtime(void) {
    return host_clock();
}

double MPI_Wtick(void) {
    return 1e-9;
}

int MPI_Get_version(int *version, int *subversion) {
    *version = MPI_VERSION;
    *subversion = MPI_SUBVERSION;
    return MPI_SUCCESS;
}

int MPI_Get_library_version(char *version, int *resultlen) {
    static const char NAME[] = "CloudSkin cells, MPI 3.1 in part";
    memcpy(version, NAME, sizeof NAME);
    *resultlen = (int)sizeof NAME - 1;
    return MPI_SUCCESS;
}

int MPI_Get_processor_name(char *name, int *resultlen) {
    require_running(__func__);
    int len = host_name(name, MPI_MAX_PROCESSOR_NAME - 1);
    name[len] = '\0';
    *resultlen = len;
    return MPI_SUCCESS;
}

int MPI_Pcontrol(const int level, ...) {
    /* The standard's default: there is no profiler to control. */
    (void)level;
    return MPI_SUCCESS;
}

int MPI_Alloc_mem(MPI_Aint size, MPI_Info info, void *baseptr) {
    (void)info;
    require_running(__func__);
    if (size < 0 || !baseptr) return report(MPI_COMM_NULL, __func__, MPI_ERR_ARG);
    void *memory = malloc(size ? (size_t)size : 1);
    if (!memory) return report(MPI_COMM_NULL, __func__, MPI_ERR_NO_MEM);
    *(void **)baseptr = memory;
    return MPI_SUCCESS;
}

int MPI_Free_mem(void *base) {
    free(base);
    return MPI_SUCCESS;
}
