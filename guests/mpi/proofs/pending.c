/*
 * As many open communications as possible at any moment.
 *
 *     pending [rounds] [largest message, KiB]
 *
 * In each round there are receives posted long before their messages are sent (some of them rounds
 * before), messages sent long before their receives and taken in reverse order, large messages that
 * wait for a buffer, and polling by Test and Iprobe. Check: each word of each message.
 */
#include "proof.h"

enum {
    EARLY_RECEIVES = 12, /* posted at the start of a round, sent to at its end */
    EARLY_SENDS = 24,    /* sent at the start of a round, received at its end */
    ROUNDS_AHEAD = 3,    /* how long the standing receives stay open */
    SMALL_WORDS = 200,
    EARLY = 100,
    LATE = 200,
    LARGE = 300,
    STANDING = 400,
    NOBODY_SENDS_THIS = 999,
    POLLS = 5,
};

static int rank, ranks, left, right;

static int small_words(int round, int from, int tag)
{
    return (int)(noise(round, from, tag) % SMALL_WORDS);
}

static void fill(uint64_t *words, int count, int round, int tag)
{
    for (int i = 0; i < count; i++)
        words[i] = noise(round, rank * 1024 + tag, i);
}

static uint64_t expect(const uint64_t *words, int count, int round, int from, int tag)
{
    uint64_t hash = (uint64_t)count;
    for (int i = 0; i < count; i++) {
        if (words[i] != noise(round, from * 1024 + tag, i))
            fail("word %d of the message with tag %d of round %d is wrong", i, tag, round);
        hash = mix(hash, words[i]);
    }
    return hash;
}

static int count_of(const MPI_Status *status)
{
    int count;
    MPI_Get_count(status, MPI_UINT64_T, &count);
    return count;
}

/* Receives a message whose length it learns from a probe: blocking, or by asking again and again. */
static uint64_t receive_probed(uint64_t *buffer, int round, int tag, bool poll)
{
    MPI_Status status;
    int found = 0;
    while (poll && !found)
        MPI_Iprobe(left, tag, MPI_COMM_WORLD, &found, &status);
    if (!poll)
        MPI_Probe(left, tag, MPI_COMM_WORLD, &status);
    int count = count_of(&status);
    MPI_Recv(buffer, count, MPI_UINT64_T, left, tag, MPI_COMM_WORLD, &status);
    if (count_of(&status) != count || status.MPI_SOURCE != left || status.MPI_TAG != tag)
        fail("the probe for tag %d of round %d saw another message", tag, round);
    return expect(buffer, count, round, left, tag);
}

static uint64_t early_in[EARLY_RECEIVES][SMALL_WORDS], early_out[EARLY_RECEIVES][SMALL_WORDS];
static uint64_t late_out[EARLY_SENDS][SMALL_WORDS];
static uint64_t standing_in[ROUNDS_AHEAD][SMALL_WORDS];
static MPI_Request standing[ROUNDS_AHEAD];

static void post_standing(int round)
{
    int slot = round % ROUNDS_AHEAD;
    MPI_Irecv(standing_in[slot], SMALL_WORDS, MPI_UINT64_T, left, STANDING + slot, MPI_COMM_WORLD, &standing[slot]);
}

/* The receive posted ROUNDS_AHEAD rounds before gets its message; the one of ROUNDS_AHEAD rounds later is posted. */
static uint64_t complete_standing(int round)
{
    uint64_t out[SMALL_WORDS];
    int slot = round % ROUNDS_AHEAD, count = small_words(round, rank, STANDING + slot);
    MPI_Request send;
    MPI_Status status;
    fill(out, count, round, STANDING + slot);
    MPI_Isend(out, count, MPI_UINT64_T, right, STANDING + slot, MPI_COMM_WORLD, &send);
    MPI_Wait(&standing[slot], &status);
    MPI_Wait(&send, MPI_STATUS_IGNORE);
    if (count_of(&status) != small_words(round, left, STANDING + slot))
        fail("the standing receive of round %d got %d words", round, count_of(&status));
    return expect(standing_in[slot], count_of(&status), round, left, STANDING + slot);
}

