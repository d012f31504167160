#include "join_token.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

static bool is_space(uint8_t byte)
{
    return byte == '\n' || byte == '\r' || byte == '\t' || byte == ' ';
}

bool join_token_changed(struct join_token_file *file)
{
    struct stat found = {0};
    if (stat(file->path, &found) != 0)
        found = (struct stat){0};
    bool same = found.st_dev == file->device && found.st_ino == file->inode &&
                found.st_size == file->size && found.st_mtim.tv_sec == file->modified.tv_sec &&
                found.st_mtim.tv_nsec == file->modified.tv_nsec;
    file->device = found.st_dev;
    file->inode = found.st_ino;
    file->size = found.st_size;
    file->modified = found.st_mtim;
    return !same;
}

bool join_token_read(struct join_token_file *file, char ret[static JOIN_TOKEN_MAX + 1],
                     struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init_wiping(&text, JOIN_TOKEN_MAX);
    ret[0] = '\0';
    /* First: what is written from here on is seen as a change. */
    (void)join_token_changed(file);
    if (!file_read(file->path, &text, err))
        return false;
    size_t len = text.len;
    while (len > 0 && is_space(text.data[len - 1]))
        len--;
    if (len == 0 || !utf8_valid(slice(text.data, len)))
        return error_set(err, ERROR_INVALID, "%s has no join token in it", file->path);
    mem_copy(ret, text.data, len);
    ret[len] = '\0';
    return true;
}
