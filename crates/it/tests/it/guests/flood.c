/*
 * Writes lines as fast as it can, and notes each in a file before: one byte for one line.
 *
 *     flood FILE LINES BYTES
 *
 * Lines begin with their number, and have so many bytes with their end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_MAX = 1 << 16 };

int main(int argc, char **argv)
{
    static char line[BYTES_MAX];
    int lines = argc == 4 ? atoi(argv[2]) : 0, bytes = argc == 4 ? atoi(argv[3]) : 0;
    FILE *notes = argc == 4 ? fopen(argv[1], "w") : NULL;
    if (notes == NULL || bytes < 16 || bytes > BYTES_MAX)
        return 2;
    setbuf(notes, NULL);
    setbuf(stdout, NULL);
    for (int i = 0; i < lines; i++) {
        memset(line, '.', (size_t)bytes);
        line[snprintf(line, sizeof line, "%d", i)] = ' ';
        line[bytes - 1] = '\n';
        if (fputc('.', notes) == EOF || fwrite(line, (size_t)bytes, 1, stdout) != 1)
            return 1;
    }
    return 0;
}
