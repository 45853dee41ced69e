/*
 * A collector and its workers: rank 0 hands tasks to whoever asks first.
 *
 *     ring [tasks] [numbers of each task]
 *
 * Rank 0 receives from any source with any tag, so its memory, and who does what, depend on the order
 * of arrival. The result does not: it is a sum over the tasks. Check: each task is answered exactly
 * once, every sixteenth as recomputed by rank 0; at the end all workers' sums travel around a ring, and
 * every rank must find the collector's total.
 */
#include "proof.h"

enum { ASK = 1, DONE = 2, WORK = 3, STOP = 4, TOKEN = 5, CHECK_EVERY = 16 };

/* How many steps the numbers of a task take to fall to 1, by halving even and 3n+1 for odd ones. */
static uint64_t solve(int task, int numbers)
{
    uint64_t steps = 0;
    for (int i = 0; i < numbers; i++) {
        uint64_t n = noise(task, i, 0) % 1000000 + 1;
        for (; n != 1; steps++)
            n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    }
    return mix(steps, (uint64_t)task);
}

/* A worker's message is the task it has done and the answer, or empty if it asks for its first task. */
static uint64_t collect(int tasks, int numbers, int ranks)
{
    int *owners = allocate((size_t)tasks, sizeof *owners);
    uint64_t *order = allocate((size_t)tasks, sizeof *order), total = 0, message[2];
    int answered = 0, handed = 0, stopped = 0;
    while (stopped < ranks - 1) {
        MPI_Status status;
        int words;
        MPI_Recv(message, 2, MPI_UINT64_T, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_UINT64_T, &words);
        if (words != (status.MPI_TAG == DONE ? 2 : 0))
            fail("%d words from rank %d with tag %d", words, status.MPI_SOURCE, status.MPI_TAG);
        if (status.MPI_TAG == DONE) {
            int task = (int)message[0];
            if (task < 0 || task >= handed || owners[task] != status.MPI_SOURCE)
                fail("rank %d answers task %d, which it does not have", status.MPI_SOURCE, task);
            if (task % CHECK_EVERY == 0 && message[1] != solve(task, numbers))
                fail("task %d has a wrong answer", task);
            owners[task] = 0;
            order[answered++] = message[0];
            total += message[1];
        }
        int more = handed < tasks;
        if (more)
            owners[handed] = status.MPI_SOURCE;
        MPI_Send(&handed, more, MPI_INT, status.MPI_SOURCE, more ? WORK : STOP, MPI_COMM_WORLD);
        handed += more;
        stopped += !more;
    }
    if (answered != tasks)
        fail("%d tasks of %d are answered", answered, tasks);
    free(owners);
    free(order);
    return total;
}

static uint64_t work(int numbers)
{
    uint64_t message[2], sum = 0;
    int task;
    MPI_Status status;
    MPI_Send(message, 0, MPI_UINT64_T, 0, ASK, MPI_COMM_WORLD);
    for (;;) {
        MPI_Recv(&task, 1, MPI_INT, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        if (status.MPI_TAG == STOP)
            return sum;
        message[0] = (uint64_t)task;
        message[1] = solve(task, numbers);
        sum += message[1];
        MPI_Send(message, 2, MPI_UINT64_T, 0, DONE, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int tasks = argument(argc, argv, 1, 6000), numbers = argument(argc, argv, 2, 400);

    uint64_t total = 0, own = 0;
    if (rank == 0 && ranks > 1)
        total = collect(tasks, numbers, ranks);
    else if (rank > 0)
        own = work(numbers);
    else
        for (int task = 0; task < tasks; task++)
            own += solve(task, numbers);
    if (ranks == 1)
        total = own;

    /* Until everybody is here, the collector would take a token for an answer. */
    MPI_Barrier(MPI_COMM_WORLD);
    uint64_t token = own, seen = own;
    for (int hop = 1; hop < ranks; hop++) {
        uint64_t incoming;
        MPI_Sendrecv(&token, 1, MPI_UINT64_T, (rank + 1) % ranks, TOKEN, &incoming, 1, MPI_UINT64_T,
                     (rank + ranks - 1) % ranks, TOKEN, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        token = incoming;
        seen += token;
    }
    MPI_Bcast(&total, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (seen != total)
        fail("the ring sums up to %016" PRIx64 ", the collector to %016" PRIx64, seen, total);
    print_hash("result", "ring", total);
    MPI_Finalize();
    return 0;
}
