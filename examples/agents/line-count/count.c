/* Line count: counts lines, words and bytes, and finds the lines that come again.
 *
 *     count [-d N] [FILE]...
 *
 * Without a file it reads its standard input. -d N shows the N lines that come most often; empty ones
 * are not looked for. One pass, and memory for the distinct lines alone. Exit codes: 0, 1 when a file cannot be read or memory
 * ends, 2 for wrong usage.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct line {
    uint64_t hash;
    size_t length;
    unsigned long count;
    char *text;
};

struct table {
    struct line *slots;
    size_t size, used;
};

struct counts {
    unsigned long lines, words, bytes;
};

static void *need(void *pointer)
{
    if (!pointer) {
        fprintf(stderr, "count: there is no memory for so many distinct lines\n");
        exit(1);
    }
    return pointer;
}

/* FNV-1a. */
static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}

static struct line *slot_for(struct table *table, uint64_t hash, const char *text, size_t length)
{
    size_t at = hash & (table->size - 1);
    for (;; at = (at + 1) & (table->size - 1)) {
        struct line *slot = &table->slots[at];
        if (!slot->text)
            return slot;
        if (slot->hash == hash && slot->length == length && !memcmp(slot->text, text, length))
            return slot;
    }
}

static void grow(struct table *table)
{
    struct table larger = {.size = table->size ? table->size * 2 : 1024};
    larger.slots = need(calloc(larger.size, sizeof *larger.slots));
    for (size_t i = 0; i < table->size; i++) {
        struct line *old = &table->slots[i];
        if (old->text)
            *slot_for(&larger, old->hash, old->text, old->length) = *old;
    }
    larger.used = table->used;
    free(table->slots);
    *table = larger;
}

static void remember(struct table *table, const char *text, size_t length)
{
    if (table->used * 4 >= table->size * 3)
        grow(table);
    uint64_t hash = hash_of(text, length);
    struct line *slot = slot_for(table, hash, text, length);
    if (!slot->text) {
        slot->text = need(malloc(length + 1));
        memcpy(slot->text, text, length);
        slot->text[length] = 0;
        slot->hash = hash;
        slot->length = length;
        table->used++;
    }
    slot->count++;
}

static void count_words(struct counts *counts, const char *text, size_t length)
{
    int inside = 0;
    for (size_t i = 0; i < length; i++) {
        int blank = text[i] == ' ' || (text[i] >= '\t' && text[i] <= '\r');
        counts->words += !blank && !inside;
        inside = !blank;
    }
}

static int count_file(FILE *file, struct counts *counts, struct table *table)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&text, &room, file)) > 0) {
        counts->bytes += (unsigned long)length;
        if (text[length - 1] == '\n') {
            counts->lines++;
            length--;
        }
        count_words(counts, text, (size_t)length);
        if (length)
            remember(table, text, (size_t)length);
    }
    free(text);
    return ferror(file);
}

static int by_count(const void *left, const void *right)
{
    const struct line *a = left, *b = right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->text ? a->text : "", b->text ? b->text : "");
}

static void show(struct table *table, long top)
{
    unsigned long again = 0;
    for (size_t i = 0; i < table->size; i++)
        if (table->slots[i].count > 1)
            again += table->slots[i].count - 1;
    printf("%zu distinct lines, %lu come again\n", table->used, again);
    if (top <= 0 || !table->size)
        return;
    qsort(table->slots, table->size, sizeof *table->slots, by_count);
    for (size_t i = 0; i < table->size && (long)i < top && table->slots[i].count > 1; i++)
        printf("%7lu  %s\n", table->slots[i].count, table->slots[i].text);
}

int main(int argc, char **argv)
{
    long top = 0;
    int first = 1, failed = 0;
    if (argc > 1 && !strcmp(argv[1], "-d")) {
        char *end = NULL;
        top = argc > 2 ? strtol(argv[2], &end, 10) : 0;
        if (top <= 0 || *end) {
            fprintf(stderr, "usage: count [-d N] [FILE]...\n");
            return 2;
        }
        first = 3;
    }
    struct table table = {0};
    struct counts all = {0};
    for (int i = first; i < argc || (i == first && first == argc); i++) {
        const char *name = i < argc ? argv[i] : "-";
        FILE *file = i < argc ? fopen(name, "rb") : stdin;
        struct counts counts = {0};
        if (!file || count_file(file, &counts, &table)) {
            fprintf(stderr, "count: %s: %s\n", name, strerror(errno));
            failed = 1;
            continue;
        }
        if (file != stdin)
            fclose(file);
        printf("%lu lines %lu words %lu bytes  %s\n", counts.lines, counts.words, counts.bytes, name);
        all.lines += counts.lines;
        all.words += counts.words;
        all.bytes += counts.bytes;
    }
    if (argc - first > 1)
        printf("%lu lines %lu words %lu bytes  in all\n", all.lines, all.words, all.bytes);
    show(&table, top);
    return failed;
}
