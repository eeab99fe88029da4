# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Views that show what a gateway must get right: paths, bodies, redirects."""
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt


def home(request):
    return HttpResponse("hello\n", content_type="text/plain")


@csrf_exempt
def echo(request):
    """How the application sees the request, as JSON."""
    return JsonResponse({
        "method": request.method,
        "script_name": request.META.get("SCRIPT_NAME"),
        "path_info": request.META.get("PATH_INFO"),
        "query": request.META.get("QUERY_STRING"),
        "uri": request.build_absolute_uri(),
        "post": dict(request.POST.lists()),
    }, json_dumps_params={"sort_keys": True})


def go(request):
    """A redirect that must stay below the place the site is mounted at."""
    return redirect(reverse("named", args=["after go"]))


def named(request, x):
    """The name from the URL, and the URL made from the name."""
    return HttpResponse(f"{x}\n{reverse('named', args=[x])}\n",
                        content_type="text/plain; charset=utf-8")