/* Nothing that we poll for can be there yet. */
static void poll_in_vain(MPI_Request *requests)
{
    for (int i = 0; i < POLLS * EARLY_RECEIVES; i++) {
        int flag;
        MPI_Test(&requests[i % EARLY_RECEIVES], &flag, MPI_STATUS_IGNORE);
        if (flag)
            fail("receive %d is complete before its message is sent", i % EARLY_RECEIVES);
        MPI_Iprobe(MPI_ANY_SOURCE, NOBODY_SENDS_THIS, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        if (flag)
            fail("there is a message that nobody sent");
    }
}

/* Tests the receives in turn until all are complete. */
static uint64_t poll_until_complete(MPI_Request *requests, int round)
{
    uint64_t hashes[EARLY_RECEIVES], hash = 0;
    for (int i = 0, complete = 0; complete < EARLY_RECEIVES; i = (i + 1) % EARLY_RECEIVES) {
        MPI_Status status;
        int flag;
        if (requests[i] == MPI_REQUEST_NULL)
            continue;
        MPI_Test(&requests[i], &flag, &status);
        if (flag) {
            hashes[i] = expect(early_in[i], count_of(&status), round, left, EARLY + i);
            complete++;
        }
    }
    for (int i = 0; i < EARLY_RECEIVES; i++)
        hash = mix(hash, hashes[i]);
    return hash;
}

static uint64_t play_round(int round, uint64_t *large_out, uint64_t *large_in, int large_words)
{
    MPI_Request receives[EARLY_RECEIVES], sends[EARLY_SENDS + EARLY_RECEIVES + 1];
    int n_sends = 0;
    for (int i = 0; i < EARLY_RECEIVES; i++)
        MPI_Irecv(early_in[i], SMALL_WORDS, MPI_UINT64_T, left, EARLY + i, MPI_COMM_WORLD, &receives[i]);
    for (int i = 0; i < EARLY_SENDS; i++) {
        int count = small_words(round, rank, LATE + i);
        fill(late_out[i], count, round, LATE + i);
        MPI_Isend(late_out[i], count, MPI_UINT64_T, right, LATE + i, MPI_COMM_WORLD, &sends[n_sends++]);
    }
    int large = large_words / 8 + (int)(noise(round, rank, LARGE) % (uint64_t)(large_words - large_words / 8));
    fill(large_out, large, round, LARGE);
    MPI_Isend(large_out, large, MPI_UINT64_T, right, LARGE, MPI_COMM_WORLD, &sends[n_sends++]);

    /* Nobody passes the barrier before all have polled. */
    poll_in_vain(receives);
    MPI_Barrier(MPI_COMM_WORLD);

    for (int step = 0; step < EARLY_RECEIVES; step++) {
        int i = (step * 5 + round) % EARLY_RECEIVES, count = small_words(round, rank, EARLY + i);
        fill(early_out[i], count, round, EARLY + i);
        MPI_Isend(early_out[i], count, MPI_UINT64_T, right, EARLY + i, MPI_COMM_WORLD, &sends[n_sends++]);
    }
    uint64_t hash = 0;
    for (int i = EARLY_SENDS - 1; i >= EARLY_SENDS / 2; i--)
        hash = mix(hash, receive_probed(large_in, round, LATE + i, i % 2 == 0));
    hash = mix(hash, poll_until_complete(receives, round));
    hash = mix(hash, receive_probed(large_in, round, LARGE, round % 2 == 0));
    for (int i = EARLY_SENDS / 2 - 1; i >= 0; i--)
        hash = mix(hash, receive_probed(large_in, round, LATE + i, i % 2 == 0));
    MPI_Waitall(n_sends, sends, MPI_STATUSES_IGNORE);
    return hash;
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    left = (rank + ranks - 1) % ranks;
    right = (rank + 1) % ranks;
    int rounds = argument(argc, argv, 1, 60), large_kib = argument(argc, argv, 2, 2400);
    if (large_kib < 4 || large_kib > 1 << 18)
        fail("the largest message must have from 4 KiB to 256 MiB");
    int large_words = large_kib * 128;
    uint64_t *large_out = allocate((size_t)large_words, sizeof *large_out);
    uint64_t *large_in = allocate((size_t)large_words, sizeof *large_in), hash = 0;

    for (int round = 0; round < ROUNDS_AHEAD; round++)
        post_standing(round);
    for (int round = 0; round < rounds + ROUNDS_AHEAD; round++) {
        if (round < rounds)
            hash = mix(hash, play_round(round, large_out, large_in, large_words));
        hash = mix(hash, complete_standing(round));
        if (round < rounds)
            post_standing(round + ROUNDS_AHEAD);
    }
    print_hash("result", "pending", hash);
    MPI_Finalize();
    return 0;
}
