# Licensed under the Apache License, Version 2.0; see LICENSE.
"""How a request looks to Django: as a page, or with ?plain as one line."""
import django
from django.http import HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join

from sample.urls import urlpatterns as sample_urls

SHOWN = ["REQUEST_METHOD", "REQUEST_URI", "SCRIPT_NAME", "PATH_INFO",
         "QUERY_STRING", "SERVER_PROTOCOL", "REMOTE_ADDR", "HTTP_USER_AGENT"]

PAGE = """<!DOCTYPE html>
<title>Hello from Django</title>
<style>body {{ font: 1em sans-serif; margin: 3em }}
td {{ padding: .2em 1em .2em 0 }}</style>
<h1>Hello from Django {}</h1>
<p>This is how your request looks to Django:
<table>
{}</table>
<p>The <a href="{}">admin</a> (user admin, password admin) is part of it.
<p><a href="/">PHP</a> <a href="/hello">C</a>
"""


def front(request):
    admin = reverse("admin:index")
    if "plain" in request.GET:
        return HttpResponse(
            f"Hello from Django {django.get_version()}: "
            f"SCRIPT_NAME={request.META['SCRIPT_NAME']}, "
            f"PATH_INFO={request.META['PATH_INFO']}, admin at {admin}\n",
            content_type="text/plain; charset=utf-8")
    rows = format_html_join(
        "", "<tr><td>{}<td>{}\n",
        ((name, request.META.get(name, "")) for name in SHOWN))
    return HttpResponse(
        format_html(PAGE, django.get_version(), rows, admin))


urlpatterns = [path("", front)] + sample_urls
