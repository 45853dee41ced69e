/*
 * Files that stay open while the ranks talk: one to read, one to write and patch, one to append to.
 *
 *     files DIRECTORY [rounds]
 *
 * Each rank reads pieces of its input, sends what it found to its neighbour, appends a record of what
 * came in, goes back to patch an earlier record, and appends to a log. Some of it waits in the buffers
 * of stdio, some is flushed. Check: pieces are compared with what was written there, and at the end
 * records and log with what they must be.
 */
#include "proof.h"

enum { INPUT_BYTES = 1 << 18, PIECE_MAX = 3000, RECORD_BYTES = 35, PATH_BYTES = 512, TAG = 1 };

static int rank, ranks;

struct files {
    char input_path[PATH_BYTES], output_path[PATH_BYTES], log_path[PATH_BYTES];
    FILE *input, *output, *log;
};

static void check(bool holds, const char *what)
{
    if (!holds)
        fail("cannot %s", what);
}

static unsigned char input_byte(int of_rank, long at)
{
    return (unsigned char)noise(of_rank, (int)at, 0);
}

static FILE *open_file(char *path, const char *directory, const char *name, const char *mode)
{
    int length = snprintf(path, PATH_BYTES, "%s/%s.%d", directory, name, rank);
    check(length > 0 && length < PATH_BYTES, "make a path");
    FILE *file = fopen(path, mode);
    if (file == NULL)
        fail("cannot open %s", path);
    return file;
}

static struct files open_files(const char *directory)
{
    struct files files;
    FILE *input = open_file(files.input_path, directory, "input", "wb");
    for (long at = 0; at < INPUT_BYTES; at++)
        check(fputc(input_byte(rank, at), input) != EOF, "write the input");
    check(fclose(input) == 0, "close the input");
    check(fclose(open_file(files.log_path, directory, "log", "wb")) == 0, "empty the log");

    files.input = open_file(files.input_path, directory, "input", "rb");
    files.output = open_file(files.output_path, directory, "output", "w+b");
    files.log = open_file(files.log_path, directory, "log", "ab");
    return files;
}

static long piece_start(int of_rank, int round)
{
    return (long)(noise(of_rank, round, 1) % (INPUT_BYTES - PIECE_MAX));
}

/* Every third piece lies elsewhere in the file; the others follow the one before. */
static uint64_t read_piece(FILE *input, int round)
{
    unsigned char piece[PIECE_MAX];
    size_t length = noise(rank, round, 2) % PIECE_MAX + 1;
    if (round % 3 == 0 || ftell(input) + (long)length > INPUT_BYTES)
        check(fseek(input, piece_start(rank, round), SEEK_SET) == 0, "seek in the input");
    long at = ftell(input);
    check(fread(piece, 1, length, input) == length, "read a piece");
    uint64_t hash = 0;
    for (size_t i = 0; i < length; i++) {
        if (piece[i] != input_byte(rank, at + (long)i))
            fail("byte %ld of the input is wrong in round %d", at + (long)i, round);
        hash = mix(hash, piece[i]);
    }
    return hash;
}

static void format_record(char *record, int number, uint64_t value)
{
    snprintf(record, RECORD_BYTES + 1, "record %010u %016" PRIx64 "\n", (unsigned)number, value);
}

static void write_record(FILE *output, int number, uint64_t value)
{
    char record[RECORD_BYTES + 1];
    format_record(record, number, value);
    check(fwrite(record, 1, RECORD_BYTES, output) == RECORD_BYTES, "write a record");
}

static void expect_record(FILE *output, int number, uint64_t value)
{
    char found[RECORD_BYTES], expected[RECORD_BYTES + 1];
    format_record(expected, number, value);
    check(fread(found, 1, RECORD_BYTES, output) == RECORD_BYTES, "read a record");
    if (memcmp(found, expected, RECORD_BYTES) != 0)
        fail("record %d is %.*s instead of %s", number, RECORD_BYTES - 1, found, expected);
}

/* Goes back, reads an earlier record, changes it where it stands, and returns to the end. */
static void patch_record(FILE *output, int number, uint64_t *value)
{
    long at = (long)number * RECORD_BYTES;
    check(fseek(output, at, SEEK_SET) == 0, "seek back");
    expect_record(output, number, *value);
    *value = mix(*value, (uint64_t)number);
    check(fseek(output, at, SEEK_SET) == 0, "seek back again");
    write_record(output, number, *value);
    check(fseek(output, 0, SEEK_END) == 0, "seek to the end");
}

static uint64_t hash_file(const char *path, long *bytes)
{
    FILE *file = fopen(path, "rb");
    check(file != NULL, "open a file again");
    uint64_t hash = 0;
    *bytes = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file), ++*bytes)
        hash = mix(hash, (uint64_t)c);
    check(!ferror(file) && fclose(file) == 0, "read a file again");
    return hash;
}

static uint64_t check_files(struct files *files, const uint64_t *values, int rounds)
{
    check(fseek(files->output, 0, SEEK_SET) == 0, "seek to the start");
    for (int i = 0; i < rounds; i++)
        expect_record(files->output, i, values[i]);
    check(fgetc(files->output) == EOF, "see the end of the records");
    check(fclose(files->input) == 0 && fclose(files->output) == 0 && fclose(files->log) == 0, "close the files");

    FILE *log = fopen(files->log_path, "rb");
    check(log != NULL, "open the log again");
    for (int round = 0; round < rounds; round++) {
        int found;
        if (fscanf(log, "round %d\n", &found) != 1 || found != round)
            fail("the log lacks round %d", round);
    }
    check(fgetc(log) == EOF && fclose(log) == 0, "see the end of the log");

    long output_bytes, log_bytes;
    uint64_t hash = mix(hash_file(files->output_path, &output_bytes), hash_file(files->log_path, &log_bytes));
    check(output_bytes == (long)rounds * RECORD_BYTES, "find the output as long as it must be");
    return mix(hash, (uint64_t)log_bytes);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (argc < 2)
        fail("usage: files DIRECTORY [rounds]");
    int rounds = argument(argc, argv, 2, 3000);
    struct files files = open_files(argv[1]);
    uint64_t *values = allocate((size_t)rounds, sizeof *values);

    for (int round = 0; round < rounds; round++) {
        uint64_t found = read_piece(files.input, round);
        MPI_Sendrecv(&found, 1, MPI_UINT64_T, (rank + 1) % ranks, TAG, &values[round], 1, MPI_UINT64_T,
                     (rank + ranks - 1) % ranks, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        write_record(files.output, round, values[round]);
        check(fprintf(files.log, "round %d\n", round) > 0, "write the log");
        if (round % 4 == 0)
            MPI_Barrier(MPI_COMM_WORLD);
        if (round % 8 == 7) {
            int number = (int)(noise(rank, round, 3) % (uint64_t)round);
            patch_record(files.output, number, &values[number]);
        }
        if (round % 10 == 9)
            check(fflush(files.log) == 0 && fflush(files.output) == 0, "flush");
        if (round % 500 == 499) {
            check(fclose(files.log) == 0, "close the log");
            files.log = fopen(files.log_path, "ab");
            check(files.log != NULL, "open the log to append");
        }
    }
    print_hash("result", "files", check_files(&files, values, rounds));
    MPI_Finalize();
    return 0;
}
