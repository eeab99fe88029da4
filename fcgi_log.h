/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_log.h - what every file that logs needs: the ids of messages, and the
 * module they belong to.
 */
#ifndef FCGI_LOG_H
#define FCGI_LOG_H

#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

/* The module, for its slot in configuration vectors, too. */
extern module AP_MODULE_DECLARE_DATA fastcgi_handler_module;

/* Every log message starts with a stable id that
 * docs/troubleshooting.rst explains. */
#define FCGI_LOGNO(number) "FCGI" number ": "

#endif
