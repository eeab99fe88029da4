/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * fcgi_metrics.h - reports for programs: as JSON, as Prometheus text
 * (exposition format 0.0.4), and as the lines of mod_status's ?auto. Times are
 * in seconds, sizes in bytes. Decides nothing about who may read them.
 */
#ifndef FCGI_METRICS_H
#define FCGI_METRICS_H

#include <httpd.h>

#include "fcgi_report.h"

/* Each writes all of the reports as a part of r's answer. */
void fcgi_metrics_json(request_rec *r, const fcgi_reports *reports);
void fcgi_metrics_prometheus(request_rec *r, const fcgi_reports *reports);
void fcgi_metrics_lines(request_rec *r, const fcgi_reports *reports);

#endif
