/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * tool.h - what crowd.c and patient.c have in common: a clock that both read
 * the same, as many descriptors as there may be, and commands that come line
 * by line on standard input. Knows neither HTTP nor FastCGI.
 */
#ifndef TOOL_H
#define TOOL_H

#include <stddef.h>
#include <stdint.h>

/* Microseconds of a clock that all processes of a machine share. */
uint64_t tool_now(void);

/* Takes the hard limit of descriptors; SIGPIPE is ignored from now on. */
void tool_init(void);

/* Says why and ends. */
void tool_die(const char *what);

void *tool_alloc(size_t len);

/*
 * Reads what standard input has and calls run with each whole line. Returns 0
 * when there will be no more.
 */
int tool_commands(void (*run)(const char *line));

#endif
