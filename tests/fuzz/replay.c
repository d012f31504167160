/*
 * replay FOLDER: runs the target once on every file of FOLDER, which is how its seeds are tested in
 * every preset. Prints what became of each; fails unless at least one was accepted.
 */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <string.h>

constexpr size_t REPLAY_MAX = 4 * 1024 * 1024;

/* Reads a file into memory of exactly its size, so that sanitizers see a read beyond it. */
static struct slice file_load(const char *path)
{
    static uint8_t bytes[REPLAY_MAX];
    FILE *file = fopen(path, "rb");
    size_t len = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    uint8_t *exact = malloc(len > 0 ? len : 1);

    if (!file || ferror(file) || !exact) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    memcpy(exact, bytes, len);
    return slice(exact, len);
}

int main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : nullptr;
    unsigned accepted = 0, refused = 0;
    char path[PATH_MAX];

    if (!folder) {
        fprintf(stderr, "replay: expected the folder of the seeds\n");
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        struct slice input = file_load(path);
        bool ok = fuzz_one(input) == FUZZ_ACCEPTED;
        printf("%s: %s, %zu bytes\n", entry->d_name, ok ? "accepted" : "refused", input.len);
        accepted += ok;
        refused += !ok;
        free((void *)(uintptr_t)input.data);
    }
    closedir(folder);
    printf("%u accepted, %u refused\n", accepted, refused);
    if (accepted == 0) {
        fprintf(stderr, "replay: no seed of %s is accepted: the target shows nothing\n", argv[1]);
        return 1;
    }
    return 0;
}
