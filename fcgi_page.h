/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_page.h - reports for people, in HTML: a page of its own, and a section
 * of mod_status's. Without scripts, and with nothing from anywhere else.
 */
#ifndef FCGI_PAGE_H
#define FCGI_PAGE_H

#include <httpd.h>

#include "fcgi_report.h"

/* Writes a page, which browsers ask for again after so many seconds; 0: they
 * do not. */
void fcgi_page_whole(request_rec *r, const fcgi_reports *reports, int refresh);

/* Writes a section of mod_status's page, below its heading. */
void fcgi_page_section(request_rec *r, const fcgi_reports *reports);

#endif
