/*
 * Much garbage for one call of the host in one run.
 *
 *     garbage_all CALL FIRST COUNT
 *
 * Before each vector it says which one comes, so that whoever watches knows which one a trap is of.
 */
#define main garbage_main
#include "../../../../../guests/mpi/hostile/garbage.c"
#undef main

int main(int argc, char **argv)
{
    char vector[16], *arguments[] = {argv[0], argv[1], vector, NULL};
    int call = argc == 4 ? number_below(CALLS, argv[1]) : -1;
    int first = call >= 0 ? number_below(vectors_of(call), argv[2]) : -1;
    int count = first >= 0 ? number_below(1 << 20, argv[3]) : -1;
    if (count < 0)
        return 2;
    for (int i = first; i < vectors_of(call) && i < first + count; i++) {
        snprintf(vector, sizeof vector, "%d", i);
        printf("vector %d\n", i);
        fflush(stdout);
        int code = garbage_main(3, arguments);
        if (code != 0)
            return code;
    }
    printf("done\n");
    return 0;
}
