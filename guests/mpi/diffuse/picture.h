/* Binary PPM (P6) and PGM (P5) pictures of 8 bits: reading, writing, scaling. */
#ifndef PICTURE_H
#define PICTURE_H

#include <mpi.h>

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE_MAX = 32768 };

struct picture {
    int width, height, channels;
    unsigned char *pixels;
};

static void die(const char *what)
{
    fprintf(stderr, "diffuse: %s\n", what);
    MPI_Abort(MPI_COMM_WORLD, 1);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

/* The next number of a PPM header, where blanks and comments may stand before it. */
static int header_number(FILE *file)
{
    int c = fgetc(file), number;
    while (isspace(c) || c == '#') {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = fgetc(file);
        c = fgetc(file);
    }
    ungetc(c, file);
    if (fscanf(file, "%5d", &number) != 1 || number < 1 || number > SIDE_MAX)
        die("the input has a bad header");
    return number;
}

static size_t size_of(struct picture picture)
{
    return (size_t)picture.width * (size_t)picture.height * (size_t)picture.channels;
}

static struct picture read_picture(const char *path)
{
    struct picture picture = {0};
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("cannot open the input");
    int p = fgetc(file), kind = fgetc(file);
    if (p != 'P' || (kind != '5' && kind != '6'))
        die("the input is neither a binary PPM nor a binary PGM");
    picture.channels = kind == '6' ? 3 : 1;
    picture.width = header_number(file);
    picture.height = header_number(file);
    if (header_number(file) != 255 || !isspace(fgetc(file)) || size_of(picture) > INT_MAX)
        die("the input is not of 8 bits, or too large");
    picture.pixels = allocate(size_of(picture), 1);
    if (fread(picture.pixels, 1, size_of(picture), file) != size_of(picture))
        die("the input is cut short");
    fclose(file);
    return picture;
}

static void write_picture(const char *path, struct picture picture)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        die("cannot create the output");
    fprintf(file, "P%c\n%d %d\n255\n", picture.channels == 3 ? '6' : '5', picture.width, picture.height);
    size_t written = fwrite(picture.pixels, 1, size_of(picture), file);
    if (fclose(file) != 0 || written != size_of(picture))
        die("cannot write the output");
}

/* Row y of the photograph scaled to the size of `to`, with bilinear interpolation. */
static void scale_row(float *row, int y, struct picture to, struct picture from)
{
    double v = (y + 0.5) * from.height / to.height - 0.5;
    v = v < 0.0 ? 0.0 : v;
    int top = (int)v, bottom = top + 1 < from.height ? top + 1 : top;
    const unsigned char *upper = from.pixels + (size_t)top * from.width * from.channels;
    const unsigned char *lower = from.pixels + (size_t)bottom * from.width * from.channels;
    float fy = (float)(v - top);
    for (int x = 0; x < to.width; x++) {
        double u = (x + 0.5) * from.width / to.width - 0.5;
        u = u < 0.0 ? 0.0 : u;
        int left = (int)u, right = left + 1 < from.width ? left + 1 : left;
        float fx = (float)(u - left);
        for (int c = 0; c < to.channels; c++) {
            int l = left * from.channels + c, r = right * from.channels + c;
            float above = upper[l] + fx * (upper[r] - upper[l]);
            float below = lower[l] + fx * (lower[r] - lower[l]);
            row[x * to.channels + c] = above + fy * (below - above);
        }
    }
}

#endif
