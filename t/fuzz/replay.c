/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * replay.c - runs a fuzz target over the files that it is given, as libFuzzer
 * would, where there is none: "ok name" for each that passes. A file that
 * does not pass ends the program.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Files of a corpus are far smaller. */
#define MAX_LEN (64 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void replay(const char *name)
{
    static uint8_t bytes[MAX_LEN];
    FILE *file = fopen(name, "rb");
    size_t len;
    uint8_t *exact;

    if (!file) {
        perror(name);
        exit(1);
    }
    len = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    exact = malloc(len ? len : 1); /* what is read behind it is seen */
    if (!exact) {
        exit(1);
    }
    memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    printf("ok %s\n", name);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        replay(argv[i]);
    }
    return 0;
}
